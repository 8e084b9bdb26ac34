//! Held rooms. Rooms are folded independently: one whose next event cannot be folded stops neither the fold, nor the
//! checkpoint, nor the start for the others.

use std::time::{Duration, Instant};

use crate::storage::encoding::DecodeError;

/// Held rooms that the checkpoint can name; one more stops it.
pub(crate) const HELD_ROOMS_MAX: usize = 64;
/// How long until a held room is tried again: a fault that ended needs no restart.
pub(crate) const HELD_RETRY: Duration = Duration::from_secs(30);

/// Why a room is held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldReason {
    /// An event that a newer program wrote, or a damaged one.
    #[error("the event at journal sequence {sequence} cannot be read")]
    Event {
        sequence: u64,
        #[source]
        source: DecodeError,
    },
    /// The event that follows the head page is not in the journal.
    #[error("event {number} is missing in the journal")]
    Missing {
        /// Its number in the room.
        number: u64,
    },
    /// A stored page of this room is damaged, or a newer program wrote it.
    #[error("a stored page cannot be read or changed")]
    Page {
        /// Why, if its bytes say so.
        #[source]
        source: Option<DecodeError>,
    },
    /// More unfolded events than a start keeps in memory.
    #[error("the unfolded events do not fit into memory")]
    TooMany,
}

/// A held room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) reason: HoldReason,
    /// When it was last held or tried again without success.
    pub(crate) tried: Instant,
    /// The journal sequence from which on nothing of the room is kept in memory: that event cannot be
    /// applied, so those after it cannot either.
    pub(crate) blocked_at: Option<u64>,
}

/// A held room, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomHold {
    /// Its id.
    pub room: String,
    pub reason: HoldReason,
}
