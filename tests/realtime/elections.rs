//! While a stream has no leader, no socket is sent what its viewer may not see, and nothing is lost.
//!
//! The cases are STATE's leader, JOURNAL's, both × killed, cut off, stopped for 40 s and continued, on a cluster of
//! three nodes with three processes. Two of them run by default; `make simulate` runs all nine.
#![expect(clippy::disallowed_methods, reason = "a fault lasts as long as the wall clock shows")]

use std::time::{Duration, Instant};

use serde_json::json;

use super::world::{Person, World};
use crate::support::cluster::Cluster;
use crate::support::filter::Filter;
use crate::support::nats::NatsServer;
use crate::support::realtime::{Endpoint, Follower};
use crate::support::server::Server;
use crate::support::wait::until;

/// An election takes up to 9 s, a restart of a node and what its replicas miss some more.
const PATIENCE: Duration = Duration::from_secs(90);
/// The node that goes away; node 0 stays, node 2 leads what is not to be away.
const VICTIM: usize = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Led {
    State,
    Journal,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    CutOff,
    Stopped,
}

const ALL: [(Led, Fault); 9] = [
    (Led::State, Fault::Killed),
    (Led::Both, Fault::CutOff),
    (Led::Journal, Fault::Killed),
    (Led::Both, Fault::Killed),
    (Led::State, Fault::CutOff),
    (Led::Journal, Fault::CutOff),
    (Led::State, Fault::Stopped),
    (Led::Journal, Fault::Stopped),
    (Led::Both, Fault::Stopped),
];
/// How many of them run by default.
const DEFAULT: usize = 2;

/// How long the node is away; an event waits 5 s before anything else happens.
fn length(fault: Fault) -> Duration {
    Duration::from_secs(if fault == Fault::Stopped { 40 } else { 15 })
}

#[test]
fn an_election_shows_nobody_what_it_may_not_see_and_loses_nothing() {
    let runs_all = std::env::var_os("CHATTO_SIMULATION_SECONDS").is_some();
    let cases = if runs_all { &ALL[..] } else { &ALL[..DEFAULT] };
    let mut cluster = Cluster::start_with_relays(3);
    // What STATE publishes may be lost on the way to the second process.
    let filter = Filter::of_state(cluster.port(0));
    let addresses = [cluster.urls().join(","), filter.url(), cluster.urls()[VICTIM].clone()];
    let servers: Vec<Server> = addresses.iter().map(|urls| process(urls, "3")).collect();
    let endpoints = servers.iter().map(|server| Endpoint::local(server.port())).collect();
    let world = World::of(endpoints, servers, None);
    for (number, (led, fault)) in cases.iter().enumerate() {
        eprintln!("--- {led:?} {fault:?}");
        place_leaders(&cluster, *led);
        Case::new(&world, number).run(&mut cluster, &filter, *fault);
    }
}

/// A process with this `nats.client.url`.
fn process(urls: &str, replicas: &str) -> Server {
    let mut server = Server::prepare();
    server.use_external(urls);
    server.set("CHATTO_NATS_REPLICAS", replicas);
    server.run();
    server
}

fn place_leaders(cluster: &Cluster, led: Led) {
    let mut others = chatto::storage::stream_names();
    let mut place = |name: &str, goes_away: bool| {
        others.retain(|one| one != name);
        cluster.lead(if goes_away { VICTIM } else { 2 }, &[name.to_owned()]);
    };
    place("KV_STATE", led != Led::Journal);
    place("JOURNAL", led != Led::State);
    cluster.lead(0, &others);
}

/// People in a room: one who leaves it when the fault begins, and three sockets of others, one at each process.
struct Case<'a> {
    world: &'a World,
    room: String,
    writer: Person,
    leaver: Person,
    /// The leaver's socket, at the process that does not learn of the leaving.
    left: Follower,
    staying: Vec<Follower>,
    posts: Vec<(String, String)>,
}

