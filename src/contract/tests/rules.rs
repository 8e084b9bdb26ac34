//! Value rules at their bounds and one beyond, and which fields they look at when nothing is set.

use bytes::Bytes;

use crate::contract::generated::PATTERNS;
use crate::contract::{Method, Rule, RuleViolation, Validate, admin, api, auth, texts};

/// None when the request is good, else the field path and the rule.
fn verdict(request: &impl Validate) -> Option<(String, Rule)> {
    request.validate().err().map(|RuleViolation { field, rule }| (field, rule))
}

fn broken(field: &str, rule: Rule) -> Option<(String, Rule)> {
    Some((field.to_owned(), rule))
}

#[test]
fn lengths_of_texts_are_code_points() {
    let with =
        |name: String| api::CreateRoomRequest { name, group_id: "G1".into(), ..Default::default() };
    let table = [
        ("".to_owned(), broken("name", Rule::MinLength(1))),
        ("é".to_owned(), None),
        ("é".repeat(30), None),
        ("🎉".repeat(30), None),
        ("é".repeat(31), broken("name", Rule::MaxLength(30))),
        // a letter and a combining mark are two code points
        ("e\u{301}".repeat(15), None),
        ("e\u{301}".repeat(15) + "x", broken("name", Rule::MaxLength(30))),
    ];
    for (name, expected) in table {
        assert_eq!(verdict(&with(name.clone())), expected, "{name}");
    }
}

#[test]
fn lengths_of_bytes_are_bytes() {
    let with = |content: &'static [u8]| api::UploadChunkRequest {
        upload_id: "L1".into(),
        offset: 0,
        content: Bytes::from_static(content),
        chunk_sha256: "0".repeat(64),
    };
    assert_eq!(verdict(&with(b"")), broken("content", Rule::MinBytes(1)));
    assert_eq!(verdict(&with(b"\xff")), None);
}

#[test]
fn max_bytes_counts_utf_8() {
    let with = |query: String| api::SearchMessagesRequest { query, ..Default::default() };
    assert_eq!(verdict(&with("é".repeat(512))), None);
    assert_eq!(verdict(&with("é".repeat(512) + "x")), broken("query", Rule::MaxBytes(1024)));
}

#[test]
fn patterns_match_the_whole_text_they_anchor() {
    let with = |sha256: &str| api::CreateUploadRequest {
        room_id: "R1".into(),
        filename: "f".into(),
        sha256: sha256.into(),
        ..Default::default()
    };
    let refused = || broken("sha256", Rule::Pattern("^[a-f0-9]{64}$"));
    let good = "0123456789abcdef".repeat(4);
    assert_eq!(verdict(&with(&good)), None);
    let newline = format!("{good}\n");
    let short = "0".repeat(63);
    for bad in ["", &short, &good.to_uppercase(), &newline, &format!("{good}0")] {
        assert_eq!(verdict(&with(bad)), refused(), "{bad}");
    }
}

#[test]
fn every_pattern_compiles() {
    assert!(!PATTERNS.is_empty());
    for pattern in PATTERNS {
        assert!(pattern.compiled().is_some());
    }
}

#[test]
fn list_lengths_and_elements() {
    let with = |room_ids: Vec<String>| api::BatchGetRoomsRequest { room_ids };
    let ids = |count| vec!["R1".to_owned(); count];
    assert_eq!(verdict(&with(ids(0))), broken("room_ids", Rule::MinItems(1)));
    assert_eq!(verdict(&with(ids(1))), None);
    assert_eq!(verdict(&with(ids(100))), None);
    assert_eq!(verdict(&with(ids(101))), broken("room_ids", Rule::MaxItems(100)));
    let mut one_empty = ids(3);
    one_empty[2].clear();
    assert_eq!(verdict(&with(one_empty)), broken("room_ids[2]", Rule::MinLength(1)));

    let post = |attachment_asset_ids| api::CreateMessageRequest {
        room_id: "R1".into(),
        attachment_asset_ids,
        ..Default::default()
    };
    assert_eq!(verdict(&post(vec!["a".repeat(15); 10])), None);
    assert_eq!(
        verdict(&post(vec!["é".repeat(8)])),
        broken("attachment_asset_ids[0]", Rule::MaxBytes(15))
    );
    // a list without min_items may be empty
    assert_eq!(verdict(&api::StartDmRequest::default()), None);
}

#[test]
fn elements_that_are_messages() {
    let item = |kind, id: &str| admin::AdminRoomLayoutItemInput { kind, id: id.into() };
    let with = |items| admin::ReorderSidebarItemsInGroupRequest { group_id: "G1".into(), items };
    assert_eq!(verdict(&with(vec![item(1, "R1"), item(2, "L1")])), None);
    assert_eq!(
        verdict(&with(vec![item(1, "R1"), item(2, "")])),
        broken("items[1].id", Rule::MinLength(1))
    );
    assert_eq!(verdict(&with(vec![item(0, "R1")])), broken("items[0].kind", Rule::NotIn(0)));
    assert_eq!(verdict(&with(vec![item(3, "R1")])), broken("items[0].kind", Rule::DefinedOnly));
    assert_eq!(verdict(&with(vec![item(1, "R1"); 1001])), broken("items", Rule::MaxItems(1000)));
}

