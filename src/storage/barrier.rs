//! The read barrier: with several processes, a call sees everything acknowledged before it began.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::StorageError;
use super::layout::stream;
use super::store::Inner;
use crate::limits::NATS_REQUEST_TIMEOUT;

/// One request to the leaders is in flight at a time; all calls that wait meanwhile share the next.
#[derive(Default)]
pub(super) struct Barrier {
    arrived: AtomicU64,
    turn: smol::lock::Mutex<u64>,
}

impl Barrier {
    /// Waits until the mirror and the feed have reached what the leaders had when this was called.
    /// Without an answer it returns all the same: reads go on with what is known.
    pub(super) async fn pass(&self, store: &Inner) {
        let ticket = self.arrived.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self.turn.lock().await;
        if *done >= ticket {
            return;
        }
        let covers = self.arrived.load(Ordering::SeqCst);
        match reach(store).await {
            Ok(()) => *done = covers,
            Err(error) => log::debug!(error:% = error; "reading without a barrier"),
        }
    }
}

async fn reach(store: &Inner) -> Result<(), StorageError> {
    let (state, journal) = futures_lite::future::zip(
        store.nats.leader_newest(stream::STATE, "$KV.STATE.>"),
        store.nats.leader_newest(stream::JOURNAL, "journal.*"),
    )
    .await;
    let limit = NATS_REQUEST_TIMEOUT;
    if let Some(last) = state? {
        store.state_position.wait_for(last.sequence, limit, &store.clock).await?;
    }
    if let Some(last) = journal? {
        store.journal_position.wait_for(last.sequence, limit, &store.clock).await?;
    }
    Ok(())
}
