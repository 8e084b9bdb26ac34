//! Maps views of the service to operations of the realtime projection. Each operation carries the whole current
//! state, never a difference. The letters are the contract's names of operations.

use std::collections::BTreeMap;

use super::{Addresses, includes, room_state, room_with_state, row, timeline};
use crate::contract::api;
use crate::contract::realtime::{self as wire, realtime_projection_operation::Operation};
use crate::domain::{RoomId, UserId};
use crate::service::{GroupView, Presence, RuntimeView, ShownRoom, ShownRow, TimelinePage};

/// An operation, and the room that it is about.
#[derive(Debug, Clone)]
pub struct ProjectionOperation {
    pub room: Option<RoomId>,
    pub operation: Operation,
}

/// An operation that is about no room.
impl From<Operation> for ProjectionOperation {
    fn from(operation: Operation) -> Self {
        Self { room: None, operation }
    }
}

/// The server's limits and message of the day.
#[must_use]
pub fn server_state(motd: Option<String>, runtime: &RuntimeView) -> ProjectionOperation {
    Operation::ServerStateUpsert(wire::RealtimeProjectionServerState {
        motd,
        runtime: Some(super::runtime(runtime)),
        pinned_message_change: None,
    })
    .into()
}

/// A user whose account is erased.
#[must_use]
pub fn user_removed(id: &UserId) -> ProjectionOperation {
    Operation::UserRemove(wire::RealtimeProjectionUserRemove { user_id: id.to_string() }).into()
}

/// RU. Members are complete for direct messages and for rooms that the client retains.
#[must_use]
pub fn room_upsert(shown: ShownRoom) -> ProjectionOperation {
    let room = shown.id();
    let operation = Operation::RoomUpsert(wire::RealtimeProjectionRoom {
        has_message_history: shown.has_history,
        member_user_ids: shown.members.iter().map(ToString::to_string).collect(),
        room: Some(room_with_state(shown.with_state)),
    });
    ProjectionOperation { room: Some(room), operation }
}

/// RV.
#[must_use]
pub fn viewer_state_replace(shown: ShownRoom) -> ProjectionOperation {
    let room = shown.id();
    let operation =
        Operation::RoomViewerStateReplace(wire::RealtimeProjectionRoomViewerStateReplace {
            room_id: room.to_string(),
            viewer_state: Some(room_state(shown.with_state.state)),
        });
    ProjectionOperation { room: Some(room), operation }
}

/// A room that the viewer no longer sees.
#[must_use]
pub fn room_removed(id: RoomId) -> ProjectionOperation {
    let operation =
        Operation::RoomRemove(wire::RealtimeProjectionRoomRemove { room_id: id.to_string() });
    ProjectionOperation { room: Some(id), operation }
}

/// RA.
#[must_use]
pub fn activity(id: RoomId) -> ProjectionOperation {
    let operation =
        Operation::RoomActivity(wire::RealtimeProjectionRoomActivity { room_id: id.to_string() });
    ProjectionOperation { room: Some(id), operation }
}

/// TL. `cursors`: the position of each row, by its id.
#[must_use]
pub fn timeline_replace(
    addresses: Addresses<'_>,
    id: RoomId,
    page: TimelinePage,
    cursors: BTreeMap<String, String>,
) -> ProjectionOperation {
    let operation = Operation::RoomTimelineReplace(wire::RealtimeProjectionRoomTimelineReplace {
        room_id: id.to_string(),
        page: Some(timeline(addresses, id.as_str(), page)),
        event_cursors: cursors,
    });
    ProjectionOperation { room: Some(id), operation }
}

/// TL without rows, after which the client has none.
#[must_use]
pub fn empty_timeline(id: RoomId) -> ProjectionOperation {
    let operation = Operation::RoomTimelineReplace(wire::RealtimeProjectionRoomTimelineReplace {
        room_id: id.to_string(),
        page: Some(api::RoomTimelinePage::default()),
        event_cursors: BTreeMap::new(),
    });
    ProjectionOperation { room: Some(id), operation }
}

/// TU.
#[must_use]
pub fn row_upsert(addresses: Addresses<'_>, room: RoomId, shown: ShownRow) -> ProjectionOperation {
    let operation =
        Operation::RoomTimelineEventUpsert(wire::RealtimeProjectionRoomTimelineEventUpsert {
            room_id: room.to_string(),
            event: Some(row(addresses.tickets, room.as_str(), shown.row)),
            includes: Some(includes(addresses.origin, shown.users)),
            event_cursor: shown.cursor,
            ..wire::RealtimeProjectionRoomTimelineEventUpsert::default()
        });
    ProjectionOperation { room: Some(room), operation }
}

/// GR.
#[must_use]
pub fn groups_replace(groups: Vec<GroupView>) -> ProjectionOperation {
    Operation::RoomGroupsReplace(wire::RealtimeProjectionRoomGroupsReplace {
        groups: groups.into_iter().map(super::group).collect(),
    })
    .into()
}

/// NO. Always empty: notifications are not implemented.
#[must_use]
pub fn notifications() -> ProjectionOperation {
    let occurrences = api::ListNotificationOccurrencesResponse {
        page: Some(api::PageInfo::default()),
        ..api::ListNotificationOccurrencesResponse::default()
    };
    Operation::NotificationOccurrencesReplace(
        wire::RealtimeProjectionNotificationOccurrencesReplace {
            play_notification_sound: false,
            occurrences: Some(occurrences),
        },
    )
    .into()
}

/// TV. Always empty: threads are not implemented.
#[must_use]
pub fn threads() -> ProjectionOperation {
    Operation::ThreadViewerStatesReplace(
        wire::RealtimeProjectionThreadViewerStatesReplace::default(),
    )
    .into()
}

/// AC. Always empty: calls are not implemented.
#[must_use]
pub fn calls() -> ProjectionOperation {
    Operation::ActiveCallsReplace(wire::RealtimeProjectionActiveCallsReplace::default()).into()
}

/// The presence of everybody.
#[must_use]
pub fn presences(of: impl Iterator<Item = (UserId, Presence)>) -> ProjectionOperation {
    Operation::PresencesReplace(wire::RealtimeProjectionPresencesReplace {
        statuses: of.map(|(id, status)| (id.to_string(), super::presence(status).into())).collect(),
    })
    .into()
}
