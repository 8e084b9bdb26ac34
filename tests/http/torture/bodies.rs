//! Bodies: rejected early, declared and not sent, long ones in either direction: 128 MiB, or `CHATTO_BODY_MIB`.

use std::io::{Read, Write};

use chatto::http::{Config, TlsFiles};

use super::super::support::{Edge, Raw};
use super::{HEALTH, MIB, edge, grown, head};
use crate::support::certificates::Authority;
use crate::torture::number;

const GIB: u64 = 1 << 30;

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let edge = edge();
    for length in [65_537, GIB, u64::MAX] {
        let mut raw = edge.connect();
        let length = length.to_string();
        let headers = [("Content-Type", "application/json"), ("Content-Length", length.as_str())];
        raw.send(head("POST", "/auth/login", &headers).as_bytes());
        let response = raw.response().unwrap();
        assert!(matches!(response.status, 413 | 431), "{length}: {}", response.status);
        assert!(raw.is_closed(), "{length}");
    }
}

#[test]
fn who_sends_on_after_a_refusal_still_reads_it_and_is_not_swallowed() {
    let edge = edge();
    let junk = vec![b'x'; 1 << 16];
    let length = (200 * MIB).to_string();
    let headers = [("Content-Type", "application/json"), ("Content-Length", length.as_str())];
    for chunk_of_a_browser in [1 << 10, 1 << 20, 3 << 20] {
        // Everything is sent before the response is read.
        let mut raw = edge.connect();
        raw.send(head("POST", "/auth/login", &headers).as_bytes());
        for _ in 0..(chunk_of_a_browser / junk.len()).max(1) {
            raw.try_send(&junk).ok();
        }
        assert_eq!(raw.response().expect("the response is not lost").status, 413);
    }
    let mut sent: u64 = 0;
    let mut raw = edge.connect();
    raw.send(head("POST", "/auth/login", &headers).as_bytes());
    while sent < 200 * MIB && raw.try_send(&junk).is_ok() {
        sent += junk.len() as u64;
    }
    assert!(sent < 64 * MIB, "{sent} bytes were read after the rejection");
}

#[test]
fn expectations_are_met_or_the_refusal_comes_instead() {
    let edge = edge();
    let body = r#"{"identifier":"ada","password":"wrong horse"}"#;
    let length = body.len().to_string();
    let mut raw = edge.connect();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
        ("Expect", "100-continue"),
    ];
    raw.send(head("POST", "/auth/login", &headers).as_bytes());
    let interim = raw.response().unwrap();
    assert_eq!(interim.status, 100);
    raw.send(body.as_bytes());
    assert_eq!(raw.response().unwrap().status, 401);
    // The connection lives on.
    raw.send(HEALTH.as_bytes());
    assert_eq!(raw.response().unwrap().status, 200);

    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", "1000000"),
        ("Expect", "100-continue"),
    ];
    raw.send(head("POST", "/auth/login", &headers).as_bytes());
    assert_eq!(raw.response().unwrap().status, 413, "without a 100 before");
}

#[test]
fn a_body_that_breaks_off_frees_its_place() {
    let edge = edge();
    for request in [
        "POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        "POST /probe/sink HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "POST /probe/sink HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        // More than there are places for requests.
        for _ in 0..300 {
            let mut raw = edge.connect();
            raw.send(request.as_bytes());
        }
        crate::support::wait::until("a place is free", super::super::support::PATIENCE, || {
            let response = edge.post("/auth/login", &[], &serde_json::json!({}));
            (response.status == 400).then_some(())
        });
    }
}

#[test]
fn long_bodies_pass_both_ways_in_constant_memory() {
    let edge = edge();
    edge.exchange(HEALTH);
    for chunked in [false, true] {
        through(&|| edge.connect(), chunked);
    }
}

#[test]
fn long_bodies_pass_through_tls_in_constant_memory() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (cert_file, key_file) = authority.issue().write(dir.path());
    let edge = Edge::start_tls(Config::default(), TlsFiles { cert_file, key_file });
    let connect = || edge.connect().over_tls(authority.client());
    connect().exchange(HEALTH);
    through(&connect, false);
}

/// Eight times what the memory may grow by, so that a body that is kept in memory is noticed.
fn long() -> u64 {
    number("CHATTO_BODY_MIB").unwrap_or(128) * MIB
}

fn through(connect: &dyn Fn() -> Raw, chunked: bool) {
    let length = long();
    let growth = grown(|| upload(connect(), length, chunked));
    assert!(growth < 16 * MIB, "up, chunked {chunked}: {growth} bytes more");
    let growth = grown(|| download(connect(), length, !chunked));
    assert!(growth < 16 * MIB, "down, chunked {chunked}: {growth} bytes more");
}

fn upload(mut raw: Raw, length: u64, chunked: bool) {
    let piece = vec![b'x'; 1 << 18];
    let declared = length.to_string();
    let framing =
        if chunked { ("Transfer-Encoding", "chunked") } else { ("Content-Length", &*declared) };
    raw.send(head("POST", "/probe/sink", &[framing]).as_bytes());
    let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
    for _ in 0..length / piece.len() as u64 {
        raw.send(if chunked { &framed } else { &piece });
    }
    if chunked {
        raw.send(b"0\r\n\r\n");
    }
    assert_eq!(raw.response().unwrap().json()["bytes"].as_u64(), Some(length));
}

fn download(mut raw: Raw, length: u64, chunked: bool) {
    let kind = if chunked { "chunks" } else { "source" };
    raw.send(
        head("GET", &format!("/probe/{kind}/{length}"), &[("Connection", "close")]).as_bytes(),
    );
    let mut bytes: u64 = 0;
    let mut piece = vec![0; 1 << 18];
    loop {
        match raw.read(&mut piece).unwrap() {
            0 => break,
            n => bytes += n as u64,
        }
    }
    // Head and chunks add to it.
    assert!((length..length + 2 * MIB).contains(&bytes), "{bytes}");
}

/// A request body that nobody reads does not hold memory either.
#[test]
fn a_client_that_only_writes_is_held_back() {
    let edge = edge();
    let mut raw = edge.connect();
    raw.stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    raw.stream.set_nonblocking(false).unwrap();
    // The responses to these are never read: the server stops reading when it cannot write.
    let request = head("GET", "/probe/source/1000000", &[]);
    let mut sent = 0;
    let growth = grown(|| {
        while sent < 64 * MIB {
            match raw.stream.write(request.repeat(100).as_bytes()) {
                Ok(n) => sent += n as u64,
                Err(_) => break,
            }
        }
    });
    assert!(sent < 32 * MIB, "{sent} bytes of requests were taken");
    assert!(growth < 16 * MIB, "{growth} bytes more");
    let mut some = [0; 64];
    raw.stream.read_exact(&mut some).unwrap();
    assert_eq!(edge.exchange(HEALTH).status, 200);
}
