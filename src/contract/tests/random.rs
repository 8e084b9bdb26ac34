//! Foreign bytes: decoding may refuse them, never panic, and what is accepted keeps its meaning.

use std::fmt::Debug;

use bytes::Bytes;
use proptest::prelude::*;

use crate::contract::{Encoding, Request, Wire, admin, api, auth, decode, encode, realtime};

/// Both decoders, then the value rules.
fn take<M: Request>(body: &Bytes) {
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
    take::<admin::ReorderSidebarItemsInGroupRequest>(body);
    take::<auth::DeleteSubscriptionRequest>(body);
    for encoding in [Encoding::Proto, Encoding::Json] {
        let _frame = decode::<realtime::RealtimeClientFrame>(encoding, body.clone());
    }
}

/// A message that came over the wire is the same after a way through JSON.
fn survives_json<M: Wire + PartialEq + Debug>(body: &Bytes) {
    let Ok(message) = decode::<M>(Encoding::Proto, body.clone()) else { return };
    // a time outside the years 1 to 9999 has no JSON form
    let Ok(json) = encode(&message, Encoding::Json) else { return };
    let again = decode::<M>(Encoding::Json, json.clone().into());
    let again = again.unwrap_or_else(|e| panic!("{}: {e:?}", String::from_utf8_lossy(&json)));
    assert_eq!(again, message);
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
    fn random_fields_never_panic_and_survive_json(body in wire_fields()) {
        let body = Bytes::from(body);
        take_any(&body);
        survives_json::<api::Message>(&body);
        survives_json::<api::UpdateNotificationPolicyRequest>(&body);
        survives_json::<api::UploadChunkRequest>(&body);
        survives_json::<realtime::RealtimeServerFrame>(&body);
        survives_json::<admin::PermissionMatrixCell>(&body);
    }

    #[test]
    fn random_json_never_panics(body in json_like()) {
        take_any(&body.into());
    }
}
