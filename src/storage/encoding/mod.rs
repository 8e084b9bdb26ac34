//! The stored encoding: one byte with the version, then a protobuf message.
//!
//! Old readers stay for ever, each with a golden file; a newer version than we know is an error that
//! says so, never a guess.
//!
//! Records do not leave `storage`: what it takes and returns are the domain's types, converted here and in
//! the files of this folder. A second version of a record is converted here too.

pub(crate) mod buckets;
mod files;
mod state;
#[cfg(test)]
mod tests;
pub(crate) mod timeline;

use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// The version this program writes.
pub(crate) const VERSION: u8 = 1;

/// Recorded bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the stored value is empty")]
    Empty,
    #[error("the stored value has version {found}; this program reads up to {newest}")]
    Newer { found: u8, newest: u8 },
    /// Damaged, or not written by this program.
    #[error("the stored value is damaged")]
    Malformed,
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

/// A domain type that is stored as a record.
pub trait Recorded: Sized {
    /// How the present version stores it.
    type Record: Message + Default;

    /// The value of a record. What this program does not know of it and leaves out goes to `losses`.
    ///
    /// # Errors
    /// [`DecodeError`] where nothing can stand for what is stored.
    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError>;

    /// What is stored.
    fn to_record(&self) -> Self::Record;
}

/// Whether a value is all that its record holds.
#[derive(Debug, Default)]
pub struct Losses {
    any: bool,
}

impl Losses {
    /// Something was left out.
    pub(crate) fn note(&mut self) {
        self.any = true;
    }

    /// An id that must be there.
    pub(crate) fn required<T: FromStr>(&mut self, id: &str) -> Result<T, DecodeError> {
        id.parse().map_err(|_| DecodeError::Malformed)
    }

    /// An id that may be empty.
    pub(crate) fn optional<T: FromStr>(&mut self, id: &str) -> Option<T> {
        let parsed = id.parse().ok();
        self.any |= parsed.is_none() && !id.is_empty();
        parsed
    }

    /// Bytes of a fixed length that may be empty.
    pub(crate) fn bytes<const N: usize>(&mut self, bytes: &[u8]) -> Option<[u8; N]> {
        let exact = bytes.try_into().ok();
        self.any |= exact.is_none() && !bytes.is_empty();
        exact
    }

    /// A list of ids.
    pub(crate) fn all<T: FromStr>(&mut self, ids: &[String]) -> Vec<T> {
        let parsed: Vec<T> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        self.any |= parsed.len() != ids.len();
        parsed
    }

    /// A stored number that this program may not know.
    pub(crate) fn known<T: Default>(&mut self, value: Option<T>) -> T {
        self.any |= value.is_none();
        value.unwrap_or_default()
    }
}

/// Encodes a value with the present version.
pub(crate) fn encode_value(value: &impl Recorded) -> Bytes {
    encode(&value.to_record())
}

/// Decodes a value of any version we know, and whether it is all that is stored: if not, this program must not
/// write it again.
pub(crate) fn decode_value<T: Recorded>(bytes: &[u8]) -> Result<(T, bool), DecodeError> {
    let record: T::Record = decode(bytes)?;
    let (is_known, mut losses) = (is_known(&record, bytes), Losses::default());
    let value = T::from_record(record, &mut losses)?;
    Ok((value, is_known && !losses.any))
}

/// Records that never leave `storage` are their own values.
macro_rules! stored_as_it_is {
    ($($record:ty),*) => {$(
        impl Recorded for $record {
            type Record = Self;

            fn from_record(record: Self, _losses: &mut Losses) -> Result<Self, DecodeError> {
                Ok(record)
            }

            fn to_record(&self) -> Self {
                self.clone()
            }
        }
    )*};
}

stored_as_it_is!(
    crate::storage::records::FoldCheckpoint,
    crate::storage::records::Fence,
    crate::storage::records::Claim,
    crate::storage::records::Fingerprints,
    crate::storage::records::Meta,
    crate::storage::records::HighWaterMarks,
    crate::storage::records::KeyTransfers
);
