//! Whether the embedded server takes writes: its disk, what JetStream answers and logs, its store limit.
//!
//! Decides from observations; who observes and who restarts the child is not its business.

use std::io;
use std::time::{Duration, Instant};

use super::disk::{DiskFault, Space};
use super::settings::{Config, file_store_limit};
use super::start::Running;
use crate::limits::{DISK_FREE_INODES_MIN, NATS_PAYLOAD_MAX_BYTES};
use crate::nats::{Nats, NatsError};
use crate::runtime::Clock;

const MIB: u64 = 1024 * 1024;
/// So many failed looks in a row mean that nats-server needs a restart, when it does not say itself that a
/// write failed.
const FAILED_LOOKS: u32 = 3;
/// A restart after a write error needs at least this much room, whatever the floor.
const RESTART_FREE_MIN_BYTES: u64 = 16 * MIB;
/// A store limit is raised (by a restart of the child) when at least this much is won.
const RAISE_MIN_BYTES: u64 = 32 * MIB;
/// How long nats-server may take to answer a look.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of the embedded server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers and takes writes.
    Running,
    /// It ended and is being started again.
    Restarting {
        /// Since when it has been away.
        since: Instant,
    },
    /// Refuse all writes: the disk takes none, or the store has reached its limit. Reading works. When
    /// nats-server itself met the fault it has stopped storing, and is started again once a probe
    /// has proved that the disk takes files.
    Refusing(DiskFault),
    /// It ended, and is not started while the disk takes no files, because that would destroy streams.
    /// Nothing can be read either.
    Waiting(DiskFault),
}

impl Health {
    /// What is wrong with the disk, if that is the reason to refuse writes now.
    #[must_use]
    pub fn disk_fault(self) -> Option<DiskFault> {
        match self {
            Self::Refusing(fault) | Self::Waiting(fault) => Some(fault),
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
    /// What the store holds.
    pub store_bytes: u64,
    /// What the store may hold (`max_file_store`).
    pub store_limit_bytes: u64,
}

impl Disk {
    /// Uploads are refused early: below twice the floor.
    #[must_use]
    pub fn refuses_uploads(&self) -> bool {
        self.free_bytes < self.floor_bytes.saturating_mul(2)
    }
}

/// What one look at the child and its disk has shown.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) space: Option<io::Result<Space>>,
    pub(super) health: Option<Answer>,
    pub(super) store: Option<Store>,
    /// nats-server's log line about a write that failed.
    pub(super) write_error: Option<String>,
}

/// What JetStream says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Ok,
    Unavailable(String),
}

/// What the store holds and may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Store {
    pub(super) used_bytes: u64,
    pub(super) limit_bytes: u64,
}

/// The conclusion of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This is the state.
    State(Health),
    /// Start the child again as soon as a probe of the disk succeeds; the text says why.
    Restart(&'static str),
}

/// Remembers what the next look is compared with. A new one for every run of the child.
#[derive(Debug, Default)]
pub(super) struct Judge {
    low: bool,
    scarce: bool,
    broken: bool,
    failed_looks: u32,
    /// It has said that a write failed. It stores nothing on that stream until it is started again.
    gave_up: bool,
    reason: String,
    disk: Disk,
    store: Option<Store>,
}

impl Judge {
    pub(super) fn disk(&self) -> Disk {
        self.disk
    }

