//! A subscribed connection: it catches up, everything anew or what changed since the cursor (contract 8.3, 8.7);
//! then changes go out, hydrations and pings are answered, rights and session are watched, until it ends
//! (contract 8.5, 8.6, 8.8).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::{Change, ChangeKind};
use super::client_state::ClientState;
use super::connection::{CloseReason, Connection, decode_client_frame, shutdown};
use super::frames::{self, Head};
use super::hub::{Dequeued, Queued, Registration};
use super::loads::{Load, LoadPhase};
use super::projection::{ProjectionError, ViewerProjection};
use super::{Incoming, Socket};
use crate::contract::realtime::{
    self as wire, realtime_client_frame::Frame as ClientFrame, realtime_event_envelope::Event,
    realtime_projection_operation::Operation,
};
use crate::domain::RoomId;
use crate::limits::{RETAINED_ROOMS_MAX, SESSION_CHECK_INTERVAL, SNAPSHOT_BATCH};
use crate::present::{self, operations};
use crate::runtime::{Alarm, Pace};
use crate::service::{RightsFingerprint, Session, SessionState, StoreError};
use crate::storage::FeedPosition;

/// When a session could not be checked, it is tried again after this.
const SESSION_RETRY: Duration = Duration::from_secs(5);
/// When messages were missed, sockets ask about their sessions within so many milliseconds.
const MISSED_CHECK_SPREAD_MS: u16 = 5_000;

/// Something that a waiting connection wakes for.
enum Wake {
    Frame(Incoming),
    Queue(Dequeued),
    Due,
    Stop,
}

/// A subscribed connection.
pub(super) struct LiveConnection<'c, 'a, S> {
    pub(super) connection: &'c mut Connection<'a, S>,
    /// What it loads in the beginning.
    pub(super) load: Arc<Load>,
    pub(super) registration: Registration,
    pub(super) session: Session,
    /// What was decided for the viewer when it came.
    pub(super) rights: RightsFingerprint,
    /// What the client has.
    pub(super) client: ClientState,
    pub(super) origin: String,
    /// How far the client has come.
    pub(super) position: FeedPosition,
    /// Hydrations asked for before the client had caught up.
    pub(super) deferred: VecDeque<String>,
    pub(super) pace: Pace,
    pub(super) check_due: Instant,
    pub(super) alarm: Alarm,
}

