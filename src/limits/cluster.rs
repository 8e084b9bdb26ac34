//! Limits of waiting for nats-server: a cluster elects a leader within 9 s (measured 8.2 s).

use std::time::Duration;

/// Timeout of one request to nats-server; shorter than a fail-over, so that retries find the new leader.
pub const NATS_REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a write is retried: a cluster elects a leader within 9 s (measured 8.2 s).
pub const WRITE_DEADLINE: Duration = Duration::from_secs(15);
/// How long a call that changes data waits for the read barrier: a cluster elects a leader within 9 s.
pub const BARRIER_DEADLINE: Duration = Duration::from_secs(10);
/// Once ready, a fault must last this long before `/readyz` reports it: an election or a restart of the
/// embedded server must not empty a load balancer.
pub const READINESS_GRACE: Duration = Duration::from_secs(10);
/// For how long the streams have had no leader before writes are refused at once: longer than an election, which takes up
/// to 9 s.
pub const QUORUM_LOST_AFTER: Duration = Duration::from_secs(12);
/// How long after the store has last confirmed a token it counts while the store cannot be asked.
pub const TOKEN_OFFLINE_MAX: Duration = Duration::from_secs(3_600);
const _: () = assert!(NATS_REQUEST_TIMEOUT.as_secs() < 9 && BARRIER_DEADLINE.as_secs() > 9);
const _: () = assert!(
    QUORUM_LOST_AFTER.as_secs() >= READINESS_GRACE.as_secs()
        && QUORUM_LOST_AFTER.as_secs() < WRITE_DEADLINE.as_secs()
);
