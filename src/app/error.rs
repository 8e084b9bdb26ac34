//! Why the program cannot run, and the exit code of each error.

use std::io;
use std::net::SocketAddr;

use crate::backup::catalogue::CatalogueError;
use crate::blobs::s3;
use crate::config::{CompleteError, Settings};
use crate::crypto::age::AgeError;
use crate::http;
use crate::nats::{ConnectError, NatsError};
use crate::operator::Exit;
use crate::runtime::ScopeFull;
use crate::service::StoreError;
use crate::storage::OpenError;
use crate::supervisor::{LockError, StartError, UnpackError};

/// A start or an offline command failed. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Secrets are missing or cannot be stored.
    #[error(transparent)]
    Secrets(#[from] CompleteError),
    /// The settings of S3 cannot be used.
    #[error("core.assets.s3 cannot be used")]
    Bucket(#[from] s3::ConfigError),
    #[error("{key} is missing. Set it in the configuration to the server's value")]
    SecretMissing { key: &'static str },
    /// There is no store, and this command must not create one.
    #[error(
        "no data at {place}. Run the command in the server's directory, or pass its configuration file with -c FILE; a new \
         server is created by `chatto start`"
    )]
    NoData {
        /// The data directory, or the cluster's addresses.
        place: String,
    },
    /// What root creates in the data directory of another account would be of no use to it.
    #[error("cannot act as the owner of {}; run the command as that user", path.display())]
    Owner {
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    /// A restored store cannot take its place.
    #[error("{} cannot be changed", path.display())]
    Swap {
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Embedded(#[from] StartError),
    /// The external cluster cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{}", advice(.0))]
    Store(#[source] OpenError),
    #[error(
        "{key} differs from the value of the running process {process}. Give every process of the cluster the \
         same value, or stop that process first"
    )]
    Mismatch {
        key: String,
        /// The other process: host, pid and version.
        process: String,
    },
    #[error("cannot write the defaults of a new server")]
    Defaults(#[from] StoreError),
    #[cfg(feature = "test-support")]
    #[error("cannot write the bootstrap data. Correct it and start with a new data directory")]
    Bootstrap(#[from] crate::service::BootstrapError),
    #[error("port {port} is in use{}. Stop that program or change webserver.port", holder_text(.holder.as_deref()))]
    PortInUse {
        port: u16,
        /// The program that uses it, when known.
        holder: Option<String>,
    },
    #[error("cannot listen on {address}. Check webserver.bind_address and webserver.port")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{0}. Correct the files named in webserver.tls; `chatto check-config` checks them")]
    Tls(http::TlsError),
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
    /// A scope is full: a bug in this program.
    #[error("cannot start a task")]
    Task(#[from] ScopeFull),
}

/// What happened and what to do.
fn advice(error: &OpenError) -> String {
    let what = error.to_string();
    match error {
        OpenError::Damaged { missing } if missing == &["ENCRYPTION_KEYS"] => format!(
            "{what}. Nothing was created or changed. Restore the data directory, or import an export of the keys with \
             `chatto keys import FILE`"
        ),
        OpenError::Partial => format!("{what}. Restore an archive with `chatto restore FILE`"),
        OpenError::Damaged { .. } | OpenError::Holes { .. } => format!(
            "{what}. Nothing was created or changed. Restore the data directory, or a copy of it that was made \
             earlier"
        ),
        OpenError::SecretChanged => format!(
            "{what}; nothing was changed. Restore the former value, or set it as \
             core.secret_key_previous so that everything is rewrapped. If it is lost, `chatto keys import FILE \
             --new-secret` makes the keys of an export readable with the present one"
        ),
        OpenError::Newer { .. } => format!("{what}. Run the newer version of chatto"),
        OpenError::Restored => format!("{what}. Start it again"),
        OpenError::Storage(_) => format!("{what}. Check nats-server and its disk"),
        OpenError::NoStore
        | OpenError::Outdated { .. }
        | OpenError::Foreign { .. }
        | OpenError::Marker { .. } => what,
    }
}

fn holder_text(holder: Option<&str>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

impl From<http::BindError> for AppError {
    fn from(error: http::BindError) -> Self {
        match error {
            http::BindError::PortInUse { port, .. } => {
                Self::PortInUse { port, holder: super::port_holder::name(port) }
            }
            http::BindError::Refused { address, source } => Self::Listen { address, source },
        }
    }
}

impl AppError {
    /// There is no store where these settings say.
    pub(super) fn no_data(settings: &Settings) -> Self {
        let place = match settings.embedded {
            Some(_) => settings.data_dir.display().to_string(),
            None => settings.client.urls.join(", "),
        };
        Self::NoData { place }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Lock(LockError::Unusable { source, .. }) => unwritable_exit(source),
            Self::Lock(LockError::Unsafe { .. }) | Self::Owner { .. } => Exit::Denied,
            Self::Secrets(CompleteError::Write { source, .. }) => unwritable_exit(source),
            Self::Lock(
                LockError::HeldByServer { .. }
                | LockError::HeldByCommand { .. }
                | LockError::Orphan { .. }
                | LockError::Unseen { .. },
            )
            | Self::PortInUse { .. } => Exit::TryAgain,
            Self::Secrets(CompleteError::KeyOfStoreMissing { .. })
            | Self::SecretMissing { .. }
            | Self::Mismatch { .. }
            | Self::Bucket(_)
            | Self::Tls(_) => Exit::Config,
            Self::NoData { .. } => Exit::Unreachable,
            Self::Swap { source, .. } => unwritable_exit(source),
            Self::Embedded(error) => embedded_exit(error),
            Self::Connect(error) => connect_exit(error),
            Self::Store(error) => store_exit(error),
            Self::Defaults(_) => Exit::Io,
            #[cfg(feature = "test-support")]
            Self::Bootstrap(_) => Exit::Config,
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Exit::Denied,
                _ => Exit::Config,
            },
            Self::Signals(_) | Self::Task(_) => Exit::Failed,
        }
    }
}

fn embedded_exit(error: &StartError) -> Exit {
    match error {
        StartError::Unpack(UnpackError::NotBundled)
        | StartError::ExecutionRefused { .. }
        | StartError::Binary { .. }
        | StartError::BinaryTooOld { .. } => Exit::Config,
        StartError::Unpack(UnpackError::Damaged | UnpackError::Write { .. })
        | StartError::Ended { .. } => Exit::Io,
        StartError::Prepare { source, .. } | StartError::Disk { source, .. } => {
            unwritable_exit(source)
        }
        StartError::PortBusy { .. } => Exit::TryAgain,
        StartError::Connect(error) => connect_exit(error),
        StartError::NotReady { .. } => Exit::Unreachable,
        StartError::Watch(_) => Exit::Failed,
    }
}

/// The exit code of a file that cannot be read or written.
#[must_use]
pub fn io_exit(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::Denied,
        _ => Exit::Io,
    }
}

/// Files cannot be written to a directory: it is not permitted, a fault of the disk, or a wrong directory.
#[must_use]
pub fn unwritable_exit(error: &io::Error) -> Exit {
    const EIO: i32 = 5;
    match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::TimedOut => {
            Exit::Io
        }
        _ if error.raw_os_error() == Some(EIO) => Exit::Io,
        _ => Exit::Exists,
    }
}

/// The exit code of a catalogue of archives that cannot be used.
#[must_use]
pub fn catalogue_exit(error: &CatalogueError) -> Exit {
    match error {
        CatalogueError::Busy { .. } => Exit::TryAgain,
        CatalogueError::Io { source, .. } | CatalogueError::Remove { source, .. } => {
            io_exit(source)
        }
        CatalogueError::Damaged { .. } | CatalogueError::Newer { .. } => Exit::Damaged,
    }
}

/// The exit code of an encrypted file that cannot be read.
pub(super) fn age_exit(error: &AgeError) -> Exit {
    match error {
        AgeError::WrongPassphrase => Exit::Denied,
        AgeError::TooMuchWork { .. } => Exit::Failed,
        AgeError::Read(error) => io_exit(error),
        AgeError::Damaged
        | AgeError::NotAge
        | AgeError::Armored
        | AgeError::NotByPassphrase
        | AgeError::Newer => Exit::Damaged,
    }
}

fn connect_exit(error: &ConnectError) -> Exit {
    match error {
        ConnectError::Options { .. } | ConnectError::TooOld { .. } => Exit::Config,
        ConnectError::Unreachable { .. } => Exit::Unreachable,
    }
}

fn store_exit(error: &OpenError) -> Exit {
    match error {
        OpenError::NoStore => Exit::Unreachable,
        OpenError::Damaged { .. }
        | OpenError::Holes { .. }
        | OpenError::Partial
        | OpenError::Marker { .. } => Exit::Io,
        OpenError::Foreign { .. }
        | OpenError::Newer { .. }
        | OpenError::Outdated { .. }
        | OpenError::SecretChanged => Exit::Config,
        OpenError::Restored => Exit::TryAgain,
        OpenError::Storage(fault) if fault.is_transient() => Exit::Unreachable,
        OpenError::Storage(_) => Exit::Io,
    }
}

impl From<NatsError> for AppError {
    fn from(error: NatsError) -> Self {
        Self::Store(error.into())
    }
}
