//! The keys of users outside an open store: what `keys export` reads, what `keys import` adds, and what an export
//! holds already.
//!
//! An import adds records, or wrappings to records; it replaces nothing, and removes only keys of deleted accounts. It
//! knows nothing of files.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::{BufMut, Bytes, BytesMut};

use crate::crypto::{DataKey, KekId, KeyEncryptionKey};
use crate::domain::UserId;
use crate::nats::{BatchRead, Nats, StoredMessage};
use crate::runtime::Clock;
use crate::storage::encoding::{decode, decode_known, encode};
use crate::storage::error::StorageError;
use crate::storage::kv::keys::{Keys, key_number, unwrap, wrap};
use crate::storage::kv::{self, CHANGE_ATTEMPTS, Entry, bucket_get, bucket_get_known};
use crate::storage::layout::stream;
use crate::storage::open::{self, OpenError};
use crate::storage::records::{KeyTransfers, User, WrappedKey};

/// What `keys export` and `keys import` have done.
const TRANSFERS_SUBJECT: &str = "$KV.META.keys";
/// Published to every process when keys were added.
pub(crate) const KEYS_SUBJECT: &str = "live.keys";
const USERS: &str = "$KV.STATE.user.";
const USER_KEYS: &str = "$KV.ENCRYPTION_KEYS.user.";

/// A data key of a user.
#[derive(Debug, Clone)]
pub struct StoredKey {
    pub user: UserId,
    /// As [`is_key_id`] says.
    pub key_id: String,
    /// Whether the user's new messages are encrypted with it.
    pub is_active: bool,
    pub key: DataKey,
}

/// The keys of a store, read without opening it.
#[derive(Clone, Copy)]
pub struct KeyStore<'a> {
    pub nats: &'a Nats,
    pub clock: &'a Clock,
}

/// What an import finds.
#[derive(Debug, Clone)]
pub struct KeyStoreFound {
    pub server_id: String,
    /// Of the `core.secret_key` that wraps its keys; `None`: none is written yet.
    pub kek_id: Option<KekId>,
    /// There is an account, deleted ones included.
    pub has_accounts: bool,
    /// Subjects of the keys of users.
    keys: HashSet<String>,
}

impl KeyStoreFound {
    /// Whether there is neither an account nor a key, except for keys that are among these.
    #[must_use]
    pub fn is_empty_besides(&self, keys: &[StoredKey]) -> bool {
        let given: HashSet<String> =
            keys.iter().map(|key| Keys::subject(&key.user, &key.key_id)).collect();
        !self.has_accounts && self.keys.is_subset(&given)
    }
}

/// The keys of a store for an export.
#[derive(Debug)]
pub struct KeysRead {
    pub server_id: String,
    pub keys: Vec<StoredKey>,
    /// Keys that no present secret unwraps: an earlier `core.secret_key` was lost.
    pub unreadable: usize,
    pub unexported: Unexported,
}

/// What would be lost with the store, although an archive of its data exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unexported {
    /// People with a key that no export holds.
    pub people: usize,
    /// When the oldest of these keys was made, in milliseconds since 1970.
    pub oldest_ms: Option<i64>,
    /// People whose key is not in the store, as after a restore: their messages cannot be read until it is imported.
    pub missing: usize,
    /// When the newest export was made, in milliseconds since 1970; `None`: never.
    pub exported_ms: Option<i64>,
}

/// What an import did, in keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeysImported {
    pub imported: usize,
    pub present: usize,
    /// Of deleted accounts.
    pub refused: usize,
    /// Keys of the store that the present secret still does not unwrap.
    pub unreadable: usize,
}

/// What the keys of a store say about their users.
#[derive(Default)]
struct Users(HashMap<UserId, UserState>);

struct UserState {
    active_key_id: String,
    deleted: bool,
}

impl Users {
    fn is_deleted(&self, user: &UserId) -> bool {
        self.0.get(user).is_some_and(|user| user.deleted)
    }

    /// The subjects of the keys that accounts write with.
    fn active_keys(&self) -> impl Iterator<Item = String> {
        let users =
            self.0.iter().filter(|(_, user)| !user.deleted && !user.active_key_id.is_empty());
        users.map(|(id, user)| Keys::subject(id, &user.active_key_id))
    }

    fn is_active(&self, user: &UserId, key_id: &str) -> bool {
        self.0.get(user).is_some_and(|user| user.active_key_id == key_id)
    }
}

