//! Errors of requests to nats-server.

/// A request to nats-server failed.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// No connection, no reply in time, or no responder (an election, a missing quorum).
    /// Whether the request had an effect is unknown.
    #[error("nats-server did not reply: {why}")]
    Unanswered {
        /// The client's error, a short English text.
        why: String,
    },
    #[error("nats-server refused the request: {description} ({err_code})")]
    Refused {
        /// HTTP-like status.
        code: u16,
        /// JetStream's own error code.
        err_code: u64,
        /// nats-server's text.
        description: String,
    },
    #[error("unexpected reply from nats-server: {what}")]
    Unexpected { what: &'static str },
    /// The request was not sent: what this process knows of the store is worthless.
    #[error("the store was restored while this process was connected to it")]
    Restored,
}

impl NatsError {
    /// Whether the same request may succeed later without intervention.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            Self::Refused { code, .. } => *code == 503 || *code == 408,
            Self::Unexpected { .. } | Self::Restored => false,
        }
    }

    /// Whether the stream does not exist.
    #[must_use]
    pub fn is_missing_stream(&self) -> bool {
        matches!(self, Self::Refused { err_code: codes::STREAM_NOT_FOUND, .. })
    }

    /// Whether the stream to create exists with another configuration.
    #[must_use]
    pub fn is_existing_stream(&self) -> bool {
        matches!(self, Self::Refused { err_code: codes::STREAM_NAME_EXISTS, .. })
    }

    pub(super) fn unanswered(why: impl std::fmt::Display) -> Self {
        Self::Unanswered { why: why.to_string() }
    }
}

/// A message was not stored, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another writer was first: the subject's last sequence is not the expected one (10071, 10164).
    #[error("another writer was first")]
    WrongLastSequence,
    /// The outcome is unknown: no reply, or the leader is changing (10158, 10163). Send the same
    /// message again with the same id.
    #[error("the outcome of a write is unknown")]
    Unknown {
        #[source]
        source: NatsError,
    },
    /// The store's or the disk's limit is reached; nothing was stored (10002, 10023, 10028,
    /// 10047, 10077).
    #[error("the store is full")]
    Full {
        #[source]
        source: NatsError,
    },
    /// The disk under the embedded server cannot be written to; nothing was stored.
    #[error("the disk of the store does not accept writes")]
    DiskError,
    /// A newer version of chatto has taken over the store; nothing was stored.
    #[error("a newer version of chatto has taken over the store")]
    Outdated,
    /// The store was restored while this process was connected; nothing was stored.
    #[error("the store was restored")]
    Restored,
    /// The stream has lost messages; nothing was stored.
    #[error("the store is damaged")]
    Damaged,
    /// The streams have no leader; nothing was stored.
    #[error("the NATS cluster has no quorum")]
    NoQuorum,
    /// nats-server refused the message; nothing was stored.
    #[error("the write was refused")]
    Refused {
        #[source]
        source: NatsError,
    },
}

/// Error codes of nats-server 2.11 to 2.15 (server/errors.json).
pub(super) mod codes {
    /// `JSStreamWrongLastSequenceErrF`.
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10_071;
    /// `JSStreamWrongLastSequenceConstantErr`.
    pub(crate) const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10_164;
    /// `JSStreamDuplicateMessageConflict`: the same id is being processed.
    pub(crate) const DUPLICATE_IN_PROCESS: u64 = 10_158;
    /// `JSStreamExpectedLastSeqPerSubjectNotReady`-like: sequence check not possible yet.
    pub(crate) const LAST_SEQUENCE_NOT_READY: u64 = 10_163;
    /// `JSInsufficientResourcesErr`.
    pub(crate) const INSUFFICIENT_RESOURCES: u64 = 10_023;
    /// `JSStorageResourcesExceededErr`.
    pub(crate) const STORAGE_RESOURCES_EXCEEDED: u64 = 10_047;
    /// `JSMemoryResourcesExceededErr`.
    pub(crate) const MEMORY_RESOURCES_EXCEEDED: u64 = 10_028;
    /// `JSStreamStoreFailedF`: also carries "maximum bytes exceeded" and "no space left on device".
    pub(crate) const STORE_FAILED: u64 = 10_077;
    /// `JSAccountResourcesExceededErr`.
    pub(crate) const ACCOUNT_RESOURCES_EXCEEDED: u64 = 10_002;
    /// `JSStreamNameExistErr`.
    pub(crate) const STREAM_NAME_EXISTS: u64 = 10_058;
    /// `JSStreamNotFoundErr`.
    pub(crate) const STREAM_NOT_FOUND: u64 = 10_059;
    /// `JSNoMessageFoundErr`.
    pub(crate) const NO_MESSAGE_FOUND: u64 = 10_037;
    /// `JSSequenceNotFoundErrF`.
    pub(crate) const SEQUENCE_NOT_FOUND: u64 = 10_043;
    /// `JSStreamMsgDeleteFailedF`.
    pub(crate) const MESSAGE_DELETE_FAILED: u64 = 10_057;
}
