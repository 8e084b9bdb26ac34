//! What an acknowledgement to a client waits for: a message is sent until its outcome is known.

use std::time::{Duration, Instant};

use crate::limits::NATS_REQUEST_TIMEOUT;
use crate::nats::{Ack, Nats, NatsError, Publish, PublishError};
use crate::runtime::{Backoff, Clock};

/// Acknowledgements to clients for events, record changes and chunks of files wait here.
///
/// Today it waits for nothing more than nats-server's own acknowledgement: with `sync_interval: always` that
/// means "on disk", in a cluster "stored by a quorum". A group commit would live here.
pub struct Commit<'a> {
    pub nats: &'a Nats,
    pub clock: &'a Clock,
}

/// What became of a message.
pub enum Outcome {
    /// It is stored.
    Stored(Ack),
    /// The subject's last message is another one. `after_unknown`: an attempt before had no response, and may
    /// have stored it: nats-server compares the sequence before it looks for the message id.
    Conflict { after_unknown: bool },
}

impl Commit<'_> {
    /// Stores a message with an expected sequence; `None`: another writer was first.
    /// See [`Self::outcome`].
    pub async fn store(
        &self,
        message: Publish<'_>,
        deadline: Instant,
    ) -> Result<Option<Ack>, PublishError> {
        match self.outcome(message, deadline).await? {
            Outcome::Stored(ack) => Ok(Some(ack)),
            Outcome::Conflict { .. } => Ok(None),
        }
    }

    /// Stores a message that has an id, or an expected sequence where a conflict with itself does no harm. While the
    /// outcome is unknown it sends the same message again, until the deadline, which no attempt outlives.
    ///
    /// # Cancel safety
    /// After dropping it the message may or may not be stored.
    pub async fn outcome(
        &self,
        message: Publish<'_>,
        deadline: Instant,
    ) -> Result<Outcome, PublishError> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let late = NatsError::unanswered("the deadline is over");
        let mut last_error = PublishError::Unknown { source: late };
        let mut after_unknown = false;
        loop {
            let left = deadline.saturating_duration_since(self.clock.now());
            if left.is_zero() {
                return Err(last_error);
            }
            let publish = Box::pin(self.nats.publish(message.clone()));
            let response = if left > NATS_REQUEST_TIMEOUT {
                publish.await
            } else {
                let response = self.clock.timeout(left, publish).await;
                let Ok(response) = response else { return Err(last_error) };
                response
            };
            match response {
                Ok(ack) => return Ok(Outcome::Stored(ack)),
                Err(PublishError::WrongLastSequence) => {
                    return Ok(Outcome::Conflict { after_unknown });
                }
                Err(error @ PublishError::Unknown { .. }) => {
                    after_unknown = true;
                    last_error = error;
                    self.clock.sleep(backoff.delay().min(left)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
