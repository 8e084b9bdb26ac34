//! Sockets and heads: limits, rejections, health, the end.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::net::Shutdown;
use std::time::{Duration, Instant};

use chatto::http::{Config, Listener, PublicUrl, Ready};
use chatto::runtime::Runtime;

use super::limits::begun;
use super::support::{Edge, PATIENCE, head};
use crate::support::wait::until;

fn edge() -> Edge {
    Edge::start(Config::default())
}

const PAGE: &str = "GET /setup HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn health_needs_nothing_and_readiness_names_its_reason() {
    let edge = edge();
    let response = edge.exchange(HEALTH);
    assert_eq!((response.status, response.text().as_str()), (200, r#"{"status":"ok"}"#));
    assert_eq!(response.header("content-type"), Some("application/json"));
    let ready = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(edge.exchange(ready).text(), r#"{"status":"ready"}"#);
    *edge.ready.lock().unwrap() = Ready::No { reason: "disk_full" };
    let response = edge.exchange(ready);
    assert_eq!(response.status, 503);
    assert_eq!(response.json(), serde_json::json!({"status": "not ready", "reason": "disk_full"}));
    for path in ["/healthz", "/readyz"] {
        let mut raw = edge.connect();
        raw.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let response = raw.response_to("HEAD").unwrap();
        assert!([200, 503].contains(&response.status));
        assert!(response.header("content-length").is_some());
    }
}

#[test]
fn both_families_are_served() {
    let runtime = |address: &str| {
        let address: std::net::IpAddr = address.parse().unwrap();
        Runtime::run(1, |_| async move {
            let listener = Listener::bind(address, 0).await.unwrap();
            let port = listener.local_addr().port();
            std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        });
    };
    runtime("::");
    runtime("0.0.0.0");
}

#[test]
fn a_busy_port_is_named() {
    let edge = edge();
    let port = edge.address.port();
    let bound = Runtime::run(1, |_| async move { Listener::bind(edge.address.ip(), port).await });
    let Err(error) = bound else { panic!("bound twice") };
    assert_eq!(error.to_string(), format!("port {port} is in use"));
}

#[test]
fn heads_that_mean_trouble_are_refused_and_never_become_two_requests() {
    let edge = edge();
    let cases = [
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: u@localhost\r\n\r\n", 400),
        ("BREW /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        ("TRACE /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        ("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        ("POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("GET /healthz\r\nHost: localhost\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
    ];
    for (head, status) in cases {
        let mut raw = edge.connect();
        raw.send(head.as_bytes());
        raw.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let response = raw.response().unwrap();
        assert_eq!(response.status, status, "{head}");
        assert!(raw.is_closed(), "{head}");
    }
}

#[test]
fn strange_but_harmless_heads_do_not_end_the_server() {
    let edge = edge();
    let cases: [(&[u8], u16); 6] = [
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET http://localhost/healthz HTTP/1.1\r\nHost: other\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Name: gr\xfc\xdfe \xff\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: \xff\r\n\r\n", 200),
        (b"GET /a/../healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /%2e%2e/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    ];
    for (head, status) in cases {
        let mut raw = edge.connect();
        raw.send(head);
        let response = raw.response().unwrap();
        assert_eq!(response.status, status, "{}", String::from_utf8_lossy(head));
    }
    assert_eq!(edge.exchange(HEALTH).status, 200);
}

#[test]
fn a_head_over_16_kib_is_431() {
    let edge = edge();
    let mut raw = edge.connect();
    let long = "x".repeat(17 * 1024);
    raw.send(
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n").as_bytes(),
    );
    assert_eq!(raw.response().unwrap().status, 431);
    assert!(raw.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let edge = edge();
    let mut raw = edge.connect();
    let paths = ["/healthz", "/readyz", "/setup/nowhere", "/healthz", "/readyz"];
    let requests = paths.map(|p| format!("GET {p} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    raw.send(requests.concat().as_bytes());
    let statuses = paths.map(|_| raw.response().unwrap().status);
    assert_eq!(statuses, [200, 200, 404, 200, 200]);
}

#[test]
fn connections_beyond_the_limit_get_503() {
    let edge = Edge::start(Config { max_connections: 2, ..Config::default() });
    let first = begun(&edge, "/probe/sink", "192.0.2.1", 9);
    let _second = begun(&edge, "/probe/sink", "192.0.2.2", 9);
    let mut third = edge.connect();
    third.send(PAGE.as_bytes());
    let response = third.response().unwrap();
    assert_eq!(response.status, 503);
    assert_eq!(response.header("retry-after"), Some("5"));
    assert_eq!(response.json(), serde_json::json!({"error": "too many connections"}));
    assert!(third.is_closed());
    first.stream.shutdown(Shutdown::Both).unwrap();
    until("a closed connection's place is free", PATIENCE, || {
        (edge.exchange(PAGE).status == 200).then_some(())
    });
}

#[test]
fn a_foreign_host_name_is_refused_unless_the_url_is_set() {
    let foreign = "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let edge = edge();
    assert_eq!(edge.exchange(foreign).status, 421);
    let health = "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(edge.exchange(health).status, 200);
    let public_url = PublicUrl::configured("https://chat.example.org").unwrap();
    let edge = Edge::start(Config { public_url, ..Config::default() });
    assert_ne!(edge.exchange(foreign).status, 421);
}

#[test]
fn every_path_answers_cors_and_options_is_204() {
    let edge = edge();
    for path in ["/healthz", "/api/nothing", "/nowhere", "/auth/login"] {
        let request = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://o.example\r\n\r\n"
        );
        let response = edge.exchange(&request);
        assert_eq!(response.status, 204, "{path}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            response.header("access-control-allow-methods"),
            Some("GET, POST, PUT, OPTIONS")
        );
        assert_eq!(
            response.header("access-control-allow-headers"),
            Some(
                "Authorization, Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, \
                 X-CSRF-Token, Idempotency-Key, Range, If-None-Match, If-Modified-Since"
            )
        );
        assert_eq!(response.header("access-control-max-age"), Some("86400"));
        assert_eq!(response.header("access-control-allow-credentials"), None);
    }
    assert_eq!(edge.exchange(HEALTH).header("access-control-allow-origin"), None);
}

#[test]
fn unknown_machine_paths_are_404_json_and_never_a_page() {
    let edge = edge();
    for path in ["/api", "/api/x", "/auth/x", "/oauth/x", "/assets/x", "/webhooks/x"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let response = edge.exchange(&request);
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.header("content-type"), Some("application/json"), "{path}");
        assert_eq!(response.json()["error"], "not found");
    }
}

#[test]
fn answers_carry_the_security_headers() {
    let edge = edge();
    for path in ["/healthz", "/", "/nowhere", "/api/x"] {
        let response = edge.exchange(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(response.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = Some("strict-origin-when-cross-origin");
        assert_eq!(response.header("referrer-policy"), policy, "{path}");
        assert!(response.header("content-security-policy").is_some(), "{path}");
    }
}

#[test]
fn a_stop_closes_idle_connections_at_once() {
    let edge = edge();
    let mut fresh = edge.connect();
    let mut idle = edge.connect();
    idle.send(HEALTH.as_bytes());
    assert_eq!(idle.response().unwrap().status, 200);
    let started = Instant::now();
    edge.stop.stop();
    assert!(idle.is_closed());
    assert!(fresh.is_closed());
    edge.join();
    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn a_request_that_never_ends_is_cut_when_the_time_to_finish_is_over() {
    let shutdown_timeout = Duration::from_secs(1);
    let edge = Edge::start(Config { shutdown_timeout, ..Config::default() });
    // Its client does not read the response.
    let mut raw = edge.connect();
    raw.send(head("GET", "/probe/source/100000000", &[]).as_bytes());
    assert_eq!(raw.exactly(12), b"HTTP/1.1 200");
    let started = Instant::now();
    edge.stop.stop();
    edge.join();
    assert!((1..6).contains(&started.elapsed().as_secs()));
    let mut came = 0;
    let mut chunk = [0; 8192];
    while let Ok(length @ 1..) = raw.read(&mut chunk) {
        came += length;
    }
    assert!(came < 100_000_000, "it was cut");
}

#[test]
fn requests_beyond_the_limit_get_503_and_health_does_not() {
    let edge = edge();
    // This route is in work while it reads.
    let waiting: Vec<_> = (0..chatto::limits::HTTP_REQUESTS_MAX)
        .map(|n| begun(&edge, "/probe/sink", ["192.0.2.1", "192.0.2.2"][n % 2], 9))
        .collect();
    let busy = edge.post("/auth/login", &[], &serde_json::json!({}));
    assert_eq!(busy.status, 503);
    assert_eq!(busy.header("retry-after"), Some("1"));
    assert!(busy.json()["error"].is_string());
    let call = "/api/connect/chatto.discovery.v1.ServerDiscoveryService/GetServer";
    assert_eq!(edge.post(call, &[], &serde_json::json!({})).json()["code"], "unavailable");
    assert_eq!(edge.exchange(HEALTH).status, 200);
    drop(waiting);
    until("places are free again", PATIENCE, || {
        let response = edge.post("/auth/login", &[], &serde_json::json!({}));
        (response.status == 400).then_some(())
    });
}

#[test]
fn a_length_beside_chunks_never_makes_a_second_request() {
    let edge = edge();
    let mut raw = edge.connect();
    let smuggled = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let request = format!(
        "POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
    );
    raw.send(request.as_bytes());
    let first = raw.response().unwrap();
    assert_eq!(first.status, 400);
    assert!(raw.is_closed(), "what follows is not trusted to be a request");
}
