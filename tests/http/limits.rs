//! Whoever is slow holds up nobody else: connections, requests in work, bodies and loads, of which no
//! address gets more than half.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chatto::contract::binary;
use chatto::contract::realtime::{self as wire, realtime_client_frame::Frame as ClientFrame};
use chatto::http::Config;
use chatto::limits;
use chatto::realtime::{Disconnected, HandshakeInfo, Incoming, Socket};
use serde_json::json;

use super::realtime::Line;
use super::support::{Edge, PATIENCE, Raw, head};
use crate::support::wait::until;

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const C: &str = "192.0.2.3";

/// How soon others get a response, on a machine that other tests keep busy.
const SOON: Duration = Duration::from_secs(5);

const VIEWER: &str = "/api/connect/chatto.api.v1.ViewerService/GetViewer";

fn edge(max_connections: usize) -> Edge {
    Edge::start(Config { max_connections, ..Config::default() })
}

fn get(path: &str, client: &str) -> String {
    head("GET", path, &[("X-Forwarded-For", client)])
}

/// A connection that has sent one request and is idle.
fn idle(edge: &Edge) -> Raw {
    let mut raw = edge.connect();
    raw.send(head("GET", "/healthz", &[]).as_bytes());
    assert_eq!(raw.response().unwrap().status, 200);
    raw
}

/// Requests a socket on behalf of `client`; returns the status of the response.
fn socket(edge: &Edge, client: &str) -> (Raw, u16) {
    let mut raw = edge.connect();
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("X-Forwarded-For", client),
    ];
    raw.send(head("GET", "/api/realtime", &headers).as_bytes());
    let status = raw.response().unwrap().status;
    (raw, status)
}

fn is_open(raw: &Raw) -> bool {
    raw.stream.set_nonblocking(true).unwrap();
    let peeked = raw.stream.peek(&mut [0]);
    raw.stream.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// A request whose body lacks all but its first byte, and is being read.
pub(super) fn begun(edge: &Edge, path: &str, client: &str, length: usize) -> Raw {
    let mut raw = edge.connect();
    let length = length.to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", &length),
        ("X-Forwarded-For", client),
        ("Expect", "100-continue"),
    ];
    raw.send(head("POST", path, &headers).as_bytes());
    // The server sends this when it begins to read.
    assert_eq!(raw.response().unwrap().status, 100);
    raw.send(b"{");
    raw
}

#[test]
fn the_connection_that_is_idle_for_longest_yields_to_a_new_one() {
    let edge = edge(4);
    let mut held = [(); 4].map(|()| idle(&edge));
    // The first has sent its request last.
    held[0].send(head("GET", "/healthz", &[]).as_bytes());
    assert_eq!(held[0].response().unwrap().status, 200);
    let mut new = edge.connect();
    new.send(get("/setup", A).as_bytes());
    assert_eq!(new.response().unwrap().status, 200);
    assert!(held[1].is_closed());
    for at in [0, 2, 3] {
        held[at].send(head("GET", "/healthz", &[]).as_bytes());
        assert_eq!(held[at].response().unwrap().status, 200, "{at}");
    }
}

