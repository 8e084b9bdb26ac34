//! What ends a connection: credentials, rights, the server's own end (contract 5.7, 8.8).

use serde_json::json;

use super::world::World;
use crate::support::realtime::{Follower, Frame, How, Key, Received, Sent, wire};
use crate::support::wait::until;

pub(super) fn logging_out_ends_the_sockets_of_that_session(world: &World) {
    let bert = world.person("bert-leaves");
    let other = world.log_in("bert-leaves");
    let mut by_bearer = Follower::load(world.door(), bert.bearer());
    let mut by_cookie = Follower::load(world.door(), bert.cookie());
    let mut elsewhere = Follower::load(world.door(), other.bearer());
    assert_eq!(world.plain(&bert, "/auth/logout", &json!({})).status, 200);
    for follower in [&mut by_bearer, &mut by_cookie] {
        let end = follower.ended();
        assert_eq!(end.terminated.as_deref(), Some("logout"), "{end:?}");
    }
    elsewhere.sync();
    assert!(elsewhere.is_connected(), "another session of the same person");
    let mut again = world.socket(&bert.bearer());
    again.hello(&bert.bearer());
    assert_eq!(again.refusal().0.as_deref(), Some("authentication_required"));
}

pub(super) fn a_session_that_ended_after_the_hello_is_not_let_in(world: &World) {
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
    let mut first = Follower::load(world.door(), bert.bearer());
    let mut second = Follower::load(world.door(), other.cookie());
    world.operate(&["user", "set-password", "bert-forgets", "--password", "a new password"]);
    for follower in [&mut first, &mut second] {
        let end = follower.ended();
        let reason = end.terminated.clone().unwrap_or_default();
        assert!(["password_changed", "password_reset"].contains(&reason.as_str()), "{end:?}");
    }
    let mut again = world.socket(&bert.bearer());
    again.hello(&bert.bearer());
    assert_eq!(again.refusal().0.as_deref(), Some("authentication_required"));
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
        let how = follower.connect(world.door());
        assert_eq!(how, How::Reset, "rights changed: everything anew");
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
fn a_server_that_stops_asks_everybody_to_come_again() {
    let mut world = World::one();
    let owner = world.owner().clone();
    let room = world.room("stop", &[&owner]);
    let mut ada = world.follow(&owner, &[&room]);
    let posted = world.post(&owner, &room, "before the stop");
    assert!(world.servers[0].stop().success());
    let end = ada.ended();
    assert_eq!(end.close, Some(("server_shutdown".to_owned(), true)), "{end:?}");
    world.servers[0].run();
    assert_eq!(ada.connect(world.door()), How::Replay);
    assert!(ada.state.timelines[&room].rows.iter().any(|row| row.event.id == posted));
}

#[test]
fn a_killed_server_is_resumed_where_it_was_left() {
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
    assert_eq!(ada.connect(world.door()), How::Replay);
    assert_eq!(ada.state.bodies(&room), ["before the kill", "missed"]);
}
