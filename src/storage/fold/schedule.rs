//! When a room's unfolded events are folded, and how many of them.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::limits::{FOLD_AGE, FOLD_EVENTS, OVERLAY_EVENTS_MAX, OVERLAY_MAX_BYTES, PAGE_ROWS};
use crate::storage::fold::held::{HELD_RETRY, Held};
use crate::storage::records::Event;
use crate::storage::timeline::overlay::UnfoldedEvent;

/// How far a room's oldest unfolded event may lie behind the newest: a start reads everything from there.
const LAG_MAX: u64 = OVERLAY_EVENTS_MAX as u64;

/// How much of a room is to be folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    All,
    /// As far as they fill pages: a page that is written once need not be rewritten.
    FullPages,
}

/// The unfolded events of all rooms.
pub(crate) struct UnfoldedTails<'a> {
    pub(crate) rooms: &'a HashMap<String, VecDeque<UnfoldedEvent>>,
    pub(crate) held: &'a HashMap<String, Held>,
    /// Of rooms that are not held.
    pub(crate) events: usize,
    /// Of rooms that are not held.
    pub(crate) bytes: usize,
    /// The journal sequence of the newest event.
    pub(crate) newest: u64,
}

impl UnfoldedTails<'_> {
    /// Rooms whose events are to be folded now, the oldest first: enough of them, old enough, too far behind,
    /// or text that is to disappear. When memory is the reason, those with the most events or bytes, until
    /// a quarter of both bounds is left. Held rooms are tried again after a while. `all` folds everything
    /// (before a backup).
    pub(crate) fn due(&self, now: Instant, all: bool) -> Vec<(String, Share)> {
        let mut rest = Vec::new();
        let mut due = Vec::new();
        for (name, tail) in self.rooms {
            let Some(first) = tail.front() else { continue };
            if let Some(held) = self.held.get(name) {
                if all || now.saturating_duration_since(held.tried) >= HELD_RETRY {
                    due.push((first.sequence, name, Share::All));
                }
                continue;
            }
            let old = now.saturating_duration_since(first.at) >= FOLD_AGE;
            let behind = self.newest.saturating_sub(first.sequence) > LAG_MAX;
            let erases = || tail.iter().any(|unfolded| removes_text(&unfolded.event));
            if all || old || behind || erases() {
                due.push((first.sequence, name, Share::All));
            } else if tail.len() >= FOLD_EVENTS {
                due.push((first.sequence, name, Share::FullPages));
            } else {
                rest.push(Room { first: first.sequence, name, tail });
            }
        }
        if due.is_empty() && self.is_crowded() {
            due = self.largest(rest);
        }
        due.sort_unstable_by_key(|(sequence, ..)| *sequence);
        due.into_iter().map(|(_, name, share)| (name.clone(), share)).collect()
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.events * 2 > OVERLAY_EVENTS_MAX || self.bytes * 2 > OVERLAY_MAX_BYTES
    }

    /// As few rooms as leave a quarter of both bounds.
    fn largest<'r>(&self, mut rooms: Vec<Room<'r>>) -> Vec<(u64, &'r String, Share)> {
        let too_large = self.bytes.saturating_sub(OVERLAY_MAX_BYTES / 4);
        let large = take_largest(&mut rooms, |room| room.bytes(), too_large);
        let events: usize = large.iter().map(|room| room.tail.len()).sum();
        let too_many = self.events.saturating_sub(events + OVERLAY_EVENTS_MAX / 4);
        let busy = take_largest(&mut rooms, |room| room.tail.len(), too_many);
        let rooms = large.into_iter().chain(busy);
        rooms.map(|room| (room.first, room.name, Share::All)).collect()
    }
}

/// A room that is not due by itself.
struct Room<'a> {
    /// The journal sequence of its oldest event.
    first: u64,
    name: &'a String,
    tail: &'a VecDeque<UnfoldedEvent>,
}

impl Room<'_> {
    fn bytes(&self) -> usize {
        self.tail.iter().map(|unfolded| unfolded.bytes).sum()
    }
}

/// Takes the largest rooms, of equal ones the oldest, until `wanted` is reached.
fn take_largest<'r>(
    rooms: &mut Vec<Room<'r>>,
    size: impl Fn(&Room<'_>) -> usize,
    wanted: usize,
) -> Vec<Room<'r>> {
    rooms.sort_by_cached_key(|room| (size(room), Reverse(room.first)));
    let (mut taken, mut reached) = (Vec::new(), 0);
    while reached < wanted
        && let Some(room) = rooms.pop()
    {
        reached += size(&room);
        taken.push(room);
    }
    taken
}

