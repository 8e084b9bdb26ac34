//! Decides whether the embedded server accepts writes, from its disk, JetStream's replies and log, and its store limit.
//!
//! It decides from observations only; `embedded` makes them and restarts the child.

use std::io;
use std::time::{Duration, Instant};

use super::disk::{DiskFault, Space};
use super::settings::{Config, file_store_limit};
use super::start::Running;
use crate::limits::{DISK_FREE_INODES_MIN, NATS_PAYLOAD_MAX_BYTES};
use crate::nats::{Nats, NatsError};
use crate::runtime::Clock;

const MIB: u64 = 1024 * 1024;
/// After this many failed checks in a row nats-server needs a restart, unless it reports earlier that a
/// write failed.
const FAILED_CHECKS_MAX: u32 = 3;
/// A restart after a write error needs at least this much room, whatever the floor.
const RESTART_FREE_MIN_BYTES: u64 = 16 * MIB;
/// The child is restarted with a higher store limit when the limit grows by at least this much.
const RAISE_MIN_BYTES: u64 = 32 * MIB;
/// How long nats-server may take to reply to a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of the embedded server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It replies and accepts writes.
    Running,
    /// It ended and is being restarted.
    Restarting {
        /// When it became unavailable.
        since: Instant,
    },
    /// Refuse all writes: the disk accepts none, or the store has reached its limit. Reads work. When
    /// nats-server itself hit the fault it has stopped storing, and is restarted once a probe
    /// has proved that files can be written to the disk.
    RefusingWrites(DiskFault),
    /// It ended, and is not restarted while files cannot be written to the disk, because that would destroy
    /// streams. Reads do not work either.
    WaitingForDisk(DiskFault),
}

impl Health {
    /// What is wrong with the disk, if writes are refused because of it.
    #[must_use]
    pub fn disk_fault(self) -> Option<DiskFault> {
        match self {
            Self::RefusingWrites(fault) | Self::WaitingForDisk(fault) => Some(fault),
            Self::Running | Self::Restarting { .. } => None,
        }
    }
}

/// Free disk space and the floor under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disk {
    /// What an unprivileged process may still use.
    pub free_bytes: u64,
    /// `min_free_disk`.
    pub floor_bytes: u64,
    /// Files that may still be created; `None` where the file system has no such limit.
    pub free_inodes: Option<u64>,
    pub store_bytes: u64,
    /// What the store may hold (`max_file_store`).
    pub store_limit_bytes: u64,
}

impl Disk {
    /// Files are refused earlier than messages: below twice the floor.
    #[must_use]
    pub fn refuses_files(self) -> bool {
        self.free_bytes < self.floor_bytes.saturating_mul(2)
    }
}

/// The result of one check of the child and its disk.
#[derive(Debug, Default)]
pub(super) struct Observation {
    pub(super) space: Option<io::Result<Space>>,
    pub(super) jetstream: Option<JetStreamStatus>,
    pub(super) store: Option<StoreUsage>,
    /// nats-server's log line about a write that failed.
    pub(super) write_error: Option<String>,
}

/// What JetStream reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JetStreamStatus {
    Available,
    Unavailable(String),
}

/// What the store holds and may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoreUsage {
    pub(super) used_bytes: u64,
    pub(super) limit_bytes: u64,
}

/// What to do after a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HealthAction {
    /// Report this state.
    Set(Health),
    /// Restart the child as soon as a probe of the disk succeeds; the text is the reason.
    Restart(&'static str),
}

/// The state that the next observation is compared with. Each run of the child has its own.
#[derive(Debug, Default)]
pub(super) struct HealthPolicy {
    space_low: bool,
    inodes_low: bool,
    disk_error: bool,
    failed_checks: u32,
    /// nats-server has reported a failed write. It stores nothing on that stream until it is restarted.
    stopped_storing: bool,
    reason: String,
    disk: Disk,
    store: Option<StoreUsage>,
}

impl HealthPolicy {
    pub(super) fn disk(&self) -> Disk {
        self.disk
    }

