//! A client that follows a server: connects, resumes, holds rooms, and keeps its [`State`].
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::check::{self, Phase};
use super::reducer::Link;
use super::socket::PATIENCE;
use super::state::{State, message, operation};
use super::{Endpoint, Frame, Key, Received, Sent, Socket, wire};

/// What a client gets after it has subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatchUp {
    /// With the reset prefix.
    Reset,
    /// With the changes since the cursor.
    Replay,
}

/// A typing event of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Typing {
    pub(crate) room: String,
    pub(crate) thread: Option<String>,
    pub(crate) by: String,
}

/// How a connection ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// The last `close` frame: code and whether to come again.
    pub(crate) close: Option<(String, bool)>,
    /// The reason of `session_terminated`.
    pub(crate) terminated: Option<String>,
    /// The WebSocket's close code.
    pub(crate) code: Option<u16>,
}

/// See the file.
pub(crate) struct Follower {
    key: Key,
    socket: Option<Socket>,
    link: Link,
    end: End,
    /// Names of the operations of each event while catching up.
    loading: Vec<Vec<&'static str>>,
    hydrated: Option<(String, Result<(), String>)>,
    pong: Option<String>,
    pings: u64,
    pub(crate) state: State,
    /// Where to resume.
    pub(crate) cursor: Option<String>,
    pub(crate) typing: Vec<Typing>,
    pub(crate) heartbeats: usize,
    /// Room and text of every message that ever came, whatever became of it.
    pub(crate) received: BTreeSet<(String, String)>,
    /// Ids and operations of every event since the last `caught_up`.
    pub(crate) live: Vec<(String, Vec<&'static str>)>,
}

impl Follower {
    /// A follower that was never connected.
    pub(crate) fn new(key: Key) -> Self {
        let link = Link { phase: Phase::CatchingUp, held: BTreeSet::new(), is_first: true };
        Self {
            key,
            socket: None,
            link,
            end: End::default(),
            loading: Vec::new(),
            hydrated: None,
            pong: None,
            pings: 0,
            state: State::default(),
            cursor: None,
            typing: Vec::new(),
            heartbeats: 0,
            received: BTreeSet::new(),
            live: Vec::new(),
        }
    }

    /// A new follower that has loaded everything.
    pub(crate) fn load(endpoint: &Endpoint, key: Key) -> Self {
        let mut follower = Self::new(key);
        assert_eq!(follower.connect(endpoint), CatchUp::Reset, "without a cursor");
        follower
    }

    /// Connects with its cursor and held rooms, and follows until `caught_up`.
    #[track_caller]
    pub(crate) fn connect(&mut self, endpoint: &Endpoint) -> CatchUp {
        self.try_connect(endpoint).unwrap_or_else(|| panic!("not let in: {:?}", self.end))
    }

    /// Like `connect`; `None` when the server asks the client to reconnect, or closes the connection.
    #[track_caller]
    pub(crate) fn try_connect(&mut self, endpoint: &Endpoint) -> Option<CatchUp> {
        self.end = End::default();
        let mut socket = Socket::open(endpoint, &self.key);
        socket.hello(&self.key);
        match socket.next() {
            Received::Frame(Frame::Hello(hello)) => {
                assert_eq!(hello.protocol_version, 2);
                assert!(hello.server_version.starts_with("0.5."), "{hello:?}");
                assert!(hello.heartbeat_interval_seconds > 0, "{hello:?}");
            }
            Received::Frame(Frame::Close(close)) => {
                self.end.close = Some((close.code, close.reconnect));
                return None;
            }
            Received::Closed(_) => return None,
            Received::Frame(other) => panic!("not a hello: {other:?}"),
        }
        socket.send(Sent::SubscribeEvents(wire::RealtimeSubscribeEvents {
            resume_cursor: self.cursor.clone(),
            retained_room_ids: self.link.held.iter().cloned().collect(),
        }));
        self.socket = Some(socket);
        self.link.phase = Phase::CatchingUp;
        self.link.is_first = true;
        self.loading.clear();
        self.live.clear();
        self.heartbeats = 0;
        let given = self.cursor.clone();
        let started = self.subscribed()?;
        let before = self.state.clone();
        while self.link.phase == Phase::CatchingUp {
            self.step(PATIENCE);
            if self.socket.is_none() {
                // An incomplete load counts as none: it starts again from where it was.
                (self.state, self.cursor) = (before, given);
                return None;
            }
        }
        let how = check_order(&self.loading);
        if how == CatchUp::Replay {
            assert_eq!(Some(started), given, "a replay starts at the given cursor");
        }
        Some(how)
    }

