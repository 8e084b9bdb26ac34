//! Uploads: a file arrives in chunks, each at any process, and becomes a file of its room (contract 10.1).
//!
//! The file's record is stored first, as pending, then its chunks, and the upload's record says which of them count.
//! So whatever is killed where, all bytes have a record, and no file is seen before all of it is there.

use bytes::Bytes;

use super::error::StoreError;
use super::file_eraser::{EraseError, FileEraser};
use super::rights::ViewerRights;
use super::upload_checks::{check_chunk, check_whole};
use super::{ErrorKind, FileView, Session, millis};
use crate::blobs::s3::S3Error;
use crate::blobs::{BlobError, Blobs, FileCipher, ObjectWriter, new_multipart};
use crate::crypto::{Sha256State, from_hex, hex, random};
use crate::domain::permission::Permission;
use crate::domain::text::file_name;
use crate::domain::{
    AssetId, Chunk, Detected, File, FileGroup, FileLocation, FileState, Multipart, RoomId, Upload,
    UploadStatus,
};
use crate::limits::{FILE_CHUNKS_MAX, S3_PART_WAIT_TIMEOUT, UPLOAD_CHUNK_MAX_BYTES, UPLOAD_TTL};
use crate::media;
use crate::runtime::{Clock, MemorySlots, SlotGuard, SlotsBusy};
use crate::storage::{Storage, StorageError};

/// A file that is going to be uploaded.
#[derive(Debug, Clone, Copy)]
pub struct NewUpload<'a> {
    pub room: &'a str,
    pub name: &'a str,
    /// Bytes.
    pub size: u64,
    /// Of the whole file, 64 hexadecimal digits.
    pub sha256: &'a str,
}

/// A chunk of an upload.
#[derive(Debug, Clone)]
pub struct NewChunk<'a> {
    pub upload: &'a str,
    /// Where it begins in the file.
    pub offset: u64,
    pub content: Bytes,
    /// Of the chunk, 64 hexadecimal digits.
    pub sha256: &'a str,
}

/// An upload as its uploader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadView {
    pub id: AssetId,
    pub room: RoomId,
    pub status: UploadStatus,
    /// Bytes received.
    pub offset: u64,
    pub size: u64,
    /// Of the whole file, 64 hexadecimal digits.
    pub sha256: String,
    /// When it ends without a further chunk, milliseconds since 1970.
    pub expires_ms: i64,
}

/// An upload was refused.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("room not found")]
    RoomNotFound,
    /// Unknown, of somebody else, or over.
    #[error("upload not found")]
    NotFound,
    /// Not a member, or the right is missing.
    #[error("permission denied")]
    Denied,
    #[error("room is archived")]
    Archived,
    #[error("a file must be at most {max} bytes long")]
    TooLarge { max: u64 },
    #[error("a SHA-256 is 64 hexadecimal digits")]
    NotAHash,
    /// The upload takes no more chunks.
    #[error("the upload is complete or was cancelled")]
    Closed,
    #[error("the next chunk begins at byte {committed}")]
    Offset { committed: u64 },
    #[error("a chunk must be 1 to {UPLOAD_CHUNK_MAX_BYTES} bytes long")]
    ChunkLength,
    #[error("the chunk goes beyond the size of the file")]
    BeyondSize,
    #[error("the bytes of the chunk do not match chunk_sha256")]
    ChunkHash,
    #[error("a file must have at most {FILE_CHUNKS_MAX} chunks; send larger ones")]
    TooManyChunks,
    #[error("another request uploads the same file")]
    Conflict,
    /// Too many parts are in memory.
    #[error("too many uploads at a time; try again")]
    Busy,
    #[error("{received} of {size} bytes were received")]
    Incomplete { received: u64, size: u64 },
    #[error("the bytes of the file do not match sha256")]
    FileHash,
    #[error("a file cannot be read or written")]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UploadError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RoomNotFound | Self::NotFound => ErrorKind::NotFound,
            Self::Denied => ErrorKind::PermissionDenied,
            Self::Archived
            | Self::Closed
            | Self::Offset { .. }
            | Self::Conflict
            | Self::Incomplete { .. } => ErrorKind::FailedPrecondition,
            Self::TooLarge { .. }
            | Self::NotAHash
            | Self::ChunkLength
            | Self::BeyondSize
            | Self::ChunkHash
            | Self::FileHash => ErrorKind::InvalidArgument,
            Self::TooManyChunks => ErrorKind::ResourceExhausted,
            Self::Busy => ErrorKind::Unavailable,
            Self::Blob(error) => super::error::blob_kind(error),
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for UploadError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl From<EraseError> for UploadError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Blob(error) => Self::Blob(error),
            EraseError::Store(error) => Self::Store(error),
        }
    }
}

