//! The file of an archive: under its name there is the former one or the new one, never a part.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, OFlags, Uid, fchown, flock, statvfs};
use rustix::io::Errno;

use crate::crypto::Sha256State;
use crate::limits::{BACKUP_SPACE_CHECK_BYTES, TARGET_LOCK_ATTEMPTS, TARGET_LOCK_INTERVAL};

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
    hash: Sha256State,
    is_committed: bool,
}

/// What happens while another process writes to the same path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Busy {
    Refuse,
    Wait,
}

impl TargetFile {
    /// Creates the temporary file beside `path`, with mode 0600. `store`: bytes that must stay free where the store is;
    /// they count if the file is on the same file system.
    ///
    /// # Errors
    /// The system's error; `ResourceBusy` while another process writes to the same path.
    pub fn create(path: &Path, store: Option<SpaceFloor>) -> io::Result<Self> {
        let path = ordinary(path)?;
        let temporary = temporary(&path);
        let file = create_locked(&temporary, Busy::Refuse)?;
        let floor = store.filter(|floor| is_same_disk(&floor.path, directory(&path)));
        let target = Self::new(path, temporary, (file, floor));
        target.check_space()?;
        Ok(target)
    }

    /// As [`Self::create`], for a name that no file has. No other process gets the same name meanwhile.
    ///
    /// # Errors
    /// The system's error; `ResourceBusy` while another process writes to the same path, `AlreadyExists`.
    pub fn create_new(path: &Path, store: Option<SpaceFloor>) -> io::Result<Self> {
        let target = Self::create(path, store)?;
        match target.path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(target),
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// For a small file that several processes change: waits up to 10 s for them. A link of this name is replaced, not
    /// followed. The file belongs to the owner of the former one, or of the folder, so that root locks nobody out.
    ///
    /// # Errors
    /// The system's error; `ResourceBusy` while another process still changes it.
    pub fn create_shared(path: &Path) -> io::Result<Self> {
        let temporary = temporary(path);
        let file = create_locked(&temporary, Busy::Wait)?;
        let former = path.symlink_metadata().ok().filter(|about| about.is_file());
        if rustix::process::geteuid().is_root()
            && let Some(owner) = former.or_else(|| directory(path).metadata().ok())
        {
            let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
            // File systems without owners refuse it.
            fchown(&file, Some(user), Some(group)).ok();
        }
        Ok(Self::new(path.to_owned(), temporary, (file, None)))
    }

    /// As [`Self::create`], for another file of the same archive.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(super) fn create_beside(&self, path: &Path) -> io::Result<Self> {
        Self::create(path, self.floor.clone())
    }

    /// Gives the file that is being written another name in the same folder.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn rename(&mut self, path: &Path) -> io::Result<()> {
        let temporary = temporary(path);
        std::fs::rename(&self.temporary, &temporary)?;
        self.temporary = temporary;
        path.clone_into(&mut self.path);
        Ok(())
    }

    fn new(path: PathBuf, temporary: PathBuf, (file, floor): (File, Option<SpaceFloor>)) -> Self {
        Self {
            path,
            temporary,
            file,
            floor,
            since_check: 0,
            written: 0,
            hash: Sha256State::default(),
            is_committed: false,
        }
    }

    /// The path of the file, links followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of the bytes so far.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finish()
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
        match File::open(directory(&self.path))?.sync_all() {
            // Some file systems cannot sync a directory.
            Err(error)
                if matches!(Errno::from_io_error(&error), Some(Errno::NOTSUP | Errno::INVAL)) =>
            {
                Ok(())
            }
            synced => synced,
        }
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
        self.hash.update(bytes.split_at(written).0);
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

/// Where the file is written until it is complete.
fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".partial");
    directory(path).join(name)
}

/// Flags for an ordinary file only: not for the target of a link, and without waiting for the other end of a pipe.
pub(super) fn no_follow() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

/// Creates and locks the temporary file. One that is there and not locked was left by a run that was killed, or is somebody
/// else's: it is removed and never written to.
fn create_locked(temporary: &Path, busy: Busy) -> io::Result<File> {
    let mut attempts = 0;
    loop {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(no_follow());
        match options.open(temporary) {
            Ok(file) => match flocked(&file).and_then(|()| has_name(&file, temporary)) {
                Ok(true) => return Ok(file),
                // Another process took it for a leftover.
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) => {
                    std::fs::remove_file(temporary).ok();
                    return Err(error);
                }
            },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if remove_unlocked(temporary)? {
                    continue;
                }
                if busy == Busy::Refuse || attempts >= TARGET_LOCK_ATTEMPTS {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                attempts += 1;
                std::thread::park_timeout(TARGET_LOCK_INTERVAL);
            }
            Err(error) => return Err(error),
        }
    }
}

