//! Writing a store from the records of an archive.
//!
//! META says *partial* from before the first change until everything is there: no server uses the store meanwhile, and
//! a restore that was interrupted is begun again. The store gets a new epoch, under which no cursor, page stamp or
//! checkpoint of the former one counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::DataKey;
use crate::domain::{AssetId, Chunk, File, FileLocation};
use crate::limits::{EPOCH_CHECK_TTL, WRITE_DEADLINE};
use crate::nats::{Commit, Nats, Outcome, Publish, PublishError};
use crate::runtime::Clock;
use crate::storage::encoding::{decode, decode_known, decode_value, encode, encode_value};
use crate::storage::error::StorageError;
use crate::storage::export::{ArchivedRecord, ArchivedStream};
use crate::storage::files::{FileRecord, key_subject, subject};
use crate::storage::kv::keys::{Keys, erase_key};
use crate::storage::kv::{self, bucket_get_known};
use crate::storage::layout::{LAYOUT, META, Missing, STREAMS, StreamSpec, stream, stream_list};
use crate::storage::open::{self, META_SUBJECT, OpenError, new_meta, read_meta};
use crate::storage::records::{Event, Meta, MetaState, ServerConfig, User};
use crate::storage::state::key::StateKey;

const USERS: &str = "$KV.STATE.user.";
/// Tombstones of accounts, by user id: here from before STATE is emptied until they are in it again.
const KEPT_DELETED_USERS: &str = "$KV.META.deleted_user.";

/// The store that an archive was made of.
#[derive(Debug, Clone)]
pub struct Source {
    pub server_id: String,
    /// The number of the archive.
    pub sequence: u64,
}

/// What is in a store before a restore.
#[derive(Debug, Clone, Default)]
pub struct Present {
    /// Bare names of the streams that an archive would fill. Without those that an interrupted restore was writing.
    pub streams: Vec<&'static str>,
    /// The store's server id; empty if it has none.
    pub server_id: String,
}

impl Present {
    /// What nats-server's files in the folder of its streams say, and the marker of the store. It may be running, or not.
    ///
    /// # Errors
    /// The system's error.
    pub fn on_disk(store: &Path, marker: &Path) -> std::io::Result<Self> {
        // nats-server leaves out its own folder where the name of the given one is the same.
        let places = ["$G/streams", "jetstream/$G/streams"].map(|place| store.join(place));
        let mut present = Self::default();
        for spec in STREAMS.iter().filter(|spec| is_filled(spec)) {
            for place in &places {
                if place.join(spec.stream_name()).try_exists()? {
                    present.streams.push(spec.name);
                    break;
                }
            }
        }
        present.server_id = open::marked_server(marker)?.unwrap_or_default();
        Ok(present)
    }
}

/// What of a store outlives a restore over it.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    meta: Option<Meta>,
    /// Subjects and records of ENCRYPTION_KEYS.
    keys: Vec<(String, Bytes)>,
    /// Subjects and records of deleted accounts: an archive that is older than the deletion must not bring them back.
    deleted_users: Vec<(String, Bytes)>,
}

impl Kept {
    /// Reads it from a store that is about to be replaced.
    pub async fn read(nats: &Nats) -> Result<Self, StorageError> {
        let mut kept = Self::default();
        if nats.stream(stream::META).await?.is_some() {
            kept.meta = bucket_get_known(nats, stream::META, META_SUBJECT).await?.0;
        }
        if nats.stream(stream::ENCRYPTION_KEYS).await?.is_some() {
            let mut keys = HashMap::new();
            kv::each_entry_to_end(nats, stream::ENCRYPTION_KEYS, |subject, record| {
                keys.insert(subject.to_owned(), Bytes::copy_from_slice(record));
            })
            .await?;
            kept.keys = keys.into_iter().collect();
        }
        kept.read_deleted_users(nats).await?;
        Ok(kept)
    }

