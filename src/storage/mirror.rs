//! STATE in memory: users, rooms, memberships, roles and settings. Its size follows users and rooms,
//! not history.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::encoding::{DecodeError, decode, is_known};
use super::follow::{Followed, Sink};
use super::live::{Changed, Ear, Live};
use super::mark::{self, Summary};
use super::records::{Claim, Fence, FoldCheckpoint, Group, Member, Role, Room, ServerConfig, User};
use crate::domain::permission::Subject;
use crate::domain::{GroupId, RoomId, UserId};

/// The prefix of STATE's subjects.
pub(super) const PREFIX: &str = "$KV.STATE.";

/// Subjects that are kept worked out: every check of a right begins with one.
const SUBJECTS_MAX: usize = 1_024;

/// Everything in STATE, with its indexes. Records are shared, never changed in place.
#[derive(Debug, Default)]
pub struct Tables {
    /// All accounts; those with `deleted` are tombstones.
    pub users: HashMap<UserId, Arc<User>>,
    /// All rooms, direct messages included.
    pub rooms: HashMap<RoomId, Arc<Room>>,
    /// All roles by name.
    pub roles: BTreeMap<String, Arc<Role>>,
    /// All groups.
    pub groups: HashMap<GroupId, Arc<Group>>,
    /// The server's own settings.
    pub server: Arc<ServerConfig>,
    logins: HashMap<String, UserId>,
    emails: HashMap<String, UserId>,
    members: HashMap<RoomId, BTreeMap<UserId, Arc<Member>>>,
    joined: HashMap<UserId, HashSet<RoomId>>,
    claims: BTreeMap<String, Arc<Claim>>,
    checkpoint: Arc<FoldCheckpoint>,
    fences: HashMap<String, Arc<Fence>>,
    /// Keys whose records have fields that this program does not know: it must not write them.
    newer: HashSet<String>,
    revisions: HashMap<String, u64>,
    /// What records were before a change that the feed has not passed yet.
    former: BTreeMap<u64, Changed>,
    /// The highest revision this process has written.
    written: u64,
    /// The highest revision seen, whoever wrote it and whether the feed has come to it or not.
    highest: u64,
    /// Keys whose last revision is a delete marker.
    deleted: HashSet<String>,
    /// What was worked out from users and roles, until one of them changes.
    subjects: Mutex<HashMap<UserId, Arc<Subject>>>,
    unreadable: Option<String>,
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
    pub fn member(&self, room: &RoomId, user: &UserId) -> Option<&Arc<Member>> {
        self.members.get(room)?.get(user)
    }

    /// The membership records of a room, former members included.
    pub fn members(&self, room: &RoomId) -> impl Iterator<Item = (&UserId, &Arc<Member>)> {
        self.members.get(room).into_iter().flatten()
    }

    /// Rooms the user is an explicit member of now.
    pub fn rooms_of(&self, user: &UserId) -> impl Iterator<Item = &RoomId> {
        self.joined.get(user).into_iter().flatten()
    }

