//! What arrives from the journal's feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::domain::timeline::Event;
use crate::nats::{Nats, StreamInfo};
use crate::runtime::Clock;
use crate::storage::feed::live::{self, FeedUpdate, JournalEvent, SubscriberSlot};
use crate::storage::feed::{Followed, Position, SHORT_LIMIT, Sink};
use crate::storage::fold::held::HoldReason;
use crate::storage::layout::stream;
use crate::storage::timeline::overlay::{Overlay, UnfoldedEvent};

/// How long an event may wait for its stamp before STATE's leader is asked whether there is such a
/// revision. The mirror's follower reads from the leader long before.
const ASK_AFTER: Duration = Duration::from_millis(200);
/// How often it is asked again.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long an event may wait for its stamp before this process counts as stalled: it is not ready and
/// closes its sockets.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// The wait for a stamp has no end; it is done in pieces.
const WAIT: Duration = Duration::from_secs(3600);

/// Takes the journal's events, each only after the mirror has reached the STATE its writer had seen:
/// a removed member never gets a later message.
pub(crate) struct JournalFeed {
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) state: StampWait,
    pub(crate) clock: Clock,
    /// Woken when something is to be folded.
    pub(crate) fold: Arc<event_listener::Event>,
    /// Every event is delivered to it once readers see it.
    pub(crate) subscriber: SubscriberSlot,
}

/// How events wait for their stamps.
pub(crate) struct StampWait {
    /// How far the mirror follows STATE.
    position: Position,
    nats: Nats,
    /// [`STALLED_AFTER`].
    stalled_after: Duration,
    /// An event waits longer than that.
    pub(crate) stalled: Arc<AtomicBool>,
    /// The highest stamp of which STATE's leader has said that it lies beyond STATE's end: it counts as
    /// reached.
    beyond: AtomicU64,
    /// The last sequence of the journal when the leader said so; later events do not depend on that.
    verdict_upto: AtomicU64,
}

impl StampWait {
    /// For a mirror at this position.
    pub(crate) fn new(position: &Position, nats: &Nats) -> Self {
        Self {
            position: position.clone(),
            nats: nats.clone(),
            stalled_after: STALLED_AFTER,
            stalled: Arc::default(),
            beyond: 0.into(),
            verdict_upto: 0.into(),
        }
    }
}

impl JournalFeed {
    pub(crate) fn new(
        overlay: &Arc<Overlay>,
        state: StampWait,
        clock: &Clock,
        fold: &Arc<event_listener::Event>,
        subscriber: &SubscriberSlot,
    ) -> Self {
        let (overlay, fold) = (Arc::clone(overlay), Arc::clone(fold));
        Self { overlay, state, clock: clock.clone(), fold, subscriber: subscriber.clone() }
    }
}

impl Sink for JournalFeed {
    async fn apply(&self, message: Followed) {
        let Some(room) = live::room_of(&message.subject) else { return };
        let Followed { sequence, payload, .. } = &message;
        let (record, known) = match live::decode_event(payload) {
            Ok(decoded) => decoded,
            Err(source) => {
                // What follows builds on it. The room is held for readers and writers of this program.
                let reason = HoldReason::Event { sequence: *sequence, source };
                log::error!(room:% = room, reason:err = reason; "an event cannot be read: its room is held");
                self.overlay.block(room.as_str(), *sequence, reason, self.clock.now());
                return;
            }
        };
        let sequence = *sequence;
        self.wait_for_stamp(sequence, record.state_revision).await;
        let event = Event::try_from(&record);
        let unfolded = UnfoldedEvent {
            sequence,
            event: Arc::new(record),
            bytes: message.payload.len(),
            at: self.clock.now(),
            known,
        };
        self.overlay.push(room.as_str(), unfolded);
        if self.overlay.is_pressing(room.as_str()) {
            self.fold.notify(1);
        }
        match event {
            Ok(event) => {
                let journal = JournalEvent { room, sequence, event };
                self.subscriber.deliver(FeedUpdate::Event(Box::new(journal)));
            }
            // The store reads no row whose id is not valid: there is nothing to show.
            Err(error) => log::warn!(
                room:% = room, sequence = sequence, error:err = error;
                "an event names no valid row: it is not delivered"
            ),
        }
    }
}

