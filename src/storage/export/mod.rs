//! Reading a store for an archive, beside the processes that use it.
//!
//! Six streams hold everything that an archive contains. They are read one after the other while the store changes, in an
//! order in which nothing that is read refers to something that was read before it came into being:
//!
//! 1. NOTIFICATIONS and READ_MARKERS name rows that exist by then.
//! 2. PAGES up to an instant, and the journal's events that the pages of that instant do not contain ([`cut`]).
//! 3. FILES, after the messages that name them. Files are not erased while an archive is made ([`lease`]).
//! 4. STATE, after the messages of its users.
//!
//! Each stream is read up to its end, which is asked of its leader after the last message: a key that is rewritten
//! meanwhile comes again, and the newest counts.

mod check;
mod content;
mod cut;
mod files;
mod lease;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use check::check_archived;
#[cfg(test)]
pub(crate) use check::record_of;
pub use content::restored_data;
pub use cut::CutCount;
pub use files::{ExportedFile, FileBytes, FilePart};
pub use lease::ExportLease;
pub(crate) use lease::is_exporting;

use crate::limits::{
    CATALOGUE_LEAD_MAX, EXPORT_BATCH_MESSAGES, EXPORT_RETRY_TIMEOUT, STORE_RETRY_DELAY_FIRST,
    STORE_RETRY_DELAY_MAX,
};
use crate::nats::{BatchRead, Nats, NatsError, StoredMessage};
use crate::runtime::{Backoff, Clock};
use crate::storage::error::StorageError;
use crate::storage::kv::memory::MemoryStreams;
use crate::storage::layout::{LAYOUT, STREAMS, stream};
use crate::storage::open::{self, OpenError, integrity, writer::WRITER};
use crate::storage::records::{Meta, MetaState};
use crate::storage::state::key::StateKey;

/// A stream that archives contain. The order of the variants is the one in which they are read and stand in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArchivedStream {
    Notifications,
    ReadMarkers,
    Pages,
    Journal,
    Files,
    State,
}

impl ArchivedStream {
    /// All, in order.
    pub const ALL: [Self; 6] = [
        Self::Notifications,
        Self::ReadMarkers,
        Self::Pages,
        Self::Journal,
        Self::Files,
        Self::State,
    ];

    /// The bare name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Notifications => "NOTIFICATIONS",
            Self::ReadMarkers => "READ_MARKERS",
            Self::Pages => stream::PAGES,
            Self::Journal => stream::JOURNAL,
            Self::Files => stream::FILES,
            Self::State => "STATE",
        }
    }

    /// The stream of a bare name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }

    /// JetStream's name.
    pub(crate) fn stream(self) -> &'static str {
        match self {
            Self::Notifications => "KV_NOTIFICATIONS",
            Self::ReadMarkers => stream::READ_MARKERS,
            Self::Pages => stream::PAGES,
            Self::Journal => stream::JOURNAL,
            Self::Files => stream::FILES,
            Self::State => stream::STATE,
        }
    }
}

/// The streams that no archive contains, with the reason.
#[must_use]
pub fn excluded_streams() -> Vec<(&'static str, &'static str)> {
    let reason = |name| match name {
        "META" => Some("it belongs to the store, not to its data"),
        "ENCRYPTION_KEYS" => {
            Some("the archive alone must not show messages; `chatto keys export` saves them")
        }
        "AUTH_TOKENS" => Some("sessions and links must not leave with an archive"),
        "UPLOADS" => Some("unfinished uploads"),
        "LINK_PREVIEWS" | "ASSET_CACHE" => Some("made again when it is needed"),
        "PRESENCE" | "CALLS" | stream::LOGIN_COUNTERS | stream::ADDRESS_COUNTERS => {
            Some("in memory only")
        }
        // Its files are in the archive, one by one.
        _ => None,
    };
    STREAMS.iter().filter_map(|spec| Some((spec.name, reason(spec.name)?))).collect()
}

/// The versions of what a store contains, as an archive names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreVersions {
    pub layout: u32,
    /// Of a program that may write.
    pub writer: u32,
    /// Of the stored encoding.
    pub records: u8,
}

impl StoreVersions {
    /// Those of this program.
    pub const OWN: Self =
        Self { layout: LAYOUT, writer: WRITER, records: crate::storage::encoding::VERSION };
}

/// A message of a stream, as an archive contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedRecord {
    /// In the stream it was read from.
    pub sequence: u64,
    /// When it was stored; RFC 3339.
    pub stored_at: String,
    pub subject: String,
    /// What is left of its life.
    pub ttl: Option<Duration>,
    /// Its key was deleted while the stream was read; there is no data.
    pub deleted: bool,
    pub data: Bytes,
}

