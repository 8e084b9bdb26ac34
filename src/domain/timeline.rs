//! Timelines of rooms: their rows, and the events from which rows are made.

use bytes::Bytes;

use super::{AssetId, EventId, UserId};

/// A row of a room, or a reply in a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The number of a row in its room, from 0; of a reply in its thread, from 1.
    pub number: u32,
    pub id: EventId,
    /// Milliseconds since 1970; never decreases along a timeline.
    pub at_ms: i64,
    /// Who caused it; `None`: the server itself.
    pub actor: Option<UserId>,
    pub kind: RowKind,
}

/// What a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all rows are messages")]
pub enum RowKind {
    Message(Message),
    /// Shows a reply in the timeline of the room.
    Echo(Echo),
    Fact(Fact),
    /// A kind that this program does not know.
    Unknown,
}

/// A message as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// `None` once it is deleted.
    pub content: Option<Content>,
    pub in_reply_to: Option<EventId>,
    /// When it was last edited, milliseconds since 1970.
    pub updated_ms: Option<i64>,
    /// When it was deleted, milliseconds since 1970.
    pub deleted_ms: Option<i64>,
    /// In order of first use.
    pub reactions: Vec<Reaction>,
    /// The thread of a root message that has one.
    pub thread: Option<Thread>,
    /// The row that shows a reply in the room, while there is one.
    pub echo: Option<EventId>,
    /// The request that posted it; empty: not known.
    pub request_key: String,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// `None`: no text was given.
    pub body: Option<Sealed>,
    pub attachments: Vec<AssetId>,
}

/// A text sealed with a data key of its author. Only `storage` looks into it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sealed {
    /// 16 hexadecimal digits.
    pub key_id: String,
    pub nonce: Bytes,
    pub ciphertext: Bytes,
    /// Of the associated data and the cipher.
    pub version: u32,
}

/// Who has reacted with an emoji.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    pub emoji: String,
    /// The users' numbers ([`UserId::number`]), in order: a page may have many thousands.
    pub users: Vec<u64>,
}

/// The replies of a root message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Thread {
    /// Replies that are not deleted.
    pub count: u32,
    /// Replies ever made: the next one gets the number after it.
    pub made: u32,
    /// The time of the last reply, milliseconds since 1970; 0: there was none.
    pub last_ms: i64,
    /// Authors of replies, in order of their first one.
    pub participants: Vec<UserId>,
}

/// A row that shows a reply in the timeline of the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    pub reply: EventId,
    pub hidden: bool,
    /// When the reply was deleted, milliseconds since 1970.
    pub deleted_ms: Option<i64>,
}

/// What happened where a row is not a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub kind: FactKind,
    /// The call that it is about; empty: none.
    pub call_id: String,
    /// The revision of the membership record that it announces; 0: none.
    pub member_revision: u64,
}

impl Fact {
    /// A fact of its kind alone.
    #[must_use]
    pub fn new(kind: FactKind) -> Self {
        Self { kind, call_id: String::new(), member_revision: 0 }
    }
}

/// What a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactKind {
    RoomCreated,
    Joined,
    Left,
    RoomUpdated,
    RoomArchived,
    RoomUnarchived,
    CallStarted,
    CallEnded,
    /// One that this program does not know, by its stored number.
    Other(i32),
}

/// An event of a room's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number in its room, from 1 without gaps.
    pub number: u64,
    /// The request that it was appended for.
    pub request_id: String,
    /// The STATE revision that a process must reach before it delivers the event.
    pub state_revision: u64,
    /// Milliseconds since 1970. Less than that of the event before only where a clock that was ahead is corrected.
    pub at_ms: i64,
    /// Who caused it; `None`: the server itself.
    pub actor: Option<UserId>,
    /// How many rows the room has with it.
    pub rows_after: u32,
    pub effect: Effect,
}

/// What an event does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Post(Post),
    Edit(Edit),
    Delete(Delete),
    React(React),
    Pin(Pin),
    /// A row that is not a message.
    Fact {
        /// Of the row.
        id: EventId,
        fact: Fact,
    },
}

/// A new message: a root message, or with the id of a reply a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    pub id: EventId,
    pub content: Content,
    pub in_reply_to: Option<EventId>,
    /// Makes a root message the root of a thread at once.
    pub create_thread: bool,
    /// The row that shows a reply in the room too.
    pub echo: Option<EventId>,
    /// The request that posts it, to recognise a repetition; empty: none.
    pub request_key: String,
}

impl Post {
    /// A message and nothing else.
    #[must_use]
    pub fn new(id: EventId, content: Content) -> Self {
        Self {
            id,
            content,
            in_reply_to: None,
            create_thread: false,
            echo: None,
            request_key: String::new(),
        }
    }
}

/// A change of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The message itself, never an echo.
    pub id: EventId,
    /// The whole new content; `None`: unchanged.
    pub content: Option<Content>,
    /// A new echo row.
    pub show_echo: Option<EventId>,
    /// The echo row that disappears.
    pub hide_echo: Option<EventId>,
}

impl Edit {
    /// An edit that changes nothing yet.
    #[must_use]
    pub fn new(id: EventId) -> Self {
        Self { id, content: None, show_echo: None, hide_echo: None }
    }
}

/// A deletion of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The message itself, never an echo.
    pub id: EventId,
    /// Only the echo row disappears.
    pub echo_only: bool,
    /// The visible echo of a reply, if it has one.
    pub echo: Option<EventId>,
}

impl Delete {
    /// The deletion of a message that has no echo.
    #[must_use]
    pub fn new(id: EventId) -> Self {
        Self { id, echo_only: false, echo: None }
    }
}

/// A reaction that is added or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct React {
    pub id: EventId,
    pub emoji: String,
    pub user: UserId,
    pub remove: bool,
}

/// A message that is pinned or unpinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub id: EventId,
    /// Names this change; kept as the newest pin's.
    pub marker: String,
    pub remove: bool,
}
