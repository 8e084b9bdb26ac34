//! Memory slots: work that needs tens of megabytes acquires one first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smol::lock::{Semaphore, SemaphoreGuardArc};

/// A small number of slots with a bounded queue.
#[derive(Clone)]
pub struct MemorySlots {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue_max: usize,
}

/// Holds a slot until dropped.
pub struct SlotGuard {
    _permit: SemaphoreGuardArc,
}

/// All slots are in use and the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests for this work are already waiting")]
pub struct SlotsBusy;

impl MemorySlots {
    /// `slots` at a time and `queue_max` waiting callers; further callers are refused.
    #[must_use]
    pub fn new(slots: usize, queue_max: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(slots)), waiting: Arc::default(), queue_max }
    }

    /// Acquires a slot, waiting in the queue if none is free.
    ///
    /// # Errors
    /// [`SlotsBusy`] when the queue is full.
    pub async fn take(&self) -> Result<SlotGuard, SlotsBusy> {
        if let Some(permit) = self.permits.try_acquire_arc() {
            return Ok(SlotGuard { _permit: permit });
        }
        let ticket = QueueTicket::enter(&self.waiting, self.queue_max)?;
        let permit = self.permits.acquire_arc().await;
        drop(ticket);
        Ok(SlotGuard { _permit: permit })
    }

    /// Takes a slot, if another one is free besides. It does not wait.
    #[must_use]
    pub fn take_spare(&self) -> Option<SlotGuard> {
        let permit = self.permits.try_acquire_arc()?;
        let _other = self.permits.try_acquire_arc()?;
        Some(SlotGuard { _permit: permit })
    }
}

struct QueueTicket<'a>(&'a AtomicUsize);

impl<'a> QueueTicket<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Result<Self, SlotsBusy> {
        let ticket = Self(count);
        if count.fetch_add(1, Ordering::SeqCst) >= max {
            drop(ticket);
            return Err(SlotsBusy);
        }
        Ok(ticket)
    }
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
