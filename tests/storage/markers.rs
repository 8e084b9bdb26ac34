//! Read markers that two callers move at once.

use chatto::domain::ReadMarker;
use chatto::limits::MARKERS_FLUSH_INTERVAL;
use chatto::runtime::Clock;
use chatto::storage::Config;
use futures_lite::future::poll_once;

use super::{CutAt, config, connect, open, room, run, user};
use crate::support::nats::{NatsServer, stream_info};
use crate::support::relay::Relay;

fn marker(row: u32) -> ReadMarker {
    // A clock that was ahead: the row decides.
    ReadMarker { row, row_id: None, row_ms: 1_000 - i64::from(row) }
}

#[test]
fn a_marker_never_goes_back_however_two_processes_move_it() {
    let server = NatsServer::start();
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let one = open(&server.url(), &runtime, shared()).await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        let (reader, mut interruptions) = (user(1), 0);
        for n in 0..30 {
            // The slower call is interrupted at one of its awaits by a whole call of another process.
            let target = room(n).to_string();
            one.markers().advance(&reader, &target, marker(1)).await.unwrap();
            let mut slow = Box::pin(one.markers().advance(&reader, &target, marker(5)));
            let result = CutAt::new(&mut slow, 1 + u32::from(n) % 3).await.map(Result::unwrap);
            let held = two.markers().advance(&reader, &target, marker(9)).await.unwrap();
            assert_eq!(held, marker(9));
            if result.is_none() {
                interruptions += 1;
                let held = slow.await.unwrap();
                assert!([marker(5), marker(9)].contains(&held), "{held:?}");
            }
            for storage in [&one, &two] {
                storage.barrier().await.unwrap();
                let held = storage.markers().advance(&reader, &target, marker(7)).await.unwrap();
                assert_eq!(held, marker(9));
            }
        }
        assert!(interruptions > 0, "it was never interrupted");
        one.close().await;
        two.close().await;
    });
}

#[test]
fn a_marker_never_goes_back_when_one_process_moves_it_twice_at_once() {
    let server = NatsServer::start();
    let relay = Relay::start(server.port());
    let url = format!("nats://127.0.0.1:{}", relay.port());
    run(async |runtime| {
        let storage = open(&url, &runtime, config(None)).await.unwrap();
        let nats = connect(&server.url()).await;
        let (reader, target) = (user(1), room(1).to_string());
        let mut slow = Box::pin(storage.markers().advance(&reader, &target, marker(5)));
        // Its read of the store is on the way while the second call runs.
        relay.cut(true);
        assert!(poll_once(&mut slow).await.is_none(), "it does not read the store");
        relay.cut(false);
        storage.markers().advance(&reader, &target, marker(9)).await.unwrap();
        // It is written and does not wait in memory any more.
        let clock = Clock::system();
        let deadline = clock.now() + MARKERS_FLUSH_INTERVAL * 4;
        while stream_info(&nats, "KV_READ_MARKERS").await.unwrap().state.messages == 0 {
            assert!(clock.now() < deadline, "it is never written");
            clock.sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(slow.await.unwrap(), marker(9));
        storage.close().await;
        let storage = open(&url, &runtime, config(None)).await.unwrap();
        assert_eq!(storage.markers().get(&reader, &target).await.unwrap(), Some(marker(9)));
        storage.close().await;
    });
}
