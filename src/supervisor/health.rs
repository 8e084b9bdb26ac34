//! Whether the embedded server takes writes: free disk space, its own `/healthz`, its store limit.
//!
//! Decides from observations; who observes and who restarts the child is not its business.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use serde::Deserialize;

use super::settings::{Config, file_store_limit};
use crate::limits::{HEALTH_ANSWER_MAX_BYTES, NATS_PAYLOAD_MAX_BYTES};
use crate::runtime::Clock;

const MIB: u64 = 1024 * 1024;
/// So many failed looks in a row mean that nats-server has given up writing.
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
    /// Less than `min_free_disk` is free, or the store has reached its limit: refuse all writes.
    /// Reading works.
    DiskFull,
    /// nats-server met a write error and has stopped storing: refuse all writes. It is started again
    /// when there is space.
    WriteFailed,
}

impl Health {
    /// Whether writes must be refused now and why is the disk.
    #[must_use]
    pub fn refuses_writes(self) -> bool {
        matches!(self, Self::DiskFull | Self::WriteFailed)
    }
}

/// Free disk space and the floor under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disk {
    /// What an unprivileged process may still use.
    pub free_bytes: u64,
    /// `min_free_disk`.
    pub floor_bytes: u64,
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
    pub(super) free_bytes: Option<u64>,
    pub(super) health: Option<Answer>,
    pub(super) store: Option<Store>,
}

/// What `/healthz` says.
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
    /// Start the child again; the text says why.
    Restart(&'static str),
}

/// Remembers what the next look is compared with. A new one for every run of the child.
#[derive(Debug, Default)]
pub(super) struct Judge {
    low: bool,
    failed_looks: u32,
    reason: String,
    disk: Disk,
    store: Option<Store>,
}

impl Judge {
    pub(super) fn disk(&self) -> Disk {
        self.disk
    }

    /// Why nats-server does not write, in its own words.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn look(&mut self, config: &Config, look: Look) -> Verdict {
        if let Some(free) = look.free_bytes {
            // Leaving the state needs a little more than entering it, so that it does not flap.
            let margin = if self.low { (config.min_free_disk / 16).min(64 * MIB) } else { 0 };
            self.low = free < config.min_free_disk.saturating_add(margin);
            self.disk.free_bytes = free;
            self.disk.floor_bytes = config.min_free_disk;
        }
        match look.health {
            Some(Answer::Ok) => self.failed_looks = 0,
            Some(Answer::Unavailable(reason)) => {
                self.failed_looks = self.failed_looks.saturating_add(1);
                self.reason = reason;
            }
            None => {}
        }
        if let Some(store) = look.store {
            self.store = Some(store);
            self.disk.store_bytes = store.used_bytes;
            self.disk.store_limit_bytes = store.limit_bytes;
        }
        self.conclude(config)
    }

    fn conclude(&self, config: &Config) -> Verdict {
        let free = self.disk.free_bytes;
        if self.failed_looks >= FAILED_LOOKS {
            if !self.low && free >= RESTART_FREE_MIN_BYTES {
                return Verdict::Restart("nats-server has stopped storing after a write error");
            }
            return Verdict::State(Health::WriteFailed);
        }
        if let Some(store) = self.store {
            let payload = u64::try_from(NATS_PAYLOAD_MAX_BYTES).unwrap_or(u64::MAX);
            if store.used_bytes.saturating_add(payload) >= store.limit_bytes {
                let possible = file_store_limit(config, store.used_bytes, free);
                if !self.low && possible >= store.limit_bytes.saturating_add(RAISE_MIN_BYTES) {
                    return Verdict::Restart("the disk has room for a larger store again");
                }
                return Verdict::State(Health::DiskFull);
            }
        }
        Verdict::State(if self.low { Health::DiskFull } else { Health::Running })
    }
}

/// Asks `/healthz`; `None` when nats-server does not answer in time.
pub(super) async fn ask_health(clock: &Clock, http: SocketAddr) -> Option<Answer> {
    #[derive(Deserialize)]
    struct Healthz {
        status: String,
        #[serde(default)]
        error: String,
    }
    let body = get(clock, http, "/healthz").await?;
    let said: Healthz = serde_json::from_slice(&body).ok()?;
    Some(if said.status == "ok" { Answer::Ok } else { Answer::Unavailable(said.error) })
}

