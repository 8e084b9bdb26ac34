//! Lists of operations against three processes on one NATS, and a model of what everybody must see.
//!
//! After each list everything runs again and every client shows what the model has: its rooms, who is
//! in them, their messages once and in order, what is unread. On the way the client's own rules hold
//! ([`super::super::support::realtime`] fails on a row of a room its viewer is not in), and every post
//! that was acknowledged, or that was repeated until it was, is there exactly once.
//!
//! A failing list is shrunk and kept in `simulation.regressions`, which is run first. `make simulate`
//! runs lists for `CHATTO_SIMULATION_SECONDS`.
#![expect(clippy::disallowed_methods, reason = "a run lasts as long as the wall clock shows")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use serde_json::{Value, json};

use super::world::{Person, World};
use crate::support::client::{CallError, Client};
use crate::support::filter::Filter;
use crate::support::realtime::{CatchUp, Follower};
use crate::support::wait::until;

const PEOPLE: usize = 3;
const ROOMS: usize = 2;
const PROCESSES: usize = 3;
/// Lists of a run that nobody gave a time.
const LISTS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// One step.
#[derive(Debug, Clone, Copy)]
enum Op {
    Post {
        who: usize,
        room: usize,
    },
    Join {
        who: usize,
        room: usize,
    },
    Leave {
        who: usize,
        room: usize,
    },
    Read {
        who: usize,
        room: usize,
    },
    /// The client's connection is cut without a word.
    Cut {
        who: usize,
    },
    /// It comes again with its cursor.
    Resume {
        who: usize,
    },
    /// It forgets everything and comes again.
    Load {
        who: usize,
    },
    /// `kill -9`, and a new start.
    KillProcess {
        process: usize,
    },
    /// `kill -9` while a post is on its way; the post is repeated until it is acknowledged.
    KillUnderPost {
        process: usize,
        who: usize,
        room: usize,
    },
    /// `kill -9` of nats-server, and a new start.
    KillNats,
    /// While one process receives nothing of STATE, somebody whose socket it has leaves a room, and another writes
    /// there.
    LeaveUnseen {
        who: usize,
        room: usize,
        for_ms: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (who, room, process) = (0..PEOPLE, 0..ROOMS, 0..PROCESSES);
    prop_oneof![
        8 => (who.clone(), room.clone()).prop_map(|(who, room)| Op::Post { who, room }),
        4 => (who.clone(), room.clone()).prop_map(|(who, room)| Op::Join { who, room }),
        2 => (who.clone(), room.clone()).prop_map(|(who, room)| Op::Leave { who, room }),
        3 => (who.clone(), room.clone()).prop_map(|(who, room)| Op::Read { who, room }),
        2 => who.clone().prop_map(|who| Op::Cut { who }),
        3 => who.clone().prop_map(|who| Op::Resume { who }),
        1 => who.clone().prop_map(|who| Op::Load { who }),
        1 => process.clone().prop_map(|process| Op::KillProcess { process }),
        1 => (process, who.clone(), room.clone())
            .prop_map(|(process, who, room)| Op::KillUnderPost { process, who, room }),
        1 => Just(Op::KillNats),
        // An event waits for its STATE for 5 s before sockets are sent elsewhere: the leave, and the message.
        1 => (who.clone(), room.clone(), 0..14_000_u64)
            .prop_map(|(who, room, for_ms)| Op::LeaveUnseen { who, room, for_ms }),
    ]
}

/// A room as it must be.
#[derive(Debug, Default)]
struct Room {
    id: String,
    /// Author and text.
    messages: Vec<(usize, String)>,
    members: BTreeSet<usize>,
    /// How many messages each has read.
    read: [usize; PEOPLE],
    /// How many messages there were when each was a member last.
    left_at: [usize; PEOPLE],
}

impl Room {
    fn is_unread(&self, who: usize) -> bool {
        let newer = self.messages.iter().skip(self.read[who]);
        self.members.contains(&who) && newer.clone().any(|(author, _)| *author != who)
    }

