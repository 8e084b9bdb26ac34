//! Where the bytes of files are: in NATS or in a bucket of S3. It knows files by their id and neither rooms nor rights.

mod cipher;
mod error;
mod nats;
mod object;
pub mod s3;
mod variants;

pub use cipher::{FileCipher, OBJECT_CHUNK_BYTES, SEAL_BYTES, sealed_bytes};
pub use error::BlobError;
pub use nats::{ChunkReader, ChunkStore};
pub use object::{ObjectReader, ObjectWriter, new_multipart};
pub use variants::{KeptVariant, VariantCache};

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::{AssetId, File, FileLocation, Multipart};
use crate::limits::{S3_CHECK_RETRY_FIRST, S3_CHECK_RETRY_MAX, S3_REDIRECT_TTL};
use crate::nats::Nats;
use crate::runtime::{Backoff, Clock, Stop};
use s3::{Bucket, S3, S3Error};

/// Where new files go, and the bucket of older ones.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `core.assets.storage_backend` is `s3`.
    pub uploads_to_s3: bool,
    /// `core.assets.encrypt`: new attachments are encrypted with a key of their uploader.
    pub encrypt: bool,
    /// The bucket of `core.assets.s3.*`.
    pub s3: Option<S3>,
    /// `core.assets.s3.redirect_above`: larger files in S3 may be fetched there, in bytes. `None`: never.
    pub redirect_above: Option<u64>,
    /// `core.assets.cache.max_size`; 0 if `core.assets.cache.enabled` is not set.
    pub cache_max_bytes: u64,
    /// `core.assets.cache.ttl`, at least a second.
    pub cache_ttl: Duration,
}

/// The bytes of files. Clones share everything.
#[derive(Clone)]
pub struct Blobs {
    /// Files in NATS.
    pub files: ChunkStore,
    /// Chunks on their way to S3.
    pub staged: ChunkStore,
    /// Variants of images.
    pub variants: VariantCache,
    config: Config,
    clock: Clock,
}

impl Blobs {
    /// Starts nothing; [`Self::prepare`] checks the bucket.
    #[must_use]
    pub fn build(config: Config, nats: &Nats, clock: &Clock) -> Self {
        Self {
            files: ChunkStore::assets(nats.clone(), clock.clone()),
            staged: ChunkStore::uploads(nats.clone(), clock.clone()),
            variants: VariantCache::new(nats.clone(), config.cache_max_bytes, config.cache_ttl),
            config,
            clock: clock.clone(),
        }
    }

    /// Where a new file goes.
    ///
    /// # Errors
    /// [`BlobError::DiskLow`] when that place takes none now.
    pub fn location(&self) -> Result<FileLocation, BlobError> {
        if self.config.uploads_to_s3 {
            return Ok(FileLocation::S3);
        }
        self.files.check_free_disk().map(|()| FileLocation::Nats(Vec::new()))
    }

    /// Whether a new attachment is encrypted with a key of its uploader.
    #[must_use]
    pub fn encrypts_uploads(&self) -> bool {
        self.config.encrypt
    }

    /// The bucket.
    ///
    /// # Errors
    /// [`BlobError::NoBucket`] when the settings name none.
    pub fn s3(&self) -> Result<&S3, BlobError> {
        self.config.s3.as_ref().ok_or(BlobError::NoBucket)
    }

    /// Checks the bucket, creating it if it does not exist, until that succeeds. `None`: stopped, or new files go to
    /// NATS. Uploads fail meanwhile, and the rest of the server does not wait.
    pub async fn prepare(&self, stop: &Stop) -> Option<Bucket> {
        let s3 = self.config.s3.as_ref().filter(|_| self.config.uploads_to_s3)?;
        let mut backoff = Backoff::new(S3_CHECK_RETRY_FIRST, S3_CHECK_RETRY_MAX);
        loop {
            match stop.or(Box::pin(s3.check())).await? {
                Ok(found) => {
                    log::info!(bucket = s3.bucket(), found:? = found; "the S3 bucket can be used");
                    return Some(found);
                }
                Err(error) => {
                    // The reason is logged when it changes, not each time.
                    log::debug!(error:err = error; "the S3 bucket will be checked again");
                }
            }
            stop.or(self.clock.sleep(backoff.delay())).await?;
        }
    }