/// Uploads of files.
#[derive(Clone, Copy)]
pub struct Uploads<'a> {
    pub(super) storage: &'a Storage,
    pub(super) blobs: &'a Blobs,
    pub(super) part_slots: &'a MemorySlots,
    pub(super) staged_slots: &'a MemorySlots,
    pub(super) clock: &'a Clock,
    pub(super) eraser: FileEraser<'a>,
    pub(super) max_bytes: u64,
}

impl<'a> Uploads<'a> {
    /// Begins an upload to a room.
    ///
    /// # Cancel safety
    /// After dropping it the upload may or may not exist; the sweep removes it.
    pub async fn create(
        self,
        session: &Session,
        new: NewUpload<'_>,
    ) -> Result<UploadView, UploadError> {
        let room = self.check_room(session, new.room)?;
        if new.size > self.max_bytes {
            return Err(UploadError::TooLarge { max: self.max_bytes });
        }
        let sha256 = from_hex(new.sha256).ok_or(UploadError::NotAHash)?;
        let now = self.clock.unix_ms();
        let id = AssetId::new(FileGroup::of(&room), u64::from_be_bytes(random()));
        let file = File {
            id,
            room: Some(room),
            uploader: session.user,
            name: file_name(new.name),
            content_type: String::new(),
            size: new.size,
            sha256,
            width: 0,
            height: 0,
            created_ms: now,
            state: FileState::Pending,
            location: self.blobs.location()?,
            encrypted: self.blobs.encrypts_uploads(),
        };
        let key = self.storage.files().create(&file).await?;
        let upload = Upload {
            status: UploadStatus::Open,
            uploader: session.user,
            room,
            size: new.size,
            sha256,
            offset: 0,
            hash: FileCipher::of(&file, key).seal_hash(&Sha256State::default()),
            chunks: Vec::new(),
            detected: None,
            parts: (file.location == FileLocation::S3)
                .then(|| new_multipart(new.size, file.encrypted)),
            updated_ms: now,
        };
        self.storage.uploads().put(&id, &upload, 0).await?;
        Ok(view(id, &upload))
    }

    /// Takes the next chunk of an upload.
    ///
    /// # Cancel safety
    /// After dropping it the chunk may or may not count; [`Self::get`] says.
    pub async fn chunk(
        self,
        session: &Session,
        new: NewChunk<'_>,
    ) -> Result<UploadView, UploadError> {
        let (id, mut upload, mut revision) = self.own(session, new.upload).await?;
        check_chunk(&upload, &new)?;
        self.check_room(session, upload.room.as_str())?;
        let cipher = self.cipher(id).await?;
        // Before anything more is staged: UPLOADS never holds more than a part and a chunk of an upload.
        if upload.parts.as_ref().is_some_and(|parts| staged_bytes(&upload) > parts.part_size) {
            revision = Box::pin(self.send_parts(&cipher, &mut upload, revision)).await?;
        }
        let former = begin_anew(&mut upload);
        let store = if upload.parts.is_some() { &self.blobs.staged } else { &self.blobs.files };
        let chunk = Box::pin(store.put(&cipher, upload.offset, &new.content)).await?;
        let mut hash = cipher.open_hash(&upload.hash)?;
        hash.update(&new.content);
        upload.detected.get_or_insert_with(|| detect(&new.content));
        upload.hash = cipher.seal_hash(&hash);
        upload.offset = upload.offset.saturating_add(chunk.length.into());
        upload.chunks.push(chunk);
        upload.updated_ms = self.clock.unix_ms();
        if self.storage.uploads().put(&id, &upload, revision).await?.is_some() {
            if let Some(former) = former
                && let Err(error) = self.remove_former(&cipher, &former).await
            {
                log::warn!(error:err = error; "parts of a stream stay in the bucket until its file is complete");
            }
            return Ok(view(id, &upload));
        }
        // Another call with a chunk for this place was first.
        store.remove(chunk).await?;
        let (_, upload, _) = self.own(session, new.upload).await?;
        Err(UploadError::Offset { committed: upload.offset })
    }

