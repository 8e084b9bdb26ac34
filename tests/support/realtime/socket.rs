//! One WebSocket: the upgrade with any headers, with or without TLS, and frames with a deadline.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use async_tungstenite::tungstenite::handshake::HandshakeError;
use async_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use async_tungstenite::tungstenite::{Error, Message, WebSocket};
use futures_rustls::rustls;
use prost::Message as _;
use rustix::net::{self, AddressFamily, SocketType};

use super::{Frame, Sent, wire};
use crate::support::certificates::Authority;

/// How long a test waits for a frame.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The address of a server, or of the proxy in front of it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    host: String,
    tls: Option<Arc<Authority>>,
    /// The source address of connections; `None`: the system chooses.
    source: Option<Ipv4Addr>,
}

/// The credential of a client.
#[derive(Debug, Clone)]
pub(crate) enum Key {
    /// In the first frame.
    Bearer(String),
    /// With the upgrade: the whole `Cookie` header.
    Cookie(String),
    /// Nothing.
    None,
}

/// What was received.
#[derive(Debug)]
pub(crate) enum Received {
    /// A frame of the contract.
    Frame(Frame),
    /// The connection has ended, with the close code if there was one.
    Closed(Option<u16>),
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// The body, when it is JSON.
    pub(crate) json: serde_json::Value,
}

impl Response {
    /// The value of a cookie that the response sets.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (header, value) = line.split_once(": ")?;
            let value = value.strip_prefix(name)?.strip_prefix('=')?;
            let is_cookie = header.eq_ignore_ascii_case("set-cookie");
            is_cookie.then(|| value.split(';').next().unwrap_or_default().to_owned())
        })
    }
}

/// A connection.
pub(crate) struct Socket {
    socket: WebSocket<Stream>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Endpoint {
    /// A server on this machine.
    pub(crate) fn local(port: u16) -> Self {
        Self {
            address: ([127, 0, 0, 1], port).into(),
            host: format!("127.0.0.1:{port}"),
            tls: None,
            source: None,
        }
    }

    /// The same endpoint for a client with this source address.
    pub(crate) fn from(self, source: Ipv4Addr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The same endpoint over TLS, with a certificate of this authority for `localhost`.
    pub(crate) fn tls(port: u16, authority: &Arc<Authority>) -> Self {
        let tls = Some(Arc::clone(authority));
        let address = ([127, 0, 0, 1], port).into();
        Self { address, host: format!("localhost:{port}"), tls, source: None }
    }

    /// The port that clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The origin of pages of this server.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }

    /// Sends one HTTP request over a new connection.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.host,
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = self.connect();
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut bytes = Vec::new();
        // A peer that closes without TLS's close_notify has sent everything if the length is right.
        stream.read_to_end(&mut bytes).ok();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole response");
        assert!(!head.to_ascii_lowercase().contains("\r\ntransfer-encoding"), "{head}");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let json = serde_json::from_str(body).unwrap_or_default();
        Response { status, head: head.to_owned(), body: body.to_owned(), json }
    }

    /// A connection on which nothing was sent yet.
    pub(crate) fn tcp(&self) -> std::io::Result<TcpStream> {
        let Some(source) = self.source else { return TcpStream::connect(self.address) };
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        net::bind(&socket, &SocketAddr::from((source, 0)))?;
        net::connect(&socket, &self.address)?;
        Ok(socket.into())
    }

    fn connect(&self) -> Stream {
        let tcp = self.tcp().unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        match &self.tls {
            None => Stream::Plain(tcp),
            Some(authority) => {
                Stream::Tls(Box::new(rustls::StreamOwned::new(authority.client(), tcp)))
            }
        }
    }
}

impl Socket {
    /// Upgrades with additional headers; the error is the status of the response.
    pub(crate) fn upgrade(endpoint: &Endpoint, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let url = format!("ws://{}/api/realtime", endpoint.host);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        match async_tungstenite::tungstenite::client(request, endpoint.connect()) {
            Ok((socket, _response)) => Ok(Self { socket }),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("no upgrade: {error}"),
        }
    }

