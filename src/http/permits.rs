//! Limited resources that requests hold. No client address gets more than half, so that a slow or greedy client
//! leaves the other half to others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::ClientNetwork;

/// A resource of limited size, whatever its unit.
#[derive(Debug)]
pub(super) struct Permits {
    max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    of: HashMap<ClientNetwork, usize>,
}

/// Everything is taken, or the client's half is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AllTaken;

impl Permits {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, held: Mutex::default() })
    }

    /// Takes `amount` for a client, without waiting.
    ///
    /// # Errors
    /// [`AllTaken`].
    pub(super) fn take(
        self: &Arc<Self>,
        client: ClientNetwork,
        amount: usize,
    ) -> Result<Permit, AllTaken> {
        let mut permit = Permit { permits: Arc::clone(self), client, amount: 0 };
        permit.grow_to(amount)?;
        Ok(permit)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one client may hold of `max`.
pub(super) fn half(max: usize) -> usize {
    max.div_ceil(2)
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
    /// [`AllTaken`]; what is held stays held.
    pub(super) fn grow_to(&mut self, amount: usize) -> Result<(), AllTaken> {
        let more = amount.saturating_sub(self.amount);
        if more == 0 {
            return Ok(());
        }
        let max = self.permits.max;
        let mut held = self.permits.lock();
        let all = held.all.saturating_add(more);
        let own = held.of.get(&self.client).copied().unwrap_or_default().saturating_add(more);
        if all > max || own > half(max) {
            return Err(AllTaken);
        }
        held.all = all;
        held.of.insert(self.client, own);
        self.amount = amount;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.permits.lock();
        held.all = held.all.saturating_sub(self.amount);
        if let Some(own) = held.of.get_mut(&self.client) {
            *own = own.saturating_sub(self.amount);
            if *own == 0 {
                held.of.remove(&self.client);
            }
        }
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
        assert_eq!(permits.take(a, 1).err(), Some(AllTaken));
        assert_eq!(permits.take(b, 6).err(), Some(AllTaken));
        let second = permits.take(b, 4).unwrap();
        let third = permits.take(c, 1).unwrap();
        assert_eq!(permits.take(c, 1).err(), Some(AllTaken), "everything is taken");
        drop(first);
        assert!(permits.take(a, 5).is_ok());
        drop((second, third));
        let held = permits.lock();
        assert_eq!((held.all, held.of.len()), (0, 0));
    }

    #[test]
    fn of_one_there_is_one_for_somebody() {
        let permits = Permits::new(1);
        let one = permits.take(client("192.0.2.1"), 1);
        assert!(one.is_ok());
        assert!(permits.take(client("192.0.2.2"), 1).is_err());
    }
}
