//! STATE in memory: users, rooms, memberships, roles and settings. Its size follows users and rooms,
//! not history.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::domain::permission::Principal;
use crate::domain::{Group, GroupId, Membership, Role, Room, RoomId, ServerSettings, User, UserId};
use crate::storage::encoding::{DecodeError, Recorded, decode_value};
use crate::storage::feed::live::{FeedUpdate, SubscriberSlot};
use crate::storage::feed::{Followed, Sink};
use crate::storage::open::integrity::{self, Summary};
use crate::storage::records::{Fence, FoldCheckpoint};
use crate::storage::state::ClaimRecord;
use crate::storage::state::key::{ClaimKey, StateKey};
use parking_lot::{Mutex, RwLock};

/// The prefix of STATE's subjects.
pub(crate) const PREFIX: &str = "$KV.STATE.";

/// The principals of permission checks, cached: every check needs one.
const PRINCIPALS_MAX: usize = 1_024;

/// Everything in STATE, with its indexes. Records are shared, never changed in place.
#[derive(Debug, Default)]
pub struct Tables {
    /// All accounts; those with `deleted` are tombstones.
    pub users: HashMap<UserId, Arc<User>>,
    /// All rooms, direct messages included.
    pub rooms: HashMap<RoomId, Arc<Room>>,
    /// All roles by name.
    pub roles: BTreeMap<String, Arc<Role>>,
    pub groups: HashMap<GroupId, Arc<Group>>,
    pub server: Arc<ServerSettings>,
    logins: HashMap<String, UserId>,
    emails: HashMap<String, UserId>,
    members: HashMap<RoomId, BTreeMap<UserId, Arc<Membership>>>,
    joined: HashMap<UserId, HashSet<RoomId>>,
    claims: BTreeMap<ClaimKey, Arc<ClaimRecord>>,
    checkpoint: Arc<FoldCheckpoint>,
    fences: HashMap<String, Arc<Fence>>,
    /// Keys whose records have fields that this program does not know: it must not write them.
    newer: HashSet<StateKey>,
    revisions: HashMap<StateKey, u64>,
    /// What changed records were before, by key, until the feed has passed their last change.
    former: HashMap<StateKey, Former>,
    /// The highest revision this process has written.
    written: u64,
    /// The highest revision seen, whoever wrote it and whether the feed has come to it or not.
    highest: u64,
    /// Keys whose last revision is a delete marker.
    deleted: HashSet<StateKey>,
    /// What [`Self::summary`] returns, kept up to date with each change: it is asked for every two seconds.
    summary: Summary,
    /// What was worked out from users and roles, until one of them changes.
    principals: Mutex<HashMap<UserId, Arc<Principal>>>,
    unreadable: Option<String>,
}

/// A record of STATE.
pub trait StateRecord: Recorded + Clone {
    /// What its key is made of.
    type Id: ?Sized;

    /// The key of the record with this id.
    fn key(id: &Self::Id) -> StateKey;

    /// The present record.
    fn find(tables: &Tables, id: &Self::Id) -> Option<Arc<Self>>;
}

/// The key of each record, and where the tables contain it.
macro_rules! state_records {
    ($($record:ty, $id:ident: $id_type:ty => $key:expr, |$tables:ident| $found:expr;)*) => {$(
        impl StateRecord for $record {
            type Id = $id_type;

            fn key($id: &Self::Id) -> StateKey {
                $key
            }

            fn find($tables: &Tables, $id: &Self::Id) -> Option<Arc<Self>> {
                $found
            }
        }
    )*};
}

state_records! {
    User, id: UserId => StateKey::User(*id), |tables| tables.users.get(id).cloned();
    Room, id: RoomId => StateKey::Room(*id), |tables| tables.rooms.get(id).cloned();
    Role, name: str => StateKey::Role(name.into()), |tables| tables.roles.get(name).cloned();
    Group, id: GroupId => StateKey::Group(*id), |tables| tables.groups.get(id).cloned();
    Membership, ids: (RoomId, UserId) => StateKey::Member(ids.0, ids.1),
        |tables| tables.member(&ids.0, &ids.1).cloned();
    ServerSettings, _id: () => StateKey::ServerSettings,
        |tables| Some(Arc::clone(&tables.server));
    FoldCheckpoint, _id: () => StateKey::FoldCheckpoint,
        |tables| Some(Arc::clone(&tables.checkpoint));
    Fence, lease: str => StateKey::Lease(lease.into()), |tables| tables.fences.get(lease).cloned();
    ClaimRecord, key: ClaimKey => StateKey::Claim(*key), |tables| tables.claims.get(key).cloned();
}

