//! The frames a server sends.

use crate::contract::realtime::{
    self as wire, realtime_event_envelope::Event, realtime_server_frame::Frame,
};
use crate::contract::{SERVER_VERSION, Timestamp};
use crate::present::operations::ProjectionOperation;

/// The only version of the protocol.
pub(super) const PROTOCOL_VERSION: u32 = 2;

/// The capabilities that the server announces (contract 8.2).
const CAPABILITIES: [&str; 5] = [
    "chatto.realtime.events.live.v1",
    "chatto.realtime.heartbeat.v1",
    "chatto.realtime.ping.v1",
    "chatto.realtime.projection.v1",
    "chatto.realtime.events.resume.v1",
];

pub(super) fn encode(frame: Frame) -> Vec<u8> {
    crate::contract::binary(&wire::RealtimeServerFrame { frame: Some(frame) })
}

pub(super) fn hello(heartbeat_seconds: u64) -> Frame {
    Frame::Hello(wire::RealtimeServerHello {
        protocol_version: PROTOCOL_VERSION,
        server_version: SERVER_VERSION.to_owned(),
        heartbeat_interval_seconds: u32::try_from(heartbeat_seconds).unwrap_or(u32::MAX),
        capabilities: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
    })
}

pub(super) fn subscribed(cursor: String) -> Frame {
    Frame::Subscribed(wire::RealtimeSubscribed { start_cursor: Some(cursor) })
}

pub(super) fn caught_up(cursor: String) -> Frame {
    Frame::CaughtUp(wire::RealtimeCaughtUp { cursor })
}

pub(super) fn pong(nonce: String) -> Frame {
    Frame::Pong(wire::RealtimePong { nonce })
}

pub(super) fn heartbeat(id: String, now: Timestamp) -> Frame {
    Frame::Heartbeat(wire::RealtimeHeartbeat { id, created_at: Some(now) })
}

pub(super) fn error(code: &str, message: &str) -> Frame {
    Frame::Error(wire::RealtimeError {
        code: code.to_owned(),
        message: message.to_owned(),
        fatal: true,
        retry_after_ms: None,
        room_id: None,
    })
}

pub(super) fn room_error(code: &str, room_id: String, retry_after_ms: Option<u32>) -> Frame {
    Frame::Error(wire::RealtimeError {
        code: code.to_owned(),
        message: code.replace('_', " "),
        fatal: false,
        retry_after_ms,
        room_id: Some(room_id),
    })
}

pub(super) fn close(code: &str, reconnect: bool, retry_after_ms: u32) -> Frame {
    Frame::Close(wire::RealtimeClose {
        code: code.to_owned(),
        message: code.replace('_', " "),
        reconnect,
        retry_after_ms,
    })
}

/// The common fields of projection events and transient events.
pub(super) struct EventHead {
    pub(super) id: String,
    pub(super) created_at: Timestamp,
    pub(super) actor_id: Option<String>,
}

pub(super) fn projection_event(
    head: EventHead,
    cursor: Option<String>,
    operations: Vec<ProjectionOperation>,
) -> Frame {
    let operation = |sent: ProjectionOperation| wire::RealtimeProjectionOperation {
        operation: Some(sent.operation),
    };
    Frame::ProjectionEvent(wire::RealtimeProjectionEvent {
        id: head.id,
        created_at: Some(head.created_at),
        actor_id: head.actor_id,
        resume_cursor: cursor,
        operations: operations.into_iter().map(operation).collect(),
    })
}

pub(super) fn transient(head: EventHead, event: Event) -> Frame {
    Frame::Event(wire::RealtimeEventEnvelope {
        id: head.id,
        created_at: Some(head.created_at),
        actor_id: head.actor_id,
        event: Some(event),
    })
}
