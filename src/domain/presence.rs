//! Who is here, and how far somebody has read.

use super::EventId;

/// A user's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    Online,
    /// Here, but not looking.
    Away,
    DoNotDisturb,
    /// Not here: nothing was received for 60 s.
    #[default]
    Offline,
}

/// What the sessions of a user say. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserPresence {
    /// Chosen by hand: away or not to be disturbed.
    pub manual: Option<Presence>,
    /// Of each session the newest, in the order of their last refresh.
    pub sessions: Vec<SessionPresence>,
    /// The end of the newest refresh.
    pub manual_until_ms: i64,
}

/// What one session says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionPresence {
    pub session: [u8; 16],
    pub status: Presence,
    pub until_ms: i64,
}

/// How far somebody has read in a room or a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMarker {
    /// The row, or the number of the reply.
    pub row: u32,
    pub row_id: Option<EventId>,
    /// Its time, milliseconds since 1970.
    pub row_ms: i64,
}
