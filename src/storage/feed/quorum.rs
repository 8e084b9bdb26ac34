//! Whether the streams have leaders: while they have none, whoever changes something is refused at once.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::QUORUM_LOST_AFTER;
use crate::nats::WritesRefused;
use crate::runtime::Stop;
use crate::storage::store::Inner;

const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Watches the two feeds until the process stops.
pub(crate) async fn watch(store: Arc<Inner>, stop: Stop) {
    while stop.or(store.clock.sleep(LOOK_INTERVAL)).await.is_some() {
        let lost = store.following.failing_for(&store.clock) >= QUORUM_LOST_AFTER;
        if lost == store.nats.is_refusing(WritesRefused::NoQuorum) {
            continue;
        }
        if lost {
            log::warn!(
                "the NATS cluster has no quorum: changes are refused, reading goes on with what can be read"
            );
        } else {
            log::info!("the NATS cluster has a quorum again: changes are accepted");
        }
        store.nats.refuse_writes(WritesRefused::NoQuorum, lost);
    }
}
