//! Errors that several groups of use cases share, and the kind of each, so that the edge maps every
//! error in one place.

use crate::blobs::BlobError;
use crate::domain::text::{DescriptionError, RoomNameError};
use crate::nats::{NatsError, PublishError};
use crate::storage::{ChangeError, StorageError};

/// The kinds of errors; each is one code of the contract (section 3.1), the disk's three and the missing key are
/// `unavailable` with a text of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No credential, or one that does not count.
    Unauthenticated,
    /// The right is missing, or the room is hidden or not joined.
    PermissionDenied,
    NotFound,
    /// The name is taken.
    AlreadyExists,
    InvalidArgument,
    /// The state forbids it.
    FailedPrecondition,
    /// Too much or too fast.
    ResourceExhausted,
    /// The store does not respond, or too many calls wait: try again.
    Unavailable,
    /// The server's disk is full: writes are rejected.
    DiskFull,
    /// Too little of the server's disk is free for files: they are rejected.
    DiskLow,
    /// The server's disk is read-only or reports errors: writes are rejected.
    DiskError,
    /// The key of an encrypted file's uploader is missing.
    Undecryptable,
    Unimplemented,
    /// An error of this program; its text is not sent to clients.
    Internal,
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
#[error("the store failed")]
pub struct StoreError(#[from] pub StorageError);

impl StoreError {
    /// Unavailable when the same call may succeed later, else internal.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.0 {
            error if error.is_transient() => ErrorKind::Unavailable,
            StorageError::Full => ErrorKind::DiskFull,
            StorageError::DiskError => ErrorKind::DiskError,
            StorageError::Outdated | StorageError::Restored | StorageError::Damaged => {
                ErrorKind::Unavailable
            }
            StorageError::Undecryptable { .. } => ErrorKind::Undecryptable,
            StorageError::Held { .. } | StorageError::Newer { .. } => ErrorKind::FailedPrecondition,
            _ => ErrorKind::Internal,
        }
    }
}

/// The kind of an error of a file's bytes.
pub(super) fn blob_kind(error: &BlobError) -> ErrorKind {
    match error {
        BlobError::Nats(NatsError::Restored) => ErrorKind::Unavailable,
        BlobError::Nats(error) if error.is_transient() => ErrorKind::Unavailable,
        // Whatever it is, the chat goes on, and an operator can mend it.
        BlobError::S3(_) | BlobError::NoBucket => ErrorKind::Unavailable,
        BlobError::Publish(
            PublishError::Unknown { .. }
            | PublishError::NoQuorum
            | PublishError::Damaged
            | PublishError::Outdated
            | PublishError::Restored,
        ) => ErrorKind::Unavailable,
        BlobError::Publish(PublishError::Full { .. }) => ErrorKind::DiskFull,
        BlobError::Publish(PublishError::DiskError) => ErrorKind::DiskError,
        BlobError::DiskLow => ErrorKind::DiskLow,
        _ => ErrorKind::Internal,
    }
}

/// A credential was refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// None was given, or it is unknown, expired or ended.
    #[error("authentication required")]
    Required,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A read was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{what} not found")]
    NotFound { what: &'static str },
    /// It exists, but not for this viewer.
    #[error("permission denied")]
    Denied,
    /// The cursor is broken, or of another viewer or room.
    #[error("cursor is not valid here")]
    Cursor,
    #[error("a thread reply is not a row of the room")]
    Reply,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A change to a room or a membership was refused.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    #[error("room not found")]
    NotFound,
    #[error("room group not found")]
    GroupNotFound,
    #[error("permission denied")]
    Denied,
    #[error("room is archived")]
    Archived,
    /// Direct messages are not joined or left.
    #[error("not possible in a direct message")]
    Direct,
    /// Members of a universal room are members by rule.
    #[error("everybody is in this room")]
    Universal,
    /// The name is in use. The contract fixes the text.
    #[error("a room with this name already exists")]
    NameTaken,
    #[error(transparent)]
    Name(#[from] RoomNameError),
    #[error(transparent)]
    Description(#[from] DescriptionError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AuthenticateError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Required => ErrorKind::Unauthenticated,
            Self::Store(error) => error.kind(),
        }
    }
}

impl ReadError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Denied => ErrorKind::PermissionDenied,
            Self::Cursor | Self::Reply => ErrorKind::InvalidArgument,
            Self::Store(error) => error.kind(),
        }
    }
}

impl RoomError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound | Self::GroupNotFound => ErrorKind::NotFound,
            Self::Denied => ErrorKind::PermissionDenied,
            Self::Archived | Self::Direct | Self::Universal => ErrorKind::FailedPrecondition,
            Self::NameTaken => ErrorKind::AlreadyExists,
            Self::Name(_) | Self::Description(_) => ErrorKind::InvalidArgument,
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for AuthenticateError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl From<StorageError> for RoomError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Joins what a change's closure refused with what the store refused.
pub(super) fn flatten<E: From<StorageError>>(error: ChangeError<E>) -> E {
    match error {
        ChangeError::Refused(error) => error,
        ChangeError::Storage(error) => error.into(),
    }
}
