//! Keys that encrypt message bodies and files, and keys that wrap them.

use std::fmt;

use chacha20::cipher::consts::U10;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::{Secret, mac, random};

/// Bytes of an XChaCha20-Poly1305 nonce; large enough to be random.
pub const NONCE_BYTES: usize = 24;
/// Bytes of a Poly1305 tag, by which encryption makes bytes longer (RFC 8439, 2.8).
pub const TAG_BYTES: usize = 16;

/// Identifies a key-encryption key without revealing anything about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KekId(pub [u8; 8]);

/// Wraps data keys; derived from `core.secret_key`.
#[derive(Clone)]
pub struct KeyEncryptionKey {
    key: Zeroizing<[u8; 32]>,
    id: KekId,
}

/// Encrypts the message bodies of one author, or one file; an author's also wraps those of files.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; 32]>);

/// The bytes cannot be decrypted: another key, other associated data, or changed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot decrypt the bytes with this key")]
pub struct DecryptError;

impl KeyEncryptionKey {
    /// The key and its id, by HKDF-SHA256 with the labels `chatto kek v1` and `chatto kek id v1`.
    #[must_use]
    pub fn derive(secret: &Secret) -> Self {
        let name = mac::derive(secret, "chatto kek id v1");
        let mut id = [0; 8];
        id.iter_mut().zip(name.iter()).for_each(|(to, from)| *to = *from);
        Self { key: mac::derive(secret, "chatto kek v1"), id: KekId(id) }
    }

    /// The id of this key; the same secret always gives the same id.
    #[must_use]
    pub fn id(&self) -> KekId {
        self.id
    }

    /// Encrypts `key`, bound to the associated data `ad`.
    #[must_use]
    pub fn wrap(&self, key: &DataKey, ad: &[u8]) -> ([u8; NONCE_BYTES], Vec<u8>) {
        wrap(&self.key, key, ad)
    }

    /// Decrypts the result of [`Self::wrap`].
    ///
    /// # Errors
    /// [`DecryptError`] for another key, other associated data or changed bytes.
    pub fn unwrap(&self, nonce: &[u8], sealed: &[u8], ad: &[u8]) -> Result<DataKey, DecryptError> {
        unwrap(&self.key, nonce, sealed, ad)
    }
}

impl DataKey {
    /// A new random key.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(random()))
    }

    /// The key of `label`, derived from `secret` by HKDF-SHA256, for data that is encrypted with a setting
    /// instead of a stored key.
    #[must_use]
    pub fn derive(secret: &Secret, label: &str) -> Self {
        Self(mac::derive(secret, label))
    }

    /// The key of these bytes; `None` unless they are 32.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|key| Self(Zeroizing::new(key)))
    }

    /// The bytes of the key, for storing it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Encrypts `plain`, bound to the associated data `ad`, under a random nonce.
    #[must_use]
    pub fn seal(&self, plain: &[u8], ad: &[u8]) -> ([u8; NONCE_BYTES], Vec<u8>) {
        seal(&self.0, plain, ad)
    }

    /// The nonce and the result of [`Self::seal`] in one buffer, made by one allocation.
    #[must_use]
    pub fn seal_with_nonce(&self, plain: &[u8], ad: &[u8]) -> Vec<u8> {
        seal_with_nonce(&self.0, plain, ad)
    }

    /// Decrypts the result of [`Self::seal`].
    ///
    /// # Errors
    /// [`DecryptError`] for another key, other associated data or changed bytes.
    pub fn open(&self, nonce: &[u8], sealed: &[u8], ad: &[u8]) -> Result<Vec<u8>, DecryptError> {
        open(&self.0, nonce, sealed, ad)
    }

    /// Encrypts another key, bound to the associated data `ad`.
    #[must_use]
    pub fn wrap(&self, key: &Self, ad: &[u8]) -> ([u8; NONCE_BYTES], Vec<u8>) {
        wrap(&self.0, key, ad)
    }

    /// Decrypts the result of [`Self::wrap`].
    ///
    /// # Errors
    /// [`DecryptError`] for another key, other associated data or changed bytes.
    pub fn unwrap(&self, nonce: &[u8], sealed: &[u8], ad: &[u8]) -> Result<Self, DecryptError> {
        unwrap(&self.0, nonce, sealed, ad)
    }
}

