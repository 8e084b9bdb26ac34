//! One connection from its first frame to its last: hello, subscription, close (contract 8.1, 8.2).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::change::{Change, random_id};
use super::client_state::ClientState;
use super::frames::{self, EventHead};
use super::live::LiveConnection;
use super::loads::{Load, LoadPhase, Loader};
use super::projection::ProjectionError;
use super::{Disconnected, HandshakeInfo, Incoming, Inner, Socket};
use crate::contract::realtime::{
    self as wire, realtime_client_frame::Frame as ClientFrame, realtime_event_envelope::Event,
    realtime_server_frame::Frame,
};
use crate::contract::{Encoding, Timestamp, decode};
use crate::limits::{
    FRAME_SEND_TIMEOUT, HYDRATION_INTERVAL, HYDRATIONS_BURST, RETAINED_ROOMS_MAX,
    SESSION_CHECK_INTERVAL, SNAPSHOT_TIMEOUT,
};
use crate::present;
use crate::runtime::{Pace, Stop};
use crate::service::{AuthenticateError, CallKind, Credential, Session};

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The client has disconnected, or no longer reads.
    Disconnected,
    /// The client sent a text frame.
    TextFrame,
    /// The client violated the protocol, or could not be authenticated.
    Rejected { code: &'static str, text: &'static str },
    /// The server closes the connection on purpose.
    Close { code: &'static str, reconnect: bool, retry_after_ms: u32 },
    /// The session has ended.
    SessionEnded { reason: &'static str },
}

impl CloseReason {
    pub(super) const BAD_FRAME: Self =
        Self::Rejected { code: "bad_frame", text: "frame not expected here" };

    /// Asks the client to reconnect after a random delay in this range, in milliseconds, so that not all clients
    /// come back at once.
    pub(super) fn reconnect_within(code: &'static str, from_ms: u32, to_ms: u32) -> Self {
        let spread = u32::from_be_bytes(crate::crypto::random()) % (to_ms - from_ms + 1);
        Self::Close { code, reconnect: true, retry_after_ms: from_ms + spread }
    }

    /// Asks the client to load a new snapshot. A changed role may concern everybody at once, so the loads are
    /// spread over five seconds.
    pub(super) fn reset_required() -> Self {
        Self::reconnect_within("projection_reset_required", 0, 5_000)
    }

    /// This process lags behind the store. Another one may not.
    pub(super) fn stalled() -> Self {
        Self::reconnect_within("catch_up_server_busy", 1_000, 5_000)
    }
}

impl From<Disconnected> for CloseReason {
    fn from(_: Disconnected) -> Self {
        Self::Disconnected
    }
}

impl From<ProjectionError> for CloseReason {
    fn from(_: ProjectionError) -> Self {
        Self::reconnect_within("catch_up_server_busy", 1_000, 5_000)
    }
}

/// A socket, and when its next heartbeat is due.
pub(super) struct Connection<'a, S> {
    pub(super) realtime: &'a Inner,
    pub(super) socket: S,
    pub(super) stop: &'a Stop,
    pub(super) heartbeat_due: Instant,
}

impl<'a, S: Socket> Connection<'a, S> {
    pub(super) async fn serve(
        realtime: &'a Inner,
        socket: S,
        handshake: HandshakeInfo,
        stop: &'a Stop,
    ) {
        let heartbeat_due = realtime.clock.now() + realtime.config.heartbeat;
        let mut connection = Self { realtime, socket, stop, heartbeat_due };
        let end = match connection.run(handshake).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        log::debug!(end:? = end; "realtime connection closed");
        connection.finish(end).await;
    }