    /// Those of META are of a restore that was interrupted, which may have emptied STATE.
    async fn read_deleted_users(&mut self, nats: &Nats) -> Result<(), StorageError> {
        let mut deleted = BTreeMap::new();
        if self.meta.is_some() {
            kv::each_entry_to_end(nats, stream::META, |subject, record| {
                if let Some(id) = subject.strip_prefix(KEPT_DELETED_USERS) {
                    deleted.insert(format!("{USERS}{id}"), Bytes::copy_from_slice(record));
                }
            })
            .await?;
        }
        if nats.stream(stream::STATE).await?.is_some() {
            kv::each_entry_to_end(nats, stream::STATE, |subject, record| {
                let is_deleted = || decode::<User>(record).is_ok_and(|user| user.deleted);
                if subject.starts_with(USERS) && is_deleted() {
                    deleted.insert(subject.to_owned(), Bytes::copy_from_slice(record));
                }
            })
            .await?;
        }
        self.deleted_users = deleted.into_iter().collect();
        Ok(())
    }

    /// Whether the store has the id of the `core.secret_key` that it belongs to. One that has none yet gets it at its next
    /// start, like a new one.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        self.meta.as_ref().is_some_and(|meta| !meta.kek_id.is_empty())
    }

    /// How many accounts were deleted.
    #[must_use]
    pub fn deleted_users(&self) -> usize {
        self.deleted_users.len()
    }
}

/// A store that is being written. Dropping it leaves it *partial*.
pub struct Import {
    nats: Nats,
    clock: Clock,
    replicas: usize,
    source: Source,
    /// The last sequence of each room's journal.
    journal: HashMap<String, u64>,
    kept: Kept,
    /// The subjects of the keys that users need to write and to read what they wrote last.
    needed_keys: HashSet<String>,
    /// Ids of users whose accounts are deleted in the archive.
    deleted_users: HashSet<String>,
}

/// What a restored store lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Users whose key is not there: their messages cannot be read until it is imported.
    pub keys: usize,
}

impl Import {
    /// What is there. Writes nothing.
    pub async fn present(nats: &Nats) -> Result<Present, StorageError> {
        let (mut present, mut unfinished) = (Present::default(), Vec::new());
        if nats.stream(stream::META).await?.is_some()
            && let Some(meta) = read_meta(nats).await?.0
        {
            if meta.state() == MetaState::Partial {
                unfinished = meta.restoring;
            }
            present.server_id = meta.server_id;
        }
        let counts = |spec: &&StreamSpec| {
            is_filled(spec) && !unfinished.iter().any(|name| name == spec.name)
        };
        for spec in STREAMS.iter().filter(counts) {
            if nats.stream(&spec.stream_name()).await?.is_some() {
                present.streams.push(spec.name);
            }
        }
        Ok(present)
    }

