//! The directory of rooms: what a viewer may know of, in sidebar order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::markers::Markers;
use super::messages::next_post_ms;
use super::rights::{ViewerRights, is_direct};
use super::users::distinct;
use super::{
    GroupView, ReadError, RoomKind, RoomScope, RoomView, RoomViewerState, RoomWithState, Session,
};
use crate::domain::permission::{Permission, PermissionScope, group_permissions};
use crate::domain::{Group, GroupId, GroupItem, Room, RoomId, UserId};
use crate::runtime::Clock;
use crate::storage::{Storage, StorageError, Tables};

/// A room as found in the tables, before what must be read from the store.
pub(super) type RoomEntry = (RoomId, Arc<Room>);

/// A room as a viewer's connection shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRoom {
    pub with_state: RoomWithState,
    /// Direct messages: whether a message was ever posted.
    pub has_history: Option<bool>,
    /// The effective members, oldest account first, of the same moment as the viewer's membership;
    /// empty if not requested.
    pub members: Vec<UserId>,
}

impl ShownRoom {
    /// The room's id.
    #[must_use]
    pub fn id(&self) -> RoomId {
        self.with_state.room.id
    }

    /// Whether the viewer is a member.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.with_state.state.is_member
    }

    /// A direct message.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.with_state.room.kind == RoomKind::Direct
    }
}

/// The rooms and groups that a viewer may know of.
#[derive(Clone, Copy)]
pub struct Directory<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) markers: Markers<'a>,
}

