//! The configuration of the edge. It does not know where the values come from.

use std::net::IpAddr;
use std::time::Duration;

use crate::domain::Authority;
use crate::limits;
use crate::web::Folder;

/// The edge's part of the configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where users find us. Decides links, the `Secure` attribute of cookies and which origin is our own.
    pub public_url: PublicUrl,
    /// Who may set forwarded headers.
    pub trusted_proxies: Vec<Network>,
    /// Concurrent connections; a new one beyond this gets 503.
    pub max_connections: usize,
    /// One log line per request.
    pub request_logging: bool,
    /// Responses of at least this many bytes are compressed; `None`: never.
    pub compression_min_bytes: Option<usize>,
    /// How long requests may take to finish after a stop.
    pub shutdown_timeout: Duration,
    /// A web client to serve instead of the embedded one. `/setup` stays ours.
    pub client_dir: Option<Folder>,
    /// `core.assets.max_upload_size`: bounds the calls that carry an image.
    pub upload_max_bytes: usize,
    /// The origin that downloads of files are redirected to, which our pages must be allowed to load from.
    pub files_origin: Option<String>,
    /// How long a client may keep a connection waiting.
    pub deadlines: Deadlines,
}

/// How long a client may keep a connection waiting. No setting changes these: the values are those of
/// [`limits`], and tests need shorter ones.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// [`limits::HTTP_HEAD_TIMEOUT`].
    pub head: Duration,
    /// [`limits::HTTP_IDLE_TIMEOUT`].
    pub idle: Duration,
    /// [`limits::HTTP_WRITE_STALL_TIMEOUT`].
    pub write_stall: Duration,
    /// [`limits::HTTP_BODY_STALL_TIMEOUT`].
    pub body_stall: Duration,
    /// [`limits::HTTP_API_BODY_TIMEOUT`].
    pub api_body: Duration,
    /// [`limits::UPLOAD_STREAM_WAIT_TIMEOUT`].
    pub upload_wait: Duration,
    /// [`limits::UPLOAD_STREAM_CHUNK_TIMEOUT`].
    pub upload_chunk: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            head: limits::HTTP_HEAD_TIMEOUT,
            idle: limits::HTTP_IDLE_TIMEOUT,
            write_stall: limits::HTTP_WRITE_STALL_TIMEOUT,
            body_stall: limits::HTTP_BODY_STALL_TIMEOUT,
            api_body: limits::HTTP_API_BODY_TIMEOUT,
            upload_wait: limits::UPLOAD_STREAM_WAIT_TIMEOUT,
            upload_chunk: limits::UPLOAD_STREAM_CHUNK_TIMEOUT,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public_url: PublicUrl::Derived { names: Vec::new() },
            trusted_proxies: Network::loopback(),
            max_connections: limits::HTTP_CONNECTIONS_DEFAULT,
            request_logging: false,
            compression_min_bytes: Some(limits::HTTP_COMPRESSION_MIN_BYTES_DEFAULT),
            shutdown_timeout: limits::HTTP_SHUTDOWN_TIMEOUT_DEFAULT,
            client_dir: None,
            upload_max_bytes: limits::UPLOAD_MAX_BYTES_DEFAULT,
            files_origin: None,
            deadlines: Deadlines::default(),
        }
    }
}

/// Where users find this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicUrl {
    /// `webserver.url`: an origin such as `https://chat.example.org`, without a trailing slash.
    Configured(String),
    /// Not set: the origin is that of the request, whose host must then be an IP address, `localhost` or one
    /// of these names, so that a page whose own host name resolves to us (DNS rebinding) gets nothing.
    Derived {
        /// Our own names, lower case: host name, `<host name>.local`.
        names: Vec<String>,
    },
}

