//! Reading: batch direct gets (any replica) and single messages from a stream's leader.
//!
//! async-nats 0.51 has no batch direct get; it is a raw request with many replies and an end marker
//! (ADR-31 of NATS). Batches are always bounded in bytes, as the protocol has no flow control.

use async_nats::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_lite::StreamExt;
use serde::Deserialize;
use serde_json::json;

use super::error::codes;
use super::streams::optional;
use super::{Nats, NatsError, WritesRefused};
use crate::limits::{BATCH_READ_MAX_BYTES, NATS_REQUEST_TIMEOUT};
use crate::observe::rfc3339;
use crate::runtime::on_tokio;

/// A stored message.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    pub subject: String,
    /// Its sequence in the stream; a KV revision.
    pub sequence: u64,
    pub payload: Bytes,
    pub headers: HeaderMap,
}

impl StoredMessage {
    /// Whether this marks a deleted or expired key.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        is_tombstone(&self.headers)
    }
}

pub(super) fn is_tombstone(headers: &HeaderMap) -> bool {
    headers.get("KV-Operation").is_some() || headers.get("Nats-Marker-Reason").is_some()
}

/// What something is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPurpose {
    /// To show it, and nothing else.
    Show,
    /// To decide what is written or removed, in NATS or elsewhere: a replica that lags would decide wrongly.
    Change,
}

/// What to read in one batch.
#[derive(Debug, Clone)]
pub enum BatchRead<'a> {
    /// The newest message of each subject; wildcards allowed, at most 1,024 matches.
    Newest(&'a [String]),
    /// At most `count` messages of any subject from `sequence` on.
    From { sequence: u64, count: u32 },
    /// At most `count` messages of one subject from `sequence` on.
    OfSubject { subject: &'a str, sequence: u64, count: u32 },
    /// The first message stored at or after a time.
    Since {
        /// Milliseconds since 1970-01-01 UTC.
        unix_ms: i64,
    },
}

/// The reply to a [`BatchRead`].
#[derive(Debug, Default)]
pub struct Batch {
    /// In ascending order of sequence.
    pub messages: Vec<StoredMessage>,
    /// How many more messages follow, left out because of the limit of count or bytes.
    pub pending: u64,
}

#[derive(Deserialize)]
struct GetResponse {
    message: GetMessage,
}

#[derive(Deserialize)]
struct GetMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    data: String,
    #[serde(default)]
    hdrs: String,
}

impl Nats {
    /// Reads many messages with one request from any replica, which may lag behind the leader.
    ///
    /// # Errors
    /// [`NatsError`]; `Unexpected` when more than 1,024 subjects match.
    pub async fn read(&self, stream: &str, what: BatchRead<'_>) -> Result<Batch, NatsError> {
        let request = match what {
            BatchRead::Newest(subjects) => {
                json!({ "multi_last": subjects, "max_bytes": BATCH_READ_MAX_BYTES })
            }
            BatchRead::From { sequence, count } => json!({
                "seq": sequence.max(1), "batch": count, "max_bytes": BATCH_READ_MAX_BYTES,
                "next_by_subj": ">",
            }),
            BatchRead::OfSubject { subject, sequence, count } => json!({
                "seq": sequence.max(1), "batch": count, "max_bytes": BATCH_READ_MAX_BYTES,
                "next_by_subj": subject,
            }),
            BatchRead::Since { unix_ms } => json!({
                "start_time": rfc3339(unix_ms), "batch": 1, "max_bytes": BATCH_READ_MAX_BYTES,
                "next_by_subj": ">",
            }),
        };
        let payload = Bytes::from(request.to_string());
        let limit = NATS_REQUEST_TIMEOUT;
        on_tokio(async {
            let inbox = self.client.new_inbox();
            let mut responses =
                self.client.subscribe(inbox.clone()).await.map_err(NatsError::unanswered)?;
            let subject = format!("$JS.API.DIRECT.GET.{stream}");
            self.client
                .publish_with_reply(subject, inbox, payload)
                .await
                .map_err(NatsError::unanswered)?;
            let mut batch = Batch::default();
            loop {
                let next = self.clock.timeout(limit, responses.next()).await;
                let Ok(Some(message)) = next else {
                    return Err(NatsError::unanswered("the batch did not end in time"));
                };
                if add_to_batch(message, &mut batch)? {
                    return Ok(batch);
                }
            }
        })
        .await
    }

