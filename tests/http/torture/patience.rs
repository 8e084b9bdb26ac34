//! Clients by the hundred that take their time.

use std::io::Write;
use std::time::Duration;

use chatto::http::Config;

use super::super::limits::begun;
use super::super::support::{Edge, PATIENCE, Raw};
use super::{HEALTH, MIB, edge, grown, head};
use crate::support::server::Server;
use crate::support::wait::until;

#[test]
fn slow_readers_hold_little_memory_and_nobody_up() {
    let edge = edge();
    edge.exchange(HEALTH);
    let mut readers = Vec::new();
    let growth = grown(|| {
        for n in 0..50 {
            let mut raw = edge.connect();
            let kind = if n % 2 == 0 { "source" } else { "chunks" };
            raw.send(head("GET", &format!("/probe/{kind}/1073741824"), &[]).as_bytes());
            let mut some = [0; 16];
            raw.read(&mut some).unwrap();
            readers.push(raw);
        }
        for _ in 0..100 {
            assert_eq!(edge.exchange(HEALTH).status, 200);
        }
    });
    assert!(growth < 32 * MIB, "{growth} bytes for 50 slow readers");
    drop(readers);
    until("they are gone", PATIENCE, || (edge.exchange(HEALTH).status == 200).then_some(()));
}

#[test]
fn slow_writers_hold_little_memory_and_nobody_up() {
    let edge = edge();
    edge.exchange(HEALTH);
    // Of one address no more than half would be in work.
    let mut writers: Vec<Raw> = (0..200)
        .map(|n| {
            let mut raw = edge.connect();
            let client = ["192.0.2.1", "192.0.2.2"][n % 2];
            let headers = [("Transfer-Encoding", "chunked"), ("X-Forwarded-For", client)];
            raw.send(head("POST", "/probe/sink", &headers).as_bytes());
            raw
        })
        .collect();
    let growth = grown(|| {
        for _ in 0..20 {
            for raw in &mut writers {
                raw.stream.write_all(b"1\r\nx\r\n").unwrap();
            }
            assert_eq!(edge.exchange(HEALTH).status, 200);
        }
    });
    assert!(growth < 16 * MIB, "{growth} bytes for 200 slow writers");
    for raw in &mut writers {
        raw.send(b"0\r\n\r\n");
        assert_eq!(raw.response().unwrap().json()["bytes"], 20);
    }
}

#[test]
fn exhausted_connections_are_refused_and_come_back() {
    let edge = Edge::start(Config { max_connections: 100, ..Config::default() });
    edge.exchange(HEALTH);
    let mut held: Vec<Raw> = Vec::new();
    let growth = grown(|| {
        for n in 0..100 {
            held.push(begun(&edge, "/probe/sink", ["192.0.2.1", "192.0.2.2"][n % 2], 2));
        }
        assert_eq!(edge.exchange(&head("GET", "/setup", &[])).status, 503);
        for _ in 0..1000 {
            drop(edge.connect());
        }
    });
    assert!(growth < 16 * MIB, "{growth} bytes more");
    for raw in &mut held {
        raw.send(b"}");
        assert_eq!(raw.response().unwrap().status, 200, "who was there first is served");
    }
    drop(held);
    until("places are free again", PATIENCE, || {
        let mut raw = edge.connect();
        raw.try_send(HEALTH.as_bytes()).ok()?;
        (raw.response()?.status == 200).then_some(())
    });
}

/// The system runs out of descriptors before the limit of the setting is reached.
#[test]
fn exhausted_descriptors_are_survived() {
    let mut server = Server::prepare();
    server.set("CHATTO_WEBSERVER_MAX_CONNECTIONS", "1000");
    server.spawn_script("ulimit -n 150; exec chatto start");
    assert_eq!(server.ready_or_ended(), None);
    let address = ([127, 0, 0, 1], server.port()).into();
    let held: Vec<Raw> = (0..400).map(|_| Raw::connect(address)).collect();
    until("it notices", PATIENCE, || {
        server.log().contains("cannot accept a connection").then_some(())
    });
    drop(held);
    until("it serves again", Duration::from_secs(60), || {
        (server.client().readyz().ok()?.0 == 200).then_some(())
    });
    assert!(server.stop().success());
}
