//! Why a link is not made or not redeemed, and what kind of refusal that is.

use std::time::Duration;

use super::ErrorKind;
use super::create_account::AccountError;
use super::error::StoreError;
use crate::storage::StorageError;

/// A link was not made, listed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server has an owner: there is nothing to set up.
    #[error("this server has an owner")]
    OwnerExists,
    /// Only owners make, list and revoke join links.
    #[error("permission denied")]
    Denied,
    /// No usable join link has this id.
    #[error("there is no open join link with this id")]
    Unknown,
    /// A given value breaks a rule.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A link was not redeemed.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// Unknown, used, expired or replaced. The text is fixed.
    #[error("This link is invalid, used or expired")]
    Invalid,
    /// A setup link after the server got an owner.
    #[error("This server has an owner already")]
    OwnerExists,
    /// Too much was refused already, for this link or this client address.
    #[error("too many attempts, try again later")]
    Throttled {
        /// When to come again.
        retry_after: Duration,
    },
    /// The account could not be made. The link stays usable.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The store failed. The link stays usable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LinkError {
    /// What kind of refusal this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OwnerExists => ErrorKind::AlreadyExists,
            Self::Denied => ErrorKind::PermissionDenied,
            Self::Unknown => ErrorKind::NotFound,
            Self::Account(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

impl RedeemError {
    /// What kind of refusal this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid => ErrorKind::InvalidArgument,
            Self::Throttled { .. } => ErrorKind::ResourceExhausted,
            Self::OwnerExists => ErrorKind::AlreadyExists,
            Self::Account(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }
}

impl RedeemError {
    /// Whether the asker is to blame.
    pub(super) fn is_refusal(&self) -> bool {
        use ErrorKind::{DiskError, DiskFull, Internal, Unavailable};
        !matches!(self.kind(), DiskError | DiskFull | Internal | Unavailable)
    }
}

impl From<StorageError> for LinkError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl From<StorageError> for RedeemError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}
