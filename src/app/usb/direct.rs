//! Reading a file from the device, not from memory (open(2), `O_DIRECT`): a stick may return other data than was written to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::crypto::Sha256State;
use crate::limits::{DIRECT_READ_ALIGNMENT, DIRECT_READ_BYTES};

/// The size and SHA-256 of an ordinary file. `progress` takes the bytes of each read.
///
/// # Errors
/// The system's error; `InvalidInput` where the file system has no such reads.
pub(super) fn sum(path: &Path, progress: &mut dyn FnMut(u64)) -> io::Result<(u64, [u8; 32])> {
    let flags = OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let mut buffer = vec![0; DIRECT_READ_BYTES + DIRECT_READ_ALIGNMENT];
    let (mut hash, mut total) = (Sha256State::default(), 0_u64);
    loop {
        let count = fill(&mut file, &mut buffer)?;
        let bytes = aligned(&mut buffer).get(..count).unwrap_or_default();
        hash.update(bytes);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        total = total.saturating_add(count);
        progress(count);
        if count < u64::try_from(DIRECT_READ_BYTES).unwrap_or(u64::MAX) {
            return Ok((total, hash.finish()));
        }
    }
}

/// Reads until the buffer is full or the file ends. After a short read, which is the last one, the position is not aligned.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(aligned(buffer)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// The part of a buffer that begins at a multiple of [`DIRECT_READ_ALIGNMENT`], [`DIRECT_READ_BYTES`] long.
fn aligned(buffer: &mut [u8]) -> &mut [u8] {
    let begin = buffer.as_ptr().align_offset(DIRECT_READ_ALIGNMENT);
    buffer.get_mut(begin..).and_then(|rest| rest.get_mut(..DIRECT_READ_BYTES)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_length_is_read_whole() {
        // Not in a directory that may be in memory.
        let folder =
            tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let path = folder.path().join("file");
        for length in [0, 1, DIRECT_READ_ALIGNMENT, DIRECT_READ_BYTES, 2 * DIRECT_READ_BYTES + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            let mut read = 0;
            let (total, hash) = sum(&path, &mut |count| read += count).unwrap();
            let mut expected = Sha256State::default();
            expected.update(&bytes);
            assert_eq!((total, read, hash), (length as u64, length as u64, expected.finish()));
        }
    }
}
