//! The report of `status`; `app` fills it in.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

/// Makes a report about the running server.
pub type StatusSource =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = StatusReport> + Send>> + Send + Sync>;

/// The state of the server.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The server's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// The store's server id.
    pub server_id: String,
    /// Where it listens.
    pub listen: String,
    /// Accounts that are not deleted.
    pub users: usize,
    /// Subscribed realtime sockets of this process.
    pub clients: usize,
    /// Its nats-server.
    pub nats: NatsStatus,
    /// The disk under the store; embedded only.
    pub disk: Option<DiskStatus>,
    /// Every stream of the store.
    pub streams: Vec<StreamStatus>,
    /// Events that are not folded into pages yet.
    pub unfolded_events: usize,
    /// Rooms whose new messages cannot be folded, each with the reason.
    pub held_rooms: Vec<HeldRoomStatus>,
    /// Time of the last verified backup; always absent in this version.
    pub last_verified_backup: Option<String>,
    /// Settings that differ between processes of the cluster but should not.
    pub differences: Vec<String>,
    /// Errors that were logged recently, oldest first.
    pub recent_errors: Vec<String>,
}

/// A held room: one of its stored events cannot be processed.
#[derive(Debug, Clone, Serialize)]
pub struct HeldRoomStatus {
    /// Its id.
    pub room: String,
    /// Why.
    pub reason: String,
}

/// The nats-server behind the server.
#[derive(Debug, Clone, Serialize)]
pub struct NatsStatus {
    /// `embedded` or `external`.
    pub mode: &'static str,
    /// Whether the connection is up.
    pub connected: bool,
    /// Its version.
    pub version: String,
    /// Its addresses.
    pub urls: String,
    /// How often the embedded one was restarted.
    pub restarts: Option<u64>,
    /// `nats.replicas`.
    pub replicas_configured: usize,
}

/// Space under the store.
#[derive(Debug, Clone, Serialize)]
pub struct DiskStatus {
    /// What may still be used.
    pub free_bytes: u64,
    /// What is kept free.
    pub floor_bytes: u64,
    /// What the store holds.
    pub store_bytes: u64,
    /// What it may hold.
    pub store_limit_bytes: u64,
}

/// A stream of the store.
#[derive(Debug, Clone, Serialize)]
pub struct StreamStatus {
    /// Its bare name.
    pub name: String,
    /// Messages in it.
    pub messages: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Copies it has.
    pub replicas: usize,
}
