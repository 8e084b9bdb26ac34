//! A subscribed connection. First it catches up, with a snapshot or with the changes since the client's cursor
//! (contract 8.3, 8.7). Then it sends changes, answers hydrations and pings, and watches the viewer's permissions
//! and session until it closes (contract 8.5, 8.6, 8.8).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::{Change, ChangeKind};
use super::client_state::ClientState;
use super::connection::{CloseReason, Connection, decode_client_frame, shutdown};
use super::frames::{self, EventHead};
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
use crate::present::operations::ProjectionOperation;
use crate::present::{self, operations};
use crate::runtime::{Pace, Timer};
use crate::service::{RightsFingerprint, Session, SessionState, StoreError};
use crate::storage::FeedPosition;

/// Delay before the session is checked again after an error.
const SESSION_RETRY: Duration = Duration::from_secs(5);
/// When ephemeral events may have been missed, sockets check their sessions within this time, in milliseconds.
const MISSED_CHECK_SPREAD_MS: u16 = 5_000;

/// What a waiting connection wakes up for.
enum Wake {
    Frame(Incoming),
    Queue(Dequeued),
    Due,
    Stop,
}

/// A subscribed connection.
pub(super) struct LiveConnection<'c, 'a, S> {
    pub(super) connection: &'c mut Connection<'a, S>,
    /// The initial load.
    pub(super) load: Arc<Load>,
    pub(super) registration: Registration,
    pub(super) session: Session,
    /// The viewer's permissions at the start. When they change, the connection closes.
    pub(super) rights: RightsFingerprint,
    pub(super) client: ClientState,
    pub(super) origin: String,
    /// Everything up to this position was sent.
    pub(super) position: FeedPosition,
    /// Hydrations requested before the client had caught up.
    pub(super) deferred: VecDeque<String>,
    pub(super) pace: Pace,
    pub(super) check_due: Instant,
    pub(super) timer: Timer,
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

