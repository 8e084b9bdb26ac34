//! The hub: the queues of all connections, and the feed subscriber that fills them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_listener::Event;
use parking_lot::{Mutex, MutexGuard};

use super::change::{Audience, Change, ChangeKind};
use crate::domain::{RoomKind, UserId};
use crate::limits::SOCKETS_PER_USER_MAX;
use crate::runtime::{Clock, Stop};
use crate::service::{Service, Session};
use crate::storage::{
    EphemeralEvent, FeedPosition, FeedSubscriber, FeedUpdate, Gap, Storage, StorageError,
};

/// Delay before presences are read again after an error.
const PRESENCE_RETRY: Duration = Duration::from_secs(1);

/// A change, and the client's position once it has received the change.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) change: Arc<Change>,
    pub(super) position: FeedPosition,
}

/// What a queue returns.
pub(super) enum Dequeued {
    Change(Queued),
    /// The client was too slow, and the queue was discarded.
    Overflown,
    /// The user has opened more sockets than allowed, and this is the oldest.
    Displaced,
    /// The process lags behind STATE, so changes cannot be checked against current permissions.
    Stalled,
}

/// The queue of one connection.
struct ConnectionQueue {
    session: Session,
    state: Mutex<QueueState>,
    filled: Event,
}

#[derive(Default)]
struct QueueState {
    changes: VecDeque<Queued>,
    /// A change says that the session may have ended, and nobody has looked since. Known before the change's turn comes.
    session_in_question: bool,
    overflown: bool,
    displaced: bool,
    stalled: bool,
}

impl ConnectionQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }

    fn push(&self, queued: Queued, max: usize) {
        let mut state = self.lock();
        state.session_in_question |= queued.change.kind == ChangeKind::Session;
        if state.overflown {
            return;
        }
        if state.changes.len() >= max {
            state.overflown = true;
            state.changes = VecDeque::new();
        } else {
            state.changes.push_back(queued);
        }
        drop(state);
        self.filled.notify(usize::MAX);
    }
}

struct Connections {
    position: FeedPosition,
    users: HashMap<UserId, Vec<Arc<ConnectionQueue>>>,
    count: usize,
}

/// Routes every change of the feed to the connections it may concern.
pub(super) struct Hub {
    service: Service,
    storage: Storage,
    queue_max: usize,
    connections: Mutex<Connections>,
    /// Notified when presences must be read again, or when one ends earlier than known before.
    presences: Event,
    presences_missed: AtomicBool,
}

impl Hub {
    pub(super) fn new(service: Service, storage: Storage, queue_max: usize) -> Arc<Self> {
        let hub = Arc::new(Self {
            service,
            storage,
            queue_max,
            connections: Mutex::new(Connections {
                position: FeedPosition::default(),
                users: HashMap::new(),
                count: 0,
            }),
            presences: Event::new(),
            presences_missed: AtomicBool::new(true),
        });
        let position = hub.storage.feed().subscribe(Arc::clone(&hub) as Arc<dyn FeedSubscriber>);
        let mut connections = hub.lock();
        connections.position.journal = connections.position.journal.max(position.journal);
        connections.position.state = connections.position.state.max(position.state);
        drop(connections);
        hub
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock()
    }

    /// Registers a connection. Its queue receives every change after the returned position. `None` while the
    /// process is stalled.
    pub(super) fn register(
        self: &Arc<Self>,
        session: &Session,
    ) -> Option<(Registration, FeedPosition)> {
        let queue = Arc::new(ConnectionQueue {
            session: session.clone(),
            state: Mutex::default(),
            filled: Event::new(),
        });
        let mut connections = self.lock();
        // Connections registered before a stall are notified of it. The lock orders the two.
        if self.storage.is_stalled() {
            return None;
        }
        let own = connections.users.entry(session.user).or_default();
        // The oldest is the most likely to be a connection that broke silently.
        let open = own.iter().filter(|queue| !queue.lock().displaced);
        let open: Vec<_> = open.cloned().collect();
        if let Some(oldest) = open.first().filter(|_| open.len() >= SOCKETS_PER_USER_MAX) {
            oldest.lock().displaced = true;
            oldest.filled.notify(usize::MAX);
        }
        own.push(Arc::clone(&queue));
        connections.count += 1;
        Some((Registration { hub: Arc::clone(self), queue }, connections.position))
    }

