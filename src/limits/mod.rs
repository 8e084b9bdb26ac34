//! Every limit of product and process in one place, checked against each other where they are related.
//!
//! Names contain the unit: `_bytes`, `_max` counts, `Duration`s. A number that a document defines names
//! the document: *contract* is the public client API, *product* the product requirements.

mod backup;
mod cluster;
mod doctor;
mod files;
mod images;
mod process;
pub use backup::*;
pub use cluster::*;
pub use doctor::*;
pub use files::*;
pub use images::*;
pub use process::*;

use std::time::Duration;

/// KiB and MiB, for readable sizes.
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// --- process -------------------------------------------------------------------------------------

/// Concurrent blocking calls; further callers wait. Each may use one thread (2 MiB stack,
/// of which only the used part takes memory).
pub const BLOCKING_TASKS_MAX: usize = 16;

// --- configuration (product 2) ------------------------------------------------------------------

/// Size of a configuration file and of `secrets.toml`.
pub const CONFIG_FILE_MAX_BYTES: u64 = MIB as u64;
/// Size of a file named by `CHATTO_…_FILE`.
pub const SECRET_FILE_MAX_BYTES: u64 = 64 * KIB as u64;
/// A shorter secret is refused.
pub const SECRET_MIN_BYTES: usize = 16;
/// A shorter secret causes a warning.
pub const SECRET_STRONG_BYTES: usize = 32;

// --- logs (product 10) --------------------------------------------------------------------------

/// Recent errors that are kept across restarts; the oldest are dropped.
pub const KEPT_ERRORS_MAX: usize = 200;
/// Text of one kept error; longer ones are truncated.
pub const KEPT_ERROR_MAX_BYTES: usize = 2 * KIB;
/// How often new errors are saved.
pub const KEPT_ERRORS_SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// Output that waits for the readers of standard output and standard error; what does not fit is dropped and
/// counted.
pub const OUTPUT_QUEUE_MAX_BYTES: usize = 256 * KIB;
/// How long a process that exits waits until the output is read.
pub const OUTPUT_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Size of a table of proc(5) with the sockets of a port.
pub const PROC_FILE_MAX_BYTES: u64 = 4 * MIB as u64;

/// Size of a password or passphrase that a command reads.
pub const PASSWORD_INPUT_MAX_BYTES: usize = 4 * KIB;
/// How long one may take to arrive on standard input, and each entry on the terminal.
pub const PASSWORD_INPUT_TIMEOUT: Duration = Duration::from_secs(60);
/// A passphrase with fewer characters causes a warning.
pub const PASSPHRASE_STRONG_CHARACTERS: usize = 12;
/// A passphrase with fewer different characters causes a warning.
pub const PASSPHRASE_STRONG_DIFFERENT: usize = 6;

// --- age files (product 6.2) --------------------------------------------------------------------

/// scrypt work factor of new files: 32 MiB, so that the smallest board can open every one.
pub const AGE_WORK_FACTOR: u8 = 15;
/// Largest work factor of a file: 1 GiB.
pub const AGE_WORK_FACTOR_MAX: u8 = 20;
/// Header of a file with one passphrase, which takes about 150 bytes.
pub const AGE_HEADER_MAX_BYTES: usize = 4 * KIB;

// --- key export (product 6.4) -------------------------------------------------------------------

/// Keys in an export. A user has one key, and one more for each lost `core.secret_key`.
pub const KEY_FILE_KEYS_MAX: usize = 100_000;
/// Text of an export.
pub const KEY_FILE_MAX_BYTES: u64 = 32 * MIB as u64;
/// Server id and time in an export.
pub const KEY_FILE_TEXT_MAX_BYTES: usize = 64;
// META notes the ids of all exported keys in one record.
const _: () = assert!(KEY_FILE_KEYS_MAX * 8 + KIB < NATS_PAYLOAD_MAX_BYTES);

// --- operator socket (product 3) ----------------------------------------------------------------

/// Concurrent requests; further ones wait.
pub const OPERATOR_CONNECTIONS_MAX: usize = 8;
/// Time for a request to arrive (then closed): silent peers must not block the socket for others.
pub const OPERATOR_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Time from a request's arrival to the response's last byte (then closed).
pub const OPERATOR_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept.
pub const OPERATOR_ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// Size of a request's or response's head.
pub const OPERATOR_HEAD_MAX_BYTES: usize = 8 * KIB;
/// Size of a response's body that a command accepts.
pub const OPERATOR_RESPONSE_MAX_BYTES: usize = 4 * MIB;

