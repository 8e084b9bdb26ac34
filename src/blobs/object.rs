//! Files in S3: an object each, whose key is the file's id, with the bytes as they are or encrypted.
//!
//! Callers see the bytes of the file only. A part of an encrypted object consists of whole chunks. So a writer that goes
//! on in another process begins with a new chunk, and nothing is encrypted again of which S3 has a piece.

use std::convert::Infallible;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::cipher::{OBJECT_CHUNK_BYTES, sealed_bytes};
use super::s3::{self, S3, S3Error};
use super::{BlobError, FileCipher};
use crate::domain::Multipart;
use crate::runtime::MemorySlots;

/// A multipart upload that is not begun, for a file of this size.
#[must_use]
pub fn new_multipart(size: u64, is_encrypted: bool) -> Multipart {
    // A multiple of a MiB, and so of a chunk.
    let part_size = s3::part_size(s3::Length::Known(size));
    let part_size = if is_encrypted { sealed_bytes(part_size) } else { part_size };
    Multipart { id: None, part_size, etags: Vec::new() }
}

/// Takes the bytes of a file. It keeps at most a part and a chunk of them in memory.
pub struct ObjectWriter {
    upload: s3::Upload,
    cipher: FileCipher,
    /// The bytes of the chunk that is not full, if the object is encrypted...
    chunk: Vec<u8>,
    /// ...and where it begins in the file.
    begin: u64,
}

impl ObjectWriter {
    /// Goes on after the parts that S3 has.
    pub(super) fn resume(s3: S3, cipher: FileCipher, parts: &Multipart) -> Self {
        let part = |(number, etag): (u32, &String)| s3::Part {
            number,
            etag: etag.clone(),
            size: parts.part_size,
        };
        let progress = s3::Progress {
            key: cipher.id.to_string(),
            part_size: usize::try_from(parts.part_size).unwrap_or(usize::MAX),
            id: parts.id.clone().map(s3::UploadId),
            parts: (1..).zip(&parts.etags).map(part).collect(),
        };
        let upload = s3::Upload::resume(s3, progress);
        let begin = cipher.file_bytes(upload.stored_bytes());
        Self { upload, cipher, chunk: Vec::new(), begin }
    }

    /// Lets the next part be filled while one is sent; see [`s3::Upload::with_spare_memory`].
    #[must_use]
    pub fn with_spare_memory(self, slots: MemorySlots) -> Self {
        Self { upload: self.upload.with_spare_memory(slots), ..self }
    }

    /// The parts that S3 has. Bytes that are in memory are not counted: after a resume they come again.
    #[must_use]
    pub fn parts(&self) -> Multipart {
        let progress = self.upload.progress();
        Multipart {
            id: progress.id.as_ref().map(|id| id.0.clone()),
            part_size: u64::try_from(progress.part_size).unwrap_or(u64::MAX),
            etags: progress.parts.iter().map(|part| part.etag.clone()).collect(),
        }
    }

    /// How many bytes of the file S3 has, which is where a resumed writer begins.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.cipher.file_bytes(self.upload.stored_bytes())
    }

    /// Takes the next bytes, and sends parts that are full.
    ///
    /// # Errors
    /// After an error nothing may be written any more; resume from [`Self::parts`].
    ///
    /// # Cancel safety
    /// Not cancel safe: resume from [`Self::parts`].
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        if !self.cipher.encrypted {
            return Ok(self.upload.write(bytes).await?);
        }
        while !bytes.is_empty() {
            // A full part leaves with the next byte of the file, as it does from a plain object.
            self.upload.send_full_part().await?;
            let free = OBJECT_CHUNK_BYTES.saturating_sub(self.chunk.len());
            let (taken, rest) = bytes.split_at(free.min(bytes.len()));
            self.chunk.extend_from_slice(taken);
            bytes = rest;
            if self.chunk.len() >= OBJECT_CHUNK_BYTES {
                self.seal_chunk().await?;
            }
        }
        Ok(())
    }

    async fn seal_chunk(&mut self) -> Result<(), BlobError> {
        let sealed = self.cipher.seal(self.begin, &self.chunk);
        self.begin = self.begin.saturating_add(length(&self.chunk));
        self.chunk.clear();
        Ok(self.upload.write(&sealed).await?)
    }

    /// Sends the part that is on its way; see [`s3::Upload::drive`].
    pub async fn drive(&mut self) -> Infallible {
        self.upload.drive().await
    }

    /// Stores the object.
    ///
    /// # Cancel safety
    /// After a drop the object is there as a whole or not at all.
    pub async fn finish(mut self) -> Result<(), BlobError> {
        if !self.chunk.is_empty() {
            self.seal_chunk().await?;
        }
        Ok(self.upload.finish().await?)
    }

    /// Removes the parts that S3 has; nothing may be written any more.
    pub async fn abort(&mut self) -> Result<(), BlobError> {
        Ok(self.upload.abort().await?)
    }
}

