//! One request to a public URL as a client makes it, for `doctor`: over TLS with the authorities of the system, without
//! following redirects, and with a limit on what is read.

use std::io;
use std::sync::Arc;

use async_net::TcpStream;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures_rustls::TlsConnector;
use futures_rustls::pki_types::ServerName;
use futures_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::domain::Authority;
use crate::limits::DOCTOR_RESPONSE_MAX_BYTES;

use super::validity::not_after_ms;

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
pub struct OutsideResponse {
    pub status: u16,
    /// Empty after a change of the protocol.
    pub body: Vec<u8>,
    /// The end of the certificate's validity, in milliseconds since 1970.
    pub certificate_ends_ms: Option<i64>,
}

impl Origin {
    /// Of a URL with one of the two schemes and without a path.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, authority) = url.split_once("://")?;
        let is_https = match scheme {
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

    /// Sends a GET request with these further header lines.
    ///
    /// # Errors
    /// The system's error, that of TLS, or `InvalidData` if the response is not one of HTTP.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> io::Result<OutsideResponse> {
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", self.authority);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        if !self.is_https {
            let (status, body) = exchange(stream, &request).await?;
            return Ok(OutsideResponse { status, body, certificate_ends_ms: None });
        }
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(tls()?).connect(name, stream).await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate_ends_ms = certificate.and_then(|certificate| not_after_ms(certificate));
        let (status, body) = exchange(stream, &request).await?;
        Ok(OutsideResponse { status, body, certificate_ends_ms })
    }
}

fn tls() -> io::Result<Arc<ClientConfig>> {
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

/// Status and body; what exceeds [`DOCTOR_RESPONSE_MAX_BYTES`] is left out.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> io::Result<(u16, Vec<u8>)> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let (head, body) = bytes.split_at(end + 4);
            let head = String::from_utf8_lossy(head).to_ascii_lowercase();
            let status = status(&head).ok_or(io::ErrorKind::InvalidData)?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            if status == 101 || body.len() >= length || bytes.len() >= DOCTOR_RESPONSE_MAX_BYTES {
                return Ok((status, body.to_vec()));
            }
        } else if bytes.len() >= DOCTOR_RESPONSE_MAX_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match stream.read(&mut chunk).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(chunk.get(..length).unwrap_or_default()),
        }
    }
}

fn status(head: &str) -> Option<u16> {
    head.strip_prefix("http/1.")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_url_leads_to_its_host_and_port() {
        let origin = |url: &str| {
            Origin::parse(url).map(|origin| (origin.host, origin.port, origin.is_https))
        };
        assert_eq!(origin("https://chat.example"), Some(("chat.example".to_owned(), 443, true)));
        assert_eq!(
            origin("http://chat.example:8080"),
            Some(("chat.example".to_owned(), 8080, false))
        );
        assert_eq!(origin("http://[::1]:4000"), Some(("::1".to_owned(), 4000, false)));
        assert_eq!(origin("ftp://chat.example"), None);
    }

    fn of_server(response: &'static [u8]) -> io::Result<OutsideResponse> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(response).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let origin = Origin::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let got = smol::block_on(origin.get("/healthz", &[("X-Test", "1")]));
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nX-Test: 1\r\n"), "{request}");
        got
    }

    #[test]
    fn status_and_body_are_read_and_other_protocols_are_errors() {
        let good = of_server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore").unwrap();
        assert_eq!((good.status, good.body.starts_with(b"ok")), (200, true));
        let upgraded = of_server(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
        assert_eq!(upgraded.status, 101);
        assert!(of_server(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(of_server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort").is_err());
    }
}