    /// The newest message of one subject, from any replica.
    pub async fn newest(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StoredMessage>, NatsError> {
        let batch = self.read(stream, BatchRead::Newest(&[subject.to_owned()])).await?;
        Ok(batch.messages.into_iter().next_back())
    }

    /// The newest message of one subject, from the stream's leader.
    pub async fn leader_newest(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StoredMessage>, NatsError> {
        self.leader_get(stream, &json!({ "last_by_subj": subject })).await
    }

    /// The newest message of one subject from the stream's leader; to show it, from any replica while the cluster has no
    /// quorum.
    pub async fn newest_for(
        &self,
        purpose: ReadPurpose,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StoredMessage>, NatsError> {
        let may_be_old =
            || purpose == ReadPurpose::Show && self.is_refusing(WritesRefused::NoQuorum);
        if !may_be_old() {
            match self.leader_newest(stream, subject).await {
                Err(error) if error.is_transient() && may_be_old() => {
                    log::debug!(stream = stream, error:err = error; "no leader replies; asking any replica");
                }
                found => return found,
            }
        }
        self.newest(stream, subject).await
    }

    /// The message at a sequence, from the stream's leader.
    pub async fn leader_at(
        &self,
        stream: &str,
        sequence: u64,
    ) -> Result<Option<StoredMessage>, NatsError> {
        self.leader_get(stream, &json!({ "seq": sequence })).await
    }

    /// The sequence of the first message stored at or after a time (milliseconds since 1970); `None`
    /// when every message is older.
    pub async fn first_since(&self, stream: &str, unix_ms: i64) -> Result<Option<u64>, NatsError> {
        let batch = self.read(stream, BatchRead::Since { unix_ms }).await?;
        Ok(batch.messages.first().map(|message| message.sequence))
    }

    /// The first message at or after a sequence, from the stream's leader.
    pub async fn leader_from(
        &self,
        stream: &str,
        sequence: u64,
    ) -> Result<Option<StoredMessage>, NatsError> {
        self.leader_get(stream, &json!({ "seq": sequence, "next_by_subj": ">" })).await
    }

    /// The first message of one subject at or after a sequence, from the stream's leader.
    pub async fn leader_next(
        &self,
        stream: &str,
        subject: &str,
        sequence: u64,
    ) -> Result<Option<StoredMessage>, NatsError> {
        self.leader_get(stream, &json!({ "seq": sequence, "next_by_subj": subject })).await
    }

    async fn leader_get(
        &self,
        stream: &str,
        request: &serde_json::Value,
    ) -> Result<Option<StoredMessage>, NatsError> {
        let response = self.api::<GetResponse>(&format!("STREAM.MSG.GET.{stream}"), request).await;
        let Some(GetResponse { message }) = optional(response, codes::NO_MESSAGE_FOUND)? else {
            return Ok(None);
        };
        let unreadable = NatsError::Unexpected { what: "a message that is not base64" };
        let (Ok(payload), Ok(headers)) =
            (STANDARD.decode(&message.data), STANDARD.decode(&message.hdrs))
        else {
            return Err(unreadable);
        };
        Ok(Some(StoredMessage {
            subject: message.subject,
            sequence: message.seq,
            payload: payload.into(),
            headers: parse_headers(&headers),
        }))
    }
}

/// Adds one reply to the batch; `true` at its end.
fn add_to_batch(message: async_nats::Message, batch: &mut Batch) -> Result<bool, NatsError> {
    let headers = message.headers.unwrap_or_default();
    let number =
        |name: &str| headers.get(name).and_then(|value| value.as_str().parse::<u64>().ok());
    match message.status.map(|status| status.as_u16()) {
        Some(204 | 404) => {
            batch.pending = number("Nats-Num-Pending").unwrap_or(0);
            return Ok(true);
        }
        Some(503) => return Err(NatsError::unanswered("no server serves this stream now")),
        Some(413) => return Err(NatsError::Unexpected { what: "too many subjects match" }),
        Some(code) => {
            let description = message.description.unwrap_or_default();
            return Err(NatsError::Refused { code, err_code: 0, description });
        }
        None => {}
    }
    let (Some(sequence), Some(subject)) = (number("Nats-Sequence"), headers.get("Nats-Subject"))
    else {
        return Err(NatsError::Unexpected { what: "a stored message without sequence" });
    };
    batch.messages.push(StoredMessage {
        subject: subject.as_str().to_owned(),
        sequence,
        payload: message.payload,
        headers,
    });
    Ok(false)
}

/// `NATS/1.0\r\nName: value\r\n\r\n`.
fn parse_headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in String::from_utf8_lossy(bytes).lines().skip(1) {
        if let Some((name, value)) = line.split_once(':') {
            headers.append(name.trim(), value.trim());
        }
    }
    headers
}
