//! Uploads in one request: the bytes go straight through to their backend.

use std::convert::Infallible;

use super::upload_checks::{check_chunk_count, check_fits, check_whole};
use super::uploads::{UploadError, UploadView, Uploads, detect};
use super::{FileView, Session};
use crate::blobs::{FileCipher, ObjectWriter, new_multipart};
use crate::crypto::Sha256State;
use crate::domain::{AssetId, Chunk, FileLocation, FileState, Multipart, Upload, UploadStatus};
use crate::limits::{UPLOAD_CHUNK_MAX_BYTES, UPLOAD_STREAM_CHUNK_BYTES};
use crate::runtime::SlotGuard;

/// Bytes between two writes of the upload's record.
const SAVE_BYTES: u64 = 8 << 20;

/// An upload whose bytes arrive in one request.
pub struct UploadStream<'a> {
    uploads: Uploads<'a>,
    file: StreamedFile,
    /// Bytes when the upload's record was last written.
    saved: u64,
}

/// What a stream has taken. It borrows nothing, so that a task can complete it whatever becomes of the request.
pub struct StreamedFile {
    cipher: FileCipher,
    upload: Upload,
    revision: u64,
    target: StreamTarget,
    hash: Sha256State,
    /// Bytes so far.
    received: u64,
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

impl<'a> Uploads<'a> {
    /// Takes the whole file in one go, whatever came before. With S3 it waits until there is memory for a part. The
    /// bytes of a complete upload are only compared, so that a request whose response was lost can be repeated.
    ///
    /// # Cancel safety
    /// May be repeated. After dropping it, chunks may have to begin anew; [`Self::get`] says.
    pub async fn stream(
        self,
        session: &Session,
        id: &str,
    ) -> Result<UploadStream<'a>, UploadError> {
        let (id, upload, revision) = self.own(session, id).await?;
        self.check_room(session, upload.room.as_str())?;
        let cipher = self.cipher(id).await?;
        match upload.status {
            UploadStatus::Cancelled => Err(UploadError::Closed),
            UploadStatus::Completed => {
                let target = StreamTarget::Complete;
                Ok(UploadStream::new(self, StreamedFile::new(cipher, upload, revision, target)))
            }
            UploadStatus::Open => Box::pin(self.restart(cipher, upload, revision)).await,
        }
    }

    /// Takes the bytes of an open upload from the first on. The record says that nothing counts any more that came
    /// before; then that is removed. What is left of it after a kill goes when the upload ends.
    async fn restart(
        self,
        cipher: FileCipher,
        former: Upload,
        revision: u64,
    ) -> Result<UploadStream<'a>, UploadError> {
        let slot = match former.parts {
            Some(_) => Some(self.part_slots.take().await.map_err(|_| UploadError::Busy)?),
            None => None,
        };
        let new_parts = |_| new_multipart(former.size, cipher.encrypted);
        let upload = Upload {
            offset: 0,
            hash: cipher.seal_hash(&Sha256State::default()),
            chunks: Vec::new(),
            detected: None,
            parts: former.parts.as_ref().map(new_parts),
            updated_ms: self.clock.unix_ms(),
            ..former.clone()
        };
        let saved = self.storage.uploads().put(&cipher.id, &upload, revision).await?;
        let revision = saved.ok_or(UploadError::Conflict)?;
        self.remove_former(&cipher, &former).await?;
        let target = match slot {
            Some(slot) => {
                let sink = self.sink(&cipher, &upload)?.with_spare_memory(self.part_slots.clone());
                StreamTarget::S3 { sink: Box::new(sink), _slot: slot }
            }
            None => StreamTarget::Nats,
        };
        Ok(UploadStream::new(self, StreamedFile::new(cipher, upload, revision, target)))
    }
}

impl<'a> UploadStream<'a> {
    pub(super) fn new(uploads: Uploads<'a>, file: StreamedFile) -> Self {
        Self { uploads, file, saved: 0 }
    }

