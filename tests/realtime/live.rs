//! Each change reaches the viewers it concerns, and nobody else (contract, behaviour 3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::world::{Person, World};
use crate::support::realtime::{Follower, api};

pub(super) fn a_post_reaches_members_and_nobody_else(world: &World) {
    let (bert, carla) = (world.person("bert-posts"), world.person("carla-posts"));
    let room = world.room("post", &[&bert, world.owner()]);
    let mut writer = world.follow(world.owner(), &[&room]);
    let mut reader = world.follow(&bert, &[&room]);
    let mut elsewhere = world.follow(&bert, &[]);
    let mut stranger = world.follow(&carla, &[&room]);
    let id = world.post(world.owner(), &room, "to the members");
    for follower in [&mut writer, &mut reader] {
        follower.until("the post", |follower| follower.state.shows(&room, "to the members"));
        let (event, operations) = follower.live.last().unwrap();
        assert_eq!(*event, id);
        let order = ["room_viewer_state_replace", "room_activity", "room_timeline_event_upsert"];
        assert_eq!(operations[..], order);
    }
    assert!(!writer.state.has_unread(&room), "own posts are read");
    assert!(reader.state.has_unread(&room));
    elsewhere.until("the room is unread", |follower| follower.state.has_unread(&room));
    let (_, operations) = elsewhere.live.last().unwrap();
    assert_eq!(operations[..], ["room_viewer_state_replace", "room_activity"], "no rows: not held");
    // What comes later must not have been overtaken by what the stranger may not see.
    be(world, &bert, "PRESENCE_STATUS_ONLINE");
    stranger.until("something later", |stranger| is(stranger, &bert, api::PresenceStatus::Online));
    assert!(stranger.live.is_empty(), "{:?}", stranger.live);
    assert!(!stranger.state.has_unread(&room));
}

pub(super) fn reading_clears_every_session(world: &World) {
    let bert = world.person("bert-reads");
    let room = world.room("read", &[&bert, world.owner()]);
    let mut first = world.follow(&bert, &[&room]);
    let mut second = world.follow(&bert, &[]);
    world.post(world.owner(), &room, "to be read");
    for follower in [&mut first, &mut second] {
        follower.until("unread", |bert| bert.state.has_unread(&room));
    }
    world.call(&bert, "RoomService/MarkRoomAsRead", &json!({"roomId": room}));
    for follower in [&mut first, &mut second] {
        follower.until("read", |bert| !bert.state.has_unread(&room));
        let (_, operations) = follower.live.last().unwrap();
        assert_eq!(
            operations[..],
            ["room_viewer_state_replace", "notification_occurrences_replace", "viewer_upsert"]
        );
    }
    // Posting reads what was there.
    world.post(world.owner(), &room, "another");
    first.until("unread again", |bert| bert.state.has_unread(&room));
    world.post(&bert, &room, "a reply");
    first.until("the reply", |bert| bert.state.shows(&room, "a reply"));
    assert!(!first.state.has_unread(&room));
}

pub(super) fn typing_is_shown_to_other_members(world: &World) {
    let (bert, carla) = (world.person("bert-types"), world.person("carla-types"));
    let room = world.room("type", &[&bert, world.owner()]);
    let mut typist = world.follow(&bert, &[&room]);
    let mut member = world.follow(world.owner(), &[]);
    let mut stranger = world.follow(&carla, &[]);
    world.call(&bert, "RoomService/UpdateTypingIndicator", &json!({"roomId": room}));
    member.until("the sign", |member| !member.typing.is_empty());
    assert_eq!(member.typing.len(), 1);
    assert_eq!((&member.typing[0].room, &member.typing[0].by), (&room, &bert.id));
    be(world, &bert, "PRESENCE_STATUS_ONLINE");
    for follower in [&mut typist, &mut stranger] {
        follower.until("something later", |one| is(one, &bert, api::PresenceStatus::Online));
        assert!(follower.typing.is_empty());
    }
}

