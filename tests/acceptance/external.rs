//! An external NATS that is not running yet, has stopped, or is too old; and several processes that share one.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use chatto::runtime::Clock;
use serde_json::json;

use super::seeded;
use crate::support::client::{Account, CallError, Message};
use crate::support::nats::{NatsServer, pause, request};
use crate::support::old_nats::server_of;
use crate::support::port::free_port;
use crate::support::server::Server;
use crate::support::wait::until;

/// Longer than the ten seconds for which a ready server tolerates a failure.
const NOTICED_WITHIN: Duration = Duration::from_secs(40);

/// A server that stores everything in the NATS at this port.
fn with_external(port: u16) -> Server {
    let mut server = Server::prepare();
    server.use_external(&format!("nats://127.0.0.1:{port}"));
    server
}

/// The same server, started and ready.
pub(super) fn running_on(nats: &NatsServer) -> Server {
    let mut server = with_external(nats.port());
    server.run();
    server
}

/// A running server with messages of its owner: the owner, the room and its messages.
fn with_history(nats: &NatsServer) -> (Server, Account, String, Vec<Message>) {
    let server = running_on(nats);
    let owner = server.owner();
    let (room, history) = seeded(&owner);
    (server, owner, room, history)
}

pub(super) fn reason(server: &Server) -> Option<(u16, String)> {
    let (status, body) = server.client().readyz().ok()?;
    let body: serde_json::Value = serde_json::from_str(&body).ok()?;
    Some((status, body["reason"].as_str().unwrap_or_default().to_owned()))
}

#[test]
fn an_unreachable_nats_is_waited_for() {
    let port = free_port();
    let mut server = with_external(port);
    server.spawn();
    until("not ready, with the reason", NOTICED_WITHIN, || {
        (reason(&server)? == (503, "nats_unreachable".to_owned())).then_some(())
    });
    let (status, _) = server.client().get("/healthz").unwrap();
    assert_eq!(status, 200);
    assert!(server.stop().success(), "{}", server.log());
}

#[test]
fn a_nats_that_goes_and_returns_is_noticed_and_nothing_is_lost() {
    let mut nats = NatsServer::start();
    let (mut server, owner, room, history) = with_history(&nats);
    nats.kill();
    until("not ready after ten seconds", NOTICED_WITHIN, || {
        (reason(&server)? == (503, "nats_unreachable".to_owned())).then_some(())
    });
    nats.restart();
    until("ready again", NOTICED_WITHIN, || (reason(&server)?.0 == 200).then_some(()));
    assert_eq!(owner.history(&room), history);
    owner.post(&room, "after the outage", "after").unwrap();
    assert!(server.stop().success(), "{}", server.log());
}

#[test]
fn a_call_whose_authentication_waits_for_the_store_ends_at_its_deadline() {
    let nats = NatsServer::start();
    let (_server, owner, room, _) = with_history(&nats);
    pause(nats.pid());
    let clock = Clock::system();
    let began = clock.now();
    let answer = owner.client.post_with(
        "/api/connect/chatto.api.v1.MessageService/CreateMessage",
        &json!({ "roomId": room, "body": "late" }),
        &[("Connect-Timeout-Ms", "500"), ("Idempotency-Key", "late")],
    );
    let took = clock.now() - began;
    let expected = answer.as_ref().is_err_and(|error| {
        matches!(error, CallError::Refused { body, .. } if body["code"] == "deadline_exceeded")
    });
    assert!(expected, "{answer:?}");
    // The read barrier of a change is tried for ten seconds.
    assert!(took < Duration::from_secs(5), "answered only after {took:?}");
}

#[test]
fn a_nats_older_than_2_11_is_refused() {
    let nats = NatsServer::start_binary(&server_of("2.10"), "");
    let mut server = with_external(nats.port());
    let (code, printed) = server.run_refused();
    assert_eq!(code, 78, "{printed}");
    assert!(printed.contains("2.10") && printed.contains("2.11"), "names no version: {printed}");
}

