//! Making rooms, joining, leaving.
//!
//! STATE decides, the journal records: a room or membership is stored first, then its row, then the
//! caller gets its result. The record has `announced` set once its row is stored; the sweep writes the rows that a
//! kill prevented.

use std::convert::Infallible;
use std::time::Instant;

use super::barrier::ReadBarrier;
use super::directory::room_view;
use super::error::flatten;
use super::rights::{ViewerRights, is_direct};
use super::{CallKind, RoomError, RoomView, Session};
use crate::crypto::random;
use crate::domain::permission::Permission;
use crate::domain::text::{RoomName, description};
use crate::domain::timeline::{Effect, Fact, FactKind, Row, RowKind};
use crate::domain::{EventId, GroupId, Membership, Room, RoomId, UserId};
use crate::limits::{IDEMPOTENCY_WINDOW, TIMELINE_PAGE_MAX};
use crate::runtime::Clock;
use crate::storage::{
    ChangeError, Claim, Claimed, Draft, DraftView, RecordChange, RequestId, RoomHead, Storage,
    StorageError,
};

/// A channel to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewRoom<'a> {
    pub name: &'a str,
    pub description: &'a str,
    /// Its group; empty: the first one.
    pub group: &'a str,
    /// Everybody who may join is a member by rule.
    pub universal: bool,
}

/// The row to append is already stored.
struct AlreadyStored;

/// The row of a membership is not stored yet.
struct Unannounced;

/// How often a membership is announced before it is changed, while others change it too.
const ANNOUNCE_ATTEMPTS: usize = 16;

/// Rooms and memberships.
#[derive(Clone, Copy)]
pub struct Rooms<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) barrier: ReadBarrier<'a>,
}

