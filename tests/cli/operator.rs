//! The operator socket as other programs may misuse it.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use super::process::ServerDir;

/// Sends bytes as they are; the answer's status line and body.
fn raw(socket: &Path, bytes: &[u8]) -> (String, serde_json::Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    // The server may answer and close before everything is written.
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default().to_owned();
    (status, serde_json::from_str(body).unwrap_or_default())
}

fn post(socket: &Path, method: &str, body: &str) -> (String, serde_json::Value) {
    let head = format!("POST /v1/{method} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
    raw(socket, format!("{head}{body}").as_bytes())
}

#[test]
fn bad_requests_are_refused_and_the_server_lives() {
    let dir = ServerDir::new();
    let server = dir.start();
    let socket = server.dir().join("data/run/operator.sock");
    let version = env!("CARGO_PKG_VERSION");

    let (status, body) = post(&socket, "user.list", r#"{"schema":1,"version":"0.0.1"}"#);
    assert!(status.contains("400"), "{status}");
    assert_eq!(body["code"], "version_mismatch");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("0.0.1") && message.contains(version), "{message}");

    // Whoever asks which server runs is answered, whatever their version.
    let (status, body) = post(&socket, "status", r#"{"schema":1,"version":"0.0.1"}"#);
    assert!(status.contains("200"), "{status} {body}");
    assert_eq!(body["schema"], 1);
    assert_eq!(body["ready"], true);

    let with = |fields: &str| format!(r#"{{"schema":1,"version":"{version}"{fields}}}"#);
    for (method, body, code, exit) in [
        ("user.list", with(r#","surprise":1"#), "bad_request", 2),
        ("user.list", "[]".to_owned(), "bad_request", 2),
        ("user.list", "{".to_owned(), "bad_request", 2),
        ("nonsense", with(""), "unknown_method", 1),
        ("user.create", with(r#","login":"anna""#), "invalid_argument", 2),
        ("user.set-password", with(r#","login":"nobody","password":"12345678""#), "not_found", 1),
    ] {
        let (_, answer) = post(&socket, method, &body);
        assert_eq!(answer["code"], code, "{method} {body}: {answer}");
        assert_eq!(answer["exit"], exit, "{method} {body}: {answer}");
        assert!(!answer["message"].as_str().unwrap().contains("12345678"));
    }
    let big = format!(r#"{{"schema":1,"x":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(post(&socket, "status", &big).1["code"], "too_large");
    assert_eq!(raw(&socket, b"GET / HTTP/1.1\r\n\r\n").1["code"], "unknown_method");
    let (status, _) = raw(&socket, "x".repeat(20_000).as_bytes());
    assert!(status.contains("431"), "{status}");

    let page = post(&socket, "user.list", &with(r#","limit":1"#)).1;
    assert_eq!(page["total"], 0);
    assert_eq!(server.stop(), Some(0));
}

/// Peers that say nothing take every place; whoever has something to say waits for seconds, not for
/// the half minute that a request may take.
#[test]
fn silent_peers_do_not_keep_others_from_the_socket() {
    let dir = ServerDir::new();
    let server = dir.start();
    let socket = server.dir().join("data/run/operator.sock");
    let silent: Vec<UnixStream> = (0..chatto::limits::OPERATOR_CONNECTIONS_MAX)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    let started = Instant::now();
    dir.ok(&["user", "list"], "");
    let took = started.elapsed();
    assert!(took < chatto::limits::OPERATOR_TIMEOUT / 2, "{took:?}");
    // They were cut, each without an answer.
    for mut peer in silent {
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    }
    assert_eq!(server.stop(), Some(0));
}
