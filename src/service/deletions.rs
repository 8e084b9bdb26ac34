//! Deleting messages and single attachments.
//!
//! A file is marked before the journal says that its message is gone, so that a process that is killed in between
//! leaves nothing that the sweep does not find.

use super::error::{StoreError, flatten};
use super::file_eraser::FileEraser;
use super::rights::ViewerRights;
use super::{ErrorKind, Session};
use crate::domain::permission::Permission;
use crate::domain::timeline::{Content, Delete, Edit, Effect, Message, Row, RowKind};
use crate::domain::{AssetId, EventId, FileState, RoomId};
use crate::runtime::Clock;
use crate::storage::{Draft, DraftView, RequestId, Storage, StorageError};

/// A message or an attachment was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error("room not found")]
    RoomNotFound,
    #[error("message not found")]
    MessageNotFound,
    /// By another call, at the same time.
    #[error("the message is deleted already")]
    AlreadyDeleted,
    #[error("attachment not found")]
    AttachmentNotFound,
    /// Not a member, or neither the author nor a moderator.
    #[error("permission denied")]
    Denied,
    #[error("room is archived")]
    Archived,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DeleteError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RoomNotFound
            | Self::MessageNotFound
            | Self::AlreadyDeleted
            | Self::AttachmentNotFound => ErrorKind::NotFound,
            Self::Denied => ErrorKind::PermissionDenied,
            Self::Archived => ErrorKind::FailedPrecondition,
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for DeleteError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// Deleting messages and single attachments.
#[derive(Clone, Copy)]
pub struct Deletions<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) eraser: FileEraser<'a>,
}

/// Who may delete in a room.
struct Target {
    room: RoomId,
    /// Messages of others too.
    may_moderate: bool,
}

