//! Messages to bytes and back, in both forms of a unary call. Decoding is all that happens here: value
//! rules are checked by [`super::Validate`], permissions far away.

use bytes::Bytes;

use super::json::{self, Described, JsonEncodeError};
use crate::limits;

/// A message that goes over the wire.
pub trait Wire: prost::Message + prost::Name + Described + Default {}

impl<M: prost::Message + prost::Name + Described + Default> Wire for M {}

/// The form of a body, named by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/proto`: the protobuf wire form.
    Proto,
    /// `application/json`: the standard JSON form of protobuf.
    Json,
}

impl Encoding {
    /// The form a `Content-Type` header names; parameters (a charset) are accepted and ignored.
    #[must_use]
    pub fn from_content_type(value: &str) -> Option<Self> {
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/proto") {
            Some(Self::Proto)
        } else if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }

    /// The content type of an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Proto => "application/proto",
            Self::Json => "application/json",
        }
    }
}

/// A message in its binary form.
pub fn binary(message: &impl Wire) -> Vec<u8> {
    message.encode_to_vec()
}

/// A body is not the message it should be. The texts name positions and types, never what the body said.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the wire form of the message, or nested deeper than 100 messages.
    #[error("the request is not a valid binary message")]
    Proto {
        /// What prost found.
        #[source]
        source: prost::DecodeError,
    },
    /// Not JSON, not of the message's shape, or nested deeper than 127 levels.
    #[error("the request is not valid JSON for its message")]
    Json {
        /// What serde found; may quote the body.
        #[source]
        source: serde_json::Error,
    },
    /// More fields and list elements than any request needs.
    #[error("the request has more than {max} values")]
    TooManyValues {
        /// The limit.
        max: usize,
    },
}

/// An answer has no form in the asked encoding: a fault of the program.
#[derive(Debug, thiserror::Error)]
#[error("{message} has no JSON form")]
pub struct EncodeError {
    /// Full name of the message.
    pub message: String,
    /// Why not.
    #[source]
    pub source: JsonEncodeError,
}

/// Reads a message; an empty body is the empty message in both forms.
///
/// # Errors
/// All are faults of the sender.
pub fn decode<M: Wire>(encoding: Encoding, body: Bytes) -> Result<M, DecodeError> {
    match encoding {
        Encoding::Proto => {
            bound_values(count_wire_fields(&body))?;
            M::decode(body).map_err(|source| DecodeError::Proto { source })
        }
        Encoding::Json if body.is_empty() => Ok(M::default()),
        Encoding::Json => {
            bound_values(count_json_values(&body))?;
            json::decode(&body)
        }
    }
}

/// Writes a message. The same message always gives the same bytes.
///
/// # Errors
/// None for [`Encoding::Proto`]; [`EncodeError`] names a fault of the program.
pub fn encode<M: Wire>(message: &M, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    match encoding {
        Encoding::Proto => Ok(message.encode_to_vec()),
        Encoding::Json => json::encode(message),
    }
}

fn bound_values(count: usize) -> Result<(), DecodeError> {
    let max = limits::API_VALUES_MAX;
    if count > max { Err(DecodeError::TooManyValues { max }) } else { Ok(()) }
}

/// Fields of the outermost message. Lists of requests stand there (but for the paths of a mask, 24 bytes
/// each), so this bounds what decoding allocates; a body that is not the wire form is counted up to its
/// fault and left to prost.
fn count_wire_fields(body: &[u8]) -> usize {
    use prost::encoding::{DecodeContext, decode_key, skip_field};
    let mut rest = body;
    let mut count = 0;
    while !rest.is_empty() {
        count += 1;
        let Ok((tag, wire_type)) = decode_key(&mut rest) else { break };
        if skip_field(wire_type, tag, &mut rest, DecodeContext::default()).is_err() {
            break;
        }
    }
    count
}

/// Every value of a JSON text follows a comma or an opening bracket, so this is at least their number.
fn count_json_values(body: &[u8]) -> usize {
    let mut count = 1;
    let mut in_string = false;
    let mut escaped = false;
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}
