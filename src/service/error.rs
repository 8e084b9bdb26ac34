//! Errors that several groups of use cases share.

use super::Kind;
use crate::domain::text::{DescriptionError, RoomNameError};
use crate::storage::{ChangeError, StorageError};

/// The store failed.
#[derive(Debug, thiserror::Error)]
#[error("the store failed")]
pub struct StoreFault(#[from] pub StorageError);

impl StoreFault {
    /// Unavailable when the same call may succeed later, else internal.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.0 {
            error if error.is_transient() => Kind::Unavailable,
            StorageError::Full => Kind::DiskFull,
            StorageError::DiskError => Kind::DiskError,
            StorageError::Outdated => Kind::Unavailable,
            StorageError::Held { .. } | StorageError::Newer { .. } => Kind::FailedPrecondition,
            _ => Kind::Internal,
        }
    }
}

/// A credential was refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// None was given, or it is unknown, expired or ended.
    #[error("authentication required")]
    Required,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// A read was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such thing.
    #[error("{what} not found")]
    NotFound {
        /// What was asked for.
        what: &'static str,
    },
    /// It exists, but not for this viewer.
    #[error("permission denied")]
    Denied,
    /// The cursor is broken, or of another viewer or room.
    #[error("cursor is not valid here")]
    Cursor,
    /// The named row is a thread reply where a row of the room is needed.
    #[error("a thread reply is no row of the room")]
    Reply,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// A change to a room or a membership was refused.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// There is no such room.
    #[error("room not found")]
    NotFound,
    /// There is no such group.
    #[error("room group not found")]
    GroupNotFound,
    /// The right is missing.
    #[error("permission denied")]
    Denied,
    /// The room is archived.
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
    /// The name breaks a rule.
    #[error(transparent)]
    Name(#[from] RoomNameError),
    /// The description is too long.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

impl AuthenticateError {
    /// What kind of refusal this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Required => Kind::Unauthenticated,
            Self::Store(fault) => fault.kind(),
        }
    }
}

impl ReadError {
    /// What kind of refusal this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Denied => Kind::PermissionDenied,
            Self::Cursor | Self::Reply => Kind::InvalidArgument,
            Self::Store(fault) => fault.kind(),
        }
    }
}

impl RoomError {
    /// What kind of refusal this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound | Self::GroupNotFound => Kind::NotFound,
            Self::Denied => Kind::PermissionDenied,
            Self::Archived | Self::Direct | Self::Universal => Kind::FailedPrecondition,
            Self::NameTaken => Kind::AlreadyExists,
            Self::Name(_) | Self::Description(_) => Kind::InvalidArgument,
            Self::Store(fault) => fault.kind(),
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
pub(super) fn flat<E: From<StorageError>>(error: ChangeError<E>) -> E {
    match error {
        ChangeError::Refused(error) => error,
        ChangeError::Storage(error) => error.into(),
    }
}