    /// Holds the room from now on; the error is the server's code.
    #[track_caller]
    pub(crate) fn hold(&mut self, room: &str) -> Result<(), String> {
        let request = wire::RealtimeHydrateRoom { room_id: room.to_owned() };
        self.socket().send(Sent::HydrateRoom(request));
        // Rows may come right after the response.
        self.link.held.insert(room.to_owned());
        self.hydrated = None;
        let result = loop {
            if let Some((hydrated, result)) = self.hydrated.take() {
                assert_eq!(hydrated, room, "the response to another request");
                break result;
            }
            self.step(PATIENCE);
            assert!(self.socket.is_some(), "ended instead of a response: {:?}", self.end);
        };
        if result.as_ref().is_err_and(|code| code != "room_unavailable") {
            self.link.held.remove(room);
        }
        result
    }

    /// Follows until `condition` is true.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        // No pause between two frames: a client of a busy room would fall behind and be disconnected.
        let end = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(self.socket.is_some(), "{what}: ended with {:?}", self.end);
            assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
            self.step(Duration::from_secs(1));
        }
    }

    /// Applies a frame if one arrives within 200 ms.
    pub(crate) fn poll_once(&mut self) {
        self.step(Duration::from_millis(200));
    }

    /// Applies what arrives in this time, or until the connection ends.
    pub(crate) fn follow_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while self.socket.is_some() && Instant::now() < end {
            self.step(end.saturating_duration_since(Instant::now()));
        }
    }

    /// Applies everything that the server sends before the reply to a ping.
    #[track_caller]
    pub(crate) fn sync(&mut self) {
        assert!(self.try_sync(), "ended instead of a pong: {:?}", self.end);
    }

    /// Like `sync`, where the connection may have ended: `false` if it has.
    pub(crate) fn try_sync(&mut self) -> bool {
        self.pings += 1;
        let nonce = format!("ping {}", self.pings);
        let ping = Sent::Ping(wire::RealtimePing { nonce: nonce.clone() });
        if !self.socket.as_mut().is_some_and(|socket| socket.try_send(ping)) {
            self.socket = None;
        }
        while self.pong.as_deref() != Some(nonce.as_str()) {
            if self.socket.is_none() {
                return false;
            }
            self.step(PATIENCE);
        }
        true
    }

    /// Follows until the connection ends.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> End {
        let end = Instant::now() + PATIENCE;
        while self.socket.is_some() {
            assert!(Instant::now() < end, "the server did not end the connection");
            self.step(Duration::from_secs(1));
        }
        self.end.clone()
    }

    /// Cuts the connection without a close frame.
    pub(crate) fn cut(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.cut();
        }
    }

    /// Whether it is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    pub(crate) fn socket(&mut self) -> &mut Socket {
        self.socket.as_mut().expect("it is connected")
    }

    /// Sets the rooms to hold from the next connection on.
    pub(crate) fn retain<'a>(&mut self, rooms: impl IntoIterator<Item = &'a str>) {
        self.link.held.extend(rooms.into_iter().map(str::to_owned));
    }

    /// Rooms whose rows it wants.
    pub(crate) fn held(&self) -> &BTreeSet<String> {
        &self.link.held
    }

    /// Operations of the catch-up, event by event.
    pub(crate) fn loading(&self) -> &[Vec<&'static str>] {
        &self.loading
    }

    #[track_caller]
    fn subscribed(&mut self) -> Option<String> {
        loop {
            match self.socket().next() {
                Received::Frame(Frame::Subscribed(subscribed)) => {
                    let start = subscribed.start_cursor.filter(|cursor| !cursor.is_empty());
                    return Some(start.expect("where the subscription starts"));
                }
                Received::Frame(Frame::Heartbeat(_)) => {}
                Received::Frame(Frame::Close(close)) => {
                    self.end.close = Some((close.code, close.reconnect));
                }
                Received::Closed(code) => {
                    self.end.code = code;
                    self.socket = None;
                    return None;
                }
                other => panic!("not subscribed: {other:?}"),
            }
        }
    }

    /// Waits this long for the next frame, and applies it.
    fn step(&mut self, limit: Duration) {
        let Some(socket) = self.socket.as_mut() else { return };
        match socket.next_within(limit) {
            None => {}
            Some(Received::Frame(frame)) => self.take(frame),
            Some(Received::Closed(code)) => {
                self.end.code = code;
                self.socket = None;
            }
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::ProjectionEvent(event) => self.event(&event),
            Frame::CaughtUp(caught_up) => {
                assert_eq!(self.link.phase, Phase::CatchingUp, "caught up twice");
                assert!(!caught_up.cursor.is_empty());
                self.cursor = Some(caught_up.cursor);
                self.link.phase = Phase::Live;
            }
            Frame::Heartbeat(beat) => {
                assert!(!beat.id.is_empty() && beat.created_at.is_some(), "{beat:?}");
                self.heartbeats += 1;
            }
            Frame::Pong(pong) => self.pong = Some(pong.nonce),
            Frame::Error(error) => {
                assert!(!error.fatal, "{error:?}");
                let room = error.room_id.clone().expect("an error of a room");
                self.hydrated = Some((room, Err(error.code)));
            }
            Frame::Close(close) => self.end.close = Some((close.code, close.reconnect)),
            Frame::Event(event) => self.transient(event),
            Frame::Hello(_) | Frame::Subscribed(_) => panic!("twice: {frame:?}"),
        }
    }

    fn event(&mut self, event: &wire::RealtimeProjectionEvent) {
        let names = event.operations.iter().map(|one| one.operation.as_ref().map(operation));
        let names: Vec<_> = names.map(|name| name.expect("a known operation")).collect();
        self.state.apply(event, &self.link);
        self.link.is_first = false;
        if let Some(cursor) = &event.resume_cursor {
            self.cursor = Some(cursor.clone());
        }
        for one in &event.operations {
            let (room, rows) = match &one.operation {
                Some(super::Operation::RoomTimelineReplace(replace)) => {
                    self.hydrated = Some((replace.room_id.clone(), Ok(())));
                    let rows = replace.page.as_ref().map_or(&[][..], |page| &page.events);
                    (&replace.room_id, rows)
                }
                Some(super::Operation::RoomTimelineEventUpsert(upsert)) => {
                    (&upsert.room_id, upsert.event.as_slice())
                }
                _ => continue,
            };
            let bodies = rows.iter().filter_map(|row| message(row)?.body.clone());
            self.received.extend(bodies.map(|body| (room.clone(), body)));
        }
        match self.link.phase {
            Phase::CatchingUp => self.loading.push(names),
            Phase::Live => self.live.push((event.id.clone(), names)),
        }
    }

    fn transient(&mut self, event: wire::RealtimeEventEnvelope) {
        use wire::realtime_event_envelope::Event;
        assert!(!event.id.is_empty() && event.created_at.is_some(), "{event:?}");
        match event.event.expect("an event of a known kind") {
            Event::UserTyping(typing) => {
                let by = event.actor_id.expect("who types");
                assert_ne!(by, self.state.viewer_id(), "nobody gets their own typing events");
                assert!(self.state.is_member(&typing.room_id), "typing is for members");
                let thread = typing.thread_root_event_id;
                self.typing.push(Typing { room: typing.room_id, thread, by });
            }
            Event::PresenceChanged(changed) => {
                let status = check::status(changed.status);
                assert!(self.state.users.contains_key(&changed.user_id), "{changed:?}");
                self.state.presences.insert(changed.user_id, status);
            }
            Event::SessionTerminated(ended) => self.end.terminated = Some(ended.reason),
        }
    }
}

