//! Reading a room's timeline: pages, windows and the rows in them.

use std::collections::HashMap;

use super::attachments::Attachments;
use super::cursors::RowCursors;
use super::opened_rows::{OpenedRows, RowVersion};
use super::rights::{check_member, readable_room};
use super::users::{Users, distinct};
use super::{
    FileView, MessageView, PagePosition, ReadError, RowView, RowViewKind, Session, TimelinePage,
    TimelineWindow, UserView,
};
use crate::domain::timeline::{Content, Fact, FactKind, Message, Row, RowKind, Sealed};
use crate::domain::{AssetId, EventId, RoomId, UserId};
use crate::limits::{TIMELINE_PAGE_DEFAULT, TIMELINE_PAGE_MAX};
use crate::storage::{Opener, Storage, StorageError, Tables};

/// A row with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRow {
    pub row: RowView,
    /// Every user it names.
    pub users: Vec<UserView>,
    /// Its position in the room's timeline.
    pub cursor: String,
}

/// The timelines of rooms.
#[derive(Clone, Copy)]
pub struct Timeline<'a> {
    pub(super) storage: &'a Storage,
    pub(super) cursors: RowCursors<'a>,
    pub(super) users: Users<'a>,
    pub(super) opened: &'a OpenedRows,
    pub(super) attachments: Attachments<'a>,
}

