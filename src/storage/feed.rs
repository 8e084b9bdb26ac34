//! What arrives from the journal's feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::follow::{Followed, Position, Sink};
use super::held::HoldReason;
use super::live::{self, Ear, JournalEvent, Live};
use super::overlay::{Overlay, Tail};
use crate::runtime::Clock;

/// How long an event may wait for the STATE it was written under before it is delivered all the same.
/// A stamp beyond STATE's end cannot be waited for.
pub(super) const STATE_WAIT: Duration = Duration::from_secs(5);

/// Takes the journal's events, each only after the mirror has reached the STATE its writer had seen:
/// a removed member never gets a later message.
pub(super) struct JournalFeed {
    pub(super) overlay: Arc<Overlay>,
    pub(super) state: Position,
    /// How long an event may wait for it: [`STATE_WAIT`].
    pub(super) state_wait: Duration,
    pub(super) clock: Clock,
    /// The highest stamp that was waited for in vain: it lies beyond STATE's end and counts as
    /// reached, so that the next event need not wait again.
    pub(super) beyond: AtomicU64,
    /// Woken when something is to be folded.
    pub(super) fold: Arc<event_listener::Event>,
    /// Told of every event once readers see it.
    pub(super) ear: Ear,
}

impl Sink for JournalFeed {
    async fn apply(&self, message: Followed) {
        let Some(room) = live::room_of(&message.subject) else { return };
        let Followed { sequence, payload, .. } = &message;
        let (journal, known) = match live::decode_event(room, *sequence, payload) {
            Ok(decoded) => decoded,
            Err(source) => {
                // What follows builds on it. The room is held for readers and writers of this program.
                let reason = HoldReason::Event { sequence: *sequence, source };
                log::error!(room:% = room, reason:err = reason; "an event cannot be read: its room is held");
                self.overlay.block(room.as_str(), *sequence, reason, self.clock.now());
                return;
            }
        };
        let JournalEvent { room, sequence, event } = &journal;
        let revision = event.state_revision;
        if revision > self.beyond.load(Ordering::Relaxed)
            && self.state.wait_for(revision, self.state_wait, &self.clock).await.is_err()
        {
            self.beyond.fetch_max(revision, Ordering::Relaxed);
            log::warn!(
                revision = revision, reached = self.state.reached();
                "an event is ahead of STATE"
            );
        }
        let tail = Tail {
            sequence: *sequence,
            event: Arc::clone(event),
            bytes: message.payload.len(),
            at: self.clock.now(),
            known,
        };
        self.overlay.push(room.as_str(), tail);
        if self.overlay.is_pressing(room.as_str()) {
            self.fold.notify(1);
        }
        self.ear.hear(Live::Event(journal));
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::poll_once;

    use super::super::encoding::encode;
    use super::super::records::{Event, Fact, event::Effect};
    use super::*;
    use crate::domain::RoomId;

    const FOREVER: Duration = Duration::from_secs(24 * 3600);

    fn room() -> RoomId {
        RoomId::from_random([1; 16])
    }

    fn feed(state_wait: Duration) -> JournalFeed {
        JournalFeed {
            overlay: Arc::new(Overlay::new()),
            state: Position::default(),
            state_wait,
            clock: Clock::system(),
            beyond: 0.into(),
            fold: Arc::default(),
            ear: Ear::default(),
        }
    }

    /// An event that was written when its writer had seen STATE up to `state_revision`.
    fn event(number: u64, state_revision: u64) -> Followed {
        let effect = Some(Effect::Fact(Fact::default()));
        let event = Event { number, state_revision, effect, ..Event::default() };
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
            let feed = feed(FOREVER);
            feed.state.advance(10);
            // STATE up to revision 9 is known: the first passes, the second waits for two more.
            feed.apply(event(1, 9)).await;
            assert_eq!(delivered(&feed), 1);
            let mut waiting = std::pin::pin!(feed.apply(event(2, 11)));
            for reached in [10, 11] {
                assert_eq!(poll_once(waiting.as_mut()).await, None, "before {reached}");
                assert_eq!(delivered(&feed), 1);
                feed.state.advance(reached + 1);
            }
            waiting.await;
            assert_eq!(delivered(&feed), 2);
        });
    }

    #[test]
    fn a_stamp_beyond_the_end_of_state_holds_events_up_once() {
        smol::block_on(async {
            let wait = Duration::from_millis(200);
            let feed = feed(wait);
            let started = feed.clock.now();
            feed.apply(event(1, 50)).await;
            assert!(feed.clock.now() - started >= wait, "it was not waited for");
            assert_eq!(delivered(&feed), 1);
            assert!(poll_once(feed.apply(event(2, 50))).await.is_some(), "waited for again");
            assert_eq!(delivered(&feed), 2);
            // A later one is news.
            assert_eq!(poll_once(feed.apply(event(3, 51))).await, None);
        });
        assert_eq!(STATE_WAIT, Duration::from_secs(5));
    }
}
