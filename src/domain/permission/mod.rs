//! Permissions, decisions and how they resolve (contract, behaviour 2).

mod defaults;
mod grants;
mod resolve;
mod screens;

pub use defaults::{
    ADMIN, ANNOUNCEMENTS, DEFAULT_BLOCKED_LOGINS, DEFAULT_GROUP_NAME, DefaultRole, DefaultRoom,
    EVERYONE, GENERAL, MODERATOR, OWNER, default_roles,
};
pub use grants::{
    Capability, RoomFacts, capabilities, group_permissions, room_permissions, server_permissions,
};
pub use resolve::{Decision, DecisionScope, PermissionScope, Principal, Ruling, decide, resolve};
pub use screens::{is_built, is_capability_built};

/// Something a user may or may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    RoomList,
    RoomJoin,
    RoomManage,
    RoomBanMember,
    MessagePost,
    MessagePostInThread,
    MessageAttach,
    MessageReact,
    MessageEcho,
    MessageManage,
    RoomCreate,
    ServerManage,
    RoleManage,
    RoleAssign,
    AdminViewUsers,
    AdminViewAudit,
    UserDeleteAny,
    UserDeleteSelf,
    UserInvite,
    UserManageAccounts,
    UserManagePermissions,
    BotCreate,
    BotManage,
}

/// At which scopes a permission can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Decided at the server, a group or a room.
    Room,
    /// Decided at the server or a group.
    Group,
    /// Decided at the server only.
    Server,
}

impl Permission {
    /// All of them, in the contract's order.
    pub const ALL: [Self; 23] = [
        Self::RoomList,
        Self::RoomJoin,
        Self::RoomManage,
        Self::RoomBanMember,
        Self::MessagePost,
        Self::MessagePostInThread,
        Self::MessageAttach,
        Self::MessageReact,
        Self::MessageEcho,
        Self::MessageManage,
        Self::RoomCreate,
        Self::ServerManage,
        Self::RoleManage,
        Self::RoleAssign,
        Self::AdminViewUsers,
        Self::AdminViewAudit,
        Self::UserDeleteAny,
        Self::UserDeleteSelf,
        Self::UserInvite,
        Self::UserManageAccounts,
        Self::UserManagePermissions,
        Self::BotCreate,
        Self::BotManage,
    ];

    /// The ten that a room's viewer state reports, in the contract's order.
    pub const OF_ROOMS: [Self; 10] = [
        Self::RoomList,
        Self::RoomJoin,
        Self::RoomManage,
        Self::RoomBanMember,
        Self::MessagePost,
        Self::MessagePostInThread,
        Self::MessageAttach,
        Self::MessageReact,
        Self::MessageEcho,
        Self::MessageManage,
    ];

    /// The name on the wire and in stored decisions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoomList => "room.list",
            Self::RoomJoin => "room.join",
            Self::RoomManage => "room.manage",
            Self::RoomBanMember => "room.ban-member",
            Self::MessagePost => "message.post",
            Self::MessagePostInThread => "message.post-in-thread",
            Self::MessageAttach => "message.attach",
            Self::MessageReact => "message.react",
            Self::MessageEcho => "message.echo",
            Self::MessageManage => "message.manage",
            Self::RoomCreate => "room.create",
            Self::ServerManage => "server.manage",
            Self::RoleManage => "role.manage",
            Self::RoleAssign => "role.assign",
            Self::AdminViewUsers => "admin.view-users",
            Self::AdminViewAudit => "admin.view-audit",
            Self::UserDeleteAny => "user.delete-any",
            Self::UserDeleteSelf => "user.delete-self",
            Self::UserInvite => "user.invite",
            Self::UserManageAccounts => "user.manage-accounts",
            Self::UserManagePermissions => "user.manage-permissions",
            Self::BotCreate => "bot.create",
            Self::BotManage => "bot.manage",
        }
    }

    /// The permission with this name; `None` for an unknown name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }

    /// Where it can be decided.
    #[must_use]
    pub fn tier(self) -> Tier {
        if Self::OF_ROOMS.contains(&self) {
            Tier::Room
        } else if self == Self::RoomCreate {
            Tier::Group
        } else {
            Tier::Server
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for permission in Permission::ALL {
            assert_eq!(Permission::from_name(permission.name()), Some(permission));
        }
        assert_eq!(Permission::from_name("room.explode"), None);
    }

    #[test]
    fn tiers() {
        let count = |tier| Permission::ALL.iter().filter(|one| one.tier() == tier).count();
        assert_eq!((count(Tier::Room), count(Tier::Group), count(Tier::Server)), (10, 1, 12));
    }
}
