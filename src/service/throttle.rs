//! Throttling of log-ins: per identifier and per address, with counters that all processes share.
//!
//! An identifier counts as it was typed, whether an account has it or not: the response for a login must
//! not reveal whether an address of the same account is being guessed. A wait is looked up before an attempt
//! queues; the attempt is counted once it has its memory slot, before the password is compared. So many concurrent
//! attempts cannot pass together, and nobody counts faster than slots and [`LOGIN_ATTEMPTS_PER_SECOND`] allow.
//! A correct password resets the counter. Waits grow but end: there is no permanent lock.
//!
//! Throttling of refused uses of setup and join links: per link and per client address. A refusal is counted
//! when it is known, because it costs little: names are checked before a password is hashed. A link that is
//! used is gone, so what succeeds counts for nothing.

use std::net::IpAddr;
use std::time::Duration;

use super::millis;
use crate::crypto::{MacKey, hex};
use crate::domain::{ClientNetwork, User};
use crate::limits::{
    LINK_FAILURES_MAX, LINK_WINDOW, LOGIN_ADDRESS_FAILURES_MAX, LOGIN_ADDRESS_WINDOW,
    LOGIN_ATTEMPTS_BURST, LOGIN_ATTEMPTS_PER_SECOND, LOGIN_FAILURES_FREE, LOGIN_WAIT_MAX,
};
use crate::runtime::{Clock, Pace};
use crate::storage::{Counted, Counter, FoundCounter, Storage, StorageError};
use parking_lot::Mutex;

/// Too many failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) retry_after: Duration,
}

/// An attempt that need not wait; it is not counted yet.
pub(super) struct Attempt {
    identifier: ([u8; 16], FoundCounter),
    address: ([u8; 16], FoundCounter),
}

/// How fast one process counts attempts.
pub(super) fn pace() -> Pace {
    Pace::new(LOGIN_ATTEMPTS_BURST, Duration::from_secs(1) / LOGIN_ATTEMPTS_PER_SECOND)
}

/// Throttling of log-ins and of uses of links.
#[derive(Clone, Copy)]
pub(super) struct Throttle<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) key: &'a MacKey,
    pub(super) attempts: &'a Mutex<Pace>,
}

