//! Every change of what a viewer may see reaches its open socket, or closes it.
//!
//! A second store on the same NATS writes STATE as no served method does: memberships without rows, rooms moved
//! to another group, put away and deleted, groups deleted, decisions of roles and of users. After each change the
//! open socket must come to show what a fresh load shows, and so must one that was cut before it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use chatto::crypto::Secret;
use chatto::domain::permission::{Decision, DecisionScope, EVERYONE, Permission, Ruling};
use chatto::domain::timeline::{Effect, Fact, FactKind};
use chatto::domain::{EventId, Group, GroupId, Membership, Role, Room, RoomId, User, UserId};
use chatto::runtime::Clock;
use chatto::storage::{Config, Draft, RecordChange, RequestId, StateRecord, Storage};
use futures_lite::future::block_on;
use proptest::prelude::*;
use proptest::test_runner::{
    Config as Proptest, FileFailurePersistence, TestCaseError, TestRunner,
};
use serde_json::json;

use super::world::{Person, World};
use crate::storage::{config, open, run};
use crate::support::realtime::{CatchUp, Follower, State, api};
use crate::support::wait::until;

/// Lists of changes of a run.
const LISTS: u32 = 12;
const ROOMS: usize = 3;
const GROUPS: usize = 2;
/// The viewer and two others.
const PEOPLE: usize = 3;
/// A frame takes milliseconds; each step of shrinking a failing list takes so long.
const PATIENCE: Duration = Duration::from_secs(6);

/// One change of STATE, or what the viewer's client does meanwhile.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// A membership without a row.
    Join {
        who: usize,
        room: usize,
    },
    /// Its record disappears.
    Vanish {
        who: usize,
        room: usize,
    },
    /// Its record notes that it ended, and that the row is stored.
    Leave {
        who: usize,
        room: usize,
    },
    /// A join or leave with its row.
    Call {
        who: usize,
        room: usize,
        joins: bool,
    },
    /// A message of somebody who is a member for that, if nothing forbids it.
    Post {
        room: usize,
    },
    Move {
        room: usize,
        group: usize,
    },
    Archive {
        room: usize,
        archived: bool,
    },
    Universal {
        room: usize,
        universal: bool,
    },
    Rename {
        room: usize,
    },
    /// The room's record disappears, or comes back.
    Exists {
        room: usize,
        exists: bool,
    },
    /// A group's record disappears, or comes back.
    GroupExists {
        group: usize,
        exists: bool,
    },
    /// A decision of a role.
    Role {
        everyone: bool,
        right: Right,
        scope: At,
        allow: Option<bool>,
    },
    /// A decision of a user itself.
    Own {
        who: usize,
        right: Right,
        scope: At,
        allow: Option<bool>,
    },
    /// Whether somebody has the other role.
    Roles {
        who: usize,
        has: bool,
    },
    /// The viewer's connection is cut, and comes again behind the next change.
    Cut,
}

