//! The head of a request as it arrived: checked here once, then carried to the handlers as an extension, so that
//! http-types never parses a client's bytes.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{self, HeaderName};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, StatusCode, Uri, Version};
use parking_lot::Mutex;
use tide::Request;

use crate::domain::Authority;
use crate::runtime::Stop;
use crate::web::Coding;

use super::config::PublicUrl;
use super::connections::ConnectionPermit;
use super::error::HttpError;
use super::state::App;

/// A checked request head.
pub(super) struct Head {
    pub(super) method: Method,
    /// The path as sent, neither decoded nor normalised.
    pub(super) path: String,
    /// What follows the question mark, as sent.
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    /// `host[:port]` of the request, lower case; empty for HTTP/1.0 without it.
    pub(super) host: String,
    /// The address of the client, as trusted proxies report it.
    pub(super) client: IpAddr,
    /// Whether the client reached us, or our proxy, over https.
    pub(super) is_https: bool,
    /// The connection, for a handler that upgrades it.
    pub(super) upgrade: Upgrade,
}

/// An upgradable connection. Whoever takes it over holds the permit and watches the stop signal; otherwise it
/// would escape the connection limit and the drain.
pub(super) struct Upgrade {
    on: Mutex<Option<OnUpgrade>>,
    pub(super) permit: Arc<ConnectionPermit>,
    pub(super) stop: Stop,
}

impl Upgrade {
    pub(super) fn new(on: Option<OnUpgrade>, permit: Arc<ConnectionPermit>, stop: Stop) -> Self {
        Self { on: Mutex::new(on), permit, stop }
    }

    /// The pending upgrade; `None` when the client requested none, or it was taken before.
    pub(super) fn take(&self) -> Option<(OnUpgrade, Arc<ConnectionPermit>, Stop)> {
        let on = self.on.lock().take()?;
        Some((on, Arc::clone(&self.permit), self.stop.clone()))
    }
}

/// Why a request is not processed further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadError {
    pub(super) status: StatusCode,
    pub(super) text: &'static str,
    /// Whether the connection must be closed, because the bytes that follow may not be a request.
    pub(super) closes: bool,
}

const fn error(status: StatusCode, text: &'static str, closes: bool) -> HeadError {
    HeadError { status, text, closes }
}

/// Methods that a route may support; all others get 501 before http-types sees them.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// The checks that hyper leaves to us. Returns `host[:port]` in lower case.
pub(super) fn check(
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<String, HeadError> {
    if !METHODS.contains(method) {
        return Err(error(StatusCode::NOT_IMPLEMENTED, "unknown method", true));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        if !chunked || codings.next().is_some() {
            return Err(error(StatusCode::NOT_IMPLEMENTED, "unknown transfer coding", true));
        }
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            let host = host.to_str().ok().filter(|host| Authority::parse(host).is_some());
            host.ok_or(error(StatusCode::BAD_REQUEST, "bad host header", true))?
        }
        (None, _) if version < Version::HTTP_11 => "",
        _ => return Err(error(StatusCode::BAD_REQUEST, "exactly one host is required", true)),
    };
    // RFC 9112, 3.2.2: the host of an absolute target wins over the header.
    let host = uri.authority().map_or(host, |authority| authority.as_str());
    if !host.is_empty() && Authority::parse(host).is_none() {
        return Err(error(StatusCode::BAD_REQUEST, "bad host", true));
    }
    let path = uri.path();
    if !(path.starts_with('/') || (path == "*" && method == Method::OPTIONS)) {
        return Err(error(StatusCode::BAD_REQUEST, "bad request target", true));
    }
    if has_dot_segment(path) {
        return Err(error(StatusCode::NOT_FOUND, "not found", false));
    }
    Ok(host.to_ascii_lowercase())
}

/// Whether a URL parser would remove a segment of the path: `.`, `..` and their encoded forms.
fn has_dot_segment(path: &str) -> bool {
    path.split(['/', '\\']).any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    }) || path.contains('\\')
}

/// The content coding of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyCoding {
    Identity,
    Gzip,
    Unknown,
}

impl Head {
    /// The head that the bridge carries beside `request`.
    ///
    /// # Errors
    /// `internal` when it is missing.
    pub(super) fn of(request: &Request<App>) -> Result<Arc<Self>, HttpError> {
        request.ext::<Arc<Self>>().map(Arc::clone).ok_or_else(HttpError::internal)
    }

