//! What a client keeps between frames and between connections.

use std::collections::{BTreeMap, BTreeSet};

use super::{api, wire};

/// The state of a client. It survives the connection; the cursor names how far it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    /// A reset has arrived on some connection: before it, nothing can be applied.
    pub(crate) begun: bool,
    pub(crate) server: Option<api::ServerPublicProfile>,
    pub(crate) motd: Option<String>,
    pub(crate) runtime: Option<api::ServerRuntimeConfig>,
    pub(crate) viewer: Option<api::GetViewerResponse>,
    pub(crate) users: BTreeMap<String, api::DirectoryMember>,
    pub(crate) presences: BTreeMap<String, api::PresenceStatus>,
    pub(crate) rooms: BTreeMap<String, Room>,
    /// Room ids in the order of their first arrival.
    pub(crate) room_order: Vec<String>,
    pub(crate) groups: Vec<api::RoomGroup>,
    pub(crate) timelines: BTreeMap<String, Timeline>,
    pub(crate) threads: BTreeMap<(String, String), api::ThreadViewerState>,
    pub(crate) notifications: Option<api::ListNotificationOccurrencesResponse>,
    pub(crate) calls: Option<Vec<api::ActiveCall>>,
}

/// A room of the sidebar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Room {
    pub(crate) room: api::Room,
    pub(crate) viewer: api::RoomViewerState,
    pub(crate) members: BTreeSet<String>,
    pub(crate) has_history: bool,
}

/// The loaded rows of a room.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Timeline {
    pub(crate) rows: Vec<Row>,
    /// Replies of threads, which the room's view does not show.
    pub(crate) replies: BTreeMap<String, api::RoomTimelineEvent>,
    /// Removed for good.
    pub(crate) removed: BTreeSet<String>,
    pub(crate) has_older: bool,
}

/// A row and its cursor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) event: api::RoomTimelineEvent,
    pub(crate) cursor: String,
}

impl State {
    /// The viewer's id.
    pub(crate) fn viewer_id(&self) -> &str {
        let viewer = self.viewer.as_ref().expect("the viewer is known");
        &viewer.user.as_ref().unwrap().profile.as_ref().unwrap().id
    }

    /// The id of a room of this name.
    pub(crate) fn room_named(&self, name: &str) -> Option<&str> {
        let mut rooms = self.rooms.iter();
        rooms.find(|(_, room)| room.room.name == name).map(|(id, _)| id.as_str())
    }

    pub(crate) fn is_member(&self, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|room| room.viewer.is_member)
    }

    pub(crate) fn has_unread(&self, room: &str) -> bool {
        self.rooms.get(room).is_some_and(|room| room.viewer.has_unread)
    }

    /// The bodies of the messages in a room's loaded window; empty for deleted messages.
    pub(crate) fn bodies(&self, room: &str) -> Vec<&str> {
        let rows = self.timelines.get(room).map_or(&[][..], |timeline| &timeline.rows);
        rows.iter().filter_map(|row| message(&row.event)?.body.as_deref()).collect()
    }

    /// Whether a message with this body is loaded.
    pub(crate) fn shows(&self, room: &str, body: &str) -> bool {
        self.bodies(room).contains(&body)
    }

    /// The kinds of a room's loaded rows, with the login of the actor.
    pub(crate) fn rows(&self, room: &str) -> Vec<(&'static str, String)> {
        let rows = self.timelines.get(room).map_or(&[][..], |timeline| &timeline.rows);
        let login = |id: &str| {
            let user = self.users.get(id).and_then(|member| member.user.as_ref());
            user.map_or_else(String::new, |user| user.login.clone())
        };
        rows.iter().map(|row| (kind(&row.event), login(&row.event.actor_id))).collect()
    }

    /// What two clients of one user must agree on, however they got there. Windows are cut to their last rows,
    /// because a replay keeps rows that a reset does not load.
    pub(crate) fn comparable(&self, rows: usize) -> Self {
        let mut same = self.clone();
        same.room_order.clear();
        for room in same.rooms.values_mut() {
            // The snapshot has it for direct messages only.
            room.has_history &= room.room.kind() == api::RoomKind::Dm;
        }
        for timeline in same.timelines.values_mut() {
            let cut = timeline.rows.len().saturating_sub(rows);
            timeline.rows.drain(..cut);
            for row in &mut timeline.rows {
                row.cursor.clear();
            }
            timeline.has_older = false;
            timeline.replies.clear();
            timeline.removed.clear();
        }
        same
    }
}

impl Timeline {
    pub(crate) fn has(&self, id: &str) -> bool {
        self.rows.iter().any(|row| row.event.id == id)
    }
}

/// The message of a row, if it is one.
pub(crate) fn message(event: &api::RoomTimelineEvent) -> Option<&api::Message> {
    match event.event.as_ref()? {
        api::room_timeline_event::Event::MessagePosted(posted) => posted.message.as_ref(),
        _ => None,
    }
}

/// The name of a row's kind.
pub(crate) fn kind(event: &api::RoomTimelineEvent) -> &'static str {
    use api::room_timeline_event::Event;
    match event.event.as_ref().expect("a row of a known kind") {
        Event::MessagePosted(_) => "message_posted",
        Event::RoomCreated(_) => "room_created",
        Event::RoomUpdated(_) => "room_updated",
        Event::RoomDeleted(_) => "room_deleted",
        Event::RoomArchived(_) => "room_archived",
        Event::RoomUnarchived(_) => "room_unarchived",
        Event::UserJoinedRoom(_) => "user_joined_room",
        Event::UserLeftRoom(_) => "user_left_room",
        Event::CallStarted(_) => "call_started",
        Event::CallEnded(_) => "call_ended",
    }
}

/// The name of an operation, as the contract writes it.
pub(crate) fn operation(
    operation: &wire::realtime_projection_operation::Operation,
) -> &'static str {
    use wire::realtime_projection_operation::Operation;
    match operation {
        Operation::Reset(_) => "reset",
        Operation::ServerUpsert(_) => "server_upsert",
        Operation::ViewerUpsert(_) => "viewer_upsert",
        Operation::UserUpsert(_) => "user_upsert",
        Operation::UserRemove(_) => "user_remove",
        Operation::RoomUpsert(_) => "room_upsert",
        Operation::RoomRemove(_) => "room_remove",
        Operation::RoomGroupsReplace(_) => "room_groups_replace",
        Operation::RoomTimelineReplace(_) => "room_timeline_replace",
        Operation::RoomTimelineEventUpsert(_) => "room_timeline_event_upsert",
        Operation::ServerStateUpsert(_) => "server_state_upsert",
        Operation::RoomTimelineEventRemove(_) => "room_timeline_event_remove",
        Operation::RoomViewerStateReplace(_) => "room_viewer_state_replace",
        Operation::ActiveCallsReplace(_) => "active_calls_replace",
        Operation::PresencesReplace(_) => "presences_replace",
        Operation::ThreadViewerStatesReplace(_) => "thread_viewer_states_replace",
        Operation::RoomActivity(_) => "room_activity",
        Operation::NotificationOccurrencesReplace(_) => "notification_occurrences_replace",
    }
}
