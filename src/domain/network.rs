//! What counts as one client address for limits, and how much of a limited resource one may hold.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or the first 64 bits of an IPv6 address: one client usually has all addresses of a /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(out),
            IpAddr::V6(address) => write!(out, "{address}/64"),
        }
    }
}

/// How much of a limited resource each client address holds. None gets more than its share: half, rounded up.
#[derive(Debug)]
pub struct ClientShares {
    share: usize,
    held: HashMap<ClientNetwork, usize>,
}

/// The client already holds its share, or would hold more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareTaken;

impl ClientShares {
    /// The shares of a resource of which there is `total`.
    #[must_use]
    pub fn of(total: usize) -> Self {
        Self { share: Self::share_of(total), held: HashMap::new() }
    }

    /// What one client may hold of `total`.
    #[must_use]
    pub fn share_of(total: usize) -> usize {
        total.div_ceil(2)
    }

    /// Whether a client may take `amount` more.
    #[must_use]
    pub fn has_room(&self, client: ClientNetwork, amount: usize) -> bool {
        let held = self.held.get(&client).copied().unwrap_or_default();
        held.saturating_add(amount) <= self.share
    }

    /// Takes `amount` for a client.
    ///
    /// # Errors
    /// [`ShareTaken`] when that is more than its share allows.
    pub fn take(&mut self, client: ClientNetwork, amount: usize) -> Result<(), ShareTaken> {
        if !self.has_room(client, amount) {
            return Err(ShareTaken);
        }
        let held = self.held.entry(client).or_default();
        *held = held.saturating_add(amount);
        Ok(())
    }

    /// Returns `amount` that a client took.
    pub fn release(&mut self, client: ClientNetwork, amount: usize) {
        if let Some(held) = self.held.get_mut(&client) {
            *held = held.saturating_sub(amount);
            if *held == 0 {
                self.held.remove(&client);
            }
        }
    }

    /// Whether no client holds anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_counts_by_64_bits_and_mapped_addresses_as_ipv4() {
        let of = |text: &str| ClientNetwork::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
        assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn a_client_gets_half_rounded_up_and_nothing_is_kept_of_who_holds_nothing() {
        let client = |last| ClientNetwork::from(IpAddr::from([192, 0, 2, last]));
        let mut shares = ClientShares::of(5);
        assert_eq!(shares.take(client(1), 3), Ok(()));
        assert_eq!(shares.take(client(1), 1), Err(ShareTaken));
        assert_eq!(shares.take(client(2), 4), Err(ShareTaken));
        assert!(shares.has_room(client(2), 3) && !shares.has_room(client(2), usize::MAX));
        shares.release(client(1), 2);
        assert_eq!(shares.take(client(1), 2), Ok(()));
        shares.release(client(1), 3);
        assert!(shares.is_empty());
        assert_eq!(ClientShares::of(1).take(client(1), 1), Ok(()));
    }
}
