//! Why a stick was not used, or not completely.

use std::io;
use std::path::PathBuf;

use crate::config::SticksError;
use crate::observe::decimal_size;
use crate::operator::Exit;

/// There is no new verified backup on the stick. Those that were there before are intact.
#[derive(Debug, thiserror::Error)]
pub enum StickError {
    #[error("{} cannot be used", path.display())]
    Device {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a block device", path.display())]
    NoDevice { path: PathBuf },
    #[error("{} has partitions ({}); name one of them", path.display(), partitions.join(", "))]
    WholeDisk { path: PathBuf, partitions: Vec<String> },
    #[error(
        "udev knows nothing of a file system on {}. Create one, for example with `mkfs.ext4 {}`, which erases what is \
         there", path.display(), path.display()
    )]
    NoFileSystem { path: PathBuf },
    #[error("the file system of {} is {found}; a stick for backups needs FAT32 (vfat), exFAT or ext4", path.display())]
    WrongFileSystem { path: PathBuf, found: String },
    #[error("{} is not connected by USB", path.display())]
    NotUsb { path: PathBuf },
    #[error("{} is mounted at {}; eject it there first", path.display(), mounted.display())]
    Mounted { path: PathBuf, mounted: PathBuf },
    #[error("{} is in use by another program; eject it there first", path.display())]
    Busy { path: PathBuf },
    #[error(
        "the stick at {} is not paired with this server. Nothing was written. To pair it: sudo chatto usb pair {}",
        path.display(), path.display()
    )]
    NotPaired { path: PathBuf },
    #[error(
        "the stick at {} has the file system of the paired stick {name}, but not its id. Nothing was written. To pair it: sudo \
         chatto usb pair {}", path.display(), path.display()
    )]
    Forged { path: PathBuf, name: String },
    #[error(
        "nothing was written (`sudo chatto usb pair {}` pairs the stick again): the id of the paired stick {name} cannot be read",
        path.display()
    )]
    Identity {
        path: PathBuf,
        name: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "{name} is read-only. Nothing was written; a switch on the stick, or damage, may be the cause"
    )]
    ReadOnly { name: String },
    #[error(
        "{} has ext4, which only Linux 5.14 and newer can mount without following links on it. Use a newer kernel, or a \
         stick with FAT32 or exFAT", path.display()
    )]
    LinksFollowed { path: PathBuf },
    #[error("cannot mount {}", path.display())]
    Mount {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The process that reads and writes has found it.
    #[error("{message}")]
    Worker { exit: Exit, message: String },
    #[error("the process that writes to the stick ended without a result ({how})")]
    Ended { how: String },
    #[error("cannot start the process that writes to the stick")]
    Start(#[source] io::Error),
    #[error(
        "the stick is full: {} needed, {} free. Older backups were kept. Use a larger stick, or remove \
         other files from it",
        decimal_size(*needed), decimal_size(*free)
    )]
    Full { needed: u64, free: u64 },
    /// No failure.
    #[error("there is a verified backup from {hours} h ago already")]
    Fresh { hours: i64 },
    #[error("the stick holds other data than was written ({name}). Replace this stick")]
    Differs { name: String },
    #[error(
        "the file system of the stick does not read past the memory of this machine, so the backup is not verified"
    )]
    Unverifiable(#[source] io::Error),
    #[error("the stick cannot be read or written")]
    Io(#[source] io::Error),
    #[error("the stick was removed too early. Its earlier backups are intact. Plug it in again")]
    Removed,
    #[error(transparent)]
    Sticks(#[from] SticksError),
}

impl StickError {
    /// The exit code. [`Exit::Denied`] says that the stick is not paired, and nothing else: for systemd it is no failure
    /// (`SuccessExitStatus=` in systemd/chatto-usb-backup@.service).
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoDevice { .. } | Self::WholeDisk { .. } => Exit::Usage,
            Self::NoFileSystem { .. }
            | Self::WrongFileSystem { .. }
            | Self::NotUsb { .. }
            | Self::LinksFollowed { .. } => Exit::Failed,
            Self::Mounted { .. } | Self::Busy { .. } => Exit::TryAgain,
            Self::NotPaired { .. } | Self::Forged { .. } => Exit::Denied,
            Self::ReadOnly { .. } => Exit::Exists,
            Self::Worker { exit: Exit::Denied, .. } => Exit::Failed,
            Self::Worker { exit, .. } => *exit,
            Self::Device { .. }
            | Self::Mount { .. }
            | Self::Identity { .. }
            | Self::Full { .. }
            | Self::Io(_)
            | Self::Removed => Exit::Io,
            Self::Fresh { .. } => Exit::Success,
            Self::Ended { .. } | Self::Start(_) | Self::Differs { .. } | Self::Unverifiable(_) => {
                Exit::Failed
            }
            Self::Sticks(SticksError::Invalid { .. }) => Exit::Config,
            Self::Sticks(_) => Exit::Io,
        }
    }
}
