//! Answers: status, headers and a body in memory, carried through tide as an extension, because
//! http-types knows neither every status of the contract nor every header value.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};

/// What a handler says. Streams come as a plain `tide::Response` with a body of their own.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Response {
    /// An answer without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// An answer of a type that we name ourselves.
    pub(super) fn of(
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        let mut response = Self::empty(status);
        response.body = body.into();
        response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// A JSON answer.
    pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::of(status, "application/json", value.to_string())
    }

    /// A failure outside the Connect calls: `{"error":"text"}` (contract 6).
    pub(super) fn error(status: StatusCode, text: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": text }))
    }

    /// A failure of a Connect call: `{"code","message"}` (contract 2), JSON also for binary calls.
    pub(super) fn connect_error(status: StatusCode, code: &str, message: &str) -> Self {
        Self::json(status, &serde_json::json!({ "code": code, "message": message }))
    }

    /// The same answer with another header.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        // A value that is no header value is our own fault; an answer without it beats none.
        match HeaderValue::from_str(value) {
            Ok(value) => {
                self.headers.append(name, value);
            }
            Err(_) => log::error!(header:% = name; "a header value was not sent"),
        }
        self
    }

    /// The same answer with a hint when to come again.
    #[must_use]
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        self.with(header::RETRY_AFTER, &seconds.max(1).to_string())
    }

    /// The same answer, after which the connection is closed.
    #[must_use]
    pub(super) fn closing(self) -> Self {
        self.with(header::CONNECTION, "close")
    }
}

impl From<Response> for tide::Response {
    fn from(response: Response) -> Self {
        // The status here is what http-types can express; the bridge sends the extension's.
        let mut carrier = Self::new(tide::StatusCode::Ok);
        carrier.insert_ext(response);
        carrier
    }
}

impl From<Response> for tide::Result {
    fn from(response: Response) -> Self {
        Ok(response.into())
    }
}