/// How much of a stream was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCount {
    /// Records, of which some replace earlier ones of the same subject.
    pub records: u64,
    /// Subjects that have a record at the end.
    pub subjects: u64,
}

/// The store could not be read completely.
#[derive(Debug, thiserror::Error)]
pub enum ExportError<E> {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another archive of this store is being made.
    #[error("another backup of this store is running")]
    Running,
    /// The record of a file cannot be read.
    #[error("the record of the file {file} cannot be read")]
    File {
        file: String,
        #[source]
        source: StorageError,
    },
    /// Pages and journal do not fit together however often they are read.
    #[error("event {number} of the room {room} is in no page and not in the journal")]
    Hole { room: String, number: u64 },
    /// Rooms whose events cannot be processed have more of them than are kept in memory.
    #[error("more events wait to be processed than can be kept in memory")]
    TooManyEvents,
    /// Whoever takes the records could not.
    #[error(transparent)]
    Sink(E),
}

impl<E> From<NatsError> for ExportError<E> {
    fn from(error: NatsError) -> Self {
        Self::Storage(error.into())
    }
}

/// A store that is read for an archive.
pub struct Export {
    nats: Nats,
    clock: Clock,
    memory: Arc<MemoryStreams>,
    server_id: String,
    epoch: Bytes,
}

impl Export {
    /// Checks that the store is complete. Writes nothing. `replicas`: of streams in memory, where they are missing.
    ///
    /// # Errors
    /// [`OpenError`]: there is no store, it is damaged, or a newer program has taken it over.
    pub async fn open(nats: &Nats, clock: &Clock, replicas: usize) -> Result<Self, OpenError> {
        let identity = open::check_complete(nats).await?;
        let mark = integrity::read(nats, &identity).await?;
        integrity::check_ends(nats, clock, &mark).await?;
        let link = (nats.clone(), clock.clone());
        let memory = Arc::new(MemoryStreams::new(link, replicas, &identity));
        let open::Identity { server_id, epoch } = identity;
        Ok(Self { nats: nats.clone(), clock: clock.clone(), memory, server_id, epoch })
    }

    /// The store's server id.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// The store's epoch.
    #[must_use]
    pub fn epoch(&self) -> &[u8] {
        &self.epoch
    }

    /// Gives the archive that is about to be made its number, which is higher than that of every archive before, and
    /// than `former` if that is not higher by more than [`CATALOGUE_LEAD_MAX`].
    ///
    /// # Errors
    /// [`OpenError`], also when a restore has begun meanwhile.
    pub async fn next_sequence(&self, former: u64) -> Result<u64, OpenError> {
        let next = |meta: Option<Meta>| {
            let meta = meta.filter(|meta| meta.state() == MetaState::Ready)?;
            let former = former.min(meta.backup_sequence.saturating_add(CATALOGUE_LEAD_MAX));
            let backup_sequence = meta.backup_sequence.max(former).saturating_add(1);
            Some(Meta { backup_sequence, ..meta })
        };
        Ok(open::put_meta(&self.nats, &self.clock, next).await?.backup_sequence)
    }

    /// Bytes that the archived streams and the files in NATS take in the store now.
    pub async fn stored_bytes(&self) -> Result<u64, StorageError> {
        let mut bytes = 0_u64;
        let streams = ArchivedStream::ALL.iter().map(|stream| stream.stream());
        for name in streams.chain([stream::ASSETS]) {
            let info = self.nats.stream(name).await?;
            bytes = bytes.saturating_add(info.map_or(0, |info| info.state.bytes));
        }
        Ok(bytes)
    }

    /// Reads NOTIFICATIONS, READ_MARKERS or STATE. Without what the fold and leases keep there.
    ///
    /// # Errors
    /// [`ExportError`]; `Sink` is what `each` returns.
    pub async fn bucket<E>(
        &self,
        bucket: ArchivedStream,
        mut each: impl FnMut(ArchivedRecord) -> Result<(), E>,
    ) -> Result<StreamCount, ExportError<E>> {
        let mut seen = Subjects::default();
        let prefix = format!("$KV.{}.", bucket.name());
        let is_volatile = |subject: &str| {
            let key = subject.strip_prefix(&prefix).unwrap_or(subject);
            bucket == ArchivedStream::State
                && key.parse::<StateKey>().is_ok_and(|key| key.is_volatile())
        };
        self.scan(bucket, 1, |message| {
            if is_volatile(&message.subject) || !seen.take(&message) {
                return Ok(());
            }
            each(archived(&message, &self.clock)).map_err(ExportError::Sink)
        })
        .await?;
        Ok(seen.count())
    }

