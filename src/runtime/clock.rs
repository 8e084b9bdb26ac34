//! Time: the only source of instants and wall-clock time, and deadlines.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time. Clones share its offsets, with which tests move the two clocks.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
    monotonic_offset_ms: Arc<AtomicU64>,
}

/// The deadline passed before the work ended; the work was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not finished within {limit:?}")]
pub struct Elapsed {
    pub limit: Duration,
}

/// A timer that is reused for many waits: arming a new one for each wait costs two system calls.
#[derive(Debug)]
pub struct Timer {
    timer: smol::Timer,
    at: Option<Instant>,
}

impl Timer {
    /// Waits until `at`; a timer that is already set to that time stays armed.
    ///
    /// # Cancel safety
    /// If the future is dropped, the timer stays armed.
    pub async fn until(&mut self, at: Instant) {
        if self.at != Some(at) {
            self.timer.set_at(at);
            self.at = Some(at);
        }
        (&mut self.timer).await;
        self.at = None;
    }
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// The monotonic clock, for durations.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn now(&self) -> Instant {
        let offset = Duration::from_millis(self.monotonic_offset_ms.load(Ordering::Relaxed));
        Instant::now() + offset
    }

    /// The wall clock in milliseconds since 1970-01-01 UTC; 0 when the clock is set to an earlier time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn unix_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis())
            .unwrap_or(i64::MAX)
            .saturating_add(self.offset_ms.load(Ordering::Relaxed))
    }

    /// Moves the wall clock of this clock and its clones; for tests of expiry.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.offset_ms.fetch_add(by, Ordering::Relaxed);
    }

    /// Moves the monotonic clock of this clock and its clones; for tests of what is kept for a while. Sleeps
    /// do not end earlier, and a [`Timer`] follows the unmoved clock.
    pub fn advance_monotonic(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.monotonic_offset_ms.fetch_add(by, Ordering::Relaxed);
    }

    /// Waits for `duration` of monotonic time.
    pub async fn sleep(&self, duration: Duration) {
        smol::Timer::after(duration).await;
    }

    /// A timer that is not armed.
    #[must_use]
    pub fn timer(&self) -> Timer {
        Timer { timer: smol::Timer::never(), at: None }
    }

    /// Runs `work` for at most `limit`.
    ///
    /// # Errors
    /// [`Elapsed`] when the limit passes first; `work` is then dropped.
    pub async fn timeout<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        futures_lite::future::or(async { Ok(work.await) }, async {
            smol::Timer::after(limit).await;
            Err(Elapsed { limit })
        })
        .await
    }
}
