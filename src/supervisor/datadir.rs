//! The data directory and its lock.
//!
//! nats-server itself takes no lock, and two of them on one store destroy it. So every process that uses the
//! directory holds `flock` on `<data_dir>/lock`, and nats-server inherits the descriptor: as long as
//! one of them is alive, no other can start. The lock is never released explicitly, since that would
//! release the child's lock too: it ends when the last descriptor is closed.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::guard;
use super::process::{ProcessIdentity, started_ticks};
use crate::limits::{
    LOCK_DYING_GRACE, LOCK_ORPHAN_KILL_AFTER, LOCK_ORPHAN_TIMEOUT, LOCK_POLL_INTERVAL,
};
use crate::runtime::{Clock, limited_read};

/// Bytes of the lock file and of `run/nats.pid` that are read.
const HOLDER_FILE_MAX_BYTES: u64 = 4096;

/// Who uses the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The server. Waits for offline commands, never for another server.
    Server,
    /// A command that runs its own private nats-server. Never waits.
    Offline {
        /// The command as typed, for example `backup`.
        command: String,
    },
}

/// What [`DataDir::lock`] waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockWait {
    OfflineCommand {
        command: String,
        pid: i32,
    },
    /// A nats-server whose chatto is dead still runs; it is being stopped.
    Orphan {
        /// Its process, when known.
        pid: Option<i32>,
    },
}

/// The directory could not be locked. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another server uses it (exit 75).
    #[error(
        "another chatto server (pid {pid}) already uses {path}. Stop it first, or choose another nats.embedded.data_dir"
    )]
    HeldByServer { path: PathBuf, pid: i32 },
    /// Another offline command uses it (exit 75).
    #[error("`chatto {command}` (pid {pid}) is using {path}. Try again when it has finished")]
    HeldByCommand { path: PathBuf, command: String, pid: i32 },
    /// An orphaned nats-server could not be stopped in time (exit 75).
    #[error(
        "a nats-server left over from an earlier chatto (pid {pid}) still uses {path} and does not stop. Kill it and try again"
    )]
    Orphan { path: PathBuf, pid: i32 },
    /// A process uses it that this one cannot see (exit 75).
    #[error(
        "a process that cannot be seen from here already uses {path}, for example a chatto server in another container. Stop it first, or choose another nats.embedded.data_dir"
    )]
    Unseen { path: PathBuf },
    /// Another user can change the directory, or has created it (exit 77).
    #[error("{path} is not safe to use: {why}")]
    Unsafe {
        /// The directory or a part of it.
        path: PathBuf,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// The directory or its lock file cannot be created or written (exit 73).
    #[error(
        "cannot use the data directory {path}. Check that it exists and that chatto may write to it"
    )]
    Unusable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The locked data directory. Cloning shares the lock; it ends with the last clone and the last
/// nats-server that inherited it.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
    /// The folder in which nats-server creates `jetstream`.
    store_parent: PathBuf,
    lock: Arc<File>,
}

impl DataDir {
    /// Creates the directory where absent and takes its lock.
    ///
    /// A server waits for an offline command as long as it takes. If the lock's owner is dead, an orphaned
    /// nats-server holds the lock: it is stopped. `on_wait` is called with what we wait for, once at the
    /// beginning and again every [`LOCK_POLL_INTERVAL`], so that the service manager can be asked for more
    /// time.
    ///
    /// # Cancel safety
    /// Dropping the future releases the lock; an orphan may have been signalled to stop.
    pub async fn lock(
        path: &Path,
        role: Role,
        clock: &Clock,
        mut on_wait: impl FnMut(&LockWait),
    ) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { path: path.to_owned(), source };
        let dir = guard::prepare(path, &role)?;
        let mut file = guard::open_lock(&dir, &role)?;
        let mut orphan = OrphanStopper::default();
        let began = clock.now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(unusable(error.into())),
            }
            let holder = Holder::read(&mut file);
            match holder {
                Some(holder) if holder.process.is_alive() => {
                    let pid = holder.process.pid();
                    let may_be_dying = clock.now() - began < LOCK_DYING_GRACE;
                    match (holder.role, &role) {
                        // A server that was just killed still holds its lock for a moment.
                        (Role::Server, _) if may_be_dying => {}
                        (Role::Server, _) => {
                            return Err(LockError::HeldByServer { path: dir, pid });
                        }
                        (Role::Offline { command }, Role::Offline { .. }) => {
                            return Err(LockError::HeldByCommand { path: dir, command, pid });
                        }
                        (Role::Offline { command }, Role::Server) => {
                            on_wait(&LockWait::OfflineCommand { command, pid });
                        }
                    }
                    orphan = OrphanStopper::default();
                }
                _ => on_wait(&orphan.step(&dir, clock)?),
            }
            clock.sleep(LOCK_POLL_INTERVAL).await;
        }
        write_holder(&mut file, &role, clock).map_err(unusable)?;
        Ok(Self { store_parent: dir.clone(), path: dir, lock: Arc::new(file) })
    }

    /// The directory, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that records that a store was created here; written by `storage`.
    #[must_use]
    pub fn initialised_marker(&self) -> PathBuf {
        self.path.join("initialised")
    }

    /// JetStream's directory; nats-server creates the folder `jetstream` in the directory it is given.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.store_parent.join("jetstream")
    }

    /// The same lock for a nats-server whose store is in a folder of the directory: a restore fills a new store beside the
    /// present one.
    #[must_use]
    pub fn with_store_in(self, folder: &str) -> Self {
        Self { store_parent: self.path.join(folder), ..self }
    }

    pub(super) fn store_parent(&self) -> &Path {
        &self.store_parent
    }

    /// The directory of sockets and connection files of the running process (0700).
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// The connection file that commands read while a server runs.
    #[must_use]
    pub fn connection_file(&self) -> PathBuf {
        connection_file(&self.path)
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        pid_file(&self.path)
    }

    pub(super) fn bin(&self) -> PathBuf {
        self.path.join("bin")
    }

    pub(super) fn lock_file(&self) -> &Arc<File> {
        &self.lock
    }
}

