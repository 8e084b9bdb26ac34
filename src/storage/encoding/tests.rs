//! The domain's types as they are stored: each with every field set, and what is not all of its record.

use super::*;
use crate::domain::permission::{Decision, DecisionScope, Permission, Ruling};
use crate::domain::timeline::{self, Content, Effect, Fact, FactKind, RowKind};
use crate::domain::{
    AssetId, CustomStatus, EmailAddress, EventId, Group, GroupId, GroupItem, JoinLink, Membership,
    Presence, ReadMarker, Role, Room, RoomId, RoomKind, ServerSettings, SessionEnd,
    SessionPresence, TimeFormat, Token, TokenKind, User, UserId, UserPresence, UserSettings,
};
use crate::domain::{
    Chunk, Detected, File, FileGroup, FileLocation, FileState, Multipart, Upload, UploadStatus,
};
use crate::storage::files::FileRecord;
use crate::storage::golden::golden;
use crate::storage::kv::counters::Counter;
use crate::storage::records;
use crate::storage::state::{ClaimHolder, ClaimRecord};

fn user() -> UserId {
    UserId::from_number(42)
}

fn room() -> RoomId {
    RoomId::from_random([1; 16])
}

fn group() -> GroupId {
    GroupId::from_random([2; 16])
}

/// A value is stored as the golden file says and read as it was.
fn stored<T: Recorded + PartialEq + std::fmt::Debug>(name: &str, value: &T)
where
    T::Record: PartialEq + std::fmt::Debug,
{
    golden(name, &value.to_record());
    let (read, is_whole) = decode_value::<T>(&encode_value(value)).unwrap();
    assert_eq!(read, *value, "{name}");
    assert!(is_whole, "{name}");
}

fn decisions() -> Vec<Decision> {
    let decide = |permission, scope, ruling| Decision { permission, scope, ruling };
    vec![
        decide(Permission::RoomCreate, DecisionScope::Server, Ruling::Allow),
        decide(Permission::RoomCreate, DecisionScope::Group(group()), Ruling::Deny),
        decide(Permission::MessagePost, DecisionScope::Room(room()), Ruling::Allow),
    ]
}

fn account() -> User {
    User {
        id: user(),
        login: "Anna".into(),
        display_name: "Anna A.".into(),
        created_ms: 1,
        password_hash: "$argon2id$".into(),
        roles: vec!["owner".into()],
        emails: vec![EmailAddress { address: "anna@example.org".into(), verified: true }],
        session_generation: 2,
        session_end: Some(SessionEnd::PasswordReset),
        login_changed_ms: Some(3),
        settings: UserSettings {
            timezone: Some("Europe/Berlin".into()),
            time_format: Some(TimeFormat::TwentyFourHour),
        },
        is_bot: true,
        bot_owner: Some(UserId::from_number(43)),
        deleted: true,
        active_key_id: "0011223344556677".into(),
        decisions: decisions(),
        avatar_key: Some("avatar".into()),
        custom_status: CustomStatus { emoji: "x".into(), text: "away".into(), expires_ms: Some(4) },
        origin: "origin".into(),
    }
}

fn direct() -> Room {
    Room {
        id: room(),
        kind: RoomKind::Direct,
        name: "general".into(),
        description: "General discussion".into(),
        group: Some(group()),
        universal: true,
        archived: true,
        slow_mode_seconds: 30,
        created_ms: 1,
        creator: Some(user()),
        participants: vec![user(), UserId::from_number(43)],
        announced: true,
        has_history: true,
    }
}

#[test]
fn accounts_rooms_and_roles_are_stored() {
    stored("domain-user", &account());
    stored("domain-user-new", &User::new(user()));
    stored("domain-room", &direct());
    stored("domain-room-new", &Room::new(room()));
    let membership = Membership {
        since_ms: 1,
        announced: true,
        left: true,
        joined_row: 12,
        joined_row_ms: 2,
        ..Membership::new(room(), user())
    };
    stored("domain-membership", &membership);
    let role = Role {
        name: "helpers".into(),
        display_name: "Helpers".into(),
        description: "Help".into(),
        position: 1,
        pingable: true,
        system: true,
        decisions: decisions(),
    };
    stored("domain-role", &role);
    let items = vec![GroupItem::Room(room()), GroupItem::Other("L1".into())];
    let (name, description) = ("Lobby".into(), "First".into());
    let group = Group { id: group(), name, description, position: 1, items, created_ms: 1 };
    stored("domain-group", &group);
}

