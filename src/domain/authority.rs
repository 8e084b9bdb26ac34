//! `host[:port]`: the authority of a URL or of a `Host` header, without user information.

use std::net::{IpAddr, Ipv6Addr};

/// The longest host name (RFC 1035, 2.3.4).
const HOST_MAX_BYTES: usize = 253;

/// A host with an optional port (RFC 3986, 3.2.2 and 3.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// `None` when the text is not a host, optionally followed by a colon and a port. The port may be empty.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let host_end = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, _) = rest.split_once(']')?;
                address.parse::<Ipv6Addr>().ok()?;
                address.len().checked_add(2)?
            }
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at_checked(host_end)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let is_host = host.starts_with('[') || host.chars().all(is_plain);
        if host.is_empty() || host.len() > HOST_MAX_BYTES || !is_host {
            return None;
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            Some("") => None,
            // `u16` would parse a sign too.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok()?)
            }
            Some(_) => return None,
        };
        Some(Self { host, port })
    }

    /// The host as written: an IPv6 address has brackets.
    #[must_use]
    pub fn host(self) -> &'a str {
        self.host
    }

    /// `None` when it is absent or empty.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        self.port
    }

    /// The host without the brackets of an IPv6 address and without the final dot of a name.
    #[must_use]
    pub fn name(self) -> &'a str {
        let host = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        host.unwrap_or_else(|| self.host.strip_suffix('.').unwrap_or(self.host))
    }

    /// The host as an IP address; `None` for a name.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        self.name().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_hosts_with_an_optional_port() {
        for (text, host, name, port) in [
            ("a", "a", "a", None),
            ("a.example:80", "a.example", "a.example", Some(80)),
            ("a:", "a", "a", None),
            ("[::1]", "[::1]", "::1", None),
            ("[::1]:4000", "[::1]", "::1", Some(4000)),
            ("127.0.0.1:1", "127.0.0.1", "127.0.0.1", Some(1)),
            ("pi.", "pi.", "pi", None),
        ] {
            let authority = Authority::parse(text).unwrap();
            let parts = (authority.host(), authority.name(), authority.port());
            assert_eq!(parts, (host, name, port), "{text}");
        }
        let long = "a".repeat(HOST_MAX_BYTES + 1);
        for text in [
            "", ":80", "a b", "u@h", "a/b", "[::1", "[x]", "a:b", "a:+1", "a:65536", "a:123456",
            "[::1]x", "::1", "grüße", &long,
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
        assert!(Authority::parse("[::1]:1").unwrap().address().is_some());
        assert!(Authority::parse("localhost").unwrap().address().is_none());
    }
}
