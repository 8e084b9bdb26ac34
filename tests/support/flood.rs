//! Endless traffic that a stranger can send over one connection.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::realtime::Endpoint;

/// A realtime socket that has sent no frame yet.
pub(crate) fn upgrade(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let mut stream = endpoint.tcp()?;
    write!(
        stream,
        "GET /api/realtime HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        endpoint.port()
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    if &head == b"HTTP/1.1 101" { Ok(stream) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}

/// Sends `first`, then `noise` again and again until the server closes the connection or `limit` is over. Returns
/// how it ended and after what time. It reads what comes back: a client that does not read is stopped for that.
pub(crate) fn send_on(
    mut stream: TcpStream,
    first: &[u8],
    noise: &[u8],
    limit: Duration,
) -> (io::Result<()>, Duration) {
    stream.set_write_timeout(Some(limit)).unwrap();
    stream.set_read_timeout(Some(limit)).unwrap();
    let mut reading = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut chunk = [0; 16 * 1024];
        while reading.read(&mut chunk).is_ok_and(|length| length > 0) {}
    });
    let many = noise.repeat(64 * 1024 / noise.len());
    let started = Instant::now();
    let mut sent = stream.write_all(first);
    while sent.is_ok() && started.elapsed() < limit {
        sent = stream.write_all(&many);
    }
    let took = started.elapsed();
    stream.shutdown(std::net::Shutdown::Both).ok();
    reader.join().unwrap();
    (sent, took)
}

/// An empty frame from a client: its first byte, length 0 with the mask bit, a mask (RFC 6455, 5.2).
pub(crate) fn empty_frame(first: u8) -> [u8; 6] {
    [first, 0x80, 1, 2, 3, 4]
}
