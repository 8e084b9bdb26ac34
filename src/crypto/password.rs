//! Password hashes: plain Argon2id (RFC 9106) as PHC strings, without a pepper.
//!
//! Hashing takes as much memory as its parameters say and tens of milliseconds: callers acquire a memory slot
//! and run it through `runtime::blocking`.

use std::cmp::Reverse;
use std::sync::OnceLock;
#[cfg(any(test, feature = "test-support", debug_assertions))]
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Version};

use super::random;
use crate::limits::PASSWORD_COSTS_MAX;

const MIB_IN_KIB: u32 = 1024;
/// Below this much memory of the machine the small parameters are used (product 9: "below 1 GB").
const SMALL_MACHINE_BYTES: u64 = 1_000_000_000;
/// The most memory an accepted hash may need: a restored archive must not make a log-in exhaust the machine.
const STORED_MEMORY_MAX_KIB: u32 = 256 * MIB_IN_KIB;
/// The most passes an accepted hash may need.
const STORED_PASSES_MAX: u32 = 16;

/// The cost of one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Params {
    memory_kib: u32,
    passes: u32,
}

/// The hash could not be computed.
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

    /// The lowest cost that Argon2 allows; for tests only.
    #[must_use]
    #[cfg(any(test, feature = "test-support", debug_assertions))]
    pub fn cheapest() -> Self {
        Self { memory_kib: 8, passes: 1 }
    }

    /// Memory that one hash needs.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_kib) * 1024
    }

    /// Whether a stored hash may have this cost.
    fn is_acceptable(&self) -> bool {
        self.memory_kib <= STORED_MEMORY_MAX_KIB && self.passes <= STORED_PASSES_MAX
    }

    /// Whether both memory and passes are at least those of `other`.
    fn covers(&self, other: &Self) -> bool {
        self.memory_kib >= other.memory_kib && self.passes >= other.passes
    }

    fn hasher(&self) -> Result<Argon2<'static>, HashError> {
        let params = argon2::Params::new(self.memory_kib, self.passes, 1, None);
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(|_| HashError)?))
    }
}

/// Hashes `password` with a random salt.
///
/// # Errors
/// [`HashError`] when the library refuses the input; it accepts every password that the text rules accept.
pub fn hash(params: &Params, password: &str) -> Result<String, HashError> {
    let salt = SaltString::encode_b64(&random::<16>()).map_err(|_| HashError)?;
    count_cost(params);
    let hash = params.hasher()?.hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|_| HashError)?.to_string())
}

/// Whether `password` matches the stored `phc` string. Anything that is not an Argon2id hash of
/// acceptable cost matches no password.
#[must_use]
pub fn verify(phc: &str, password: &str) -> bool {
    let Ok(stored) = PasswordHash::new(phc) else { return false };
    let Some(cost) = cost(&stored).filter(Params::is_acceptable) else { return false };
    count_cost(&cost);
    Argon2::default().verify_password(password.as_bytes(), &stored).is_ok()
}

/// Like [`verify`] at a cost that does not depend on what is stored, so that timing reveals neither an unknown login
/// nor the age of an account: one comparison at each of `costs`, with a hash that matches no password where the
/// stored one has another cost.
#[must_use]
pub fn verify_at_costs(stored: Option<&str>, costs: &[Params], password: &str) -> bool {
    let stored = stored.and_then(|phc| Some((phc, acceptable_cost(phc)?)));
    let left_out = stored.map(|(_, own)| own).filter(|own| !costs.contains(own));
    let mut is_right = false;
    for cost in costs.iter().copied().chain(left_out) {
        match stored {
            Some((phc, own)) if own == cost => is_right |= verify(phc, password),
            // It matches no password.
            _ => is_right |= verify(&dummy(&cost), password),
        }
    }
    is_right
}

/// The different costs of `stored` hashes and of new ones, for [`verify_at_costs`]: at most
/// [`PASSWORD_COSTS_MAX`]; the cheapest are left out. It reads each hash up to its salt.
pub fn costs<'a>(today: &Params, stored: impl IntoIterator<Item = &'a str>) -> Vec<Params> {
    let mut costs = vec![*today];
    let mut known: Vec<&str> = Vec::new();
    for phc in stored {
        let parameters = phc.rsplitn(3, '$').nth(2).unwrap_or_default();
        if known.contains(&parameters) {
            continue;
        }
        let Some(cost) = acceptable_cost(phc) else { continue };
        if known.len() < PASSWORD_COSTS_MAX {
            known.push(parameters);
        }
        if !costs.contains(&cost) {
            costs.push(cost);
            costs.sort_unstable_by_key(|cost| Reverse(*cost));
            costs.truncate(PASSWORD_COSTS_MAX);
        }
    }
    costs
}