impl Throttle<'_> {
    /// Whether an attempt must wait; writes nothing.
    pub(super) async fn check_log_in(
        &self,
        identifier: &str,
        address: IpAddr,
    ) -> Result<Result<Attempt, Wait>, StorageError> {
        let (identifier, address) = (self.identifier_name(identifier), self.address_name(address));
        let (of_identifier, of_address) = futures_lite::future::zip(
            self.storage.counters().get(Counted::Identifier, &identifier),
            self.storage.counters().get(Counted::Address, &address),
        )
        .await;
        let (of_identifier, of_address) = (of_identifier?, of_address?);
        let now = self.clock.unix_ms();
        let wait = LOG_INS
            .wait(&of_address.counter, now)
            .or_else(|| for_identifier(&mut of_identifier.counter.clone(), now));
        Ok(match wait {
            Some(wait) => Err(wait),
            None => Ok(Attempt {
                identifier: (identifier, of_identifier),
                address: (address, of_address),
            }),
        })
    }

    /// Counts an attempt, which holds its memory slot; `Some` when it must wait after all and so was not
    /// counted.
    pub(super) async fn count_attempt(
        &self,
        attempt: &Attempt,
    ) -> Result<Option<Wait>, StorageError> {
        while let Err(wait) = self.next_attempt() {
            self.clock.sleep(wait).await;
        }
        let now = self.clock.unix_ms();
        let (name, found) = &attempt.address;
        let wait = self
            .storage
            .counters()
            .change(Counted::Address, name, *found, |counter| LOG_INS.count_or_wait(counter, now))
            .await?;
        if wait.is_some() {
            return Ok(wait);
        }
        let (name, found) = &attempt.identifier;
        let wait = self
            .storage
            .counters()
            .change(Counted::Identifier, name, *found, |counter| for_identifier(counter, now))
            .await?;
        if wait.is_some() {
            // Nothing was tried: it does not count for the address.
            self.uncount_address(attempt).await?;
        }
        Ok(wait)
    }

    /// Takes a counted attempt back, and the failures before it: the password was right.
    pub(super) async fn uncount_attempt(&self, attempt: &Attempt) -> Result<(), StorageError> {
        self.uncount_address(attempt).await?;
        self.storage.counters().erase(Counted::Identifier, &attempt.identifier.0).await
    }

    /// Ends every wait that guesses at an account's identifiers have made.
    pub(super) async fn reset_account(&self, user: &User) -> Result<(), StorageError> {
        let addresses = user.emails.iter().map(|one| one.address.as_str());
        for identifier in std::iter::once(user.login.as_str()).chain(addresses) {
            let name = self.identifier_name(identifier);
            self.storage.counters().erase(Counted::Identifier, &name).await?;
        }
        Ok(())
    }

    async fn uncount_address(&self, attempt: &Attempt) -> Result<(), StorageError> {
        let name = &attempt.address.0;
        let found = self.storage.counters().get(Counted::Address, name).await?;
        let one_less = |counter: &mut Counter| counter.count = counter.count.saturating_sub(1);
        self.storage.counters().change(Counted::Address, name, found, one_less).await
    }

    /// How long to wait with this link, or with any link from this address.
    pub(super) async fn link_wait(
        &self,
        link: &[u8; 32],
        address: IpAddr,
    ) -> Result<Option<Wait>, StorageError> {
        let now = self.clock.unix_ms();
        for name in self.link_counters(link, address) {
            let found = self.storage.counters().get(Counted::Address, &name).await?;
            if let Some(wait) = LINK_USES.wait(&found.counter, now) {
                return Ok(Some(wait));
            }
        }
        Ok(None)
    }

    /// A use of this link was refused.
    pub(super) async fn count_refused_link(
        &self,
        link: &[u8; 32],
        address: IpAddr,
    ) -> Result<(), StorageError> {
        let now = self.clock.unix_ms();
        for name in self.link_counters(link, address) {
            let found = self.storage.counters().get(Counted::Address, &name).await?;
            let one_more = |counter: &mut Counter| LINK_USES.count(counter, now);
            self.storage.counters().change(Counted::Address, &name, found, one_more).await?;
        }
        Ok(())
    }

    /// The counters of a link and of a client address. They lie among those of addresses: no stranger makes one
    /// without a link that counts.
    fn link_counters(&self, link: &[u8; 32], address: IpAddr) -> [[u8; 16]; 2] {
        let network = ClientNetwork::from(address).to_string();
        [self.counter_name("link", &hex(link)), self.counter_name("link address", &network)]
    }

    fn next_attempt(&self) -> Result<(), Duration> {
        let now = self.clock.now();
        self.attempts.lock().take(now)
    }

    /// Names an identifier's counter: one name for all ways to write it that find the same account.
    fn identifier_name(&self, identifier: &str) -> [u8; 16] {
        self.counter_name("identifier", &identifier.trim().to_lowercase())
    }

    fn address_name(&self, address: IpAddr) -> [u8; 16] {
        self.counter_name("address", &ClientNetwork::from(address).to_string())
    }

    fn counter_name(&self, kind: &str, text: &str) -> [u8; 16] {
        let mac = self.key.mac(format!("{kind}:{text}").as_bytes());
        let mut name = [0; 16];
        name.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        name
    }
}

/// At most `max` in a window of a fixed length, which begins with the first.
struct FixedWindow {
    max: u32,
    length: Duration,
}

/// Wrong passwords from one address.
const LOG_INS: FixedWindow =
    FixedWindow { max: LOGIN_ADDRESS_FAILURES_MAX, length: LOGIN_ADDRESS_WINDOW };
