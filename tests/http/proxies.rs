//! Behind nginx and HAProxy, which speak TLS for us: log-in, cookies, calls, whose address counts.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Raw, Response, head};
use crate::support::certificates::Authority;
use crate::support::port::free_port;
use crate::support::proxy::{Kind, PortTaken, Proxy};
use crate::support::server::Server;
use crate::support::wait::until;

/// A server and the proxy in front of it, whose address is the public one.
struct Behind {
    server: Server,
    _proxy: Proxy,
    authority: Authority,
    port: u16,
}

impl Behind {
    fn start(kind: Kind) -> Self {
        let authority = Authority::new();
        let mut server = Server::prepare();
        server.set("CHATTO_WEBSERVER_REQUEST_LOGGING", "true");
        server.set("CHATTO_LOG_FORMAT", "json");
        for _ in 0..5 {
            let port = free_port();
            server.set("CHATTO_WEBSERVER_URL", &format!("https://localhost:{port}"));
            server.run();
            match Proxy::start(kind, port, server.port(), &authority.issue()) {
                Ok(proxy) => return Self { server, _proxy: proxy, authority, port },
                Err(PortTaken) => assert!(server.stop().success()),
            }
        }
        panic!("no free port in five attempts");
    }

    fn exchange(&self, request: &str, body: &str) -> Response {
        let address = ([127, 0, 0, 1], self.port).into();
        let mut raw = Raw::connect(address).over_tls(self.authority.client());
        raw.send([request, body].concat().as_bytes());
        raw.response().unwrap()
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.exchange(&head("GET", path, headers), "")
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        let body = body.to_string();
        let length = body.len().to_string();
        let mut all = vec![("Content-Type", "application/json"), ("Content-Length", &*length)];
        all.extend_from_slice(headers);
        self.exchange(&head("POST", path, &all), &body)
    }

    /// The log line of the request for `path`.
    fn logged(&self, path: &str) -> Value {
        let line = until("the request is logged", Duration::from_secs(20), || {
            let log = self.server.log();
            log.lines().find(|line| line.contains(path)).map(str::to_owned)
        });
        serde_json::from_str(&line).unwrap()
    }
}

#[test]
fn log_in_calls_and_log_out_work_behind_every_proxy() {
    for kind in Kind::ALL {
        let behind = Behind::start(kind);
        let link = behind.server.chatto_ok(["setup-link"]);
        let origin = format!("https://localhost:{}", behind.port);
        assert!(link.starts_with(&origin), "{kind:?}: {link}");
        let token = link.trim().split('#').nth(1).unwrap();
        let account = json!({"token": token, "login": "ada", "password": "correct horse"});
        assert_eq!(behind.post("/auth/setup", &[], &account).status, 200, "{kind:?}");

        let login = json!({"identifier": "ada", "password": "correct horse"});
        let response = behind.post("/auth/login", &[("Origin", &origin)], &login);
        assert_eq!(response.status, 200, "{kind:?}");
        let (session, line) = response.cookie("chatto_session").unwrap();
        assert!(line.contains("; Secure"), "{kind:?}: {line}");
        let csrf = response.cookie("chatto_csrf").unwrap().0;
        let bearer = format!("Bearer {}", response.json()["token"].as_str().unwrap());

        let call = "/api/connect/chatto.api.v1.ViewerService/GetViewer";
        let by_bearer = behind.post(call, &[("Authorization", &bearer)], &json!({}));
        assert_eq!(by_bearer.json()["user"]["profile"]["login"], "ada", "{kind:?}");
        let cookies = format!("chatto_session={session}; chatto_csrf={csrf}");
        let own = [("Cookie", cookies.as_str()), ("Origin", origin.as_str())];
        assert_eq!(behind.post(call, &own, &json!({})).status, 200, "{kind:?}");
        let foreign = [("Cookie", cookies.as_str()), ("Origin", "https://evil.example")];
        assert_eq!(behind.post(call, &foreign, &json!({})).status, 401, "{kind:?}");

        let leave = [("Cookie", cookies.as_str()), ("X-CSRF-Token", csrf)];
        assert_eq!(behind.post("/auth/logout", &leave[..1], &json!({})).status, 403, "{kind:?}");
        assert_eq!(behind.post("/auth/logout", &leave, &json!({})).status, 200, "{kind:?}");
        assert_eq!(behind.post(call, &own, &json!({})).status, 401, "{kind:?}");
    }
}

#[test]
fn what_a_client_forwards_by_itself_does_not_count_behind_every_proxy() {
    for kind in Kind::ALL {
        let mut behind = Behind::start(kind);
        behind.get("/trusted", &[]);
        assert_eq!(behind.logged("/trusted")["client"], "127.0.0.1", "{kind:?}");
        // The client and the proxy share an address here, so none of them can be trusted.
        behind.server.set("CHATTO_WEBSERVER_TRUSTED_PROXIES", "192.0.2.1");
        assert!(behind.server.stop().success());
        behind.server.run();
        let forged = [("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=192.0.2.8")];
        behind.get("/forged", &forged);
        assert_eq!(behind.logged("/forged")["client"], "127.0.0.1", "{kind:?}");
    }
}

#[test]
fn large_answers_pass_unharmed_behind_every_proxy() {
    const SIZE: u64 = 20 << 20;
    for kind in Kind::ALL {
        let mut behind = Behind::start(kind);
        let client = behind.server.dir().join("client");
        std::fs::create_dir_all(&client).unwrap();
        std::fs::write(client.join("200.html"), "<html></html>").unwrap();
        std::fs::File::create(client.join("large.bin")).unwrap().set_len(SIZE).unwrap();
        assert!(behind.server.stop().success());
        behind.server.set("CHATTO_WEBSERVER_CLIENT_DIR", &client.to_string_lossy());
        behind.server.run();
        let response = behind.get("/large.bin", &[]);
        assert_eq!((response.status, response.body.len() as u64), (200, SIZE), "{kind:?}");
        // Rejected by us or by the proxy, with a response either way.
        let mut raw =
            Raw::connect(([127, 0, 0, 1], behind.port).into()).over_tls(behind.authority.client());
        let headers = [("Content-Type", "application/json"), ("Content-Length", "20000000")];
        raw.send(head("POST", "/auth/login", &headers).as_bytes());
        assert_eq!(raw.response().unwrap().status, 413, "{kind:?}");
    }
}
