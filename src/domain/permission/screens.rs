//! The methods that a client's screen behind a permission calls.
//!
//! The web client has no flags for single features: it shows a screen when the permission is granted.
//! So a permission whose screen calls methods that are not served yet is masked in what clients are
//! sent (viewer, room and group states), never in the stored grants.

use std::sync::LazyLock;

use super::{Capability, Permission};

/// Every method of the contract, and whether it is served. A test compares the file with what `http` serves, and the
/// command for golden files rewrites it.
const METHODS: &str = include_str!("../../../tests/golden/methods.txt");

static BUILT: LazyLock<Vec<Permission>> =
    LazyLock::new(|| SCREENS.iter().filter(|one| all_served(one.1)).map(|one| one.0).collect());

static BUILT_CAPABILITIES: LazyLock<Vec<Capability>> = LazyLock::new(|| {
    CAPABILITY_SCREENS.iter().filter(|one| all_served(one.1)).map(|one| one.0).collect()
});

/// Whether clients may see this permission.
#[must_use]
pub fn is_built(permission: Permission) -> bool {
    BUILT.contains(&permission)
}

/// Whether clients may see this capability.
#[must_use]
pub fn is_capability_built(capability: Capability) -> bool {
    match capability.permission() {
        Some(permission) => is_built(permission),
        None => BUILT_CAPABILITIES.contains(&capability),
    }
}

fn all_served(methods: &[&str]) -> bool {
    methods.iter().all(|method| is_served(method) == Some(true))
}

/// Whether a method is served, by its name as `Service/Method` without the package; `None`: the contract has none of
/// this name.
fn is_served(method: &str) -> Option<bool> {
    METHODS.lines().find_map(|line| {
        let (name, state) = line.split_once(' ')?;
        (name.rsplit('.').next() == Some(method)).then_some(state == "served")
    })
}

/// One screen for each permission, with the methods it calls.
const SCREENS: [(Permission, &[&str]); 23] = [
    (
        Permission::RoomList,
        &[
            "RoomDirectoryService/ListRooms",
            "RoomDirectoryService/ListRoomGroups",
            "RoomDirectoryService/GetRoom",
        ],
    ),
    (Permission::RoomJoin, &["RoomService/JoinRoom", "RoomService/LeaveRoom"]),
    (
        Permission::RoomManage,
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
    (
        Permission::RoomBanMember,
        &["RoomService/BanMember", "RoomService/UnbanMember", "RoomService/ListBans"],
    ),
    (
        Permission::MessagePost,
        &[
            "MessageService/CreateMessage",
            "RoomService/GetRoomEvents",
            "RoomService/MarkRoomAsRead",
        ],
    ),
    (
        Permission::MessagePostInThread,
        &[
            "ThreadService/GetThreadEvents",
            "ThreadService/GetThreadEventsAround",
            "ThreadService/MarkThreadAsRead",
            "ThreadService/FollowThread",
            "ThreadService/UnfollowThread",
        ],
    ),
    (
        Permission::MessageAttach,
        &[
            "AssetUploadService/CreateUpload",
            "AssetUploadService/UploadChunk",
            "AssetUploadService/GetUpload",
            "AssetUploadService/CompleteUpload",
            "AssetService/BatchGetAssets",
        ],
    ),
    (Permission::MessageReact, &["MessageService/AddReaction", "MessageService/RemoveReaction"]),
    (Permission::MessageEcho, &["MessageService/UpdateMessage", "ThreadService/GetThreadEvents"]),
    (Permission::MessageManage, &["MessageService/UpdateMessage", "MessageService/DeleteMessage"]),
    (Permission::RoomCreate, &["RoomService/CreateRoom", "RoomService/JoinRoom"]),
    (
        Permission::ServerManage,
        &[
            "AdminServerService/GetServerConfig",
            "AdminServerService/UpdateServerConfig",
            "AdminServerService/UpdateBlockedUsernames",
        ],
    ),
    (
        Permission::RoleManage,
        &[
            "AdminRoleService/ListRoles",
            "AdminRoleService/CreateRole",
            "AdminRoleService/UpdateRole",
            "AdminRoleService/DeleteRole",
            "AdminPermissionService/GetRolePermissionMatrix",
            "AdminPermissionService/SetRolePermission",
        ],
    ),
    (Permission::RoleAssign, &["AdminUserService/AssignRole", "AdminUserService/RevokeRole"]),
    (Permission::AdminViewUsers, &["AdminUserService/ListMembers", "AdminUserService/GetMember"]),
    (
        Permission::AdminViewAudit,
        &["AdminEventLogService/ListEvents", "AdminEventLogService/GetEvent"],
    ),
    (Permission::UserDeleteAny, &["AdminUserService/DeleteUser"]),
    (
        Permission::UserDeleteSelf,
        &["MyAccountService/RequestAccountDeletion", "MyAccountService/DeleteMyAccount"],
    ),
    (
        Permission::UserInvite,
        &[
            "AdminInviteLinkService/ListInviteLinks",
            "AdminInviteLinkService/CreateInviteLink",
            "AdminInviteLinkService/RevokeInviteLink",
        ],
    ),
    (
        Permission::UserManageAccounts,
        &["AdminUserService/UpdateUser", "AdminUserService/UpdateUserPassword"],
    ),
    (
        Permission::UserManagePermissions,
        &[
            "AdminPermissionService/GetUserPermissionMatrix",
            "AdminPermissionService/SetUserPermission",
        ],
    ),
    (Permission::BotCreate, &["BotService/ListBots", "BotService/CreateBot"]),
    (
        Permission::BotManage,
        &["BotService/ListBots", "BotService/ReassignBotOwner", "BotService/DeleteBot"],
    ),
];

/// The methods behind capabilities that are not permissions.
const CAPABILITY_SCREENS: [(Capability, &[&str]); 4] = [
    (Capability::DmStart, &["RoomService/StartDM"]),
    (Capability::AdminView, &["AdminUserService/ListMembers"]),
    (Capability::RoleView, &["AdminRoleService/ListRoles", "AdminRoleService/GetRole"]),
    (Capability::AdminViewSystem, &["AdminDiagnosticsService/GetSystemInfo"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_has_one_screen_in_order() {
        assert_eq!(SCREENS.map(|(permission, _)| permission), Permission::ALL);
    }

    #[test]
    fn screens_call_methods_of_the_contract() {
        let screens = SCREENS.iter().map(|one| one.1);
        for methods in screens.chain(CAPABILITY_SCREENS.iter().map(|one| one.1)) {
            assert!(!methods.is_empty());
            for method in methods {
                assert!(is_served(method).is_some(), "{method}");
            }
        }
    }

    #[test]
    fn a_permission_is_built_when_all_methods_of_its_screen_are_served() {
        assert!(is_built(Permission::MessagePost));
        assert!(all_served(&["RoomService/CreateRoom", "RoomService/JoinRoom"]));
        // Never served: the contract has no such method.
        assert!(!all_served(&["RoomService/CreateRoom", "RoomService/Create"]));
    }
}