/// Asks `/jsz` for the store's size and limit.
pub(super) async fn ask_store(clock: &Clock, http: SocketAddr) -> Option<Store> {
    #[derive(Deserialize)]
    struct Jsz {
        #[serde(default)]
        storage: u64,
        config: Limits,
    }
    #[derive(Deserialize)]
    struct Limits {
        #[serde(default)]
        max_storage: u64,
    }
    let said: Jsz = serde_json::from_slice(&get(clock, http, "/jsz").await?).ok()?;
    Some(Store { used_bytes: said.storage, limit_bytes: said.config.max_storage })
}

/// The body of a small answer from nats-server's monitoring port.
async fn get(clock: &Clock, http: SocketAddr, path: &str) -> Option<Vec<u8>> {
    let ask = async {
        let mut stream = async_net::TcpStream::connect(http).await?;
        // HTTP/1.0: the answer ends with the connection.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(HEALTH_ANSWER_MAX_BYTES).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = clock.timeout(ANSWER_TIMEOUT, ask).await.ok()?.ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    answer.get(end.checked_add(4)?..).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(floor: u64) -> Config {
        Config { min_free_disk: floor, ..super::super::settings::test_config() }
    }

    fn free(bytes: u64) -> Look {
        Look { free_bytes: Some(bytes), ..Look::default() }
    }

    fn unavailable(free_bytes: u64) -> Look {
        let health = Some(Answer::Unavailable("no space left on device".into()));
        Look { free_bytes: Some(free_bytes), health, store: None }
    }

    #[test]
    fn the_floor_is_entered_at_once_and_left_with_a_margin() {
        let config = config(160 * MIB);
        let mut judge = Judge::default();
        let state = |judge: &mut Judge, bytes| judge.look(&config, free(bytes));
        assert_eq!(state(&mut judge, 160 * MIB), Verdict::State(Health::Running));
        assert!(judge.disk().refuses_uploads());
        assert_eq!(state(&mut judge, 160 * MIB - 1), Verdict::State(Health::DiskFull));
        assert_eq!(state(&mut judge, 165 * MIB), Verdict::State(Health::DiskFull));
        assert_eq!(state(&mut judge, 170 * MIB), Verdict::State(Health::Running));
        assert_eq!(state(&mut judge, 320 * MIB), Verdict::State(Health::Running));
        assert!(!judge.disk().refuses_uploads());
    }

    #[test]
    fn a_write_error_is_believed_after_three_looks_and_restarts_only_with_space() {
        let config = config(0);
        let mut judge = Judge::default();
        for _ in 0..2 {
            assert_eq!(judge.look(&config, unavailable(0)), Verdict::State(Health::Running));
        }
        assert_eq!(judge.look(&config, unavailable(0)), Verdict::State(Health::WriteFailed));
        assert_eq!(judge.look(&config, free(MIB)), Verdict::State(Health::WriteFailed));
        assert_eq!(judge.reason(), "no space left on device");
        assert!(matches!(judge.look(&config, free(16 * MIB)), Verdict::Restart(_)));
        let ok = Look { health: Some(Answer::Ok), ..Look::default() };
        assert_eq!(judge.look(&config, ok), Verdict::State(Health::Running));
    }

    #[test]
    fn a_store_at_its_limit_refuses_until_a_larger_one_is_possible() {
        let config = config(10 * MIB);
        let mut judge = Judge::default();
        let full = Store { used_bytes: 99 * MIB, limit_bytes: 100 * MIB };
        let look = Look { free_bytes: Some(11 * MIB), health: None, store: Some(full) };
        assert_eq!(judge.look(&config, look), Verdict::State(Health::DiskFull));
        assert!(matches!(judge.look(&config, free(200 * MIB)), Verdict::Restart(_)));
        let mut capped = config.clone();
        capped.max_file_store = Some(100 * MIB);
        assert_eq!(judge.look(&capped, free(200 * MIB)), Verdict::State(Health::DiskFull));
    }
}