/// How many of a room's events it takes to fill its last full page; all where none ends there.
pub(crate) fn full_pages(tail: &[UnfoldedEvent]) -> usize {
    let fills = |unfolded: &UnfoldedEvent| unfolded.event.rows_after.is_multiple_of(PAGE_ROWS);
    tail.iter().rposition(fills).map_or(tail.len(), |last| last + 1)
}

/// Text that is to disappear is folded, and with that erased, at once.
pub(crate) fn removes_text(event: &Event) -> bool {
    use crate::storage::records::event::Effect;
    match &event.effect {
        Some(Effect::Delete(delete)) => !delete.echo_only,
        Some(Effect::Edit(edit)) => edit.content.is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::runtime::Clock;
    use crate::storage::records::{Delete, Edit, event::Effect};
    use crate::storage::timeline::overlay::Overlay;

    /// Unfolded events, pushed at one moment each.
    struct Journal {
        overlay: Overlay,
        sequence: u64,
        now: Instant,
    }

    impl Journal {
        fn new() -> Self {
            Self { overlay: Overlay::new(), sequence: 0, now: Clock::system().now() }
        }

        /// So many events of so many bytes each, each of which adds a row.
        fn push(&mut self, room: &str, events: usize, bytes: usize) -> &mut Self {
            for n in 1..=events as u64 {
                self.add(
                    room,
                    Event { number: n, rows_after: n as u32, ..Event::default() },
                    bytes,
                );
            }
            self
        }

        fn add(&mut self, room: &str, event: Event, bytes: usize) {
            self.sequence += 1;
            let event = Arc::new(event);
            let unfolded =
                UnfoldedEvent { sequence: self.sequence, event, bytes, at: self.now, known: true };
            self.overlay.push(room, unfolded);
        }

        /// Rooms `name0`, `name1`, ….
        fn push_rooms(
            &mut self,
            name: &str,
            rooms: usize,
            events: usize,
            bytes: usize,
        ) -> &mut Self {
            for n in 0..rooms {
                self.push(&format!("{name}{n}"), events, bytes);
            }
            self
        }

        fn due(&self) -> Vec<(String, Share)> {
            self.overlay.due(self.now, false)
        }

        /// What stays after the rooms that are due are folded as a whole.
        fn left_when_folded(&self) -> (usize, usize) {
            for (room, _) in self.due() {
                self.overlay.drop_folded(&room, u64::MAX, self.now);
            }
            self.overlay.size()
        }
    }

    fn all(rooms: impl IntoIterator<Item = impl ToString>) -> Vec<(String, Share)> {
        rooms.into_iter().map(|room| (room.to_string(), Share::All)).collect()
    }

    const MANY: usize = FOLD_EVENTS - 1;
    const QUARTER: (usize, usize) = (OVERLAY_EVENTS_MAX / 4, OVERLAY_MAX_BYTES / 4);

    #[test]
    fn nothing_is_due_without_a_reason() {
        let mut journal = Journal::new();
        assert_eq!(journal.due(), []);
        // At both bounds, of events and of bytes.
        let rooms = OVERLAY_EVENTS_MAX / 2 / 50;
        journal.push_rooms("room", rooms, 50, OVERLAY_MAX_BYTES / OVERLAY_EVENTS_MAX);
        assert_eq!(journal.overlay.size().0, OVERLAY_EVENTS_MAX / 2);
        assert_eq!(journal.due(), []);
        assert_eq!(journal.overlay.due(journal.now, true).len(), rooms);
    }

    #[test]
    fn when_events_crowd_the_rooms_with_most_of_them_are_due_and_no_more() {
        let mut journal = Journal::new();
        // The quiet rooms have more bytes, of which there are not too many.
        journal.push_rooms("quiet", 200, 2, 1_000).push_rooms("busy", 26, MANY, 10);
        let due = journal.due();
        assert!(due.iter().all(|(room, _)| room.starts_with("busy")), "{due:?}");
        let (events, _) = journal.left_when_folded();
        assert!(events <= QUARTER.0 && events + MANY > QUARTER.0, "{events} left");
    }

    #[test]
    fn when_bytes_crowd_the_rooms_with_most_of_them_are_due_and_no_more() {
        const LARGE: usize = 40_000;
        let mut journal = Journal::new();
        // The lively rooms have more events, of which there are not too many.
        journal.push_rooms("lively", 15, MANY, 100).push_rooms("large", 55, 1, LARGE);
        let due = journal.due();
        assert!(due.iter().all(|(room, _)| room.starts_with("large")), "{due:?}");
        let (_, bytes) = journal.left_when_folded();
        assert!(bytes <= QUARTER.1 && bytes + LARGE > QUARTER.1, "{bytes} left");
    }

    #[test]
    fn when_both_crowd_a_quarter_of_both_is_left() {
        let mut journal = Journal::new();
        journal.push_rooms("lively", 40, MANY, 10).push_rooms("large", 60, 1, 40_000);
        // 35 large rooms for the bytes, and 25 lively ones for the events that are too many then.
        assert_eq!(journal.due().len(), 35 + 25);
        let (events, bytes) = journal.left_when_folded();
        assert!(events <= QUARTER.0 && bytes <= QUARTER.1, "{events} events, {bytes} bytes left");
    }

    #[test]
    fn one_room_that_crowds_alone_is_due_alone() {
        let mut journal = Journal::new();
        journal.push_rooms("small", 100, 5, 100).push("huge", MANY, OVERLAY_MAX_BYTES / 2 / MANY);
        assert_eq!(journal.due(), all(["huge"]));
    }

    #[test]
    fn rooms_of_one_size_and_age_are_due_from_the_oldest_on() {
        let mut journal = Journal::new();
        journal.push_rooms("room", 50, 41, 10);
        // 2,050 events: 26 rooms of 41 are more than the 1,050 that are too many.
        assert_eq!(journal.due(), all((0..26).map(|n| format!("room{n}"))));
    }

    #[test]
    fn old_rooms_are_due_and_nothing_is_folded_for_crowding_meanwhile() {
        let mut journal = Journal::new();
        journal.push("old", 1, 10);
        let later = journal.now + FOLD_AGE;
        assert_eq!(journal.overlay.due(later - Duration::from_millis(1), false), []);
        assert_eq!(journal.overlay.due(later, false), all(["old"]));
        journal.now = later;
        journal.push_rooms("room", 50, 41, 10);
        assert_eq!(journal.due(), all(["old"]));
    }

    #[test]
    fn a_room_that_lies_too_far_behind_is_due() {
        let mut journal = Journal::new();
        journal.push("behind", 1, 10);
        journal.sequence = LAG_MAX;
        journal.push("newest", 1, 10);
        assert_eq!(journal.due(), []);
        journal.push("newer", 1, 10);
        assert_eq!(journal.due(), all(["behind"]));
    }

    #[test]
    fn text_that_is_to_disappear_is_due_at_once() {
        let delete = |echo_only| Effect::Delete(Delete { echo_only, ..Delete::default() });
        let edit = Effect::Edit(Edit { content: Some(Default::default()), ..Edit::default() });
        for (effect, is_due) in [
            (delete(false), true),
            (delete(true), false),
            (edit, true),
            (Effect::Edit(Edit::default()), false),
        ] {
            let mut journal = Journal::new();
            journal.add("room", Event { number: 1, effect: Some(effect), ..Event::default() }, 10);
            assert_eq!(journal.due().len(), usize::from(is_due));
        }
    }

    #[test]
    fn a_busy_room_is_folded_as_far_as_its_events_fill_pages() {
        for (events, share) in [(MANY, None), (FOLD_EVENTS, Some(Share::FullPages))] {
            let mut journal = Journal::new();
            journal.push("busy", events, 10);
            assert_eq!(journal.due().first().map(|(_, share)| *share), share, "{events} events");
        }
        // Rows after each event, and how many of the events are folded.
        let page = PAGE_ROWS;
        for (rows, folded) in [
            (vec![], 0),
            (vec![1], 1),
            (vec![page], 1),
            (vec![page - 1, page, page + 1], 2),
            // A reaction to a row of the page it has filled.
            (vec![page - 1, page, page, page + 1], 3),
            (vec![page, 2 * page, 2 * page + 1], 2),
            // No page ends here.
            (vec![page + 1, page + 2], 2),
        ] {
            let mut journal = Journal::new();
            for (n, rows_after) in (1..).zip(&rows) {
                let rows_after = *rows_after;
                journal.add("room", Event { number: n, rows_after, ..Event::default() }, 10);
            }
            assert_eq!(full_pages(&journal.overlay.tail("room")), folded, "{rows:?}");
        }
    }
}