impl Rooms<'_> {
    /// Whether the viewer may see what is pinned in a room.
    ///
    /// # Errors
    /// [`RoomError::NotFound`]; [`RoomError::Denied`] for others than members; [`RoomError::Direct`].
    pub fn check_pins(&self, session: &Session, id: &str) -> Result<(), RoomError> {
        let id = RoomId::try_from(id).map_err(|_| RoomError::NotFound)?;
        self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id).ok_or(RoomError::NotFound)?;
            if !ViewerRights::of(tables, session.user).is_member(tables, id, room) {
                return Err(RoomError::Denied);
            }
            if is_direct(room) { Err(RoomError::Direct) } else { Ok(()) }
        })
    }

    /// Makes a channel at the end of its group. The creator is not made a member.
    ///
    /// # Cancel safety
    /// Dropping it leaves no room, or a room whose first row the sweep stores; never a taken name for
    /// long.
    pub async fn create(self, session: &Session, new: NewRoom<'_>) -> Result<RoomView, RoomError> {
        let name = RoomName::parse(new.name)?;
        let about = description(new.description)?;
        let group = self.group_for_new_room(session, new.group)?;
        let id = RoomId::from_random(random());
        let room = Room {
            name: name.as_str().to_owned(),
            description: about.to_owned(),
            group: Some(group),
            universal: new.universal,
            created_ms: self.clock.unix_ms(),
            creator: Some(session.user),
            ..Room::new(id)
        };
        self.place_room(id, room.clone(), &name.key()).await?;
        log::info!(room:% = id; "room created");
        Ok(room_view(id, &room))
    }

    /// Makes the viewer a member.
    ///
    /// # Cancel safety
    /// Dropping it leaves no membership, or one whose row the sweep stores.
    pub async fn join(self, session: &Session, id: &str) -> Result<RoomView, RoomError> {
        let id = RoomId::try_from(id).map_err(|_| RoomError::NotFound)?;
        let (room, is_member) = self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id).cloned().ok_or(RoomError::NotFound)?;
            let access = ViewerRights::of(tables, session.user);
            let is_member = access.is_member(tables, id, &room);
            if is_direct(&room) {
                return Err(if is_member { RoomError::Direct } else { RoomError::Denied });
            }
            if !is_member && !access.can(Permission::RoomJoin, id, &room) {
                return Err(RoomError::Denied);
            }
            Ok((room, is_member))
        })?;
        if !is_member {
            if room.archived {
                return Err(RoomError::Archived);
            }
            self.add_member(id, session.user).await?;
        }
        Ok(room_view(id, &room))
    }

    /// Ends the viewer's membership; `false`: there was none.
    ///
    /// # Cancel safety
    /// Dropping it leaves the membership, or none with a row that the sweep stores.
    pub async fn leave(self, session: &Session, id: &str) -> Result<bool, RoomError> {
        let id = RoomId::try_from(id).map_err(|_| RoomError::NotFound)?;
        self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id).ok_or(RoomError::NotFound)?;
            let is_member = ViewerRights::of(tables, session.user).is_member(tables, id, room);
            match (is_direct(room), is_member) {
                (true, false) => Err(RoomError::Denied),
                (true, true) => Err(RoomError::Direct),
                (false, _) if room.universal => Err(RoomError::Universal),
                (false, _) => Ok(()),
            }
        })?;
        self.remove_member(id, session.user).await
    }

    /// Stores a new channel under a name that is free, with its first row. It comes last in its group:
    /// behind the rooms that the group lists.
    pub(super) async fn place_room(
        &self,
        id: RoomId,
        room: Room,
        name_key: &str,
    ) -> Result<(), RoomError> {
        if self.storage.state().claim(Claim::RoomName(name_key), id).await? != Claimed::Yes {
            return Err(RoomError::NameTaken);
        }
        self.store_room(id, &room).await?;
        // This process may have been suspended so long that the sweep gave the claim to somebody else.
        self.barrier.pass(CallKind::Write).await?;
        if self.storage.state().claim(Claim::RoomName(name_key), id).await? != Claimed::Yes {
            self.storage
                .state()
                .change::<Room, _>(&id, |_| -> Result<_, Infallible> { Ok(RecordChange::Delete) })
                .await
                .map_err(StorageError::from)?;
            return Err(RoomError::NameTaken);
        }
        Ok(self.announce_room(id).await?)
    }

    /// Stores a new room; one of this id that is there already stays.
    pub(super) async fn store_room(&self, id: RoomId, room: &Room) -> Result<(), StorageError> {
        self.storage.state().put_if_absent(&id, room).await
    }

    /// Stores the row `room_created`, the first of every channel, and notes that it is.
    pub(super) async fn announce_room(&self, id: RoomId) -> Result<(), StorageError> {
        let room = self.storage.state().read(|tables| tables.rooms.get(&id).cloned());
        let Some(room) = room.filter(|room| !room.announced) else { return Ok(()) };
        let actor = room.creator;
        let draft = |view: &DraftView<'_>| {
            let head = view.head();
            if head.rows > 0 {
                return Err(AlreadyStored);
            }
            let effect = fact(head, FactKind::RoomCreated, 0);
            Ok(Draft { actor, at_ms: room.created_ms, effect })
        };
        match Box::pin(self.storage.timelines().append(&id, &RequestId::random(), &[], draft)).await
        {
            Ok(_) | Err(ChangeError::Refused(AlreadyStored)) => {}
            Err(ChangeError::Storage(error)) => return Err(error),
        }
        self.storage
            .state()
            .change::<Room, _>(&id, |present| -> Result<_, Infallible> {
                Ok(match present.filter(|room| !room.announced) {
                    Some(room) => RecordChange::Put(Room { announced: true, ..room.clone() }),
                    None => RecordChange::Keep,
                })
            })
            .await
            .map_err(StorageError::from)?;
        Ok(())
    }

    /// Makes somebody a member and writes the row.
    pub(super) async fn add_member(&self, room: RoomId, user: UserId) -> Result<(), RoomError> {
        let head = self.storage.timelines().head(&room).await?;
        let newest = head.newest();
        let now = self.clock.unix_ms();
        let joined = Membership {
            since_ms: now,
            joined_row: newest.map_or(0, |newest| u64::from(newest.row) + 1),
            joined_row_ms: newest.map_or(0, |newest| newest.at_ms),
            ..Membership::new(room, user)
        };
        let mut is_new = false;
        self.change_announced(room, user, |present| {
            is_new = present.is_none();
            if is_new { RecordChange::Put(joined.clone()) } else { RecordChange::Keep }
        })
        .await?;
        let from = if is_new { head.rows } else { 0 };
        Ok(self.announce_member(room, user, from).await?)
    }

    /// Ends somebody's membership and writes the row; `false`: there was none.
    pub(super) async fn remove_member(
        &self,
        room: RoomId,
        user: UserId,
    ) -> Result<bool, RoomError> {
        let head = self.storage.timelines().head(&room).await?;
        let now = self.clock.unix_ms();
        let mut was_member = false;
        self.change_announced(room, user, |present| {
            was_member = present.is_some();
            match present {
                Some(member) => RecordChange::Put(Membership {
                    left: true,
                    announced: false,
                    since_ms: now,
                    // Where the sweep begins to look for the row.
                    joined_row: u64::from(head.rows),
                    ..member.clone()
                }),
                None => RecordChange::Keep,
            }
        })
        .await?;
        self.announce_member(room, user, 0).await?;
        Ok(was_member)
    }

    /// Changes a membership whose row is stored; one whose row is not stored yet is announced first. So rows of
    /// joining and leaving alternate, even with concurrent calls. A departure that is announced has no record.
    async fn change_announced(
        &self,
        room: RoomId,
        user: UserId,
        mut change: impl FnMut(Option<&Membership>) -> RecordChange<Membership>,
    ) -> Result<(), StorageError> {
        for _ in 0..ANNOUNCE_ATTEMPTS {
            self.announce_member(room, user, 0).await?;
            let changed = self
                .storage
                .state()
                .change::<Membership, _>(&(room, user), |present| match present {
                    Some(member) if !member.announced => Err(Unannounced),
                    present => Ok(change(present)),
                })
                .await;
            match changed {
                Ok(_) => return Ok(()),
                Err(ChangeError::Refused(Unannounced)) => {}
                Err(ChangeError::Storage(error)) => return Err(error),
            }
        }
        Err(StorageError::Busy)
    }

    /// Stores the row of a join or leave that is not announced yet and notes that it is; the record of a
    /// departure ends with that. `from`: the row is known not to precede this one.
    pub(super) async fn announce_member(
        &self,
        room: RoomId,
        user: UserId,
        from: u32,
    ) -> Result<(), StorageError> {
        let Some((member, revision)) = self.storage.state().member(&room, &user) else {
            return Ok(());
        };
        if member.announced {
            return Ok(());
        }
        // An earlier attempt, of this process or another, may have stored the row. One that comes after this
        // moment is recognised by the journal, which knows requests for two minutes.
        let searched = self.clock.now();
        let from = from.max(u32::try_from(member.joined_row).unwrap_or(u32::MAX));
        if !Box::pin(self.is_announced(room, user, revision, from)).await? {
            self.append_member(room, user, (&member, revision, searched)).await?;
        }
        self.storage
            .state()
            .change::<Membership, _>(&(room, user), |present| -> Result<_, Infallible> {
                let same = |present: &&Membership| **present == *member;
                Ok(match present.filter(same) {
                    None => RecordChange::Keep,
                    Some(present) if present.left => RecordChange::Delete,
                    Some(present) => {
                        RecordChange::Put(Membership { announced: true, ..present.clone() })
                    }
                })
            })
            .await
            .map_err(StorageError::from)?;
        Ok(())
    }

    /// Appends the row of a membership record that had none at an instant.
    async fn append_member(
        &self,
        room: RoomId,
        user: UserId,
        (member, revision, searched): (&Membership, u64, Instant),
    ) -> Result<(), StorageError> {
        let kind = if member.left { FactKind::Left } else { FactKind::Joined };
        let draft = |view: &DraftView<'_>| {
            let waited = self.clock.now().saturating_duration_since(searched);
            if waited * 2 > IDEMPOTENCY_WINDOW {
                // This process was suspended meanwhile: the sweep searches again.
                return Err(StorageError::Busy);
            }
            let effect = fact(view.head(), kind, revision);
            Ok(Draft { actor: Some(user), at_ms: self.clock.unix_ms(), effect })
        };
        // The same membership change gives the same request: two who announce it make one row.
        let request = RequestId::keyed(&user, "announce", &room, &revision.to_string());
        Box::pin(self.storage.timelines().append(&room, &request, &[], draft))
            .await
            .map_err(flatten)?;
        Ok(())
    }

    /// Whether the row of a membership record is stored; it lies at or behind `from`.
    async fn is_announced(
        &self,
        room: RoomId,
        user: UserId,
        revision: u64,
        mut from: u32,
    ) -> Result<bool, StorageError> {
        let end = self.storage.timelines().head(&room).await?.rows;
        let step = u32::try_from(TIMELINE_PAGE_MAX).unwrap_or(u32::MAX);
        while from < end {
            let to = from.saturating_add(step);
            let rows = self.storage.timelines().rows(&room, from, to).await?;
            let is_row = |row: &Row| {
                let announces =
                    matches!(&row.kind, RowKind::Fact(fact) if fact.member_revision == revision);
                announces && row.actor == Some(user)
            };
            if rows.iter().any(is_row) {
                return Ok(true);
            }
            from = to;
        }
        Ok(false)
    }

    fn group_for_new_room(&self, session: &Session, id: &str) -> Result<GroupId, RoomError> {
        self.storage.state().read(|tables| {
            let access = ViewerRights::of(tables, session.user);
            if id.is_empty() {
                let first = first_group(tables).ok_or(RoomError::GroupNotFound)?;
                let may = access.can_at_server(Permission::RoomCreate);
                return if may { Ok(first) } else { Err(RoomError::Denied) };
            }
            let id = GroupId::try_from(id).ok().filter(|id| tables.groups.contains_key(id));
            let id = id.ok_or(RoomError::GroupNotFound)?;
            let may = access.can_in_group(Permission::RoomCreate, id);
            if may { Ok(id) } else { Err(RoomError::Denied) }
        })
    }
}

/// A fact as the next row of a room.
fn fact(head: &RoomHead, kind: FactKind, member_revision: u64) -> Effect {
    let id = EventId::new(head.rows, 0, u32::from_be_bytes(random()));
    Effect::Fact { id, fact: Fact { member_revision, ..Fact::new(kind) } }
}

/// The group of rooms that name none.
pub(super) fn first_group(tables: &crate::storage::Tables) -> Option<GroupId> {
    super::directory::groups(tables).first().map(|(id, _)| *id)
}
