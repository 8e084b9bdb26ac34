//! The JSON form of messages, to and from the wire form.
//!
//! The wire form already says which fields are present, so both directions translate bytes with the help of a
//! table: [`read`] writes wire bytes while it parses JSON, [`write`] walks wire bytes and writes JSON. prost does
//! the rest. Nothing is kept between calls.

mod read;
mod table;
mod values;
mod write;

use prost::DecodeError as WireError;

use super::codec::{DecodeError, EncodeError, Wire};

pub use table::{Described, MessageTable};
pub(super) use table::{EnumTable, FieldTable, Kind, Shape};
pub use write::JsonEncodeError;

pub(super) fn decode<M: Wire>(body: &[u8]) -> Result<M, DecodeError> {
    let wire = read::to_wire(M::table(), body).map_err(|source| DecodeError::Json { source })?;
    M::decode(wire.as_slice()).map_err(|source: WireError| DecodeError::Proto { source })
}

pub(super) fn encode<M: Wire>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let wire = message.encode_to_vec();
    // JSON names its fields, and takes a little more than twice the wire form.
    let mut out = Vec::with_capacity(wire.len().saturating_mul(2).saturating_add(64));
    match write::from_wire(M::table(), &wire, &mut out) {
        Ok(()) => Ok(out),
        Err(source) => Err(EncodeError { message: M::full_name(), source }),
    }
}
