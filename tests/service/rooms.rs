//! Rooms: defaults, directory, groups, making, joining, leaving, members, visibility.

use std::collections::HashMap;

use chatto::domain::permission::{Decision, DecisionScope, Permission, Ruling};
use chatto::domain::{Membership, Role, Room};
use chatto::service::{
    NewRoom, PagePosition, PageRequest, ReadError, RoomError, RoomScope, RowViewKind, Session,
};
use chatto::storage::RecordChange;

use super::{NatsServer, World, run, settings};

fn names(rooms: &[chatto::service::RoomWithState]) -> Vec<&str> {
    rooms.iter().map(|room| room.room.name.as_str()).collect()
}

async fn deny(world: &World, permission: &str, room: &str) {
    let decision = Decision {
        permission: Permission::from_name(permission).unwrap(),
        scope: DecisionScope::Room(room.parse().unwrap()),
        ruling: Ruling::Deny,
    };
    let denied = |role: Option<&Role>| -> Result<_, std::convert::Infallible> {
        let mut role = role.unwrap().clone();
        role.decisions.push(decision);
        Ok(RecordChange::Put(role))
    };
    world.storage.state().change::<Role, _>("everyone", denied).await.unwrap();
}

async fn archive(world: &World, room: &str) {
    let archived = |room: Option<&Room>| -> Result<_, std::convert::Infallible> {
        Ok(RecordChange::Put(Room { archived: true, ..room.unwrap().clone() }))
    };
    world.storage.state().change::<Room, _>(&room.try_into().unwrap(), archived).await.unwrap();
}

async fn create(world: &World, session: &Session, name: &str) -> Result<String, RoomError> {
    let groups = world.service.directory().list_groups(session).await.unwrap();
    let group = groups[0].id;
    let new = NewRoom { name, description: "", group: group.as_str(), universal: false };
    Ok(world.service.rooms().create(session, new).await?.id.to_string())
}

fn granted<'a>(grants: &'a [(&'static str, bool)]) -> Vec<&'a str> {
    grants.iter().filter(|(_, granted)| *granted).map(|(name, _)| *name).collect()
}

#[test]
fn groups_take_the_states_that_are_known_and_look_at_other_rooms() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let ada = world.person("ada", Some("owner")).await;
        let hidden = create(&world, &ada, "hidden").await.unwrap();
        let groups = service.directory().list_groups(&ada).await.unwrap();
        let mut known: HashMap<_, _> =
            groups[0].rooms.iter().map(|room| (room.room.id, room.clone())).collect();
        assert_eq!(
            service.directory().list_groups_from(&ada, known.clone()).await.unwrap(),
            groups
        );

        // Different from what is stored, so that the test can tell which one was used.
        known.values_mut().for_each(|room| room.state.has_unread = true);
        let unknown = groups[0].rooms[0].room.id;
        known.remove(&unknown);
        archive(&world, &hidden).await;
        let listed = service.directory().list_groups_from(&ada, known).await.unwrap();
        let unread: Vec<_> = listed[0].rooms.iter().map(|room| room.state.has_unread).collect();
        assert_eq!(names(&listed[0].rooms), ["announcements", "general"]);
        assert_eq!(unread, [false, true]);
        world.close().await;
    });
}

#[test]
fn a_new_server_has_two_rooms_in_the_lobby() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let ada = world.person("ada", None).await;
        let groups = service.directory().list_groups(&ada).await.unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].name, "Lobby");
        assert_eq!(names(&groups[0].rooms), ["announcements", "general"]);
        let [announcements, general] = &groups[0].rooms[..] else { panic!() };
        assert_eq!(announcements.room.description, "Announcements and news");
        assert!(announcements.room.universal && announcements.state.is_member);
        assert_eq!(granted(&announcements.state.permissions), ["room.list", "message.attach"]);
        assert!(!general.room.universal && !general.state.is_member);
        assert_eq!(granted(&general.state.permissions), ["room.list", "room.join"]);
        assert_eq!(general.state.permissions.len(), 10);
        assert!(!announcements.state.has_unread && !general.state.has_unread);

        let roles: Vec<String> =
            service.roles().list(&ada).into_iter().map(|role| role.name).collect();
        assert_eq!(roles, ["everyone", "moderator", "admin", "owner"]);
        assert_eq!(service.roles().get(&ada, "moderator").unwrap().position, 100);
        assert!(matches!(service.roles().get(&ada, "x"), Err(ReadError::NotFound { .. })));
        let wanted = ["x", "owner", "everyone", "owner"].map(str::to_owned);
        assert_eq!(service.roles().batch(&ada, &wanted).len(), 2);

        let admin = world.person("boss2", Some("admin")).await;
        let there = service.directory().room(&admin, announcements.room.id.as_str()).await.unwrap();
        assert_eq!(
            granted(&there.state.permissions),
            ["room.list", "message.post", "message.attach"]
        );
        assert_eq!(service.server().profile().name, "Chatto");
        world.close().await;
    });
}

