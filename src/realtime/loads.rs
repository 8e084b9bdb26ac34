//! Slots for loads: how many snapshots and replays are assembled at a time. A user has at most one slot, an address
//! at most half of them, and a load may hold slots only for a limited time in all.
//!
//! A load holds its slot only while it is assembled. It releases the slot while a frame is sent, however slowly the
//! client reads it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_listener::Event;
use parking_lot::{Mutex, MutexGuard};

use crate::domain::{ClientNetwork, Shares, UserId};
use crate::runtime::Clock;

/// The load slots of a process. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct LoadSlots {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    slots: usize,
    queue_max: usize,
    table: Mutex<SlotTable>,
}

#[derive(Debug, Default)]
struct SlotTable {
    last_number: u64,
    held: Vec<(u64, Loader)>,
    pending: VecDeque<PendingLoad>,
}

/// The user and address that a load counts for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loader {
    pub(super) user: UserId,
    /// `None`: unknown, and not limited.
    pub(super) address: Option<IpAddr>,
}

#[derive(Debug)]
struct PendingLoad {
    number: u64,
    phase: LoadPhase,
    loader: Loader,
    granted: Arc<Event>,
}

/// Too many loads are waiting already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull;

/// Whether a load begins or continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadPhase {
    /// It waits behind all others.
    Begin,
    /// It has held a slot before, and goes ahead of those that have not.
    Continue,
}

impl LoadSlots {
    /// At most `slots` at a time, and at most `queue_max` loads waiting for their first slot.
    pub(super) fn new(slots: usize, queue_max: usize) -> Self {
        let table = Mutex::default();
        Self { inner: Arc::new(Inner { slots, queue_max, table }) }
    }

    /// Waits in the queue for a slot.
    ///
    /// # Errors
    /// [`QueueFull`], only for a load that begins.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    async fn take(&self, loader: Loader, phase: LoadPhase) -> Result<Slot, QueueFull> {
        let granted = Arc::new(Event::new());
        let slot = self.enqueue(loader, phase, &granted)?;
        loop {
            let notified = granted.listen();
            if slot.is_held() {
                return Ok(slot);
            }
            notified.await;
        }
    }

    fn enqueue(
        &self,
        loader: Loader,
        phase: LoadPhase,
        granted: &Arc<Event>,
    ) -> Result<Slot, QueueFull> {
        let mut table = self.inner.lock();
        if phase == LoadPhase::Begin && table.pending.len() >= self.inner.queue_max {
            return Err(QueueFull);
        }
        table.last_number = table.last_number.wrapping_add(1);
        let number = table.last_number;
        let pending = PendingLoad { number, phase, loader, granted: Arc::clone(granted) };
        match phase {
            LoadPhase::Begin => table.pending.push_back(pending),
            LoadPhase::Continue => {
                let first = table.pending.iter().position(|one| one.phase == LoadPhase::Begin);
                let behind_others = first.unwrap_or(table.pending.len());
                table.pending.insert(behind_others, pending);
            }
        }
        table.grant(self.inner.slots);
        Ok(Slot { inner: Arc::clone(&self.inner), number })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, SlotTable> {
        self.table.lock()
    }
}

impl SlotTable {
    /// Grants free slots to the first pending loads that may have one.
    fn grant(&mut self, slots: usize) {
        while self.held.len() < slots {
            let mut pending = self.pending.iter();
            let Some(at) = pending.position(|one| self.may_hold(&one.loader, slots)) else {
                return;
            };
            let Some(first) = self.pending.remove(at) else { return };
            self.held.push((first.number, first.loader));
            first.granted.notify(usize::MAX);
        }
    }

    fn may_hold(&self, loader: &Loader, slots: usize) -> bool {
        let mut held = self.held.iter().map(|(_, held)| held);
        if held.clone().any(|held| held.user == loader.user) {
            return false;
        }
        let Some(network) = loader.address.map(ClientNetwork::from) else { return true };
        let same = |held: &&Loader| held.address.map(ClientNetwork::from) == Some(network);
        held.by_ref().filter(same).count() < Shares::<ClientNetwork>::share_of(slots)
    }
}

/// A granted or a pending slot. Dropping it frees the slot or leaves the queue.
#[derive(Debug)]
struct Slot {
    inner: Arc<Inner>,
    number: u64,
}

impl Slot {
    fn is_held(&self) -> bool {
        self.inner.lock().held.iter().any(|(number, _)| *number == self.number)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.inner.lock();
        table.held.retain(|(number, _)| *number != self.number);
        table.pending.retain(|one| one.number != self.number);
        table.grant(self.inner.slots);
    }
}

/// The load of one client: its slot, and for how long it has held slots in all.
#[derive(Debug)]
pub(super) struct Load {
    slots: LoadSlots,
    loader: Loader,
    clock: Clock,
    limit: Duration,
    state: Mutex<LoadState>,
    changed: Event,
}

#[derive(Debug, Default)]
struct LoadState {
    slot: Option<(Slot, Instant)>,
    used_before: Duration,
}

