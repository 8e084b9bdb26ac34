//! Where a request ends: nothing that is inside one may ever become a second one.

use chatto::http::{Config, Deadlines};

use super::super::support::{Edge, Raw};
use super::{HEALTH, edge, exchange, head, statuses};

/// What must never be handled as a request: it is inside a body, or after one whose length is in doubt.
const HIDDEN: &str = "GET /probe/status/418 HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn post(headers: &str, body: &str) -> String {
    format!("POST /probe/sink HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}")
}

#[test]
fn conflicting_and_unknown_framing_never_makes_a_second_request() {
    // Some of these promise a body that never comes.
    let body_stall = std::time::Duration::from_millis(500);
    let deadlines = Deadlines { body_stall, ..Deadlines::default() };
    let edge = Edge::start(Config { deadlines, ..Config::default() });
    let chunked = format!("0\r\n\r\n{HIDDEN}");
    let length = HIDDEN.len();
    let cases = [
        ("Transfer-Encoding: xchunked\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding: gzip, chunked\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding: chunked, gzip\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding: chunked, chunked\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding: identity\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding: \"chunked\"\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding: chunked;q=1\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding: chu nked\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding:\r\n".to_owned(), chunked.clone()),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(),
            chunked.clone(),
        ),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding : chunked\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding\t: chunked\r\n".to_owned(), chunked.clone()),
        ("Transfer-Encoding: \x0bchunked\r\n".to_owned(), chunked.clone()),
        ("X: y\r\n Transfer-Encoding: chunked\r\n".to_owned(), chunked.clone()),
        (format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), chunked.clone()),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"), chunked.clone()),
        (format!("Content-Length: 0\r\nContent-Length: {length}\r\n"), HIDDEN.to_owned()),
        (format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), HIDDEN.to_owned()),
        (format!("Content-Length: {length}, 0\r\n"), HIDDEN.to_owned()),
        (format!("Content-Length: +{length}\r\n"), HIDDEN.to_owned()),
        (format!("Content-Length: -{length}\r\n"), HIDDEN.to_owned()),
        ("Content-Length: 0x3f\r\n".to_owned(), HIDDEN.to_owned()),
        ("Content-Length: 99999999999999999999999\r\n".to_owned(), HIDDEN.to_owned()),
        ("Content-Length: 18446744073709551616\r\n".to_owned(), HIDDEN.to_owned()),
        (format!("Content-Length: {length}\r\n"), HIDDEN.to_owned()),
        (
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n"),
        ),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("-1\r\n{HIDDEN}")),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("0x5\r\n{HIDDEN}")),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("\r\n\r\n{HIDDEN}")),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("ffffffffffffffff1\r\n{HIDDEN}")),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("ffffffffffffffff\r\n{HIDDEN}")),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("3\r\nabcdef\r\n0\r\n\r\n{HIDDEN}")),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("3 \n{HIDDEN}")),
    ];
    for (headers, body) in cases {
        let request = post(&headers, &body);
        let received = statuses(&exchange(&edge, &[request.as_bytes(), b"\0"].concat()));
        assert!(!received.contains(&418), "{request:?}: {received:?}");
        // The byte behind the request is none itself.
        assert!(matches!(received[..], [] | [_] | [_, 400]), "{request:?}: {received:?}");
    }
    assert_eq!(edge.exchange(HEALTH).status, 200);
}

#[test]
fn line_ends_that_are_none_never_make_a_second_request() {
    let edge = edge();
    for request in [
        "GET /healthz HTTP/1.1\rHost: localhost\r\rGET /probe/status/418 HTTP/1.1\r\r",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\rGET /probe/status/418 HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n: y\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
    ] {
        let received = statuses(&exchange(&edge, request.as_bytes()));
        assert_eq!(received, [400], "{request:?}");
    }
}

#[test]
fn a_body_comes_through_however_it_is_cut() {
    let edge = edge();
    let body = "5;name=\"va;lue\"\r\nhello\r\n001;x\r\n \r\nA\r\n0123456789\r\n0;last\r\nTrailer: x\r\n\r\n";
    let request = post("Transfer-Encoding: chunked\r\n", body);
    let count = |raw: &mut Raw| raw.response().unwrap().json()["bytes"].as_u64();
    // Every single byte in a segment of its own, on a connection that lives on.
    let mut raw = edge.connect();
    raw.stream.set_nodelay(true).unwrap();
    for _ in 0..2 {
        for byte in request.as_bytes() {
            raw.send(&[*byte]);
        }
        assert_eq!(count(&mut raw), Some(16));
    }
    // Cut once, at every place.
    for at in 0..request.len() {
        let (start, end) = request.split_at(at);
        raw.send(start.as_bytes());
        raw.send(end.as_bytes());
        assert_eq!(count(&mut raw), Some(16), "cut at {at}");
    }
    // All at once, and the next request in the same packet.
    raw.send(format!("{request}{HEALTH}").as_bytes());
    assert_eq!(count(&mut raw), Some(16));
    assert_eq!(raw.response().unwrap().status, 200);
}

#[test]
fn extensions_and_trailers_without_end_are_cut_off() {
    let edge = edge();
    let many = "x".repeat(1 << 20);
    for body in [
        format!("5;{many}\r\nhello\r\n0\r\n\r\n"),
        "1;x=y\r\na\r\n".repeat(20_000),
        format!("0\r\nTrailer: {many}\r\n\r\n"),
        format!("0\r\n{}\r\n", "T: x\r\n".repeat(50_000)),
    ] {
        let request = post("Transfer-Encoding: chunked\r\n", &body);
        let mut raw = edge.connect();
        // Cut off while it is being sent, or rejected as invalid.
        let sent = raw.try_send(request.as_bytes());
        if sent.is_ok() {
            raw.stream.shutdown(std::net::Shutdown::Write).ok();
            raw.ends();
        }
        assert_eq!(edge.exchange(HEALTH).status, 200);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_bodies_and_all() {
    let edge = edge();
    let mut raw = edge.connect();
    let mut all = String::new();
    for n in 0..200 {
        all += &match n % 4 {
            0 => HEALTH.to_owned(),
            1 => post("Content-Length: 5\r\n", "hello"),
            2 => post("Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
            _ => head("GET", "/probe/status/499", &[]),
        };
    }
    raw.send(all.as_bytes());
    for n in 0..200 {
        let response = raw.response().unwrap();
        match n % 4 {
            0 => assert_eq!(response.text(), r#"{"status":"ok"}"#, "{n}"),
            1 => assert_eq!(response.json()["bytes"], 5, "{n}"),
            2 => assert_eq!(response.json()["bytes"], 2, "{n}"),
            _ => assert_eq!(response.status, 499, "{n}"),
        }
    }
}

#[test]
fn an_answer_shorter_than_promised_cuts_the_connection() {
    let edge = edge();
    let whole = exchange(&edge, head("GET", "/probe/short/2000000", &[]).as_bytes());
    let text = String::from_utf8_lossy(&whole);
    assert!(text.to_ascii_lowercase().contains("content-length: 2000000\r\n"));
    assert!(whole.len() < 1_100_000, "{} bytes, then the end", whole.len());
}
