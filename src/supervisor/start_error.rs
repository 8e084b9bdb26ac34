//! Why the embedded server does not start.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::bundled::UnpackError;
use super::disk::DiskFault;
use crate::nats::{ConnectError, OLDEST_SERVER};
use crate::runtime::ScopeFull;

/// The embedded server does not start. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bundled server cannot be unpacked (exit 78 when none is bundled, else 74).
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Neither memory nor the data directory allows programs (exit 78).
    #[error(
        "this system executes programs neither from memory nor from {path}; install nats-server yourself and name it in nats.embedded.binary"
    )]
    ExecutionRefused {
        /// The folder that was tried.
        path: PathBuf,
        /// The system's error for the folder.
        #[source]
        source: io::Error,
    },
    /// The operator's server cannot be executed (exit 78).
    #[error("nats.embedded.binary names {path}, which cannot be executed; name a nats-server")]
    Binary {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The operator's server is no nats-server that we can use (exit 78).
    #[error(
        "nats.embedded.binary names {path}, which is {found}; nats-server {OLDEST_SERVER} or newer is needed"
    )]
    BinaryTooOld {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        found: String,
    },
    /// A file of the child cannot be written (exit 73; 74 when the disk is full).
    #[error("{path} cannot be written; check the data directory's owner and free space")]
    Prepare {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The disk under the store takes no files, so nats-server was not started: it would delete streams
    /// (exit 73 when the directory may not be written, else 74).
    #[error(
        "no file can be created and written below {path}, so nats-server is not started; check the disk's free space, free inodes and health, and that it is mounted for writing"
    )]
    Disk {
        /// The store's folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A configured port is taken (exit 75).
    #[error(
        "the embedded nats-server cannot listen: {message}; free the port or change nats.embedded.port and http_port (0 chooses a free one)"
    )]
    PortBusy {
        /// nats-server's words.
        message: String,
    },
    /// It ended before it was ready (exit 74).
    #[error("nats-server ended while starting ({how}): {message}")]
    Ended {
        /// Exit code or signal.
        how: String,
        /// Its last error line.
        message: String,
    },
    /// It runs but does not answer as it should (exit 69; a version that is too old: 78).
    #[error("nats-server runs but cannot be reached")]
    Connect(#[source] ConnectError),
    /// It did not become ready in time (exit 69).
    #[error("nats-server was not ready within {limit:?}; see its log lines above")]
    NotReady {
        /// The limit.
        limit: Duration,
    },
    /// The owner's scope is full: a mistake in this program (exit 1).
    #[error("the embedded server cannot be watched")]
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
