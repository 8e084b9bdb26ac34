//! Appending to a room's journal.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::crypto::hex;
use crate::domain::timeline::{self, Effect, Row};
use crate::domain::{EventId, RoomId, UserId};
use crate::limits::{CLOCK_AHEAD_MAX, CLOCK_SET_MIN_MS, ROOM_QUEUE_MAX, WRITE_DEADLINE};
use crate::nats::{Commit, Nats, Outcome, Publish, WritesRefused};
use crate::runtime::{Backoff, Clock};
use crate::storage::encoding::{decode, encode};
use crate::storage::error::{ChangeError, StorageError};
use crate::storage::feed::Position;
use crate::storage::layout::{journal_subject, stream};
use crate::storage::records::{Event, event::Effect as EffectRecord};
use crate::storage::state::mirror::Mirror;
use crate::storage::timeline::Timeline;
use crate::storage::timeline::head::RoomHead;
use parking_lot::Mutex;

/// Rooms whose writer is kept between posts.
const WRITERS_MAX: usize = 512;

/// What a caller wants to append; storage numbers and stamps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who causes it; `None`: the server itself.
    pub actor: Option<UserId>,
    /// The time it should carry, milliseconds since 1970; raised above that of the event before. Where that lies
    /// more than [`CLOCK_AHEAD_MAX`] ahead of this process's clock, the event carries the clock's time.
    pub at_ms: i64,
    pub effect: Effect,
}

/// What a draft is made from: the room as it is at the position that the event is to be appended at. Should
/// another writer be first, the draft is made again from a new view.
#[derive(Debug, Clone, Copy)]
pub struct DraftView<'a> {
    head: &'a RoomHead,
    rows: &'a [Row],
}

impl<'a> DraftView<'a> {
    /// The room's head.
    #[must_use]
    pub fn head(&self) -> &'a RoomHead {
        self.head
    }

    /// A row that the call named in `needs`; `None`: it did not, or there is no such row in this room.
    #[must_use]
    pub fn row(&self, id: &EventId) -> Option<&'a Row> {
        self.rows.iter().find(|row| row.id == *id)
    }
}

/// An event that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// As it lies in the journal.
    pub event: timeline::Event,
    /// It was stored by an earlier call with the same request id.
    pub duplicate: bool,
}

/// Names a request, so that a repetition within two minutes is recognised (`Nats-Msg-Id`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// For a request that names no key of its own.
    #[must_use]
    pub fn random() -> Self {
        Self(hex(&crate::crypto::random::<16>()))
    }

    /// For a request with an idempotency key: the same user, method, room and key give the same id.
    #[must_use]
    pub fn keyed(user: &UserId, method: &str, room: &RoomId, key: &str) -> Self {
        // Only the key is free text, and it comes last.
        let text = format!("{user} {method} {room} {key}");
        Self(hex(&crate::crypto::sha256(text.as_bytes())))
    }

    /// The text in the `Nats-Msg-Id` header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The writers of this process, one per room.
pub(crate) struct Journal {
    nats: Nats,
    clock: Clock,
    timeline: Arc<Timeline>,
    position: Position,
    mirror: Arc<Mirror>,
    writers: Mutex<HashMap<RoomId, Arc<Writer>>>,
}

/// Posts to one room queue here, so that writers of one process never conflict.
#[derive(Default)]
struct Writer {
    next_position: smol::lock::Mutex<Option<Next>>,
    waiting: AtomicUsize,
}

/// Where the next event goes.
struct Next {
    head: RoomHead,
    /// The last sequence on the room's subject; 0: none is left there.
    last: u64,
}

/// One call, whose deadline counts from its beginning: it covers the queue, every attempt, and the wait until
/// this process has seen the event.
struct Call<'a> {
    room: &'a RoomId,
    request: &'a RequestId,
    needs: &'a [EventId],
    deadline: Instant,
}

/// A stored event, its sequence, and where the next one goes if this process knows.
struct Stored {
    /// `None`: it was stored by an earlier call and is erased.
    event: Option<Event>,
    duplicate: bool,
    sequence: u64,
    next: Option<Next>,
}

impl Journal {
    pub(crate) fn new(
        (nats, clock): (Nats, Clock),
        timeline: Arc<Timeline>,
        position: Position,
        mirror: Arc<Mirror>,
    ) -> Self {
        let writers = Mutex::new(HashMap::new());
        Self { nats, clock, timeline, position, mirror, writers }
    }

