//! Files of messages: reserved for a post before it is stored, attached once it is.
//!
//! There is no transaction over a file and the journal. So a file first gets the request id of the post that wants it,
//! which excludes every other post; the sweep finds out what became of a post whose process was killed.

use super::error::flatten;
use super::messages::PostError;
use super::{FileView, Session, millis};
use crate::domain::timeline::RowKind;
use crate::domain::{AssetId, EventId, File, FileState, RoomId};
use crate::limits::CLOCK_AHEAD_MAX;
use crate::runtime::Clock;
use crate::storage::{RecordChange, RequestId, Storage, StorageError};

/// Files of messages.
#[derive(Clone, Copy)]
pub(super) struct Attachments<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
}

impl Attachments<'_> {
    /// Reserves files of the user for a post; all or none.
    ///
    /// # Cancel safety
    /// After dropping it some may be reserved; the sweep releases them.
    pub(super) async fn reserve(
        self,
        session: &Session,
        room: RoomId,
        ids: &[String],
        request: &RequestId,
    ) -> Result<Vec<FileView>, PostError> {
        let mut reserved: Vec<FileView> = Vec::with_capacity(ids.len());
        for id in super::users::distinct(ids) {
            match self.reserve_one(session, room, id, request).await {
                Ok(file) => reserved.push(file.into()),
                Err(error) => {
                    self.resolve_all(&reserved, request, None).await;
                    return Err(error);
                }
            }
        }
        Ok(reserved)
    }

    async fn reserve_one(
        self,
        session: &Session,
        room: RoomId,
        id: &str,
        request: &RequestId,
    ) -> Result<File, PostError> {
        let id = AssetId::try_from(id).map_err(|_| PostError::AttachmentNotFound)?;
        let at_ms = self.clock.unix_ms();
        let reserve = |file: Option<&File>| {
            let file = file.ok_or(PostError::AttachmentNotFound)?;
            if file.room != Some(room) || file.uploader != session.user {
                return Err(PostError::AttachmentUnusable);
            }
            match &file.state {
                FileState::Ready => {
                    let state = FileState::Reserved { request: request.as_str().to_owned(), at_ms };
                    Ok(RecordChange::Put(File { state, ..file.clone() }))
                }
                // An earlier attempt of the same request.
                FileState::Reserved { request: by, .. } if by == request.as_str() => {
                    Ok(RecordChange::Keep)
                }
                _ => Err(PostError::AttachmentUnusable),
            }
        };
        let file = self.storage.files().change(&id, reserve).await.map_err(flatten)?;
        file.ok_or(PostError::AttachmentNotFound)
    }

    /// Ends the reservations of a post: its files are attached to the message that was stored, or free again. What fails here
    /// is left to the sweep.
    pub(super) async fn resolve_all(
        self,
        files: &[FileView],
        request: &RequestId,
        message: Option<EventId>,
    ) {
        for file in files {
            if let Err(error) = self.resolve(&file.id, request.as_str(), message).await {
                log::debug!(error:err = error; "a file stays reserved until the next sweep");
            }
        }
    }

    /// Ends the reservation of this request: the file is attached to the message, or free again.
    pub(super) async fn resolve(
        self,
        id: &AssetId,
        request: &str,
        message: Option<EventId>,
    ) -> Result<(), StorageError> {
        let end = |state: &FileState| match state {
            FileState::Reserved { request: by, .. } if by == request => {
                Some(message.map_or(FileState::Ready, FileState::Attached))
            }
            _ => None,
        };
        self.storage.files().change_state(id, end).await?;
        Ok(())
    }

    /// The message that a request posted at or after this time.
    pub(super) async fn message_of(
        self,
        room: RoomId,
        request: &str,
        since_ms: i64,
    ) -> Result<Option<EventId>, StorageError> {
        let since = since_ms.saturating_sub(millis(CLOCK_AHEAD_MAX));
        let timelines = self.storage.timelines();
        let row = timelines.message_of_request(&room, request, since, u32::MAX).await?;
        Ok(row.map(|row| row.id))
    }

    /// Takes back the deletion, begun at this time, of a file whose message has kept it. A later deletion goes on.
    pub(super) async fn keep(
        self,
        id: &AssetId,
        message: EventId,
        begun_ms: i64,
    ) -> Result<(), StorageError> {
        let keep = |state: &FileState| match state {
            FileState::Deleting { at_ms, .. } if *at_ms == begun_ms => {
                Some(FileState::Attached(message))
            }
            _ => None,
        };
        self.storage.files().change_state(id, keep).await?;
        Ok(())
    }

    /// Whether members of its room may read a file. Where a deletion has begun the message decides: the process that
    /// deletes may have been killed before or after it stored the deletion.
    pub(super) async fn is_shown(self, file: &File) -> Result<bool, StorageError> {
        match (&file.state, file.room) {
            (FileState::Deleting { message, .. }, Some(room)) => {
                self.has(room, *message, file.id).await
            }
            (state, _) => Ok(state.is_shown()),
        }
    }

    /// Whether a message still has a file.
    pub(super) async fn has(
        self,
        room: RoomId,
        message: EventId,
        file: AssetId,
    ) -> Result<bool, StorageError> {
        let row = self.storage.timelines().row(&room, &message).await?;
        let Some(RowKind::Message(message)) = row.map(|row| row.kind) else { return Ok(false) };
        let content = message.content.filter(|_| message.deleted_ms.is_none());
        Ok(content.is_some_and(|content| content.attachments.contains(&file)))
    }

    /// The files of messages that are shown, in the given order.
    pub(super) async fn shown(self, ids: &[AssetId]) -> Result<Vec<File>, StorageError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self.storage.files().get_all(ids).await?;
        found.retain(|file| file.state.is_shown());
        Ok(found)
    }
}
