//! Strangers that always have more to say, before any log-in: others are answered all the same.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::world::World;

/// How soon a socket that sends nothing but noise is closed: the time for `hello`, and a moment.
const CLOSED_WITHIN: Duration = Duration::from_secs(12);
/// How long others may wait meanwhile, in a debug build on a machine that other tests keep busy; it was 6 s and more
/// when such loops never yielded.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// Upgrades, sends `first`, then `noise` again and again until the server ends the connection; how long that
/// took.
fn flood(port: u16, first: &[u8], noise: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_write_timeout(Some(CLOSED_WITHIN * 2)).unwrap();
    stream.set_read_timeout(Some(CLOSED_WITHIN * 2)).unwrap();
    write!(
        stream,
        "GET /api/realtime HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    let mut reading = stream.try_clone().unwrap();
    // Whoever does not read what comes back would be stopped by that.
    let reader = std::thread::spawn(move || {
        let mut chunk = [0; 16 * 1024];
        while reading.read(&mut chunk).is_ok_and(|length| length > 0) {}
    });
    let many = noise.repeat(64 * 1024 / noise.len());
    let started = Instant::now();
    stream.write_all(first).unwrap();
    while started.elapsed() < CLOSED_WITHIN * 2 {
        if let Err(error) = stream.write_all(&many) {
            let ended = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(ended.contains(&error.kind()), "{error}");
            break;
        }
    }
    let took = started.elapsed();
    drop(stream);
    reader.join().unwrap();
    took
}

/// Two sockets that flood, while somebody else asks for `/readyz` again and again.
fn floods(what: &str, first: &[u8], noise: &[u8]) {
    let world = World::one();
    let door = world.door().clone();
    let over = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                assert_eq!(door.request("GET", "/readyz", &[], "").status, 200);
                slowest = slowest.max(asked.elapsed());
            }
            slowest
        });
        let flooding = [(); 2].map(|()| scope.spawn(|| flood(door.port(), first, noise)));
        let closed = flooding.map(|one| one.join());
        over.store(true, Ordering::Relaxed);
        for took in closed {
            let took = took.unwrap();
            assert!(took < CLOSED_WITHIN, "{what}: closed after {took:?}");
        }
        asking.join().unwrap()
    });
    eprintln!("{what}: the slowest /readyz took {slowest:?}");
    assert!(slowest < ANSWERED_WITHIN, "{what}: {slowest:?}");
}

/// A frame of a client without content: its first byte, length 0 and masked, a mask (RFC 6455, 5.2).
fn empty_frame(first: u8) -> [u8; 6] {
    [first, 0x80, 1, 2, 3, 4]
}

#[test]
fn pings_without_end_hold_up_nobody() {
    floods("pings", &[], &empty_frame(0x89));
}

#[test]
fn pongs_without_end_hold_up_nobody() {
    floods("pongs", &[], &empty_frame(0x8a));
}

#[test]
fn a_message_without_end_holds_up_nobody() {
    floods("pieces of a message", &empty_frame(0x02), &empty_frame(0x00));
}
