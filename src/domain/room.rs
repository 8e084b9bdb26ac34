//! Rooms, who is in them, and the groups that order them.

use super::{GroupId, RoomId, UserId};

/// A room. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub id: RoomId,
    pub kind: RoomKind,
    /// The name as typed.
    pub name: String,
    pub description: String,
    /// `None` for direct messages.
    pub group: Option<GroupId>,
    /// Everybody who may join is a member.
    pub universal: bool,
    /// Nothing can be posted any more.
    pub archived: bool,
    /// Time between two posts of a member; 0: no limit.
    pub slow_mode_seconds: u32,
    pub created_ms: i64,
    /// `None`: a default room.
    pub creator: Option<UserId>,
    /// Of a direct message; they never change.
    pub participants: Vec<UserId>,
    /// Its `room_created` row is stored.
    pub announced: bool,
    /// Of a direct message: a first root message was posted.
    pub has_history: bool,
}

/// What a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomKind {
    /// In a group, with members who join and leave.
    Channel,
    /// Between fixed participants.
    Direct,
}

/// That somebody is, or was, explicitly in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub room: RoomId,
    pub user: UserId,
    /// When it last began or ended.
    pub since_ms: i64,
    /// The join row (or, with `left`, the leave row) is stored.
    pub announced: bool,
    /// It has ended; the record is kept until that is announced.
    pub left: bool,
    /// Newest root row at joining + 1; 0: there was none. Older rows are not unread.
    pub joined_row: u64,
    pub joined_row_ms: i64,
}

/// An ordered set of channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    /// The name as typed.
    pub name: String,
    pub description: String,
    /// Ascending order of groups.
    pub position: i32,
    /// What it shows, in order; rooms missing here follow by creation.
    pub items: Vec<GroupItem>,
    pub created_ms: i64,
}

/// Something a group shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupItem {
    Room(RoomId),
    /// Something else, by its id.
    Other(String),
}

impl Room {
    /// A channel of which only the id is known.
    #[must_use]
    pub fn new(id: RoomId) -> Self {
        Self {
            id,
            kind: RoomKind::Channel,
            name: String::new(),
            description: String::new(),
            group: None,
            universal: false,
            archived: false,
            slow_mode_seconds: 0,
            created_ms: 0,
            creator: None,
            participants: Vec::new(),
            announced: false,
            has_history: false,
        }
    }
}

impl Membership {
    /// A membership that is not announced yet.
    #[must_use]
    pub fn new(room: RoomId, user: UserId) -> Self {
        Self {
            room,
            user,
            since_ms: 0,
            announced: false,
            left: false,
            joined_row: 0,
            joined_row_ms: 0,
        }
    }
}

impl Group {
    /// A group of which only the id is known.
    #[must_use]
    pub fn new(id: GroupId) -> Self {
        Self {
            id,
            name: String::new(),
            description: String::new(),
            position: 0,
            items: Vec::new(),
            created_ms: 0,
        }
    }
}
