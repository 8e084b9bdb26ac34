//! Reconnecting with a cursor (contract 8.7). A reset where a replay is possible fails the test.

use serde_json::json;

use super::live::{be, is};
use super::world::World;
use crate::support::realtime::{CatchUp, Follower, api};

pub(super) fn a_dropped_connection_resumes_by_replay(world: &World) {
    let bert = world.person("bert-cuts");
    let room = world.room("cut", &[&bert, world.owner()]);
    let mut follower = world.follow(&bert, &[&room]);
    for round in 0..4 {
        let before = format!("before {round}");
        world.post(world.owner(), &room, &before);
        follower.until("the post", |bert| bert.state.shows(&room, &before));
        follower.cut();
        for n in 0..round {
            world.post(world.owner(), &room, &format!("missed {round}.{n}"));
        }
        assert_eq!(follower.connect(world.endpoint()), CatchUp::Replay, "round {round}");
        let after = format!("after {round}");
        world.post(world.owner(), &room, &after);
        follower.until("live again", |bert| bert.state.shows(&room, &after));
    }
    let expected: Vec<String> = (0..4)
        .flat_map(|round| {
            let missed = (0..round).map(move |n| format!("missed {round}.{n}"));
            std::iter::once(format!("before {round}"))
                .chain(missed)
                .chain(std::iter::once(format!("after {round}")))
        })
        .collect();
    assert_eq!(follower.state.bodies(&room), expected, "each once, in order");
}

pub(super) fn a_replay_shows_what_a_fresh_load_shows(world: &World) {
    let (bert, carla) = (world.person("bert-compares"), world.person("carla-compares"));
    let here = world.room("compare-held", &[&bert, &carla, world.owner()]);
    let aside = world.room("compare-aside", &[&bert, world.owner()]);
    let later = world.room("compare-later", &[world.owner()]);
    let gone = world.room("compare-gone", &[&bert]);
    let mut follower = world.follow(&bert, &[&here, &later, &gone]);
    follower.cut();
    world.post(world.owner(), &here, "one");
    world.post(&bert, &here, "two, from another device");
    world.post(&carla, &here, "three");
    world.post(world.owner(), &aside, "aside");
    world.leave(&carla, &here);
    world.join(&bert, &later);
    world.leave(&bert, &gone);
    world.post(world.owner(), &later, "to the newcomer");
    let dora = world.person("dora-compares");
    world.join(&dora, &here);
    world.room("compare-new", &[]);
    world.call(&bert, "RoomService/MarkRoomAsRead", &json!({"roomId": aside}));
    be(world, &carla, "PRESENCE_STATUS_AWAY");
    assert_eq!(follower.connect(world.endpoint()), CatchUp::Replay);
    assert!(is(&follower, &carla, api::PresenceStatus::Away));
    let fresh = world.follow(&bert, &[&here, &later, &gone]);
    let (resumed, fresh) = (follower.state.comparable(10), fresh.state.comparable(10));
    assert_eq!(resumed.rooms, fresh.rooms);
    assert_eq!(resumed.timelines, fresh.timelines);
    assert_eq!(resumed.users, fresh.users);
    assert_eq!(resumed.presences, fresh.presences);
    assert_eq!(resumed.groups, fresh.groups);
    assert_eq!(resumed, fresh, "and everything else");
    // Nothing happened: nothing but the reconciliation comes.
    follower.sync();
    follower.cut();
    assert_eq!(follower.connect(world.endpoint()), CatchUp::Replay);
    assert_eq!(follower.loading().len(), 1, "{:?}", follower.loading());
}

/// The client takes the first row of a room it has no rows of for the whole room.
pub(super) fn a_room_joined_while_disconnected_is_sent_whole(world: &World) {
    let bert = world.person("bert-joins-away");
    let room = world.room("joined-away", &[world.owner()]);
    world.post(world.owner(), &room, "long before");
    let mut follower = world.follow(&bert, &[&room]);
    follower.cut();
    world.post(world.owner(), &room, "before");
    world.join(&bert, &room);
    world.post(world.owner(), &room, "after");
    assert_eq!(follower.connect(world.endpoint()), CatchUp::Replay);
    assert_eq!(follower.state.bodies(&room), ["long before", "before", "after"]);
    follower.cut();
    world.leave(&bert, &room);
    world.post(world.owner(), &room, "without");
    world.join(&bert, &room);
    assert_eq!(follower.connect(world.endpoint()), CatchUp::Replay);
    assert_eq!(follower.state.bodies(&room), ["long before", "before", "after", "without"]);
}

pub(super) fn an_invalid_cursor_causes_a_reset(world: &World) {
    let bert = world.person("bert-resumes");
    let room = world.room("resume", &[&bert, world.owner()]);
    world.post(world.owner(), &room, "there");
    let good = world.follow(&bert, &[]).cursor.unwrap();
    let foreign = world.follow(world.owner(), &[]).cursor.unwrap();
    let mut flipped = good.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let half = good[..good.len() / 2].to_owned();
    let (long, nul) = ("x".repeat(20_000), "\0".to_owned());
    let bad = [String::new(), "x".to_owned(), half, flipped, foreign, long, nul];
    for cursor in bad {
        let mut follower = Follower::new(bert.bearer());
        follower.retain([room.as_str()]);
        follower.cursor = Some(cursor.clone());
        assert_eq!(follower.connect(world.endpoint()), CatchUp::Reset, "{cursor}");
        assert_eq!(follower.state.bodies(&room), ["there"]);
    }
    // The same cursor, unchanged, on a client that has everything before it.
    let mut follower = world.follow(&bert, &[&room]);
    follower.cursor = Some(good);
    follower.cut();
    assert_eq!(follower.connect(world.endpoint()), CatchUp::Replay);
}
