//! What callers get: plain values of the service's own, which the edge turns into messages of
//! the contract.

use crate::blobs::s3::S3Health;
use crate::domain::{AssetId, EventId, File, GroupId, RoomId, TimeFormat, UserId};

/// Rows of (name, granted); the contract's `PermissionGrant` and `CapabilityGrant`.
pub type Grants = Vec<(&'static str, bool)>;

/// A user as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    pub id: UserId,
    /// Its login, as typed.
    pub login: String,
    /// The name to show; the login if there is no other.
    pub display_name: String,
    /// The account is erased; everything else is then empty.
    pub deleted: bool,
    /// The key of its image below `/assets/server/`.
    pub avatar_key: Option<String>,
    /// Emoji, text and end (milliseconds since 1970) of a custom status that has not expired.
    pub custom_status: Option<CustomStatusView>,
    pub is_bot: bool,
    pub presence: super::Presence,
}

/// A custom status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomStatusView {
    pub emoji: String,
    pub text: String,
    /// When it ends, milliseconds since 1970; `None`: never.
    pub expires_ms: Option<i64>,
}

/// A user in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryMember {
    pub user: UserView,
    /// `everyone` first, then the assigned roles by name; none for bots.
    pub roles: Vec<String>,
    /// When the account was made, milliseconds since 1970.
    pub created_ms: i64,
}

/// One page of an offset list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub total: usize,
    pub has_more: bool,
}

/// Which entries of an offset list are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageRequest {
    /// At most so many; 0: the method's default.
    pub limit: usize,
    pub offset: usize,
}

/// The user of a request, as GetViewer returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerView {
    pub profile: UserView,
    pub has_verified_email: bool,
    pub has_password: bool,
    /// Whether the account may delete itself (masked until that is built).
    pub can_delete_account: bool,
    /// When the login was last changed, milliseconds since 1970.
    pub last_login_change_ms: Option<i64>,
    /// IANA time zone.
    pub timezone: Option<String>,
    /// The contract's number of the time format; AUTO when unset.
    pub time_format: TimeFormat,
    /// `capabilities.grants`, always all keys.
    pub capabilities: Grants,
    pub has_unread_followed_threads: bool,
    /// Every permission at server scope.
    pub permissions: Grants,
    /// Some joined channel has unread messages.
    pub has_unread_rooms: bool,
}

/// What a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomKind {
    /// A channel, in a group.
    Channel,
    /// A direct message between fixed people.
    Direct,
}

/// A room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomView {
    pub id: RoomId,
    pub kind: RoomKind,
    /// Its name; empty for direct messages.
    pub name: String,
    pub description: String,
    pub archived: bool,
    /// Its group; `None` for direct messages.
    pub group: Option<GroupId>,
    /// Everybody who may join is a member by rule.
    pub universal: bool,
    /// Seconds between posts of one member; 0: off.
    pub slow_mode_seconds: u32,
}

/// A room with one viewer's state in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomWithState {
    pub room: RoomView,
    pub state: RoomViewerState,
}

/// A viewer's state in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomViewerState {
    /// A member, explicitly or by rule.
    pub is_member: bool,
    /// Something unread by somebody else.
    pub has_unread: bool,
    /// All ten room permissions after room state.
    pub permissions: Grants,
    /// When the viewer may post again, milliseconds since 1970, while that is in the future.
    pub slow_mode_next_post_ms: Option<i64>,
}

/// Which rooms a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomScope {
    /// Channels, then direct messages.
    All,
    Channels,
    Direct,
}

/// A group of rooms with what the viewer sees of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    pub id: GroupId,
    pub name: String,
    pub description: String,
    /// Visible rooms in order.
    pub rooms: Vec<RoomWithState>,
    /// `room.create` and `room.manage` in the group.
    pub permissions: Grants,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleView {
    pub name: String,
    pub display_name: String,
    pub description: String,
    /// One of the four that every server has.
    pub is_system: bool,
    /// Higher is more important.
    pub position: i32,
    /// Whether its members can be mentioned by its name.
    pub pingable: bool,
}

/// What anybody may know of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    /// Never empty.
    pub name: String,
    /// Unset: `None`.
    pub description: Option<String>,
    /// Unset: `None`.
    pub welcome_message: Option<String>,
    /// The key of its logo below `/assets/server/`.
    pub logo_key: Option<String>,
    /// The key of its banner below `/assets/server/`.
    pub banner_key: Option<String>,
    /// Password log-in is on.
    pub direct_login: bool,
    /// People may register themselves (off until registration is built).
    pub direct_registration: bool,
    pub invite_only: bool,
}

