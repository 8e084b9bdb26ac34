//! The time before the store is open: health, errors, and what browsers need to read them.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use chatto::http::{Config, Listener, Readiness, Ready, StartupServer};
use chatto::runtime::{Clock, Runtime, Stop};

use super::support::{PATIENCE, Raw, Response, head};

/// A server whose store does not open until this is dropped.
struct StartupEdge {
    address: SocketAddr,
    opened: Stop,
    serving: Option<JoinHandle<()>>,
}

impl StartupEdge {
    fn start() -> Self {
        let (tx, rx) = mpsc::channel();
        let opened = Stop::new();
        let ends = opened.clone();
        let serving = std::thread::spawn(move || {
            Runtime::run(1, |runtime| async move {
                let readiness: Readiness = Arc::new(|| Ready::No { reason: "starting" });
                let clock = Clock::system();
                let listener = Listener::bind("127.0.0.1".parse().unwrap(), 0).await.unwrap();
                tx.send(listener.local_addr()).unwrap();
                let waiting = StartupServer {
                    config: &Config::default(),
                    listener: &listener,
                    readiness: &readiness,
                    clock: &clock,
                    runtime: &runtime,
                };
                waiting.serve(&ends).await;
            });
        });
        Self { address: rx.recv_timeout(PATIENCE).unwrap(), opened, serving: Some(serving) }
    }

    fn exchange(&self, request: &str) -> Response {
        Raw::connect(self.address).exchange(request)
    }
}

impl Drop for StartupEdge {
    fn drop(&mut self) {
        self.opened.stop();
        self.serving.take().unwrap().join().unwrap();
    }
}

const CALL: &str = "/api/connect/chatto.api.v1.ViewerService/GetViewer";

#[test]
fn before_the_store_is_open_health_answers_and_the_rest_says_starting() {
    let early = StartupEdge::start();
    let get = |path: &str| early.exchange(&head("GET", path, &[]));
    assert_eq!(get("/healthz").status, 200);
    assert_eq!(get("/readyz").json()["reason"], "starting");
    for path in ["/setup", CALL] {
        let response = get(path);
        assert_eq!(response.status, 503, "{path}");
        assert_eq!(response.header("connection"), Some("close"));
        assert!(response.header("retry-after").is_some(), "{path}");
        assert_eq!(response.json()["message"], "the server is starting");
    }
}

/// Without these headers a browser hides the response from a page, not even that the server is starting.
#[test]
fn before_the_store_is_open_foreign_pages_may_read_the_answers() {
    let early = StartupEdge::start();
    let origin = [("Origin", "https://o.example")];
    for (method, path, status) in
        [("OPTIONS", CALL, 204), ("POST", CALL, 503), ("GET", "/readyz", 503)]
    {
        let response = early.exchange(&head(method, path, &origin));
        assert_eq!(response.status, status, "{method} {path}");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{method} {path}");
        assert_eq!(response.header("access-control-allow-credentials"), None);
        assert!(response.header("access-control-allow-headers").unwrap().contains("Authorization"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    let plain = early.exchange(&head("GET", "/healthz", &[]));
    assert_eq!(plain.header("access-control-allow-origin"), None);
}

#[test]
fn before_the_store_is_open_heads_are_checked_too() {
    let early = StartupEdge::start();
    for (request, status) in [
        ("GET /setup HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("OPTIONS /setup HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("BREW /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        ("GET /a/../healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    ] {
        assert_eq!(early.exchange(request).status, status, "{request}");
    }
}
