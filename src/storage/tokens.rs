//! Tokens by keyed hash, counters and leases: small records with a life of their own.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;

use super::append::hex;
use super::encoding::encode;
use super::error::StorageError;
use super::layout::stream;
use super::open::MemoryStreams;
use super::overlay::count;
use super::records::{Counter, Token};
use super::state::bucket_get;
use crate::limits::{TOKEN_CACHE_MAX, TOKEN_CACHE_TTL, WRITE_DEADLINE};
use crate::nats::{Nats, Publish, PublishError};
use crate::runtime::{Backoff, Clock};

/// Attempts at a compare-and-set under contention.
const ATTEMPTS: usize = 64;

/// A token's record and the revision a change must name.
pub type FoundToken = (Token, u64);

/// AUTH_TOKENS and PRESENCE.
pub(super) struct Tokens {
    nats: Nats,
    clock: Clock,
    memory: MemoryStreams,
    cache: Mutex<LruCache<[u8; 32], (FoundToken, Instant)>>,
}

impl Tokens {
    pub(super) fn new((nats, clock): (Nats, Clock), memory: MemoryStreams) -> Self {
        Self { nats, clock, memory, cache: Mutex::new(LruCache::new(count(TOKEN_CACHE_MAX))) }
    }

    fn subject(hash: &[u8; 32]) -> String {
        format!("$KV.AUTH_TOKENS.{}", hex(hash))
    }

    /// Stores a new token; `false`: there is one with this hash.
    pub(super) async fn create(
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
        self.replace(hash, token, revision, ttl).await
    }

    /// The token's record, from the leader.
    pub(super) async fn get(&self, hash: &[u8; 32]) -> Result<Option<FoundToken>, StorageError> {
        let (token, revision) =
            bucket_get(&self.nats, stream::AUTH_TOKENS, &Self::subject(hash)).await?;
        Ok(token.map(|token| (token, revision)))
    }

    /// The token's record, not older than [`TOKEN_CACHE_TTL`]. `fresh`: the feed of token changes is
    /// healthy, so a change would have been heard of.
    pub(super) async fn get_cached(
        &self,
        hash: &[u8; 32],
        fresh: bool,
    ) -> Result<Option<FoundToken>, StorageError> {
        let now = self.clock.now();
        let cached = self.lock().get(hash).cloned();
        if let Some((found, at)) = cached
            && fresh
            && now.saturating_duration_since(at) < TOKEN_CACHE_TTL
        {
            return Ok(Some(found));
        }
        let found = self.get(hash).await?;
        match &found {
            Some(found) => self.lock().put(*hash, (found.clone(), now)),
            None => self.lock().pop(hash),
        };
        Ok(found)
    }

    /// Replaces a token's record at its revision; `false`: it changed meanwhile.
    pub(super) async fn replace(
        &self,
        hash: &[u8; 32],
        token: &Token,
        revision: u64,
        ttl: Duration,
    ) -> Result<bool, StorageError> {
        self.lock().pop(hash);
        let entry = Entry { subject: &Self::subject(hash), payload: encode(token), revision };
        put(&self.nats, &self.clock, entry, Some(ttl)).await
    }

    /// Removes a token.
    pub(super) async fn delete(&self, hash: &[u8; 32]) -> Result<(), StorageError> {
        let subject = Self::subject(hash);
        for _ in 0..ATTEMPTS {
            let (present, revision) =
                bucket_get::<Token>(&self.nats, stream::AUTH_TOKENS, &subject).await?;
            if present.is_none() || delete(&self.nats, &subject, revision).await? {
                self.lock().pop(hash);
                return Ok(());
            }
        }
        Err(StorageError::LATE)
    }

