//! Following a republished stream: every message once, in order, none left out.
//!
//! One core subscription and one integer, the next expected sequence. An older message is dropped, a
//! gap is filled by reading the stream. Every two seconds, at each reconnect and when somebody waits
//! in vain, the position is compared with the stream's end. Consumers are not used: they stalled up
//! to 20 s when a node was lost. Erased messages leave holes; a hole is passed by taking the next
//! sequence that the server returns, never by waiting for it.

pub(crate) mod barrier;
pub(crate) mod journal;
pub(crate) mod live;
pub(crate) mod quorum;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_listener::Event;
use parking_lot::Mutex;

use crate::nats::{BatchRead, Nats, StoredMessage, StreamInfo, Subscription, WritesRefused};
use crate::runtime::{Backoff, Clock, Stop};
use crate::storage::error::StorageError;

/// How often the position is compared with the stream's end.
const TICK: Duration = Duration::from_secs(2);
/// How long a leader has had no contact with a majority before its replies are no longer taken for the stream's state.
/// Replicas respond to it every second.
const SILENT_MAX: Duration = Duration::from_secs(5);
/// How long a comparison counts: the next one is due, and has had two seconds for its reply.
const CURRENT_FOR: Duration = Duration::from_secs(4);
/// After so long without progress a waiting caller asks for a comparison.
const NUDGE_AFTER: Duration = Duration::from_millis(20);
/// Messages per request while a gap is filled.
const FILL_BATCH: u32 = 256;
/// A stream with replicas that ends too early for longer than this has lost messages. A new leader says
/// so for a moment: it responds while it still applies what the former one had acknowledged.
pub(crate) const SHORT_LIMIT: Duration = Duration::from_secs(30);

/// Takes the messages of a followed stream, in order.
pub(crate) trait Sink: Send + Sync + 'static {
    /// Applies one message.
    fn apply(&self, message: Followed) -> impl Future<Output = ()> + Send;

    /// Everything up to this sequence is applied; what is missing there will never come.
    fn passed(&self, _upto: u64) {}
}

/// A message of a followed stream.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) payload: Bytes,
    pub(crate) tombstone: bool,
}

/// How far a follower has come. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Position {
    inner: Arc<PositionInner>,
}

/// Whether this process follows the store without delay. Clones share it.
#[derive(Clone)]
pub(crate) struct Following {
    state: Position,
    journal: Position,
    /// An event waits for STATE longer than it should.
    stalled: Arc<AtomicBool>,
}

impl Following {
    /// Of the two feeds.
    pub(crate) fn of(state: &Position, journal: &Position, stalled: Arc<AtomicBool>) -> Self {
        Self { state: state.clone(), journal: journal.clone(), stalled }
    }

    /// Whether both feeds were lately compared with their streams' ends, and no event waits for STATE.
    pub(crate) fn is_current(&self, clock: &Clock) -> bool {
        let now = clock.now();
        self.state.is_current(now) && self.journal.is_current(now) && !self.is_stalled()
    }

    /// For how long one of the feeds has tried in vain to compare its position with its stream's end.
    pub(crate) fn failing_for(&self, clock: &Clock) -> Duration {
        let now = clock.now();
        self.state.failing_for(now).max(self.journal.failing_for(now))
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }
}

#[derive(Default)]
struct PositionInner {
    /// Every message before this sequence is applied.
    next: AtomicU64,
    moved: Event,
    check: Event,
    check_wanted: AtomicBool,
    /// When the position was last compared with the stream's end; `None`: not yet, or the last attempt failed.
    compared: Mutex<Option<Instant>>,
    /// When the first of the attempts began that have failed since then.
    failing_since: Mutex<Option<Instant>>,
    /// Since when the stream ends before what had been read of it.
    short_since: Mutex<Option<Instant>>,
    /// It does so for good.
    shrunk: AtomicBool,
}

impl Position {
    /// Every message up to this sequence is applied.
    pub(crate) fn reached(&self) -> u64 {
        self.inner.next.load(Ordering::SeqCst).saturating_sub(1)
    }

    /// Whether the last comparison with the stream's end succeeded, and is not long ago.
    fn is_current(&self, now: Instant) -> bool {
        let compared = *self.inner.compared.lock();
        compared.is_some_and(|at| now.saturating_duration_since(at) < CURRENT_FOR)
    }