    /// Why writes are refused or the child is started again, in the system's or nats-server's words;
    /// empty: the figures say it.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn look(&mut self, config: &Config, look: Look) -> Verdict {
        if !self.gave_up && self.failed_looks == 0 {
            self.reason.clear();
        }
        match look.space {
            Some(Ok(space)) => self.measure(config, space),
            Some(Err(error)) => {
                self.broken = true;
                self.reason = error.to_string();
            }
            None => {}
        }
        match look.health {
            Some(Answer::Ok) => self.failed_looks = 0,
            Some(Answer::Unavailable(reason)) => {
                self.failed_looks = self.failed_looks.saturating_add(1);
                self.gave_up |= reason.contains("write error");
                self.reason = reason;
            }
            None => {}
        }
        if let Some(line) = look.write_error {
            self.gave_up = true;
            self.reason = line;
        }
        if let Some(store) = look.store {
            self.store = Some(store);
            self.disk.store_bytes = store.used_bytes;
            self.disk.store_limit_bytes = store.limit_bytes;
        }
        self.conclude(config)
    }

    fn measure(&mut self, config: &Config, space: Space) {
        // Leaving the state needs a little more than entering it, so that it does not flap.
        let margin = if self.low { (config.min_free_disk / 16).min(64 * MIB) } else { 0 };
        self.low = space.free_bytes < config.min_free_disk.saturating_add(margin);
        let margin = if self.scarce { DISK_FREE_INODES_MIN / 4 } else { 0 };
        self.scarce = space.free_inodes.is_some_and(|free| free < DISK_FREE_INODES_MIN + margin);
        self.broken = space.read_only;
        if space.read_only {
            "the file system is read-only".clone_into(&mut self.reason);
        }
        self.disk.free_bytes = space.free_bytes;
        self.disk.free_inodes = space.free_inodes;
        self.disk.floor_bytes = config.min_free_disk;
    }

    /// What the system itself says against the disk.
    fn fault(&self) -> Option<DiskFault> {
        match (self.broken, self.low || self.scarce) {
            (true, _) => Some(DiskFault::Error),
            (false, true) => Some(DiskFault::Full),
            (false, false) => None,
        }
    }

    fn conclude(&self, config: &Config) -> Verdict {
        let free = self.disk.free_bytes;
        let fault = self.fault();
        if self.gave_up || self.failed_looks >= FAILED_LOOKS {
            let little = (free < RESTART_FREE_MIN_BYTES).then_some(DiskFault::Full);
            return match fault.or(little) {
                Some(fault) => Verdict::State(Health::Refusing(fault)),
                None => Verdict::Restart("it has stopped storing"),
            };
        }
        if let Some(store) = self.store {
            let payload = u64::try_from(NATS_PAYLOAD_MAX_BYTES).unwrap_or(u64::MAX);
            if store.used_bytes.saturating_add(payload) >= store.limit_bytes {
                let possible = file_store_limit(config, store.used_bytes, free);
                if fault.is_none() && possible >= store.limit_bytes.saturating_add(RAISE_MIN_BYTES)
                {
                    return Verdict::Restart("the disk has room for a larger store");
                }
                return Verdict::State(Health::Refusing(fault.unwrap_or(DiskFault::Full)));
            }
        }
        Verdict::State(fault.map_or(Health::Running, Health::Refusing))
    }
}

/// Asks JetStream for its streams; `None` when nats-server does not answer in time.
pub(super) async fn ask_health(clock: &Clock, nats: &Nats) -> Option<Answer> {
    match clock.timeout(ANSWER_TIMEOUT, nats.streams_answer()).await.ok()? {
        Ok(()) => Some(Answer::Ok),
        Err(NatsError::Refused { description, .. }) => Some(Answer::Unavailable(description)),
        Err(NatsError::Unanswered { .. } | NatsError::Unexpected { .. }) => None,
    }
}

