//! Read markers and what is unread.

use std::time::Duration;

use chatto::service::{MarkedRead, PageRequest, ReadError, Session};

use super::messages::{post, two};
use super::{NatsServer, World, run};

#[test]
fn markers_move_forward_and_tell_what_is_unread() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let unread = async |session: &Session| {
            let state = service.directory().room(session, &general).await.unwrap().state.has_unread;
            let viewer = service.users().viewer(session).await.unwrap();
            assert_eq!(viewer.has_unread_rooms, state);
            state
        };
        let mark = async |id: &str| service.markers().mark_room_read(&bob, &general, id).await;
        assert_eq!(mark("").await.unwrap(), MarkedRead::default(), "nothing to read");
        let one = post(service, &ada, &general, "one").await;
        assert!(!unread(&ada).await, "own posts are read");
        assert!(unread(&bob).await);
        let two = post(service, &ada, &general, "two").await;
        let marked = mark(one.id.as_str()).await.unwrap();
        assert_eq!(marked.last_read_ms, Some(one.created_ms));
        assert_eq!(marked.previous_last_read_ms, None);
        assert!(unread(&bob).await);
        let marked = mark("").await.unwrap();
        assert_eq!(marked.last_read_ms, Some(two.created_ms));
        assert_eq!(marked.previous_last_read_ms, Some(one.created_ms));
        assert!(!unread(&bob).await);
        let back = mark(one.id.as_str()).await.unwrap();
        assert_eq!(back.last_read_ms, Some(two.created_ms), "never backwards");
        assert_eq!(back.previous_last_read_ms, Some(two.created_ms));

        let own = post(service, &bob, &general, "mine").await;
        assert!(!unread(&bob).await);
        assert_eq!(mark("").await.unwrap().previous_last_read_ms, Some(own.created_ms));
        for missing in ["x", "E00000000000000"] {
            assert!(matches!(mark(missing).await, Err(ReadError::NotFound { .. })));
        }
        // What was there before joining is not unread.
        let late = world.person("late", None).await;
        service.rooms().join(&late, &general).await.unwrap();
        assert!(!unread(&late).await);
        let newest = post(service, &ada, &general, "three").await;
        assert!(unread(&late).await && unread(&bob).await);
        let marked = service.markers().mark_room_read(&late, &general, "").await.unwrap();
        assert_eq!(marked.last_read_ms, Some(newest.created_ms));
        assert_eq!(marked.previous_last_read_ms, Some(own.created_ms), "newest row at joining");

        // Joins and departures are nothing to read.
        service.rooms().leave(&late, &general).await.unwrap();
        assert!(unread(&bob).await);
        mark("").await.unwrap();
        service.rooms().join(&late, &general).await.unwrap();
        assert!(!unread(&bob).await);
        let error =
            service.markers().mark_room_read(&world.person("eve", None).await, &general, "").await;
        assert!(matches!(error, Err(ReadError::Denied)));
        world.close().await;
    });
}

#[test]
fn a_member_by_rule_has_read_what_was_there_before_the_account() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let boss = world.person("boss2", Some("admin")).await;
        let news = world.room(&boss, "announcements").await;
        post(service, &boss, &news, "old news").await;
        world.clock.advance(Duration::from_secs(1));
        let ada = world.person("ada", None).await;
        let unread = async || service.directory().room(&ada, &news).await.unwrap().state.has_unread;
        assert!(!unread().await);
        world.clock.advance(Duration::from_secs(1));
        post(service, &boss, &news, "news").await;
        assert!(unread().await);
        service.markers().mark_room_read(&ada, &news, "").await.unwrap();
        assert!(!unread().await);
        let members = service.members().list(&ada, &news, "", PageRequest::default()).unwrap();
        assert_eq!(members.total, 2);
        world.close().await;
    });
}
