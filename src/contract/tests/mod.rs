//! Tests of codecs and value rules, one table per section of the contract.

mod bounds;
mod json;
mod presence;
mod random;
mod rules;

use std::sync::LazyLock;

use bytes::Bytes;
use prost_reflect::{DescriptorPool, MessageDescriptor};

use super::{Encoding, Wire, decode, encode};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(super::generated::DESCRIPTORS).unwrap());

fn descriptor(full_name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(full_name).unwrap()
}

fn from_json<M: Wire>(text: &str) -> M {
    decode(Encoding::Json, Bytes::copy_from_slice(text.as_bytes()))
        .unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn is_refused<M: Wire>(text: &str) -> bool {
    decode::<M>(Encoding::Json, Bytes::copy_from_slice(text.as_bytes())).is_err()
}

fn to_json<M: Wire>(message: &M) -> String {
    String::from_utf8(encode(message, Encoding::Json).unwrap()).unwrap()
}

fn through_binary<M: Wire>(message: &M) -> M {
    let bytes = encode(message, Encoding::Proto).unwrap();
    decode(Encoding::Proto, bytes.into()).unwrap()
}
