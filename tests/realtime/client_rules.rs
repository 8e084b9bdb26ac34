//! The test client itself: it must fail when a server violates the contract.

use crate::support::realtime::{Operation, Script, api, wire};

fn user(id: &str) -> Operation {
    Operation::UserUpsert(api::DirectoryMember {
        user: Some(api::User {
            id: id.to_owned(),
            login: id.to_lowercase(),
            display_name: id.to_owned(),
            ..api::User::default()
        }),
        roles: vec!["everyone".to_owned()],
        created_at: Some(prost_types::Timestamp::default()),
    })
}

fn viewer(id: &str) -> Operation {
    let profile = api::User { id: id.to_owned(), ..api::User::default() };
    Operation::ViewerUpsert(api::GetViewerResponse {
        user: Some(api::ViewerUser { profile: Some(profile), ..api::ViewerUser::default() }),
        capabilities: Some(api::ViewerCapabilities::default()),
        viewer_permissions: Some(api::ServerViewerPermissions::default()),
        viewer_state: Some(api::ServerViewerState::default()),
    })
}

fn state(is_member: bool) -> api::RoomViewerState {
    let grant = |n| api::PermissionGrant { permission: format!("p{n}"), granted: true };
    api::RoomViewerState {
        is_member,
        permissions: (0..10).map(grant).collect(),
        ..api::RoomViewerState::default()
    }
}

fn room(id: &str, is_member: bool, members: &[&str]) -> Operation {
    let room = api::Room {
        id: id.to_owned(),
        name: id.to_lowercase(),
        kind: api::RoomKind::Channel.into(),
        ..api::Room::default()
    };
    Operation::RoomUpsert(wire::RealtimeProjectionRoom {
        room: Some(api::RoomWithViewerState {
            room: Some(room),
            viewer_state: Some(state(is_member)),
        }),
        member_user_ids: members.iter().map(|id| (*id).to_owned()).collect(),
        has_message_history: None,
    })
}

fn message(room: &str, id: &str, author: &str, seconds: i64) -> api::RoomTimelineEvent {
    let at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    let message = api::Message {
        id: id.to_owned(),
        room_id: room.to_owned(),
        created_at: at,
        actor_id: author.to_owned(),
        body: Some("text".to_owned()),
        ..api::Message::default()
    };
    api::RoomTimelineEvent {
        id: id.to_owned(),
        created_at: at,
        actor_id: author.to_owned(),
        event: Some(api::room_timeline_event::Event::MessagePosted(api::RoomMessagePosted {
            message: Some(message),
        })),
    }
}

fn includes(ids: &[&str]) -> Option<api::RoomTimelineIncludes> {
    let user = |id: &&str| {
        let user = api::User { id: (*id).to_owned(), ..api::User::default() };
        ((*id).to_owned(), user)
    };
    Some(api::RoomTimelineIncludes { users: ids.iter().map(user).collect() })
}

fn window(room: &str, rows: Vec<api::RoomTimelineEvent>) -> Operation {
    let cursors = rows.iter().map(|row| (row.id.clone(), "c".to_owned())).collect();
    Operation::RoomTimelineReplace(wire::RealtimeProjectionRoomTimelineReplace {
        room_id: room.to_owned(),
        page: Some(api::RoomTimelinePage {
            events: rows,
            start_cursor: "c".to_owned(),
            end_cursor: "c".to_owned(),
            includes: includes(&["Uada"]),
            ..api::RoomTimelinePage::default()
        }),
        event_cursors: cursors,
    })
}

fn row(room: &str, row: api::RoomTimelineEvent, named: &[&str]) -> Operation {
    Operation::RoomTimelineEventUpsert(wire::RealtimeProjectionRoomTimelineEventUpsert {
        room_id: room.to_owned(),
        event: Some(row),
        includes: includes(named),
        event_cursor: "c".to_owned(),
        ..wire::RealtimeProjectionRoomTimelineEventUpsert::default()
    })
}

