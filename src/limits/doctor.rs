//! Limits of `doctor`.

use std::time::Duration;

use super::{KIB, MIB};

/// A file of the system or of the data directory that `doctor` reads, except those with a limit of their own.
pub const DOCTOR_FILE_MAX_BYTES: u64 = 256 * KIB as u64;
/// Entries of a directory that it looks at.
pub const DOCTOR_ENTRIES_MAX: usize = 10_000;
/// The latency of a flush: how often one is made at most. With 100, the 99th percentile is the second highest value.
pub const DOCTOR_FLUSHES_MAX: usize = 100;
/// Bytes that are written before each flush: about a message.
pub const DOCTOR_FLUSH_BYTES: usize = KIB;
// All of them together are less than what one upload takes.
const _: () = assert!(DOCTOR_FLUSHES_MAX * DOCTOR_FLUSH_BYTES < MIB);
/// After this time no further flush is begun.
pub const DOCTOR_FLUSHES_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a flush that hangs is waited for.
pub const DOCTOR_FLUSH_HANG_TIMEOUT: Duration = Duration::from_secs(20);
const _: () = assert!(DOCTOR_FLUSHES_TIMEOUT.as_secs() < DOCTOR_FLUSH_HANG_TIMEOUT.as_secs());
/// A slower median flush is worth a warning: less than 20 messages per second, and cards take 5 to 50 ms.
pub const DOCTOR_FLUSH_SLOW: Duration = Duration::from_millis(50);
/// A slower 99th percentile is noticed by whoever sends.
pub const DOCTOR_FLUSH_STALL: Duration = Duration::from_millis(500);
/// After this time without a verified backup something must be done: a nightly backup failed at least six times.
pub const DOCTOR_BACKUP_MAX_AGE: Duration = Duration::from_secs(8 * 86_400);
/// A certificate that ends sooner should have been renewed; authorities renew 30 days before the end.
pub const DOCTOR_CERTIFICATE_SOON: Duration = Duration::from_secs(14 * 86_400);
/// Until this much memory (640 MiB), the limit of docs/raspberry-pi.md applies to both processes together.
pub const DOCTOR_SMALL_BOARD_BYTES: u64 = 640 * MIB as u64;
/// See [`DOCTOR_SMALL_BOARD_BYTES`].
pub const DOCTOR_SMALL_BOARD_BUDGET_BYTES: u64 = 150 * MIB as u64;
/// Less available memory than this is too little for a backup, which takes up to 64 MiB.
pub const DOCTOR_MEMORY_AVAILABLE_MIN_BYTES: u64 = 64 * MIB as u64;
/// Bytes that were written in less time than this say nothing about a day.
pub const DOCTOR_WRITTEN_MIN_TIME: Duration = Duration::from_secs(600);
/// Each request over the network with `--online`.
pub const DOCTOR_ONLINE_TIMEOUT: Duration = Duration::from_secs(15);
/// A response over the network; the rest is not read.
pub const FETCHED_BODY_MAX_BYTES: usize = 64 * KIB;
