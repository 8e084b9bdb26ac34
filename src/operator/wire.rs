//! What goes over the socket: HTTP/1.1 requests and responses with JSON bodies.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Exit, SCHEMA, VERSION};

const JSON: &str = "application/json";

/// An operation failed or was refused; this is also the body of its response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct OperatorError {
    /// A word for programs.
    pub code: String,
    /// For people: what happened and what to do.
    pub message: String,
    /// The command's exit code.
    pub exit: u8,
}

impl OperatorError {
    /// An error with its code, exit code and message.
    #[must_use]
    pub fn new(code: &str, exit: Exit, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), exit: exit.code() }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit::from_code(self.exit)
    }

    /// The HTTP status, for people who use other tools on the socket.
    fn status(&self) -> StatusCode {
        match self.code.as_str() {
            "invalid_argument" | "bad_request" | "version_mismatch" => StatusCode::BAD_REQUEST,
            "permission_denied" => StatusCode::FORBIDDEN,
            "not_found" | "unknown_method" => StatusCode::NOT_FOUND,
            "already_exists" | "failed_precondition" => StatusCode::CONFLICT,
            "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The request that calls a method.
///
/// # Errors
/// When the method's name cannot be part of a path.
pub(super) fn request(
    method: &str,
    params: &Value,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    Request::post(format!("/v1/{method}"))
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, JSON)
        .body(Full::from(params.to_string()))
}

/// The method that a request calls.
pub(super) fn method<B>(request: &Request<B>) -> Result<String, OperatorError> {
    let name = request.uri().path().strip_prefix("/v1/");
    match name.filter(|_| request.method() == Method::POST) {
        Some(name) => Ok(name.to_owned()),
        None => Err(OperatorError::new(
            "unknown_method",
            Exit::Usage,
            "unknown request; use POST /v1/{method}",
        )),
    }
}

/// The response with a method's result.
pub(super) fn response(result: Result<Value, OperatorError>) -> Response<Full<Bytes>> {
    let (status, mut body) = match result {
        Ok(value) => (StatusCode::OK, value),
        Err(error) => (error.status(), serde_json::to_value(&error).unwrap_or(Value::Null)),
    };
    if let Value::Object(fields) = &mut body {
        fields.insert("schema".to_owned(), SCHEMA.into());
        fields.insert("server_version".to_owned(), VERSION.into());
    }
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_method() {
        let request = request("user.list", &serde_json::json!({ "schema": 1 })).unwrap();
        assert_eq!(method(&request).unwrap(), "user.list");
    }

    #[test]
    fn other_requests_are_refused() {
        for (verb, path) in [("GET", "/v1/status"), ("POST", "/other"), ("POST", "/")] {
            let request = Request::builder().method(verb).uri(path).body(()).unwrap();
            assert_eq!(method(&request).unwrap_err().code, "unknown_method", "{verb} {path}");
        }
    }
}