// --- process life cycle (product 7) -------------------------------------------------------------

/// How often readiness is checked.
pub const READINESS_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How often systemd is asked for more time while the store recovers.
pub const START_EXTEND_INTERVAL: Duration = Duration::from_secs(10);
/// First and longest delay before an external store is tried again.
pub const STORE_RETRY_DELAY_FIRST: Duration = Duration::from_millis(250);
/// See [`STORE_RETRY_DELAY_FIRST`].
pub const STORE_RETRY_DELAY_MAX: Duration = Duration::from_secs(2);
/// Lifetime of a process's entry in the register (product 7).
pub const PROCESS_TTL: Duration = Duration::from_secs(60);
/// How often a process renews its entry and compares itself with the others.
pub const REGISTER_INTERVAL: Duration = Duration::from_secs(30);
const _: () = assert!(REGISTER_INTERVAL.as_secs() < PROCESS_TTL.as_secs());
/// The same while it differs or the register cannot be reached.
pub const REGISTER_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a process that differs from a running one waits before it exits.
pub const SECRETS_MISMATCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a command waits for an external store.
pub const STORE_COMMAND_TIMEOUT: Duration = Duration::from_secs(15);
/// The watchdog is notified while the embedded server has replied within this time...
pub const WATCHDOG_ANSWER_MAX_AGE: Duration = Duration::from_secs(30);
/// ...or has been restarting for no longer than this (packaging 4.2).
pub const WATCHDOG_RESTART_MAX: Duration = Duration::from_secs(300);

// --- message text and chat (contract 4.2, 4.8; product 8) ---------------------------------------

/// Bytes of UTF-8 in a message body.
pub const BODY_MAX_BYTES: usize = 10_000;
/// Attachments of one message.
pub const ATTACHMENTS_MAX: usize = 10;
/// Different reactions of one user to one message.
pub const REACTIONS_PER_USER_MAX: usize = 20;
/// Code points of a room name.
pub const ROOM_NAME_MAX_CHARS: usize = 30;
/// Code points of room, group, role and server descriptions.
pub const DESCRIPTION_MAX_CHARS: usize = 500;
/// Code points of a display name.
pub const DISPLAY_NAME_MAX_CHARS: usize = 32;
/// Characters of a login.
pub const LOGIN_MIN_CHARS: usize = 2;
/// See [`LOGIN_MIN_CHARS`].
pub const LOGIN_MAX_CHARS: usize = 32;
/// Characters of a role name.
pub const ROLE_NAME_MAX_CHARS: usize = 32;
/// Bytes of an e-mail address (RFC 5321: a path of 256 with its brackets).
pub const EMAIL_MAX_BYTES: usize = 254;
/// Characters of a reaction's emoji name.
pub const EMOJI_SHORTCODE_MAX_CHARS: usize = 64;
/// Characters of a custom status's emoji.
pub const STATUS_EMOJI_MAX_CHARS: usize = 16;
/// Characters of a custom status's text.
pub const STATUS_TEXT_MAX_CHARS: usize = 100;
/// Characters of a password.
pub const PASSWORD_MIN_CHARS: usize = 8;
/// See [`PASSWORD_MIN_CHARS`].
pub const PASSWORD_MAX_CHARS: usize = 128;
/// People in a direct message, the viewer included.
pub const DM_PARTICIPANTS_MAX: usize = 10;
/// Ids in one batch read.
pub const BATCH_IDS_MAX: usize = 100;
/// Rows of a timeline page.
pub const TIMELINE_PAGE_MAX: usize = 100;
/// Rows of a timeline page when the request has no limit.
pub const TIMELINE_PAGE_DEFAULT: usize = 50;
/// Entries of an offset page.
pub const PAGE_LIMIT_MAX: usize = 500;

// --- storage ------------------------------------------------------------------------------------