    /// Sends the staged chunks that fill parts to S3 and removes them from UPLOADS; returns the upload's new
    /// revision.
    async fn send_parts(
        self,
        cipher: &FileCipher,
        upload: &mut Upload,
        revision: u64,
    ) -> Result<u64, UploadError> {
        let _memory = self.memory_of_staged_part().await?;
        let mut sink = self.sink(cipher, upload)?;
        self.write_staged(cipher, upload, &mut sink).await?;
        upload.parts = Some(sink.parts());
        let sent = sink.stored_bytes();
        let mut end = staged_begin(upload);
        let is_sent = |chunk: &Chunk| {
            end = end.saturating_add(chunk.length.into());
            end <= sent
        };
        let done: Vec<Chunk> = upload.chunks.iter().copied().take_while(is_sent).collect();
        upload.chunks.drain(..done.len());
        let revision = self.storage.uploads().put(&cipher.id, upload, revision).await?;
        let revision = revision.ok_or(UploadError::Conflict)?;
        for chunk in done {
            self.blobs.staged.remove(chunk).await?;
        }
        Ok(revision)
    }

    /// Waits for memory for the part of an upload in chunks.
    async fn memory_of_staged_part(self) -> Result<[SlotGuard; 2], UploadError> {
        let slots = async { Ok([self.staged_slots.take().await?, self.part_slots.take().await?]) };
        let slots = self.clock.timeout(S3_PART_WAIT_TIMEOUT, slots).await;
        slots.unwrap_or(Err(SlotsBusy)).map_err(|SlotsBusy| UploadError::Busy)
    }

    /// Where an upload to S3 goes on.
    pub(super) fn sink(
        self,
        cipher: &FileCipher,
        upload: &Upload,
    ) -> Result<ObjectWriter, UploadError> {
        let parts = upload.parts.as_ref().ok_or(BlobError::NoBucket)?;
        Ok(self.blobs.write_object(cipher.clone(), parts)?)
    }

    /// Writes the staged bytes that S3 does not have.
    async fn write_staged(
        self,
        cipher: &FileCipher,
        upload: &Upload,
        sink: &mut ObjectWriter,
    ) -> Result<(), UploadError> {
        let mut begin = staged_begin(upload);
        let mut known = sink.stored_bytes().saturating_sub(begin);
        for chunk in &upload.chunks {
            let mut bytes = self.blobs.staged.get(cipher, begin, *chunk).await?;
            begin = begin.saturating_add(chunk.length.into());
            let skipped = known.min(chunk.length.into());
            known = known.saturating_sub(skipped);
            let new = bytes.split_off(usize::try_from(skipped).unwrap_or(usize::MAX));
            Box::pin(sink.write(&new)).await?;
        }
        Ok(())
    }

    /// Removes what an upload's record named before a stream began: exactly that, as other requests may have sent more
    /// since.
    pub(super) async fn remove_former(
        self,
        cipher: &FileCipher,
        former: &Upload,
    ) -> Result<(), UploadError> {
        let mut store = &self.blobs.files;
        if former.parts.is_some() {
            store = &self.blobs.staged;
            Box::pin(self.sink(cipher, former)?.abort()).await?;
        }
        for chunk in &former.chunks {
            store.remove(*chunk).await?;
        }
        Ok(())
    }

    /// How far an upload has come.
    pub async fn get(self, session: &Session, id: &str) -> Result<UploadView, UploadError> {
        let (id, mut upload, _) = self.own(session, id).await?;
        let is_pending = |file: File| file.state == FileState::Pending;
        // While the file is not there, for example because S3 is away, completing has to be repeated.
        if upload.status == UploadStatus::Completed
            && self.storage.files().get(&id).await?.is_some_and(is_pending)
        {
            upload.status = UploadStatus::Open;
        }
        Ok(view(id, &upload))
    }

