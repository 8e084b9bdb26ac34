//! An upload of any length with one part in memory.

use bytes::{Bytes, BytesMut};

use super::multipart::{Part, UploadId};
use super::{S3, S3Error};

/// A file up to this size gets a buffer of its size, any other one of a whole part.
const SMALL_BYTES: usize = 64 * 1024;

/// How far an upload has come: with this, [`Upload::resume`] goes on in another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Without prefix.
    pub key: String,
    pub part_size: usize,
    /// `None` while everything fits into the first part.
    pub id: Option<UploadId>,
    /// In order, from number 1, each of `part_size`.
    pub parts: Vec<Part>,
}

/// Takes the bytes of an object in chunks. It keeps at most one part in memory, and sends a part when the next byte
/// comes. So what fits into one part is one request, without a multipart upload, and the last part is never empty.
///
/// Dropping it leaves the parts that were sent: resume the upload later, or call [`Upload::abort`].
pub struct Upload {
    s3: S3,
    progress: Progress,
    buffer: BytesMut,
}

impl Upload {
    /// Begins an upload; nothing is sent before the second part has its first byte. `part_size` is from
    /// [`super::part_size`].
    #[must_use]
    pub fn new(s3: S3, key: &str, part_size: usize) -> Self {
        let key = key.to_owned();
        Self::resume(s3, Progress { key, part_size, id: None, parts: Vec::new() })
    }

    /// Goes on after the bytes of [`Progress::parts`].
    #[must_use]
    pub fn resume(s3: S3, progress: Progress) -> Self {
        Self { s3, progress, buffer: BytesMut::new() }
    }

    /// What is stored of this upload. Bytes that are in memory are not counted: after a resume they come again.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// How many bytes are stored, which is where a resumed upload begins.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.progress.parts.iter().map(|part| part.size).sum()
    }

    /// Takes the next bytes, and sends parts that are full.
    ///
    /// # Errors
    /// After an error nothing may be written anymore; resume the upload from its progress.
    ///
    /// # Cancel safety
    /// Not cancel safe: after a drop it is unknown which bytes were taken. Resume the upload from its progress.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<(), S3Error> {
        while !chunk.is_empty() {
            self.send_full_part().await?;
            let room = self.progress.part_size - self.buffer.len();
            let taken = chunk.split_to(room.min(chunk.len()));
            // A buffer that grows by doubling would take up to twice the part, and be copied each time.
            if self.buffer.len() + taken.len() > SMALL_BYTES {
                self.buffer.reserve(room);
            }
            self.buffer.extend_from_slice(&taken);
        }
        Ok(())
    }

    /// Sends the part in memory if it is full, as [`Self::write`] does before it takes a byte.
    pub async fn send_full_part(&mut self) -> Result<(), S3Error> {
        if self.buffer.len() >= self.progress.part_size { self.send_part().await } else { Ok(()) }
    }

    /// Stores the object.
    ///
    /// # Cancel safety
    /// After a drop the object is there as a whole or not at all.
    pub async fn finish(mut self) -> Result<(), S3Error> {
        if self.progress.id.is_none() {
            return self.s3.put(&self.progress.key, self.buffer.freeze()).await;
        }
        if !self.buffer.is_empty() {
            self.send_part().await?;
        }
        let Progress { key, id, parts, .. } = &self.progress;
        match id {
            Some(id) => self.s3.complete(key, id, parts).await,
            None => Err(S3Error::UploadMissing),
        }
    }

    /// Removes what is stored of this upload; nothing may be written any more.
    pub async fn abort(&self) -> Result<(), S3Error> {
        match &self.progress.id {
            Some(id) => self.s3.abort(&self.progress.key, id).await,
            None => Ok(()),
        }
    }

    async fn send_part(&mut self) -> Result<(), S3Error> {
        let Progress { key, id, parts, .. } = &mut self.progress;
        let id = match id {
            Some(id) => &*id,
            None => id.insert(self.s3.begin(key).await?),
        };
        let number = u32::try_from(parts.len() + 1).unwrap_or(u32::MAX);
        // The buffer is given away, so that the next part takes memory only after this one has released its own.
        let body = std::mem::take(&mut self.buffer).freeze();
        let part = Box::pin(self.s3.put_part(key, id, number, body)).await?;
        parts.push(part);
        Ok(())
    }
}
