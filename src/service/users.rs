//! The users of the server: the directory, and the viewer itself.

use std::sync::Arc;

use super::markers::Markers;
use super::presence::KnownPresences;
use super::rights::{ViewerRights, is_direct};
use super::{
    CustomStatusView, DirectoryMember, Page, PageRequest, ReadError, Session, UserView, ViewerView,
};
use crate::domain::permission::{EVERYONE, Permission, capabilities, is_built, server_permissions};
use crate::domain::{CustomStatus, RoomId, TimeFormat, User, UserId};
use crate::limits::BATCH_IDS_MAX;
use crate::runtime::Clock;
use crate::storage::Storage;

/// Entries of ListUsers without a limit.
const LIST_DEFAULT: usize = 20;

/// The users of the server, as a viewer sees them.
#[derive(Clone, Copy)]
pub struct Users<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) presences: &'a KnownPresences,
}

impl Users<'_> {
    /// All users that are not erased, oldest first; `search` is a part of login or display name.
    pub fn list(
        &self,
        _session: &Session,
        search: &str,
        page: PageRequest,
    ) -> Page<DirectoryMember> {
        let needle = search.to_lowercase();
        let mut found: Vec<(UserId, Arc<User>)> = self.storage.state().read(|tables| {
            let users = tables.users.iter().filter(|(_, user)| !user.deleted);
            let users = users.filter(|(_, user)| matches(user, &needle));
            users.map(|(id, user)| (*id, Arc::clone(user))).collect()
        });
        found.sort_by_key(|(id, user)| (user.created_ms, *id));
        paged(found, page, LIST_DEFAULT, |(id, user)| self.directory_member(id, &user))
    }

    /// One user by id.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for unknown and erased users.
    pub fn get(&self, _session: &Session, id: &str) -> Result<DirectoryMember, ReadError> {
        let id = UserId::try_from(id).ok();
        let found = id.and_then(|id| self.present(&id));
        found.ok_or(ReadError::NotFound { what: "user" })
    }

    /// One user by login, in any case.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] for unknown and erased users.
    pub fn by_login(&self, _session: &Session, login: &str) -> Result<DirectoryMember, ReadError> {
        let found = self.storage.state().read(|tables| tables.user_by_login(login).cloned());
        let found = found.and_then(|user| self.present(&user.id));
        found.ok_or(ReadError::NotFound { what: "user" })
    }

    /// Users by id in order of first appearance; unknown and erased ones are left out.
    #[must_use]
    pub fn batch(&self, _session: &Session, ids: &[String]) -> Vec<DirectoryMember> {
        distinct(ids)
            .filter_map(|id| UserId::try_from(id).ok())
            .filter_map(|id| self.present(&id))
            .collect()
    }

    /// Everybody who is not erased, oldest account first.
    #[must_use]
    pub fn ids(&self, _session: &Session) -> Vec<UserId> {
        self.storage.state().read(|tables| {
            let users = tables.users.iter().filter(|(_, user)| !user.deleted);
            let mut users: Vec<_> = users.map(|(id, user)| (user.created_ms, *id)).collect();
            users.sort_unstable();
            users.into_iter().map(|(_, id)| id).collect()
        })
    }

    /// The directory entry of a user; `None` when erased or unknown.
    #[must_use]
    pub fn entry(&self, _session: &Session, id: &UserId) -> Option<DirectoryMember> {
        self.present(id)
    }

    /// The viewer with its capabilities and flags.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] when the account was erased meanwhile; [`ReadError::Store`].
    pub async fn viewer(self, session: &Session) -> Result<ViewerView, ReadError> {
        let (user, principal) = self.storage.state().read(|tables| {
            let user = tables.users.get(&session.user).filter(|user| !user.deleted).cloned();
            (user, ViewerRights::of(tables, session.user).principal)
        });
        let user = user.ok_or(ReadError::NotFound { what: "user" })?;
        let permissions = server_permissions(&principal);
        let may_delete = Permission::UserDeleteSelf.name();
        let can_delete_account = is_built(Permission::UserDeleteSelf)
            && permissions.iter().any(|(name, granted)| *name == may_delete && *granted);
        Ok(ViewerView {
            profile: self.view(session.user, &user),
            has_verified_email: user.emails.iter().any(|email| email.verified),
            has_password: !user.password_hash.is_empty(),
            can_delete_account,
            last_login_change_ms: user.login_changed_ms,
            timezone: user.settings.timezone.clone(),
            time_format: user.settings.time_format.unwrap_or(TimeFormat::Auto),
            capabilities: capabilities(&principal),
            has_unread_followed_threads: false,
            permissions,
            has_unread_rooms: self.has_unread_rooms(session).await?,
        })
    }

    async fn has_unread_rooms(&self, session: &Session) -> Result<bool, ReadError> {
        let joined: Vec<RoomId> = self.storage.state().read(|tables| {
            let access = ViewerRights::of(tables, session.user);
            let rooms = tables.rooms.iter().filter(|(_, room)| !is_direct(room) && !room.archived);
            let joined = rooms.filter(|(id, room)| access.is_member(tables, **id, room));
            joined.map(|(id, _)| *id).collect()
        });
        let markers = Markers { storage: self.storage, clock: self.clock };
        for room in joined {
            if markers.is_unread(session.user, room).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The directory entry of a user that is not erased.
    pub(super) fn present(&self, id: &UserId) -> Option<DirectoryMember> {
        let user = self.storage.state().read(|tables| tables.users.get(id).cloned());
        user.filter(|user| !user.deleted).map(|user| self.directory_member(*id, &user))
    }

    pub(super) fn directory_member(&self, id: UserId, user: &User) -> DirectoryMember {
        let mut roles = Vec::new();
        if !user.is_bot {
            roles.extend(user.roles.iter().cloned());
            roles.sort();
            roles.insert(0, EVERYONE.to_owned());
        }
        DirectoryMember { user: self.view(id, user), roles, created_ms: user.created_ms }
    }

    /// A user as others see it now.
    pub(super) fn view(&self, id: UserId, user: &User) -> UserView {
        let shown = if user.display_name.is_empty() { &user.login } else { &user.display_name };
        let CustomStatus { emoji, text, expires_ms } = &user.custom_status;
        let lasts = expires_ms.is_none_or(|end| self.clock.unix_ms() < end);
        let status = (!text.is_empty() && lasts).then(|| CustomStatusView {
            emoji: emoji.clone(),
            text: text.clone(),
            expires_ms: *expires_ms,
        });
        UserView {
            id,
            login: user.login.clone(),
            display_name: shown.clone(),
            deleted: user.deleted,
            avatar_key: user.avatar_key.clone(),
            custom_status: status,
            is_bot: user.is_bot,
            presence: self.presences.status(&id, self.clock.unix_ms()),
        }
    }

    /// The users of these ids in order of first appearance, erased ones left out.
    pub(super) fn named(&self, ids: impl IntoIterator<Item = UserId>) -> Vec<UserView> {
        let mut seen: Vec<UserId> = Vec::new();
        let mut views = Vec::new();
        self.storage.state().read(|tables| {
            for id in ids {
                if seen.contains(&id) {
                    continue;
                }
                seen.push(id);
                let user = tables.users.get(&id).filter(|user| !user.deleted);
                views.extend(user.map(|user| self.view(id, user)));
            }
        });
        views
    }
}

/// Whether login or shown name contains the needle, which is in lower case.
pub(super) fn matches(user: &User, needle: &str) -> bool {
    user.login.to_lowercase().contains(needle) || user.display_name.to_lowercase().contains(needle)
}

/// The first ids of a batch, repetitions dropped.
pub(super) fn distinct(ids: &[String]) -> impl Iterator<Item = &str> {
    let mut seen: Vec<&str> = Vec::new();
    for id in ids {
        if seen.len() == BATCH_IDS_MAX {
            break;
        }
        if !seen.contains(&id.as_str()) {
            seen.push(id);
        }
    }
    seen.into_iter()
}

/// One page of a whole list.
pub(super) fn paged<T, V>(
    all: Vec<T>,
    page: PageRequest,
    default_limit: usize,
    view: impl FnMut(T) -> V,
) -> Page<V> {
    let limit = if page.limit == 0 { default_limit } else { page.limit };
    let total = all.len();
    let items: Vec<V> = all.into_iter().skip(page.offset).take(limit).map(view).collect();
    let has_more = page.offset.saturating_add(items.len()) < total;
    Page { items, total, has_more }
}
