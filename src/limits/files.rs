//! Limits of files and of their uploads.

use std::time::Duration;

use super::{API_ASSET_UPLOAD_BODY_MAX_BYTES, KIB, NATS_PAYLOAD_MAX_BYTES};

/// Bytes of a chunk of AssetUploadService, and of a file's chunks in NATS (contract 10.1).
pub const UPLOAD_CHUNK_MAX_BYTES: usize = 512 * KIB;
const _: () = assert!(UPLOAD_CHUNK_MAX_BYTES < API_ASSET_UPLOAD_BODY_MAX_BYTES);
const _: () = assert!(UPLOAD_CHUNK_MAX_BYTES + 4 * KIB < NATS_PAYLOAD_MAX_BYTES);
/// Chunks of one file. The list of them is part of its record; with chunks of the full size it is enough for 5 GiB.
pub const FILE_CHUNKS_MAX: usize = 10_240;
/// Pause after the first failed check of the bucket; it grows with each further one. Also how soon a check follows a
/// request that has failed: nobody else may send the one that shows that the service is back.
pub const S3_CHECK_RETRY_FIRST: Duration = Duration::from_secs(2);
/// See [`S3_CHECK_RETRY_FIRST`].
pub const S3_CHECK_RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a download that was redirected to S3 may begin there: whoever has the address needs no account.
pub const S3_REDIRECT_TTL: Duration = Duration::from_secs(15 * 60);
/// Work on S3 that waits for memory for a part.
pub const S3_PARTS_WAITING_MAX: usize = 64;
/// How long a call of AssetUploadService waits for this memory; then it is `unavailable`. Below the 20 s that clients
/// give a call.
pub const S3_PART_WAIT_TIMEOUT: Duration = Duration::from_secs(15);
/// Uploads in chunks that send a part at a time: each has it in memory besides the chunks that arrive meanwhile.
pub const STAGED_PARTS_MAX: usize = 1;
/// Files that are streamed in at a time, each with a chunk and, to S3, a part in memory. One address gets half of
/// it, and so does one user.
pub const UPLOAD_STREAMS_MAX: usize = 8;
/// See [`UPLOAD_STREAMS_MAX`]; below 1 GB of memory.
pub const UPLOAD_STREAMS_SMALL_MAX: usize = 3;
/// How long a file may wait at the socket until it can be streamed in; then it gets 503 with `Retry-After`. Below the
/// 60 s after which proxies commonly give up.
pub const UPLOAD_STREAM_WAIT_TIMEOUT: Duration = Duration::from_secs(50);
/// Bytes that are handed over at a time of a file that is streamed to S3.
pub const UPLOAD_STREAM_CHUNK_BYTES: usize = 128 * KIB;
const _: () = assert!(UPLOAD_CHUNK_MAX_BYTES.is_multiple_of(UPLOAD_STREAM_CHUNK_BYTES));
/// Time for each [`UPLOAD_CHUNK_MAX_BYTES`] of a file that is streamed in: 4 KiB/s. Whoever is slower than that uploads
/// in chunks.
pub const UPLOAD_STREAM_CHUNK_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an upload may wait for its next chunk (contract 10.1).
pub const UPLOAD_TTL: Duration = Duration::from_secs(3600);
/// How long a file may wait for a message (contract 10.1; product 5).
pub const UNATTACHED_FILE_TTL: Duration = Duration::from_secs(24 * 3600);
/// After this time the process that was attaching or deleting a file is assumed to be gone.
pub const FILE_RESOLVE_AFTER: Duration = Duration::from_secs(120);
/// How often all files are looked through for what nobody will use.
pub const FILE_SWEEP_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Files that one sweep cleans up, and complete ones beside which it looks for late chunks. It remembers less than 256
/// bytes of each of the former and 32 of each of the latter: 3 MB at most. The next sweep continues with the others.
pub const FILES_SWEPT_MAX: usize = 10_000;
/// How long work of an operator on all files goes on before it reports how far it is.
pub const FILE_WORK_STEP: Duration = Duration::from_secs(2);
/// How long the copy of a file is kept, with a part in memory, that a step did not finish. A command asks for the next
/// step at once.
pub const FILE_COPY_TTL: Duration = Duration::from_secs(30);
/// How often a process looks for a copy that is older than [`FILE_COPY_TTL`].
pub const FILE_COPY_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Lifetime of the lease under which one process moves files: longer than a part takes on a slow line. The completion
/// of an upload may outlast it; the lease is then taken again.
pub const FILE_MOVE_LEASE: Duration = Duration::from_secs(120);
// A step takes it once and then works until its time is over.
const _: () = assert!(FILE_WORK_STEP.as_secs() * 3 < FILE_MOVE_LEASE.as_secs());
