//! The nats-server child, the data directory's lock, signals and systemd notify.
//!
//! Start: [`DataDir::lock`], then [`Embedded::start`]. It knows nothing of streams: whether the store
//! is complete is decided in `storage`.

mod bundled;
mod child;
mod connection;
mod datadir;
mod disk;
#[cfg(test)]
mod elf;
mod embedded;
mod executable;
mod guard;
mod health;
mod inspect;
mod mounts;
mod notify;
mod orphans;
mod output;
mod process;
mod settings;
mod signals;
mod start;
mod start_error;
mod worker;

pub use bundled::{Bundled, UnpackError, bundled_server};
pub use connection::Connection;
pub use datadir::{DataDir, LockError, LockWait, Role, connection_file};
pub use disk::DiskFault;
pub use embedded::{Embedded, HealthWatch};
pub use guard::become_owner;
pub use health::{Disk, Health};
pub use inspect::{LockState, can_execute_memory, lock_state};
pub use mounts::{Mount, mount_list, mounts};
pub use notify::Notify;
pub use orphans::reap_orphans;
pub use settings::{Config, SyncInterval, memory_bytes};
pub use signals::{Signal, Signals};
pub use start_error::StartError;
pub use worker::{Worker, WorkerEnd, run_system_program};
