//! A client as cheap as possible, because it shares the processors with the server: one blocking
//! connection, requests made beforehand, answers looked at only for status and length.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

/// Longer than the server itself tries a write.
const PATIENCE: Duration = Duration::from_secs(40);
/// The server lets an upload wait until it has memory for it.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(600);

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What was answered.
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) fn open(port: u16) -> Self {
        Self::on(TcpStream::connect(("127.0.0.1", port)).unwrap())
    }

    /// From another address of this machine, which is another client to the server.
    pub(crate) fn open_from(source: Ipv4Addr, port: u16) -> Self {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrV4::new(source, 0)).unwrap();
        rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).unwrap();
        Self::on(socket.into())
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(UPLOAD_PATIENCE)).unwrap();
        Self { stream, buffer: vec![0; 256 * 1024] }
    }

    /// Sends a whole request and reads the whole answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Response<'_>> {
        self.send(request)?;
        self.receive()
    }

    /// Sends a whole request.
    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)
    }

    /// Reads the whole answer to the request that was sent.
    pub(crate) fn receive(&mut self) -> io::Result<Response<'_>> {
        let (mut filled, mut head) = (0, None);
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(filled * 2, 0);
            }
            filled += self.read_after(filled)?;
            if head.is_none() {
                head = parse_head(&self.buffer[..filled]);
            }
            if let Some((status, start, length)) = head
                && filled >= start + length
            {
                return Ok(Response { status, body: &self.buffer[start..start + length] });
            }
        }
    }

    /// Reads a whole response of any length and keeps nothing of its body; returns its status and the body's length.
    pub(crate) fn discard(&mut self) -> io::Result<(u16, usize)> {
        let mut filled = 0;
        loop {
            filled += self.read_after(filled)?;
            let Some((status, start, length)) = parse_head(&self.buffer[..filled]) else {
                continue;
            };
            let mut missing = (start + length).saturating_sub(filled);
            while missing > 0 {
                missing = missing.saturating_sub(self.read_after(0)?);
            }
            return Ok((status, length));
        }
    }

    /// Reads what has come into the buffer after its first bytes.
    fn read_after(&mut self, filled: usize) -> io::Result<usize> {
        match self.stream.read(&mut self.buffer[filled..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

/// Status, where the body starts, and its length.
fn parse_head(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("an ASCII head");
    let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().expect("a length"));
    Some((status, end, length))
}

/// A call of the public API as bytes to send; nothing in it asks for compression.
pub(crate) fn call(method: &str, kind: &str, token: &str, body: &[u8]) -> Vec<u8> {
    let mut request = call_head(method, kind, token, body.len());
    request.extend_from_slice(body);
    request
}

/// The head of a call whose body has this length.
pub(crate) fn call_head(method: &str, kind: &str, token: &str, length: usize) -> Vec<u8> {
    format!(
        "POST /api/connect/chatto.api.v1.{method} HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {token}\r\nContent-Type: application/{kind}\r\n\
         Connect-Protocol-Version: 1\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}