    /// An upgraded connection with the credential `key`; sends no frame.
    pub(crate) fn open(endpoint: &Endpoint, key: &Key) -> Self {
        let opened = match key {
            Key::Cookie(cookie) => Self::upgrade(endpoint, &[("Cookie", cookie)]),
            Key::Bearer(_) | Key::None => Self::upgrade(endpoint, &[]),
        };
        opened.unwrap_or_else(|status| panic!("the upgrade was refused with {status}"))
    }

    /// Sends the hello that belongs to `key`.
    pub(crate) fn hello(&mut self, key: &Key) {
        assert!(self.try_hello(key), "the connection has ended");
    }

    /// Like `hello`; `false`: the connection has ended.
    pub(crate) fn try_hello(&mut self, key: &Key) -> bool {
        let bearer_token = match key {
            Key::Bearer(token) => Some(token.clone()),
            Key::Cookie(_) | Key::None => None,
        };
        self.try_send(Sent::Hello(wire::RealtimeClientHello { protocol_version: 2, bearer_token }))
    }

    pub(crate) fn send(&mut self, frame: Sent) {
        assert!(self.try_send(frame), "the connection has ended");
    }

    /// `false`: the connection has ended.
    pub(crate) fn try_send(&mut self, frame: Sent) -> bool {
        let frame = wire::RealtimeClientFrame { frame: Some(frame) };
        self.send_message(Message::Binary(frame.encode_to_vec().into())).is_ok()
    }

    /// Sends any WebSocket message.
    pub(crate) fn send_message(&mut self, message: Message) -> Result<(), Error> {
        self.socket.send(message)
    }

    /// The next frame or the end, within [`PATIENCE`].
    #[track_caller]
    pub(crate) fn next(&mut self) -> Received {
        self.next_within(PATIENCE).expect("a frame or the end")
    }

    /// Like `next`, with a deadline; `None`: nothing arrived.
    #[track_caller]
    pub(crate) fn next_within(&mut self, limit: Duration) -> Option<Received> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.tcp().set_read_timeout(Some(left)).unwrap();
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => {
                    let frame = wire::RealtimeServerFrame::decode(bytes);
                    let frame = frame.expect("a server frame").frame;
                    return Some(Received::Frame(frame.expect("a frame of a known kind")));
                }
                Ok(Message::Close(frame)) => {
                    return Some(Received::Closed(frame.map(|frame| frame.code.into())));
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("the server sends binary frames only, not {other:?}"),
                Err(Error::Io(error)) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    _ => return Some(Received::Closed(None)),
                },
                Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => {
                    return Some(Received::Closed(None));
                }
                Err(error) => panic!("reading failed: {error}"),
            }
        }
    }

    /// The next frame; fails the test at the end of the connection.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        match self.next() {
            Received::Frame(frame) => frame,
            Received::Closed(code) => panic!("the server closed the socket: {code:?}"),
        }
    }

    /// Reads until the connection ends: the code of the fatal error or close frame, and the close code.
    #[track_caller]
    pub(crate) fn closing_codes(mut self) -> (Option<String>, Option<u16>) {
        let mut last_code = None;
        loop {
            match self.next() {
                Received::Closed(code) => return (last_code, code),
                Received::Frame(Frame::Error(error)) => {
                    assert!(error.fatal, "the end is announced by a fatal error: {error:?}");
                    last_code = Some(error.code);
                }
                Received::Frame(Frame::Close(close)) => last_code = Some(close.code),
                Received::Frame(Frame::Heartbeat(_)) => {}
                Received::Frame(other) => panic!("only the end is expected, not {other:?}"),
            }
        }
    }

    /// Cuts the connection without a close frame.
    pub(crate) fn cut(self) {
        self.tcp().shutdown(std::net::Shutdown::Both).ok();
    }

    /// The underlying TCP connection.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self.socket.get_ref() {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
