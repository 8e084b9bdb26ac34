//! Uploads in one request: the bytes go straight through to their backend.

use bytes::Bytes;

use super::uploads::{
    UploadError, UploadView, Uploads, check_chunk_count, check_fits, check_whole, detect,
};
use super::{FileView, Session};
use crate::blobs::{BlobError, FileCipher, ObjectWriter};
use crate::crypto::Sha256State;
use crate::domain::{AssetId, Chunk, FileLocation, Multipart, Upload, UploadStatus};
use crate::runtime::SlotGuard;

/// Bytes between two writes of the upload's record.
const SAVE_BYTES: u64 = 8 << 20;

/// An upload whose bytes arrive in one request.
pub struct UploadStream<'a> {
    pub(super) uploads: Uploads<'a>,
    pub(super) cipher: FileCipher,
    pub(super) upload: Upload,
    pub(super) revision: u64,
    pub(super) target: StreamTarget,
    pub(super) hash: Sha256State,
    /// Bytes so far.
    pub(super) received: u64,
    /// Of them, when the upload's record was last written.
    pub(super) saved: u64,
}

/// Where the bytes go.
pub(super) enum StreamTarget {
    Nats,
    S3 {
        sink: Box<ObjectWriter>,
        _slot: SlotGuard,
    },
    /// Nowhere: the file is complete.
    Complete,
}

impl UploadStream<'_> {
    /// Takes the next bytes, [`UPLOAD_CHUNK_MAX_BYTES`](crate::limits::UPLOAD_CHUNK_MAX_BYTES) at most.
    ///
    /// # Cancel safety
    /// After dropping it, chunks can follow what the record names, which is written every 8 MiB (in S3: only a new
    /// stream can, from the first byte).
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        check_fits(&self.upload, self.received, bytes.len())?;
        match &mut self.target {
            StreamTarget::Nats => {
                check_chunk_count(&self.upload)?;
                let files = &self.uploads.blobs.files;
                let chunk = Box::pin(files.put(&self.cipher, self.received, bytes)).await?;
                self.upload.chunks.push(chunk);
            }
            StreamTarget::S3 { sink, .. } => {
                Box::pin(sink.write(Bytes::copy_from_slice(bytes))).await?;
            }
            StreamTarget::Complete => {}
        }
        self.hash.update(bytes);
        self.upload.detected.get_or_insert_with(|| detect(bytes));
        self.received =
            self.received.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        // The record must not end while the upload goes on, and names what a kill would leave.
        if self.received.saturating_sub(self.saved) >= SAVE_BYTES {
            self.save().await
        } else {
            Ok(())
        }
    }

    /// Makes what was taken the file.
    pub async fn complete(
        mut self,
        session: &Session,
    ) -> Result<(UploadView, FileView), UploadError> {
        check_whole(&self.upload, self.received, self.hash.clone())?;
        self.upload.offset = self.received;
        self.upload.hash = self.cipher.seal_hash(&self.hash);
        let (uploads, id) = (self.uploads, self.cipher.id);
        let in_s3 = match self.target {
            StreamTarget::Nats => false,
            StreamTarget::Complete => return uploads.complete(session, id.as_str()).await,
            StreamTarget::S3 { sink, _slot } => {
                Box::pin(sink.finish()).await?;
                true
            }
        };
        let own = self.upload.chunks.clone();
        match uploads.close(session, id, self.upload, self.revision).await {
            Ok(upload) => {
                // Another request for the same file may have been first.
                if upload.chunks != own {
                    remove_unlisted(uploads, id, &own).await;
                }
                if !in_s3 {
                    uploads.remove_other_chunks(id, &upload).await?;
                }
                uploads.publish(id, &upload).await
            }
            Err(UploadError::Closed) => {
                // Cancelled: what came afterwards has no record.
                remove_unlisted(uploads, id, &own).await;
                if in_s3 {
                    uploads.blobs.s3()?.delete(id.as_str()).await.map_err(BlobError::from)?;
                }
                Err(UploadError::Closed)
            }
            // The upload may be complete all the same, and its chunks the file.
            Err(error) => Err(error),
        }
    }

    async fn save(&mut self) -> Result<(), UploadError> {
        match &self.target {
            // Chunks can go on where a stream was cut.
            StreamTarget::Nats => {
                self.upload.offset = self.received;
                self.upload.hash = self.cipher.seal_hash(&self.hash);
            }
            StreamTarget::Complete => return Ok(()),
            // Only what is needed to remove the parts: chunks cannot go on after these.
            StreamTarget::S3 { sink, .. } => {
                self.upload.parts = Some(Multipart { etags: Vec::new(), ..sink.parts() });
            }
        }
        self.upload.updated_ms = self.uploads.clock.unix_ms();
        let service = &self.uploads;
        let records = service.storage.uploads();
        let saved = records.put(&self.cipher.id, &self.upload, self.revision).await?;
        let Some(revision) = saved else {
            // Cancelled, or another request uploads the same file, perhaps from where the record was.
            remove_unlisted(*service, self.cipher.id, &self.upload.chunks).await;
            if let StreamTarget::S3 { sink, .. } = &self.target {
                Box::pin(sink.abort()).await?;
            }
            return Err(UploadError::Conflict);
        };
        (self.revision, self.saved) = (revision, self.received);
        Ok(())
    }
}

/// Removes those of a stream's chunks that neither its upload nor the file lists. Only the stream knows them, so nobody
/// can list them later.
async fn remove_unlisted(uploads: Uploads<'_>, id: AssetId, own: &[Chunk]) {
    let removed = async {
        let listed = listed_chunks(uploads, id).await?;
        for chunk in own.iter().filter(|chunk| !listed.contains(chunk)) {
            uploads.blobs.files.remove(*chunk).await?;
        }
        Ok::<(), UploadError>(())
    };
    if let Err(error) = removed.await {
        log::warn!(error:err = error; "chunks of no file stay in the store until the file is deleted");
    }
}

/// The chunks that the record of an upload names, or after its end that of the file.
async fn listed_chunks(uploads: Uploads<'_>, id: AssetId) -> Result<Vec<Chunk>, UploadError> {
    match uploads.storage.uploads().get(&id).await?.0 {
        Some(upload) if upload.status != UploadStatus::Cancelled => Ok(upload.chunks),
        _ => match uploads.storage.files().get(&id).await?.map(|file| file.location) {
            Some(FileLocation::Nats(chunks)) => Ok(chunks),
            Some(FileLocation::S3) | None => Ok(Vec::new()),
        },
    }
}
