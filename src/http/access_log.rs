//! The log line of a request (`webserver.request_logging`), written when its response has been handed to the
//! connection, or was abandoned.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use hyper::{Method, StatusCode};
use percent_encoding::percent_decode;

use crate::limits;
use crate::runtime::Clock;

/// The content of one line. Dropping it writes the line.
#[derive(Debug)]
pub(super) struct AccessRecord {
    method: Method,
    path: String,
    /// The address of the client, as far as it is known.
    pub(super) client: IpAddr,
    /// The status of the response; `None` until there is one.
    pub(super) status: Option<StatusCode>,
    /// Bytes of the response body that were handed to the connection.
    pub(super) bytes: u64,
    clock: Clock,
    started: Instant,
}

impl AccessRecord {
    /// A request that has just begun. Its query is not logged: it may contain a ticket.
    pub(super) fn new(method: &Method, path: &str, client: IpAddr, clock: &Clock) -> Self {
        Self {
            method: method.clone(),
            path: shortened(logged_path(path)),
            client,
            status: None,
            bytes: 0,
            clock: clock.clone(),
            started: clock.now(),
        }
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let ms = self.clock.now().saturating_duration_since(self.started).as_millis();
        log::info!(
            method:% = self.method, path = self.path.as_str(),
            status = self.status.map_or(0, |status| status.as_u16()),
            milliseconds = u64::try_from(ms).unwrap_or(u64::MAX), bytes = self.bytes,
            client:% = self.client;
            "request"
        );
    }
}

/// The beginning of a long path, so that nobody can fill the disk with log lines.
fn shortened(path: &str) -> String {
    let mut end = path.len().min(limits::LOGGED_PATH_MAX_BYTES);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    let start = path.get(..end).unwrap_or_default();
    if end < path.len() { format!("{start}…") } else { start.to_owned() }
}

/// What follows `invite` in a path is a secret, however the path is spelled: with doubled slashes, backslashes
/// or needless percent-encoding it still names the same token.
fn logged_path(path: &str) -> &str {
    const ROUNDS: usize = 4;
    const MASKED: &str = "/invite/…";
    let mut plain = path.as_bytes().to_vec();
    for _ in 0..ROUNDS {
        let mut segments = plain.split(|byte| matches!(byte, b'/' | b'\\'));
        if segments.any(|segment| segment.trim_ascii().eq_ignore_ascii_case(b"invite")) {
            return MASKED;
        }
        match Cow::from(percent_decode(&plain)) {
            Cow::Borrowed(_) => return path,
            Cow::Owned(decoded) => plain = decoded,
        }
    }
    // No honest client encodes a path so often, and we decode no further.
    MASKED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invites_are_masked_however_they_are_spelled() {
        for path in [
            "/invite/secret",
            "//invite/secret",
            "/./invite/secret",
            "/x/../invite/secret",
            "/INVITE/secret",
            "/%69nvite/secret",
            "/%2569nvite/secret",
            "/invite%2Fsecret",
            "/%2finvite%2fsecret",
            "/invite%ff/../invite/secret",
            "\\invite\\secret",
            "/%5Cinvite%5csecret",
            "/api/connect/invite/secret",
            "/%25252569nvite/secret",
        ] {
            assert_eq!(logged_path(path), "/invite/…", "{path}");
        }
        assert_eq!(shortened(&format!("/{}", "x".repeat(600))).len(), 512 + "…".len());
        assert_eq!(shortened("/short"), "/short");
        for path in ["/", "/invites", "/api/connect/x.Service/GetInvite", "/%zz%", "/%69nvites/a"] {
            assert_eq!(logged_path(path), path);
        }
    }
}
