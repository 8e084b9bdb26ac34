//! Foreign bytes: decoding may refuse them, never panic, and what is accepted keeps its meaning.

use std::fmt::Debug;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, Value};

use super::descriptor;
use crate::contract::{
    Encoding, RequestMessage, Wire, admin, api, auth, decode, discovery, encode, realtime,
};

/// Both decoders, then the value rules.
fn take<M: RequestMessage>(body: &Bytes) {
    for encoding in [Encoding::Proto, Encoding::Json] {
        if let Ok(request) = decode::<M>(encoding, body.clone()) {
            let _verdict = request.validate();
        }
    }
}

fn take_any(body: &Bytes) {
    take::<api::CreateMessageRequest>(body);
    take::<api::SearchMessagesRequest>(body);
    take::<api::UploadChunkRequest>(body);
    take::<api::UpdateNotificationPolicyRequest>(body);
    take::<api::GetUserRequest>(body);
    take::<api::UpdateCustomStatusRequest>(body);
    take::<admin::ReorderSidebarItemsInGroupRequest>(body);
    take::<auth::DeleteSubscriptionRequest>(body);
    for encoding in [Encoding::Proto, Encoding::Json] {
        let _status = decode::<api::GetStatusResponse>(encoding, body.clone());
        let _frame = decode::<realtime::RealtimeClientFrame>(encoding, body.clone());
    }
}

/// A message filled at will is the same after a way through each form, and prost-reflect reads and writes
/// the same JSON.
fn survives<M: Wire + PartialEq + Debug>(seed: &[u8]) {
    let descriptor = descriptor(&M::full_name());
    let mut seed = seed.iter().copied();
    let body = Bytes::from(filled(&descriptor, &mut seed, 0).encode_to_vec());
    let message = decode::<M>(Encoding::Proto, body).unwrap();
    for encoding in [Encoding::Proto, Encoding::Json] {
        let bytes = encode(&message, encoding).unwrap();
        let again = decode::<M>(encoding, bytes.clone().into());
        let again = again.unwrap_or_else(|e| panic!("{}: {e:?}", String::from_utf8_lossy(&bytes)));
        assert_eq!(again, message);
    }
    let ours = encode(&message, Encoding::Json).unwrap();
    let mut reader = serde_json::Deserializer::from_slice(&ours);
    let read = DynamicMessage::deserialize(descriptor.clone(), &mut reader).unwrap();
    assert_eq!(read.transcode_to::<M>().unwrap(), message);
    let mut reflected = DynamicMessage::new(descriptor);
    reflected.transcode_from(&message).unwrap();
    let theirs = serde_json::to_value(&reflected).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&ours).unwrap(), theirs);
}

/// A message with some of its fields set; every choice comes from `seed`, an empty one chooses nothing.
fn filled(
    descriptor: &MessageDescriptor,
    seed: &mut impl Iterator<Item = u8>,
    depth: usize,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    match descriptor.full_name() {
        "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
            let number = seed.next().unwrap_or(0);
            message.set_field_by_name("seconds", Value::I64(i64::from(number) << 20));
            message.set_field_by_name("nanos", Value::I32(i32::from(number) * 1_000));
            return message;
        }
        "google.protobuf.FieldMask" => {
            let paths = (0..seed.next().unwrap_or(0) % 4).map(|_| Value::String("ab_cd".into()));
            message.set_field_by_name("paths", Value::List(paths.collect()));
            return message;
        }
        _ => {}
    }
    for field in descriptor.fields() {
        let choice = seed.next().unwrap_or(0);
        if choice.is_multiple_of(3) || depth > 4 {
            continue;
        }
        let value = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { unreachable!("entries are messages") };
            let inner = value(&entry.map_entry_value_field().kind(), seed, depth);
            Value::Map([(MapKey::String(choice.to_string()), inner)].into())
        } else if field.is_list() {
            Value::List((0..choice % 4).map(|_| value(&field.kind(), seed, depth)).collect())
        } else {
            value(&field.kind(), seed, depth)
        };
        message.set_field(&field, value);
    }
    message
}

