//! The store as the rest of the program uses it: STATE, timelines, bodies, read markers, tokens.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::timeline::{Row, Sealed};
use crate::domain::{
    EventId, Group, GroupId, Membership, Role, Room, RoomId, ServerSettings, Token, User, UserId,
};
use crate::storage::error::{ChangeError, StorageError};
use crate::storage::journal::append::{Appended, Draft, DraftView, RequestId};
use crate::storage::kv::keys::{Opener, Sealer};
use crate::storage::kv::tokens::FoundToken;
use crate::storage::records;
use crate::storage::state::key::{Claim, ClaimKey, StateKey};
use crate::storage::state::mirror::Tables;
use crate::storage::state::{ClaimHolder, Claimed, RecordChange};
use crate::storage::store::Storage;
use crate::storage::timeline::head::RoomHead;

impl Storage {
    /// Reads the mirrored STATE; keep `f` short, it holds a lock.
    pub fn read<T>(&self, f: impl FnOnce(&Tables) -> T) -> T {
        self.inner.mirror.read(f)
    }

    /// With external NATS: one attempt to wait until this process has seen everything acknowledged before
    /// the call. The embedded server has one writer and needs no wait.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] without a leader, or when this process is behind.
    pub async fn barrier(&self) -> Result<(), StorageError> {
        if self.inner.embedded { Ok(()) } else { self.inner.barrier.pass(&self.inner).await }
    }

    /// Changes an account by compare-and-set; `f` runs again after a conflict.
    ///
    /// # Cancel safety
    /// After dropping it the change may or may not be stored. This holds for all `change_*`.
    pub async fn change_user<E>(
        &self,
        id: &UserId,
        f: impl FnMut(Option<&User>) -> Result<RecordChange<User>, E>,
    ) -> Result<Option<Arc<User>>, ChangeError<E>> {
        self.inner.state.change(&StateKey::User(*id), f).await
    }

    /// Changes a room; see [`Self::change_user`].
    pub async fn change_room<E>(
        &self,
        id: &RoomId,
        f: impl FnMut(Option<&Room>) -> Result<RecordChange<Room>, E>,
    ) -> Result<Option<Arc<Room>>, ChangeError<E>> {
        self.inner.state.change(&StateKey::Room(*id), f).await
    }

    /// Changes a membership; see [`Self::change_user`].
    pub async fn change_member<E>(
        &self,
        room: &RoomId,
        user: &UserId,
        f: impl FnMut(Option<&Membership>) -> Result<RecordChange<Membership>, E>,
    ) -> Result<Option<Arc<Membership>>, ChangeError<E>> {
        self.inner.state.change(&StateKey::Member(*room, *user), f).await
    }

    /// A membership record and its revision, as of one moment.
    #[must_use]
    pub fn member(&self, room: &RoomId, user: &UserId) -> Option<(Arc<Membership>, u64)> {
        self.inner.mirror.member(room, user)
    }

    /// The revision of a membership record; 0: there is none.
    #[must_use]
    pub fn member_revision(&self, room: &RoomId, user: &UserId) -> u64 {
        self.read(|tables| tables.revision(&StateKey::Member(*room, *user)))
    }

    /// Changes a role; see [`Self::change_user`].
    pub async fn change_role<E>(
        &self,
        name: &str,
        f: impl FnMut(Option<&Role>) -> Result<RecordChange<Role>, E>,
    ) -> Result<Option<Arc<Role>>, ChangeError<E>> {
        self.inner.state.change(&StateKey::Role(name.into()), f).await
    }

    /// Changes a group; see [`Self::change_user`].
    pub async fn change_group<E>(
        &self,
        id: &GroupId,
        f: impl FnMut(Option<&Group>) -> Result<RecordChange<Group>, E>,
    ) -> Result<Option<Arc<Group>>, ChangeError<E>> {
        self.inner.state.change(&StateKey::Group(*id), f).await
    }

    /// Changes the server's settings; see [`Self::change_user`].
    pub async fn change_server<E>(
        &self,
        f: impl FnMut(Option<&ServerSettings>) -> Result<RecordChange<ServerSettings>, E>,
    ) -> Result<Option<Arc<ServerSettings>>, ChangeError<E>> {
        self.inner.state.change(&StateKey::ServerSettings, f).await
    }

    /// Claims something unique for a holder. Its own earlier claim counts as success.
    pub async fn claim(
        &self,
        what: Claim<'_>,
        holder: impl Into<ClaimHolder>,
    ) -> Result<Claimed, StorageError> {
        self.inner.state.claim(what, &holder.into()).await
    }

