//! Throttling of log-ins: per account and per address, with counters that all processes share.
//!
//! An attempt is counted before the password is looked at, so that many at once cannot pass together;
//! a right password takes the count back. Waits grow but end: there is no permanent lock.

use std::net::IpAddr;
use std::time::Duration;

use super::{Service, millis};
use crate::limits::{
    LOGIN_ADDRESS_FAILURES_MAX, LOGIN_ADDRESS_WINDOW, LOGIN_COUNTER_TTL, LOGIN_FAILURES_FREE,
    LOGIN_WAIT_MAX,
};
use crate::storage::StorageError;
use crate::storage::records::Counter;

/// The kind of the counters per account, each named by the user's id.
pub(super) const ACCOUNT: &str = "login";
const ADDRESS: &str = "address";

/// Too many failures; try again after `retry_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) retry_after: Duration,
}

impl Service {
    /// Counts an attempt; `Some` when it must wait and so was not counted.
    pub(super) async fn count_attempt(
        &self,
        account: &str,
        address: IpAddr,
    ) -> Result<Option<Wait>, StorageError> {
        let now = self.now_ms();
        let name = network(address);
        let wait = self
            .storage()
            .counter(ADDRESS, &name, LOGIN_COUNTER_TTL, |counter| from_address(counter, now))
            .await?;
        if wait.is_some() {
            return Ok(wait);
        }
        let wait = self
            .storage()
            .counter(ACCOUNT, account, LOGIN_COUNTER_TTL, |counter| to_account(counter, now))
            .await?;
        if wait.is_some() {
            // Nothing was tried: the address is not blamed for it.
            self.forgive_address(&name).await?;
        }
        Ok(wait)
    }

    /// Takes a counted attempt back: the password was right, or was not looked at.
    pub(super) async fn forgive_attempt(
        &self,
        account: &str,
        address: IpAddr,
        succeeded: bool,
    ) -> Result<(), StorageError> {
        self.forgive_address(&network(address)).await?;
        if succeeded {
            return self.storage().counter_delete(ACCOUNT, account).await;
        }
        self.storage()
            .counter(ACCOUNT, account, LOGIN_COUNTER_TTL, |counter| {
                counter.count = counter.count.saturating_sub(1);
                counter.blocked_until_ms = 0;
            })
            .await
    }

    async fn forgive_address(&self, name: &str) -> Result<(), StorageError> {
        self.storage()
            .counter(ADDRESS, name, LOGIN_COUNTER_TTL, |counter| {
                counter.count = counter.count.saturating_sub(1);
            })
            .await
    }
}

/// 20 failures per minute.
fn from_address(counter: &mut Counter, now: i64) -> Option<Wait> {
    let window = millis(LOGIN_ADDRESS_WINDOW);
    if !(counter.window_ms..counter.window_ms.saturating_add(window)).contains(&now) {
        *counter = Counter { window_ms: now, ..Counter::default() };
    }
    if counter.count >= LOGIN_ADDRESS_FAILURES_MAX {
        return Some(until(counter.window_ms.saturating_add(window), now));
    }
    counter.count += 1;
    None
}

/// Five failures, then a wait of 1 s that doubles up to 15 minutes.
fn to_account(counter: &mut Counter, now: i64) -> Option<Wait> {
    // A clock that was set back must not lengthen a wait.
    let longest = now.saturating_add(millis(LOGIN_WAIT_MAX));
    counter.blocked_until_ms = counter.blocked_until_ms.min(longest);
    if now < counter.blocked_until_ms {
        return Some(until(counter.blocked_until_ms, now));
    }
    counter.count = counter.count.saturating_add(1);
    if counter.count >= LOGIN_FAILURES_FREE {
        let doublings = (counter.count - LOGIN_FAILURES_FREE).min(30);
        let wait = Duration::from_secs(1 << doublings).min(LOGIN_WAIT_MAX);
        counter.blocked_until_ms = now.saturating_add(millis(wait));
    }
    None
}

fn until(end_ms: i64, now: i64) -> Wait {
    let left = u64::try_from(end_ms.saturating_sub(now)).unwrap_or(0);
    Wait { retry_after: Duration::from_millis(left) }
}

/// What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 address.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_then_waits_that_double_to_fifteen_minutes() {
        let mut counter = Counter::default();
        let mut now = 1_000_000;
        for _ in 0..5 {
            assert_eq!(to_account(&mut counter, now), None);
        }
        let mut waits = Vec::new();
        for _ in 0..14 {
            let wait = to_account(&mut counter, now).unwrap();
            waits.push(wait.retry_after.as_secs());
            now += millis(wait.retry_after);
            assert_eq!(to_account(&mut counter, now), None, "the wait ends");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
    }

    #[test]
    fn waiting_attempts_do_not_lengthen_the_wait() {
        let mut counter = Counter { count: 10, window_ms: 0, blocked_until_ms: 5_000 };
        let before = counter;
        assert!(to_account(&mut counter, 1_000).is_some());
        assert_eq!(counter, before);
    }

    #[test]
    fn a_clock_set_back_does_not_lock() {
        let mut counter = Counter { count: 10, window_ms: 0, blocked_until_ms: i64::MAX };
        let wait = to_account(&mut counter, 0).unwrap();
        assert_eq!(wait.retry_after, LOGIN_WAIT_MAX);
        let mut counter = Counter { count: 99, window_ms: i64::MAX - 1, blocked_until_ms: 0 };
        assert_eq!(from_address(&mut counter, 0), None);
    }

    #[test]
    fn twenty_failures_a_minute_per_address() {
        let mut counter = Counter::default();
        for _ in 0..20 {
            assert_eq!(from_address(&mut counter, 100_000), None);
        }
        let wait = from_address(&mut counter, 130_000).unwrap();
        assert_eq!(wait.retry_after, Duration::from_secs(30));
        assert_eq!(from_address(&mut counter, 160_000), None, "a new window");
        assert_eq!(counter.count, 1);
    }

    #[test]
    fn ipv6_counts_by_64_bits_and_mapped_addresses_as_ipv4() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }
}
