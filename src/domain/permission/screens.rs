//! The methods that a client's screen behind a permission calls.
//!
//! The web client has no flags for single features: it shows a screen when the permission is granted.
//! So a permission whose screen calls methods that are not served yet is masked in what clients are
//! sent (viewer, room and group states), never in the stored grants. A test of the HTTP edge compares
//! `built` with the list of methods that are served.

use super::{Capability, Permission};

/// A screen behind a permission.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// The permission that shows it.
    pub permission: Permission,
    /// The methods it calls, as `Service/Method` without the package.
    pub methods: &'static [&'static str],
    /// Whether all of them are served.
    pub built: bool,
}

/// One screen for each permission.
#[must_use]
pub const fn screens() -> &'static [Screen; 23] {
    &SCREENS
}

/// Whether clients may see this permission.
#[must_use]
pub fn is_built(permission: Permission) -> bool {
    SCREENS.iter().any(|screen| screen.permission == permission && screen.built)
}

/// The methods behind capabilities that are not permissions: capability, methods, whether they are served.
#[must_use]
pub const fn capability_screens() -> &'static [(Capability, &'static [&'static str], bool)] {
    &CAPABILITY_SCREENS
}

/// Whether clients may see this capability.
#[must_use]
pub fn is_capability_built(capability: Capability) -> bool {
    match capability.permission() {
        Some(permission) => is_built(permission),
        None => CAPABILITY_SCREENS.iter().any(|(one, _, built)| *one == capability && *built),
    }
}

const fn screen(permission: Permission, built: bool, methods: &'static [&'static str]) -> Screen {
    Screen { permission, methods, built }
}

const SCREENS: [Screen; 23] = [
    screen(
        Permission::RoomList,
        true,
        &[
            "RoomDirectoryService/ListRooms",
            "RoomDirectoryService/ListRoomGroups",
            "RoomDirectoryService/GetRoom",
        ],
    ),
    screen(Permission::RoomJoin, true, &["RoomService/JoinRoom", "RoomService/LeaveRoom"]),
    screen(
        Permission::RoomManage,
        false,
        &[
            "RoomService/UpdateRoom",
            "RoomService/ArchiveRoom",
            "RoomService/UnarchiveRoom",
            "RoomService/AddMember",
            "RoomService/RemoveMember",
            "RoomService/CreatePinnedMessage",
            "RoomService/DeletePinnedMessage",
            "AdminRoomLayoutService/ListRoomGroups",
            "AdminRoomLayoutService/GetRoom",
        ],
    ),
    screen(
        Permission::RoomBanMember,
        false,
        &["RoomService/BanMember", "RoomService/UnbanMember", "RoomService/ListBans"],
    ),
    screen(
        Permission::MessagePost,
        true,
        &[
            "MessageService/CreateMessage",
            "RoomService/GetRoomEvents",
            "RoomService/MarkRoomAsRead",
        ],
    ),
    screen(
        Permission::MessagePostInThread,
        false,
        &[
            "ThreadService/GetThreadEvents",
            "ThreadService/GetThreadEventsAround",
            "ThreadService/MarkThreadAsRead",
            "ThreadService/FollowThread",
            "ThreadService/UnfollowThread",
        ],
    ),
    screen(
        Permission::MessageAttach,
        true,
        &[
            "AssetUploadService/CreateUpload",
            "AssetUploadService/UploadChunk",
            "AssetUploadService/GetUpload",
            "AssetUploadService/CompleteUpload",
            "AssetService/BatchGetAssets",
        ],
    ),
    screen(
        Permission::MessageReact,
        false,
        &["MessageService/AddReaction", "MessageService/RemoveReaction"],
    ),
    screen(
        Permission::MessageEcho,
        false,
        &["MessageService/UpdateMessage", "ThreadService/GetThreadEvents"],
    ),
    screen(
        Permission::MessageManage,
        false,
        &["MessageService/UpdateMessage", "MessageService/DeleteMessage"],
    ),
    screen(Permission::RoomCreate, true, &["RoomService/CreateRoom", "RoomService/JoinRoom"]),
    screen(
        Permission::ServerManage,
        false,
        &[
            "AdminServerService/GetServerConfig",
            "AdminServerService/UpdateServerConfig",
            "AdminServerService/UpdateBlockedUsernames",
        ],
    ),
    screen(
        Permission::RoleManage,
        false,
        &[
            "AdminRoleService/ListRoles",
            "AdminRoleService/CreateRole",
            "AdminRoleService/UpdateRole",
            "AdminRoleService/DeleteRole",
            "AdminPermissionService/GetRolePermissionMatrix",
            "AdminPermissionService/SetRolePermission",
        ],
    ),
    screen(
        Permission::RoleAssign,
        false,
        &["AdminUserService/AssignRole", "AdminUserService/RevokeRole"],
    ),
    screen(
        Permission::AdminViewUsers,
        false,
        &["AdminUserService/ListMembers", "AdminUserService/GetMember"],
    ),
    screen(
        Permission::AdminViewAudit,
        false,
        &["AdminEventLogService/ListEvents", "AdminEventLogService/GetEvent"],
    ),
    screen(Permission::UserDeleteAny, false, &["AdminUserService/DeleteUser"]),
    screen(
        Permission::UserDeleteSelf,
        false,
        &["MyAccountService/RequestAccountDeletion", "MyAccountService/DeleteMyAccount"],
    ),
    screen(
        Permission::UserInvite,
        false,
        &[
            "AdminInviteLinkService/ListInviteLinks",
            "AdminInviteLinkService/CreateInviteLink",
            "AdminInviteLinkService/RevokeInviteLink",
        ],
    ),
    screen(
        Permission::UserManageAccounts,
        false,
        &["AdminUserService/UpdateUser", "AdminUserService/UpdateUserPassword"],
    ),
    screen(
        Permission::UserManagePermissions,
        false,
        &[
            "AdminPermissionService/GetUserPermissionMatrix",
            "AdminPermissionService/SetUserPermission",
        ],
    ),
    screen(Permission::BotCreate, false, &["BotService/ListBots", "BotService/CreateBot"]),
    screen(
        Permission::BotManage,
        false,
        &["BotService/ListBots", "BotService/ReassignBotOwner", "BotService/DeleteBot"],
    ),
];

const CAPABILITY_SCREENS: [(Capability, &[&str], bool); 4] = [
    (Capability::DmStart, &["RoomService/StartDM"], false),
    (Capability::AdminView, &["AdminUserService/ListMembers"], false),
    (Capability::RoleView, &["AdminRoleService/ListRoles", "AdminRoleService/GetRole"], false),
    (Capability::AdminViewSystem, &["AdminDiagnosticsService/GetSystemInfo"], false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_has_one_screen_in_order() {
        let listed: Vec<Permission> = screens().iter().map(|screen| screen.permission).collect();
        assert_eq!(listed, Permission::ALL);
        assert!(screens().iter().all(|screen| !screen.methods.is_empty()));
    }

    #[test]
    fn what_clients_are_sent_now() {
        let granted: Vec<&str> = Permission::ALL
            .into_iter()
            .filter(|permission| is_built(*permission))
            .map(Permission::name)
            .collect();
        assert_eq!(
            granted,
            ["room.list", "room.join", "message.post", "message.attach", "room.create"]
        );
    }
}
