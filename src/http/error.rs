//! The only map from errors to codes and statuses (contract 3.1). Texts of 5xx reveal nothing.

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;

use crate::contract::{Code, ErrorBody, texts};
use crate::limits;
use crate::observe::chain;
use crate::service::{self, ErrorKind};

use super::body::BodyError;
use super::response::Response;

/// The error of a request, in the terms of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpError {
    pub(super) code: Code,
    /// Short, lower case, without ids or internals.
    pub(super) text: Cow<'static, str>,
    pub(super) retry_after: Option<Duration>,
}

impl HttpError {
    pub(super) fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), retry_after: None }
    }

    /// No credential, or one that is not valid.
    pub(super) fn unauthenticated() -> Self {
        Self::new(Code::Unauthenticated, texts::AUTHENTICATION_REQUIRED)
    }

    /// An error of the server; the cause is in the log.
    pub(super) fn internal() -> Self {
        Self::new(Code::Internal, "internal error")
    }

    pub(super) fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, text)
    }

    /// Too much load.
    pub(super) fn busy() -> Self {
        let mut error = Self::new(Code::Unavailable, "the server is busy, try again");
        error.retry_after = Some(limits::HTTP_RETRY_AFTER);
        error
    }

    /// An error of the service. One that the operator must fix is logged with its whole chain of causes, and
    /// sent without it.
    fn of_kind(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        let code = match kind {
            ErrorKind::Unauthenticated => Code::Unauthenticated,
            ErrorKind::PermissionDenied => Code::PermissionDenied,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::AlreadyExists => Code::AlreadyExists,
            ErrorKind::InvalidArgument => Code::InvalidArgument,
            ErrorKind::FailedPrecondition => Code::FailedPrecondition,
            ErrorKind::ResourceExhausted => Code::ResourceExhausted,
            ErrorKind::Unimplemented => Code::Unimplemented,
            ErrorKind::Unavailable => {
                return Self::unavailable("the server cannot do that now, try again", error);
            }
            // `/readyz` says the same to everybody: an operator must act.
            ErrorKind::DiskFull => return Self::unavailable("the server's disk is full", error),
            ErrorKind::DiskLow => {
                return Self::unavailable(
                    "the server's disk is almost full, so it takes no files",
                    error,
                );
            }
            ErrorKind::DiskError => {
                return Self::unavailable("the server cannot write to its disk", error);
            }
            ErrorKind::Undecryptable => {
                return Self::unavailable(
                    "the file cannot be decrypted, because a key is missing",
                    error,
                );
            }
            ErrorKind::Internal => {
                log::error!(cause = chain(error); "a request failed");
                return Self::internal();
            }
        };
        Self::new(code, error.to_string())
    }

    fn unavailable(text: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        log::warn!(cause = chain(error); "a request failed because the store is unavailable");
        let mut error = Self::new(Code::Unavailable, text);
        error.retry_after = Some(limits::HTTP_RETRY_AFTER);
        error
    }

    /// The status of the response.
    pub(super) fn status(&self) -> StatusCode {
        let status = StatusCode::from_u16(self.code.http_status());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The response to a Connect call: JSON, even when the request was binary.
    pub(super) fn connect_response(self) -> Response {
        let status = self.status();
        let body = ErrorBody { code: self.code, message: self.text.into_owned() };
        let response = Response::of(status, ErrorBody::CONTENT_TYPE, body.to_json());
        with_retry(response, self.retry_after)
    }

    /// The response of a plain JSON route.
    pub(super) fn plain_response(self) -> Response {
        with_retry(Response::error(self.status(), &self.text), self.retry_after)
    }

    /// A response without a body.
    pub(super) fn bare_response(self) -> Response {
        with_retry(Response::empty(self.status()), self.retry_after)
    }

    /// The response in the form that `path` requires.
    pub(super) fn response_for(self, path: &str) -> Response {
        if path.starts_with("/api/connect/") {
            self.connect_response()
        } else {
            self.plain_response()
        }
    }
}

impl From<HttpError> for Response {
    /// That of a plain JSON route.
    fn from(error: HttpError) -> Self {
        error.plain_response()
    }
}

fn with_retry(response: Response, after: Option<Duration>) -> Response {
    match after {
        // Rounded up, so that a client that waits this long is not too early.
        Some(after) => {
            response.retry_after(after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
        }
        None => response,
    }
}

impl From<BodyError> for HttpError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => {
                Self::new(Code::ResourceExhausted, "the request is too large")
            }
            BodyError::TooSlow => Self::new(Code::DeadlineExceeded, "the request came too slowly"),
            BodyError::Busy => Self::busy(),
            BodyError::Broken { .. } => Self::invalid("the request ended early"),
        }
    }
}

impl From<BodyError> for Response {
    /// That of a plain JSON route, which has a status for each cause.
    fn from(error: BodyError) -> Self {
        let (status, text) = match error {
            BodyError::TooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "The request is too large")
            }
            BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "The request took too long"),
            BodyError::Busy => {
                let text = "The server is busy, try again";
                return Self::error(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(1);
            }
            BodyError::Broken { .. } => (StatusCode::BAD_REQUEST, "The request ended early"),
        };
        Self::error(status, text)
    }
}

/// Errors whose kind and text are all that is needed.
macro_rules! by_kind {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for HttpError {
            fn from(error: $error) -> Self {
                Self::of_kind(error.kind(), &error)
            }
        }
    )*};
}

by_kind!(
    service::AuthenticateError,
    service::ReadError,
    service::RoomError,
    service::PostError,
    service::DeleteError,
    service::UploadError,
    service::FileError,
    service::ServerImageError,
    service::LinkError,
    service::OverviewError,
    service::StoreError,
);

/// Errors that may also say when to retry.
macro_rules! by_kind_with_retry {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for HttpError {
            fn from(error: $error) -> Self {
                let mapped = Self::of_kind(error.kind(), &error);
                Self { retry_after: error.retry_after().or(mapped.retry_after), ..mapped }
            }
        }
    )*};
}

by_kind_with_retry!(service::LogInError, service::RedeemError);
