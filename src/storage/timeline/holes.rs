//! Places of rooms where stored messages seem to be missing. A replica that lags, or a leader that was just elected and
//! still applies what the former one had acknowledged, looks the same for a moment: only what is missing for longer is
//! damage, and it is damage only as long as it is missing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::storage::layout::PageKey;

/// Places that are remembered; the first ones stay.
const PLACES_MAX: usize = 64;

/// A page of a room.
type Place = (String, PageKey);

#[derive(Default)]
pub(crate) struct Holes {
    places: Mutex<BTreeMap<Place, Hole>>,
}

#[derive(Clone, Copy)]
struct Hole {
    since: Instant,
    is_damage: bool,
}

/// What a look at a place that lacks something has shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It may be there in a moment.
    Suspected,
    /// It has been missing for too long; `first`: nothing else was before.
    Damage { first: bool },
}

impl Holes {
    /// Something is missing at this place.
    pub(crate) fn found(&self, place: Place, now: Instant, limit: Duration) -> Found {
        let mut places = self.places.lock();
        let first = !places.values().any(|hole| hole.is_damage);
        if places.len() >= PLACES_MAX && !places.contains_key(&place) {
            return if first { Found::Suspected } else { Found::Damage { first } };
        }
        let hole = places.entry(place).or_insert(Hole { since: now, is_damage: false });
        hole.is_damage |= now.saturating_duration_since(hole.since) >= limit;
        if hole.is_damage { Found::Damage { first } } else { Found::Suspected }
    }

    /// Nothing is missing at this place; `true`: that was the last damage there was.
    pub(crate) fn filled(&self, room: &str, key: PageKey) -> bool {
        let mut places = self.places.lock();
        if places.is_empty() {
            return false;
        }
        let was = places.remove(&(room.to_owned(), key)).is_some_and(|hole| hole.is_damage);
        was && !places.values().any(|hole| hole.is_damage)
    }

    pub(crate) fn is_damage(&self) -> bool {
        self.places.lock().values().any(|hole| hole.is_damage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Clock;

    #[test]
    fn a_hole_is_damage_only_after_its_time_and_only_as_long_as_it_is_there() {
        let limit = Duration::from_secs(30);
        let (holes, now) = (Holes::default(), Clock::system().now());
        let place = |k| ("room".to_owned(), PageKey::Rows(k));
        assert_eq!(holes.found(place(1), now, limit), Found::Suspected);
        assert_eq!(holes.found(place(1), now + limit / 2, limit), Found::Suspected);
        assert!(!holes.is_damage());
        // Seen well in between: the time begins anew.
        assert!(!holes.filled("room", PageKey::Rows(1)));
        assert_eq!(holes.found(place(1), now + limit, limit), Found::Suspected);
        assert_eq!(holes.found(place(1), now + limit * 2, limit), Found::Damage { first: true });
        assert!(holes.is_damage());
        assert_eq!(
            holes.found(place(2), now, Duration::ZERO),
            Found::Damage { first: false },
            "one copy cannot lag"
        );
        assert!(!holes.filled("room", PageKey::Rows(3)), "another place says nothing");
        assert!(!holes.filled("room", PageKey::Rows(2)));
        assert!(holes.filled("room", PageKey::Rows(1)));
        assert!(!holes.is_damage());
    }

    #[test]
    fn the_number_of_places_is_bounded() {
        let (holes, now) = (Holes::default(), Clock::system().now());
        for k in 0..1_000 {
            holes.found(("room".to_owned(), PageKey::Rows(k)), now, Duration::MAX);
        }
        assert_eq!(holes.places.lock().len(), PLACES_MAX);
    }
}