#[test]
fn settings_and_claims_are_stored() {
    let settings = ServerSettings {
        name: "Chatto".into(),
        description: "A server".into(),
        motd: "Hello".into(),
        welcome_message: "Welcome".into(),
        logo_key: Some("logo".into()),
        banner_key: Some("banner".into()),
        blocked_logins: Some(vec!["root".into()]),
        defaults_written: true,
        setup_token_hash: "hash".into(),
        purged_upto: 7,
    };
    stored("domain-server-settings", &settings);
    let nobody_is_blocked = ServerSettings { blocked_logins: Some(Vec::new()), ..settings };
    stored("domain-server-settings-unblocked", &nobody_is_blocked);
    for (name, holder) in [
        ("domain-claim-user", ClaimHolder::User(user())),
        ("domain-claim-room", ClaimHolder::Room(room())),
        ("domain-claim-other", ClaimHolder::Other("X1".into())),
    ] {
        stored(name, &ClaimRecord { holder, claimed_ms: 1, request_id: "request".into() });
    }
}

#[test]
fn a_value_that_is_not_all_of_its_record_is_distinguished() {
    fn is_whole<T: Recorded>(record: &T::Record) -> Result<bool, DecodeError> {
        decode_value::<T>(&encode(record)).map(|(_, is_whole)| is_whole)
    }
    let (user, room) = (account().to_record(), direct().to_record());
    assert_eq!(is_whole::<User>(&user), Ok(true));
    let mut later = user.clone();
    later.decisions[0].permission = "room.explode".into();
    let changes: [records::User; 4] = [
        later,
        records::User { session_end: 99, ..user.clone() },
        records::User { bot_owner_id: "somebody".into(), ..user.clone() },
        records::User {
            settings: Some(records::Settings { time_format: 99, ..Default::default() }),
            ..user.clone()
        },
    ];
    for later in changes {
        assert_eq!(is_whole::<User>(&later), Ok(false), "{later:?}");
    }
    let changes: [records::Room; 3] = [
        records::Room { kind: 99, ..room.clone() },
        records::Room { group_id: "a group".into(), ..room.clone() },
        records::Room { participant_ids: vec!["somebody".into()], ..room },
    ];
    for later in changes {
        assert_eq!(is_whole::<Room>(&later), Ok(false), "{later:?}");
    }
    let nobody = records::User { id: String::new(), ..user };
    assert_eq!(is_whole::<User>(&nobody), Err(DecodeError::Malformed));
}

#[test]
fn tokens_presence_and_markers_are_stored() {
    let token = Token {
        kind: TokenKind::Join,
        user: Some(user()),
        session_generation: 2,
        created_ms: 1,
        used_ms: 2,
        expires_ms: 3,
        fresh_until_ms: 4,
        pair: Some([7; 32]),
        join: Some(JoinLink {
            login: "anna".into(),
            display_name: "Anna".into(),
            email: "anna@example.org".into(),
            role: "owner".into(),
            email_verified: true,
            created_by: Some(user()),
        }),
        used: true,
        client_id: "client".into(),
        session: Some([8; 16]),
    };
    stored("domain-token", &token);
    for kind in [TokenKind::Bearer, TokenKind::Cookie, TokenKind::Setup] {
        let (read, is_whole) = decode_value::<Token>(&encode_value(&Token::new(kind))).unwrap();
        assert_eq!((read, is_whole), (Token::new(kind), true));
    }
    let session = |status, until_ms| SessionPresence { session: [8; 16], status, until_ms };
    let presence = UserPresence {
        manual: Some(Presence::DoNotDisturb),
        sessions: vec![session(Presence::Online, 3), session(Presence::Away, 4)],
        manual_until_ms: 4,
    };
    stored("domain-presence", &presence);
    let one = |session_id: &'static [u8], status| records::SessionPresence {
        session_id: session_id.into(),
        status,
        until_ms: 3,
    };
    for (manual, one, is_whole) in [
        (2, one(&[8; 16], 1), true),
        (9, one(&[8; 16], 1), false),
        (2, one(&[8; 16], 9), false),
        (2, one(&[8; 17], 1), false),
        (2, one(&[], 1), false),
    ] {
        let record = records::Presence { manual, sessions: vec![one], manual_until_ms: 4 };
        let read = decode_value::<UserPresence>(&encode(&record)).unwrap();
        assert_eq!(read.1, is_whole, "{record:?}");
    }
    let row_id = Some(EventId::new(3, 0, 7));
    stored("domain-read-marker", &ReadMarker { row: 3, row_id, row_ms: 1 });
    stored("domain-counter", &Counter { count: 5, window_ms: 1, blocked_until_ms: 2 });
}

