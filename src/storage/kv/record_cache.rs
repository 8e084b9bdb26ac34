//! Small records as last read from the store, in memory: bounded in number, of limited age, and never older
//! than a change that this process has received. It knows neither the store nor locks; its owner has both.

use std::hash::Hash;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::storage::capacity;

/// The records that were used last. `V` is what the store answered, so it may say that there is none.
pub(crate) struct RecordCache<K: Hash + Eq, V> {
    records: LruCache<K, Known<V>>,
    /// Counts the changes of what the store has.
    changes: u64,
}

struct Known<V> {
    value: V,
    read_at: Instant,
    /// How long it counts; `None`: no other process writes.
    until: Option<Instant>,
}

/// A read of the store that is under way: which changes it had seen when it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    changes: u64,
    began: Instant,
}

impl<K: Hash + Eq, V> RecordCache<K, V> {
    /// Room for so many records; the least recently used one is evicted.
    pub(crate) fn new(max: usize) -> Self {
        Self { records: LruCache::new(capacity(max)), changes: 0 }
    }

    /// What is known of a record, unless it is too old.
    pub(crate) fn get(&mut self, key: &K, now: Instant) -> Option<&V> {
        let known = self.records.get(key)?;
        known.until.is_none_or(|until| now < until).then_some(&known.value)
    }

    /// What was known of a record for at most `age`, although changes may have been missed since; for when the store
    /// cannot be asked.
    pub(crate) fn last_known(&self, key: &K, now: Instant, age: Duration) -> Option<&V> {
        let known = self.records.peek(key)?;
        (now.saturating_duration_since(known.read_at) < age).then_some(&known.value)
    }

    /// Called before the store is read; [`Self::keep`] takes it with the result.
    pub(crate) fn begin_reading(&self, now: Instant) -> Reading {
        Reading { changes: self.changes, began: now }
    }

    /// Keeps what the store answered, unless something changed since the read began: the answer may be from
    /// before. `until`: how long it counts; `None`: no other process writes.
    pub(crate) fn keep(&mut self, reading: Reading, key: K, value: V, until: Option<Instant>) {
        if reading.changes == self.changes {
            self.records.put(key, Known { value, read_at: reading.began, until });
        }
    }

    /// Takes what this process has just stored.
    pub(crate) fn stored(&mut self, key: K, value: V, (now, until): (Instant, Option<Instant>)) {
        self.changes += 1;
        self.records.put(key, Known { value, read_at: now, until });
    }

    /// A record was changed or removed.
    pub(crate) fn invalidate(&mut self, key: &K) {
        self.changes += 1;
        self.records.pop(key);
    }

    /// A change by this process failed, and may yet have been stored: what is known may be old, and is only
    /// [`Self::last_known`].
    pub(crate) fn doubt(&mut self, key: &K) {
        self.changes += 1;
        if let Some(known) = self.records.peek_mut(key) {
            known.until = Some(known.read_at);
        }
    }

    /// Changes may have been missed: whatever is known may be old, and is only [`Self::last_known`].
    pub(crate) fn invalidate_all(&mut self) {
        self.changes += 1;
        for (_, known) in &mut self.records {
            known.until = Some(known.read_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Clock;

    const TTL: Duration = Duration::from_secs(30);

    fn cache() -> (RecordCache<&'static str, u32>, Instant) {
        (RecordCache::new(2), Clock::system().now())
    }

    #[test]
    fn what_was_read_is_known_until_it_is_too_old() {
        let (mut cache, now) = cache();
        let reading = cache.begin_reading(now);
        cache.keep(reading, "a", 1, Some(now + TTL));
        cache.keep(reading, "b", 2, None);
        assert_eq!(cache.get(&"a", now + TTL - Duration::from_millis(1)), Some(&1));
        assert_eq!(cache.get(&"a", now + TTL), None);
        assert_eq!(cache.get(&"b", now + TTL * 1_000), Some(&2));
    }

    #[test]
    fn what_was_read_before_a_removal_is_not_kept_after_it() {
        let (mut cache, now) = cache();
        let reading = cache.begin_reading(now);
        cache.invalidate(&"a");
        cache.keep(reading, "a", 1, Some(now + TTL));
        assert_eq!(cache.get(&"a", now), None);

        // A read that begins now sees the removal, or what came after it.
        let reading = cache.begin_reading(now);
        cache.keep(reading, "a", 2, Some(now + TTL));
        assert_eq!(cache.get(&"a", now), Some(&2));
    }

    #[test]
    fn what_was_read_before_changes_were_missed_is_not_kept() {
        let (mut cache, now) = cache();
        let reading = cache.begin_reading(now);
        cache.keep(reading, "a", 1, Some(now + TTL));
        cache.invalidate_all();
        cache.keep(reading, "b", 2, Some(now + TTL));
        assert_eq!(cache.get(&"a", now), None);
        assert_eq!(cache.get(&"b", now), None);
    }

    #[test]
    fn what_may_be_old_is_the_last_known_until_a_change_is_received() {
        let hour = Duration::from_secs(3_600);
        let (mut cache, now) = cache();
        let reading = cache.begin_reading(now);
        cache.keep(reading, "a", 1, Some(now + TTL));
        cache.invalidate_all();
        assert_eq!(cache.last_known(&"a", now + hour - TTL, hour), Some(&1));
        assert_eq!(cache.last_known(&"a", now + hour, hour), None);
        cache.invalidate(&"a");
        assert_eq!(cache.last_known(&"a", now, hour), None);
    }

    #[test]
    fn what_was_read_before_a_write_does_not_replace_it() {
        let (mut cache, now) = cache();
        let reading = cache.begin_reading(now);
        cache.stored("a", 2, (now, Some(now + TTL)));
        cache.keep(reading, "a", 1, Some(now + TTL));
        assert_eq!(cache.get(&"a", now), Some(&2));
    }

    #[test]
    fn the_record_not_used_for_longest_makes_place() {
        let (mut cache, now) = cache();
        let reading = cache.begin_reading(now);
        cache.keep(reading, "a", 1, None);
        cache.keep(reading, "b", 2, None);
        assert_eq!(cache.get(&"a", now), Some(&1));
        cache.keep(reading, "c", 3, None);
        assert_eq!(cache.get(&"a", now), Some(&1));
        assert_eq!(cache.get(&"b", now), None);
        assert_eq!(cache.get(&"c", now), Some(&3));
    }
}
