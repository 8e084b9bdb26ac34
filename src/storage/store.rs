//! The store as the rest of the program sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use event_listener::Event as Wake;

use crate::crypto::{KeyEncryptionKey, hex};
use crate::nats::{Nats, WritesRefused};
use crate::runtime::{Clock, Runtime, Scope, Stop};
use crate::storage::error::StorageError;
use crate::storage::feed::journal::{JournalFeed, StampWait};
use crate::storage::feed::live::{self, Feed, SubscriberSlot};
use crate::storage::feed::{Follower, Following, Position, quorum};
use crate::storage::files::{Files, Uploads};
use crate::storage::fold::held::RoomHold;
use crate::storage::fold::{Folder, checkpoint, task};
use crate::storage::journal::append::Journal;
use crate::storage::kv::backup_results::BackupLog;
use crate::storage::kv::counters::Counters;
use crate::storage::kv::key_store::{KeyStore, Unexported};
use crate::storage::kv::keys::Keys;
use crate::storage::kv::lease::{Lease, Leases};
use crate::storage::kv::markers::{self, Markers};
use crate::storage::kv::memory::{self, MemoryStreams};
use crate::storage::kv::presences::Presences;
use crate::storage::kv::register::Register;
use crate::storage::kv::texts::Texts;
use crate::storage::kv::tokens::Tokens;
use crate::storage::kv::user_keys::UserKeys;
use crate::storage::layout::stream;
use crate::storage::open::{Config, Identity, OpenError, integrity, writer};
use crate::storage::purge;
use crate::storage::records::FoldCheckpoint;
use crate::storage::state::State;
use crate::storage::state::mirror::Mirror;
use crate::storage::timeline::Timeline;
use crate::storage::timeline::overlay::Overlay;
use crate::storage::timelines::Timelines;

/// Tasks of one open store.
const TASKS_MAX: usize = 16;
/// How long a close waits until the feed has delivered the store's own last changes.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// An open store, with a handle for each of its parts. Clones share it.
#[derive(Clone)]
pub struct Storage {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) nats: Nats,
    pub(crate) clock: Clock,
    pub(crate) embedded: bool,
    pub(crate) identity: Identity,
    /// Names this process in leases.
    pub(crate) process: String,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) state: State,
    pub(crate) state_position: Position,
    pub(crate) journal: Journal,
    pub(crate) journal_position: Position,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) folder: Folder,
    pub(crate) fold_wanted: Arc<Wake>,
    pub(crate) keys: Keys,
    /// How often keys were imported, as this process knows.
    pub(crate) key_imports: AtomicU64,
    pub(crate) markers: Markers,
    pub(crate) memory: Arc<MemoryStreams>,
    pub(crate) tokens: Tokens,
    pub(crate) presences: Presences,
    pub(crate) uploads: Uploads,
    pub(crate) barrier: crate::storage::feed::barrier::Barrier,
    pub(crate) subscriber: SubscriberSlot,
    pub(crate) leases: Leases,
    /// The least writer's number, once it is above this program's: nothing is written any more. 0: this program
    /// may write.
    pub(crate) outdated: AtomicU32,
    /// The store that was opened is replaced by a restore: nothing is written any more.
    pub(crate) is_restored: AtomicBool,
    pub(crate) following: Following,
    scope: Scope,
    stop: Stop,
}

