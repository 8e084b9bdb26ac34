//! What of an archived record a restore brings back as it was, so that two archives can be compared.

use bytes::Bytes;

use super::files::FilePart;
use super::{ArchivedRecord, ArchivedStream};
use crate::domain::{File, FileLocation};
use crate::storage::encoding::{decode_known, decode_value, encode, encode_value};
use crate::storage::error::StorageError;
use crate::storage::files::FileRecord;
use crate::storage::records::{Event, ServerConfig};
use crate::storage::state::key::StateKey;

/// The data of a record without positions and revisions of the store that it came from, which every restore sets anew.
/// `None`: a restore leaves the record out, or it ends by itself.
///
/// # Errors
/// [`StorageError`]: it is no record of this stream.
pub fn restored_data(
    stream: ArchivedStream,
    record: &ArchivedRecord,
) -> Result<Option<Bytes>, StorageError> {
    if record.deleted || record.ttl.is_some() {
        return Ok(None);
    }
    let corrupt = |error| StorageError::corrupt(stream.name())(error);
    let data = &record.data;
    Ok(Some(match stream {
        // One that this program cannot read is restored as it is, and its room held.
        ArchivedStream::Journal => match decode_known::<Event>(data) {
            Ok(event) => encode(&Event { state_revision: 0, ..event }),
            Err(_) => data.clone(),
        },
        ArchivedStream::State => {
            let key = record.subject.strip_prefix("$KV.STATE.").unwrap_or_default();
            match key.parse::<StateKey>() {
                Ok(key) if key.is_volatile() => return Ok(None),
                Ok(StateKey::ServerSettings) => {
                    let config: ServerConfig = decode_known(data).map_err(corrupt)?;
                    encode(&ServerConfig { purged_upto: 0, ..config })
                }
                _ => data.clone(),
            }
        }
        ArchivedStream::Files => match FilePart::of(&record.subject) {
            FilePart::Record => {
                let (found, _) = decode_value::<FileRecord>(data).map_err(corrupt)?;
                let file = File { location: FileLocation::Nats(Vec::new()), ..found.file };
                encode_value(&FileRecord { file, replaced: 0 })
            }
            FilePart::Key(_) | FilePart::Move => data.clone(),
        },
        ArchivedStream::Pages | ArchivedStream::Notifications | ArchivedStream::ReadMarkers => {
            data.clone()
        }
    }))
}