    /// The number of registered connections.
    pub(super) fn clients(&self) -> usize {
        self.lock().count
    }

    /// The changes between two positions; `None` when there are too many.
    pub(super) async fn changes_between(
        &self,
        since: FeedPosition,
        upto: FeedPosition,
    ) -> Result<Option<Vec<Change>>, StorageError> {
        let max = crate::limits::RESUME_CHANGES_MAX;
        let Some(Gap { events, changed }) = self.storage.feed().gap(since, upto, max).await? else {
            return Ok(None);
        };
        let epoch = self.storage.epoch();
        let state = self.storage.state().read(|tables| {
            let each = changed.iter().flat_map(|(revision, changed)| {
                Change::of_state(epoch, *revision, changed, tables)
            });
            each.map(|(change, _)| change).collect::<Vec<_>>()
        });
        // Users come first: rooms list their members as of now.
        let (users, state): (Vec<_>, Vec<_>) =
            state.into_iter().partition(|change| matches!(change.kind, ChangeKind::User { .. }));
        let events = events.iter().map(|event| Change::of_event(epoch, event));
        let state = users.into_iter().chain(state);
        Ok(Some(state.chain(events.map(|(change, _)| change)).collect()))
    }

    fn enqueue(&self, audience: Audience, change: Change, connections: &Connections) {
        let queued = Queued { change: Arc::new(change), position: connections.position };
        let push = |queue: &Arc<ConnectionQueue>| queue.push(queued.clone(), self.queue_max);
        let of = |user: &UserId| connections.users.get(user).into_iter().flatten();
        match audience {
            Audience::Everybody => connections.users.values().flatten().for_each(push),
            Audience::User(user) => of(&user).for_each(push),
            Audience::Credential(hash) => {
                let all = connections.users.values().flatten();
                all.filter(|queue| queue.session.came_from(&hash)).for_each(push);
            }
            Audience::Members { room, and, except } => {
                let members: Vec<UserId> = self.storage.state().read(|tables| {
                    let Some(record) = tables.rooms.get(&room) else { return Vec::new() };
                    let connected = connections.users.keys().copied();
                    if record.universal {
                        return connected.collect();
                    }
                    if record.kind == RoomKind::Direct {
                        let takes_part = |user: &UserId| record.participants.contains(user);
                        return connected.filter(takes_part).collect();
                    }
                    let member = |user: &UserId| {
                        Some(*user) == and
                            || tables.member(&room, user).is_some_and(|member| !member.left)
                    };
                    connected.filter(member).collect()
                });
                let members = members.iter().filter(|user| Some(**user) != except);
                members.flat_map(of).for_each(push);
            }
        }
    }

    fn enqueue_presences(&self, users: impl IntoIterator<Item = UserId>) {
        let connections = self.lock();
        for user in users {
            let change = Change::ephemeral(ChangeKind::Presence { user }, Some(user));
            self.enqueue(Audience::Everybody, change, &connections);
        }
    }

