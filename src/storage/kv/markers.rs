//! Read markers: hot, small, and the one thing of which a crash may lose the last seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::{ReadMarker, UserId};
use crate::limits::{
    MARKER_CACHE_MAX, MARKERS_FLUSH_INTERVAL, MARKERS_PENDING_MAX, RECORD_CACHE_TTL, WRITE_DEADLINE,
};
use crate::nats::{BatchRead, Commit, Nats, Publish, PublishError, ReadPurpose};
use crate::runtime::{Clock, Stop};
use crate::storage::encoding::{decode_value, encode_value};
use crate::storage::error::StorageError;
use crate::storage::feed::Following;
use crate::storage::kv::bucket_get_known;
use crate::storage::kv::record_cache::RecordCache;
use crate::storage::layout::stream;
use crate::storage::store::Inner;
use parking_lot::{Mutex, MutexGuard};

/// Markers that are read in one request; the server returns at most 1,024.
const PREFETCH_KEYS: usize = 512;
/// How long they count with external NATS, where they may come from a replica that lags.
const PREFETCHED_TTL: Duration = Duration::from_secs(2);

/// READ_MARKERS. With the embedded server markers are written at most every five seconds and at
/// stop; reads are answered from memory meanwhile. With external NATS they are written at once.
pub struct Markers {
    nats: Nats,
    clock: Clock,
    coalesce: bool,
    following: Following,
    held: Mutex<Held>,
    /// One flush at a time: of two, the one that began first could write its older marker last.
    flushing: smol::lock::Mutex<()>,
}

/// Markers in memory, by key.
struct Held {
    /// What is to be written.
    pending: HashMap<String, ReadMarker>,
    /// What the store has. Every post reads the markers of all who receive it.
    cache: RecordCache<String, Option<ReadMarker>>,
}

impl Markers {
    pub(crate) fn new((nats, clock): (Nats, Clock), coalesce: bool, following: Following) -> Self {
        let cache = RecordCache::new(MARKER_CACHE_MAX);
        let held = Mutex::new(Held { pending: HashMap::new(), cache });
        Self { nats, clock, coalesce, following, held, flushing: smol::lock::Mutex::new(()) }
    }

    fn key(user: &UserId, target: &str) -> String {
        format!("$KV.READ_MARKERS.{user}.{target}")
    }

    /// The stored read marker of a room or thread (`target`: its id). With external NATS it may be
    /// [`RECORD_CACHE_TTL`] old if a change was not received.
    pub async fn get(
        &self,
        user: &UserId,
        target: &str,
    ) -> Result<Option<ReadMarker>, StorageError> {
        let key = Self::key(user, target);
        let now = self.clock.now();
        let reading = {
            let mut held = self.lock();
            if let Some(marker) = held.pending.get(&key) {
                return Ok(Some(*marker));
            }
            if (self.coalesce || self.following.is_current(&self.clock))
                && let Some(marker) = held.cache.get(&key, now)
            {
                return Ok(*marker);
            }
            held.cache.begin_reading(now)
        };
        let stored = self.stored(&key).await?;
        let until = self.until(now, RECORD_CACHE_TTL);
        self.lock().cache.keep(reading, key, stored, until);
        Ok(stored)
    }

    /// Reads the markers of many rooms or threads at once, so that [`Self::get`] answers from memory.
    pub async fn prefetch(
        &self,
        user: &UserId,
        targets: impl Iterator<Item = &str>,
    ) -> Result<(), StorageError> {
        let mut keys: Vec<_> = targets.map(|target| Self::key(user, target)).collect();
        let now = self.clock.now();
        let reading = {
            let mut held = self.lock();
            keys.retain(|key| {
                !held.pending.contains_key(key) && held.cache.get(key, now).is_none()
            });
            held.cache.begin_reading(now)
        };
        for keys in keys.chunks(PREFETCH_KEYS) {
            let batch = self.nats.read(stream::READ_MARKERS, BatchRead::Newest(keys)).await?;
            let mut found = HashMap::new();
            for message in batch.messages.into_iter().filter(|message| !message.is_tombstone()) {
                let marker = decode_value(&message.payload);
                let (marker, _) = marker.map_err(StorageError::corrupt("READ_MARKERS"))?;
                found.insert(message.subject, marker);
            }
            if batch.pending > 0 {
                continue;
            }
            let until = self.until(self.clock.now(), PREFETCHED_TTL);
            let mut held = self.lock();
            for key in keys {
                held.cache.keep(reading, key.clone(), found.remove(key), until);
            }
        }
        Ok(())
    }

    /// How long a marker counts that is read now; the only writer of a store knows without end.
    fn until(&self, now: Instant, ttl: Duration) -> Option<Instant> {
        (!self.coalesce).then(|| now + ttl)
    }