impl PublicUrl {
    /// The origin of a configured URL: scheme, host and port in lower case; `None` when the text is not an
    /// http(s) URL.
    #[must_use]
    pub fn configured(url: &str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let authority = Authority::parse(rest.split(['/', '?', '#']).next()?)?;
        let host = authority.host().to_ascii_lowercase();
        Some(Self::Configured(match authority.port().filter(|port| *port != default_port) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }))
    }

    /// Whether cookies are sent over https only.
    #[must_use]
    pub fn is_https(&self) -> bool {
        matches!(self, Self::Configured(origin) if origin.starts_with("https://"))
    }

    /// Whether we respond to a request for `host` (with or without a port).
    #[must_use]
    pub fn accepts(&self, host: &str) -> bool {
        let Self::Derived { names } = self else { return true };
        let Some(authority) = Authority::parse(host) else { return false };
        let name = authority.name();
        authority.address().is_some()
            || name.eq_ignore_ascii_case("localhost")
            || names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// A network of addresses, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: u128,
    prefix: u32,
}

/// The text is not an address, a network or `loopback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address, a network such as 10.0.0.0/8, or loopback")]
pub struct NetworkError;

impl Network {
    /// `127.0.0.0/8` and `::1`.
    #[must_use]
    pub fn loopback() -> Vec<Self> {
        ["127.0.0.0/8", "::1"].iter().filter_map(|text| Self::one(text)).collect()
    }

    /// The networks that an element of `webserver.trusted_proxies` names.
    ///
    /// # Errors
    /// [`NetworkError`] when it does not name one.
    pub fn parse(text: &str) -> Result<Vec<Self>, NetworkError> {
        if text.trim().eq_ignore_ascii_case("loopback") {
            return Ok(Self::loopback());
        }
        Self::one(text.trim()).map(|network| vec![network]).ok_or(NetworkError)
    }

    fn one(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (bits, offset) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits)
            .then(|| Self { base: as_v6(address), prefix: prefix.saturating_add(offset) })
    }

    /// Whether the network contains `address`; IPv4-mapped addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = self.base ^ as_v6(address);
        differing.leading_zeros() >= self.prefix
    }
}

fn as_v6(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.1"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.8"),
            ("loopback", "127.3.2.1", "128.0.0.1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
        ] {
            let networks = Network::parse(network).unwrap();
            let any = |ip: &str| networks.iter().any(|n| n.contains(ip.parse().unwrap()));
            assert!(any(inside), "{network} holds {inside}");
            assert!(!any(outside), "{network} does not hold {outside}");
        }
        for bad in ["", "10.0.0.0/33", "host", "1.2.3.4/x", "::/129"] {
            assert_eq!(Network::parse(bad), Err(NetworkError), "{bad}");
        }
    }

    #[test]
    fn derived_hosts_are_addresses_localhost_or_own_names() {
        let url = PublicUrl::Derived { names: vec!["pi".into(), "pi.local".into()] };
        for good in ["127.0.0.1:4000", "[::1]:4000", "localhost", "PI.local:4000", "pi", "pi."] {
            assert!(url.accepts(good), "{good}");
        }
        for bad in ["evil.example", "pi.evil.example", "localhost.evil.example", "", "[x]"] {
            assert!(!url.accepts(bad), "{bad}");
        }
        assert!(PublicUrl::configured("https://x.org").unwrap().accepts("anything.example"));
    }

    #[test]
    fn configured_urls_are_reduced_to_their_origin() {
        for (url, origin) in [
            ("https://Chat.Example.org/", "https://chat.example.org"),
            ("https://chat.example.org:443/x", "https://chat.example.org"),
            ("http://pi:4000", "http://pi:4000"),
        ] {
            assert_eq!(
                PublicUrl::configured(url),
                Some(PublicUrl::Configured(origin.into())),
                "{url}"
            );
        }
        for bad in ["chat.example.org", "ftp://x", "https://", "https://u@x"] {
            assert_eq!(PublicUrl::configured(bad), None, "{bad}");
        }
    }
}
