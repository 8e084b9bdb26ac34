//! SHA-256 (FIPS 180-4) whose state can be stored between two pieces, so that another process goes on with it.
//!
//! `sha2` has the compression function and no way to store its hasher; the padding around it is here.

use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

const BLOCK: usize = 64;
/// Eight words of state and the length in bytes; up to 63 bytes follow.
const FIXED_BYTES: usize = 8 * 4 + 8;
/// The initial hash value: FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// These bytes are not a stored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the state of a hash")]
pub struct HashStateError;

/// The hash of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sha256State {
    words: [u32; 8],
    length: u64,
    /// Bytes of the block that is not complete.
    rest: Vec<u8>,
}

impl Default for Sha256State {
    fn default() -> Self {
        Self { words: INITIAL, length: 0, rest: Vec::new() }
    }
}

impl Sha256State {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.length = self.length.wrapping_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let missing = if self.rest.is_empty() { 0 } else { BLOCK - self.rest.len() };
        let (head, bytes) = bytes.split_at(missing.min(bytes.len()));
        self.rest.extend_from_slice(head);
        if self.rest.len() == BLOCK {
            compress256(&mut self.words, &[*GenericArray::from_slice(&self.rest)]);
            self.rest.clear();
        }
        let blocks = bytes.chunks_exact(BLOCK);
        self.rest.extend_from_slice(blocks.remainder());
        for block in blocks {
            compress256(&mut self.words, &[*GenericArray::from_slice(block)]);
        }
    }

    /// The hash of all bytes.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        let bits = self.length.wrapping_mul(8);
        let zeros = (2 * BLOCK - 9 - self.rest.len()) % BLOCK;
        let mut padding = vec![0x80];
        padding.resize(1 + zeros, 0);
        padding.extend_from_slice(&bits.to_be_bytes());
        self.update(&padding);
        let mut hash = [0; 32];
        for (bytes, word) in hash.chunks_exact_mut(4).zip(self.words) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        hash
    }

    /// The state as 40 to 103 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = self.words.iter().flat_map(|word| word.to_be_bytes());
        words.chain(self.length.to_be_bytes()).chain(self.rest.iter().copied()).collect()
    }

    /// Reads [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`HashStateError`] when the length does not fit the number of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HashStateError> {
        let (fixed, rest) = bytes.split_at_checked(FIXED_BYTES).ok_or(HashStateError)?;
        let (words, length) = fixed.split_at_checked(8 * 4).ok_or(HashStateError)?;
        let length = u64::from_be_bytes(length.try_into().map_err(|_| HashStateError)?);
        let rest_length = usize::try_from(length % 64).map_err(|_| HashStateError)?;
        if rest.len() != rest_length {
            return Err(HashStateError);
        }
        let mut state = Self { words: [0; 8], length, rest: rest.to_vec() };
        for (word, bytes) in state.words.iter_mut().zip(words.chunks_exact(4)) {
            *word = u32::from_be_bytes(bytes.try_into().map_err(|_| HashStateError)?);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;
    use proptest::prelude::*;

    #[test]
    fn lengths_around_the_padding_are_hashed_like_sha2() {
        for length in 0..200 {
            let bytes = vec![7; length];
            let mut state = Sha256State::default();
            state.update(&bytes);
            assert_eq!(state.finish(), sha256(&bytes), "{length}");
        }
    }

    #[test]
    fn foreign_bytes_are_no_state() {
        let mut state = Sha256State::default();
        state.update(b"abc");
        let bytes = state.to_bytes();
        assert_eq!(Sha256State::from_bytes(&bytes), Ok(state));
        assert!(Sha256State::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Sha256State::from_bytes(&[bytes.as_slice(), b"x"].concat()).is_err());
        assert!(Sha256State::from_bytes(b"").is_err());
    }

    proptest! {
        #[test]
        fn pieces_with_the_state_stored_between_them_hash_like_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)
        ) {
            let mut stored = Sha256State::default().to_bytes();
            for piece in &pieces {
                let mut state = Sha256State::from_bytes(&stored).unwrap();
                state.update(piece);
                stored = state.to_bytes();
            }
            let state = Sha256State::from_bytes(&stored).unwrap();
            prop_assert_eq!(state.finish(), sha256(&pieces.concat()));
        }
    }
}
