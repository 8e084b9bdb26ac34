//! The client side of a health check: one HEAD request to a URL, of which only the status is read.

use std::io;
use std::time::Duration;

use async_net::TcpStream;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use smol_hyper::rt::FuturesIo;

use crate::limits::HTTP_HEAD_MAX_BYTES;
use crate::runtime::{Clock, Elapsed};

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("only URLs such as http://localhost:4000/readyz can be checked")]
    BadUrl,
    #[error("the server did not respond")]
    TooSlow(#[source] Elapsed),
    #[error("cannot connect")]
    NotConnected {
        #[source]
        source: io::Error,
    },
    #[error("the server sent no valid response")]
    BadResponse {
        #[source]
        source: hyper::Error,
    },
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    /// Path and query.
    path: String,
    /// The value of `Host`.
    authority: String,
}

impl TryFrom<&str> for Target {
    type Error = ProbeError;

    fn try_from(url: &str) -> Result<Self, ProbeError> {
        let uri = Uri::try_from(url).map_err(|_| ProbeError::BadUrl)?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(ProbeError::BadUrl);
        };
        // A user before the host fits neither, and `Authority::port` has nothing for a port beyond 65535.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 80,
            Some(rest) => {
                let port = rest.strip_prefix(':').and_then(|port| port.parse().ok());
                port.ok_or(ProbeError::BadUrl)?
            }
            None => return Err(ProbeError::BadUrl),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            authority: authority.as_str().to_owned(),
        })
    }
}

/// The status of a HEAD request. Redirects are not followed.
///
/// # Errors
/// When the URL is not one of http, or there is no response within `limit`.
pub async fn probe(url: &str, clock: &Clock, limit: Duration) -> Result<StatusCode, ProbeError> {
    let target = Target::try_from(url)?;
    let request = Request::builder()
        .method(Method::HEAD)
        .uri(&target.path)
        .header(HOST, &target.authority)
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(String::new())
        .map_err(|_| ProbeError::BadUrl)?;
    clock.timeout(limit, exchange(&target, request)).await.map_err(ProbeError::TooSlow)?
}

async fn exchange(target: &Target, request: Request<String>) -> Result<StatusCode, ProbeError> {
    // Every address of the name is tried: `localhost` is ::1 and 127.0.0.1.
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|source| ProbeError::NotConnected { source })?;
    let bad_response = |source| ProbeError::BadResponse { source };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HTTP_HEAD_MAX_BYTES)
        .handshake(FuturesIo::new(stream))
        .await
        .map_err(bad_response)?;
    let exchanged = async {
        let response = sender.send_request(request).await.map_err(bad_response)?;
        Ok(response.status())
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
    fn urls_of_http_name_a_host() {
        for (url, host, port, path) in [
            ("http://localhost:4000/readyz", "localhost", 4000, "/readyz"),
            ("http://127.0.0.1", "127.0.0.1", 80, "/"),
            ("http://[::1]:4000/healthz?a=b", "::1", 4000, "/healthz?a=b"),
            ("HTTP://chatto/", "chatto", 80, "/"),
        ] {
            let target = Target::try_from(url).unwrap();
            assert_eq!(
                (target.host.as_str(), target.port, target.path.as_str()),
                (host, port, path)
            );
        }
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
            let target = Target::try_from(url);
            assert!(matches!(target, Err(ProbeError::BadUrl)), "{url}: {target:?}");
        }
    }

    /// The result for a server that sends these bytes and closes the connection, and the request that it got.
    fn answered(bytes: &'static [u8]) -> (Result<StatusCode, ProbeError>, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(bytes).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let result = smol::block_on(probe(&url, &Clock::system(), LIMIT));
        (result, server.join().unwrap())
    }

    #[test]
    fn the_status_is_what_the_server_sends() {
        let (status, request) = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n");
        assert_eq!(status.unwrap(), StatusCode::OK);
        assert!(request.starts_with("HEAD /readyz HTTP/1.1\r\n"), "{request}");
        let (status, _) = answered(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(status.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
        let (status, _) = answered(b"HTTP/1.1 302 Found\r\nLocation: http://localhost/\r\n\r\n");
        assert_eq!(status.unwrap(), StatusCode::FOUND);
    }

    #[test]
    fn whatever_is_no_response_is_an_error() {
        for bytes in [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2"] {
            let (status, _) = answered(bytes);
            assert!(matches!(status, Err(ProbeError::BadResponse { .. })), "{status:?}");
        }
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        drop(listener);
        let status = smol::block_on(probe(&url, &Clock::system(), LIMIT));
        assert!(matches!(status, Err(ProbeError::NotConnected { .. })), "{status:?}");
    }
    #[test]
    fn a_server_that_is_silent_is_an_error() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let status = smol::block_on(probe(&url, &Clock::system(), Duration::from_millis(50)));
        assert!(matches!(status, Err(ProbeError::TooSlow(_))), "{status:?}");
    }
}
