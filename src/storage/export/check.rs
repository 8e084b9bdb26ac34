//! Checks of records that come from an archive: whatever is accepted here can be written to a store.

use super::files::FilePart;
use super::{ArchivedRecord, ArchivedStream};
use crate::domain::{AssetId, File, RoomId};
use crate::limits::{ARCHIVED_RECORD_MAX_BYTES, ARCHIVED_SUBJECT_MAX_BYTES};
use crate::storage::encoding::{decode, decode_known, decode_value};
use crate::storage::error::StorageError;
use crate::storage::files::{FileRecord, subject};
use crate::storage::records::{Group, Member, Role, Room, ServerConfig, User};
use crate::storage::state::key::StateKey;

/// Checks that a record of an archive is one of its stream, and returns the file that it is of, if it is of one.
///
/// # Errors
/// [`StorageError::Corrupt`], [`StorageError::Newer`]
pub fn check_archived(
    stream: ArchivedStream,
    record: &ArchivedRecord,
) -> Result<Option<File>, StorageError> {
    let corrupt = || StorageError::Corrupt { what: stream.name(), source: None };
    let is_short = record.data.len() <= ARCHIVED_RECORD_MAX_BYTES;
    let has_life = record.ttl.is_none_or(|ttl| ttl.as_secs() > 0);
    let tokens = tokens(stream, &record.subject).ok_or_else(corrupt)?;
    if !is_short || !has_life {
        return Err(corrupt());
    }
    let is_room = |id: &str| id.parse::<RoomId>().is_ok();
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let is_known = match (stream, tokens.as_slice()) {
        (ArchivedStream::Journal, [room]) => is_room(room) && !record.deleted,
        (ArchivedStream::Pages, [room, "h"]) => is_room(room),
        (ArchivedStream::Pages, [room, "r" | "s" | "t", numbers @ ..]) => {
            is_room(room) && numbers.len() <= 3 && numbers.iter().all(|number| is_number(number))
        }
        (ArchivedStream::Notifications | ArchivedStream::ReadMarkers, [_, _]) => true,
        (ArchivedStream::State, _) => {
            check_state(&tokens.join("."), record)?;
            true
        }
        (ArchivedStream::Files, [_, id, rest @ ..]) => {
            id.parse::<AssetId>().is_ok() && matches!(rest, [] | ["key"])
        }
        _ => false,
    };
    if !is_known {
        return Err(corrupt());
    }
    if stream != ArchivedStream::Files || record.deleted {
        return Ok(None);
    }
    match FilePart::of(&record.subject) {
        FilePart::Record => {}
        FilePart::Key(_) | FilePart::Move => return Ok(None),
    }
    let read = decode_value::<FileRecord>(&record.data);
    let (found, _) = read.map_err(StorageError::corrupt(stream.name()))?;
    if subject(&found.file.id) != record.subject {
        return Err(corrupt());
    }
    Ok(Some(found.file))
}

/// The tokens after the stream's prefix; `None`: it is no subject of the stream.
fn tokens(stream: ArchivedStream, subject: &str) -> Option<Vec<&str>> {
    let prefix = match stream {
        ArchivedStream::Notifications => "$KV.NOTIFICATIONS.",
        ArchivedStream::ReadMarkers => "$KV.READ_MARKERS.",
        ArchivedStream::Pages => "pages.",
        ArchivedStream::Journal => "journal.",
        ArchivedStream::Files => "files.",
        ArchivedStream::State => "$KV.STATE.",
    };
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'*' && byte != b'>';
    let is_token = |token: &&str| !token.is_empty() && token.bytes().all(is_allowed);
    let tokens: Vec<&str> = subject.strip_prefix(prefix)?.split('.').collect();
    let fits = subject.len() <= ARCHIVED_SUBJECT_MAX_BYTES && tokens.iter().all(is_token);
    fits.then_some(tokens)
}