    /// Why writes are refused or the child is restarted, in the system's or nats-server's words;
    /// empty when the figures of the disk explain it.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn decide(&mut self, config: &Config, observation: Observation) -> HealthAction {
        if !self.stopped_storing && self.failed_checks == 0 {
            self.reason.clear();
        }
        match observation.space {
            Some(Ok(space)) => self.measure(config, space),
            Some(Err(error)) => {
                self.disk_error = true;
                self.reason = error.to_string();
            }
            None => {}
        }
        match observation.jetstream {
            Some(JetStreamStatus::Available) => self.failed_checks = 0,
            Some(JetStreamStatus::Unavailable(reason)) => {
                self.failed_checks = self.failed_checks.saturating_add(1);
                self.stopped_storing |= reason.contains("write error");
                self.reason = reason;
            }
            None => {}
        }
        if let Some(line) = observation.write_error {
            self.stopped_storing = true;
            self.reason = line;
        }
        if let Some(store) = observation.store {
            self.store = Some(store);
            self.disk.store_bytes = store.used_bytes;
            self.disk.store_limit_bytes = store.limit_bytes;
        }
        self.conclude(config)
    }

    fn measure(&mut self, config: &Config, space: Space) {
        // Leaving the state needs a little more than entering it, so that it does not flap.
        let margin = if self.space_low { (config.min_free_disk / 16).min(64 * MIB) } else { 0 };
        self.space_low = space.free_bytes < config.min_free_disk.saturating_add(margin);
        let margin = if self.inodes_low { DISK_FREE_INODES_MIN / 4 } else { 0 };
        self.inodes_low =
            space.free_inodes.is_some_and(|free| free < DISK_FREE_INODES_MIN + margin);
        self.disk_error = space.read_only;
        if space.read_only {
            "the file system is read-only".clone_into(&mut self.reason);
        }
        self.disk.free_bytes = space.free_bytes;
        self.disk.free_inodes = space.free_inodes;
        self.disk.floor_bytes = config.min_free_disk;
    }

    /// What the system reports about the disk.
    fn fault(&self) -> Option<DiskFault> {
        match (self.disk_error, self.space_low || self.inodes_low) {
            (true, _) => Some(DiskFault::Error),
            (false, true) => Some(DiskFault::Full),
            (false, false) => None,
        }
    }

    fn conclude(&self, config: &Config) -> HealthAction {
        let free = self.disk.free_bytes;
        let fault = self.fault();
        if self.stopped_storing || self.failed_checks >= FAILED_CHECKS_MAX {
            let too_little = (free < RESTART_FREE_MIN_BYTES).then_some(DiskFault::Full);
            return match fault.or(too_little) {
                Some(fault) => HealthAction::Set(Health::RefusingWrites(fault)),
                None => HealthAction::Restart("it has stopped storing"),
            };
        }
        if let Some(store) = self.store {
            let payload = u64::try_from(NATS_PAYLOAD_MAX_BYTES).unwrap_or(u64::MAX);
            if store.used_bytes.saturating_add(payload) >= store.limit_bytes {
                let possible = file_store_limit(config, store.used_bytes, free);
                if fault.is_none() && possible >= store.limit_bytes.saturating_add(RAISE_MIN_BYTES)
                {
                    return HealthAction::Restart("the disk has room for a larger store");
                }
                return HealthAction::Set(Health::RefusingWrites(fault.unwrap_or(DiskFault::Full)));
            }
        }
        HealthAction::Set(fault.map_or(Health::Running, Health::RefusingWrites))
    }
}

/// Asks JetStream for its streams; `None` when nats-server does not reply in time.
pub(super) async fn check_jetstream(clock: &Clock, nats: &Nats) -> Option<JetStreamStatus> {
    match clock.timeout(CHECK_TIMEOUT, nats.check_streams()).await.ok()? {
        Ok(()) => Some(JetStreamStatus::Available),
        Err(NatsError::Refused { description, .. }) => {
            Some(JetStreamStatus::Unavailable(description))
        }
        Err(NatsError::Unanswered { .. } | NatsError::Unexpected { .. } | NatsError::Restored) => {
            None
        }
    }
}