    async fn run(
        &mut self,
        handshake: HandshakeInfo,
    ) -> Result<std::convert::Infallible, CloseReason> {
        // Opening and loading are boxed, so that the connection does not hold their memory while it is live.
        let session = Box::pin(self.open(&handshake)).await?;
        let subscription = self.ready().await?;
        let loader = Loader { user: session.user, address: handshake.address };
        let (slots, clock) = (self.realtime.loads.clone(), self.realtime.clock.clone());
        let load = Arc::new(Load::new(slots, loader, clock, SNAPSHOT_TIMEOUT));
        self.wait_for_slot(&load, LoadPhase::Begin).await?;
        let is_present = self.realtime.service.read_barrier().try_pass().await;
        let (registration, position) =
            self.realtime.hub.register(&session).ok_or_else(CloseReason::stalled)?;
        let cursor = subscription.resume_cursor.as_deref();
        let is_ahead =
            |cursor| self.realtime.service.resume_cursors().is_ahead(&session, cursor, position);
        if !is_present && cursor.is_some_and(is_ahead) {
            return Err(CloseReason::stalled());
        }
        let mut live = LiveConnection {
            rights: self.realtime.service.resume_cursors().fingerprint(&session),
            client: ClientState::new(subscription.retained_room_ids.iter().cloned()),
            origin: handshake.origin,
            pace: Pace::new(HYDRATIONS_BURST, HYDRATION_INTERVAL),
            check_due: self.realtime.clock.now() + SESSION_CHECK_INTERVAL,
            timer: self.realtime.clock.timer(),
            deferred: VecDeque::new(),
            load: Arc::clone(&load),
            connection: self,
            registration,
            session,
            position,
        };
        let over = async {
            load.time_limit_reached().await;
            Err(CloseReason::reconnect_within("catch_up_timeout", 1_000, 5_000))
        };
        let loading = async {
            // The session may have ended since the hello. From the registration on, the queue reports that.
            live.confirm_session().await?;
            live.catch_up(cursor).await
        };
        futures_lite::future::or(Box::pin(loading), over).await?;
        load.release_slot();
        live.run().await
    }

    /// Sends the reason and closes the socket. An error here is ignored: the client is gone.
    async fn finish(mut self, end: CloseReason) {
        let (frame, code) = match end {
            CloseReason::Disconnected => return self.socket.close(1001).await,
            CloseReason::TextFrame => return self.socket.close(1003).await,
            CloseReason::Rejected { code, text } => (frames::error(code, text), 1008),
            CloseReason::Close { code, reconnect, retry_after_ms } => {
                (frames::close(code, reconnect, retry_after_ms), 1000)
            }
            CloseReason::SessionEnded { reason } => {
                let ended = wire::RealtimeSessionTerminatedEvent { reason: reason.to_owned() };
                let head = self.realtime.head_of_now();
                (frames::transient(head, Event::SessionTerminated(ended)), 1000)
            }
        };
        if self.send(frame).await.is_ok() {
            self.socket.close(code).await;
        }
    }

    pub(super) async fn send(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let sending = self.socket.send(frames::encode(frame));
        match self.realtime.clock.timeout(FRAME_SEND_TIMEOUT, sending).await {
            Ok(sent) => Ok(sent?),
            Err(_elapsed) => Err(CloseReason::Disconnected),
        }
    }

    /// State OPEN: authenticates the client (contract 8.2).
    async fn open(&mut self, handshake: &HandshakeInfo) -> Result<Session, CloseReason> {
        const BAD_HELLO: CloseReason =
            CloseReason::Rejected { code: "bad_hello", text: "hello expected" };
        let first = self.first_frame(BAD_HELLO).await?;
        let ClientFrame::Hello(hello) = first else { return Err(BAD_HELLO) };
        if hello.protocol_version != frames::PROTOCOL_VERSION {
            let text = "protocol version 2 is the only one";
            return Err(CloseReason::Rejected { code: "unsupported_protocol", text });
        }
        let credential = match (&hello.bearer_token, &handshake.cookie) {
            (Some(token), _) => Some(Credential::Bearer(token)),
            (None, Some(cookie)) => Some(Credential::Cookie(cookie)),
            (None, None) => None,
        };
        let authenticated = match credential {
            Some(credential) => {
                self.realtime.service.sessions().authenticate(credential, CallKind::Read).await
            }
            None => Err(AuthenticateError::Required),
        };
        match authenticated {
            Ok(session) => {
                self.send(frames::hello(self.realtime.config.heartbeat.as_secs())).await?;
                Ok(session)
            }
            Err(AuthenticateError::Required) => {
                let text = "authentication required";
                Err(CloseReason::Rejected { code: "authentication_required", text })
            }
            Err(AuthenticateError::Store(_)) => {
                Err(CloseReason::reconnect_within("catch_up_server_busy", 1_000, 5_000))
            }
        }
    }

    /// State READY: waits for the subscription (contract 8.3).
    async fn ready(&mut self) -> Result<wire::RealtimeSubscribeEvents, CloseReason> {
        const BAD_SUBSCRIBE: CloseReason =
            CloseReason::Rejected { code: "bad_subscribe", text: "subscribe_events expected" };
        let deadline = self.realtime.clock.now() + self.realtime.config.hello_timeout;
        loop {
            if self.realtime.clock.now() >= deadline {
                return Err(BAD_SUBSCRIBE);
            }
            match self.first_frame(BAD_SUBSCRIBE).await? {
                ClientFrame::Ping(ping) => self.send(frames::pong(ping.nonce)).await?,
                ClientFrame::SubscribeEvents(subscription)
                    if subscription.retained_room_ids.len() <= RETAINED_ROOMS_MAX =>
                {
                    return Ok(subscription);
                }
                _ => return Err(BAD_SUBSCRIBE),
            }
        }
    }