#[test]
fn what_was_cleared_is_not_written_again() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let cleared = |role: Option<&Role>| -> Result<_, std::convert::Infallible> {
            Ok(RecordChange::Put(Role { decisions: Vec::new(), ..role.unwrap().clone() }))
        };
        world.storage.state().change::<Role, _>("everyone", cleared).await.unwrap();
        world.close().await;
        let world = World::start(&server, &runtime).await;
        assert!(world.storage.state().read(|tables| tables.roles["everyone"].decisions.is_empty()));
        assert_eq!(world.storage.state().read(|tables| tables.rooms.len()), 2);
        world.close().await;
    });
}

#[test]
fn joining_and_leaving_make_one_row_each() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let (ada, bob) = (world.person("ada", None).await, world.person("bob", None).await);
        let general = world.room(&ada, "general").await;
        let read = service.timeline().page(&ada, &general, PagePosition::Newest, 0).await;
        assert!(matches!(read, Err(ReadError::Denied)), "not a member");
        for session in [&ada, &ada, &bob] {
            assert_eq!(service.rooms().join(session, &general).await.unwrap().name, "general");
        }
        let page = service.timeline().page(&ada, &general, PagePosition::Newest, 0).await.unwrap();
        let rows: Vec<_> = page.rows.iter().map(|row| (&row.kind, row.actor)).collect();
        assert_eq!(
            rows,
            [
                (&RowViewKind::RoomCreated, None),
                (&RowViewKind::Joined, Some(ada.user)),
                (&RowViewKind::Joined, Some(bob.user)),
            ]
        );
        let listed = service.members().list(&ada, &general, "", PageRequest::default()).unwrap();
        let logins: Vec<_> = listed.items.iter().map(|one| one.user.login.as_str()).collect();
        assert_eq!(logins, ["ada", "bob"]);
        let found = service.members().list(&ada, &general, "BO", PageRequest::default()).unwrap();
        assert_eq!(found.total, 1);

        assert!(service.rooms().leave(&bob, &general).await.unwrap());
        assert!(!service.rooms().leave(&bob, &general).await.unwrap(), "a second time is no fault");
        let read = service.timeline().page(&bob, &general, PagePosition::Newest, 0).await;
        assert!(matches!(read, Err(ReadError::Denied)));
        service.rooms().join(&bob, &general).await.unwrap();
        let page = service.timeline().page(&ada, &general, PagePosition::Newest, 0).await.unwrap();
        let last: Vec<_> = page.rows.iter().skip(3).map(|row| &row.kind).collect();
        assert_eq!(last, [&RowViewKind::Left, &RowViewKind::Joined]);
        let times: Vec<i64> = page.rows.iter().map(|row| row.created_ms).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        world.close().await;
    });
}

#[test]
fn universal_rooms_have_everybody_without_rows() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let ada = world.person("ada", None).await;
        let id = world.room(&ada, "announcements").await;
        service.rooms().join(&ada, &id).await.unwrap();
        let error = service.rooms().leave(&ada, &id).await.unwrap_err();
        assert!(matches!(error, RoomError::Universal));
        let page = service.timeline().page(&ada, &id, PagePosition::Newest, 0).await.unwrap();
        assert_eq!(page.rows.len(), 1);
        let members = service.members().list(&ada, &id, "", PageRequest::default()).unwrap();
        assert_eq!(members.total, 1);
        // Whoever may not join is no member by rule either.
        deny(&world, "room.join", &id).await;
        let read = service.timeline().page(&ada, &id, PagePosition::Newest, 0).await;
        assert!(matches!(read, Err(ReadError::Denied)));
        world.close().await;
    });
}

#[test]
fn rooms_are_made_by_those_who_may() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let ada = world.person("ada", None).await;
        let admin = world.person("boss2", Some("admin")).await;
        let error = create(&world, &ada, "mine").await.unwrap_err();
        assert!(matches!(error, RoomError::Denied));
        let id = create(&world, &admin, " Straße ").await.unwrap();
        for taken in ["straße", "STRASSE", "General", "announcements"] {
            let error = create(&world, &admin, taken).await.unwrap_err();
            assert!(matches!(error, RoomError::NameTaken), "{taken}");
            assert_eq!(error.to_string(), "a room with this name already exists");
        }
        let error = create(&world, &admin, &"x".repeat(31)).await.unwrap_err();
        assert_eq!(error.to_string(), "room name must be 30 characters or less");
        let long = "x".repeat(501);
        let described = NewRoom { name: "a", description: &long, group: "", universal: false };
        let error = service.rooms().create(&admin, described).await.unwrap_err();
        assert_eq!(error.to_string(), "room description must be 500 characters or less");
        let nowhere = NewRoom { group: "G00000000000000", description: "", ..described };
        let error = service.rooms().create(&admin, nowhere).await.unwrap_err();
        assert!(matches!(error, RoomError::GroupNotFound));

        let listed = service.directory().list_rooms(&ada, RoomScope::Channels).await.unwrap();
        assert_eq!(names(&listed), ["announcements", "general", "Straße"]);
        assert!(service.directory().list_rooms(&ada, RoomScope::Direct).await.unwrap().is_empty());
        let made = service.directory().room(&admin, &id).await.unwrap();
        assert!(!made.state.is_member, "the creator joins like everybody");
        service.rooms().join(&admin, &id).await.unwrap();
        let page = service.timeline().page(&admin, &id, PagePosition::Newest, 0).await.unwrap();
        assert_eq!(page.rows[0].kind, RowViewKind::RoomCreated);
        assert_eq!(page.rows[0].actor, Some(admin.user));
        assert_eq!(page.users.len(), 1);
        world.close().await;
    });
}

