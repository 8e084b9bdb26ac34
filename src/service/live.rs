//! What the realtime sockets of a viewer are told: the same views as calls answer, one change at a
//! time, with the rights of the moment of sending.

use std::sync::Arc;

use super::directory::listed_room;
use super::rights::{ViewerRights, is_direct};
use super::{
    DirectoryMember, ReadError, RoomKind, RoomWithState, RowView, Service, Session, StoreError,
    UserView,
};
use crate::domain::{EventId, GroupId, RoomId, UserId};
use crate::storage::records::{Room, SessionEnd, Token};
use crate::storage::{EphemeralEvent, StorageError, Tables};

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// It does.
    Holds,
    /// Ended by its user; the contract's word why.
    Ended {
        /// `logout`, `password_changed` and so on.
        reason: &'static str,
    },
    /// Expired or revoked.
    Expired,
}

/// A room as a viewer's connection shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRoom {
    /// The room and the viewer's state in it.
    pub with_state: RoomWithState,
    /// Direct messages: whether a message was ever posted.
    pub has_history: Option<bool>,
    /// The effective members, oldest account first, of the same moment as the viewer's membership;
    /// empty where nobody asked for them.
    pub members: Vec<UserId>,
}

/// A row with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRow {
    /// The row.
    pub row: RowView,
    /// Every user it names.
    pub users: Vec<UserView>,
    /// Its position in the room's timeline.
    pub cursor: String,
}

