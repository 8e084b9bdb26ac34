//! The stored encoding: one byte with the version, then a protobuf message.
//!
//! Old readers stay for ever, each with a golden file; a newer version than we know is an error that
//! says so, never a guess.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// The version this program writes.
pub(crate) const VERSION: u8 = 1;

/// Stored bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is not even a version.
    #[error("the stored value is empty")]
    Empty,
    /// Written by a newer program.
    #[error("the stored value has version {found}; this program reads up to {newest}")]
    Newer {
        /// Its version.
        found: u8,
        /// The newest we read.
        newest: u8,
    },
    /// Damaged, or not ours.
    #[error("the stored value is damaged")]
    Malformed,
    /// It holds fields that this program does not know: a newer one wrote it.
    #[error("the stored value has fields of a newer program")]
    UnknownFields,
}

/// Encodes a record with the present version.
pub(crate) fn encode(record: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + record.encoded_len());
    bytes.put_u8(VERSION);
    // A BytesMut grows: encoding into it cannot fail.
    if record.encode(&mut bytes).is_err() {
        log::error!("a record could not be encoded");
    }
    bytes.freeze()
}

/// Decodes a record that is going to be replaced: one with fields that this program does not know is
/// refused, since writing it again would drop them. Protobuf keeps no unknown fields, so they show in the
/// length: what this program would write has another one.
///
/// # Errors
/// [`DecodeError::UnknownFields`], and those of [`decode`].
pub(crate) fn decode_known<R: Message + Default>(bytes: &[u8]) -> Result<R, DecodeError> {
    let record: R = decode(bytes)?;
    if is_known(&record, bytes) { Ok(record) } else { Err(DecodeError::UnknownFields) }
}

/// Whether a record is all that its stored bytes hold.
pub(crate) fn is_known(record: &impl Message, bytes: &[u8]) -> bool {
    record.encoded_len().saturating_add(1) == bytes.len()
}

/// Decodes a record of any version we know, for reading.
pub(crate) fn decode<R: Message + Default>(bytes: &[u8]) -> Result<R, DecodeError> {
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((&VERSION, rest)) => R::decode(rest).map_err(|_| DecodeError::Malformed),
        Some((0, _)) => Err(DecodeError::Malformed),
        Some((&found, _)) => Err(DecodeError::Newer { found, newest: VERSION }),
    }
}
