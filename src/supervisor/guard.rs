//! Checks that only we can change the data directory. Anybody who can write there, or who created it, could choose
//! what this program and its nats-server overwrite.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::datadir::{LockError, Role};

/// Creates the directory and `run` where absent, and returns the absolute path.
///
/// # Errors
/// [`LockError::Unsafe`], [`LockError::Unusable`].
pub(super) fn prepare(path: &Path, role: &Role) -> Result<PathBuf, LockError> {
    let unusable = |source| LockError::Unusable { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(unusable)?;
    // The directory itself may be a symbolic link: that is how one puts it on another disk.
    let dir = std::fs::canonicalize(path).map_err(unusable)?;
    open(&dir, OFlags::DIRECTORY, role)?;
    let run = dir.join("run");
    match DirBuilder::new().mode(0o700).create(&run) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(error)),
        _ => {}
    }
    let opened = open(&run, OFlags::DIRECTORY, role)?;
    opened.set_permissions(Permissions::from_mode(0o700)).map_err(unusable)?;
    Ok(dir)
}

/// Makes this thread, and those that it starts, act as the owner of the directory, if they run as root and it belongs to
/// another account: what they create there is of use to the service. Nothing happens where there is no directory.
///
/// # Errors
/// The system's error.
pub fn become_owner(directory: &Path) -> io::Result<()> {
    let Ok(about) = directory.metadata() else { return Ok(()) };
    if !geteuid().is_root() || about.uid() == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
    set_thread_groups(&[gid])?;
    set_thread_gid(gid)?;
    set_thread_uid(uid)?;
    Ok(())
}

/// Opens the lock file and creates it where absent.
///
/// # Errors
/// As [`prepare`].
pub(super) fn open_lock(dir: &Path, role: &Role) -> Result<File, LockError> {
    open(&dir.join("lock"), OFlags::CREATE, role)
}

/// Opens `path` without following a symbolic link, and checks who may change it.
fn open(path: &Path, flags: OFlags, role: &Role) -> Result<File, LockError> {
    let refuse = |why: String| LockError::Unsafe { path: path.to_owned(), why };
    if path.is_symlink() {
        return Err(refuse("it is a symbolic link; remove it".to_owned()));
    }
    let mut options = OpenOptions::new();
    options.read(true).mode(0o640).custom_flags((flags | OFlags::NOFOLLOW).bits().cast_signed());
    options.write(flags.contains(OFlags::CREATE));
    let unusable = |source| LockError::Unusable { path: path.to_owned(), source };
    let file = options.open(path).map_err(unusable)?;
    check(&file.metadata().map_err(unusable)?, role).map_err(refuse)?;
    Ok(file)
}

/// Returns why another user could change the file with this metadata.
fn check(about: &Metadata, role: &Role) -> Result<(), String> {
    let (own, mode) = (geteuid(), about.mode() & 0o7777);
    // Root may run commands in the service's directory, but not a server of its own.
    let helps = own.is_root() && matches!(role, Role::Offline { .. });
    if about.uid() != own.as_raw() && !helps {
        return Err(format!(
            "it belongs to user {}, but chatto runs as user {}; run chatto as the owner, or change the owner of the directory (chown -R)",
            about.uid(),
            own.as_raw()
        ));
    }
    if mode & 0o002 != 0 || (mode & 0o020 != 0 && about.gid() != getegid().as_raw()) {
        return Err(format!("other users may change it (mode {mode:04o}); run chmod go-w on it"));
    }
    if about.is_file() && about.nlink() > 1 {
        return Err("the file has a second name (a hard link); remove it".to_owned());
    }
    Ok(())
}
