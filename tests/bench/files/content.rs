//! What the benchmark's files contain.

use chatto::crypto::{Sha256State, hex, sha256};
use chatto::limits::UPLOAD_CHUNK_MAX_BYTES;
use fastrand::Rng;

/// The bytes of a file. Its hashes are computed before it is uploaded.
pub(super) struct Content {
    /// The file is this again and again, the last time as much as fits, so that a large file needs no memory.
    block: Vec<u8>,
    pub(super) size: usize,
    /// Of the whole file.
    pub(super) sha256: String,
    /// Of a whole block and of the last one.
    block_sha256: [String; 2],
}

impl Content {
    /// A file of this size that nobody can compress.
    pub(super) fn random(size: usize) -> Self {
        let mut block = vec![0; UPLOAD_CHUNK_MAX_BYTES.min(size)];
        Rng::with_seed(size as u64).fill(&mut block);
        Self::new(block, size)
    }

    /// A file of these bytes.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let size = bytes.len();
        Self::new(bytes, size)
    }

    fn new(block: Vec<u8>, size: usize) -> Self {
        let block_sha256 = [&block[..], last_block(&block, size)].map(|block| hex(&sha256(block)));
        let mut content = Self { block, size, sha256: String::new(), block_sha256 };
        let mut hash = Sha256State::default();
        content.blocks().for_each(|block| hash.update(block));
        content.sha256 = hex(&hash.finish());
        content
    }

    /// The file in pieces; those of a random one are chunks of the contract.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        let (block, rest) = (&self.block[..], last_block(&self.block, self.size));
        let begins = (0..self.size).step_by(block.len());
        begins.map(move |begin| if begin + block.len() > self.size { rest } else { block })
    }

    /// The hash of one of these pieces.
    pub(super) fn sha256_of(&self, block: &[u8]) -> &str {
        let [whole, rest] = &self.block_sha256;
        if block.len() == self.block.len() { whole } else { rest }
    }
}

fn last_block(block: &[u8], size: usize) -> &[u8] {
    &block[..size % block.len()]
}
