//! Messages to bytes and back, in both encodings of a unary call. Value rules are checked by [`super::Validate`],
//! permissions by the service; neither happens here.

use bytes::Bytes;

use super::json::{self, Described, JsonEncodeError};
use crate::limits;

/// A message that goes over the wire.
pub trait Wire: prost::Message + prost::Name + Described + Default {}

impl<M: prost::Message + prost::Name + Described + Default> Wire for M {}

/// The encoding of a body, named by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/proto`: the protobuf wire form.
    Proto,
    /// `application/json`: the standard JSON form of protobuf.
    Json,
}

impl Encoding {
    /// The encoding that a `Content-Type` header names; parameters (a charset) are ignored.
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

    /// The content type of a response.
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

/// A body is not the expected message. The texts name positions and types, and never quote the body.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the wire form of the message, or messages nested more than 100 levels deep.
    #[error("the request is not a valid binary message")]
    Proto {
        #[source]
        source: prost::DecodeError,
    },
    /// Not JSON, not of the message's shape, or nested more than 127 levels deep.
    #[error("the request is not valid JSON for its message")]
    Json {
        /// The error of serde; it may quote the body.
        #[source]
        source: serde_json::Error,
    },
    /// More fields and list elements than any request needs.
    #[error("the request has more than {max} values")]
    TooManyValues { max: usize },
}

/// A response cannot be encoded as JSON: a bug of this program.
#[derive(Debug, thiserror::Error)]
#[error("{message} has no JSON form")]
pub struct EncodeError {
    /// Full name of the message.
    pub message: String,
    #[source]
    pub source: JsonEncodeError,
}

/// Decodes a message; an empty body is the empty message in both encodings.
///
/// # Errors
/// [`DecodeError`]: every one is an error of the sender.
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

/// Encodes a message. The same message always gives the same bytes.
///
/// # Errors
/// [`EncodeError`] for [`Encoding::Json`] only, when this program made a message that JSON cannot express.
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

/// The number of fields in the outermost message. The lists of all requests are there (except the paths of a mask,
/// 24 bytes each), so this bounds what decoding allocates. An invalid body is counted up to its error, which prost
/// then reports.
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

/// Every value of a JSON text follows a comma or an opening bracket, so this is at least the number of values.
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