fn value(kind: &Kind, seed: &mut impl Iterator<Item = u8>, depth: usize) -> Value {
    let number = seed.next().unwrap_or(0);
    match kind {
        Kind::Message(inner) => Value::Message(filled(inner, seed, depth + 1)),
        Kind::Enum(_) => Value::EnumNumber(i32::from(number % 16)),
        Kind::String => {
            Value::String(["", "a", "é\u{2028}\"\\", "null"][usize::from(number) % 4].into())
        }
        Kind::Bytes => Value::Bytes(vec![number; usize::from(number) % 5].into()),
        Kind::Bool => Value::Bool(number.is_multiple_of(2)),
        Kind::Double => Value::F64(f64::from(number) / 3.0),
        Kind::Int32 => Value::I32(i32::MIN + i32::from(number)),
        Kind::Int64 => Value::I64(i64::MIN + i64::from(number)),
        Kind::Uint32 => Value::U32(u32::MAX - u32::from(number)),
        other => unreachable!("no field of the contract is {other:?}"),
    }
}

/// Bytes that look like fields: small numbers, lengths that fit, texts.
fn wire_fields() -> impl Strategy<Value = Vec<u8>> {
    let number = (1_u8..16, any::<u64>().prop_map(|n| n >> (n % 64))).prop_map(|(tag, value)| {
        let mut field = vec![tag << 3];
        prost::encoding::encode_varint(value, &mut field);
        field
    });
    let text = (1_u8..16, "[a-z0-9_/ é]{0,12}").prop_map(|(tag, text)| {
        let mut field = vec![tag << 3 | 2, u8::try_from(text.len()).unwrap()];
        field.extend_from_slice(text.as_bytes());
        field
    });
    let leaf = proptest::collection::vec(prop_oneof![number, text], 0..4).prop_map(|f| f.concat());
    let nested = (1_u8..16, leaf.clone()).prop_map(|(tag, inner)| {
        let mut field = vec![tag << 3 | 2, u8::try_from(inner.len()).unwrap()];
        field.extend_from_slice(&inner);
        field
    });
    proptest::collection::vec(prop_oneof![leaf, nested], 0..6).prop_map(|fields| fields.concat())
}

/// Text that looks like a request.
fn json_like() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        Just("null".to_owned()),
        Just("\"updateMask\":".to_owned()),
        Just("\"overrides\":{".to_owned()),
        Just("\"items\":[{".to_owned()),
        Just("\"content\":".to_owned()),
        "\"[a-zA-Z_,é]{0,8}\"",
        "\"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-5][0-9]:[0-5][0-9][.Z+-][0-9:Z]{0,5}\"",
        "\"-?[0-9]{0,13}(\\.[0-9]{0,10})?s\"",
        Just("\"createdAfter\":".to_owned()),
        Just("\"expiresAt\":".to_owned()),
        "-?[0-9]{1,20}(\\.[0-9])?(e[0-9])?",
    ];
    proptest::collection::vec(token, 0..24).prop_map(|tokens| format!("{{{}}}", tokens.concat()))
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        take_any(&body.into());
    }

    #[test]
    fn random_fields_never_panic(body in wire_fields()) {
        take_any(&body.into());
    }

    #[test]
    fn messages_survive_both_forms(seed in proptest::collection::vec(any::<u8>(), 0..120)) {
        survives::<api::Message>(&seed);
        survives::<api::NotificationOccurrence>(&seed);
        survives::<api::UpdateNotificationPolicyRequest>(&seed);
        survives::<api::UploadChunkRequest>(&seed);
        survives::<api::SearchMessagesResponse>(&seed);
        survives::<admin::GetSystemInfoResponse>(&seed);
        survives::<admin::ReorderSidebarItemsInGroupRequest>(&seed);
        survives::<auth::GetPendingExternalIdentityResponse>(&seed);
        survives::<discovery::GetServerResponse>(&seed);
        survives::<realtime::RealtimeServerFrame>(&seed);
    }

    #[test]
    fn random_json_never_panics(body in json_like()) {
        take_any(&body.into());
    }
}
