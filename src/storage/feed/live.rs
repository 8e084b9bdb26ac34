//! The feed of updates: changes of STATE and events of the journal, each in its order, and ephemeral events,
//! which are published but not stored (typing, presence, read markers, ended credentials).
//!
//! A process has one subscriber. The feeds call it after their change is visible to readers and before their
//! position moves on: whoever waits for the position knows that the update was delivered.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::domain::timeline::Event;
use crate::domain::{EventId, Presence, RoomId, UserId};
use crate::nats::{BatchRead, Message, StoredMessage, Subscription};
use crate::runtime::Stop;
use crate::storage::encoding::buckets::{presence, presence_number};
use crate::storage::encoding::{DecodeError, decode, encode, is_known};
use crate::storage::error::StorageError;
use crate::storage::kv::key_store::KEYS_SUBJECT;
use crate::storage::layout::stream;
use crate::storage::records;
use crate::storage::state::mirror::StateChange;
use crate::storage::store::Inner;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum FeedUpdate {
    Event(Box<JournalEvent>),
    /// A record of STATE changed.
    State {
        revision: u64,
        changed: StateChange,
    },
    /// Published without being stored.
    EphemeralEvent(EphemeralEvent),
    /// The connection to the store was lost for a while: ephemeral events may be missing.
    Missed,
    /// An event waits for STATE longer than it should, and waits on ([`crate::storage::Storage::is_stalled`]).
    Stalled,
}

/// An event with its place.
#[derive(Debug, Clone)]
pub struct JournalEvent {
    pub room: RoomId,
    /// Its sequence in the journal.
    pub sequence: u64,
    pub event: Event,
}

/// Published to every process, stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EphemeralEvent {
    Typing {
        room: RoomId,
        user: UserId,
        /// In the thread of this root.
        thread: Option<EventId>,
    },
    /// Somebody's presence was set or refreshed.
    Presence {
        user: UserId,
        status: Presence,
        /// Until when, milliseconds since 1970.
        until_ms: i64,
    },
    /// Somebody's read marker moved.
    Marker {
        user: UserId,
        /// Id of the room or thread root.
        target: String,
    },
    /// `keys import` has added keys: texts that could not be decrypted may be readable now.
    KeysImported,
    /// A token was written or removed.
    Token {
        /// Its keyed hash.
        hash: [u8; 32],
    },
}

/// Receives every update, in order. It is called inside the feeds, so it must be quick.
pub trait FeedSubscriber: Send + Sync + 'static {
    /// Takes one update.
    fn deliver(&self, update: FeedUpdate);
}

/// Holds the one subscriber. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct SubscriberSlot(Arc<OnceLock<Arc<dyn FeedSubscriber>>>);

impl SubscriberSlot {
    #[cfg(test)]
    pub(crate) fn of(subscriber: Arc<dyn FeedSubscriber>) -> Self {
        let slot = Self::default();
        assert!(slot.0.set(subscriber).is_ok());
        slot
    }

    pub(crate) fn deliver(&self, update: FeedUpdate) {
        if let Some(subscriber) = self.0.get() {
            subscriber.deliver(update);
        }
    }
}

/// How far the feeds have delivered to the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedPosition {
    /// Every event of the journal up to this sequence.
    pub journal: u64,
    /// Every change of STATE up to this revision.
    pub state: u64,
}

/// What lies between two positions.
#[derive(Debug)]
pub struct Gap {
    /// The journal's events, in order.
    pub events: Vec<JournalEvent>,
    /// Records of STATE that changed, in the order of their last change.
    pub changed: Vec<(u64, StateChange)>,
}

/// The feed of updates, for its one subscriber.
#[derive(Clone, Copy)]
pub struct Feed<'a> {
    pub(crate) store: &'a Inner,
}