fn flocked(file: &File) -> io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        Errno::WOULDBLOCK => io::ErrorKind::ResourceBusy.into(),
        // A network share may have no locks.
        error => error.into(),
    })
}

fn has_name(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match path.symlink_metadata() {
        Ok(named) => Ok((own.dev(), own.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what a run that was killed has left of this file. Returns false while one is writing it.
///
/// # Errors
/// The system's error.
pub(super) fn remove_leftover(path: &Path) -> io::Result<bool> {
    remove_unlocked(&temporary(path))
}

/// Removes a temporary file unless a process has locked it; returns whether it is gone.
fn remove_unlocked(temporary: &Path) -> io::Result<bool> {
    match temporary.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
        // Whatever it is, nobody writes an archive to it.
        Ok(about) if !about.is_file() => return std::fs::remove_file(temporary).map(|()| true),
        Ok(_) => {}
    }
    let file = match OpenOptions::new().read(true).custom_flags(no_follow()).open(temporary) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    match flocked(&file) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
        Err(error) => return Err(error),
    }
    if has_name(&file, temporary)? {
        std::fs::remove_file(temporary)?;
    }
    Ok(true)
}

/// Creates a folder that only this account may read, and those above it where they are missing. One that exists stays as it
/// is.
///
/// # Errors
/// The system's error.
pub fn create_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The folder of a file.
pub fn directory(path: &Path) -> &Path {
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
    fn who_waited_does_not_get_the_file_that_was_completed_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue");
        let mut first = TargetFile::create_shared(&path).unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut second = TargetFile::create_shared(&path).unwrap();
                let former = std::fs::read_to_string(&path).unwrap();
                second.write_all(former.as_bytes()).unwrap();
                second.write_all(b", second").unwrap();
                second.commit().unwrap();
            }
        });
        first.write_all(b"first").unwrap();
        first.commit().unwrap();
        waiting.join().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first, second");
    }

    #[test]
    fn leftovers_are_removed_unless_somebody_is_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daily");
        let target = TargetFile::create(&path, None).unwrap();
        assert!(!remove_leftover(&path).unwrap());
        assert!(folder.path().join(".daily.partial").exists());
        drop(target);
        std::fs::write(folder.path().join(".other.partial"), "half").unwrap();
        assert!(remove_leftover(&folder.path().join("other")).unwrap());
        assert!(!folder.path().join(".other.partial").exists());
        assert!(remove_leftover(&folder.path().join("other")).unwrap());
    }

    #[test]
    fn what_is_left_of_others_is_never_written_to() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("daily"), folder.path().join("victim"));
        std::fs::write(&victim, "kept").unwrap();
        let leftover = folder.path().join(".daily.partial");
        let open = || {
            let mut target = TargetFile::create(&path, None).unwrap();
            target.write_all(b"new").unwrap();
            target.commit().unwrap();
            assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        };
        // A link, another name of a file, and a file that everybody may read.
        std::os::unix::fs::symlink(&victim, &leftover).unwrap();
        open();
        std::fs::hard_link(&victim, &leftover).unwrap();
        open();
        std::fs::write(&leftover, "half").unwrap();
        std::fs::set_permissions(&leftover, std::fs::Permissions::from_mode(0o666)).unwrap();
        open();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
    }

    #[test]
    fn root_writes_shared_files_as_the_owner_of_the_folder() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue");
        let owner = || path.metadata().map(|about| (about.uid(), about.gid())).unwrap();
        std::os::unix::fs::chown(folder.path(), Some(65_534), Some(65_534)).unwrap();
        TargetFile::create_shared(&path).unwrap().commit().unwrap();
        assert_eq!(owner(), (65_534, 65_534));
        std::os::unix::fs::chown(&path, Some(12), Some(13)).unwrap();
        TargetFile::create_shared(&path).unwrap().commit().unwrap();
        assert_eq!(owner(), (12, 13));
    }

    #[test]
    fn a_new_name_is_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daily");
        let first = TargetFile::create_new(&path, None).unwrap();
        let busy = TargetFile::create_new(&path, None).err().unwrap();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        first.commit().unwrap();
        let there = TargetFile::create_new(&path, None).err().unwrap();
        assert_eq!(there.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
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
