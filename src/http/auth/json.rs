//! Bodies of the plain JSON routes: at most 64 KiB; a field that is `null` counts as absent.

use std::sync::Arc;

use hyper::{StatusCode, header};
use serde::de::DeserializeOwned;
use tide::Request;

use crate::contract::Encoding;
use crate::limits;

use super::super::body::read_body;
use super::super::error::HttpError;
use super::super::head::{BodyCoding, Head};
use super::super::response::Response;
use super::super::state::{App, PausablePermit, RequestPermit};

/// A plain JSON request.
pub(super) struct JsonRequest<T> {
    pub(super) state: App,
    pub(super) head: Arc<Head>,
    /// Held as long as the work of the request.
    pub(super) permit: Option<RequestPermit>,
    pub(super) body: T,
}

/// Reads a request; the error is the response. An empty body counts as `{}`.
pub(super) async fn read<T: DeserializeOwned>(
    mut request: Request<App>,
) -> Result<JsonRequest<T>, Response> {
    let state = Arc::clone(request.state());
    let head = Head::of(&request)?;
    let permit = PausablePermit::of(&request).ok_or_else(HttpError::internal)?;
    // A page of another origin can send a form or plain text without a preflight request (CORS).
    let content_type = head.header(&header::CONTENT_TYPE).unwrap_or_default();
    if Encoding::from_content_type(content_type) != Some(Encoding::Json) {
        let text = "The body must be JSON, with Content-Type: application/json";
        return Err(Response::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if head.body_coding() != BodyCoding::Identity {
        // The client has not authenticated yet, so nothing is decompressed for it.
        let text = "The request must not be compressed";
        let response = Response::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
        return Err(response.with(header::ACCEPT_ENCODING, "identity"));
    }
    let max = limits::JSON_BODY_MAX_BYTES;
    let whole = read_body(request.take_body(), max, &state, &permit).await?;
    let bytes: &[u8] = if whole.bytes.is_empty() { b"{}" } else { &whole.bytes };
    // The parser's text may quote the body, so it is neither logged nor sent.
    let body = serde_json::from_slice(bytes).map_err(|_quotes| {
        Response::error(StatusCode::BAD_REQUEST, "The request body is not the expected JSON")
    })?;
    Ok(JsonRequest { state, head, permit: Some(permit), body })
}