impl Storage {
    /// Opens the store: checks or creates it, mirrors STATE, reads the unfolded tail of the journal,
    /// and starts the background work (feeds, fold, read markers, purge).
    ///
    /// # Errors
    /// [`OpenError`]; transient ones may be tried again.
    pub async fn open(
        nats: Nats,
        config: Config,
        runtime: &Runtime,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let identity = writer::open(&nats, &clock, &config).await?;
        let mark = integrity::read(&nats, &identity).await?;
        integrity::check_ends(&nats, &clock, &mark).await?;
        let (stop, scope) = (Stop::new(), Scope::new(runtime, "storage", TASKS_MAX));
        let subscriber = SubscriberSlot::default();
        let mirror = Arc::new(Mirror::new(subscriber.clone()));
        let following = follow_state(&nats, &clock, &scope, &stop, &mirror);
        let state_position = Box::pin(following).await?;
        let overlay = Arc::new(Overlay::new());
        let fold_wanted = Arc::new(Wake::new());
        let state = StampWait::new(&state_position, &nats);
        let stalled = Arc::clone(&state.stalled);
        let feed = JournalFeed::new(&overlay, state, &clock, &fold_wanted, &subscriber);
        let start = checkpoint::read(&mirror, &identity.epoch);
        let following = follow_journal(&nats, &clock, (&scope, &stop), feed, &start);
        let journal_position = Box::pin(following).await?;

        let following = Following::of(&state_position, &journal_position, stalled);
        let link = || (nats.clone(), clock.clone());
        let timeline = Arc::new(Timeline::new(
            link(),
            Arc::clone(&overlay),
            journal_position.clone(),
            (config.replicas > 1, identity.epoch.clone()),
        ));
        let (lines, pages) = (Arc::clone(&timeline), Arc::clone(&overlay));
        let memory = Arc::new(MemoryStreams::new(link(), config.replicas, &identity));
        let inner = Arc::new(Inner {
            state: State::new(link(), Arc::clone(&mirror)),
            journal: Journal::new(
                link(),
                Arc::clone(&timeline),
                journal_position.clone(),
                Arc::clone(&mirror),
            ),
            folder: Folder::new(link(), pages, lines, identity.epoch.clone()),
            keys: Keys::new(link(), KeyEncryptionKey::derive(&config.secret_key)),
            key_imports: AtomicU64::new(KeyStore { nats: &nats, clock: &clock }.imports().await?),
            markers: Markers::new(link(), config.embedded, following.clone()),
            tokens: Tokens::new(link(), config.embedded, following.clone()),
            presences: Presences { nats: nats.clone(), memory: Arc::clone(&memory) },
            uploads: Uploads::new(link()),
            memory,
            barrier: crate::storage::feed::barrier::Barrier::default(),
            process: hex(&crate::crypto::random::<8>()),
            embedded: config.embedded,
            identity,
            mirror,
            state_position,
            journal_position,
            overlay,
            timeline,
            fold_wanted,
            nats,
            clock,
            subscriber,
            leases: Leases::default(),
            outdated: AtomicU32::new(0),
            is_restored: AtomicBool::new(false),
            following,
            scope,
            stop,
        });
        integrity::check_state(&inner, &mark).await?;
        inner.start_background();
        Ok(Self { inner })
    }

    /// The connection of this process, for the bytes of files.
    #[must_use]
    pub fn nats(&self) -> &Nats {
        &self.inner.nats
    }

