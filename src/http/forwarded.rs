//! What trusted proxies report about a request: the client's address, its scheme, the host it requested.
//!
//! Anybody can send these headers, so they count only on connections from `webserver.trusted_proxies`.
//! `Forwarded` (RFC 7239) counts only when there is no `X-Forwarded-*`: a proxy that knows one of the two passes
//! the other one on unchanged.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};

use super::config::Network;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forwarded {
    /// The address the request comes from: that of the peer, or, when the peer is a trusted proxy, the rightmost
    /// forwarded address that is not a trusted proxy.
    pub(super) client: IpAddr,
    pub(super) is_https: bool,
    /// The host it requested, unchecked.
    pub(super) host: Option<String>,
}

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

impl Forwarded {
    /// What `headers` mean when they come from `peer`.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let peer = peer.to_canonical();
        let mut forwarded = Self { client: peer, is_https: false, host: None };
        let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(address));
        if !is_trusted(peer) {
            return forwarded;
        }
        if [FOR, PROTO, HOST].iter().any(|name| headers.contains_key(name)) {
            let hops = list(headers, &FOR);
            forwarded.client = hops_client(peer, hops.iter().map(|hop| address(hop)), is_trusted);
            let proto = list(headers, &PROTO).pop();
            forwarded.is_https = proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
            forwarded.host = list(headers, &HOST).pop();
            return forwarded;
        }
        let elements = list(headers, &header::FORWARDED);
        let hops = elements.iter().map(|hop| address(&parameter(hop, "for")?));
        forwarded.client = hops_client(peer, hops, is_trusted);
        if let Some(last) = elements.last() {
            let proto = parameter(last, "proto");
            forwarded.is_https = proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
            forwarded.host = parameter(last, "host");
        }
        forwarded
    }
}

/// The rightmost hop that is not trusted. Whatever stands to the left of a hop without an address cannot be
/// trusted.
fn hops_client(
    peer: IpAddr,
    hops: impl DoubleEndedIterator<Item = Option<IpAddr>>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer;
    for hop in hops.rev() {
        let Some(address) = hop else { return client };
        client = address.to_canonical();
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

/// The elements of a comma-separated header over all its lines. Commas inside quotes do not separate.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let mut members = Vec::new();
    for line in headers.get_all(name).iter().filter_map(|value| value.to_str().ok()) {
        let mut quoted = false;
        let mut member = String::new();
        for c in line.chars() {
            quoted ^= c == '"';
            if c == ',' && !quoted {
                members.push(std::mem::take(&mut member).trim().to_owned());
            } else {
                member.push(c);
            }
        }
        members.push(member.trim().to_owned());
    }
    members.retain(|member| !member.is_empty());
    members
}

/// A parameter of an element of `Forwarded`, without its quotes.
fn parameter(element: &str, name: &str) -> Option<String> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// An address as proxies write it: bare, in brackets, or IPv4 with a port.
fn address(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next()?.parse().ok();
    }
    text.parse().ok().or_else(|| text.split_once(':')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    type Pairs<'a> = &'a [(&'static str, &'static str)];

    fn parsed(peer: &str, pairs: Pairs<'_>) -> Forwarded {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let trusted = Network::parse("loopback").unwrap();
        Forwarded::of(peer.parse().unwrap(), &headers, &trusted)
    }

    #[test]
    fn forwarded_addresses_count_from_trusted_proxies_only() {
        let cases: [(&str, Pairs<'_>, &str); 10] = [
            ("9.9.9.9", &[("x-forwarded-for", "1.1.1.1")], "9.9.9.9"),
            ("9.9.9.9", &[("forwarded", "for=1.1.1.1")], "9.9.9.9"),
            ("127.0.0.1", &[("x-forwarded-for", "1.1.1.1")], "1.1.1.1"),
            ("127.0.0.1", &[("x-forwarded-for", "6.6.6.6, 1.1.1.1, 127.0.0.9")], "1.1.1.1"),
            (
                "127.0.0.1",
                &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "2.2.2.2")],
                "2.2.2.2",
            ),
            ("::ffff:127.0.0.1", &[("x-forwarded-for", "[2001:db8::1]:80")], "2001:db8::1"),
            ("127.0.0.1", &[("x-forwarded-for", "6.6.6.6, nonsense")], "127.0.0.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            (
                "127.0.0.1",
                &[("forwarded", "for=6.6.6.6, For=\"[2001:db8::9]:4711\"")],
                "2001:db8::9",
            ),
            ("127.0.0.1", &[("forwarded", "for=6.6.6.6, for=_hidden, for=127.0.0.2")], "127.0.0.2"),
        ];
        for (peer, pairs, expected) in cases {
            assert_eq!(parsed(peer, pairs).client.to_string(), expected, "{peer} {pairs:?}");
        }
    }

    #[test]
    fn scheme_and_host_count_from_trusted_proxies_only() {
        let both: Pairs<'_> = &[("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example")];
        let seen = parsed("127.0.0.1", both);
        assert_eq!((seen.is_https, seen.host.as_deref()), (true, Some("a.example")));
        let seen = parsed("9.9.9.9", both);
        assert_eq!((seen.is_https, seen.host), (false, None));
        let one =
            parsed("127.0.0.1", &[("forwarded", "for=1.1.1.1;proto=https;host=\"a.example:1\"")]);
        assert_eq!((one.is_https, one.host.as_deref()), (true, Some("a.example:1")));
        let last = parsed("127.0.0.1", &[("x-forwarded-proto", "https, http")]);
        assert!(!last.is_https, "the scheme that the nearest proxy saw counts");
    }

    #[test]
    fn a_header_the_proxy_does_not_know_is_the_clients_own() {
        let mixed = parsed(
            "127.0.0.1",
            &[
                ("x-forwarded-for", "1.1.1.1"),
                ("forwarded", "for=6.6.6.6;proto=https;host=evil.example"),
            ],
        );
        assert_eq!(mixed.client.to_string(), "1.1.1.1");
        assert_eq!((mixed.is_https, mixed.host), (false, None));
    }
}
