//! Uploads: a file arrives in chunks, each at any process, and becomes a file of its room (contract 10.1).
//!
//! The file's record is stored first, as pending, then its chunks, and the upload's record says which of them count.
//! So whatever is killed where, all bytes have a record, and no file is seen before all of it is there.

use bytes::Bytes;

use super::error::{StoreError, flatten};
use super::file_eraser::{EraseError, FileEraser};
use super::rights::ViewerRights;
use super::{ErrorKind, FileView, Session, millis};
use crate::blobs::{BlobError, ChunkStore, FileCipher};
use crate::crypto::{Sha256State, from_hex, hex, random, sha256};
use crate::domain::permission::Permission;
use crate::domain::text::file_name;
use crate::domain::{
    AssetId, Detected, File, FileGroup, FileLocation, FileState, RoomId, Upload, UploadStatus,
};
use crate::limits::{FILE_CHUNKS_MAX, UPLOAD_CHUNK_MAX_BYTES, UPLOAD_LIFE};
use crate::runtime::Clock;
use crate::storage::{RecordChange, Storage, StorageError};

/// Chunks of a streamed upload between two writes of its record.
const STREAM_SAVE_CHUNKS: usize = 8;

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
    #[error("{received} of {size} bytes were received")]
    Incomplete { received: u64, size: u64 },
    #[error("the bytes of the file do not match sha256")]
    FileHash,
    #[error("the bytes of a file failed")]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UploadError {
    /// What kind of refusal this is.
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
    pub(super) chunks: &'a ChunkStore,
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
            location: FileLocation::Nats(Vec::new()),
        };
        self.storage.files().create(&file).await?;
        let upload = Upload {
            status: UploadStatus::Open,
            uploader: session.user,
            room,
            size: new.size,
            sha256,
            offset: 0,
            hash: Sha256State::default().to_bytes(),
            chunks: Vec::new(),
            detected: None,
            parts: None,
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
        let (id, mut upload, revision) = self.own(session, new.upload).await?;
        check_chunk(&upload, &new)?;
        self.check_room(session, upload.room.as_str())?;
        let cipher = self.cipher(id).await?;
        let chunk = self.chunks.put(&cipher, upload.chunks.len(), &new.content).await?;
        let mut hash = hash_of(&upload)?;
        hash.update(&new.content);
        if upload.detected.is_none() {
            upload.detected = Some(detect(&new.content));
        }
        upload.hash = hash.to_bytes();
        upload.offset = upload.offset.saturating_add(chunk.length.into());
        upload.chunks.push(chunk);
        upload.updated_ms = self.clock.unix_ms();
        if self.storage.uploads().put(&id, &upload, revision).await?.is_some() {
            return Ok(view(id, &upload));
        }
        // Another call with a chunk for this place was first.
        self.chunks.remove(chunk).await?;
        let (_, upload, _) = self.own(session, new.upload).await?;
        Err(UploadError::Offset { committed: upload.offset })
    }

    /// Takes the whole file in one go, whatever came before.
    pub async fn stream(
        self,
        session: &Session,
        id: &str,
    ) -> Result<UploadStream<'a>, UploadError> {
        let (id, mut upload, revision) = self.own(session, id).await?;
        if upload.status != UploadStatus::Open {
            return Err(UploadError::Closed);
        }
        self.check_room(session, upload.room.as_str())?;
        let cipher = self.cipher(id).await?;
        (upload.offset, upload.detected) = (0, None);
        upload.chunks.clear();
        Ok(UploadStream { uploads: self, cipher, upload, revision, hash: Sha256State::default() })
    }

    /// How far an upload has come.
    pub async fn get(self, session: &Session, id: &str) -> Result<UploadView, UploadError> {
        let (id, upload, _) = self.own(session, id).await?;
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
        let (id, mut upload, revision) = self.own(session, id).await?;
        if upload.offset < upload.size {
            let (received, size) = (upload.offset, upload.size);
            return Err(UploadError::Incomplete { received, size });
        }
        if hash_of(&upload)?.finish() != upload.sha256 {
            return Err(UploadError::FileHash);
        }
        // Before the file is shown, so that it cannot be cancelled any more.
        if upload.status == UploadStatus::Open {
            upload.status = UploadStatus::Completed;
            if self.storage.uploads().put(&id, &upload, revision).await?.is_none() {
                upload = self.own(session, id.as_str()).await?.1;
            }
        }
        if upload.status != UploadStatus::Completed {
            return Err(UploadError::Closed);
        }
        self.chunks.remove_others(&id, &upload.chunks).await?;
        let detected = upload.detected.clone().unwrap_or_else(|| detect(b""));
        let finished = |file: Option<&File>| match file {
            None => Err(UploadError::NotFound),
            Some(file) if file.state == FileState::Pending => Ok(RecordChange::Put(File {
                state: FileState::Ready,
                content_type: detected.content_type.clone(),
                width: detected.width,
                height: detected.height,
                location: FileLocation::Nats(upload.chunks.clone()),
                ..file.clone()
            })),
            Some(_) => Ok(RecordChange::Keep),
        };
        let file = self.storage.files().change(&id, finished).await.map_err(flatten)?;
        Ok((view(id, &upload), file.ok_or(UploadError::NotFound)?.into()))
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
    async fn own(self, session: &Session, id: &str) -> Result<(AssetId, Upload, u64), UploadError> {
        let id = AssetId::try_from(id).map_err(|_| UploadError::NotFound)?;
        let (upload, revision) = self.storage.uploads().get(&id).await?;
        let upload = upload.filter(|upload| upload.uploader == session.user);
        Ok((id, upload.ok_or(UploadError::NotFound)?, revision))
    }

    async fn cipher(self, id: AssetId) -> Result<FileCipher, UploadError> {
        let key = self.storage.files().key(&id).await?.ok_or(UploadError::NotFound)?;
        Ok(FileCipher { id, key })
    }

    /// The room, if the user may attach files in it.
    fn check_room(self, session: &Session, room: &str) -> Result<RoomId, UploadError> {
        let id = RoomId::try_from(room).map_err(|_| UploadError::RoomNotFound)?;
        self.storage.read(|tables| {
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

/// An upload whose bytes arrive in one request.
pub struct UploadStream<'a> {
    uploads: Uploads<'a>,
    cipher: FileCipher,
    upload: Upload,
    revision: u64,
    hash: Sha256State,
}

impl UploadStream<'_> {
    /// Takes the next bytes, [`UPLOAD_CHUNK_MAX_BYTES`] at most.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let Self { uploads, cipher, upload, hash, .. } = self;
        check_room_for(upload, bytes.len())?;
        let chunk = uploads.chunks.put(cipher, upload.chunks.len(), bytes).await?;
        hash.update(bytes);
        if upload.detected.is_none() {
            upload.detected = Some(detect(bytes));
        }
        upload.offset = upload.offset.saturating_add(chunk.length.into());
        upload.chunks.push(chunk);
        // Its record must not end while it goes on.
        if upload.chunks.len().is_multiple_of(STREAM_SAVE_CHUNKS) {
            self.save().await
        } else {
            Ok(())
        }
    }

    /// Makes what was taken the upload's content, and completes it. Fewer bytes than announced stay where
    /// [`Uploads::get`] says.
    pub async fn complete(
        mut self,
        session: &Session,
    ) -> Result<(UploadView, FileView), UploadError> {
        self.save().await?;
        self.uploads.complete(session, self.cipher.id.as_str()).await
    }

    async fn save(&mut self) -> Result<(), UploadError> {
        self.upload.hash = self.hash.to_bytes();
        self.upload.updated_ms = self.uploads.clock.unix_ms();
        let uploads = self.uploads.storage.uploads();
        let saved = uploads.put(&self.cipher.id, &self.upload, self.revision).await?;
        // Another request uploads the same file.
        self.revision = saved.ok_or(UploadError::Conflict)?;
        Ok(())
    }
}

fn check_chunk(upload: &Upload, new: &NewChunk<'_>) -> Result<(), UploadError> {
    if upload.status != UploadStatus::Open {
        return Err(UploadError::Closed);
    }
    if new.offset != upload.offset {
        return Err(UploadError::Offset { committed: upload.offset });
    }
    if new.content.is_empty() || new.content.len() > UPLOAD_CHUNK_MAX_BYTES {
        return Err(UploadError::ChunkLength);
    }
    check_room_for(upload, new.content.len())?;
    if from_hex(new.sha256).ok_or(UploadError::NotAHash)? != sha256(&new.content) {
        return Err(UploadError::ChunkHash);
    }
    Ok(())
}

/// Whether the upload has room for a chunk of this length.
fn check_room_for(upload: &Upload, length: usize) -> Result<(), UploadError> {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    if upload.size.saturating_sub(upload.offset) < length {
        return Err(UploadError::BeyondSize);
    }
    if upload.chunks.len() >= FILE_CHUNKS_MAX {
        return Err(UploadError::TooManyChunks);
    }
    Ok(())
}

fn hash_of(upload: &Upload) -> Result<Sha256State, StorageError> {
    Sha256State::from_bytes(&upload.hash)
        .map_err(|_| StorageError::Corrupt { what: "AUTH_TOKENS", source: None })
}

fn detect(_beginning: &[u8]) -> Detected {
    Detected { content_type: "application/octet-stream".to_owned(), width: 0, height: 0 }
}

fn view(id: AssetId, upload: &Upload) -> UploadView {
    UploadView {
        id,
        room: upload.room,
        status: upload.status,
        offset: upload.offset,
        size: upload.size,
        sha256: hex(&upload.sha256),
        expires_ms: upload.updated_ms.saturating_add(millis(UPLOAD_LIFE)),
    }
}
