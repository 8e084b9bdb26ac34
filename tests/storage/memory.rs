//! Streams in nats-server's memory: bounded, and usable again by themselves after that was full.

use std::time::Duration;

use chatto::domain::Presence;
use chatto::limits::MEMORY_PROBE_INTERVAL;
use chatto::nats::{DiscardPolicy, Nats, Publish, PublishError, StorageType, StreamConfig};
use chatto::runtime::Clock;
use chatto::storage::StorageError;

use super::{config, connect, open, run, user};
use crate::support::nats::{NatsServer, stream_info};

/// More than the server reserves for its own.
const MEMORY: usize = 5 << 20;

/// Takes what is left of the memory for streams, with a stream that another program may have made.
async fn fill(nats: &Nats) {
    let filler = StreamConfig {
        name: "FILLER".to_owned(),
        subjects: vec!["filler".to_owned()],
        storage: StorageType::Memory,
        ..StreamConfig::default()
    };
    nats.create_stream(&filler).await.unwrap();
    for bytes in [64 << 10, 1 << 10, 1] {
        let full = loop {
            let payload = vec![0; bytes].into();
            let message = Publish { subject: "filler", payload, ..Publish::default() };
            if let Err(error) = nats.publish(message).await {
                break error;
            }
        };
        assert!(matches!(full, PublishError::Full { .. }), "{full:?}");
    }
}

#[test]
fn what_lies_in_memory_expires_also_when_that_is_full() {
    let server = NatsServer::start_with_memory(MEMORY);
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let nats = connect(&server.url()).await;
        let put = async |n| {
            let ttl = Duration::from_secs(5);
            storage
                .presences()
                .change(&user(n), ttl, |presence| presence.manual = Some(Presence::Away))
                .await
        };
        put(0).await.unwrap();
        fill(&nats).await;
        // What makes place for some hundreds of records, which then take it.
        assert!(nats.erase("FILLER", 1).await.unwrap());
        let mut n = 0;
        while put(n).await.is_ok() {
            n += 1;
            assert!(n < 5_000, "memory is never full");
        }
        let clock = Clock::system();
        let expired = async {
            while put(n).await.is_err() {
                clock.sleep(Duration::from_millis(100)).await;
            }
        };
        clock.timeout(Duration::from_secs(30), expired).await.expect("nothing expires");
        put(n + 1).await.unwrap();
        storage.close().await;
    });
}

#[test]
fn full_memory_is_noticed_without_a_write_and_heals_by_itself() {
    let server = NatsServer::start_with_memory(MEMORY);
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let nats = connect(&server.url()).await;
        assert!(!storage.is_memory_full());
        fill(&nats).await;
        let clock = Clock::system();
        let becomes = async |full: bool| {
            let wait = async {
                while storage.is_memory_full() != full {
                    clock.sleep(Duration::from_millis(50)).await;
                }
            };
            clock.timeout(MEMORY_PROBE_INTERVAL * 3, wait).await.expect("full or not is noticed");
        };
        becomes(true).await;
        let ttl = Duration::from_secs(60);
        let refused = storage
            .presences()
            .change(&user(1), ttl, |presence| presence.manual = Some(Presence::Away))
            .await;
        assert!(matches!(refused, Err(StorageError::MemoryFull)), "{refused:?}");
        nats.delete_stream("FILLER").await.unwrap();
        becomes(false).await;
        storage
            .presences()
            .change(&user(1), ttl, |presence| presence.manual = Some(Presence::Away))
            .await
            .unwrap();
        storage.close().await;
    });
}

/// A cluster keeps its memory streams while a new program takes over.
#[test]
fn streams_of_the_former_settings_lose_their_markers_and_get_their_bounds() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let nats = connect(&server.url()).await;
        let names = ["KV_PRESENCE", "KV_CALLS"];
        for name in names {
            let mut former = stream_info(&nats, name).await.unwrap().config;
            former.metadata.insert("chatto.settings".to_owned(), "1".to_owned());
            former.subject_delete_marker_ttl = Some(Duration::from_secs(60));
            former.max_bytes = -1;
            former.discard = DiscardPolicy::New;
            nats.delete_stream(name).await.unwrap();
            nats.create_stream(&former).await.unwrap();
        }
        let ttl = Duration::from_secs(60);
        storage
            .presences()
            .change(&user(1), ttl, |presence| presence.manual = Some(Presence::Away))
            .await
            .unwrap();
        storage.close().await;
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        for name in names {
            let config = stream_info(&nats, name).await.unwrap().config;
            assert!(config.subject_delete_marker_ttl.is_none_or(|ttl| ttl.is_zero()), "{name}");
            assert!(config.max_bytes > 0 && config.discard == DiscardPolicy::Old, "{name}");
            assert_eq!(config.storage, StorageType::Memory);
        }
        assert_eq!(storage.presences().all().await.unwrap().len(), 1, "nothing is lost");
        storage.close().await;
    });
}

/// Until then it dropped everything after a week.
#[test]
fn a_cache_of_the_former_settings_leaves_it_to_each_message_how_long_it_is_kept() {
    let server = NatsServer::start();
    run(async |runtime| {
        open(&server.url(), &runtime, config(None)).await.unwrap().close().await;
        let nats = connect(&server.url()).await;
        let name = "OBJ_ASSET_CACHE";
        let mut former = stream_info(&nats, name).await.unwrap().config;
        former.metadata.insert("chatto.settings".to_owned(), "3".to_owned());
        former.max_age = Duration::from_secs(7 * 24 * 3600);
        former.allow_message_ttl = false;
        nats.delete_stream(name).await.unwrap();
        nats.create_stream(&former).await.unwrap();
        open(&server.url(), &runtime, config(None)).await.unwrap().close().await;
        let config = stream_info(&nats, name).await.unwrap().config;
        assert_eq!((config.max_age, config.allow_message_ttl), (Duration::ZERO, true));
        assert!(config.subject_delete_marker_ttl.is_none_or(|ttl| ttl.is_zero()));
    });
}
