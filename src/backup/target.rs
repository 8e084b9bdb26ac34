//! The file of an archive: under its name there is the former one or the new one, never a part.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};

use crate::limits::BACKUP_SPACE_CHECK_BYTES;

/// Bytes of a file system that must stay free.
#[derive(Debug, Clone)]
pub struct SpaceFloor {
    /// A place on the file system.
    pub path: PathBuf,
    pub bytes: u64,
}

/// The archive would take space that is kept free.
#[derive(Debug, thiserror::Error)]
#[error("less than {} MiB would stay free beside the store; write the backup to another disk", .0 >> 20)]
pub struct NoSpace(pub u64);

/// A file that is being written. Dropped before [`Self::commit`] it leaves nothing behind.
pub struct TargetFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    floor: Option<SpaceFloor>,
    since_check: u64,
    written: u64,
    is_committed: bool,
}

impl TargetFile {
    /// Creates the temporary file beside `path`, with mode 0600. `store`: bytes that must stay free where the store is;
    /// they count if the file is on the same file system.
    ///
    /// # Errors
    /// The system's error; `ResourceBusy` while another process writes to the same path.
    pub fn create(path: &Path, store: Option<SpaceFloor>) -> io::Result<Self> {
        let path = &ordinary(path)?;
        let directory = directory(path);
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".partial");
        let temporary = directory.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&temporary)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        // What a run that was killed has left.
        file.set_len(0)?;
        let floor = store.filter(|floor| is_same_disk(&floor.path, directory));
        let target = Self {
            path: path.to_owned(),
            temporary,
            file,
            floor,
            since_check: 0,
            written: 0,
            is_committed: false,
        };
        target.check_space()?;
        Ok(target)
    }

    /// Whether the file is on the file system of the store.
    #[must_use]
    pub fn is_beside_store(&self) -> bool {
        self.floor.is_some()
    }

    /// Bytes written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Gives the complete file its name, in the place of a former one.
    ///
    /// # Errors
    /// The system's error: the former file is unchanged, unless only the directory could not be synced.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        self.is_committed = true;
        File::open(directory(&self.path))?.sync_all()
    }

    fn check_space(&self) -> io::Result<()> {
        let Some(floor) = &self.floor else { return Ok(()) };
        let about = statvfs(&floor.path)?;
        let free = about.f_bavail.saturating_mul(about.f_frsize);
        if free < floor.bytes {
            return Err(io::Error::new(io::ErrorKind::StorageFull, NoSpace(floor.bytes)));
        }
        Ok(())
    }
}

impl Write for TargetFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.since_check >= BACKUP_SPACE_CHECK_BYTES {
            self.check_space()?;
            // So that a slow stick is not found to be full, or gone, only at the end.
            self.file.sync_data()?;
            self.since_check = 0;
        }
        let written = self.file.write(bytes)?;
        let count = u64::try_from(written).unwrap_or(u64::MAX);
        self.since_check = self.since_check.saturating_add(count);
        self.written = self.written.saturating_add(count);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        if !self.is_committed {
            // If this fails too, the next run overwrites it.
            std::fs::remove_file(&self.temporary).ok();
        }
    }
}

/// The path of an ordinary file, or of none; a symbolic link is followed. Anything else must not be replaced by a file.
fn ordinary(path: &Path) -> io::Result<PathBuf> {
    let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if path.file_name().is_none() {
        return refuse("it is not the name of a file");
    }
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(error),
        Ok(about) if about.is_symlink() => {
            let target = path.canonicalize()?;
            if target.is_file() {
                Ok(target)
            } else {
                refuse("it is a link to something that is not an ordinary file")
            }
        }
        Ok(about) if about.is_file() => Ok(path.to_owned()),
        Ok(_) => refuse("it exists and is not an ordinary file"),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_same_disk(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|about| about.dev());
    matches!((device(one), device(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daily");
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut target = TargetFile::create(&path, None).unwrap();
        target.write_all(b"first").unwrap();
        assert!(!path.exists());
        let busy = TargetFile::create(&path, None).err().unwrap();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        target.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        let mut target = TargetFile::create(&path, None).unwrap();
        target.write_all(b"second, cut").unwrap();
        drop(target);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(), 1);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_ordinary_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "former").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
        std::os::unix::fs::symlink("/dev/null", at("device")).unwrap();
        let mut target = TargetFile::create(&at("link"), None).unwrap();
        target.write_all(b"new").unwrap();
        target.commit().unwrap();
        assert!(at("link").is_symlink());
        assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "new");
        for path in [at("dangling"), at("device"), folder.path().to_owned(), "".into(), "..".into()]
        {
            assert!(TargetFile::create(&path, None).is_err(), "{path:?}");
        }
    }

    #[test]
    fn space_that_is_kept_free_beside_the_store_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let floor = |bytes| Some(SpaceFloor { path: folder.path().to_owned(), bytes });
        let path = folder.path().join("daily");
        assert!(TargetFile::create(&path, floor(1)).unwrap().is_beside_store());
        let full = TargetFile::create(&path, floor(u64::MAX)).err().unwrap();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let proc = Some(SpaceFloor { path: "/proc".into(), bytes: u64::MAX });
        assert!(!TargetFile::create(&path, proc).unwrap().is_beside_store());
    }
}