    async fn stored(&self, key: &str) -> Result<Option<ReadMarker>, StorageError> {
        let stored = if self.coalesce {
            self.nats.newest(stream::READ_MARKERS, key).await?
        } else {
            self.nats.newest_for(ReadPurpose::Show, stream::READ_MARKERS, key).await?
        };
        let stored = stored.filter(|message| !message.is_tombstone());
        stored
            .map(|message| decode_value(&message.payload).map(|(marker, _)| marker))
            .transpose()
            .map_err(StorageError::corrupt("READ_MARKERS"))
    }

    /// A marker was moved by some process.
    pub(crate) fn invalidate(&self, user: &UserId, target: &str) {
        // The only writer knows.
        if !self.coalesce {
            self.lock().cache.invalidate(&Self::key(user, target));
        }
    }

    /// Drops everything that is cached, after changes may have been missed.
    pub(crate) fn invalidate_all(&self) {
        if !self.coalesce {
            self.lock().cache.invalidate_all();
        }
    }

    /// Moves a marker forward; an older one changes nothing. Returns the one that holds.
    ///
    /// # Cancel safety
    /// After dropping it the marker may or may not have moved; the one that was known before may be answered for
    /// as long as it is cached.
    pub async fn advance(
        &self,
        user: &UserId,
        target: &str,
        marker: ReadMarker,
    ) -> Result<ReadMarker, StorageError> {
        if self.coalesce {
            return self.advance_in_memory(user, target, marker).await;
        }
        let moved = self.advance_stored(&Self::key(user, target), marker).await;
        // Even when its outcome is unknown.
        self.invalidate(user, target);
        moved
    }

    async fn advance_in_memory(
        &self,
        user: &UserId,
        target: &str,
        marker: ReadMarker,
    ) -> Result<ReadMarker, StorageError> {
        let key = Self::key(user, target);
        let read = self.get(user, target).await?;
        let full = {
            let mut held = self.lock();
            let now = self.clock.now();
            // It may have been moved, and even written, since it was read.
            let pending = held.pending.get(&key).copied();
            let known = pending.or_else(|| held.cache.get(&key, now).copied().flatten()).or(read);
            if let Some(known) = known.filter(|known| known.row >= marker.row) {
                return Ok(known);
            }
            held.pending.insert(key, marker);
            held.pending.len() >= MARKERS_PENDING_MAX
        };
        if full {
            self.flush().await?;
        }
        Ok(marker)
    }

    /// By compare-and-set: of two processes the one that is later could write the older marker.
    ///
    /// # Errors
    /// [`StorageError::Newer`] when a newer program wrote the marker.
    async fn advance_stored(
        &self,
        key: &str,
        marker: ReadMarker,
    ) -> Result<ReadMarker, StorageError> {
        let deadline = self.clock.now() + WRITE_DEADLINE;
        let commit = Commit { nats: &self.nats, clock: &self.clock };
        while self.clock.now() < deadline {
            let stored = bucket_get_known::<ReadMarker>(&self.nats, stream::READ_MARKERS, key);
            let (present, revision) = stored.await?;
            if let Some(present) = present.filter(|present| present.row >= marker.row) {
                return Ok(present);
            }
            let message = Publish {
                subject: key,
                payload: encode_value(&marker),
                expected_last: Some(revision),
                ..Publish::default()
            };
            if commit.store(message, deadline).await?.is_some() {
                return Ok(marker);
            }
        }
        Err(StorageError::LATE)
    }

    /// Writes what waits. Each marker stays readable from memory until it is stored.
    pub async fn flush(&self) -> Result<(), StorageError> {
        let _alone = self.flushing.lock().await;
        let waiting: Vec<_> =
            self.lock().pending.iter().map(|(key, marker)| (key.clone(), *marker)).collect();
        for (key, marker) in waiting {
            self.write(&key, &marker).await?;
            let mut held = self.lock();
            if held.pending.get(&key) == Some(&marker) {
                held.pending.remove(&key);
            }
            let now = self.clock.now();
            held.cache.stored(key, Some(marker), (now, self.until(now, RECORD_CACHE_TTL)));
        }
        Ok(())
    }

    async fn write(&self, key: &str, marker: &ReadMarker) -> Result<(), StorageError> {
        let message = Publish { subject: key, payload: encode_value(marker), ..Publish::default() };
        match self.nats.publish(message).await {
            Ok(_) | Err(PublishError::WrongLastSequence) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }
}

/// Writes what is pending until the process stops.
pub(crate) async fn run(store: Arc<Inner>, stop: Stop) {
    while stop.or(store.clock.sleep(MARKERS_FLUSH_INTERVAL)).await.is_some() {
        if let Err(error) = store.markers.flush().await {
            log::warn!(error:err = error; "read markers cannot be stored now; they wait in memory");
        }
    }
}
