//! Publishing with acknowledgements and expected sequences.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;

use super::error::codes;
use super::streams::ApiError;
use super::{Nats, NatsError, PublishError, WritesRefused};
use crate::limits::NATS_REQUEST_TIMEOUT;
use crate::runtime::on_tokio;

/// A message for a stream.
#[derive(Debug, Clone, Default)]
pub struct Publish<'a> {
    /// The subject, which determines the stream.
    pub subject: &'a str,
    pub payload: Bytes,
    /// `Nats-Msg-Id`: a duplicate within the stream's duplicate window is not stored.
    pub message_id: Option<&'a str>,
    /// The expected last sequence of the subject; 0 when the subject must have no message.
    pub expected_last: Option<u64>,
    /// The message expires after this time (whole seconds, at least one).
    pub ttl: Option<Duration>,
    /// A KV tombstone: the key is deleted.
    pub tombstone: bool,
}

/// A stream's acknowledgement: the message is stored as the stream's settings guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The message's sequence in the stream; for a duplicate, that of the original.
    pub sequence: u64,
    /// The message id was known already; nothing was stored.
    pub duplicate: bool,
}

#[derive(Deserialize)]
struct AckResponse {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

impl Nats {
    /// Publishes to a stream and waits for its acknowledgement.
    ///
    /// # Errors
    /// See [`PublishError`]; only `Unknown` may have stored the message.
    ///
    /// # Cancel safety
    /// If the future is dropped, the message may or may not be stored.
    pub async fn publish(&self, message: Publish<'_>) -> Result<Ack, PublishError> {
        let checked = self.wait_for_epoch_check().await;
        self.check_writable()?;
        checked.map_err(|source| PublishError::Unknown { source })?;
        let request = async_nats::Request::new()
            .payload(message.payload.clone())
            .headers(headers(&message))
            .timeout(Some(NATS_REQUEST_TIMEOUT));
        let sent = async {
            on_tokio(self.client.send_request(message.subject.to_owned(), request))
                .await
                .map_err(NatsError::unanswered)
        };
        // The message may have been stored before the fault.
        let refused = async {
            self.wait_until_writes_refused().await;
            Err(NatsError::unanswered("writes are refused since it was sent"))
        };
        let response = futures_lite::future::or(sent, refused)
            .await
            .map_err(|source| PublishError::Unknown { source })?;
        let response: AckResponse =
            serde_json::from_slice(&response.payload).map_err(|_| PublishError::Unknown {
                source: NatsError::Unexpected { what: "an acknowledgement that is not JSON" },
            })?;
        match response.error {
            Some(error) => Err(classify(error)),
            None if response.seq == 0 => Err(PublishError::Unknown {
                source: NatsError::Unexpected { what: "an acknowledgement without sequence" },
            }),
            None => Ok(Ack { sequence: response.seq, duplicate: response.duplicate }),
        }
    }

    /// Whether writes are accepted: see [`Self::refuse_writes`].
    ///
    /// # Errors
    /// The [`PublishError`] of the reason.
    pub fn check_writable(&self) -> Result<(), PublishError> {
        self.writes_refused().map_or(Ok(()), |refused| Err(refused.into()))
    }

    /// Publishes to a core subject: the message is neither stored nor acknowledged.
    ///
    /// # Errors
    /// [`NatsError::Unanswered`] when the connection was closed for good.
    pub async fn send(&self, subject: &str, payload: Bytes) -> Result<(), NatsError> {
        on_tokio(self.client.publish(subject.to_owned(), payload))
            .await
            .map_err(NatsError::unanswered)
    }
}

impl From<WritesRefused> for PublishError {
    fn from(refused: WritesRefused) -> Self {
        match refused {
            WritesRefused::DiskFull => {
                Self::Full { source: NatsError::Unexpected { what: "no room on the disk" } }
            }
            WritesRefused::DiskError => Self::DiskError,
            WritesRefused::Outdated => Self::Outdated,
            WritesRefused::Restored => Self::Restored,
            WritesRefused::Damaged { .. } => Self::Damaged,
            WritesRefused::NoQuorum => Self::NoQuorum,
        }
    }
}

fn headers(message: &Publish<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(id) = message.message_id {
        headers.insert("Nats-Msg-Id", id);
    }
    if let Some(sequence) = message.expected_last {
        headers.insert("Nats-Expected-Last-Subject-Sequence", sequence.to_string().as_str());
    }
    if let Some(ttl) = message.ttl {
        headers.insert("Nats-TTL", format!("{}s", ttl.as_secs().max(1)).as_str());
    }
    if message.tombstone {
        headers.insert("KV-Operation", "DEL");
    }
    headers
}

fn classify(error: ApiError) -> PublishError {
    let err_code = error.err_code;
    let full = error.description.contains("no space left")
        || error.description.contains("maximum bytes exceeded");
    let source = NatsError::from(error);
    match err_code {
        codes::WRONG_LAST_SEQUENCE | codes::WRONG_LAST_SEQUENCE_CONSTANT => {
            PublishError::WrongLastSequence
        }
        codes::DUPLICATE_IN_PROCESS | codes::LAST_SEQUENCE_NOT_READY => {
            PublishError::Unknown { source }
        }
        codes::INSUFFICIENT_RESOURCES
        | codes::STORAGE_RESOURCES_EXCEEDED
        | codes::MEMORY_RESOURCES_EXCEEDED
        | codes::ACCOUNT_RESOURCES_EXCEEDED => PublishError::Full { source },
        codes::STORE_FAILED if full => PublishError::Full { source },
        _ if source.is_transient() => PublishError::Unknown { source },
        _ => PublishError::Refused { source },
    }
}
