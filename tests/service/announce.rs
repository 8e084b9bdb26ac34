//! Rows of joins and departures: one each, whatever was cut off, however late it is made up for.

use std::convert::Infallible;

use chatto::domain::timeline::{Effect, Fact, FactKind};
use chatto::domain::{EventId, Membership, RoomId};
use chatto::service::{PagePosition, RowViewKind, Session};
use chatto::storage::{Draft, RecordChange, RequestId};

use super::{NatsServer, World, run};

/// A membership change whose row was stored by a process that was killed before it noted so, more than two
/// minutes ago: the journal does not know its request any more.
async fn half_announced(world: &World, session: &Session, room: RoomId, left: bool) {
    let head = world.storage.timelines().head(&room).await.unwrap();
    let member = Membership {
        since_ms: world.clock.unix_ms(),
        left,
        joined_row: u64::from(head.rows),
        ..Membership::new(room, session.user)
    };
    let put =
        |_: Option<&Membership>| -> Result<_, Infallible> { Ok(RecordChange::Put(member.clone())) };
    world.storage.state().change::<Membership, _>(&(room, session.user), put).await.unwrap();
    let member_revision = world.storage.state().member_revision(&room, &session.user);
    let kind = if left { FactKind::Left } else { FactKind::Joined };
    let request = RequestId::random();
    let append = world.storage.timelines().append::<Infallible>(&room, &request, &[], |view| {
        let id = EventId::new(view.head().rows, 0, 7);
        let effect = Effect::Fact { id, fact: Fact { member_revision, ..Fact::new(kind) } };
        Ok(Draft { actor: Some(session.user), at_ms: world.clock.unix_ms(), effect })
    });
    append.await.unwrap();
}

/// The rows of a member in the timeline of the room.
async fn rows_of(world: &World, reader: &Session, room: &str, of: &Session) -> Vec<RowViewKind> {
    let page =
        world.service.timeline().page(reader, room, PagePosition::Newest, 100).await.unwrap();
    page.rows.into_iter().filter(|row| row.actor == Some(of.user)).map(|row| row.kind).collect()
}

#[test]
fn a_membership_of_a_clock_that_was_ahead_is_announced_by_the_sweep() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let reader = world.person("reader", None).await;
        let general = world.room(&reader, "general").await;
        let room: RoomId = general.as_str().try_into().unwrap();
        world.service.rooms().join(&reader, &general).await.unwrap();
        let ada = world.person("ada", None).await;
        let member = Membership {
            since_ms: world.clock.unix_ms() + 10 * 365 * 24 * 3_600_000,
            ..Membership::new(room, ada.user)
        };
        let put = |_: Option<&Membership>| -> Result<_, Infallible> {
            Ok(RecordChange::Put(member.clone()))
        };
        world.storage.state().change::<Membership, _>(&(room, ada.user), put).await.unwrap();
        world.service.sweeper().sweep().await.unwrap();
        assert_eq!(rows_of(&world, &reader, &general, &ada).await, [RowViewKind::Joined]);
        world.close().await;
    });
}

#[test]
fn a_row_that_a_killed_process_stored_is_not_stored_again_by_the_next_call() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let reader = world.person("reader", None).await;
        let general = world.room(&reader, "general").await;
        let room = general.as_str().try_into().unwrap();
        service.rooms().join(&reader, &general).await.unwrap();

        let ada = world.person("ada", None).await;
        half_announced(&world, &ada, room, false).await;
        service.rooms().leave(&ada, &general).await.unwrap();
        let rows = rows_of(&world, &reader, &general, &ada).await;
        assert_eq!(rows, [RowViewKind::Joined, RowViewKind::Left]);

        let bob = world.person("bob", None).await;
        service.rooms().join(&bob, &general).await.unwrap();
        half_announced(&world, &bob, room, true).await;
        service.rooms().join(&bob, &general).await.unwrap();
        let rows = rows_of(&world, &reader, &general, &bob).await;
        assert_eq!(rows, [RowViewKind::Joined, RowViewKind::Left, RowViewKind::Joined]);

        let eve = world.person("eve", None).await;
        half_announced(&world, &eve, room, false).await;
        world.clock.advance(std::time::Duration::from_secs(31));
        service.sweeper().sweep().await.unwrap();
        service.rooms().leave(&eve, &general).await.unwrap();
        let rows = rows_of(&world, &reader, &general, &eve).await;
        assert_eq!(rows, [RowViewKind::Joined, RowViewKind::Left]);
        world.close().await;
    });
}
