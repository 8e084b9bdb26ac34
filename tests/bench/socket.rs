//! One realtime socket of a thousand: only as much of WebSocket and of the contract as it needs to connect and to
//! distinguish frames without decoding them.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use chatto::contract::realtime::{
    RealtimeClientFrame, RealtimeClientHello, RealtimeSubscribeEvents, realtime_client_frame::Frame,
};
use prost::Message as _;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Any key will do (RFC 6455, section 4.1).
const UPGRADE: &[u8] = b"GET /api/realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// First bytes of the contract's server frames: field number and wire type of `hello`, …
const HELLO: u8 = 1 << 3 | 2;
/// … `error`, …
const ERROR: u8 = 5 << 3 | 2;
/// … `close`, …
const CLOSE: u8 = 6 << 3 | 2;
/// … and `caught_up`.
const CAUGHT_UP: u8 = 8 << 3 | 2;

/// The stage of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Connecting,
    Upgrading,
    Greeting,
    CatchingUp,
    Live,
    /// Refused, or closed by the server.
    Closed,
}

/// A connection.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) stage: Stage,
    /// What it sends after the server's hello.
    subscribe: Vec<u8>,
    hello: Vec<u8>,
    /// What was read of the answer to the upgrade.
    answer: Vec<u8>,
    frames: Frames,
    /// The last bytes read, in which a text may have begun.
    tail: Vec<u8>,
}

impl Socket {
    /// Starts to connect.
    pub(crate) fn connect(port: u16, token: &str, room: &str) -> Self {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let socket = socket.unwrap();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => panic!("no connection: {error}"),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        let bearer_token = Some(token.to_owned());
        let hello = Frame::Hello(RealtimeClientHello { protocol_version: 2, bearer_token });
        let subscribe = Frame::SubscribeEvents(RealtimeSubscribeEvents {
            resume_cursor: None,
            retained_room_ids: vec![room.to_owned()],
        });
        Self {
            stream,
            stage: Stage::Connecting,
            subscribe: client_frame(subscribe),
            hello: client_frame(hello),
            answer: Vec::new(),
            frames: Frames::default(),
            tail: Vec::new(),
        }
    }

    /// Called when the connection is established.
    pub(crate) fn connected(&mut self) {
        self.stage = Stage::Upgrading;
        self.send(UPGRADE);
    }

    /// Reads what has come; whether `marker` was in it.
    pub(crate) fn read(&mut self, buffer: &mut [u8], marker: &[u8]) -> bool {
        let bytes = match self.stream.read(buffer) {
            Ok(0) => {
                self.stage = Stage::Closed;
                return false;
            }
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(_) => {
                self.stage = Stage::Closed;
                return false;
            }
        };
        if self.stage == Stage::Upgrading {
            self.answered(bytes);
            return false;
        }
        let (stage, frames) = (&mut self.stage, &mut self.frames);
        let mut greeted = false;
        frames.read(bytes, |kind| match kind {
            HELLO => greeted = true,
            CAUGHT_UP => *stage = Stage::Live,
            ERROR | CLOSE | Frames::ENDED => *stage = Stage::Closed,
            _ => {}
        });
        if greeted {
            self.stage = Stage::CatchingUp;
            let subscribe = std::mem::take(&mut self.subscribe);
            self.send(&subscribe);
        }
        !marker.is_empty() && self.has(bytes, marker)
    }

    fn answered(&mut self, bytes: &[u8]) {
        self.answer.extend_from_slice(bytes);
        if !self.answer.ends_with(b"\r\n\r\n") {
            return;
        }
        if self.answer.starts_with(b"HTTP/1.1 101") {
            self.stage = Stage::Greeting;
            let hello = std::mem::take(&mut self.hello);
            self.send(&hello);
        } else {
            self.stage = Stage::Closed;
        }
        self.answer = Vec::new();
    }

    fn has(&mut self, bytes: &[u8], marker: &[u8]) -> bool {
        let contains = |bytes: &[u8]| bytes.windows(marker.len()).any(|part| part == marker);
        let keep = marker.len() - 1;
        // Across the boundary of two reads.
        self.tail.extend_from_slice(&bytes[..bytes.len().min(keep)]);
        let found = contains(bytes) || contains(&self.tail);
        self.tail.clear();
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(keep)..]);
        found
    }

    /// What it sends is far smaller than the kernel's buffer.
    fn send(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).is_err() {
            self.stage = Stage::Closed;
        }
    }
}

/// Finds the boundaries of WebSocket frames (RFC 6455, section 5.2) and the first byte of each.
#[derive(Default)]
struct Frames {
    head: Vec<u8>,
    /// Bytes of the present frame that are still to come.
    left: usize,
}

impl Frames {
    /// Stands for the end of the connection in place of a first byte.
    const ENDED: u8 = 0;
    /// Stands for the next piece of a message; no field begins so.
    const CONTINUED: u8 = 255;

    fn read(&mut self, mut bytes: &[u8], mut frame: impl FnMut(u8)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some((first, length)) = parse(&self.head) {
                frame(first);
                self.left = length - 1;
                self.head.clear();
            }
        }
    }
}

/// The first byte of a frame's payload and the payload's length, once all of its head is there.
fn parse(head: &[u8]) -> Option<(u8, usize)> {
    let short = usize::from(*head.get(1)? & 127);
    let (start, length) = match short {
        126 => (4, head.get(2..4)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))),
        127 => (10, head.get(2..10)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))),
        short => (2, short),
    };
    let first = *head.get(start)?;
    let kind = match head[0] & 15 {
        0 => Frames::CONTINUED,
        2 => first,
        _ => Frames::ENDED,
    };
    Some((kind, length))
}

/// A frame as a client sends it; its mask is zero, so that the bytes stay as they are.
fn client_frame(frame: Frame) -> Vec<u8> {
    let payload = RealtimeClientFrame { frame: Some(frame) }.encode_to_vec();
    let length = u16::try_from(payload.len()).unwrap();
    let mut bytes = vec![0x82];
    if length < 126 {
        bytes.push(0x80 | payload.len() as u8);
    } else {
        bytes.push(0x80 | 126);
        bytes.extend(length.to_be_bytes());
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}
