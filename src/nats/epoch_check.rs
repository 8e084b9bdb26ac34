//! The epoch check: where several processes share a store, the right to write lasts for a short time after each check.
//! A process that was paused, or cut off from the servers, finds it expired and writes nothing until the owner of the
//! connection has looked at the store again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use event_listener::Event;
use parking_lot::Mutex;

use super::{Nats, NatsError, WritesRefused};
use crate::limits::NATS_REQUEST_TIMEOUT;

/// A point in time by both clocks. One of them goes on while the machine is suspended, the other is never set back.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    now: Instant,
    unix_ms: i64,
}

/// Until when the last check lets this process write.
#[derive(Default)]
pub(super) struct EpochCheck {
    /// `None`: writes need no check.
    until: Mutex<Option<Moment>>,
    pub(super) changed: Event,
    wanted: Event,
    is_wanted: AtomicBool,
}

impl Nats {
    /// Now: taken before the store is looked at, because the look may be answered late.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment { now: self.clock.now(), unix_ms: self.clock.unix_ms() }
    }

    /// The store was found to be the right one: writes may go on for `ttl` from `since` on. From the first call on every
    /// write needs a check.
    pub fn epoch_checked(&self, since: Moment, ttl: Duration) {
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let new = Moment { now: since.now + ttl, unix_ms: since.unix_ms.saturating_add(ttl_ms) };
        {
            let mut until = self.epoch_check().until.lock();
            // Two looks may be answered in another order than they were made.
            if until.is_none_or(|until| until.now <= new.now) {
                *until = Some(new);
            }
        }
        self.epoch_check().changed.notify(usize::MAX);
    }

    /// Waits until a write needs a check.
    pub async fn epoch_check_wanted(&self) {
        loop {
            let listener = self.epoch_check().wanted.listen();
            if self.epoch_check().is_wanted.swap(false, Ordering::SeqCst) {
                return;
            }
            listener.await;
        }
    }

    /// Waits until a check lets this process write; everything that changes the store passes here first. While the
    /// connection is lost none does: the client would keep the message, and send it whenever the connection is back.
    ///
    /// # Errors
    /// [`NatsError::Unanswered`] after [`NATS_REQUEST_TIMEOUT`]; [`NatsError::Restored`] at once.
    pub async fn wait_for_epoch_check(&self) -> Result<(), NatsError> {
        if self.is_epoch_checked() {
            return Ok(());
        }
        let checked = async {
            loop {
                let listener = self.epoch_check().changed.listen();
                if self.is_epoch_checked() {
                    return Ok(());
                }
                if self.is_refusing(WritesRefused::Restored) {
                    return Err(NatsError::Restored);
                }
                self.epoch_check().is_wanted.store(true, Ordering::SeqCst);
                self.epoch_check().wanted.notify(usize::MAX);
                listener.await;
            }
        };
        let late =
            || NatsError::unanswered("whether this process may write cannot be found out now");
        let outcome = self.clock.timeout(NATS_REQUEST_TIMEOUT, checked).await;
        outcome.unwrap_or_else(|_| Err(late()))
    }

    fn is_epoch_checked(&self) -> bool {
        let Some(until) = *self.epoch_check().until.lock() else { return true };
        let Moment { now, unix_ms } = self.moment();
        now < until.now
            && unix_ms < until.unix_ms
            && self.is_connected()
            && !self.is_refusing(WritesRefused::Restored)
    }
}
