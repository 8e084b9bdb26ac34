//! Data keys: message bodies are sealed per author, and erasing an author's keys makes them unreadable.
//!
//! A key record holds the data key wrapped by the key-encryption key (KEK) of `core.secret_key`, one
//! wrapping per KEK. Records are erased, not merely overwritten: overwriting leaves bytes on disk.

use lru::LruCache;
use parking_lot::Mutex;

use crate::crypto::{DataKey, KekId, KeyEncryptionKey, hex};
use crate::domain::timeline::Sealed;
use crate::domain::{EventId, RoomId, UserId};
use crate::limits::KEY_CACHE_MAX;
use crate::nats::{
    BatchRead, Nats, Publish, PublishError, ReadPurpose, StoredMessage, WritesRefused,
};
use crate::runtime::Clock;
use crate::storage::capacity;
use crate::storage::encoding::{decode, decode_known, encode};
use crate::storage::error::StorageError;
use crate::storage::layout::stream;
use crate::storage::records::{WrappedKey, Wrapping};

/// The version of the associated data and cipher of sealed bodies.
const SEALED_VERSION: u32 = 1;

/// ENCRYPTION_KEYS.
pub(crate) struct Keys {
    nats: Nats,
    clock: Clock,
    kek: KeyEncryptionKey,
    cache: Mutex<LruCache<KeyName, DataKey>>,
}

/// A key's owner and its id, 16 hexadecimal digits.
type KeyName = (UserId, u64);

impl Keys {
    pub(crate) fn new((nats, clock): (Nats, Clock), kek: KeyEncryptionKey) -> Self {
        Self { nats, clock, kek, cache: Mutex::new(LruCache::new(capacity(KEY_CACHE_MAX))) }
    }

    pub(crate) fn subject(user: &UserId, key_id: &str) -> String {
        format!("$KV.ENCRYPTION_KEYS.user.{user}.{key_id}")
    }

    /// Makes and stores a new data key for a user; returns its id.
    pub(crate) async fn create(&self, user: &UserId) -> Result<String, StorageError> {
        let key = DataKey::generate();
        let key_id = hex(&crate::crypto::random::<8>());
        let record = WrappedKey {
            user_id: user.as_str().to_owned(),
            key_id: key_id.clone(),
            wrappings: vec![wrap(&self.kek, &key, user, &key_id)],
            created_ms: self.clock.unix_ms(),
            replaced: 0,
        };
        let message = Publish {
            subject: &Self::subject(user, &key_id),
            payload: encode(&record),
            expected_last: Some(0),
            ..Publish::default()
        };
        self.nats.publish(message).await?;
        if let Some(name) = name(user, &key_id) {
            self.lock().put(name, key);
        }
        Ok(key_id)
    }

    /// A user's data key, from the cache or as [`Nats::newest_for`]. `None`: there is no such key (shredded), or
    /// none of its wrappings is for the present KEK.
    pub(crate) async fn get(
        &self,
        user: &UserId,
        key_id: &str,
        purpose: ReadPurpose,
    ) -> Result<Option<DataKey>, StorageError> {
        let Some(name) = name(user, key_id) else { return Ok(None) };
        if let Some(key) = self.lock().get(&name) {
            return Ok(Some(key.clone()));
        }
        let subject = Self::subject(user, key_id);
        let may_be_old = || self.nats.is_refusing(WritesRefused::NoQuorum);
        let began_old = may_be_old();
        let stored = self.nats.newest_for(purpose, stream::ENCRYPTION_KEYS, &subject).await?;
        let Some(stored) = stored.filter(|stored| !stored.is_tombstone()) else { return Ok(None) };
        let record: WrappedKey =
            decode(&stored.payload).map_err(StorageError::corrupt("ENCRYPTION_KEYS"))?;
        let Some(key) = unwrap(&self.kek, &record, user)? else { return Ok(None) };
        // A replica that lags may still have a key that is erased.
        if !began_old && !may_be_old() {
            self.lock().put(name, key.clone());
        }
        Ok(Some(key))
    }

