//! Leases with fencing: a holder that was paused and wakes to find another one writes nothing.

use std::time::Duration;

use chatto::nats::Nats;
use chatto::runtime::Clock;
use chatto::storage::{Config, Lease, Storage};

use super::folds::write;
use super::{config, connect, open, pause_at, room, run};
use crate::support::nats::{NatsServer, stream_info};

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

fn shared() -> Config {
    Config { embedded: false, ..config(None) }
}

/// The lease, as soon as nobody else has it.
async fn take(storage: &Storage, name: &'static str, ttl: Duration) -> Lease {
    let clock = Clock::system();
    let deadline = clock.now() + Duration::from_secs(30);
    loop {
        if let Some(lease) = storage.lease(name, ttl).await.unwrap() {
            return lease;
        }
        assert!(clock.now() < deadline, "the lease does not expire");
        clock.sleep(Duration::from_millis(50)).await;
    }
}

async fn ends(nats: &Nats) -> (u64, u64) {
    let end = async |stream: &str| stream_info(nats, stream).await.unwrap().state.last_sequence;
    (end("PAGES").await, end("KV_STATE").await)
}

#[test]
fn one_process_at_a_time_has_a_lease() {
    let server = NatsServer::start();
    run(async |runtime| {
        let clock = Clock::system();
        let one = open(&server.url(), &runtime, shared()).await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        let first = one.lease("work", SHORT).await.unwrap().unwrap();
        assert!(first.holds());
        assert!(two.lease("work", SHORT).await.unwrap().is_none());
        // Renewed, it goes on for those who have it already.
        one.lease("work", SHORT * 2).await.unwrap().unwrap();
        clock.sleep(SHORT).await;
        assert!(first.holds());
        clock.sleep(SHORT).await;
        assert!(!first.holds(), "its time is over, whether anybody has taken it or not");
        assert!(take(&two, "work", SHORT).await.holds());
        one.close().await;
        two.close().await;
    });
}

#[test]
fn a_paused_holder_that_wakes_writes_nothing() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let one = open(&server.url(), &runtime, shared()).await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        for awaits in 1..200 {
            let lease = take(&one, "fold", SHORT).await;
            write(&two, &room(awaits as u8), "text").await;
            one.barrier().await.unwrap();
            let mut paused = Box::pin(one.fold_all_under(&lease));
            let ended = pause_at(&mut paused, awaits).await;
            // The pause lasts until somebody else has the lease.
            let other = take(&two, "fold", SHORT).await;
            let before = ends(&nats).await;
            if ended.is_none() {
                // What was on its way when it was paused arrives; nothing new does.
                let woken = paused.await;
                let after = ends(&nats).await;
                assert!(
                    after.0 <= before.0 + 1 && after.1 <= before.1 + 1,
                    "{awaits}: {before:?} {after:?}"
                );
                assert!(woken.is_err() || after == before, "{awaits}: {woken:?}");
            }
            two.fold_all_under(&other).await.unwrap();
            assert_eq!(two.timelines().rows(&room(awaits as u8), 0, 9).await.unwrap().len(), 1);
            if ended.is_some() {
                break;
            }
            // So that the first one gets it back at once.
            drop(other);
        }
        one.close().await;
        two.close().await;
    });
}

#[test]
fn a_holder_whose_lease_was_lost_with_the_servers_memory_moves_no_checkpoint() {
    let mut server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let one = open(&server.url(), &runtime, shared()).await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        let first = take(&one, "fold", LONG).await;
        write(&one, &room(1), "text").await;
        server.kill();
        server.restart();
        nats.wait_connected(Duration::from_secs(10)).await.unwrap();
        // PRESENCE is empty: the other one takes the lease while the first still counts its time.
        let second = take(&two, "fold", LONG).await;
        assert!(first.holds() && second.holds());
        two.barrier().await.unwrap();
        two.fold_all_under(&second).await.unwrap();
        write(&two, &room(1), "more").await;
        one.barrier().await.unwrap();
        let before = ends(&nats).await.1;
        let refused = one.fold_all_under(&first).await;
        assert!(refused.as_ref().is_err_and(|error| error.is_transient()), "{refused:?}");
        assert_eq!(ends(&nats).await.1, before, "it has moved the checkpoint");
        two.fold_all_under(&second).await.unwrap();
        assert_eq!(two.timelines().rows(&room(1), 0, 9).await.unwrap().len(), 2);
        one.close().await;
        two.close().await;
    });
}