/// Two processes on one NATS, an account known to both, and the room it has joined.
fn two_processes(nats: &NatsServer) -> (Server, Server, Account, Account, String) {
    let (first, second) = (running_on(nats), running_on(nats));
    let here = first.owner();
    let room = here.room("general");
    here.join(&room);
    let there = second.client().log_in("ada");
    (first, second, here, there, room)
}

#[test]
fn what_one_process_acknowledged_every_other_shows() {
    let nats = NatsServer::start();
    let (_first, _second, here, there, room) = two_processes(&nats);
    for n in 0..20 {
        let (writer, reader) = if n % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let id = writer.post(&room, &format!("message {n}"), &format!("both-{n}")).unwrap();
        let seen = reader.history(&room);
        assert_eq!(seen.len(), n + 1);
        assert_eq!(seen.last().unwrap().id, id);
    }
}

#[test]
fn a_call_whose_response_was_cut_is_repeated_through_another_process() {
    let nats = NatsServer::start();
    let (first, _second, here, there, room) = two_processes(&nats);
    let body = format!("{{\"roomId\":\"{room}\",\"body\":\"once\"}}");
    let request = format!(
        "POST /api/connect/chatto.api.v1.MessageService/CreateMessage HTTP/1.1\r\n\
         Host: 127.0.0.1:{}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Idempotency-Key: cut\r\nContent-Length: {}\r\n\r\n{body}",
        first.port(),
        here.client.token().unwrap(),
        body.len(),
    );
    let mut line = TcpStream::connect(("127.0.0.1", first.port())).unwrap();
    line.write_all(request.as_bytes()).unwrap();
    let stored = until("the message is stored", NOTICED_WITHIN, || there.history(&room).pop());
    // The response was on its way; nobody reads it.
    drop(line);
    let again = there.post(&room, "once", "cut").unwrap();
    assert_eq!(again, stored.id);
    assert_eq!(here.history(&room).len(), 1);
}

/// `secrets_mismatch` lasts half a minute, then the new process ends.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_process_with_other_secrets_is_not_ready_and_gives_up() {
    const OTHER: &str = "another cookie secret, of this test alone";
    let nats = NatsServer::start();
    let (mut first, owner, room, history) = with_history(&nats);
    let mut second = with_external(nats.port());
    second.set("CHATTO_WEBSERVER_COOKIE_SIGNING_SECRET", OTHER);
    second.spawn();
    until("not ready, with the reason", NOTICED_WITHIN, || {
        (reason(&second)? == (503, "secrets_mismatch".to_owned())).then_some(())
    });
    let ended = second.ended_within(GIVES_UP_WITHIN);
    let printed = second.log();
    assert_eq!(ended.code(), Some(78), "{printed}");
    assert!(printed.contains("webserver.cookie_signing_secret"), "{printed}");
    assert!(
        printed.contains(&format!("pid {}", first.pid())),
        "does not name the other: {printed}"
    );
    assert!(!printed.contains(OTHER), "prints a secret: {printed}");
    assert!(!printed.contains("a cookie secret for these tests"), "prints a secret: {printed}");
    assert_eq!(first.client().readyz().unwrap().0, 200, "who was there first stays");
    assert_eq!(owner.history(&room), history);

    // With no other process alive a changed cookie secret is accepted.
    assert!(first.stop().success(), "{}", first.log());
    second.run();
    assert!(second.log().contains("must log in again"), "{}", second.log());
    assert_eq!(second.client().log_in("ada").history(&room), history);
    assert!(second.stop().success(), "{}", second.log());
    let before = second.log().len();
    second.run();
    assert!(!second.log()[before..].contains("must log in again"), "logged twice");
}

