//! Fuzz target: any bytes on a connection of the real edge. Whatever they are, the server answers in
//! whole HTTP answers or closes, says nothing of an inner fault, and does not grow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chatto::http::{Config, Deadlines};
use chatto::web::Folder;

use super::support::Edge;
use crate::support::wait::until;

/// Follows every input.
const LAST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// A server that says nothing for so long waits for more.
const SILENCE: Duration = Duration::from_millis(5);

/// What a panic of the server's threads said; they are not the test's own.
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
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panicked| {
        before(panicked);
        *PANICKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(panicked.to_string());
    }));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("200.html"), "<!-- OG_META_PLACEHOLDER -->").unwrap();
    std::fs::write(dir.path().join("a.js"), "a()").unwrap();
    let deadlines = Deadlines { head: Duration::from_secs(2), ..Deadlines::default() };
    let client_dir = Some(Folder::at(dir.path().to_owned()));
    let edge = Edge::start(Config { deadlines, client_dir, ..Config::default() });
    let mut count: u64 = 0;
    let mut settled = None;
    crate::fuzz::run("requests", seeds(), DICTIONARY, 3_000, |input| {
        let saw = exchange(&edge, input)?;
        count += 1;
        if count.is_multiple_of(1_000) {
            if edge.get("/healthz", &[]).status != 200 {
                return Err("the server is not healthy any more".to_owned());
            }
            let now = resident_mib();
            // The first thousand fill caches and the allocator's arenas.
            let first = *settled.get_or_insert(now);
            if now > first + 64 {
                return Err(format!("{now} MiB after {count} inputs, {first} MiB at first"));
            }
        }
        Ok(saw)
    });
}

/// Sends the input and reads to the end; the statuses that came back.
fn exchange(edge: &Edge, input: &[u8]) -> Result<Vec<u16>, String> {
    // Ports wait a second after their last use.
    let mut stream =
        until("a port is free", Duration::from_secs(30), || TcpStream::connect(edge.address).ok());
    // What ends well is followed by a request that closes; what does not is cut when it falls silent.
    // An end of our own before the answers would take them away.
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    // The server may have had enough before the end.
    stream.write_all(&[input, LAST].concat()).ok();
    let mut is_cut = false;
    let mut said = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            // A source of the probes may be as long as it likes.
            Ok(_) if said.len() > 1 << 20 => break,
            Ok(n) => said.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !is_cut => {
                is_cut = true;
                stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
                stream.shutdown(Shutdown::Write).ok();
            }
            Err(error) => return Err(format!("no end of the connection: {error}")),
        }
    }
    if let Some(panicked) = PANICKED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(format!("a thread of the server panicked: {panicked}"));
    }
    statuses(&said)
}

/// Reads answer after answer; what is no answer is a finding, a cut one is not.
fn statuses(mut said: &[u8]) -> Result<Vec<u16>, String> {
    let mut statuses = Vec::new();
    while !said.is_empty() {
        let strange = || format!("no answer: {}", said[..said.len().min(200)].escape_ascii());
        let Some(end) = said.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if said.starts_with(b"HTTP/1.") { Ok(statuses) } else { Err(strange()) };
        };
        let head = std::str::from_utf8(&said[..end]).map_err(|_| strange())?;
        let status: u16 = head
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|status| status.parse().ok())
            .ok_or_else(strange)?;
        statuses.push(status);
        if status == 500 {
            return Err(format!("an inner fault: {head}"));
        }
        said = &said[end + 4..];
        let lower = head.to_ascii_lowercase();
        if status == 101 || lower.contains("transfer-encoding") {
            // Frames, or chunks of a probe: nothing that is counted here.
            return Ok(statuses);
        }
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap_or(usize::MAX));
        // An answer to HEAD has no body, 304 neither.
        if !said.starts_with(b"HTTP/1.") {
            said = said.get(length..).unwrap_or_default();
        }
    }
    Ok(statuses)
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
