//! The results of backups, in META. They belong to the epoch of the store: a restored store has none, since what was said of
//! another store does not hold for this one.

use bytes::Bytes;

use crate::crypto::hex;
use crate::domain::{ArchiveCheck, BackupKind, BackupResult, BackupResults, BackupVerdict};
use crate::nats::Nats;
use crate::runtime::Clock;
use crate::storage::encoding::{DecodeError, Losses, Recorded, encode_value};
use crate::storage::error::StorageError;
use crate::storage::kv::{self, CHANGE_ATTEMPTS, Entry, bucket_get, bucket_get_known};
use crate::storage::layout::stream;
use crate::storage::open::{self, OpenError};
use crate::storage::records::{self, Meta, MetaState};

const SUBJECT: &str = "$KV.META.backups";

/// The results of backups of a store, which need not be open.
#[derive(Clone, Copy)]
pub struct BackupLog<'a> {
    pub nats: &'a Nats,
    pub clock: &'a Clock,
}

/// What a store knows of its backups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownBackups {
    /// Of the store.
    pub server_id: String,
    /// When the store was created or restored, in milliseconds since 1970.
    pub store_created_ms: i64,
    pub results: BackupResults,
}

impl BackupLog<'_> {
    /// Reads all.
    ///
    /// # Errors
    /// [`OpenError`]: there is no complete store.
    pub async fn read(self) -> Result<KnownBackups, OpenError> {
        let meta = self.meta().await?;
        let (stored, _) = bucket_get::<StoredResults>(self.nats, stream::META, SUBJECT).await?;
        let results = stored.filter(|stored| stored.epoch == meta.epoch);
        Ok(KnownBackups {
            server_id: meta.server_id,
            store_created_ms: meta.created_ms,
            results: results.map(|stored| stored.results).unwrap_or_default(),
        })
    }

    /// Adds the result of a backup of this store.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn add(self, result: &BackupResult) -> Result<(), OpenError> {
        let meta = self.meta().await?;
        self.change(&meta, |results| results.add(result.clone())).await
    }

    /// Enters a later check of an archive of this epoch (hexadecimal), if it is the store's; `None`: the archive cannot be
    /// read, and is said to be one of this store.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn enter_check(
        self,
        epoch: Option<&str>,
        check: &ArchiveCheck,
    ) -> Result<(), OpenError> {
        let meta = self.meta().await?;
        if epoch.is_some_and(|epoch| epoch != hex(&meta.epoch)) {
            return Ok(());
        }
        self.change(&meta, |results| results.enter_check(check.clone())).await
    }

    async fn meta(self) -> Result<Meta, OpenError> {
        let meta = match self.nats.stream(stream::META).await? {
            Some(_) => open::read_meta(self.nats).await?.0,
            None => None,
        };
        let meta = meta.ok_or(OpenError::NoStore)?;
        match meta.state() {
            MetaState::Ready => Ok(meta),
            MetaState::Creating | MetaState::Partial => Err(OpenError::Partial),
        }
    }

    async fn change(
        self,
        meta: &Meta,
        mut change: impl FnMut(&mut BackupResults),
    ) -> Result<(), OpenError> {
        for _ in 0..CHANGE_ATTEMPTS {
            let (found, revision) =
                bucket_get_known::<StoredResults>(self.nats, stream::META, SUBJECT).await?;
            let former = found.filter(|stored| stored.epoch == meta.epoch);
            let former = former.map(|stored| stored.results).unwrap_or_default();
            let mut results = former.clone();
            change(&mut results);
            if results == former {
                return Ok(());
            }
            let stored = StoredResults { epoch: meta.epoch.clone(), results };
            let entry = Entry { subject: SUBJECT, payload: encode_value(&stored), revision };
            if kv::put(self.nats, self.clock, entry, None).await? {
                return Ok(());
            }
        }
        Err(StorageError::LATE.into())
    }
}

/// As they are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StoredResults {
    epoch: Bytes,
    results: BackupResults,
}

