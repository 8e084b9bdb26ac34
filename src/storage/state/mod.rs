//! Changing STATE: records by compare-and-set, and claims of what must be unique.

pub(crate) mod mirror;

use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use crate::crypto::hex;
use crate::limits::WRITE_DEADLINE;
use crate::nats::{Nats, Publish};
use crate::runtime::{Backoff, Clock};
use crate::storage::encoding::encode;
use crate::storage::error::{ChangeError, StorageError};
use crate::storage::journal::commit::Commit;
use crate::storage::layout::stream;
use crate::storage::records::{self, Claim as ClaimRecord};
use crate::storage::state::mirror::{Mirror, PREFIX, Tables};

/// What a change does with a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<R> {
    /// Store this.
    Put(R),
    /// Leave it as it is.
    Keep,
    /// Remove it.
    Delete,
}

/// Something that only one record may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'a> {
    /// A login, folded to lower case.
    Login(&'a str),
    /// A verified address, folded to lower case.
    Email(&'a str),
    /// A room name's unique key.
    RoomName(&'a str),
}

/// The outcome of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is ours now, or was already.
    Yes,
    /// Somebody else has it.
    Taken {
        /// Who.
        holder: String,
    },
}

impl Claim<'_> {
    /// The key under which it is stored, as sweeps find it in [`Tables::claims`].
    #[must_use]
    pub fn key(self) -> String {
        let (kind, name) = match self {
            Self::Login(name) => ("login", name),
            Self::Email(name) => ("email", name),
            Self::RoomName(name) => ("room", name),
        };
        let digest = crate::crypto::sha256(name.as_bytes());
        format!("claim.{kind}.{}", hex(digest.get(..16).unwrap_or(&digest)))
    }
}

/// A record that lives in STATE under one key.
pub(crate) trait StateRecord: Message + Default + Clone {
    fn find(tables: &Tables, key: &str) -> Option<Arc<Self>>;
}

macro_rules! state_record {
    ($record:ty, $prefix:literal, $tables:ident, $id:ident => $found:expr) => {
        impl StateRecord for $record {
            fn find($tables: &Tables, key: &str) -> Option<Arc<Self>> {
                let $id = key.strip_prefix($prefix)?;
                $found
            }
        }
    };
}

state_record!(records::User, "user.", t, id => t.users.get(&id.try_into().ok()?).cloned());
state_record!(records::Room, "room.", t, id => t.rooms.get(&id.try_into().ok()?).cloned());
state_record!(records::Role, "role.", t, id => t.roles.get(id).cloned());
state_record!(records::Group, "group.", t, id => t.groups.get(&id.try_into().ok()?).cloned());
state_record!(records::Member, "member.", t, id => {
    let (room, user) = id.split_once('.')?;
    t.member(&room.try_into().ok()?, &user.try_into().ok()?).cloned()
});
state_record!(records::ServerConfig, "config.server", t, _id => Some(Arc::clone(&t.server)));
state_record!(records::FoldCheckpoint, "fold.checkpoint", t, _id => Some(t.checkpoint()));
state_record!(records::Fence, "lease.", t, name => t.fence(name).cloned());
state_record!(ClaimRecord, "", t, id => t.claim(id).cloned());

/// Writes STATE.
pub(crate) struct State {
    nats: Nats,
    clock: Clock,
    mirror: Arc<Mirror>,
}

impl State {
    pub(crate) fn new((nats, clock): (Nats, Clock), mirror: Arc<Mirror>) -> Self {
        Self { nats, clock, mirror }
    }

    /// Changes one record by compare-and-set; `f` runs again after a conflict.
    ///
    /// # Cancel safety
    /// After dropping it the change may or may not be stored; the mirror learns of it either way.
    pub(crate) async fn change<R: StateRecord, E>(
        &self,
        key: &str,
        mut f: impl FnMut(Option<&R>) -> Result<Change<R>, E>,
    ) -> Result<Option<Arc<R>>, ChangeError<E>> {
        let deadline = self.clock.now() + WRITE_DEADLINE;
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(500));
        loop {
            let (current, revision, is_newer) = self
                .mirror
                .read(|tables| (R::find(tables, key), tables.revision(key), tables.is_newer(key)));
            // A default stands for config records that were never written.
            let exists = revision > 0 && current.is_some();
            let change = f(current.as_deref().filter(|_| exists)).map_err(ChangeError::Refused)?;
            let value = match change {
                Change::Keep => return Ok(current.filter(|_| exists)),
                Change::Delete if !exists => return Ok(None),
                Change::Delete => None,
                Change::Put(record) => Some(record),
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

    /// Claims something unique for a holder; its own earlier claim counts as success.
    pub(crate) async fn claim(
        &self,
        what: Claim<'_>,
        holder: &str,
    ) -> Result<Claimed, StorageError> {
        let mut taken = None;
        let now = self.clock.unix_ms();
        let claimed = self
            .change::<ClaimRecord, std::convert::Infallible>(&what.key(), |present| {
                taken = present.map(|claim| claim.holder_id.clone()).filter(|id| id != holder);
                Ok(match present {
                    Some(_) => Change::Keep,
                    None => Change::Put(ClaimRecord {
                        holder_id: holder.to_owned(),
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
    pub(crate) async fn release(&self, key: &str, holder: &str) -> Result<(), StorageError> {
        let released = self
            .change::<ClaimRecord, std::convert::Infallible>(key, |present| {
                Ok(match present {
                    Some(claim) if claim.holder_id == holder => Change::Delete,
                    _ => Change::Keep,
                })
            })
            .await;
        released.map(|_| ()).map_err(StorageError::from)
    }

    /// Puts (or with `None` deletes) a key at its revision; `false`: somebody else was first.
    async fn put<R: StateRecord>(
        &self,
        key: &str,
        record: Option<&R>,
        revision: u64,
        deadline: std::time::Instant,
    ) -> Result<bool, StorageError> {
        let subject = format!("{PREFIX}{key}");
        let payload = record.map(|record| encode(record)).unwrap_or_default();
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
    async fn refresh(&self, key: &str) -> Result<(), StorageError> {
        let subject = format!("{PREFIX}{key}");
        match self.nats.leader_newest(stream::STATE, &subject).await? {
            Some(message) => {
                let value = (!message.is_tombstone()).then_some(&message.payload[..]);
                self.mirror.apply(key, value, message.sequence);
            }
            // Its delete marker is swept.
            None => self.mirror.forget(key),
        }
        Ok(())
    }
}