    fn leave(&mut self, who: usize) {
        if self.members.remove(&who) {
            self.left_at[who] = self.messages.len();
        }
    }

    fn posted(&mut self, who: usize, body: String) {
        self.messages.push((who, body));
        self.read[who] = self.messages.len();
    }

    /// What somebody never may be sent: it came when it was no member, and it has been none since.
    fn forbidden(&self, who: usize) -> &[(usize, String)] {
        if self.members.contains(&who) { &[] } else { &self.messages[self.left_at[who]..] }
    }

    fn bodies(&self) -> Vec<&str> {
        self.messages.iter().map(|(_, body)| body.as_str()).collect()
    }
}

/// One list in its own rooms, with its own people.
struct Run<'a> {
    world: &'a mut World,
    /// Before the last process.
    filter: &'a Filter,
    people: Vec<Person>,
    followers: Vec<Follower>,
    rooms: Vec<Room>,
    posts: usize,
    turn: usize,
}

impl<'a> Run<'a> {
    fn new(world: &'a mut World, filter: &'a Filter, number: usize) -> Self {
        let people: Vec<Person> =
            (0..PEOPLE).map(|n| world.person(&format!("sim-{number}-{n}"))).collect();
        let rooms: Vec<Room> = (0..ROOMS)
            .map(|n| {
                let id = world.room(&format!("sim {number} {n}"), &[]);
                Room { id, ..Room::default() }
            })
            .collect();
        let ids: Vec<&str> = rooms.iter().map(|room| room.id.as_str()).collect();
        let followers = people.iter().map(|person| world.follow(person, &ids)).collect();
        Self { world, filter, people, followers, rooms, posts: 0, turn: 0 }
    }

    /// A client of the next process.
    fn client(&mut self, who: usize) -> Client {
        self.turn += 1;
        let server = &self.world.servers[self.turn % PROCESSES];
        Client::new(server.port()).with_token(&self.people[who].token)
    }