impl<'a> Case<'a> {
    fn new(world: &'a World, number: usize) -> Self {
        let people = ["writes", "leaves", "stays"];
        let [writer, leaver, stays] = people.map(|name| world.person(&format!("{name}-{number}")));
        let room = world.room(&format!("election {number}"), &[&writer, &leaver, &stays]);
        let follow = |who: &Person, endpoint: usize| {
            let mut follower = Follower::new(who.bearer());
            follower.retain([room.as_str()]);
            retried(|| follower.try_connect(&world.endpoints()[endpoint]));
            follower
        };
        let left = follow(&leaver, 1);
        let staying = (0..3).map(|endpoint| follow(&stays, endpoint)).collect();
        Self { world, room, writer, leaver, left, staying, posts: Vec::new() }
    }

    fn run(mut self, cluster: &mut Cluster, filter: &Filter, fault: Fault) {
        self.post("before");
        let all_have = |case: &mut Self| {
            let shows = |one: &mut Follower, body: &str| {
                one.try_sync();
                one.state.shows(&case.room, body)
            };
            (case.staying.iter_mut().chain([&mut case.left]).all(|one| shows(one, "before")))
                .then_some(())
        };
        until("everybody has the first post", PATIENCE, || all_have(&mut self));
        let first = self.posts.len();

        let deaf = filter.turn_on();
        let endpoint = &self.world.endpoints()[0];
        World::call_at(
            endpoint,
            &self.leaver,
            "RoomService/LeaveRoom",
            &json!({"roomId": self.room}),
        );
        begin(cluster, fault);
        let end = Instant::now() + length(fault);
        drop(deaf);
        while Instant::now() < end {
            self.post(&format!("meanwhile {}", self.posts.len()));
            self.check(first);
        }
        stop(cluster, fault);
        for n in 0..3 {
            self.post(&format!("after {n}"));
            self.check(first);
        }
        self.converge(first);
    }

    /// Posts until it is acknowledged, always at the first process.
    fn post(&mut self, body: &str) {
        let key = format!("{}-{}", self.room, self.posts.len());
        let endpoint = &self.world.endpoints()[0];
        let id = retried(|| World::try_post_by(endpoint, &self.writer, &self.room, body, &key));
        self.posts.push((id, body.to_owned()));
    }

    /// Reads what has arrived, reconnects where a socket was closed, and checks what the leaver got since it left.
    fn check(&mut self, first: usize) {
        let endpoints = self.world.endpoints();
        for (endpoint, follower) in self.staying.iter_mut().enumerate() {
            catch_up(follower, &endpoints[endpoint]);
            for (id, _) in &self.posts {
                let times = follower.live.iter().filter(|(event, _)| event == id).count();
                assert!(times <= 1, "{id} came {times} times on one connection");
            }
        }
        // Before a new connection takes its place.
        self.check_left(first);
        catch_up(&mut self.left, &endpoints[1]);
        self.check_left(first);
    }

    fn check_left(&self, first: usize) {
        for (id, body) in &self.posts[first..] {
            let came = self.left.live.iter().any(|(event, _)| event == id);
            let shown = self.left.state.shows(&self.room, body);
            assert!(!came && !shown, "somebody who has left was sent {body:?}");
        }
    }

