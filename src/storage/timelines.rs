//! Timelines as the rest of the program uses them: heads, rows and replies, and the append of an event.

use std::sync::Arc;

use crate::domain::timeline::{Row, RowKind};
use crate::domain::{EventId, RoomId};
use crate::limits::ROWS_READ_MAX;
use crate::storage::error::{ChangeError, StorageError};
use crate::storage::journal::append::{Appended, Draft, DraftView, RequestId};
use crate::storage::layout::PageKey;
use crate::storage::records;
use crate::storage::store::Inner;
use crate::storage::timeline::head::RoomHead;

/// The timelines of all rooms.
#[derive(Clone, Copy)]
pub struct Timelines<'a> {
    pub(crate) store: &'a Inner,
}

impl Timelines<'_> {
    /// The room's head as of now; an empty one for a room without events.
    pub async fn head(self, room: &RoomId) -> Result<Arc<RoomHead>, StorageError> {
        let head = self.store.timeline.head(room.as_str()).await?;
        // A room that was announced has at least the row that says so.
        if head.event_number == 0
            && self
                .store
                .mirror
                .read(|tables| tables.rooms.get(room).is_some_and(|room| room.announced))
        {
            return Err(self.store.timeline.hole(room.as_str(), PageKey::Head, "PAGES"));
        }
        self.store.timeline.filled(room.as_str(), PageKey::Head);
        Ok(head)
    }

    /// Rows `from..to` of the room timeline in ascending order, at most 256; rows are numbered from
    /// 0 without gaps. Bodies are sealed.
    pub async fn rows(self, room: &RoomId, from: u32, to: u32) -> Result<Vec<Row>, StorageError> {
        converted(self.store.timeline.rows(room.as_str(), from, to).await?)
    }

    /// Replies `from..to` of the thread at a root row; replies are numbered from 1.
    pub async fn replies(
        self,
        room: &RoomId,
        root: u32,
        from: u32,
        to: u32,
    ) -> Result<Vec<Row>, StorageError> {
        converted(self.store.timeline.replies(room.as_str(), root, from, to).await?)
    }

    /// The row with this id: a root row, or a reply. `None`: there is no such row in this room.
    pub async fn row(self, room: &RoomId, id: &EventId) -> Result<Option<Row>, StorageError> {
        let row = self.store.timeline.row(room.as_str(), id).await?;
        row.map(Row::try_from).transpose().map_err(StorageError::corrupt("PAGES"))
    }

    /// The newest message of the room timeline that was posted with this request id, among the newest `rows_max` rows
    /// and down to the first row that is older than `since_ms`.
    pub async fn message_of_request(
        self,
        room: &RoomId,
        request: &str,
        since_ms: i64,
        rows_max: u32,
    ) -> Result<Option<Row>, StorageError> {
        let mut end = self.head(room).await?.rows;
        let first = end.saturating_sub(rows_max);
        while end > first {
            let start = end.saturating_sub(ROWS_READ_MAX).max(first);
            for row in self.rows(room, start, end).await?.into_iter().rev() {
                if row.at_ms < since_ms {
                    return Ok(None);
                }
                if matches!(&row.kind, RowKind::Message(message) if message.request_key == request)
                {
                    return Ok(Some(row));
                }
            }
            end = start;
        }
        Ok(None)
    }

    /// Appends one event to a room's journal.
    ///
    /// `draft` sees the present head and the rows and replies named in `needs`, all as of the position it is
    /// appended at, and decides row numbers and ids; it runs again when another writer was first. Whatever a
    /// draft depends on (the number of the next reply, a limit, whether a message is still there) it must take
    /// from this view, never from an earlier read. A draft that needs no rows does not wait for them. When this
    /// returns, the event is as durable as the settings promise and this process's reads contain it. A repeated
    /// request id within two minutes returns the stored event.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] with the draft's error; [`StorageError::Busy`] when too many wait for
    /// this room, or it was still waiting for its turn [`WRITE_DEADLINE`](crate::limits::WRITE_DEADLINE) after
    /// the call: nothing is stored then; [`StorageError::Unavailable`] at that deadline later on, when it may
    /// or may not be stored; [`StorageError::Erased`] for a repeated request id whose event was deleted or
    /// edited.
    ///
    /// # Cancel safety
    /// After dropping it the event may or may not be stored; never half of it.
    pub async fn append<E>(
        self,
        room: &RoomId,
        request: &RequestId,
        needs: &[EventId],
        draft: impl FnMut(&DraftView<'_>) -> Result<Draft, E>,
    ) -> Result<Appended, ChangeError<E>> {
        // Known before anything is read: a nats-server that waits for its disk answers no reads either.
        self.store.nats.check_writable().map_err(StorageError::from)?;
        self.store.journal.append(room, request, needs, draft).await
    }
}

/// Rows as they leave the store.
fn converted(rows: Vec<records::Row>) -> Result<Vec<Row>, StorageError> {
    let rows: Result<_, _> = rows.into_iter().map(Row::try_from).collect();
    rows.map_err(StorageError::corrupt("PAGES"))
}