impl KekId {
    /// Reads a stored id; `None` unless it has eight bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key-encryption key {}", self.id)
    }
}

fn wrap(by: &[u8; 32], key: &DataKey, ad: &[u8]) -> ([u8; NONCE_BYTES], Vec<u8>) {
    seal(by, key.0.as_slice(), ad)
}

fn unwrap(by: &[u8; 32], nonce: &[u8], sealed: &[u8], ad: &[u8]) -> Result<DataKey, DecryptError> {
    let bytes = Zeroizing::new(open(by, nonce, sealed, ad)?);
    DataKey::from_slice(&bytes).ok_or(DecryptError)
}

fn seal(key: &[u8; 32], plain: &[u8], ad: &[u8]) -> ([u8; NONCE_BYTES], Vec<u8>) {
    let nonce = random();
    (nonce, seal_after(Vec::new(), key, &nonce, plain, ad))
}

fn seal_with_nonce(key: &[u8; 32], plain: &[u8], ad: &[u8]) -> Vec<u8> {
    let nonce = random();
    let whole = NONCE_BYTES.saturating_add(plain.len()).saturating_add(TAG_BYTES);
    let mut sealed = Vec::with_capacity(whole);
    sealed.extend_from_slice(&nonce);
    seal_after(sealed, key, &nonce, plain, ad)
}

