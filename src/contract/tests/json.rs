//! The JSON mapping, one test per row of the contract's table (section 2.1).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost_types::{Duration, FieldMask, Timestamp};

use super::{from_json, is_refused, to_json};
use crate::contract::{DecodeError, Encoding, admin, api, decode, encode, realtime};
use crate::limits;

#[test]
fn field_names_are_lower_camel_case_out_and_either_in() {
    let request = api::GetRoomRequest { room_id: "R1".into() };
    assert_eq!(to_json(&request), r#"{"roomId":"R1"}"#);
    assert_eq!(from_json::<api::GetRoomRequest>(r#"{"roomId":"R1"}"#), request);
    assert_eq!(from_json::<api::GetRoomRequest>(r#"{"room_id":"R1"}"#), request);
}

#[test]
fn unknown_fields_are_ignored() {
    for text in [
        r#"{"roomId":"R1","further":1}"#,
        r#"{"further":{"deep":[{"er":null}]},"roomId":"R1"}"#,
        r#"{"":"","roomId":"R1","ROOMID":"R2"}"#,
    ] {
        assert_eq!(from_json::<api::GetRoomRequest>(text).room_id, "R1", "{text}");
    }
}

#[test]
fn enums_are_full_names_out_and_name_or_number_in() {
    let request = api::ListRoomsRequest { scope: api::RoomDirectoryScope::Dms.into() };
    assert_eq!(to_json(&request), r#"{"scope":"ROOM_DIRECTORY_SCOPE_DMS"}"#);
    for text in [r#"{"scope":"ROOM_DIRECTORY_SCOPE_DMS"}"#, r#"{"scope":3}"#] {
        assert_eq!(from_json::<api::ListRoomsRequest>(text), request, "{text}");
    }
    // open: an unknown number survives, an unknown name counts as absent
    assert_eq!(from_json::<api::ListRoomsRequest>(r#"{"scope":77}"#).scope, 77);
    assert_eq!(to_json(&api::ListRoomsRequest { scope: 77 }), r#"{"scope":77}"#);
    assert_eq!(from_json::<api::ListRoomsRequest>(r#"{"scope":"NEWER"}"#).scope, 0);
    let settings: api::UpdateSettingsRequest = from_json(r#"{"timeFormat":"NEWER"}"#);
    assert_eq!(settings.time_format, None);
}

#[test]
fn sixty_four_bit_integers_are_strings_out_and_either_in() {
    let page = api::PageInfo { total_count: 9_007_199_254_740_993, has_more: true };
    assert_eq!(to_json(&page), r#"{"totalCount":"9007199254740993","hasMore":true}"#);
    for text in [r#"{"size":"12"}"#, r#"{"size":12}"#, r#"{"size":12.0}"#, r#"{"size":1.2e1}"#] {
        assert_eq!(from_json::<api::CreateUploadRequest>(text).size, 12, "{text}");
    }
    let largest: api::PageInfo = from_json(r#"{"totalCount":"9223372036854775807"}"#);
    assert_eq!(largest.total_count, i64::MAX);
    for text in [r#"{"size":"x"}"#, r#"{"size":1.5}"#, r#"{"size":"9223372036854775808"}"#] {
        assert!(is_refused::<api::CreateUploadRequest>(text), "{text}");
    }
}

#[test]
fn thirty_two_bit_integers_are_numbers_out_and_in_range() {
    let request = api::PageRequest { limit: 5, offset: 0 };
    assert_eq!(to_json(&request), r#"{"limit":5}"#);
    for text in [r#"{"limit":5}"#, r#"{"limit":"5"}"#, r#"{"limit":5.0}"#] {
        assert_eq!(from_json::<api::PageRequest>(text), request, "{text}");
    }
    for text in [r#"{"limit":2147483648}"#, r#"{"limit":0.5}"#, r#"{"limit":true}"#] {
        assert!(is_refused::<api::PageRequest>(text), "{text}");
    }
}

#[test]
fn bytes_are_base64_of_the_standard_alphabet() {
    let content = Bytes::from_static(&[0xfb, 0xff, 0x00, 0x01]);
    let request = api::UploadChunkRequest { content, ..Default::default() };
    assert_eq!(to_json(&request), r#"{"content":"+/8AAQ=="}"#);
    for text in
        [r#"{"content":"+/8AAQ=="}"#, r#"{"content":"+/8AAQ"}"#, r#"{"content":"-_8AAQ=="}"#]
    {
        assert_eq!(from_json::<api::UploadChunkRequest>(text), request, "{text}");
    }
    assert!(is_refused::<api::UploadChunkRequest>(r#"{"content":"?"}"#));
}

#[test]
fn timestamps_are_rfc_3339_in_utc() {
    let expires_at = Some(Timestamp { seconds: 1_700_000_000, nanos: 120_000_000 });
    let status = api::CustomUserStatus { expires_at, ..Default::default() };
    assert_eq!(to_json(&status), r#"{"expiresAt":"2023-11-14T22:13:20.120Z"}"#);
    for text in [
        r#"{"expiresAt":"2023-11-14T22:13:20.120Z"}"#,
        r#"{"expiresAt":"2023-11-14T23:13:20.12+01:00"}"#,
        r#"{"expiresAt":"2023-11-14t21:43:20.120000000-00:30"}"#,
    ] {
        assert_eq!(from_json::<api::CustomUserStatus>(text), status, "{text}");
    }
    let whole = api::CustomUserStatus {
        expires_at: Some(Timestamp { seconds: 0, nanos: 0 }),
        ..Default::default()
    };
    assert_eq!(to_json(&whole), r#"{"expiresAt":"1970-01-01T00:00:00Z"}"#);
    for text in [
        "yesterday",
        "",
        "2023-11-14",
        "2023-11-14T22:13:20",
        "2023-11-14 22:13:20Z",
        "2023-11-14T22:13Z",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:20.1234567890Z",
        "2023-11-14T22:13:20+1:00",
        "2023-11-14T22:13:20ZZ",
        "2023-13-14T22:13:20Z",
        "2023-02-30T22:13:20Z",
        "2023-11-14T25:13:20Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "２023-11-14T22:13:20Z",
    ] {
        let json = format!("{{\"expiresAt\":\"{text}\"}}");
        assert!(is_refused::<api::CustomUserStatus>(&json), "{text}");
    }
    for seconds in [-62_135_596_800, 253_402_300_799] {
        let edge = api::CustomUserStatus {
            expires_at: Some(Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(from_json::<api::CustomUserStatus>(&to_json(&edge)), edge);
    }
    let beyond = api::CustomUserStatus {
        expires_at: Some(Timestamp { seconds: 253_402_300_800, nanos: 0 }),
        ..Default::default()
    };
    assert!(encode(&beyond, Encoding::Json).is_err());
}

#[test]
fn durations_are_seconds_with_a_suffix() {
    let retry_after = Some(Duration { seconds: 3, nanos: 500_000_000 });
    let status = api::GetStatusResponse { retry_after, ..Default::default() };
    assert_eq!(to_json(&status), r#"{"retryAfter":"3.500s"}"#);
    assert_eq!(from_json::<api::GetStatusResponse>(r#"{"retryAfter":"3.5s"}"#), status);
    let table = [
        ("0s", 0, 0),
        ("-3.000000001s", -3, -1),
        ("-0.5s", 0, -500_000_000),
        ("315576000000s", 315_576_000_000, 0),
    ];
    for (text, seconds, nanos) in table {
        let status: api::GetStatusResponse = from_json(&format!("{{\"retryAfter\":\"{text}\"}}"));
        assert_eq!(status.retry_after, Some(Duration { seconds, nanos }), "{text}");
        assert_eq!(from_json::<api::GetStatusResponse>(&to_json(&status)), status, "{text}");
    }
    for text in ["3.5", "s", "-s", ".5s", "1.s", "+1s", "1e3s", "315576000001s", "0.1234567890s"] {
        let json = format!("{{\"retryAfter\":\"{text}\"}}");
        assert!(is_refused::<api::GetStatusResponse>(&json), "{text}");
    }
}

#[test]
fn field_masks_are_one_string_in_either_case() {
    let paths = vec!["direct_messages".to_owned(), "replies".to_owned()];
    let request = api::UpdateNotificationPolicyRequest {
        update_mask: Some(FieldMask { paths }),
        ..Default::default()
    };
    assert_eq!(to_json(&request), r#"{"updateMask":"directMessages,replies"}"#);
    for text in [
        r#"{"updateMask":"directMessages,replies"}"#,
        r#"{"updateMask":"direct_messages,replies"}"#,
        r#"{"update_mask":"direct_messages,replies"}"#,
    ] {
        assert_eq!(from_json::<api::UpdateNotificationPolicyRequest>(text), request, "{text}");
    }
    let none: api::UpdateNotificationPolicyRequest = from_json(r#"{"updateMask":null}"#);
    assert_eq!(none.update_mask, None);
    let empty: api::UpdateNotificationPolicyRequest = from_json(r#"{"updateMask":""}"#);
    assert_eq!(empty.update_mask, Some(FieldMask { paths: Vec::new() }));
    assert!(is_refused::<api::UpdateNotificationPolicyRequest>(r#"{"updateMask":7}"#));
}

#[test]
fn defaults_are_left_out() {
    assert_eq!(to_json(&api::Room::default()), "{}");
    assert_eq!(to_json(&api::ListRoomsResponse::default()), "{}");
    assert_eq!(to_json(&api::GetRoomResponse { room: Some(Default::default()) }), r#"{"room":{}}"#);
}

#[test]
fn doubles_are_numbers_or_three_names() {
    type Result = api::MessageSearchResult;
    let table = [
        (r#"{"relevanceScore":0.5}"#, 0.5),
        (r#"{"relevanceScore":-3.0}"#, -3.0),
        (r#"{"relevanceScore":1e300}"#, 1e300),
        (r#"{"relevanceScore":"Infinity"}"#, f64::INFINITY),
        (r#"{"relevanceScore":"-Infinity"}"#, f64::NEG_INFINITY),
    ];
    for (text, score) in table {
        let result: Result = from_json(text);
        assert_eq!(result.relevance_score, score, "{text}");
        assert_eq!(from_json::<Result>(&to_json(&result)), result, "{text}");
    }
    assert_eq!(from_json::<Result>(r#"{"relevanceScore":7}"#).relevance_score, 7.0);
    assert_eq!(from_json::<Result>(r#"{"relevanceScore":"7.5"}"#).relevance_score, 7.5);
    let nan: Result = from_json(r#"{"relevanceScore":"NaN"}"#);
    assert_eq!(to_json(&nan), r#"{"relevanceScore":"NaN"}"#);
    assert!(is_refused::<Result>(r#"{"relevanceScore":"inf"}"#));
}

#[test]
fn texts_are_escaped() {
    let request = api::GetRoomRequest { room_id: "\"\\\n\u{1}é\u{2028}".into() };
    let json = to_json(&request);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["roomId"],
        request.room_id
    );
    assert_eq!(
        from_json::<api::GetRoomRequest>(r#"{"room\u0049d":"\u00e9\ud83c\udf89"}"#).room_id,
        "é🎉"
    );
}

#[test]
fn maps_are_objects() {
    let user = api::User { id: "U1".into(), ..Default::default() };
    let includes = api::RoomTimelineIncludes { users: BTreeMap::from([("U1".into(), user)]) };
    assert_eq!(to_json(&includes), r#"{"users":{"U1":{"id":"U1"}}}"#);
    assert_eq!(from_json::<api::RoomTimelineIncludes>(r#"{"users":{"U1":{"id":"U1"}}}"#), includes);
    let online = api::PresenceStatus::Online.into();
    let statuses = BTreeMap::from([("U1".to_owned(), online)]);
    let presences = realtime::RealtimeProjectionPresencesReplace { statuses };
    assert_eq!(to_json(&presences), r#"{"statuses":{"U1":"PRESENCE_STATUS_ONLINE"}}"#);
    // an entry is there even when its key and value are the defaults
    let statuses = BTreeMap::from([(String::new(), 0), ("U2".to_owned(), 9)]);
    let presences = realtime::RealtimeProjectionPresencesReplace { statuses };
    assert_eq!(to_json(&presences), r#"{"statuses":{"":"PRESENCE_STATUS_UNSPECIFIED","U2":9}}"#);
    let users = BTreeMap::from([("U1".to_owned(), api::User::default())]);
    assert_eq!(to_json(&api::RoomTimelineIncludes { users }), r#"{"users":{"U1":{}}}"#);
    // an unknown name of an enum drops its entry
    let newer = r#"{"statuses":{"U1":"NEWER","U2":9}}"#;
    let presences: realtime::RealtimeProjectionPresencesReplace = from_json(newer);
    assert_eq!(presences.statuses, BTreeMap::from([("U2".to_owned(), 9)]));
}

#[test]
fn null_is_absent_for_every_kind_of_field() {
    type Create = api::CreateMessageRequest;
    assert_eq!(
        from_json::<Create>(
            r#"{"roomId":null,"body":null,"attachmentAssetIds":null,"alsoSendToChannel":null}"#
        ),
        Create::default()
    );
    type Search = api::SearchMessagesRequest;
    assert_eq!(
        from_json::<Search>(r#"{"roomId":null,"createdAfter":null,"order":null,"pageSize":null}"#),
        Search::default()
    );
    assert_eq!(
        from_json::<api::UploadChunkRequest>(r#"{"offset":null,"content":null}"#),
        api::UploadChunkRequest::default()
    );
    assert_eq!(from_json::<api::GetUserRequest>(r#"{"userId":null,"login":"ann"}"#).target, {
        Some(api::get_user_request::Target::Login("ann".into()))
    });
    assert_eq!(
        from_json::<api::RoomTimelineIncludes>(r#"{"users":null}"#),
        api::RoomTimelineIncludes::default()
    );
    assert_eq!(
        from_json::<api::GetStatusResponse>(r#"{"retryAfter":null}"#),
        api::GetStatusResponse::default()
    );
    assert_eq!(
        from_json::<admin::ListMembersRequest>(r#"{"page":null,"search":null}"#),
        admin::ListMembersRequest::default()
    );
}

#[test]
fn an_empty_body_is_the_empty_message() {
    assert_eq!(from_json::<api::GetViewerRequest>(""), api::GetViewerRequest {});
    assert_eq!(from_json::<api::GetViewerRequest>(" {} \n"), api::GetViewerRequest {});
    let binary: api::GetRoomRequest = decode(Encoding::Proto, Bytes::new()).unwrap();
    assert_eq!(binary, api::GetRoomRequest::default());
}

#[test]
fn what_is_not_a_json_object_is_refused() {
    for text in ["null", "[]", "1", "\"\"", "{", "{}{}", "{} x", "{\"roomId\":[]}", "\u{feff}{}"] {
        assert!(is_refused::<api::GetRoomRequest>(text), "{text}");
    }
    let broken_text = Bytes::from_static(b"{\"roomId\":\"\xff\"}");
    assert!(decode::<api::GetRoomRequest>(Encoding::Json, broken_text).is_err());
}

#[test]
fn a_field_or_oneof_that_comes_twice_is_refused() {
    assert!(is_refused::<api::GetRoomRequest>(r#"{"roomId":"R1","room_id":"R2"}"#));
    assert!(is_refused::<api::GetRoomRequest>(r#"{"roomId":"R1","roomId":"R1"}"#));
    assert!(is_refused::<api::GetUserRequest>(r#"{"userId":"U1","login":"ann"}"#));
}

#[test]
fn depth_is_bounded() {
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(is_refused::<api::GetRoomRequest>(&deep));
    let posts = 400;
    let quoted = format!("{}{}", "{\"quotedPost\":".repeat(posts), "}".repeat(posts));
    assert!(is_refused::<api::SocialPostPreview>(&quoted));
    // the same in binary: field 9, each length a varint
    let mut nested: Vec<u8> = Vec::new();
    for _ in 0..posts {
        let mut outer = vec![0x4a];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.extend_from_slice(&nested);
        nested = outer;
    }
    assert!(decode::<api::SocialPostPreview>(Encoding::Proto, nested.into()).is_err());
}

#[test]
fn the_number_of_values_is_bounded() {
    let too_many = limits::API_VALUES_MAX + 1;
    let json = format!("{{\"roomIds\":[{}0]}}", "\"\",".repeat(too_many));
    let binary = [0x0a, 0x00].repeat(too_many);
    for (encoding, body) in [(Encoding::Json, json.into()), (Encoding::Proto, Bytes::from(binary))]
    {
        let outcome = decode::<api::BatchGetRoomsRequest>(encoding, body);
        assert!(matches!(outcome, Err(DecodeError::TooManyValues { .. })), "{encoding:?}");
    }
    // commas and brackets inside a text are no values
    let body = format!("{{\"body\":\"{}\"}}", "[,{\\\"".repeat(too_many));
    assert_eq!(from_json::<api::CreateMessageRequest>(&body).body.len(), too_many * 4);
}

#[test]
fn content_types_name_the_encoding() {
    let table = [
        ("application/proto", Some(Encoding::Proto)),
        ("application/json", Some(Encoding::Json)),
        ("application/json; charset=utf-8", Some(Encoding::Json)),
        ("Application/JSON;charset=UTF-8", Some(Encoding::Json)),
        ("application/connect+proto", None),
        ("application/grpc", None),
        ("text/plain", None),
        ("", None),
    ];
    for (value, encoding) in table {
        assert_eq!(Encoding::from_content_type(value), encoding, "{value}");
    }
}
