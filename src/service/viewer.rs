//! The user behind a request.

use super::rights::{ViewerRights, is_direct};
use super::{ReadError, Service, Session, ViewerView};
use crate::domain::RoomId;
use crate::domain::permission::{Permission, capabilities, is_built, server_permissions};
use crate::storage::records::User;

impl Service {
    /// The viewer with its capabilities and flags.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] when the account was erased meanwhile; [`ReadError::Store`].
    pub async fn viewer(&self, session: &Session) -> Result<ViewerView, ReadError> {
        let (user, subject) = self.storage().read(|tables| {
            let user = tables.users.get(&session.user).filter(|user| !user.deleted).cloned();
            (user, ViewerRights::of(tables, session.user).subject)
        });
        let user = user.ok_or(ReadError::NotFound { what: "user" })?;
        let permissions = server_permissions(&subject);
        let may_delete = Permission::UserDeleteSelf.name();
        let can_delete_account = is_built(Permission::UserDeleteSelf)
            && permissions.iter().any(|(name, granted)| *name == may_delete && *granted);
        let settings = user.settings.clone().unwrap_or_default();
        Ok(ViewerView {
            profile: self.user_view(session.user, &user),
            has_verified_email: user.emails.iter().any(|email| email.verified),
            has_password: !user.password_hash.is_empty(),
            can_delete_account,
            last_login_change_ms: last_login_change(&user),
            timezone: Some(settings.timezone).filter(|zone| !zone.is_empty()),
            time_format: settings.time_format.max(TIME_FORMAT_AUTO),
            capabilities: capabilities(&subject),
            has_unread_followed_threads: false,
            permissions,
            has_unread_rooms: self.has_unread_rooms(session).await?,
        })
    }

    async fn has_unread_rooms(&self, session: &Session) -> Result<bool, ReadError> {
        let joined: Vec<RoomId> = self.storage().read(|tables| {
            let access = ViewerRights::of(tables, session.user);
            let rooms = tables.rooms.iter().filter(|(_, room)| !is_direct(room) && !room.archived);
            let joined = rooms.filter(|(id, room)| access.is_member(tables, **id, room));
            joined.map(|(id, _)| *id).collect()
        });
        for room in joined {
            if self.is_unread(session.user, room).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The contract's number for a time format that was never chosen.
const TIME_FORMAT_AUTO: i32 = 1;

fn last_login_change(user: &User) -> Option<i64> {
    Some(user.login_changed_ms).filter(|at| *at != 0)
}
