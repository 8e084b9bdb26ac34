//! The rights that clients are sent in viewer, room and group states (contract, behaviour 2.6), without the
//! rights whose screens are not built.

use super::{
    Permission, PermissionScope, Principal, Ruling, decide, is_built, is_capability_built, resolve,
};

/// A key of `capabilities.grants`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    DmStart,
    AdminView,
    AdminViewUsers,
    AdminViewAudit,
    UserManageAccounts,
    UserManagePermissions,
    UserInvite,
    RoleAssign,
    RoleManage,
    RoleView,
    AdminViewSystem,
}

impl Capability {
    /// All capabilities; each is always reported.
    pub const ALL: [Self; 11] = [
        Self::DmStart,
        Self::AdminView,
        Self::AdminViewUsers,
        Self::AdminViewAudit,
        Self::UserManageAccounts,
        Self::UserManagePermissions,
        Self::UserInvite,
        Self::RoleAssign,
        Self::RoleManage,
        Self::RoleView,
        Self::AdminViewSystem,
    ];

    /// The key on the wire.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::DmStart => "dm.start",
            Self::AdminView => "admin.view",
            Self::RoleView => "role.view",
            Self::AdminViewSystem => "admin.view-system",
            Self::AdminViewUsers => Permission::AdminViewUsers.name(),
            Self::AdminViewAudit => Permission::AdminViewAudit.name(),
            Self::UserManageAccounts => Permission::UserManageAccounts.name(),
            Self::UserManagePermissions => Permission::UserManagePermissions.name(),
            Self::UserInvite => Permission::UserInvite.name(),
            Self::RoleAssign => Permission::RoleAssign.name(),
            Self::RoleManage => Permission::RoleManage.name(),
        }
    }

    /// The server permission of the same name, where there is one.
    #[must_use]
    pub const fn permission(self) -> Option<Permission> {
        match self {
            Self::DmStart | Self::AdminView | Self::RoleView | Self::AdminViewSystem => None,
            Self::AdminViewUsers => Some(Permission::AdminViewUsers),
            Self::AdminViewAudit => Some(Permission::AdminViewAudit),
            Self::UserManageAccounts => Some(Permission::UserManageAccounts),
            Self::UserManagePermissions => Some(Permission::UserManagePermissions),
            Self::UserInvite => Some(Permission::UserInvite),
            Self::RoleAssign => Some(Permission::RoleAssign),
            Self::RoleManage => Some(Permission::RoleManage),
        }
    }

    /// Whether the viewer has it, before masking.
    #[must_use]
    pub fn is_held(self, principal: &Principal) -> bool {
        let held = |permission| resolve(principal, permission, PermissionScope::Server);
        match self {
            Self::DmStart => match principal {
                Principal::Human { .. } => {
                    decide(principal, Permission::MessagePost, PermissionScope::Server)
                        != Some(Ruling::Deny)
                }
                Principal::Bot { .. } => held(Permission::MessagePost),
            },
            Self::AdminView => ADMIN_VIEW.into_iter().any(held),
            Self::RoleView => ROLE_VIEW.into_iter().any(held),
            Self::AdminViewSystem => matches!(principal, Principal::Human { owner: true, .. }),
            Self::AdminViewUsers
            | Self::AdminViewAudit
            | Self::UserManageAccounts
            | Self::UserManagePermissions
            | Self::UserInvite
            | Self::RoleAssign
            | Self::RoleManage => self.permission().is_some_and(held),
        }
    }
}

/// Any of these permissions opens the administration.
const ADMIN_VIEW: [Permission; 12] = [
    Permission::ServerManage,
    Permission::RoomManage,
    Permission::RoomBanMember,
    Permission::RoleManage,
    Permission::RoleAssign,
    Permission::AdminViewUsers,
    Permission::AdminViewAudit,
    Permission::UserDeleteAny,
    Permission::UserManageAccounts,
    Permission::UserManagePermissions,
    Permission::UserInvite,
    Permission::BotManage,
];