#[test]
fn a_link_of_a_maker_who_cannot_be_read_is_not_one_of_the_operator() {
    let join = records::JoinLink { created_by: "somebody".into(), ..Default::default() };
    let record = records::Token { kind: 3, join: Some(join), ..Default::default() };
    assert_eq!(decode_value::<Token>(&encode(&record)), Err(DecodeError::Malformed));
    let later = records::Token { kind: 99, ..Default::default() };
    assert_eq!(decode_value::<Token>(&encode(&later)), Err(DecodeError::UnknownFields));
}

/// Every effect with every field set.
fn effects() -> Vec<Effect> {
    let id = |row, reply| EventId::new(row, reply, 7);
    let body = timeline::Sealed {
        key_id: "0123456789abcdef".into(),
        nonce: vec![1; 24].into(),
        ciphertext: vec![2, 3].into(),
        version: 1,
    };
    let content =
        Content { body: Some(body), attachments: vec!["AICY2L7Pu3q3fs3".parse().unwrap()] };
    let fact = |kind| Fact { kind, call_id: "call".into(), member_revision: 9 };
    let kinds = (0..9).map(|number| match number {
        0 => FactKind::RoomCreated,
        1 => FactKind::Joined,
        2 => FactKind::Left,
        3 => FactKind::RoomUpdated,
        4 => FactKind::RoomArchived,
        5 => FactKind::RoomUnarchived,
        6 => FactKind::CallStarted,
        7 => FactKind::CallEnded,
        number => FactKind::Other(number),
    });
    let facts = kinds.map(|kind| Effect::Fact { id: id(4, 0), fact: fact(kind) });
    let post = timeline::Post {
        id: id(3, 2),
        content: content.clone(),
        in_reply_to: Some(id(1, 0)),
        create_thread: true,
        echo: Some(id(5, 0)),
        request_key: "key".into(),
    };
    let edit = timeline::Edit {
        id: id(3, 2),
        content: Some(content),
        show_echo: Some(id(5, 0)),
        hide_echo: Some(id(6, 0)),
    };
    let (emoji, marker) = ("tada".to_owned(), "marker".to_owned());
    [
        Effect::Post(post),
        Effect::Edit(edit),
        Effect::Delete(timeline::Delete { id: id(3, 2), echo_only: true, echo: Some(id(5, 0)) }),
        Effect::React(timeline::React { id: id(3, 0), emoji, user: user(), remove: true }),
        Effect::Pin(timeline::Pin { id: id(3, 0), marker, remove: true }),
    ]
    .into_iter()
    .chain(facts)
    .collect()
}

#[test]
fn effects_are_stored_and_read_as_they_were() {
    for effect in effects() {
        let record = records::Event {
            number: 3,
            request_id: "request".into(),
            state_revision: 8,
            at_ms: 5,
            actor_id: user().to_string(),
            rows_after: 6,
            effect: Some(effect.clone().into()),
        };
        let event = timeline::Event {
            number: 3,
            request_id: "request".into(),
            state_revision: 8,
            at_ms: 5,
            actor: Some(user()),
            rows_after: 6,
            effect,
        };
        assert_eq!(timeline::Event::try_from(&record), Ok(event));
    }
    let unknown = timeline::Event::try_from(&records::Event::default());
    assert_eq!(unknown, Err(DecodeError::UnknownFields));
}