    /// Another process changed or removed this token.
    pub(super) fn forget(&self, subject: &str) {
        let hex = subject.rsplit('.').next().unwrap_or_default();
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
        }
        self.lock().pop(&hash);
    }

    /// Forgets every cached token, after changes may have been missed.
    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<[u8; 32], (FoundToken, Instant)>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value of PRESENCE. The bucket lives in nats-server's memory: after a restart of the server it
    /// is made again by whoever misses it first.
    async fn presence<R: prost::Message + Default>(
        &self,
        subject: &str,
    ) -> Result<(Option<R>, u64), StorageError> {
        match bucket_get(&self.nats, stream::PRESENCE, subject).await {
            Err(error) if error.is_missing_stream() => {
                self.memory.make_again(&self.nats).await?;
                bucket_get(&self.nats, stream::PRESENCE, subject).await
            }
            found => found,
        }
    }

    /// Changes a counter that all processes share; it disappears after `ttl` without change.
    pub(super) async fn counter<T>(
        &self,
        kind: &str,
        name: &str,
        ttl: Duration,
        mut f: impl FnMut(&mut Counter) -> T,
    ) -> Result<T, StorageError> {
        let subject = counter_subject(kind, name);
        for _ in 0..ATTEMPTS {
            let (counter, revision) = self.presence::<Counter>(&subject).await?;
            let former = counter.unwrap_or_default();
            let mut counter = former;
            let answer = f(&mut counter);
            let entry = Entry { subject: &subject, payload: encode(&counter), revision };
            if counter == former || put(&self.nats, &self.clock, entry, Some(ttl)).await? {
                return Ok(answer);
            }
        }
        Err(StorageError::Busy)
    }

    /// Removes a counter.
    pub(super) async fn counter_delete(&self, kind: &str, name: &str) -> Result<(), StorageError> {
        let subject = counter_subject(kind, name);
        let (present, revision) = self.presence::<Counter>(&subject).await?;
        if present.is_some() {
            // Lost the race: somebody counts again, which is as good.
            delete(&self.nats, &subject, revision).await?;
        }
        Ok(())
    }

    /// Takes or renews a lease; `false`: another process holds it.
    pub(super) async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StorageError> {
        let subject = format!("$KV.PRESENCE.lease.{name}");
        let (present, revision) = self.presence::<super::records::Claim>(&subject).await?;
        if present.is_some_and(|lease| lease.holder_id != holder) {
            return Ok(false);
        }
        let lease = super::records::Claim {
            holder_id: holder.to_owned(),
            claimed_ms: self.clock.unix_ms(),
            request_id: String::new(),
        };
        let entry = Entry { subject: &subject, payload: encode(&lease), revision };
        put(&self.nats, &self.clock, entry, Some(ttl)).await
    }
}

fn counter_subject(kind: &str, name: &str) -> String {
    let digest = crate::crypto::sha256(name.as_bytes());
    format!("$KV.PRESENCE.counter.{kind}.{}", hex(digest.get(..16).unwrap_or(&digest)))
}

/// A key's new value and the revision it replaces; 0: there is none.
pub(super) struct Entry<'a> {
    pub(super) subject: &'a str,
    pub(super) payload: Bytes,
    pub(super) revision: u64,
}

/// Compare-and-set with a life time; `false`: somebody else was first.
pub(super) async fn put(
    nats: &Nats,
    clock: &Clock,
    entry: Entry<'_>,
    ttl: Option<Duration>,
) -> Result<bool, StorageError> {
    let deadline = clock.now() + WRITE_DEADLINE;
    let id = hex(&crate::crypto::random::<16>());
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        let message = Publish {
            subject: entry.subject,
            payload: entry.payload.clone(),
            message_id: Some(&id),
            expected_last: Some(entry.revision),
            ttl,
            ..Publish::default()
        };
        match nats.publish(message).await {
            Ok(_) => return Ok(true),
            Err(PublishError::WrongLastSequence) => return Ok(false),
            Err(PublishError::Unknown { source }) => {
                if clock.now() >= deadline {
                    return Err(StorageError::Unavailable { source: Some(source) });
                }
                clock.sleep(backoff.delay()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn delete(nats: &Nats, subject: &str, revision: u64) -> Result<bool, StorageError> {
    let message =
        Publish { subject, expected_last: Some(revision), tombstone: true, ..Publish::default() };
    match nats.publish(message).await {
        Ok(_) => Ok(true),
        Err(PublishError::WrongLastSequence) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
