//! Clients without a log-in that never stop sending must not delay the responses to others.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::world::World;
use crate::support::flood::{empty_frame, send_on, upgrade};
use crate::support::realtime::Endpoint;

/// How soon a socket that sends only noise must be closed: the time for `hello`, and a little more.
const CLOSED_WITHIN: Duration = Duration::from_secs(12);
/// How long others may wait meanwhile, in a debug build on a machine that other tests keep busy; it was 6 s and more
/// when such loops never yielded.
const RESPONSE_WITHIN: Duration = Duration::from_secs(3);

/// Floods one socket, and returns how long it stayed open.
fn flood(endpoint: &Endpoint, first: &[u8], noise: &[u8]) -> Duration {
    let (end, took) = send_on(upgrade(endpoint).unwrap(), first, noise, CLOSED_WITHIN * 2);
    let ended = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(end.is_ok() || ended.contains(&end.unwrap_err().kind()));
    took
}

/// Floods two sockets while another client polls `/readyz`.
fn floods(what: &str, first: &[u8], noise: &[u8]) {
    let world = World::one();
    let endpoint = world.endpoint().clone();
    let over = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let requesting = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                assert_eq!(endpoint.request("GET", "/readyz", &[], "").status, 200);
                slowest = slowest.max(start.elapsed());
            }
            slowest
        });
        let flooding = [(); 2].map(|()| scope.spawn(|| flood(&endpoint, first, noise)));
        let closed = flooding.map(|one| one.join());
        over.store(true, Ordering::Relaxed);
        for took in closed {
            let took = took.unwrap();
            assert!(took < CLOSED_WITHIN, "{what}: closed after {took:?}");
        }
        requesting.join().unwrap()
    });
    eprintln!("{what}: the slowest /readyz took {slowest:?}");
    assert!(slowest < RESPONSE_WITHIN, "{what}: {slowest:?}");
}

#[test]
fn endless_pings_delay_nobody() {
    floods("pings", &[], &empty_frame(0x89));
}

#[test]
fn endless_pongs_delay_nobody() {
    floods("pongs", &[], &empty_frame(0x8a));
}

#[test]
fn an_endless_message_delays_nobody() {
    floods("pieces of a message", &empty_frame(0x02), &empty_frame(0x00));
}