    /// The text of a header; `None` when it is absent or contains anything but visible ASCII.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first value of a parameter of the query, as sent.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.query.as_deref().unwrap_or_default().split('&');
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The members of a header that is a comma-separated list, over all its lines (RFC 9110, 5.6.1).
    pub(super) fn members(&self, name: &HeaderName) -> impl Iterator<Item = &str> {
        let lines = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(',')).map(str::trim)
    }

    /// The content codings that the client accepts, the preferred one first (RFC 9110, 12.5.3).
    pub(super) fn accepted_codings(&self) -> Vec<Coding> {
        let weights: Vec<(&str, u16)> =
            self.members(&header::ACCEPT_ENCODING).map(weight).collect();
        let mut accepted: Vec<(u16, Coding)> = Vec::new();
        for coding in Coding::ALL {
            let of = |name: &str| weights.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            match of(coding.name()).or_else(|| of("*")) {
                Some((_, weight)) if *weight > 0 => accepted.push((*weight, coding)),
                _ => {}
            }
        }
        // The sort is stable: among equals the best compression comes first.
        accepted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        accepted.into_iter().map(|(_, coding)| coding).collect()
    }

    /// The content coding of the body.
    pub(super) fn body_coding(&self) -> BodyCoding {
        let coding = self.headers.get(header::CONTENT_ENCODING);
        match coding.map_or(&b""[..], |coding| coding.as_bytes().trim_ascii()) {
            b"" | b"identity" => BodyCoding::Identity,
            coding if coding.eq_ignore_ascii_case(b"gzip") => BodyCoding::Gzip,
            _ => BodyCoding::Unknown,
        }
    }

    /// Whether the client has the version with this entity tag, quotes included (RFC 9110, 13.1.2).
    pub(super) fn knows(&self, tag: &str) -> bool {
        let mut given = self.members(&header::IF_NONE_MATCH);
        given.any(|one| one.trim_start_matches("W/") == tag || one == "*")
    }

    /// Whether the method is safe (RFC 9110, 9.2.1).
    pub(super) fn is_safe(&self) -> bool {
        self.method.is_safe()
    }

    /// The origin that our links start with: the configured one, otherwise that of the request.
    pub(super) fn origin(&self, url: &PublicUrl) -> String {
        match url {
            PublicUrl::Configured(origin) => origin.clone(),
            PublicUrl::Derived { .. } => {
                let scheme = if self.is_https { "https" } else { "http" };
                format!("{scheme}://{}", self.host)
            }
        }
    }

    /// Whether the request has no `Origin`, or our own (contract 5.2). Only then does its cookie count where no
    /// CSRF token is required.
    pub(super) fn is_own_origin(&self, url: &PublicUrl) -> bool {
        let mut origins = self.headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        if origins.next().is_some() {
            return false;
        }
        PublicUrl::configured(origin).is_some_and(|origin| {
            PublicUrl::configured(&self.origin(url)).is_some_and(|own| own == origin)
        })
    }
}

/// A content coding and its weight in thousandths.
fn weight(member: &str) -> (&str, u16) {
    let (coding, parameters) = member.split_once(';').unwrap_or((member, ""));
    let weight = parameters.trim().strip_prefix("q=").map_or(Some(1.0_f32), |q| q.parse().ok());
    let thousandths = (weight.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let thousandths = thousandths as u16;
    (coding.trim(), thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_found_in_every_form() {
        for bad in ["/a/../b", "/..", "/a/%2e%2E/b", "/.%2e", "/a/.", "/a\\..\\b"] {
            assert!(has_dot_segment(bad), "{bad}");
        }
        for good in ["/", "/a.b/c..d", "/...", "/setup/setup.js"] {
            assert!(!has_dot_segment(good), "{good}");
        }
    }

    #[test]
    fn weights_are_read_and_zero_excludes() {
        for (member, expected) in [
            ("br", ("br", 1000)),
            (" gzip;q=0.5", ("gzip", 500)),
            ("zstd; q=0", ("zstd", 0)),
            ("gzip;q=nonsense", ("gzip", 0)),
            ("gzip;q=9", ("gzip", 1000)),
        ] {
            assert_eq!(weight(member), expected, "{member}");
        }
    }
}
