//! Waiting for a state with a deadline.
#![expect(clippy::disallowed_methods, reason = "tests measure real time and poll")]

use std::time::{Duration, Instant};

/// Polls `condition` until it returns a value; after `limit` it fails the test with `what` in the message.
#[track_caller]
pub(crate) fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(seen) = condition() {
            return seen;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