    /// Waits until requests to the bucket fail. `None`: stopped.
    pub async fn wait_until_unusable(&self, stop: &Stop) -> Option<()> {
        let is_unusable = || self.s3().is_ok_and(|s3| s3.health().usable == Some(false));
        while !is_unusable() {
            stop.or(self.clock.sleep(S3_CHECK_RETRY_FIRST)).await?;
        }
        Some(())
    }

    /// Bytes `range` of a file.
    pub fn read(
        &self,
        file: File,
        cipher: FileCipher,
        range: Range<u64>,
    ) -> Result<BlobReader, BlobError> {
        Ok(match file.location {
            FileLocation::Nats(chunks) => {
                let files = self.files.clone();
                BlobReader::Nats(Box::new(ChunkReader::new(files, cipher, chunks, range)))
            }
            FileLocation::S3 => {
                let s3 = self.s3()?.clone();
                BlobReader::S3(Box::new(ObjectReader::new(s3, cipher, file.size, range)))
            }
        })
    }

    /// Writes the object of a file, after the parts that S3 has.
    pub fn write_object(
        &self,
        cipher: FileCipher,
        parts: &Multipart,
    ) -> Result<ObjectWriter, BlobError> {
        Ok(ObjectWriter::resume(self.s3()?.clone(), cipher, parts))
    }

    /// Whether the object of a file of this size is there and has its size.
    pub async fn is_object_whole(&self, cipher: &FileCipher, size: u64) -> Result<bool, BlobError> {
        match self.s3()?.head(cipher.id.as_str()).await {
            Ok(object) => Ok(object.size == cipher.object_bytes(size)),
            Err(S3Error::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A URL at which anybody can fetch a file for [`S3_REDIRECT_TTL`], if it is one that may be fetched there: never
    /// an encrypted one.
    pub async fn redirect(
        &self,
        file: &File,
        content_type: &str,
        disposition: &str,
    ) -> Result<Option<String>, BlobError> {
        let is_larger = self.config.redirect_above.is_some_and(|above| file.size > above);
        if file.location != FileLocation::S3 || file.encrypted || !is_larger {
            return Ok(None);
        }
        let how = s3::Presigned { ttl: S3_REDIRECT_TTL, content_type, disposition };
        Ok(Some(self.s3()?.presign_get(file.id.as_str(), &how).await?))
    }

    /// Removes the bytes of a file, and what was made or staged of it. Of one in NATS the bucket is not asked: if a move
    /// may have left something there, [`Self::erase_object`] removes it.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn erase(&self, file: &File) -> Result<(), BlobError> {
        self.variants.purge(&file.id).await?;
        self.files.purge(&file.id).await?;
        self.staged.purge(&file.id).await?;
        match file.location {
            FileLocation::Nats(_) => Ok(()),
            FileLocation::S3 => self.erase_object(&file.id).await,
        }
    }

    /// Removes what the bucket has of a file: its object and its unfinished multipart uploads.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn erase_object(&self, id: &AssetId) -> Result<(), BlobError> {
        let s3 = self.s3()?;
        let key = id.as_str();
        let mut after = None;
        loop {
            let unfinished = s3.list_multipart(key, after.as_ref()).await?;
            for upload in unfinished.entries.iter().filter(|upload| upload.key == key) {
                s3.abort(key, &upload.id).await?;
            }
            after = unfinished.next;
            if after.is_none() {
                break;
            }
        }
        self.files.wait_for_epoch_check().await?;
        Ok(s3.delete(key).await?)
    }
}

/// Reads a range of a file.
pub enum BlobReader {
    /// In memory.
    Memory(Bytes),
    Nats(Box<ChunkReader>),
    S3(Box<ObjectReader>),
}

impl BlobReader {
    /// The next bytes; `None` at the end.
    ///
    /// # Cancel safety
    /// Not cancel safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        match self {
            Self::Memory(bytes) if bytes.is_empty() => Ok(None),
            Self::Memory(bytes) => Ok(Some(std::mem::take(bytes))),
            Self::Nats(reader) => reader.next().await,
            Self::S3(reader) => reader.next().await,
        }
    }
}
