//! SIGTERM at the binary while clients are at work.

use std::fs;

use super::super::support::{PATIENCE, Raw};
use super::{HEALTH, head};
use crate::support::nats::signal;
use crate::support::server::Server;
use crate::support::wait::until;

#[test]
fn a_stop_finishes_what_is_in_flight_and_takes_nothing_new() {
    let mut server = Server::prepare();
    let client = server.dir().join("client");
    fs::create_dir_all(&client).unwrap();
    fs::write(client.join("200.html"), "<html></html>").unwrap();
    const SIZE: u64 = 200 << 20;
    fs::File::create(client.join("large.bin")).unwrap().set_len(SIZE).unwrap();
    server.set("CHATTO_WEBSERVER_CLIENT_DIR", &client.to_string_lossy());
    server.run();
    let address = ([127, 0, 0, 1], server.port()).into();
    let pid = server.pid();

    let mut idle = Raw::connect(address);
    idle.send(HEALTH.as_bytes());
    assert_eq!(idle.response().unwrap().status, 200);
    let mut reading = Raw::connect(address);
    reading.send(head("GET", "/large.bin", &[]).as_bytes());
    let mut piece = vec![0; 1 << 16];
    let mut read = reading.read(&mut piece).unwrap() as u64;
    let mut writing = Raw::connect(address);
    let body = r#"{"identifier":"nobody","password":"wrong horse"}"#;
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
        ("Expect", "100-continue"),
    ];
    writing.send(head("POST", "/auth/login", &headers).as_bytes());
    // Only a request that the server has begun is in flight.
    assert_eq!(writing.response().unwrap().status, 100);
    let (first, rest) = body.split_at(10);
    writing.send(first.as_bytes());

    signal(pid, "TERM");
    assert!(idle.is_closed(), "nobody waits on an idle connection");
    until("no new connections", PATIENCE, || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    });
    writing.send(rest.as_bytes());
    let response = writing.response().expect("the request gets a response");
    assert_eq!(response.status, 401);
    assert!(writing.is_closed());
    loop {
        match reading.read(&mut piece).unwrap() {
            0 => break,
            n => read += n as u64,
        }
    }
    assert!((SIZE..SIZE + 2000).contains(&read), "{read} bytes");
    assert!(server.ended().success());
}
