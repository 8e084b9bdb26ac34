//! Keys for message authentication, derived from one secret by label.

use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Secret;

/// A key for HMAC-SHA256. Each use has its own label and so its own key.
#[derive(Clone)]
pub struct MacKey(Zeroizing<[u8; 32]>);

impl MacKey {
    /// The key of `label`, derived from `secret` by HKDF-SHA256 (RFC 5869, no salt).
    #[must_use]
    pub fn derive(secret: &Secret, label: &str) -> Self {
        Self(derive(secret, label))
    }

    /// The code of `bytes` (RFC 2104).
    #[must_use]
    pub fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        let mut mac = keyed(&self.0);
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// Whether `mac` is the code of `bytes`, compared in constant time.
    #[must_use]
    pub fn verify(&self, bytes: &[u8], mac: &[u8]) -> bool {
        self.mac(bytes).ct_eq(mac).into()
    }
}

/// The plain hash of public bytes, where no secret is involved.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

/// 32 bytes of HKDF-SHA256 for `label`.
#[expect(clippy::expect_used, reason = "32 bytes are less than HKDF's limit of 255 hashes")]
pub(super) fn derive(secret: &Secret, label: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret.expose())
        .expand(label.as_bytes(), key.as_mut_slice())
        .expect("32 bytes are less than HKDF's limit");
    key
}

/// Bytes as lower-case hexadecimal text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The 32 bytes that [`hex`] encoded; `None` for any other text.
#[must_use]
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * bytes.len() || !text.as_bytes().iter().all(is_hex) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_text_is_read_back() {
        let bytes: [u8; 32] = std::array::from_fn(|n| u8::try_from(n * 8).unwrap());
        assert_eq!(from_hex(&hex(&bytes)), Some(bytes));
        let text = hex(&bytes);
        for wrong in [
            "",
            text.trim_start_matches("00"),
            &format!("{text}0"),
            &text.to_uppercase(),
            &text.replace('f', "+"),
        ] {
            assert_eq!(from_hex::<32>(wrong), None, "{wrong}");
        }
    }

    /// RFC 4231, test case 2 has a short key; case 1 fits a key of ours when padded with zeros, which
    /// HMAC does itself.
    #[test]
    fn hmac_known_answer() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let key = MacKey(Zeroizing::new(key));
        assert_eq!(
            hex(&key.mac(b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
    }

    /// RFC 5869, test case 3 (no salt, no info), first 32 bytes.
    #[test]
    fn hkdf_known_answer() {
        let secret = Secret::new(vec![0x0b; 22]);
        assert_eq!(
            hex(derive(&secret, "").as_slice()),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
        );
    }

    #[test]
    fn sha256_known_answer() {
        assert_eq!(
            hex(&sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn labels_give_different_keys_and_tampering_is_seen() {
        let secret = Secret::new(b"secret".to_vec());
        let key = MacKey::derive(&secret, "a");
        let mac = key.mac(b"text");
        assert!(key.verify(b"text", &mac));
        assert!(!key.verify(b"texT", &mac));
        assert!(!key.verify(b"text", mac.get(..31).unwrap()));
        assert!(!MacKey::derive(&secret, "b").verify(b"text", &mac));
    }
}