    /// Begins to write: META says that the store is not complete, and that these streams, by bare name, may be deleted.
    /// They are created or emptied one by one.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn begin(
        (nats, clock): (&Nats, &Clock),
        replicas: usize,
        (source, kept, wanted): (Source, Kept, &[&str]),
    ) -> Result<Self, OpenError> {
        let import = Self {
            nats: nats.clone(),
            clock: clock.clone(),
            replicas,
            source,
            journal: HashMap::new(),
            kept,
            needed_keys: HashSet::new(),
            deleted_users: HashSet::new(),
        };
        // Its owner comes after its record: a complete store whose META has another owner would be refused.
        if let (None, Some(spec)) = (nats.stream(stream::META).await?, spec(META)) {
            nats.create_stream(&spec.config(replicas, "")).await?;
        }
        let former = import.kept.meta.clone().unwrap_or_default();
        let begin = |meta: Option<Meta>| {
            let server_id = import.source.server_id.clone();
            let mut meta = meta.unwrap_or_else(|| new_meta(server_id.clone(), clock));
            meta.server_id = server_id;
            meta.kek_id.clone_from(&former.kek_id);
            meta.backup_sequence = meta.backup_sequence.max(former.backup_sequence);
            meta.least_writer = meta.least_writer.max(former.least_writer);
            meta.restoring = wanted.iter().map(|name| (*name).to_owned()).collect();
            meta.set_state(MetaState::Partial);
            Some(meta)
        };
        open::put_meta(nats, clock, begin).await?;
        import.own_stream(META).await?;
        import.keep_deleted_users().await?;
        import.own_stream("ENCRYPTION_KEYS").await?;
        for (subject, payload) in &import.kept.keys {
            if nats.leader_newest(stream::ENCRYPTION_KEYS, subject).await?.is_none() {
                let payload = payload.clone();
                import.store(Publish { subject, payload, ..Publish::default() }).await?;
            }
        }
        Ok(import)
    }

    /// Stores the tombstones of accounts where no restore deletes them, so that one that is interrupted can be repeated.
    async fn keep_deleted_users(&self) -> Result<(), StorageError> {
        for (subject, payload) in &self.kept.deleted_users {
            let Some(id) = subject.strip_prefix(USERS) else { continue };
            let (subject, payload) = (format!("{KEPT_DELETED_USERS}{id}"), payload.clone());
            self.store(Publish { subject: &subject, payload, ..Publish::default() }).await?;
        }
        Ok(())
    }

    /// Waits until every process that was using the store has noticed: none writes later than [`EPOCH_CHECK_TTL`] after
    /// it last found the store complete. Where several processes may share the store, a restore over it waits before
    /// it deletes or creates an archived stream. `announce` takes how long that is; it is not called where there is
    /// nothing to wait for.
    pub async fn wait_for_writers(&self, announce: impl FnOnce(Duration)) {
        if self.kept.meta.is_some() {
            announce(EPOCH_CHECK_TTL);
            self.clock.sleep(EPOCH_CHECK_TTL).await;
        }
    }

    /// Creates an archived stream, or ASSETS, empty.
    pub async fn create(&self, name: &str) -> Result<(), OpenError> {
        if let Some(spec) = spec(name) {
            self.nats.delete_stream(&spec.stream_name()).await?;
        }
        self.own_stream(name).await
    }

    /// Creates the stream, or gives an existing one the settings and the owner of this store.
    async fn own_stream(&self, name: &str) -> Result<(), OpenError> {
        let Some(spec) = spec(name) else { return Ok(()) };
        let config = spec.config(self.replicas, &self.source.server_id);
        match self.nats.stream(&config.name).await? {
            None => self.nats.create_stream(&config).await?,
            Some(_) => self.nats.update_stream(&config).await?,
        };
        Ok(())
    }

    /// Writes a record. Of one subject the last counts.
    ///
    /// # Errors
    /// [`StorageError`]; `Corrupt` when it is no record of this stream.
    pub async fn put(
        &mut self,
        stream: ArchivedStream,
        record: &ArchivedRecord,
    ) -> Result<(), StorageError> {
        let subject = record.subject.as_str();
        let payload = match stream {
            ArchivedStream::Journal => return self.append(record).await,
            ArchivedStream::State => match self.state(record)? {
                Some(payload) => payload,
                None => return Ok(()),
            },
            ArchivedStream::Files if !record.deleted => file_record(record)?,
            ArchivedStream::Files
            | ArchivedStream::Pages
            | ArchivedStream::Notifications
            | ArchivedStream::ReadMarkers => record.data.clone(),
        };
        self.store(Publish {
            subject,
            payload,
            ttl: record.ttl,
            tombstone: record.deleted,
            ..Publish::default()
        })
        .await
    }

    /// Appends an event. Its stamp named a revision of a STATE that is gone.
    async fn append(&mut self, record: &ArchivedRecord) -> Result<(), StorageError> {
        let payload = match decode_known::<Event>(&record.data) {
            Ok(event) => encode(&Event { state_revision: 0, ..event }),
            // Its room was held because of it, and will be again.
            Err(_) => record.data.clone(),
        };
        let last = self.journal.get(&record.subject).copied().unwrap_or(0);
        let message = Publish {
            subject: &record.subject,
            payload,
            expected_last: Some(last),
            ..Publish::default()
        };
        let deadline = self.clock.now() + WRITE_DEADLINE;
        let commit = Commit { nats: &self.nats, clock: &self.clock };
        let sequence = match commit.outcome(message, deadline).await? {
            Outcome::Stored(ack) => ack.sequence,
            // Nobody else writes: an attempt before had no reply.
            Outcome::Conflict { after_unknown: true } => {
                let newest = self.nats.leader_newest(stream::JOURNAL, &record.subject).await?;
                newest.ok_or(StorageError::LATE)?.sequence
            }
            Outcome::Conflict { after_unknown: false } => return Err(StorageError::Busy),
        };
        self.journal.insert(record.subject.clone(), sequence);
        Ok(())
    }

    /// A record of STATE; `None`: not one that an archive restores.
    fn state(&mut self, record: &ArchivedRecord) -> Result<Option<Bytes>, StorageError> {
        let key = record.subject.strip_prefix("$KV.STATE.").unwrap_or_default();
        let corrupt = StorageError::Corrupt { what: stream::STATE, source: None };
        let key: StateKey = key.parse().map_err(|_| corrupt)?;
        if key.is_volatile() {
            return Ok(None);
        }
        if let StateKey::User(id) = &key {
            let user: Option<User> = decode(&record.data).ok();
            if user.as_ref().is_some_and(|user| user.deleted) {
                self.deleted_users.insert(id.to_string());
            }
            let key_id = user.filter(|user| !user.deleted).map(|user| user.active_key_id);
            let key_id = key_id.filter(|key_id| !key_id.is_empty());
            self.needed_keys.extend(key_id.map(|key_id| Keys::subject(id, &key_id)));
        }
        if key != StateKey::ServerSettings || record.deleted {
            return Ok(Some(record.data.clone()));
        }
        let config: ServerConfig =
            decode_known(&record.data).map_err(StorageError::corrupt(stream::STATE))?;
        // A revision of the former STATE.
        Ok(Some(encode(&ServerConfig { purged_upto: 0, ..config })))
    }

    /// Stores a message that does no harm when it is stored twice: repeated while the outcome is unknown.
    async fn store(&self, message: Publish<'_>) -> Result<(), StorageError> {
        let deadline = self.clock.now() + WRITE_DEADLINE;
        let commit = Commit { nats: &self.nats, clock: &self.clock };
        match commit.outcome(message, deadline).await? {
            Outcome::Stored(_) => Ok(()),
            Outcome::Conflict { .. } => Err(PublishError::WrongLastSequence.into()),
        }
    }

    /// The file of an id, as the archive's FILES has it.
    pub async fn file(&self, id: &AssetId) -> Result<Option<File>, StorageError> {
        let found = self.nats.leader_newest(stream::FILES, &subject(id)).await?;
        let Some(stored) = found else { return Ok(None) };
        let (record, _) = decode_value::<FileRecord>(&stored.payload)
            .map_err(StorageError::corrupt(stream::FILES))?;
        Ok(Some(record.file))
    }

    /// Stores where the bytes of a file are now, and a new key of its own; an encrypted one has its key.
    pub async fn put_file(&self, file: &File, key: Option<&DataKey>) -> Result<(), StorageError> {
        if let Some(key) = key {
            let (subject, payload) = (key_subject(&file.id), key.expose().to_vec().into());
            self.store(Publish { subject: &subject, payload, ..Publish::default() }).await?;
        }
        let (subject, record) = (subject(&file.id), FileRecord { file: file.clone(), replaced: 0 });
        self.erase_former(&subject).await?;
        let payload = encode_value(&record);
        self.store(Publish { subject: &subject, payload, ..Publish::default() }).await
    }

    /// Erases the record without places, so that none is left when the file is deleted one day.
    async fn erase_former(&self, subject: &str) -> Result<(), StorageError> {
        if let Some(former) = self.nats.leader_newest(stream::FILES, subject).await? {
            self.nats.erase(stream::FILES, former.sequence).await?;
        }
        Ok(())
    }

    /// Ids of users whose accounts are deleted in the archive, or were in the former store.
    fn all_deleted_users(&self) -> HashSet<&str> {
        let kept = self.kept.deleted_users.iter();
        let kept = kept.filter_map(|(subject, _)| subject.strip_prefix(USERS));
        kept.chain(self.deleted_users.iter().map(String::as_str)).collect()
    }

    /// Erases the keys that the store has of deleted accounts: it may be older than the deletion, or whoever made it may
    /// have been interrupted.
    async fn erase_keys_of_deleted_users(&self) -> Result<(), StorageError> {
        let deleted = self.all_deleted_users();
        for (subject, _) in &self.kept.keys {
            if !user_of_key(subject).is_some_and(|user| deleted.contains(user)) {
                continue;
            }
            let newest = self.nats.leader_newest(stream::ENCRYPTION_KEYS, subject).await?;
            if let Some(key) = newest.filter(|key| !key.is_tombstone()) {
                erase_key(&self.nats, &key).await?;
            }
        }
        Ok(())
    }

    /// Creates what is missing, repeats deletions of accounts, and lets servers use the store.
    pub async fn finish(self) -> Result<Lacking, OpenError> {
        for spec in STREAMS {
            match spec.missing {
                Missing::IsCreatedAgain => self.create(spec.name).await?,
                Missing::IsDamage => self.own_stream(spec.name).await?,
            }
        }
        for (subject, payload) in &self.kept.deleted_users {
            let payload = payload.clone();
            self.store(Publish { subject, payload, ..Publish::default() }).await?;
        }
        if !self.kept.deleted_users.is_empty() {
            self.nats.purge_subject(stream::META, &format!("{KEPT_DELETED_USERS}*")).await?;
        }
        self.erase_keys_of_deleted_users().await?;
        let mut lacking = Lacking::default();
        let deleted = self.all_deleted_users();
        let is_wanted =
            |subject: &&String| !user_of_key(subject).is_some_and(|user| deleted.contains(user));
        for subject in self.needed_keys.iter().filter(is_wanted) {
            let present = self.nats.leader_newest(stream::ENCRYPTION_KEYS, subject).await?;
            lacking.keys += usize::from(present.is_none_or(|key| key.is_tombstone()));
        }
        open::change_meta(&self.nats, &self.clock, |meta| {
            meta.epoch = crate::crypto::random::<16>().to_vec().into();
            meta.layout = LAYOUT;
            meta.backup_sequence = meta.backup_sequence.max(self.source.sequence);
            meta.streams = stream_list();
            meta.restoring = Vec::new();
            meta.set_state(MetaState::Ready);
        })
        .await?;
        Ok(lacking)
    }
}

