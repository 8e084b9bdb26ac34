//! A clock that was ahead and is right again: times, slow mode and what is unread.

use std::convert::Infallible;
use std::time::Duration;

use chatto::domain::Room;
use chatto::limits::CLOCK_AHEAD_MAX;
use chatto::runtime::Runtime;
use chatto::service::{NewMessage, PagePosition, RoomScope, Session};
use chatto::storage::RecordChange;

use super::messages::{post, two};
use super::{NatsServer, World, run, settings};

const YEARS: Duration = Duration::from_hours(10 * 365 * 24);

async fn slow_down(world: &World, room: &str) {
    let slow = |room: Option<&Room>| -> Result<_, Infallible> {
        Ok(RecordChange::Put(Room { slow_mode_seconds: 60, ..room.unwrap().clone() }))
    };
    world.storage.state().change::<Room, _>(&room.try_into().unwrap(), slow).await.unwrap();
}

/// The same server in another process, whose clock is ahead by so much.
async fn again(server: &NatsServer, runtime: &Runtime, ahead: Duration) -> World {
    let world = World::open(server, runtime, settings()).await;
    world.clock.advance(ahead);
    world
}

async fn times(world: &World, session: &Session, room: &str) -> Vec<i64> {
    let page =
        world.service.timeline().page(session, room, PagePosition::Newest, 100).await.unwrap();
    page.rows.iter().map(|row| row.created_ms).collect()
}

async fn is_unread(world: &World, session: &Session, room: &str) -> bool {
    let unread = world.service.directory().room(session, room).await.unwrap().state.has_unread;
    assert_eq!(world.service.users().viewer(session).await.unwrap().has_unread_rooms, unread);
    unread
}

#[test]
fn a_clock_that_was_ahead_neither_stops_slow_mode_nor_hides_what_is_unread() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (world, _, _, general) = two(&server, &runtime).await;
        slow_down(&world, &general).await;
        world.close().await;

        let world = again(&server, &runtime, YEARS).await;
        let (ada, bob) = (world.session("ada").await, world.session("bob").await);
        let early = post(&world.service, &ada, &general, "from the future").await;
        let marked = world.service.markers().mark_room_read(&bob, &general, "").await.unwrap();
        assert_eq!(marked.last_read_ms, Some(early.created_ms));
        // A member since the future, too.
        let late = world.person("late", None).await;
        world.service.rooms().join(&late, &general).await.unwrap();
        world.close().await;

        let world = again(&server, &runtime, Duration::ZERO).await;
        let now = world.clock.unix_ms();
        let ada = world.session("ada").await;
        let (bob, late) = (world.session("bob").await, world.session("late").await);
        let state = world.service.directory().room(&ada, &general).await.unwrap().state;
        assert_eq!(state.slow_mode_next_post_ms, None);
        assert!(!is_unread(&world, &bob, &general).await);
        let next = post(&world.service, &ada, &general, "from now").await;
        let limit = i64::try_from(CLOCK_AHEAD_MAX.as_millis()).unwrap();
        assert!((next.created_ms - now).abs() < limit, "{} is not now", next.created_ms);
        let new = NewMessage { room: &general, body: "at once", ..NewMessage::default() };
        assert!(world.service.messages().post(&ada, new).await.is_err(), "slow mode works again");
        for session in [&bob, &late] {
            assert!(is_unread(&world, session, &general).await);
            let marked =
                world.service.markers().mark_room_read(session, &general, "").await.unwrap();
            assert_eq!(marked.last_read_ms, Some(next.created_ms));
            assert!(marked.previous_last_read_ms.unwrap() <= next.created_ms);
            assert!(!is_unread(&world, session, &general).await);
        }
        let before = times(&world, &ada, &general).await;
        assert!(before.is_sorted() && *before.last().unwrap() == next.created_ms, "{before:?}");
        let read =
            world.service.timeline().message(&bob, &general, early.id.as_str()).await.unwrap();
        assert_eq!(read.created_ms, next.created_ms);
        world.storage.fold_all().await.unwrap();
        assert_eq!(times(&world, &ada, &general).await, before);
        world.close().await;

        let world = again(&server, &runtime, Duration::ZERO).await;
        let (ada, bob) = (world.session("ada").await, world.session("bob").await);
        assert_eq!(times(&world, &ada, &general).await, before);
        post(&world.service, &bob, &general, "and on").await;
        assert!(is_unread(&world, &ada, &general).await);
        assert!(times(&world, &ada, &general).await.is_sorted());
        world.close().await;
    });
}

#[test]
fn an_account_made_by_a_clock_that_was_ahead_sees_news() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let boss = world.person("boss2", Some("admin")).await;
        let news = world.room(&boss, "announcements").await;
        world.close().await;
        let world = again(&server, &runtime, YEARS).await;
        world.person("ada", None).await;
        world.close().await;

        let world = again(&server, &runtime, Duration::ZERO).await;
        let (boss, ada) = (world.session("boss2").await, world.session("ada").await);
        post(&world.service, &boss, &news, "news").await;
        assert!(is_unread(&world, &ada, &news).await);
        world.service.markers().mark_room_read(&ada, &news, "").await.unwrap();
        assert!(!is_unread(&world, &ada, &news).await);
        let rooms = world.service.directory().list_rooms(&ada, RoomScope::All).await.unwrap();
        assert!(rooms.iter().all(|room| !room.state.has_unread));
        world.close().await;
    });
}
