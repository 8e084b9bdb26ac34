//! The register of processes: who shares this store now, in PRESENCE. An entry that is not renewed
//! disappears.

use bytes::Bytes;

use crate::limits::PROCESS_TTL;
use crate::nats::{BatchRead, Nats};
use crate::storage::encoding::{decode_value, encode, encode_value};
use crate::storage::error::StorageError;
use crate::storage::kv::bucket_get_known;
use crate::storage::kv::{self, Entry};
use crate::storage::layout::stream;
use crate::storage::records::Fingerprints;
use crate::storage::store::Inner;

const PREFIX: &str = "$KV.PRESENCE.process.";
const FINGERPRINTS: &str = "$KV.META.fingerprints";

/// A process that shares the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Random, new at each start.
    pub id: String,
    pub version: String,
    pub host: String,
    pub pid: u32,
    /// When it started, milliseconds since 1970.
    pub started_ms: i64,
    /// Of the settings that all processes must share.
    pub fingerprints: Vec<Fingerprint>,
}

impl Process {
    /// Where it runs, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} pid {}", self.host, self.pid)
    }
}

/// A hash of a setting's value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// The setting.
    pub key: String,
    /// Empty: it is not set.
    pub value: Bytes,
}

fn subject(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// Every process in the register. It can be read before the store is opened; where there is no store
/// yet nobody is there.
pub async fn live_processes(nats: &Nats) -> Result<Vec<Process>, StorageError> {
    if nats.stream(stream::PRESENCE).await?.is_none() {
        return Ok(Vec::new());
    }
    let all = [format!("{PREFIX}*")];
    let batch = nats.read(stream::PRESENCE, BatchRead::Newest(&all)).await?;
    let entries = batch.messages.iter().filter(|message| !message.is_tombstone());
    // A newer version may write entries that this one cannot read.
    Ok(entries
        .filter_map(|message| decode_value(&message.payload).ok().map(|(one, _)| one))
        .collect())
}

/// The entry of this process, and what the last start left.
#[derive(Clone, Copy)]
pub struct Register<'a> {
    pub(crate) store: &'a Inner,
}

impl Register<'_> {
    /// Enters this process, or renews its entry, for [`PROCESS_TTL`].
    pub async fn put(self, process: &Process) -> Result<(), StorageError> {
        let inner = self.store;
        let subject = subject(&process.id);
        let (_, revision) = inner.memory.get::<Process>(stream::PRESENCE, &subject).await?;
        let entry = Entry { subject: &subject, payload: encode_value(process), revision };
        // The key is this process's alone: a lost race is its own earlier attempt.
        inner.memory.put(entry, PROCESS_TTL).await.map(|_| ())
    }

    /// Keeps the fingerprints of this start; returns the keys whose values have changed since the last
    /// one.
    ///
    /// # Cancel safety
    /// May be dropped at any await and repeated.
    pub async fn changed_since_last_start(
        self,
        present: &[Fingerprint],
    ) -> Result<Vec<String>, StorageError> {
        let inner = self.store;
        let (former, revision) =
            bucket_get_known::<Fingerprints>(&inner.nats, stream::META, FINGERPRINTS).await?;
        let former = former.unwrap_or_default().fingerprints;
        let former: Vec<_> = former.into_iter().map(Fingerprint::from).collect();
        let changed = present.iter().filter(|now| {
            former.iter().any(|before| before.key == now.key && before.value != now.value)
        });
        let changed = changed.map(|now| now.key.clone()).collect();
        if former != present {
            let payload =
                encode(&Fingerprints { fingerprints: present.iter().map(Into::into).collect() });
            let entry = Entry { subject: FINGERPRINTS, payload, revision };
            // Lost the race: the other process has logged the same changes.
            kv::put(&inner.nats, &inner.clock, entry, None).await?;
        }
        Ok(changed)
    }

    /// Takes this process out.
    pub async fn remove(self, id: &str) -> Result<(), StorageError> {
        let inner = self.store;
        let subject = subject(id);
        let (present, revision) = inner.memory.get::<Process>(stream::PRESENCE, &subject).await?;
        if present.is_some() {
            // A delete marker would stay for ever.
            inner.nats.erase(stream::PRESENCE, revision).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::encoding::Recorded;
    use crate::storage::golden::golden;

    /// Processes of neighbouring versions read each other's entries.
    #[test]
    fn the_entries_of_version_1_stay_readable() {
        let value = Bytes::from_static(&[7; 8]);
        let fingerprint = Fingerprint { key: "core.secret_key".into(), value };
        let process = Process {
            id: "process".into(),
            version: "0.1.0".into(),
            host: "pi".into(),
            pid: 1234,
            started_ms: 1_700_000_000_123,
            fingerprints: vec![fingerprint.clone()],
        };
        golden("process", &process.to_record());
        let fingerprints = vec![(&fingerprint).into()];
        golden("fingerprints", &Fingerprints { fingerprints });
        let (read, is_whole) = decode_value::<Process>(&encode_value(&process)).unwrap();
        assert!(is_whole && read == process);
    }
}
