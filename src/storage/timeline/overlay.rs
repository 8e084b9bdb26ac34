//! The unfolded tail of the journal, in memory: what the pages do not contain yet.
//!
//! Truth is *page(upto) + journal(> upto)*; this is the second half. Heads of rooms are kept here too,
//! since both must change together. When folded events are dropped, the pages they touched are
//! remembered for a while, so that a lagging replica or a slow reader cannot bring an older page back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

use crate::limits::{FOLD_EVENTS, HEADS_MAX, OVERLAY_EVENTS_MAX, OVERLAY_MAX_BYTES};
use crate::storage::capacity;
use crate::storage::fold::held::{Held, HoldReason, RoomHold};
use crate::storage::fold::schedule::{Share, UnfoldedTails, removes_text};
use crate::storage::layout::PageKey;
use crate::storage::records::{Event, NewestRow};
use crate::storage::timeline::apply;
use crate::storage::timeline::head::RoomHead;

/// How long folded pages are remembered: longer than any read may take.
pub(crate) const REMEMBER: Duration = Duration::from_secs(30);

/// An event with its place in the journal.
#[derive(Debug, Clone)]
pub(crate) struct UnfoldedEvent {
    pub(crate) sequence: u64,
    pub(crate) event: Arc<Event>,
    /// Bytes of its payload, for the bound on memory.
    pub(crate) bytes: usize,
    /// When it arrived here.
    pub(crate) at: Instant,
    /// Whether this program knows all its fields. Readers see it either way; only such an event is folded.
    pub(crate) known: bool,
}

/// The unfolded events of all rooms, and the heads of recently used ones.
pub(crate) struct Overlay {
    inner: Mutex<Inner>,
}

struct Inner {
    rooms: HashMap<String, VecDeque<UnfoldedEvent>>,
    held: HashMap<String, Held>,
    heads: LruCache<String, Arc<RoomHead>>,
    folded: HashMap<(String, PageKey), (u64, Instant)>,
    /// The number of the newest event of each room that came.
    last: HashMap<String, u64>,
    /// The number of the newest event of a room that did not come: see [`Overlay::erased_number`].
    erased: HashMap<String, u64>,
    events: usize,
    bytes: usize,
    /// The journal sequence of the newest event.
    newest: u64,
}

/// What became of a head that was read from its page.
pub(crate) enum Completed {
    /// It is the present one now.
    Head(Arc<RoomHead>),
    /// The page is older than events that are dropped already: read it again.
    Outdated,
    /// An event between page and tail is missing.
    Gap,
}

/// Pages of dropped events, with the number of the event: readers drop what they cached without it.
pub(crate) type Dropped = Vec<(String, PageKey, u64)>;

impl Overlay {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                rooms: HashMap::new(),
                held: HashMap::new(),
                heads: LruCache::new(capacity(HEADS_MAX)),
                folded: HashMap::new(),
                last: HashMap::new(),
                erased: HashMap::new(),
                events: 0,
                bytes: 0,
                newest: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Takes the next event of a room; nothing of a room behind an event that cannot be applied.
    pub(crate) fn push(&self, room: &str, next: UnfoldedEvent) {
        let (sequence, bytes) = (next.sequence, next.bytes);
        let mut guard = self.lock();
        let inner = &mut *guard;
        let event = &next.event;
        inner.newest = inner.newest.max(sequence);
        if inner.held.get(room).is_some_and(|held| held.blocked_at.is_some()) {
            return;
        }
        let head = inner.heads.peek(room).map(|head| head.event_number);
        let last = inner.last.get(room).copied().max(head);
        if last.is_some_and(|last| event.number > last.saturating_add(1)) {
            inner.erased.insert(room.to_owned(), event.number.saturating_sub(1));
        }
        inner.last.insert(room.to_owned(), last.unwrap_or(0).max(event.number));
        if let Some(head) = inner.heads.get_mut(room) {
            if event.number == head.event_number + 1 {
                Arc::make_mut(head).apply(event);
            } else if event.number > head.event_number {
                inner.heads.pop(room);
            }
        }
        let tail = inner.rooms.entry(room.to_owned()).or_default();
        if tail.back().is_some_and(|last| last.sequence >= sequence) {
            return;
        }
        tail.push_back(next);
        inner.events += 1;
        inner.bytes += bytes;
    }

    /// The room's unfolded events, in order.
    pub(crate) fn tail(&self, room: &str) -> Vec<UnfoldedEvent> {
        self.lock().rooms.get(room).map(|tail| tail.iter().cloned().collect()).unwrap_or_default()
    }

    /// The cached head.
    pub(crate) fn cached_head(&self, room: &str) -> Option<Arc<RoomHead>> {
        self.lock().heads.get(room).cloned()
    }