/// A changed record of STATE; the present one is in the tables.
#[derive(Debug, Clone)]
pub enum StateChange {
    User {
        id: UserId,
        /// What it was; `None`: new, or not known any more.
        former: Option<Arc<User>>,
    },
    Room {
        id: RoomId,
        /// What it was; `None`: new, or not known any more.
        former: Option<Arc<Room>>,
    },
    /// A membership. Rows of the journal announce it; rights may depend on it all the same.
    Member {
        room: RoomId,
        user: UserId,
        /// What it was; `None`: new, or not known any more.
        former: Option<Arc<Membership>>,
    },
    Role,
    Group(GroupId),
    Server {
        former: Option<Arc<ServerSettings>>,
    },
    /// Nothing that clients see.
    Other,
}

/// A record that changed since the feed passed it.
#[derive(Debug)]
struct Former {
    /// Its last change.
    revision: u64,
    /// What it is, with what it was when its last change was delivered.
    changed: StateChange,
}

impl Tables {
    /// The account with this login, in any case; deleted ones have none.
    #[must_use]
    pub fn user_by_login(&self, login: &str) -> Option<&Arc<User>> {
        self.users.get(self.logins.get(&login.to_lowercase())?)
    }

    /// The account with this verified address, in any case.
    #[must_use]
    pub fn user_by_email(&self, address: &str) -> Option<&Arc<User>> {
        self.users.get(self.emails.get(&address.trim().to_lowercase())?)
    }

    /// A membership record; one with `left` is a former member.
    #[must_use]
    pub fn member(&self, room: &RoomId, user: &UserId) -> Option<&Arc<Membership>> {
        self.members.get(room)?.get(user)
    }

    /// The membership records of a room, former members included.
    pub fn members(&self, room: &RoomId) -> impl Iterator<Item = (&UserId, &Arc<Membership>)> {
        self.members.get(room).into_iter().flatten()
    }

    /// Rooms the user is an explicit member of now.
    pub fn rooms_of(&self, user: &UserId) -> impl Iterator<Item = &RoomId> {
        self.joined.get(user).into_iter().flatten()
    }

    /// A user's principal as `work_out` makes it from these tables.
    pub fn principal(&self, user: UserId, work_out: impl FnOnce() -> Principal) -> Arc<Principal> {
        let lock = || self.principals.lock();
        if let Some(principal) = lock().get(&user) {
            return Arc::clone(principal);
        }
        let principal = Arc::new(work_out());
        let mut principals = lock();
        if principals.len() >= PRINCIPALS_MAX {
            principals.clear();
        }
        principals.insert(user, Arc::clone(&principal));
        principal
    }

    /// Every claim, for sweeps.
    pub fn claims(&self) -> impl Iterator<Item = (&ClaimKey, &Arc<ClaimRecord>)> {
        self.claims.iter()
    }

    /// The key of a record that this program cannot read, and why.
    #[must_use]
    pub fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    pub(crate) fn checkpoint(&self) -> Arc<FoldCheckpoint> {
        Arc::clone(&self.checkpoint)
    }

    /// Whether a newer program wrote this record, with fields that this one would drop.
    pub(crate) fn is_newer(&self, key: &StateKey) -> bool {
        self.newer.contains(key)
    }

    /// The last revision of a key, a tombstone's included; 0: never written.
    pub(crate) fn revision(&self, key: &StateKey) -> u64 {
        self.revisions.get(key).copied().unwrap_or(0)
    }

    /// How many keys there are, delete markers included.
    pub(crate) fn held(&self) -> u64 {
        u64::try_from(self.revisions.len()).unwrap_or(u64::MAX)
    }

    /// What STATE holds, in a few numbers.
    pub(crate) fn summary(&self) -> Summary {
        self.summary
    }

