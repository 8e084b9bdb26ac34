//! Changing STATE: records by compare-and-set, and claims of what must be unique.

pub(crate) mod key;
pub(crate) mod mirror;

use std::sync::Arc;
use std::time::Duration;

use crate::crypto::hex;
use crate::domain::{Membership, RoomId, UserId};
use crate::limits::WRITE_DEADLINE;
use crate::nats::{Commit, Nats, Publish};
use crate::runtime::{Backoff, Clock};
use crate::storage::encoding::encode_value;
use crate::storage::error::{ChangeError, StorageError};
use crate::storage::layout::stream;
use crate::storage::state::key::{Claim, ClaimKey, StateKey};
use crate::storage::state::mirror::{Mirror, PREFIX, StateRecord, Tables};

/// What a change does with a record.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordChange<R> {
    Put(R),
    Keep,
    Delete,
}

/// The outcome of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The holder has it now, or had it already.
    Yes,
    Taken {
        holder: ClaimHolder,
    },
}

/// Whose a claim is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimHolder {
    User(UserId),
    Room(RoomId),
    /// Of a kind that a later version adds, by its id.
    Other(String),
}

/// A claim as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRecord {
    pub holder: ClaimHolder,
    /// When it was made, milliseconds since 1970.
    pub claimed_ms: i64,
    /// The request that made it; empty: none has done so yet.
    pub(crate) request_id: String,
}

impl From<UserId> for ClaimHolder {
    fn from(user: UserId) -> Self {
        Self::User(user)
    }
}

impl From<RoomId> for ClaimHolder {
    fn from(room: RoomId) -> Self {
        Self::Room(room)
    }
}

/// STATE: read from the mirror, changed by compare-and-set.
pub struct State {
    nats: Nats,
    clock: Clock,
    mirror: Arc<Mirror>,
}

impl State {
    pub(crate) fn new((nats, clock): (Nats, Clock), mirror: Arc<Mirror>) -> Self {
        Self { nats, clock, mirror }
    }

    /// Reads the mirrored STATE; keep `f` short, it holds a lock.
    pub fn read<T>(&self, f: impl FnOnce(&Tables) -> T) -> T {
        self.mirror.read(f)
    }

    /// A membership record and its revision, as of one moment.
    #[must_use]
    pub fn member(&self, room: &RoomId, user: &UserId) -> Option<(Arc<Membership>, u64)> {
        self.mirror.member(room, user)
    }

    /// The revision of a membership record; 0: there is none.
    #[must_use]
    pub fn member_revision(&self, room: &RoomId, user: &UserId) -> u64 {
        self.read(|tables| tables.revision(&StateKey::Member(*room, *user)))
    }

