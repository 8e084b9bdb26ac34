//! Whether this process may write. META holds the least number a writer must have: a newer program raises it before it
//! writes what an older one would drop; the older one then reads, or stops, but never writes. META also says which
//! store this is, and whether it is complete: a process that was connected while it was restored writes nothing more.
//!
//! META is looked at all the time, and each look lets the process write for [`EPOCH_CHECK_TTL`] at most. A restore waits
//! that long after it has marked the store as incomplete, before it changes anything else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::limits::{EPOCH_CHECK_INTERVAL, EPOCH_CHECK_TTL};
use crate::nats::{Nats, WritesRefused};
use crate::runtime::{Backoff, Clock, Stop};
use crate::storage::error::StorageError;
use crate::storage::layout::stream;
use crate::storage::open::{Config, Identity, OpenError, read_meta};
use crate::storage::records::MetaState;
use crate::storage::store::Inner;

/// The number of this program as a writer. Raised with each change of the stored records after which a
/// program before it would lose something by writing.
pub(crate) const WRITER: u32 = 1;

/// Opens the store; where processes share it, writes need an epoch check from then on.
pub(crate) async fn open(
    nats: &Nats,
    clock: &Clock,
    config: &Config,
) -> Result<Identity, OpenError> {
    let since = nats.moment();
    let identity = Box::pin(super::open(nats, clock, config)).await?;
    if !config.embedded {
        nats.epoch_checked(since, EPOCH_CHECK_TTL);
    }
    Ok(identity)
}

impl Inner {
    /// Asks META whether this program may write to the store, and this process to the one that it has opened. Once it
    /// may not, it never writes again.
    pub(crate) async fn may_write(&self) -> Result<bool, StorageError> {
        let since = self.nats.moment();
        let corrupt = StorageError::Corrupt { what: stream::META, source: None };
        let meta = read_meta(&self.nats).await?.0.ok_or(corrupt)?;
        if meta.least_writer > WRITER
            && self.outdated.swap(meta.least_writer, Ordering::SeqCst) == 0
        {
            self.nats.refuse_writes(WritesRefused::Outdated, true);
            log::error!(
                least_writer = meta.least_writer, writer = WRITER;
                "a newer program has taken over this store; this program writes nothing more; update it"
            );
        }
        // Its state is looked at first: a restore changes the epoch when it ends.
        let is_other = meta.state() == MetaState::Partial || meta.epoch != self.identity.epoch;
        if is_other && !self.is_restored.swap(true, Ordering::SeqCst) {
            self.nats.refuse_writes(WritesRefused::Restored, true);
            log::error!(
                is_complete = meta.state() != MetaState::Partial;
                "the store was restored while this process was connected to it; this process writes nothing more and ends, to start anew"
            );
        }
        let may = !self.is_restored() && self.outdated.load(Ordering::SeqCst) == 0;
        if may {
            self.nats.epoch_checked(since, EPOCH_CHECK_TTL);
        }
        Ok(may)
    }

    /// Whether the store that this process has opened was replaced by a restore, or is being replaced.
    pub(crate) fn is_restored(&self) -> bool {
        self.is_restored.load(Ordering::SeqCst)
    }

    /// Looks at META as [`Self::may_write`] does, where processes share the store.
    ///
    /// # Errors
    /// [`StorageError::Restored`]; others when META cannot be read.
    pub(crate) async fn check_epoch(&self) -> Result<(), StorageError> {
        if !self.embedded {
            self.may_write().await?;
        }
        if self.is_restored() { Err(StorageError::Restored) } else { Ok(()) }
    }
}

/// Looks at META until the process stops: in time for writes to go on, at once when the connection is back, and when a
/// write waits.
pub(crate) async fn keep_epoch_checked(store: Arc<Inner>, stop: Stop) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        let connects = store.nats.connects();
        match stop.or(Box::pin(store.check_epoch())).await {
            None | Some(Err(StorageError::Restored)) => return,
            Some(Ok(())) => backoff.reset(),
            Some(Err(error)) => {
                log::debug!(error:err = error; "META cannot be read now");
                stop.or(store.clock.sleep(backoff.delay())).await;
            }
        }
        let due = async {
            let reconnected = async {
                store.nats.connected(connects).await;
            };
            let wanted = store.nats.epoch_check_wanted();
            futures_lite::future::or(reconnected, wanted).await;
        };
        stop.or(store.clock.timeout(EPOCH_CHECK_INTERVAL, due)).await;
        if stop.is_stopped() {
            return;
        }
    }
}
