//! Several processes on one NATS, and their clients when one process or NATS fails.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::live::{be, is};
use super::world::{Person, World};
use crate::support::nats::NatsServer;
use crate::support::realtime::{CatchUp, Endpoint, Follower, api};
use crate::support::relay::Relay;
use crate::support::wait::until;

/// A write that NATS's absence delays is repeated by the server for 15 s.
const RECOVERS_WITHIN: Duration = Duration::from_secs(60);

/// Reconnects until it succeeds: a process may be down, or not be connected to NATS again yet.
fn return_to(follower: &mut Follower, endpoint: &Endpoint) -> CatchUp {
    until("the client is let in again", RECOVERS_WITHIN, || follower.try_connect(endpoint))
}

#[test]
fn a_client_of_a_killed_process_resumes_at_another() {
    let mut world = World::three();
    let owner = world.owner().clone();
    let room = world.room("killed", &[&owner]);
    let endpoints = world.endpoints().to_vec();
    let mut followers: Vec<Follower> = (0..3)
        .map(|n| {
            let mut follower = Follower::new(owner.bearer());
            follower.retain([room.as_str()]);
            assert_eq!(follower.connect(&endpoints[n]), CatchUp::Reset);
            follower
        })
        .collect();
    let mut expected = Vec::new();
    for round in 0..3 {
        let (gone, here) = (round % 3, (round + 1) % 3);
        world.servers[gone].kill();
        for n in 0..3 {
            let body = format!("round {round}, {n}");
            World::post_by(&endpoints[here], &owner, &room, &body);
            expected.push(body);
        }
        followers[gone].cut();
        assert_eq!(followers[gone].connect(&endpoints[here]), CatchUp::Replay, "round {round}");
        for follower in &mut followers {
            follower.until("everything", |one| one.state.bodies(&room).len() == expected.len());
            assert_eq!(follower.state.bodies(&room), expected);
        }
        world.servers[gone].run();
        followers[gone].cut();
        assert_eq!(followers[gone].connect(&endpoints[gone]), CatchUp::Replay, "home again");
    }
}

#[test]
fn an_outage_of_nats_loses_no_message() {
    let mut world = World::three();
    let owner = world.owner().clone();
    let bert = world.person("bert-outage");
    let room = world.room("outage", &[&owner, &bert]);
    let endpoints = world.endpoints().to_vec();
    let mut followers: Vec<Follower> = endpoints
        .iter()
        .map(|endpoint| {
            let mut follower = Follower::new(bert.bearer());
            follower.retain([room.as_str()]);
            follower.connect(endpoint);
            follower
        })
        .collect();
    world.post(&owner, &room, "before");
    // Killed, and started again on its port.
    world.nats.as_mut().unwrap().restart();
    let posted = until("a post is taken again", RECOVERS_WITHIN, || {
        world.try_post(&owner, &room, "after", "after-the-outage")
    });
    for (follower, endpoint) in followers.iter_mut().zip(&endpoints) {
        until("the post arrives", RECOVERS_WITHIN, || {
            if !follower.is_connected() {
                return_to(follower, endpoint);
            }
            follower.poll_once();
            let timeline = &follower.state.timelines[&room];
            timeline.rows.iter().any(|row| row.event.id == posted).then_some(())
        });
        assert_eq!(follower.state.bodies(&room), ["before", "after"]);
    }
    be(&world, &owner, "PRESENCE_STATUS_ONLINE");
    for follower in followers.iter_mut().filter(|follower| follower.is_connected()) {
        follower.until("presence", |one| is(one, &owner, api::PresenceStatus::Online));
    }
}

#[test]
fn writers_at_every_process_are_shown_in_one_order() {
    const POSTS: usize = 25;
    let world = World::three();
    let people: Vec<Person> = (0..3).map(|n| world.person(&format!("writer-{n}"))).collect();
    let room = world.room("order", &people.iter().collect::<Vec<_>>());
    let endpoints = world.endpoints().to_vec();
    let shown: Vec<Vec<String>> = std::thread::scope(|scope| {
        for (n, person) in people.iter().enumerate() {
            let (endpoint, room) = (&endpoints[n], room.as_str());
            scope.spawn(move || {
                for post in 0..POSTS {
                    World::post_by(endpoint, person, room, &format!("{n}.{post}"));
                }
            });
        }
        // Each reads at a process of its own, and one is cut again and again.
        let readers: Vec<_> = (0..3)
            .map(|n| {
                let (endpoints, room, person) = (&endpoints, room.as_str(), &people[(n + 1) % 3]);
                scope.spawn(move || {
                    let mut follower = Follower::new(person.bearer());
                    follower.retain([room]);
                    follower.connect(&endpoints[n]);
                    let mut home = n;
                    let all = |one: &Follower| one.state.bodies(room).len() == 3 * POSTS;
                    until("every post", RECOVERS_WITHIN, || {
                        let before = follower.state.bodies(room).len();
                        follower.poll_once();
                        if n == 0 && before < follower.state.bodies(room).len() {
                            follower.cut();
                            home = (home + 1) % 3;
                            assert_eq!(follower.connect(&endpoints[home]), CatchUp::Replay);
                        }
                        all(&follower).then_some(())
                    });
                    follower.state.bodies(room).into_iter().map(str::to_owned).collect()
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0], shown[2]);
    let mut of_writer: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for body in &shown[0] {
        let (writer, post) = body.split_once('.').unwrap();
        of_writer.entry(writer).or_default().push(post.parse().unwrap());
    }
    for posts in of_writer.values() {
        assert_eq!(*posts, (0..POSTS).collect::<Vec<_>>(), "each once, in its writer's order");
    }
    let history =
        world.call(&people[0], "RoomService/GetRoomEvents", &json!({"roomId": room, "limit": 100}));
    let stored: Vec<&str> = history["page"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["messagePosted"]["message"]["body"].as_str())
        .collect();
    assert_eq!(stored, shown[0], "and as calls return it");
}

#[test]
fn a_log_out_that_a_process_missed_ends_its_sockets_when_it_is_back() {
    let nats = NatsServer::start();
    let relay = Relay::start(nats.port());
    let urls = [nats.url(), format!("nats://127.0.0.1:{}", relay.port())];
    let world = World::reaching(&urls, nats);
    let [here, there] = world.endpoints() else { panic!("two processes") };
    let bert = world.person("bert");
    let session = world.log_in("bert");
    let room = world.room("missed", &[&bert]);
    let mut follower = Follower::new(session.bearer());
    follower.retain([room.as_str()]);
    follower.connect(there);

    relay.cut(true);
    relay.hang_up();
    let bearer = format!("Bearer {}", session.token);
    let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
    assert_eq!(here.request("POST", "/auth/logout", &headers, "{}").status, 200);
    relay.cut(false);
    let end = follower.ended();
    assert_eq!(end.terminated.as_deref(), Some("logout"), "{end:?}");
}