impl Feed<'_> {
    /// Sets the subscriber, once; everything from now on is delivered to it. Returns where "now" is.
    pub fn subscribe(self, subscriber: Arc<dyn FeedSubscriber>) -> FeedPosition {
        // A second subscriber would receive nothing: there is one hub per process.
        let first = self.store.subscriber.0.set(subscriber).is_ok();
        debug_assert!(first, "one subscriber per store");
        self.position()
    }

    /// How far the feeds have come.
    #[must_use]
    pub fn position(self) -> FeedPosition {
        let inner = self.store;
        FeedPosition {
            journal: inner.journal_position.reached(),
            state: inner.state_position.reached(),
        }
    }

    /// Waits until everything this process has written so far was delivered to the subscriber.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] after `limit`: the feeds are behind.
    pub async fn wait_until_delivered(self, limit: Duration) -> Result<(), StorageError> {
        let inner = self.store;
        let written = inner.mirror.written();
        // The journal needs no wait: an append returns when this process has seen its own event.
        inner.state_position.wait_for(written, limit, &inner.clock).await
    }

    /// What happened after `since`, up to `upto`; `None` when it is more than `max` changes, or some
    /// of it is purged or cannot be read by this program.
    pub async fn gap(
        self,
        since: FeedPosition,
        upto: FeedPosition,
        max: usize,
    ) -> Result<Option<Gap>, StorageError> {
        let inner = self.store;
        if since.journal > upto.journal || since.state > upto.state {
            return Ok(None);
        }
        let changed = inner.mirror.read(|tables| {
            (tables.server.purged_upto <= since.state).then(|| tables.changed_since(since.state))
        });
        let Some(changed) = changed.filter(|changed| changed.len() <= max) else { return Ok(None) };
        let events = match self.events_between(since.journal, upto.journal, max).await? {
            Some(events) if events.len().saturating_add(changed.len()) <= max => events,
            _ => return Ok(None),
        };
        Ok(Some(Gap { events, changed }))
    }

    /// `None`: too many, purged, or not to be read. What this program does not understand is not left out: the
    /// client would never learn of it.
    async fn events_between(
        self,
        since: u64,
        upto: u64,
        max: usize,
    ) -> Result<Option<Vec<JournalEvent>>, StorageError> {
        let mut events = Vec::new();
        if since >= upto {
            return Ok(Some(events));
        }
        if upto.saturating_sub(since) > u64::try_from(max).unwrap_or(u64::MAX) {
            return Ok(None);
        }
        let nats = &self.store.nats;
        let info = nats.stream(stream::JOURNAL).await?.ok_or(StorageError::LATE)?;
        if info.state.first_sequence > since.saturating_add(1) {
            return Ok(None);
        }
        let mut next = since.saturating_add(1);
        while next <= upto {
            let batch = nats.read(stream::JOURNAL, BatchRead::From { sequence: next, count: 256 });
            let batch = batch.await?;
            // Erased events leave holes; a replica that lags has not everything yet.
            let Some(last) = batch.messages.last().map(|message| message.sequence) else {
                match nats.leader_from(stream::JOURNAL, next).await? {
                    Some(message) if message.sequence <= upto => {
                        next = message.sequence.saturating_add(1);
                        let Some(one) = understood(&message) else { return Ok(None) };
                        events.push(one);
                        continue;
                    }
                    _ => break,
                }
            };
            for message in batch.messages.iter().filter(|message| message.sequence <= upto) {
                let Some(one) = understood(message) else { return Ok(None) };
                events.push(one);
            }
            next = last.saturating_add(1);
        }
        Ok(Some(events))
    }

    /// Publishes to every process, this one included; nobody waits for it.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] while there is no connection.
    pub async fn publish(self, event: &EphemeralEvent) -> Result<(), StorageError> {
        let (subject, record) = match event {
            EphemeralEvent::Typing { room, user, thread } => {
                let record = records::EphemeralEvent {
                    user_id: user.as_str().to_owned(),
                    target: thread.map(|id| id.as_str().to_owned()).unwrap_or_default(),
                    ..records::EphemeralEvent::default()
                };
                (format!("live.typing.{room}"), record)
            }
            EphemeralEvent::Presence { user, status, until_ms } => {
                let record = records::EphemeralEvent {
                    user_id: user.as_str().to_owned(),
                    status: presence_number(*status),
                    until_ms: *until_ms,
                    ..records::EphemeralEvent::default()
                };
                ("live.presence".to_owned(), record)
            }
            EphemeralEvent::Marker { user, target } => {
                let record = records::EphemeralEvent {
                    target: target.clone(),
                    ..records::EphemeralEvent::default()
                };
                (format!("live.marker.{user}"), record)
            }
            // The command publishes it, and AUTH_TOKENS is republished by the server itself.
            EphemeralEvent::KeysImported | EphemeralEvent::Token { .. } => return Ok(()),
        };
        Ok(self.store.nats.send(&subject, encode(&record)).await?)
    }
}

/// The room of a journal's subject.
pub(crate) fn room_of(subject: &str) -> Option<RoomId> {
    RoomId::try_from(subject.strip_prefix("journal.")?).ok()
}