impl JournalFeed {
    /// Returns when the mirror has reached a stamp, or STATE's leader has said that there is no such revision.
    /// The feed waits meanwhile: nothing is shown until its permissions can be checked.
    async fn wait_for_stamp(&self, sequence: u64, stamp: u64) {
        let state = &self.state;
        let verdict_upto = state.verdict_upto.load(Ordering::Relaxed);
        let is_beyond = stamp <= state.beyond.load(Ordering::Relaxed) && sequence <= verdict_upto;
        if stamp <= state.position.reached() || is_beyond {
            return;
        }
        let reached =
            async { while state.position.wait_for(stamp, WAIT, &self.clock).await.is_err() {} };
        let watched = futures_lite::future::or(self.report_stall(stamp), self.ask_leader(stamp));
        futures_lite::future::or(reached, watched).await;
        if state.stalled.swap(false, Ordering::SeqCst) {
            log::info!("event delivery resumed: STATE has caught up");
        }
    }

    /// Says so when an event waits for too long; never returns.
    async fn report_stall(&self, stamp: u64) {
        self.clock.sleep(self.state.stalled_after).await;
        log::warn!(
            revision = stamp, reached = self.state.position.reached();
            "event delivery waits for STATE: not ready, realtime connections are closed"
        );
        self.state.stalled.store(true, Ordering::SeqCst);
        self.subscriber.deliver(FeedUpdate::Stalled);
        std::future::pending().await
    }

    /// Returns when STATE's leader has said for long enough that a stamp lies beyond STATE's end.
    async fn ask_leader(&self, stamp: u64) {
        let mut short = Short::default();
        self.clock.sleep(ASK_AFTER).await;
        loop {
            let info = self.state.nats.stream(stream::STATE).await.ok().flatten();
            let end = info.as_ref().map(End::of);
            if short.counts(end, stamp, self.clock.now()) {
                log::warn!(
                    revision = stamp, reached = self.state.position.reached();
                    "an event names a revision that STATE never had"
                );
                // STATE goes on, and gives these revisions to other changes: what is in the journal by now
                // need not wait again, what comes later must.
                let journal = self.state.nats.stream(stream::JOURNAL).await.ok().flatten();
                let upto = journal.map_or(0, |info| info.state.last_sequence);
                self.state.beyond.store(stamp, Ordering::Relaxed);
                self.state.verdict_upto.store(upto, Ordering::Relaxed);
                return;
            }
            self.clock.sleep(ASK_INTERVAL).await;
        }
    }
}

/// What a leader says of STATE's end.
struct End<'a> {
    last: u64,
    leader: Option<&'a str>,
    is_replicated: bool,
}

impl<'a> End<'a> {
    fn of(info: &'a StreamInfo) -> Self {
        Self {
            last: info.state.last_sequence,
            leader: info.cluster.as_ref().and_then(|cluster| cluster.leader.as_deref()),
            is_replicated: info.config.num_replicas > 1,
        }
    }
}

/// Since when one and the same leader has said without a break that STATE ends before a stamp.
#[derive(Default)]
struct Short {
    since: Option<(Instant, Option<String>)>,
}