const ROLE_VIEW: [Permission; 3] =
    [Permission::RoleManage, Permission::RoleAssign, Permission::UserManagePermissions];

/// How the state of a room affects a viewer's rights in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomFacts {
    pub direct: bool,
    /// Archived rooms accept no posts.
    pub archived: bool,
    /// The viewer is a member, by rule or explicitly.
    pub member: bool,
    pub banned: bool,
}

/// Every capability, with masking.
#[must_use]
pub fn capabilities(principal: &Principal) -> Vec<(&'static str, bool)> {
    Capability::ALL
        .into_iter()
        .map(|one| (one.key(), is_capability_built(one) && one.is_held(principal)))
        .collect()
}

/// Every permission at server scope, with masking.
#[must_use]
pub fn server_permissions(principal: &Principal) -> Vec<(&'static str, bool)> {
    let granted = |one| is_built(one) && resolve(principal, one, PermissionScope::Server);
    Permission::ALL.into_iter().map(|one| (one.name(), granted(one))).collect()
}

/// The ten rows of a room's viewer state, with masking.
#[must_use]
pub fn room_permissions(
    principal: &Principal,
    scope: PermissionScope,
    facts: RoomFacts,
) -> Vec<(&'static str, bool)> {
    let granted = |one| is_built(one) && after_room_state(principal, one, scope, facts);
    Permission::OF_ROOMS.into_iter().map(|one| (one.name(), granted(one))).collect()
}

/// `room.create` and `room.manage` at a group, with masking.
#[must_use]
pub fn group_permissions(
    principal: &Principal,
    scope: PermissionScope,
) -> Vec<(&'static str, bool)> {
    [Permission::RoomCreate, Permission::RoomManage]
        .into_iter()
        .map(|one| (one.name(), is_built(one) && resolve(principal, one, scope)))
        .collect()
}