impl KeyStore<'_> {
    /// What is there; `None`: no store. Writes nothing.
    ///
    /// # Errors
    /// [`OpenError`]: the store is damaged, or a newer program's.
    pub async fn find(self) -> Result<Option<KeyStoreFound>, OpenError> {
        let Some(meta) = open::meta_for_keys(self.nats).await? else { return Ok(None) };
        Ok(Some(KeyStoreFound {
            server_id: meta.server_id,
            kek_id: KekId::from_slice(&meta.kek_id),
            has_accounts: !self.users().await?.0.is_empty(),
            keys: self.records().await?.into_keys().collect(),
        }))
    }

    /// Every key of accounts that are not deleted, unwrapped by one of these.
    ///
    /// # Errors
    /// [`StorageError`]
    pub async fn read(
        self,
        found: &KeyStoreFound,
        keks: &[KeyEncryptionKey],
    ) -> Result<KeysRead, StorageError> {
        let records = self.records().await?;
        // After the keys: the tombstone of an account is older than the erasure of its keys.
        let users = self.users().await?;
        let (mut keys, mut unreadable) = (Vec::new(), 0);
        for stored in records.values() {
            let record = record(stored)?;
            let user = owner(&record)?;
            if users.is_deleted(&user) {
                continue;
            }
            let mut key = None;
            for kek in keks {
                key = match key {
                    None => unwrap(kek, &record, &user)?,
                    found => found,
                };
            }
            let Some(key) = key else {
                unreadable += 1;
                continue;
            };
            let is_active = users.is_active(&user, &record.key_id);
            keys.push(StoredKey { user, key_id: record.key_id, is_active, key });
        }
        let unexported = self.unexported_of(&records, &users).await?;
        Ok(KeysRead { server_id: found.server_id.clone(), keys, unreadable, unexported })
    }

    /// How many people would lose messages.
    ///
    /// # Errors
    /// [`StorageError`]
    pub async fn unexported(self) -> Result<Unexported, StorageError> {
        // Before the keys: an account names a key that is stored.
        let users = self.users().await?;
        let records = self.records().await?;
        self.unexported_of(&records, &users).await
    }

    async fn unexported_of(
        self,
        records: &BTreeMap<String, StoredMessage>,
        users: &Users,
    ) -> Result<Unexported, StorageError> {
        let (transfers, _) = self.transfers().await?;
        let transfers = transfers.unwrap_or_default();
        let exported: HashSet<u64> = numbers(&transfers.exported_ids).collect();
        let (mut people, mut oldest_ms) = (HashSet::new(), None::<i64>);
        for (subject, stored) in records {
            let of_user = subject.strip_prefix(USER_KEYS).and_then(|key| key.split_once('.'));
            let Some((user, key_id)) = of_user else { continue };
            if key_number(key_id).is_some_and(|id| exported.contains(&id)) {
                continue;
            }
            people.insert(user);
            let made_ms = record(stored)?.created_ms;
            oldest_ms = Some(oldest_ms.map_or(made_ms, |oldest| oldest.min(made_ms)));
        }
        let exported_ms = Some(transfers.exported_ms).filter(|ms| *ms > 0);
        let missing = users.active_keys().filter(|subject| !records.contains_key(subject)).count();
        Ok(Unexported { people: people.len(), oldest_ms, missing, exported_ms })
    }

    /// Notes that an export holds these keys. Of those noted before, the ones that are still there stay.
    ///
    /// # Errors
    /// [`StorageError`]
    pub async fn note_export(self, keys: &[StoredKey]) -> Result<(), StorageError> {
        let present: HashSet<u64> = self
            .records()
            .await?
            .keys()
            .filter_map(|subject| key_number(subject.rsplit('.').next()?))
            .collect();
        let now = self.clock.unix_ms();
        self.change_transfers(|transfers| {
            let former = numbers(&transfers.exported_ids).filter(|id| present.contains(id));
            let exported = keys.iter().filter_map(|key| key_number(&key.key_id));
            let mut ids: Vec<u64> = former.chain(exported).collect();
            ids.sort_unstable();
            ids.dedup();
            let mut bytes = BytesMut::with_capacity(ids.len().saturating_mul(8));
            ids.into_iter().for_each(|id| bytes.put_u64(id));
            transfers.exported_ids = bytes.freeze();
            transfers.exported_ms = now;
        })
        .await
    }

    /// Creates what an import needs where it is absent: META, for a store that is not complete, and ENCRYPTION_KEYS.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn prepare_import(self, server_id: &str, replicas: usize) -> Result<(), OpenError> {
        open::create_for_keys((self.nats, self.clock), server_id, replicas).await
    }

    /// Adds the keys that are absent by user and key id or that this secret does not read, and makes this secret the
    /// store's.
    ///
    /// # Errors
    /// [`OpenError`]; what was added stays.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn import(
        self,
        keys: &[StoredKey],
        kek: &KeyEncryptionKey,
    ) -> Result<KeysImported, OpenError> {
        let mut counts = KeysImported::default();
        let users = self.users().await?;
        let newest = self.newest_keys().await?;
        let mut added = Vec::new();
        let mut to_erase = HashSet::new();
        for key in keys {
            let former = newest.get(&Keys::subject(&key.user, &key.key_id));
            if users.is_deleted(&key.user) {
                counts.refused += 1;
                // An import that was killed while the account was being deleted has added it.
                to_erase.extend(former.filter(|stored| !stored.is_tombstone()).map(|_| key.user));
                continue;
            }
            if self.add(key, former, kek).await? {
                counts.imported += 1;
                added.push(key);
            } else {
                counts.present += 1;
            }
        }
        counts = self.withdraw_deleted((&added, to_erase), kek, counts).await?;
        if counts.imported > 0 {
            self.change_transfers(|transfers| transfers.imports += 1).await?;
        }
        // Last: from here on the store belongs to this secret.
        open::set_kek_id((self.nats, self.clock), kek.id()).await?;
        for stored in self.records().await?.values() {
            let record = record(stored)?;
            counts.unreadable += usize::from(!has_wrapping(&record, kek.id()));
        }
        if counts.imported > 0 {
            self.nats.send(KEYS_SUBJECT, Bytes::new()).await.map_err(StorageError::from)?;
            // A reply on the same connection shows that it is with the server.
            self.nats.stream(stream::META).await?;
        }
        Ok(counts)
    }

    /// Adds one key, or to its record a wrapping by this secret; `false`: it is there, and this secret reads it.
    async fn add(
        self,
        key: &StoredKey,
        former: Option<&StoredMessage>,
        kek: &KeyEncryptionKey,
    ) -> Result<bool, StorageError> {
        let subject = Keys::subject(&key.user, &key.key_id);
        let wrapping = wrap(kek, &key.key, &key.user, &key.key_id);
        let live = former.filter(|stored| !stored.is_tombstone());
        let Some(stored) = live else {
            let new = WrappedKey {
                user_id: key.user.as_str().to_owned(),
                key_id: key.key_id.clone(),
                wrappings: vec![wrapping],
                created_ms: self.clock.unix_ms(),
                replaced: 0,
            };
            let revision = former.map(|stored| stored.sequence).unwrap_or_default();
            let entry = Entry { subject: &subject, payload: encode(&new), revision };
            return kv::put(self.nats, self.clock, entry, None).await;
        };
        if has_wrapping(&record(stored)?, kek.id()) {
            return Ok(false);
        }
        let mut record: WrappedKey =
            decode_known(&stored.payload).map_err(StorageError::corrupt("ENCRYPTION_KEYS"))?;
        if record.replaced > 0 {
            self.nats.erase(stream::ENCRYPTION_KEYS, record.replaced).await?;
        }
        record.wrappings.push(wrapping);
        record.replaced = stored.sequence;
        let revision = stored.sequence;
        let entry = Entry { subject: &subject, payload: encode(&record), revision };
        if !kv::put(self.nats, self.clock, entry, None).await? {
            return Ok(false);
        }
        self.nats.erase(stream::ENCRYPTION_KEYS, stored.sequence).await?;
        Ok(true)
    }

    /// Erases what was added for accounts that were deleted meanwhile, and the keys of these other ones.
    async fn withdraw_deleted(
        self,
        (added, mut to_erase): (&[&StoredKey], HashSet<UserId>),
        kek: &KeyEncryptionKey,
        mut counts: KeysImported,
    ) -> Result<KeysImported, StorageError> {
        if !added.is_empty() {
            let users = self.users().await?;
            for key in added.iter().filter(|key| users.is_deleted(&key.user)) {
                counts.imported -= 1;
                counts.refused += 1;
                to_erase.insert(key.user);
            }
        }
        let keys = Keys::new((self.nats.clone(), self.clock.clone()), kek.clone());
        for user in to_erase {
            keys.shred(&user).await?;
        }
        Ok(counts)
    }

    /// How often keys were imported into this store.
    pub(crate) async fn imports(self) -> Result<u64, StorageError> {
        let (transfers, _) = self.transfers().await?;
        Ok(transfers.unwrap_or_default().imports)
    }

    async fn transfers(self) -> Result<(Option<KeyTransfers>, u64), StorageError> {
        bucket_get(self.nats, stream::META, TRANSFERS_SUBJECT).await
    }

    async fn change_transfers(
        self,
        mut change: impl FnMut(&mut KeyTransfers),
    ) -> Result<(), StorageError> {
        for _ in 0..CHANGE_ATTEMPTS {
            let (found, revision) =
                bucket_get_known::<KeyTransfers>(self.nats, stream::META, TRANSFERS_SUBJECT)
                    .await?;
            let mut transfers = found.unwrap_or_default();
            change(&mut transfers);
            let payload = encode(&transfers);
            let entry = Entry { subject: TRANSFERS_SUBJECT, payload, revision };
            if kv::put(self.nats, self.clock, entry, None).await? {
                return Ok(());
            }
        }
        Err(StorageError::LATE)
    }

    /// The accounts; none where there is no STATE.
    async fn users(self) -> Result<Users, StorageError> {
        let mut users = Users::default();
        let mut failed = None;
        self.each(stream::STATE, |stored| {
            if !stored.subject.starts_with(USERS) || stored.is_tombstone() {
                return;
            }
            match decode::<User>(&stored.payload).map_err(StorageError::corrupt("STATE")) {
                Ok(User { id, active_key_id, deleted, .. }) => {
                    if let Ok(id) = UserId::try_from(id.as_str()) {
                        users.0.insert(id, UserState { active_key_id, deleted });
                    }
                }
                Err(error) => failed = Some(error),
            }
        })
        .await?;
        failed.map_or(Ok(users), Err)
    }

    /// The records of all keys of users, by subject.
    async fn records(self) -> Result<BTreeMap<String, StoredMessage>, StorageError> {
        let mut newest = self.newest_keys().await?;
        newest.retain(|_, stored| !stored.is_tombstone());
        Ok(newest)
    }

    /// The newest message of every key of a user, tombstones included.
    async fn newest_keys(self) -> Result<BTreeMap<String, StoredMessage>, StorageError> {
        let mut newest = BTreeMap::new();
        self.each(stream::ENCRYPTION_KEYS, |stored| {
            if stored.subject.starts_with(USER_KEYS) {
                newest.insert(stored.subject.clone(), stored);
            }
        })
        .await?;
        Ok(newest)
    }

    /// Shows every message of a stream, in order, up to the end that its leader knows. None where the stream is
    /// absent.
    async fn each(
        self,
        stream: &str,
        mut each: impl FnMut(StoredMessage) + Send,
    ) -> Result<(), StorageError> {
        if self.nats.stream(stream).await?.is_none() {
            return Ok(());
        }
        let mut sequence = 1;
        loop {
            let batch = self.nats.read(stream, BatchRead::From { sequence, count: 512 }).await?;
            let mut messages = batch.messages;
            if messages.is_empty() {
                // A replica may lag behind.
                messages.extend(self.nats.leader_from(stream, sequence).await?);
            }
            let Some(last) = messages.last() else { return Ok(()) };
            sequence = last.sequence.saturating_add(1);
            messages.into_iter().for_each(&mut each);
        }
    }
}

/// Whether a text is a key's id as this program makes them: 16 lower-case hexadecimal digits.
#[must_use]
pub fn is_key_id(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 16 && text.bytes().all(is_digit)
}

fn record(stored: &StoredMessage) -> Result<WrappedKey, StorageError> {
    decode(&stored.payload).map_err(StorageError::corrupt("ENCRYPTION_KEYS"))
}

fn owner(record: &WrappedKey) -> Result<UserId, StorageError> {
    UserId::try_from(record.user_id.as_str())
        .map_err(|_| StorageError::Corrupt { what: "ENCRYPTION_KEYS", source: None })
}

fn has_wrapping(record: &WrappedKey, kek: KekId) -> bool {
    record.wrappings.iter().any(|wrapping| wrapping.kek_id == kek.0[..])
}

fn numbers(ids: &[u8]) -> impl Iterator<Item = u64> {
    let (ids, _) = ids.as_chunks::<8>();
    ids.iter().map(|id| u64::from_be_bytes(*id))
}