/// The event of a stored journal message, and whether this program knows all its fields. One whose effect it
/// does not know is refused: nothing behind it can be applied.
pub(crate) fn decode_event(payload: &[u8]) -> Result<(records::Event, bool), DecodeError> {
    let event: records::Event = decode(payload)?;
    if event.effect.is_none() {
        return Err(DecodeError::UnknownFields);
    }
    let known = is_known(&event, payload);
    Ok((event, known))
}

/// A stored journal message as an event whose effect this program knows.
fn understood(message: &StoredMessage) -> Option<JournalEvent> {
    let room = room_of(&message.subject)?;
    let (event, _) = decode_event(&message.payload).ok()?;
    let event = Event::try_from(&event).ok()?;
    Some(JournalEvent { room, sequence: message.sequence, event })
}

/// The subjects of ephemeral events that the subscriber receives.
const SUBJECTS: [&str; 4] = ["live.typing.*", "live.presence", "live.marker.*", "live.token.>"];

/// Receives [`SUBJECTS`] until the process stops. After each connection the subscriber learns once that it may have
/// missed some: when all of them are received again.
pub(crate) async fn receive_events(store: Arc<Inner>, stop: Stop) {
    while let Some(mut received) = receive(&store, &SUBJECTS, &stop).await {
        store.tokens.invalidate_all();
        store.markers.invalidate_all();
        store.subscriber.deliver(FeedUpdate::Missed);
        while let Some(message) = received.next(&store, &stop).await {
            if let Some(event) = store.receive_ephemeral(&message) {
                store.subscriber.deliver(FeedUpdate::EphemeralEvent(event));
            }
        }
    }
}

/// Notices key imports until the process stops.
pub(crate) async fn receive_key_imports(store: Arc<Inner>, stop: Stop) {
    while let Some(mut received) = receive(&store, &[KEYS_SUBJECT], &stop).await {
        store.notice_key_imports().await;
        while received.next(&store, &stop).await.is_some() {
            store.notice_key_imports().await;
        }
    }
}

/// A subscription that lasts as long as the connection on which it was made.
struct Received {
    subscription: Subscription,
    connects: u64,
}

/// Subscribes as soon as that is possible; `None` when the process stops.
async fn receive(store: &Inner, subjects: &[&str], stop: &Stop) -> Option<Received> {
    while !stop.is_stopped() {
        let connects = store.nats.connects();
        match store.nats.subscribe_to_all(subjects).await {
            Ok(subscription) => return Some(Received { subscription, connects }),
            Err(_) => stop.or(store.clock.sleep(Duration::from_secs(1))).await?,
        }
    }
    None
}

impl Received {
    /// The next message; `None` after another connection, and when the process stops.
    async fn next(&mut self, store: &Inner, stop: &Stop) -> Option<Message> {
        let lost = async {
            store.nats.connected(self.connects).await;
            None
        };
        stop.or(futures_lite::future::or(lost, self.subscription.next())).await.flatten()
    }
}

impl Inner {
    /// Tells the subscriber when keys were imported since the last call.
    async fn notice_key_imports(&self) {
        match self.key_store().imports().await {
            Ok(imports) if self.key_imports.swap(imports, Ordering::SeqCst) != imports => {
                log::info!("keys were imported; clients load everything again");
                let event = EphemeralEvent::KeysImported;
                self.subscriber.deliver(FeedUpdate::EphemeralEvent(event));
            }
            Ok(_) => {}
            Err(error) => {
                log::warn!(error:err = error; "cannot read whether keys were imported; open clients may have to be reloaded");
            }
        }
    }

    fn receive_ephemeral(&self, message: &Message) -> Option<EphemeralEvent> {
        let rest = message.subject.strip_prefix("live.")?;
        let (kind, name) = rest.split_once('.').unwrap_or((rest, ""));
        if kind == "token" {
            let hash = self.tokens.invalidate(&message.subject)?;
            return Some(EphemeralEvent::Token { hash });
        }
        let record: records::EphemeralEvent = decode(&message.payload).ok()?;
        Some(match kind {
            "typing" => EphemeralEvent::Typing {
                room: RoomId::try_from(name).ok()?,
                user: UserId::try_from(record.user_id.as_str()).ok()?,
                thread: EventId::try_from(record.target.as_str()).ok(),
            },
            "presence" => EphemeralEvent::Presence {
                user: UserId::try_from(record.user_id.as_str()).ok()?,
                status: presence(record.status),
                until_ms: record.until_ms,
            },
            "marker" => {
                let user = UserId::try_from(name).ok()?;
                self.markers.invalidate(&user, &record.target);
                EphemeralEvent::Marker { user, target: record.target }
            }
            _ => return None,
        })
    }
}
