//! TLS of our own: what is served, when the pair is read again, what a stranger on the port gets.

use std::path::Path;
use std::time::Duration;

use chatto::http::{Config, TlsFiles};
use futures_rustls::rustls::ClientConnection;

use super::support::{Edge, PATIENCE, Raw, head};
use crate::support::certificates::{Authority, Pair, restrict};
use crate::support::nats::signal;
use crate::support::server::Server;
use crate::support::wait::until;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn files(pair: &Pair, dir: &Path) -> TlsFiles {
    let (cert_file, key_file) = pair.write(dir);
    TlsFiles { cert_file, key_file }
}

fn serve(authority: &Authority, dir: &Path, config: Config) -> (Edge, Pair) {
    let pair = authority.issue();
    (Edge::start_tls(config, files(&pair, dir)), pair)
}

/// A connection that has sent a request and read the response.
fn connected(port: u16, client: ClientConnection) -> Raw {
    let mut raw = Raw::connect(([127, 0, 0, 1], port).into()).over_tls(client);
    raw.send(HEALTH.as_bytes());
    assert_eq!(raw.response().unwrap().status, 200);
    raw
}

fn shown(raw: &Raw) -> Vec<u8> {
    raw.tls().peer_certificates().unwrap()[0].as_ref().to_vec()
}

#[test]
fn requests_are_served_by_tls_with_hsts_and_secure_cookies() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (edge, pair) = serve(&authority, dir.path(), Config::default());
    let mut raw = edge.connect().over_tls(authority.client_speaking(&["h2", "http/1.1"]));
    let token = edge.setup_token();
    let body = format!(r#"{{"token":"{token}","login":"ada","password":"correct horse"}}"#);
    let length = body.len().to_string();
    let headers = [("Content-Type", "application/json"), ("Content-Length", length.as_str())];
    raw.send([head("POST", "/auth/setup", &headers), body].concat().as_bytes());
    let response = raw.response().unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("strict-transport-security"), Some("max-age=31536000"));
    let (_, line) = response.cookie("chatto_session").unwrap();
    assert!(line.contains("; Secure"), "{line}");
    assert_eq!(shown(&raw), pair.der);
    assert_eq!(raw.tls().alpn_protocol(), Some(b"http/1.1".as_slice()));
    // The connection lives on.
    raw.send(HEALTH.as_bytes());
    assert_eq!(raw.response().unwrap().status, 200);
}

#[test]
fn plain_connections_carry_no_hsts() {
    let edge = Edge::start(Config::default());
    assert_eq!(edge.exchange(HEALTH).header("strict-transport-security"), None);
}

#[test]
fn plain_http_on_the_tls_port_is_told_so_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (edge, _) = serve(&authority, dir.path(), Config::default());
    let mut raw = edge.connect();
    raw.send(HEALTH.as_bytes());
    let response = raw.response().unwrap();
    assert_eq!(response.status, 400);
    assert_eq!(response.json()["error"], "this port speaks https only");
    assert!(raw.is_closed());
    let mut raw = edge.connect();
    raw.send(&[0x16, 3, 1, 0, 4, 1, 2, 3, 4]);
    assert!(raw.ends(), "a broken handshake is closed");
    connected(edge.address.port(), authority.client());
}

#[test]
fn a_handshake_that_does_not_come_is_given_up_and_keeps_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let config = Config { max_connections: 2, ..Config::default() };
    let (edge, _) = serve(&authority, dir.path(), config);
    let mut silent = edge.connect();
    assert!(silent.is_closed(), "ten seconds are enough");
    let mut silent = [(); 2].map(|()| edge.connect());
    let response = edge.connect().over_tls(authority.client()).exchange(HEALTH);
    assert_eq!(response.status, 200);
    assert!(silent[0].is_closed());
}

#[test]
fn a_changed_pair_is_read_again_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (edge, first) = serve(&authority, dir.path(), Config::default());
    let port = edge.address.port();
    let mut old = connected(port, authority.client());
    assert_eq!(shown(&old), first.der);

    // The key of another certificate: the former pair stays.
    let second = authority.issue();
    std::fs::write(dir.path().join("cert.pem"), &second.certificate).unwrap();
    let watched = Duration::from_secs(5);
    let end = edge.clock.now() + watched;
    while edge.clock.now() < end {
        assert_eq!(shown(&connected(port, authority.client())), first.der);
    }

    std::fs::write(dir.path().join("key.pem"), &second.key).unwrap();
    until("the new pair is served", PATIENCE, || {
        (shown(&connected(port, authority.client())) == second.der).then_some(())
    });
    old.send(HEALTH.as_bytes());
    assert_eq!(old.response().unwrap().status, 200, "no connection is cut");
}

#[test]
fn sighup_reads_the_pair_again_at_the_binary_and_a_broken_pair_is_logged() {
    let authority = Authority::new();
    let mut server = Server::prepare();
    let (cert, key) = authority.issue().write(server.dir());
    server.set("CHATTO_WEBSERVER_TLS_ENABLED", "true");
    server.set("CHATTO_WEBSERVER_TLS_CERT_FILE", &cert.to_string_lossy());
    server.set("CHATTO_WEBSERVER_TLS_KEY_FILE", &key.to_string_lossy());
    server.spawn();
    let port = server.port();
    until("it is ready over TLS", Duration::from_secs(60), || {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        drop(stream);
        let address = ([127, 0, 0, 1], port).into();
        let raw = Raw::connect(address).over_tls(authority.client());
        let response = raw.exchange("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        (response.status == 200).then_some(())
    });
    std::fs::write(&key, "no key at all").unwrap();
    signal(server.pid(), "HUP");
    until("the fault is logged", PATIENCE, || {
        let log = server.log();
        (log.contains("the previous one stays") && log.contains("contains no private key"))
            .then_some(())
    });
    connected(port, authority.client());

    let next = authority.issue();
    next.write(server.dir());
    signal(server.pid(), "HUP");
    until("the new pair is served", PATIENCE, || {
        (shown(&connected(port, authority.client())) == next.der).then_some(())
    });
    assert!(server.stop().success());
}

#[test]
fn check_config_looks_at_the_pair() {
    let authority = Authority::new();
    let mut server = Server::prepare();
    let pair = authority.issue();
    let (cert, key) = pair.write(server.dir());
    server.set("CHATTO_WEBSERVER_TLS_ENABLED", "true");
    server.set("CHATTO_WEBSERVER_TLS_CERT_FILE", &cert.to_string_lossy());
    server.set("CHATTO_WEBSERVER_TLS_KEY_FILE", &key.to_string_lossy());
    let check = |server: &Server| {
        let output = server.chatto(["check-config"]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, output) = check(&server);
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains("can read"), "{output}");

    restrict(&key, 0o644);
    let (code, output) = check(&server);
    assert_eq!(code, Some(0));
    assert!(output.contains("every user of this machine can read"), "{output}");

    std::fs::write(&key, authority.issue().key).unwrap();
    let (code, output) = check(&server);
    assert_eq!(code, Some(78));
    assert!(
        output.contains("webserver.tls.key_file") || output.contains("TLS_KEY_FILE"),
        "{output}"
    );
    assert!(output.contains("contains the key of another certificate"), "{output}");

    std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unwrap();
    assert!(check(&server).1.contains("contains a certificate that cannot be used"));

    std::fs::remove_file(&cert).unwrap();
    let (code, output) = server.run_refused();
    assert_eq!(code, 78);
    assert!(output.contains("cert.pem cannot be read"), "{output}");
}