impl Directory<'_> {
    /// The rooms a viewer sees: channels in sidebar order, then direct messages with the newest
    /// activity first. Archived rooms and empty direct messages are left out.
    ///
    /// # Errors
    /// [`ReadError::Store`].
    pub async fn list_rooms(
        self,
        session: &Session,
        scope: RoomScope,
    ) -> Result<Vec<RoomWithState>, ReadError> {
        let (mut rooms, direct) = self.visible_rooms(session, false);
        if scope == RoomScope::Direct {
            rooms.clear();
        }
        if scope != RoomScope::Channels {
            rooms.extend(self.newest_first(direct).await?);
        }
        Ok(self.with_states(session.user, &rooms, &mut HashMap::new()).await?)
    }

    /// Channels in sidebar order, and direct messages, empty ones too if wanted.
    pub(super) fn visible_rooms(
        &self,
        session: &Session,
        empty_direct: bool,
    ) -> (Vec<RoomEntry>, Vec<RoomEntry>) {
        self.storage.state().read(|tables| {
            let access = ViewerRights::of(tables, session.user);
            let channels: Vec<RoomEntry> = groups(tables)
                .into_iter()
                .flat_map(|(id, group)| channels_of(tables, id, &group))
                .filter(|(id, room)| is_listed(tables, &access, *id, room))
                .collect();
            let direct = tables.rooms.iter().filter(|(id, room)| {
                let listed = empty_direct || room.has_history;
                is_direct(room) && listed && !room.archived && access.is_member(tables, **id, room)
            });
            (channels, direct.map(|(id, room)| (*id, Arc::clone(room))).collect())
        })
    }

    /// All groups in order, each with the rooms the viewer sees.
    ///
    /// # Errors
    /// [`ReadError::Store`].
    pub async fn list_groups(self, session: &Session) -> Result<Vec<GroupView>, ReadError> {
        self.list_groups_from(session, HashMap::new()).await
    }

    /// The same, with rooms the caller has just read; others are read now. Which rooms are listed is decided
    /// now.
    ///
    /// # Errors
    /// [`ReadError::Store`].
    pub async fn list_groups_from(
        self,
        session: &Session,
        mut known: HashMap<RoomId, RoomWithState>,
    ) -> Result<Vec<GroupView>, ReadError> {
        let found = self.storage.state().read(groups);
        let mut listed = Vec::new();
        for (id, group) in found {
            listed.push(self.group_view(session.user, id, &group, &mut known).await?);
        }
        Ok(listed)
    }

    /// One group.
    ///
    /// # Errors
    /// [`ReadError::NotFound`].
    pub async fn group(self, session: &Session, id: &str) -> Result<GroupView, ReadError> {
        let missing = ReadError::NotFound { what: "room group" };
        let Ok(id) = GroupId::try_from(id) else { return Err(missing) };
        let found = self.storage.state().read(|tables| tables.groups.get(&id).cloned());
        let group = found.ok_or(missing)?;
        Ok(self.group_view(session.user, id, &group, &mut HashMap::new()).await?)
    }

    /// Groups by id in order of first appearance; unknown ones are left out.
    ///
    /// # Errors
    /// [`ReadError::Store`].
    pub async fn batch_groups(
        self,
        session: &Session,
        ids: &[String],
    ) -> Result<Vec<GroupView>, ReadError> {
        let mut found = Vec::new();
        for id in distinct(ids) {
            match self.group(session, id).await {
                Ok(group) => found.push(group),
                Err(ReadError::Store(error)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// One room, archived ones too.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] when it does not exist, [`ReadError::Denied`] when it is hidden.
    pub async fn room(self, session: &Session, id: &str) -> Result<RoomWithState, ReadError> {
        let missing = ReadError::NotFound { what: "room" };
        let Ok(id) = RoomId::try_from(id) else { return Err(missing) };
        let room = self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id).ok_or(missing)?;
            let sees = ViewerRights::of(tables, session.user).sees(tables, id, room);
            if sees { Ok(Arc::clone(room)) } else { Err(ReadError::Denied) }
        })?;
        Ok(self.with_state(session.user, id, &room).await?)
    }

    /// Rooms by id in order of first appearance; unknown and hidden ones are left out.
    ///
    /// # Errors
    /// [`ReadError::Store`].
    pub async fn batch_rooms(
        self,
        session: &Session,
        ids: &[String],
    ) -> Result<Vec<RoomWithState>, ReadError> {
        let mut found = Vec::new();
        for id in distinct(ids) {
            match self.room(session, id).await {
                Ok(room) => found.push(room),
                Err(ReadError::Store(error)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// A room with the viewer's state in it.
    pub(super) async fn with_state(
        &self,
        viewer: UserId,
        id: RoomId,
        room: &Room,
    ) -> Result<RoomWithState, StorageError> {
        let (is_member, permissions, bypasses) = self.storage.state().read(|tables| {
            let access = ViewerRights::of(tables, viewer);
            let bypasses = [Permission::RoomManage, Permission::MessageManage]
                .into_iter()
                .any(|permission| access.can(permission, id, room));
            let is_member = access.is_member(tables, id, room);
            (is_member, access.room_grants(tables, id, room), bypasses)
        });
        let has_unread = is_member && self.markers.is_unread(viewer, id).await?;
        let slow_mode_next_post_ms = if is_member && !bypasses && room.slow_mode_seconds > 0 {
            let head = self.storage.timelines().head(&id).await?;
            let interval = i64::from(room.slow_mode_seconds) * 1000;
            next_post_ms(&head, &viewer, interval, self.clock.unix_ms())
        } else {
            None
        };
        let state = RoomViewerState { is_member, has_unread, permissions, slow_mode_next_post_ms };
        Ok(RoomWithState { room: room_view(id, room), state })
    }

    /// Rooms with the viewer's state in each; takes what is known.
    async fn with_states(
        &self,
        viewer: UserId,
        rooms: &[RoomEntry],
        known: &mut HashMap<RoomId, RoomWithState>,
    ) -> Result<Vec<RoomWithState>, StorageError> {
        let unknown = rooms.iter().filter(|(id, _)| !known.contains_key(id));
        self.storage.markers().prefetch(&viewer, unknown.map(|(id, _)| id.as_str())).await?;
        let mut listed = Vec::with_capacity(rooms.len());
        for (id, room) in rooms {
            listed.push(match known.remove(id) {
                Some(known) => known,
                None => self.with_state(viewer, *id, room).await?,
            });
        }
        Ok(listed)
    }

    async fn group_view(
        &self,
        viewer: UserId,
        id: GroupId,
        group: &Group,
        known: &mut HashMap<RoomId, RoomWithState>,
    ) -> Result<GroupView, StorageError> {
        let (visible, permissions) = self.storage.state().read(|tables| {
            let access = ViewerRights::of(tables, viewer);
            let visible: Vec<RoomEntry> = channels_of(tables, id, group)
                .into_iter()
                .filter(|(id, room)| is_listed(tables, &access, *id, room))
                .collect();
            (visible, group_permissions(&access.principal, PermissionScope::Group(id)))
        });
        Ok(GroupView {
            id,
            name: group.name.clone(),
            description: group.description.clone(),
            rooms: self.with_states(viewer, &visible, known).await?,
            permissions,
        })
    }

    pub(super) async fn newest_first(
        &self,
        rooms: Vec<RoomEntry>,
    ) -> Result<Vec<RoomEntry>, StorageError> {
        let mut dated = Vec::new();
        let now = self.clock.unix_ms();
        for (id, room) in rooms {
            // A clock that was ahead does not keep a room in front.
            let active_ms = self.storage.timelines().head(&id).await?.last_ms.min(now);
            dated.push((std::cmp::Reverse(active_ms), id, room));
        }
        dated.sort_by_key(|(active, id, _)| (*active, *id));
        Ok(dated.into_iter().map(|(_, id, room)| (id, room)).collect())
    }

    /// Whether the viewer is a member of a room now.
    #[must_use]
    pub fn is_member(&self, session: &Session, id: RoomId) -> bool {
        self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id);
            room.is_some_and(|room| {
                ViewerRights::of(tables, session.user).is_member(tables, id, room)
            })
        })
    }

    /// A room that the viewer's connection shows: unarchived channels it sees, its direct messages.
    pub async fn shown_room(
        self,
        session: &Session,
        id: RoomId,
        with_members: bool,
    ) -> Result<Option<ShownRoom>, StorageError> {
        let access = |tables: &Tables| ViewerRights::of(tables, session.user);
        let room = self.storage.state().read(|tables| listed_room(tables, &access(tables), id));
        self.shown(session, id, room, with_members).await
    }

    /// A room that the viewer is a member of, archived ones too.
    pub async fn joined_room(
        self,
        session: &Session,
        id: RoomId,
    ) -> Result<Option<ShownRoom>, StorageError> {
        let room = self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id)?;
            let is_member = ViewerRights::of(tables, session.user).is_member(tables, id, room);
            is_member.then(|| Arc::clone(room))
        });
        self.shown(session, id, room, true).await
    }

    /// Every room the viewer's connection shows: channels in sidebar order, then all its direct
    /// messages, the newest activity first.
    pub async fn shown_rooms(self, session: &Session) -> Result<Vec<RoomId>, StorageError> {
        let (channels, direct) = self.visible_rooms(session, true);
        let direct = self.newest_first(direct).await?;
        let shown: Vec<RoomId> = channels.into_iter().chain(direct).map(|(id, _)| id).collect();
        // The caller asks for the state of each next.
        let ids = shown.iter().map(RoomId::as_str);
        self.storage.markers().prefetch(&session.user, ids).await?;
        Ok(shown)
    }

    /// Whether the viewer's connection does not show a room now that it may have shown before. The
    /// participants of a direct message never change: who is none never saw it.
    #[must_use]
    pub fn may_have_lost(&self, session: &Session, id: RoomId) -> bool {
        self.storage.state().read(|tables| {
            let is_direct = tables.rooms.get(&id).is_some_and(|room| is_direct(room));
            !is_direct && listed_room(tables, &ViewerRights::of(tables, session.user), id).is_none()
        })
    }

    /// Whether there is a group of this id.
    #[must_use]
    pub fn has_group(&self, id: GroupId) -> bool {
        self.storage.state().read(|tables| tables.groups.contains_key(&id))
    }

    /// The channels whose records name a group, visible or not.
    #[must_use]
    pub fn rooms_in_group(&self, id: GroupId) -> Vec<RoomId> {
        self.storage.state().read(|tables| {
            let rooms = tables.rooms.iter();
            let inside = rooms.filter(|(_, room)| !is_direct(room) && room.group == Some(id));
            inside.map(|(room, _)| *room).collect()
        })
    }

    async fn shown(
        &self,
        session: &Session,
        id: RoomId,
        room: Option<Arc<Room>>,
        with_members: bool,
    ) -> Result<Option<ShownRoom>, StorageError> {
        let Some(room) = room else { return Ok(None) };
        let has_history = is_direct(&room).then_some(room.has_history);
        let with_members = with_members || has_history.is_some();
        loop {
            let with_state = self.with_state(session.user, id, &room).await?;
            let (is_member, members) = self.storage.state().read(|tables| {
                let is_member = ViewerRights::of(tables, session.user).is_member(tables, id, &room);
                let wanted = with_members && is_member;
                (is_member, if wanted { members(tables, id, &room) } else { Vec::new() })
            });
            // Somebody may have joined or left between the two reads; for the viewer itself they must agree.
            if is_member == with_state.state.is_member {
                return Ok(Some(ShownRoom { with_state, has_history, members }));
            }
        }
    }
}