/// What clients need to know of the server's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeView {
    /// Bytes of one upload, videos included.
    pub max_upload_bytes: u64,
    pub message_edit_window_seconds: u32,
}

/// A message as the viewer sees it. Attachments, previews, reactions, threads and pins come with the
/// work that builds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView {
    /// Its files, in order.
    pub attachments: Vec<FileView>,
    /// Its id, also its row's.
    pub id: EventId,
    pub room: RoomId,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    pub author: UserId,
    /// Its text; `None` when it is deleted or cannot be read.
    pub body: Option<String>,
    /// When it was last edited.
    pub updated_ms: Option<i64>,
    pub in_reply_to: Option<EventId>,
    pub thread_root: Option<EventId>,
    pub deleted_ms: Option<i64>,
}

/// One entry of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowView {
    pub id: EventId,
    /// Milliseconds since 1970; never decreases along a timeline.
    pub created_ms: i64,
    pub actor: Option<UserId>,
    pub kind: RowViewKind,
}

/// What a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowViewKind {
    Message(Box<MessageView>),
    RoomCreated,
    Joined,
    Left,
    /// Name, description or settings changed.
    RoomUpdated,
    RoomArchived,
    RoomUnarchived,
    CallStarted {
        call_id: String,
    },
    CallEnded {
        call_id: String,
    },
}

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    pub id: AssetId,
    pub name: String,
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// Pixels of an image as shown; 0: unknown.
    pub width: u32,
    /// See `width`.
    pub height: u32,
}

/// The bucket of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketView {
    pub name: String,
    /// Of its service.
    pub origin: String,
    pub health: S3Health,
}

/// A file of a message, in the list of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomFileView {
    pub file: FileView,
    pub message: EventId,
    /// Of a reply in a thread.
    pub thread_root: Option<EventId>,
    /// When the message was posted, milliseconds since 1970.
    pub posted_ms: i64,
}

impl From<File> for FileView {
    fn from(file: File) -> Self {
        Self {
            id: file.id,
            name: file.name,
            content_type: file.content_type,
            size: file.size,
            width: file.width,
            height: file.height,
        }
    }
}

/// A stretch of a room's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelinePage {
    /// Rows in ascending order.
    pub rows: Vec<RowView>,
    /// The position of the first row; empty on an empty page.
    pub start_cursor: String,
    /// The position of the last row; empty on an empty page.
    pub end_cursor: String,
    pub has_older: bool,
    pub has_newer: bool,
    /// Every user the rows name, erased ones left out.
    pub users: Vec<UserView>,
}

/// A stretch of a timeline around one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineWindow {
    pub page: TimelinePage,
    /// The place of the row in it.
    pub target_index: usize,
}

/// Where a timeline page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagePosition<'a> {
    Newest,
    /// The rows before a cursor.
    Before(&'a str),
    /// The rows after a cursor.
    After(&'a str),
}

/// The result of MarkRoomAsRead: times of rows, not of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MarkedRead {
    /// The time of the marker's row after the call.
    pub last_read_ms: Option<i64>,
    /// The time of the marker's row before the call.
    pub previous_last_read_ms: Option<i64>,
}

/// A user as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    pub user: UserView,
    /// Assigned roles by name.
    pub roles: Vec<String>,
    /// Addresses and whether each is verified.
    pub emails: Vec<(String, bool)>,
    /// When the account was made, milliseconds since 1970.
    pub created_ms: i64,
}

/// A setup or join link. The token appears here only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// What an owner revokes it by; it opens nothing.
    pub id: String,
    /// The path with the token: `/setup#TOKEN`; the caller puts the public URL before it.
    pub path: String,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: i64,
}

/// A join link that nobody has used yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLink {
    /// What it is revoked by: 64 hexadecimal digits.
    pub id: String,
    /// The owner who made it, with login; `None`: the operator's command.
    pub maker: Option<(UserId, String)>,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: i64,
    pub content: LinkContent,
}

/// What a setup or join link fixes; the page asks for the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkContent {
    /// The link makes the first owner.
    pub is_setup: bool,
    pub login: Option<String>,
    pub display_name: Option<String>,
    pub email: Option<String>,
    pub role: Option<String>,
}

/// Everything a log-in hands out. The secrets appear here only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    pub user: UserId,
    /// The login as stored.
    pub login: String,
    /// The bearer token, `cht_AT…`.
    pub token: String,
    /// The value of the cookie `chatto_session`.
    pub cookie: String,
    /// The value of the cookie `chatto_csrf`.
    pub csrf: String,
}