impl Short {
    /// Takes an answer (`None`: there was none); whether the stamp lies beyond the end for certain. With
    /// replicas a new leader responds while it still applies what the former one had acknowledged, and one that
    /// was cut off or stopped responds until it notices that it is no longer the leader.
    fn counts(&mut self, end: Option<End<'_>>, stamp: u64, now: Instant) -> bool {
        let Some(end) = end.filter(|end| end.last < stamp) else {
            self.since = None;
            return false;
        };
        if !end.is_replicated {
            return true;
        }
        match &self.since {
            Some((since, leader)) if leader.as_deref() == end.leader => {
                now.saturating_duration_since(*since) >= SHORT_LIMIT
            }
            _ => {
                self.since = Some((now, end.leader.map(str::to_owned)));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::poll_once;

    use super::*;
    use crate::domain::RoomId;
    use crate::nats::{Auth, Target};
    use crate::storage::encoding::encode;
    use crate::storage::records::{self, Fact, event::Effect};

    fn room() -> RoomId {
        RoomId::from_random([1; 16])
    }

    /// A feed whose NATS never answers.
    async fn feed() -> JournalFeed {
        let target = Target {
            urls: vec!["nats://127.0.0.1:1".to_owned()],
            auth: Auth::None,
            ca_cert: None,
            name: "test".to_owned(),
        };
        let clock = Clock::system();
        let nats = Nats::connect(&target, clock.clone()).await.unwrap();
        JournalFeed {
            overlay: Arc::new(Overlay::new()),
            state: StampWait {
                verdict_upto: 2.into(),
                stalled_after: Duration::from_millis(50),
                ..StampWait::new(&Position::default(), &nats)
            },
            clock,
            fold: Arc::default(),
            subscriber: SubscriberSlot::default(),
        }
    }

    /// An event that was written when its writer had seen STATE up to `state_revision`.
    fn event(number: u64, state_revision: u64) -> Followed {
        let effect = Some(Effect::Fact(Fact::default()));
        let event = records::Event { number, state_revision, effect, ..records::Event::default() };
        Followed {
            subject: format!("journal.{}", room().as_str()),
            sequence: number,
            payload: encode(&event),
            tombstone: false,
        }
    }

    fn delivered(feed: &JournalFeed) -> usize {
        feed.overlay.tail(room().as_str()).len()
    }

    #[test]
    fn an_event_is_delivered_only_after_the_mirror_has_reached_its_stamp() {
        smol::block_on(async {
            let feed = feed().await;
            feed.state.position.advance(10);
            // STATE up to revision 9 is known: the first passes, the second waits for two more.
            feed.apply(event(1, 9)).await;
            assert_eq!(delivered(&feed), 1);
            let mut waiting = std::pin::pin!(feed.apply(event(2, 11)));
            for reached in [10, 11] {
                assert_eq!(poll_once(waiting.as_mut()).await, None, "before {reached}");
                assert_eq!(delivered(&feed), 1);
                feed.state.position.advance(reached + 1);
            }
            waiting.await;
            assert_eq!(delivered(&feed), 2);
        });
    }

    #[test]
    fn an_event_that_waits_too_long_waits_on_and_the_process_says_so() {
        smol::block_on(async {
            let feed = feed().await;
            let mut waiting = std::pin::pin!(feed.apply(event(1, 50)));
            let is_stalled = async {
                while !feed.state.stalled.load(Ordering::SeqCst) {
                    feed.clock.sleep(Duration::from_millis(5)).await;
                }
            };
            let applied = async {
                waiting.as_mut().await;
                panic!("it was delivered without its STATE");
            };
            futures_lite::future::or(is_stalled, applied).await;
            assert_eq!(delivered(&feed), 0);
            feed.state.position.advance(51);
            waiting.await;
            assert_eq!(delivered(&feed), 1);
            assert!(!feed.state.stalled.load(Ordering::SeqCst));
        });
        assert_eq!(STALLED_AFTER, Duration::from_secs(5));
    }

    #[test]
    fn a_verdict_on_a_stamp_counts_for_what_was_there_and_not_for_what_comes_later() {
        smol::block_on(async {
            let feed = feed().await;
            feed.state.beyond.store(100, Ordering::Relaxed);
            assert_eq!(poll_once(feed.apply(event(2, 99))).await, Some(()));
            assert_eq!(
                poll_once(feed.apply(event(3, 99))).await,
                None,
                "STATE may have come so far"
            );
            assert_eq!(delivered(&feed), 1);
        });
    }

    #[test]
    fn only_a_leader_that_says_so_for_long_enough_ends_the_wait() {
        let end = |last, leader| Some(End { last, leader, is_replicated: true });
        let start = Clock::system().now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let limit = SHORT_LIMIT.as_secs();
        let mut short = Short::default();
        assert!(!short.counts(end(9, Some("a")), 10, at(0)));
        assert!(!short.counts(end(9, Some("a")), 10, at(limit - 1)));
        assert!(!short.counts(end(9, Some("b")), 10, at(limit)), "another leader begins anew");
        assert!(!short.counts(None, 10, at(limit + 1)), "no answer is no proof");
        assert!(!short.counts(end(9, Some("b")), 10, at(2 * limit)));
        assert!(!short.counts(end(10, Some("b")), 10, at(2 * limit + 1)), "it is there");
        assert!(!short.counts(end(9, Some("b")), 10, at(3 * limit)));
        assert!(short.counts(end(9, Some("b")), 10, at(4 * limit)));
        // The one copy there is has no delay.
        let alone = End { last: 9, leader: None, is_replicated: false };
        assert!(Short::default().counts(Some(alone), 10, start));
    }
}
