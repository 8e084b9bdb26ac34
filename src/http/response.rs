//! Responses with their body in memory. They travel through tide as an extension, because http-types knows
//! neither every status of the contract nor every header value.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use tide::{Endpoint, Request};

use super::state::App;

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

    /// What a plain JSON route returns when there is nothing else to say.
    pub(super) fn success() -> Self {
        Self::json(StatusCode::OK, &serde_json::json!({ "success": true }))
    }

    /// An error outside the Connect calls (contract 6).
    pub(super) fn error(status: StatusCode, text: &str) -> Self {
        Self::of(status, "application/json", error_body(text))
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

/// An error with its head, for a connection on which hyper does not respond. It closes the connection.
pub(super) fn error_bytes(status: StatusCode, text: &str) -> Vec<u8> {
    let body = error_body(text);
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn error_body(text: &str) -> String {
    serde_json::json!({ "error": text }).to_string()
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

/// A handler of a plain JSON route, whose error is a response too.
pub(super) fn plain<H, F>(handler: H) -> impl Endpoint<App>
where
    H: Fn(Request<App>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response, Response>> + Send + 'static,
{
    move |request: Request<App>| {
        let response = handler(request);
        async move { Ok::<Response, tide::Error>(response.await.unwrap_or_else(|error| error)) }
    }
}