/// Checks that a record of STATE can be read: a user that cannot would be missing without a word.
fn check_state(key: &str, record: &ArchivedRecord) -> Result<(), StorageError> {
    let corrupt = StorageError::corrupt("STATE");
    let key: StateKey =
        key.parse().map_err(|_| StorageError::Corrupt { what: "STATE", source: None })?;
    if record.deleted {
        return Ok(());
    }
    let data = &record.data;
    match key {
        StateKey::User(_) => decode::<User>(data).map(drop),
        StateKey::Room(_) => decode::<Room>(data).map(drop),
        StateKey::Member(..) => decode::<Member>(data).map(drop),
        StateKey::Role(_) => decode::<Role>(data).map(drop),
        StateKey::Group(_) => decode::<Group>(data).map(drop),
        StateKey::ServerSettings => decode_known::<ServerConfig>(data).map(drop),
        StateKey::Claim(_) | StateKey::FoldCheckpoint | StateKey::Lease(_) | StateKey::Other(_) => {
            Ok(())
        }
    }
    .map_err(corrupt)
}

/// FILES has this record of a file.
#[cfg(test)]
pub(crate) fn record_of(file: File) -> ArchivedRecord {
    let subject = subject(&file.id);
    let data = crate::storage::encoding::encode_value(&FileRecord { file, replaced: 0 });
    let stored_at = String::new();
    ArchivedRecord { sequence: 1, stored_at, subject, ttl: None, deleted: false, data }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::domain::UserId;
    use crate::storage::encoding::encode;

    fn record(subject: &str) -> ArchivedRecord {
        ArchivedRecord {
            sequence: 1,
            stored_at: String::new(),
            subject: subject.to_owned(),
            ttl: None,
            deleted: false,
            data: encode(&User::default()),
        }
    }

    const ROOM: &str = "R00000000000001";
    const FILE: &str = "A00000000000001";

    #[test]
    fn subjects_of_a_stream_are_accepted_and_no_others() {
        use ArchivedStream::{Files, Journal, Notifications, Pages, ReadMarkers, State};
        for (stream, subject) in [
            (Journal, format!("journal.{ROOM}")),
            (Pages, format!("pages.{ROOM}.h")),
            (Pages, format!("pages.{ROOM}.r.12.4294967295")),
            (Pages, format!("pages.{ROOM}.t.7.0.1")),
            (ReadMarkers, "$KV.READ_MARKERS.U00000000000001.R00000000000001".to_owned()),
            (Files, format!("files.5.{FILE}.key")),
            (State, format!("$KV.STATE.user.{}", UserId::from_number(42))),
            (State, "$KV.STATE.kind-of-a-later-version.x".to_owned()),
        ] {
            assert!(check_archived(stream, &record(&subject)).is_ok(), "{subject}");
        }
        for (stream, subject) in [
            (State, "$KV.META.store".to_owned()),
            (State, "$KV.STATE.user.!!!".to_owned()),
            (State, "$KV.STATE.user.*".to_owned()),
            (Journal, "journal.a.b.c".to_owned()),
            (Journal, "journal.".to_owned()),
            (Journal, format!("journal.{ROOM} x")),
            (Journal, format!("journal.{ROOM}\r\nPUB x 0")),
            (Pages, "pages.x".to_owned()),
            (Pages, format!("pages.{ROOM}.a.b.c.d.e")),
            (Files, format!("files.5.{FILE}.move")),
            (Files, "files.a.b.key".to_owned()),
            (ReadMarkers, "$KV.READ_MARKERS.x".to_owned()),
            (Notifications, "$KV.NOTIFICATIONS.x.y.z".to_owned()),
        ] {
            assert!(check_archived(stream, &record(&subject)).is_err(), "{subject}");
        }
    }

    #[test]
    fn what_nats_server_would_refuse_or_nobody_could_read_is_refused() {
        let good = record(&format!("$KV.STATE.user.{}", UserId::from_number(42)));
        let is_ok = |record| check_archived(ArchivedStream::State, &record).is_ok();
        assert!(is_ok(good.clone()));
        assert!(!is_ok(ArchivedRecord { ttl: Some(Duration::ZERO), ..good.clone() }));
        assert!(!is_ok(ArchivedRecord {
            data: vec![0; ARCHIVED_RECORD_MAX_BYTES + 1].into(),
            ..good.clone()
        }));
        assert!(!is_ok(ArchivedRecord { data: Bytes::from_static(b"junk"), ..good.clone() }));
        assert!(is_ok(ArchivedRecord { data: Bytes::new(), deleted: true, ..good }));
    }
}