impl Load {
    /// A load that may hold slots for `limit` in all.
    pub(super) fn new(slots: LoadSlots, loader: Loader, clock: Clock, limit: Duration) -> Self {
        let state = Mutex::default();
        Self { slots, loader, clock, limit, state, changed: Event::new() }
    }

    fn lock(&self) -> MutexGuard<'_, LoadState> {
        self.state.lock()
    }

    /// Waits for a slot and keeps it until [`Self::release_slot`].
    ///
    /// # Errors
    /// [`QueueFull`], only for [`LoadPhase::Begin`].
    pub(super) async fn acquire_slot(&self, phase: LoadPhase) -> Result<(), QueueFull> {
        let slot = self.slots.take(self.loader, phase).await?;
        self.lock().slot = Some((slot, self.clock.now()));
        self.changed.notify(usize::MAX);
        Ok(())
    }

    /// Releases the slot, so that another load can have it.
    pub(super) fn release_slot(&self) {
        let mut state = self.lock();
        if let Some((slot, since)) = state.slot.take() {
            state.used_before += self.clock.now().saturating_duration_since(since);
            drop(state);
            drop(slot);
            self.changed.notify(usize::MAX);
        }
    }

    /// Waits until the load has held slots for its limit.
    pub(super) async fn time_limit_reached(&self) {
        loop {
            let changed = self.changed.listen();
            let left = {
                let state = self.lock();
                let since = state.slot.as_ref().map(|(_, since)| *since);
                let now = self.clock.now();
                since.map(|since| {
                    let used = state.used_before + now.saturating_duration_since(since);
                    self.limit.saturating_sub(used)
                })
            };
            match left {
                Some(Duration::ZERO) => return,
                Some(left) => {
                    futures_lite::future::or(changed, self.clock.sleep(left)).await;
                }
                None => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    fn loader(user: u64, address: &str) -> Loader {
        Loader { user: UserId::from_number(user), address: Some(address.parse().unwrap()) }
    }

    const A: &str = "192.0.2.1";
    const B: &str = "192.0.2.2";

    #[test]
    fn a_user_has_one_slot_and_an_address_half() {
        block_on(async {
            let slots = LoadSlots::new(4, 8);
            let first = slots.take(loader(1, A), LoadPhase::Begin).await.unwrap();
            let mut same = pin!(slots.take(loader(1, B), LoadPhase::Begin));
            assert!(poll_once(same.as_mut()).await.is_none(), "the same user");
            let _second = slots.take(loader(2, A), LoadPhase::Begin).await.unwrap();
            let mut third = pin!(slots.take(loader(3, A), LoadPhase::Begin));
            assert!(poll_once(third.as_mut()).await.is_none(), "more than half");
            let _other = slots.take(loader(4, B), LoadPhase::Begin).await.unwrap();
            drop(first);
            assert!(poll_once(same.as_mut()).await.is_some());
            assert!(poll_once(third.as_mut()).await.is_some());
        });
    }

    #[test]
    fn whoever_was_let_in_before_comes_first_and_nobody_is_passed_over() {
        block_on(async {
            let slots = LoadSlots::new(1, 2);
            let held = slots.take(loader(1, A), LoadPhase::Begin).await.unwrap();
            let mut abandoned = Box::pin(slots.take(loader(2, A), LoadPhase::Begin));
            assert!(poll_once(abandoned.as_mut()).await.is_none());
            let mut waits = pin!(slots.take(loader(3, A), LoadPhase::Begin));
            assert!(poll_once(waits.as_mut()).await.is_none());
            assert_eq!(slots.take(loader(4, A), LoadPhase::Begin).await.err(), Some(QueueFull));
            let mut resumed = pin!(slots.take(loader(5, A), LoadPhase::Continue));
            assert!(poll_once(resumed.as_mut()).await.is_none());
            drop(held);
            let next = poll_once(resumed.as_mut()).await.unwrap().unwrap();
            assert!(poll_once(abandoned.as_mut()).await.is_none());
            drop(next);
            // It was granted the slot, and is dropped before it was polled again.
            drop(abandoned);
            assert!(poll_once(waits.as_mut()).await.is_some());
            let table = slots.inner.lock();
            assert!(table.pending.is_empty());
        });
    }

    #[test]
    fn the_time_of_all_slots_is_limited_and_a_pause_costs_none() {
        block_on(async {
            let clock = Clock::system();
            let slots = LoadSlots::new(1, 1);
            let limit = Duration::from_secs(30);
            let load = Load::new(slots.clone(), loader(1, A), clock.clone(), limit);
            load.acquire_slot(LoadPhase::Begin).await.unwrap();
            clock.advance_monotonic(Duration::from_secs(20));
            assert!(poll_once(load.time_limit_reached()).await.is_none());
            load.release_slot();
            clock.advance_monotonic(Duration::from_secs(1_000));
            assert!(poll_once(load.time_limit_reached()).await.is_none());
            assert!(
                slots.take(loader(2, A), LoadPhase::Begin).await.is_ok(),
                "another's meanwhile"
            );
            load.acquire_slot(LoadPhase::Continue).await.unwrap();
            clock.advance_monotonic(Duration::from_secs(11));
            assert!(poll_once(load.time_limit_reached()).await.is_some());
        });
    }
}
