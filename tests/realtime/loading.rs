//! Snapshot, retained rooms, hydration (contract 8.3, 8.5).

use std::time::Duration;

use serde_json::json;

use super::world::World;
use crate::support::realtime::{CatchUp, Follower, api};
use crate::support::wait::until;

/// Longer than the delay that the server requires of a client that hydrates too fast.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn a_fresh_load_is_complete(world: &World) {
    let bert = world.person("bert-loads");
    let room = world.room("load-joined", &[&bert]);
    let other = world.room("load-visible", &[]);
    let posted = world.post(&bert, &room, "before the load");
    let mut follower = Follower::new(bert.bearer());
    follower.retain([room.as_str(), "Rnobodyhasever", other.as_str()]);
    assert_eq!(follower.connect(world.endpoint()), CatchUp::Reset);
    let state = &follower.state;
    assert_eq!(state.viewer_id(), bert.id);
    assert!(state.users.contains_key(&world.owner().id) && state.users.contains_key(&bert.id));
    let owner = &state.users[&world.owner().id];
    assert!(owner.roles.iter().any(|role| role == "owner"), "{owner:?}");
    let found = world.call(&bert, "ServerDiscoveryService/GetServer", &json!({}));
    let server = state.server.as_ref().unwrap();
    assert_eq!((json!(server.name), json!(server.version)), {
        let profile = &found["profile"];
        (profile["name"].clone(), profile["version"].clone())
    });
    let names: Vec<&str> =
        state.room_order.iter().map(|id| state.rooms[id].room.name.as_str()).collect();
    assert_eq!(names[..2], ["announcements", "general"], "in the sidebar's order");
    assert!(state.is_member(state.room_named("announcements").unwrap()), "by rule");
    assert!(state.is_member(&room) && !state.is_member(&other));
    let members: Vec<&String> = state.rooms[&room].members.iter().collect();
    assert_eq!(members, [&bert.id], "a retained, joined room names all members");
    assert_eq!(state.timelines.len(), 1, "one window: of the room that is retained and joined");
    let page = world.call(&bert, "RoomService/GetRoomEvents", &json!({"roomId": room}));
    let ids: Vec<&str> = page["page"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    let rows: Vec<&str> =
        state.timelines[&room].rows.iter().map(|row| row.event.id.as_str()).collect();
    assert_eq!(rows, ids, "the same rows as by call");
    assert_eq!(rows.last(), Some(&posted.as_str()));
    // The cursors are those of the calls.
    let before = json!({"roomId": room, "before": state.timelines[&room].rows[1].cursor});
    let older = world.call(&bert, "RoomService/GetRoomEvents", &before);
    assert_eq!(older["page"]["events"].as_array().unwrap().len(), 1);
    assert!(state.calls.as_ref().is_some_and(Vec::is_empty));
    let offline = state.presences[&bert.id];
    assert_eq!(offline, api::PresenceStatus::Offline);
    let groups = world.call(&bert, "RoomDirectoryService/ListRoomGroups", &json!({}));
    let group_names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    let sent: Vec<&str> = state.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(sent, group_names);
}

pub(super) fn a_retained_room_is_loaded_with_its_rows(world: &World) {
    let bert = world.person("bert-holds");
    let room = world.room("hold", &[&bert]);
    for n in 0..60 {
        world.post(&bert, &room, &format!("message {n}"));
    }
    let mut follower = world.follow(&bert, &[]);
    assert!(follower.state.timelines.is_empty());
    assert!(follower.state.rooms[&room].members.is_empty(), "not held yet");
    follower.hold(&room).unwrap();
    let bodies = follower.state.bodies(&room);
    assert_eq!(bodies.len(), 50);
    assert_eq!((bodies[0], bodies[49]), ("message 10", "message 59"));
    assert!(follower.state.timelines[&room].has_older);
    assert!(follower.state.rooms[&room].members.contains(&bert.id));
    // Requested right after `subscribed`, its response comes after `caught_up`.
    world.post(&bert, &room, "message 60");
    follower.until("the row arrives", |bert| bert.state.shows(&room, "message 60"));
    assert_eq!(follower.state.bodies(&room).len(), 51, "the window grows at its end");
}

pub(super) fn unavailable_rooms_get_an_error(world: &World) {
    let bert = world.person("bert-hydrates");
    let room = world.room("foreign", &[]);
    let mut follower = world.follow(&bert, &[]);
    for unknown in [room.as_str(), "Rnobodyhasever", "", "foreign"] {
        assert_eq!(follower.hold(unknown), Err("room_unavailable".to_owned()), "{unknown}");
    }
    // It is retained nevertheless: the client does not request it again.
    world.join(&bert, &room);
    follower.until("rows come by themselves", |bert| bert.state.timelines.contains_key(&room));
    assert!(follower.state.rooms[&room].members.contains(&bert.id));
    let mut full = Follower::new(bert.bearer());
    let many: Vec<String> = (0..64).map(|n| format!("R{n}")).collect();
    full.retain(many.iter().map(String::as_str));
    full.connect(world.endpoint());
    assert_eq!(full.hold(&room), Err("too_many_retained_rooms".to_owned()));
    full.sync();
    assert!(full.is_connected(), "no reason to close");
    assert_eq!(full.held().len(), 64);
}

pub(super) fn hydrating_too_fast_gets_a_delay(world: &World) {
    let bert = world.person("bert-hurries");
    let room = world.room("hurry", &[&bert]);
    let mut follower = world.follow(&bert, &[]);
    let mut errors = Vec::new();
    for n in 0..30 {
        errors.push(follower.hold(&format!("R{n}")).unwrap_err());
    }
    let late = errors.iter().filter(|code| *code == "room_hydration_rate_limited").count();
    assert!(errors[..20].iter().all(|code| code == "room_unavailable"), "{errors:?}");
    assert!(late >= 1, "{errors:?}");
    assert_eq!(follower.held().len(), 30 - late, "what was turned down is not held");
    until("it is let in later", PATIENCE, || follower.hold(&room).ok());
    assert!(follower.state.timelines.contains_key(&room));
}
