//! gzip (RFC 1952) in members of 256 KiB, which all cores compress.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::limits::{ARCHIVE_BLOCK_BYTES, ARCHIVE_BLOCKS_MAX};

/// The beginning of a block that shows whether the rest can be compressed.
const SAMPLE_BYTES: usize = 32 * 1024;

/// Compresses what is written to it. Members are independent of each other; readers see one stream.
pub(super) struct GzipWriter<W> {
    sink: W,
    block: Vec<u8>,
    /// Blocks that are being compressed, in order.
    compressing: VecDeque<Receiver<io::Result<Vec<u8>>>>,
}

impl<W: Write> GzipWriter<W> {
    pub(super) fn new(sink: W) -> Self {
        Self { sink, block: Vec::with_capacity(ARCHIVE_BLOCK_BYTES), compressing: VecDeque::new() }
    }

    /// Writes everything and returns the sink.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.compress_block()?;
        while !self.compressing.is_empty() {
            self.write_oldest()?;
        }
        Ok(self.sink)
    }

    fn compress_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        if self.compressing.len() >= ARCHIVE_BLOCKS_MAX {
            self.write_oldest()?;
        }
        let next = Vec::with_capacity(ARCHIVE_BLOCK_BYTES);
        let block = std::mem::replace(&mut self.block, next);
        let (done, result) = sync_channel(1);
        rayon::spawn(move || {
            // The writer may have given up.
            done.send(compressed(&block)).ok();
        });
        self.compressing.push_back(result);
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.compressing.pop_front() else { return Ok(()) };
        let member = oldest.recv().map_err(io::Error::other)??;
        self.sink.write_all(&member)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let free = ARCHIVE_BLOCK_BYTES.saturating_sub(self.block.len());
        let (taken, _) = bytes.split_at(free.min(bytes.len()));
        self.block.extend_from_slice(taken);
        if self.block.len() >= ARCHIVE_BLOCK_BYTES {
            self.compress_block()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A gzip member. What is compressed already is stored as it is: trying costs more than it brings.
fn compressed(block: &[u8]) -> io::Result<Vec<u8>> {
    let (sample, _) = block.split_at(SAMPLE_BYTES.min(block.len()));
    let level = match member(sample, Compression::fast())?.len() < sample.len() / 16 * 15 {
        true => Compression::fast(),
        false => Compression::none(),
    };
    member(block, level)
}

fn member(bytes: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    // As much as it can become: header and trailer, and five bytes for each stored block of 64 KiB at most.
    let room = bytes.len() + bytes.len() / 1024 + 64;
    let mut encoder = GzEncoder::new(Vec::with_capacity(room), level);
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_its_kind_and_length() {
        let random = |length| (0..length).map(|_| fastrand::u8(..)).collect::<Vec<_>>();
        let mib = ARCHIVE_BLOCK_BYTES;
        for bytes in [
            vec![7],
            vec![7; mib],
            vec![7; 9 * mib + 1],
            random(mib - 1),
            [vec![0; mib], random(3 * mib), vec![1; 5]].concat(),
        ] {
            let mut writer = GzipWriter::new(Vec::new());
            for piece in bytes.chunks(100_001) {
                writer.write_all(piece).unwrap();
            }
            let stored = writer.finish().unwrap();
            let mut read = Vec::new();
            MultiGzDecoder::new(&stored[..]).read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn random_bytes_are_stored_and_others_compressed() {
        let random: Vec<u8> = (0..ARCHIVE_BLOCK_BYTES).map(|_| fastrand::u8(..)).collect();
        let stored = compressed(&random).unwrap().len();
        assert!(stored < random.len() + random.len() / 500, "{stored}");
        assert!(compressed(&vec![b'x'; ARCHIVE_BLOCK_BYTES]).unwrap().len() < 10_000);
    }
}
