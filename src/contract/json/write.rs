//! Wire bytes to JSON.
//!
//! The bytes come from prost: fields without presence are missing when they have their default, and the elements of
//! a list follow each other.

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::{Duration, FieldMask, Timestamp};

use super::table::{FieldTable, Kind, MessageTable, Shape};
use super::values;

/// Nesting of messages; the limit of prost.
const DEPTH_MAX: usize = 100;

/// Why a message has no JSON form.
#[derive(Debug, thiserror::Error)]
pub enum JsonEncodeError {
    #[error("the wire form does not match the table of the message")]
    Wire {
        #[source]
        source: prost::DecodeError,
    },
    /// A length is out of bounds, or a string is not UTF-8.
    #[error("the wire form is invalid")]
    Broken,
    /// A time outside the years 1 to 9999, or a duration beyond 10,000 years.
    #[error("a time is out of range")]
    Time,
    #[error("the message is nested too deep")]
    Depth,
}

impl From<prost::DecodeError> for JsonEncodeError {
    fn from(source: prost::DecodeError) -> Self {
        Self::Wire { source }
    }
}

type WriteResult = Result<(), JsonEncodeError>;

pub(super) fn from_wire(table: &MessageTable, wire: &[u8], out: &mut Vec<u8>) -> WriteResult {
    object(table, wire, out, 0)
}

fn object(table: &MessageTable, mut wire: &[u8], out: &mut Vec<u8>, depth: usize) -> WriteResult {
    if depth > DEPTH_MAX {
        return Err(JsonEncodeError::Depth);
    }
    out.push(b'{');
    // The open list or map, and its closing bracket.
    let mut open: Option<(u32, u8)> = None;
    let mut is_first = true;
    while wire.has_remaining() {
        let (number, wire_type) = decode_key(&mut wire)?;
        let Some(field) = table.by_number(number) else {
            skip_field(wire_type, number, &mut wire, DecodeContext::default())?;
            continue;
        };
        match open {
            Some((opened, _)) if opened == number => out.push(b','),
            _ => {
                close(&mut open, out);
                name(field, &mut is_first, out);
                open = bracket(field, out);
            }
        }
        match field.shape {
            Shape::Single => value(field.kind, wire_type, &mut wire, out, depth)?,
            Shape::List => elements(field.kind, wire_type, &mut wire, out, depth)?,
            Shape::Map => entry(field.kind, &mut wire, out, depth)?,
        }
    }
    close(&mut open, out);
    out.push(b'}');
    Ok(())
}

