//! Secrets, password hashes, tokens, body encryption and the wrapping of its keys.
//!
//! It knows neither stored records nor requests: callers pass bytes and get bytes back. It is the only
//! module that names hash and AEAD crates.

pub mod age;
mod hash;
mod keys;
mod mac;
pub mod password;
mod secret;

pub use hash::{HashStateError, Sha256State};
pub use keys::{DataKey, DecryptError, KekId, KeyEncryptionKey, NONCE_BYTES, TAG_BYTES};
pub use mac::{MacKey, from_hex, hex, sha256};
pub use secret::{Secret, random, token_text};