    /// Adds a key at its new revision to the summary, after [`Self::take_from_summary`].
    fn add_to_summary(&mut self, key: &StateKey, revision: u64) {
        if key.is_volatile() {
            return;
        }
        self.summary.newest = self.summary.newest.max(revision);
        if !self.deleted.contains(key) {
            self.summary.keys += 1;
            let digest = integrity::digest(key, revision);
            self.summary.digest = self.summary.digest.wrapping_add(digest);
        }
    }

    /// Takes a key at its former revision out of the summary; 0: there was none. `newest` stays.
    fn take_from_summary(&mut self, key: &StateKey, former: u64) {
        if former > 0 && !key.is_volatile() && !self.deleted.contains(key) {
            self.summary.keys -= 1;
            let digest = integrity::digest(key, former);
            self.summary.digest = self.summary.digest.wrapping_sub(digest);
        }
    }

    /// Applies one stored value by its revision; older ones change nothing.
    pub(crate) fn apply(&mut self, key: &StateKey, value: Option<&[u8]>, revision: u64) {
        self.highest = self.highest.max(revision);
        let known = self.revisions.entry(key.clone()).or_default();
        if *known >= revision {
            return;
        }
        let former = std::mem::replace(known, revision);
        self.note_former(key, revision);
        self.take_from_summary(key, former);
        if value.is_none() {
            self.deleted.insert(key.clone());
        } else {
            self.deleted.remove(key);
        }
        self.add_to_summary(key, revision);
        if let Err(error) = self.store(key, value) {
            log::error!(key:% = key, error:err = error; "a record of STATE cannot be read");
            self.unreadable = Some(format!("{key}: {error}"));
        }
    }

    /// Keeps what a record is before a change. The first value since the feed passed it wins: a message
    /// of the feed may be lost, and overwritten before it is looked for.
    fn note_former(&mut self, key: &StateKey, revision: u64) {
        if let Some(former) = self.former.get_mut(key) {
            former.revision = former.revision.max(revision);
            return;
        }
        let changed = self.changed(key);
        if !matches!(changed, StateChange::Other) {
            self.former.insert(key.clone(), Former { revision, changed });
        }
    }

    /// The records whose last change the feed has passed now, in the order of their changes.
    fn take_passed(&mut self, upto: u64) -> Vec<(u64, StateChange)> {
        let passed = self.former.extract_if(|_, former| former.revision <= upto);
        let mut passed: Vec<_> =
            passed.map(|(_, former)| (former.revision, former.changed)).collect();
        passed.sort_unstable_by_key(|(revision, _)| *revision);
        passed
    }

    /// The highest STATE revision that these tables contain, whether the feed has come to it or not.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Describes a change of this key; `former` is what these tables contain now.
    fn changed(&self, key: &StateKey) -> StateChange {
        match key {
            StateKey::User(id) => {
                StateChange::User { id: *id, former: self.users.get(id).cloned() }
            }
            StateKey::Room(id) => {
                StateChange::Room { id: *id, former: self.rooms.get(id).cloned() }
            }
            StateKey::Member(room, user) => {
                let former = self.member(room, user).cloned();
                StateChange::Member { room: *room, user: *user, former }
            }
            StateKey::Role(_) => StateChange::Role,
            StateKey::Group(id) => StateChange::Group(*id),
            StateKey::ServerSettings => {
                StateChange::Server { former: Some(Arc::clone(&self.server)) }
            }
            StateKey::Claim(_)
            | StateKey::FoldCheckpoint
            | StateKey::Lease(_)
            | StateKey::Other(_) => StateChange::Other,
        }
    }

    /// Records that changed after a revision, in the order of their last change; what they were is
    /// not known.
    pub(crate) fn changed_since(&self, revision: u64) -> Vec<(u64, StateChange)> {
        let newer = self.revisions.iter().filter(|(_, at)| **at > revision);
        let mut newer: Vec<_> = newer.map(|(key, at)| (*at, self.changed(key))).collect();
        newer.sort_unstable_by_key(|(at, _)| *at);
        newer
            .into_iter()
            .filter_map(|(at, changed)| match changed {
                StateChange::User { id, .. } => Some((at, StateChange::User { id, former: None })),
                StateChange::Room { id, .. } => Some((at, StateChange::Room { id, former: None })),
                StateChange::Member { room, user, .. } => {
                    Some((at, StateChange::Member { room, user, former: None }))
                }
                StateChange::Server { .. } => Some((at, StateChange::Server { former: None })),
                StateChange::Other => None,
                // These name no former record. No wildcard: one that did would have to be replayed without it.
                changed @ (StateChange::Role | StateChange::Group(_)) => Some((at, changed)),
            })
            .collect()
    }

