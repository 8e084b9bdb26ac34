//! The stop signal: a state, not an event, so no task can miss it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::Event;

/// Tells any number of tasks to stop. Clones share one state; once stopped it stays so.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    stopped: AtomicBool,
    changed: Event,
}

impl Stop {
    /// A signal that has not been sent.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the signal. Repeating it is harmless.
    pub fn stop(&self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        self.inner.changed.notify(usize::MAX);
    }

    /// Whether the signal was sent.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::SeqCst)
    }

    /// Waits until the signal is sent; returns at once if it already was.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn stopped(&self) {
        loop {
            if self.is_stopped() {
                return;
            }
            let listener = self.inner.changed.listen();
            if self.is_stopped() {
                return;
            }
            listener.await;
        }
    }

    /// Runs `work` until it ends or the signal is sent; `None` means stopped, and `work` was dropped.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        futures_lite::future::or(
            async {
                self.stopped().await;
                None
            },
            async { Some(work.await) },
        )
        .await
    }
}
