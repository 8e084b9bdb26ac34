//! What the client has, as far as its connection knows: rooms, rows, members.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::contract::api;
use crate::contract::realtime::realtime_projection_operation::Operation;
use crate::domain::RoomId;
use crate::service::ShownRoom;

/// The rooms and rows that a client has.
pub(super) struct ClientState {
    /// Rooms whose timelines the client keeps, by the ids that it sent (contract 8.5).
    pub(super) retained: HashSet<String>,
    /// The retained rooms whose rows the client has. In any other room the client would take a single row for the
    /// whole timeline.
    pub(super) loaded: HashSet<String>,
    /// The rooms that were sent on this connection.
    rooms: HashMap<RoomId, SentRoom>,
    /// Whether `rooms` is everything that the client has, as of the change that is being sent. It is not during
    /// and shortly after a replay: the client also has what it received before its cursor.
    pub(super) is_complete: bool,
    /// The STATE revision from which on `rooms` is complete.
    pub(super) complete_from: u64,
}

/// The room as it was last sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SentRoom {
    pub(super) is_member: bool,
    /// A digest of the member list.
    members: u64,
}

impl SentRoom {
    fn of(is_member: bool, members: &[String]) -> Self {
        let mut digest = DefaultHasher::new();
        members.hash(&mut digest);
        Self { is_member, members: digest.finish() }
    }
}

impl ClientState {
    /// The state of a new client that has nothing yet and retains these rooms.
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

    /// The retained rooms. Skips ids that are not valid.
    pub(super) fn retained_rooms(&self) -> impl Iterator<Item = RoomId> {
        self.retained.iter().filter_map(|id| RoomId::try_from(id.as_str()).ok())
    }

    /// Whether the client has the rows of a retained room.
    pub(super) fn has_rows(&self, room: RoomId) -> bool {
        self.loaded.contains(room.as_str())
    }

    /// The room as it was last sent on this connection.
    pub(super) fn room(&self, room: RoomId) -> Option<SentRoom> {
        self.rooms.get(&room).copied()
    }

    /// Whether the room was sent on this connection.
    pub(super) fn knows(&self, room: RoomId) -> bool {
        self.rooms.contains_key(&room)
    }

    /// Whether the client has the room exactly as it is now.
    pub(super) fn has_seen(&self, room: &ShownRoom) -> bool {
        let members: Vec<String> = room.members.iter().map(ToString::to_string).collect();
        let now = SentRoom::of(room.is_member(), &members);
        self.room(room.id()).is_some_and(|sent| {
            // Members are sent only for retained rooms.
            sent.is_member == now.is_member
                && (!self.retains(room.id()) || sent.members == now.members)
        })
    }

    /// Records what the client has once it has received this operation. Call it in the order of sending: a room's
    /// state comes before its rows, and the empty timeline of a lost room comes after its state.
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

/// The room whose rows an operation brings (`true`) or takes away (`false`).
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