#[derive(Debug, Clone, Copy)]
enum Right {
    List,
    Join,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Server,
    Group(usize),
    Room(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (who, room, group) = (0..PEOPLE, 0..ROOMS, 0..GROUPS);
    let right = prop_oneof![Just(Right::List), Just(Right::Join)];
    let scope = prop_oneof![
        Just(At::Server),
        (0..GROUPS).prop_map(At::Group),
        (0..ROOMS).prop_map(At::Room),
    ];
    let decision = (right, scope, any::<Option<bool>>());
    let place = (who.clone(), room.clone());
    prop_oneof![
        3 => place.clone().prop_map(|(who, room)| Op::Join { who, room }),
        2 => place.clone().prop_map(|(who, room)| Op::Vanish { who, room }),
        2 => place.clone().prop_map(|(who, room)| Op::Leave { who, room }),
        2 => (place, any::<bool>()).prop_map(|((who, room), joins)| Op::Call { who, room, joins }),
        2 => room.clone().prop_map(|room| Op::Post { room }),
        3 => (room.clone(), group.clone()).prop_map(|(room, group)| Op::Move { room, group }),
        2 => (room.clone(), any::<bool>())
            .prop_map(|(room, archived)| Op::Archive { room, archived }),
        2 => (room.clone(), any::<bool>())
            .prop_map(|(room, universal)| Op::Universal { room, universal }),
        1 => room.clone().prop_map(|room| Op::Rename { room }),
        2 => (room, any::<bool>()).prop_map(|(room, exists)| Op::Exists { room, exists }),
        2 => (group, any::<bool>()).prop_map(|(group, exists)| Op::GroupExists { group, exists }),
        3 => (any::<bool>(), decision.clone()).prop_map(|(everyone, (right, scope, allow))| {
            Op::Role { everyone, right, scope, allow }
        }),
        2 => (who.clone(), decision)
            .prop_map(|(who, (right, scope, allow))| Op::Own { who, right, scope, allow }),
        1 => (who, any::<bool>()).prop_map(|(who, has)| Op::Roles { who, has }),
        3 => Just(Op::Cut),
    ]
}

/// The other role.
const ROLE: &str = "extra";

/// One list in its own rooms and groups, with its own people.
struct Run<'a> {
    world: &'a World,
    storage: &'a Storage,
    people: Vec<Person>,
    users: Vec<UserId>,
    rooms: Vec<RoomId>,
    groups: Vec<GroupId>,
    /// Records as they were last, to bring them back.
    room_records: Vec<Room>,
    group_records: Vec<Group>,
    viewer: Follower,
    posts: usize,
}

