//! Error codes of unary calls and the body that carries them.

use serde::Serialize;

/// The code of a failed call; clients branch on it (contract, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// No credential, or one that is unknown, expired or revoked.
    Unauthenticated,
    /// The user lacks a permission; also for a room that is hidden or not joined.
    PermissionDenied,
    /// A read of a single thing that does not exist.
    NotFound,
    /// The login, room name or role name is taken.
    AlreadyExists,
    /// An edit is based on an older version.
    Aborted,
    /// A value rule or text rule is violated, or a cursor is from elsewhere.
    InvalidArgument,
    /// The current state does not allow it.
    FailedPrecondition,
    /// Slow mode, a limit on numbers or rates, or a request that is too large.
    ResourceExhausted,
    /// The method is in the contract but not served.
    Unimplemented,
    /// Something that the call needs cannot be reached now; a retry may succeed.
    Unavailable,
    DeadlineExceeded,
    /// The caller disconnected.
    Canceled,
    /// Everything else; the text reveals nothing.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 13] = [
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Aborted,
        Self::InvalidArgument,
        Self::FailedPrecondition,
        Self::ResourceExhausted,
        Self::Unimplemented,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::Canceled,
        Self::Internal,
    ];

    /// The name in the error body.
    #[must_use]
    pub const fn name(self) -> &'static str {
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

    /// The HTTP status of the response. 499 is not registered, and some HTTP libraries do not know it.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
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
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The body of a failed call: JSON, even when the request was binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// What clients branch on.
    pub code: Code,
    /// Short English text in lower case, without ids or internals; some clients show it.
    pub message: String,
}

impl ErrorBody {
    /// The media type of the body.
    pub const CONTENT_TYPE: &str = "application/json";

    /// The bytes to send.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Serialising two strings into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_else(|_| br#"{"code":"internal","message":""}"#.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_statuses_are_those_of_the_contract() {
        let table: Vec<_> =
            Code::ALL.iter().map(|code| (code.name(), code.http_status())).collect();
        assert_eq!(
            table,
            [
                ("unauthenticated", 401),
                ("permission_denied", 403),
                ("not_found", 404),
                ("already_exists", 409),
                ("aborted", 409),
                ("invalid_argument", 400),
                ("failed_precondition", 400),
                ("resource_exhausted", 429),
                ("unimplemented", 501),
                ("unavailable", 503),
                ("deadline_exceeded", 504),
                ("canceled", 499),
                ("internal", 500),
            ]
        );
    }

    #[test]
    fn the_body_has_code_and_message() {
        let body = ErrorBody { code: Code::NotFound, message: "no such \"room\"".to_owned() };
        assert_eq!(body.to_json(), br#"{"code":"not_found","message":"no such \"room\""}"#);
    }
}
