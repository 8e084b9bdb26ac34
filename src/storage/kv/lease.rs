//! Leases with fencing: who may do what only one process should do.
//!
//! PRESENCE keeps the time limit: its record expires. It lies in nats-server's memory and is empty again when
//! that restarts, so the number that orders the holders comes from STATE, raised by compare-and-set by each
//! new holder. Work under a lease checks the time before each write; what it leaves for the next holder
//! carries the number, and a lower one never replaces a higher one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runtime::Clock;
use crate::storage::encoding::encode;
use crate::storage::error::StorageError;
use crate::storage::kv::Entry;
use crate::storage::layout::stream;
use crate::storage::records::{Claim, Fence};
use crate::storage::state::RecordChange;
use crate::storage::store::Inner;
use parking_lot::Mutex;

/// A lease that this process holds. Clones share its end, which moves when it is renewed.
#[derive(Debug, Clone)]
pub struct Lease {
    name: &'static str,
    number: u64,
    ttl: Duration,
    until: Arc<Mutex<Option<Instant>>>,
    clock: Clock,
}

impl Lease {
    /// Whether it still counts. A process that was paused finds out here before it writes; the clock is the
    /// monotonic one, which does not go on while a whole machine is suspended.
    #[must_use]
    pub fn holds(&self) -> bool {
        let until = *self.until.lock();
        until.is_none_or(|until| self.clock.now() < until)
    }

    /// Whether no other process has held it since `former`, a lease of this process with the same name.
    #[must_use]
    pub fn follows(&self, former: &Self) -> bool {
        // Each new holder raises the number by one.
        self.number <= former.number.saturating_add(1)
    }

    /// The fencing token: higher than that of every holder before. 0: there is one process only.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// How long it lasts when it is renewed.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether it counts and less than two thirds of its time are left: work that goes on renews it.
    pub(crate) fn is_ageing(&self) -> bool {
        let until = *self.until.lock();
        let left = until.map(|until| until.saturating_duration_since(self.clock.now()));
        left.is_some_and(|left| !left.is_zero() && left < self.ttl * 2 / 3)
    }

    fn set_end(&self, until: Instant) {
        *self.until.lock() = Some(until);
    }
}

/// The leases of this process, by name.
#[derive(Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<&'static str, Lease>>,
}

impl Inner {
    /// Takes a lease for `ttl`, or renews it; `None`: another process holds it, or this program may not
    /// write to the store any more. With the embedded server there is one process, whose leases never end.
    ///
    /// # Cancel safety
    /// After dropping it this process may hold the lease until it expires; taking it again succeeds.
    pub(crate) async fn lease(
        &self,
        name: &'static str,
        ttl: Duration,
    ) -> Result<Option<Lease>, StorageError> {
        let lease =
            |number| Lease { name, number, ttl, until: Arc::default(), clock: self.clock.clone() };
        if self.embedded {
            return Ok(Some(lease(0)));
        }
        let held = self.held_leases().get(name).filter(|lease| lease.holds()).cloned();
        if !self.may_write().await? {
            return Ok(None);
        }
        let Some(until) = self.renew(name, ttl).await? else {
            self.held_leases().remove(name);
            return Ok(None);
        };
        if let Some(held) = held {
            held.set_end(until);
            return Ok(Some(held));
        }
        let taken = lease(self.raise_fence(name).await?);
        // A pause before the number was raised may have outlasted the lease, and its next holder then has a
        // lower number than this one, which counts only if the lease does.
        let Some(until) = self.renew(name, ttl).await? else { return Ok(None) };
        taken.set_end(until);
        self.held_leases().insert(name, taken.clone());
        Ok(Some(taken))
    }

    /// Renews a lease that is ageing, and takes one again that has ended: one slow request may outlast it. `false`, from
    /// then on: another process holds it, or has held it since; what this one had begun may have been undone.
    ///
    /// # Cancel safety
    /// As with [`Self::lease`].
    pub(crate) async fn renew_lease(&self, lease: &mut Lease) -> Result<bool, StorageError> {
        if lease.holds() && !lease.is_ageing() {
            return Ok(true);
        }
        let Some(taken) = self.lease(lease.name, lease.ttl).await? else { return Ok(false) };
        let follows = taken.follows(lease);
        if follows {
            *lease = taken;
        }
        Ok(follows)
    }

    /// Whether another process holds a lease. It changes nothing.
    pub(crate) async fn is_lease_held_elsewhere(&self, name: &str) -> Result<bool, StorageError> {
        if self.embedded {
            return Ok(false);
        }
        let (present, _) = self.memory.get::<Claim>(stream::PRESENCE, &subject(name)).await?;
        Ok(present.is_some_and(|lease| lease.holder_id != self.process))
    }

    /// Writes the time limit; until when it counts, or `None`: another process has it.
    async fn renew(&self, name: &str, ttl: Duration) -> Result<Option<Instant>, StorageError> {
        let subject = subject(name);
        // Taken before the request: the server counts from later on.
        let until = self.clock.now() + ttl;
        let (present, revision) = self.memory.get::<Claim>(stream::PRESENCE, &subject).await?;
        if present.is_some_and(|lease| lease.holder_id != self.process) {
            return Ok(None);
        }
        let lease = Claim {
            holder_id: self.process.clone(),
            claimed_ms: self.clock.unix_ms(),
            request_id: String::new(),
        };
        let entry = Entry { subject: &subject, payload: encode(&lease), revision };
        let ours = self.memory.put(entry, ttl).await?;
        Ok(ours.then_some(until))
    }

    async fn raise_fence(&self, name: &str) -> Result<u64, StorageError> {
        let holder_id = self.process.clone();
        let raised = self
            .state
            .change::<Fence, std::convert::Infallible>(name, |present| {
                let number = present.map_or(0, |fence| fence.number).saturating_add(1);
                Ok(RecordChange::Put(Fence { number, holder_id: holder_id.clone() }))
            })
            .await
            .map_err(StorageError::from)?;
        Ok(raised.map_or(0, |fence| fence.number))
    }

    fn held_leases(&self) -> parking_lot::MutexGuard<'_, HashMap<&'static str, Lease>> {
        self.leases.held.lock()
    }
}

fn subject(name: &str) -> String {
    format!("$KV.PRESENCE.lease.{name}")
}