    /// Gives a claim back, if this holder has it.
    pub async fn release(
        &self,
        what: Claim<'_>,
        holder: impl Into<ClaimHolder>,
    ) -> Result<(), StorageError> {
        self.inner.state.release(what.key(), &holder.into()).await
    }

    /// Gives a claim back by its key, as a sweep finds it in [`Tables::claims`]; see [`Self::release`].
    pub async fn release_key(
        &self,
        key: ClaimKey,
        holder: &ClaimHolder,
    ) -> Result<(), StorageError> {
        self.inner.state.release(key, holder).await
    }

    /// The room's head as of now; an empty one for a room without events.
    pub async fn head(&self, room: &RoomId) -> Result<Arc<RoomHead>, StorageError> {
        let head = self.inner.timeline.head(room.as_str()).await?;
        // A room that was announced has at least the row that says so.
        if head.event_number == 0
            && self.read(|tables| tables.rooms.get(room).is_some_and(|room| room.announced))
        {
            return Err(self.inner.timeline.hole(room.as_str(), "PAGES"));
        }
        Ok(head)
    }

    /// Rows `from..to` of the room timeline in ascending order, at most 256; rows are numbered from
    /// 0 without gaps. Bodies are sealed.
    pub async fn rows(&self, room: &RoomId, from: u32, to: u32) -> Result<Vec<Row>, StorageError> {
        converted(self.inner.timeline.rows(room.as_str(), from, to).await?)
    }

    /// Replies `from..to` of the thread at a root row; replies are numbered from 1.
    pub async fn replies(
        &self,
        room: &RoomId,
        root: u32,
        from: u32,
        to: u32,
    ) -> Result<Vec<Row>, StorageError> {
        converted(self.inner.timeline.replies(room.as_str(), root, from, to).await?)
    }

    /// The row with this id: a root row, or a reply. `None`: there is no such row in this room.
    pub async fn row(&self, room: &RoomId, id: &EventId) -> Result<Option<Row>, StorageError> {
        let row = self.inner.timeline.row(room.as_str(), id).await?;
        row.map(Row::try_from).transpose().map_err(StorageError::corrupt("PAGES"))
    }

