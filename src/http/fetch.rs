//! One request to an HTTP server as a client makes it, for health checks and `doctor`: over TLS with the authorities of
//! the system, without following redirects, and with a limit on what is read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_net::TcpStream;
use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::TlsConnector;
use futures_rustls::pki_types::ServerName;
use futures_rustls::rustls::{self, ClientConfig, RootCertStore};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request};
use smol_hyper::rt::FuturesIo;

use crate::domain::Authority;
use crate::limits::{FETCHED_BODY_MAX_BYTES, HTTP_HEAD_MAX_BYTES};
use crate::runtime::{Clock, Elapsed};

use super::validity::not_after_ms;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("only URLs such as http://localhost:4000/readyz can be checked")]
    BadUrl,
    #[error("the server did not respond")]
    TooSlow(#[from] Elapsed),
    #[error("cannot connect")]
    NotConnected {
        #[source]
        source: io::Error,
    },
    #[error("TLS cannot be used")]
    Tls {
        #[source]
        source: io::Error,
    },
    #[error("the server sent no valid response")]
    BadResponse {
        #[source]
        source: hyper::Error,
    },
}

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// As in the header `Host`.
    authority: String,
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    pub is_https: bool,
}

/// What a server sent.
#[derive(Debug)]
pub struct Fetched {
    pub status: u16,
    /// At most the first [`FETCHED_BODY_MAX_BYTES`]; empty after HEAD and after a change of the protocol.
    pub body: Vec<u8>,
    /// The end of the certificate's validity, in milliseconds since 1970.
    pub certificate_ends_ms: Option<i64>,
}

impl Origin {
    /// Of a URL with one of the two schemes and without a path.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, authority) = url.split_once("://")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let parsed = Authority::parse(authority)?;
        let port = parsed.port().unwrap_or(if is_https { 443 } else { 80 });
        let host = parsed
            .address()
            .map_or_else(|| parsed.name().to_owned(), |address| address.to_string());
        Some(Self { authority: authority.to_owned(), host, port, is_https })
    }

    /// Sends a GET request with these further headers. There is no deadline: the caller sets one.
    ///
    /// # Errors
    /// When the server cannot be reached, or what it sends is no response.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Fetched, FetchError> {
        self.request(Method::GET, path, headers).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Fetched, FetchError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(String::new()).map_err(|_| FetchError::BadUrl)?;
        // Every address of the name is tried: `localhost` is ::1 and 127.0.0.1.
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|source| FetchError::NotConnected { source })?;
        if !self.is_https {
            return exchange(stream, request).await;
        }
        let tls = |source| FetchError::Tls { source };
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| tls(io::Error::other(error)))?;
        let connector = TlsConnector::from(client_config().map_err(tls)?);
        let stream = connector.connect(name, stream).await.map_err(tls)?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate_ends_ms = certificate.and_then(|certificate| not_after_ms(certificate));
        let fetched = exchange(stream, request).await?;
        Ok(Fetched { certificate_ends_ms, ..fetched })
    }
}

/// The status of a HEAD request to a URL of http.
///
/// # Errors
/// When the URL is none of http, or there is no response within `limit`.
pub async fn probe(url: &str, clock: &Clock, limit: Duration) -> Result<u16, FetchError> {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let authority_end = url.get(after_scheme..).and_then(|rest| rest.find(['/', '?']));
    let (origin, path) = url.split_at(authority_end.map_or(url.len(), |at| after_scheme + at));
    let origin = Origin::parse(origin).filter(|origin| !origin.is_https);
    let origin = origin.ok_or(FetchError::BadUrl)?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let request = Box::pin(origin.request(Method::HEAD, &path, &[("Connection", "close")]));
    Ok(clock.timeout(limit, request).await??.status)
}