/// Checks the exact order of a fresh load or a replay, up to the reconciliation (contract 8.3).
fn check_order(events: &[Vec<&'static str>]) -> CatchUp {
    const RECONCILIATION: [&str; 4] = [
        "viewer_upsert",
        "thread_viewer_states_replace",
        "notification_occurrences_replace",
        "presences_replace",
    ];
    const PREFIX: [(&str, usize, usize); 10] = [
        ("reset", 1, 1),
        ("server_upsert", 1, 1),
        ("server_state_upsert", 1, 1),
        ("viewer_upsert", 1, 1),
        ("user_upsert", 1, usize::MAX),
        ("room_upsert", 0, usize::MAX),
        ("room_groups_replace", 1, 1),
        ("notification_occurrences_replace", 1, 1),
        ("active_calls_replace", 1, 1),
        ("room_timeline_replace", 0, usize::MAX),
    ];
    let (last, before) = events.split_last().expect("at least the reconciliation");
    let is_reset = events[0].first() == Some(&"reset");
    if !is_reset {
        let states = last.iter().take_while(|name| **name == "room_viewer_state_replace").count();
        assert_eq!(last[states..], RECONCILIATION, "{events:?}");
        return CatchUp::Replay;
    }
    assert_eq!(last[..], RECONCILIATION, "{events:?}");
    let mut names = before.iter().flatten().peekable();
    for (name, least, most) in PREFIX {
        let mut count = 0;
        while count < most && names.next_if(|next| **next == name).is_some() {
            count += 1;
        }
        assert!(count >= least, "{name} is missing or out of order: {before:?}");
    }
    assert_eq!(names.next(), None, "out of order: {before:?}");
    CatchUp::Reset
}
