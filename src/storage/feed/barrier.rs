//! The read barrier: with several processes, a call sees everything acknowledged before it began.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::NATS_REQUEST_TIMEOUT;
use crate::storage::error::StorageError;
use crate::storage::layout::stream;
use crate::storage::store::Inner;

/// One attempt is in flight at a time; all calls that wait meanwhile share the next one's success, and
/// the present one's failure.
#[derive(Default)]
pub(crate) struct Barrier {
    arrived: AtomicU64,
    served: smol::lock::Mutex<Served>,
}

/// The last call that the attempts so far have served, by the order of arrival.
#[derive(Default)]
struct Served {
    passed: u64,
    failed: u64,
}

impl Barrier {
    /// Waits until the mirror and the feed have reached what the leaders had when this was called.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when a leader does not respond within [`NATS_REQUEST_TIMEOUT`], or this
    /// process does not reach the position that it named in that time; [`StorageError::Restored`].
    pub(crate) async fn pass(&self, store: &Inner) -> Result<(), StorageError> {
        let limit = NATS_REQUEST_TIMEOUT;
        let passed = self
            .share(async || {
                let reached = store.clock.timeout(limit, Box::pin(reach(store))).await;
                reached.unwrap_or(Err(StorageError::LATE))
            })
            .await;
        if store.is_restored() { Err(StorageError::Restored) } else { passed }
    }

    async fn share(
        &self,
        attempt: impl AsyncFnOnce() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let ticket = self.arrived.fetch_add(1, Ordering::SeqCst) + 1;
        let mut served = self.served.lock().await;
        if served.passed >= ticket {
            return Ok(());
        }
        if served.failed >= ticket {
            return Err(StorageError::LATE);
        }
        // A success covers who came before the attempt began; a failure whoever waits now, because another
        // attempt each would let them wait one after the other.
        let covers = self.arrived.load(Ordering::SeqCst);
        let outcome = attempt().await;
        match &outcome {
            Ok(()) => served.passed = covers,
            Err(error) => {
                log::debug!(error:err = *error; "the read barrier cannot be passed now");
                served.failed = self.arrived.load(Ordering::SeqCst);
            }
        }
        outcome
    }
}

async fn reach(store: &Inner) -> Result<(), StorageError> {
    let ends = futures_lite::future::zip(
        store.nats.leader_newest(stream::STATE, "$KV.STATE.>"),
        store.nats.leader_newest(stream::JOURNAL, "journal.*"),
    );
    let ((state, journal), epoch) = futures_lite::future::zip(ends, store.check_epoch()).await;
    epoch?;
    let limit = NATS_REQUEST_TIMEOUT;
    if let Some(last) = state? {
        store.state_position.wait_for(last.sequence, limit, &store.clock).await?;
    }
    if let Some(last) = journal? {
        store.journal_position.wait_for(last.sequence, limit, &store.clock).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use event_listener::Event;
    use futures_lite::future::{poll_once, zip};

    use super::*;

    /// An attempt that waits to be ended; counts how many began.
    async fn attempt(begun: &Cell<u32>, end: &Event, works: bool) -> Result<(), StorageError> {
        begun.set(begun.get() + 1);
        end.listen().await;
        if works { Ok(()) } else { Err(StorageError::LATE) }
    }

    #[test]
    fn one_failed_attempt_serves_all_who_wait() {
        smol::block_on(async {
            let (barrier, begun, end) = (Barrier::default(), Cell::new(0), Event::new());
            let call = || barrier.share(async || attempt(&begun, &end, false).await);
            let (mut first, mut second) = (Box::pin(call()), Box::pin(call()));
            let mut third = Box::pin(call());
            assert!(poll_once(&mut first).await.is_none());
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none());
            end.notify(usize::MAX);
            assert!(first.await.is_err());
            for waiting in [&mut second, &mut third] {
                let outcome = poll_once(waiting).await;
                assert!(outcome.is_some_and(|outcome| outcome.is_err()), "it waits for its own");
            }
            assert_eq!(begun.get(), 1, "nobody makes an attempt of its own");
            // A later call begins its own attempt.
            assert!(poll_once(&mut Box::pin(call())).await.is_none());
            assert_eq!(begun.get(), 2);
        });
    }

    #[test]
    fn a_success_serves_only_who_came_before_its_attempt() {
        smol::block_on(async {
            let (barrier, begun, end) = (Barrier::default(), Cell::new(0), Event::new());
            let call = || barrier.share(async || attempt(&begun, &end, true).await);
            let (mut first, mut second) = (Box::pin(call()), Box::pin(call()));
            let mut third = Box::pin(call());
            for waiting in [&mut first, &mut second, &mut third] {
                assert!(poll_once(waiting).await.is_none());
            }
            end.notify(usize::MAX);
            first.await.unwrap();
            assert!(poll_once(&mut second).await.is_none(), "it came during the attempt");
            assert_eq!(begun.get(), 2);
            end.notify(usize::MAX);
            let (second, third) = zip(second, third).await;
            assert!(second.is_ok() && third.is_ok());
            assert_eq!(begun.get(), 2, "both share the next");
        });
    }
}
