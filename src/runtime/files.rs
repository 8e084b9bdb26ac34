//! Files: bounded reads and durable writes. Both block; call them through [`super::blocking`] from
//! asynchronous code.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
    write_then(path, bytes, mode, |_| Ok(()))
}

/// As [`write_durably`]; a former file of this name is kept with `.old` appended, in place of an earlier one.
///
/// # Errors
/// As [`write_durably`]; the file itself is unchanged then.
pub fn replace_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_then(path, bytes, mode, |dir| keep_former(path, dir))
}

/// Gives the file a second name, so that at no time it has none.
fn keep_former(path: &Path, dir: &Path) -> io::Result<()> {
    let old = appended(path, ".old");
    let temporary = dir.join(temporary_name(&old));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match std::fs::hard_link(path, &temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // File systems without links, as on memory sticks: a copy is a second file, which is complete before it
        // gets the name.
        Err(_) => {
            std::fs::copy(path, &temporary)?;
            File::open(&temporary)?.sync_all()?;
        }
        Ok(()) => {}
    }
    std::fs::rename(&temporary, &old).inspect_err(|_| {
        // If this fails too, the first error is still the one to report.
        std::fs::remove_file(&temporary).ok();
    })
}

fn appended(path: &Path, end: &str) -> PathBuf {
    let mut whole = path.as_os_str().to_owned();
    whole.push(end);
    PathBuf::from(whole)
}

fn temporary_name(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    name
}

fn write_then(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    before_rename: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = dir.join(temporary_name(path));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        before_rename(dir)?;
        std::fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // If this fails too, the first error is still the one to report.
        std::fs::remove_file(&temporary).ok();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_replaced_file_keeps_its_former_content_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for content in ["one", "two", "three"] {
            replace_durably(&path, content.as_bytes(), 0o600).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        let old = std::fs::read_to_string(dir.path().join("file.old")).unwrap();
        assert_eq!(old, "two");
        assert_eq!(names(dir.path()), ["file", "file.old"]);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        std::fs::create_dir(dir.path().join("file.old")).unwrap();
        assert!(replace_durably(&path, b"two", 0o600).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(names(dir.path()), ["file", "file.old"]);
    }
}