impl Service {
    /// Looks again whether a session counts, at the store's leader.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session_state(&self, session: &Session) -> Result<SessionState, StoreError> {
        let user = self.storage().read(|tables| tables.users.get(&session.user).cloned());
        let Some(user) = user.filter(|user| !user.deleted) else {
            return Ok(SessionState::Ended { reason: "account_deleted" });
        };
        let counts = |token: &Token| token.session_generation == user.session_generation;
        Ok(match self.storage().token(&session.hash).await? {
            Some((token, _)) if counts(&token) && self.now_ms() < token.expires_ms => {
                SessionState::Holds
            }
            Some((token, _)) if counts(&token) => SessionState::Expired,
            None if session.generation == user.session_generation => {
                if self.now_ms() < session.expires_ms {
                    SessionState::Ended { reason: "logout" }
                } else {
                    SessionState::Expired
                }
            }
            Some(_) | None => match user.session_end() {
                SessionEnd::PasswordChanged => SessionState::Ended { reason: "password_changed" },
                SessionEnd::PasswordReset => SessionState::Ended { reason: "password_reset" },
                SessionEnd::IdentityDisconnected => {
                    SessionState::Ended { reason: "external_identity_disconnected" }
                }
                SessionEnd::EndUnknown => SessionState::Expired,
            },
        })
    }

    /// Everybody who is not erased, oldest account first.
    #[must_use]
    pub fn all_users(&self, _session: &Session) -> Vec<UserId> {
        self.storage().read(|tables| {
            let users = tables.users.iter().filter(|(_, user)| !user.deleted);
            let mut users: Vec<_> = users.map(|(id, user)| (user.created_ms, *id)).collect();
            users.sort_unstable();
            users.into_iter().map(|(_, id)| id).collect()
        })
    }

    /// The directory entry of a user; `None` when erased or unknown.
    #[must_use]
    pub fn directory_entry(&self, _session: &Session, id: &UserId) -> Option<DirectoryMember> {
        self.present_user(id)
    }

    /// Whether the viewer is a member of a room now.
    #[must_use]
    pub fn is_member(&self, session: &Session, id: RoomId) -> bool {
        self.storage().read(|tables| {
            let room = tables.rooms.get(&id);
            room.is_some_and(|room| {
                ViewerRights::of(tables, session.user).is_member(tables, id, room)
            })
        })
    }

    /// A room that the viewer's connection shows: unarchived channels it sees, its direct messages.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn shown_room(
        &self,
        session: &Session,
        id: RoomId,
        with_members: bool,
    ) -> Result<Option<ShownRoom>, StorageError> {
        let access = |tables: &Tables| ViewerRights::of(tables, session.user);
        let room = self.storage().read(|tables| listed_room(tables, &access(tables), id));
        self.shown(session, id, room, with_members).await
    }

    /// A room that the viewer is a member of, archived ones too.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn joined_room(
        &self,
        session: &Session,
        id: RoomId,
    ) -> Result<Option<ShownRoom>, StorageError> {
        let room = self.storage().read(|tables| {
            let room = tables.rooms.get(&id)?;
            let is_member = ViewerRights::of(tables, session.user).is_member(tables, id, room);
            is_member.then(|| Arc::clone(room))
        });
        self.shown(session, id, room, true).await
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
            let (is_member, members) = self.storage().read(|tables| {
                let is_member = ViewerRights::of(tables, session.user).is_member(tables, id, &room);
                let wanted = with_members && is_member;
                (is_member, if wanted { members(tables, id, &room) } else { Vec::new() })
            });
            // Between the two somebody may have come or gone; the viewer itself must fit both.
            if is_member == with_state.state.is_member {
                return Ok(Some(ShownRoom { with_state, has_history, members }));
            }
        }
    }

    /// Whether the viewer's connection does not show a room now that it may have shown before. The
    /// participants of a direct message never change: who is none never saw it.
    #[must_use]
    pub fn may_have_lost(&self, session: &Session, id: RoomId) -> bool {
        self.storage().read(|tables| {
            let is_direct = tables.rooms.get(&id).is_some_and(|room| is_direct(room));
            !is_direct && listed_room(tables, &ViewerRights::of(tables, session.user), id).is_none()
        })
    }

    /// Whether there is a group of this id.
    #[must_use]
    pub fn has_group(&self, id: GroupId) -> bool {
        self.storage().read(|tables| tables.groups.contains_key(&id))
    }

    /// The channels whose records name a group, whoever sees them.
    #[must_use]
    pub fn rooms_in_group(&self, id: GroupId) -> Vec<RoomId> {
        self.storage().read(|tables| {
            let rooms = tables.rooms.iter();
            let inside = rooms.filter(|(_, room)| !is_direct(room) && room.group_id == id.as_str());
            inside.map(|(room, _)| *room).collect()
        })
    }

    /// The highest STATE revision that what this process shows may contain.
    #[must_use]
    pub fn state_seen(&self) -> u64 {
        self.storage().read(Tables::highest)
    }

    /// Every room the viewer's connection shows: channels in sidebar order, then all its direct
    /// messages, the newest activity first.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn shown_rooms(&self, session: &Session) -> Result<Vec<RoomId>, StorageError> {
        let (channels, direct) = self.visible_rooms(session, true);
        let direct = self.newest_first(direct).await?;
        let shown: Vec<RoomId> = channels.into_iter().chain(direct).map(|(id, _)| id).collect();
        // The caller asks for the state of each next.
        let ids = shown.iter().map(RoomId::as_str);
        self.storage().prefetch_markers(&session.user, ids).await?;
        Ok(shown)
    }

    /// The position of a row in a room's timeline, for this viewer.
    #[must_use]
    pub fn row_cursor(&self, session: &Session, room: RoomId, row: &EventId) -> String {
        self.cursor(session.user, room, row.row())
    }

    /// One row of a timeline the viewer may read; `None` when there is no such row, or it is not
    /// shown.
    ///
    /// # Errors
    /// [`ReadError::Denied`] for others than members.
    pub async fn shown_row(
        &self,
        session: &Session,
        room: RoomId,
        id: &str,
    ) -> Result<Option<ShownRow>, ReadError> {
        let room = self.readable_room(session, room.as_str())?;
        let Ok(id) = EventId::try_from(id) else { return Ok(None) };
        let Some(row) = self.storage().row(&room, &id).await? else { return Ok(None) };
        let Some(row) = Box::pin(self.row_view(room, row)).await? else { return Ok(None) };
        let users = self.users_named(row.actor);
        let cursor = self.row_cursor(session, room, &row.id);
        Ok(Some(ShownRow { row, users, cursor }))
    }

    /// Tells the other members of a room that the viewer types; once a second, wherever it does.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], [`ReadError::Denied`] for others than members.
    pub async fn publish_typing(
        &self,
        session: &Session,
        room: &str,
        thread: &str,
    ) -> Result<(), ReadError> {
        let room = self.readable_room(session, room)?;
        let thread = EventId::try_from(thread).ok();
        let (user, now) = (session.user, self.inner.clock.now());
        let given = self.inner.typing_signs.give(user, now, (room, thread), |_, newest| newest);
        if let Some((room, thread)) = given {
            self.storage()
                .publish_ephemeral(&EphemeralEvent::Typing { room, user, thread })
                .await?;
        }
        Ok(())
    }

    /// Tells a sign whose second is over; one that is lost is followed by the next.
    pub(super) async fn publish_pending_typing(
        &self,
        user: UserId,
        room: RoomId,
        thread: Option<EventId>,
    ) {
        let typing = EphemeralEvent::Typing { room, user, thread };
        if let Err(error) = self.storage().publish_ephemeral(&typing).await {
            log::debug!(error:err = error; "a sign of typing is lost");
        }
    }

    /// Waits until the sockets of this process were told of everything it has written so far; a feed
    /// that is behind keeps no answer waiting for longer than a moment.
    pub async fn wait_until_delivered(&self) {
        if let Err(error) = self.storage().wait_until_delivered(crate::limits::SETTLE_TIMEOUT).await
        {
            log::debug!(error:err = error; "an answer goes out before its live event");
        }
    }
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
