//! What the client has, as far as its connection knows: rooms, rows, members.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::contract::api;
use crate::contract::realtime::realtime_projection_operation::Operation;
use crate::domain::RoomId;
use crate::present::operations::ProjectionOperation;
use crate::service::ShownRoom;

/// The rooms and rows that a client has.
pub(super) struct ClientState {
    /// Rooms whose timelines the client keeps, by the ids that it sent (contract 8.5).
    pub(super) retained: HashSet<String>,
    /// The retained rooms whose rows the client has. In any other room the client would take a single row for the
    /// whole timeline.
    pub(super) loaded: HashSet<RoomId>,
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
        self.loaded.contains(&room)
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
    pub(super) fn record(
        &mut self,
        sent: &ProjectionOperation,
        is_member: impl Fn(RoomId) -> bool,
    ) {
        let Some(room) = sent.room else {
            if matches!(sent.operation, Operation::Reset(_)) {
                self.rooms.clear();
            }
            return;
        };
        match brings_rows(&sent.operation) {
            Some(true) if is_member(room) => self.loaded.insert(room),
            Some(_) => self.loaded.remove(&room),
            None => false,
        };
        match &sent.operation {
            Operation::RoomUpsert(upsert) => {
                let state = upsert.room.as_ref().and_then(|room| room.viewer_state.as_ref());
                let sent = SentRoom::of(is_member_in(state), &upsert.member_user_ids);
                self.rooms.insert(room, sent);
            }
            Operation::RoomViewerStateReplace(replace) => {
                let is_member = is_member_in(replace.viewer_state.as_ref());
                let unknown = SentRoom::of(is_member, &[]);
                self.rooms.entry(room).or_insert(unknown).is_member = is_member;
            }
            Operation::RoomRemove(_) => {
                self.rooms.remove(&room);
            }
            _ => {}
        }
    }
}

/// Whether an operation brings its room's rows (`true`) or takes them away (`false`).
fn brings_rows(operation: &Operation) -> Option<bool> {
    let lost = |state: Option<&api::RoomViewerState>| (!is_member_in(state)).then_some(false);
    match operation {
        Operation::RoomTimelineReplace(_) => Some(true),
        Operation::RoomRemove(_) => Some(false),
        Operation::RoomUpsert(upsert) => lost(upsert.room.as_ref()?.viewer_state.as_ref()),
        Operation::RoomViewerStateReplace(replace) => lost(replace.viewer_state.as_ref()),
        _ => None,
    }
}

fn is_member_in(state: Option<&api::RoomViewerState>) -> bool {
    state.is_some_and(|state| state.is_member)
}