    /// Changes one record by compare-and-set; `f` runs again after a conflict.
    ///
    /// # Cancel safety
    /// After dropping it the change may or may not be stored; the mirror learns of it either way.
    pub async fn change<R: StateRecord, E>(
        &self,
        id: &R::Id,
        mut f: impl FnMut(Option<&R>) -> Result<RecordChange<R>, E>,
    ) -> Result<Option<Arc<R>>, ChangeError<E>> {
        let key = &R::key(id);
        let deadline = self.clock.now() + WRITE_DEADLINE;
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(500));
        loop {
            let (current, revision, is_newer) = self
                .mirror
                .read(|tables| (R::find(tables, id), tables.revision(key), tables.is_newer(key)));
            // A default stands for config records that were never written.
            let exists = revision > 0 && current.is_some();
            let change = f(current.as_deref().filter(|_| exists)).map_err(ChangeError::Refused)?;
            let value = match change {
                RecordChange::Keep => return Ok(current.filter(|_| exists)),
                RecordChange::Delete if !exists => return Ok(None),
                RecordChange::Delete => None,
                RecordChange::Put(record) => Some(record),
            };
            if is_newer {
                return Err(StorageError::Newer { what: "STATE" }.into());
            }
            match self.put(key, value.as_ref(), revision, deadline).await {
                Ok(true) => return Ok(value.map(Arc::new)),
                Ok(false) => {}
                Err(error) => return Err(error.into()),
            }
            if self.clock.now() >= deadline {
                return Err(StorageError::LATE.into());
            }
            match self.refresh(key).await {
                Ok(()) => {}
                Err(error) if error.is_transient() => self.clock.sleep(backoff.delay()).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Stores a new record; one with this id that is there already stays.
    pub async fn put_if_absent<R: StateRecord>(
        &self,
        id: &R::Id,
        record: &R,
    ) -> Result<(), StorageError> {
        let put = |present: Option<&R>| -> Result<_, std::convert::Infallible> {
            Ok(match present {
                Some(_) => RecordChange::Keep,
                None => RecordChange::Put(record.clone()),
            })
        };
        self.change(id, put).await.map(|_| ()).map_err(StorageError::from)
    }

    /// Claims something unique for a holder. Its own earlier claim counts as success.
    pub async fn claim(
        &self,
        what: Claim<'_>,
        holder: impl Into<ClaimHolder>,
    ) -> Result<Claimed, StorageError> {
        let holder = holder.into();
        let mut taken = None;
        let now = self.clock.unix_ms();
        let key = what.key();
        let claimed = self
            .change::<ClaimRecord, std::convert::Infallible>(&key, |present| {
                taken = present.map(|claim| claim.holder.clone()).filter(|other| *other != holder);
                Ok(match present {
                    Some(_) => RecordChange::Keep,
                    None => RecordChange::Put(ClaimRecord {
                        holder: holder.clone(),
                        claimed_ms: now,
                        request_id: String::new(),
                    }),
                })
            })
            .await;
        claimed.map_err(StorageError::from)?;
        Ok(taken.map_or(Claimed::Yes, |holder| Claimed::Taken { holder }))
    }

    /// Gives a claim back, if this holder has it.
    pub async fn release(
        &self,
        what: Claim<'_>,
        holder: impl Into<ClaimHolder>,
    ) -> Result<(), StorageError> {
        self.release_key(what.key(), &holder.into()).await
    }

    /// Gives a claim back by its key, as a sweep finds it in [`Tables::claims`]; see [`Self::release`].
    pub async fn release_key(
        &self,
        key: ClaimKey,
        holder: &ClaimHolder,
    ) -> Result<(), StorageError> {
        let released = self
            .change::<ClaimRecord, std::convert::Infallible>(&key, |present| {
                Ok(match present {
                    Some(claim) if claim.holder == *holder => RecordChange::Delete,
                    _ => RecordChange::Keep,
                })
            })
            .await;
        released.map(|_| ()).map_err(StorageError::from)
    }

    /// Puts (or with `None` deletes) a key at its revision; `false`: somebody else was first.
    async fn put<R: StateRecord>(
        &self,
        key: &StateKey,
        record: Option<&R>,
        revision: u64,
        deadline: std::time::Instant,
    ) -> Result<bool, StorageError> {
        let subject = format!("{PREFIX}{key}");
        let payload = record.map(encode_value).unwrap_or_default();
        let id = hex(&crate::crypto::random::<16>());
        let message = Publish {
            subject: &subject,
            payload: payload.clone(),
            message_id: Some(&id),
            expected_last: Some(revision),
            tombstone: record.is_none(),
            ..Publish::default()
        };
        let commit = Commit { nats: &self.nats, clock: &self.clock };
        let Some(ack) = commit.store(message, deadline).await? else { return Ok(false) };
        self.mirror.wrote(key, record.map(|_| &payload[..]), ack.sequence);
        Ok(true)
    }

    /// Brings one key up to date from the leader.
    async fn refresh(&self, key: &StateKey) -> Result<(), StorageError> {
        let subject = format!("{PREFIX}{key}");
        match self.nats.leader_newest(stream::STATE, &subject).await? {
            Some(message) => {
                let value = (!message.is_tombstone()).then_some(&message.payload[..]);
                self.mirror.apply(key, value, message.sequence);
            }
            // Its delete marker is swept.
            None => self.mirror.remove_swept(key),
        }
        Ok(())
    }
}