    /// Brings the client to the position of its registration.
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
        // The connection does not know what the client has, and must not send ids of rooms that were always
        // hidden from the viewer.
        let is_safe =
            |changes: &Vec<Change>| !changes.iter().any(|one| self.has_unknown_past(&one.kind));
        match (replay.filter(is_safe), cursor) {
            (Some(changes), Some(cursor)) => {
                self.load.release_slot();
                self.connection.send(frames::subscribed(cursor.to_owned())).await?;
                self.client.is_complete = false;
                self.reacquire_slot().await?;
                self.replay(changes).await?;
                // Later changes compare with these states. They are not all of the same moment.
                let mut operations = self.projection().room_states().await?;
                self.client.complete_from = service.state_seen();
                operations.extend(self.projection().reconciliation().await?);
                self.send_loaded(operations).await?;
            }
            _ => {
                let start = self.cursor();
                self.load.release_slot();
                self.connection.send(frames::subscribed(start)).await?;
                self.reacquire_slot().await?;
                self.snapshot().await?;
                let operations = self.projection().reconciliation().await?;
                self.send_loaded(operations).await?;
            }
        }
        self.load.release_slot();
        self.read_pending_frames().await?;
        let reached = self.cursor();
        self.connection.send(frames::caught_up(reached)).await
    }

    /// Sends what was assembled. Releases the slot meanwhile, so that a slow client delays nobody.
    async fn send_loaded(
        &mut self,
        operations: Vec<ProjectionOperation>,
    ) -> Result<(), CloseReason> {
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

    /// The retained rooms whose rows the client received before it was disconnected: those in which the viewer
    /// was a member then.
    fn loaded_before(&self, changes: &[Change]) -> HashSet<RoomId> {
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
        let loaded = |room: &RoomId| {
            let is_member = || self.projection().is_member(*room);
            was_member.get(room).copied().unwrap_or_else(is_member)
        };
        self.client.retained_rooms().filter(loaded).collect()
    }

    /// Sends everything, beginning with a reset.
    async fn snapshot(&mut self) -> Result<(), CloseReason> {
        let mut first = vec![Operation::Reset(wire::RealtimeProjectionReset {}).into()];
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
            if let Some(timeline) = self.projection().timeline(id).await? {
                self.send_loaded(vec![timeline]).await?;
            }
        }
        Ok(())
    }

    /// State LIVE: sends changes and answers the client until the connection closes.
    pub(super) async fn run(&mut self) -> Result<std::convert::Infallible, CloseReason> {
        // What sends operations is boxed, so that an idle connection does not hold its memory.
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
        // `race` is fair: a busy room does not delay the client's frames, nor the other way round.
        let either = futures_lite::future::race(incoming, queue);
        let time = async {
            self.timer.until(due).await;
            Wake::Due
        };
        let woken = self.connection.stop.or(futures_lite::future::or(either, time));
        woken.await.unwrap_or(Wake::Stop)
    }

    /// Handles a frame of a subscribed client. Returns the room it wants hydrated, if any.
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

    /// Handles the frames that the client has sent while it catches up, without waiting for more.
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
            Ok(id) => self.projection().whole_room(id).await?,
            Err(_) => Vec::new(),
        };
        if operations.is_empty() {
            let unavailable = frames::room_error("room_unavailable", room, None);
            return self.connection.send(unavailable).await;
        }
        self.send_operations(operations, None).await
    }

    /// Sends operations that do not belong to a change.
    pub(super) async fn send_operations(
        &mut self,
        operations: Vec<ProjectionOperation>,
        cursor: Option<String>,
    ) -> Result<(), CloseReason> {
        let head = self.connection.realtime.head_of_now();
        self.send_projection_event(head, cursor, operations).await
    }

    /// Sends a projection event and records what the client has then. A session that ended while the event was
    /// assembled gets nothing of it.
    pub(super) async fn send_projection_event(
        &mut self,
        head: EventHead,
        cursor: Option<String>,
        operations: Vec<ProjectionOperation>,
    ) -> Result<(), CloseReason> {
        if self.registration.take_session_question() {
            Box::pin(self.confirm_session()).await?;
        }
        let service = &self.connection.realtime.service;
        for operation in &operations {
            self.client
                .record(operation, |room| service.directory().is_member(&self.session, room));
        }
        self.connection.send(frames::projection_event(head, cursor, operations)).await
    }

    /// Whether a change may have hidden a room that the client may have from before its cursor. The connection
    /// cannot tell, and must not send ids of rooms that the viewer never saw.
    pub(super) fn has_unknown_past(&self, kind: &ChangeKind) -> bool {
        let service = &self.connection.realtime.service;
        match kind {
            ChangeKind::Room { room, .. } => {
                !self.client.knows(*room) && service.directory().may_have_lost(&self.session, *room)
            }
            ChangeKind::Group { group } => !service.directory().has_group(*group),
            // These hide no id that the client has.
            ChangeKind::Posted { .. }
            | ChangeKind::Replied { .. }
            | ChangeKind::RowChanged { .. }
            | ChangeKind::Joined { .. }
            | ChangeKind::Left { .. }
            | ChangeKind::RowAdded { .. }
            | ChangeKind::Membership { .. }
            | ChangeKind::User { .. }
            | ChangeKind::Account
            | ChangeKind::Rights
            | ChangeKind::Server { .. }
            | ChangeKind::MarkerMoved { .. }
            | ChangeKind::Typing { .. }
            | ChangeKind::Presence { .. }
            | ChangeKind::Session
            | ChangeKind::Refresh => false,
        }
    }

    /// Sends a change, if it concerns the viewer.
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
                // The missed events may include the end of this session. All sockets check, but not at once.
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

    /// Sends a newer cursor when nothing happened for this client, so that its next resume reads less.
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

    /// Closes the connection unless the store's leader confirms that the session is valid.
    pub(super) async fn confirm_session(&mut self) -> Result<(), CloseReason> {
        match self.session_state().await {
            Ok(state) => check_ended(state),
            Err(error) => {
                log::debug!(error:err = error; "cannot check a session; the connection is refused");
                Err(CloseReason::stalled())
            }
        }
    }

    /// Reads the session's state, and schedules the next check.
    async fn session_state(&mut self) -> Result<SessionState, StoreError> {
        let realtime = self.connection.realtime;
        self.check_due = realtime.clock.now() + SESSION_CHECK_INTERVAL;
        realtime.service.sessions().state(&self.session).await
    }

    async fn check_session(&mut self) -> Result<(), CloseReason> {
        match self.session_state().await {
            Ok(state) => check_ended(state),
            Err(error) => {
                log::debug!(error:err = error; "cannot check a session; will retry");
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