impl<'a> Run<'a> {
    async fn new(world: &'a World, storage: &'a Storage, number: usize) -> Self {
        // What the list before has decided for everybody.
        let undecided = |present: Option<&Role>| {
            let mut role = present.cloned().unwrap_or_default();
            role.decisions.retain(|one| *one == allowed(one.permission));
            for right in [Permission::RoomList, Permission::RoomJoin] {
                decide(&mut role.decisions, &allowed(right), true);
            }
            Ok(RecordChange::Put(role))
        };
        storage.state().change::<Role, Infallible>(EVERYONE, undecided).await.unwrap();
        put::<Role>(storage, ROLE, None).await;
        let people: Vec<Person> =
            (0..PEOPLE).map(|n| world.person(&format!("right-{number}-{n}"))).collect();
        let users = people.iter().map(|one| UserId::try_from(one.id.as_str()).unwrap()).collect();
        let named = |n: usize| world.room(&format!("right {number} {n}"), &[]);
        let names: Vec<String> = (0..ROOMS).map(named).collect();
        let rooms: Vec<RoomId> =
            names.iter().map(|id| RoomId::try_from(id.as_str()).unwrap()).collect();
        storage.barrier().await.unwrap();
        let mut groups = Vec::new();
        let mut group_records = Vec::new();
        for n in 0..GROUPS {
            let id = GroupId::from_random(
                u128::try_from(number * GROUPS + n + 1).unwrap().to_be_bytes(),
            );
            let record = Group {
                name: format!("group {number} {n}"),
                position: 5,
                created_ms: 1,
                ..Group::new(id)
            };
            put(storage, &id, Some(record.clone())).await;
            groups.push(id);
            group_records.push(record);
        }
        let mut room_records = Vec::new();
        for room in &rooms {
            let record = storage.state().read(|tables| Room::clone(&tables.rooms[room]));
            let record = Room { group: Some(groups[0]), ..record };
            put(storage, room, Some(record.clone())).await;
            room_records.push(record);
        }
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        let viewer = world.follow(&people[0], &ids);
        let posts = 0;
        Self {
            world,
            storage,
            people,
            users,
            rooms,
            groups,
            room_records,
            group_records,
            viewer,
            posts,
        }
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Join { who, room } => self.member(who, room, Some(false)).await,
            Op::Vanish { who, room } => self.member(who, room, None).await,
            Op::Leave { who, room } => self.member(who, room, Some(true)).await,
            Op::Call { who, room, joins } => {
                let method = if joins { "JoinRoom" } else { "LeaveRoom" };
                let path = format!("/api/connect/chatto.api.v1.RoomService/{method}");
                let body = json!({"roomId": self.rooms[room].as_str()});
                self.world.plain(&self.people[who], &path, &body);
            }
            Op::Post { room } => {
                self.posts += 1;
                let body = format!("message {}", self.posts);
                let body = json!({"roomId": self.rooms[room].as_str(), "body": body});
                let path = "/api/connect/chatto.api.v1.MessageService/CreateMessage";
                self.world.plain(&self.people[1], path, &body);
            }
            Op::Move { room, group } => {
                let group = self.groups[group];
                self.change_room(room, |record| record.group = Some(group)).await;
            }
            Op::Archive { room, archived } => {
                self.change_room(room, |record| record.archived = archived).await;
            }
            Op::Universal { room, universal } => {
                self.change_room(room, |record| record.universal = universal).await;
            }
            Op::Rename { room } => self.change_room(room, |record| record.name += "x").await,
            Op::Exists { room, exists } => {
                let record = exists.then(|| self.room_records[room].clone());
                put(self.storage, &self.rooms[room], record).await;
            }
            Op::GroupExists { group, exists } => {
                let record = exists.then(|| self.group_records[group].clone());
                put(self.storage, &self.groups[group], record).await;
            }
            Op::Role { everyone, right, scope, allow } => {
                let decision = self.decision(right, scope, allow.unwrap_or_default());
                let name = if everyone { EVERYONE } else { ROLE };
                let change = |present: Option<&Role>| {
                    let mut role = present.cloned().unwrap_or_default();
                    name.clone_into(&mut role.name);
                    decide(&mut role.decisions, &decision, allow.is_some());
                    Ok(RecordChange::Put(role))
                };
                self.storage.state().change::<Role, Infallible>(name, change).await.unwrap();
            }
            Op::Own { who, right, scope, allow } => {
                let decision = self.decision(right, scope, allow.unwrap_or_default());
                let given = allow.is_some();
                self.change_user(who, |user| decide(&mut user.decisions, &decision, given)).await;
            }
            Op::Roles { who, has } => {
                let roles = if has { vec![ROLE.to_owned()] } else { Vec::new() };
                self.change_user(who, |user| user.roles.clone_from(&roles)).await;
            }
            Op::Cut => self.viewer.cut(),
        }
    }

    fn decision(&self, right: Right, scope: At, allow: bool) -> Decision {
        let permission = match right {
            Right::List => Permission::RoomList,
            Right::Join => Permission::RoomJoin,
        };
        let scope = match scope {
            At::Server => DecisionScope::Server,
            At::Group(group) => DecisionScope::Group(self.groups[group]),
            At::Room(room) => DecisionScope::Room(self.rooms[room]),
        };
        Decision { permission, scope, ruling: if allow { Ruling::Allow } else { Ruling::Deny } }
    }

    /// A settled membership record: present, of a former member, or none.
    async fn member(&self, who: usize, room: usize, left: Option<bool>) {
        let (room, user) = (self.rooms[room], self.users[who]);
        let record =
            left.map(|left| Membership { announced: true, left, ..Membership::new(room, user) });
        put(self.storage, &(room, user), record).await;
    }

    async fn change_room(&mut self, room: usize, change: impl FnOnce(&mut Room)) {
        change(&mut self.room_records[room]);
        let record = self.room_records[room].clone();
        let exists =
            self.storage.state().read(|tables| tables.rooms.contains_key(&self.rooms[room]));
        if exists {
            put(self.storage, &self.rooms[room], Some(record)).await;
        }
    }

    async fn change_user(&self, who: usize, mut change: impl FnMut(&mut User)) {
        let put = |present: Option<&User>| {
            let mut user = present.cloned().unwrap();
            change(&mut user);
            Ok(RecordChange::Put(user))
        };
        self.storage.state().change::<User, Infallible>(&self.users[who], put).await.unwrap();
    }

    /// The open socket, or the one that comes again after it was closed, shows what a fresh load shows.
    fn compare(&mut self, op: Op) -> Result<(), TestCaseError> {
        if matches!(op, Op::Cut) {
            return Ok(());
        }
        let ids: Vec<String> = self.rooms.iter().map(ToString::to_string).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let fresh = comparable(&self.world.follow(&self.people[0], &ids));
        let mut shown = None;
        let end = std::panic::AssertUnwindSafe(|| {
            until("the socket shows what a fresh load shows", PATIENCE, || {
                if !self.viewer.try_sync() {
                    let how = self.viewer.connect(self.world.endpoint());
                    assert!([CatchUp::Reset, CatchUp::Replay].contains(&how));
                }
                let now = comparable(&self.viewer);
                let same = now == fresh;
                shown = Some(now);
                same.then_some(())
            });
        });
        if std::panic::catch_unwind(end).is_err() {
            let difference = difference(&shown.unwrap(), &fresh);
            return Err(TestCaseError::fail(format!("after {op:?}: {difference}")));
        }
        Ok(())
    }
}

