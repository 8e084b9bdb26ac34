//! What a viewer may do where: the store's records turned into the plain inputs of the resolution.

use std::sync::Arc;

use crate::domain::permission::{
    EVERYONE, OWNER, Permission, PermissionScope, Principal, RoomFacts, resolve, room_permissions,
};
use crate::domain::{GroupId, Room, RoomId, RoomKind, User, UserId};
use crate::storage::{Storage, Tables};

use super::{Grants, ReadError, Session};

/// A viewer and its decisions.
pub(super) struct ViewerRights {
    pub(super) viewer: UserId,
    pub(super) principal: Arc<Principal>,
}

impl ViewerRights {
    /// The rights of a user now; an unknown or erased one has none.
    pub(super) fn of(tables: &Tables, viewer: UserId) -> Self {
        let work_out = || {
            let user = tables.users.get(&viewer).filter(|user| !user.deleted);
            let nobody = Principal::Bot { own: Vec::new(), owner: None };
            user.map_or(nobody, |user| principal(tables, user))
        };
        Self { viewer, principal: tables.principal(viewer, work_out) }
    }

    /// Whether the right is held in a room, room state left aside.
    pub(super) fn can(&self, permission: Permission, id: RoomId, room: &Room) -> bool {
        resolve(&self.principal, permission, self.scope_of(id, room))
    }

    /// Whether the right is held at the server.
    pub(super) fn can_at_server(&self, permission: Permission) -> bool {
        resolve(&self.principal, permission, PermissionScope::Server)
    }

    /// Whether the right is held at a group.
    pub(super) fn can_in_group(&self, permission: Permission, group: GroupId) -> bool {
        resolve(&self.principal, permission, PermissionScope::Group(group))
    }

    /// A member: explicitly, by rule in a universal channel, or as participant.
    pub(super) fn is_member(&self, tables: &Tables, id: RoomId, room: &Room) -> bool {
        if is_direct(room) {
            return self.takes_part(room);
        }
        let explicit = tables.member(&id, &self.viewer).is_some_and(|member| !member.left);
        explicit || (room.universal && self.can(Permission::RoomJoin, id, room))
    }

    /// Whether the viewer may know of the room: member, or the right to list it.
    pub(super) fn sees(&self, tables: &Tables, id: RoomId, room: &Room) -> bool {
        self.is_member(tables, id, room)
            || (!is_direct(room) && self.can(Permission::RoomList, id, room))
    }

    /// The ten rows of the room's viewer state.
    pub(super) fn room_grants(&self, tables: &Tables, id: RoomId, room: &Room) -> Grants {
        let facts = RoomFacts {
            direct: is_direct(room),
            archived: room.archived,
            member: self.is_member(tables, id, room),
            banned: false,
        };
        room_permissions(&self.principal, self.scope_of(id, room), facts)
    }

    fn scope_of(&self, id: RoomId, room: &Room) -> PermissionScope {
        if is_direct(room) {
            PermissionScope::Direct { participant: self.takes_part(room) }
        } else {
            PermissionScope::Channel { room: id, group: room.group }
        }
    }

    fn takes_part(&self, room: &Room) -> bool {
        room.participants.contains(&self.viewer)
    }
}

/// A room whose timeline the viewer may read.
pub(super) fn readable_room(
    storage: &Storage,
    session: &Session,
    id: &str,
) -> Result<RoomId, ReadError> {
    let id = RoomId::try_from(id).map_err(|_| ReadError::NotFound { what: "room" })?;
    check_member(storage, session.user, id)?;
    Ok(id)
}

/// Fails unless a user is a member of a room.
pub(super) fn check_member(storage: &Storage, user: UserId, id: RoomId) -> Result<(), ReadError> {
    storage.state().read(|tables| {
        let room = tables.rooms.get(&id).ok_or(ReadError::NotFound { what: "room" })?;
        let member = ViewerRights::of(tables, user).is_member(tables, id, room);
        if member { Ok(()) } else { Err(ReadError::Denied) }
    })
}

/// Whether a room is a direct message.
pub(super) fn is_direct(room: &Room) -> bool {
    room.kind == RoomKind::Direct
}

fn principal(tables: &Tables, user: &User) -> Principal {
    let own = user.decisions.clone();
    if user.is_bot {
        let owner = user.bot_owner.and_then(|id| tables.users.get(&id));
        // A bot's owner is a person: no chain of bots.
        let owner = owner.filter(|owner| !owner.deleted && !owner.is_bot);
        let owner = owner.map(|owner| Box::new(principal(tables, owner)));
        return Principal::Bot { own, owner };
    }
    let of_role = |name: &String| {
        let role = tables.roles.get(name).filter(|_| name != EVERYONE)?;
        Some(role.decisions.clone())
    };
    Principal::Human {
        owner: user.has_role(OWNER),
        named: std::iter::once(own).chain(user.roles.iter().filter_map(of_role)).collect(),
        everyone: tables.roles.get(EVERYONE).map(|role| role.decisions.clone()).unwrap_or_default(),
    }
}