    fn failing_for(&self, now: Instant) -> Duration {
        let since = *self.inner.failing_since.lock();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// An attempt to compare the position with the stream's end, which began and ended then. Damage is a result, too.
    fn attempted(&self, began: Instant, now: Instant, outcome: &Result<(), StorageError>) {
        *self.inner.compared.lock() = outcome.is_ok().then_some(now);
        let mut failing_since = self.inner.failing_since.lock();
        *failing_since = match outcome {
            Err(error) if error.is_transient() => failing_since.or(Some(began)),
            _ => None,
        };
    }

    /// The leader has had no contact with a majority since then.
    fn is_silent_since(&self, since: Option<Instant>) {
        let mut failing_since = self.inner.failing_since.lock();
        *failing_since = failing_since.or(since);
    }

    /// Whether the stream has lost messages that had been read.
    pub(crate) fn has_shrunk(&self) -> bool {
        self.inner.shrunk.load(Ordering::SeqCst)
    }

    pub(crate) fn advance(&self, next: u64) {
        self.inner.next.fetch_max(next, Ordering::SeqCst);
        self.inner.moved.notify(usize::MAX);
    }

    /// Asks the follower to compare its position with the stream's end now.
    pub(crate) fn nudge(&self) {
        self.inner.check_wanted.store(true, Ordering::SeqCst);
        self.inner.check.notify(usize::MAX);
    }

    /// Waits until every message up to `sequence` is applied.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] after `limit`.
    pub(crate) async fn wait_for(
        &self,
        sequence: u64,
        limit: Duration,
        clock: &Clock,
    ) -> Result<(), StorageError> {
        let deadline = clock.now() + limit;
        loop {
            let listener = self.inner.moved.listen();
            if self.reached() >= sequence {
                return Ok(());
            }
            if clock.timeout(NUDGE_AFTER, listener).await.is_err() {
                if self.reached() >= sequence {
                    return Ok(());
                }
                if clock.now() >= deadline {
                    return Err(StorageError::LATE);
                }
                self.nudge();
            }
        }
    }
}

/// Follows one stream for the life of the process.
pub(crate) struct Follower<S> {
    pub(crate) nats: Nats,
    pub(crate) clock: Clock,
    pub(crate) stream: &'static str,
    pub(crate) live: &'static str,
    pub(crate) position: Position,
    pub(crate) sink: Arc<S>,
}

impl<S: Sink> Follower<S> {
    /// Subscribes, then reads the stream from `from` to its present end.
    ///
    /// # Errors
    /// [`StorageError`] when the stream cannot be read.
    pub(crate) async fn start(&self, from: u64) -> Result<Subscription, StorageError> {
        let subscription = self.nats.subscribe(self.live).await?;
        self.position.advance(from.max(1));
        self.catch_up().await?;
        let now = self.clock.now();
        self.position.attempted(now, now, &Ok(()));
        Ok(subscription)
    }

    /// Runs until the process stops.
    pub(crate) async fn run(self, mut subscription: Subscription, stop: Stop) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut connects = self.nats.connects();
        let mut last_check = self.clock.now();
        while !stop.is_stopped() {
            let check = self.position.inner.check.listen();
            let wanted = self.position.inner.check_wanted.swap(false, Ordering::SeqCst);
            let due = TICK.saturating_sub(self.clock.now().saturating_duration_since(last_check));
            if wanted || due.is_zero() || self.nats.connects() != connects {
                connects = self.nats.connects();
                last_check = self.clock.now();
                // An event may wait for long.
                let Some(caught_up) = stop.or(self.catch_up()).await else { return };
                self.position.attempted(last_check, self.clock.now(), &caught_up);
                if let Err(error) = caught_up {
                    log::debug!(stream = self.stream, error:err = error; "cannot follow now");
                    stop.or(self.clock.sleep(backoff.delay())).await;
                } else {
                    backoff.reset();
                }
                continue;
            }
            let message = futures_lite::future::or(
                async { Wake::Message(subscription.next().await) },
                async {
                    futures_lite::future::or(stop.stopped(), check).await;
                    Wake::Check
                },
            );
            match self.clock.timeout(due, message).await {
                Ok(Wake::Message(Some(message))) => {
                    let (Some(sequence), Some(subject)) =
                        (message.sequence(), message.stored_subject())
                    else {
                        continue;
                    };
                    let message = Followed {
                        subject: subject.to_owned(),
                        sequence,
                        tombstone: message.is_tombstone(),
                        payload: message.payload,
                    };
                    if stop.or(self.receive(message)).await.is_some_and(|taken| taken.is_err()) {
                        self.position.nudge();
                    }
                }
                Ok(Wake::Message(None)) => {
                    match self.nats.subscribe(self.live).await {
                        Ok(new) => subscription = new,
                        Err(_) => {
                            stop.or(self.clock.sleep(backoff.delay())).await;
                        }
                    }
                    self.position.nudge();
                }
                Ok(Wake::Check) | Err(_) => {}
            }
        }
    }

