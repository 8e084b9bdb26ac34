//! The adapter for libraries that need tokio (async-nats, the S3 client).
//!
//! tokio's reactor runs on one thread of its own; futures polled through [`on_tokio`] find it.

use std::future::Future;

use async_compat::Compat;

/// Polls `work` inside tokio's context. Acknowledgement futures need it too: outside of it they
/// panic with "no reactor running".
pub fn on_tokio<F: Future>(work: F) -> Compat<F> {
    Compat::new(work)
}

/// Runs a bulk loop as one task on tokio's own thread; feed it through bounded channels.
///
/// The task ends when `work` ends; give it a channel whose other end is dropped to stop it.
pub async fn spawn_tokio<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    on_tokio(async { tokio::spawn(work).await.ok() }).await
}