    /// A call that is repeated, each time at another process, while it may pass.
    fn call(
        &mut self,
        who: usize,
        method: &str,
        body: &Value,
        key: &str,
    ) -> Result<Value, CallError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let client = self.client(who);
            let path = format!("/api/connect/chatto.api.v1.{method}");
            match client.post_with(&path, body, &[("Idempotency-Key", key)]) {
                Err(error) if error.may_pass() && Instant::now() < deadline => {}
                response => return response,
            }
        }
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Post { who, room } => self.post(who, room)?,
            Op::Join { who, room } => {
                let id = json!({"roomId": self.rooms[room].id});
                ok(self.call(who, "RoomService/JoinRoom", &id, "join"))?;
                let room = &mut self.rooms[room];
                if room.members.insert(who) {
                    room.read[who] = room.messages.len();
                }
            }
            Op::Leave { who, room } => {
                let id = json!({"roomId": self.rooms[room].id});
                ok(self.call(who, "RoomService/LeaveRoom", &id, "leave"))?;
                self.rooms[room].leave(who);
            }
            Op::Read { who, room } => {
                let id = json!({"roomId": self.rooms[room].id});
                let read = self.call(who, "RoomService/MarkRoomAsRead", &id, "read");
                if self.rooms[room].members.contains(&who) {
                    ok(read)?;
                    let room = &mut self.rooms[room];
                    room.read[who] = room.messages.len();
                } else {
                    denied(read)?;
                }
            }
            Op::Cut { who } => self.followers[who].cut(),
            Op::Resume { who } => self.connect(who),
            Op::Load { who } => {
                let ids: Vec<&str> = self.rooms.iter().map(|room| room.id.as_str()).collect();
                self.followers[who] = self.world.follow(&self.people[who], &ids);
            }
            Op::KillProcess { process } => {
                self.world.servers[process].kill();
                self.world.servers[process].run();
            }
            Op::KillUnderPost { process, who, room } => {
                let pid = self.world.servers[process].pid();
                let killer = std::thread::spawn(move || crate::support::server::kill_quietly(pid));
                let posted = self.post(who, room);
                killer.join().unwrap();
                self.world.servers[process].kill();
                self.world.servers[process].run();
                posted?;
            }
            Op::KillNats => {
                self.world.nats.as_mut().unwrap().restart();
                self.all_ready();
            }
            Op::LeaveUnseen { who, room, for_ms } => {
                self.leave_unseen(who, room, Duration::from_millis(for_ms))?;
            }
        }
        Ok(())
    }

    /// See [`Op::LeaveUnseen`].
    fn leave_unseen(
        &mut self,
        who: usize,
        room: usize,
        time: Duration,
    ) -> Result<(), TestCaseError> {
        let other = (who + 1) % PEOPLE;
        for who in [who, other] {
            self.step(Op::Join { who, room })?;
        }
        let [here, .., away] = self.world.endpoints() else { unreachable!() };
        let (here, away) = (here.clone(), away.clone());
        self.followers[who].cut();
        until("connected", PATIENCE, || self.followers[who].try_connect(&away));
        let partition = self.filter.turn_on();
        let [leaver, author] = [&self.people[who], &self.people[other]];
        let id = self.rooms[room].id.clone();
        World::call_at(&here, leaver, "RoomService/LeaveRoom", &json!({"roomId": id}));
        self.rooms[room].leave(who);
        self.posts += 1;
        let body = format!("message {}", self.posts);
        World::post_by(&here, author, &id, &body);
        self.rooms[room].posted(other, body);
        // What comes meanwhile is read; the end of the connection ends it.
        self.followers[who].follow_for(time);
        drop(partition);
        self.all_ready();
        Ok(())
    }

    fn post(&mut self, who: usize, room: usize) -> Result<(), TestCaseError> {
        self.posts += 1;
        let body = format!("message {}", self.posts);
        let request = json!({"roomId": self.rooms[room].id, "body": body});
        let key = format!("post-{}", self.posts);
        let posted = self.call(who, "MessageService/CreateMessage", &request, &key);
        if !self.rooms[room].members.contains(&who) {
            return denied(posted);
        }
        ok(posted)?;
        self.rooms[room].posted(who, body);
        Ok(())
    }

    /// Brings a client back, with its cursor. A cut is never a reason for a reset.
    fn connect(&mut self, who: usize) {
        let follower = &mut self.followers[who];
        if follower.is_connected() {
            follower.cut();
        }
        assert_eq!(
            follower.connect(self.world.endpoint()),
            CatchUp::Replay,
            "a cut led to a reset"
        );
    }

    fn all_ready(&mut self) {
        for server in &self.world.servers {
            let client = server.client();
            until("the process is ready", PATIENCE, || {
                client.readyz().is_ok_and(|(status, _)| status == 200).then_some(())
            });
        }
    }

    /// Everybody shows what the model has.
    fn converge(&mut self) -> Result<(), TestCaseError> {
        self.all_ready();
        for who in 0..PEOPLE {
            let deadline = Instant::now() + PATIENCE;
            loop {
                if !self.followers[who].try_sync() {
                    self.connect(who);
                }
                match self.difference(who) {
                    None => break,
                    Some(difference) if Instant::now() >= deadline => {
                        return Err(TestCaseError::fail(format!("person {who}: {difference}")));
                    }
                    Some(_) => std::thread::yield_now(),
                }
            }
        }
        for (who, follower) in self.followers.iter().enumerate() {
            for room in &self.rooms {
                for (_, body) in room.forbidden(who) {
                    let was_sent = follower.received.contains(&(room.id.clone(), body.clone()));
                    prop_assert!(!was_sent, "person {} was sent {} of {}", who, body, room.id);
                }
            }
        }
        for room in 0..ROOMS {
            self.check_history(room)?;
        }
        Ok(())
    }

    /// What a client shows that the model does not have, or the other way round.
    fn difference(&self, who: usize) -> Option<String> {
        let state = &self.followers[who].state;
        for room in &self.rooms {
            let is_member = room.members.contains(&who);
            let shown = if is_member { room.bodies() } else { Vec::new() };
            // A snapshot has the newest 50 rows, joins and leaves among them.
            let bodies = state.bodies(&room.id);
            let tail = &shown[shown.len().saturating_sub(bodies.len().max(20))..];
            if state.is_member(&room.id) != is_member {
                return Some(format!("member of {}: {}", room.id, !is_member));
            }
            if !bodies.ends_with(tail) || (!is_member && !bodies.is_empty()) {
                return Some(format!("{} shows {bodies:?} instead of {shown:?}", room.id));
            }
            if state.has_unread(&room.id) != room.is_unread(who) {
                return Some(format!("{} is unread: {}", room.id, !room.is_unread(who)));
            }
            if is_member {
                let members = &state.rooms[&room.id].members;
                let expected: BTreeSet<String> =
                    room.members.iter().map(|one| self.people[*one].id.clone()).collect();
                if *members != expected {
                    return Some(format!("members {members:?} instead of {expected:?}"));
                }
            }
        }
        None
    }

    /// The whole room as an uninvolved reader gets it.
    fn check_history(&mut self, room: usize) -> Result<(), TestCaseError> {
        let id = self.rooms[room].id.clone();
        let owner = self.world.owner().clone();
        self.world.join(&owner, &id);
        let mut bodies = Vec::new();
        let mut before = None::<String>;
        loop {
            let mut request = json!({"roomId": id, "limit": 100});
            if let Some(cursor) = &before {
                request["before"] = json!(cursor);
            }
            let page =
                self.world.call(&owner, "RoomService/GetRoomEvents", &request)["page"].clone();
            let rows = page["events"].as_array().cloned().unwrap_or_default();
            let texts = rows.iter().filter_map(|row| {
                row["messagePosted"]["message"]["body"].as_str().map(str::to_owned)
            });
            bodies.splice(0..0, texts);
            if page["hasOlder"] != true {
                break;
            }
            before = page["startCursor"].as_str().map(str::to_owned);
        }
        self.world.leave(&owner, &id);
        prop_assert_eq!(bodies, self.rooms[room].bodies(), "the history of {}", id);
        Ok(())
    }
}

