//! What proxies report, and the log line of a request.

use chatto::http::{Config, Network, PublicUrl};
use serde_json::json;

use super::support::Edge;
use crate::support::server::Server;
use crate::support::wait::until;

/// Logs in and returns the line of the session cookie.
fn cookie_line(edge: &Edge, headers: &[(&str, &str)]) -> String {
    let body = json!({"identifier": "ada", "password": "correct horse"});
    let response = edge.post("/auth/login", headers, &body);
    response.cookie("chatto_session").unwrap().1.to_owned()
}

#[test]
fn scheme_and_host_of_a_trusted_proxy_count_and_a_strangers_do_not() {
    let https = [("X-Forwarded-Proto", "https")];
    let forwarded = [("Forwarded", "for=1.1.1.1;proto=https")];
    let foreign = [("X-Forwarded-Host", "evil.example")];
    let edge = Edge::start(Config::default());
    edge.owner();
    assert!(!cookie_line(&edge, &[]).contains("Secure"));
    assert!(cookie_line(&edge, &https).contains("; Secure"));
    assert!(cookie_line(&edge, &forwarded).contains("; Secure"));
    assert_eq!(edge.get("/", &foreign).status, 421, "the forwarded host is checked like any other");

    let nobody = Config { trusted_proxies: Vec::new(), ..Config::default() };
    let edge = Edge::start(nobody);
    edge.owner();
    assert!(!cookie_line(&edge, &https).contains("Secure"));
    assert!(!cookie_line(&edge, &forwarded).contains("Secure"));
    assert_eq!(edge.get("/", &foreign).status, 200);
}

#[test]
fn links_start_with_the_forwarded_host() {
    let public_url = PublicUrl::Derived { names: vec!["chat.example".into()] };
    let edge = Edge::start(Config { public_url, ..Config::default() });
    let owner = format!("Bearer {}", edge.owner());
    let join_link = |headers: &[(&str, &str)]| {
        let mut all = vec![("Authorization", owner.as_str())];
        all.extend_from_slice(headers);
        let response = edge.post("/auth/join-links", &all, &json!({}));
        response.json()["url"].as_str().unwrap().to_owned()
    };
    let proxied = [("X-Forwarded-Host", "chat.example"), ("X-Forwarded-Proto", "https")];
    assert!(join_link(&proxied).starts_with("https://chat.example/setup#"));
    let standard = [("Forwarded", "for=9.9.9.9;host=chat.example;proto=https")];
    assert!(join_link(&standard).starts_with("https://chat.example/setup#"));
    assert!(join_link(&[]).starts_with("http://localhost/setup#"));
}

#[test]
fn networks_of_the_setting_are_what_is_trusted() {
    let trusted_proxies = Network::parse("10.0.0.0/8").unwrap();
    let edge = Edge::start(Config { trusted_proxies, ..Config::default() });
    edge.owner();
    assert!(!cookie_line(&edge, &[("X-Forwarded-Proto", "https")]).contains("Secure"));
}

#[test]
fn a_request_is_one_line_with_what_it_was_and_without_its_secrets() {
    let mut server = Server::prepare();
    server.set("CHATTO_WEBSERVER_REQUEST_LOGGING", "true");
    server.set("CHATTO_LOG_FORMAT", "json");
    server.run();
    let client = server.client();
    client.get("/invite/very-secret").unwrap();
    client.get("/setup/nowhere?access=hidden-ticket").unwrap();
    let line = until("the line is written", std::time::Duration::from_secs(20), || {
        let log = server.log();
        log.lines().find(|line| line.contains("/nowhere")).map(str::to_owned)
    });
    let log = server.log();
    assert!(!log.contains("very-secret") && !log.contains("hidden-ticket"), "{log}");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let text = line.to_string();
    for part in ["\"request\"", "GET", "404", "127.0.0.1", "bytes", "milliseconds"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(server.stop().success());
}