/// Rows of one stored page: 64k to 64k+63.
pub const PAGE_ROWS: u32 = 64;
/// A larger stored message (page, part, record) spills into parts.
pub const PAGE_SPILL_BYTES: usize = 512 * KIB;
/// Larger reaction lists of a row spill into separate parts.
pub const REACTIONS_SPILL_BYTES: usize = 128 * KIB;
/// The largest message that nats-server accepts; `max_payload` of the embedded server.
pub const NATS_PAYLOAD_MAX_BYTES: usize = MIB;
const _: () = assert!(PAGE_SPILL_BYTES + REACTIONS_SPILL_BYTES < NATS_PAYLOAD_MAX_BYTES);
/// Unfolded journal events kept in memory (half of it folds to a quarter), and how far the oldest may lag.
pub const OVERLAY_EVENTS_MAX: usize = 4_000;
/// Bytes of unfolded journal events kept in memory (half of it folds to a quarter).
pub const OVERLAY_MAX_BYTES: usize = 4 * MIB;
/// Decoded pages kept for reading.
pub const PAGE_CACHE_MAX_BYTES: usize = 8 * MIB;
/// Room heads kept in memory, at most 24 KiB each (32 newest rows, 256 authors, 64 time caps).
pub const HEADS_MAX: usize = 256;
/// Corrections of a clock that was ahead that a room keeps separately; of more, the two closest to each other
/// are merged.
pub const TIME_CAPS_MAX: usize = 64;
/// How far a room's last time may be ahead of a writer's clock before the clock is used instead: more than
/// clocks with network time ever differ.
pub const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// A clock that is earlier than this was never set (2026-01-01, milliseconds since 1970): boards without a
/// battery start in 1970. Such a clock corrects nothing.
pub const CLOCK_SET_MIN_MS: i64 = 1_767_225_600_000;
/// Unwrapped data keys kept in memory.
pub const KEY_CACHE_MAX: usize = 1_024;
/// Messages kept decrypted for the viewers who are sent them at the same time, each up to [`BODY_MAX_BYTES`]:
/// 320 KB. One more drops the oldest.
pub const OPENED_ROWS_MAX: usize = 32;
/// Token records kept in memory for at most [`RECORD_CACHE_TTL`].
pub const TOKEN_CACHE_MAX: usize = 1_024;
/// Read markers kept in memory, about 200 bytes each.
pub const MARKER_CACHE_MAX: usize = 8_192;
/// How long a token's record or, with external NATS, a marker may be used without asking the store.
pub const RECORD_CACHE_TTL: Duration = Duration::from_secs(30);
/// Read markers that wait to be written; reaching it writes them at once.
pub const MARKERS_PENDING_MAX: usize = 4_096;
/// How often waiting read markers are written with the embedded server.
pub const MARKERS_FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// How often the store's high-water marks are written to META if they changed; the next start compares them.
pub const HIGH_WATER_MARK_INTERVAL: Duration = Duration::from_secs(2);
/// How long the journal keeps folded events and STATE its delete markers for clients that resume;
/// milliseconds.
pub const RESUME_WINDOW_MS: i64 = 7 * 24 * 3600 * 1000;
/// Rows of one timeline read.
pub const ROWS_READ_MAX: u32 = 256;
/// Posts that wait in the queue of one room in one process; further callers are refused
/// (`unavailable`).
pub const ROOM_QUEUE_MAX: usize = 256;
/// Pages that a fold holds in memory; an event changes at most 6 of them.
pub const FOLD_SLICE_PAGES_MAX: usize = 64;
/// Bytes of pages that a fold holds in memory.
pub const FOLD_SLICE_MAX_BYTES: usize = 8 * MIB;
/// Once a room has this many unfolded events, those that fill whole pages are folded.
pub const FOLD_EVENTS: usize = 64;
/// A room's events are folded when the oldest is older than this: each rewrite of a page makes
/// nats-server rewrite a block of some MiB.
pub const FOLD_AGE: Duration = Duration::from_hours(24);

// --- http (contract 2, product 9) ---------------------------------------------------------------

