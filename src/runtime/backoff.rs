//! Exponential backoff with jitter.

use std::time::Duration;

/// Delays that double from `first` to `max`, each randomly shortened by up to half, so that many
/// clients do not retry in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first` and never exceeds `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// The next delay.
    pub fn delay(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        let random = u32::from(random_byte());
        let half = full / 2;
        half + half * random / 255
    }

    /// Returns to the first delay, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// One random byte; without a source of randomness the largest, which gives the longest delay.
fn random_byte() -> u8 {
    let mut byte = [u8::MAX];
    if getrandom::fill(&mut byte).is_err() {
        return u8::MAX;
    }
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_maximum_and_stay_between_half_and_whole() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(40));
        for full in [10, 20, 40, 40] {
            let delay = backoff.delay();
            assert!(delay >= Duration::from_millis(full / 2), "{delay:?} < {full} / 2");
            assert!(delay <= Duration::from_millis(full), "{delay:?} > {full}");
        }
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(10));
    }
}