    /// What is known of uploaded files.
    #[must_use]
    pub fn files(&self) -> Files<'_> {
        let (nats, clock) = (&self.inner.nats, &self.inner.clock);
        Files { nats, clock, user_keys: self.user_keys() }
    }

    /// The uploads in progress.
    #[must_use]
    pub fn uploads(&self) -> &Uploads {
        &self.inner.uploads
    }

    /// Stops the background work and writes waiting read markers. What is unfolded stays in the journal: the
    /// next start reads it, which has a bound, and a fold beside that of the lease's holder is saved.
    pub async fn close(&self) {
        let inner = &self.inner;
        // What was just written comes back at once; the mark needs it.
        let newest = inner.mirror.read(|tables| tables.summary().newest);
        inner.state_position.wait_for(newest, CLOSE_WAIT, &inner.clock).await.ok();
        inner.stop.stop();
        inner.scope.join().await;
        if let Err(error) = inner.markers.flush().await {
            log::warn!(error:err = error; "read markers of the last seconds are not stored");
        }
        if let Err(error) = Box::pin(inner.write_mark()).await {
            log::debug!(error:err = error; "the high-water marks were not stored at shutdown");
        }
    }

    /// STATE: users, rooms, memberships, roles, groups, settings and claims.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.inner.state
    }

    /// The timelines of rooms.
    #[must_use]
    pub fn timelines(&self) -> Timelines<'_> {
        Timelines { store: &self.inner }
    }

    /// The texts of messages.
    #[must_use]
    pub fn texts(&self) -> Texts<'_> {
        Texts { user_keys: self.user_keys() }
    }

    /// The data keys of users.
    #[must_use]
    pub fn user_keys(&self) -> UserKeys<'_> {
        UserKeys { keys: &self.inner.keys, state: &self.inner.state }
    }

    /// How often keys were imported into this store: what was undecryptable before may be readable since.
    #[must_use]
    pub fn key_imports(&self) -> u64 {
        self.inner.key_imports.load(Ordering::SeqCst)
    }

    /// How many people have keys that no export holds.
    ///
    /// # Errors
    /// [`StorageError`]
    pub async fn unexported_keys(&self) -> Result<Unexported, StorageError> {
        self.inner.key_store().unexported().await
    }

    /// The results of backups.
    #[must_use]
    pub fn backup_log(&self) -> BackupLog<'_> {
        BackupLog { nats: &self.inner.nats, clock: &self.inner.clock }
    }

    /// What is delivered to the process's subscriber.
    #[must_use]
    pub fn feed(&self) -> Feed<'_> {
        Feed { store: &self.inner }
    }

    /// Tokens of log-ins and links.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    /// Read markers.
    #[must_use]
    pub fn markers(&self) -> &Markers {
        &self.inner.markers
    }

    /// Presence records.
    #[must_use]
    pub fn presences(&self) -> &Presences {
        &self.inner.presences
    }

    /// Counters of failed log-ins.
    #[must_use]
    pub fn counters(&self) -> Counters<'_> {
        Counters { nats: &self.inner.nats, memory: &self.inner.memory }
    }

    /// The register of processes.
    #[must_use]
    pub fn register(&self) -> Register<'_> {
        Register { store: &self.inner }
    }

    /// Takes or renews a lease for this process; `None`: another one holds it. Work under it asks
    /// [`Lease::holds`] before each write.
    pub async fn lease(
        &self,
        name: &'static str,
        ttl: Duration,
    ) -> Result<Option<Lease>, StorageError> {
        self.inner.lease(name, ttl).await
    }

    /// Renews a lease that has become old, or has ended: long work under it asks this before each of its pieces.
    /// `false`: another process holds it, or has held it since.
    pub async fn renew_lease(&self, lease: &mut Lease) -> Result<bool, StorageError> {
        self.inner.renew_lease(lease).await
    }

    /// Whether another process holds a lease, asked without taking it.
    pub async fn is_lease_held_elsewhere(&self, name: &'static str) -> Result<bool, StorageError> {
        self.inner.is_lease_held_elsewhere(name).await
    }

    /// Whether an archive of this store is being made: files must not be erased meanwhile. Whoever erases one asks after
    /// it is stored that the file is being erased.
    pub async fn is_exporting(&self) -> Result<bool, StorageError> {
        crate::storage::export::is_exporting(&self.inner.memory).await
    }

    /// With external NATS: one attempt to wait until this process has seen everything acknowledged before
    /// the call. The embedded server has one writer and needs no wait.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] without a leader, or when this process is behind.
    pub async fn barrier(&self) -> Result<(), StorageError> {
        if self.inner.embedded { Ok(()) } else { self.inner.barrier.pass(&self.inner).await }
    }

    /// Whether the streams have had no leader for longer than an election takes: changes are refused.
    #[must_use]
    pub fn has_lost_quorum(&self) -> bool {
        self.inner.nats.is_refusing(WritesRefused::NoQuorum)
    }

    /// Waits until [`Self::has_lost_quorum`].
    pub async fn quorum_lost(&self) {
        self.inner.nats.wait_until_refusing(WritesRefused::NoQuorum).await;
    }

    /// Folds everything that is unfolded now and moves the checkpoint; a backup begins with this.
    ///
    /// # Cancel safety
    /// May be dropped at any await and repeated.
    pub async fn fold_all(&self) -> Result<(), StorageError> {
        Box::pin(self.inner.fold_due(true, None)).await
    }

    /// The same under the lease `fold`: when it ends, nothing more is written.
    ///
    /// # Errors
    /// [`StorageError`]; transient when the lease is over or another process has taken it.
    ///
    /// # Cancel safety
    /// May be dropped at any await and repeated.
    pub async fn fold_all_under(&self, lease: &Lease) -> Result<(), StorageError> {
        Box::pin(self.inner.fold_due(true, Some(lease))).await
    }

    /// Purges what only clients that were long away could miss (folded journal events and delete markers
    /// older than the resume window), and parts that unfinished folds have left. It happens by itself every hour.
    pub async fn purge(&self) -> Result<(), StorageError> {
        self.inner.purge_journal(None).await?;
        self.inner.sweep_tombstones(None).await?;
        self.inner.folder.erase_orphaned_parts(None).await
    }

    /// The id of this server, the same in every process that shares the store.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.inner.identity.server_id
    }

    /// The epoch of this store: new after each restore.
    #[must_use]
    pub fn epoch(&self) -> &[u8] {
        &self.inner.identity.epoch
    }

    /// Whether this process follows the store without delay: both feeds were lately compared with
    /// their streams' ends, and no event waits for STATE.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.inner.following.is_current(&self.inner.clock)
    }

    /// Whether an event waits for STATE longer than it should: nothing new can be shown with the right
    /// rights. The subscriber received [`super::FeedUpdate::Stalled`].
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.inner.following.is_stalled()
    }

    /// Whether nats-server has no memory left for log-in counters, presence and leases. It is looked at every
    /// [`MEMORY_PROBE_INTERVAL`](crate::limits::MEMORY_PROBE_INTERVAL).
    #[must_use]
    pub fn is_memory_full(&self) -> bool {
        self.inner.memory.is_full()
    }

    /// Compares this program with the least one that may write, and the store with the one that was opened; with each
    /// renewal of a process's entry in the register.
    pub async fn check_writer(&self) -> Result<(), StorageError> {
        self.inner.may_write().await.map(|_| ())
    }

    /// The least number of a program that may write, once this one may not: it must end.
    #[must_use]
    pub fn outdated(&self) -> Option<u32> {
        Some(self.inner.outdated.load(Ordering::SeqCst)).filter(|least| *least > 0)
    }

    /// Whether the store was restored since this process has opened it: the process must end. It writes nothing more.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        self.inner.is_restored()
    }

    /// Whether a read has found something missing that must be there.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.inner.is_damaged()
    }

    /// Rooms whose new events cannot be folded, by id, each with the reason; for `status`.
    #[must_use]
    pub fn held_rooms(&self) -> Vec<RoomHold> {
        self.inner.overlay.held()
    }

    /// Journal events not folded yet and their bytes, for `status`.
    #[must_use]
    pub fn unfolded(&self) -> (usize, usize) {
        self.inner.overlay.size()
    }
}

