//! Encryption of the bytes of files, in chunks that are bound to their file and to their place in it.
//!
//! So a range can be read without the rest, and no chunk can stand in for another. A chunk is a random nonce and what it
//! encrypts. In NATS each chunk is a message, as long as it came, and the file's record lists them. An encrypted object in
//! S3 is one chunk after the other, all of [`OBJECT_CHUNK_BYTES`] of the file but a shorter last one: the places of all
//! chunks and the size of the object follow from the size of the file.

use bytes::Bytes;

use super::BlobError;
use crate::crypto::{DataKey, NONCE_BYTES, Sha256State, TAG_BYTES};
use crate::domain::{AssetId, File};

/// Bytes of the file in each chunk of an object. Few, because reading a single byte costs a chunk. It never changes, as
/// stored objects do not say it.
pub const OBJECT_CHUNK_BYTES: usize = 64 * 1024;
/// By which a chunk becomes longer.
pub const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;
const CHUNK_BYTES: u64 = OBJECT_CHUNK_BYTES as u64;

/// Encrypts the bytes of one file.
#[derive(Clone)]
pub struct FileCipher {
    pub id: AssetId,
    pub key: DataKey,
    /// Whether it is an encrypted file: then its object in S3 is encrypted too, as its chunks in NATS always are.
    pub encrypted: bool,
}

impl FileCipher {
    /// That of a file with this key.
    #[must_use]
    pub fn of(file: &File, key: DataKey) -> Self {
        Self { id: file.id, key, encrypted: file.encrypted }
    }

    /// Bytes of the object that holds so many bytes of the file; also where the chunk that begins there in the file
    /// begins in the object.
    #[must_use]
    pub fn object_bytes(&self, file_bytes: u64) -> u64 {
        if self.encrypted { sealed_bytes(file_bytes) } else { file_bytes }
    }

    /// Bytes of the file that so many bytes of its object hold, which end with a chunk.
    pub(super) fn file_bytes(&self, object_bytes: u64) -> u64 {
        if !self.encrypted {
            return object_bytes;
        }
        let chunks = object_bytes.div_ceil(CHUNK_BYTES + SEAL_BYTES as u64);
        object_bytes.saturating_sub(chunks.saturating_mul(SEAL_BYTES as u64))
    }

    /// Encrypts the chunk that begins at this byte of the file.
    pub(super) fn seal(&self, begin: u64, plain: &[u8]) -> Bytes {
        self.seal_as(&self.associated_data(begin), plain)
    }

    /// Decrypts the chunk that begins at this byte of the file.
    ///
    /// # Errors
    /// [`BlobError::Damaged`]
    pub fn open(&self, begin: u64, stored: &[u8]) -> Result<Vec<u8>, BlobError> {
        self.open_as(&self.associated_data(begin), stored)
    }

    /// Encrypts something else that belongs to the file.
    pub(super) fn seal_as(&self, associated_data: &[u8], plain: &[u8]) -> Bytes {
        self.key.seal_with_nonce(plain, associated_data).into()
    }

    /// Decrypts the result of [`Self::seal_as`].
    pub(super) fn open_as(
        &self,
        associated_data: &[u8],
        stored: &[u8],
    ) -> Result<Vec<u8>, BlobError> {
        let (nonce, sealed) = stored.split_at_checked(NONCE_BYTES).ok_or(BlobError::Damaged)?;
        self.key.open(nonce, sealed, associated_data).map_err(|_| BlobError::Damaged)
    }

    /// What is stored of the hash of an upload that is not complete. It contains up to 63 bytes of the file.
    #[must_use]
    pub fn seal_hash(&self, state: &Sha256State) -> Vec<u8> {
        let state = state.to_bytes();
        match self.encrypted {
            true => self.seal_as(&self.hash_associated_data(), &state).into(),
            false => state,
        }
    }

    /// Reads the result of [`Self::seal_hash`].
    pub fn open_hash(&self, stored: &[u8]) -> Result<Sha256State, BlobError> {
        let state = match self.encrypted {
            true => self.open_as(&self.hash_associated_data(), stored)?,
            false => stored.to_vec(),
        };
        Sha256State::from_bytes(&state).map_err(|_| BlobError::Damaged)
    }

    fn hash_associated_data(&self) -> Vec<u8> {
        format!("chatto hash v1 {}", self.id).into_bytes()
    }

    fn associated_data(&self, begin: u64) -> Vec<u8> {
        format!("chatto file v1 {} {begin}", self.id).into_bytes()
    }
}

/// Bytes of the encrypted object that holds so many bytes of a file.
#[must_use]
pub fn sealed_bytes(file_bytes: u64) -> u64 {
    let chunks = file_bytes.div_ceil(CHUNK_BYTES);
    file_bytes.saturating_add(chunks.saturating_mul(SEAL_BYTES as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::FileGroup;

    fn cipher(number: u64, encrypted: bool) -> FileCipher {
        let id = AssetId::new(FileGroup::SERVER, number);
        FileCipher { id, key: DataKey::from_slice(&[7; 32]).unwrap(), encrypted }
    }

    #[test]
    fn the_size_of_an_object_follows_from_that_of_its_file() {
        let (plain, encrypted) = (cipher(1, false), cipher(1, true));
        for (file, object) in [
            (0, 0),
            (1, 41),
            (65_535, 65_575),
            (65_536, 65_576),
            (65_537, 65_617),
            (5 << 20, (5 << 20) + 80 * 40),
        ] {
            assert_eq!((plain.object_bytes(file), plain.file_bytes(file)), (file, file));
            assert_eq!(encrypted.object_bytes(file), object);
            assert_eq!(encrypted.file_bytes(object), file);
            let sealed = encrypted.seal(0, &vec![0; usize::try_from(file).unwrap()]);
            assert!(file > 65_536 || file == 0 || sealed.len() as u64 == object);
        }
    }

    #[test]
    fn the_hash_of_an_encrypted_file_is_stored_encrypted() {
        let mut hash = Sha256State::default();
        hash.update(b"a text of less than a block");
        for is_encrypted in [false, true] {
            let stored = cipher(1, is_encrypted).seal_hash(&hash);
            assert_eq!(stored.ends_with(b"a block"), !is_encrypted);
            assert_eq!(cipher(1, is_encrypted).open_hash(&stored).unwrap(), hash);
            assert!(cipher(1, !is_encrypted).open_hash(&stored).is_err());
        }
    }

    #[test]
    fn a_chunk_is_of_its_file_and_place() {
        let chunk = cipher(1, true).seal(65_536, b"bytes");
        assert_eq!(cipher(1, false).open(65_536, &chunk).unwrap(), b"bytes");
        for (cipher, begin) in [(cipher(1, true), 0), (cipher(2, true), 65_536)] {
            assert!(matches!(cipher.open(begin, &chunk), Err(BlobError::Damaged)));
        }
        for length in [0, 23, 24, chunk.len() - 1] {
            let cut = cipher(1, true).open(65_536, &chunk[..length]);
            assert!(matches!(cut, Err(BlobError::Damaged)));
        }
    }
}
