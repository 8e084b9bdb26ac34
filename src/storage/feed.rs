//! What arrives from the journal's feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::follow::{Followed, Position, Sink};
use super::live::{self, Ear, JournalEvent, Live};
use super::overlay::{Overlay, Tail};
use crate::runtime::Clock;

/// How long an event may wait for the STATE it was written under before it is delivered all the same.
/// A stamp beyond STATE's end cannot be waited for.
const STATE_WAIT: Duration = Duration::from_secs(5);

/// Takes the journal's events, each only after the mirror has reached the STATE its writer had seen:
/// a removed member never gets a later message.
pub(super) struct JournalFeed {
    pub(super) overlay: Arc<Overlay>,
    pub(super) state: Position,
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
        let Some(journal) = live::event(&message.subject, message.sequence, &message.payload)
        else {
            return;
        };
        let JournalEvent { room, sequence, event } = &journal;
        let revision = event.state_revision;
        if revision > self.beyond.load(Ordering::Relaxed)
            && self.state.wait_for(revision, STATE_WAIT, &self.clock).await.is_err()
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
        };
        self.overlay.push(room.as_str(), tail);
        if self.overlay.is_pressing(room.as_str()) {
            self.fold.notify(1);
        }
        self.ear.hear(Live::Event(journal));
    }
}
