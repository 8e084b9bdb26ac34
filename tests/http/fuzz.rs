//! Fuzz targets: any bytes on a connection of the real edge, and on a realtime socket before its log-in. Whatever
//! they are, the server sends whole HTTP responses or frames, or closes, reveals nothing of an internal error, lets
//! nobody in, and does not grow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chatto::contract::realtime::{
    self as wire, realtime_client_frame::Frame as ClientFrame, realtime_server_frame::Frame,
};
use chatto::contract::{Encoding, binary, decode};
use chatto::http::{Config, Deadlines};
use chatto::web::Folder;

use super::support::{Edge, HANDSHAKE, PATIENCE, frame, head};
use crate::support::wait::until;

/// Follows every input.
const LAST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// A server that sends nothing for this long waits for more.
const SILENCE: Duration = Duration::from_millis(5);

/// What a panic of the server's threads reported; they are not the test's own.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

const DICTIONARY: &[&[u8]] = &[
    b"\r\n", b"\r\n\r\n", b"\n", b": ", b", ", b"HTTP/1.1", b"HTTP/1.0", b"Host: localhost\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\n",
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Expect: 100-continue\r\n", b"Origin: http://localhost\r\n", b"Accept-Encoding: gzip, br\r\n",
    b"Content-Type: application/json\r\n", b"Content-Type: application/proto\r\n",
    b"Content-Encoding: gzip\r\n", b"Authorization: Bearer x\r\n", b"If-None-Match: *\r\n",
    b"Cookie: chatto_session=x; chatto_csrf=y\r\n", b"X-Forwarded-For: 1.1.1.1\r\n",
    b"X-Forwarded-Host: a\r\n", b"Forwarded: for=\"[::1]:1\";proto=https;host=a\r\n",
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"5;x=y\r\n", b"/..", b"%2e%2e", b"%00", b"\\", b"?a=b", b"#",
    b"/api/realtime", b"/auth/login", b"/setup", b"/_app/immutable/a.js", b"/favicon",
    b"\xf0\x9f\x98\x80", b"\xff", b"*", b"OPTIONS ", b"HEAD ", b"PUT ", b"GET http://localhost/",
    b"\x82\x85\0\0\0\0hello", b"\x88\x80\0\0\0\0", b"\x89\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

fn seeds() -> Vec<Vec<u8>> {
    [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "HEAD /a.js HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: br\r\n\r\n",
        "GET /_app/immutable/a.js HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: \"x\"\r\n\r\n",
        "POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 35\r\n\r\n{\"identifier\":\"ada\",\"password\":\"xx\"}",
        "POST /probe/sink HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n",
        "POST /api/connect/chatto.discovery.v1.ServerDiscoveryService/GetServer HTTP/1.1\r\n\
         Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        "POST /api/connect/chatto.api.v1.ViewerService/GetViewer HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/proto\r\nContent-Length: 0\r\nAuthorization: Bearer x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nOrigin: https://a.example\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /api/realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "POST /probe/header HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

#[test]
fn connections_take_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("200.html"), "<!-- OG_META_PLACEHOLDER -->").unwrap();
    std::fs::write(dir.path().join("a.js"), "a()").unwrap();
    let deadlines = Deadlines { head: Duration::from_secs(2), ..Deadlines::default() };
    let client_dir = Some(Folder::at(dir.path().to_owned()));
    let edge = Edge::start(Config { deadlines, client_dir, ..Config::default() });
    let mut watch = Watch::begin(&edge);
    crate::fuzz::run("requests", seeds(), DICTIONARY, 3_000, |input| {
        let output = exchange(&edge, &[input, LAST].concat(), Cut::WhenSilent)?;
        watch.check()?;
        statuses(&output)
    });
}

#[test]
fn sockets_take_any_bytes() {
    let edge = Edge::start(Config::default());
    let mut watch = Watch::begin(&edge);
    let upgrade = head("GET", "/api/realtime", &HANDSHAKE);
    crate::fuzz::run("sockets", frames(), FRAMES, 1_000, |input| {
        let output = exchange(&edge, &[upgrade.as_bytes(), input].concat(), Cut::AfterResponse)?;
        watch.check()?;
        frame_kinds(&output)
    });
}

/// Frames of a client before its log-in, masked with zeros (RFC 6455, 5.2).
fn frames() -> Vec<Vec<u8>> {
    let hello = |bearer_token| {
        let hello = wire::RealtimeClientHello { protocol_version: 2, bearer_token };
        binary(&wire::RealtimeClientFrame { frame: Some(ClientFrame::Hello(hello)) })
    };
    let subscribe = wire::RealtimeSubscribeEvents::default();
    let subscribe =
        binary(&wire::RealtimeClientFrame { frame: Some(ClientFrame::SubscribeEvents(subscribe)) });
    vec![
        frame(0x82, &hello(Some("cht_ATnobody".to_owned()))),
        frame(0x82, &hello(None)),
        frame(0x82, &subscribe),
        [frame(0x02, &hello(None)), frame(0x80, b"")].concat(),
        [frame(0x89, b"ping"), frame(0x8a, b"pong"), frame(0x88, &[0x03, 0xe8])].concat(),
        frame(0x81, b"text"),
        frame(0x88, b""),
    ]
}

const FRAMES: &[&[u8]] = &[
    b"\x82\x80\0\0\0\0",
    b"\x02\x80\0\0\0\0",
    b"\x00\x80\0\0\0\0",
    b"\x80\x80\0\0\0\0",
    b"\x81\x80\0\0\0\0",
    b"\x88\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xe8",
    b"\x89\x80\0\0\0\0",
    b"\x8a\x80\0\0\0\0",
    b"\x89\xfe\x01\0\0\0\0\0",
    b"\x82\xfe\xff\xff\0\0\0\0",
    b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x82\xff\0\0\0\0\0\x10\0\0\0\0\0\0",
    b"\xc2",
    b"\xf2",
    b"\x83",
    b"\x8b",
    b"\x82\x05hello",
    b"\x88\x81\0\0\0\0\x03",
    b"\x88\x82\0\0\0\0\0\0",
];

/// The kinds of the server's frames. A client that has not logged in gets only errors and the end.
fn frame_kinds(output: &[u8]) -> Result<Vec<u16>, String> {
    let upgraded = output.starts_with(b"HTTP/1.1 101 ");
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").filter(|_| upgraded);
    let Some(end) = end else { return Err(format!("no upgrade: {}", output.escape_ascii())) };
    let mut rest = &output[end + 4..];
    let mut kinds = Vec::new();
    // A frame that was cut is no finding.
    while let [first, length, after @ ..] = rest {
        let strange = || format!("no frame of a server: {}", rest.escape_ascii());
        let (length, after) = match (length, after) {
            (126, [high, low, after @ ..]) => {
                (usize::from(u16::from_be_bytes([*high, *low])), after)
            }
            (126, _) => break,
            (127.., _) => return Err(strange()),
            (short, after) => (usize::from(*short), after),
        };
        let Some((payload, after)) = after.split_at_checked(length) else { break };
        let kind = match first {
            0x82 => {
                match decode::<wire::RealtimeServerFrame>(Encoding::Proto, payload.to_vec().into())
                {
                    Ok(wire::RealtimeServerFrame { frame: Some(Frame::Error(_)) }) => 1,
                    Ok(wire::RealtimeServerFrame { frame: Some(Frame::Close(_)) }) => 2,
                    other => return Err(format!("to a stranger: {other:?}")),
                }
            }
            0x88 => payload.first_chunk().map_or(3, |code| u16::from_be_bytes(*code)),
            0x8a => 4,
            _ => return Err(strange()),
        };
        kinds.push(kind);
        rest = after;
    }
    Ok(kinds)
}

/// What must hold after every input: no thread has panicked, the server responds and does not grow.
struct Watch<'a> {
    edge: &'a Edge,
    count: u64,
    settled: Option<u64>,
}