pub(super) fn presence_is_shown_to_everybody(world: &World) {
    let bert = world.person("bert-is-there");
    let mut ada = world.follow(world.owner(), &[]);
    assert!(is(&ada, &bert, api::PresenceStatus::Offline));
    for (word, status) in [
        ("PRESENCE_STATUS_ONLINE", api::PresenceStatus::Online),
        ("PRESENCE_STATUS_AWAY", api::PresenceStatus::Away),
        ("PRESENCE_STATUS_DO_NOT_DISTURB", api::PresenceStatus::DoNotDisturb),
    ] {
        be(world, &bert, word);
        ada.until(word, |ada| is(ada, &bert, status));
    }
    let late = world.follow(world.owner(), &[]);
    assert!(is(&late, &bert, api::PresenceStatus::DoNotDisturb), "whoever comes later sees it too");
    // Another device reports automatically that the user is there. The status chosen by hand stays.
    let other = world.log_in(&bert.login);
    let automatic = json!({"status": "PRESENCE_STATUS_ONLINE", "userSelected": false});
    let holds = world.call(&other, "MyAccountService/UpdatePresence", &automatic);
    assert_eq!(holds["status"], "PRESENCE_STATUS_DO_NOT_DISTURB");
    be(world, &other, "PRESENCE_STATUS_ONLINE");
    ada.until("cleared by hand", |ada| is(ada, &bert, api::PresenceStatus::Online));
}

/// Waits for the product's own minute.
#[test]
fn a_user_who_sends_nothing_for_a_minute_is_offline() {
    let world = World::one();
    let (bert, carla) = (world.person("bert-fades"), world.person("carla-stays"));
    let mut ada = world.follow(world.owner(), &[]);
    be(&world, &bert, "PRESENCE_STATUS_ONLINE");
    be(&world, &carla, "PRESENCE_STATUS_ONLINE");
    ada.until("both", |ada| {
        [&bert, &carla].iter().all(|who| is(ada, who, api::PresenceStatus::Online))
    });
    // Between the heartbeats that come meanwhile.
    ada.until("a heartbeat", |ada| ada.heartbeats >= 1);
    ada.until("another", |ada| ada.heartbeats >= 2);
    be(&world, &carla, "PRESENCE_STATUS_ONLINE");
    ada.until("two more", |ada| ada.heartbeats >= 3);
    ada.until("two more", |ada| ada.heartbeats >= 4);
    ada.until("the end of the minute", |ada| is(ada, &bert, api::PresenceStatus::Offline));
    assert!(is(&ada, &carla, api::PresenceStatus::Online), "the presence that was received stays");
}

pub(super) fn joining_and_leaving_is_seen_from_both_sides(world: &World) {
    let bert = world.person("bert-joins");
    let room = world.room("join", &[world.owner()]);
    world.post(world.owner(), &room, "before");
    let mut member = world.follow(world.owner(), &[&room]);
    let mut joiner = world.follow(&bert, &[&room]);
    assert!(!joiner.state.timelines.contains_key(&room));
    for round in 1..=2 {
        world.join(&bert, &room);
        joiner.until("in", |bert| bert.state.timelines.contains_key(&room));
        assert!(joiner.state.is_member(&room) && joiner.state.shows(&room, "before"));
        member.until("a member more", |ada| ada.state.rooms[&room].members.contains(&bert.id));
        let row = ("user_joined_room", bert.login.clone());
        for follower in [&mut member, &mut joiner] {
            // The list of members changes before the row arrives, and in round 2 an equal row is there already.
            follower.until("the row", |one| one.state.rows(&room).last() == Some(&row));
            assert_eq!(follower.state.rooms[&room].members.len(), 2);
        }
        world.leave(&bert, &room);
        joiner.until("out", |bert| !bert.state.timelines.contains_key(&room));
        assert!(!joiner.state.is_member(&room));
        member.until("a member less", |ada| !ada.state.rooms[&room].members.contains(&bert.id));
        let left = ("user_left_room", bert.login.clone());
        member.until("the row", |ada| ada.state.rows(&room).last() == Some(&left));
        let body = format!("while bert is out, {round}");
        world.post(world.owner(), &room, &body);
        member.until("the post", |ada| ada.state.shows(&room, &body));
    }
    be(world, &bert, "PRESENCE_STATUS_ONLINE");
    joiner.until("something later", |bert_sees| is(bert_sees, &bert, api::PresenceStatus::Online));
    assert!(!joiner.state.timelines.contains_key(&room), "rows are for members");
    assert!(!joiner.state.has_unread(&room));
}