#[test]
fn connections_without_a_word_keep_nobody_out() {
    let edge = edge(40);
    let _held: Vec<Raw> = (0..40).map(|_| edge.connect()).collect();
    let start = Instant::now();
    for path in ["/readyz", "/healthz", "/setup"] {
        assert_eq!(edge.get(path, &[]).status, 200, "{path}");
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn what_is_in_work_is_not_cut_for_a_new_connection() {
    let edge = edge(2);
    let mut busy = begun(&edge, "/probe/sink", A, 2);
    let first = idle(&edge);
    // Its client has the response a moment before the server knows that it is idle.
    let mut second = until("the idle one yields", PATIENCE, || {
        let second = idle(&edge);
        (!is_open(&first)).then_some(second)
    });
    busy.send(b"}");
    assert_eq!(busy.response().unwrap().json()["bytes"], 2);
    second.send(head("GET", "/healthz", &[]).as_bytes());
    assert_eq!(second.response().unwrap().status, 200);
}

#[test]
fn sockets_never_yield_and_health_is_answered_beside_them() {
    let edge = edge(4);
    let held = [A, A, B, B].map(|client| socket(&edge, client));
    assert_eq!(held.each_ref().map(|(_, status)| *status), [101; 4]);
    let rejected = edge.exchange(&get("/setup", C));
    assert_eq!((rejected.status, rejected.header("retry-after")), (503, Some("5")));
    assert_eq!(rejected.header("connection"), Some("close"));
    assert_eq!(rejected.json(), json!({"error": "too many connections"}));
    // Silent ones beyond the limit do not keep health checks from their response.
    let _silent: Vec<Raw> = (0..limits::HTTP_REJECTIONS_MAX * 2).map(|_| edge.connect()).collect();
    for path in ["/readyz", "/healthz"] {
        assert_eq!(edge.get(path, &[]).status, 200, "{path}");
    }
    assert!(held.iter().all(|(raw, _)| is_open(raw)), "a socket was closed");
}

#[test]
fn an_address_holds_at_most_half_of_the_connections() {
    let edge = edge(4);
    let held = [A, A].map(|client| socket(&edge, client));
    assert_eq!(held.each_ref().map(|(_, status)| *status), [101; 2]);
    assert_eq!(socket(&edge, A).1, 503, "more than half");
    assert_eq!(socket(&edge, B).1, 101);
    drop(held);
    until("its permits are free again", PATIENCE, || (socket(&edge, A).1 == 101).then_some(()));
}

#[test]
fn an_address_without_a_proxy_holds_at_most_half_of_the_connections() {
    let config = Config { max_connections: 4, trusted_proxies: Vec::new(), ..Config::default() };
    let edge = Edge::start(config);
    let _held = [(); 2].map(|()| {
        let (raw, status) = socket(&edge, A);
        assert_eq!(status, 101);
        raw
    });
    assert_eq!(edge.get("/setup", &[]).status, 503);
    assert_eq!(edge.get("/readyz", &[]).status, 200);
}

#[test]
fn bodies_that_have_not_arrived_are_not_in_work() {
    let edge = Edge::start(Config::default());
    let _slow: Vec<Raw> =
        (0..limits::HTTP_REQUESTS_MAX + 64).map(|_| begun(&edge, "/auth/login", A, 9)).collect();
    for client in [A, B] {
        let response = edge.post("/auth/login", &[("X-Forwarded-For", client)], &json!({}));
        assert_eq!(response.status, 400, "{}", response.text());
    }
}

#[test]
fn an_address_has_at_most_half_of_the_requests_in_work() {
    let edge = Edge::start(Config::default());
    let log_in = |client| edge.post("/auth/login", &[("X-Forwarded-For", client)], &json!({}));
    // This route holds its permit while it reads.
    let half = limits::HTTP_REQUESTS_MAX / 2;
    let held: Vec<Raw> = (0..half).map(|_| begun(&edge, "/probe/sink", A, 9)).collect();
    let rejected = log_in(A);
    assert_eq!((rejected.status, rejected.header("retry-after")), (503, Some("1")));
    assert_eq!(log_in(B).status, 400);
    drop(held);
    until("its permits are free again", PATIENCE, || (log_in(A).status == 400).then_some(()));
}

#[test]
fn an_address_has_at_most_half_of_the_bytes_of_bodies() {
    let edge = Edge::start(Config::default());
    let bearer = format!("Bearer {}", edge.owner());
    let length = limits::API_BODY_MAX_BYTES.to_string();
    let mut body = vec![b' '; limits::API_BODY_MAX_BYTES];
    body[..2].copy_from_slice(b"{}");
    let send = |client: &str, bytes: &[u8]| {
        let headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", &*length),
            ("Authorization", &*bearer),
            ("X-Forwarded-For", client),
        ];
        let mut raw = edge.connect();
        raw.send(head("POST", VIEWER, &headers).as_bytes());
        // It may be rejected before all of it has arrived.
        raw.try_send(bytes).ok();
        raw
    };
    let mut slow = Vec::new();
    let rejected = until("its half is taken", PATIENCE, || {
        // One that arrives while the full one is being handled may be rejected itself.
        slow.push(send(A, &body[1..]));
        let response = send(A, &body).response()?;
        (response.status == 503).then_some(response)
    });
    let half = limits::HTTP_BODIES_MAX_BYTES / 2 / limits::API_BODY_MAX_BYTES;
    assert!(slow.len() >= half, "rejected after {} bodies", slow.len());
    assert_eq!(rejected.json()["code"], "unavailable");
    assert_eq!(send(B, &body).response().unwrap().status, 200);
    drop(slow);
    until("its half is free again", PATIENCE, || {
        (send(A, &body).response()?.status == 200).then_some(())
    });
}

#[test]
fn slow_bodies_do_not_hold_up_a_packed_one() {
    let edge = Edge::start(Config::default());
    let bearer = format!("Bearer {}", edge.owner());
    let authorization = ("Authorization", bearer.as_str());
    let json = ("Content-Type", "application/json");
    let _slow: Vec<Raw> = (0..8)
        .map(|_| {
            let mut raw = edge.connect();
            let headers = [json, authorization, ("Content-Length", "100000")];
            raw.send(head("POST", VIEWER, &headers).as_bytes());
            raw.send(&vec![b' '; 90_000]);
            raw
        })
        .collect();
    let packed = super::calls::packed(b"{}");
    let headers = [json, authorization, ("Content-Encoding", "gzip"), ("X-Forwarded-For", B)];
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(edge.post_bytes(VIEWER, &headers, &packed).status, 200);
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// A socket whose client sends the frames of a log-in and then reads only `takes` frames.
struct Mute {
    to_send: VecDeque<Bytes>,
    takes: usize,
    offered: Arc<AtomicUsize>,
}

impl Mute {
    fn new(token: &str, takes: usize) -> Self {
        let frame = |frame| Bytes::from(binary(&wire::RealtimeClientFrame { frame: Some(frame) }));
        let hello =
            wire::RealtimeClientHello { protocol_version: 2, bearer_token: Some(token.to_owned()) };
        let to_send = [
            ClientFrame::Hello(hello),
            ClientFrame::SubscribeEvents(wire::RealtimeSubscribeEvents::default()),
        ];
        Self { to_send: to_send.map(frame).into(), takes, offered: Arc::default() }
    }
}

impl Socket for Mute {
    async fn receive(&mut self) -> Incoming {
        match self.to_send.pop_front() {
            Some(frame) => Incoming::Frame(frame),
            None => std::future::pending().await,
        }
    }

    async fn send(&mut self, _frame: Vec<u8>) -> Result<(), Disconnected> {
        if self.offered.fetch_add(1, Ordering::SeqCst) >= self.takes {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn close(&mut self, _code: u16) {}
}

#[test]
fn sockets_that_do_not_read_hold_up_nobody_who_loads() {
    let edge = Edge::start(Config::default());
    let ada = edge.owner();
    let mut stuck = Vec::new();
    for n in 0..limits::SNAPSHOTS_MAX {
        let token = edge.person(&ada, &format!("mute-{n}"));
        // `hello` and `subscribed`, and nothing of what was loaded.
        let socket = Mute::new(&token, 2);
        stuck.push(Arc::clone(&socket.offered));
        edge.serve(socket, HandshakeInfo::default());
    }
    until("each waits for its client", PATIENCE, || {
        stuck.iter().all(|offered| offered.load(Ordering::SeqCst) == 3).then_some(())
    });
    let start = Instant::now();
    Line::subscribe(&edge, &ada, &[], None);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}
