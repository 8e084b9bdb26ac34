//! Golden files of the stored encoding: what version 1 wrote must be readable for ever, and byte for
//! byte what version 1 writes. `CHATTO_UPDATE_GOLDEN=1` writes files that do not exist yet; an
//! existing one is never changed by a test. Records with a type of `domain` are in `encoding/tests.rs`.

use std::path::PathBuf;

use bytes::Bytes;
use prost::Message as _;

use crate::crypto::hex;
use crate::storage::encoding::{DecodeError, VERSION, decode, decode_known, encode};
use crate::storage::records::{self, event::Effect, row::Kind};

pub(crate) fn golden<R: prost::Message + Default + PartialEq + std::fmt::Debug>(
    name: &str,
    record: &R,
) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stored");
    let path = dir.join(format!("{name}.v{VERSION}.hex"));
    let written = hex(&encode(record));
    if !path.exists() && crate::golden::is_update() {
        std::fs::write(&path, format!("{written}\n")).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{path:?} is missing"));
    let stored = stored.trim();
    let pairs = stored.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let bytes: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let read: R = decode(&bytes).unwrap();
    assert!(read == *record, "{name}: {read:?} was read instead of {record:?}");
    assert_eq!(written, stored, "{name} is written differently than it was");
}

fn sealed() -> records::Sealed {
    records::Sealed {
        key_id: "0011223344556677".into(),
        nonce: Bytes::from_static(&[1; 24]),
        ciphertext: Bytes::from_static(b"sealed text"),
        version: 1,
    }
}

fn content() -> records::Content {
    records::Content {
        body: Some(sealed()),
        attachment_ids: vec!["A0000000000001".into()],
        link_preview: Bytes::from_static(b"preview"),
    }
}

fn stamp() -> records::Stamp {
    let epoch = Bytes::from_static(&[9; 16]);
    records::Stamp { epoch, upto: 77, event_number: 12, replaced: 5 }
}

fn message_row() -> records::Row {
    records::Row {
        number: 3,
        id: "E00000000000003".into(),
        at_ms: 1_700_000_000_123,
        actor_id: "U00000000000001".into(),
        kind: Some(Kind::Message(records::Message {
            content: Some(content()),
            in_reply_to: "E00000000000001".into(),
            updated_ms: 1_700_000_000_456,
            deleted_ms: 0,
            reactions: vec![records::Reaction { emoji: "heart".into(), users: vec![1, u64::MAX] }],
            thread: Some(records::ThreadInfo {
                count: 2,
                last_ms: 1_700_000_000_789,
                participant_ids: vec!["U00000000000002".into()],
                made: 3,
            }),
            echo_id: "E00000000000009".into(),
            echo_row: 9,
            request_key: "key".into(),
            text_sequences: vec![70, 71],
            erase_sequences: vec![60],
        })),
        ..records::Row::default()
    }
}

fn event(effect: Effect) -> records::Event {
    records::Event {
        number: 12,
        request_id: "request".into(),
        state_revision: 41,
        at_ms: 1_700_000_000_123,
        actor_id: "U00000000000001".into(),
        rows_after: 4,
        effect: Some(effect),
    }
}

