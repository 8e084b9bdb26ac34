//! Creating a store, recognising it, and refusing a damaged one.

use std::convert::Infallible;

use chatto::crypto::Secret;
use chatto::domain::{EventId, User};
use chatto::runtime::Clock;
use chatto::storage::{Config, OpenError, RecordChange, Storage};

use super::{CutAt, config, connect, open, pause_at, room, run, user};
use crate::support::nats::{NatsServer, stream_info};

/// JetStream's names of the streams whose loss is damage.
const PERSISTENT: &[&str] = &[
    "KV_META",
    "JOURNAL",
    "PAGES",
    "KV_STATE",
    "KV_READ_MARKERS",
    "KV_NOTIFICATIONS",
    "FILES",
    "KV_ENCRYPTION_KEYS",
    "OBJ_ASSETS",
];
const DISPOSABLE: &[&str] = &[
    "KV_AUTH_TOKENS",
    "OBJ_UPLOADS",
    "KV_LINK_PREVIEWS",
    "KV_PRESENCE",
    "KV_CALLS",
    "LOGIN_COUNTERS",
    "ADDRESS_COUNTERS",
    "OBJ_ASSET_CACHE",
];

async fn add_user(storage: &Storage) {
    storage
        .state()
        .change::<User, Infallible>(&user(1), |_| {
            Ok(RecordChange::Put(User { login: "anna".into(), ..User::new(user(1)) }))
        })
        .await
        .unwrap();
}

#[test]
fn every_stream_is_created_once_and_found_again() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("initialised");
    run(async |runtime| {
        let refused = Config { create: false, ..config(Some(&marker)) };
        let none = open(&server.url(), &runtime, refused).await;
        assert!(matches!(none, Err(OpenError::NoStore)));
        assert!(!marker.exists());
        let storage = open(&server.url(), &runtime, config(Some(&marker))).await.unwrap();
        assert!(marker.exists());
        let (server_id, epoch) = (storage.server_id().to_owned(), storage.epoch().to_vec());
        let nats = connect(&server.url()).await;
        for name in PERSISTENT.iter().chain(DISPOSABLE) {
            let info = stream_info(&nats, name).await.unwrap();
            if *name != "KV_META" {
                assert_eq!(info.config.metadata["chatto.server"], server_id, "{name}");
            }
        }
        storage.close().await;
        let again = open(&server.url(), &runtime, config(Some(&marker))).await.unwrap();
        assert_eq!(again.server_id(), server_id);
        assert_eq!(again.epoch(), epoch);
        again.close().await;
    });
}

#[test]
fn a_missing_stream_is_damage_or_made_again_by_its_kind() {
    for (names, with_marker) in [(PERSISTENT, true), (PERSISTENT, false), (DISPOSABLE, true)] {
        let server = NatsServer::start();
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join("initialised");
        let marker = with_marker.then_some(&*marker);
        run(async |runtime| {
            let storage = open(&server.url(), &runtime, config(marker)).await.unwrap();
            add_user(&storage).await;
            storage.close().await;
            let nats = connect(&server.url()).await;
            for name in names.iter().rev() {
                nats.delete_stream(name).await.unwrap();
                let opened = open(&server.url(), &runtime, config(marker)).await;
                if names == DISPOSABLE {
                    let storage = opened.unwrap();
                    assert!(storage.state().read(|t| t.user_by_login("anna").is_some()));
                    storage.close().await;
                    continue;
                }
                let Err(OpenError::Damaged { missing }) = opened else {
                    // Without a marker, nothing at all is left: that is a new account.
                    assert!(*name == "KV_META" && marker.is_none(), "{name}");
                    continue;
                };
                let bare = name.trim_start_matches("KV_").trim_start_matches("OBJ_");
                assert!(missing.iter().any(|missing| missing == bare), "{name}: {missing:?}");
                assert!(stream_info(&nats, name).await.is_none(), "{name} was created over");
            }
        });
    }
}