/// Asks JetStream what its store holds.
pub(super) async fn store_usage(clock: &Clock, running: &Running) -> Option<StoreUsage> {
    let account = clock.timeout(CHECK_TIMEOUT, running.nats.account_info()).await.ok()?.ok()?;
    Some(StoreUsage { used_bytes: account.file_bytes, limit_bytes: running.store_limit_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: HealthAction = HealthAction::Set(Health::RefusingWrites(DiskFault::Full));
    const ERROR: HealthAction = HealthAction::Set(Health::RefusingWrites(DiskFault::Error));
    const RUNNING: HealthAction = HealthAction::Set(Health::Running);

    fn config(floor: u64) -> Config {
        Config { min_free_disk: floor, ..super::super::settings::test_config() }
    }

    fn observation(space: Space) -> Observation {
        Observation { space: Some(Ok(space)), ..Observation::default() }
    }

    fn free(bytes: u64) -> Observation {
        observation(Space { free_bytes: bytes, free_inodes: None, read_only: false })
    }

    fn unavailable(free_bytes: u64, reason: &str) -> Observation {
        Observation {
            jetstream: Some(JetStreamStatus::Unavailable(reason.to_owned())),
            ..free(free_bytes)
        }
    }

    #[test]
    fn the_floor_is_entered_at_once_and_left_with_a_margin() {
        let config = config(160 * MIB);
        let mut policy = HealthPolicy::default();
        let state = |policy: &mut HealthPolicy, bytes| policy.decide(&config, free(bytes));
        assert_eq!(state(&mut policy, 160 * MIB), RUNNING);
        assert!(policy.disk().refuses_files());
        assert_eq!(state(&mut policy, 160 * MIB - 1), FULL);
        assert_eq!(state(&mut policy, 165 * MIB), FULL);
        assert_eq!(state(&mut policy, 170 * MIB), RUNNING);
        assert_eq!(state(&mut policy, 320 * MIB), RUNNING);
        assert!(!policy.disk().refuses_files());
    }

    #[test]
    fn free_inodes_count_beside_free_bytes() {
        let config = config(0);
        let mut policy = HealthPolicy::default();
        let mut state = |inodes| {
            policy.decide(
                &config,
                observation(Space { free_bytes: 1 << 40, free_inodes: inodes, read_only: false }),
            )
        };
        assert_eq!(state(Some(DISK_FREE_INODES_MIN)), RUNNING);
        assert_eq!(state(Some(DISK_FREE_INODES_MIN - 1)), FULL);
        assert_eq!(state(Some(DISK_FREE_INODES_MIN)), FULL, "it does not flap");
        assert_eq!(state(Some(DISK_FREE_INODES_MIN * 2)), RUNNING);
        assert_eq!(state(None), RUNNING);
    }

    #[test]
    fn a_read_only_or_unreadable_disk_refuses_writes_and_restarts_nothing() {
        let config = config(0);
        let mut policy = HealthPolicy::default();
        let read_only = Space { free_bytes: 1 << 40, free_inodes: None, read_only: true };
        assert_eq!(policy.decide(&config, observation(read_only)), ERROR);
        for _ in 0..5 {
            let observation =
                Observation { space: Some(Ok(read_only)), ..unavailable(0, "no answer") };
            assert_eq!(policy.decide(&config, observation), ERROR);
        }
        let ok = Observation { jetstream: Some(JetStreamStatus::Available), ..free(1 << 40) };
        assert_eq!(policy.decide(&config, ok), RUNNING);
        let gone = Observation {
            space: Some(Err(io::ErrorKind::NotFound.into())),
            ..Observation::default()
        };
        assert_eq!(policy.decide(&config, gone), ERROR);
    }

    #[test]
    fn other_errors_count_after_three_checks_and_restart_only_with_space() {
        let config = config(0);
        let mut policy = HealthPolicy::default();
        for _ in 0..2 {
            assert_eq!(policy.decide(&config, unavailable(0, "no")), RUNNING);
        }
        assert_eq!(policy.decide(&config, unavailable(0, "no")), FULL);
        assert_eq!(policy.decide(&config, free(MIB)), FULL);
        assert_eq!(policy.reason(), "no");
        assert!(matches!(policy.decide(&config, free(16 * MIB)), HealthAction::Restart(_)));
        let ok =
            Observation { jetstream: Some(JetStreamStatus::Available), ..Observation::default() };
        assert_eq!(policy.decide(&config, ok), RUNNING);
    }

    #[test]
    fn a_write_error_counts_at_once_and_lasts_until_the_child_is_restarted() {
        let config = config(0);
        let words = "JetStream stream '$G > JOURNAL' write error: read-only file system";
        let line = Observation { write_error: Some(words.to_owned()), ..free(1 << 40) };
        for first in [unavailable(1 << 40, words), line] {
            let mut policy = HealthPolicy::default();
            assert!(matches!(policy.decide(&config, first), HealthAction::Restart(_)));
            assert_eq!(policy.reason(), words);
            let ok = Observation { jetstream: Some(JetStreamStatus::Available), ..free(1 << 40) };
            assert!(matches!(policy.decide(&config, ok), HealthAction::Restart(_)));
            assert_eq!(policy.decide(&config, free(MIB)), FULL);
        }
    }

    #[test]
    fn a_store_at_its_limit_refuses_until_a_larger_one_is_possible() {
        let config = config(10 * MIB);
        let mut policy = HealthPolicy::default();
        let full = StoreUsage { used_bytes: 99 * MIB, limit_bytes: 100 * MIB };
        let observation = Observation { store: Some(full), ..free(11 * MIB) };
        assert_eq!(policy.decide(&config, observation), FULL);
        assert!(matches!(policy.decide(&config, free(200 * MIB)), HealthAction::Restart(_)));
        let mut capped = config.clone();
        capped.max_file_store = Some(100 * MIB);
        assert_eq!(policy.decide(&capped, free(200 * MIB)), FULL);
    }
}
