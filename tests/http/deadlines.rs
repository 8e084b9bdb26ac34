//! Clients that keep a connection waiting are cut, each by the deadline that it misses. The deadlines
//! are short here and all others stay at the product's values.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::io::Write as _;
use std::time::{Duration, Instant};

use chatto::http::{Config, Deadlines};

use super::support::{Edge, PATIENCE, head};
use crate::support::wait::until;

const SOON: Duration = Duration::from_millis(300);

fn edge(deadlines: Deadlines) -> Edge {
    Edge::start(Config { deadlines, ..Config::default() })
}

/// A request whose body lacks all but its first byte.
fn begun(path: &str, headers: &[(&str, &str)]) -> String {
    let mut all = vec![("Content-Type", "application/json"), ("Content-Length", "9")];
    all.extend_from_slice(headers);
    head("POST", path, &all) + "{"
}

#[test]
fn a_body_that_stalls_or_drips_is_answered_and_closed() {
    let common = Deadlines::default();
    for deadlines in [
        Deadlines { body_stall: SOON, api_body: PATIENCE * 2, ..common },
        Deadlines { body_stall: PATIENCE * 2, api_body: SOON, ..common },
    ] {
        let edge = edge(deadlines);
        let token = edge.owner();
        let bearer = format!("Bearer {token}");
        let call = "/api/connect/chatto.api.v1.ViewerService/GetViewer";
        // Connect names it `deadline_exceeded`, whose status is 504.
        for (path, status) in [("/auth/login", 408), (call, 504)] {
            let mut raw = edge.connect();
            raw.send(begun(path, &[("Authorization", &bearer)]).as_bytes());
            let response = raw.response().expect("a response before the end");
            assert_eq!(response.status, status, "{path}: {}", response.text());
            assert!(raw.is_closed(), "{path}");
        }
    }
}

#[test]
fn a_body_in_time_is_read() {
    let edge = edge(Deadlines { body_stall: PATIENCE, ..Deadlines::default() });
    let mut raw = edge.connect();
    raw.send(begun("/auth/login", &[]).as_bytes());
    raw.send(b"\"a\": 12}");
    assert_eq!(raw.response().unwrap().status, 400, "read, and found wanting");
}

/// Responses pile up in the sockets' buffers until the server waits for the client.
#[test]
fn an_answer_that_nobody_reads_is_cut() {
    let edge = edge(Deadlines { write_stall: SOON, ..Deadlines::default() });
    let mut raw = edge.connect();
    raw.stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let page = edge.get("/setup", &[]).text();
    let script = page.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let requests = head("GET", script, &[]).repeat(64);
    until("the connection is cut", PATIENCE, || match raw.stream.write(requests.as_bytes()) {
        Ok(_) => None,
        Err(error) => match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => None,
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Some(()),
            other => panic!("{other}: {error}"),
        },
    });
    assert_eq!(edge.get("/healthz", &[]).status, 200);
}

#[test]
fn silence_ends_a_connection_before_its_first_request_and_between_two() {
    let started = Instant::now();
    let early = edge(Deadlines { head: SOON, ..Deadlines::default() });
    assert!(early.connect().is_closed(), "not a byte of a request");
    let mut raw = early.connect();
    raw.send(b"GET /healthz HTTP/1.1\r\nHos");
    assert_eq!(raw.response().unwrap().status, 408);
    assert!(raw.is_closed());
    assert!(started.elapsed() < Deadlines::default().head, "cut by another deadline");

    let idle = edge(Deadlines { idle: SOON, ..Deadlines::default() });
    let mut raw = idle.connect();
    raw.send(head("GET", "/healthz", &[]).as_bytes());
    assert_eq!(raw.response().unwrap().status, 200);
    assert!(raw.is_closed(), "idle for longer than it may");
}