/// Asks JetStream what its store holds.
pub(super) async fn ask_store(clock: &Clock, running: &Running) -> Option<Store> {
    let account = clock.timeout(ANSWER_TIMEOUT, running.nats.account()).await.ok()?.ok()?;
    Some(Store { used_bytes: account.file_bytes, limit_bytes: running.store_limit_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Verdict = Verdict::State(Health::Refusing(DiskFault::Full));
    const ERROR: Verdict = Verdict::State(Health::Refusing(DiskFault::Error));
    const RUNNING: Verdict = Verdict::State(Health::Running);

    fn config(floor: u64) -> Config {
        Config { min_free_disk: floor, ..super::super::settings::test_config() }
    }

    fn look(space: Space) -> Look {
        Look { space: Some(Ok(space)), ..Look::default() }
    }

    fn free(bytes: u64) -> Look {
        look(Space { free_bytes: bytes, free_inodes: None, read_only: false })
    }

    fn unavailable(free_bytes: u64, reason: &str) -> Look {
        Look { health: Some(Answer::Unavailable(reason.to_owned())), ..free(free_bytes) }
    }

    #[test]
    fn the_floor_is_entered_at_once_and_left_with_a_margin() {
        let config = config(160 * MIB);
        let mut judge = Judge::default();
        let state = |judge: &mut Judge, bytes| judge.look(&config, free(bytes));
        assert_eq!(state(&mut judge, 160 * MIB), RUNNING);
        assert!(judge.disk().refuses_uploads());
        assert_eq!(state(&mut judge, 160 * MIB - 1), FULL);
        assert_eq!(state(&mut judge, 165 * MIB), FULL);
        assert_eq!(state(&mut judge, 170 * MIB), RUNNING);
        assert_eq!(state(&mut judge, 320 * MIB), RUNNING);
        assert!(!judge.disk().refuses_uploads());
    }

    #[test]
    fn free_inodes_count_beside_free_bytes() {
        let config = config(0);
        let mut judge = Judge::default();
        let mut state = |inodes| {
            judge.look(
                &config,
                look(Space { free_bytes: 1 << 40, free_inodes: inodes, read_only: false }),
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
        let mut judge = Judge::default();
        let read_only = Space { free_bytes: 1 << 40, free_inodes: None, read_only: true };
        assert_eq!(judge.look(&config, look(read_only)), ERROR);
        for _ in 0..5 {
            let look = Look { space: Some(Ok(read_only)), ..unavailable(0, "no answer") };
            assert_eq!(judge.look(&config, look), ERROR);
        }
        let ok = Look { health: Some(Answer::Ok), ..free(1 << 40) };
        assert_eq!(judge.look(&config, ok), RUNNING);
        let gone = Look { space: Some(Err(io::ErrorKind::NotFound.into())), ..Look::default() };
        assert_eq!(judge.look(&config, gone), ERROR);
    }

    #[test]
    fn other_complaints_are_believed_after_three_looks_and_restart_only_with_space() {
        let config = config(0);
        let mut judge = Judge::default();
        for _ in 0..2 {
            assert_eq!(judge.look(&config, unavailable(0, "no")), RUNNING);
        }
        assert_eq!(judge.look(&config, unavailable(0, "no")), FULL);
        assert_eq!(judge.look(&config, free(MIB)), FULL);
        assert_eq!(judge.reason(), "no");
        assert!(matches!(judge.look(&config, free(16 * MIB)), Verdict::Restart(_)));
        let ok = Look { health: Some(Answer::Ok), ..Look::default() };
        assert_eq!(judge.look(&config, ok), RUNNING);
    }

    #[test]
    fn a_write_error_is_believed_at_once_and_lasts_until_the_child_is_started_again() {
        let config = config(0);
        let words = "JetStream stream '$G > JOURNAL' write error: read-only file system";
        let line = Look { write_error: Some(words.to_owned()), ..free(1 << 40) };
        for first in [unavailable(1 << 40, words), line] {
            let mut judge = Judge::default();
            assert!(matches!(judge.look(&config, first), Verdict::Restart(_)));
            assert_eq!(judge.reason(), words);
            let ok = Look { health: Some(Answer::Ok), ..free(1 << 40) };
            assert!(matches!(judge.look(&config, ok), Verdict::Restart(_)));
            assert_eq!(judge.look(&config, free(MIB)), FULL);
        }
    }

    #[test]
    fn a_store_at_its_limit_refuses_until_a_larger_one_is_possible() {
        let config = config(10 * MIB);
        let mut judge = Judge::default();
        let full = Store { used_bytes: 99 * MIB, limit_bytes: 100 * MIB };
        let look = Look { store: Some(full), ..free(11 * MIB) };
        assert_eq!(judge.look(&config, look), FULL);
        assert!(matches!(judge.look(&config, free(200 * MIB)), Verdict::Restart(_)));
        let mut capped = config.clone();
        capped.max_file_store = Some(100 * MIB);
        assert_eq!(judge.look(&capped, free(200 * MIB)), FULL);
    }
}