impl Inner {
    pub(crate) fn key_store(&self) -> KeyStore<'_> {
        KeyStore { nats: &self.nats, clock: &self.clock }
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.timeline.is_damaged()
            || self.state_position.has_shrunk()
            || self.journal_position.has_shrunk()
    }

    fn start_background(self: &Arc<Self>) {
        let stop = || self.stop.clone();
        spawn(&self.scope, "fold", task::run(Arc::clone(self), stop()));
        spawn(&self.scope, "markers", markers::run(Arc::clone(self), stop()));
        spawn(&self.scope, "live", live::receive_events(Arc::clone(self), stop()));
        spawn(&self.scope, "key-imports", live::receive_key_imports(Arc::clone(self), stop()));
        spawn(&self.scope, "mark", integrity::keep(Arc::clone(self), stop()));
        spawn(&self.scope, "purge", purge::run(Arc::clone(self), stop()));
        spawn(&self.scope, "memory", memory::watch(Arc::clone(self), stop()));
        if !self.embedded {
            spawn(&self.scope, "quorum", quorum::watch(Arc::clone(self), stop()));
            spawn(&self.scope, "epoch", writer::keep_epoch_checked(Arc::clone(self), stop()));
        }
    }
}

/// Mirrors STATE and keeps following it.
async fn follow_state(
    nats: &Nats,
    clock: &Clock,
    scope: &Scope,
    stop: &Stop,
    mirror: &Arc<Mirror>,
) -> Result<Position, StorageError> {
    let follower = follower(nats, clock, stream::STATE, "live.state.>", Arc::clone(mirror));
    let position = follower.position.clone();
    let live = follower.start(1).await?;
    spawn(scope, "state-feed", follower.run(live, stop.clone()));
    Ok(position)
}

/// Reads the unfolded tail of the journal and keeps following it.
async fn follow_journal(
    nats: &Nats,
    clock: &Clock,
    (scope, stop): (&Scope, &Stop),
    feed: JournalFeed,
    checkpoint: &FoldCheckpoint,
) -> Result<Position, StorageError> {
    checkpoint::read_held(nats, clock, checkpoint, &feed).await?;
    let follower = follower(nats, clock, stream::JOURNAL, "live.journal.>", Arc::new(feed));
    let position = follower.position.clone();
    let live = Box::pin(follower.start(checkpoint.next_sequence)).await?;
    spawn(scope, "journal-feed", follower.run(live, stop.clone()));
    Ok(position)
}

fn follower<S>(
    nats: &Nats,
    clock: &Clock,
    stream: &'static str,
    live: &'static str,
    sink: Arc<S>,
) -> Follower<S> {
    let (nats, clock) = (nats.clone(), clock.clone());
    Follower { nats, clock, stream, live, position: Position::default(), sink }
}

fn spawn(scope: &Scope, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    if let Err(full) = scope.spawn(name, work) {
        log::error!(task = name, error:err = full; "a background task cannot start");
    }
}
