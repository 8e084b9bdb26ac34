//! Files: bounded reads and durable writes. Both block; call them through [`super::blocking`] from
//! asynchronous code.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads a whole file of at most `max_bytes`.
///
/// # Errors
/// The system's error, or `FileTooLarge` when the file is longer.
pub fn limited_read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = max_bytes.saturating_add(1);
    let read = File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > max_bytes {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Writes a file so that after a power cut it is either absent, unchanged or complete:
/// temporary file, fsync, rename, fsync of the directory. `mode` are its permission bits.
///
/// # Errors
/// The system's error; the temporary file is then removed.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = dir.join(name);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // If this fails too, the first error is still the one to report.
        std::fs::remove_file(&temporary).ok();
    }
    written
}