/// Size of a request's head: request line and headers.
pub const HTTP_HEAD_MAX_BYTES: usize = 16 * KIB;
/// Time for a request's head from its first byte (408, then closed), and for the first byte of a new
/// connection (closed).
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle between requests (then closed): longer than proxies in front of us keep theirs
/// (Caddy 120 s, nginx 60 s), so that no request reaches a connection that is just being closed.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a client may accept no byte of a waiting response (then cut).
pub const HTTP_WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may send no byte of a request's body (408, API calls 504; then closed).
pub const HTTP_BODY_STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for a whole body of an API call (504) or `/auth/*` request (408); then closed.
pub const HTTP_API_BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// hyper's buffer of one connection in each direction; it grows to this size only if needed.
pub const HTTP_BUFFER_MAX_BYTES: usize = 32 * KIB;
const _: () = assert!(HTTP_HEAD_MAX_BYTES * 2 <= HTTP_BUFFER_MAX_BYTES);
/// The most that is read from a connection in one poll, so that a peer that always sends more leaves
/// time for others; a frame of 6 bytes is answered by one of 2, each with a system call.
pub const POLL_READ_MAX_BYTES: usize = 16 * KIB;
/// Reads in one poll: a WebSocket reads 4 KiB each time, which are 682 frames.
pub const POLL_READS_MAX: usize = 2;
/// Connections that are accepted in one poll.
pub const POLL_ACCEPTS_MAX: usize = 16;
/// Default of `webserver.max_connections`; beyond it the HTTP connection that has been idle the longest
/// is closed for the new one; if none is idle, the new one gets 503 and is closed. One client address may use at
/// most half of this limit, and of each limit below from which requests hold a share.
pub const HTTP_CONNECTIONS_DEFAULT: usize = 1_000;
/// Connections beyond the limit that are sent a 503 or a health response; further ones are closed without
/// a response, first those that have sent no request yet.
pub const HTTP_REJECTIONS_MAX: usize = 32;
/// Time to serve one of [`HTTP_REJECTIONS_MAX`].
pub const HTTP_REJECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Requests in progress, without health checks; further ones get 503 with `Retry-After`. A request whose body has
/// not arrived yet is not in progress.
pub const HTTP_REQUESTS_MAX: usize = 256;
/// `Retry-After` of a request beyond it.
pub const HTTP_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Calls that are completed although their client went away. Each holds one of
/// [`HTTP_REQUESTS_MAX`], so this limit is never reached first.
pub const HTTP_OWNED_CALLS_MAX: usize = HTTP_REQUESTS_MAX;
/// Bytes of bodies of up to [`API_BODY_MAX_BYTES`] that are being read or processed; beyond it 503 with
/// `Retry-After`.
pub const HTTP_BODIES_MAX_BYTES: usize = 16 * MIB;
// One client can send a body and have it decompressed.
const _: () = assert!(2 * API_BODY_MAX_BYTES <= HTTP_BODIES_MAX_BYTES / 2);
const _: () = assert!(JSON_BODY_MAX_BYTES <= API_BODY_MAX_BYTES);
const _: () = assert!(API_ASSET_UPLOAD_BODY_MAX_BYTES <= API_BODY_MAX_BYTES);
/// Bodies above [`API_BODY_MAX_BYTES`] (images, each up to the upload limit) that are being read or processed;
/// beyond it 503 with `Retry-After`.
pub const HTTP_LARGE_BODIES_MAX: usize = 4;
const _: () = assert!(HTTP_LARGE_BODIES_MAX * UPLOAD_MAX_BYTES_DEFAULT <= 100 * MIB);
/// Bytes of a request's path that are logged.
pub const LOGGED_PATH_MAX_BYTES: usize = 512;
/// TLS handshake signatures computed concurrently; one client address gets at most half of them.
pub const TLS_SIGNATURES_MAX: usize = 2;
/// How long a shutdown waits for bodies that have not arrived.
pub const HTTP_BODY_STOP_GRACE: Duration = Duration::from_secs(1);
/// The largest step in which memory is allocated for a body as it arrives; the first is 1 KiB, each further one as
/// large as what has come.
pub const HTTP_BODY_STEP_BYTES: usize = 256 * KIB;
/// Responses up to this size are compressed inline, larger ones off the executor.
pub const HTTP_COMPRESSION_AT_ONCE_MAX_BYTES: usize = 64 * KIB;
/// Pause before the next accept after the system refused one (no descriptors left).
pub const HTTP_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Default of `webserver.shutdown_timeout`: the time for requests to finish after a stop signal.
pub const HTTP_SHUTDOWN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The largest `Connect-Timeout-Ms`; a larger value is treated as this.
pub const HTTP_CALL_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Default of `webserver.api_compression_min_bytes`: smaller responses are not compressed.
pub const HTTP_COMPRESSION_MIN_BYTES_DEFAULT: usize = 1_024;
/// Characters of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_MAX_CHARS: usize = 128;
/// Default of `core.assets.max_upload_size` (contract 4.8).
pub const UPLOAD_MAX_BYTES_DEFAULT: usize = 25 * MIB;
/// Size of one read of a body that is streamed to the client.
pub const HTTP_STREAM_CHUNK_BYTES: usize = 16 * KIB;
/// Concurrent connections before the store is open; they get health responses only.
pub const HTTP_STARTUP_CONNECTIONS_MAX: usize = 64;
/// How long to keep reading from a client that got its response before it had sent everything.
pub const HTTP_LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that are read and discarded in that time.
pub const HTTP_LINGER_MAX_BYTES: usize = 4 * MIB;
/// Size of a web client's fallback page and manifest, which are modified before they are sent; a larger
/// page is sent unchanged.
pub const CLIENT_PAGE_MAX_BYTES: usize = 256 * KIB;
/// The chunk in which a web client's files are read; a smaller file is sent at once.
pub const CLIENT_FILE_CHUNK_BYTES: usize = 64 * KIB;
/// Size of a certificate or key file.
pub const TLS_FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Time for a TLS handshake, counted from the accept.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the certificate's files are checked. A change counts when two checks agree.
pub const TLS_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Size of an API request body.
pub const API_BODY_MAX_BYTES: usize = MIB;
/// Size of a request body of AssetUploadService: a chunk of 512 KiB and its envelope.
pub const API_ASSET_UPLOAD_BODY_MAX_BYTES: usize = 576 * KIB;
/// Values (fields and list elements) of one request. An empty element is two bytes on the wire and up to
/// about a hundred in memory; the longest list of the contract has 1,000 elements.
pub const API_VALUES_MAX: usize = 16 * 1024;
/// Size of a JSON body of `/auth/*` and of the operator socket.
pub const JSON_BODY_MAX_BYTES: usize = 64 * KIB;

