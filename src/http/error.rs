//! The only map from failures to codes and statuses (contract 3.1). Texts of 5xx reveal nothing.

use hyper::StatusCode;

use super::answer::Answer;

/// The contract's error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    Aborted,
    InvalidArgument,
    FailedPrecondition,
    ResourceExhausted,
    Unimplemented,
    Unavailable,
    DeadlineExceeded,
    Canceled,
    Internal,
}

impl Code {
    /// The code's name on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Aborted => "aborted",
            Self::InvalidArgument => "invalid_argument",
            Self::FailedPrecondition => "failed_precondition",
            Self::ResourceExhausted => "resource_exhausted",
            Self::Unimplemented => "unimplemented",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Canceled => "canceled",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status of a call that failed so.
    pub(super) fn status(self) -> StatusCode {
        let status = match self {
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::InvalidArgument | Self::FailedPrecondition => 400,
            Self::ResourceExhausted => 429,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
            Self::Canceled => 499,
            Self::Internal => 500,
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The text of every refusal for want of a credential (contract 3.3).
pub(super) const AUTHENTICATION_REQUIRED: &str = "authentication required";

/// A failure in the form that `path` asks for.
pub(super) fn refused(path: &str, code: Code, text: &str) -> Answer {
    if path.starts_with("/api/connect/") {
        Answer::connect_failure(code.status(), code.name(), text)
    } else {
        Answer::failure(code.status(), text)
    }
}