/// The connection file of the server that runs on `data_dir`.
#[must_use]
pub fn connection_file(data_dir: &Path) -> PathBuf {
    data_dir.join("run/nats.json")
}

fn pid_file(data_dir: &Path) -> PathBuf {
    data_dir.join("run/nats.pid")
}

/// The lock file's text: role, pid, start of the process in clock ticks since boot, and for people the
/// start in milliseconds since 1970.
fn write_holder(file: &mut File, role: &Role, clock: &Clock) -> io::Result<()> {
    let role = match role {
        Role::Server => "server".to_owned(),
        Role::Offline { command } => format!("offline {}", command.replace('\n', " ")),
    };
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let ticks = started_ticks(own).unwrap_or_default();
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{role}\npid {own}\nticks {ticks}\nstarted {}\n", clock.unix_ms())
}

/// Who wrote the lock file last.
pub(super) struct Holder {
    pub(super) role: Role,
    pub(super) process: ProcessIdentity,
}

impl Holder {
    /// `None`: nobody has written it yet, or it is damaged.
    pub(super) fn read(file: &mut File) -> Option<Self> {
        let mut text = String::new();
        file.rewind().ok()?;
        file.take(HOLDER_FILE_MAX_BYTES).read_to_string(&mut text).ok()?;
        let mut lines = text.lines();
        let role = match lines.next()? {
            "server" => Role::Server,
            other => Role::Offline { command: other.strip_prefix("offline ")?.to_owned() },
        };
        let pid = lines.next()?.strip_prefix("pid ")?.parse().ok()?;
        let ticks = lines.next()?.strip_prefix("ticks ")?.parse().ok()?;
        Some(Self { role, process: ProcessIdentity::new(pid, ticks) })
    }
}

/// Stops the nats-server that a dead chatto left behind.
#[derive(Default)]
struct OrphanStopper {
    since: Option<Instant>,
    signalled: bool,
}

impl OrphanStopper {
    fn step(&mut self, dir: &Path, clock: &Clock) -> Result<LockWait, LockError> {
        let process = read_pid_file(dir).filter(ProcessIdentity::is_alive);
        let waited = clock.now() - *self.since.get_or_insert_with(|| clock.now());
        let pid = process.as_ref().map(ProcessIdentity::pid);
        if waited > LOCK_ORPHAN_TIMEOUT {
            let path = dir.to_owned();
            return Err(match pid {
                Some(pid) => LockError::Orphan { path, pid },
                None => LockError::Unseen { path },
            });
        }
        if let Some(process) = process {
            if waited > LOCK_ORPHAN_KILL_AFTER {
                process.signal(Signal::KILL);
            } else if !self.signalled && waited > Duration::ZERO {
                // Not at the first check: a chatto that is just being started may not have written the
                // lock file yet, and a dying one's child may be about to end by itself.
                log::warn!(pid = process.pid(); "stopping a nats-server left over from an earlier chatto");
                process.signal(Signal::TERM);
                self.signalled = true;
            }
        }
        Ok(LockWait::Orphan { pid })
    }
}

/// The nats-server that was last started on the directory.
pub(super) fn read_pid_file(dir: &Path) -> Option<ProcessIdentity> {
    let text = limited_read(&pid_file(dir), HOLDER_FILE_MAX_BYTES).ok()?;
    let (pid, ticks) = std::str::from_utf8(&text).ok()?.trim().split_once(' ')?;
    Some(ProcessIdentity::new(pid.parse().ok()?, ticks.parse().ok()?))
}
