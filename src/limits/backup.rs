//! Limits of backups.

use std::time::Duration;

use super::{KIB, MIB, NATS_PAYLOAD_MAX_BYTES, OVERLAY_MAX_BYTES};

/// How long a backup repeats a read that nats-server does not reply to: an election, or a restart.
pub const EXPORT_RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often pages and journal are read until they fit together.
pub const EXPORT_CUTS_MAX: usize = 100;
/// Bytes of unfolded events that a backup keeps in memory. A server keeps [`OVERLAY_MAX_BYTES`]; the rest is for rooms
/// that are held.
pub const EXPORT_EVENTS_MAX_BYTES: usize = 24 * MIB;
const _: () = assert!(OVERLAY_MAX_BYTES * 2 < EXPORT_EVENTS_MAX_BYTES);
/// Messages that a backup reads at a time.
pub const EXPORT_BATCH_MESSAGES: u32 = 128;
/// Bytes of records after which a backup begins another member. A longer record has one by itself.
pub const ARCHIVE_MEMBER_BYTES: usize = MIB;
/// Bytes of records in one member of an archive. A reader has one in memory.
pub const ARCHIVE_MEMBER_MAX_BYTES: usize = 8 * MIB;
// A line is a message in base64 and some words around it.
const _: () = assert!(NATS_PAYLOAD_MAX_BYTES / 3 * 4 + 64 * KIB < ARCHIVE_MEMBER_MAX_BYTES);
/// Members of an archive.
pub const ARCHIVE_MEMBERS_MAX: usize = 1_000_000;
/// Bytes of the header and of the text for people.
pub const ARCHIVE_TEXT_MAX_BYTES: usize = 256 * KIB;
/// Lines in a part of the list of members.
pub const ARCHIVE_PART_LINES: usize = 40_000;
/// Bytes of such a part.
pub const ARCHIVE_PART_MAX_BYTES: usize = 16 * MIB;
/// Parts of the list of members: one of [`ARCHIVE_PART_LINES`] for the members, the others for objects in S3.
pub const ARCHIVE_PARTS_MAX: usize = 1_000;
/// Bytes of the manifest. It grows only with parts and with files whose bytes are missing: some 700,000.
pub const ARCHIVE_MANIFEST_MAX_BYTES: usize = 16 * MIB;
/// Bytes of all members.
pub const ARCHIVE_MAX_BYTES: u64 = 1 << 40;
/// Subjects of one stream in an archive. A reader has some 20 bytes for each.
pub const ARCHIVE_SUBJECTS_MAX: usize = 16 << 20;
/// Files that an archive names. A reader has some 100 bytes for each.
pub const ARCHIVE_FILES_MAX: usize = 4 << 20;
/// Bytes that are compressed at a time.
pub const ARCHIVE_BLOCK_BYTES: usize = 256 * KIB;
/// Blocks that are compressed at the same time or wait to be written.
pub const ARCHIVE_BLOCKS_MAX: usize = 6;
/// After so many bytes of a backup free space is looked at, and they are synced.
pub const BACKUP_SPACE_CHECK_BYTES: u64 = 16 << 20;
/// Tasks of a backup: the keeper of its lease.
pub const BACKUP_TASKS_MAX: usize = 2;
/// Bytes of a file of `/proc` or `/sys` with a single fact: a number, or the name of the system's start.
pub const SYSTEM_FACT_MAX_BYTES: u64 = 128;
/// Bytes of a record in an archive: of a message of the largest size, subject and headers left out.
pub const ARCHIVED_RECORD_MAX_BYTES: usize = NATS_PAYLOAD_MAX_BYTES - 4 * KIB;
/// Bytes of a subject in an archive.
pub const ARCHIVED_SUBJECT_MAX_BYTES: usize = 512;
/// How long a backup that was killed keeps files from being erased, and others from beginning.
pub const EXPORT_LEASE: Duration = Duration::from_secs(30);
/// How often the lease is renewed.
pub const EXPORT_LEASE_RENEWAL: Duration = Duration::from_secs(8);
const _: () = assert!(EXPORT_LEASE_RENEWAL.as_secs() * 3 < EXPORT_LEASE.as_secs());
/// Archives that a catalogue lists; older ones are forgotten, and then never removed.
pub const CATALOGUE_ARCHIVES_MAX: usize = 10_000;
/// Bytes of a catalogue: an entry has less than 1 KiB.
pub const CATALOGUE_MAX_BYTES: usize = 10 * MIB;
/// Archives that retention may be asked to keep.
pub const RETENTION_MAX: u32 = 10_000;
/// Bytes of the name of an extracted file, without the id that may come before it.
pub const EXTRACTED_NAME_MAX_BYTES: usize = 200;
/// Numbers that extracted files of one name get.
pub const EXTRACTED_SAME_NAME_MAX: usize = 1_000;
/// Objects that are named when a bucket lacks files of an archive.
pub const WRONG_OBJECTS_MAX: usize = 20;
/// How often a process tries to get the lock of a small file that others change, and the time in between.
pub const TARGET_LOCK_ATTEMPTS: u32 = 500;
/// See [`TARGET_LOCK_ATTEMPTS`].
pub const TARGET_LOCK_INTERVAL: Duration = Duration::from_millis(20);
/// How much higher than its last archive a store numbers the next one because of a catalogue, which anybody may have written.
pub const CATALOGUE_LEAD_MAX: u64 = 1 << 20;
/// Archives of one folder whose names have the same time.
pub const ARCHIVES_PER_SECOND_MAX: u32 = 1_000;
/// How often a process that shares its store checks that it is still the same store.
pub const EPOCH_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long it may write after each check. A restore over a store in NATS waits so long before it changes the streams.
/// Longer than the interval and an election (at most 9 s), in which META cannot be read.
pub const EPOCH_CHECK_TTL: Duration = Duration::from_secs(12);
const _: () = assert!(EPOCH_CHECK_TTL.as_secs() > EPOCH_CHECK_INTERVAL.as_secs() + 9);
/// Bytes of a volume of an archive on FAT, whose files have at most 4 GiB less one byte. Some programs stop at 2 GiB.
pub const FAT_VOLUME_BYTES: u64 = 2 << 30;
/// Volumes of an archive: their numbers have three digits.
pub const VOLUMES_MAX: usize = 999;
/// Bytes of the list of paired sticks.
pub const STICKS_FILE_MAX_BYTES: u64 = 64 << 10;
/// Characters of the name of a stick.
pub const STICK_NAME_MAX_CHARACTERS: usize = 32;
/// Bytes of the file that identifies a stick, and of other small files on it.
pub const STICK_FILE_MAX_BYTES: u64 = 4 << 10;
/// Bytes of what udev knows of a device.
pub const UDEV_FACTS_MAX_BYTES: u64 = 64 << 10;
/// Bytes of a line between the process that mounts a stick and the one that writes to it.
pub const WORKER_LINE_MAX_BYTES: usize = 64 << 10;
/// How long a backup to a stick waits for a clock that is not set yet.
pub const CLOCK_WAIT: Duration = Duration::from_secs(60);
/// A stick that has a verified backup younger than this gets none when the machine starts with it plugged in.
pub const STICK_BACKUP_FRESH: Duration = Duration::from_secs(20 * 3600);
/// How long a backup to a stick waits while another one is running: half of what its unit may take (`TimeoutStartSec=`).
pub const STICK_BUSY_WAIT: Duration = Duration::from_secs(3 * 3600);
/// How often it tries meanwhile.
pub const STICK_BUSY_INTERVAL: Duration = Duration::from_secs(10);
/// How long after its start a machine counts as just started.
pub const MACHINE_START: Duration = Duration::from_secs(600);
/// Bytes that are read at a time from a stick, past the page cache. Addresses and lengths are multiples of the block size of
/// every disk.
pub const DIRECT_READ_BYTES: usize = 1 << 20;
/// See [`DIRECT_READ_BYTES`].
pub const DIRECT_READ_ALIGNMENT: usize = 4096;
/// Names that are shown of what is on a stick.
pub const STICK_NAMES_SHOWN: usize = 20;
/// Bytes of an answer that a person types at a question.
pub const ANSWER_MAX_BYTES: usize = 256;
/// Bytes of the path or stick name in a result of a backup that the store remembers.
pub const BACKUP_PLACE_MAX_BYTES: usize = 256;
/// Bytes of the reason in such a result.
pub const BACKUP_REASON_MAX_BYTES: usize = 512;
/// Results of one kind with one verdict that the store remembers; the oldest are dropped.
pub const BACKUP_RESULTS_SAME_MAX: usize = 4;
/// Results that the store remembers: of three kinds with four verdicts.
pub const BACKUP_RESULTS_MAX: usize = 3 * 4 * BACKUP_RESULTS_SAME_MAX;
const _: () = assert!(
    BACKUP_RESULTS_MAX * (BACKUP_PLACE_MAX_BYTES + BACKUP_REASON_MAX_BYTES + 64)
        < NATS_PAYLOAD_MAX_BYTES
);
/// Age of the last verified backup, and of a store without one, after which owners are told.
pub const BACKUP_LATE_AFTER: Duration = Duration::from_secs(48 * 3600);
/// How long a failed backup is shown to owners if none of its kind follows.
pub const BACKUP_FAILURE_SHOWN: Duration = Duration::from_secs(14 * 24 * 3600);
/// Age of a key that no export holds after which owners are told: a nightly export has had its time.
pub const KEYS_UNEXPORTED_AFTER: Duration = Duration::from_secs(48 * 3600);
/// How often a server looks whether owners must be told something, for its log.
pub const OWNER_NOTICES_INTERVAL: Duration = Duration::from_secs(60);
