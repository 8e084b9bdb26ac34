//! Hashing passwords: inside a memory slot, off the executor.

use zeroize::Zeroizing;

use super::{Kind, Service};
use crate::crypto::password;
use crate::domain::text::Password;
use crate::runtime::blocking;

/// A password could not be hashed or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// Too many wait for a memory slot.
    #[error("too many log-ins at once, try again")]
    Busy,
    /// The library refused.
    #[error("the password could not be hashed")]
    Hash,
}

impl PasswordFault {
    /// What kind of refusal this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Busy => Kind::Unavailable,
            Self::Hash => Kind::Internal,
        }
    }
}

/// The outcome of comparing a password.
pub(super) struct Compared {
    /// It is the right one.
    pub(super) is_right: bool,
    /// A new hash with today's parameters, where the stored one is older.
    pub(super) upgraded: Option<String>,
}

impl Service {
    /// Hashes a new password.
    pub(super) async fn hash_password(&self, typed: &Password) -> Result<String, PasswordFault> {
        let _slot = self.inner.slots.take().await.map_err(|_| PasswordFault::Busy)?;
        let (params, typed) = (self.inner.config.password_params, typed.clone());
        let hash = blocking(move || password::hash(&params, typed.expose())).await;
        hash.map_err(|_| PasswordFault::Hash)
    }

    /// Compares a typed password with a stored hash. Without one it takes as long and says no.
    pub(super) async fn compare_password(
        &self,
        stored: Option<String>,
        typed: &str,
    ) -> Result<Compared, PasswordFault> {
        let _slot = self.inner.slots.take().await.map_err(|_| PasswordFault::Busy)?;
        let params = self.inner.config.password_params;
        let typed = Zeroizing::new(typed.to_owned());
        let compared = blocking(move || {
            let stored = stored.filter(|hash| !hash.is_empty());
            let phc = stored.clone().unwrap_or_else(|| password::dummy(&params));
            let is_right = password::verify(&phc, &typed) && stored.is_some();
            let upgraded = (is_right && password::needs_rehash(&phc, &params))
                .then(|| password::hash(&params, &typed).ok())
                .flatten();
            Compared { is_right, upgraded }
        });
        Ok(compared.await)
    }
}