// --- accounts (contract 4.8, 5; product 9) ------------------------------------------------------

/// A session record is updated at most once in this time.
pub const SESSION_TOUCH_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Password hashes that wait for a memory slot; further callers are refused (`unavailable`).
pub const PASSWORD_QUEUE_MAX: usize = 16;
/// How long a session counts as fresh after its log-in.
pub const SESSION_FRESH: Duration = Duration::from_secs(10 * 60);
/// Wrong passwords for one identifier before each further attempt must wait (product 9).
pub const LOGIN_FAILURES_FREE: u32 = 5;
/// The longest wait between log-ins with one identifier; there is no permanent lock.
pub const LOGIN_WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Wrong passwords from one IPv4 address or IPv6 /64 in [`LOGIN_ADDRESS_WINDOW`].
pub const LOGIN_ADDRESS_FAILURES_MAX: u32 = 20;
/// See [`LOGIN_ADDRESS_FAILURES_MAX`].
pub const LOGIN_ADDRESS_WINDOW: Duration = Duration::from_secs(60);
/// Lifetime of an identifier's counter after its last change; longer than the longest wait.
pub const LOGIN_COUNTER_TTL: Duration = Duration::from_secs(30 * 60);
const _: () = assert!(LOGIN_COUNTER_TTL.as_secs() > LOGIN_WAIT_MAX.as_secs());
/// Lifetime of an address's counter after its last change. JetStream remembers message ids at most as long.
pub const ADDRESS_COUNTER_TTL: Duration = Duration::from_secs(2 * 60);
const _: () = assert!(ADDRESS_COUNTER_TTL.as_secs() > LOGIN_ADDRESS_WINDOW.as_secs());
/// Identifiers with a counter; beyond it the least recently tried one is evicted.
pub const LOGIN_COUNTERS_MAX: i64 = 65_536;
/// Addresses that are counted; beyond it as with [`LOGIN_COUNTERS_MAX`].
pub const ADDRESS_COUNTERS_MAX: i64 = 16_384;
/// Log-in attempts for which one process compares a password in a burst; after that
/// [`LOGIN_ATTEMPTS_PER_SECOND`].
pub const LOGIN_ATTEMPTS_BURST: u32 = 64;
/// Further attempts wait, with their memory slot and before they are counted: hashing alone does not limit how fast
/// a large machine checks guesses.
pub const LOGIN_ATTEMPTS_PER_SECOND: u32 = 16;
/// Up to this many processes that share a store, the combined rate of guesses is low enough.
pub const LOGIN_PROCESSES_MAX: u64 = 4;
/// The most attempts that all processes count in a given time.
const fn attempts_within(time: Duration) -> u64 {
    let steady = LOGIN_ATTEMPTS_PER_SECOND as u64 * time.as_secs();
    (steady + LOGIN_ATTEMPTS_BURST as u64) * LOGIN_PROCESSES_MAX
}
/// A flood of other names evicts no counter while somebody still has to wait because of it.
const _: () = assert!(attempts_within(LOGIN_WAIT_MAX) < LOGIN_COUNTERS_MAX.unsigned_abs());
const _: () = assert!(attempts_within(LOGIN_ADDRESS_WINDOW) < ADDRESS_COUNTERS_MAX.unsigned_abs());
/// The costs of all stored password hashes, which every log-in spends whatever its login. Of more
/// different ones the cheapest are left out.
pub const PASSWORD_COSTS_MAX: usize = 4;
/// Refused uses of one setup or join link, and of all links from one client address, in [`LINK_WINDOW`]; further ones
/// wait for the end of the window.
pub const LINK_FAILURES_MAX: u32 = 20;
/// See [`LINK_FAILURES_MAX`].
pub const LINK_WINDOW: Duration = Duration::from_secs(60);
const _: () = assert!(ADDRESS_COUNTER_TTL.as_secs() > LINK_WINDOW.as_secs());
/// Length of a log-in identifier; a longer one is neither a login nor an address.
pub const IDENTIFIER_MAX_BYTES: usize = 254;
/// How long a repetition with the same `Idempotency-Key` returns the first message; JetStream's
/// duplicate window of the journal.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(120);
/// Rows that are searched for the message that an earlier call with the same key stored: more than a room gets in
/// [`IDEMPOTENCY_WINDOW`] at 30 messages a second.
pub const REPEATED_ROWS_MAX: u32 = 16 * ROWS_READ_MAX;
/// How long an author may edit a message (contract 4.8).
pub const EDIT_WINDOW: Duration = Duration::from_secs(10_800);
/// After this time the sweep announces a membership or room whose row is not stored.
pub const ANNOUNCE_AFTER: Duration = Duration::from_secs(30);
/// After this time the sweep releases a claim without a holder; longer than any request.
pub const CLAIM_ORPHANED_AFTER: Duration = Duration::from_secs(10 * 60);
/// Time between sweeps.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(20);
/// Lifetime of the lease under which one process sweeps.
pub const SWEEP_LEASE: Duration = Duration::from_secs(15);
/// Lifetime of the first owner's setup link.
pub const SETUP_LINK_TTL: Duration = Duration::from_secs(30 * 60);
/// Lifetime of a join link.
pub const JOIN_LINK_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