#[test]
fn a_row_without_an_id_is_damaged_and_one_of_an_unknown_kind_is_kept() {
    let row = |id: &str, kind| {
        let record = records::Row { number: 3, id: id.into(), kind, ..records::Row::default() };
        timeline::Row::try_from(record)
    };
    let id = EventId::new(3, 0, 7);
    let kind = |kind| row(id.as_str(), kind).map(|row| row.kind);
    assert_eq!(row("E1", None), Err(DecodeError::Malformed));
    assert_eq!(kind(None), Ok(RowKind::Unknown));
    let later = Fact::new(FactKind::Other(99));
    assert_eq!(kind(Some(records::row::Kind::Fact(99))), Ok(RowKind::Fact(later)));
    let echo = records::EchoRow { reply_id: "E1".into(), ..records::EchoRow::default() };
    assert_eq!(kind(Some(records::row::Kind::Echo(echo))), Err(DecodeError::Malformed));
}

fn file(state: FileState, location: FileLocation) -> FileRecord {
    let file = File {
        id: AssetId::new(FileGroup::of(&room()), 7),
        room: Some(room()),
        uploader: user(),
        name: "photo.jpg".into(),
        content_type: "image/jpeg".into(),
        size: 1_048_577,
        sha256: [5; 32],
        width: 4000,
        height: 3000,
        created_ms: 1,
        state,
        location,
        encrypted: false,
    };
    FileRecord { file, replaced: 9 }
}

fn chunks() -> Vec<Chunk> {
    [(70, 524_288), (72, 524_288), (75, 1)]
        .map(|(sequence, length)| Chunk { sequence, length })
        .into()
}

#[test]
fn files() {
    let (request, message) = (String::from("request"), EventId::new(3, 0, 5));
    let in_nats = || FileLocation::Nats(chunks());
    stored("file", &file(FileState::Attached(message), in_nats()));
    stored("file-s3", &file(FileState::Ready, FileLocation::S3));
    stored("file-pending", &file(FileState::Pending, FileLocation::Nats(Vec::new())));
    stored("file-reserved", &file(FileState::Reserved { request, at_ms: 4 }, in_nats()));
    stored("file-deleting", &file(FileState::Deleting { message, at_ms: 4 }, in_nats()));
    stored("file-erasing", &file(FileState::Erasing, in_nats()));
    let mut encrypted = file(FileState::Ready, FileLocation::S3);
    encrypted.file.encrypted = true;
    stored("file-encrypted", &encrypted);
}

#[test]
fn a_file_of_a_room_that_cannot_be_read_is_not_one_of_no_room() {
    let record = file(FileState::Ready, FileLocation::S3).to_record();
    let record = records::File { room_id: "of a later kind".into(), ..record };
    assert_eq!(
        FileRecord::from_record(record, &mut Losses::default()),
        Err(DecodeError::Malformed)
    );
}

#[test]
fn uploads() {
    let detected = Detected { content_type: "image/png".into(), width: 4, height: 3 };
    let parts =
        Multipart { id: Some("multipart".into()), part_size: 5 << 20, etags: vec!["\"a\"".into()] };
    let upload = Upload {
        status: UploadStatus::Open,
        uploader: user(),
        room: room(),
        size: 2_000_000,
        sha256: [6; 32],
        offset: 1_048_577,
        hash: vec![1; 40],
        chunks: chunks(),
        detected: Some(detected),
        parts: Some(parts),
        updated_ms: 8,
    };
    stored("upload", &upload);
    stored("upload-completed", &Upload { status: UploadStatus::Completed, ..upload.clone() });
    stored("upload-cancelled", &Upload { status: UploadStatus::Cancelled, ..upload });
}
