//! Roles, grants, rooms and names of a fresh server (contract, behaviour 1 and 2.1).

use super::Permission;

/// The role that may do everything.
pub const OWNER: &str = "owner";
/// Full administrative access.
pub const ADMIN: &str = "admin";
/// Moderates rooms.
pub const MODERATOR: &str = "moderator";
/// The role that every person has without assignment.
pub const EVERYONE: &str = "everyone";

/// The one group of a fresh server.
pub const DEFAULT_GROUP_NAME: &str = "Lobby";
/// Logins nobody may take until the list is replaced.
pub const DEFAULT_BLOCKED_LOGINS: [&str; 6] =
    ["root", "admin", "superuser", "op", "operator", "support"];

/// A system role as first written.
#[derive(Debug, Clone, Copy)]
pub struct DefaultRole {
    pub name: &'static str,
    pub display_name: &'static str,
    pub description: &'static str,
    /// Higher is more important; it never affects a right.
    pub position: i32,
    /// Whether its members can be mentioned by its name.
    pub pingable: bool,
    /// Allowed at server scope.
    pub allows: &'static [Permission],
}

/// A room as first written.
#[derive(Debug, Clone, Copy)]
pub struct DefaultRoom {
    pub name: &'static str,
    pub description: &'static str,
    /// Whether everybody who may join it is a member automatically.
    pub universal: bool,
    /// Whether only administrators may post in it: `everyone` is denied `message.post` there and `admin`
    /// allowed.
    pub admins_post: bool,
}

/// The first room.
pub const ANNOUNCEMENTS: DefaultRoom = DefaultRoom {
    name: "announcements",
    description: "Announcements and news",
    universal: true,
    admins_post: true,
};
/// The second room.
pub const GENERAL: DefaultRoom = DefaultRoom {
    name: "general",
    description: "General discussion",
    universal: false,
    admins_post: false,
};

/// The system roles, by ascending position.
#[must_use]
pub fn default_roles() -> [DefaultRole; 4] {
    [
        DefaultRole {
            name: EVERYONE,
            display_name: "Everyone",
            description: "All authenticated users",
            position: 0,
            pingable: false,
            allows: &[
                Permission::RoomList,
                Permission::RoomJoin,
                Permission::MessagePost,
                Permission::MessagePostInThread,
                Permission::MessageAttach,
                Permission::MessageReact,
                Permission::MessageEcho,
                Permission::UserDeleteSelf,
                Permission::BotCreate,
            ],
        },
        DefaultRole {
            name: MODERATOR,
            display_name: "Moderator",
            description: "Moderate messages and room membership",
            position: 100,
            pingable: true,
            allows: &[Permission::MessageManage, Permission::RoomBanMember],
        },
        DefaultRole {
            name: ADMIN,
            display_name: "Admin",
            description: "Full administrative access to the server",
            position: 900,
            pingable: false,
            allows: &[
                Permission::ServerManage,
                Permission::RoomList,
                Permission::RoomJoin,
                Permission::RoomCreate,
                Permission::RoomManage,
                Permission::RoomBanMember,
                Permission::MessageManage,
                Permission::RoleManage,
                Permission::RoleAssign,
                Permission::AdminViewUsers,
                Permission::AdminViewAudit,
                Permission::UserDeleteAny,
                Permission::UserDeleteSelf,
                Permission::UserInvite,
                Permission::UserManageAccounts,
                Permission::UserManagePermissions,
                Permission::BotManage,
            ],
        },
        DefaultRole {
            name: OWNER,
            display_name: "Owner",
            description: "Full server control",
            position: 1000,
            pingable: false,
            allows: &[],
        },
    ]
}