fn ok(response: Result<Value, CallError>) -> Result<(), TestCaseError> {
    response.map(|_| ()).map_err(|error| TestCaseError::fail(format!("{error:?}")))
}

fn denied(response: Result<Value, CallError>) -> Result<(), TestCaseError> {
    match response {
        Err(CallError::Refused { status: 403, .. }) => Ok(()),
        other => Err(TestCaseError::fail(format!("not denied: {other:?}"))),
    }
}

#[test]
fn everybody_ends_up_with_what_happened() {
    let seconds = std::env::var("CHATTO_SIMULATION_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("CHATTO_SIMULATION_SECONDS is a number"));
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/realtime/simulation.regressions");
    let config = Config {
        cases: if deadline.is_some() { 20 } else { LISTS },
        max_shrink_time: 300_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..Config::default()
    };
    let (world, filter) = World::partly_behind_a_filter();
    let world = RefCell::new(world);
    let (lists, steps) = (RefCell::new(0), RefCell::new(0));
    let some = || {
        TestRunner::new(config.clone()).run(&prop::collection::vec(op(), 8..32), |ops| {
            let number = {
                let mut lists = lists.borrow_mut();
                *lists += 1;
                *lists
            };
            let mut world = world.borrow_mut();
            let mut run = Run::new(&mut world, &filter, number);
            for op in ops {
                *steps.borrow_mut() += 1;
                run.step(op)?;
            }
            run.converge()
        })
    };
    let mut result = some();
    while result.is_ok() && deadline.is_some_and(|deadline| Instant::now() < deadline) {
        result = some();
    }
    eprintln!("{} lists, {} steps", lists.borrow(), steps.borrow());
    if let Err(error) = result {
        panic!("{error}");
    }
}
