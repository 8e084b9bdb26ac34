//! Allocations of the busiest code paths: a cached page of messages, and a client's list of rooms.

use std::collections::HashMap;

use allocation_counter::{AllocationInfo, measure};
use chatto::contract::{Encoding, encode};
use chatto::present;
use chatto::service::{NewMessage, NewRoom, PagePosition, Service, Session};
use futures_lite::future::{FutureExt as _, block_on, poll_once};

use crate::service::{World, run};
use crate::support::nats::NatsServer;

/// Rows of a page.
const ROWS: usize = 50;
/// Allocations for a page: of a row its copy out of the cache, its opened body, its view and its message,
/// 15 together (775 for a page were measured), and in JSON six more (1,080).
const PROTO_MAX: u64 = 900;
/// See [`PROTO_MAX`].
const JSON_MAX: u64 = 1_250;
/// Bytes in all these allocations together: 160,000 and 184,000 were measured.
const BYTES_MAX: u64 = 220_000;

/// Channels of a client that loads everything.
const CHANNELS: usize = 50;
/// Allocations for its list of groups when each channel's state is known: the list itself (16 were measured,
/// and 224 where each state is worked out).
const GROUPS_MAX: u64 = 30;

/// The allocations for a cached page, from the store's cache to the bytes of the response.
fn page(service: &Service, session: &Session, room: &str, form: Encoding) -> AllocationInfo {
    let mut answer = None;
    let spent = measure(|| {
        let read = service.timeline().page(session, room, PagePosition::Newest, ROWS);
        // Nothing waits, so other tasks of this thread are not counted.
        let page = block_on(poll_once(read.boxed_local())).expect("the page is cached").unwrap();
        let tickets = service.assets().tickets(session.user);
        let addresses = present::Addresses { origin: "", tickets };
        let rows = page.rows.len();
        answer = Some((rows, encode(&present::timeline(addresses, room, page), form).unwrap()));
    });
    let (rows, bytes) = answer.unwrap();
    assert_eq!(rows, ROWS);
    assert!(bytes.len() > ROWS * 50, "it has texts");
    spent
}

#[test]
fn a_cached_page_takes_few_allocations() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let ada = world.person("ada", None).await;
        let room = world.room(&ada, "general").await;
        world.service.rooms().join(&ada, &room).await.unwrap();
        for number in 0..2 * ROWS {
            let body = format!("message {number}, of the length that people write in a chat");
            let new = NewMessage { room: &room, body: &body, ..NewMessage::default() };
            world.service.messages().post(&ada, new).await.unwrap();
        }
        let warm = world.service.timeline().page(&ada, &room, PagePosition::Newest, ROWS).await;
        assert_eq!(warm.unwrap().rows.len(), ROWS);
        for (form, most) in [(Encoding::Proto, PROTO_MAX), (Encoding::Json, JSON_MAX)] {
            let spent = page(&world.service, &ada, &room, form);
            eprintln!("{form:?}: {} allocations, {} bytes", spent.count_total, spent.bytes_total);
            assert!(spent.count_total <= most, "{spent:?}");
            assert!(spent.bytes_total <= BYTES_MAX, "{spent:?}");
        }
        world.close().await;
    });
}

#[test]
fn a_list_of_groups_takes_the_rooms_that_were_just_sent() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let ada = world.person("ada", Some("owner")).await;
        let group = world.service.directory().list_groups(&ada).await.unwrap()[0].id;
        for number in 2..CHANNELS {
            let name = format!("channel-{number}");
            let new =
                NewRoom { name: &name, description: "", group: group.as_str(), universal: true };
            world.service.rooms().create(&ada, new).await.unwrap();
        }
        let groups = world.service.directory().list_groups(&ada).await.unwrap();
        let rooms = &groups[0].rooms;
        assert_eq!(rooms.len(), CHANNELS);
        let known: HashMap<_, _> = rooms.iter().map(|room| (room.room.id, room.clone())).collect();
        let spent = |known| {
            let mut listed = None;
            let spent = measure(|| {
                let list = world.service.directory().list_groups_from(&ada, known);
                listed = block_on(poll_once(list.boxed_local()));
            });
            assert_eq!(listed.expect("everything is in memory").unwrap(), groups);
            spent
        };
        let (alone, from_known) = (spent(HashMap::new()), spent(known));
        eprintln!("{} allocations, {} from known rooms", alone.count_total, from_known.count_total);
        assert!(from_known.count_total <= GROUPS_MAX, "{from_known:?}");
        world.close().await;
    });
}
