//! A room's head: what a writer must know to append, and what lists of rooms show.

use super::records::{
    AuthorRow, Event, Head, NewestRow, PinnedRow, Row, Stamp, event::Effect, row,
};
use crate::domain::UserId;

/// Newest root messages kept in a head; after more deletions in a row the pages are searched.
pub(super) const NEWEST_MAX: usize = 32;
/// Authors kept in a head, those with the newest rows.
const AUTHORS_MAX: usize = 256;

/// The present state of a room's timeline: its head page with everything later applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoomHead {
    /// Rows of the room timeline; the next row gets this number.
    pub rows: u32,
    /// The number of the last event; the next event gets the number after it.
    pub event_number: u64,
    /// The time of the last event, milliseconds since 1970; never decreases.
    pub last_ms: i64,
    /// Newest root messages (echoes included) that are not deleted, oldest first.
    newest: Vec<NewestRow>,
    /// Whether older root messages than those were left out.
    has_older: bool,
    authors: Vec<AuthorRow>,
    /// Pinned messages, oldest pin first.
    pub pins: Vec<PinnedRow>,
    /// The marker of the newest pin ever made; empty: never.
    pub pin_marker: String,
}

impl RoomHead {
    /// The newest root message or echo that is not deleted.
    #[must_use]
    pub fn newest(&self) -> Option<&NewestRow> {
        self.newest.last()
    }

    /// The newest root row of one author, and the time of its last post of any kind.
    #[must_use]
    pub fn newest_by(&self, user: &UserId) -> Option<&AuthorRow> {
        self.authors.iter().find(|author| author.user_id == user.as_str())
    }

    /// Whether it knows no root message although there may be one.
    pub(super) fn has_forgotten(&self) -> bool {
        self.newest.is_empty() && self.has_older
    }

    /// Takes the newest root messages that the pages hold, oldest first.
    pub(super) fn refill(&mut self, newest: Vec<NewestRow>) {
        self.has_older = newest.len() >= NEWEST_MAX;
        self.newest = newest;
    }

    pub(super) fn from_record(head: Head) -> Self {
        let event_number = head.stamp.as_ref().map_or(0, |stamp| stamp.event_number);
        Self {
            rows: head.rows,
            event_number,
            last_ms: head.last_ms,
            newest: head.newest,
            has_older: head.has_older,
            authors: head.authors,
            pins: head.pins,
            pin_marker: head.pin_marker,
        }
    }

    pub(super) fn record(&self, stamp: Stamp) -> Head {
        Head {
            stamp: Some(stamp),
            rows: self.rows,
            last_ms: self.last_ms,
            newest: self.newest.clone(),
            has_older: self.has_older,
            authors: self.authors.clone(),
            pins: self.pins.clone(),
            pin_marker: self.pin_marker.clone(),
        }
    }

    /// Applies the room's next event; an event that is contained already changes nothing.
    pub(super) fn apply(&mut self, event: &Event) {
        if event.number <= self.event_number {
            return;
        }
        self.event_number = event.number;
        self.rows = self.rows.max(event.rows_after);
        self.last_ms = self.last_ms.max(event.at_ms);
        match &event.effect {
            Some(Effect::Post(post)) => {
                if post.reply == 0 {
                    self.push(post.row, &post.id, event);
                } else if let Some(echo) = &post.echo {
                    self.push(echo.row, &echo.id, event);
                }
                self.posted(event);
            }
            Some(Effect::Edit(edit)) => {
                if let Some(echo) = &edit.show_echo {
                    self.push(echo.row, &echo.id, event);
                }
                if let Some(echo) = &edit.hide_echo {
                    self.forget(&echo.id);
                }
            }
            Some(Effect::Delete(delete)) => {
                if !delete.echo_only {
                    self.forget(&delete.id);
                    self.pins.retain(|pin| pin.id != delete.id);
                }
                if let Some(echo) = &delete.echo {
                    self.forget(&echo.id);
                }
            }
            Some(Effect::Pin(pin)) => {
                if pin.remove {
                    self.pins.retain(|pinned| pinned.id != pin.id);
                } else if !self.pins.iter().any(|pinned| pinned.id == pin.id) {
                    self.pins.push(PinnedRow { id: pin.id.clone(), at_ms: event.at_ms });
                    self.pin_marker.clone_from(&pin.marker);
                }
            }
            Some(Effect::React(_) | Effect::Fact(_)) | None => {}
        }
    }

    fn push(&mut self, row: u32, id: &str, event: &Event) {
        self.newest.push(NewestRow {
            row,
            id: id.to_owned(),
            author_id: event.actor_id.clone(),
            at_ms: event.at_ms,
        });
        if self.newest.len() > NEWEST_MAX {
            self.newest.remove(0);
            self.has_older = true;
        }
    }

    fn forget(&mut self, id: &str) {
        self.newest.retain(|row| row.id != id);
    }

    /// The author's own post moves its read marker to the newest root row (contract: own posts and
    /// replies read the room) and starts its slow-mode time.
    fn posted(&mut self, event: &Event) {
        let newest = self.newest.last();
        let mut author = AuthorRow {
            user_id: event.actor_id.clone(),
            row: newest.map_or(0, |row| row.row),
            row_ms: newest.map_or(0, |row| row.at_ms),
            posted_ms: event.at_ms,
            row_id: newest.map(|row| row.id.clone()).unwrap_or_default(),
        };
        if let Some(at) = self.authors.iter().position(|other| other.user_id == author.user_id) {
            let former = self.authors.remove(at);
            if former.row > author.row {
                author = AuthorRow { posted_ms: author.posted_ms, ..former };
            }
        }
        self.authors.push(author);
        if self.authors.len() > AUTHORS_MAX {
            self.authors.remove(0);
        }
    }
}

/// What a head keeps of a row that is a root message or an echo, neither deleted nor hidden.
pub(super) fn live_message(row: &Row) -> Option<NewestRow> {
    let is_live = match row.kind.as_ref()? {
        row::Kind::Message(message) => message.deleted_ms == 0,
        row::Kind::Echo(echo) => !echo.hidden && echo.deleted_ms == 0,
        row::Kind::Fact(_) => false,
    };
    is_live.then(|| NewestRow {
        row: row.number,
        id: row.id.clone(),
        author_id: row.actor_id.clone(),
        at_ms: row.at_ms,
    })
}

/// Whether a row is a root message, as opposed to an echo or a fact.
#[must_use]
pub fn is_message(kind: Option<&row::Kind>) -> bool {
    matches!(kind, Some(row::Kind::Message(_)))
}