// --- realtime -----------------------------------------------------------------------------------

/// Size of a client's frame (contract 4.8).
pub const FRAME_MAX_BYTES: usize = 64 * KIB;
/// Time for `hello`, and then for `subscribe_events` (contract 8.1).
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between heartbeats (contract 8.8).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// How often a connection checks that its session is still valid; announced session ends take effect at once.
pub const SESSION_CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Subscribed sockets of one user in one process; the oldest is closed for a further one (product 9).
pub const SOCKETS_PER_USER_MAX: usize = 20;
/// Rooms a connection may hold (contract 4.8).
pub const RETAINED_ROOMS_MAX: usize = 64;
/// Rows of a timeline in a snapshot (contract 4.8).
pub const SNAPSHOT_ROWS: usize = 50;
/// Users and rooms that share one frame of a snapshot.
pub const SNAPSHOT_BATCH: usize = 200;
/// Loads (snapshots and replays) assembled concurrently in one process: one per user, half of them for
/// one client address. Sending needs no slot. [`SNAPSHOTS_QUEUE`] may wait for their first slot (contract 8.8).
pub const SNAPSHOTS_MAX: usize = 8;
/// See [`SNAPSHOTS_MAX`].
pub const SNAPSHOTS_QUEUE: usize = 1_024;
/// How long a connection waits for a slot, and how long its load holds slots in total (contract 8.8); then it must
/// retry later. Sending is limited by [`FRAME_SEND_TIMEOUT`] per frame.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Changes queued for a connection; beyond it the client is too slow and must reconnect.
pub const CONNECTION_QUEUE_MAX: usize = 1_024;
/// Changes that a resume replays; beyond it the client loads a full snapshot (contract 8.7).
pub const RESUME_CHANGES_MAX: usize = 2_000;
/// Lifetime of a resume cursor (contract 4.8).
pub const RESUME_CURSOR_TTL: Duration = Duration::from_secs(24 * 3600);
const _: () = assert!(RESUME_CURSOR_TTL.as_millis() < RESUME_WINDOW_MS.unsigned_abs() as u128);
/// Hydrations in a burst, then one per second (contract 8.8).
pub const HYDRATIONS_BURST: u32 = 20;
/// See [`HYDRATIONS_BURST`].
pub const HYDRATION_INTERVAL: Duration = Duration::from_secs(1);
/// Lifetime of a presence after its last refresh (contract 4.8).
pub const PRESENCE_TTL: Duration = Duration::from_secs(60);
/// A user's presence and typing are each published at most once in this time, since each goes to many sockets. Of
/// the changes in between, the newest is published at the end.
pub const EPHEMERAL_INTERVAL: Duration = Duration::from_secs(1);
const _: () = assert!(EPHEMERAL_INTERVAL.as_secs() < PRESENCE_TTL.as_secs());
/// How long a response waits until its live event is queued.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Read and write buffer of a WebSocket; incoming frames grow it up to
/// [`FRAME_MAX_BYTES`].
pub const SOCKET_BUFFER_BYTES: usize = 4 * KIB;
/// Bytes queued in a WebSocket: one frame, at most a batch of a snapshot.
pub const SOCKET_WRITE_BUFFER_MAX_BYTES: usize = 8 * MIB;
/// Pings and pongs of a WebSocket in a burst, then one per second; a client that sends more is disconnected. Browsers send
/// none of their own, libraries one every few seconds.
pub const CONTROL_FRAMES_BURST: u32 = 64;
/// See [`CONTROL_FRAMES_BURST`].
pub const CONTROL_FRAME_INTERVAL: Duration = Duration::from_secs(1);
/// How long a client may take to close its side.
pub const SOCKET_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are read from a client in that time.
pub const SOCKET_CLOSE_MAX_BYTES: usize = MIB;
/// Time to send one frame.
pub const FRAME_SEND_TIMEOUT: Duration = Duration::from_secs(30);

