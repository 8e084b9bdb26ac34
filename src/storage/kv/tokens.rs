//! Tokens by keyed hash: small records with a life of their own.

use std::time::Duration;

use crate::crypto::{from_hex, hex};
use crate::domain::Token;
use crate::limits::{RECORD_CACHE_TTL, TOKEN_CACHE_MAX, TOKEN_OFFLINE_MAX};
use crate::nats::Nats;
use crate::runtime::Clock;
use crate::storage::encoding::{decode_value, encode_value};
use crate::storage::error::StorageError;
use crate::storage::feed::Following;
use crate::storage::kv::record_cache::RecordCache;
use crate::storage::kv::{
    self, CHANGE_ATTEMPTS, Entry, bucket_get, bucket_get_any, delete, each_entry,
};
use crate::storage::layout::stream;
use parking_lot::{Mutex, MutexGuard};

/// A token's record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundToken {
    pub token: Token,
    /// What a change must name.
    revision: u64,
    is_known: bool,
}

impl FoundToken {
    /// Whether this program knows all of the record. If not, a newer program wrote it, and this one does not
    /// replace it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is_known
    }
}

/// AUTH_TOKENS.
pub struct Tokens {
    nats: Nats,
    clock: Clock,
    /// There is no other process that could change them.
    alone: bool,
    following: Following,
    cache: Mutex<RecordCache<[u8; 32], FoundToken>>,
}

impl Tokens {
    pub(crate) fn new((nats, clock): (Nats, Clock), alone: bool, following: Following) -> Self {
        let cache = Mutex::new(RecordCache::new(TOKEN_CACHE_MAX));
        Self { nats, clock, alone, following, cache }
    }

    fn subject(hash: &[u8; 32]) -> String {
        format!("$KV.AUTH_TOKENS.{}", hex(hash))
    }

    /// Stores a new token under its keyed hash; `false`: there is one.
    pub async fn create(
        &self,
        hash: &[u8; 32],
        token: &Token,
        ttl: Duration,
    ) -> Result<bool, StorageError> {
        let (present, revision) =
            bucket_get::<Token>(&self.nats, stream::AUTH_TOKENS, &Self::subject(hash)).await?;
        if present.is_some() {
            return Ok(false);
        }
        self.put(hash, token, revision, ttl).await
    }

    /// A token's record from the leader; while it cannot be asked, as with [`Self::get_cached`].
    pub async fn get_or_known(&self, hash: &[u8; 32]) -> Result<Option<FoundToken>, StorageError> {
        match self.get(hash).await {
            Err(error) if error.is_transient() => self.last_known(hash, error),
            found => found,
        }
    }

    /// What the store answered last, instead of this error.
    fn last_known(
        &self,
        hash: &[u8; 32],
        error: StorageError,
    ) -> Result<Option<FoundToken>, StorageError> {
        let cache = self.lock();
        let known = cache.last_known(hash, self.clock.now(), TOKEN_OFFLINE_MAX);
        known.map_or(Err(error), |found| Ok(Some(found.clone())))
    }

    /// A token's record from the leader.
    pub async fn get(&self, hash: &[u8; 32]) -> Result<Option<FoundToken>, StorageError> {
        let (found, revision) =
            bucket_get_any(&self.nats, stream::AUTH_TOKENS, &Self::subject(hash)).await?;
        Ok(found.map(|(token, is_known)| FoundToken { token, revision, is_known }))
    }

    /// A token's record, at most [`RECORD_CACHE_TTL`] old and from memory only while changes by other processes are
    /// received.
    ///
    /// A token that was removed does not count from then on in the process that removed it, and in every
    /// other one once it receives the change: nats-server publishes it to all of them with the write. If that message is
    /// lost with its connection, from the next connection on; if it is lost on the way, after
    /// [`RECORD_CACHE_TTL`] at most.
    ///
    /// While the store cannot be asked, what it answered within [`TOKEN_OFFLINE_MAX`] counts, unless this process has
    /// received a change of the token.
    pub async fn get_cached(&self, hash: &[u8; 32]) -> Result<Option<FoundToken>, StorageError> {
        let fresh = self.alone || self.following.is_current(&self.clock);
        let now = self.clock.now();
        let reading = {
            let mut cache = self.lock();
            if fresh && let Some(found) = cache.get(hash, now) {
                return Ok(Some(found.clone()));
            }
            cache.begin_reading(now)
        };
        let found = match self.get(hash).await {
            Err(error) if error.is_transient() => return self.last_known(hash, error),
            found => found?,
        };
        let mut cache = self.lock();
        match &found {
            Some(found) => cache.keep(reading, *hash, found.clone(), Some(now + RECORD_CACHE_TTL)),
            None if cache.get(hash, now).is_some() => cache.invalidate(hash),
            // Somebody guesses: not a reason to keep nothing that is read meanwhile.
            None => {}
        }
        drop(cache);
        Ok(found)
    }

