//! Who is in a room: effective members, which in a universal room is everybody who may join.

use std::sync::Arc;

use super::rights::ViewerRights;
use super::users::{Users, distinct, matches, paged};
use super::{DirectoryMember, Page, PageRequest, ReadError, Session};
use crate::domain::permission::Permission;
use crate::domain::{RoomId, User, UserId};
use crate::storage::Storage;

/// Entries of ListMembers without a limit.
const MEMBERS_DEFAULT: usize = 250;

/// The effective members of rooms.
#[derive(Clone, Copy)]
pub struct Members<'a> {
    pub(super) storage: &'a Storage,
    pub(super) users: Users<'a>,
}

impl Members<'_> {
    /// The effective members of a room by shown name.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for an unknown room, [`ReadError::Denied`] for a viewer who may not
    /// know.
    pub fn list(
        &self,
        session: &Session,
        room: &str,
        search: &str,
        page: PageRequest,
    ) -> Result<Page<DirectoryMember>, ReadError> {
        let needle = search.to_lowercase();
        let mut found = self.members_known_to(session, room, |_, user| matches(user, &needle))?;
        found.sort_by_cached_key(|(id, user)| (shown_name(user).to_lowercase(), *id));
        Ok(paged(found, page, MEMBERS_DEFAULT, |(id, user)| self.users.directory_member(id, &user)))
    }

    /// One effective member of a room.
    ///
    /// # Errors
    /// As [`Self::list`]; [`ReadError::NotFound`] also for who is no member.
    pub fn get(
        &self,
        session: &Session,
        room: &str,
        user: &str,
    ) -> Result<DirectoryMember, ReadError> {
        let asked = [user.to_owned()];
        let mut found = self.batch(session, room, &asked)?;
        found.pop().ok_or(ReadError::NotFound { what: "member" })
    }

    /// Members by id in order of first appearance; who is no member is left out.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn batch(
        &self,
        session: &Session,
        room: &str,
        ids: &[String],
    ) -> Result<Vec<DirectoryMember>, ReadError> {
        let asked: Vec<UserId> = distinct(ids).filter_map(|id| UserId::try_from(id).ok()).collect();
        let mut found = self.members_known_to(session, room, |id, _| asked.contains(id))?;
        found.sort_by_key(|(id, _)| asked.iter().position(|one| one == id));
        Ok(found.into_iter().map(|(id, user)| self.users.directory_member(id, &user)).collect())
    }

    fn members_known_to(
        &self,
        session: &Session,
        room: &str,
        wanted: impl Fn(&UserId, &User) -> bool,
    ) -> Result<Vec<(UserId, Arc<User>)>, ReadError> {
        let missing = ReadError::NotFound { what: "room" };
        let Ok(id) = RoomId::try_from(room) else { return Err(missing) };
        self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id).ok_or(missing)?;
            let access = ViewerRights::of(tables, session.user);
            let can = |permission| access.can(permission, id, room);
            let knows = access.is_member(tables, id, room)
                || can(Permission::RoomManage)
                || (can(Permission::RoomList) && can(Permission::RoomJoin));
            if !knows {
                return Err(ReadError::Denied);
            }
            let is_member =
                |user: &UserId| ViewerRights::of(tables, *user).is_member(tables, id, room);
            let users = tables.users.iter();
            let users = users.filter(|(user, record)| !record.deleted && wanted(user, record));
            let users = users.filter(|(user, _)| is_member(user));
            Ok(users.map(|(user, record)| (*user, Arc::clone(record))).collect())
        })
    }
}

fn shown_name(user: &User) -> &str {
    if user.display_name.is_empty() { &user.login } else { &user.display_name }
}
