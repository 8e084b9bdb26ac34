//! Read markers and what is unread (contract, behaviour 7.2 and 7.3).
//!
//! A marker only moves forward. The viewer's own newest post and the moment of joining count as
//! markers by computation, without a write.

use super::rights::readable_room;
use super::{MarkedRead, ReadError, Session, millis};
use crate::domain::{EventId, ReadMarker, RoomId, UserId};
use crate::limits::CLOCK_AHEAD_MAX;
use crate::runtime::Clock;
use crate::storage::{EphemeralEvent, RoomHead, Storage, StorageError};

/// How far somebody has read: a row, or for members by rule a moment. Rows are compared by their numbers, never
/// by their times: a clock may have been ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReadUpTo {
    /// The row; `None`: by time only.
    row: Option<u32>,
    /// The row's time as it is shown, milliseconds since 1970.
    at_ms: i64,
}

/// Read markers.
#[derive(Clone, Copy)]
pub struct Markers<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
}

impl Markers<'_> {
    /// Moves the viewer's marker of a room to a row, or with an empty id to the newest message.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an unknown room or row, [`ReadError::Denied`] for others than
    /// members, [`ReadError::Reply`] for a thread reply.
    ///
    /// # Cancel safety
    /// Dropping it may or may not have moved the marker.
    pub async fn mark_room_read(
        self,
        session: &Session,
        room: &str,
        up_to: &str,
    ) -> Result<MarkedRead, ReadError> {
        let room = readable_room(self.storage, session, room)?;
        let head = self.storage.timelines().head(&room).await?;
        let before = self.read_up_to(session.user, room, &head).await?;
        let target = if up_to.is_empty() {
            head.newest().map(|newest| ReadMarker {
                row: newest.row,
                row_id: newest.id,
                row_ms: newest.at_ms,
            })
        } else {
            Some(self.marker_row(room, up_to).await?)
        };
        let previous_last_read_ms = before.map(|read| read.at_ms);
        let Some(target) = target.filter(|target| is_newer(before, target.row, target.row_ms))
        else {
            return Ok(MarkedRead { last_read_ms: previous_last_read_ms, previous_last_read_ms });
        };
        let held = self.storage.markers().advance(&session.user, room.as_str(), target).await?;
        let moved = EphemeralEvent::Marker { user: session.user, target: room.as_str().to_owned() };
        self.storage.feed().publish(&moved).await?;
        let last_read_ms = Some(head.shown_ms(held.row, held.row_ms));
        Ok(MarkedRead { last_read_ms, previous_last_read_ms })
    }

    /// Whether a message by somebody else is newer than what this member has read.
    pub(super) async fn is_unread(
        &self,
        viewer: UserId,
        room: RoomId,
    ) -> Result<bool, StorageError> {
        let head = self.storage.timelines().head(&room).await?;
        let Some(newest) = head.newest().filter(|newest| newest.author != Some(viewer)) else {
            return Ok(false);
        };
        // What costs nothing first: the stored marker is asked for only when it can decide.
        if !is_newer(self.computed_read_up_to(viewer, room, &head), newest.row, newest.at_ms) {
            return Ok(false);
        }
        let read = self.read_up_to(viewer, room, &head).await?;
        Ok(is_newer(read, newest.row, newest.at_ms))
    }

    /// The row that a marker is moved to.
    async fn marker_row(&self, room: RoomId, id: &str) -> Result<ReadMarker, ReadError> {
        let unknown = ReadError::NotFound { what: "message" };
        let Ok(id) = EventId::try_from(id) else { return Err(unknown) };
        let row = self.storage.timelines().row(&room, &id).await?.ok_or(unknown)?;
        if id.reply() > 0 {
            return Err(ReadError::Reply);
        }
        Ok(ReadMarker { row: row.number, row_id: Some(id), row_ms: row.at_ms })
    }

    async fn read_up_to(
        &self,
        viewer: UserId,
        room: RoomId,
        head: &RoomHead,
    ) -> Result<Option<ReadUpTo>, StorageError> {
        let stored = self.storage.markers().get(&viewer, room.as_str()).await?;
        let stored = stored.map(|marker| ReadUpTo {
            row: Some(marker.row),
            at_ms: head.shown_ms(marker.row, marker.row_ms),
        });
        Ok(later(stored, self.computed_read_up_to(viewer, room, head)))
    }

    /// What counts as read without a stored marker: own posts, and everything before joining.
    fn computed_read_up_to(
        &self,
        viewer: UserId,
        room: RoomId,
        head: &RoomHead,
    ) -> Option<ReadUpTo> {
        let own = head
            .newest_by(&viewer)
            .map(|author| ReadUpTo { row: Some(author.row), at_ms: author.row_ms });
        let now = self.clock.unix_ms();
        let joined = self.storage.state().read(|tables| {
            match tables.member(&room, &viewer).filter(|member| !member.left) {
                Some(member) => {
                    let row = member.joined_row.checked_sub(1)?;
                    let row = u32::try_from(row).unwrap_or(u32::MAX);
                    let at_ms = head.shown_ms(row, member.joined_row_ms);
                    Some(ReadUpTo { row: Some(row), at_ms })
                }
                // A member by rule since the account exists: what was there before is not unread. An account
                // made by a clock that was ahead would have read everything for years.
                None => {
                    let created_ms = tables.users.get(&viewer)?.created_ms;
                    let older = tables.rooms.get(&room)?.created_ms <= created_ms;
                    let ahead = created_ms > now.saturating_add(millis(CLOCK_AHEAD_MAX));
                    (older && !ahead).then_some(ReadUpTo { row: None, at_ms: created_ms })
                }
            }
        });
        later(own, joined)
    }
}

/// Whether a row lies beyond what was read.
fn is_newer(read: Option<ReadUpTo>, row: u32, at_ms: i64) -> bool {
    match read {
        None => true,
        Some(ReadUpTo { row: Some(read), .. }) => row > read,
        Some(ReadUpTo { row: None, at_ms: read }) => at_ms > read,
    }
}

/// The later of two. A row lies behind any moment: what a member by rule has marked or posted came after its
/// account.
fn later(a: Option<ReadUpTo>, b: Option<ReadUpTo>) -> Option<ReadUpTo> {
    let place = |read: &ReadUpTo| (read.row, if read.row.is_none() { read.at_ms } else { 0 });
    match (a, b) {
        (Some(a), Some(b)) => Some(if place(&b) > place(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_newer_by_number_or_by_time() {
        let by_row = Some(ReadUpTo { row: Some(5), at_ms: 100 });
        let by_time = Some(ReadUpTo { row: None, at_ms: 100 });
        for (read, row, at_ms, newer) in [
            (None, 0, 0, true),
            (by_row, 5, 100, false),
            (by_row, 6, 101, true),
            (by_row, 4, 200, false),
            (by_time, 9, 100, false),
            (by_time, 9, 101, true),
        ] {
            assert_eq!(is_newer(read, row, at_ms), newer);
        }
        assert_eq!(later(by_row, None), by_row);
        assert_eq!(later(None, by_time), by_time);
        let newest = Some(ReadUpTo { row: Some(9), at_ms: 300 });
        assert_eq!(later(by_time, newest), newest);
        assert_eq!(later(newest, by_row), newest);
        // Stamped by a clock that was ahead: the row decides, not the time.
        let ahead = Some(ReadUpTo { row: Some(7), at_ms: 9_000 });
        assert_eq!(later(ahead, newest), newest);
        assert_eq!(later(newest, ahead), newest);
        assert_eq!(later(by_time, by_row), by_row);
    }
}
