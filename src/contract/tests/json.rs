//! The JSON mapping, one test per row of the contract's table (section 2.1).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost_types::{Duration, FieldMask, Timestamp};

use super::{from_json, is_refused, to_json};
use crate::contract::{DecodeError, Encoding, admin, api, auth, decode, json, realtime};
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
    assert_eq!(from_json::<api::UploadChunkRequest>(r#"{"content":"+/8AAQ=="}"#), request);
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
    ] {
        assert_eq!(from_json::<api::CustomUserStatus>(text), status, "{text}");
    }
    let whole = api::CustomUserStatus {
        expires_at: Some(Timestamp { seconds: 0, nanos: 0 }),
        ..Default::default()
    };
    assert_eq!(to_json(&whole), r#"{"expiresAt":"1970-01-01T00:00:00Z"}"#);
    assert!(is_refused::<api::CustomUserStatus>(r#"{"expiresAt":"yesterday"}"#));
}

#[test]
fn durations_are_seconds_with_a_suffix() {
    let retry_after = Some(Duration { seconds: 3, nanos: 500_000_000 });
    let status = api::GetStatusResponse { retry_after, ..Default::default() };
    assert_eq!(to_json(&status), r#"{"retryAfter":"3.500s"}"#);
    assert_eq!(from_json::<api::GetStatusResponse>(r#"{"retryAfter":"3.5s"}"#), status);
    assert!(is_refused::<api::GetStatusResponse>(r#"{"retryAfter":"3.5"}"#));
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
    for text in [r#"{"updateMask":7}"#, r#"{"updateMask":"a__b"}"#, r#"{"updateMask":"a_"}"#] {
        assert!(is_refused::<api::UpdateNotificationPolicyRequest>(text), "{text}");
    }
}

#[test]
fn defaults_are_left_out() {
    assert_eq!(to_json(&api::Room::default()), "{}");
    assert_eq!(to_json(&api::ListRoomsResponse::default()), "{}");
    assert_eq!(to_json(&api::GetRoomResponse { room: Some(Default::default()) }), r#"{"room":{}}"#);
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
fn two_members_of_a_oneof_are_refused() {
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
fn every_message_of_the_method_table_has_a_descriptor() {
    for method in crate::contract::Method::ALL {
        for name in [method.request(), method.response()] {
            assert!(json::descriptor(name).is_some(), "{name}");
        }
    }
    let pending = auth::PendingExternalIdentity {
        kind: auth::ExternalIdentityFlowKind::LinkAccount.into(),
        ..Default::default()
    };
    assert_eq!(to_json(&pending), r#"{"kind":"EXTERNAL_IDENTITY_FLOW_KIND_LINK_ACCOUNT"}"#);
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
