//! Responses with their body in memory. They travel through tide as an extension, because http-types knows
//! neither every status of the contract nor every header value.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};

/// What a handler returns. A streamed body is a plain `tide::Response` instead.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Response {
    /// A response without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A response with this content type and body.
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

    /// A JSON response.
    pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::of(status, "application/json", value.to_string())
    }

    /// An error outside the Connect calls: `{"error":"text"}` (contract 6).
    pub(super) fn error(status: StatusCode, text: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": text }))
    }

    /// An error of a Connect call: `{"code","message"}` (contract 2), JSON for binary calls too.
    pub(super) fn connect_error(status: StatusCode, code: &str, message: &str) -> Self {
        Self::json(status, &serde_json::json!({ "code": code, "message": message }))
    }

    /// Adds a header.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        // An invalid header value is our own mistake; a response without it is better than none.
        match HeaderValue::from_str(value) {
            Ok(value) => {
                self.headers.append(name, value);
            }
            Err(_) => log::error!(header:% = name; "left out an invalid header value"),
        }
        self
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        self.with(header::RETRY_AFTER, &seconds.max(1).to_string())
    }

    /// Closes the connection after this response.
    #[must_use]
    pub(super) fn closing(self) -> Self {
        self.with(header::CONNECTION, "close")
    }
}

impl From<Response> for tide::Response {
    fn from(response: Response) -> Self {
        // This status is a placeholder: the bridge sends that of the extension.
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