/// The id of the user that a key belongs to.
fn user_of_key(subject: &str) -> Option<&str> {
    subject.strip_prefix("$KV.ENCRYPTION_KEYS.user.")?.split('.').next()
}

/// Whether a restore fills this stream.
fn is_filled(spec: &StreamSpec) -> bool {
    spec.stream_name() == stream::ASSETS || ArchivedStream::named(spec.name).is_some()
}

fn spec(name: &str) -> Option<&'static StreamSpec> {
    STREAMS.iter().find(|spec| spec.name == name)
}

/// A record of FILES: its chunks are not there yet. Keys are as they were.
fn file_record(record: &ArchivedRecord) -> Result<Bytes, StorageError> {
    if record.subject.ends_with(".key") {
        return Ok(record.data.clone());
    }
    let (found, _) =
        decode_value::<FileRecord>(&record.data).map_err(StorageError::corrupt(stream::FILES))?;
    let location = match found.file.location {
        FileLocation::Nats(chunks) => FileLocation::Nats(unplaced(chunks)),
        FileLocation::S3 => FileLocation::S3,
    };
    let file = File { location, ..found.file };
    Ok(encode_value(&FileRecord { file, replaced: 0 }))
}

/// The lengths stay: the ciphertext of an encrypted file is in pieces of these lengths.
fn unplaced(chunks: Vec<Chunk>) -> Vec<Chunk> {
    chunks.into_iter().map(|chunk| Chunk { sequence: 0, ..chunk }).collect()
}
