//! The two cookies (contract 5.3): reading them from a request, setting and clearing them.

use std::time::Duration;

use hyper::header;

use super::super::head::Head;
use super::super::response::Response;

/// The session's opaque handle.
const SESSION: &str = "chatto_session";
/// The token that the header `X-CSRF-Token` repeats.
const CSRF: &str = "chatto_csrf";

/// The session cookie's value.
pub(in crate::http) fn session(head: &Head) -> Option<&str> {
    cookie(head, SESSION)
}

/// The CSRF cookie's value.
pub(in crate::http) fn csrf(head: &Head) -> Option<&str> {
    cookie(head, CSRF)
}

/// The value of a cookie. When there are several, the first one counts (RFC 6265, 5.4 puts the most specific path
/// first).
fn cookie<'a>(head: &'a Head, name: &str) -> Option<&'a str> {
    let lines = head.headers.get_all(header::COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('='));
    values.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"'))
}

fn attributes(head: &Head, seconds: u64, http_only: bool) -> String {
    let secure = if head.is_https { "; Secure" } else { "" };
    let http_only = if http_only { "; HttpOnly" } else { "" };
    format!("; Path=/; Max-Age={seconds}; SameSite=Lax{http_only}{secure}")
}

/// The `Set-Cookie` line of the session cookie.
pub(in crate::http) fn session_line(head: &Head, value: &str, ttl: Duration) -> String {
    format!("{SESSION}={value}{}", attributes(head, ttl.as_secs(), true))
}

/// The `Set-Cookie` line of the CSRF cookie.
pub(in crate::http) fn csrf_line(head: &Head, value: &str, ttl: Duration) -> String {
    format!("{CSRF}={value}{}", attributes(head, ttl.as_secs(), false))
}

/// Deletes both cookies.
pub(in crate::http) fn clear(response: Response, head: &Head) -> Response {
    response
        .with(header::SET_COOKIE, &format!("{SESSION}={}", attributes(head, 0, true)))
        .with(header::SET_COOKIE, &format!("{CSRF}={}", attributes(head, 0, false)))
}
