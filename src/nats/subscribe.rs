//! Core subscriptions: at most once, in order per publisher, with gaps after a lost connection.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_lite::StreamExt;
use futures_util::stream::SelectAll;

use super::read::is_tombstone;
use super::{Nats, NatsError};
use crate::runtime::on_tokio;

/// A subscription, which ends when it is dropped. Messages beyond
/// [`crate::limits::NATS_SUBSCRIPTION_MESSAGES_MAX`] unread ones are lost; readers of
/// republished streams see a gap and fill it.
pub struct Subscription {
    inner: SelectAll<async_nats::Subscriber>,
}

/// A message from a subscription.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    pub payload: Bytes,
    headers: HeaderMap,
}

impl Message {
    /// For a republished message: its sequence in the stream.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.headers.get("Nats-Sequence")?.as_str().parse().ok()
    }

    /// For a republished message: the subject it is stored under.
    #[must_use]
    pub fn stored_subject(&self) -> Option<&str> {
        self.headers.get("Nats-Subject").map(|subject| subject.as_str())
    }

    /// Whether it marks a deleted or expired key.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        is_tombstone(&self.headers)
    }
}

impl Nats {
    /// Subscribes to a core subject, wildcards allowed. When this returns, the server has registered the
    /// subscription.
    ///
    /// # Errors
    /// [`NatsError::Unanswered`].
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, NatsError> {
        self.subscribe_to_all(&[subject]).await
    }

    /// Subscribes to several core subjects at once; as [`Self::subscribe`].
    ///
    /// # Errors
    /// [`NatsError::Unanswered`].
    pub async fn subscribe_to_all(&self, subjects: &[&str]) -> Result<Subscription, NatsError> {
        on_tokio(async {
            let mut inner = SelectAll::new();
            for subject in subjects {
                let subject = (*subject).to_owned();
                inner.push(self.client.subscribe(subject).await.map_err(NatsError::unanswered)?);
            }
            // The flush makes a round trip on the same connection, after the subscriptions.
            self.client.flush().await.map_err(NatsError::unanswered)?;
            Ok(Subscription { inner })
        })
        .await
    }
}

impl Subscription {
    /// The next message; `None` when the connection was closed for good.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub async fn next(&mut self) -> Option<Message> {
        let message = on_tokio(self.inner.next()).await?;
        Some(Message {
            subject: message.subject.to_string(),
            payload: message.payload,
            headers: message.headers.unwrap_or_default(),
        })
    }
}
