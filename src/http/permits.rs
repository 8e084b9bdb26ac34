//! Limited resources that requests hold. No client address, or no user, gets more than half, so that a slow or greedy
//! one leaves the other half to others.

use std::hash::Hash;
use std::sync::Arc;

use event_listener::Event;
use parking_lot::{Mutex, MutexGuard};

use crate::domain::{ClientNetwork, Shares};

/// A resource of limited size, whatever its unit, which is shared among holders of type `K`.
#[derive(Debug)]
pub(super) struct Permits<K: Copy + Eq + Hash = ClientNetwork> {
    max: usize,
    held: Mutex<Held<K>>,
    /// Notified when a permit is returned.
    released: Event,
}

#[derive(Debug)]
struct Held<K> {
    all: usize,
    shares: Shares<K>,
}

/// Everything is taken, or the half of the holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitReached;

impl<K: Copy + Eq + Hash> Permits<K> {
    pub(super) fn new(max: usize) -> Arc<Self> {
        let held = Mutex::new(Held { all: 0, shares: Shares::of(max) });
        Arc::new(Self { max, held, released: Event::new() })
    }

    /// Takes `amount` for a holder, without waiting.
    pub(super) fn take(
        self: &Arc<Self>,
        holder: K,
        amount: usize,
    ) -> Result<Permit<K>, LimitReached> {
        let mut permit = Permit { permits: Arc::clone(self), holder, amount: 0 };
        permit.grow_to(amount)?;
        Ok(permit)
    }

    /// Takes `amount` for a holder, and waits until it is free. There is no queue: the first to ask after
    /// a release gets it.
    ///
    /// # Cancel safety
    /// Dropping it takes nothing.
    pub(super) async fn wait_for(self: &Arc<Self>, holder: K, amount: usize) -> Permit<K> {
        loop {
            let released = self.released.listen();
            if let Ok(permit) = self.take(holder, amount) {
                return permit;
            }
            released.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock()
    }
}

/// Holds what was taken until it is dropped.
#[derive(Debug)]
pub(super) struct Permit<K: Copy + Eq + Hash = ClientNetwork> {
    permits: Arc<Permits<K>>,
    holder: K,
    amount: usize,
}

impl<K: Copy + Eq + Hash> Permit<K> {
    /// Holds at least `amount` from now on.
    ///
    /// # Errors
    /// [`LimitReached`]; what is held stays held.
    pub(super) fn grow_to(&mut self, amount: usize) -> Result<(), LimitReached> {
        let more = amount.saturating_sub(self.amount);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.permits.lock();
        let all = held.all.saturating_add(more);
        if all > self.permits.max {
            return Err(LimitReached);
        }
        held.shares.take(self.holder, more).map_err(|_| LimitReached)?;
        held.all = all;
        self.amount = amount;
        Ok(())
    }
}

impl<K: Copy + Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        // Nothing was taken: a notification would only wake those who found nothing free.
        if self.amount == 0 {
            return;
        }
        let mut held = self.permits.lock();
        held.all = held.all.saturating_sub(self.amount);
        held.shares.release(self.holder, self.amount);
        drop(held);
        self.permits.released.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn client(text: &str) -> ClientNetwork {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_client_gets_half_and_all_get_all() {
        let permits = Permits::new(10);
        let [a, b, c] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(client);
        let mut first = permits.take(a, 4).unwrap();
        assert_eq!(first.grow_to(5), Ok(()));
        assert_eq!(first.grow_to(3), Ok(()), "it never shrinks");
        assert_eq!(permits.take(a, 1).err(), Some(LimitReached));
        assert_eq!(permits.take(b, 6).err(), Some(LimitReached));
        let second = permits.take(b, 4).unwrap();
        let third = permits.take(c, 1).unwrap();
        assert_eq!(permits.take(c, 1).err(), Some(LimitReached), "everything is taken");
        drop(first);
        assert!(permits.take(a, 5).is_ok());
        drop((second, third));
        let held = permits.lock();
        assert!(held.all == 0 && held.shares.is_empty());
    }

    #[test]
    fn of_one_there_is_one_for_somebody() {
        let permits = Permits::new(1);
        let one = permits.take(client("192.0.2.1"), 1);
        assert!(one.is_ok());
        assert!(permits.take(client("192.0.2.2"), 1).is_err());
    }

    #[test]
    fn a_client_waits_for_its_own_half_alone() {
        use futures_lite::future::{block_on, poll_once};
        let permits = Permits::new(4);
        let [a, b] = ["127.0.0.2", "127.0.0.3"].map(client);
        block_on(async {
            let first = permits.wait_for(a, 2).await;
            let mut second = std::pin::pin!(permits.wait_for(a, 2));
            assert!(poll_once(second.as_mut()).await.is_none());
            assert!(poll_once(std::pin::pin!(permits.wait_for(b, 2))).await.is_some());
            drop(first);
            drop(second.await);
        });
    }
}