    fn store(&mut self, key: &StateKey, value: Option<&[u8]>) -> Result<(), DecodeError> {
        if matches!(key, StateKey::User(_) | StateKey::Role(_)) {
            self.principals.get_mut().clear();
        }
        match key {
            StateKey::User(id) => {
                let user = self.decoded(key, value)?;
                self.put_user(*id, user);
            }
            StateKey::Room(id) => {
                let room = self.decoded(key, value)?;
                put(&mut self.rooms, *id, room);
            }
            StateKey::Member(room, user) => {
                let member = self.decoded(key, value)?;
                self.put_member(*room, *user, member);
            }
            StateKey::Role(name) => match self.decoded(key, value)? {
                Some(role) => {
                    self.roles.insert(name.to_string(), Arc::new(role));
                }
                None => {
                    self.roles.remove(&**name);
                }
            },
            StateKey::Group(id) => {
                let group = self.decoded(key, value)?;
                put(&mut self.groups, *id, group);
            }
            StateKey::Claim(claim) => match self.decoded(key, value)? {
                Some(record) => {
                    self.claims.insert(*claim, Arc::new(record));
                }
                None => {
                    self.claims.remove(claim);
                }
            },
            StateKey::Lease(name) => {
                let fence = self.decoded(key, value)?;
                put(&mut self.fences, name.to_string(), fence);
            }
            StateKey::ServerSettings => {
                self.server = Arc::new(self.decoded(key, value)?.unwrap_or_default());
            }
            StateKey::FoldCheckpoint => {
                self.checkpoint = Arc::new(self.decoded(key, value)?.unwrap_or_default());
            }
            StateKey::Other(_) => {}
        }
        Ok(())
    }

    /// Decodes a record, and remembers whether it has fields that this program does not know.
    fn decoded<R: Recorded>(
        &mut self,
        key: &StateKey,
        value: Option<&[u8]>,
    ) -> Result<Option<R>, DecodeError> {
        self.newer.remove(key);
        let Some(value) = value else { return Ok(None) };
        let (record, is_known) = decode_value(value)?;
        if !is_known {
            self.newer.insert(key.clone());
        }
        Ok(Some(record))
    }

    fn put_user(&mut self, id: UserId, user: Option<User>) {
        let former = self.users.remove(&id);
        let user = user.map(Arc::new);
        if let Some(user) = &user {
            self.users.insert(id, Arc::clone(user));
        }
        // Two accounts may have one login or address for a moment, until one of them is taken back: the first
        // one keeps it, and has it again if it was not.
        let names = |user: &User| -> Vec<(bool, String)> {
            let emails = user.emails.iter().filter(|email| email.verified);
            let emails = emails.map(|email| (false, email.address.to_lowercase()));
            std::iter::once((true, user.login.to_lowercase())).chain(emails).collect()
        };
        let own = user.as_deref().filter(|user| !user.deleted).map(names).unwrap_or_default();
        for (is_login, name) in former.as_deref().map(names).unwrap_or_default() {
            let map = if is_login { &mut self.logins } else { &mut self.emails };
            if map.get(&name) != Some(&id) || own.contains(&(is_login, name.clone())) {
                continue;
            }
            map.remove(&name);
            let has_it =
                |user: &User| !user.deleted && names(user).contains(&(is_login, name.clone()));
            let other = self.users.iter().find(|(other, user)| **other != id && has_it(user));
            if let Some((other, _)) = other {
                map.insert(name, *other);
            }
        }
        for (is_login, name) in own {
            let map = if is_login { &mut self.logins } else { &mut self.emails };
            map.entry(name).or_insert(id);
        }
    }

