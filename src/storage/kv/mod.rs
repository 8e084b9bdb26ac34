//! Buckets: reading and writing a key by compare-and-set, and the small records that lie in one.

pub(crate) mod backup_results;
pub(crate) mod counters;
pub(crate) mod key_store;
pub(crate) mod keys;
pub(crate) mod lease;
pub(crate) mod markers;
pub(crate) mod memory;
pub(crate) mod presences;
mod record_cache;
pub(crate) mod register;
pub(crate) mod texts;
pub(crate) mod tokens;
pub(crate) mod user_keys;

use std::time::Duration;

use bytes::Bytes;

use crate::crypto::hex;
use crate::limits::WRITE_DEADLINE;
use crate::nats::{BatchRead, Commit, Nats, Publish, PublishError};
use crate::runtime::Clock;
use crate::storage::encoding::{Recorded, decode_value};
use crate::storage::error::StorageError;

/// Attempts at a compare-and-set under contention.
pub(crate) const CHANGE_ATTEMPTS: usize = 64;

/// Reads a bucket's record that is going to be replaced, as [`bucket_get`] does.
///
/// # Errors
/// [`StorageError::Newer`] when it has fields that this program does not know.
pub(crate) async fn bucket_get_known<R: Recorded>(
    nats: &Nats,
    stream: &'static str,
    subject: &str,
) -> Result<(Option<R>, u64), StorageError> {
    match bucket_get_any(nats, stream, subject).await? {
        (Some((_, false)), _) => Err(StorageError::Newer { what: stream }),
        (found, revision) => Ok((found.map(|(record, _)| record), revision)),
    }
}

/// Reads a bucket's newest record of a key, from the leader. A deleted or expired key gives `None`
/// with the revision that a compare-and-set must name.
pub(crate) async fn bucket_get<R: Recorded>(
    nats: &Nats,
    stream: &'static str,
    subject: &str,
) -> Result<(Option<R>, u64), StorageError> {
    let (found, revision) = bucket_get_any(nats, stream, subject).await?;
    Ok((found.map(|(record, _)| record), revision))
}

/// Reads a bucket's record as [`bucket_get`] does, with whether this program knows all of it: if not, it must not
/// write it again.
pub(crate) async fn bucket_get_any<R: Recorded>(
    nats: &Nats,
    stream: &'static str,
    subject: &str,
) -> Result<(Option<(R, bool)>, u64), StorageError> {
    match nats.leader_newest(stream, subject).await? {
        None => Ok((None, 0)),
        Some(message) if message.is_tombstone() => Ok((None, message.sequence)),
        Some(message) => {
            let record = decode_value(&message.payload).map_err(StorageError::corrupt(stream))?;
            Ok((Some(record), message.sequence))
        }
    }
}

/// Shows every entry of a bucket, tombstones left out, in batches from any replica.
pub(crate) async fn each_entry(
    nats: &Nats,
    stream: &str,
    each: impl FnMut(&str, &[u8]) + Send,
) -> Result<(), StorageError> {
    entries_from(nats, stream, 1, each).await.map(drop)
}

/// As [`each_entry`], up to the end that the leader knows: the replica that is read may lag behind.
pub(crate) async fn each_entry_to_end(
    nats: &Nats,
    stream: &str,
    mut each: impl FnMut(&str, &[u8]) + Send,
) -> Result<(), StorageError> {
    let mut next = 1;
    loop {
        next = entries_from(nats, stream, next, &mut each).await?;
        let Some(message) = nats.leader_from(stream, next).await? else { return Ok(()) };
        next = message.sequence.saturating_add(1);
        if !message.is_tombstone() {
            each(&message.subject, &message.payload);
        }
    }
}

/// Shows entries as [`each_entry`] does, from a sequence on; returns the sequence after the last.
async fn entries_from(
    nats: &Nats,
    stream: &str,
    from: u64,
    mut each: impl FnMut(&str, &[u8]) + Send,
) -> Result<u64, StorageError> {
    let mut sequence = from;
    loop {
        let batch = nats.read(stream, BatchRead::From { sequence, count: 512 }).await?;
        let Some(last) = batch.messages.last() else { return Ok(sequence) };
        sequence = last.sequence.saturating_add(1);
        for message in batch.messages.iter().filter(|message| !message.is_tombstone()) {
            each(&message.subject, &message.payload);
        }
    }
}

/// A key's new value and the revision it replaces; 0: there is none.
pub(crate) struct Entry<'a> {
    pub(crate) subject: &'a str,
    pub(crate) payload: Bytes,
    pub(crate) revision: u64,
}

/// Compare-and-set with a life time; `false`: somebody else was first.
pub(crate) async fn put(
    nats: &Nats,
    clock: &Clock,
    entry: Entry<'_>,
    ttl: Option<Duration>,
) -> Result<bool, StorageError> {
    Ok(put_entry(nats, clock, entry, ttl).await?.is_some())
}

/// As [`put`], with the new revision.
pub(crate) async fn put_entry(
    nats: &Nats,
    clock: &Clock,
    entry: Entry<'_>,
    ttl: Option<Duration>,
) -> Result<Option<u64>, StorageError> {
    let deadline = clock.now() + WRITE_DEADLINE;
    let id = hex(&crate::crypto::random::<16>());
    let message = Publish {
        subject: entry.subject,
        payload: entry.payload,
        message_id: Some(&id),
        expected_last: Some(entry.revision),
        ttl,
        ..Publish::default()
    };
    Ok(Commit { nats, clock }.store(message, deadline).await?.map(|ack| ack.sequence))
}

pub(crate) async fn delete(
    nats: &Nats,
    subject: &str,
    revision: u64,
) -> Result<bool, StorageError> {
    let message =
        Publish { subject, expected_last: Some(revision), tombstone: true, ..Publish::default() };
    match nats.publish(message).await {
        Ok(_) => Ok(true),
        Err(PublishError::WrongLastSequence) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