    /// Shows every message of a stream from a sequence on, up to its end as its leader says after the last one. Returns
    /// the sequence after the end.
    async fn scan<E>(
        &self,
        stream: ArchivedStream,
        from: u64,
        mut each: impl FnMut(StoredMessage) -> Result<(), ExportError<E>>,
    ) -> Result<u64, ExportError<E>> {
        let name = stream.stream();
        let mut next = from;
        loop {
            let what = BatchRead::From { sequence: next, count: EXPORT_BATCH_MESSAGES };
            let mut batch = self.retry(|| self.nats.read(name, what.clone())).await?.messages;
            if batch.is_empty() {
                // The end, or a replica that lags behind.
                let end = self.end(stream).await?;
                if next >= end {
                    return Ok(next);
                }
                match self.retry(|| self.nats.leader_from(name, next)).await? {
                    Some(message) => batch.push(message),
                    None => return Ok(end),
                }
            }
            for message in batch {
                next = message.sequence.saturating_add(1);
                each(message)?;
            }
        }
    }

    /// The sequence after the last of a stream, from its leader.
    async fn end(&self, stream: ArchivedStream) -> Result<u64, StorageError> {
        let info = self.retry(|| self.nats.stream(stream.stream())).await?;
        let info = info.ok_or(StorageError::LATE)?;
        Ok(info.state.last_sequence.saturating_add(1))
    }

    /// Repeats a read while nats-server does not reply: an election, or a restart.
    async fn retry<T, F>(&self, read: impl Fn() -> F) -> Result<T, NatsError>
    where
        F: Future<Output = Result<T, NatsError>>,
    {
        let deadline = self.clock.now() + EXPORT_RETRY_TIMEOUT;
        let mut backoff = Backoff::new(STORE_RETRY_DELAY_FIRST, STORE_RETRY_DELAY_MAX);
        loop {
            match read().await {
                Err(error) if error.is_transient() && self.clock.now() < deadline => {
                    self.clock.sleep(backoff.delay()).await;
                }
                done => return done,
            }
        }
    }
}

/// The subjects that were read, each by a number of its own with all but certainty: memory for 8 bytes each.
#[derive(Default)]
struct Subjects {
    live: HashSet<u64>,
    records: u64,
}

impl Subjects {
    /// Counts a message. `false`: the key was deleted before it was ever read, so that nothing is to be said of it.
    fn take(&mut self, message: &StoredMessage) -> bool {
        let number = subject_number(&message.subject);
        let is_needed = match message.is_tombstone() {
            true => self.live.remove(&number),
            false => {
                self.live.insert(number);
                true
            }
        };
        self.records = self.records.saturating_add(u64::from(is_needed));
        is_needed
    }

    fn has(&self, subject: &str) -> bool {
        self.live.contains(&subject_number(subject))
    }

    fn count(&self) -> StreamCount {
        StreamCount {
            records: self.records,
            subjects: self.live.len().try_into().unwrap_or(u64::MAX),
        }
    }
}

/// A number for a subject, by which records of one subject are found to be so.
#[must_use]
pub fn subject_number(subject: &str) -> u64 {
    integrity::digest(subject, 0)
}

fn archived(message: &StoredMessage, clock: &Clock) -> ArchivedRecord {
    let header = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
    let stored_at = header("Nats-Time-Stamp").unwrap_or_default();
    let deleted = message.is_tombstone();
    ArchivedRecord {
        sequence: message.sequence,
        subject: message.subject.clone(),
        ttl: header("Nats-TTL").and_then(|ttl| remaining(&ttl, &stored_at, clock)),
        deleted,
        data: if deleted { Bytes::new() } else { message.payload.clone() },
        stored_at,
    }
}

/// What is left of a life of whole seconds ("3600s") that began at a time (RFC 3339), at least one second.
fn remaining(ttl: &str, stored_at: &str, clock: &Clock) -> Option<Duration> {
    let seconds: i64 = ttl.strip_suffix('s').unwrap_or(ttl).parse().ok()?;
    let now = clock.unix_ms() / 1000;
    let stored = crate::observe::parse_rfc3339(stored_at).map_or(now, |ms| ms.div_euclid(1000));
    let left = seconds.saturating_sub(now.saturating_sub(stored).max(0)).max(1);
    Some(Duration::from_secs(left.unsigned_abs()))
}