    fn put_member(&mut self, room: RoomId, user: UserId, member: Option<Membership>) {
        let is_member = member.as_ref().is_some_and(|member| !member.left);
        let joined = self.joined.entry(user).or_default();
        if is_member {
            joined.insert(room);
        } else {
            joined.remove(&room);
        }
        let members = self.members.entry(room).or_default();
        match member {
            Some(member) => {
                members.insert(user, Arc::new(member));
            }
            None => {
                members.remove(&user);
            }
        }
    }
}

fn put<K: std::hash::Hash + Eq, R>(table: &mut HashMap<K, Arc<R>>, id: K, record: Option<R>) {
    match record {
        Some(record) => {
            table.insert(id, Arc::new(record));
        }
        None => {
            table.remove(&id);
        }
    }
}

/// The tables, shared between readers, writers and the follower.
#[derive(Default)]
pub(crate) struct Mirror {
    tables: RwLock<Tables>,
    subscriber: SubscriberSlot,
}

impl Mirror {
    pub(crate) fn read<T>(&self, f: impl FnOnce(&Tables) -> T) -> T {
        f(&self.tables.read())
    }

    pub(crate) fn new(subscriber: SubscriberSlot) -> Self {
        Self { subscriber, ..Self::default() }
    }

    /// The highest revision this process has written.
    pub(crate) fn written(&self) -> u64 {
        self.read(|tables| tables.written)
    }

    /// The highest revision that these tables contain: what a decision made from them depends on.
    pub(crate) fn highest(&self) -> u64 {
        self.read(Tables::highest)
    }

    /// A membership record and its revision, as of one moment.
    pub(crate) fn member(&self, room: &RoomId, user: &UserId) -> Option<(Arc<Membership>, u64)> {
        self.read(|tables| {
            let member = Arc::clone(tables.member(room, user)?);
            Some((member, tables.revision(&StateKey::Member(*room, *user))))
        })
    }

    /// Applies this process's own write: its readers see it at once, the subscriber when the feed
    /// reaches it.
    pub(crate) fn wrote(&self, key: &StateKey, value: Option<&[u8]>, revision: u64) {
        let mut tables = self.tables.write();
        tables.apply(key, value, revision);
        tables.written = tables.written.max(revision);
    }

    pub(crate) fn apply(&self, key: &StateKey, value: Option<&[u8]>, revision: u64) {
        self.tables.write().apply(key, value, revision);
    }

    /// The key of a stored subject. One of a known kind whose id is none counts as unreadable.
    fn parse(&self, text: &str) -> StateKey {
        text.parse().unwrap_or_else(|error| {
            log::error!(key = text, error:err = error; "a key of STATE cannot be read");
            let mut tables = self.tables.write();
            tables.unreadable = Some(format!("{text}: {error}"));
            StateKey::Other(text.into())
        })
    }

    /// A key whose delete marker was swept: the next write is its first.
    pub(crate) fn remove_swept(&self, key: &StateKey) {
        let mut tables = self.tables.write();
        let revision = tables.revision(key);
        tables.note_former(key, revision);
        if let Err(error) = tables.store(key, None) {
            log::error!(key:% = key, error:err = error; "a key of STATE cannot be read");
        }
        tables.take_from_summary(key, revision);
        tables.revisions.remove(key);
        tables.deleted.remove(key);
        if tables.summary.newest == revision {
            let lasting = tables.revisions.iter().filter(|(key, _)| !key.is_volatile());
            tables.summary.newest = lasting.map(|(_, revision)| *revision).max().unwrap_or(0);
        }
    }

    /// Delivers every change that the feed has passed.
    fn deliver_passed(&self, upto: u64) {
        let passed = {
            let mut tables = self.tables.write();
            if tables.former.is_empty() {
                return;
            }
            tables.take_passed(upto)
        };
        for (revision, changed) in passed {
            self.subscriber.deliver(FeedUpdate::State { revision, changed });
        }
    }
}

impl Sink for Mirror {
    async fn apply(&self, message: Followed) {
        if let Some(key) = message.subject.strip_prefix(PREFIX) {
            let value = (!message.tombstone).then_some(&message.payload[..]);
            let revision = message.sequence;
            let key = self.parse(key);
            self.apply(&key, value, revision);
            self.deliver_passed(revision);
            // Also of what nobody sees, so that the subscriber knows how far the feed is. A record that was
            // overtaken by a newer one is delivered with that one.
            self.subscriber.deliver(FeedUpdate::State { revision, changed: StateChange::Other });
        }
    }

