//! Hashing passwords: inside a memory slot, off the executor.

use zeroize::Zeroizing;

use super::ErrorKind;
use crate::crypto::password::{self, Params};
use crate::domain::text::Password;
use crate::runtime::{MemorySlots, SlotGuard, blocking};
use crate::storage::Storage;

/// A password could not be hashed or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// Too many wait for a memory slot.
    #[error("too many log-ins at once, try again")]
    Busy,
    /// The hashing library returned an error.
    #[error("the password could not be hashed")]
    Hash,
}

impl PasswordHashError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy => ErrorKind::Unavailable,
            Self::Hash => ErrorKind::Internal,
        }
    }
}

/// The outcome of comparing a password.
pub(super) struct PasswordCheck {
    pub(super) is_right: bool,
    /// A new hash with today's parameters, where the stored one is weaker.
    pub(super) upgraded: Option<String>,
}

/// Hashes passwords, as many at a time as there are slots.
#[derive(Clone, Copy)]
pub(super) struct Passwords<'a> {
    pub(super) storage: &'a Storage,
    pub(super) slots: &'a MemorySlots,
    pub(super) params: Params,
}

impl Passwords<'_> {
    /// Takes a memory slot, which one hash after the other may use.
    pub(super) async fn slot(&self) -> Result<SlotGuard, PasswordHashError> {
        self.slots.take().await.map_err(|_| PasswordHashError::Busy)
    }

    /// Hashes a new password.
    pub(super) async fn hash(&self, typed: &Password) -> Result<String, PasswordHashError> {
        let slot = self.slot().await?;
        let (params, typed) = (self.params, typed.clone());
        let hash = blocking(move || {
            let hash = password::hash(&params, typed.expose());
            drop(slot);
            hash
        });
        hash.await.map_err(|_| PasswordHashError::Hash)
    }

    /// Compares a typed password with a stored hash. It costs the same whatever is stored, and without a hash:
    /// as much as one comparison at each of the costs that stored hashes have.
    pub(super) async fn compare(
        &self,
        slot: SlotGuard,
        stored: Option<String>,
        typed: &str,
    ) -> PasswordCheck {
        let (params, costs) = (self.params, self.costs());
        let typed = Zeroizing::new(typed.to_owned());
        // The slot goes along: a caller that is dropped does not stop the hashing.
        blocking(move || {
            let is_right = password::verify_at_costs(stored.as_deref(), &costs, &typed);
            let is_weaker = |phc: &String| is_right && password::needs_rehash(phc, &params);
            let upgraded = stored.as_ref().filter(|phc| is_weaker(phc));
            let upgraded = upgraded.and_then(|_| password::hash(&params, &typed).ok());
            drop(slot);
            PasswordCheck { is_right, upgraded }
        })
        .await
    }

    /// The costs of everybody's hash, and today's.
    fn costs(&self) -> Vec<Params> {
        let today = self.params;
        self.storage.state().read(|tables| {
            let hashes = tables.users.values().map(|user| user.password_hash.as_str());
            password::costs(&today, hashes)
        })
    }
}