    /// How many bytes to hand over at a time: a chunk of the file in NATS. S3 has parts, into which they are copied.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        match self.file.target {
            StreamTarget::Nats => UPLOAD_CHUNK_MAX_BYTES,
            StreamTarget::S3 { .. } | StreamTarget::Complete => UPLOAD_STREAM_CHUNK_BYTES,
        }
    }

    /// Sends what was taken, while the caller waits for the next bytes. It never ends.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn drive(&mut self) -> Infallible {
        match &mut self.file.target {
            StreamTarget::S3 { sink, .. } => sink.drive().await,
            StreamTarget::Nats | StreamTarget::Complete => std::future::pending().await,
        }
    }

    /// Takes the next bytes, [`Self::chunk_bytes`] except at the end.
    ///
    /// # Cancel safety
    /// After dropping it, chunks can follow what the record names, which is written every 8 MiB (in S3: only a new
    /// stream can, from the first byte).
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let Self { uploads, file, saved } = self;
        check_fits(&file.upload, file.received, bytes.len())?;
        match &mut file.target {
            StreamTarget::Nats => {
                check_chunk_count(&file.upload)?;
                let files = &uploads.blobs.files;
                let chunk = Box::pin(files.put(&file.cipher, file.received, bytes)).await?;
                file.upload.chunks.push(chunk);
            }
            StreamTarget::S3 { sink, .. } => {
                Box::pin(sink.write(bytes)).await?;
            }
            StreamTarget::Complete => {}
        }
        file.hash.update(bytes);
        file.upload.detected.get_or_insert_with(|| detect(bytes));
        file.received =
            file.received.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        // The record must not end while the upload goes on, and names what a kill would leave.
        if file.received.saturating_sub(*saved) >= SAVE_BYTES {
            file.save(*uploads).await?;
            *saved = file.received;
        }
        Ok(())
    }

    /// Makes what was taken the file.
    pub async fn complete(self, session: &Session) -> Result<(UploadView, FileView), UploadError> {
        self.file.complete(self.uploads, session).await
    }

    /// What was taken, to be completed.
    #[must_use]
    pub fn end(self) -> StreamedFile {
        self.file
    }
}

impl StreamedFile {
    pub(super) fn new(
        cipher: FileCipher,
        upload: Upload,
        revision: u64,
        target: StreamTarget,
    ) -> Self {
        Self { cipher, upload, revision, target, hash: Sha256State::default(), received: 0 }
    }

    /// Makes it the file of its upload.
    ///
    /// # Cancel safety
    /// After dropping it the upload may or may not be complete; [`Uploads::get`] says.
    pub async fn complete(
        mut self,
        uploads: Uploads<'_>,
        session: &Session,
    ) -> Result<(UploadView, FileView), UploadError> {
        check_whole(&self.upload, self.received, self.hash.clone())?;
        self.upload.offset = self.received;
        self.upload.hash = self.cipher.seal_hash(&self.hash);
        let id = self.cipher.id;
        // The part in memory is gone when the writer has finished, but not before.
        let in_s3 = match self.target {
            StreamTarget::Nats => false,
            StreamTarget::Complete => return uploads.complete(session, id.as_str()).await,
            StreamTarget::S3 { sink, _slot } => {
                Box::pin(sink.finish()).await?;
                true
            }
        };
        let own = self.upload.chunks.clone();
        let show = async {
            let upload = uploads.close(session, id, self.upload, self.revision).await?;
            // Another request for the same file may have been first.
            if upload.chunks != own {
                remove_unlisted(uploads, id, &own).await;
            }
            if !in_s3 {
                uploads.remove_other_chunks(id, &upload).await?;
            }
            uploads.publish(id, &upload).await
        };
        let shown = Box::pin(show).await;
        // Cancelled, deleted, or another request's by now. After another error the upload may be complete all the same,
        // and its chunks the file.
        if let Err(UploadError::Closed | UploadError::NotFound | UploadError::Conflict) = &shown {
            remove_unlisted(uploads, id, &own).await;
            if in_s3 {
                remove_unnamed_object(uploads, id).await?;
            }
        }
        shown
    }

    /// Writes the upload's record.
    async fn save(&mut self, uploads: Uploads<'_>) -> Result<(), UploadError> {
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
        self.upload.updated_ms = uploads.clock.unix_ms();
        let records = uploads.storage.uploads();
        let saved = records.put(&self.cipher.id, &self.upload, self.revision).await?;
        let Some(revision) = saved else {
            // Cancelled, or another request uploads the same file, perhaps from where the record was.
            remove_unlisted(uploads, self.cipher.id, &self.upload.chunks).await;
            if let StreamTarget::S3 { sink, .. } = &mut self.target {
                Box::pin(sink.abort()).await?;
            }
            return Err(UploadError::Conflict);
        };
        self.revision = revision;
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

/// Removes the object of a stream whose file was deleted meanwhile, so that no record names it any more. Otherwise it
/// stays: it may be what another request has stored, and has a record to be found by.
async fn remove_unnamed_object(uploads: Uploads<'_>, id: AssetId) -> Result<(), UploadError> {
    let file = uploads.storage.files().get(&id).await?;
    if file.is_none_or(|file| file.state == FileState::Erasing) {
        uploads.blobs.erase_object(&id).await?;
    }
    Ok(())
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