/// What a client shows, without what posts do not send again: whether anything at all is unread, and what is in
/// the list of groups.
fn comparable(follower: &Follower) -> State {
    let mut state = follower.state.comparable(20);
    if let Some(viewer) = &mut state.viewer {
        viewer.viewer_state = None;
    }
    for item in state.groups.iter_mut().flat_map(|group| &mut group.items) {
        if let Some(api::room_group_item::Item::Room(room)) = &mut item.item
            && let Some(viewer) = &mut room.viewer_state
        {
            viewer.has_unread = false;
        }
    }
    state
}

/// Where two clients differ.
fn difference(shown: &State, fresh: &State) -> String {
    let mut lines = Vec::new();
    let rooms: BTreeSet<&String> = shown.rooms.keys().chain(fresh.rooms.keys()).collect();
    for id in rooms {
        let (here, there) = (shown.rooms.get(id), fresh.rooms.get(id));
        if here != there {
            let rest = |state: &State| state.timelines.contains_key(id);
            lines.push(format!("room {id}, rows {}: {here:?}", rest(shown)));
            lines.push(format!("instead, rows {}: {there:?}", rest(fresh)));
        } else if shown.timelines.get(id) != fresh.timelines.get(id) {
            lines.push(format!("rows of {id}: {:?}", shown.rows(id)));
            lines.push(format!("instead: {:?}", fresh.rows(id)));
        }
    }
    let parts = [
        ("groups", shown.groups == fresh.groups),
        ("viewer", shown.viewer == fresh.viewer),
        ("users", shown.users == fresh.users),
        ("presences", shown.presences == fresh.presences),
    ];
    lines.extend(parts.iter().filter(|(_, same)| !same).map(|(name, _)| (*name).to_owned()));
    lines.join("\n")
}

fn allowed(permission: Permission) -> Decision {
    Decision { permission, scope: DecisionScope::Server, ruling: Ruling::Allow }
}

/// Puts a decision among others, or takes the one of its kind away.
fn decide(decisions: &mut Vec<Decision>, decision: &Decision, is_given: bool) {
    let place = |one: &Decision| (one.permission, one.scope);
    decisions.retain(|one| place(one) != place(decision));
    if is_given {
        decisions.push(*decision);
    }
}

/// Stores this record, or none.
async fn put<R: StateRecord>(storage: &Storage, id: &R::Id, record: Option<R>) {
    let change = |_: Option<&R>| Ok(record.clone().map_or(RecordChange::Delete, RecordChange::Put));
    storage.state().change::<R, Infallible>(id, change).await.unwrap();
}