// --- nats ---------------------------------------------------------------------------------------

/// Unread messages of one core subscription; further ones are lost and the reader fills the gap
/// from the stream.
pub const NATS_SUBSCRIPTION_MESSAGES_MAX: usize = 8_192;
/// Subjects that one batch read names; nats-server takes 1,024.
pub const BATCH_SUBJECTS_MAX: usize = 512;
/// Messages of one batch read.
pub const BATCH_MESSAGES_MAX: u32 = 512;
/// Bytes of one batch read; the rest is requested again.
pub const BATCH_READ_MAX_BYTES: usize = 16 * MIB;

// --- supervisor ---------------------------------------------------------------------------------

/// The chunk in which files and foreign bytes are read or copied.
pub const COPY_CHUNK_BYTES: usize = 64 * KIB;
/// How often a held data-directory lock is tried again.
pub const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// After this time another server that holds the lock is assumed to keep running.
pub const LOCK_DYING_GRACE: Duration = Duration::from_millis(600);
/// An orphaned nats-server that ignores SIGTERM is killed after this time.
pub const LOCK_ORPHAN_KILL_AFTER: Duration = Duration::from_secs(10);
/// The start fails if an orphaned nats-server is still running after this time.
pub const LOCK_ORPHAN_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that the embedded server accepts: ours and those of local commands.
pub const EMBEDDED_CONNECTIONS_MAX: usize = 64;
/// The embedded server's memory streams (presence, calls, counters).
pub const EMBEDDED_MEMORY_STORE_MAX_BYTES: usize = 16 * MIB;
/// Presence, leases and the register: a user's record takes 250 bytes. Beyond it the oldest are dropped.
pub const PRESENCE_MAX_BYTES: i64 = 3 * MIB as i64;
/// Live participants of calls; beyond it as with [`PRESENCE_MAX_BYTES`].
pub const CALLS_MAX_BYTES: i64 = MIB as i64;
/// The most bytes that nats-server accounts for a counter: 48 of subject, 63 of headers, 20 of value, 16 of overhead.
pub const COUNTER_MAX_BYTES: i64 = 148;
const _: () = assert!(
    PRESENCE_MAX_BYTES
        + CALLS_MAX_BYTES
        + (LOGIN_COUNTERS_MAX + ADDRESS_COUNTERS_MAX) * COUNTER_MAX_BYTES
        <= EMBEDDED_MEMORY_STORE_MAX_BYTES as i64
);
/// How often a process checks that memory streams accept writes.
pub const MEMORY_PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// How long nats-server may recover its streams before the start fails (packaging 4.2). A start
/// whose nats-server ends fails at once.
pub const EMBEDDED_READY_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long nats-server may take to end after SIGTERM before it is killed.
pub const EMBEDDED_STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// First and longest delay before nats-server is restarted.
pub const EMBEDDED_RESTART_DELAY_FIRST: Duration = Duration::from_millis(100);
/// See [`EMBEDDED_RESTART_DELAY_FIRST`].
pub const EMBEDDED_RESTART_DELAY_MAX: Duration = Duration::from_secs(30);
/// A child that ran this long has recovered: its next restart uses the first delay again.
pub const EMBEDDED_STEADY_AFTER: Duration = Duration::from_secs(60);
/// How often free space and nats-server's health are checked.
pub const EMBEDDED_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// With fewer free inodes writes are refused. nats-server needs one for every new block of a stream
/// and stops storing for good when it gets none.
pub const DISK_FREE_INODES_MIN: u64 = 256;
/// With fewer free inodes no nats-server is started: it creates a file in each stream's folder and
/// deletes the folder when it cannot.
pub const DISK_FREE_INODES_START_MIN: u64 = 64;
const _: () = assert!(DISK_FREE_INODES_START_MIN < DISK_FREE_INODES_MIN);
/// Chunks ([`COPY_CHUNK_BYTES`]) that a probe of the disk writes: as much as the largest message, so that it
/// does not fit into a block that happens to be left.
pub const DISK_PROBE_WRITES: usize = NATS_PAYLOAD_MAX_BYTES / COPY_CHUNK_BYTES;
/// A probe of the disk that takes longer counts as failed. A slow SD card writes 1 MiB in well under a second.
pub const DISK_PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the system's list of mounts; a host with many containers has thousands of them.
pub const MOUNT_LIST_MAX_BYTES: u64 = 4 << 20;
/// First and longest delay between two probes of a failing disk: each may write up to a megabyte.
pub const DISK_PROBE_DELAY_FIRST: Duration = Duration::from_secs(1);
/// See [`DISK_PROBE_DELAY_FIRST`].
pub const DISK_PROBE_DELAY_MAX: Duration = Duration::from_secs(10);

