//! Read markers: hot, small, and the one thing of which a crash may lose the last seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::encoding::{decode, encode};
use super::error::StorageError;
use super::layout::stream;
use super::records::Marker;
use crate::domain::UserId;
use crate::limits::MARKERS_PENDING_MAX;
use crate::nats::{Nats, Publish, PublishError};

/// READ_MARKERS. With the embedded server markers are written at most every five seconds and at
/// stop; reads are answered from memory meanwhile. With external NATS they are written at once.
pub(super) struct Markers {
    nats: Nats,
    coalesce: bool,
    pending: Mutex<HashMap<String, Marker>>,
}

impl Markers {
    pub(super) fn new(nats: Nats, coalesce: bool) -> Self {
        Self { nats, coalesce, pending: Mutex::default() }
    }

    fn key(user: &UserId, target: &str) -> String {
        format!("$KV.READ_MARKERS.{user}.{target}")
    }

    /// The marker of a room or thread.
    pub(super) async fn get(
        &self,
        user: &UserId,
        target: &str,
    ) -> Result<Option<Marker>, StorageError> {
        let key = Self::key(user, target);
        if let Some(marker) = self.lock().get(&key) {
            return Ok(Some(marker.clone()));
        }
        let stored = if self.coalesce {
            self.nats.newest(stream::READ_MARKERS, &key).await?
        } else {
            self.nats.leader_newest(stream::READ_MARKERS, &key).await?
        };
        let stored = stored.filter(|message| !message.is_tombstone());
        stored
            .map(|message| decode(&message.payload))
            .transpose()
            .map_err(StorageError::corrupt("READ_MARKERS"))
    }

    /// Moves a marker forward; an older one changes nothing. Answers the one that holds.
    pub(super) async fn advance(
        &self,
        user: &UserId,
        target: &str,
        marker: Marker,
    ) -> Result<Marker, StorageError> {
        let present = self.get(user, target).await?;
        if let Some(present) =
            present.filter(|present| present.row >= marker.row && present.row_ms >= marker.row_ms)
        {
            return Ok(present);
        }
        let key = Self::key(user, target);
        if !self.coalesce {
            self.write(&key, &marker).await?;
            return Ok(marker);
        }
        let full = {
            let mut pending = self.lock();
            let slot = pending.entry(key).or_default();
            if marker.row >= slot.row {
                *slot = marker.clone();
            }
            pending.len() >= MARKERS_PENDING_MAX
        };
        if full {
            self.flush().await?;
        }
        Ok(marker)
    }

    /// Writes what waits. Each marker stays readable from memory until it is stored.
    pub(super) async fn flush(&self) -> Result<(), StorageError> {
        let waiting: Vec<_> =
            self.lock().iter().map(|(key, marker)| (key.clone(), marker.clone())).collect();
        for (key, marker) in waiting {
            self.write(&key, &marker).await?;
            let mut pending = self.lock();
            if pending.get(&key) == Some(&marker) {
                pending.remove(&key);
            }
        }
        Ok(())
    }

    async fn write(&self, key: &str, marker: &Marker) -> Result<(), StorageError> {
        let message = Publish { subject: key, payload: encode(marker), ..Publish::default() };
        match self.nats.publish(message).await {
            Ok(_) | Err(PublishError::WrongLastSequence) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Marker>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
