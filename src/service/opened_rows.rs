//! Messages with their texts decrypted, shared by the viewers of this process.
//!
//! A change of a room is sent to each of its viewers at about the same time. The row is the same for all of them, so
//! it is read and decrypted once. Permissions are not the same: the caller checks them for each viewer, before it
//! asks for the row.

use std::collections::VecDeque;

use super::{RowView, RowViewKind};
use crate::domain::{EventId, RoomId};
use crate::limits::OPENED_ROWS_MAX;
use parking_lot::Mutex;

/// Everything that a row as shown depends on. It only grows; as long as it is the same, so is the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowVersion {
    /// The number of the room's newest event: edits, deletions and corrections of times are events.
    pub(super) event_number: u64,
    /// The STATE revision: the texts of erased accounts are not shown.
    pub(super) state: u64,
}

/// The rows that were opened last.
#[derive(Default)]
pub(super) struct OpenedRows {
    rows: Mutex<VecDeque<(RoomId, RowVersion, RowView)>>,
}

impl OpenedRows {
    /// The row, if it was opened at this version. An older one is dropped.
    pub(super) fn get(&self, room: RoomId, id: EventId, version: RowVersion) -> Option<RowView> {
        let mut rows = self.rows.lock();
        let at = rows.iter().position(|(of, _, row)| *of == room && row.id == id)?;
        let (_, opened, row) = rows.get(at)?;
        if *opened == version {
            return Some(row.clone());
        }
        rows.remove(at);
        None
    }

    /// Keeps a row that was read after the version was. Only messages with a text are kept: a text that could not be
    /// decrypted is tried again for the next viewer.
    pub(super) fn keep(&self, room: RoomId, version: RowVersion, row: &RowView) {
        if !matches!(&row.kind, RowViewKind::Message(message) if message.body.is_some()) {
            return;
        }
        let mut rows = self.rows.lock();
        rows.retain(|(of, _, kept)| *of != room || kept.id != row.id);
        if rows.len() >= OPENED_ROWS_MAX {
            rows.pop_front();
        }
        rows.push_back((room, version, row.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;
    use crate::service::MessageView;

    fn message(room: RoomId, number: u32, body: Option<&str>) -> RowView {
        let (id, author) = (EventId::new(number, 0, 7), UserId::from_number(1));
        let message = MessageView {
            id,
            room,
            created_ms: 5,
            author,
            body: body.map(str::to_owned),
            updated_ms: None,
            in_reply_to: None,
            thread_root: None,
            attachments: Vec::new(),
            deleted_ms: None,
        };
        RowView {
            id,
            created_ms: 5,
            actor: Some(author),
            kind: RowViewKind::Message(Box::new(message)),
        }
    }

    #[test]
    fn a_row_is_shared_only_at_the_version_at_which_it_was_opened() {
        let (room, other) = (RoomId::from_random([1; 16]), RoomId::from_random([2; 16]));
        let version = RowVersion { event_number: 3, state: 4 };
        let row = message(room, 0, Some("text"));
        for newer in [RowVersion { event_number: 4, ..version }, RowVersion { state: 5, ..version }]
        {
            let rows = OpenedRows::default();
            rows.keep(room, version, &row);
            assert_eq!(rows.get(room, row.id, version), Some(row.clone()));
            assert_eq!(rows.get(other, row.id, version), None, "another room's");
            assert_eq!(rows.get(room, row.id, newer), None);
            assert_eq!(rows.get(room, row.id, version), None, "the older one is dropped");
        }
    }

    #[test]
    fn few_rows_are_kept_and_none_without_a_text() {
        let room = RoomId::from_random([1; 16]);
        let version = RowVersion { event_number: 3, state: 4 };
        let rows = OpenedRows::default();
        let without = message(room, 0, None);
        rows.keep(room, version, &without);
        assert_eq!(rows.get(room, without.id, version), None);
        let count = u32::try_from(OPENED_ROWS_MAX).unwrap() + 1;
        let all: Vec<_> = (0..count).map(|number| message(room, number, Some("a"))).collect();
        all.iter().for_each(|row| rows.keep(room, version, row));
        assert_eq!(rows.get(room, all[0].id, version), None, "the oldest makes room");
        assert!(all[1..].iter().all(|row| rows.get(room, row.id, version).is_some()));
    }
}