    fn converge(&mut self, first: usize) {
        for server in &self.world.servers {
            let client = server.client();
            until("the process is ready", PATIENCE, || {
                client.readyz().is_ok_and(|(status, _)| status == 200).then_some(())
            });
        }
        let bodies: Vec<String> = self.posts.iter().map(|(_, body)| body.clone()).collect();
        until("everybody shows what happened", PATIENCE, || {
            self.check(first);
            let tail = |one: &Follower| {
                let shown = one.state.bodies(&self.room);
                shown.len() >= bodies.len().min(20) && bodies.ends_with(&owned(&shown))
            };
            let is_out = !self.left.state.is_member(&self.room);
            (is_out && self.staying.iter().all(tail)).then_some(())
        });
        assert!(!self.left.state.timelines.contains_key(&self.room));
        let request = json!({"roomId": self.room, "limit": 100});
        let history = World::call_at(
            &self.world.endpoints()[2],
            &self.writer,
            "RoomService/GetRoomEvents",
            &request,
        );
        let rows = history["page"]["events"].as_array().unwrap();
        let stored: Vec<&str> = rows
            .iter()
            .filter_map(|row| row["messagePosted"]["message"]["body"].as_str())
            .collect();
        assert!(bodies.ends_with(&owned(&stored)), "{stored:?} instead of {bodies:?}");
        assert!(stored.len() >= bodies.len().min(90), "each once, in order");
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Reads what the server has sent, and tries to reconnect if the socket was closed.
fn catch_up(follower: &mut Follower, endpoint: &Endpoint) {
    if follower.is_connected() {
        follower.poll_once();
    }
    if !follower.is_connected() {
        follower.try_connect(endpoint);
    }
}

fn retried<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    until("it succeeds", PATIENCE, &mut attempt)
}

fn begin(cluster: &mut Cluster, fault: Fault) {
    match fault {
        Fault::Killed => cluster.kill(VICTIM),
        Fault::CutOff => cluster.cut_off(VICTIM, true),
        Fault::Stopped => cluster.freeze(VICTIM, true),
    }
}

fn stop(cluster: &mut Cluster, fault: Fault) {
    match fault {
        Fault::Killed => cluster.restart(VICTIM),
        Fault::CutOff => cluster.cut_off(VICTIM, false),
        Fault::Stopped => cluster.freeze(VICTIM, false),
    }
}

/// One process gets no changes of STATE for as long as the test wants.
#[test]
fn a_process_without_state_closes_its_sockets_and_changes_nothing_but_reads() {
    let nats = NatsServer::start();
    let filter = Filter::of_state(nats.port());
    let servers = vec![process(&nats.url(), "1"), process(&filter.url(), "1")];
    let endpoints = servers.iter().map(|server| Endpoint::local(server.port())).collect();
    let world = World::of(endpoints, servers, Some(nats));
    let (leaver, stays) = (world.person("leaves"), world.person("stays"));
    let room = world.room("without state", &[world.owner(), &leaver, &stays]);
    let [here, away] = [world.endpoints()[0].clone(), world.endpoints()[1].clone()];
    let follow = |who: &Person| {
        let mut follower = Follower::new(who.bearer());
        follower.retain([room.as_str()]);
        follower.connect(&away);
        follower
    };
    let (mut left, mut staying) = (follow(&leaver), follow(&stays));

    let deaf = filter.turn_on();
    World::call_at(&here, &leaver, "RoomService/LeaveRoom", &json!({"roomId": room}));
    let id = World::post_by(&here, world.owner(), &room, "after");
    for follower in [&mut left, &mut staying] {
        let end = follower.ended();
        assert_eq!(end.close, Some(("catch_up_server_busy".to_owned(), true)), "{end:?}");
        assert!(!follower.live.iter().any(|(event, _)| *event == id), "it was sent all the same");
        assert!(!follower.state.shows(&room, "after"));
        assert_eq!(follower.try_connect(&away), None, "nobody is let in");
    }
    // Reads continue with what is known, without what the feed has not passed.
    let events = json!({"roomId": room, "limit": 10});
    let page = World::call_at(&away, &leaver, "RoomService/GetRoomEvents", &events);
    assert!(!page.to_string().contains("\"after\""), "{page}");
    // What changes something fails and may be repeated.
    let bearer = format!("Bearer {}", stays.token);
    let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
    let body = json!({"roomId": room, "body": "lost"}).to_string();
    let path = "/api/connect/chatto.api.v1.MessageService/CreateMessage";
    let response = away.request("POST", path, &headers, &body);
    assert_eq!(
        (response.status, &response.json["code"]),
        (503, &json!("unavailable")),
        "{response:?}"
    );
    assert!(response.head.to_ascii_lowercase().contains("\r\nretry-after: "), "{}", response.head);
    until("it reports that", PATIENCE, || {
        let (status, body) = world.servers[1].client().readyz().ok()?;
        (status == 503 && body.contains("no_quorum")).then_some(())
    });
    drop(deaf);

    for follower in [&mut left, &mut staying] {
        until("let in again", PATIENCE, || follower.try_connect(&away));
    }
    staying.until("the post", |one| one.state.shows(&room, "after"));
    assert!(!left.state.is_member(&room) && !left.state.timelines.contains_key(&room));
    world.post(world.owner(), &room, "last");
    staying.until("the last post", |one| one.state.shows(&room, "last"));
    assert_eq!(staying.state.bodies(&room), ["after", "last"], "each once");
}
