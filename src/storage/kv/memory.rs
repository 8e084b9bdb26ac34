//! The streams in nats-server's memory: recreated after its restart, and watched for free memory.
//!
//! All of them share one limit, with the streams of other programs where the cluster serves others too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::limits::{MEMORY_PROBE_INTERVAL, WRITE_DEADLINE};
use crate::nats::{Commit, Nats, Publish, PublishError};
use crate::runtime::{Clock, Stop};
use crate::storage::encoding::Recorded;
use crate::storage::error::StorageError;
use crate::storage::kv::bucket_get_any;
use crate::storage::kv::{self, Entry};
use crate::storage::layout::STREAMS;
use crate::storage::open::{Identity, OpenError, ensure};
use crate::storage::store::Inner;

/// A record that is written only to learn whether there is room.
const PROBE: &str = "$KV.PRESENCE.probe";

/// The streams that live in nats-server's memory and are lost when it restarts.
pub(crate) struct MemoryStreams {
    nats: Nats,
    clock: Clock,
    replicas: usize,
    server_id: String,
    /// The last write was refused for want of memory.
    full: AtomicBool,
}

impl MemoryStreams {
    pub(crate) fn new((nats, clock): (Nats, Clock), replicas: usize, identity: &Identity) -> Self {
        Self {
            nats,
            clock,
            replicas,
            server_id: identity.server_id.clone(),
            full: AtomicBool::new(false),
        }
    }

    /// Whether nats-server has no memory left for them.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// A record and its revision, from the leader. After a restart of the server a stream is recreated by
    /// the first call that misses it.
    pub(crate) async fn get<R: Recorded>(
        &self,
        stream: &'static str,
        subject: &str,
    ) -> Result<(Option<R>, u64), StorageError> {
        let (found, revision) = self.get_any(stream, subject).await?;
        Ok((found.map(|(record, _)| record), revision))
    }

    /// As [`Self::get`], with whether this program knows all of the record.
    pub(crate) async fn get_any<R: Recorded>(
        &self,
        stream: &'static str,
        subject: &str,
    ) -> Result<(Option<(R, bool)>, u64), StorageError> {
        match bucket_get_any(&self.nats, stream, subject).await {
            Err(error) if error.is_missing_stream() => {
                self.recreate_missing().await?;
                bucket_get_any(&self.nats, stream, subject).await
            }
            found => found,
        }
    }

    /// Compare-and-set with a life time; `false`: somebody else was first.
    ///
    /// # Errors
    /// [`StorageError::MemoryFull`] without room for it.
    pub(crate) async fn put(&self, entry: Entry<'_>, ttl: Duration) -> Result<bool, StorageError> {
        self.note_fullness(kv::put(&self.nats, &self.clock, entry, Some(ttl)).await)
    }

    /// Compare-and-set without message id: a few bytes less in a stream of many small messages. An attempt
    /// whose response was lost may look like another process's.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) async fn put_small(
        &self,
        subject: &str,
        payload: Bytes,
        revision: u64,
    ) -> Result<bool, StorageError> {
        let message =
            Publish { subject, payload, expected_last: Some(revision), ..Publish::default() };
        let deadline = self.clock.now() + WRITE_DEADLINE;
        let commit = Commit { nats: &self.nats, clock: &self.clock };
        let stored = commit.store(message, deadline).await.map_err(StorageError::from);
        self.note_fullness(stored.map(|ack| ack.is_some()))
    }

    /// Notes whether there is room, as a write has shown.
    fn note_fullness<T>(&self, written: Result<T, StorageError>) -> Result<T, StorageError> {
        match written {
            // Writes are refused before they are sent while the disk is full.
            Err(StorageError::Full) if self.nats.check_writable().is_ok() => {
                self.full.store(true, Ordering::Relaxed);
                Err(StorageError::MemoryFull)
            }
            Ok(written) => {
                self.full.store(false, Ordering::Relaxed);
                Ok(written)
            }
            failed => failed,
        }
    }

    /// Creates the streams that are missing.
    async fn recreate_missing(&self) -> Result<(), StorageError> {
        for spec in STREAMS.iter().filter(|spec| spec.memory) {
            match ensure(&self.nats, spec, self.replicas, &self.server_id).await {
                Ok(()) => {}
                Err(OpenError::Storage(error)) => return Err(error),
                Err(_) => return Err(StorageError::LATE),
            }
        }
        log::info!("memory streams were recreated after a restart of nats-server");
        Ok(())
    }

    /// Writes a record to learn whether there is room: one attempt.
    async fn probe(&self) {
        let ttl = Some(MEMORY_PROBE_INTERVAL * 4);
        let message = Publish { subject: PROBE, ttl, ..Publish::default() };
        let written = self.nats.publish(message).await.map(|_| ());
        // Whatever else keeps it from being written is not a matter of memory.
        if matches!(written, Ok(()) | Err(PublishError::Full { .. })) {
            self.note_fullness(written.map_err(StorageError::from)).ok();
        }
    }
}

/// Looks for room until the process stops: nobody may write for hours, and the next log-in would fail.
pub(crate) async fn watch(store: Arc<Inner>, stop: Stop) {
    while stop.or(store.clock.sleep(MEMORY_PROBE_INTERVAL)).await.is_some() {
        stop.or(Box::pin(store.memory.probe())).await;
    }
}