impl<S: Socket> LiveConnection<'_, '_, S> {
    pub(super) fn projection(&self) -> ViewerProjection<'_> {
        ViewerProjection {
            service: &self.connection.realtime.service,
            session: &self.session,
            origin: &self.origin,
            client: &self.client,
        }
    }

    pub(super) fn cursor(&self) -> String {
        self.connection.realtime.service.resume_cursors().seal(
            &self.session,
            self.position,
            self.rights,
        )
    }

    /// Brings the client to the position it was registered at.
    pub(super) async fn catch_up(&mut self, cursor: Option<&str>) -> Result<(), CloseReason> {
        let service = self.connection.realtime.service.clone();
        let since =
            cursor.and_then(|one| service.resume_cursors().open(&self.session, one, self.rights));
        let replay = match since {
            Some(since) => {
                let changes =
                    self.connection.realtime.hub.changes_between(since, self.position).await;
                changes.map_err(|error| ProjectionError::from(StoreError::from(error)))?
            }
            None => None,
        };
        // What the client has is not known here: ids of rooms that were hidden all the time are not told.
        let is_safe =
            |changes: &Vec<Change>| !changes.iter().any(|one| self.has_unknown_past(&one.kind));
        match (replay.filter(is_safe), cursor) {
            (Some(changes), Some(cursor)) => {
                self.load.release_slot();
                self.connection.send(frames::subscribed(cursor.to_owned())).await?;
                self.client.is_complete = false;
                self.reacquire_slot().await?;
                self.replay(changes).await?;
                // All rooms there are, as of one moment and another: later changes compare with these.
                let mut operations = Box::pin(self.projection().room_states()).await?;
                self.client.complete_from = service.state_seen();
                operations.extend(self.projection().reconciliation().await?);
                self.send_loaded(operations).await?;
            }
            _ => {
                let start = self.cursor();
                self.load.release_slot();
                self.connection.send(frames::subscribed(start)).await?;
                self.reacquire_slot().await?;
                Box::pin(self.snapshot()).await?;
                let operations = self.projection().reconciliation().await?;
                self.send_loaded(operations).await?;
            }
        }
        self.load.release_slot();
        self.read_pending_frames().await?;
        let reached = self.cursor();
        self.connection.send(frames::caught_up(reached)).await
    }

    /// Sends what was assembled. Meanwhile others assemble theirs: the client may take its time.
    async fn send_loaded(&mut self, operations: Vec<Operation>) -> Result<(), CloseReason> {
        self.load.release_slot();
        self.send_operations(operations, None).await?;
        self.read_pending_frames().await?;
        self.reacquire_slot().await
    }

    async fn reacquire_slot(&mut self) -> Result<(), CloseReason> {
        let load = Arc::clone(&self.load);
        self.connection.wait_for_slot(&load, LoadPhase::Continue).await
    }

    async fn replay(&mut self, changes: Vec<Change>) -> Result<(), CloseReason> {
        self.client.loaded = self.loaded_before(&changes);
        for change in changes {
            let operations = self.projection().operations(&change.kind).await?;
            if !operations.is_empty() {
                let head = self.connection.realtime.head_of(&change);
                self.load.release_slot();
                self.send_projection_event(head, None, operations).await?;
                self.read_pending_frames().await?;
                self.reacquire_slot().await?;
            }
        }
        Ok(())
    }

    /// The held rooms whose rows the client got before it was cut: those it was a member of then.
    fn loaded_before(&self, changes: &[Change]) -> HashSet<String> {
        let mut was_member = HashMap::new();
        for change in changes {
            match &change.kind {
                ChangeKind::Joined { room, user, .. } if *user == self.session.user => {
                    was_member.entry(*room).or_insert(false);
                }
                ChangeKind::Left { room, user, .. } if *user == self.session.user => {
                    was_member.entry(*room).or_insert(true);
                }
                _ => {}
            }
        }
        let loaded = |id: &&String| {
            RoomId::try_from(id.as_str()).is_ok_and(|room| {
                let is_member = || self.projection().is_member(room);
                was_member.get(&room).copied().unwrap_or_else(is_member)
            })
        };
        self.client.retained.iter().filter(loaded).cloned().collect()
    }

    /// The reset prefix.
    async fn snapshot(&mut self) -> Result<(), CloseReason> {
        let mut first = vec![Operation::Reset(wire::RealtimeProjectionReset {})];
        first.extend([self.projection().server(), self.projection().server_state()]);
        first.extend(self.projection().viewer().await?);
        self.send_loaded(first).await?;
        let everybody = self.projection().users();
        for users in everybody.chunks(SNAPSHOT_BATCH) {
            let users = users.iter().map(|id| self.projection().user(id)).collect();
            self.send_loaded(users).await?;
        }
        let shown = self.connection.realtime.service.directory().shown_rooms(&self.session).await;
        let shown = shown.map_err(|error| ProjectionError::from(StoreError::from(error)))?;
        let mut channels = HashMap::new();
        for rooms in shown.chunks(SNAPSHOT_BATCH) {
            let mut upserts = Vec::new();
            for id in rooms {
                let Some(room) = self.projection().room(*id).await? else { continue };
                if !room.is_direct() {
                    channels.insert(*id, room.with_state.clone());
                }
                upserts.push(operations::room_upsert(room));
            }
            self.send_loaded(upserts).await?;
        }
        let groups = self.projection().groups_from(channels).await?;
        let rest = vec![groups, operations::notifications(), operations::calls()];
        self.send_loaded(rest).await?;
        let mut retained: Vec<RoomId> = self.client.retained_rooms().collect();
        retained.sort_unstable();
        for id in retained.into_iter().filter(|id| shown.contains(id)) {
            if let Some(timeline) = Box::pin(self.projection().timeline(id)).await? {
                self.send_loaded(vec![timeline]).await?;
            }
        }
        Ok(())
    }

    /// LIVE.
    pub(super) async fn run(&mut self) -> Result<std::convert::Infallible, CloseReason> {
        while let Some(room) = self.deferred.pop_front() {
            Box::pin(self.hydrate(room)).await?;
        }
        loop {
            match self.next_wake().await {
                Wake::Stop => return Err(shutdown()),
                Wake::Queue(Dequeued::Overflown) => {
                    return Err(CloseReason::reconnect_within("slow_consumer", 0, 1_000));
                }
                Wake::Queue(Dequeued::Stalled) => return Err(CloseReason::stalled()),
                Wake::Queue(Dequeued::Displaced) => {
                    return Err(CloseReason::reconnect_within(
                        "catch_up_rate_limited",
                        30_000,
                        60_000,
                    ));
                }
                Wake::Queue(Dequeued::Change(queued)) => Box::pin(self.send_change(queued)).await?,
                Wake::Frame(incoming) => {
                    if let Some(room) = self.handle_frame(incoming).await? {
                        Box::pin(self.hydrate(room)).await?;
                    }
                }
                Wake::Due => {}
            }
            if self.connection.heartbeat_if_due().await? {
                self.send_idle_cursor().await?;
            }
            if self.connection.realtime.clock.now() >= self.check_due {
                self.check_session().await?;
            }
        }
    }

    async fn next_wake(&mut self) -> Wake {
        let due = self.connection.heartbeat_due.min(self.check_due);
        let socket = &mut self.connection.socket;
        let incoming = async { Wake::Frame(socket.receive().await) };
        let queue = async { Wake::Queue(self.registration.next().await) };
        // Fair: a busy room does not keep a client's frames waiting, nor the other way round.
        let either = futures_lite::future::race(incoming, queue);
        let time = async {
            self.alarm.until(due).await;
            Wake::Due
        };
        let woken = self.connection.stop.or(futures_lite::future::or(either, time));
        woken.await.unwrap_or(Wake::Stop)
    }

    /// Answers a frame of a subscribed client, or says which room it wants.
    async fn handle_frame(&mut self, incoming: Incoming) -> Result<Option<String>, CloseReason> {
        if matches!(incoming, Incoming::Disconnected) {
            return Err(CloseReason::Disconnected);
        }
        match decode_client_frame(incoming)? {
            ClientFrame::Ping(ping) => {
                self.connection.send(frames::pong(ping.nonce)).await?;
                Ok(None)
            }
            ClientFrame::HydrateRoom(hydrate) => Ok(Some(hydrate.room_id)),
            _ => Err(CloseReason::BAD_FRAME),
        }
    }

    /// Takes what the client sends while it catches up, without waiting.
    pub(super) async fn read_pending_frames(&mut self) -> Result<(), CloseReason> {
        if self.registration.is_stalled() {
            return Err(CloseReason::stalled());
        }
        self.connection.heartbeat_if_due().await?;
        while let Some(incoming) =
            futures_lite::future::poll_once(self.connection.socket.receive()).await
        {
            if let Some(room) = self.handle_frame(incoming).await? {
                if self.deferred.len() >= RETAINED_ROOMS_MAX {
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
    async fn hydrate(&mut self, room: String) -> Result<(), CloseReason> {
        let is_new = !self.client.retained.contains(&room);
        if is_new && self.client.retained.len() >= RETAINED_ROOMS_MAX {
            let full = frames::room_error("too_many_retained_rooms", room, None);
            return self.connection.send(full).await;
        }
        if let Err(wait) = self.pace.take(self.connection.realtime.clock.now()) {
            let ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
            let fast = frames::room_error("room_hydration_rate_limited", room, Some(ms));
            return self.connection.send(fast).await;
        }
        self.connection.realtime.service.read_barrier().try_pass().await;
        self.client.retained.insert(room.clone());
        let operations = match RoomId::try_from(room.as_str()) {
            Ok(id) => Box::pin(self.projection().whole_room(id)).await?,
            Err(_) => Vec::new(),
        };
        if operations.is_empty() {
            let unavailable = frames::room_error("room_unavailable", room, None);
            return self.connection.send(unavailable).await;
        }
        self.send_operations(operations, None).await
    }

    /// Sends operations that belong to no change.
    pub(super) async fn send_operations(
        &mut self,
        operations: Vec<Operation>,
        cursor: Option<String>,
    ) -> Result<(), CloseReason> {
        let head = self.connection.realtime.head_of_now();
        self.send_projection_event(head, cursor, operations).await
    }

    /// Sends a projection event and remembers what the client has with it.
    pub(super) async fn send_projection_event(
        &mut self,
        head: Head,
        cursor: Option<String>,
        operations: Vec<Operation>,
    ) -> Result<(), CloseReason> {
        let service = &self.connection.realtime.service;
        for operation in &operations {
            self.client
                .record(operation, |room| service.directory().is_member(&self.session, room));
        }
        self.connection.send(frames::projection_event(head, cursor, operations)).await
    }

    /// Whether a change may have taken a room away of which nobody knows whether the client has it: it came
    /// with a cursor, and ids of rooms that its viewer never saw are not told.
    pub(super) fn has_unknown_past(&self, kind: &ChangeKind) -> bool {
        let service = &self.connection.realtime.service;
        match kind {
            ChangeKind::Room { room, .. } => {
                !self.client.knows(*room) && service.directory().may_have_lost(&self.session, *room)
            }
            ChangeKind::Group { group } => !service.directory().has_group(*group),
            _ => false,
        }
    }

    /// Sends a change to the client, if it concerns it.
    async fn send_change(&mut self, queued: Queued) -> Result<(), CloseReason> {
        let Queued { change, position } = queued;
        self.position = position;
        self.client.is_complete = position.state > self.client.complete_from;
        if !self.client.is_complete && self.has_unknown_past(&change.kind) {
            return Err(CloseReason::reset_required());
        }
        match &change.kind {
            ChangeKind::Session => return self.check_session().await,
            ChangeKind::Refresh => {
                // The end of this session may be among what was missed. All sockets ask: not at once.
                let spread = Duration::from_millis(u64::from(
                    u16::from_be_bytes(crate::crypto::random()) % MISSED_CHECK_SPREAD_MS,
                ));
                self.check_due = self.check_due.min(self.connection.realtime.clock.now() + spread);
            }
            ChangeKind::Rights => self.check_rights()?,
            ChangeKind::Typing { room, thread } => {
                let typing = wire::RealtimeTypingEvent {
                    room_id: room.to_string(),
                    thread_root_event_id: thread.map(|id| id.to_string()),
                };
                if !self.projection().is_member(*room) {
                    return Ok(());
                }
                return self.send_transient(&change, Event::UserTyping(typing)).await;
            }
            ChangeKind::Presence { user } => {
                let presence = self.connection.realtime.service.presences().status(user);
                let changed = wire::RealtimePresenceChangedEvent {
                    user_id: user.to_string(),
                    status: present::presence(presence).into(),
                };
                return self.send_transient(&change, Event::PresenceChanged(changed)).await;
            }
            _ => {}
        }
        let operations = self.projection().operations(&change.kind).await?;
        if operations.is_empty() {
            return Ok(());
        }
        let cursor = self.cursor();
        let head = self.connection.realtime.head_of(&change);
        self.send_projection_event(head, Some(cursor), operations).await
    }

    async fn send_transient(&mut self, change: &Change, event: Event) -> Result<(), CloseReason> {
        let head = self.connection.realtime.head_of(change);
        self.connection.send(frames::transient(head, event)).await
    }

    /// Lets the client's cursor follow when nothing happened for it: its next resume has less to look
    /// through.
    async fn send_idle_cursor(&mut self) -> Result<(), CloseReason> {
        match self.registration.idle_position() {
            Some(position) if position != self.position => {
                self.position = position;
                let cursor = self.cursor();
                self.send_operations(Vec::new(), Some(cursor)).await
            }
            _ => Ok(()),
        }
    }

    fn check_rights(&self) -> Result<(), CloseReason> {
        let now = self.connection.realtime.service.resume_cursors().fingerprint(&self.session);
        if now == self.rights { Ok(()) } else { Err(CloseReason::reset_required()) }
    }

    /// Ends the connection unless the store's leader says that its session counts.
    pub(super) async fn confirm_session(&mut self) -> Result<(), CloseReason> {
        match self.session_state().await {
            Ok(state) => check_ended(state),
            Err(fault) => {
                log::debug!(error:err = fault; "a session cannot be checked now: it is not let in");
                Err(CloseReason::stalled())
            }
        }
    }

    /// Asks for the session's state; the next question is due after the usual time.
    async fn session_state(&mut self) -> Result<SessionState, StoreError> {
        let realtime = self.connection.realtime;
        self.check_due = realtime.clock.now() + SESSION_CHECK_INTERVAL;
        realtime.service.sessions().state(&self.session).await
    }

    async fn check_session(&mut self) -> Result<(), CloseReason> {
        match self.session_state().await {
            Ok(state) => check_ended(state),
            Err(fault) => {
                log::debug!(error:err = fault; "a session cannot be checked now");
                self.check_due = self.connection.realtime.clock.now() + SESSION_RETRY;
                Ok(())
            }
        }
    }
}

fn check_ended(state: SessionState) -> Result<(), CloseReason> {
    match state {
        SessionState::Holds => Ok(()),
        SessionState::Ended { reason } => Err(CloseReason::SessionEnded { reason }),
        SessionState::Expired => Err(CloseReason::Close {
            code: "authentication_required",
            reconnect: false,
            retry_after_ms: 0,
        }),
    }
}
