//! What closes a connection: ended credentials, changed permissions, a server that stops (contract 5.7, 8.8).

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::world::World;
use crate::support::realtime::{CatchUp, Follower, Frame, Key, Received, Sent, Socket, wire};
use crate::support::wait::until;

pub(super) fn logging_out_ends_the_sockets_of_that_session(world: &World) {
    let bert = world.person("bert-leaves");
    let other = world.log_in("bert-leaves");
    let mut by_bearer = Follower::load(world.endpoint(), bert.bearer());
    let mut by_cookie = Follower::load(world.endpoint(), bert.cookie());
    let mut elsewhere = Follower::load(world.endpoint(), other.bearer());
    assert_eq!(world.plain(&bert, "/auth/logout", &json!({})).status, 200);
    for follower in [&mut by_bearer, &mut by_cookie] {
        let end = follower.ended();
        assert_eq!(end.terminated.as_deref(), Some("logout"), "{end:?}");
    }
    elsewhere.sync();
    assert!(elsewhere.is_connected(), "another session of the same person");
    let mut again = world.socket(&bert.bearer());
    again.hello(&bert.bearer());
    assert_eq!(again.closing_codes().0.as_deref(), Some("authentication_required"));
}

pub(super) fn a_session_that_ended_after_the_hello_is_rejected(world: &World) {
    let bert = world.person("bert-waits");
    let room = world.room("waited", &[&bert]);
    for key in [bert.bearer(), bert.cookie()] {
        let session = world.log_in("bert-waits");
        let key = match key {
            Key::Cookie(_) => session.cookie(),
            _ => session.bearer(),
        };
        let mut socket = world.socket(&key);
        socket.hello(&key);
        assert!(matches!(socket.frame(), Frame::Hello(_)));
        assert_eq!(world.plain(&session, "/auth/logout", &json!({})).status, 200);
        socket.send(Sent::SubscribeEvents(wire::RealtimeSubscribeEvents {
            resume_cursor: None,
            retained_room_ids: vec![room.clone()],
        }));
        loop {
            match socket.next() {
                Received::Frame(Frame::Event(event)) => assert!(event.event.is_some()),
                Received::Frame(Frame::Close(close)) => assert!(!close.reconnect, "{close:?}"),
                Received::Frame(Frame::Heartbeat(_)) => {}
                Received::Frame(other) => panic!("to a session that has ended: {other:?}"),
                Received::Closed(_) => break,
            }
        }
    }
}

pub(super) fn a_new_password_ends_every_session(world: &World) {
    let bert = world.person("bert-forgets");
    let other = world.log_in("bert-forgets");
    let mut first = Follower::load(world.endpoint(), bert.bearer());
    let mut second = Follower::load(world.endpoint(), other.cookie());
    world.operate(&["user", "set-password", "bert-forgets", "--password", "a new password"]);
    for follower in [&mut first, &mut second] {
        let end = follower.ended();
        let reason = end.terminated.clone().unwrap_or_default();
        assert!(["password_changed", "password_reset"].contains(&reason.as_str()), "{end:?}");
    }
    let mut again = world.socket(&bert.bearer());
    again.hello(&bert.bearer());
    assert_eq!(again.closing_codes().0.as_deref(), Some("authentication_required"));
}

pub(super) fn a_role_resets_what_its_holder_sees(world: &World) {
    let bert = world.person("bert-rises");
    let room = world.room("rise", &[&bert]);
    let mut ada = world.follow(world.owner(), &[]);
    let mut follower = world.follow(&bert, &[&room]);
    for (change, has) in [("add", true), ("remove", false)] {
        world.operate(&["user", "role", change, "bert-rises", "admin"]);
        let end = follower.ended();
        assert_eq!(end.close, Some(("projection_reset_required".to_owned(), true)), "{end:?}");
        let how = follower.connect(world.endpoint());
        assert_eq!(how, CatchUp::Reset, "rights changed: everything anew");
        assert!(follower.state.timelines.contains_key(&room), "what was held comes along");
        let is_admin = |follower: &Follower| {
            follower.state.users[&bert.id].roles.iter().any(|role| role == "admin")
        };
        assert_eq!(is_admin(&follower), has);
        ada.until("others see the role", |ada| is_admin(ada) == has);
        assert!(ada.is_connected(), "whose rights did not change stays");
    }
}

