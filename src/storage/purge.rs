//! The background task that removes what is older than the resume window: folded events of the journal, delete markers
//! of STATE, and parts that no page names.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::ServerSettings;
use crate::limits::RESUME_WINDOW_MS;
use crate::nats::BatchRead;
use crate::runtime::Stop;
use crate::storage::error::StorageError;
use crate::storage::kv::lease::Lease;
use crate::storage::layout::stream;
use crate::storage::state::RecordChange;
use crate::storage::store::Inner;

/// How often it is done.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// Purges until the process stops.
pub(crate) async fn run(store: Arc<Inner>, stop: Stop) {
    while stop.or(store.clock.sleep(PURGE_INTERVAL)).await.is_some() {
        // With several processes one is enough.
        match store.lease("purge", PURGE_INTERVAL).await {
            Ok(Some(lease)) => {
                stop.or(Box::pin(purge_once(&store, &lease))).await;
            }
            Ok(None) => {}
            Err(error) => {
                log::debug!(error:err = error; "the lease of the purge cannot be taken now")
            }
        }
    }
}

/// Runs each part separately: a failure of one does not stop the others.
async fn purge_once(store: &Inner, lease: &Lease) {
    if let Err(error) = store.purge_journal(Some(lease)).await {
        log::warn!(error:err = error; "the journal cannot be purged now");
    }
    if let Err(error) = store.sweep_tombstones(Some(lease)).await {
        log::warn!(error:err = error; "old delete markers cannot be swept now");
    }
    if let Err(error) = store.folder.erase_orphaned_parts(Some(lease)).await {
        log::warn!(error:err = error; "parts of unfinished folds cannot be erased now");
    }
}

impl Inner {
    /// Removes STATE's delete markers that are older than the resume window. A client whose cursor
    /// is older than the highest of them must load a new snapshot: it would not receive the delete.
    pub(crate) async fn sweep_tombstones(&self, lease: Option<&Lease>) -> Result<(), StorageError> {
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
            .change::<ServerSettings, std::convert::Infallible>(&(), |present| {
                let present = present.cloned().unwrap_or_default();
                let purged_upto = present.purged_upto.max(highest);
                Ok(RecordChange::Put(ServerSettings { purged_upto, ..present }))
            })
            .await
            .map_err(StorageError::from)?;
        for sequence in old {
            if lease.is_some_and(|lease| !lease.holds()) {
                return Err(StorageError::LATE);
            }
            self.nats.erase(stream::STATE, sequence).await?;
        }
        Ok(())
    }

    /// Removes folded events that are older than the resume window.
    pub(crate) async fn purge_journal(&self, lease: Option<&Lease>) -> Result<(), StorageError> {
        let checkpoint = self.checkpoint();
        let lowest_held = checkpoint.held.iter().map(|held| held.first_sequence).min();
        let folded =
            lowest_held.map_or(checkpoint.next_sequence, |n| n.min(checkpoint.next_sequence));
        let since = self.clock.unix_ms().saturating_sub(RESUME_WINDOW_MS);
        let kept_from = self.nats.first_since(stream::JOURNAL, since).await?;
        let upto = kept_from.map_or(folded, |n| n.min(folded));
        if lease.is_some_and(|lease| !lease.holds()) {
            return Err(StorageError::LATE);
        }
        if upto > 1 {
            self.nats.purge_before(stream::JOURNAL, upto).await?;
        }
        Ok(())
    }
}