    /// Brings a head that was read from its page up to the present and keeps it.
    pub(crate) fn complete_head(&self, room: &str, mut head: RoomHead) -> Completed {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.folded_number(room, PageKey::Head) > head.event_number {
            return Completed::Outdated;
        }
        for unfolded in inner.rooms.get(room).into_iter().flatten() {
            // Event numbers are contiguous; an erased event is in the head already.
            if unfolded.event.number > head.event_number + 1 {
                return Completed::Gap;
            }
            head.apply(&unfolded.event);
        }
        let head = Arc::new(head);
        inner.heads.put(room.to_owned(), Arc::clone(&head));
        Completed::Head(head)
    }

    /// Gives a head its newest messages back, and keeps it unless it has changed meanwhile.
    pub(crate) fn refill_head(
        &self,
        room: &str,
        head: &RoomHead,
        newest: Vec<NewestRow>,
    ) -> Arc<RoomHead> {
        let mut filled = head.clone();
        filled.refill(newest);
        let filled = Arc::new(filled);
        let mut inner = self.lock();
        if let Some(present) = inner.heads.get_mut(room).filter(|present| ***present == *head) {
            *present = Arc::clone(&filled);
        }
        filled
    }

    /// The number of the last event that is known to be folded into a page.
    pub(crate) fn folded_number(&self, room: &str, key: PageKey) -> u64 {
        self.lock().folded_number(room, key)
    }

    /// The number of the newest event of a room that other processes folded and erased before it came here; 0:
    /// there is none. It happens to a process whose feed stood still. Pages that were read before lack it.
    pub(crate) fn erased_number(&self, room: &str) -> u64 {
        self.lock().erased_number(room)
    }

    /// [`Self::folded_number`] of a page and [`Self::erased_number`] of its room, as of one moment.
    pub(crate) fn folded_and_erased(&self, room: &str, key: PageKey) -> (u64, u64) {
        let inner = self.lock();
        (inner.folded_number(room, key), inner.erased_number(room))
    }

    /// Drops the room's events up to a number: they are in the pages.
    pub(crate) fn drop_folded(&self, room: &str, upto: u64, now: Instant) -> Dropped {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut dropped = Vec::new();
        let mut empty = false;
        if let Some(tail) = inner.rooms.get_mut(room) {
            while let Some(front) = tail.front().filter(|front| front.event.number <= upto) {
                inner.events = inner.events.saturating_sub(1);
                inner.bytes = inner.bytes.saturating_sub(front.bytes);
                let mut keys = apply::touched(&front.event);
                if let Some((root, reply)) = apply::thread_of(&front.event) {
                    keys.push(PageKey::Replies(root, apply::reply_page(reply)));
                }
                keys.push(PageKey::Head);
                for key in keys {
                    let number = front.event.number;
                    inner.folded.insert((room.to_owned(), key), (number, now));
                    dropped.push((room.to_owned(), key, number));
                }
                tail.pop_front();
            }
            empty = tail.is_empty();
        }
        if empty {
            inner.rooms.remove(room);
        }
        inner.folded.retain(|_, (_, at)| now.saturating_duration_since(*at) < REMEMBER);
        dropped
    }