fn decision() -> records::Decision {
    records::Decision {
        permission: "message.post".into(),
        scope: records::Scope::Room.into(),
        scope_id: "R00000000000001".into(),
        allow: false,
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one value for every field of every record")]
fn accounts_rooms_and_roles() {
    golden(
        "user",
        &records::User {
            id: "U00000000000001".into(),
            login: "Anna".into(),
            display_name: "Anna A.".into(),
            created_ms: 1,
            password_hash: "$argon2id$".into(),
            roles: vec!["owner".into()],
            emails: vec![records::Email { address: "anna@example.org".into(), verified: true }],
            session_generation: 2,
            login_changed_ms: 3,
            settings: Some(records::Settings { timezone: "Europe/Berlin".into(), time_format: 3 }),
            is_bot: true,
            bot_owner_id: "U00000000000002".into(),
            deleted: true,
            active_key_id: "0011223344556677".into(),
            decisions: vec![decision()],
            avatar_key: "avatar".into(),
            custom_status_emoji: "x".into(),
            custom_status_text: "away".into(),
            custom_status_expires_ms: 4,
            origin: "origin".into(),
            session_end: 0,
        },
    );
    golden(
        "user-sessions-ended",
        &records::User {
            session_end: records::SessionEnd::PasswordReset.into(),
            ..records::User::default()
        },
    );
    golden(
        "room",
        &records::Room {
            id: "R00000000000001".into(),
            kind: records::RoomKind::Direct.into(),
            name: "general".into(),
            description: "General discussion".into(),
            group_id: "G00000000000001".into(),
            universal: true,
            archived: true,
            slow_mode_seconds: 30,
            created_ms: 1,
            creator_id: "U00000000000001".into(),
            participant_ids: vec!["U00000000000001".into(), "U00000000000002".into()],
            announced: true,
            has_history: true,
        },
    );
    golden(
        "member",
        &records::Member {
            room_id: "R00000000000001".into(),
            user_id: "U00000000000001".into(),
            since_ms: 1,
            announced: true,
            left: true,
            joined_row: 12,
            joined_row_ms: 2,
        },
    );
    golden(
        "role",
        &records::Role {
            name: "helpers".into(),
            display_name: "Helpers".into(),
            description: "Help".into(),
            position: 1,
            pingable: true,
            system: true,
            decisions: vec![decision()],
        },
    );
    golden(
        "group",
        &records::Group {
            id: "G00000000000001".into(),
            name: "Lobby".into(),
            description: "First".into(),
            position: 1,
            items: vec!["R00000000000001".into()],
            created_ms: 1,
        },
    );
}

#[test]
fn events() {
    let echo = records::Echo { id: "E00000000000009".into(), row: 9 };
    let id: String = "E00000000000003".into();
    let post = records::Post {
        id: id.clone(),
        row: 3,
        reply: 2,
        content: Some(content()),
        in_reply_to: "E00000000000001".into(),
        create_thread: true,
        echo: Some(echo.clone()),
        request_key: "key".into(),
    };
    golden("event-post", &event(Effect::Post(post)));
    let edit = records::Edit {
        id: id.clone(),
        content: Some(content()),
        show_echo: Some(echo.clone()),
        hide_echo: Some(echo.clone()),
    };
    golden("event-edit", &event(Effect::Edit(edit)));
    let delete = records::Delete { id: id.clone(), echo_only: true, echo: Some(echo) };
    golden("event-delete", &event(Effect::Delete(delete)));
    let react = records::React {
        id: id.clone(),
        emoji: "heart".into(),
        user_number: u64::MAX,
        remove: true,
    };
    golden("event-react", &event(Effect::React(react)));
    let fact = records::Fact {
        id: id.clone(),
        row: 3,
        kind: records::FactKind::Joined.into(),
        call_id: "C1".into(),
        member_revision: 40,
    };
    golden("event-fact", &event(Effect::Fact(fact)));
    let pin = records::Pin { id, marker: "marker".into(), remove: true };
    golden("event-pin", &event(Effect::Pin(pin)));
}

#[test]
fn pages() {
    golden(
        "head",
        &records::Head {
            stamp: Some(stamp()),
            rows: 4,
            last_ms: 1,
            newest: vec![records::NewestRow {
                row: 3,
                id: "E00000000000003".into(),
                author_id: "U00000000000001".into(),
                at_ms: 1,
            }],
            authors: vec![records::AuthorRow {
                user_id: "U00000000000001".into(),
                row: 3,
                row_ms: 1,
                posted_ms: 2,
                row_id: "E00000000000003".into(),
            }],
            pins: vec![records::PinnedRow { id: "E00000000000003".into(), at_ms: 1 }],
            pin_marker: "marker".into(),
            ..records::Head::default()
        },
    );
    let fact = records::Row {
        kind: Some(Kind::Fact(records::FactKind::CallStarted.into())),
        call_id: "C1".into(),
        member_revision: 40,
        ..message_row()
    };
    let echo = records::EchoRow {
        reply_id: "E00000000000004".into(),
        root_id: "E00000000000003".into(),
        hidden: true,
        deleted_ms: 1,
    };
    let echo = records::Row { kind: Some(Kind::Echo(echo)), ..message_row() };
    golden(
        "row-page",
        &records::RowPage {
            stamp: Some(stamp()),
            rows: vec![message_row(), fact, echo],
            parts: vec![1, 4],
            next_part: 5,
        },
    );
    golden(
        "part",
        &records::Part {
            rows: vec![message_row()],
            reactions: vec![records::SpilledReactions {
                number: 3,
                emoji: "heart".into(),
                users: vec![1, 2],
                order: 1,
            }],
        },
    );
    golden(
        "thread-page",
        &records::ThreadPage {
            stamp: Some(stamp()),
            threads: vec![records::Thread {
                root_row: 3,
                replies: vec![message_row()],
                moved: true,
                count: 7,
            }],
        },
    );
}

#[test]
fn times_that_are_capped() {
    golden(
        "head-caps",
        &records::Head {
            caps: vec![records::TimeCap { rows: 3, at_ms: 1_700_000_000_123, event_number: 12 }],
            ..records::Head::default()
        },
    );
    golden("row-reply", &records::Row { event_number: 12, ..message_row() });
}

#[test]
fn a_store_that_is_being_restored() {
    let meta = records::Meta { restoring: vec!["PAGES".into()], ..records::Meta::default() };
    golden("meta-restoring", &meta);
}

#[test]
fn buckets() {
    let row_id: String = "E00000000000003".into();
    golden("marker", &records::Marker { row: 3, row_id, row_ms: 1 });
    golden(
        "token",
        &records::Token {
            kind: records::TokenKind::Join.into(),
            user_id: "U00000000000001".into(),
            session_generation: 2,
            created_ms: 1,
            used_ms: 2,
            expires_ms: 3,
            fresh_until_ms: 4,
            pair_hash: Bytes::from_static(&[7; 32]),
            join: Some(records::JoinLink {
                login: "anna".into(),
                display_name: "Anna".into(),
                email: "anna@example.org".into(),
                role: "owner".into(),
                email_verified: true,
                created_by: "U00000000000002".into(),
            }),
            used: true,
            client_id: "client".into(),
            session_id: Bytes::from_static(&[8; 16]),
        },
    );
    golden(
        "meta",
        &records::Meta {
            server_id: "S1".into(),
            epoch: Bytes::from_static(&[9; 16]),
            layout: 1,
            state: records::MetaState::Ready.into(),
            streams: vec!["JOURNAL".into()],
            kek_id: Bytes::from_static(&[3; 8]),
            backup_sequence: 4,
            created_ms: 1,
            ..records::Meta::default()
        },
    );
    let meta = records::Meta { least_writer: 2, ..records::Meta::default() };
    golden("meta-least-writer", &meta);
    let transfers = records::KeyTransfers {
        exported_ids: Bytes::from_static(&[4; 16]),
        exported_ms: 1_700_000_000_123,
        imports: 3,
    };
    golden("key-transfers", &transfers);
    golden("head-forgotten", &records::Head { has_older: true, ..records::Head::default() });
    golden(
        "wrapped-key",
        &records::WrappedKey {
            user_id: "U00000000000001".into(),
            key_id: "0011223344556677".into(),
            wrappings: vec![records::Wrapping {
                kek_id: Bytes::from_static(&[3; 8]),
                nonce: Bytes::from_static(&[1; 24]),
                ciphertext: Bytes::from_static(&[2; 48]),
            }],
            created_ms: 1,
            replaced: 5,
        },
    );
    let session_id = Bytes::from_static(&[8; 16]);
    let sessions = vec![records::SessionPresence { session_id, status: 1, until_ms: 3 }];
    golden("presence", &records::Presence { manual: 2, sessions, manual_until_ms: 4 });
    let (user_id, target) = ("U00000000000001".into(), "R00000000000001".into());
    golden("whisper", &records::EphemeralEvent { user_id, target, status: 1, until_ms: 3 });
    let request_id: String = "request".into();
    golden("claim", &records::Claim { holder_id: "U1".into(), claimed_ms: 1, request_id });
}

#[test]
fn keys_of_encrypted_files() {
    golden(
        "wrapped-file-key",
        &records::WrappedFileKey {
            key_id: "0011223344556677".into(),
            nonce: Bytes::from_static(&[1; 24]),
            ciphertext: Bytes::from_static(&[2; 48]),
        },
    );
}

#[test]
fn checkpoints_and_leases() {
    let epoch = Bytes::from_static(&[9; 16]);
    let mut checkpoint = records::FoldCheckpoint { epoch, next_sequence: 77, ..Default::default() };
    golden("fold-checkpoint", &checkpoint);
    let room_id = "R00000000000001".into();
    checkpoint.held.push(records::HeldRoom { room_id, first_sequence: 70 });
    checkpoint.fence = 3;
    golden("fold-checkpoint-held", &checkpoint);
    golden("fence", &records::Fence { number: 3, holder_id: "process".into() });
}

#[test]
fn a_newer_version_is_named_and_damage_is_an_error() {
    let mut bytes = encode(&message_row()).to_vec();
    bytes[0] = VERSION + 1;
    let newer = DecodeError::Newer { found: VERSION + 1, newest: VERSION };
    assert_eq!(decode::<records::Row>(&bytes), Err(newer));
    assert_eq!(decode::<records::Row>(&[]), Err(DecodeError::Empty));
    assert_eq!(decode::<records::Row>(&[0]), Err(DecodeError::Malformed));
    let cut = encode(&message_row());
    assert_eq!(decode::<records::Row>(&cut[..cut.len() - 1]), Err(DecodeError::Malformed));
    // A field that a later version adds does not disturb this reader.
    let mut more = encode(&message_row()).to_vec();
    more.extend_from_slice(&[0xfa, 0x3f, 1, b'x']);
    assert_eq!(
        decode::<records::Row>(&more).unwrap().encode_to_vec(),
        message_row().encode_to_vec()
    );
    // It must not be written again, which would drop the field.
    assert_eq!(decode_known::<records::Row>(&more), Err(DecodeError::UnknownFields));
    assert_eq!(decode_known::<records::Row>(&encode(&message_row())), Ok(message_row()));
}
