//! What the client of a connection has, as far as the connection knows.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::contract::api;
use crate::contract::realtime::realtime_projection_operation::Operation;
use crate::domain::RoomId;
use crate::service::ShownRoom;

/// The rooms and rows that a client has.
pub(super) struct ClientState {
    /// Rooms whose timelines the client has, by id as it named them (contract 8.5).
    pub(super) retained: HashSet<String>,
    /// Those of them whose rows it has: a row alone would pass for all of them.
    pub(super) loaded: HashSet<String>,
    /// The rooms it was told of on this connection.
    rooms: HashMap<RoomId, SentRoom>,
    /// Whether it knows nothing but those, as far as the change that is being sent goes. After a replay it does
    /// not: it has what it was told before its cursor.
    pub(super) is_complete: bool,
    /// The revision of STATE from which on it knows only those.
    pub(super) complete_from: u64,
}

/// What a client was told of a room last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SentRoom {
    /// Whether the viewer is a member.
    pub(super) is_member: bool,
    /// A digest of the member list.
    members: u64,
}

impl SentRoom {
    /// Of a room's state and member list as they are sent.
    fn of(is_member: bool, members: &[String]) -> Self {
        let mut digest = DefaultHasher::new();
        members.hash(&mut digest);
        Self { is_member, members: digest.finish() }
    }
}

impl ClientState {
    /// Of a client that has nothing yet and wants the timelines of these rooms.
    pub(super) fn new(retained: impl Iterator<Item = String>) -> Self {
        Self {
            retained: retained.collect(),
            loaded: HashSet::new(),
            rooms: HashMap::new(),
            is_complete: true,
            complete_from: 0,
        }
    }

    pub(super) fn retains(&self, room: RoomId) -> bool {
        self.retained.contains(room.as_str())
    }

    /// The retained rooms; ids that cannot be any room's are left out.
    pub(super) fn retained_rooms(&self) -> impl Iterator<Item = RoomId> {
        self.retained.iter().filter_map(|id| RoomId::try_from(id.as_str()).ok())
    }

    /// Whether it has the rows of a retained room.
    pub(super) fn has_rows(&self, room: RoomId) -> bool {
        self.loaded.contains(room.as_str())
    }

    /// What it was told of a room on this connection.
    pub(super) fn room(&self, room: RoomId) -> Option<SentRoom> {
        self.rooms.get(&room).copied()
    }

    /// Whether it was told of a room on this connection.
    pub(super) fn knows(&self, room: RoomId) -> bool {
        self.rooms.contains_key(&room)
    }

    /// Whether the client was told of exactly this.
    pub(super) fn has_seen(&self, room: &ShownRoom) -> bool {
        let members: Vec<String> = room.members.iter().map(ToString::to_string).collect();
        let now = SentRoom::of(room.is_member(), &members);
        self.room(room.id()).is_some_and(|sent| {
            // Of a room that is not retained no members are told.
            sent.is_member == now.is_member
                && (!self.retains(room.id()) || sent.members == now.members)
        })
    }

    /// Remembers what the client has with an operation that is sent to it. In their order: a room's state comes
    /// before its rows, and a lost room's wipe behind it.
    pub(super) fn record(&mut self, operation: &Operation, is_member: impl Fn(RoomId) -> bool) {
        let reads = |room: &str| RoomId::try_from(room).is_ok_and(&is_member);
        match changes_rows(operation) {
            Some((room, true)) if reads(room) => self.loaded.insert(room.to_owned()),
            Some((room, _)) => self.loaded.remove(room),
            None => false,
        };
        match operation {
            Operation::Reset(_) => self.rooms.clear(),
            Operation::RoomUpsert(upsert) => {
                let Some(with_state) = &upsert.room else { return };
                let id = with_state.room.as_ref().map(|room| RoomId::try_from(room.id.as_str()));
                let Some(Ok(id)) = id else { return };
                let is_member =
                    with_state.viewer_state.as_ref().is_some_and(|state| state.is_member);
                self.rooms.insert(id, SentRoom::of(is_member, &upsert.member_user_ids));
            }
            Operation::RoomViewerStateReplace(replace) => {
                let Ok(id) = RoomId::try_from(replace.room_id.as_str()) else { return };
                let is_member = replace.viewer_state.as_ref().is_some_and(|state| state.is_member);
                let unknown = SentRoom::of(is_member, &[]);
                self.rooms.entry(id).or_insert(unknown).is_member = is_member;
            }
            Operation::RoomRemove(remove) => {
                if let Ok(id) = RoomId::try_from(remove.room_id.as_str()) {
                    self.rooms.remove(&id);
                }
            }
            _ => {}
        }
    }
}

/// A room of which an operation says that the client has its rows now, or has none any more.
fn changes_rows(operation: &Operation) -> Option<(&str, bool)> {
    let lost = |room: &str, state: &Option<api::RoomViewerState>| {
        !room.is_empty() && state.as_ref().is_none_or(|state| !state.is_member)
    };
    match operation {
        Operation::RoomTimelineReplace(replace) => Some((&replace.room_id, true)),
        Operation::RoomRemove(remove) => Some((&remove.room_id, false)),
        Operation::RoomUpsert(upsert) => {
            let with_state = upsert.room.as_ref()?;
            let id = &with_state.room.as_ref()?.id;
            lost(id, &with_state.viewer_state).then_some((id, false))
        }
        Operation::RoomViewerStateReplace(replace) => {
            lost(&replace.room_id, &replace.viewer_state).then_some((&replace.room_id, false))
        }
        _ => None,
    }
}
