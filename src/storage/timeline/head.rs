//! A room's head: what a writer must know to append, and what lists of rooms show.

use crate::domain::{EventId, UserId};
use crate::limits::TIME_CAPS_MAX;
use crate::storage::encoding::timeline::{optional, user};
use crate::storage::records::{self, Event, Head, Row, Stamp, TimeCap, event::Effect, row};

/// Newest root messages kept in a head; after more deletions in a row the pages are searched.
pub(crate) const NEWEST_MAX: usize = 32;
/// Authors kept in a head, those with the newest rows.
const AUTHORS_MAX: usize = 256;

/// The present state of a room's timeline: its head page with everything later applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoomHead {
    /// Rows of the room timeline; the next row gets this number.
    pub rows: u32,
    /// The number of the last event; the next event gets the number after it.
    pub event_number: u64,
    /// The time of the last event, milliseconds since 1970. Less than that of the event before only where a
    /// clock that was ahead is corrected.
    pub last_ms: i64,
    /// Newest root messages (echoes included) that are not deleted, oldest first.
    newest: Vec<records::NewestRow>,
    /// Whether older root messages than those were left out.
    has_older: bool,
    authors: Vec<records::AuthorRow>,
    /// Oldest pin first.
    pins: Vec<records::PinnedRow>,
    /// The marker of the newest pin ever made; empty: never.
    pub pin_marker: String,
    /// What rows that were stamped by a clock ahead are shown with, oldest first; rows, events and instants
    /// ascend.
    caps: Vec<TimeCap>,
}

/// The newest message of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestRow {
    pub row: u32,
    pub id: Option<EventId>,
    pub author: Option<UserId>,
    /// Milliseconds since 1970, as it is shown.
    pub at_ms: i64,
}

/// What a head knows of an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorRow {
    /// The newest row of the room at the author's last post.
    pub row: u32,
    /// The time of that row, milliseconds since 1970.
    pub row_ms: i64,
    /// The time of the author's last post of any kind, milliseconds since 1970.
    pub posted_ms: i64,
}

/// A pinned message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedRow {
    pub id: EventId,
    /// When it was pinned, milliseconds since 1970.
    pub at_ms: i64,
}

impl RoomHead {
    /// The newest root message or echo that is not deleted.
    #[must_use]
    pub fn newest(&self) -> Option<NewestRow> {
        let newest = self.newest.last()?;
        let (id, author) = (optional(&newest.id), user(&newest.author_id));
        Some(NewestRow { row: newest.row, id, author, at_ms: newest.at_ms })
    }

    /// The newest root row of one author, and the time of its last post of any kind.
    #[must_use]
    pub fn newest_by(&self, user: &UserId) -> Option<AuthorRow> {
        let author = self.authors.iter().find(|author| author.user_id == user.as_str())?;
        let records::AuthorRow { row, row_ms, posted_ms, .. } = *author;
        Some(AuthorRow { row, row_ms, posted_ms })
    }

    /// Pinned messages, oldest pin first.
    pub fn pins(&self) -> impl Iterator<Item = PinnedRow> {
        let pins = self.pins.iter();
        pins.filter_map(|pin| Some(PinnedRow { id: optional(&pin.id)?, at_ms: pin.at_ms }))
    }

    /// The time that a row of the room is shown with: its own, or that of the event with which a clock that had
    /// been ahead was corrected. So times never decrease along the timeline.
    #[must_use]
    pub fn shown_ms(&self, row: u32, at_ms: i64) -> i64 {
        let cap = self.caps.iter().find(|cap| cap.rows > row);
        cap.map_or(at_ms, |cap| at_ms.min(cap.at_ms))
    }

    /// The same for a reply, whose number in its thread does not say when it was made; its event's does.
    pub(crate) fn reply_shown_ms(&self, reply: &Row) -> i64 {
        let cap = self.caps.iter().find(|cap| cap.event_number > reply.event_number);
        cap.map_or(reply.at_ms, |cap| reply.at_ms.min(cap.at_ms))
    }

