//! The store's own background work: fold and checkpoint, read markers, token changes, purge.

use std::sync::Arc;
use std::time::Duration;

use super::error::{StorageError, infallible};
use super::layout::stream;
use super::records::{FoldCheckpoint, ServerConfig};
use super::state::Change;
use super::store::Inner;
use crate::limits::{MARKERS_FLUSH_INTERVAL, RESUME_WINDOW_MS};
use crate::nats::BatchRead;
use crate::runtime::Stop;

/// How often the fold looks for rooms whose events are old enough.
const FOLD_TICK: Duration = Duration::from_secs(2);
/// Life of the lease that keeps several processes from folding the same rooms.
const LEASE: Duration = Duration::from_secs(15);
/// How often old journal events are purged.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// Folds until the process stops.
pub(super) async fn fold(store: Arc<Inner>, stop: Stop) {
    let mut leased_at = None;
    while !stop.is_stopped() {
        let wanted = store.fold_wanted.listen();
        if store.overlay.due(store.clock.now(), false).is_empty() {
            store.forget_folded_elsewhere();
            stop.or(store.clock.timeout(FOLD_TICK, wanted)).await;
            continue;
        }
        if !store.embedded {
            let now = store.clock.now();
            let renew = leased_at.is_none_or(|at| now.saturating_duration_since(at) > LEASE / 3);
            if renew {
                let held = store.tokens.lease("fold", &store.process, LEASE).await;
                leased_at = matches!(held, Ok(true)).then_some(now);
            }
            if leased_at.is_none() {
                store.forget_folded_elsewhere();
                stop.or(store.clock.sleep(FOLD_TICK / 4)).await;
                continue;
            }
        }
        if let Err(error) = store.fold_due(false).await {
            log::warn!(error:% = error; "events cannot be folded now; they stay in the journal");
            stop.or(store.clock.sleep(FOLD_TICK)).await;
        }
    }
}

impl Inner {
    /// Folds the rooms that are due and moves the checkpoint.
    pub(super) async fn fold_due(&self, all: bool) -> Result<(), StorageError> {
        let checkpoint = self.mirror.read(super::mirror::Tables::checkpoint);
        let folded_before =
            if checkpoint.epoch == self.identity.epoch { checkpoint.next_sequence } else { 0 };
        for (room, share) in self.overlay.due(self.clock.now(), all) {
            self.folder.fold(&room, share, folded_before).await?;
        }
        // The position first: an event that arrives now is then above it or in the overlay.
        let reached = self.journal_position.reached() + 1;
        let next = self.overlay.first_sequence().map_or(reached, |first| first.min(reached));
        if next > folded_before {
            self.move_checkpoint(next).await?;
        }
        Ok(())
    }

    async fn move_checkpoint(&self, next: u64) -> Result<(), StorageError> {
        let epoch = self.identity.epoch.clone();
        let moved = self
            .state
            .change::<FoldCheckpoint, std::convert::Infallible>("fold.checkpoint", |present| {
                let present = present.filter(|present| present.epoch == epoch);
                Ok(match present {
                    Some(present) if present.next_sequence >= next => Change::Keep,
                    _ => Change::Put(FoldCheckpoint { epoch: epoch.clone(), next_sequence: next }),
                })
            })
            .await;
        moved.map(|_| ()).map_err(infallible)
    }

    /// Drops events that another process has folded.
    fn forget_folded_elsewhere(&self) {
        let checkpoint = self.mirror.read(super::mirror::Tables::checkpoint);
        if checkpoint.epoch == self.identity.epoch {
            let dropped = self.overlay.drop_before(checkpoint.next_sequence, self.clock.now());
            self.timeline.forget(&dropped);
        }
    }

    /// Removes STATE's delete markers that are older than the resume window. A client whose cursor
    /// is older than the highest of them must load everything anew: it would not hear of the delete.
    pub(super) async fn sweep_tombstones(&self) -> Result<(), StorageError> {
        let since = self.clock.unix_ms().saturating_sub(RESUME_WINDOW_MS);
        let end = match self.nats.first_since(stream::STATE, since).await? {
            Some(first) => first,
            None => self.state_position.reached() + 1,
        };
        let mut old = Vec::new();
        let mut sequence = 1;
        while sequence < end {
            let what = BatchRead::From { sequence, count: 512 };
            let batch = self.nats.read(stream::STATE, what).await?;
            let Some(last) = batch.messages.last() else { break };
            sequence = last.sequence + 1;
            let tombstones = batch.messages.iter().filter(|message| message.is_tombstone());
            old.extend(tombstones.map(|message| message.sequence).filter(|seq| *seq < end));
        }
        let Some(highest) = old.last().copied() else { return Ok(()) };
        // First the mark, then the sweep: a crash between them only resets clients that need not be.
        self.state
            .change::<ServerConfig, std::convert::Infallible>("config.server", |present| {
                let present = present.cloned().unwrap_or_default();
                let purged_upto = present.purged_upto.max(highest);
                Ok(Change::Put(ServerConfig { purged_upto, ..present }))
            })
            .await
            .map_err(infallible)?;
        for sequence in old {
            self.nats.erase(stream::STATE, sequence).await?;
        }
        Ok(())
    }

    /// Removes folded events that are older than the resume window.
    pub(super) async fn purge_journal(&self) -> Result<(), StorageError> {
        let checkpoint = self.mirror.read(super::mirror::Tables::checkpoint);
        if checkpoint.epoch != self.identity.epoch {
            return Ok(());
        }
        let since = self.clock.unix_ms().saturating_sub(RESUME_WINDOW_MS);
        let kept_from = self.nats.first_since(stream::JOURNAL, since).await?;
        let upto = kept_from.map_or(checkpoint.next_sequence, |n| n.min(checkpoint.next_sequence));
        if upto > 1 {
            self.nats.purge_before(stream::JOURNAL, upto).await?;
        }
        Ok(())
    }
}

/// Writes waiting read markers until the process stops.
pub(super) async fn markers(store: Arc<Inner>, stop: Stop) {
    while stop.or(store.clock.sleep(MARKERS_FLUSH_INTERVAL)).await.is_some() {
        if let Err(error) = store.markers.flush().await {
            log::warn!(error:% = error; "read markers cannot be stored now; they wait in memory");
        }
    }
}

/// Purges the journal's folded past until the process stops.
pub(super) async fn purge(store: Arc<Inner>, stop: Stop) {
    while stop.or(store.clock.sleep(PURGE_INTERVAL)).await.is_some() {
        // With several processes one is enough.
        let ours = store.embedded
            || matches!(
                store.tokens.lease("purge", &store.process, PURGE_INTERVAL).await,
                Ok(true)
            );
        if !ours {
            continue;
        }
        if let Err(error) = store.purge_journal().await {
            log::warn!(error:% = error; "the journal cannot be purged now");
        }
        if let Err(error) = store.sweep_tombstones().await {
            log::warn!(error:% = error; "old delete markers cannot be swept now");
        }
    }
}