    /// Makes an upload that is all there a file of its room. Repeating it gives the same file.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn complete(
        self,
        session: &Session,
        id: &str,
    ) -> Result<(UploadView, FileView), UploadError> {
        let (id, upload, revision) = self.own(session, id).await?;
        if upload.status == UploadStatus::Cancelled {
            return Err(UploadError::Closed);
        }
        let cipher = self.cipher(id).await?;
        check_whole(&upload, upload.offset, cipher.open_hash(&upload.hash)?)?;
        let upload = self.close(session, id, upload, revision).await?;
        if upload.parts.is_none() {
            self.remove_other_chunks(id, &upload).await?;
        } else if self.is_pending(id).await? {
            Box::pin(self.finish_in_s3(&cipher, &upload)).await?;
        }
        self.publish(id, &upload).await
    }

    /// Removes chunks that a complete upload does not list, before its file is shown.
    pub(super) async fn remove_other_chunks(
        self,
        id: AssetId,
        upload: &Upload,
    ) -> Result<(), UploadError> {
        if self.is_pending(id).await? {
            self.blobs.files.remove_others(&id, &upload.chunks).await?;
        }
        Ok(())
    }

    async fn is_pending(self, id: AssetId) -> Result<bool, UploadError> {
        let file = self.storage.files().get(&id).await?.ok_or(UploadError::NotFound)?;
        Ok(file.state == FileState::Pending)
    }

    /// Notes that an upload takes no more chunks, before its file is shown: it cannot be cancelled any more.
    pub(super) async fn close(
        self,
        session: &Session,
        id: AssetId,
        mut upload: Upload,
        revision: u64,
    ) -> Result<Upload, UploadError> {
        if upload.status == UploadStatus::Open {
            upload.status = UploadStatus::Completed;
            if self.storage.uploads().put(&id, &upload, revision).await?.is_none() {
                upload = self.own(session, id.as_str()).await?.1;
            }
        }
        match upload.status {
            UploadStatus::Completed => Ok(upload),
            UploadStatus::Cancelled => Err(UploadError::Closed),
            // It is another request's by now.
            UploadStatus::Open => Err(UploadError::Conflict),
        }
    }

    /// Makes the object of the parts that S3 has and what is staged. Repeatable.
    async fn finish_in_s3(self, cipher: &FileCipher, upload: &Upload) -> Result<(), UploadError> {
        let _memory = self.memory_of_staged_part().await?;
        let mut sink = self.sink(cipher, upload)?;
        if sink.stored_bytes() < staged_begin(upload) {
            // The bytes came in a stream, which closes an upload only after its object is there.
            return self.check_object(cipher, upload).await;
        }
        let finished = match self.write_staged(cipher, upload, &mut sink).await {
            Ok(()) => Box::pin(sink.finish()).await.map_err(UploadError::from),
            Err(error) => Err(error),
        };
        match finished {
            // Completed by a call whose response was lost, or whose process was killed.
            Err(UploadError::Blob(BlobError::S3(S3Error::UploadMissing))) => {
                self.check_object(cipher, upload).await
            }
            finished => finished,
        }
    }

    /// Whether the object of a complete upload is there.
    async fn check_object(self, cipher: &FileCipher, upload: &Upload) -> Result<(), UploadError> {
        match self.blobs.is_object_whole(cipher, upload.size).await? {
            true => Ok(()),
            false => Err(BlobError::Missing.into()),
        }
    }

    /// Shows the file of a complete upload to its uploader.
    pub(super) async fn publish(
        self,
        id: AssetId,
        upload: &Upload,
    ) -> Result<(UploadView, FileView), UploadError> {
        let detected = upload.detected.clone().unwrap_or_else(|| detect(b""));
        let location = match upload.parts {
            Some(_) => FileLocation::S3,
            None => FileLocation::Nats(upload.chunks.clone()),
        };
        let finish = |file: &File| File {
            content_type: detected.content_type.clone(),
            width: detected.width,
            height: detected.height,
            location: location.clone(),
            ..file.clone()
        };
        let file = self.storage.files().finish(&id, finish).await?;
        let file = file.filter(|file| file.state != FileState::Erasing);
        let file = file.ok_or(UploadError::NotFound)?;
        if upload.parts.is_some() {
            self.blobs.staged.purge(&id).await?;
        }
        Ok((view(id, upload), file.into()))
    }

    /// Ends an upload and removes its bytes.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn cancel(self, session: &Session, id: &str) -> Result<UploadView, UploadError> {
        let (id, mut upload, revision) = self.own(session, id).await?;
        match upload.status {
            UploadStatus::Completed => return Err(UploadError::Closed),
            UploadStatus::Cancelled => {}
            UploadStatus::Open => {
                upload.status = UploadStatus::Cancelled;
                if self.storage.uploads().put(&id, &upload, revision).await?.is_none() {
                    return Err(StorageError::Busy.into());
                }
            }
        }
        let is_pending = |state: &FileState| *state == FileState::Pending;
        Box::pin(self.eraser.erase(&id, is_pending)).await?;
        Ok(view(id, &upload))
    }

    /// An upload of this user.
    pub(super) async fn own(
        self,
        session: &Session,
        id: &str,
    ) -> Result<(AssetId, Upload, u64), UploadError> {
        let id = AssetId::try_from(id).map_err(|_| UploadError::NotFound)?;
        let (upload, revision) = self.storage.uploads().get(&id).await?;
        let upload = upload.filter(|upload| upload.uploader == session.user);
        Ok((id, upload.ok_or(UploadError::NotFound)?, revision))
    }

    pub(super) async fn cipher(self, id: AssetId) -> Result<FileCipher, UploadError> {
        let file = self.storage.files().get(&id).await?.ok_or(UploadError::NotFound)?;
        let key = self.storage.files().key(&file).await?.ok_or(UploadError::NotFound)?;
        Ok(FileCipher::of(&file, key))
    }

    /// The room, if the user may attach files in it.
    pub(super) fn check_room(self, session: &Session, room: &str) -> Result<RoomId, UploadError> {
        let id = RoomId::try_from(room).map_err(|_| UploadError::RoomNotFound)?;
        self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id).ok_or(UploadError::RoomNotFound)?;
            let rights = ViewerRights::of(tables, session.user);
            let may = rights.is_member(tables, id, room)
                && rights.can(Permission::MessageAttach, id, room);
            match (may, room.archived) {
                (false, _) => Err(UploadError::Denied),
                (true, true) => Err(UploadError::Archived),
                (true, false) => Ok(id),
            }
        })
    }
}