    /// The keys of these bodies.
    pub(crate) async fn opener(
        &self,
        bodies: impl Iterator<Item = (UserId, &Sealed)>,
    ) -> Result<Opener, StorageError> {
        let mut keys = Vec::new();
        for (author, sealed) in bodies {
            let Some(name) = name(&author, &sealed.key_id) else { continue };
            if !keys.iter().any(|(known, _)| *known == name)
                && let Some(key) = self.get(&author, &sealed.key_id, ReadPurpose::Show).await?
            {
                keys.push((name, key));
            }
        }
        Ok(Opener { keys })
    }

    /// Erases every key of a user, for ever.
    pub(crate) async fn shred(&self, user: &UserId) -> Result<(), StorageError> {
        for stored in self.records(&format!("user.{user}.*")).await? {
            let key_id = erase_key(&self.nats, &stored).await?;
            if let Some(name) = name(user, &key_id) {
                self.lock().pop(&name);
            }
        }
        Ok(())
    }

    /// Makes every key readable with the present KEK, by way of the former one: first a record with
    /// both wrappings, and, when `drop_former`, then one with the present wrapping only. Repeatable
    /// after a crash at any point.
    pub(crate) async fn rewrap(
        &self,
        former: &KeyEncryptionKey,
        drop_former: bool,
    ) -> Result<u64, StorageError> {
        let mut rewritten = 0;
        for stored in self.records("user.*.*").await? {
            let mut record: WrappedKey =
                decode_known(&stored.payload).map_err(StorageError::corrupt("ENCRYPTION_KEYS"))?;
            let Ok(user) = UserId::try_from(record.user_id.as_str()) else {
                log::error!(subject = stored.subject.as_str(); "a key is not rewrapped: its user id cannot be read");
                continue;
            };
            if record.replaced > 0 {
                self.nats.erase(stream::ENCRYPTION_KEYS, record.replaced).await?;
            }
            let has = |kek: KekId, record: &WrappedKey| {
                record.wrappings.iter().any(|wrapping| wrapping.kek_id == kek.0[..])
            };
            if drop_former {
                if !has(former.id(), &record) || !has(self.kek.id(), &record) {
                    continue;
                }
                record.wrappings.retain(|wrapping| wrapping.kek_id == self.kek.id().0[..]);
            } else {
                if has(self.kek.id(), &record) {
                    continue;
                }
                let Some(key) = unwrap(former, &record, &user)? else { continue };
                let wrapping = wrap(&self.kek, &key, &user, &record.key_id);
                record.wrappings.push(wrapping);
            }
            record.replaced = stored.sequence;
            let message = Publish {
                subject: &stored.subject,
                payload: encode(&record),
                expected_last: Some(stored.sequence),
                ..Publish::default()
            };
            match self.nats.publish(message).await {
                Ok(_) => rewritten += 1,
                // Another process rewraps too.
                Err(PublishError::WrongLastSequence) => continue,
                Err(error) => return Err(error.into()),
            }
            self.nats.erase(stream::ENCRYPTION_KEYS, stored.sequence).await?;
        }
        Ok(rewritten)
    }

