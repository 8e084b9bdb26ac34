//! Files in S3: an object each, whose key is the file's id.

use std::ops::Range;

use bytes::Bytes;

use super::BlobError;
use super::s3::{self, S3, S3Error};
use crate::domain::{AssetId, Multipart};

/// A multipart upload that is not begun, for a file of this size.
#[must_use]
pub fn new_multipart(size: u64) -> Multipart {
    let part_size = s3::part_size(s3::Length::Known(size));
    Multipart { id: None, part_size, etags: Vec::new() }
}

/// Takes the bytes of a file. It keeps at most one part of them in memory.
pub struct ObjectWriter {
    upload: s3::Upload,
}

impl ObjectWriter {
    /// Goes on after the parts that S3 has.
    pub(super) fn resume(s3: S3, id: &AssetId, parts: &Multipart) -> Self {
        let part = |(number, etag): (u32, &String)| s3::Part {
            number,
            etag: etag.clone(),
            size: parts.part_size,
        };
        let progress = s3::Progress {
            key: id.to_string(),
            part_size: usize::try_from(parts.part_size).unwrap_or(usize::MAX),
            id: parts.id.clone().map(s3::UploadId),
            parts: (1..).zip(&parts.etags).map(part).collect(),
        };
        Self { upload: s3::Upload::resume(s3, progress) }
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
        self.upload.stored_bytes()
    }

    /// Takes the next bytes, and sends parts that are full.
    ///
    /// # Errors
    /// After an error nothing may be written any more; resume from [`Self::parts`].
    ///
    /// # Cancel safety
    /// Not cancel safe: resume from [`Self::parts`].
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        Ok(self.upload.write(bytes).await?)
    }

    /// Stores the object.
    ///
    /// # Cancel safety
    /// After a drop the object is there as a whole or not at all.
    pub async fn finish(self) -> Result<(), BlobError> {
        Ok(self.upload.finish().await?)
    }

    /// Removes the parts that S3 has; nothing may be written any more.
    pub async fn abort(&self) -> Result<(), BlobError> {
        Ok(self.upload.abort().await?)
    }
}

/// Reads a range of a file.
pub struct ObjectReader {
    s3: S3,
    id: AssetId,
    range: Range<u64>,
    /// Begun with the first read.
    download: Option<Box<s3::Download>>,
}

impl ObjectReader {
    /// Bytes `range` of the file.
    pub(super) fn new(s3: S3, id: AssetId, range: Range<u64>) -> Self {
        Self { s3, id, range, download: None }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Cancel safety
    /// Not cancel safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let download = match &mut self.download {
            Some(download) => download,
            None => {
                let opened = self.s3.get(self.id.as_str(), Some(self.range.clone())).await;
                self.download.insert(Box::new(opened.map_err(missing)?))
            }
        };
        Ok(download.next().await?)
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