// --- S3 (product 5) -----------------------------------------------------------------------------

/// Time for a connection with its TLS handshake.
pub const S3_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The deadline of a request grows by a second for each of these bytes in its body: half a megabit per second is a
/// slow line.
pub const S3_BODY_BYTES_PER_SECOND_MIN: usize = 64 * KIB;
/// The deadline for the completion of a multipart upload: AWS may need minutes and sends spaces meanwhile.
pub const S3_COMPLETE_TIMEOUT: Duration = Duration::from_secs(300);
/// How often a request is sent when the service is busy or the connection is cut.
pub const S3_TRIES: u32 = 3;
/// First and longest delay between these tries.
pub const S3_RETRY_DELAY_FIRST: Duration = Duration::from_millis(400);
/// See [`S3_RETRY_DELAY_FIRST`].
pub const S3_RETRY_DELAY_MAX: Duration = Duration::from_secs(4);
/// How often a download is resumed without getting a single byte.
pub const S3_RESUMES_MAX: u32 = S3_TRIES;
/// Idle connections that are kept.
pub const S3_IDLE_CONNECTIONS_MAX: usize = 4;
/// How long; AWS closes idle connections after 20 s.
pub const S3_IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// What is read of the body of an error; the rest is ignored.
pub const S3_ERROR_MAX_BYTES: usize = 64 * KIB;
/// Entries of one page of a listing.
pub const S3_PAGE_ENTRIES_MAX: usize = 500;
/// Bytes of such a page: a key takes 1 KiB, or six times that with its `&` as entities.
pub const S3_PAGE_MAX_BYTES: usize = 4 * MIB;
/// Bytes of any other response in XML.
pub const S3_RESPONSE_MAX_BYTES: usize = 64 * KIB;
/// Bytes of a key with its prefix (S3).
pub const S3_KEY_MAX_BYTES: usize = 1024;
/// The smallest part of a multipart upload, except for the last one (S3).
pub const S3_PART_MIN_BYTES: usize = 5 * MIB;
/// Parts of one upload (S3).
pub const S3_PARTS_MAX: u64 = 10_000;
/// Parts of an upload of unknown length: a reserve is left for a limit that is raised meanwhile.
pub const S3_PARTS_OF_UNKNOWN_LENGTH_MAX: u64 = 9_000;
const _: () = assert!(S3_PARTS_OF_UNKNOWN_LENGTH_MAX < S3_PARTS_MAX);
/// Bodies from this size on are hashed off the executor.
pub const S3_HASH_AT_ONCE_MAX_BYTES: usize = 64 * KIB;
/// Life of a presigned URL (S3: seven days).
pub const S3_PRESIGNED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