/// A world on an external NATS, and a store of the test's own beside it, which lives on threads of its own.
fn with_second_store(test: impl FnOnce(&World, &Storage)) {
    let world = World::shared(1);
    let url = world.nats.as_ref().unwrap().url();
    let (opened, storage) = smol::channel::bounded(1);
    let (end, ended) = smol::channel::bounded::<()>(1);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            run(async |runtime| {
                let secret = Secret::new(super::world::SECRET_KEY.as_bytes().to_vec());
                let config = Config { embedded: false, secret_key: secret, ..config(None) };
                let storage = open(&url, &runtime, config).await.unwrap();
                opened.send(storage.clone()).await.unwrap();
                // Until the other side is dropped.
                ended.recv().await.unwrap_err();
                storage.close().await;
            });
        });
        let storage = block_on(storage.recv()).unwrap();
        let _end = end;
        test(&world, &storage);
    });
}

#[test]
fn every_change_of_what_a_viewer_may_see_reaches_its_socket() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/realtime/rights.regressions");
    let seconds = std::env::var("CHATTO_SIMULATION_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("CHATTO_SIMULATION_SECONDS is a number"));
    let config = Proptest {
        // A list takes about a second.
        cases: seconds.unwrap_or(LISTS),
        max_shrink_time: 60_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..Proptest::default()
    };
    with_second_store(|world, storage| {
        let lists = RefCell::new(0);
        let steps = RefCell::new(0);
        let result = TestRunner::new(config).run(&prop::collection::vec(op(), 4..24), |ops| {
            let number = {
                let mut lists = lists.borrow_mut();
                *lists += 1;
                *lists
            };
            block_on(async {
                let mut run = Run::new(world, storage, number).await;
                for op in ops {
                    *steps.borrow_mut() += 1;
                    run.step(op).await;
                    run.compare(op)?;
                }
                Ok(())
            })
        });
        eprintln!("{} lists, {} steps", lists.borrow(), steps.borrow());
        if let Err(error) = result {
            panic!("{error}");
        }
    });
}

/// Puts a membership whose writer did not live to note that its row is stored.
async fn put_unannounced(storage: &Storage, room: RoomId, user: UserId, left: bool) {
    let record =
        Membership { since_ms: Clock::system().unix_ms(), left, ..Membership::new(room, user) };
    put(storage, &(room, user), Some(record)).await;
    let member_revision = storage.state().member_revision(&room, &user);
    let kind = if left { FactKind::Left } else { FactKind::Joined };
    let request = RequestId::random();
    let append = storage.timelines().append::<Infallible>(&room, &request, &[], |view| {
        let id = EventId::new(view.head().rows, 0, 7);
        let effect = Effect::Fact { id, fact: Fact { member_revision, ..Fact::new(kind) } };
        Ok(Draft { actor: Some(user), at_ms: Clock::system().unix_ms(), effect })
    });
    append.await.unwrap();
}

#[test]
fn a_membership_whose_writer_died_before_its_note_is_announced_by_its_row() {
    with_second_store(|world, storage| {
        let (ada, bert) = (world.person("ada-sees"), world.person("bert-comes-and-goes"));
        let id = world.room("without a note", &[&ada]);
        let (room, user) = (RoomId::try_from(&*id).unwrap(), UserId::try_from(&*bert.id).unwrap());
        let mut others = world.follow(&ada, &[&id]);
        let mut own = world.follow(&bert, &[&id]);
        let note = async |record: Option<Membership>| {
            put(storage, &(room, user), record).await;
        };
        let fresh = |person| comparable(&world.follow(person, &[&id]));
        block_on(async {
            storage.barrier().await.unwrap();
            for left in [false, true, false] {
                put_unannounced(storage, room, user, left).await;
                others.until("the row", |one| {
                    one.state.rooms[&id].members.contains(&bert.id) != left
                });
                own.until("the row", |one| one.state.is_member(&id) != left);
                // The sweep's, much later: nothing is left to send.
                let present = storage.state().member(&room, &user).unwrap().0;
                let announced = Membership { announced: true, ..Membership::clone(&present) };
                note((!left).then_some(announced)).await;
                for (follower, person) in [(&mut others, &ada), (&mut own, &bert)] {
                    assert!(follower.try_sync());
                    assert_eq!(comparable(follower), fresh(person));
                }
            }
        });
    });
}