    /// Reads a frame in the states before CATCHING_UP.
    async fn first_frame(&mut self, otherwise: CloseReason) -> Result<ClientFrame, CloseReason> {
        let limit = self.realtime.config.hello_timeout;
        let incoming = self.realtime.clock.timeout(limit, self.socket.receive());
        match self.stop.or(incoming).await {
            None => Err(shutdown()),
            Some(Err(_elapsed)) => Err(otherwise),
            Some(Ok(Incoming::Disconnected)) => Err(CloseReason::Disconnected),
            Some(Ok(Incoming::Text)) => Err(CloseReason::TextFrame),
            Some(Ok(incoming)) => decode_client_frame(incoming).map_err(|_| otherwise),
        }
    }

    /// Waits for a load slot and sends heartbeats meanwhile.
    pub(super) async fn wait_for_slot(
        &mut self,
        load: &Load,
        phase: LoadPhase,
    ) -> Result<(), CloseReason> {
        let deadline = self.realtime.clock.now() + SNAPSHOT_TIMEOUT;
        let mut taking = std::pin::pin!(load.acquire_slot(phase));
        loop {
            let now = self.realtime.clock.now();
            if now >= deadline {
                return Err(CloseReason::reconnect_within("catch_up_timeout", 1_000, 5_000));
            }
            let wait = self.heartbeat_due.min(deadline).saturating_duration_since(now);
            let taken = self.realtime.clock.timeout(wait, taking.as_mut());
            match self.stop.or(taken).await {
                None => return Err(shutdown()),
                Some(Ok(Ok(()))) => return Ok(()),
                Some(Ok(Err(_full))) => {
                    return Err(CloseReason::reconnect_within(
                        "catch_up_server_busy",
                        2_000,
                        10_000,
                    ));
                }
                Some(Err(_elapsed)) => {
                    self.heartbeat_if_due().await?;
                }
            }
        }
    }

    /// Sends a heartbeat if one is due, and returns whether it did.
    pub(super) async fn heartbeat_if_due(&mut self) -> Result<bool, CloseReason> {
        let now = self.realtime.clock.now();
        if now < self.heartbeat_due {
            return Ok(false);
        }
        self.heartbeat_due = now + self.realtime.config.heartbeat;
        let EventHead { id, created_at, .. } = self.realtime.head_of_now();
        self.send(frames::heartbeat(id, created_at)).await?;
        Ok(true)
    }
}

impl Inner {
    pub(super) fn now(&self) -> Timestamp {
        present::time(self.clock.unix_ms())
    }

    pub(super) fn head_of_now(&self) -> EventHead {
        EventHead { id: random_id(), created_at: self.now(), actor_id: None }
    }

    pub(super) fn head_of(&self, change: &Change) -> EventHead {
        EventHead {
            id: change.id.clone(),
            created_at: change.at_ms.map_or_else(|| self.now(), present::time),
            actor_id: change.actor.map(|user| user.to_string()),
        }
    }
}

/// Decodes a client frame. Anything else violates the protocol.
pub(super) fn decode_client_frame(incoming: Incoming) -> Result<ClientFrame, CloseReason> {
    let bytes = match incoming {
        Incoming::Frame(bytes) => bytes,
        Incoming::Text => return Err(CloseReason::TextFrame),
        Incoming::Broken | Incoming::Disconnected => return Err(CloseReason::BAD_FRAME),
    };
    let frame: wire::RealtimeClientFrame =
        decode(Encoding::Proto, bytes).map_err(|_| CloseReason::BAD_FRAME)?;
    frame.frame.ok_or(CloseReason::BAD_FRAME)
}

pub(super) fn shutdown() -> CloseReason {
    CloseReason::reconnect_within("server_shutdown", 1_000, 5_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_whose_rights_changed_come_back_spread_over_five_seconds() {
        let mut seconds = std::collections::HashSet::new();
        for _ in 0..200 {
            let CloseReason::Close { code, reconnect, retry_after_ms } =
                CloseReason::reset_required()
            else {
                panic!("it closes");
            };
            assert_eq!((code, reconnect), ("projection_reset_required", true));
            assert!(retry_after_ms <= 5_000);
            seconds.insert(retry_after_ms / 1_000);
        }
        // The probability that one of the five seconds is missing is below 10⁻¹⁸.
        assert!((0..5).all(|second| seconds.contains(&second)), "{seconds:?}");
    }
}
