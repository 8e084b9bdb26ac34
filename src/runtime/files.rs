//! Files: bounded reads and durable writes. Both block; call them through [`super::blocking`] from
//! asynchronous code.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

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
/// temporary file, fsync, rename, fsync of the directory. `mode` are its permission bits, less those of the umask. A link of
/// this name is replaced, not followed.
///
/// # Errors
/// The system's error; the temporary file is then removed.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_then(path, (bytes, mode), |_| Ok(()), |_| Ok(()))
}

/// As [`write_durably`], for a group, and with exactly these permission bits, whatever the umask is.
///
/// # Errors
/// As [`write_durably`]; the file is unchanged then.
pub fn write_durably_for(path: &Path, bytes: &[u8], (group, mode): (u32, u32)) -> io::Result<()> {
    let give = |file: &File| {
        fchown(file, None, Some(group))?;
        file.set_permissions(Permissions::from_mode(mode))
    };
    write_then(path, (bytes, mode), give, |_| Ok(()))
}

/// As [`write_durably`]; a former file of this name is kept with `.old` appended, in place of an earlier one.
///
/// # Errors
/// As [`write_durably`]; the file itself is unchanged then.
pub fn replace_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_then(path, (bytes, mode), |_| Ok(()), |dir| keep_former(path, dir))
}

/// Gives the file a second name, so that at no time it has none. A link gets one, too, or is an error: it is not followed.
fn keep_former(path: &Path, dir: &Path) -> io::Result<()> {
    let old = appended(path, ".old");
    let temporary = dir.join(temporary_name(&old));
    remove(&temporary)?;
    remove_leftovers(&old, dir);
    let kept = match std::fs::hard_link(path, &temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // File systems without links, as on memory sticks: a copy is a second file, which is complete before it
        // gets the name.
        Err(_) => copy(path, &temporary),
        Ok(()) => Ok(()),
    };
    kept.and_then(|()| std::fs::rename(&temporary, &old)).inspect_err(|_| {
        // If this fails too, the first error is still the one to report.
        std::fs::remove_file(&temporary).ok();
    })
}

/// Copies an ordinary file.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut former = OpenOptions::new().read(true).custom_flags(flags).open(from)?;
    let about = former.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not an ordinary file"));
    }
    let mut file = create(to, about.permissions().mode() & 0o777)?;
    io::copy(&mut former, &mut file)?;
    file.sync_all()
}

/// Creates a file that nobody has put there before: `O_EXCL` follows no link (open(2)).
fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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

/// Removes the temporary files that processes left which were killed while they wrote the file of this path. One that stays
/// does no harm.
fn remove_leftovers(path: &Path, dir: &Path) {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let writer = entry.file_name();
        let writer = writer.as_encoded_bytes().strip_prefix(b".").and_then(|rest| {
            let number = rest.strip_prefix(name)?.strip_prefix(b".")?.strip_suffix(b".tmp")?;
            let number = std::str::from_utf8(number).ok()?.parse::<u32>().ok()?;
            Pid::from_raw(i32::try_from(number).ok()?)
        });
        if writer.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

fn write_then(
    path: &Path,
    (bytes, mode): (&[u8], u32),
    prepare: impl FnOnce(&File) -> io::Result<()>,
    before_rename: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = dir.join(temporary_name(path));
    // Left by a former process with the number of this one.
    remove(&temporary)?;
    let written = (|| {
        let mut file = create(&temporary, mode)?;
        file.write_all(bytes)?;
        prepare(&file)?;
        file.sync_all()?;
        before_rename(dir)?;
        std::fs::rename(&temporary, path)?;
        remove_leftovers(path, dir);
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
    use std::os::unix::fs::{MetadataExt, symlink};

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

    #[test]
    fn links_are_replaced_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::write(&outside, "secret").unwrap();
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let path = inside.join("file");
        symlink(&outside, &path).unwrap();
        symlink(&outside, inside.join(temporary_name(&path))).unwrap();
        replace_durably(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert!(!path.symlink_metadata().unwrap().is_symlink());
        assert!(inside.join("file.old").symlink_metadata().unwrap().is_symlink());
        assert_eq!(names(&inside), ["file", "file.old"]);
        // Where the link cannot get a second name.
        let (link, to) = (inside.join("file.old"), inside.join("copy"));
        assert!(copy(&link, &to).is_err());
        assert_eq!(names(&inside), ["file", "file.old"]);
        copy(&path, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "new");
        symlink(&outside, inside.join("other")).unwrap();
        assert!(copy(&path, &inside.join("other")).is_err());
    }

    #[test]
    fn what_killed_processes_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        // No process ever has this number (proc(5), pid_max).
        let ended = i32::MAX;
        let parent = std::os::unix::process::parent_id();
        let left = [
            format!(".file.{ended}.tmp"),
            format!(".file.{}.tmp", std::process::id()),
            format!(".file.old.{ended}.tmp"),
            format!(".file.{parent}.tmp"),
            format!(".other.{ended}.tmp"),
            ".file.x.tmp".to_owned(),
        ];
        for name in &left {
            std::fs::write(dir.path().join(name), "part").unwrap();
        }
        replace_durably(&dir.path().join("file"), b"one", 0o600).unwrap();
        let mut expected = left[3..].to_vec();
        expected.push("file".to_owned());
        expected.sort();
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_file_for_a_group_has_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let group = dir.path().metadata().unwrap().gid();
        // With most umasks, the others' right to write is taken away.
        write_durably_for(&path, b"one", (group, 0o666)).unwrap();
        let about = path.metadata().unwrap();
        assert_eq!((about.gid(), about.permissions().mode() & 0o777), (group, 0o666));
    }
}
