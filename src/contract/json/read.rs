//! JSON to wire bytes.

use std::fmt;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::table::{EnumTable, FieldTable, Kind, MessageTable, Shape};
use super::values;

/// Reads one JSON object. serde_json rejects more than 127 levels.
pub(super) fn to_wire(table: &'static MessageTable, body: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let mut reader = serde_json::Deserializer::from_slice(body);
    MessageSeed { table, out: &mut out }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(out)
}

/// Writes the fields of one message.
struct MessageSeed<'o> {
    table: &'static MessageTable,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut fields_seen = 0_u64;
        let mut oneofs_seen = 0_u64;
        while let Some(known) = members.next_key_seed(NameSeed(self.table))? {
            let Some((position, field)) = known else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            if !members.next_value_seed(FieldSeed { field, out: self.out })? {
                continue;
            }
            let bit = 1_u64 << (position % 64);
            let oneof_bit = field.oneof.map_or(0, |position| 1_u64 << (position % 64));
            if fields_seen & bit != 0 || oneofs_seen & oneof_bit != 0 {
                return Err(A::Error::custom(format_args!("{} occurs twice", field.json_name)));
            }
            fields_seen |= bit;
            oneofs_seen |= oneof_bit;
        }
        Ok(())
    }
}

/// The field that a member of the object names, if it is known.
struct NameSeed(&'static MessageTable);

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<(usize, &'static FieldTable)>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<(usize, &'static FieldTable)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.by_name(name))
    }
}

/// Writes one field with its tag and all its elements. Returns whether it was present, which `null` and an unknown
/// enum name are not.
struct FieldSeed<'o> {
    field: &'static FieldTable,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.field.shape {
            Shape::Single => "a value",
            Shape::List => "an array",
            Shape::Map => "an object",
        })
    }

    fn visit_none<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        let FieldTable { number, kind, .. } = *self.field;
        match self.field.shape {
            Shape::Single => ValueSeed { number, kind, out: self.out }.deserialize(reader),
            Shape::List => reader.deserialize_seq(self),
            Shape::Map => reader.deserialize_map(self),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<bool, A::Error> {
        let FieldTable { number, kind, .. } = *self.field;
        while elements.next_element_seed(ValueSeed { number, kind, out: self.out })?.is_some() {}
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<bool, A::Error> {
        let FieldTable { number, kind, .. } = *self.field;
        let mut entry = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            entry.clear();
            write_bytes(1, key.as_bytes(), &mut entry);
            // An unknown enum name drops the entry.
            if entries.next_value_seed(ValueSeed { number: 2, kind, out: &mut entry })? {
                write_bytes(number, &entry, self.out);
            }
        }
        Ok(true)
    }
}

/// Writes one value with its tag. Returns false for an unknown enum name, which writes nothing.
struct ValueSeed<'o> {
    number: u32,
    kind: Kind,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        match self.kind {
            Kind::Message(table) => {
                let mut inner = Vec::new();
                MessageSeed { table, out: &mut inner }.deserialize(reader)?;
                write_bytes(self.number, &inner, self.out);
                Ok(true)
            }
            Kind::Bool => reader.deserialize_bool(self),
            Kind::String | Kind::Bytes | Kind::Timestamp | Kind::Duration | Kind::FieldMask => {
                reader.deserialize_str(self)
            }
            Kind::Double | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Enum(_) => {
                reader.deserialize_any(self)
            }
        }
    }
}

impl Visitor<'_> for ValueSeed<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.kind {
            Kind::Double => "a number",
            Kind::Int32 | Kind::Int64 | Kind::Uint32 => "an integer",
            Kind::Bool => "true or false",
            Kind::String => "a text",
            Kind::Bytes => "a text in base64",
            Kind::Enum(_) => "a name or number of the enum",
            Kind::Message(_) => "an object",
            Kind::Timestamp => "a time as in RFC 3339",
            Kind::Duration => "seconds with the suffix s",
            Kind::FieldMask => "paths joined by commas",
        })
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        match self.kind {
            Kind::Bool => self.varint(value.into()),
            _ => Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        match self.kind {
            #[expect(clippy::cast_precision_loss, reason = "a double is what the field holds")]
            Kind::Double => self.double(value as f64),
            _ => self.integer(value.into()),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        match self.kind {
            #[expect(clippy::cast_precision_loss, reason = "a double is what the field holds")]
            Kind::Double => self.double(value as f64),
            _ => self.integer(value.into()),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        match self.kind {
            Kind::Double => self.double(value),
            _ => match values::integer_of(value) {
                Some(integer) => self.integer(integer),
                None => Err(E::invalid_value(serde::de::Unexpected::Float(value), &self)),
            },
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        let refused = || E::invalid_value(serde::de::Unexpected::Other("this text"), &self);
        match self.kind {
            Kind::String => write_bytes(self.number, text.as_bytes(), self.out),
            Kind::Bytes => {
                let bytes = values::bytes_of(text).ok_or_else(refused)?;
                write_bytes(self.number, &bytes, self.out);
            }
            Kind::Timestamp => {
                let time = values::timestamp_of(text).ok_or_else(refused)?;
                write_bytes(self.number, &time.encode_to_vec(), self.out);
            }
            Kind::Duration => {
                let duration = values::duration_of(text).ok_or_else(refused)?;
                write_bytes(self.number, &duration.encode_to_vec(), self.out);
            }
            Kind::FieldMask => {
                write_bytes(self.number, &values::mask_of(text).encode_to_vec(), self.out);
            }
            Kind::Double => {
                let number = values::double_of(text).ok_or_else(refused)?;
                return self.double(number);
            }
            Kind::Int32 | Kind::Int64 | Kind::Uint32 => {
                let integer = text.parse::<i128>().map_err(|_| refused())?;
                return self.integer(integer);
            }
            Kind::Enum(table) => {
                return match EnumTable::number(table, text) {
                    Some(number) => self.integer(number.into()),
                    None => Ok(false),
                };
            }
            Kind::Bool | Kind::Message(_) => return Err(refused()),
        }
        Ok(true)
    }
}

impl ValueSeed<'_> {
    fn integer<E: Error>(self, value: i128) -> Result<bool, E> {
        let (min, max) = match self.kind {
            Kind::Int32 | Kind::Enum(_) => (i32::MIN.into(), i32::MAX.into()),
            Kind::Int64 => (i64::MIN.into(), i64::MAX.into()),
            Kind::Uint32 => (0, u32::MAX.into()),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Other("a number"), &self)),
        };
        if value < min || value > max {
            return Err(E::custom("an integer is out of range"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the wire form of a negative number is its two's complement in 64 bits"
        )]
        self.varint(value as u64)
    }

    fn varint<E: Error>(self, value: u64) -> Result<bool, E> {
        encode_key(self.number, WireType::Varint, self.out);
        encode_varint(value, self.out);
        Ok(true)
    }

    fn double<E: Error>(self, value: f64) -> Result<bool, E> {
        encode_key(self.number, WireType::SixtyFourBit, self.out);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(true)
    }
}

/// A text, bytes or a message.
fn write_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
