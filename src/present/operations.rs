//! Maps views of the service to operations of the realtime projection. Each operation carries the whole current
//! state, never a difference. The letters are the contract's names of operations.

use std::collections::BTreeMap;

use super::{Addresses, includes, room_state, room_with_state, row, timeline};
use crate::contract::api;
use crate::contract::realtime::{self as wire, realtime_projection_operation::Operation};
use crate::domain::{RoomId, UserId};
use crate::service::{GroupView, Presence, RuntimeView, ShownRoom, ShownRow, TimelinePage};

/// The server's limits and message of the day.
#[must_use]
pub fn server_state(motd: Option<String>, runtime: &RuntimeView) -> Operation {
    Operation::ServerStateUpsert(wire::RealtimeProjectionServerState {
        motd,
        runtime: Some(super::runtime(runtime)),
        pinned_message_change: None,
    })
}

/// A user whose account is erased.
#[must_use]
pub fn user_removed(id: &UserId) -> Operation {
    Operation::UserRemove(wire::RealtimeProjectionUserRemove { user_id: id.to_string() })
}

/// RU. Members are complete for direct messages and for rooms that the client retains.
#[must_use]
pub fn room_upsert(shown: ShownRoom) -> Operation {
    Operation::RoomUpsert(wire::RealtimeProjectionRoom {
        has_message_history: shown.has_history,
        member_user_ids: shown.members.iter().map(ToString::to_string).collect(),
        room: Some(room_with_state(shown.with_state)),
    })
}

/// RV.
#[must_use]
pub fn viewer_state_replace(shown: ShownRoom) -> Operation {
    Operation::RoomViewerStateReplace(wire::RealtimeProjectionRoomViewerStateReplace {
        room_id: shown.id().to_string(),
        viewer_state: Some(room_state(shown.with_state.state)),
    })
}

/// A room that the viewer no longer sees.
#[must_use]
pub fn room_removed(id: RoomId) -> Operation {
    Operation::RoomRemove(wire::RealtimeProjectionRoomRemove { room_id: id.to_string() })
}

/// RA.
#[must_use]
pub fn activity(id: RoomId) -> Operation {
    Operation::RoomActivity(wire::RealtimeProjectionRoomActivity { room_id: id.to_string() })
}

/// TL. `cursors`: the position of each row, by its id.
#[must_use]
pub fn timeline_replace(
    addresses: Addresses<'_>,
    id: RoomId,
    page: TimelinePage,
    cursors: BTreeMap<String, String>,
) -> Operation {
    Operation::RoomTimelineReplace(wire::RealtimeProjectionRoomTimelineReplace {
        room_id: id.to_string(),
        page: Some(timeline(addresses, id.as_str(), page)),
        event_cursors: cursors,
    })
}

/// TL without rows, after which the client has none.
#[must_use]
pub fn empty_timeline(id: RoomId) -> Operation {
    Operation::RoomTimelineReplace(wire::RealtimeProjectionRoomTimelineReplace {
        room_id: id.to_string(),
        page: Some(api::RoomTimelinePage::default()),
        event_cursors: BTreeMap::new(),
    })
}

/// TU.
#[must_use]
pub fn row_upsert(addresses: Addresses<'_>, room: RoomId, shown: ShownRow) -> Operation {
    Operation::RoomTimelineEventUpsert(wire::RealtimeProjectionRoomTimelineEventUpsert {
        room_id: room.to_string(),
        event: Some(row(addresses.tickets, room.as_str(), shown.row)),
        includes: Some(includes(addresses.origin, shown.users)),
        event_cursor: shown.cursor,
        ..wire::RealtimeProjectionRoomTimelineEventUpsert::default()
    })
}

/// GR.
#[must_use]
pub fn groups_replace(groups: Vec<GroupView>) -> Operation {
    Operation::RoomGroupsReplace(wire::RealtimeProjectionRoomGroupsReplace {
        groups: groups.into_iter().map(super::group).collect(),
    })
}

/// NO. Always empty: notifications are not implemented.
#[must_use]
pub fn notifications() -> Operation {
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
}

/// TV. Always empty: threads are not implemented.
#[must_use]
pub fn threads() -> Operation {
    Operation::ThreadViewerStatesReplace(
        wire::RealtimeProjectionThreadViewerStatesReplace::default(),
    )
}

/// AC. Always empty: calls are not implemented.
#[must_use]
pub fn calls() -> Operation {
    Operation::ActiveCallsReplace(wire::RealtimeProjectionActiveCallsReplace::default())
}

/// The presence of everybody.
#[must_use]
pub fn presences(of: impl Iterator<Item = (UserId, Presence)>) -> Operation {
    Operation::PresencesReplace(wire::RealtimeProjectionPresencesReplace {
        statuses: of.map(|(id, status)| (id.to_string(), super::presence(status).into())).collect(),
    })
}