/// A room as everybody who sees it sees it.
pub(super) fn room_view(id: RoomId, room: &Room) -> RoomView {
    RoomView {
        id,
        kind: if is_direct(room) { RoomKind::Direct } else { RoomKind::Channel },
        name: room.name.clone(),
        description: room.description.clone(),
        archived: room.archived,
        group: room.group,
        universal: room.universal,
        slow_mode_seconds: room.slow_mode_seconds,
    }
}

/// All groups in sidebar order.
pub(super) fn groups(tables: &Tables) -> Vec<(GroupId, Arc<Group>)> {
    let mut groups: Vec<_> =
        tables.groups.iter().map(|(id, group)| (*id, Arc::clone(group))).collect();
    groups.sort_by_key(|(id, group)| (group.position, group.created_ms, *id));
    groups
}

/// The channels of a group: as its items say, others behind them by age. An item that is a room of
/// another group is left out: the room's own record decides.
fn channels_of(tables: &Tables, id: GroupId, group: &Group) -> Vec<RoomEntry> {
    let own = |room: &Room| !is_direct(room) && room.group == Some(id);
    let mut listed = HashSet::new();
    let mut found: Vec<RoomEntry> = group
        .items
        .iter()
        .filter_map(|item| match item {
            GroupItem::Room(room) => Some(*room),
            GroupItem::Other(_) => None,
        })
        .filter(|room| listed.insert(*room))
        .filter_map(|id| Some((id, Arc::clone(tables.rooms.get(&id).filter(|room| own(room))?))))
        .collect();
    let mut rest: Vec<RoomEntry> = tables
        .rooms
        .iter()
        .filter(|(id, room)| own(room) && !listed.contains(id))
        .map(|(id, room)| (*id, Arc::clone(room)))
        .collect();
    rest.sort_by_key(|(id, room)| (room.created_ms, *id));
    found.append(&mut rest);
    found
}

