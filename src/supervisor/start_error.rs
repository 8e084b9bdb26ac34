//! Why the embedded server cannot start.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::bundled::UnpackError;
use super::disk::DiskFault;
use crate::nats::{ConnectError, OLDEST_SERVER};
use crate::runtime::ScopeFull;

/// The embedded server cannot start. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bundled server cannot be unpacked (exit 78 when none is bundled, else 74).
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Programs can be executed neither from memory nor from the data directory (exit 78).
    #[error(
        "this system can execute programs neither from memory nor from {path}. Install nats-server yourself and set nats.embedded.binary to its path"
    )]
    ExecutionRefused {
        /// The folder that was tried.
        path: PathBuf,
        /// The system's error for the folder.
        #[source]
        source: io::Error,
    },
    /// The operator's server cannot be executed (exit 78).
    #[error("cannot execute {path}. Set nats.embedded.binary to a nats-server")]
    Binary {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The operator's binary is not a nats-server that we can use (exit 78).
    #[error("{path} is {found}. Set nats.embedded.binary to nats-server {OLDEST_SERVER} or newer")]
    BinaryTooOld {
        path: PathBuf,
        /// What `--version` reports.
        found: String,
    },
    /// A file of the child cannot be written (exit 73; 74 when the disk is full).
    #[error("cannot write {path}. Check the owner and the free space of the data directory")]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Files cannot be written to the store's disk, so nats-server was not started: it would delete streams
    /// (exit 73 when the directory may not be written, else 74).
    #[error(
        "cannot create and write a file below {path}, so nats-server was not started. Check the disk's free space, free inodes and health, and that it is mounted for writing"
    )]
    Disk {
        /// The store's folder.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A configured port is taken (exit 75).
    #[error(
        "the embedded nats-server cannot listen: {message}. Free the port, or change nats.embedded.port and http_port (0 chooses a free port)"
    )]
    PortBusy {
        /// nats-server's words.
        message: String,
    },
    /// It ended before it was ready (exit 74).
    #[error("nats-server ended during its start ({how}): {message}. See its log lines above")]
    Ended {
        /// Exit code or signal.
        how: String,
        /// Its last error line.
        message: String,
    },
    /// It runs but does not reply as expected (exit 69, or 78 when its version is too old).
    #[error("nats-server is running but cannot be reached. See its log lines above")]
    Connect(#[source] ConnectError),
    /// It did not become ready in time (exit 69).
    #[error("nats-server was not ready within {limit:?}. See its log lines above")]
    NotReady { limit: Duration },
    /// The owner's scope is full: a mistake in this program (exit 1).
    #[error("the embedded server cannot be monitored")]
    Watch(#[from] ScopeFull),
}

impl StartError {
    /// What is wrong with the disk, if that is why.
    pub(super) fn disk_fault(&self) -> Option<DiskFault> {
        match self {
            Self::Disk { source, .. } | Self::Prepare { source, .. } => Some(DiskFault::of(source)),
            Self::Unpack(_)
            | Self::ExecutionRefused { .. }
            | Self::Binary { .. }
            | Self::BinaryTooOld { .. }
            | Self::PortBusy { .. }
            | Self::Ended { .. }
            | Self::Connect(_)
            | Self::NotReady { .. }
            | Self::Watch(_) => None,
        }
    }
}