    /// Whether it knows no root message although there may be one.
    pub(crate) fn lacks_newest(&self) -> bool {
        self.newest.is_empty() && self.has_older
    }

    /// Takes the newest root messages that the pages hold, oldest first.
    pub(crate) fn refill(&mut self, newest: Vec<records::NewestRow>) {
        self.has_older = newest.len() >= NEWEST_MAX;
        self.newest = newest
            .into_iter()
            .map(|row| records::NewestRow { at_ms: self.shown_ms(row.row, row.at_ms), ..row })
            .collect();
    }

    pub(crate) fn from_record(head: Head) -> Self {
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
            caps: head.caps,
        }
    }

    pub(crate) fn record(&self, stamp: Stamp) -> Head {
        Head {
            stamp: Some(stamp),
            rows: self.rows,
            last_ms: self.last_ms,
            newest: self.newest.clone(),
            has_older: self.has_older,
            authors: self.authors.clone(),
            pins: self.pins.clone(),
            pin_marker: self.pin_marker.clone(),
            caps: self.caps.clone(),
        }
    }

    /// Applies the room's next event; an event that is contained already changes nothing.
    pub(crate) fn apply(&mut self, event: &Event) {
        if event.number <= self.event_number {
            return;
        }
        if event.at_ms < self.last_ms {
            self.correct(event);
        }
        self.event_number = event.number;
        self.rows = self.rows.max(event.rows_after);
        self.last_ms = event.at_ms;
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
                    self.remove_newest(&echo.id);
                }
            }
            Some(Effect::Delete(delete)) => {
                if !delete.echo_only {
                    self.remove_newest(&delete.id);
                    self.pins.retain(|pin| pin.id != delete.id);
                }
                if let Some(echo) = &delete.echo {
                    self.remove_newest(&echo.id);
                }
            }
            Some(Effect::Pin(pin)) => {
                if pin.remove {
                    self.pins.retain(|pinned| pinned.id != pin.id);
                } else if !self.pins.iter().any(|pinned| pinned.id == pin.id) {
                    self.pins.push(records::PinnedRow { id: pin.id.clone(), at_ms: event.at_ms });
                    self.pin_marker.clone_from(&pin.marker);
                }
            }
            Some(Effect::React(_) | Effect::Fact(_)) | None => {}
        }
    }

    /// An event whose time is less than that of the one before: a clock was ahead and is not any more.
    /// Everything older counts as having happened by now.
    fn correct(&mut self, event: &Event) {
        let at_ms = event.at_ms;
        self.caps.retain(|cap| cap.at_ms < at_ms);
        self.caps.push(TimeCap { rows: self.rows, at_ms, event_number: event.number });
        if self.caps.len() > TIME_CAPS_MAX {
            self.join_closest_caps();
        }
        for row in &mut self.newest {
            row.at_ms = row.at_ms.min(at_ms);
        }
        for author in &mut self.authors {
            author.row_ms = author.row_ms.min(at_ms);
            author.posted_ms = author.posted_ms.min(at_ms);
        }
        for pin in &mut self.pins {
            pin.at_ms = pin.at_ms.min(at_ms);
        }
    }

    /// Makes one cap of two: rows between them are shown a little too early, and the order stays.
    fn join_closest_caps(&mut self) {
        let gaps = self.caps.iter().zip(self.caps.iter().skip(1));
        let gaps = gaps.map(|(cap, next)| next.at_ms.saturating_sub(cap.at_ms));
        let closest = gaps.enumerate().min_by_key(|(_, gap)| *gap).map(|(at, _)| at);
        let Some(at) = closest else { return };
        let at_ms = self.caps.remove(at).at_ms;
        if let Some(joined) = self.caps.get_mut(at) {
            joined.at_ms = at_ms;
        }
    }

    fn push(&mut self, row: u32, id: &str, event: &Event) {
        self.newest.push(records::NewestRow {
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

    fn remove_newest(&mut self, id: &str) {
        self.newest.retain(|row| row.id != id);
    }

    /// The author's own post moves its read marker to the newest root row (contract: own posts and
    /// replies read the room) and starts its slow-mode time.
    fn posted(&mut self, event: &Event) {
        let newest = self.newest.last();
        let mut author = records::AuthorRow {
            user_id: event.actor_id.clone(),
            row: newest.map_or(0, |row| row.row),
            row_ms: newest.map_or(0, |row| row.at_ms),
            posted_ms: event.at_ms,
            row_id: newest.map(|row| row.id.clone()).unwrap_or_default(),
        };
        if let Some(at) = self.authors.iter().position(|other| other.user_id == author.user_id) {
            let former = self.authors.remove(at);
            if former.row > author.row {
                author = records::AuthorRow { posted_ms: author.posted_ms, ..former };
            }
        }
        self.authors.push(author);
        if self.authors.len() > AUTHORS_MAX {
            self.authors.remove(0);
        }
    }
}

/// What a head keeps of a row that is a root message or an echo, neither deleted nor hidden.
pub(crate) fn live_message(row: &Row) -> Option<records::NewestRow> {
    let is_live = match row.kind.as_ref()? {
        row::Kind::Message(message) => message.deleted_ms == 0,
        row::Kind::Echo(echo) => !echo.hidden && echo.deleted_ms == 0,
        row::Kind::Fact(_) => false,
    };
    is_live.then(|| records::NewestRow {
        row: row.number,
        id: row.id.clone(),
        author_id: row.actor_id.clone(),
        at_ms: row.at_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::records::Fact;

    /// A room, and the rows it was given: their numbers and stamped times.
    #[derive(Default)]
    struct Room {
        head: RoomHead,
        rows: Vec<(u32, i64)>,
    }

    impl Room {
        fn push(&mut self, at_ms: i64, is_row: bool) {
            let row = self.head.rows;
            let fact = Fact { row, ..Fact::default() };
            let event = Event {
                number: self.head.event_number + 1,
                at_ms,
                rows_after: row + u32::from(is_row),
                effect: is_row.then_some(Effect::Fact(fact)),
                ..Event::default()
            };
            self.head.apply(&event);
            if is_row {
                self.rows.push((row, at_ms));
            }
        }

        fn shown(&self) -> Vec<i64> {
            self.rows.iter().map(|(row, at_ms)| self.head.shown_ms(*row, *at_ms)).collect()
        }
    }

    #[test]
    fn rows_below_a_correction_are_shown_with_its_time_and_others_with_their_own() {
        let mut room = Room::default();
        for at_ms in [10, 20, 9_000, 9_001, 30, 40, 8_000] {
            room.push(at_ms, true);
        }
        assert_eq!(room.shown(), [10, 20, 30, 30, 30, 40, 8_000]);
        room.push(50, false);
        room.push(60, true);
        assert_eq!(room.shown(), [10, 20, 30, 30, 30, 40, 50, 60]);
        // The caps are stored, and one below all others replaces them.
        room.head = RoomHead::from_record(room.head.record(Stamp::default()));
        room.push(5, true);
        assert_eq!(room.shown(), [5, 5, 5, 5, 5, 5, 5, 5, 5]);
        assert_eq!(room.head.caps.len(), 1);
    }

    #[test]
    fn times_as_shown_never_decrease_however_often_a_clock_is_corrected() {
        for seed in 1..200_u64 {
            let (mut room, mut now) = (Room::default(), 0);
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..1_000 {
                let dice = random.u64(..1 << 31);
                now += i64::try_from(dice % 50).unwrap();
                let ahead = if dice % 7 == 0 { 10_000 } else { 0 };
                // As a writer stamps: ever higher, or its clock's time when that lies far behind.
                let last = room.head.last_ms;
                let at_ms =
                    if last > now + ahead + 500 { now } else { (now + ahead).max(last + 1) };
                room.push(at_ms, dice % 3 > 0);
            }
            let shown = room.shown();
            assert!(shown.is_sorted(), "seed {seed}");
            assert!(room.head.caps.len() <= TIME_CAPS_MAX);
            assert!(room.head.caps.is_sorted_by(|a, b| a.at_ms < b.at_ms && a.rows <= b.rows));
        }
    }
}
