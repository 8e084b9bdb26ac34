//! The rules of the chat, independent of storage and transport: ids, text rules, permissions and
//! their resolution, default roles and rooms. Pure: no I/O, no clock, no randomness of its own.
//!
//! Glossary. *Room*: a channel or a direct message. *Group*: an ordered set of channels. *Row*: one
//! entry of a timeline. *Root*: a message of the room timeline; *reply*: a message of a thread.
//! *Member*: somebody who is in a room explicitly, or by rule in a universal channel. *Decision*: allow
//! or deny of one permission for one subject at one scope. *Viewer*: the user behind a request.

mod account;
mod authority;
pub mod id;
mod network;
pub mod permission;
mod presence;
mod room;
mod server;
pub mod text;
mod token;

pub use account::{CustomStatus, EmailAddress, SessionEnd, TimeFormat, User, UserSettings};
pub use authority::Authority;
pub use id::{AssetId, EventId, GroupId, IdError, RoomId, UserId};
pub use network::{ClientNetwork, ClientShares, ShareTaken};
pub use presence::{Presence, ReadMarker, SessionPresence, UserPresence};
pub use room::{Group, GroupItem, Membership, Room, RoomKind};
pub use server::{Role, ServerSettings};
pub use token::{JoinLink, Token, TokenKind};
