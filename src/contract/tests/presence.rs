//! Explicit presence: absent, present with the default, present with a value are three states, in both
//! forms (contract, section 2.1).

use std::fmt::Debug;

use super::{from_json, through_binary, to_json};
use crate::contract::{Wire, admin, api, realtime};

/// Each state gives its JSON and comes back as itself through both forms.
fn three_states<M: Wire + PartialEq + Debug, T>(
    set: impl Fn(&mut M, Option<T>),
    present: [(T, &str); 2],
) {
    let absent = (None, "{}".to_owned());
    let present = present.map(|(value, json)| (Some(value), json.to_owned()));
    let mut seen = Vec::new();
    for (value, json) in std::iter::once(absent).chain(present) {
        let mut message = M::default();
        set(&mut message, value);
        assert_eq!(to_json(&message), json);
        assert_eq!(from_json::<M>(&json), message);
        assert_eq!(through_binary(&message), message);
        assert!(!seen.contains(&message), "two states are one: {message:?}");
        seen.push(message);
    }
}

fn three_flags<M: Wire + PartialEq + Debug>(name: &str, set: impl Fn(&mut M, Option<bool>)) {
    let no = format!("{{\"{name}\":false}}");
    let yes = format!("{{\"{name}\":true}}");
    three_states(set, [(false, &no), (true, &yes)]);
}

#[test]
fn flags_with_three_states() {
    three_flags::<api::ServerLogin>("directLoginEnabled", |m, v| m.direct_login_enabled = v);
    three_flags::<api::ProviderMetadata>("autoProvision", |m, v| m.auto_provision = v);
    three_flags::<api::ThreadViewerState>("isFollowing", |m, v| m.is_following = v);
    three_flags::<api::ThreadViewerState>("hasUnread", |m, v| m.has_unread = v);
    three_flags::<realtime::RealtimeProjectionRoom>("hasMessageHistory", |m, v| {
        m.has_message_history = v;
    });
    three_flags::<admin::GetSystemInfoResponse>("projectionsAvailable", |m, v| {
        m.projections_available = v;
    });
    three_flags::<admin::PermissionMatrixCell>("allowPermitted", |m, v| m.allow_permitted = v);
}

#[test]
fn a_message_has_a_text_an_empty_text_or_none() {
    three_states::<api::Message, _>(
        |message, body| message.body = body,
        [("".to_owned(), r#"{"body":""}"#), ("hi".to_owned(), r#"{"body":"hi"}"#)],
    );
}

#[test]
fn numbers_and_enums_with_presence() {
    three_states::<api::UpdateRoomRequest, _>(
        |request, seconds| request.slow_mode_seconds = seconds,
        [(0, r#"{"slowModeSeconds":0}"#), (5, r#"{"slowModeSeconds":5}"#)],
    );
    three_states::<api::UpdateSettingsRequest, _>(
        |request, format| request.time_format = format,
        [
            (0, r#"{"timeFormat":"TIME_FORMAT_UNSPECIFIED"}"#),
            (2, r#"{"timeFormat":"TIME_FORMAT_12_HOUR"}"#),
        ],
    );
}

#[test]
fn members_of_a_oneof_have_presence() {
    use api::get_room_events_request::Cursor;
    three_states::<api::GetRoomEventsRequest, _>(
        |request, cursor| request.cursor = cursor,
        [
            (Cursor::Before(String::new()), r#"{"before":""}"#),
            (Cursor::After("c".to_owned()), r#"{"after":"c"}"#),
        ],
    );
}

#[test]
fn messages_have_presence() {
    three_states::<api::GetRoomResponse, _>(
        |response, room| response.room = room,
        [
            (api::RoomWithViewerState::default(), r#"{"room":{}}"#),
            (
                api::RoomWithViewerState { room: Some(api::Room::default()), viewer_state: None },
                r#"{"room":{"room":{}}}"#,
            ),
        ],
    );
}

#[test]
fn unknown_enum_numbers_survive_both_forms() {
    let request = api::ListRoomsRequest { scope: -7 };
    assert_eq!(through_binary(&request), request);
    assert_eq!(from_json::<api::ListRoomsRequest>(&to_json(&request)), request);
}