    /// The newest records under a pattern of keys. A pattern may match at most 1,024 keys per
    /// request, so all keys are read by scanning the stream.
    async fn records(&self, pattern: &str) -> Result<Vec<StoredMessage>, StorageError> {
        let mut newest = std::collections::BTreeMap::new();
        if pattern == "user.*.*" {
            let mut sequence = 1;
            loop {
                let what = BatchRead::From { sequence, count: 512 };
                let batch = self.nats.read(stream::ENCRYPTION_KEYS, what).await?;
                let Some(last) = batch.messages.last() else { break };
                sequence = last.sequence + 1;
                for stored in batch.messages {
                    newest.insert(stored.subject.clone(), stored);
                }
            }
        } else {
            let subjects = [format!("$KV.ENCRYPTION_KEYS.{pattern}")];
            let batch =
                self.nats.read(stream::ENCRYPTION_KEYS, BatchRead::Newest(&subjects)).await?;
            for stored in batch.messages {
                newest.insert(stored.subject.clone(), stored);
            }
        }
        Ok(newest.into_values().filter(|stored| !stored.is_tombstone()).collect())
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, LruCache<KeyName, DataKey>> {
        self.cache.lock()
    }
}

/// The active data key of one author.
pub struct Sealer {
    pub(crate) key: DataKey,
    pub(crate) key_id: String,
}

impl Sealer {
    /// Seals a body for its place.
    #[must_use]
    pub fn seal(&self, room: &RoomId, row: &EventId, text: &str) -> Sealed {
        let ad = body_ad(room, row, SEALED_VERSION);
        let (nonce, ciphertext) = self.key.seal(text.as_bytes(), &ad);
        Sealed {
            key_id: self.key_id.clone(),
            nonce: nonce.to_vec().into(),
            ciphertext: ciphertext.into(),
            version: SEALED_VERSION,
        }
    }
}

/// The data keys of some bodies.
pub struct Opener {
    /// Few: one for each author of a page.
    keys: Vec<(KeyName, DataKey)>,
}

impl Opener {
    /// Opens a body. `None`: its key was erased or not loaded, or the bytes are not what was sealed
    /// there.
    #[must_use]
    pub fn open(
        &self,
        author: &UserId,
        room: &RoomId,
        row: &EventId,
        sealed: &Sealed,
    ) -> Option<String> {
        let name = name(author, &sealed.key_id)?;
        let (_, key) = self.keys.iter().find(|(known, _)| *known == name)?;
        let ad = body_ad(room, row, sealed.version);
        let plain = key.open(&sealed.nonce, &sealed.ciphertext, &ad).ok()?;
        String::from_utf8(plain).ok()
    }
}

/// Erases a key from the store, for ever; returns its id.
///
/// # Cancel safety
/// May be repeated.
pub(crate) async fn erase_key(nats: &Nats, stored: &StoredMessage) -> Result<String, StorageError> {
    let record: WrappedKey =
        decode(&stored.payload).map_err(StorageError::corrupt("ENCRYPTION_KEYS"))?;
    if record.replaced > 0 {
        nats.erase(stream::ENCRYPTION_KEYS, record.replaced).await?;
    }
    nats.erase(stream::ENCRYPTION_KEYS, stored.sequence).await?;
    let tombstone = Publish { subject: &stored.subject, tombstone: true, ..Publish::default() };
    nats.publish(tombstone).await?;
    Ok(record.key_id)
}

fn name(user: &UserId, key_id: &str) -> Option<KeyName> {
    Some((*user, key_number(key_id)?))
}

/// A key's id as a number. `None`: no key has such an id.
pub(crate) fn key_number(key_id: &str) -> Option<u64> {
    let is_id = key_id.len() == 16 && key_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(key_id, 16).ok().filter(|_| is_id)
}

fn key_ad(user: &UserId, key_id: &str) -> Vec<u8> {
    format!("chatto key v1 {user} {key_id}").into_bytes()
}

fn body_ad(room: &RoomId, row: &EventId, version: u32) -> Vec<u8> {
    format!("chatto body v{version} {room} {row}").into_bytes()
}

pub(crate) fn wrap(kek: &KeyEncryptionKey, key: &DataKey, user: &UserId, key_id: &str) -> Wrapping {
    let (nonce, ciphertext) = kek.wrap(key, &key_ad(user, key_id));
    Wrapping {
        kek_id: kek.id().0.to_vec().into(),
        nonce: nonce.to_vec().into(),
        ciphertext: ciphertext.into(),
    }
}

pub(crate) fn unwrap(
    kek: &KeyEncryptionKey,
    record: &WrappedKey,
    user: &UserId,
) -> Result<Option<DataKey>, StorageError> {
    let wrapping = record.wrappings.iter().find(|wrapping| wrapping.kek_id == kek.id().0[..]);
    let Some(wrapping) = wrapping else { return Ok(None) };
    let ad = key_ad(user, &record.key_id);
    kek.unwrap(&wrapping.nonce, &wrapping.ciphertext, &ad)
        .map(Some)
        .map_err(|source| StorageError::Key { source })
}
