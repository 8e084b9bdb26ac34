//! Limited resources that requests hold. No client address gets more than half, so that a slow or greedy client
//! leaves the other half to others.

use std::sync::Arc;

use event_listener::Event;
use parking_lot::{Mutex, MutexGuard};

use crate::domain::{ClientNetwork, ClientShares};

/// A resource of limited size, whatever its unit.
#[derive(Debug)]
pub(super) struct Permits {
    max: usize,
    held: Mutex<Held>,
    /// Notified when a permit is returned.
    released: Event,
}

#[derive(Debug)]
struct Held {
    all: usize,
    shares: ClientShares,
}

/// Everything is taken, or the half of the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitReached;

impl Permits {
    pub(super) fn new(max: usize) -> Arc<Self> {
        let held = Mutex::new(Held { all: 0, shares: ClientShares::of(max) });
        Arc::new(Self { max, held, released: Event::new() })
    }

    /// Takes `amount` for a client, without waiting.
    pub(super) fn take(
        self: &Arc<Self>,
        client: ClientNetwork,
        amount: usize,
    ) -> Result<Permit, LimitReached> {
        let mut permit = Permit { permits: Arc::clone(self), client, amount: 0 };
        permit.grow_to(amount)?;
        Ok(permit)
    }

    /// Takes `amount` for a client, and waits until it is free. There is no queue: the first to ask after
    /// a release gets it.
    ///
    /// # Cancel safety
    /// Dropping it takes nothing.
    pub(super) async fn wait_for(self: &Arc<Self>, client: ClientNetwork, amount: usize) -> Permit {
        loop {
            let released = self.released.listen();
            if let Ok(permit) = self.take(client, amount) {
                return permit;
            }
            released.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }
}

/// Holds what was taken until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    client: ClientNetwork,
    amount: usize,
}

impl Permit {
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
        held.shares.take(self.client, more).map_err(|_| LimitReached)?;
        held.all = all;
        self.amount = amount;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Nothing was taken: a notification would only wake those who found nothing free.
        if self.amount == 0 {
            return;
        }
        let mut held = self.permits.lock();
        held.all = held.all.saturating_sub(self.amount);
        held.shares.release(self.client, self.amount);
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
