//! What can go wrong in the store.

use crate::crypto::DecryptError as CryptoError;
use crate::nats::{NatsError, PublishError};
use crate::storage::encoding::DecodeError;
use crate::storage::fold::held::HoldReason;

/// A read or write of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The store did not answer in time, or has no quorum. Whether a write was stored is unknown.
    #[error("the store cannot be reached")]
    Unavailable {
        /// The last failure.
        #[source]
        source: Option<NatsError>,
    },
    /// Too many writes wait for one room; nothing was stored.
    #[error("too many writes are waiting")]
    Busy,
    /// The disk's or the store's limit is reached; nothing was stored, unless an earlier attempt of the same call
    /// had no answer.
    #[error("the store is full")]
    Full,
    /// nats-server has no memory left for the streams that lie there; nothing was stored.
    #[error("nats-server's memory for streams is full")]
    MemoryFull,
    /// The disk under the store is read-only or reports errors; stored as with [`Self::Full`].
    #[error("the disk of the store does not accept writes")]
    DiskError,
    /// An earlier call with this request id stored the event, and its text has been erased since.
    #[error("the event of this request was erased")]
    Erased,
    /// A stored value cannot be read: damaged, or written by a newer program.
    #[error("a value of {what} cannot be read")]
    Corrupt {
        what: &'static str,
        #[source]
        source: Option<DecodeError>,
    },
    #[error(
        "a value of {what} has fields of a newer program and was not changed; update this program"
    )]
    Newer { what: &'static str },
    /// A newer program has taken the store over: this one writes nothing more.
    #[error("a newer program has taken over the store; update this program")]
    Outdated,
    /// The store was restored while this process was connected: it writes nothing more, and must start anew.
    #[error("the store was restored")]
    Restored,
    /// A stream has lost messages: nothing more is written, because nats-server would give their numbers to others.
    #[error("the store is damaged and accepts no writes; restore a backup")]
    Damaged,
    /// The room is held: what it has stored cannot be folded, so nothing more is taken.
    #[error("the room accepts no messages: its stored events cannot be processed")]
    Held {
        #[source]
        reason: HoldReason,
    },
    /// The store refused a write for another reason.
    #[error("the store refused a write")]
    Refused {
        #[source]
        source: NatsError,
    },
    #[error("a key of a user cannot be opened with core.secret_key")]
    Key {
        #[source]
        source: CryptoError,
    },
    /// It can be again as soon as the key is there.
    #[error("the file cannot be decrypted")]
    Undecryptable {
        #[source]
        reason: FileKeyError,
    },
}

/// Why the key of an encrypted file cannot be unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum FileKeyError {
    #[error("the key of its uploader is missing")]
    Missing,
    #[error("the key of its uploader cannot be read")]
    Unreadable {
        #[source]
        source: Box<StorageError>,
    },
    /// It was changed, or is that of another file.
    #[error("its own key is not what the key of its uploader wrapped")]
    Changed {
        #[source]
        source: CryptoError,
    },
}

impl StorageError {
    /// Whether the same call may succeed later without anybody's help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy | Self::MemoryFull)
    }

    /// Whether a stream was addressed that does not exist.
    pub(crate) fn is_missing_stream(&self) -> bool {
        matches!(self, Self::Refused { source } if source.is_missing_stream())
    }

    pub(crate) fn corrupt(what: &'static str) -> impl Fn(DecodeError) -> Self {
        move |source| match source {
            DecodeError::UnknownFields => Self::Newer { what },
            source => Self::Corrupt { what, source: Some(source) },
        }
    }

    pub(crate) const LATE: Self = Self::Unavailable { source: None };
}

impl From<FileKeyError> for StorageError {
    fn from(reason: FileKeyError) -> Self {
        Self::Undecryptable { reason }
    }
}

impl From<NatsError> for StorageError {
    fn from(source: NatsError) -> Self {
        match source {
            NatsError::Restored => Self::Restored,
            source if source.is_transient() => Self::Unavailable { source: Some(source) },
            source => Self::Refused { source },
        }
    }
}

impl From<PublishError> for StorageError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::WrongLastSequence => Self::LATE,
            PublishError::Unknown { source } => Self::Unavailable { source: Some(source) },
            PublishError::Full { .. } => Self::Full,
            PublishError::DiskError => Self::DiskError,
            PublishError::Outdated => Self::Outdated,
            PublishError::Restored => Self::Restored,
            PublishError::Damaged => Self::Damaged,
            PublishError::NoQuorum => Self::LATE,
            PublishError::Refused { source } => Self::Refused { source },
        }
    }
}

/// A change was refused by its caller's own rule, or the store failed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// The caller's closure refused.
    #[error("refused")]
    Refused(E),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The error of a change that its caller never refuses.
impl From<ChangeError<std::convert::Infallible>> for StorageError {
    fn from(error: ChangeError<std::convert::Infallible>) -> Self {
        match error {
            ChangeError::Storage(error) => error,
            ChangeError::Refused(never) => match never {},
        }
    }
}
