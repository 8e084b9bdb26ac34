//! Work that blocks a thread: files, hashing, compression.

use smol::lock::Semaphore;

use crate::limits::BLOCKING_TASKS_MAX;

static PERMITS: Semaphore = Semaphore::new(BLOCKING_TASKS_MAX);

/// Runs `work` on the thread pool for blocking calls, at most [`BLOCKING_TASKS_MAX`] at a time;
/// further callers wait.
///
/// # Cancel safety
/// Dropping the future before the work has started cancels the work; afterwards it runs to its end.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _permit = PERMITS.acquire().await;
    #[expect(clippy::disallowed_methods, reason = "this is the counted way to it")]
    smol::unblock(work).await
}