pub(super) fn new_rooms_and_new_people_appear(world: &World) {
    let mut ada = world.follow(world.owner(), &[]);
    let announcements = ada.state.room_named("announcements").unwrap().to_owned();
    ada.hold(&announcements).unwrap();
    let bert = world.person("bert-is-new");
    ada.until("the new person", |ada| ada.state.users.contains_key(&bert.id));
    assert!(
        is(&ada, &bert, api::PresenceStatus::Offline)
            || !ada.state.presences.contains_key(&bert.id)
    );
    ada.until("in the rooms of everybody", |ada| {
        ada.state.rooms[&announcements].members.contains(&bert.id)
    });
    let room = world.room("appears", &[]);
    ada.until("the new room", |ada| ada.state.rooms.contains_key(&room));
    let listed = |ada: &Follower| {
        let mut items = ada.state.groups.iter().flat_map(|group| &group.items);
        items.any(|item| match &item.item {
            Some(api::room_group_item::Item::Room(of)) => {
                of.room.as_ref().is_some_and(|of| of.id == room)
            }
            _ => false,
        })
    };
    ada.until("in its group", listed);
    ada.sync();
    let lists = |(_, names): &&(String, Vec<&str>)| names.contains(&"room_groups_replace");
    let sent: Vec<_> = ada.live.iter().filter(lists).collect();
    assert_eq!(sent.len(), 1, "one change, one event: {sent:?}");
    assert!(!ada.state.is_member(&room), "who makes a room is no member yet");
}

pub(super) fn images_of_people_and_of_the_server_are_shown_to_everybody(world: &World) {
    let bert = world.person("bert-is-seen");
    let mut others = [world.follow(world.owner(), &[]), world.follow(&bert, &[])];
    let mut file = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut file, 75);
    encoder.encode(&[99; 64], 8, 8, jpeg_encoder::ColorType::Luma).unwrap();
    let image = json!({"image": {"image": STANDARD.encode(&file)}});
    // Each of the processes has an origin of its own.
    let key = |url: &str| url.split_once("/assets/server/").unwrap().1.to_owned();
    let mut seen = |what: &str, key_of: &dyn Fn(&Follower) -> Option<String>, expected, sent| {
        for follower in &mut others {
            follower.until(what, |one| key_of(one).map(|url| key(&url)) == expected);
            let (_, operations) = follower.live.last().unwrap();
            assert!(operations.contains(&sent), "{what}: {operations:?}");
        }
    };
    let avatar = |one: &Follower| one.state.users[&bert.id].user.as_ref()?.avatar_url.clone();
    let uploaded = world.call(&bert, "MyAccountService/UploadAvatar", &image);
    let expected = Some(key(uploaded["user"]["avatarUrl"].as_str().unwrap()));
    seen("the avatar", &avatar, expected, "user_upsert");
    world.call(&bert, "MyAccountService/DeleteAvatar", &json!({}));
    seen("no avatar", &avatar, None, "user_upsert");

    let logo = |one: &Follower| one.state.server.as_ref()?.logo_url.clone();
    let banner = |one: &Follower| one.state.server.as_ref()?.banner_url.clone();
    type UrlOf<'a> = &'a dyn Fn(&Follower) -> Option<String>;
    let images: [(&str, &str, UrlOf<'_>); 2] =
        [("Logo", "logoUrl", &logo), ("Banner", "bannerUrl", &banner)];
    for (which, field, url_of) in images {
        let method = format!("AdminServerService/UploadServer{which}");
        let uploaded = world.call(world.owner(), &method, &image);
        let expected = Some(key(uploaded["publicProfile"][field].as_str().unwrap()));
        seen(which, url_of, expected, "server_upsert");
        let method = format!("AdminServerService/DeleteServer{which}");
        world.call(world.owner(), &method, &json!({}));
        seen("none of it", url_of, None, "server_upsert");
    }
}

pub(super) fn be(world: &World, who: &Person, status: &str) {
    let body = json!({"status": status, "userSelected": true});
    world.call(who, "MyAccountService/UpdatePresence", &body);
}

pub(super) fn is(follower: &Follower, who: &Person, status: api::PresenceStatus) -> bool {
    follower.state.presences.get(&who.id) == Some(&status)
}