/// Reads a range of a file. Of an encrypted object it keeps a chunk in memory, and what came with it.
pub struct ObjectReader {
    s3: S3,
    cipher: FileCipher,
    /// Of the file.
    size: u64,
    /// What was not returned yet; of a plain object, all that was asked for.
    range: Range<u64>,
    /// Begun with the first read.
    download: Option<Box<s3::Download>>,
    /// The beginning of the next chunk.
    sealed: BytesMut,
}

impl ObjectReader {
    /// Bytes `range` of the file.
    pub(super) fn new(s3: S3, cipher: FileCipher, size: u64, range: Range<u64>) -> Self {
        Self { s3, cipher, size, range, download: None, sealed: BytesMut::new() }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Cancel safety
    /// Not cancel safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        if self.range.is_empty() {
            // Reading to its end frees the connection for the next request.
            if let Some(mut download) = self.download.take() {
                download.next().await?;
            }
            return Ok(None);
        }
        if !self.cipher.encrypted {
            return self.next_stored().await;
        }
        let Range { start, end } = self.chunk_at(self.range.start);
        let sealed = self.cipher.object_bytes(end.saturating_sub(start));
        let sealed = usize::try_from(sealed).unwrap_or(usize::MAX);
        while self.sealed.len() < sealed {
            let bytes = self.next_stored().await?.ok_or(BlobError::Damaged)?;
            self.sealed.extend_from_slice(&bytes);
        }
        let chunk = Bytes::from(self.cipher.open(start, &self.sealed.split_to(sealed))?);
        let within = |at: u64| {
            usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(chunk.len())
        };
        let bytes = chunk.slice(within(self.range.start)..within(self.range.end));
        self.range.start = end;
        Ok(Some(bytes))
    }

    /// Where the chunk with this byte of the file begins and ends.
    fn chunk_at(&self, byte: u64) -> Range<u64> {
        let length = OBJECT_CHUNK_BYTES as u64;
        let start = byte - byte % length;
        start..start.saturating_add(length).min(self.size)
    }

    /// The next bytes of the object.
    async fn next_stored(&mut self) -> Result<Option<Bytes>, BlobError> {
        let download = match &mut self.download {
            Some(download) => download,
            None => {
                let opened = self.s3.get(self.cipher.id.as_str(), Some(self.stored_range())).await;
                self.download.insert(Box::new(opened.map_err(missing)?))
            }
        };
        Ok(download.next().await?)
    }

    /// The bytes of the object that hold those of the file; of an encrypted one whole chunks.
    fn stored_range(&self) -> Range<u64> {
        if !self.cipher.encrypted {
            return self.range.clone();
        }
        let first = self.chunk_at(self.range.start);
        let last = self.chunk_at(self.range.end.saturating_sub(1));
        self.cipher.object_bytes(first.start)..self.cipher.object_bytes(last.end)
    }
}

/// An object that is not there is a file without its bytes; one that is too short was cut.
fn missing(error: S3Error) -> BlobError {
    match error {
        S3Error::NotFound => BlobError::Missing,
        S3Error::RangeBeyondEnd => BlobError::Damaged,
        error => error.into(),
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_object_has_as_many_parts_and_each_is_whole_chunks() {
        for size in [0, 1, 5 << 20, 26 << 20, 60 << 30, 5 << 40] {
            let (plain, encrypted) = (new_multipart(size, false), new_multipart(size, true));
            let parts = size.div_ceil(plain.part_size);
            assert_eq!(sealed_bytes(size).div_ceil(encrypted.part_size), parts, "{size}");
            let chunk = sealed_bytes(OBJECT_CHUNK_BYTES as u64);
            assert_eq!(encrypted.part_size % chunk, 0, "{size}");
            assert_eq!(encrypted.part_size / chunk * OBJECT_CHUNK_BYTES as u64, plain.part_size);
        }
    }
}
