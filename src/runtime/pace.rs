//! A rate limit: a burst, then a steady pace.

use std::time::{Duration, Instant};

/// Allows `burst` at once and one more every `interval`.
#[derive(Debug)]
pub struct Pace {
    burst: u32,
    interval: Duration,
    /// The time at which everything allowed so far has been earned.
    earned: Option<Instant>,
}

impl Pace {
    /// Starts with the whole burst available.
    #[must_use]
    pub fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, earned: None }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let earned = self.earned.map_or(now, |earned| earned.max(now));
        let ahead = earned.saturating_duration_since(now);
        let allowed = self.interval.saturating_mul(self.burst.saturating_sub(1));
        if ahead > allowed {
            return Err(ahead - allowed);
        }
        self.earned = Some(earned + self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_each_interval() {
        let second = Duration::from_secs(1);
        let start = crate::runtime::Clock::system().now();
        let mut pace = Pace::new(3, second);
        for _ in 0..3 {
            assert_eq!(pace.take(start), Ok(()));
        }
        assert_eq!(pace.take(start), Err(second));
        assert_eq!(pace.take(start + second), Ok(()));
        assert!(pace.take(start + second).is_err());
        // Long silence earns the burst again and no more.
        let later = start + Duration::from_secs(100);
        assert_eq!((0..5).filter(|_| pace.take(later).is_ok()).count(), 3);
    }
}
