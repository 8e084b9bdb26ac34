//! The little HTTP/1 that the socket needs: one request per connection, JSON with a length, then the
//! connection ends. Peers are this machine's own commands; everything is bounded all the same.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Exit, SCHEMA};
use crate::limits::OPERATOR_HEAD_MAX_BYTES;

/// A wish that was refused, as it goes over the socket.
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
    /// A refusal.
    #[must_use]
    pub fn new(code: &str, exit: Exit, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), exit: exit.code() }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit::from_code(self.exit)
    }

    /// The HTTP status: for people who look with other tools.
    pub(super) fn status(&self) -> u16 {
        match self.code.as_str() {
            "invalid_argument" | "bad_request" | "version_mismatch" => 400,
            "permission_denied" => 403,
            "not_found" | "unknown_method" => 404,
            "already_exists" | "failed_precondition" => 409,
            "too_large" => 413,
            "unavailable" => 503,
            _ => 500,
        }
    }
}

/// Finds the end of a head; `Err` when it is too long already.
pub(super) fn head_end(bytes: &[u8]) -> Result<Option<usize>, OperatorError> {
    let window = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    match window {
        Some(end) if end <= OPERATOR_HEAD_MAX_BYTES => Ok(Some(end)),
        None if bytes.len() < OPERATOR_HEAD_MAX_BYTES => Ok(None),
        _ => Err(OperatorError::new("too_large", Exit::Usage, "the request's head is too long")),
    }
}

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// The method's name behind `/v1/`.
    pub(super) method: String,
    pub(super) body_bytes: usize,
}

/// Reads a request's head.
pub(super) fn parse_request(head: &[u8]) -> Result<RequestHead, OperatorError> {
    let bad = |why: &str| OperatorError::new("bad_request", Exit::Usage, why);
    let head = std::str::from_utf8(head).map_err(|_| bad("the request's head is not text"))?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (verb, path, protocol) = (words.next(), words.next(), words.next());
    if !matches!(protocol, Some("HTTP/1.1" | "HTTP/1.0")) || words.next().is_some() {
        return Err(bad("this is not an HTTP/1 request"));
    }
    let unknown =
        || OperatorError::new("unknown_method", Exit::Usage, "there is only POST /v1/{method}");
    let method = path.and_then(|path| path.strip_prefix("/v1/")).ok_or_else(unknown)?.to_owned();
    if verb != Some("POST") {
        return Err(unknown());
    }
    let body_bytes = content_length(lines).ok_or_else(|| bad("Content-Length is needed, once"))?;
    Ok(RequestHead { method, body_bytes })
}

/// Reads an answer's head: the length of its body.
pub(super) fn parse_response(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let first = lines.next()?;
    first.starts_with("HTTP/1.1 ").then(|| content_length(lines)).flatten()
}

/// The one length; bodies of another coding are not understood.
fn content_length<'a>(lines: impl Iterator<Item = &'a str>) -> Option<usize> {
    let mut length = None;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
        if name.eq_ignore_ascii_case("content-length") {
            let value = value.trim();
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || length.is_some() {
                return None;
            }
            length = Some(value.parse().ok()?);
        }
    }
    length
}

/// A request as bytes.
pub(super) fn request(method: &str, params: &Value) -> Vec<u8> {
    let body = params.to_string();
    format!(
        "POST /v1/{method} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An answer as bytes.
pub(super) fn response(result: Result<Value, OperatorError>) -> Vec<u8> {
    let (status, mut body) = match result {
        Ok(value) => (200, value),
        Err(error) => (error.status(), serde_json::to_value(&error).unwrap_or(Value::Null)),
    };
    if let Value::Object(fields) = &mut body {
        fields.insert("schema".to_owned(), SCHEMA.into());
        fields.insert("server_version".to_owned(), super::VERSION.into());
    }
    let body = body.to_string();
    let phrase = if status == 200 { "OK" } else { "Refused" };
    format!(
        "HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back() {
        let bytes = request("user.list", &serde_json::json!({ "schema": 1 }));
        let end = head_end(&bytes).unwrap().unwrap();
        let head = parse_request(&bytes[..end]).unwrap();
        assert_eq!(head, RequestHead { method: "user.list".into(), body_bytes: 12 });
        assert_eq!(&bytes[end..], b"{\"schema\":1}");
    }

    #[test]
    fn bad_heads_are_refused() {
        for (head, code) in [
            ("GET /v1/status HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "unknown_method"),
            ("POST /other HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "unknown_method"),
            ("POST /v1/status HTTP/1.1\r\n\r\n", "bad_request"),
            ("POST /v1/status HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "bad_request"),
            (
                "POST /v1/status HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                "bad_request",
            ),
            (
                "POST /v1/status HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
                "bad_request",
            ),
            ("nonsense\r\n\r\n", "bad_request"),
            ("POST /v1/status HTTP/2.0\r\nContent-Length: 2\r\n\r\n", "bad_request"),
        ] {
            assert_eq!(parse_request(head.as_bytes()).unwrap_err().code, code, "{head:?}");
        }
        assert!(head_end(&vec![b'x'; OPERATOR_HEAD_MAX_BYTES]).is_err());
        assert_eq!(head_end(b"POST").unwrap(), None);
    }
}