impl<'a> Watch<'a> {
    fn begin(edge: &'a Edge) -> Self {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panicked| {
            before(panicked);
            *PANICKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(panicked.to_string());
        }));
        Self { edge, count: 0, settled: None }
    }

    fn check(&mut self) -> Result<(), String> {
        if let Some(panicked) = PANICKED.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(format!("a thread of the server panicked: {panicked}"));
        }
        self.count += 1;
        if !self.count.is_multiple_of(1_000) {
            return Ok(());
        }
        if self.edge.get("/healthz", &[]).status != 200 {
            return Err("the server is not healthy any more".to_owned());
        }
        let now = resident_mib();
        // The first thousand fill caches and the allocator's arenas.
        let first = *self.settled.get_or_insert(now);
        if now > first + 64 {
            return Err(format!("{now} MiB after {} inputs, {first} MiB at first", self.count));
        }
        Ok(())
    }
}

/// When a connection on which the server sends nothing is ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    WhenSilent,
    /// The input begins with a whole request, whose response may take longer on a busy machine.
    AfterResponse,
}

/// Sends the input, reads to the end, and returns what was received.
fn exchange(edge: &Edge, input: &[u8], cut: Cut) -> Result<Vec<u8>, String> {
    // Ports wait a second after their last use.
    let mut stream =
        until("a port is free", Duration::from_secs(30), || TcpStream::connect(edge.address).ok());
    // What ends well is followed by a request that closes; what does not is cut when it falls silent.
    // Closing our side before the responses arrive would discard them.
    let first = if cut == Cut::AfterResponse { PATIENCE } else { SILENCE };
    stream.set_read_timeout(Some(first)).unwrap();
    // The server may have had enough before the end.
    stream.write_all(input).ok();
    let mut is_cut = false;
    let mut output = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            // A source of the probes may be as long as it likes.
            Ok(_) if output.len() > 1 << 20 => break,
            Ok(n) => {
                output.extend_from_slice(&chunk[..n]);
                if !is_cut {
                    stream.set_read_timeout(Some(SILENCE)).unwrap();
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !is_cut => {
                is_cut = true;
                stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
                stream.shutdown(Shutdown::Write).ok();
            }
            Err(error) => return Err(format!("no end of the connection: {error}")),
        }
    }
    Ok(output)
}

/// The statuses of the responses. Anything else is a finding; a response that is cut off is not.
fn statuses(mut output: &[u8]) -> Result<Vec<u16>, String> {
    let mut statuses = Vec::new();
    while !output.is_empty() {
        let strange =
            || format!("not a response: {}", output[..output.len().min(200)].escape_ascii());
        let Some(end) = output.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if output.starts_with(b"HTTP/1.") { Ok(statuses) } else { Err(strange()) };
        };
        let head = std::str::from_utf8(&output[..end]).map_err(|_| strange())?;
        let status: u16 = head
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|status| status.parse().ok())
            .ok_or_else(strange)?;
        statuses.push(status);
        if status == 500 {
            return Err(format!("an internal error: {head}"));
        }
        output = &output[end + 4..];
        let lower = head.to_ascii_lowercase();
        if status == 101 || lower.contains("transfer-encoding") {
            // Frames, or chunks of a probe: nothing that is counted here.
            return Ok(statuses);
        }
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap_or(usize::MAX));
        // A response to HEAD has no body, nor has a 304.
        if !output.starts_with(b"HTTP/1.") {
            output = output.get(length..).unwrap_or_default();
        }
    }
    Ok(statuses)
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
