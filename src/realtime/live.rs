//! A subscribed connection: changes go out, hydrations and pings are answered, rights and session are
//! watched, until it ends (contract 8.5, 8.6, 8.8).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::{Cause, Change};
use super::connection::{Connection, End, asked, shutdown};
use super::frames::{self, Head};
use super::hub::{Next, Queued, Registration};
use super::lens::{Known, Lens};
use super::loads::Load;
use super::{Incoming, Socket};
use crate::contract::api;
use crate::contract::realtime::{
    self as wire, realtime_client_frame::Frame as Asked, realtime_event_envelope::Event,
    realtime_projection_operation::Operation,
};
use crate::domain::RoomId;
use crate::limits::{HELD_ROOMS_MAX, SESSION_CHECK_INTERVAL};
use crate::present;
use crate::runtime::{Alarm, Pace};
use crate::service::{RightsFingerprint, Session, SessionState, StoreError};
use crate::storage::FeedPosition;

/// When a session could not be checked, it is tried again after this.
const SESSION_RETRY: Duration = Duration::from_secs(5);
/// When messages were missed, sockets ask about their sessions within so many milliseconds.
const MISSED_CHECK_SPREAD_MS: u16 = 5_000;

/// Something that a waiting connection wakes for.
enum Wake {
    Heard(Incoming),
    Queue(Next),
    Time,
    Stop,
}

/// A subscribed connection.
pub(super) struct Live<'c, 'a, S> {
    pub(super) connection: &'c mut Connection<'a, S>,
    /// What it loads in the beginning.
    pub(super) load: Arc<Load>,
    pub(super) registration: Registration,
    pub(super) session: Session,
    /// What was decided for the viewer when it came.
    pub(super) rights: RightsFingerprint,
    /// Rooms whose timelines the client has, by id as it named them (contract 8.5).
    pub(super) held: HashSet<String>,
    /// Those of them whose rows it has: a row alone would pass for all of them.
    pub(super) loaded: HashSet<String>,
    /// The rooms it was told of on this connection.
    pub(super) known: HashMap<RoomId, Known>,
    /// Whether it knows nothing but those, as far as the change that is being sent goes. After a replay it does
    /// not: it has what it was told before its cursor.
    pub(super) is_complete: bool,
    /// The revision of STATE from which on it knows only those.
    pub(super) complete_from: u64,
    pub(super) origin: String,
    /// How far the client has come.
    pub(super) told: FeedPosition,
    /// Hydrations asked for before the client had caught up.
    pub(super) deferred: VecDeque<String>,
    pub(super) pace: Pace,
    pub(super) check_due: Instant,
    pub(super) alarm: Alarm,
}

