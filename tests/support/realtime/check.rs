//! What a frame must contain before a client can apply it (contract 8.4, 8.9, 10).

use std::collections::BTreeSet;

use super::state::{self, State};
use super::{Operation, api, wire};

/// Rows of permissions in every room state.
const ROOM_PERMISSIONS: usize = 10;
/// Rows of a window.
const WINDOW_ROWS: usize = 50;

/// The phase of a connection in which an event arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between `subscribed` and `caught_up`.
    CatchingUp,
    /// After `caught_up`: the response to a `hydrate_room`, or a live event.
    Live,
}

/// The frame around the operations.
pub(super) fn envelope(event: &wire::RealtimeProjectionEvent, phase: Phase, known: &State) {
    assert!(!event.id.is_empty(), "an event has an id: {event:?}");
    assert!(event.created_at.is_some(), "an event has a time: {event:?}");
    assert!(event.resume_cursor.as_ref().is_none_or(|cursor| !cursor.is_empty()), "{event:?}");
    assert!(event.actor_id.as_ref().is_none_or(|actor| !actor.is_empty()), "{event:?}");
    if phase == Phase::CatchingUp {
        return;
    }
    for operation in &event.operations {
        let Some(Operation::RoomTimelineEventUpsert(upsert)) = &operation.operation else {
            continue;
        };
        let row = upsert.event.as_ref().expect("a row");
        assert!(event.actor_id.is_some(), "a live change of rows names its actor: {event:?}");
        let timeline = known.timelines.get(&upsert.room_id);
        let is_new = timeline.is_some_and(|timeline| !timeline.has(&row.id));
        let message = state::message(row).filter(|_| is_new);
        let Some(message) = message.filter(|message| {
            message.thread_root_event_id.is_empty() && message.echo_of_event_id.is_empty()
        }) else {
            continue;
        };
        if message.deleted_at.is_none() && message.updated_at.is_none() {
            assert_eq!(event.id, message.id, "a posted message's event has its id");
            assert_eq!(event.actor_id.as_deref(), Some(message.actor_id.as_str()));
        }
    }
}

/// A room and what the viewer may do there.
pub(super) fn room(upsert: &wire::RealtimeProjectionRoom, known: &State, held: bool) {
    let with_state = upsert.room.as_ref().expect("a room_upsert has a room");
    let room = with_state.room.as_ref().expect("a room_upsert has a room");
    assert!(!room.id.is_empty() && !room.archived, "{upsert:?}");
    viewer_state(with_state.viewer_state.as_ref());
    let is_member = with_state.viewer_state.as_ref().is_some_and(|state| state.is_member);
    let members: BTreeSet<&String> = upsert.member_user_ids.iter().collect();
    assert_eq!(members.len(), upsert.member_user_ids.len(), "nobody is a member twice");
    for id in members {
        assert!(known.users.contains_key(id), "member {id} is no known user");
    }
    let has_viewer = upsert.member_user_ids.iter().any(|id| id == known.viewer_id());
    match room.kind() {
        api::RoomKind::Dm => {
            assert!(has_viewer && is_member, "a DM names all its members: {upsert:?}");
            assert!(upsert.has_message_history.is_some(), "{upsert:?}");
        }
        api::RoomKind::Channel => {
            assert!(!room.name.is_empty(), "{upsert:?}");
            assert!(upsert.has_message_history.is_none(), "for DMs only: {upsert:?}");
            if held && is_member {
                assert!(has_viewer, "a held channel names all its members: {upsert:?}");
            }
            if !held {
                let empty = upsert.member_user_ids.is_empty();
                assert!(empty, "a channel that is not held names no members: {upsert:?}");
            }
        }
        api::RoomKind::Unspecified => panic!("a room without a kind: {upsert:?}"),
    }
}

/// The complete viewer state.
pub(super) fn viewer_state(state: Option<&api::RoomViewerState>) {
    let state = state.expect("the viewer's state of a room");
    let names: BTreeSet<_> = state.permissions.iter().map(|grant| &grant.permission).collect();
    assert_eq!(names.len(), ROOM_PERMISSIONS, "{state:?}");
    assert_eq!(state.permissions.len(), ROOM_PERMISSIONS, "{state:?}");
}

/// A page that replaces a room's window.
pub(super) fn page(replace: &wire::RealtimeProjectionRoomTimelineReplace, known: &State) {
    let page = replace.page.as_ref().expect("a room_timeline_replace has a page");
    assert!(!page.has_newer, "the window is the newest");
    assert!(page.events.len() <= WINDOW_ROWS, "{} rows", page.events.len());
    let none = api::RoomTimelineIncludes::default();
    let includes = page.includes.as_ref().unwrap_or(&none);
    for event in &page.events {
        row(event, &replace.room_id, includes, known);
        let is_reply =
            state::message(event).is_some_and(|message| !message.thread_root_event_id.is_empty());
        assert!(!is_reply, "a thread reply is no row of the room: {event:?}");
        let cursor = replace.event_cursors.get(&event.id);
        assert!(cursor.is_some_and(|cursor| !cursor.is_empty()), "row {} has a cursor", event.id);
    }
    assert_eq!(replace.event_cursors.len(), page.events.len(), "a cursor for each row, once");
    let times: Vec<_> = page.events.iter().map(time).collect();
    assert!(times.is_sorted(), "rows ascend: {times:?}");
    if page.events.is_empty() {
        assert!(!page.has_older, "an empty window has nothing before it");
    } else {
        assert!(!page.start_cursor.is_empty() && !page.end_cursor.is_empty());
    }
}

/// A row, with every user it names.
pub(super) fn row(
    event: &api::RoomTimelineEvent,
    room: &str,
    includes: &api::RoomTimelineIncludes,
    known: &State,
) {
    assert!(!event.id.is_empty() && event.created_at.is_some(), "{event:?}");
    state::kind(event);
    let mut named: Vec<&String> = vec![&event.actor_id];
    if let Some(message) = state::message(event) {
        assert_eq!((message.id.as_str(), message.room_id.as_str()), (event.id.as_str(), room));
        assert_eq!(message.actor_id, event.actor_id);
        assert_eq!(message.created_at, event.created_at);
        assert!(message.body.is_some() || message.deleted_at.is_some(), "unreadable: {event:?}");
        named.extend(message.reactions.iter().flat_map(|reaction| &reaction.preview_user_ids));
        named.extend(message.thread.iter().flat_map(|thread| &thread.participant_preview_user_ids));
    }
    for id in named.into_iter().filter(|id| known.users.contains_key(*id)) {
        let user = includes.users.get(id);
        assert!(user.is_some_and(|user| user.id == *id), "{id} is not in includes: {event:?}");
    }
}

/// A row's time in milliseconds, as clients compare it.
pub(super) fn time(event: &api::RoomTimelineEvent) -> i64 {
    let at = event.created_at.as_ref().expect("a row has a time");
    at.seconds * 1000 + i64::from(at.nanos / 1_000_000)
}

/// A status that means something.
pub(super) fn status(status: i32) -> api::PresenceStatus {
    let status = api::PresenceStatus::try_from(status).expect("a known status");
    assert_ne!(status, api::PresenceStatus::Unspecified);
    status
}
