//! Updates that go to many sockets (presence, typing): at most one of each kind for each user and second. The
//! first is published at once; of those that follow in the same second the newest is published at its end.

use std::collections::HashMap;
use std::time::Instant;

use event_listener::Event;
use parking_lot::{Mutex, MutexGuard};

use super::presence::{Presences, join};
use super::typing::Typing;
use crate::domain::UserId;
use crate::limits::EPHEMERAL_INTERVAL;
use crate::runtime::{Clock, Stop};

/// Joins the updates of one kind that a user makes within a second.
pub(super) struct Coalescer<T> {
    users: Mutex<HashMap<UserId, Pending<T>>>,
    added: Event,
}

struct Pending<T> {
    /// When the next one may be published.
    next: Instant,
    waiting: Option<T>,
}

impl<T> Default for Coalescer<T> {
    fn default() -> Self {
        Self { users: Mutex::default(), added: Event::new() }
    }
}

impl<T> Coalescer<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Pending<T>>> {
        self.users.lock()
    }

    /// Returns the update if it is to be published now; otherwise it waits, joined with the one that waits already.
    pub(super) fn offer(
        &self,
        user: UserId,
        now: Instant,
        update: T,
        join: impl FnOnce(T, T) -> T,
    ) -> Option<T> {
        let mut users = self.lock();
        let free = Pending { next: now, waiting: None };
        let present = users.entry(user).or_insert(free);
        if present.waiting.is_none() && present.next <= now {
            present.next = now + EPHEMERAL_INTERVAL;
            return Some(update);
        }
        present.waiting = Some(match present.waiting.take() {
            Some(older) => join(older, update),
            None => update,
        });
        drop(users);
        self.added.notify(usize::MAX);
        None
    }

    /// An update that could not be published waits for the next second; one offered meanwhile is newer.
    fn put_back(&self, user: UserId, now: Instant, update: T, join: impl FnOnce(T, T) -> T) {
        let mut users = self.lock();
        let next = now + EPHEMERAL_INTERVAL;
        let present = users.entry(user).or_insert(Pending { next, waiting: None });
        present.waiting = Some(match present.waiting.take() {
            Some(newer) => join(update, newer),
            None => update,
        });
    }

    /// Takes the updates due at `now`, and returns when the next one is due.
    fn take_due(&self, now: Instant) -> (Vec<(UserId, T)>, Option<Instant>) {
        let mut due = Vec::new();
        let mut users = self.lock();
        users.retain(|user, update| {
            if update.next > now {
                return true;
            }
            let Some(waiting) = update.waiting.take() else { return false };
            due.push((*user, waiting));
            update.next = now + EPHEMERAL_INTERVAL;
            true
        });
        let waiting = users.values().filter(|update| update.waiting.is_some());
        let next = waiting.map(|update| update.next).min();
        (due, next)
    }
}

/// The updates of users that wait for the end of their second.
#[derive(Clone, Copy)]
pub struct PendingUpdates<'a> {
    pub(super) clock: &'a Clock,
    pub(super) presences: Presences<'a>,
    pub(super) typing: Typing<'a>,
}

impl PendingUpdates<'_> {
    /// Publishes the updates that wait when their second is over, until `stop`; then all that still wait.
    pub async fn publish(self, stop: &Stop) {
        let (presence, typing) = (self.presences.pending, self.typing.pending);
        loop {
            let given = futures_lite::future::or(presence.added.listen(), typing.added.listen());
            let is_last = stop.is_stopped();
            let now = self.clock.now();
            let until = if is_last { now + EPHEMERAL_INTERVAL } else { now };
            let (presences, next_presence) = presence.take_due(until);
            let (coalescer, next_sign) = typing.take_due(until);
            for (user, (room, thread)) in coalescer {
                self.typing.publish_pending(user, room, thread).await;
            }
            let mut presences = presences.into_iter();
            for (user, updates) in presences.by_ref() {
                if let Err(error) = self.presences.store(&user, &updates).await {
                    log::debug!(error:err = error; "cannot publish a presence now");
                    presence.put_back(user, now, updates, join);
                    break;
                }
            }
            // The store does not answer: do not wait for it once more for each of the others.
            for (user, updates) in presences {
                presence.put_back(user, now, updates, join);
            }
            if is_last {
                return;
            }
            let next = [next_presence, next_sign, self.next_put_back(now)];
            match next.into_iter().flatten().min() {
                Some(next) => {
                    let wait = self.clock.sleep(next.saturating_duration_since(now));
                    stop.or(futures_lite::future::or(given, wait)).await;
                }
                None => {
                    stop.or(given).await;
                }
            }
        }
    }

    /// When presences that were put back are tried again.
    fn next_put_back(&self, now: Instant) -> Option<Instant> {
        let users = self.presences.pending.lock();
        let waits = users.values().any(|update| update.waiting.is_some());
        waits.then(|| now + EPHEMERAL_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(_older: u8, newer: u8) -> u8 {
        newer
    }

    #[test]
    fn the_first_goes_out_at_once_and_the_newest_at_the_end_of_the_second() {
        let coalescer = Coalescer::default();
        let [ada, bob] = [1, 2].map(UserId::from_number);
        let start = Clock::system().now();
        assert_eq!(coalescer.offer(ada, start, 1, newest), Some(1));
        assert_eq!(coalescer.offer(ada, start, 2, newest), None);
        assert_eq!(coalescer.offer(bob, start, 7, newest), Some(7), "another user's");
        assert_eq!(coalescer.offer(ada, start, 3, newest), None);
        let end = start + EPHEMERAL_INTERVAL;
        assert_eq!(coalescer.take_due(start), (vec![], Some(end)));
        // Late: the waiting update goes first, so that nothing older follows something newer.
        assert_eq!(coalescer.offer(ada, end, 4, newest), None);
        assert_eq!(coalescer.take_due(end), (vec![(ada, 4)], None));
        assert_eq!(coalescer.offer(ada, end, 5, newest), None, "a second for each");
        coalescer.put_back(ada, end, 4, newest);
        assert_eq!(coalescer.take_due(end + EPHEMERAL_INTERVAL), (vec![(ada, 5)], None));
        assert_eq!(coalescer.take_due(end + EPHEMERAL_INTERVAL * 2), (vec![], None));
        assert!(coalescer.lock().is_empty());
    }
}