#[test]
fn a_stopping_server_makes_its_clients_reconnect() {
    let mut world = World::one();
    let owner = world.owner().clone();
    let room = world.room("stop", &[&owner]);
    let mut ada = world.follow(&owner, &[&room]);
    let posted = world.post(&owner, &room, "before the stop");
    assert!(world.servers[0].stop().success());
    let end = ada.ended();
    assert_eq!(end.close, Some(("server_shutdown".to_owned(), true)), "{end:?}");
    world.servers[0].run();
    assert_eq!(ada.connect(world.endpoint()), CatchUp::Replay);
    assert!(ada.state.timelines[&room].rows.iter().any(|row| row.event.id == posted));
}

#[test]
fn clients_of_a_killed_server_resume_from_their_cursors() {
    let mut world = World::one();
    let owner = world.owner().clone();
    let room = world.room("kill", &[&owner]);
    let mut ada = world.follow(&owner, &[&room]);
    world.post(&owner, &room, "before the kill");
    ada.until("the post", |ada| ada.state.shows(&room, "before the kill"));
    ada.cut();
    world.post(&owner, &room, "missed");
    world.servers[0].kill();
    until("the server runs again", std::time::Duration::from_secs(60), || {
        world.servers[0].spawn();
        world.servers[0].ready_or_ended().is_none().then_some(())
    });
    assert_eq!(ada.connect(world.endpoint()), CatchUp::Replay);
    assert_eq!(ada.state.bodies(&room), ["before the kill", "missed"]);
}

/// How far a client has come when its session ends.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Upgraded,
    Greeted,
    Welcomed,
    Subscribing,
    Live,
}

#[test]
fn nothing_is_sent_to_a_session_after_its_end() {
    let world = World::one();
    let bert = world.person("bert");
    let room = world.room("secrets", &[&bert, world.owner()]);
    let stages =
        [Stage::Upgraded, Stage::Greeted, Stage::Welcomed, Stage::Subscribing, Stage::Live];
    let mut runner = TestRunner::new(Config { cases: 40, ..Config::default() });
    let cases = (prop::sample::select(stages.to_vec()), any::<bool>(), 0..4_u32);
    let outcome = runner.run(&cases, |(stage, by_cookie, read)| {
        let session = world.log_in("bert");
        let key = if by_cookie { session.cookie() } else { session.bearer() };
        let mut socket = advance_to(&world, &key, &room, stage);
        // A snapshot is under way, and some of it has come.
        for _ in 0..read {
            if matches!(stage, Stage::Subscribing) {
                socket.next();
            }
        }
        assert_eq!(world.plain(&session, "/auth/logout", &json!({})).status, 200);
        // The process itself ended the session, so whatever is posted now comes after that.
        let secret = world.post(world.owner(), &room, "not for this session");
        if matches!(stage, Stage::Upgraded) {
            socket.try_hello(&key);
        }
        if matches!(stage, Stage::Upgraded | Stage::Greeted | Stage::Welcomed) {
            socket.try_send(subscription(&room));
        }
        loop {
            match socket.next() {
                Received::Frame(frame) => {
                    prop_assert!(!format!("{frame:?}").contains(&secret), "{stage:?}: {frame:?}");
                }
                Received::Closed(_) => return Ok(()),
            }
        }
    });
    outcome.unwrap();
}

fn subscription(room: &str) -> Sent {
    Sent::SubscribeEvents(wire::RealtimeSubscribeEvents {
        resume_cursor: None,
        retained_room_ids: vec![room.to_owned()],
    })
}

fn advance_to(world: &World, key: &Key, room: &str, stage: Stage) -> Socket {
    let mut socket = world.socket(key);
    if matches!(stage, Stage::Upgraded) {
        return socket;
    }
    socket.hello(key);
    if matches!(stage, Stage::Greeted) {
        return socket;
    }
    assert!(matches!(socket.frame(), Frame::Hello(_)));
    if matches!(stage, Stage::Welcomed) {
        return socket;
    }
    socket.send(subscription(room));
    if matches!(stage, Stage::Live) {
        while !matches!(socket.frame(), Frame::CaughtUp(_)) {}
    }
    socket
}