    /// Reads presences again when updates may have been missed, and expires each in time.
    pub(super) async fn track_presences(&self, clock: &Clock, stop: &Stop) {
        while !stop.is_stopped() {
            let changed = self.presences.listen();
            if self.presences_missed.swap(false, Ordering::SeqCst) {
                match self.service.presences().load().await {
                    Ok(users) => self.enqueue_presences(users),
                    Err(error) => {
                        log::debug!(error:err = error; "cannot read presences; will retry");
                        self.presences_missed.store(true, Ordering::SeqCst);
                        stop.or(clock.sleep(PRESENCE_RETRY)).await;
                        continue;
                    }
                }
            }
            let (ended, next) = self.service.presences().expire();
            self.enqueue_presences(ended);
            match next {
                // 10 ms later, so that it has certainly expired.
                Some(ms) => {
                    let wait = Duration::from_millis(ms.saturating_add(10));
                    let woken = futures_lite::future::or(changed, clock.sleep(wait));
                    stop.or(woken).await;
                }
                None => {
                    stop.or(changed).await;
                }
            }
        }
    }
}

impl FeedSubscriber for Hub {
    fn deliver(&self, update: FeedUpdate) {
        match &update {
            FeedUpdate::EphemeralEvent(EphemeralEvent::Presence { user, status, until_ms }) => {
                if self.service.presences().apply(*user, *status, *until_ms) {
                    self.enqueue_presences([*user]);
                }
                self.presences.notify(usize::MAX);
                return;
            }
            FeedUpdate::Missed => {
                self.presences_missed.store(true, Ordering::SeqCst);
                self.presences.notify(usize::MAX);
            }
            FeedUpdate::Stalled => {
                for queue in self.lock().users.values().flatten() {
                    queue.lock().stalled = true;
                    queue.filled.notify(usize::MAX);
                }
                return;
            }
            FeedUpdate::Event(_) | FeedUpdate::State { .. } | FeedUpdate::EphemeralEvent(_) => {}
        }
        let mut connections = self.lock();
        match &update {
            FeedUpdate::Event(event) => {
                connections.position.journal = connections.position.journal.max(event.sequence);
            }
            FeedUpdate::State { revision, .. } => {
                connections.position.state = connections.position.state.max(*revision);
            }
            FeedUpdate::EphemeralEvent(_) | FeedUpdate::Missed | FeedUpdate::Stalled => {}
        }
        if connections.count == 0 {
            return;
        }
        let epoch = self.storage.epoch();
        let changes = self.storage.state().read(|tables| Change::of(epoch, update, tables));
        for (change, audience) in changes {
            self.enqueue(audience, change, &connections);
        }
    }
}

/// The registration of a connection. Dropping it removes the connection from the hub.
pub(super) struct Registration {
    hub: Arc<Hub>,
    queue: Arc<ConnectionQueue>,
}

impl Registration {
    /// Waits for the next change.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn next(&self) -> Dequeued {
        loop {
            let filled = self.queue.filled.listen();
            {
                let mut state = self.queue.lock();
                if state.stalled {
                    return Dequeued::Stalled;
                }
                if state.displaced {
                    return Dequeued::Displaced;
                }
                if state.overflown {
                    return Dequeued::Overflown;
                }
                if let Some(queued) = state.changes.pop_front() {
                    return Dequeued::Change(queued);
                }
            }
            filled.await;
        }
    }

    /// Whether the session may have ended since this was last asked. Whatever is sent was assembled before: it may contain
    /// what came after the end.
    pub(super) fn take_session_question(&self) -> bool {
        std::mem::take(&mut self.queue.lock().session_in_question)
    }

    /// Whether the process has stalled since the registration.
    pub(super) fn is_stalled(&self) -> bool {
        self.queue.lock().stalled
    }

    /// The client's position if its queue is empty.
    pub(super) fn idle_position(&self) -> Option<FeedPosition> {
        let connections = self.hub.lock();
        let state = self.queue.lock();
        (state.changes.is_empty() && !state.overflown).then_some(connections.position)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut connections = self.hub.lock();
        let user = self.queue.session.user;
        if let Some(queues) = connections.users.get_mut(&user) {
            queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
            if queues.is_empty() {
                connections.users.remove(&user);
            }
        }
        connections.count = connections.count.saturating_sub(1);
    }
}
