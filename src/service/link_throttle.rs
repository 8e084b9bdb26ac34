//! Throttling of refused uses of setup and join links: per link and per client address, with counters that
//! all processes share.
//!
//! A refusal is counted when it is known, because it costs little: names are looked at before a password is
//! hashed. A link that is used is gone, so what succeeds counts for nothing.

use std::net::IpAddr;
use std::time::Duration;

use super::{Service, millis};
use crate::crypto::hex;
use crate::domain::ClientNetwork;
use crate::limits::{LINK_FAILURES_MAX, LINK_WINDOW};
use crate::storage::records::Counter;
use crate::storage::{Counted, StorageError};

impl Service {
    /// How long nobody may try this link, or anybody at this address one.
    pub(super) async fn link_wait(
        &self,
        link: &[u8; 32],
        address: IpAddr,
    ) -> Result<Option<Duration>, StorageError> {
        let now = self.now_ms();
        for name in self.link_counters(link, address) {
            let found = self.storage().counter(Counted::Address, &name).await?;
            if let Some(wait) = wait(&found.counter, now) {
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
        let now = self.now_ms();
        for name in self.link_counters(link, address) {
            let found = self.storage().counter(Counted::Address, &name).await?;
            let one_more = |counter: &mut Counter| {
                if !is_current(counter, now) {
                    *counter = Counter { window_ms: now, ..Counter::default() };
                }
                counter.count = counter.count.saturating_add(1);
            };
            self.storage().change_counter(Counted::Address, &name, found, one_more).await?;
        }
        Ok(())
    }

    /// The counters of a link and of a client address. They lie among those of addresses: no stranger makes one
    /// without a link that counts.
    fn link_counters(&self, link: &[u8; 32], address: IpAddr) -> [[u8; 16]; 2] {
        let network = ClientNetwork::from(address).to_string();
        [self.counter_name("link", &hex(link)), self.counter_name("link address", &network)]
    }
}

/// A window in the future was begun before the clock was set back.
fn is_current(counter: &Counter, now: i64) -> bool {
    let end = counter.window_ms.saturating_add(millis(LINK_WINDOW));
    (counter.window_ms..end).contains(&now)
}

fn wait(counter: &Counter, now: i64) -> Option<Duration> {
    if counter.count < LINK_FAILURES_MAX || !is_current(counter, now) {
        return None;
    }
    let end = counter.window_ms.saturating_add(millis(LINK_WINDOW));
    Some(Duration::from_millis(u64::try_from(end.saturating_sub(now)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_in_a_minute_and_then_its_end() {
        let at =
            |count, window_ms, now| wait(&Counter { count, window_ms, ..Counter::default() }, now);
        assert_eq!(at(19, 1_000, 1_000), None);
        assert_eq!(at(20, 1_000, 31_000), Some(Duration::from_secs(30)));
        assert_eq!(at(20, 1_000, 61_000), None);
        assert_eq!(at(20, 5_000, 1_000), None, "the clock was set back");
    }
}
