//! The rules of the chat, independent of storage and transport: ids, text rules, permissions and
//! their resolution, default roles and rooms. Pure: no I/O, no clock, no randomness of its own.
//! The terms are those of `docs/glossary.md`.

mod account;
mod authority;
mod backup;
mod file;
pub mod id;
mod network;
pub mod permission;
mod presence;
mod room;
mod server;
mod shares;
pub mod text;
pub mod timeline;
mod token;

pub use account::{CustomStatus, EmailAddress, SessionEnd, TimeFormat, User, UserSettings};
pub use authority::Authority;
pub use backup::{ArchiveCheck, BackupKind, BackupResult, BackupResults, BackupVerdict};
pub use file::{Chunk, Detected, File, FileLocation, FileState, Multipart, Upload, UploadStatus};
pub use id::{AssetId, EventId, FileGroup, GroupId, IdError, RoomId, UserId};
pub use network::ClientNetwork;
pub use presence::{Presence, ReadMarker, SessionPresence, UserPresence};
pub use room::{Group, GroupItem, Membership, Room, RoomKind};
pub use server::{Role, ServerSettings};
pub use shares::{ShareTaken, Shares};
pub use token::{JoinLink, Token, TokenKind};