fn is_listed(tables: &Tables, access: &ViewerRights, id: RoomId, room: &Room) -> bool {
    !room.archived && access.sees(tables, id, room)
}

/// A room as the directory lists it for a viewer: a direct message, or a channel of a group that exists;
/// `None` for any other.
pub(super) fn listed_room(tables: &Tables, access: &ViewerRights, id: RoomId) -> Option<Arc<Room>> {
    let room = tables.rooms.get(&id).filter(|room| is_listed(tables, access, id, room))?;
    let has_group = || room.group.is_some_and(|group| tables.groups.contains_key(&group));
    (is_direct(room) || has_group()).then(|| Arc::clone(room))
}

/// The effective members of a room, oldest account first.
fn members(tables: &Tables, id: RoomId, room: &Room) -> Vec<UserId> {
    let present = |user: UserId| {
        let record = tables.users.get(&user).filter(|record| !record.deleted)?;
        Some((record.created_ms, user))
    };
    let mut members: Vec<(i64, UserId)> = if is_direct(room) || room.universal {
        let by_rule = |user: &&UserId| ViewerRights::of(tables, **user).is_member(tables, id, room);
        tables.users.keys().filter(by_rule).filter_map(|user| present(*user)).collect()
    } else {
        let explicit = tables.members(&id).filter(|(_, member)| !member.left);
        explicit.filter_map(|(user, _)| present(*user)).collect()
    };
    members.sort_unstable();
    members.into_iter().map(|(_, user)| user).collect()
}
