//! Heads: too long, malformed, in another alphabet.

use std::io::Write;

use super::{HEALTH, MIB, edge, exchange, grown, head, statuses};

#[test]
fn malformed_request_lines_are_refused_and_closed() {
    let edge = edge();
    for line in [
        "",
        "\r\n\r\n",
        " GET / HTTP/1.1\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET /\r\n",
        "GET / HTTP/2.0\r\n",
        "GET / HTTP/1.2\r\n",
        "GET / HTTP/0.9\r\n",
        "GET / http/1.1\r\n",
        "GET / HTTP/11\r\n",
        "GET /a b HTTP/1.1\r\n",
        "GET\t/\tHTTP/1.1\r\n",
        "GET a HTTP/1.1\r\n",
        "GET * HTTP/1.1\r\n",
        "GET http:// HTTP/1.1\r\n",
        "GET http://a b/ HTTP/1.1\r\n",
        "GET http://u:p@localhost/ HTTP/1.1\r\n",
        "GET //// HTTP/1.1\r\nHost: a b\r\n",
        "G\x01T / HTTP/1.1\r\n",
        "\u{1f600} / HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
    ] {
        let request = format!("{line}Host: localhost\r\n\r\n{HEALTH}");
        let received = statuses(&exchange(&edge, request.as_bytes()));
        assert!(received.len() <= 1, "{line:?}: {received:?}");
        assert!(
            received.iter().all(|status| (400..=505).contains(status)),
            "{line:?}: {received:?}"
        );
    }
    assert_eq!(edge.exchange(HEALTH).status, 200);
}

#[test]
fn hosts_are_one_and_well_formed() {
    let edge = edge();
    for (hosts, expected) in [
        ("", 400),
        ("Host: localhost\r\nHost: localhost\r\n", 400),
        ("Host: localhost, other\r\n", 400),
        ("Host: \r\n", 400),
        ("Host: local\u{1f600}host\r\n", 400),
        ("Host: localhost/x\r\n", 400),
        ("Host: localhost\r\n", 200),
        ("Host: LOCALHOST:4000\r\n", 200),
        ("Host: [::1]:4000\r\n", 200),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        assert_eq!(statuses(&exchange(&edge, request.as_bytes())), [expected], "{hosts:?}");
    }
    // HTTP/1.0 knows no Host, and closes by itself.
    let old = exchange(&edge, b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(statuses(&old), [200]);
    let kept =
        b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n";
    assert_eq!(statuses(&exchange(&edge, kept)), [200, 200]);
    // In HTTP/1.0 a response of unknown length has no chunks and ends with the connection.
    let stream = exchange(&edge, b"GET /probe/chunks/70000 HTTP/1.0\r\n\r\n");
    let text = String::from_utf8_lossy(&stream);
    assert!(!text.to_ascii_lowercase().contains("transfer-encoding"));
    assert!(text.ends_with(&"x".repeat(70_000)));
}

#[test]
fn text_outside_ascii_reaches_no_parser_that_panics() {
    let edge = edge();
    let smile = "\u{1f600}";
    for name in [
        "X-Name",
        "Cookie",
        "Authorization",
        "Origin",
        "Accept-Encoding",
        "Content-Type",
        "Idempotency-Key",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Forwarded",
        "If-None-Match",
        "Connect-Timeout-Ms",
        "X-CSRF-Token",
        "User-Agent",
        "Range",
        "Sec-WebSocket-Key",
        "Upgrade",
        "Expect",
        "Content-Encoding",
    ] {
        for value in [smile.as_bytes(), b"gr\xfc\xdfe \xff\xfe", b"\xf0\x9f", b"a\tb"] {
            for path in ["/", "/setup", "/api/connect/chatto.api.v1.ViewerService/GetViewer"] {
                let mut request = format!(
                    "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                     Content-Length: 0\r\n{name}: "
                )
                .into_bytes();
                request.extend_from_slice(value);
                request.extend_from_slice(b"\r\n\r\n");
                let received = statuses(&exchange(&edge, &request));
                assert_eq!(received.len(), 1, "{name} {path}: {received:?}");
            }
        }
    }
    for path in [format!("/{smile}"), format!("/x?{smile}"), "/%F0%9F%98%80".to_owned()] {
        let received =
            statuses(&exchange(&edge, head("GET", &path, &[("Connection", "close")]).as_bytes()));
        assert_eq!(received.len(), 1, "{path}");
    }
    assert_eq!(edge.exchange(HEALTH).status, 200);
}

#[test]
fn text_that_would_become_a_header_never_breaks_the_head() {
    let edge = edge();
    let response = edge.post_bytes("/probe/header", &[], "plain".as_bytes());
    assert_eq!(response.header("x-probe"), Some("plain"));
    for (body, expected) in [
        ("\u{1f600}", Some("\u{1f600}")),
        ("gr\u{fc}\u{df}e", Some("gr\u{fc}\u{df}e")),
        ("a\r\nSet-Cookie: x=y", None),
        ("a\nb", None),
        ("a\0b", None),
        ("\u{7f}", None),
    ] {
        let response = edge.post_bytes("/probe/header", &[], body.as_bytes());
        assert_eq!(response.status, 200, "{body:?}");
        assert_eq!(response.header("x-probe"), expected, "{body:?}");
        assert_eq!(response.header("set-cookie"), None, "{body:?}");
    }
}

#[test]
fn a_status_that_the_router_does_not_know_goes_out_as_it_is() {
    let edge = edge();
    for status in [499, 418, 599, 299, 999] {
        let response = edge.get(&format!("/probe/status/{status}"), &[]);
        assert_eq!(
            (response.status, response.json()["error"].as_str()),
            (status, Some("as requested"))
        );
    }
}

#[test]
fn a_head_without_end_is_cut_off_in_constant_memory() {
    let edge = edge();
    edge.exchange(HEALTH);
    let junk = vec![b'x'; 1 << 16];
    for start in ["GET /", "GET / HTTP/1.1\r\nHost: localhost\r\nX: ", "GET / HTTP/1.1\r\nX"] {
        let mut sent: u64 = 0;
        let growth = grown(|| {
            let mut raw = edge.connect();
            raw.send(start.as_bytes());
            while sent < 300 * MIB && raw.stream.write_all(&junk).is_ok() {
                sent += junk.len() as u64;
            }
        });
        assert!(sent < 32 * MIB, "{start:?}: {sent} bytes were taken");
        assert!(growth < 16 * MIB, "{start:?}: {growth} bytes more");
    }
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(statuses(&exchange(&edge, many.as_bytes())), [431]);
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(20_000));
    assert!(matches!(statuses(&exchange(&edge, long.as_bytes()))[..], [414 | 431]));
    assert_eq!(edge.exchange(HEALTH).status, 200);
}
