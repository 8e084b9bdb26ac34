//! The defaults of a new server (contract, behaviour 1), written once.
//!
//! Every step is create-only under an id derived from the server's, and the flag comes last: a kill in
//! the middle, or several processes at once, give the same result. What is removed later is never
//! written again, because the flag stays.

use std::convert::Infallible;

use super::accounts::Accounts;
use super::barrier::ReadBarrier;
use super::error::StoreError;
use super::rooms::Rooms;
use crate::crypto::sha256;
use crate::domain::permission::{
    ADMIN, ANNOUNCEMENTS, DEFAULT_GROUP_NAME, Decision, DecisionScope, DefaultRole, DefaultRoom,
    EVERYONE, GENERAL, Permission, Ruling, default_roles,
};
use crate::domain::text::RoomName;
use crate::domain::{Group, GroupId, GroupItem, Role, Room, RoomId, ServerSettings};
use crate::runtime::Clock;
use crate::storage::{Claim, Claimed, RecordChange, Storage, StorageError};

/// The defaults of a new server.
#[derive(Clone, Copy)]
pub(super) struct FirstBoot<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) barrier: ReadBarrier<'a>,
    pub(super) rooms: Rooms<'a>,
    pub(super) accounts: Accounts<'a>,
}

impl FirstBoot<'_> {
    /// Writes the defaults of a new server and makes the users of `owners.emails` owners. Called at
    /// every start, before the first request.
    ///
    /// # Cancel safety
    /// Dropping it leaves some steps done; the next call does the rest.
    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        // The mirror was compared with STATE a moment ago, and every step is create-only.
        self.barrier.try_pass().await;
        if !self.storage.state().read(|tables| tables.server.defaults_written) {
            self.write_defaults().await?;
        }
        self.accounts.grant_listed_owners().await
    }

    async fn write_defaults(&self) -> Result<(), StorageError> {
        let rooms = [ANNOUNCEMENTS, GENERAL];
        for role in default_roles() {
            let record = self.role_record(&role, &rooms);
            self.storage.state().put_if_absent::<Role>(role.name, &record).await?;
        }
        let group = GroupId::from_random(self.derived("group Lobby"));
        let record = Group {
            name: DEFAULT_GROUP_NAME.to_owned(),
            items: rooms.iter().map(|room| GroupItem::Room(self.room_id(room))).collect(),
            created_ms: self.clock.unix_ms(),
            ..Group::new(group)
        };
        self.storage.state().put_if_absent(&group, &record).await?;
        for (place, room) in rooms.iter().enumerate() {
            self.write_room(room, group, i64::try_from(place).unwrap_or_default()).await?;
        }
        self.storage
            .state()
            .change::<ServerSettings, _>(&(), |server| -> Result<_, Infallible> {
                let server = server.cloned().unwrap_or_default();
                Ok(RecordChange::Put(ServerSettings { defaults_written: true, ..server }))
            })
            .await
            .map_err(StorageError::from)?;
        log::info!("defaults of a new server written");
        Ok(())
    }

    async fn write_room(
        &self,
        room: &DefaultRoom,
        group: GroupId,
        place: i64,
    ) -> Result<(), StorageError> {
        let id = self.room_id(room);
        let key = RoomName::parse(room.name).map(|name| name.key()).unwrap_or_default();
        if self.storage.state().claim(Claim::RoomName(&key), id).await? != Claimed::Yes {
            log::warn!(name = room.name; "the name of a default room is already taken");
            return Ok(());
        }
        let record = Room {
            name: room.name.to_owned(),
            description: room.description.to_owned(),
            group: Some(group),
            universal: room.universal,
            created_ms: self.clock.unix_ms().saturating_add(place),
            ..Room::new(id)
        };
        self.rooms.store_room(id, &record).await?;
        self.rooms.announce_room(id).await
    }

    fn role_record(&self, role: &DefaultRole, rooms: &[DefaultRoom]) -> Role {
        let mut decisions: Vec<Decision> =
            role.allows.iter().map(|permission| at_server(*permission)).collect();
        let posts = match role.name {
            ADMIN => Some(Ruling::Allow),
            EVERYONE => Some(Ruling::Deny),
            _ => None,
        };
        let restricted = rooms.iter().filter(|room| room.admins_post);
        decisions.extend(posts.into_iter().flat_map(|ruling| {
            restricted.clone().map(move |room| Decision {
                permission: Permission::MessagePost,
                scope: DecisionScope::Room(self.room_id(room)),
                ruling,
            })
        }));
        Role {
            name: role.name.to_owned(),
            display_name: role.display_name.to_owned(),
            description: role.description.to_owned(),
            position: role.position,
            pingable: role.pingable,
            system: true,
            decisions,
        }
    }

    pub(super) fn room_id(&self, room: &DefaultRoom) -> RoomId {
        RoomId::from_random(self.derived(&format!("room {}", room.name)))
    }

    /// Sixteen bytes that are the same in every process of this server.
    pub(super) fn derived(&self, what: &str) -> [u8; 16] {
        let digest = sha256(format!("{what} of {}", self.storage.server_id()).as_bytes());
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        bytes
    }
}

fn at_server(permission: Permission) -> Decision {
    Decision { permission, scope: DecisionScope::Server, ruling: Ruling::Allow }
}
