//! Calls that a kill cuts off at any await: repeating them ends well, and nothing is made twice.

use chatto::service::{JoinFields, PagePosition, PageRequest, RoomScope, RowViewKind};
use chatto::storage::Claim;

use super::{CutAt, NatsServer, World, redeem, run, settings};

/// More awaits than any of these calls has.
const AWAITS_MAX: u32 = 400;

#[test]
fn the_first_start_may_be_killed_anywhere() {
    let server = NatsServer::start();
    run(async |runtime| {
        for left in 0..AWAITS_MAX {
            // A new process each time: nothing in memory survives.
            let world = World::open(&server, &runtime, settings()).await;
            let done = CutAt::new(world.service.prepare(), left).await.is_some();
            world.close().await;
            if done {
                break;
            }
        }
        let world = World::start(&server, &runtime).await;
        let ada = world.person("ada", Some("owner")).await;
        let rooms = world.service.directory().list_rooms(&ada, RoomScope::All).await.unwrap();
        assert_eq!(rooms.len(), 2);
        for room in rooms {
            let id = room.room.id.to_string();
            world.service.rooms().join(&ada, &id).await.unwrap();
            let page =
                world.service.timeline().page(&ada, &id, PagePosition::Newest, 0).await.unwrap();
            let created =
                page.rows.iter().filter(|row| row.kind == RowViewKind::RoomCreated).count();
            assert_eq!(created, 1, "{}", room.room.name);
        }
        world.close().await;
    });
}

#[test]
fn a_link_survives_a_kill_and_makes_one_account() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        for (n, is_setup) in [(0, true), (1, false), (2, false)] {
            let link = if is_setup {
                world.service.links().setup_link().await.unwrap()
            } else {
                world.service.links().operator_join_link(JoinFields::default()).await.unwrap()
            };
            let login = format!("person-{n}");
            // Cut ever later; a link that made its account returns the same account again or is used up.
            let mut returned = false;
            for left in 0..AWAITS_MAX {
                let call = world.service.sign_up().redeem(redeem(&link.path, &login));
                if let Some(result) = CutAt::new(call, left).await {
                    returned = true;
                    assert!(result.is_ok() || left > 0, "{result:?}");
                    break;
                }
            }
            assert!(returned);
            world.log_in(&login, super::PASSWORD).await.unwrap();
        }
        let accounts = world.service.accounts().list("", PageRequest::default()).await;
        assert_eq!(accounts.total, 3);
        world.close().await;
    });
}

#[test]
fn joins_that_are_cut_off_are_announced_exactly_once() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let watcher = world.person("watcher", Some("owner")).await;
        let general = world.room(&watcher, "general").await;
        service.rooms().join(&watcher, &general).await.unwrap();
        let mut people = Vec::new();
        for left in 0..24 {
            let person = world.person(&format!("person-{left}"), None).await;
            CutAt::new(service.rooms().join(&person, &general), left).await;
            people.push(person);
        }
        world.clock.advance(std::time::Duration::from_secs(31));
        service.sweeper().sweep().await.unwrap();
        let page =
            service.timeline().page(&watcher, &general, PagePosition::Newest, 100).await.unwrap();
        for person in people {
            let rows = page.rows.iter().filter(|row| row.actor == Some(person.user)).count();
            let member = service.directory().room(&person, &general).await.unwrap().state.is_member;
            assert_eq!(rows, usize::from(member), "one row for each member, none for others");
        }
        world.close().await;
    });
}

#[test]
fn names_of_rooms_that_were_never_made_come_back() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let boss = world.person("boss", Some("owner")).await;
        let new = chatto::service::NewRoom {
            name: "plans",
            description: "",
            group: "",
            universal: false,
        };
        let mut left = 0;
        while CutAt::new(service.rooms().create(&boss, new), left).await.is_none() {
            left += 1;
            // What was on its way when the call was cut arrives within a moment, not after ten minutes: a
            // later write of the same stream has it behind itself.
            let after = Claim::RoomName("after the cut");
            world.storage.state().claim(after, boss.user).await.unwrap();
            world.storage.state().release(after, boss.user).await.unwrap();
            world
                .storage
                .feed()
                .wait_until_delivered(std::time::Duration::from_secs(10))
                .await
                .unwrap();
            service.sweeper().sweep().await.unwrap();
            world.clock.advance_monotonic(std::time::Duration::from_secs(601));
            service.sweeper().sweep().await.unwrap();
        }
        let rooms = service.directory().list_rooms(&boss, RoomScope::All).await.unwrap();
        let made = rooms.iter().filter(|room| room.room.name == "plans").count();
        assert_eq!(made, 1);
        world.close().await;
    });
}
