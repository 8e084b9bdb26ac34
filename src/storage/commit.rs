//! What an acknowledgement waits for.

use crate::nats::Ack;

/// Every acknowledgement to a client waits on this one object.
///
/// Today it waits for nothing more than nats-server's own answer: with `sync_interval: always` that
/// answer means "on disk", in a cluster "stored by a quorum". A group commit would live here.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Commit;

impl Commit {
    /// Returns when the acknowledged message is as durable as the settings promise.
    #[expect(clippy::unused_async, reason = "callers already wait where a group commit will")]
    pub(super) async fn durable(self, ack: Ack) -> Ack {
        ack
    }
}