impl Deletions<'_> {
    /// Deletes a message with its text and its files; of an echo only the echo. One that is deleted already is a
    /// success.
    ///
    /// # Cancel safety
    /// After dropping it the message may or may not be deleted; files of a deleted one are removed by the sweep.
    pub async fn message(self, session: &Session, room: &str, id: &str) -> Result<(), DeleteError> {
        let target = self.target(session, room)?;
        let id = EventId::try_from(id).map_err(|_| DeleteError::MessageNotFound)?;
        let row = self
            .storage
            .timelines()
            .row(&target.room, &id)
            .await?
            .ok_or(DeleteError::MessageNotFound)?;
        let canonical = match &row.kind {
            RowKind::Message(_) => id,
            RowKind::Echo(echo) => echo.reply,
            RowKind::Fact(_) | RowKind::Unknown => return Err(DeleteError::MessageNotFound),
        };
        let files = match &row.kind {
            RowKind::Message(message) => attachments(message).to_vec(),
            _ => Vec::new(),
        };
        if !may_delete(session, &target, &row) {
            return Err(DeleteError::Denied);
        }
        for file in &files {
            self.mark(file, canonical).await?;
        }
        let draft = |view: &DraftView<'_>| {
            let target = self.target(session, room)?;
            let row = view.row(&canonical).ok_or(DeleteError::MessageNotFound)?;
            if !may_delete(session, &target, row) {
                return Err(DeleteError::Denied);
            }
            let RowKind::Message(message) = &row.kind else {
                return Err(DeleteError::MessageNotFound);
            };
            if message.deleted_ms.is_some() {
                return Err(DeleteError::AlreadyDeleted);
            }
            let echo_only = canonical != id;
            let delete = Delete { id: canonical, echo_only, echo: message.echo };
            Ok(self.draft(session, Effect::Delete(delete)))
        };
        if !is_deleted(&row) {
            let request = RequestId::random();
            let needs = [canonical];
            let appending = self.storage.timelines().append(&target.room, &request, &needs, draft);
            match Box::pin(appending).await.map_err(flatten) {
                Ok(_) | Err(DeleteError::AlreadyDeleted) => {}
                Err(error) => return Err(error),
            }
        }
        self.erase(&files).await;
        Ok(())
    }

    /// Removes one file of a message of the user.
    ///
    /// # Cancel safety
    /// As with [`Self::message`].
    pub async fn attachment(
        self,
        session: &Session,
        room: &str,
        id: &str,
        file: &str,
    ) -> Result<(), DeleteError> {
        let target = self.target(session, room)?;
        let id = EventId::try_from(id).map_err(|_| DeleteError::MessageNotFound)?;
        let file = AssetId::try_from(file).map_err(|_| DeleteError::AttachmentNotFound)?;
        let row = self.storage.timelines().row(&target.room, &id).await?;
        match content_without(session, row.as_ref(), file) {
            // An earlier call stored the deletion and did not come to the file.
            Err(DeleteError::AttachmentNotFound) if self.is_marked(&file, id).await? => {
                self.erase(&[file]).await;
                return Ok(());
            }
            checked => checked.map(|_| self.mark(&file, id))?.await?,
        }
        let draft = |view: &DraftView<'_>| {
            self.target(session, room)?;
            let content = Some(content_without(session, view.row(&id), file)?);
            Ok(self.draft(session, Effect::Edit(Edit { content, ..Edit::new(id) })))
        };
        let request = RequestId::random();
        let needs = [id];
        let appending = self.storage.timelines().append(&target.room, &request, &needs, draft);
        Box::pin(appending).await.map_err(flatten::<DeleteError>)?;
        self.erase(&[file]).await;
        Ok(())
    }

    fn draft(self, session: &Session, effect: Effect) -> Draft {
        Draft { actor: Some(session.user), at_ms: self.clock.unix_ms(), effect }
    }

    fn target(self, session: &Session, room: &str) -> Result<Target, DeleteError> {
        let id = RoomId::try_from(room).map_err(|_| DeleteError::RoomNotFound)?;
        self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id).ok_or(DeleteError::RoomNotFound)?;
            let rights = ViewerRights::of(tables, session.user);
            if !rights.is_member(tables, id, room) {
                return Err(DeleteError::Denied);
            }
            if room.archived {
                return Err(DeleteError::Archived);
            }
            let may_moderate = rights.can(Permission::MessageManage, id, room);
            Ok(Target { room: id, may_moderate })
        })
    }

    /// Notes that the file goes with its message.
    async fn mark(self, id: &AssetId, message: EventId) -> Result<(), StorageError> {
        let at_ms = self.clock.unix_ms();
        let mark =
            |state: &FileState| state.is_shown().then_some(FileState::Deleting { message, at_ms });
        self.storage.files().change_state(id, mark).await?;
        Ok(())
    }

    /// Whether the file is noted to go with this message.
    async fn is_marked(self, id: &AssetId, with: EventId) -> Result<bool, StorageError> {
        let file = self.storage.files().get(id).await?;
        Ok(file.is_some_and(
            |file| matches!(file.state, FileState::Deleting { message, .. } if message == with),
        ))
    }

    /// Removes marked files; what fails here is left to the sweep.
    async fn erase(self, files: &[AssetId]) {
        for file in files {
            let is_due = |state: &FileState| matches!(state, FileState::Deleting { .. });
            if let Err(error) = Box::pin(self.eraser.erase(file, is_due)).await {
                log::warn!(error:err = error; "a deleted file will be removed by the next sweep");
            }
        }
    }
}

/// Whether the user may delete a message or echo of somebody.
fn may_delete(session: &Session, target: &Target, row: &Row) -> bool {
    row.actor == Some(session.user) || target.may_moderate
}

fn is_deleted(row: &Row) -> bool {
    match &row.kind {
        RowKind::Message(message) => message.deleted_ms.is_some(),
        RowKind::Echo(echo) => echo.hidden || echo.deleted_ms.is_some(),
        RowKind::Fact(_) | RowKind::Unknown => false,
    }
}

fn attachments(message: &Message) -> &[AssetId] {
    message.content.as_ref().map(|content| content.attachments.as_slice()).unwrap_or_default()
}

/// What a message of the user says without one of its files.
fn content_without(
    session: &Session,
    row: Option<&Row>,
    file: AssetId,
) -> Result<Content, DeleteError> {
    let row = row.ok_or(DeleteError::MessageNotFound)?;
    let RowKind::Message(message) = &row.kind else { return Err(DeleteError::MessageNotFound) };
    let content = message.content.as_ref().filter(|_| message.deleted_ms.is_none());
    let content = content.ok_or(DeleteError::MessageNotFound)?;
    if row.actor != Some(session.user) {
        return Err(DeleteError::Denied);
    }
    let mut content = content.clone();
    let before = content.attachments.len();
    content.attachments.retain(|attachment| *attachment != file);
    if content.attachments.len() == before {
        return Err(DeleteError::AttachmentNotFound);
    }
    Ok(content)
}