impl Timeline<'_> {
    /// A page of a room's timeline. `limit` 0 means the default; a larger one than we serve is
    /// clamped.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an unknown room, [`ReadError::Denied`] for others than members,
    /// [`ReadError::Cursor`].
    pub async fn page(
        self,
        session: &Session,
        room: &str,
        position: PagePosition<'_>,
        limit: usize,
    ) -> Result<TimelinePage, ReadError> {
        let room = readable_room(self.storage, session, room)?;
        let limit = clamped(limit);
        let end = self.storage.timelines().head(&room).await?.rows;
        let (from, to) = match position {
            PagePosition::Newest => (end.saturating_sub(limit), end),
            PagePosition::Before(cursor) => {
                let row = self.cursors.open(session.user, room, cursor)?.min(end);
                (row.saturating_sub(limit), row)
            }
            PagePosition::After(cursor) => {
                let row = self.cursors.open(session.user, room, cursor)?.saturating_add(1).min(end);
                (row, row.saturating_add(limit).min(end))
            }
        };
        self.rows_between(session, room, from, to).await
    }

    /// A window of a room's timeline around one row.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an unknown room or row and for a thread reply,
    /// [`ReadError::Denied`] for others than members.
    pub async fn window(
        self,
        session: &Session,
        room: &str,
        anchor: &str,
        limit: usize,
    ) -> Result<TimelineWindow, ReadError> {
        let room = readable_room(self.storage, session, room)?;
        let missing = ReadError::NotFound { what: "message" };
        let Ok(id) = EventId::try_from(anchor) else { return Err(missing) };
        let row = self.storage.timelines().row(&room, &id).await?;
        let shown = row.filter(|row| id.reply() == 0 && is_shown(row));
        let Some(anchor) = shown else { return Err(missing) };
        let limit = clamped(limit);
        let end = self.storage.timelines().head(&room).await?.rows;
        // Half before the anchor; near an end the window keeps its size where the room has rows.
        let from = anchor.number.saturating_sub(limit / 2);
        let to = from.saturating_add(limit).min(end);
        let page = self.rows_between(session, room, to.saturating_sub(limit), to).await?;
        let target_index = page.rows.iter().position(|row| row.id == id);
        Ok(TimelineWindow { page, target_index: target_index.ok_or(missing_message())? })
    }

    /// One message.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an unknown room, and for a message that is missing, deleted or of
    /// another room; [`ReadError::Denied`] for others than members.
    pub async fn message(
        self,
        session: &Session,
        room: &str,
        id: &str,
    ) -> Result<MessageView, ReadError> {
        let room = readable_room(self.storage, session, room)?;
        let Ok(id) = EventId::try_from(id) else { return Err(missing_message()) };
        let row = self.storage.timelines().row(&room, &id).await?.ok_or_else(missing_message)?;
        match Box::pin(self.row_view(room, row)).await? {
            Some(RowView { kind: RowViewKind::Message(message), .. })
                if message.deleted_ms.is_none() =>
            {
                Ok(*message)
            }
            _ => Err(missing_message()),
        }
    }

    /// Messages by id in order of first appearance; those that [`Self::message`] does not find are
    /// left out.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an unknown room, [`ReadError::Denied`] for others than members.
    pub async fn messages(
        self,
        session: &Session,
        room: &str,
        ids: &[String],
    ) -> Result<Vec<MessageView>, ReadError> {
        readable_room(self.storage, session, room)?;
        let mut found = Vec::new();
        for id in distinct(ids) {
            match self.message(session, room, id).await {
                Ok(message) => found.push(message),
                Err(ReadError::Store(error)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// The position of a row in a room's timeline, for this viewer.
    #[must_use]
    pub fn row_cursor(&self, session: &Session, room: RoomId, row: &EventId) -> String {
        self.cursors.seal(session.user, room, row.row())
    }

    /// One row of a timeline the viewer may read; `None` when there is no such row, or it is not
    /// shown.
    ///
    /// # Errors
    /// [`ReadError::Denied`] for others than members.
    pub async fn row(
        self,
        session: &Session,
        room: RoomId,
        id: EventId,
    ) -> Result<Option<ShownRow>, ReadError> {
        check_member(self.storage, session.user, room)?;
        let Some(row) = Box::pin(self.opened_row(room, id)).await? else { return Ok(None) };
        let users = self.users.named(row.actor);
        let cursor = self.row_cursor(session, room, &row.id);
        Ok(Some(ShownRow { row, users, cursor }))
    }

    /// A row with its text, read and decrypted once for the viewers of this process who get it at the same time.
    async fn opened_row(self, room: RoomId, id: EventId) -> Result<Option<RowView>, StorageError> {
        // Before the row: what it is kept under must not be newer than the row.
        let state = self.storage.state().read(Tables::highest);
        let event_number = self.storage.timelines().head(&room).await?.event_number;
        let version = RowVersion { event_number, state };
        if let Some(row) = self.opened.get(room, id, version) {
            return Ok(Some(row));
        }
        let Some(row) = self.storage.timelines().row(&room, &id).await? else { return Ok(None) };
        let row = self.row_view(room, row).await?;
        if let Some(row) = &row {
            self.opened.keep(room, version, row);
        }
        Ok(row)
    }

    /// A message that was just stored, as its author sees it.
    pub(super) async fn stored_message(
        &self,
        room: RoomId,
        id: &EventId,
    ) -> Result<Option<MessageView>, StorageError> {
        let Some(row) = self.storage.timelines().row(&room, id).await? else { return Ok(None) };
        Ok(match Box::pin(self.row_view(room, row)).await? {
            Some(RowView { kind: RowViewKind::Message(message), .. }) => Some(*message),
            _ => None,
        })
    }

    async fn rows_between(
        &self,
        session: &Session,
        room: RoomId,
        from: u32,
        to: u32,
    ) -> Result<TimelinePage, ReadError> {
        let mut rows = self.storage.timelines().rows(&room, from, to).await?;
        rows.retain(is_shown);
        let rows = Box::pin(self.row_views(room, rows)).await?;
        let end = self.storage.timelines().head(&room).await?.rows;
        let cursor = |row: Option<&RowView>| {
            row.map(|row| self.cursors.seal(session.user, room, row.id.row())).unwrap_or_default()
        };
        Ok(TimelinePage {
            start_cursor: cursor(rows.first()),
            end_cursor: cursor(rows.last()),
            has_older: from > 0,
            has_newer: to < end,
            users: self.users.named(rows.iter().filter_map(|row| row.actor)),
            rows,
        })
    }

    /// A stored row with its body opened; `None` for a row that is not shown.
    pub(super) async fn row_view(
        &self,
        room: RoomId,
        row: Row,
    ) -> Result<Option<RowView>, StorageError> {
        Ok(self.row_views(room, vec![row]).await?.pop())
    }

    /// Stored rows with their bodies opened; those that are not shown are left out.
    async fn row_views(&self, room: RoomId, rows: Vec<Row>) -> Result<Vec<RowView>, StorageError> {
        let opener = self.storage.texts().opener(rows.iter().filter_map(body_of)).await?;
        let mut views = Vec::with_capacity(rows.len());
        let files = self.attachments.shown(&attachments_of(&rows)).await?;
        let files = files.into_iter().map(|file| (file.id, file.into())).collect();
        for row in rows {
            views.extend(self.opened(room, row, (&opener, &files)));
        }
        Ok(views)
    }

    fn opened(
        &self,
        room: RoomId,
        row: Row,
        contents: (&Opener, &HashMap<AssetId, FileView>),
    ) -> Option<RowView> {
        let Row { number: _, id, at_ms, actor, kind } = row;
        let kind = match kind {
            RowKind::Message(message) => {
                let message = self.message_view((room, id, at_ms), actor?, message, contents);
                RowViewKind::Message(Box::new(message))
            }
            RowKind::Fact(fact) => fact_kind(fact)?,
            // An echo row is drawn with its reply: threads come with the work that builds them.
            RowKind::Echo(_) | RowKind::Unknown => return None,
        };
        Some(RowView { id, created_ms: at_ms, actor, kind })
    }

    fn message_view(
        &self,
        (room, id, created_ms): (RoomId, EventId, i64),
        author: UserId,
        message: Message,
        (opener, files): (&Opener, &HashMap<AssetId, FileView>),
    ) -> MessageView {
        let deleted_by_author = self
            .storage
            .state()
            .read(|tables| tables.users.get(&author).is_some_and(|user| user.deleted));
        let deleted_ms = message.deleted_ms;
        let content = message.content.filter(|_| deleted_ms.is_none() && !deleted_by_author);
        let Content { body: sealed, attachments } = content.unwrap_or_default();
        MessageView {
            id,
            room,
            created_ms,
            author,
            body: sealed.and_then(|sealed| opener.open(&author, &room, &id, &sealed)),
            updated_ms: message.updated_ms,
            in_reply_to: message.in_reply_to,
            thread_root: None,
            attachments: attachments.iter().filter_map(|id| files.get(id)).cloned().collect(),
            // Texts of an erased account are erased too: its rows are tombstones.
            deleted_ms: deleted_ms.or(deleted_by_author.then_some(created_ms)),
        }
    }
}

/// The files of messages that are not deleted.
fn attachments_of(rows: &[Row]) -> Vec<AssetId> {
    let contents = rows.iter().filter_map(|row| match &row.kind {
        RowKind::Message(message) => message.content.as_ref(),
        _ => None,
    });
    contents.flat_map(|content| content.attachments.iter().copied()).collect()
}

/// The sealed text of a message and its author.
fn body_of(row: &Row) -> Option<(UserId, &Sealed)> {
    let RowKind::Message(message) = &row.kind else { return None };
    Some((row.actor?, message.content.as_ref()?.body.as_ref()?))
}

fn missing_message() -> ReadError {
    ReadError::NotFound { what: "message" }
}

/// A page's size as we serve it.
fn clamped(limit: usize) -> u32 {
    let limit = if limit == 0 { TIMELINE_PAGE_DEFAULT } else { limit.min(TIMELINE_PAGE_MAX) };
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// Whether a row of the room belongs to its timeline: hidden echoes do not.
fn is_shown(row: &Row) -> bool {
    match row.kind {
        RowKind::Message(_) | RowKind::Fact(_) => true,
        RowKind::Echo(_) | RowKind::Unknown => false,
    }
}

fn fact_kind(fact: Fact) -> Option<RowViewKind> {
    let call_id = fact.call_id;
    Some(match fact.kind {
        FactKind::RoomCreated => RowViewKind::RoomCreated,
        FactKind::Joined => RowViewKind::Joined,
        FactKind::Left => RowViewKind::Left,
        FactKind::RoomUpdated => RowViewKind::RoomUpdated,
        FactKind::RoomArchived => RowViewKind::RoomArchived,
        FactKind::RoomUnarchived => RowViewKind::RoomUnarchived,
        FactKind::CallStarted => RowViewKind::CallStarted { call_id },
        FactKind::CallEnded => RowViewKind::CallEnded { call_id },
        FactKind::Other(_) => return None,
    })
}