impl<S: Socket> Live<'_, '_, S> {
    pub(super) fn lens(&self) -> Lens<'_> {
        Lens {
            service: &self.connection.realtime.service,
            session: &self.session,
            origin: &self.origin,
            held: &self.held,
            loaded: &self.loaded,
            known: &self.known,
            is_complete: self.is_complete,
        }
    }

    pub(super) fn cursor(&self) -> String {
        self.connection.realtime.service.resume_cursors().seal(
            &self.session,
            self.told,
            self.rights,
        )
    }

    /// LIVE.
    pub(super) async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        while let Some(room) = self.deferred.pop_front() {
            Box::pin(self.hydrate(room)).await?;
        }
        loop {
            match self.wake().await {
                Wake::Stop => return Err(shutdown()),
                Wake::Queue(Next::Overflown) => return Err(End::back("slow_consumer", 0, 1_000)),
                Wake::Queue(Next::Stalled) => return Err(End::stalled()),
                Wake::Queue(Next::Displaced) => {
                    return Err(End::back("catch_up_rate_limited", 30_000, 60_000));
                }
                Wake::Queue(Next::Change(queued)) => Box::pin(self.deliver(queued)).await?,
                Wake::Heard(heard) => {
                    if let Some(room) = self.heard(heard).await? {
                        Box::pin(self.hydrate(room)).await?;
                    }
                }
                Wake::Time => {}
            }
            if self.connection.heartbeat_if_due().await? {
                self.advance().await?;
            }
            if self.connection.realtime.clock.now() >= self.check_due {
                self.check_session().await?;
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let due = self.connection.heartbeat_due.min(self.check_due);
        let socket = &mut self.connection.socket;
        let heard = async { Wake::Heard(socket.receive().await) };
        let queue = async { Wake::Queue(self.registration.next().await) };
        // Fair: a busy room does not keep a client's frames waiting, nor the other way round.
        let either = futures_lite::future::race(heard, queue);
        let time = async {
            self.alarm.until(due).await;
            Wake::Time
        };
        let woken = self.connection.stop.or(futures_lite::future::or(either, time));
        woken.await.unwrap_or(Wake::Stop)
    }

    /// Answers a frame of a subscribed client, or says which room it wants.
    async fn heard(&mut self, heard: Incoming) -> Result<Option<String>, End> {
        if matches!(heard, Incoming::Gone) {
            return Err(End::Gone);
        }
        match asked(heard)? {
            Asked::Ping(ping) => {
                self.connection.send(frames::pong(ping.nonce)).await?;
                Ok(None)
            }
            Asked::HydrateRoom(asked) => Ok(Some(asked.room_id)),
            _ => Err(End::BAD_FRAME),
        }
    }

    /// Takes what the client sends while it catches up, without waiting.
    pub(super) async fn breathe(&mut self) -> Result<(), End> {
        if self.registration.is_stalled() {
            return Err(End::stalled());
        }
        self.connection.heartbeat_if_due().await?;
        while let Some(heard) =
            futures_lite::future::poll_once(self.connection.socket.receive()).await
        {
            if let Some(room) = self.heard(heard).await? {
                if self.deferred.len() >= HELD_ROOMS_MAX {
                    let busy = frames::room_error("room_hydration_busy", room, Some(1_000));
                    self.connection.send(busy).await?;
                } else {
                    self.deferred.push_back(room);
                }
            }
        }
        Ok(())
    }

    /// Answers `hydrate_room` (contract 8.5).
    async fn hydrate(&mut self, room: String) -> Result<(), End> {
        let is_new = !self.held.contains(&room);
        if is_new && self.held.len() >= HELD_ROOMS_MAX {
            let full = frames::room_error("too_many_retained_rooms", room, None);
            return self.connection.send(full).await;
        }
        if let Err(wait) = self.pace.take(self.connection.realtime.clock.now()) {
            let ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
            let fast = frames::room_error("room_hydration_rate_limited", room, Some(ms));
            return self.connection.send(fast).await;
        }
        self.connection.realtime.service.read_barrier().try_pass().await;
        self.held.insert(room.clone());
        let operations = match RoomId::try_from(room.as_str()) {
            Ok(id) => Box::pin(self.lens().whole_room(id)).await?,
            Err(_) => Vec::new(),
        };
        if operations.is_empty() {
            let unavailable = frames::room_error("room_unavailable", room, None);
            return self.connection.send(unavailable).await;
        }
        self.project(operations, None).await
    }

    /// Sends operations that belong to no change.
    pub(super) async fn project(
        &mut self,
        operations: Vec<Operation>,
        cursor: Option<String>,
    ) -> Result<(), End> {
        let head = self.connection.realtime.head_of_now();
        self.send_event(head, cursor, operations).await
    }

    /// Sends a projection event and remembers what the client has with it.
    pub(super) async fn send_event(
        &mut self,
        head: Head,
        cursor: Option<String>,
        operations: Vec<Operation>,
    ) -> Result<(), End> {
        // In their order: a room's state comes before its rows, and a lost room's wipe behind it.
        for operation in &operations {
            match has_rows(operation) {
                Some((room, true)) if self.reads(room) => self.loaded.insert(room.to_owned()),
                Some((room, _)) => self.loaded.remove(room),
                None => false,
            };
            self.note_known(operation);
        }
        self.connection.send(frames::projection(head, cursor, operations)).await
    }

    fn note_known(&mut self, operation: &Operation) {
        match operation {
            Operation::Reset(_) => self.known.clear(),
            Operation::RoomUpsert(upsert) => {
                let Some(with_state) = &upsert.room else { return };
                let id = with_state.room.as_ref().map(|room| RoomId::try_from(room.id.as_str()));
                let Some(Ok(id)) = id else { return };
                let is_member =
                    with_state.viewer_state.as_ref().is_some_and(|state| state.is_member);
                self.known.insert(id, Known::of(is_member, &upsert.member_user_ids));
            }
            Operation::RoomViewerStateReplace(replace) => {
                let Ok(id) = RoomId::try_from(replace.room_id.as_str()) else { return };
                let is_member = replace.viewer_state.as_ref().is_some_and(|state| state.is_member);
                let unknown = Known::of(is_member, &[]);
                self.known.entry(id).or_insert(unknown).is_member = is_member;
            }
            Operation::RoomRemove(remove) => {
                if let Ok(id) = RoomId::try_from(remove.room_id.as_str()) {
                    self.known.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// Whether a change may have taken a room away of which nobody knows whether the client has it: it came
    /// with a cursor, and ids of rooms that its viewer never saw are not told.
    pub(super) fn has_unknown_past(&self, cause: &Cause) -> bool {
        let service = &self.connection.realtime.service;
        match cause {
            Cause::Room { room, .. } => {
                !self.known.contains_key(room)
                    && service.directory().may_have_lost(&self.session, *room)
            }
            Cause::Groups { group } => !service.directory().has_group(*group),
            _ => false,
        }
    }

    fn reads(&self, room: &str) -> bool {
        RoomId::try_from(room).is_ok_and(|room| self.lens().is_member(room))
    }

    /// Sends a change to the client, if it concerns it.
    async fn deliver(&mut self, queued: Queued) -> Result<(), End> {
        let Queued { change, told } = queued;
        self.told = told;
        self.is_complete = told.state > self.complete_from;
        if !self.is_complete && self.has_unknown_past(&change.cause) {
            return Err(End::reset_required());
        }
        match &change.cause {
            Cause::Session => return self.check_session().await,
            Cause::Refresh => {
                // The end of this session may be among what was missed. All sockets ask: not at once.
                let spread = Duration::from_millis(u64::from(
                    u16::from_be_bytes(crate::crypto::random()) % MISSED_CHECK_SPREAD_MS,
                ));
                self.check_due = self.check_due.min(self.connection.realtime.clock.now() + spread);
            }
            Cause::Rights => self.check_rights()?,
            Cause::Typing { room, thread } => {
                let typing = wire::RealtimeTypingEvent {
                    room_id: room.to_string(),
                    thread_root_event_id: thread.map(|id| id.to_string()),
                };
                if !self.lens().is_member(*room) {
                    return Ok(());
                }
                return self.pass_on(&change, Event::UserTyping(typing)).await;
            }
            Cause::Presence { user } => {
                let presence = self.connection.realtime.service.presences().status(user);
                let changed = wire::RealtimePresenceChangedEvent {
                    user_id: user.to_string(),
                    status: present::presence(presence).into(),
                };
                return self.pass_on(&change, Event::PresenceChanged(changed)).await;
            }
            _ => {}
        }
        let operations = self.lens().operations(&change.cause).await?;
        if operations.is_empty() {
            return Ok(());
        }
        let cursor = self.cursor();
        let head = self.connection.realtime.head_of(&change);
        self.send_event(head, Some(cursor), operations).await
    }

    async fn pass_on(&mut self, change: &Change, event: Event) -> Result<(), End> {
        let head = self.connection.realtime.head_of(change);
        self.connection.send(frames::transient(head, event)).await
    }

    /// Lets the client's cursor follow when nothing happened for it: its next resume has less to look
    /// through.
    async fn advance(&mut self) -> Result<(), End> {
        match self.registration.idle_at() {
            Some(told) if told != self.told => {
                self.told = told;
                let cursor = self.cursor();
                self.project(Vec::new(), Some(cursor)).await
            }
            _ => Ok(()),
        }
    }

    fn check_rights(&self) -> Result<(), End> {
        let now = self.connection.realtime.service.resume_cursors().fingerprint(&self.session);
        if now == self.rights { Ok(()) } else { Err(End::reset_required()) }
    }

    /// Ends the connection unless the store's leader says that its session counts.
    pub(super) async fn confirm_session(&mut self) -> Result<(), End> {
        match self.session_state().await {
            Ok(state) => ended(state),
            Err(fault) => {
                log::debug!(error:err = fault; "a session cannot be checked now: it is not let in");
                Err(End::stalled())
            }
        }
    }

    /// Asks for the session's state; the next question is due after the usual time.
    async fn session_state(&mut self) -> Result<SessionState, StoreError> {
        let realtime = self.connection.realtime;
        self.check_due = realtime.clock.now() + SESSION_CHECK_INTERVAL;
        realtime.service.sessions().state(&self.session).await
    }

    async fn check_session(&mut self) -> Result<(), End> {
        match self.session_state().await {
            Ok(state) => ended(state),
            Err(fault) => {
                log::debug!(error:err = fault; "a session cannot be checked now");
                self.check_due = self.connection.realtime.clock.now() + SESSION_RETRY;
                Ok(())
            }
        }
    }
}

fn ended(state: SessionState) -> Result<(), End> {
    match state {
        SessionState::Holds => Ok(()),
        SessionState::Ended { reason } => Err(End::Terminated { reason }),
        SessionState::Expired => Err(End::Closed {
            code: "authentication_required",
            reconnect: false,
            retry_after_ms: 0,
        }),
    }
}

/// A room of which an operation says that the client has its rows now, or has none any more.
fn has_rows(operation: &Operation) -> Option<(&str, bool)> {
    let lost = |room: &str, state: &Option<api::RoomViewerState>| {
        !room.is_empty() && state.as_ref().is_none_or(|state| !state.is_member)
    };
    match operation {
        Operation::RoomTimelineReplace(replace) => Some((&replace.room_id, true)),
        Operation::RoomRemove(remove) => Some((&remove.room_id, false)),
        Operation::RoomUpsert(upsert) => {
            let with_state = upsert.room.as_ref()?;
            let id = &with_state.room.as_ref()?.id;
            lost(id, &with_state.viewer_state).then_some((id, false))
        }
        Operation::RoomViewerStateReplace(replace) => {
            lost(&replace.room_id, &replace.viewer_state).then_some((&replace.room_id, false))
        }
        _ => None,
    }
}