/// The message key is not changed while another process runs, not even in the way that a single process may use.
#[test]
fn the_message_key_is_not_changed_while_another_process_runs() {
    const NEW: &str = "the next core secret of this test, long";
    let nats = NatsServer::start();
    let (mut first, _, room, history) = with_history(&nats);
    let mut second = with_external(nats.port());
    second.set("CHATTO_CORE_SECRET_KEY_PREVIOUS", "a core secret for these tests only, long");
    second.set("CHATTO_CORE_SECRET_KEY", NEW);
    second.spawn();
    let ended = second.ended_within(GIVES_UP_WITHIN);
    assert_eq!(ended.code(), Some(78), "{}", second.log());
    assert!(second.log().contains("core.secret_key differs"), "{}", second.log());
    first.kill();
    first.run();
    assert_eq!(first.client().log_in("ada").history(&room), history, "nothing was rewrapped");
}

#[test]
fn what_may_differ_is_logged_and_no_more() {
    let nats = NatsServer::start();
    let first = running_on(&nats);
    let mut second = with_external(nats.port());
    for (name, value) in [
        ("ENDPOINT", "127.0.0.1:9"),
        ("BUCKET", "files"),
        ("ACCESS_KEY_ID", "key"),
        ("SECRET_ACCESS_KEY", "secret of a test"),
    ] {
        second.set(&format!("CHATTO_CORE_ASSETS_S3_{name}"), value);
    }
    second.run();
    let status = until("status shows the difference", NOTICED_WITHIN, || {
        let status = second.chatto_ok(["status"]);
        status.contains("differs").then_some(status)
    });
    assert!(status.contains("core.assets.s3.bucket"), "{status}");
    assert!(status.contains(&format!("pid {}", first.pid())), "{status}");
    assert!(second.log().contains("have different settings"), "{}", second.log());
}

#[test]
fn a_room_with_an_event_of_a_newer_program_is_held_and_reported() {
    let nats = NatsServer::start();
    let (server, owner, room, history) = with_history(&nats);
    // Version 9 of the stored encoding.
    let response = request(nats.port(), &format!("journal.{room}"), "\x09newer").unwrap();
    assert!(response.contains("\"seq\""), "{response}");
    let refused = until("posts to the room are refused", NOTICED_WITHIN, || {
        owner.post(&room, "not behind it", "held-1").err()
    });
    let CallError::Refused { status, body } = &refused else { panic!("{refused:?}") };
    assert_eq!((*status, body["code"].as_str()), (400, Some("failed_precondition")), "{body}");
    assert_eq!(owner.history(&room), history, "what was there is read on");
    let other = owner.room("announcements");
    owner.join(&other);
    owner.post(&other, "elsewhere it goes on", "held-2").unwrap();
    let status = server.chatto_ok(["status"]);
    let line = status.lines().find(|line| line.contains("held"));
    let line = line.unwrap_or_else(|| panic!("{status}"));
    assert!(line.contains(&room) && line.contains("version 9"), "{line}");
    assert_eq!(reason(&server).unwrap().0, 200);
}

/// The memory for streams is shared with everything else that uses the cluster.
#[test]
fn a_nats_without_memory_for_streams_is_reported_by_readiness_and_recovers() {
    let nats = NatsServer::start_with_memory(6 << 20);
    let server = running_on(&nats);
    let filler = r#"{"name":"FILLER","subjects":["filler"],"storage":"memory"}"#;
    request(nats.port(), "$JS.API.STREAM.CREATE.FILLER", filler).unwrap();
    let block = "x".repeat(64 << 10);
    let full = |text: &str| request(nats.port(), "filler", text).unwrap().contains("error");
    until("the memory is taken", NOTICED_WITHIN, || full(&block).then_some(()));
    until("all of it", NOTICED_WITHIN, || full("x").then_some(()));
    until("not ready, with the reason", NOTICED_WITHIN, || {
        (reason(&server)? == (503, "memory_full".to_owned())).then_some(())
    });
    request(nats.port(), "$JS.API.STREAM.DELETE.FILLER", "").unwrap();
    until("ready again", NOTICED_WITHIN, || (reason(&server)?.0 == 200).then_some(()));
}