/// Bytes in UPLOADS.
fn staged_bytes(upload: &Upload) -> u64 {
    upload.chunks.iter().map(|chunk| u64::from(chunk.length)).sum()
}

/// Where the bytes in UPLOADS begin in the file.
fn staged_begin(upload: &Upload) -> u64 {
    upload.offset.saturating_sub(staged_bytes(upload))
}

/// Before the first chunk: the parts of a stream are not those of chunks, as it may still send some. Returns the upload
/// that named them.
fn begin_anew(upload: &mut Upload) -> Option<Upload> {
    let parts = upload.parts.as_ref().filter(|parts| upload.offset == 0 && parts.id.is_some())?;
    let parts = Multipart { id: None, part_size: parts.part_size, etags: Vec::new() };
    let new = Upload { parts: Some(parts), ..upload.clone() };
    Some(std::mem::replace(upload, new))
}

/// What the first chunk says about a file.
pub(super) fn detect(beginning: &[u8]) -> Detected {
    let media::Detected { content_type, width, height } = media::detect(beginning);
    Detected { content_type: content_type.to_owned(), width, height }
}

fn view(id: AssetId, upload: &Upload) -> UploadView {
    UploadView {
        id,
        room: upload.room,
        status: upload.status,
        offset: upload.offset,
        size: upload.size,
        sha256: hex(&upload.sha256),
        expires_ms: upload.updated_ms.saturating_add(millis(UPLOAD_TTL)),
    }
}
