//! Whether files can be written to the store's disk: what the system reports at every check, and a probe
//! that proves it.
//!
//! A probe writes, which wears out an SD card: it runs only when something indicates a fault of the disk, and
//! before a nats-server is started. nats-server 2.15 must not be started while files cannot be written:
//! a stream that it cannot recover for that reason is deleted together with its folder (`stop(true)`
//! behind a failed `setupStore` in `server/stream.go`).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{StatVfsMountFlags, major, minor, statvfs};
use rustix::io::Errno;

use crate::limits::{
    COPY_CHUNK_BYTES, DISK_FREE_INODES_START_MIN, DISK_PROBE_TIMEOUT, DISK_PROBE_WRITES,
};
use crate::runtime::{Clock, blocking};

use super::mounts::{mount_list, mounts};

/// The probe's folder.
const PROBE: &str = ".chatto-probe";

/// Why a disk cannot be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// No space is left, or no inode for another file.
    Full,
    /// It is read-only or reports errors.
    Error,
}

impl DiskFault {
    /// The fault that a system error stands for.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Error,
        }
    }
}

/// What the system reports about a file system without writing to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes that an unprivileged process may still use.
    pub(super) free_bytes: u64,
    /// Files that may still be created; `None` where the file system makes inodes as it needs them.
    pub(super) free_inodes: Option<u64>,
    /// Mounted read-only, or refusing writes after an error; not every file system reports the latter.
    pub(super) read_only: bool,
}

/// The space of the store's file system.
pub(super) fn space(store: &Path) -> io::Result<Space> {
    let probe_parent = probe_parent(store);
    let about = statvfs(&probe_parent)?;
    let read_only = about.f_flag.contains(StatVfsMountFlags::RDONLY)
        || is_shut_down(probe_parent.metadata()?.dev());
    Ok(Space {
        free_bytes: about.f_bavail.saturating_mul(about.f_frsize),
        free_inodes: (about.f_files != 0).then_some(about.f_favail),
        read_only,
    })
}

/// Whether the file system on this device has stopped writing after an error. Since Linux 6.14 ext4 reports
/// it only in its mount options; `statvfs` shows no change.
fn is_shut_down(device: u64) -> bool {
    let device = format!("{}:{}", major(device), minor(device));
    mounts(&mount_list())
        .filter(|mount| mount.device == device)
        .any(|mount| mount.options().any(|option| matches!(option, "emergency_ro" | "shutdown")))
}

/// Probes the disk of one store. Clones share the state of a probe that hangs.
#[derive(Debug, Clone)]
pub(super) struct Prober {
    clock: Clock,
    store: PathBuf,
    running: Arc<AtomicBool>,
}

impl Prober {
    pub(super) fn new(store: PathBuf, clock: Clock) -> Self {
        Self { clock, store, running: Arc::default() }
    }

    /// Proves that a nats-server may be started: a folder and a file can be created there, a largest
    /// message can be written to the disk, and both can be removed again. A disk may hang instead of
    /// failing: that is an error after [`DISK_PROBE_TIMEOUT`], and no further probe begins meanwhile.
    pub(super) async fn probe(&self) -> io::Result<()> {
        let Some(running) = ProbeInProgress::begin(&self.running) else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        let store = self.store.clone();
        let work = blocking(move || {
            let probed = probe(&store);
            drop(running);
            probed
        });
        match self.clock.timeout(DISK_PROBE_TIMEOUT, work).await {
            Ok(probed) => probed,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A running probe; cleared when it is dropped, even if the probe never began.
struct ProbeInProgress(Arc<AtomicBool>);

impl ProbeInProgress {
    fn begin(running: &Arc<AtomicBool>) -> Option<Self> {
        (!running.swap(true, Ordering::SeqCst)).then(|| Self(Arc::clone(running)))
    }
}

impl Drop for ProbeInProgress {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn probe(store: &Path) -> io::Result<()> {
    let space = space(store)?;
    if space.read_only {
        return Err(Errno::ROFS.into());
    }
    if space.free_inodes.is_some_and(|free| free < DISK_FREE_INODES_START_MIN) {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "too few free inodes"));
    }
    let probe_parent = probe_parent(store);
    let dir = probe_parent.join(PROBE);
    remove(&dir)?;
    let written = write(&dir);
    let removed = remove(&dir);
    written.and(removed)?;
    File::open(probe_parent)?.sync_all()
}

fn write(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(dir.join("file"))?;
    let chunk = vec![0x5a; COPY_CHUNK_BYTES];
    for _ in 0..DISK_PROBE_WRITES {
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The streams' folder, or its nearest parent that exists. Not the store's own folder if that can be avoided:
/// nats-server treats every entry in it as an account.
fn probe_parent(store: &Path) -> PathBuf {
    let account = store.join("$G");
    let above = store.parent().unwrap_or(Path::new("/"));
    [account.as_path(), store, above]
        .into_iter()
        .find(|path| path.is_dir())
        .unwrap_or(above)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_and_removes_what_an_earlier_one_left() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("jetstream");
        probe(&store).unwrap();
        let account = store.join("$G");
        std::fs::create_dir_all(account.join(PROBE)).unwrap();
        std::fs::write(account.join(PROBE).join("file"), "cut off").unwrap();
        probe(&store).unwrap();
        assert_eq!(std::fs::read_dir(&account).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_probe_needs_a_folder_not_only_a_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("jetstream");
        std::fs::create_dir(&store).unwrap();
        // Something that cannot be replaced by the probe's folder.
        std::fs::write(store.join(PROBE), "in the way").unwrap();
        assert!(probe(&store).is_err());
    }

    #[test]
    fn errors_of_the_system_are_distinguished() {
        for (errno, fault) in [
            (Errno::NOSPC, DiskFault::Full),
            (Errno::DQUOT, DiskFault::Full),
            (Errno::IO, DiskFault::Error),
            (Errno::ROFS, DiskFault::Error),
            (Errno::ACCESS, DiskFault::Error),
        ] {
            assert_eq!(DiskFault::of(&errno.into()), fault, "{errno}");
        }
    }

    #[test]
    fn a_probe_that_hangs_is_an_error_and_no_second_one_begins() {
        let running = Arc::default();
        let first = ProbeInProgress::begin(&running).unwrap();
        assert!(ProbeInProgress::begin(&running).is_none());
        drop(first);
        assert!(ProbeInProgress::begin(&running).is_some());
    }
}