#[test]
fn a_first_start_cut_anywhere_is_completed_by_the_next() {
    for left in (1..60).step_by(7) {
        let server = NatsServer::start();
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join("initialised");
        run(async |runtime| {
            let url = server.url();
            let first = open(&url, &runtime, config(Some(&marker)));
            drop(CutAt::new(first, left).await);
            let storage = open(&server.url(), &runtime, config(Some(&marker))).await.unwrap();
            add_user(&storage).await;
            storage.close().await;
            let storage = open(&server.url(), &runtime, config(Some(&marker))).await.unwrap();
            assert!(storage.state().read(|tables| tables.user_by_login("anna").is_some()));
            storage.close().await;
        });
    }
}

#[test]
fn two_processes_found_one_store() {
    let server = NatsServer::start();
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let url = server.url();
        let (one, two) = futures_lite::future::zip(
            open(&url, &runtime, shared()),
            open(&url, &runtime, shared()),
        )
        .await;
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.server_id(), two.server_id());
        assert_eq!(one.epoch(), two.epoch());
        one.close().await;
        two.close().await;
    });
}

/// It read META before that was made, and for the other streams afterwards.
#[test]
fn a_store_that_another_process_is_creating_is_not_taken_for_a_damaged_one() {
    for awaits in 1..12 {
        let server = NatsServer::start();
        run(async |runtime| {
            let shared = || Config { embedded: false, ..config(None) };
            let nats = connect(&server.url()).await;
            let clock = Clock::system();
            let mut start = Box::pin(Storage::open(nats, shared(), &runtime, clock));
            let early = pause_at(&mut start, awaits).await;
            assert!(early.is_none(), "opened within {awaits} awaits");
            let other = open(&server.url(), &runtime, shared()).await.unwrap();
            let storage = start.await.unwrap();
            assert_eq!(storage.server_id(), other.server_id(), "{awaits} awaits");
            storage.close().await;
            other.close().await;
        });
    }
}

#[test]
fn a_changed_secret_is_refused_and_healed_by_the_old_one_or_by_naming_it() {
    let server = NatsServer::start();
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    run(async |runtime| {
        let url = server.url();
        let storage = open(&url, &runtime, config(None)).await.unwrap();
        add_user(&storage).await;
        let sealed = storage
            .texts()
            .seal(&user(1), &room(1), &EventId::new(0, 0, 7), "hello")
            .await
            .unwrap();
        storage.close().await;

        let changed = || Config { secret_key: secret("another secret, also long"), ..config(None) };
        let refused = open(&url, &runtime, changed()).await;
        assert!(matches!(refused, Err(OpenError::SecretChanged)));
        let wrong = Config { secret_key_previous: Some(secret("not the former one")), ..changed() };
        let refused = open(&url, &runtime, wrong).await;
        assert!(matches!(refused, Err(OpenError::SecretChanged)));
        // The old secret heals it.
        open(&url, &runtime, config(None)).await.unwrap().close().await;
        // Naming the old one rewraps everything; cut anywhere, it can be repeated.
        let named = || Config { secret_key_previous: Some(secret(super::SECRET)), ..changed() };
        for left in [5, 20, 25, 30, 35, 40, 50] {
            drop(CutAt::new(open(&url, &runtime, named()), left).await);
        }
        let storage = open(&url, &runtime, named()).await.unwrap();
        let opened = storage
            .texts()
            .unseal(&user(1), &room(1), &EventId::new(0, 0, 7), &sealed)
            .await
            .unwrap();
        assert_eq!(opened.as_deref(), Some("hello"));
        storage.close().await;
        let storage = open(&url, &runtime, changed()).await.unwrap();
        let opened = storage
            .texts()
            .unseal(&user(1), &room(1), &EventId::new(0, 0, 7), &sealed)
            .await
            .unwrap();
        assert_eq!(opened.as_deref(), Some("hello"));
        storage.close().await;
        let refused = open(&url, &runtime, config(None)).await;
        assert!(matches!(refused, Err(OpenError::SecretChanged)));
    });
}
