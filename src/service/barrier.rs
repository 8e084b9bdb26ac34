//! The read barrier as calls meet it, and the one decision about its failure.

use std::time::Duration;

use crate::limits::BARRIER_DEADLINE;
use crate::runtime::{Backoff, Clock};
use crate::storage::{Storage, StorageError};

/// What a call does to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// Nothing: it may be answered from what this process knows.
    Read,
    /// Something: it must see everything acknowledged before it.
    Write,
}

/// The read barrier.
#[derive(Clone, Copy)]
pub struct ReadBarrier<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
}

impl ReadBarrier<'_> {
    /// Waits until this process has seen everything acknowledged before the call, with external NATS. Without
    /// an answer of the leaders authentication and reads go on with what is known; what changes something
    /// tries again for [`BARRIER_DEADLINE`], longer than an election, and then fails: decided by an old
    /// mirror it could undo what was acknowledged. Once it is known that there is no quorum it fails at once. After a
    /// restore of the store nothing goes on.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] for [`CallKind::Write`] only; [`StorageError::Restored`].
    pub async fn pass(self, kind: CallKind) -> Result<(), StorageError> {
        match kind {
            // Each attempt would last for seconds, and fail.
            CallKind::Read if self.storage.has_lost_quorum() => Ok(()),
            CallKind::Read => match self.storage.barrier().await {
                Err(error @ StorageError::Restored) => Err(error),
                _ => Ok(()),
            },
            CallKind::Write => {
                let lost = async {
                    self.storage.quorum_lost().await;
                    Err(StorageError::Unavailable { source: None })
                };
                futures_lite::future::or(lost, self.retry()).await
            }
        }
    }

    /// The barrier of a read; whether it was passed.
    pub async fn try_pass(self) -> bool {
        self.storage.barrier().await.is_ok()
    }

    async fn retry(&self) -> Result<(), StorageError> {
        let clock = self.clock;
        let deadline = clock.now() + BARRIER_DEADLINE;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            match self.storage.barrier().await {
                Ok(()) => return Ok(()),
                Err(error @ StorageError::Restored) => return Err(error),
                Err(error) if clock.now() >= deadline => return Err(error),
                Err(_) => clock.sleep(backoff.delay()).await,
            }
        }
    }
}