#[test]
fn hidden_and_archived_rooms() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let ada = world.person("ada", None).await;
        let bob = world.person("bob", None).await;
        let general = world.room(&ada, "general").await;
        service.rooms().join(&ada, &general).await.unwrap();
        for permission in ["room.list", "room.join"] {
            deny(&world, permission, &general).await;
        }
        let seen = service.directory().list_rooms(&bob, RoomScope::All).await.unwrap();
        assert_eq!(names(&seen), ["announcements"]);
        let hidden = service.directory().room(&bob, &general).await;
        assert!(matches!(hidden, Err(ReadError::Denied)), "it exists");
        let unknown = service.directory().room(&bob, "R00000000000000").await;
        assert!(matches!(unknown, Err(ReadError::NotFound { .. })));
        let members = service.members().list(&bob, &general, "", PageRequest::default());
        assert!(matches!(members, Err(ReadError::Denied)));
        assert!(matches!(service.rooms().join(&bob, &general).await, Err(RoomError::Denied)));
        let ids = [general.clone(), "x".to_owned()];
        assert!(service.directory().batch_rooms(&bob, &ids).await.unwrap().is_empty());
        let mine = service.directory().list_rooms(&ada, RoomScope::All).await.unwrap();
        assert_eq!(names(&mine), ["announcements", "general"], "members see it");
        assert_eq!(service.directory().batch_rooms(&ada, &ids).await.unwrap().len(), 1);

        let admin = world.person("boss2", Some("admin")).await;
        let other = create(&world, &admin, "old").await.unwrap();
        service.rooms().join(&ada, &other).await.unwrap();
        archive(&world, &other).await;
        let mine = service.directory().list_rooms(&ada, RoomScope::All).await.unwrap();
        assert_eq!(names(&mine), ["announcements", "general"], "archived rooms are in no list");
        assert!(service.directory().room(&ada, &other).await.unwrap().room.archived);
        service.timeline().page(&ada, &other, PagePosition::Newest, 0).await.unwrap();
        let error = service.rooms().join(&bob, &other).await.unwrap_err();
        assert!(matches!(error, RoomError::Archived));
        world.close().await;
    });
}

#[test]
fn the_directory_of_users() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let ada = world.person("Ada", Some("moderator")).await;
        for login in ["bob", "carol"] {
            world.person(login, None).await;
        }
        let page = service.users().list(&ada, "", PageRequest { limit: 2, offset: 0 });
        assert_eq!((page.items.len(), page.total, page.has_more), (2, 3, true));
        assert_eq!(page.items[0].roles, ["everyone", "moderator"]);
        assert_eq!(service.users().list(&ada, "ARO", PageRequest::default()).total, 1);
        assert_eq!(service.users().by_login(&ada, "aDA").unwrap().user.id, ada.user);
        for missing in ["", "U00000000000000", "nobody"] {
            assert!(matches!(service.users().get(&ada, missing), Err(ReadError::NotFound { .. })));
        }
        let me = ada.user.to_string();
        assert_eq!(service.users().batch(&ada, &[me.clone(), "x".to_owned(), me]).len(), 1);
        world.close().await;
    });
}

#[test]
fn a_join_that_was_not_announced_is_announced_once_by_the_sweep() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let ada = world.person("ada", None).await;
        let general = world.room(&ada, "general").await;
        service.rooms().join(&ada, &general).await.unwrap();
        // As a kill between the row and the note that it is stored leaves it.
        let room = general.as_str().try_into().unwrap();
        let unannounced = |member: Option<&Membership>| {
            let mut member = member.unwrap().clone();
            member.announced = false;
            Ok::<_, std::convert::Infallible>(RecordChange::Put(member))
        };
        world
            .storage
            .state()
            .change::<Membership, _>(&(room, ada.user), unannounced)
            .await
            .unwrap();
        service.sweeper().sweep().await.unwrap();
        let rows = async || {
            service
                .timeline()
                .page(&ada, &general, PagePosition::Newest, 0)
                .await
                .unwrap()
                .rows
                .len()
        };
        assert_eq!(rows().await, 2, "too young");
        world.clock.advance(std::time::Duration::from_secs(31));
        service.sweeper().sweep().await.unwrap();
        service.sweeper().sweep().await.unwrap();
        // Its revision is new, so the row is another one; a kill keeps the revision.
        assert_eq!(rows().await, 3);
        let announced = world
            .storage
            .state()
            .read(|tables| tables.member(&room, &ada.user).is_some_and(|member| member.announced));
        assert!(announced);
        world.close().await;
        // Another process finds everything as it is.
        let again = World::open(&server, &runtime, settings()).await;
        again.service.sweeper().sweep().await.unwrap();
        again.close().await;
    });
}