/// Refused uses of one link, and of links from one address.
const LINK_USES: FixedWindow = FixedWindow { max: LINK_FAILURES_MAX, length: LINK_WINDOW };

impl FixedWindow {
    fn end_ms(&self, counter: &Counter) -> i64 {
        counter.window_ms.saturating_add(millis(self.length))
    }

    /// Whether the window goes on; one in the future was begun before the clock was set back.
    fn is_current(&self, counter: &Counter, now: i64) -> bool {
        (counter.window_ms..self.end_ms(counter)).contains(&now)
    }

    /// How long to wait when the window is full.
    fn wait(&self, counter: &Counter, now: i64) -> Option<Wait> {
        let is_full = counter.count >= self.max && self.is_current(counter, now);
        is_full.then(|| until(self.end_ms(counter), now))
    }

    /// Counts one more, in a new window where the former one is over.
    fn count(&self, counter: &mut Counter, now: i64) {
        if !self.is_current(counter, now) {
            *counter = Counter { window_ms: now, ..Counter::default() };
        }
        counter.count = counter.count.saturating_add(1);
    }

    /// Counts one more unless the window is full.
    fn count_or_wait(&self, counter: &mut Counter, now: i64) -> Option<Wait> {
        let wait = self.wait(counter, now);
        if wait.is_none() {
            self.count(counter, now);
        }
        wait
    }
}

/// Five failures, then a wait of 1 s that doubles up to 15 minutes.
fn for_identifier(counter: &mut Counter, now: i64) -> Option<Wait> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_then_waits_that_double_to_fifteen_minutes() {
        let mut counter = Counter::default();
        let mut now = 1_000_000;
        for _ in 0..5 {
            assert_eq!(for_identifier(&mut counter, now), None);
        }
        let mut waits = Vec::new();
        for _ in 0..14 {
            let wait = for_identifier(&mut counter, now).unwrap();
            waits.push(wait.retry_after.as_secs());
            now += millis(wait.retry_after);
            assert_eq!(for_identifier(&mut counter, now), None, "the wait ends");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
    }

    #[test]
    fn waiting_attempts_do_not_lengthen_the_wait() {
        let mut counter = Counter { count: 10, window_ms: 0, blocked_until_ms: 5_000 };
        let before = counter;
        assert!(for_identifier(&mut counter, 1_000).is_some());
        assert_eq!(counter, before);
    }

    #[test]
    fn a_clock_set_back_does_not_lock() {
        let mut counter = Counter { count: 10, window_ms: 0, blocked_until_ms: i64::MAX };
        let wait = for_identifier(&mut counter, 0).unwrap();
        assert_eq!(wait.retry_after, LOGIN_WAIT_MAX);
        let mut counter = Counter { count: 99, window_ms: i64::MAX - 1, blocked_until_ms: 0 };
        assert_eq!(LOG_INS.count_or_wait(&mut counter, 0), None);
    }

    #[test]
    fn twenty_failures_a_minute_per_address() {
        let mut counter = Counter::default();
        for _ in 0..20 {
            assert_eq!(LOG_INS.count_or_wait(&mut counter, 100_000), None);
        }
        let wait = LOG_INS.count_or_wait(&mut counter, 130_000).unwrap();
        assert_eq!(wait.retry_after, Duration::from_secs(30));
        assert_eq!(LOG_INS.count_or_wait(&mut counter, 160_000), None, "a new window");
        assert_eq!(counter.count, 1);
    }

    #[test]
    fn a_full_window_waits_for_its_end() {
        let at = |count, window_ms, now| {
            let counter = Counter { count, window_ms, ..Counter::default() };
            LINK_USES.wait(&counter, now).map(|wait| wait.retry_after.as_secs())
        };
        assert_eq!(at(19, 1_000, 1_000), None);
        assert_eq!(at(20, 1_000, 31_000), Some(30));
        assert_eq!(at(20, 1_000, 61_000), None);
        assert_eq!(at(20, 5_000, 1_000), None, "the clock was set back");
    }
}
