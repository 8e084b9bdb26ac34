//! Where the bytes of files are: in NATS or in a bucket of S3. It knows files by their id and neither rooms nor rights.

mod error;
mod nats;
pub mod s3;

pub use error::BlobError;
pub use nats::{ChunkReader, ChunkStore, FileCipher};

use bytes::Bytes;

/// Reads a range of a file.
pub enum BlobReader {
    Nats(ChunkReader),
}

impl BlobReader {
    /// The next bytes; `None` at the end.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        match self {
            Self::Nats(reader) => reader.next().await,
        }
    }
}