#[test]
fn defined_only_and_not_in() {
    let presence = |status| api::UpdatePresenceRequest { status, user_selected: false };
    let table = [
        (-1, broken("status", Rule::DefinedOnly)),
        (0, broken("status", Rule::NotIn(0))),
        (1, None),
        (3, None),
        (4, broken("status", Rule::NotIn(4))),
        (5, broken("status", Rule::DefinedOnly)),
    ];
    for (status, expected) in table {
        assert_eq!(verdict(&presence(status)), expected, "{status}");
    }
    // defined_only alone takes 0
    assert_eq!(verdict(&api::ListRoomsRequest { scope: 0 }), None);
    let beyond = api::ListRoomsRequest { scope: 4 };
    assert_eq!(verdict(&beyond), broken("scope", Rule::DefinedOnly));
}

#[test]
fn bounds_of_numbers_are_inclusive() {
    let table = [
        (0, 0, None),
        (500, i32::MAX, None),
        (501, 0, broken("page.limit", Rule::AtMost(500))),
        (-1, 0, broken("page.limit", Rule::AtLeast(0))),
        (0, -1, broken("page.offset", Rule::AtLeast(0))),
    ];
    for (limit, offset, expected) in table {
        let page = Some(api::PageRequest { limit, offset });
        let request = api::ListBotsRequest { search: String::new(), page };
        assert_eq!(verdict(&request), expected, "{limit} {offset}");
    }
    let upload = |size| api::CreateUploadRequest {
        room_id: "R1".into(),
        filename: "f".into(),
        size,
        sha256: "0".repeat(64),
        ..Default::default()
    };
    assert_eq!(verdict(&upload(i64::MAX)), None);
    assert_eq!(verdict(&upload(i64::MIN)), broken("size", Rule::AtLeast(0)));
}

#[test]
fn fields_without_presence_are_checked_with_their_default() {
    assert_eq!(verdict(&api::GetRoomRequest::default()), broken("room_id", Rule::MinLength(1)));
    assert_eq!(
        verdict(&api::BatchGetRoomsRequest::default()),
        broken("room_ids", Rule::MinItems(1))
    );
    let absent_pattern = api::CreateUploadRequest {
        room_id: "R1".into(),
        filename: "f".into(),
        ..Default::default()
    };
    assert!(
        matches!(verdict(&absent_pattern), Some((field, Rule::Pattern(_))) if field == "sha256")
    );
    // an empty thumbnail breaks gte=1, an absent one does not
    let asset =
        |thumbnail| api::GetAssetRequest { room_id: "R1".into(), asset_id: "A1".into(), thumbnail };
    assert_eq!(verdict(&asset(None)), None);
    assert_eq!(
        verdict(&asset(Some(Default::default()))),
        broken("thumbnail.width", Rule::AtLeast(1))
    );
}

#[test]
fn fields_with_presence_are_checked_only_when_set() {
    let update = |name: Option<&str>| api::UpdateRoomRequest {
        room_id: "R1".into(),
        name: name.map(str::to_owned),
        ..Default::default()
    };
    assert_eq!(verdict(&update(None)), None);
    assert_eq!(verdict(&update(Some(""))), broken("name", Rule::MinLength(1)));
    let slow = |slow_mode_seconds| api::UpdateRoomRequest { slow_mode_seconds, ..update(None) };
    assert_eq!(verdict(&slow(Some(0))), None);
    assert_eq!(verdict(&slow(Some(21_600))), None);
    assert_eq!(verdict(&slow(Some(21_601))), broken("slow_mode_seconds", Rule::AtMost(21_600)));
    let invite = |max_uses| admin::CreateInviteLinkRequest { max_uses, expires_at: None };
    assert_eq!(verdict(&invite(None)), None);
    assert_eq!(verdict(&invite(Some(0))), broken("max_uses", Rule::AtLeast(1)));
}

#[test]
fn no_rule_makes_a_oneof_or_a_message_required() {
    use api::get_user_request::Target;
    let get = |target| api::GetUserRequest { target };
    assert_eq!(verdict(&get(None)), None);
    assert_eq!(verdict(&get(Some(Target::Login("ann".into())))), None);
    assert_eq!(
        verdict(&get(Some(Target::UserId(String::new())))),
        broken("user_id", Rule::MinLength(1))
    );
    assert_eq!(verdict(&api::UploadAvatarRequest { image: None }), None);
    assert_eq!(verdict(&admin::GetRolePermissionTierMatrixRequest { scope: None }), None);
}

#[test]
fn messages_from_another_package_are_checked_too() {
    let page = Some(api::PageRequest { limit: 501, offset: 0 });
    let request = admin::ListMembersRequest { search: String::new(), page };
    assert_eq!(verdict(&request), broken("page.limit", Rule::AtMost(500)));
    let cleanup = auth::DeleteSubscriptionRequest {
        endpoint: "e".into(),
        auth: "a".into(),
        cleanup_token: "c".repeat(31),
    };
    assert_eq!(verdict(&cleanup), broken("cleanup_token", Rule::MinLength(32)));
}

#[test]
fn answers_name_field_and_rule_or_say_the_fixed_text() {
    let too_long = api::CreateRoomRequest {
        name: "x".repeat(31),
        group_id: "G1".into(),
        ..Default::default()
    };
    let violation = too_long.validate().unwrap_err();
    assert_eq!(violation.text(Method::RoomServiceCreateRoom), texts::ROOM_NAME_TOO_LONG);
    let too_long = api::UpdateRoomRequest {
        room_id: "R1".into(),
        description: Some("x".repeat(501)),
        ..Default::default()
    };
    let violation = too_long.validate().unwrap_err();
    assert_eq!(violation.text(Method::RoomServiceUpdateRoom), texts::ROOM_DESCRIPTION_TOO_LONG);
    let violation = api::GetRoomRequest::default().validate().unwrap_err();
    assert_eq!(
        violation.text(Method::RoomDirectoryServiceGetRoom),
        "room_id: must have at least 1 characters"
    );
}
