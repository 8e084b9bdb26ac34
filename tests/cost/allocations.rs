//! Allocations of the path that is walked most: a page of messages out of the cache.

use allocation_counter::{AllocationInfo, measure};
use chatto::contract::{Encoding, encode};
use chatto::present;
use chatto::service::{NewMessage, Position, Service, Session};
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

/// What a cached page costs from the store's cache to the answer's bytes.
fn page(service: &Service, session: &Session, room: &str, form: Encoding) -> AllocationInfo {
    let mut answer = None;
    let spent = measure(|| {
        let read = service.room_events(session, room, Position::Newest, ROWS);
        // Nothing waits: other tasks of this thread are not counted.
        let page = block_on(poll_once(read.boxed_local())).expect("the page is cached").unwrap();
        answer = Some((page.rows.len(), encode(&present::timeline("", room, page), form).unwrap()));
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
        world.service.join_room(&ada, &room).await.unwrap();
        for number in 0..2 * ROWS {
            let body = format!("message {number}, of the length that people write in a chat");
            let new = NewMessage { room: &room, body: &body, ..NewMessage::default() };
            world.service.post_message(&ada, new).await.unwrap();
        }
        let warm = world.service.room_events(&ada, &room, Position::Newest, ROWS).await;
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