    /// Appends one event to a room's journal.
    ///
    /// `draft` sees the present head and the rows and replies named in `needs`, all as of the position it is
    /// appended at, and decides row numbers and ids; it runs again when another writer was first. Whatever a
    /// draft depends on (the number of the next reply, a limit, whether a message is still there) it must take
    /// from this view, never from an earlier read. A draft that needs no rows does not wait for them. When this
    /// returns, the event is as durable as the settings promise and this process's reads contain it. A repeated
    /// request id within two minutes returns the stored event.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] with the draft's error; [`StorageError::Busy`] when too many wait for
    /// this room, or it was still waiting for its turn [`WRITE_DEADLINE`](crate::limits::WRITE_DEADLINE) after
    /// the call: nothing is stored then; [`StorageError::Unavailable`] at that deadline later on, when it may
    /// or may not be stored; [`StorageError::Erased`] for a repeated request id whose event was deleted or
    /// edited.
    ///
    /// # Cancel safety
    /// After dropping it the event may or may not be stored; never half of it.
    pub async fn append<E>(
        &self,
        room: &RoomId,
        request: &RequestId,
        needs: &[EventId],
        draft: impl FnMut(&DraftView<'_>) -> Result<Draft, E>,
    ) -> Result<Appended, ChangeError<E>> {
        // Known before anything is read: a nats-server that waits for its disk answers no reads either.
        self.inner.nats.check_writable().map_err(StorageError::from)?;
        self.inner.journal.append(room, request, needs, draft).await
    }

    /// Seals a body for its author and place, making the author's data key when there is none.
    pub async fn seal(
        &self,
        author: &UserId,
        room: &RoomId,
        row: &EventId,
        text: &str,
    ) -> Result<Sealed, StorageError> {
        Ok(self.sealer(author).await?.seal(room, row, text))
    }

    /// The author's data key, made when there is none, for sealing where the row is decided: inside
    /// the draft of an append.
    pub async fn sealer(&self, author: &UserId) -> Result<Sealer, StorageError> {
        let key_id = self.key_id(author);
        if let Some(key) = self.inner.keys.get(author, &key_id).await? {
            return Ok(Sealer { key, key_id });
        }
        // None yet, or its wrappings are for other secrets: a new active key.
        let new_id = self.inner.keys.create(author).await?;
        self.change_user::<std::convert::Infallible>(author, |user| {
            Ok(match user {
                Some(user) if user.active_key_id == key_id && !user.deleted => {
                    RecordChange::Put(User { active_key_id: new_id.clone(), ..user.clone() })
                }
                _ => RecordChange::Keep,
            })
        })
        .await
        .map_err(StorageError::from)?;
        let key_id = self.key_id(author);
        match self.inner.keys.get(author, &key_id).await? {
            Some(key) => Ok(Sealer { key, key_id }),
            None => Err(StorageError::Corrupt { what: "ENCRYPTION_KEYS", source: None }),
        }
    }

    fn key_id(&self, user: &UserId) -> String {
        self.read(|tables| {
            tables.users.get(user).map(|user| user.active_key_id.clone()).unwrap_or_default()
        })
    }

    /// The keys that open these bodies. Those of erased authors are left out: the tombstone decides, not
    /// the key, as another process may just have shredded it.
    pub async fn opener<'a>(
        &self,
        bodies: impl Iterator<Item = (UserId, &'a Sealed)>,
    ) -> Result<Opener, StorageError> {
        let bodies: Vec<_> = self.read(|tables| {
            let erased =
                |author: &UserId| tables.users.get(author).is_some_and(|user| user.deleted);
            bodies.filter(|(author, _)| !erased(author)).collect()
        });
        self.inner.keys.opener(bodies.into_iter()).await
    }

    /// Opens one body. `None`: its key was erased, or is unreadable with the present secret.
    pub async fn unseal(
        &self,
        author: &UserId,
        room: &RoomId,
        row: &EventId,
        sealed: &Sealed,
    ) -> Result<Option<String>, StorageError> {
        let opener = self.opener(std::iter::once((*author, sealed))).await?;
        Ok(opener.open(author, room, row, sealed))
    }

    /// Erases every data key of a user: its texts are unreadable for ever.
    pub async fn shred_keys(&self, user: &UserId) -> Result<(), StorageError> {
        self.inner.keys.shred(user).await
    }

    // --- tokens -----------------------------------------------------------------

    /// Stores a new token under its keyed hash; `false`: there is one.
    pub async fn token_create(
        &self,
        hash: &[u8; 32],
        token: &Token,
        ttl: Duration,
    ) -> Result<bool, StorageError> {
        self.inner.tokens.create(hash, token, ttl).await
    }

    /// A token's record from the leader.
    pub async fn token(&self, hash: &[u8; 32]) -> Result<Option<FoundToken>, StorageError> {
        self.inner.tokens.get(hash).await
    }

    /// A token's record, at most [`RECORD_CACHE_TTL`](crate::limits::RECORD_CACHE_TTL) old and from memory only
    /// while changes by other processes are received. Once [`Self::token_delete`] has returned there is none: in
    /// this process at once, in others when they receive the change.
    pub async fn token_cached(&self, hash: &[u8; 32]) -> Result<Option<FoundToken>, StorageError> {
        let fresh = self.inner.embedded || self.is_following();
        self.inner.tokens.get_cached(hash, fresh).await
    }

    /// Replaces a token's record; `false`: it has changed since it was found.
    ///
    /// # Errors
    /// [`StorageError::Newer`] unless [`FoundToken::is_known`].
    pub async fn token_replace(
        &self,
        hash: &[u8; 32],
        found: &FoundToken,
        token: &Token,
        ttl: Duration,
    ) -> Result<bool, StorageError> {
        self.inner.tokens.replace(hash, found, token, ttl).await
    }

    /// The tokens that `wanted` accepts, from any replica: with replicas some may be missing or old.
    /// Every token is read, a batch at a time.
    pub async fn tokens(
        &self,
        wanted: impl Fn(&Token) -> bool + Send + Sync,
    ) -> Result<Vec<([u8; 32], Token)>, StorageError> {
        self.inner.tokens.list(wanted).await
    }

    /// Removes a token at its revision; `false`: it changed meanwhile.
    pub async fn token_delete_at(
        &self,
        hash: &[u8; 32],
        revision: u64,
    ) -> Result<bool, StorageError> {
        self.inner.tokens.delete_at(hash, revision).await
    }

    /// Removes a token.
    pub async fn token_delete(&self, hash: &[u8; 32]) -> Result<(), StorageError> {
        self.inner.tokens.delete(hash).await
    }
}

/// Rows as they leave the store.
fn converted(rows: Vec<records::Row>) -> Result<Vec<Row>, StorageError> {
    let rows: Result<_, _> = rows.into_iter().map(Row::try_from).collect();
    rows.map_err(StorageError::corrupt("PAGES"))
}