    async fn receive(&self, message: Followed) -> Result<(), StorageError> {
        let next = self.position.reached() + 1;
        if message.sequence > next {
            self.fill(message.sequence - 1).await?;
        }
        self.take(message).await;
        Ok(())
    }

    async fn take(&self, message: Followed) {
        let sequence = message.sequence;
        if sequence > self.position.reached() {
            self.sink.apply(message).await;
            self.position.advance(sequence + 1);
        }
    }

    /// Compares with the stream's end, as its leader knows it, and fills what is missing.
    async fn catch_up(&self) -> Result<(), StorageError> {
        let info = self.nats.stream(self.stream).await?.ok_or(StorageError::LATE)?;
        if !reaches_majority(&info) {
            self.position.is_silent_since(self.clock.now().checked_sub(SILENT_MAX));
            return Err(StorageError::LATE);
        }
        if info.state.last_sequence < self.position.reached() {
            // A restored store ends elsewhere, and is not damaged.
            self.nats.wait_for_epoch_check().await?;
        }
        self.check_end(&info)?;
        // A purge from the front: nothing before the first sequence will ever come.
        if let Some(purged) = info.state.first_sequence.checked_sub(1) {
            self.sink.passed(purged.min(info.state.last_sequence));
            self.position.advance(purged + 1);
        }
        self.fill(info.state.last_sequence).await?;
        self.sink.passed(self.position.reached());
        Ok(())
    }

    /// Refuses a stream that ends before what was read of it.
    fn check_end(&self, info: &StreamInfo) -> Result<(), StorageError> {
        let (last, reached) = (info.state.last_sequence, self.position.reached());
        let damaged = WritesRefused::Damaged { stream: self.stream };
        let mut since = self.position.inner.short_since.lock();
        if last >= reached {
            *since = None;
            if self.position.inner.shrunk.swap(false, Ordering::SeqCst) {
                log::info!(stream = self.stream; "the stream has the messages that it had lost");
                self.nats.refuse_writes(damaged, false);
            }
            return Ok(());
        }
        let now = self.clock.now();
        let short_for = now.saturating_duration_since(*since.get_or_insert(now));
        if info.config.num_replicas > 1 && short_for < SHORT_LIMIT {
            return Err(StorageError::LATE);
        }
        if !self.position.inner.shrunk.swap(true, Ordering::SeqCst) {
            log::error!(
                stream = self.stream, last = last, reached = reached;
                "the store is damaged: the stream has lost its newest messages; changes are refused; restore a backup"
            );
            self.nats.refuse_writes(damaged, true);
        }
        Err(StorageError::Corrupt { what: self.stream, source: None })
    }

    /// Applies everything up to `target`, which the stream is known to have reached.
    async fn fill(&self, target: u64) -> Result<(), StorageError> {
        while self.position.reached() < target {
            let next = self.position.reached() + 1;
            let what = BatchRead::From { sequence: next, count: FILL_BATCH };
            let batch = self.nats.read(self.stream, what).await?;
            if batch.messages.is_empty() {
                // The rest is erased, or this replica lags: its leader knows, unless it is new and has
                // not come so far itself.
                let info = self.nats.stream(self.stream).await?.ok_or(StorageError::LATE)?;
                if info.state.last_sequence < target {
                    return Err(StorageError::LATE);
                }
                match self.nats.leader_from(self.stream, next).await? {
                    Some(message) => self.take(followed(message)).await,
                    None => {
                        self.sink.passed(target);
                        self.position.advance(target + 1);
                    }
                }
                continue;
            }
            for message in batch.messages {
                self.take(followed(message)).await;
            }
        }
        Ok(())
    }
}

/// Whether the leader that sent this had contact with a majority within [`SILENT_MAX`]. One that has lost it resigns after
/// ten seconds, and until then responds as if nothing had happened.
fn reaches_majority(info: &StreamInfo) -> bool {
    let replicas = info.cluster.iter().flat_map(|cluster| &cluster.replicas);
    let reached = replicas.filter(|replica| {
        let has_responded = replica.current || !replica.active.is_zero();
        has_responded && !replica.offline && replica.active < SILENT_MAX
    });
    1 + reached.count() > info.config.num_replicas / 2
}

enum Wake {
    Message(Option<crate::nats::Message>),
    Check,
}

pub(crate) fn followed(message: StoredMessage) -> Followed {
    Followed {
        tombstone: message.is_tombstone(),
        subject: message.subject,
        sequence: message.sequence,
        payload: message.payload,
    }
}