fn after_room_state(
    principal: &Principal,
    one: Permission,
    scope: PermissionScope,
    facts: RoomFacts,
) -> bool {
    let held = resolve(principal, one, scope);
    match one {
        Permission::RoomList => facts.member || held,
        Permission::RoomJoin => {
            held && !facts.member && !facts.banned && !facts.direct && !facts.archived
        }
        Permission::MessagePost
        | Permission::MessagePostInThread
        | Permission::MessageAttach
        | Permission::MessageReact
        | Permission::MessageEcho => held && facts.member && !facts.archived,
        Permission::MessageManage => held && facts.member,
        _ => held && !facts.direct,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::permission::{
        ADMIN, Decision, DecisionScope, EVERYONE, MODERATOR, OWNER, default_roles,
    };
    use crate::domain::{GroupId, RoomId};

    /// A person of a fresh server with these roles.
    fn person(roles: &[&str]) -> Principal {
        let of = |name: &str| -> Vec<Decision> {
            default_roles()
                .into_iter()
                .filter(|role| role.name == name)
                .flat_map(|role| role.allows)
                .map(|permission| Decision {
                    permission: *permission,
                    scope: DecisionScope::Server,
                    ruling: Ruling::Allow,
                })
                .collect()
        };
        Principal::Human {
            owner: roles.contains(&OWNER),
            named: roles.iter().map(|role| of(role)).collect(),
            everyone: of(EVERYONE),
        }
    }

    #[test]
    fn who_holds_which_capability_on_a_fresh_server() {
        let held = |roles: &[&str]| -> Vec<&str> {
            let person = person(roles);
            Capability::ALL
                .into_iter()
                .filter(|one| one.is_held(&person))
                .map(Capability::key)
                .collect()
        };
        assert_eq!(held(&[]), ["dm.start"]);
        assert_eq!(held(&[MODERATOR]), ["dm.start", "admin.view"]);
        let all: Vec<&str> = Capability::ALL.into_iter().map(Capability::key).collect();
        assert_eq!(held(&[OWNER]), all);
        assert_eq!(held(&[ADMIN]), &all[..10], "all but the system page");
    }

    #[test]
    fn a_denied_post_takes_direct_messages_away() {
        let Principal::Human { mut everyone, .. } = person(&[]) else { panic!("a person") };
        everyone.retain(|decision| decision.permission != Permission::MessagePost);
        let undecided =
            Principal::Human { owner: false, named: vec![], everyone: everyone.clone() };
        assert!(Capability::DmStart.is_held(&undecided));
        everyone.push(Decision {
            permission: Permission::MessagePost,
            scope: DecisionScope::Server,
            ruling: Ruling::Deny,
        });
        let denied = Principal::Human { owner: false, named: vec![], everyone };
        assert!(!Capability::DmStart.is_held(&denied));
    }

    #[test]
    fn room_rows_follow_the_state_of_the_room() {
        let scope = PermissionScope::Channel {
            room: RoomId::from_random([1; 16]),
            group: Some(GroupId::from_random([2; 16])),
        };
        let open = RoomFacts { direct: false, archived: false, member: true, banned: false };
        let owner = person(&[OWNER]);
        let held = |facts: RoomFacts| -> Vec<&str> {
            Permission::OF_ROOMS
                .into_iter()
                .filter(|one| after_room_state(&owner, *one, scope, facts))
                .map(Permission::name)
                .collect()
        };
        let posting = [
            "message.post",
            "message.post-in-thread",
            "message.attach",
            "message.react",
            "message.echo",
        ];
        let all = |first: &[&'static str], posts: bool, last: &[&'static str]| -> Vec<&str> {
            let middle: &[&str] = if posts { &posting } else { &[] };
            [first, &["room.manage", "room.ban-member"], middle, last].concat()
        };
        assert_eq!(held(open), all(&["room.list"], true, &["message.manage"]), "member");
        let archived = RoomFacts { archived: true, ..open };
        assert_eq!(held(archived), all(&["room.list"], false, &["message.manage"]), "archived");
        let outside = RoomFacts { member: false, ..open };
        assert_eq!(held(outside), all(&["room.list", "room.join"], false, &[]), "no member");
        let banned = RoomFacts { banned: true, ..outside };
        assert_eq!(held(banned), all(&["room.list"], false, &[]), "banned");
        let away = RoomFacts { archived: true, ..outside };
        assert_eq!(held(away), all(&["room.list"], false, &[]), "archived, no member");
    }

    #[test]
    fn direct_messages_show_three_rights() {
        let facts = RoomFacts { direct: true, archived: false, member: true, banned: false };
        let scope = PermissionScope::Direct { participant: true };
        let rows: Vec<&str> = Permission::OF_ROOMS
            .into_iter()
            .filter(|one| after_room_state(&person(&[OWNER]), *one, scope, facts))
            .map(Permission::name)
            .collect();
        assert_eq!(rows, ["room.list", "message.post", "message.attach", "message.react"]);
    }

    #[test]
    fn what_is_not_built_is_masked_even_for_owners() {
        let owner = person(&[OWNER]);
        let granted: Vec<&str> = server_permissions(&owner)
            .into_iter()
            .filter_map(|(name, granted)| granted.then_some(name))
            .collect();
        assert_eq!(
            granted,
            ["room.list", "room.join", "message.post", "message.attach", "room.create"]
        );
        assert!(capabilities(&owner).iter().all(|(_, granted)| !granted));
        assert_eq!(capabilities(&owner).len(), 11);
        assert_eq!(
            group_permissions(&owner, PermissionScope::Server),
            [("room.create", true), ("room.manage", false)]
        );
        let facts = RoomFacts { direct: false, archived: false, member: true, banned: false };
        assert_eq!(room_permissions(&owner, PermissionScope::Server, facts).len(), 10);
    }
}
