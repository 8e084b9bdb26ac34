//! Password hashes: plain Argon2id (RFC 9106) as PHC strings, without a pepper.
//!
//! Hashing takes the memory its parameters name and tens of milliseconds: callers take a memory slot
//! and run it through `runtime::blocking`.

use std::sync::OnceLock;

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Version};

use super::random;

const MIB_IN_KIB: u32 = 1024;
/// Below this much memory of the machine the small parameters are used (product 9: "below 1 GB").
const SMALL_MACHINE_BYTES: u64 = 1_000_000_000;
/// Memory an accepted hash may ask for: a restored archive must not make a log-in eat the machine.
const STORED_MEMORY_MAX_KIB: u32 = 256 * MIB_IN_KIB;
/// Passes an accepted hash may ask for.
const STORED_PASSES_MAX: u32 = 16;

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    memory_kib: u32,
    passes: u32,
}

/// The hash could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the password could not be hashed")]
pub struct HashError;

impl Params {
    /// By the machine's memory: 19 MiB and 2 passes below 1 GB, else 64 MiB and 3 passes.
    #[must_use]
    pub fn for_memory(total_ram_bytes: u64) -> Self {
        if total_ram_bytes < SMALL_MACHINE_BYTES {
            Self { memory_kib: 19 * MIB_IN_KIB, passes: 2 }
        } else {
            Self { memory_kib: 64 * MIB_IN_KIB, passes: 3 }
        }
    }

    /// The lowest cost Argon2 knows; for tests only.
    #[must_use]
    #[cfg(any(test, feature = "test-support", debug_assertions))]
    pub fn cheapest() -> Self {
        Self { memory_kib: 8, passes: 1 }
    }

    /// Memory that one hash takes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_kib) * 1024
    }

    fn hasher(&self) -> Result<Argon2<'static>, HashError> {
        let params = argon2::Params::new(self.memory_kib, self.passes, 1, None);
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(|_| HashError)?))
    }
}

/// Hashes `password` with a random salt.
///
/// # Errors
/// [`HashError`] when the library refuses the input; no password the text rules accept does.
pub fn hash(params: &Params, password: &str) -> Result<String, HashError> {
    let salt = SaltString::encode_b64(&random::<16>()).map_err(|_| HashError)?;
    let hash = params.hasher()?.hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|_| HashError)?.to_string())
}

/// Whether `password` belongs to the stored `phc` string. Anything that is not an Argon2id hash of
/// acceptable cost belongs to no password.
#[must_use]
pub fn verify(phc: &str, password: &str) -> bool {
    let Ok(stored) = PasswordHash::new(phc) else { return false };
    let Some(cost) = cost(&stored) else { return false };
    if cost.memory_kib > STORED_MEMORY_MAX_KIB || cost.passes > STORED_PASSES_MAX {
        return false;
    }
    Argon2::default().verify_password(password.as_bytes(), &stored).is_ok()
}

/// Whether a stored hash was made with other parameters than those in use now.
#[must_use]
pub fn needs_rehash(phc: &str, params: &Params) -> bool {
    PasswordHash::new(phc).ok().and_then(|stored| cost(&stored)) != Some(*params)
}

/// Memory that verifying `phc` takes, in bytes; 0 for something that is no hash.
#[must_use]
pub fn stored_memory_bytes(phc: &str) -> u64 {
    let stored = PasswordHash::new(phc).ok().and_then(|stored| cost(&stored));
    stored.map_or(0, |cost| cost.memory_bytes())
}

/// A hash of the given cost that no password opens: verifying against it takes as long as against a
/// real one, so that an unknown login cannot be told by time.
#[must_use]
pub fn dummy(params: &Params) -> String {
    static TEXT: OnceLock<(String, String)> = OnceLock::new();
    let (salt, hash) = TEXT.get_or_init(|| {
        let salt = SaltString::encode_b64(&random::<16>()).map(|salt| salt.to_string());
        let hash = argon2::password_hash::Output::new(&random::<32>()).map(|hash| hash.to_string());
        (salt.unwrap_or_default(), hash.unwrap_or_default())
    });
    format!("$argon2id$v=19$m={},t={},p=1${salt}${hash}", params.memory_kib, params.passes)
}

fn cost(stored: &PasswordHash<'_>) -> Option<Params> {
    if stored.algorithm != argon2::ARGON2ID_IDENT {
        return None;
    }
    let params = argon2::Params::try_from(stored).ok()?;
    Some(Params { memory_kib: params.m_cost(), passes: params.t_cost() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with the reference implementation's own test vector (argon2 test.c, version 0x13,
    /// Argon2id, t=2, m=2^16, p=1, password `password`, salt `somesalt`).
    #[test]
    fn reference_vector() {
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ\
                   $CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify(phc, "password"));
        assert!(!verify(phc, "differentpassword"));
    }

    #[test]
    fn a_hash_verifies_its_password_only() {
        let params = Params::cheapest();
        let phc = hash(&params, "correct horse").unwrap();
        assert!(verify(&phc, "correct horse"));
        assert!(!verify(&phc, "correct horsf"));
        assert!(!verify(&phc, ""));
        assert_ne!(phc, hash(&params, "correct horse").unwrap(), "salted");
    }

    #[test]
    fn parameters_follow_the_machine() {
        let small = Params::for_memory(999_999_999);
        let large = Params::for_memory(1_000_000_000);
        assert_eq!((small.memory_kib, small.passes), (19_456, 2));
        assert_eq!((large.memory_kib, large.passes), (65_536, 3));
    }

    #[test]
    fn other_parameters_ask_for_a_new_hash() {
        let phc = hash(&Params::cheapest(), "password").unwrap();
        assert!(!needs_rehash(&phc, &Params::cheapest()));
        assert!(needs_rehash(&phc, &Params::for_memory(0)));
        assert!(needs_rehash("", &Params::cheapest()));
    }

    #[test]
    fn the_dummy_costs_the_same_and_opens_to_nothing() {
        let dummy = dummy(&Params::cheapest());
        assert!(!needs_rehash(&dummy, &Params::cheapest()));
        assert!(!verify(&dummy, "password"));
    }

    #[test]
    fn foreign_and_monstrous_hashes_belong_to_no_password() {
        for phc in [
            "",
            "password",
            "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=8,t=4000000,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ] {
            assert!(!verify(phc, "password"));
        }
    }
}
