//! Streams: their configuration and state, and the erasure of single messages.

use async_nats::jetstream::stream::{Config as StreamConfig, Info as StreamInfo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::codes;
use super::{Nats, NatsError};
use crate::limits::NATS_REQUEST_TIMEOUT;
use crate::runtime::on_tokio;

/// An error as JetStream's API writes it.
#[derive(Debug, Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

impl From<ApiError> for NatsError {
    fn from(error: ApiError) -> Self {
        Self::Refused { code: error.code, err_code: error.err_code, description: error.description }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ApiResponse<T> {
    Error { error: ApiError },
    Success(T),
}

/// What the account stores.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct AccountInfo {
    /// Bytes in files.
    #[serde(rename = "storage")]
    pub file_bytes: u64,
}

/// A page of a stream's subjects; nats-server returns at most 100,000 at a time.
#[derive(Deserialize)]
struct Subjects {
    #[serde(default)]
    total: usize,
    state: SubjectsState,
}

#[derive(Deserialize)]
struct SubjectsState {
    subjects: Option<std::collections::HashMap<String, u64>>,
}

#[derive(Deserialize)]
struct SuccessResponse {
    #[serde(default)]
    success: bool,
}

impl Nats {
    /// The stream's configuration and state, from its leader; `None` when there is no such stream.
    ///
    /// # Errors
    /// [`NatsError`]; [`NatsError::Unanswered`] also when the stream has no leader: a node that has lost the others
    /// then replies with what it has.
    pub async fn stream(&self, name: &str) -> Result<Option<StreamInfo>, NatsError> {
        let response = self.api(&format!("STREAM.INFO.{name}"), &json!({})).await;
        let info: Option<StreamInfo> = optional(response, codes::STREAM_NOT_FOUND)?;
        let cluster = info.as_ref().and_then(|info| info.cluster.as_ref());
        if cluster.is_some_and(|cluster| cluster.leader.is_none()) {
            return Err(NatsError::unanswered("the stream has no leader"));
        }
        Ok(info)
    }

    /// The subjects of a stream that match `filter`, from its leader, without their messages.
    pub async fn subjects(&self, name: &str, filter: &str) -> Result<Vec<String>, NatsError> {
        let mut subjects = Vec::new();
        loop {
            let request = json!({ "subjects_filter": filter, "offset": subjects.len() });
            let info: Subjects = self.api(&format!("STREAM.INFO.{name}"), &request).await?;
            let more = info.state.subjects.unwrap_or_default();
            if more.is_empty() {
                return Ok(subjects);
            }
            subjects.extend(more.into_keys());
            if subjects.len() >= info.total {
                return Ok(subjects);
            }
        }
    }

    /// Creates the stream; one that exists with the same configuration is a success.
    pub async fn create_stream(&self, config: &StreamConfig) -> Result<StreamInfo, NatsError> {
        self.change(&format!("STREAM.CREATE.{}", config.name), config).await
    }

    /// Changes the stream's configuration.
    pub async fn update_stream(&self, config: &StreamConfig) -> Result<StreamInfo, NatsError> {
        self.change(&format!("STREAM.UPDATE.{}", config.name), config).await
    }

    /// Removes the stream with everything in it; one that does not exist is a success.
    pub async fn delete_stream(&self, name: &str) -> Result<(), NatsError> {
        let deleted =
            self.change::<SuccessResponse>(&format!("STREAM.DELETE.{name}"), &json!({})).await;
        optional(deleted, codes::STREAM_NOT_FOUND).map(|_| ())
    }

    /// How many messages a stream has on one subject, from its leader.
    pub async fn messages_on(&self, name: &str, subject: &str) -> Result<u64, NatsError> {
        let request = json!({ "subjects_filter": subject });
        let info: Subjects = self.api(&format!("STREAM.INFO.{name}"), &request).await?;
        Ok(info.state.subjects.unwrap_or_default().into_values().sum())
    }

    /// Removes one message. Its bytes may remain on disk. `false` when it did not exist.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn remove(&self, stream: &str, sequence: u64) -> Result<bool, NatsError> {
        self.delete_message(stream, sequence, true).await
    }

    /// Erases one message from disk: its bytes are overwritten. `false` when it did not exist.
    ///
    /// # Cancel safety
    /// May be repeated.
    pub async fn erase(&self, stream: &str, sequence: u64) -> Result<bool, NatsError> {
        self.delete_message(stream, sequence, false).await
    }

    async fn delete_message(
        &self,
        stream: &str,
        sequence: u64,
        no_erase: bool,
    ) -> Result<bool, NatsError> {
        let subject = format!("STREAM.MSG.DELETE.{stream}");
        match self
            .change::<SuccessResponse>(&subject, &json!({ "seq": sequence, "no_erase": no_erase }))
            .await
        {
            Ok(response) => Ok(response.success),
            Err(NatsError::Refused {
                err_code:
                    codes::NO_MESSAGE_FOUND | codes::SEQUENCE_NOT_FOUND | codes::MESSAGE_DELETE_FAILED,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes every message before `sequence`. Their bytes may remain on disk.
    pub async fn purge_before(&self, stream: &str, sequence: u64) -> Result<(), NatsError> {
        let subject = format!("STREAM.PURGE.{stream}");
        self.change::<SuccessResponse>(&subject, &json!({ "seq": sequence })).await.map(|_| ())
    }

    /// Removes every message of a subject, which may have wildcards. Their bytes may remain on disk.
    pub async fn purge_subject(&self, stream: &str, subject: &str) -> Result<(), NatsError> {
        let request = format!("STREAM.PURGE.{stream}");
        self.change::<SuccessResponse>(&request, &json!({ "filter": subject })).await.map(|_| ())
    }

    /// What this account stores. Succeeds as long as JetStream works.
    ///
    /// # Errors
    /// [`NatsError`]; `Refused` when JetStream has switched itself off.
    pub async fn account_info(&self) -> Result<AccountInfo, NatsError> {
        self.api("INFO", &json!({})).await
    }

    /// Checks that the server can report its streams, whose state it reads under their locks.
    pub async fn check_streams(&self) -> Result<(), NatsError> {
        self.api::<serde_json::Value>("STREAM.LIST", &json!({})).await.map(|_| ())
    }

    /// A request that changes a stream, or what is in it.
    async fn change<T: DeserializeOwned>(
        &self,
        subject: &str,
        request: &impl Serialize,
    ) -> Result<T, NatsError> {
        self.wait_for_epoch_check().await?;
        self.api(subject, request).await
    }

    /// One request to JetStream's API.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        subject: &str,
        request: &impl Serialize,
    ) -> Result<T, NatsError> {
        let payload = serde_json::to_vec(request)
            .map_err(|_| NatsError::Unexpected { what: "the request cannot be encoded" })?;
        let request =
            async_nats::Request::new().payload(payload.into()).timeout(Some(NATS_REQUEST_TIMEOUT));
        let response = on_tokio(self.client.send_request(format!("$JS.API.{subject}"), request))
            .await
            .map_err(NatsError::unanswered)?;
        match serde_json::from_slice(&response.payload) {
            Ok(ApiResponse::Success(response)) => Ok(response),
            Ok(ApiResponse::Error { error }) => Err(error.into()),
            Err(_) => Err(NatsError::Unexpected { what: "an unreadable reply of JetStream's API" }),
        }
    }
}

/// Maps the given "does not exist" code to `None`.
pub(super) fn optional<T>(
    response: Result<T, NatsError>,
    code: u64,
) -> Result<Option<T>, NatsError> {
    match response {
        Ok(response) => Ok(Some(response)),
        Err(NatsError::Refused { err_code, .. }) if err_code == code => Ok(None),
        Err(error) => Err(error),
    }
}