/// Appends what becomes of `plain` to a buffer, which grows once at most.
#[expect(clippy::expect_used, reason = "fails only above 256 GiB, far beyond what a record holds")]
fn seal_after(
    mut sealed: Vec<u8>,
    key: &[u8; 32],
    nonce: &[u8; NONCE_BYTES],
    plain: &[u8],
    ad: &[u8],
) -> Vec<u8> {
    let (key, nonce12) = chacha20_parts(key, nonce);
    let begin = sealed.len();
    sealed.reserve_exact(plain.len().saturating_add(TAG_BYTES));
    sealed.extend_from_slice(plain);
    let plain = sealed.get_mut(begin..).unwrap_or_default();
    let tag = key
        .seal_in_place_separate_tag(nonce12, Aad::from(ad), plain)
        .expect("a record is shorter than the cipher's limit");
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

fn open(key: &[u8; 32], nonce: &[u8], sealed: &[u8], ad: &[u8]) -> Result<Vec<u8>, DecryptError> {
    let nonce: &[u8; NONCE_BYTES] = nonce.try_into().map_err(|_| DecryptError)?;
    let (key, nonce12) = chacha20_parts(key, nonce);
    let mut plain = sealed.to_vec();
    let length =
        key.open_in_place(nonce12, Aad::from(ad), &mut plain).map_err(|_| DecryptError)?.len();
    plain.truncate(length);
    Ok(plain)
}

/// Key and nonce of plain ChaCha20-Poly1305 (RFC 8439) that are equivalent to XChaCha20-Poly1305 with this key and
/// nonce (draft-irtf-cfrg-xchacha-03, 2.3).
#[expect(clippy::expect_used, reason = "the key has the cipher's length")]
fn chacha20_parts(key: &[u8; 32], nonce: &[u8; NONCE_BYTES]) -> (LessSafeKey, Nonce) {
    let [head @ .., a, b, c, d, e, f, g, h] = *nonce;
    let subkey: Zeroizing<[u8; 32]> =
        Zeroizing::new(chacha20::hchacha::<U10>(key.into(), &head.into()).into());
    let key = UnboundKey::new(&CHACHA20_POLY1305, subkey.as_slice()).expect("32 bytes");
    let nonce = [0, 0, 0, 0, a, b, c, d, e, f, g, h];
    (LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce))
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};

    use super::*;

    /// draft-irtf-cfrg-xchacha-03, A.3.1.
    #[test]
    fn cipher_known_answer() {
        let mut key = [0; 32];
        for (position, byte) in key.iter_mut().enumerate() {
            *byte = 0x80 + u8::try_from(position).unwrap();
        }
        let mut nonce = [0; 24];
        for (position, byte) in nonce.iter_mut().enumerate() {
            *byte = 0x40 + u8::try_from(position).unwrap();
        }
        let ad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
                      for the future, sunscreen would be it.";
        let sealed = XChaCha20Poly1305::new(&key.into())
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: &ad })
            .unwrap();
        assert_eq!(
            &sealed[..16],
            [
                0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b, 0x95, 0x76, 0x57, 0x94, 0x93, 0xc0,
                0xe9, 0x39
            ]
        );
        assert_eq!(
            &sealed[plain.len()..],
            [
                0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a,
                0xcf, 0x49
            ]
        );
        let data = DataKey(Zeroizing::new(key));
        assert_eq!(data.open(&nonce, &sealed, &ad).unwrap(), plain);
        // And the other way round, for lengths about the cipher's blocks.
        let theirs = XChaCha20Poly1305::new(&key.into());
        for length in [0, 1, 15, 16, 17, 63, 64, 65, 4096] {
            let plain = vec![b'x'; length];
            let (nonce, sealed) = data.seal(&plain, &ad);
            let opened = theirs
                .decrypt(XNonce::from_slice(&nonce), Payload { msg: &sealed, aad: &ad })
                .unwrap();
            assert_eq!(opened, plain);
        }
    }

    #[test]
    fn what_is_sealed_opens_only_with_key_and_associated_data() {
        let key = DataKey::generate();
        let (nonce, sealed) = key.seal(b"hello", b"room row 1");
        assert_eq!(key.open(&nonce, &sealed, b"room row 1").unwrap(), b"hello");
        assert_eq!(key.open(&nonce, &sealed, b"room row 2"), Err(DecryptError));
        assert_eq!(DataKey::generate().open(&nonce, &sealed, b"room row 1"), Err(DecryptError));
        assert_eq!(key.open(&nonce[..23], &sealed, b"room row 1"), Err(DecryptError));
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert_eq!(key.open(&nonce, &changed, b"room row 1"), Err(DecryptError));
        }
        assert_eq!(key.open(&nonce, &[], b"room row 1"), Err(DecryptError));
    }

    #[test]
    fn keys_are_wrapped_by_the_key_of_one_secret() {
        let kek = KeyEncryptionKey::derive(&Secret::new(b"a".to_vec()));
        let other = KeyEncryptionKey::derive(&Secret::new(b"b".to_vec()));
        assert_ne!(kek.id(), other.id());
        let key = DataKey::generate();
        let (nonce, wrapped) = kek.wrap(&key, b"user key");
        let back = kek.unwrap(&nonce, &wrapped, b"user key").unwrap();
        assert_eq!(back.0, key.0);
        assert!(other.unwrap(&nonce, &wrapped, b"user key").is_err());
        assert!(kek.unwrap(&nonce, &wrapped, b"other key").is_err());
    }

    #[test]
    fn a_data_key_wraps_another_key() {
        let (by, key) = (DataKey::generate(), DataKey::generate());
        let (nonce, wrapped) = by.wrap(&key, b"file 1");
        assert_eq!(by.unwrap(&nonce, &wrapped, b"file 1").unwrap().0, key.0);
        assert!(by.unwrap(&nonce, &wrapped, b"file 2").is_err());
        assert!(DataKey::generate().unwrap(&nonce, &wrapped, b"file 1").is_err());
        let (nonce, short) = by.seal(&key.expose()[1..], b"file 1");
        assert!(by.unwrap(&nonce, &short, b"file 1").is_err(), "not a key");
    }

    /// Written by the first release; a change here makes every stored body unreadable.
    #[test]
    fn the_key_of_a_secret_never_changes() {
        let kek = KeyEncryptionKey::derive(&Secret::new(b"golden secret".to_vec()));
        assert_eq!(kek.id().to_string(), "8736727f871d3567");
        let expected = "8b6a16b6596147ab7b270049191da4a1be90e2729e3bf560b61d320addffb740";
        let key: String = kek.key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(key, expected);
    }

    #[test]
    fn keys_do_not_print() {
        let kek = KeyEncryptionKey::derive(&Secret::new(b"a".to_vec()));
        assert!(format!("{kek:?}").starts_with("key-encryption key "));
        assert_eq!(format!("{:?}", DataKey::generate()), "***");
    }
}