fn client_config() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // Some systems list certificates that rustls does not read.
        roots.add(certificate).ok();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<String>,
) -> Result<Fetched, FetchError> {
    let bad_response = |source| FetchError::BadResponse { source };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HTTP_HEAD_MAX_BYTES)
        .handshake(FuturesIo::new(stream))
        .await
        .map_err(bad_response)?;
    let exchanged = async {
        let response = sender.send_request(request).await.map_err(bad_response)?;
        let (head, mut rest) = response.into_parts();
        let mut body = Vec::new();
        while body.len() < FETCHED_BODY_MAX_BYTES
            && let Some(frame) = rest.frame().await
        {
            body.extend(frame.map_err(bad_response)?.into_data().unwrap_or_default());
        }
        body.truncate(FETCHED_BODY_MAX_BYTES);
        Ok(Fetched { status: head.status.as_u16(), body, certificate_ends_ms: None })
    };
    // Whatever ends the connection also ends the exchange, which has the error.
    let driven = async {
        connection.await.ok();
        std::future::pending().await
    };
    futures_lite::future::or(exchanged, driven).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_url_leads_to_its_host_and_port() {
        for (url, host, port, is_https) in [
            ("https://chat.example", "chat.example", 443, true),
            ("http://chat.example:8080", "chat.example", 8080, false),
            ("http://[::1]:4000", "::1", 4000, false),
            ("http://127.0.0.1", "127.0.0.1", 80, false),
            ("HTTP://chatto", "chatto", 80, false),
        ] {
            let origin = Origin::parse(url).unwrap();
            let found = (origin.host.as_str(), origin.port, origin.is_https);
            assert_eq!(found, (host, port, is_https), "{url}");
        }
        for url in ["ftp://chat.example", "chat.example", "http://", "http://a@localhost", ""] {
            assert_eq!(Origin::parse(url), None, "{url}");
        }
    }

    #[test]
    fn only_urls_of_http_are_probed() {
        for url in [
            "https://localhost/",
            "localhost:4000/readyz",
            "/readyz",
            "x",
            "",
            "http://",
            "http:// /",
            "http://a@localhost/",
            "http://localhost:99999/",
            "http://localhost:x/",
        ] {
            let status = smol::block_on(probe(url, &Clock::system(), LIMIT));
            assert!(matches!(status, Err(FetchError::BadUrl)), "{url}: {status:?}");
        }
    }

    /// A URL whose server sends these bytes and closes the connection; joined, it returns the request that it got.
    fn serve(bytes: &'static [u8]) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(bytes).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (url, server)
    }

    /// The result of a probe for a server that sends these bytes, and the request that it got.
    fn probed(path: &str, bytes: &'static [u8]) -> (Result<u16, FetchError>, String) {
        let (url, server) = serve(bytes);
        let status = smol::block_on(probe(&format!("{url}{path}"), &Clock::system(), LIMIT));
        (status, server.join().unwrap())
    }

    #[test]
    fn the_status_is_what_the_server_sends() {
        for (path, sent) in
            [("/readyz", "/readyz"), ("", "/"), ("?a=b", "/?a=b"), ("/x?a=b", "/x?a=b")]
        {
            let (status, request) = probed(path, b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n");
            assert_eq!(status.unwrap(), 200);
            assert!(request.starts_with(&format!("HEAD {sent} HTTP/1.1\r\n")), "{request}");
        }
        let (status, _) = probed("/", b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(status.unwrap(), 503);
        let (status, _) = probed("/", b"HTTP/1.1 302 Found\r\nLocation: http://localhost/\r\n\r\n");
        assert_eq!(status.unwrap(), 302);
    }

    #[test]
    fn whatever_is_no_response_is_an_error() {
        for bytes in [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2"] {
            let (status, _) = probed("/", bytes);
            assert!(matches!(status, Err(FetchError::BadResponse { .. })), "{status:?}");
        }
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        drop(listener);
        let status = smol::block_on(probe(&url, &Clock::system(), LIMIT));
        assert!(matches!(status, Err(FetchError::NotConnected { .. })), "{status:?}");
    }

    #[test]
    fn a_server_that_is_silent_is_an_error() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let status = smol::block_on(probe(&url, &Clock::system(), Duration::from_millis(50)));
        assert!(matches!(status, Err(FetchError::TooSlow(_))), "{status:?}");
    }

    fn fetched(response: &'static [u8]) -> Result<Fetched, FetchError> {
        let (url, server) = serve(response);
        let origin = Origin::parse(&url).unwrap();
        let got = smol::block_on(origin.get("/healthz", &[("X-Test", "1")]));
        let request = server.join().unwrap();
        let host = url.trim_start_matches("http://");
        assert_eq!(request, format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nx-test: 1\r\n\r\n"));
        got
    }

    #[test]
    fn status_and_body_are_read_and_other_protocols_are_errors() {
        let good = fetched(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore").unwrap();
        assert_eq!((good.status, good.body.as_slice()), (200, &b"ok"[..]));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert_eq!(fetched(chunked).unwrap().body, b"ok");
        let upgraded = fetched(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(upgraded.unwrap().status, 101);
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(FETCHED_BODY_MAX_BYTES + 1));
        assert_eq!(fetched(long.leak().as_bytes()).unwrap().body.len(), FETCHED_BODY_MAX_BYTES);
        assert!(fetched(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(fetched(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort").is_err());
    }
}
