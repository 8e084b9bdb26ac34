//! The background task that folds.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::Stop;
use crate::storage::store::Inner;

/// How often the fold searches for rooms whose events are old enough.
const FOLD_TICK: Duration = Duration::from_secs(2);
/// Life of the lease that keeps several processes from folding the same rooms.
const LEASE: Duration = Duration::from_secs(15);

/// Folds until the process stops.
pub(crate) async fn run(store: Arc<Inner>, stop: Stop) {
    let mut lease = None;
    let mut renewed_at = None;
    while !stop.is_stopped() {
        let wanted = store.fold_wanted.listen();
        if store.overlay.due(store.clock.now(), false).is_empty() {
            follow_other_folds(&store).await;
            stop.or(store.clock.timeout(FOLD_TICK, wanted)).await;
            continue;
        }
        let now = store.clock.now();
        if renewed_at.is_none_or(|at| now.saturating_duration_since(at) > LEASE / 3) {
            lease = store.lease("fold", LEASE).await.unwrap_or_else(|error| {
                log::debug!(error:err = error; "the lease of the fold cannot be renewed now");
                None
            });
            renewed_at = lease.is_some().then_some(now);
        }
        let Some(lease) = &lease else {
            follow_other_folds(&store).await;
            stop.or(store.clock.sleep(FOLD_TICK / 4)).await;
            continue;
        };
        let folded = stop.or(Box::pin(store.fold_due(false, Some(lease)))).await;
        if let Some(Err(error)) = folded {
            log::warn!(error:err = error; "events cannot be folded now; they stay in the journal");
            renewed_at = None;
            stop.or(store.clock.sleep(FOLD_TICK)).await;
        }
    }
}

async fn follow_other_folds(store: &Inner) {
    if let Err(error) = Box::pin(store.follow_other_folds()).await {
        log::debug!(error:err = error; "what other processes hold cannot be folded now");
    }
}