    /// A user's subject as `work_out` makes it from these tables.
    pub fn subject(&self, user: UserId, work_out: impl FnOnce() -> Subject) -> Arc<Subject> {
        let lock = || self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subject) = lock().get(&user) {
            return Arc::clone(subject);
        }
        let subject = Arc::new(work_out());
        let mut subjects = lock();
        if subjects.len() >= SUBJECTS_MAX {
            subjects.clear();
        }
        subjects.insert(user, Arc::clone(&subject));
        subject
    }

    /// Every claim, for sweeps.
    pub fn claims(&self) -> impl Iterator<Item = (&String, &Arc<Claim>)> {
        self.claims.iter()
    }

    /// The key of a record that this program cannot read, and why.
    #[must_use]
    pub fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    pub(super) fn claim(&self, key: &str) -> Option<&Arc<Claim>> {
        self.claims.get(key)
    }

    pub(super) fn checkpoint(&self) -> Arc<FoldCheckpoint> {
        Arc::clone(&self.checkpoint)
    }

    pub(super) fn fence(&self, lease: &str) -> Option<&Arc<Fence>> {
        self.fences.get(lease)
    }

    /// Whether a newer program wrote this record, with fields that this one would drop.
    pub(super) fn is_newer(&self, key: &str) -> bool {
        self.newer.contains(key)
    }

    /// The last revision of a key, a tombstone's included; 0: never written.
    pub(super) fn revision(&self, key: &str) -> u64 {
        self.revisions.get(key).copied().unwrap_or(0)
    }

    /// How many keys there are, delete markers included.
    pub(super) fn held(&self) -> u64 {
        u64::try_from(self.revisions.len()).unwrap_or(u64::MAX)
    }

    /// What STATE holds, in a few numbers.
    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (key, revision) in self.revisions.iter().filter(|(key, _)| !key.starts_with("fold.")) {
            summary.newest = summary.newest.max(*revision);
            if !self.deleted.contains(key) {
                summary.keys += 1;
                summary.digest = summary.digest.wrapping_add(mark::digest(key, *revision));
            }
        }
        summary
    }

    /// Applies one stored value by its revision; older ones change nothing.
    pub(super) fn apply(&mut self, key: &str, value: Option<&[u8]>, revision: u64) {
        self.highest = self.highest.max(revision);
        let known = self.revisions.entry(key.to_owned()).or_default();
        if *known >= revision {
            return;
        }
        *known = revision;
        let changed = self.changed(key);
        if !matches!(changed, Changed::Other) {
            self.former.insert(revision, changed);
        }
        if value.is_none() {
            self.deleted.insert(key.to_owned());
        } else {
            self.deleted.remove(key);
        }
        if let Err(error) = self.store(key, value) {
            log::error!(key = key, error:% = error; "a record of STATE cannot be read");
            self.unreadable = Some(format!("{key}: {error}"));
        }
    }

    /// What a key's record is, with what it is before the change.
    fn changed(&self, key: &str) -> Changed {
        let mut parts = key.splitn(3, '.');
        let (kind, first) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let changed = match kind {
            "user" => UserId::try_from(first)
                .map(|id| Changed::User { id, former: self.users.get(&id).cloned() }),
            "room" => RoomId::try_from(first)
                .map(|id| Changed::Room { id, former: self.rooms.get(&id).cloned() }),
            "member" => RoomId::try_from(first).and_then(|room| {
                let user = UserId::try_from(parts.next().unwrap_or_default())?;
                Ok(Changed::Member { room, user })
            }),
            "role" => Ok(Changed::Role),
            "group" => GroupId::try_from(first).map(Changed::Group),
            "config" if first == "server" => {
                Ok(Changed::Server { former: Some(Arc::clone(&self.server)) })
            }
            _ => Ok(Changed::Other),
        };
        changed.unwrap_or(Changed::Other)
    }

    /// Records that changed after a revision, in the order of their last change; what they were is
    /// not known.
    pub(super) fn changed_since(&self, revision: u64) -> Vec<(u64, Changed)> {
        let newer = self.revisions.iter().filter(|(_, at)| **at > revision);
        let mut newer: Vec<_> = newer.map(|(key, at)| (*at, self.changed(key))).collect();
        newer.sort_unstable_by_key(|(at, _)| *at);
        newer
            .into_iter()
            .filter_map(|(at, changed)| match changed {
                Changed::User { id, .. } => Some((at, Changed::User { id, former: None })),
                Changed::Room { id, .. } => Some((at, Changed::Room { id, former: None })),
                Changed::Server { .. } => Some((at, Changed::Server { former: None })),
                Changed::Other => None,
                changed => Some((at, changed)),
            })
            .collect()
    }

    fn store(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), DecodeError> {
        let mut parts = key.splitn(3, '.');
        let (kind, first) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let malformed = |_| DecodeError::Malformed;
        if matches!(kind, "user" | "role") {
            self.subjects.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        }
        match (kind, key) {
            ("user", _) => {
                let id = UserId::try_from(first).map_err(malformed)?;
                let user = self.decoded(key, value)?;
                self.put_user(id, user);
            }
            ("room", _) => {
                let id = RoomId::try_from(first).map_err(malformed)?;
                let room = self.decoded(key, value)?;
                put(&mut self.rooms, id, room);
            }
            ("member", _) => {
                let room = RoomId::try_from(first).map_err(malformed)?;
                let user = UserId::try_from(parts.next().unwrap_or_default()).map_err(malformed)?;
                let member = self.decoded(key, value)?;
                self.put_member(room, user, member);
            }
            ("role", _) => match self.decoded(key, value)? {
                Some(role) => {
                    self.roles.insert(first.to_owned(), Arc::new(role));
                }
                None => {
                    self.roles.remove(first);
                }
            },
            ("group", _) => {
                let id = GroupId::try_from(first).map_err(malformed)?;
                let group = self.decoded(key, value)?;
                put(&mut self.groups, id, group);
            }
            ("claim", _) => match self.decoded(key, value)? {
                Some(claim) => {
                    self.claims.insert(key.to_owned(), Arc::new(claim));
                }
                None => {
                    self.claims.remove(key);
                }
            },
            ("lease", _) => {
                let fence = self.decoded(key, value)?;
                put(&mut self.fences, first.to_owned(), fence);
            }
            (_, "config.server") => {
                self.server = Arc::new(self.decoded(key, value)?.unwrap_or_default());
            }
            (_, "fold.checkpoint") => {
                self.checkpoint = Arc::new(self.decoded(key, value)?.unwrap_or_default());
            }
            // A kind, or a key of a kind, that a later version adds.
            _ => {}
        }
        Ok(())
    }

    /// Decodes a record, and remembers whether it has fields that this program does not know.
    fn decoded<R: prost::Message + Default>(
        &mut self,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<Option<R>, DecodeError> {
        self.newer.remove(key);
        let Some(value) = value else { return Ok(None) };
        let record = decode(value)?;
        if !is_known(&record, value) {
            self.newer.insert(key.to_owned());
        }
        Ok(Some(record))
    }

    fn put_user(&mut self, id: UserId, user: Option<User>) {
        if let Some(former) = self.users.remove(&id) {
            self.logins.retain(|_, holder| *holder != id || former.login.is_empty());
            self.emails.retain(|_, holder| *holder != id);
        }
        let Some(user) = user else { return };
        if !user.deleted {
            self.logins.insert(user.login.to_lowercase(), id);
            for email in user.emails.iter().filter(|email| email.verified) {
                self.emails.insert(email.address.to_lowercase(), id);
            }
        }
        self.users.insert(id, Arc::new(user));
    }

    fn put_member(&mut self, room: RoomId, user: UserId, member: Option<Member>) {
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
pub(super) struct Mirror {
    tables: RwLock<Tables>,
    ear: Ear,
}

impl Mirror {
    pub(super) fn read<T>(&self, f: impl FnOnce(&Tables) -> T) -> T {
        f(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn new(ear: Ear) -> Self {
        Self { ear, ..Self::default() }
    }

    /// The highest revision this process has written.
    pub(super) fn written(&self) -> u64 {
        self.read(|tables| tables.written)
    }

    /// The highest revision that these tables contain: what a decision made from them depends on.
    pub(super) fn highest(&self) -> u64 {
        self.read(|tables| tables.highest)
    }

    /// Applies this process's own write: its readers see it at once, the listener when the feed
    /// comes by.
    pub(super) fn wrote(&self, key: &str, value: Option<&[u8]>, revision: u64) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.apply(key, value, revision);
        tables.written = tables.written.max(revision);
    }

    pub(super) fn apply(&self, key: &str, value: Option<&[u8]>, revision: u64) {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).apply(key, value, revision);
    }
}

impl Mirror {
    /// A key whose delete marker is gone: the next write is its first.
    pub(super) fn forget(&self, key: &str) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = tables.store(key, None) {
            log::error!(key = key, error:% = error; "a key of STATE cannot be read");
        }
        tables.revisions.remove(key);
        tables.deleted.remove(key);
    }
}

impl Sink for Mirror {
    async fn apply(&self, message: Followed) {
        if let Some(key) = message.subject.strip_prefix(PREFIX) {
            let value = (!message.tombstone).then_some(&message.payload[..]);
            let revision = message.sequence;
            let changed = {
                let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
                tables.apply(key, value, revision);
                let newer = tables.former.split_off(&revision.saturating_add(1));
                std::mem::replace(&mut tables.former, newer).remove(&revision)
            };
            // A record that was overtaken by a newer one is told with that.
            let changed = changed.unwrap_or(Changed::Other);
            self.ear.hear(Live::State { revision, changed });
        }
    }
}