fn name(field: &FieldTable, is_first: &mut bool, out: &mut Vec<u8>) {
    if !*is_first {
        out.push(b',');
    }
    *is_first = false;
    out.push(b'"');
    out.extend_from_slice(field.json_name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Opens a list or map.
fn bracket(field: &FieldTable, out: &mut Vec<u8>) -> Option<(u32, u8)> {
    let (opening, closing) = match field.shape {
        Shape::Single => return None,
        Shape::List => (b'[', b']'),
        Shape::Map => (b'{', b'}'),
    };
    out.push(opening);
    Some((field.number, closing))
}

fn close(open: &mut Option<(u32, u8)>, out: &mut Vec<u8>) {
    if let Some((_, closing)) = open.take() {
        out.push(closing);
    }
}

/// One element, or all of a packed list.
fn elements(
    kind: Kind,
    wire_type: WireType,
    wire: &mut &[u8],
    out: &mut Vec<u8>,
    depth: usize,
) -> WriteResult {
    let (WireType::LengthDelimited, Some(element_type)) = (wire_type, packed_as(kind)) else {
        return value(kind, wire_type, wire, out, depth);
    };
    let mut packed = bytes(wire)?;
    let mut is_first = true;
    while packed.has_remaining() {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        value(kind, element_type, &mut packed, out, depth)?;
    }
    Ok(())
}

/// The wire type of an element in a packed list; strings and messages are never packed.
fn packed_as(kind: Kind) -> Option<WireType> {
    match kind {
        Kind::Double => Some(WireType::SixtyFourBit),
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Bool | Kind::Enum(_) => {
            Some(WireType::Varint)
        }
        Kind::String
        | Kind::Bytes
        | Kind::Message(_)
        | Kind::Timestamp
        | Kind::Duration
        | Kind::FieldMask => None,
    }
}

/// One entry of a map; a default key or value is missing in the wire form, but not in JSON.
fn entry(kind: Kind, wire: &mut &[u8], out: &mut Vec<u8>, depth: usize) -> WriteResult {
    let mut entry = bytes(wire)?;
    let mut key: &[u8] = b"";
    let mut content = None;
    while entry.has_remaining() {
        match decode_key(&mut entry)? {
            (1, WireType::LengthDelimited) => key = bytes(&mut entry)?,
            (2, wire_type) => {
                let mut text = Vec::new();
                value(kind, wire_type, &mut entry, &mut text, depth)?;
                content = Some(text);
            }
            (number, wire_type) => {
                skip_field(wire_type, number, &mut entry, DecodeContext::default())?;
            }
        }
    }
    text(key, out)?;
    out.push(b':');
    match content {
        Some(text) => out.extend_from_slice(&text),
        None => default(kind, out, depth)?,
    }
    Ok(())
}

fn default(kind: Kind, out: &mut Vec<u8>, depth: usize) -> WriteResult {
    match packed_as(kind) {
        Some(WireType::SixtyFourBit) => {
            value(kind, WireType::SixtyFourBit, &mut [0; 8].as_slice(), out, depth)
        }
        Some(wire_type) => value(kind, wire_type, &mut [0].as_slice(), out, depth),
        None => value(kind, WireType::LengthDelimited, &mut [0].as_slice(), out, depth),
    }
}

fn value(
    kind: Kind,
    wire_type: WireType,
    wire: &mut &[u8],
    out: &mut Vec<u8>,
    depth: usize,
) -> WriteResult {
    match (kind, wire_type) {
        (Kind::Double, WireType::SixtyFourBit) => double(wire, out)?,
        (
            Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Enum(_),
            WireType::Varint,
        ) => integer(kind, decode_varint(wire)?, out),
        (Kind::String, WireType::LengthDelimited) => text(bytes(wire)?, out)?,
        (Kind::Bytes, WireType::LengthDelimited) => {
            quoted(&values::base64_of(bytes(wire)?), out);
        }
        (Kind::Message(table), WireType::LengthDelimited) => {
            object(table, bytes(wire)?, out, depth.saturating_add(1))?;
        }
        (Kind::Timestamp, WireType::LengthDelimited) => {
            let time = Timestamp::decode(bytes(wire)?)?;
            quoted(&values::text_of_timestamp(&time).ok_or(JsonEncodeError::Time)?, out);
        }
        (Kind::Duration, WireType::LengthDelimited) => {
            let duration = Duration::decode(bytes(wire)?)?;
            quoted(&values::text_of_duration(&duration).ok_or(JsonEncodeError::Time)?, out);
        }
        (Kind::FieldMask, WireType::LengthDelimited) => {
            let mask = FieldMask::decode(bytes(wire)?)?;
            text(values::text_of_mask(&mask).as_bytes(), out)?;
        }
        _ => return Err(JsonEncodeError::Broken),
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the wire form of an integer is its two's complement in 64 bits"
)]
fn integer(kind: Kind, raw: u64, out: &mut Vec<u8>) {
    match kind {
        Kind::Bool => out.extend_from_slice(if raw == 0 { b"false" } else { b"true" }),
        Kind::Int64 => quoted(&(raw as i64).to_string(), out),
        Kind::Uint32 => out.extend_from_slice((raw as u32).to_string().as_bytes()),
        Kind::Enum(table) => match table.name(raw as i32) {
            Some(name) => quoted(name, out),
            None => out.extend_from_slice((raw as i32).to_string().as_bytes()),
        },
        _ => out.extend_from_slice((raw as i32).to_string().as_bytes()),
    }
}

fn double(wire: &mut &[u8], out: &mut Vec<u8>) -> WriteResult {
    let value = wire.try_get_f64_le().map_err(|_| JsonEncodeError::Broken)?;
    if value.is_nan() {
        quoted("NaN", out);
    } else if value.is_infinite() {
        quoted(if value > 0.0 { "Infinity" } else { "-Infinity" }, out);
    } else {
        serde_json::to_writer(out, &value).map_err(|_| JsonEncodeError::Broken)?;
    }
    Ok(())
}

/// A length and that many bytes.
fn bytes<'w>(wire: &mut &'w [u8]) -> Result<&'w [u8], JsonEncodeError> {
    let length = usize::try_from(decode_varint(wire)?).map_err(|_| JsonEncodeError::Broken)?;
    let (bytes, rest) = wire.split_at_checked(length).ok_or(JsonEncodeError::Broken)?;
    *wire = rest;
    Ok(bytes)
}

fn text(bytes: &[u8], out: &mut Vec<u8>) -> WriteResult {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonEncodeError::Broken)?;
    serde_json::to_writer(out, text).map_err(|_| JsonEncodeError::Broken)
}

/// A string that needs no escapes.
fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}
