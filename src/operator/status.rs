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
    pub version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    /// The store's server id.
    pub server_id: String,
    pub listen: String,
    /// Accounts that are not deleted.
    pub users: usize,
    /// Subscribed realtime sockets of this process.
    pub clients: usize,
    pub nats: NatsStatus,
    /// The disk under the store; embedded only.
    pub disk: Option<DiskStatus>,
    /// The bucket of files, if settings name one.
    pub s3: Option<S3Status>,
    pub streams: Vec<StreamStatus>,
    /// Events that are not folded into pages yet.
    pub unfolded_events: usize,
    /// Rooms whose new messages cannot be folded, each with the reason.
    pub held_rooms: Vec<HeldRoomStatus>,
    /// Whether a key export holds the keys of all messages; absent while the store does not reply.
    pub keys: Option<KeysStatus>,
    /// Time of the last verified backup; absent also while the store does not reply.
    pub last_verified_backup: Option<String>,
    /// How backups ended; absent while the store does not reply.
    pub backups: Option<BackupsStatus>,
    /// Settings that differ between processes of the cluster but should not.
    pub differences: Vec<String>,
    /// Errors that were logged recently, oldest first.
    pub recent_errors: Vec<String>,
}

/// What would be lost with the store, although an archive of its data exists.
#[derive(Debug, Clone, Serialize)]
pub struct KeysStatus {
    /// People with keys that no export holds.
    pub people_without_export: usize,
    /// People whose key is missing, as after a restore.
    pub people_without_key: usize,
    /// When the newest export was made; absent: never.
    pub exported: Option<String>,
}

/// How backups ended, as the commands that made them have reported.
#[derive(Debug, Clone, Serialize)]
pub struct BackupsStatus {
    /// The last one of any kind; restore tests aside.
    pub last: Option<BackupStatus>,
    pub last_verified: Option<BackupStatus>,
    /// The last one that failed or could not be verified.
    pub last_failed: Option<BackupStatus>,
    pub last_restore_test: Option<BackupStatus>,
    /// No verified backup is young enough.
    pub late: bool,
    /// What owners are told, each with what to do.
    pub notices: Vec<String>,
}

/// The result of a backup or of a restore test.
#[derive(Debug, Clone, Serialize)]
pub struct BackupStatus {
    /// `directory`, `stick` or `restore test`.
    pub kind: &'static str,
    /// `verified`, `complete`, `not verified` or `failed`.
    pub verdict: &'static str,
    pub time: String,
    /// A path, or the name of a stick.
    pub place: String,
    /// Why it is not verified.
    pub reason: Option<String>,
    /// Of the archive; 0: none.
    pub bytes: u64,
    /// The number of the archive; 0: none.
    pub sequence: u64,
}

/// A held room: one of its stored events cannot be processed.
#[derive(Debug, Clone, Serialize)]
pub struct HeldRoomStatus {
    /// Its id.
    pub room: String,
    pub reason: String,
}

/// The nats-server behind the server.
#[derive(Debug, Clone, Serialize)]
pub struct NatsStatus {
    /// `embedded` or `external`.
    pub mode: &'static str,
    pub connected: bool,
    pub version: String,
    pub urls: String,
    /// How often the embedded one was restarted.
    pub restarts: Option<u64>,
    /// `nats.replicas`.
    pub replicas_configured: usize,
}

/// Space under the store.
#[derive(Debug, Clone, Serialize)]
pub struct DiskStatus {
    pub free_bytes: u64,
    /// What is kept free.
    pub floor_bytes: u64,
    pub store_bytes: u64,
    pub store_limit_bytes: u64,
}

/// The bucket of files, as the responses of its service say.
#[derive(Debug, Clone, Serialize)]
pub struct S3Status {
    pub bucket: String,
    pub origin: String,
    /// Whether requests succeed; absent before the first one.
    pub usable: Option<bool>,
    /// Since when.
    pub since: Option<String>,
    /// Requests that failed since the start, repetitions not counted.
    pub errors: u64,
    pub last_error: Option<String>,
}

/// A stream of the store.
#[derive(Debug, Clone, Serialize)]
pub struct StreamStatus {
    /// Its bare name.
    pub name: String,
    pub messages: u64,
    pub bytes: u64,
    pub replicas: usize,
}