    fn passed(&self, upto: u64) {
        self.deliver_passed(upto);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::storage::encoding::encode_value;
    use crate::storage::feed::live::FeedSubscriber;

    /// What was delivered of rooms: the revision, and the name the room had before.
    #[derive(Default)]
    struct Received(Mutex<Vec<(u64, Option<String>)>>);

    impl FeedSubscriber for Received {
        fn deliver(&self, live: FeedUpdate) {
            if let FeedUpdate::State { revision, changed: StateChange::Room { former, .. } } = live
            {
                let name = former.map(|room| room.name.clone());
                self.0.lock().push((revision, name));
            }
        }
    }

    fn mirror() -> (Mirror, Arc<Received>) {
        let received = Arc::new(Received::default());
        (
            Mirror::new(SubscriberSlot::of(Arc::clone(&received) as Arc<dyn FeedSubscriber>)),
            received,
        )
    }

    fn key(n: u8) -> StateKey {
        StateKey::Room(RoomId::from_random([n; 16]))
    }

    fn room(name: &str) -> Vec<u8> {
        let room = Room::new(RoomId::from_random([0; 16]));
        encode_value(&Room { name: name.to_owned(), ..room }).to_vec()
    }

    /// A message of the feed.
    fn feed(mirror: &Mirror, key: &StateKey, name: &str, sequence: u64) {
        let subject = format!("{PREFIX}{key}");
        let message = Followed { subject, sequence, payload: room(name).into(), tombstone: false };
        smol::block_on(Sink::apply(mirror, message));
    }

    fn take_received(received: &Received) -> Vec<(u64, Option<String>)> {
        std::mem::take(&mut *received.0.lock())
    }

    #[test]
    fn a_change_whose_message_was_lost_and_overwritten_is_delivered_with_the_next() {
        let (mirror, received) = mirror();
        feed(&mirror, &key(1), "first", 1);
        assert_eq!(take_received(&received), [(1, None)]);
        mirror.wrote(&key(1), Some(&room("second")), 2);
        mirror.wrote(&key(1), Some(&room("third")), 4);
        // Revision 2 never comes: the key was written again before it was looked for.
        feed(&mirror, &key(2), "another", 3);
        assert_eq!(take_received(&received), [(3, None)]);
        feed(&mirror, &key(1), "third", 4);
        assert_eq!(take_received(&received), [(4, Some("first".to_owned()))]);
        feed(&mirror, &key(1), "fourth", 5);
        assert_eq!(
            take_received(&received),
            [(5, Some("third".to_owned()))],
            "each former value once"
        );
    }

    #[test]
    fn a_change_whose_message_is_erased_is_delivered_when_its_place_is_passed() {
        let (mirror, received) = mirror();
        feed(&mirror, &key(1), "first", 1);
        take_received(&received);
        mirror.wrote(&key(1), None, 2);
        mirror.passed(1);
        assert!(take_received(&received).is_empty());
        mirror.passed(2);
        assert_eq!(take_received(&received), [(2, Some("first".to_owned()))]);
        // The same where the next message is another key's.
        feed(&mirror, &key(2), "other", 3);
        take_received(&received);
        mirror.wrote(&key(2), None, 4);
        feed(&mirror, &key(3), "third", 5);
        assert_eq!(take_received(&received), [(4, Some("other".to_owned())), (5, None)]);
    }

    /// Whether a membership was announced before each change that was delivered.
    #[derive(Default)]
    struct ReceivedMembers(Mutex<Vec<(u64, Option<bool>)>>);

    impl FeedSubscriber for ReceivedMembers {
        fn deliver(&self, live: FeedUpdate) {
            if let FeedUpdate::State { revision, changed: StateChange::Member { former, .. } } =
                live
            {
                let announced = former.map(|member| member.announced);
                self.0.lock().push((revision, announced));
            }
        }
    }

    #[test]
    fn a_join_that_is_delivered_with_its_announcement_is_delivered_as_new() {
        let received = Arc::new(ReceivedMembers::default());
        let mirror =
            Mirror::new(SubscriberSlot::of(Arc::clone(&received) as Arc<dyn FeedSubscriber>));
        let take_received = || std::mem::take(&mut *received.0.lock());
        let room = RoomId::from_random([1; 16]);
        let key = |n: u64| StateKey::Member(room, UserId::from_number(n));
        let member = |announced| {
            let member = Membership::new(room, UserId::from_number(1));
            encode_value(&Membership { announced, ..member }).to_vec()
        };
        mirror.wrote(&key(1), Some(&member(false)), 1);
        mirror.passed(1);
        mirror.wrote(&key(1), Some(&member(true)), 2);
        mirror.passed(2);
        assert_eq!(take_received(), [(1, None), (2, Some(false))]);
        // The feed comes by when both are written.
        mirror.wrote(&key(2), Some(&member(false)), 3);
        mirror.wrote(&key(2), Some(&member(true)), 4);
        mirror.passed(4);
        assert_eq!(take_received(), [(4, None)]);
        let resumed = mirror.read(|tables| tables.changed_since(0));
        let knows = |(_, changed): &(u64, StateChange)| {
            matches!(changed, StateChange::Member { former: Some(_), .. })
        };
        assert_eq!(resumed.len(), 2);
        assert!(!resumed.iter().any(knows), "what a client was sent before is not known");
    }

    #[test]
    fn a_record_that_is_found_swept_is_delivered() {
        let (mirror, received) = mirror();
        feed(&mirror, &key(1), "first", 1);
        take_received(&received);
        mirror.remove_swept(&key(1));
        mirror.passed(1);
        assert_eq!(take_received(&received), [(1, Some("first".to_owned()))]);
    }

    #[test]
    fn the_summary_is_that_of_all_keys() {
        fn summed(tables: &Tables) -> Summary {
            let lasting = || tables.revisions.iter().filter(|(key, _)| !key.is_volatile());
            let live = || lasting().filter(|(key, _)| !tables.deleted.contains(key));
            Summary {
                keys: live().count() as u64,
                digest: live().fold(0, |sum, (key, revision)| {
                    sum.wrapping_add(integrity::digest(key.to_string(), *revision))
                }),
                newest: lasting().map(|(_, revision)| *revision).max().unwrap_or(0),
            }
        }
        let (mirror, _) = mirror();
        let keys = [
            key(1),
            key(2),
            StateKey::Role("owner".into()),
            StateKey::Other("future".into()),
            StateKey::Other("fold.future".into()),
            StateKey::Lease("fold".into()),
        ];
        let mut random = 1_u64;
        for revision in 1..=2_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let choice = random >> 33;
            let key = &keys[choice as usize % keys.len()];
            // Values that cannot be decoded count as well.
            match choice % 7 {
                0 => mirror.remove_swept(key),
                1 | 2 => mirror.wrote(key, None, revision),
                3 => mirror.apply(key, Some(&room("late")), revision.saturating_sub(3).max(1)),
                _ => mirror.wrote(key, Some(&room("text")), revision),
            }
            mirror.read(|tables| assert_eq!(tables.summary(), summed(tables), "{revision}"));
        }
    }

    #[test]
    fn a_record_is_never_read_with_the_revision_of_another_one() {
        const WRITES: u64 = 20_000;
        let (room, user) = (RoomId::from_random([1; 16]), UserId::from_number(1));
        let key = StateKey::Member(room, user);
        let (mirror, is_over) = (Mirror::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            // Each record carries its revision.
            scope.spawn(|| {
                for revision in 1..=WRITES {
                    let since_ms = revision as i64;
                    let record =
                        encode_value(&Membership { since_ms, ..Membership::new(room, user) });
                    mirror.wrote(&key, Some(&record), revision);
                }
                is_over.store(true, Ordering::Relaxed);
            });
            while !is_over.load(Ordering::Relaxed) {
                let Some((member, revision)) = mirror.member(&room, &user) else { continue };
                assert_eq!(
                    member.since_ms as u64, revision,
                    "a record, and another one's revision"
                );
            }
        });
        let (member, revision) = mirror.member(&room, &user).unwrap();
        assert_eq!((member.since_ms as u64, revision), (WRITES, WRITES));
    }
}