    /// Appends one event; see [`Timelines::append`](crate::storage::Timelines::append).
    pub(crate) async fn append<E>(
        &self,
        room: &RoomId,
        request: &RequestId,
        needs: &[EventId],
        draft: impl FnMut(&DraftView<'_>) -> Result<Draft, E>,
    ) -> Result<Appended, ChangeError<E>> {
        let deadline = self.clock.now() + WRITE_DEADLINE;
        let call = Call { room, request, needs, deadline };
        // In the queue nothing is stored yet.
        let mut failure = StorageError::Busy;
        let attempts = Box::pin(self.attempts(&call, draft, &mut failure));
        let lost = async {
            self.nats.wait_until_refusing(WritesRefused::NoQuorum).await;
            Err(StorageError::LATE.into())
        };
        let outcome = futures_lite::future::or(attempts, lost);
        let outcome = self.clock.timeout(WRITE_DEADLINE, outcome).await;
        outcome.unwrap_or_else(|_| Err(failure.into()))
    }

    /// Tries until it is stored or refused. `failure`: what was in the way last.
    async fn attempts<E>(
        &self,
        call: &Call<'_>,
        mut draft: impl FnMut(&DraftView<'_>) -> Result<Draft, E>,
        failure: &mut StorageError,
    ) -> Result<Appended, ChangeError<E>> {
        let writer = self.writer(call.room);
        let ticket = WriterTicket::enter(&writer.waiting)?;
        let mut next_position = writer.next_position.lock().await;
        drop(ticket);
        if self.clock.now() >= call.deadline {
            return Err(StorageError::Busy.into());
        }
        *failure = StorageError::LATE;
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(500));
        let mut sent = false;
        let mut elsewhere = Elsewhere::since(self.position.reached(), &self.clock);
        loop {
            // Taken out while in use: if this is dropped half-way, the next caller reads the position again.
            let attempt = match self.prepare(call, next_position.take()).await {
                Ok(Prepared::Append(next, rows)) => {
                    match self.repeated(call, &next, &mut elsewhere).await {
                        Ok(None) => {
                            let view = DraftView { head: &next.head, rows: &rows };
                            let draft = draft(&view).map_err(ChangeError::Refused)?;
                            let event = self.stamp(&next.head, call.request, draft);
                            sent = true;
                            self.publish(call, next, event).await
                        }
                        stored => stored,
                    }
                }
                Ok(Prepared::AlreadyStored(event, sequence)) => {
                    let event = Some(event);
                    Ok(Some(Stored { event, duplicate: !sent, sequence, next: None }))
                }
                Err(error) => Err(error),
            };
            match attempt {
                Ok(Some(stored)) => {
                    *next_position = stored.next;
                    // Others need not wait until this process has seen its own event.
                    drop(next_position);
                    // Its readers see it before its caller is answered.
                    self.position.wait_for(stored.sequence, WRITE_DEADLINE, &self.clock).await?;
                    let event = stored.event.ok_or(StorageError::Erased)?;
                    let event = timeline::Event::try_from(&event);
                    let event = event.map_err(StorageError::corrupt("JOURNAL"))?;
                    return Ok(Appended { event, duplicate: stored.duplicate });
                }
                // Another writer was first: try again.
                Ok(None) => elsewhere.is_likely = true,
                Err(error) if error.is_transient() => {
                    *failure = error;
                    self.clock.sleep(backoff.delay()).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn stamp(&self, head: &RoomHead, request: &RequestId, draft: Draft) -> Event {
        let new_row = match &draft.effect {
            Effect::Post(post) if post.id.reply() == 0 => Some(post.id),
            Effect::Post(post) => post.echo,
            Effect::Edit(edit) => edit.show_echo,
            Effect::Fact { id, .. } => Some(*id),
            Effect::Delete(_) | Effect::React(_) | Effect::Pin(_) => None,
        };
        Event {
            number: head.event_number + 1,
            request_id: request.0.clone(),
            // Read behind the draft: at least what its decision was made from, whoever wrote it, and every
            // write that this process made for it. The feed may not have come so far yet.
            state_revision: self.mirror.highest(),
            at_ms: self.time(head, draft.at_ms),
            actor_id: draft.actor.map(|user| user.as_str().to_owned()).unwrap_or_default(),
            rows_after: new_row.map_or(head.rows, |id| head.rows.max(id.row().saturating_add(1))),
            effect: Some(EffectRecord::from(draft.effect)),
        }
    }

    /// The time an event carries: above that of the one before, unless a clock was ahead then.
    fn time(&self, head: &RoomHead, drafted_ms: i64) -> i64 {
        let now = self.clock.unix_ms();
        let ahead = i64::try_from(CLOCK_AHEAD_MAX.as_millis()).unwrap_or(i64::MAX);
        if head.last_ms > now.saturating_add(ahead) && now >= CLOCK_SET_MIN_MS {
            return now;
        }
        drafted_ms.max(head.last_ms.saturating_add(1))
    }

    /// `None`: another writer was first.
    async fn publish(
        &self,
        call: &Call<'_>,
        mut next: Next,
        event: Event,
    ) -> Result<Option<Stored>, StorageError> {
        let message = Publish {
            subject: &journal_subject(call.room.as_str()),
            payload: encode(&event),
            message_id: Some(&event.request_id),
            expected_last: Some(next.last),
            ..Publish::default()
        };
        let commit = Commit { nats: &self.nats, clock: &self.clock };
        let ack = match commit.outcome(message, call.deadline).await? {
            Outcome::Stored(ack) => ack,
            Outcome::Conflict { after_unknown: false } => return Ok(None),
            Outcome::Conflict { after_unknown: true } => {
                return self.own_event_after(call, next.last).await;
            }
        };
        let (sequence, duplicate) = (ack.sequence, ack.duplicate);
        if duplicate {
            let event = self.stored(sequence).await?;
            return Ok(Some(Stored { event, duplicate, sequence, next: None }));
        }
        next.head.apply(&event);
        next.last = sequence;
        Ok(Some(Stored { event: Some(event), duplicate, sequence, next: Some(next) }))
    }

    /// For an attempt that timed out, when another writer's event is the newest by now: our event if it was stored
    /// as the first one after `last`, else `None`. Drafting again could reject a message that is already stored.
    async fn own_event_after(
        &self,
        call: &Call<'_>,
        last: u64,
    ) -> Result<Option<Stored>, StorageError> {
        let subject = journal_subject(call.room.as_str());
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(500));
        let next = last.saturating_add(1);
        let first = loop {
            match self.nats.leader_next(stream::JOURNAL, &subject, next).await {
                Err(error) if error.is_transient() => self.clock.sleep(backoff.delay()).await,
                first => break first?,
            }
        };
        let Some(message) = first else { return Ok(None) };
        let event: Event = decode(&message.payload).map_err(StorageError::corrupt("JOURNAL"))?;
        let is_own = event.request_id == call.request.0;
        let (event, sequence) = (Some(event), message.sequence);
        Ok(is_own.then_some(Stored { event, duplicate: false, sequence, next: None }))
    }

    /// This request's own event among those that were stored since the call began, when there is a sign that
    /// another process may have stored it: that another writer was first, or that this process stood still,
    /// as in a suspended machine, for longer than nats-server knows requests.
    async fn repeated(
        &self,
        call: &Call<'_>,
        next: &Next,
        elsewhere: &mut Elsewhere,
    ) -> Result<Option<Stored>, StorageError> {
        let waited_ms = self.clock.unix_ms().saturating_sub(elsewhere.began_ms);
        let ahead_ms = next.head.last_ms.saturating_sub(self.clock.unix_ms());
        let stood_still = waited_ms.max(ahead_ms) > STOOD_STILL_MS;
        if !std::mem::take(&mut elsewhere.is_likely) && !stood_still {
            return Ok(None);
        }
        let subject = journal_subject(call.room.as_str());
        loop {
            let from = elsewhere.seen.saturating_add(1);
            let found = self.nats.leader_next(stream::JOURNAL, &subject, from).await?;
            let Some(message) = found else { return Ok(None) };
            elsewhere.seen = message.sequence;
            // What cannot be read was stored by a newer program, for itself.
            let event = decode::<Event>(&message.payload).ok();
            if let Some(event) = event.filter(|event| event.request_id == call.request.0) {
                let (event, sequence) = (Some(event), message.sequence);
                return Ok(Some(Stored { event, duplicate: true, sequence, next: None }));
            }
        }
    }

    /// The event at a sequence, answered instead of the request's own draft; `None`: it is erased. It is
    /// asked for until it is known, since drafting again could refuse what is stored.
    async fn stored(&self, sequence: u64) -> Result<Option<Event>, StorageError> {
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(500));
        let message = loop {
            match self.nats.leader_at(stream::JOURNAL, sequence).await {
                Err(error) if error.is_transient() => self.clock.sleep(backoff.delay()).await,
                message => break message?,
            }
        };
        let event = message.map(|message| decode(&message.payload));
        event.transpose().map_err(StorageError::corrupt("JOURNAL"))
    }

    /// What the next attempt is made from: where the event goes, and the rows that its draft names.
    async fn prepare(
        &self,
        call: &Call<'_>,
        known: Option<Next>,
    ) -> Result<Prepared, StorageError> {
        self.check_overlay(call.room)?;
        let prepared = match known {
            Some(next) => Prepared::Append(next, Vec::new()),
            None => Box::pin(self.find_position(call)).await?,
        };
        Ok(match prepared {
            Prepared::Append(next, _) if !call.needs.is_empty() => {
                let rows = Box::pin(self.needed(call, next.last)).await?;
                Prepared::Append(next, rows)
            }
            other => other,
        })
    }

    /// Refuses what could not be folded; where the fold is behind, writers wait for it, so that memory has
    /// its bound.
    fn check_overlay(&self, room: &RoomId) -> Result<(), StorageError> {
        if let Some(reason) = self.timeline.overlay.refuses(room.as_str()) {
            return Err(StorageError::Held { reason });
        }
        if self.timeline.overlay.is_full() { Err(StorageError::Busy) } else { Ok(()) }
    }

    /// Finds out where the next event goes, from the journal's leader.
    async fn find_position(&self, call: &Call<'_>) -> Result<Prepared, StorageError> {
        let room = call.room;
        let subject = journal_subject(room.as_str());
        let last = self.nats.leader_newest(stream::JOURNAL, &subject).await?;
        let (last, number) = match last {
            None => (0, 0),
            Some(message) => {
                let event = match decode::<Event>(&message.payload) {
                    Ok(event) => event,
                    Err(error) => {
                        // The feed holds the room when it comes to it.
                        let sequence = message.sequence;
                        self.position.wait_for(sequence, WRITE_DEADLINE, &self.clock).await?;
                        self.check_overlay(room)?;
                        return Err(StorageError::corrupt("JOURNAL")(error));
                    }
                };
                if event.request_id == call.request.0 {
                    return Ok(Prepared::AlreadyStored(event, message.sequence));
                }
                (message.sequence, event.number)
            }
        };
        self.position.wait_for(last, WRITE_DEADLINE, &self.clock).await?;
        let mut head = self.timeline.head(room.as_str()).await?;
        if head.event_number < number {
            // It came from a replica that lags.
            head = self.timeline.read_head(room.as_str(), true).await?;
        }
        if head.event_number < number {
            return Err(StorageError::LATE);
        }
        Ok(Prepared::Append(Next { head: RoomHead::clone(&head), last }, Vec::new()))
    }

    /// The rows that a draft names, as they are at the position it is made for, or later: the event is then
    /// refused for its position.
    async fn needed(&self, call: &Call<'_>, last: u64) -> Result<Vec<Row>, StorageError> {
        // A position known from this process's own last event may lie ahead of what its readers see.
        self.position.wait_for(last, WRITE_DEADLINE, &self.clock).await?;
        let mut rows = Vec::with_capacity(call.needs.len());
        for id in call.needs {
            let row = self.timeline.row(call.room.as_str(), id).await?;
            let row = row.map(Row::try_from).transpose();
            rows.extend(row.map_err(StorageError::corrupt("PAGES"))?);
        }
        Ok(rows)
    }

    fn writer(&self, room: &RoomId) -> Arc<Writer> {
        let mut writers = self.writers.lock();
        if writers.len() >= WRITERS_MAX {
            writers.retain(|_, writer| Arc::strong_count(writer) > 1);
        }
        Arc::clone(writers.entry(*room).or_default())
    }
}

/// What an append knows of repetitions at other processes.
struct Elsewhere {
    /// Up to this sequence there is none.
    seen: u64,
    began_ms: i64,
    /// Another writer was first.
    is_likely: bool,
}

impl Elsewhere {
    fn since(seen: u64, clock: &Clock) -> Self {
        Self { seen, began_ms: clock.unix_ms(), is_likely: false }
    }
}

/// A call that takes longer by the wall clock, or whose room has rows that lie so far ahead of it, has stood
/// still or has a clock that is wrong. Half of [`IDEMPOTENCY_WINDOW`](crate::limits::IDEMPOTENCY_WINDOW).
const STOOD_STILL_MS: i64 = 60_000;

enum Prepared {
    Append(Next, Vec<Row>),
    /// The last message is this request's own: an earlier attempt whose outcome was unknown, or the
    /// call that this one repeats.
    AlreadyStored(Event, u64),
}

struct WriterTicket<'a>(&'a AtomicUsize);

impl<'a> WriterTicket<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Result<Self, StorageError> {
        let ticket = Self(waiting);
        if waiting.fetch_add(1, Ordering::SeqCst) >= ROOM_QUEUE_MAX {
            drop(ticket);
            return Err(StorageError::Busy);
        }
        Ok(ticket)
    }
}

impl Drop for WriterTicket<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
