//! The JSON form of messages, by reflection: clients use it for discovery and by hand, the binary form for
//! everything else, so code size counts more than speed here.

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions,
};
use serde_json::Value;

use super::codec::{DecodeError, EncodeError, Wire};
use super::generated::DESCRIPTORS;

/// Built at the first JSON body. A set that does not decode is none; a test builds it.
static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).ok());

const FIELD_MASK: &str = "google.protobuf.FieldMask";

pub(super) fn descriptor(full_name: &str) -> Option<MessageDescriptor> {
    POOL.as_ref()?.get_message_by_name(full_name)
}

pub(super) fn decode<M: Wire>(body: &[u8]) -> Result<M, DecodeError> {
    let descriptor = descriptor(&M::full_name())
        .ok_or_else(|| DecodeError::NoDescriptor { message: M::full_name() })?;
    let dynamic = if has_field_mask(&descriptor, 0) {
        let mut value: Value =
            serde_json::from_slice(body).map_err(|source| DecodeError::Json { source })?;
        accept_snake_case_masks(&descriptor, &mut value);
        read(descriptor, value)
    } else {
        let mut reader = serde_json::Deserializer::from_slice(body);
        read(descriptor, &mut reader).and_then(|message| reader.end().map(|()| message))
    };
    let dynamic = dynamic.map_err(|source| DecodeError::Json { source })?;
    dynamic.transcode_to().map_err(|source| DecodeError::Proto { source })
}

fn read<'de, D>(descriptor: MessageDescriptor, reader: D) -> Result<DynamicMessage, D::Error>
where
    D: serde::Deserializer<'de>,
{
    // not refusing unknown fields also ignores unknown enum names
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    DynamicMessage::deserialize_with_options(descriptor, reader, &options)
}

pub(super) fn encode<M: Wire>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let name = M::full_name;
    let descriptor =
        descriptor(&name()).ok_or_else(|| EncodeError::NoDescriptor { message: name() })?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic
        .transcode_from(message)
        .map_err(|source| EncodeError::Transcode { message: name(), source })?;
    let mut out = Vec::new();
    // the default options are the standard form: names in lowerCamelCase, 64-bit numbers as strings, enums
    // by name, defaults left out
    dynamic
        .serialize_with_options(
            &mut serde_json::Serializer::new(&mut out),
            &SerializeOptions::new(),
        )
        .map_err(|source| EncodeError::Json { message: name(), source })?;
    Ok(out)
}

/// Whether a mask can occur in the message; nesting deeper than a request has is not followed.
fn has_field_mask(descriptor: &MessageDescriptor, depth: usize) -> bool {
    depth < 4
        && descriptor.fields().any(|field| match field.kind() {
            Kind::Message(inner) if inner.full_name() == FIELD_MASK => true,
            Kind::Message(inner) => has_field_mask(&inner, depth + 1),
            _ => false,
        })
}

/// prost-reflect takes mask paths in lowerCamelCase alone; the contract takes both.
fn accept_snake_case_masks(descriptor: &MessageDescriptor, value: &mut Value) {
    let Value::Object(members) = value else { return };
    for field in descriptor.fields() {
        let Kind::Message(inner) = field.kind() else { continue };
        for key in [field.json_name(), field.name()] {
            match members.get_mut(key) {
                Some(Value::String(paths)) if inner.full_name() == FIELD_MASK => {
                    *paths = lower_camel_case(paths);
                }
                Some(Value::Array(elements)) => {
                    elements.iter_mut().for_each(|one| accept_snake_case_masks(&inner, one));
                }
                Some(one) => accept_snake_case_masks(&inner, one),
                None => {}
            }
            if field.json_name() == field.name() {
                break;
            }
        }
    }
}

/// `direct_messages` becomes `directMessages`; an underscore before anything but a small letter or digit
/// stays and is refused later.
fn lower_camel_case(paths: &str) -> String {
    let mut out = String::with_capacity(paths.len());
    let mut characters = paths.chars().peekable();
    while let Some(character) = characters.next() {
        match characters.peek() {
            Some(next) if character == '_' && next.is_ascii_lowercase() => {
                out.push(next.to_ascii_uppercase());
                characters.next();
            }
            _ => out.push(character),
        }
    }
    out
}