/// Whether a stored hash is weaker than new ones. One with more memory or passes (from a larger machine)
/// stays: a new one would be weaker in that respect.
#[must_use]
pub fn needs_rehash(phc: &str, params: &Params) -> bool {
    let stored = PasswordHash::new(phc).ok().and_then(|stored| cost(&stored));
    stored.is_none_or(|stored| stored != *params && params.covers(&stored))
}

/// The cost of all hashes that this process has computed, in KiB times passes; for tests only.
#[must_use]
#[cfg(any(test, feature = "test-support", debug_assertions))]
pub fn spent() -> u64 {
    SPENT.load(Ordering::SeqCst)
}

#[cfg(any(test, feature = "test-support", debug_assertions))]
static SPENT: AtomicU64 = AtomicU64::new(0);

/// Adds the cost of a hash, for [`spent`].
fn count_cost(_cost: &Params) {
    #[cfg(any(test, feature = "test-support", debug_assertions))]
    SPENT.fetch_add(u64::from(_cost.memory_kib) * u64::from(_cost.passes), Ordering::SeqCst);
}

/// A hash of the given cost that matches no password.
fn dummy(params: &Params) -> String {
    static TEXT: OnceLock<(String, String)> = OnceLock::new();
    let (salt, hash) = TEXT.get_or_init(|| {
        let salt = SaltString::encode_b64(&random::<16>()).map(|salt| salt.to_string());
        let hash = argon2::password_hash::Output::new(&random::<32>()).map(|hash| hash.to_string());
        (salt.unwrap_or_default(), hash.unwrap_or_default())
    });
    format!("$argon2id$v=19$m={},t={},p=1${salt}${hash}", params.memory_kib, params.passes)
}

fn acceptable_cost(phc: &str) -> Option<Params> {
    cost(&PasswordHash::new(phc).ok()?).filter(Params::is_acceptable)
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
    fn a_rehash_lowers_neither_memory_nor_passes() {
        let of = |memory_kib, passes| Params { memory_kib, passes };
        let phc = hash(&of(16, 2), "password").unwrap();
        for (weaker, stronger) in [((8, 2), (17, 2)), ((16, 1), (16, 3)), ((8, 3), (17, 3))] {
            assert!(!needs_rehash(&phc, &of(weaker.0, weaker.1)), "{weaker:?}");
            assert!(needs_rehash(&phc, &of(stronger.0, stronger.1)), "{stronger:?}");
        }
        assert!(!needs_rehash(&phc, &of(17, 1)));
    }

    #[test]
    fn a_comparison_costs_the_same_whatever_is_stored() {
        let params = [(8, 1), (16, 2), (32, 1)];
        let params = params.map(|(memory_kib, passes)| Params { memory_kib, passes });
        let stored = params.map(|params| hash(&params, "password").unwrap());
        let beyond =
            "$argon2id$v=19$m=8,t=17,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let known = stored.iter().map(String::as_str).chain(["", "no hash", beyond]);
        let costs = costs(&params[0], known.clone().chain(known.clone()));
        assert_eq!(costs, [params[2], params[1], params[0]]);
        // Other tests of this process hash too, so the sum of its own comparisons is not to be had here;
        // `tests/service/guesses.rs` has it.
        for phc in known.clone() {
            let is_right = verify_at_costs(Some(phc), &costs, "password");
            assert_eq!(is_right, stored.iter().any(|one| one == phc), "{phc}");
            assert!(!verify_at_costs(Some(phc), &costs, "passwort"), "{phc}");
        }
        assert!(!verify_at_costs(None, &costs, "password"));
        assert!(verify_at_costs(Some(&stored[1]), &costs[..1], "password"), "left out, but right");
    }

    #[test]
    fn of_many_costs_the_cheapest_are_left_out() {
        let params = |memory_kib| Params { memory_kib, passes: 1 };
        let stored: Vec<_> = (1..=6).map(|n| hash(&params(8 * n), "password").unwrap()).collect();
        let costs = costs(&params(8), stored.iter().map(String::as_str));
        assert_eq!(costs, [48, 40, 32, 24].map(params));
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