/// A client that retains a room with one message.
fn script() -> Script {
    let mut script = Script::holding(&["Rheld", "Rloadless"]);
    script.load(vec![
        Operation::Reset(wire::RealtimeProjectionReset {}),
        viewer("Uada"),
        user("Uada"),
        room("Rheld", true, &["Uada"]),
        room("Raside", true, &[]),
        room("Rloadless", true, &["Uada"]),
        window("Rheld", vec![message("Rheld", "E1", "Uada", 10)]),
    ]);
    script
}

fn post(id: &str, operations: Vec<Operation>) -> impl FnOnce() {
    let id = id.to_owned();
    move || script().apply_live(&id, Some("Uada"), operations)
}

/// Whether the client would close the socket or show something wrong.
fn fails(act: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_err()
}

#[test]
fn the_client_accepts_what_the_contract_allows() {
    let next = message("Rheld", "E2", "Uada", 11);
    assert!(!fails(post("E2", vec![row("Rheld", next, &["Uada"])])));
    assert!(!fails(post("x", vec![room("Rheld", false, &[]), window("Rheld", Vec::new())])));
    assert!(!fails(post("x", Vec::new())), "an event may move the cursor only");
}

#[test]
fn the_client_rejects_what_the_contract_forbids() {
    let next = |seconds| message("Rheld", "E2", "Uada", seconds);
    let nobody = Operation::UserUpsert(api::DirectoryMember::default());
    let mut bodiless = next(11);
    if let Some(api::room_timeline_event::Event::MessagePosted(posted)) = &mut bodiless.event {
        posted.message.as_mut().unwrap().body = None;
    }
    let mut unknown = next(11);
    unknown.event = None;
    let stateless =
        Operation::RoomViewerStateReplace(wire::RealtimeProjectionRoomViewerStateReplace {
            room_id: "Rheld".to_owned(),
            viewer_state: None,
        });
    let lies: Vec<(&str, &str, Vec<Operation>)> = vec![
        ("a reset in the middle", "x", vec![Operation::Reset(wire::RealtimeProjectionReset {})]),
        ("a user without a user", "x", vec![nobody]),
        ("a state without a state", "x", vec![stateless]),
        ("an unknown kind of row", "E2", vec![row("Rheld", unknown, &["Uada"])]),
        ("an unreadable row", "E2", vec![row("Rheld", bodiless, &["Uada"])]),
        ("a row without its author", "E2", vec![row("Rheld", next(11), &[])]),
        ("a row older than the newest", "E2", vec![row("Rheld", next(9), &["Uada"])]),
        ("an event with another id than its message", "x", vec![row("Rheld", next(11), &["Uada"])]),
        (
            "a row of a room not held",
            "E3",
            vec![row("Raside", message("Raside", "E3", "Uada", 11), &["Uada"])],
        ),
        (
            "a row before its window",
            "E3",
            vec![row("Rloadless", message("Rloadless", "E3", "Uada", 11), &["Uada"])],
        ),
        (
            "a window before membership",
            "x",
            vec![room("Rheld", false, &[]), window("Rheld", vec![next(11)])],
        ),
        (
            "a row after membership",
            "E2",
            vec![room("Rheld", false, &[]), row("Rheld", next(11), &["Uada"])],
        ),
        ("a held room without members", "x", vec![room("Rheld", true, &[])]),
        ("members of a room not held", "x", vec![room("Raside", true, &["Uada"])]),
        ("an unknown member", "x", vec![room("Rheld", true, &["Uada", "Uwho"])]),
        ("presences of some", "x", vec![Operation::PresencesReplace(Default::default())]),
        (
            "a window out of order",
            "x",
            vec![window("Rheld", vec![next(11), message("Rheld", "E1", "Uada", 10)])],
        ),
    ];
    for (lie, id, operations) in lies {
        assert!(fails(post(id, operations)), "{lie}");
    }
    let anonymous = || script().apply_live("E2", None, vec![row("Rheld", next(11), &["Uada"])]);
    assert!(fails(anonymous), "a change without its actor");
    let early = || Script::holding(&[]).load(vec![user("Uada")]);
    assert!(fails(early), "an upsert before the reset");
}