    /// Replaces a token's record; `false`: it has changed since it was found.
    ///
    /// # Errors
    /// [`StorageError::Newer`] when a newer program wrote what was found.
    pub async fn replace(
        &self,
        hash: &[u8; 32],
        found: &FoundToken,
        token: &Token,
        ttl: Duration,
    ) -> Result<bool, StorageError> {
        if !found.is_known {
            return Err(StorageError::Newer { what: stream::AUTH_TOKENS });
        }
        self.put(hash, token, found.revision, ttl).await
    }

    async fn put(
        &self,
        hash: &[u8; 32],
        token: &Token,
        revision: u64,
        ttl: Duration,
    ) -> Result<bool, StorageError> {
        let entry = Entry { subject: &Self::subject(hash), payload: encode_value(token), revision };
        let replaced = kv::put(&self.nats, &self.clock, entry, Some(ttl)).await;
        // After the write, as a read may have begun during it. One that failed is no news of the token's end.
        if replaced.is_ok() {
            self.lock().invalidate(hash);
        } else {
            self.lock().doubt(hash);
        }
        replaced
    }

    /// Removes a token at its revision; `false`: it changed meanwhile.
    pub async fn delete_at(&self, hash: &[u8; 32], revision: u64) -> Result<bool, StorageError> {
        let deleted = delete(&self.nats, &Self::subject(hash), revision).await;
        self.lock().invalidate(hash);
        deleted
    }

    /// Removes a token.
    pub async fn delete(&self, hash: &[u8; 32]) -> Result<(), StorageError> {
        let deleted = self.remove(&Self::subject(hash)).await;
        self.lock().invalidate(hash);
        deleted
    }

    async fn remove(&self, subject: &str) -> Result<(), StorageError> {
        for _ in 0..CHANGE_ATTEMPTS {
            let (present, revision) =
                bucket_get::<Token>(&self.nats, stream::AUTH_TOKENS, subject).await?;
            if present.is_none() || delete(&self.nats, subject, revision).await? {
                return Ok(());
            }
        }
        Err(StorageError::LATE)
    }

    /// A token was changed or removed; its hash, from the subject it is stored under.
    pub(crate) fn invalidate(&self, subject: &str) -> Option<[u8; 32]> {
        let hash = hash_of(subject)?;
        self.lock().invalidate(&hash);
        Some(hash)
    }

    /// Drops every cached token, after changes may have been missed.
    pub(crate) fn invalidate_all(&self) {
        self.lock().invalidate_all();
    }

    fn lock(&self) -> MutexGuard<'_, RecordCache<[u8; 32], FoundToken>> {
        self.cache.lock()
    }

    /// The tokens that `wanted` accepts, from any replica: with replicas some may be missing or old.
    /// Every token is read, a batch at a time.
    pub async fn list(
        &self,
        wanted: impl Fn(&Token) -> bool + Send + Sync,
    ) -> Result<Vec<([u8; 32], Token)>, StorageError> {
        let mut found = Vec::new();
        let each = |subject: &str, payload: &[u8]| {
            let token = decode_value::<Token>(payload).ok().map(|(token, _)| token);
            let token = token.filter(|token| wanted(token));
            found.extend(hash_of(subject).zip(token));
        };
        each_entry(&self.nats, stream::AUTH_TOKENS, each).await?;
        Ok(found)
    }
}

/// The hash in the subject that its token is stored under.
fn hash_of(subject: &str) -> Option<[u8; 32]> {
    from_hex(subject.rsplit('.').next().unwrap_or_default())
}