    /// Drops everything before a journal sequence, as the checkpoint says it is folded; `held` rooms, which
    /// it excepts, and blocked ones keep theirs.
    pub(crate) fn drop_before(
        &self,
        sequence: u64,
        held: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Dropped {
        let rooms: Vec<_> = {
            let inner = self.lock();
            let upto = |tail: &VecDeque<UnfoldedEvent>| {
                tail.iter()
                    .take_while(|unfolded| unfolded.sequence < sequence)
                    .last()
                    .map(|t| t.event.number)
            };
            let is_blocked =
                |room: &String| inner.held.get(room).is_some_and(|held| held.blocked_at.is_some());
            inner
                .rooms
                .iter()
                .filter(|(room, _)| !held(room) && !is_blocked(room))
                .filter_map(|(room, tail)| Some((room.clone(), upto(tail)?)))
                .collect()
        };
        rooms.into_iter().flat_map(|(room, upto)| self.drop_folded(&room, upto, now)).collect()
    }

    /// The lowest unfolded journal sequence of each room that has unfolded events, or is blocked.
    pub(crate) fn first_sequences(&self) -> Vec<(String, u64)> {
        let inner = self.lock();
        let of_tails = inner
            .rooms
            .iter()
            .filter_map(|(room, tail)| Some((room.clone(), tail.front()?.sequence)));
        let of_blocked = inner.held.iter().filter(|(room, _)| !inner.rooms.contains_key(*room));
        let of_blocked =
            of_blocked.filter_map(|(room, held)| Some((room.clone(), held.blocked_at?)));
        of_tails.chain(of_blocked).collect()
    }

    /// Holds a room; whether it was not held yet.
    pub(crate) fn hold(&self, room: &str, reason: HoldReason, now: Instant) -> bool {
        let mut inner = self.lock();
        let blocked_at = inner.held.get(room).and_then(|held| held.blocked_at);
        inner.held.insert(room.to_owned(), Held { reason, tried: now, blocked_at }).is_none()
    }

    /// Holds a room at an event that cannot be applied: nothing behind it is taken.
    pub(crate) fn block(&self, room: &str, sequence: u64, reason: HoldReason, now: Instant) {
        let mut inner = self.lock();
        let held = inner.held.entry(room.to_owned());
        let held = held.or_insert(Held { reason, tried: now, blocked_at: None });
        held.blocked_at.get_or_insert(sequence);
        inner.newest = inner.newest.max(sequence);
    }

    /// Whether a room has an event that cannot be applied.
    pub(crate) fn is_blocked(&self, room: &str) -> bool {
        self.lock().held.get(room).is_some_and(|held| held.blocked_at.is_some())
    }

    /// A room could be folded; whether it was held before. A blocked room stays held.
    pub(crate) fn release(&self, room: &str) -> bool {
        let mut inner = self.lock();
        if inner.held.get(room).is_none_or(|held| held.blocked_at.is_some()) {
            return false;
        }
        inner.held.remove(room).is_some()
    }

    /// Releases held rooms of which another process has folded everything.
    pub(crate) fn release_folded(&self) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let rooms = &inner.rooms;
        inner.held.retain(|room, held| held.blocked_at.is_some() || rooms.contains_key(room));
    }

    /// The held rooms, by id.
    pub(crate) fn held(&self) -> Vec<RoomHold> {
        let inner = self.lock();
        let held = inner.held.iter();
        let mut held: Vec<_> = held
            .map(|(room, held)| RoomHold { room: room.clone(), reason: held.reason.clone() })
            .collect();
        held.sort_by(|one, other| one.room.cmp(&other.room));
        held
    }

    /// Why this room takes no further event: it is blocked, or held while the unfolded events of held
    /// rooms fill a quarter of their space, which they must not take from the others.
    pub(crate) fn refuses(&self, room: &str) -> Option<HoldReason> {
        let inner = self.lock();
        let held = inner.held.get(room)?;
        let (events, bytes) = inner.held_size();
        let is_full = events * 4 >= OVERLAY_EVENTS_MAX || bytes * 4 >= OVERLAY_MAX_BYTES;
        (held.blocked_at.is_some() || is_full).then(|| held.reason.clone())
    }

    /// Whether no event fits any more: the fold is behind, and writers wait for it.
    pub(crate) fn is_full(&self) -> bool {
        let inner = self.lock();
        inner.events >= OVERLAY_EVENTS_MAX || inner.bytes >= OVERLAY_MAX_BYTES
    }

    /// Rooms whose events are to be folded now; see [`UnfoldedTails::due`].
    pub(crate) fn due(&self, now: Instant, all: bool) -> Vec<(String, Share)> {
        self.lock().unfolded().due(now, all)
    }

    /// Whether this room's newest event is a reason to fold at once.
    pub(crate) fn is_pressing(&self, room: &str) -> bool {
        let inner = self.lock();
        inner.unfolded().is_crowded()
            || inner.rooms.get(room).is_some_and(|tail| {
                tail.len() >= FOLD_EVENTS
                    || tail.back().is_some_and(|last| removes_text(&last.event))
            })
    }

    /// Unfolded events and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.events, inner.bytes)
    }
}

impl Inner {
    fn unfolded(&self) -> UnfoldedTails<'_> {
        let Self { rooms, held, newest, .. } = self;
        // What held rooms have is no reason to fold the others.
        let (held_events, held_bytes) = self.held_size();
        let events = self.events.saturating_sub(held_events);
        let bytes = self.bytes.saturating_sub(held_bytes);
        UnfoldedTails { rooms, held, events, bytes, newest: *newest }
    }

    /// Unfolded events of held rooms and their bytes.
    fn held_size(&self) -> (usize, usize) {
        let tails = self.held.keys().filter_map(|room| self.rooms.get(room));
        tails.fold((0, 0), |(events, bytes), tail| {
            let more: usize = tail.iter().map(|unfolded| unfolded.bytes).sum();
            (events + tail.len(), bytes + more)
        })
    }

    fn erased_number(&self, room: &str) -> u64 {
        self.erased.get(room).copied().unwrap_or(0)
    }

    fn folded_number(&self, room: &str, key: PageKey) -> u64 {
        self.folded.get(&(room.to_owned(), key)).map_or(0, |(number, _)| *number)
    }
}
