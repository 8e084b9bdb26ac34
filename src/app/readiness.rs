//! Whether the server is ready, composed from its parts.

use std::sync::Arc;
use std::time::Instant;

use crate::limits::READINESS_GRACE;
use crate::runtime::Clock;
use parking_lot::Mutex;

/// Why the server is not ready; the product requirements define the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Starting,
    NatsUnreachable,
    /// nats-server can be reached, but the store does not reply.
    NoQuorum,
    /// The store has not replied for longer than an election takes.
    QuorumLost,
    /// nats-server left out streams that it could not read.
    StoreDamaged,
    /// Another process of the cluster has other secrets.
    SecretsMismatch,
    /// There is no space, or no inode, for writes.
    DiskFull,
    /// The disk cannot be written to: it is read-only or reports errors.
    DiskError,
    /// nats-server has no memory left for log-in counters, presence and leases.
    MemoryFull,
    /// The server is being stopped.
    Draining,
}

impl Reason {
    /// The word of `/readyz`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::NatsUnreachable => "nats_unreachable",
            Self::NoQuorum | Self::QuorumLost => "no_quorum",
            Self::StoreDamaged => "store_damaged",
            Self::SecretsMismatch => "secrets_mismatch",
            Self::DiskFull => "disk_full",
            Self::DiskError => "disk_error",
            Self::MemoryFull => "memory_full",
            Self::Draining => "draining",
        }
    }
}

/// The readiness of the server and its recent history. Clones share it.
#[derive(Clone)]
pub struct Readiness {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

struct State {
    /// What is wrong now.
    now: Option<Reason>,
    /// Since when something has been wrong without interruption.
    since: Instant,
    was_ready: bool,
    /// What was logged last.
    logged: Option<Reason>,
}

impl Readiness {
    /// Starting.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let state = State {
            now: Some(Reason::Starting),
            since: clock.now(),
            was_ready: false,
            logged: Some(Reason::Starting),
        };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    /// Sets what is wrong now. Draining is final.
    pub fn set(&self, now: Option<Reason>) {
        let mut state = self.lock();
        if state.now == Some(Reason::Draining) {
            return;
        }
        if state.now.is_none() && now.is_some() {
            state.since = self.clock.now();
        }
        state.now = now;
        state.was_ready |= now.is_none();
        let current = Self::current(&state, self.clock.now());
        if current != state.logged {
            state.logged = current;
            match current {
                None => log::info!("ready"),
                Some(Reason::Draining) => log::info!("draining"),
                Some(reason) => log::warn!(reason = reason.word(); "not ready"),
            }
        }
    }

    /// Why the server is not ready; `None` when it is. Once ready, a fault counts only after it has lasted
    /// [`READINESS_GRACE`]; draining counts at once, and a lost quorum, which was waited for.
    #[must_use]
    pub fn get(&self) -> Option<Reason> {
        Self::current(&self.lock(), self.clock.now())
    }

    fn current(state: &State, now: Instant) -> Option<Reason> {
        let reason = state.now?;
        let is_certain = matches!(reason, Reason::Draining | Reason::QuorumLost);
        let immediate = is_certain || !state.was_ready;
        (immediate || now.duration_since(state.since) >= READINESS_GRACE).then_some(reason)
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_counts_at_once_before_the_first_readiness_and_later_after_a_while() {
        let readiness = Readiness::new(Clock::system());
        assert_eq!(readiness.get(), Some(Reason::Starting));
        readiness.set(Some(Reason::NoQuorum));
        assert_eq!(readiness.get(), Some(Reason::NoQuorum));
        readiness.set(None);
        assert_eq!(readiness.get(), None);
        readiness.set(Some(Reason::NatsUnreachable));
        assert_eq!(readiness.get(), None, "an election does not empty a load balancer");
        readiness.lock().since -= READINESS_GRACE;
        assert_eq!(readiness.get(), Some(Reason::NatsUnreachable));
        // A change of the reason does not start the time again.
        readiness.set(Some(Reason::NoQuorum));
        assert_eq!(readiness.get(), Some(Reason::NoQuorum));
        readiness.set(None);
        readiness.set(Some(Reason::QuorumLost));
        assert_eq!(readiness.get(), Some(Reason::QuorumLost), "it was waited for");
        readiness.set(None);
        readiness.set(Some(Reason::Draining));
        assert_eq!(readiness.get(), Some(Reason::Draining));
        readiness.set(None);
        assert_eq!(readiness.get(), Some(Reason::Draining), "there is no way back");
    }
}