impl Recorded for StoredResults {
    type Record = records::BackupResults;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        let results = record.results.into_iter().map(|one| result(one, losses)).collect();
        Ok(Self { epoch: record.epoch, results: BackupResults::new(results) })
    }

    fn to_record(&self) -> Self::Record {
        let results = self.results.all().iter().map(record).collect();
        records::BackupResults { epoch: self.epoch.clone(), results }
    }
}

/// What a newer program says that is not known here counts as a failed backup.
fn result(record: records::BackupResult, losses: &mut Losses) -> BackupResult {
    let kind = records::BackupKind::try_from(record.kind).ok().map(|kind| match kind {
        records::BackupKind::Directory => BackupKind::Directory,
        records::BackupKind::Stick => BackupKind::Stick,
        records::BackupKind::RestoreTest => BackupKind::RestoreTest,
    });
    let verdict = records::BackupVerdict::try_from(record.verdict).ok();
    let verdict = verdict.map(|verdict| match verdict {
        records::BackupVerdict::Failed => BackupVerdict::Failed,
        records::BackupVerdict::Verified => BackupVerdict::Verified,
        records::BackupVerdict::Unread => BackupVerdict::Complete,
        records::BackupVerdict::Unverified => BackupVerdict::Unverified,
    });
    let records::BackupResult { at_ms, place, reason, bytes, sequence, .. } = record;
    let (kind, verdict) = (losses.known(kind), losses.known(verdict));
    BackupResult { kind, verdict, at_ms, place, reason, bytes, sequence }
}

fn record(result: &BackupResult) -> records::BackupResult {
    let kind = match result.kind {
        BackupKind::Directory => records::BackupKind::Directory,
        BackupKind::Stick => records::BackupKind::Stick,
        BackupKind::RestoreTest => records::BackupKind::RestoreTest,
    };
    let verdict = match result.verdict {
        BackupVerdict::Failed => records::BackupVerdict::Failed,
        BackupVerdict::Verified => records::BackupVerdict::Verified,
        BackupVerdict::Complete => records::BackupVerdict::Unread,
        BackupVerdict::Unverified => records::BackupVerdict::Unverified,
    };
    records::BackupResult {
        kind: kind.into(),
        verdict: verdict.into(),
        at_ms: result.at_ms,
        place: result.place.clone(),
        reason: result.reason.clone(),
        bytes: result.bytes,
        sequence: result.sequence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::encoding::{decode_value, encode};
    use crate::storage::golden::golden;

    #[test]
    fn results_of_version_1_stay_readable() {
        let results = [
            BackupResult {
                kind: BackupKind::Stick,
                verdict: BackupVerdict::Verified,
                at_ms: 1_700_000_000_123,
                place: "Blue".into(),
                bytes: 1_234,
                sequence: 7,
                ..BackupResult::default()
            },
            BackupResult {
                kind: BackupKind::RestoreTest,
                verdict: BackupVerdict::Unverified,
                reason: "the disk is full".into(),
                ..BackupResult::default()
            },
            BackupResult { verdict: BackupVerdict::Complete, ..BackupResult::default() },
        ];
        let stored = StoredResults {
            epoch: Bytes::from_static(&[9; 16]),
            results: BackupResults::new(results.into()),
        };
        golden("backup-results", &stored.to_record());
        let (read, is_whole) = decode_value::<StoredResults>(&encode_value(&stored)).unwrap();
        assert!(is_whole && read == stored);
    }

    #[test]
    fn a_verdict_of_a_newer_program_is_no_good_news() {
        let newer = records::BackupResult { verdict: 99, ..records::BackupResult::default() };
        let record = records::BackupResults { results: vec![newer], ..Default::default() };
        let (read, is_whole) = decode_value::<StoredResults>(&encode(&record)).unwrap();
        assert!(!is_whole, "it must not be written again");
        assert!(read.results.last_failed().is_some());
    }
}
