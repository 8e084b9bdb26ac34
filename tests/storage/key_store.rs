//! Keys outside an open store: what an export reads and an import adds.

use std::convert::Infallible;

use chatto::crypto::{DataKey, KeyEncryptionKey, Secret};
use chatto::domain::{EventId, User, UserId};
use chatto::nats::Nats;
use chatto::runtime::Clock;
use chatto::storage::{
    KeyStore, KeysImported, KeysRead, OpenError, RecordChange, Storage, StoredKey,
};

use super::{SECRET, config, connect, open, pause_at, room, run, user};
use crate::support::nats::NatsServer;

fn kek(secret: &str) -> KeyEncryptionKey {
    KeyEncryptionKey::derive(&Secret::new(secret.as_bytes().to_vec()))
}

async fn set_deleted(storage: &Storage, id: UserId, deleted: bool) {
    let change = |user: Option<&User>| {
        let user = user.cloned().unwrap_or_else(|| User::new(id));
        Ok::<_, Infallible>(RecordChange::Put(User { deleted, ..user }))
    };
    storage.state().change::<User, _>(&id, change).await.unwrap();
}

async fn seal(storage: &Storage, author: UserId, text: &str) -> chatto::storage::Sealed {
    let row = EventId::new(0, 0, 7);
    storage.texts().seal(&author, &room(1), &row, text).await.unwrap()
}

async fn unseal(
    storage: &Storage,
    author: UserId,
    sealed: &chatto::storage::Sealed,
) -> Option<String> {
    let row = EventId::new(0, 0, 7);
    storage.texts().unseal(&author, &room(1), &row, sealed).await.unwrap()
}

async fn export(nats: &Nats, secret: &str) -> KeysRead {
    let clock = Clock::system();
    let store = KeyStore { nats, clock: &clock };
    let found = store.find().await.unwrap().unwrap();
    store.read(&found, &[kek(secret)]).await.unwrap()
}

async fn import(nats: &Nats, keys: &[StoredKey], secret: &str) -> KeysImported {
    let clock = Clock::system();
    let store = KeyStore { nats, clock: &clock };
    store.import(keys, &kek(secret)).await.unwrap()
}

fn key(user: UserId) -> StoredKey {
    let key = DataKey::generate();
    StoredKey { user, key_id: "0123456789abcdef".to_owned(), is_active: true, key }
}

#[test]
fn an_import_adds_what_is_absent_by_user_and_key_id_and_nothing_else() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let nats = storage.nats();
        for n in [1, 2] {
            set_deleted(&storage, user(n), false).await;
        }
        let sealed = seal(&storage, user(1), "one").await;
        let read = export(nats, SECRET).await;
        assert_eq!((read.keys.len(), read.unreadable), (1, 0));
        assert!(read.keys[0].is_active);
        assert_eq!((read.unexported.people, read.unexported.exported_ms), (1, None));

        // The same id of another user, and another key under the id that is there.
        let own = read.keys[0].clone();
        let other = StoredKey { key: DataKey::generate(), ..own.clone() };
        let second = StoredKey { user: user(2), ..other.clone() };
        let counts = import(nats, &[other, second], SECRET).await;
        assert_eq!(counts, KeysImported { imported: 1, present: 1, ..KeysImported::default() });
        assert_eq!(unseal(&storage, user(1), &sealed).await.as_deref(), Some("one"));
        let read = export(nats, SECRET).await;
        let kept = read.keys.iter().find(|key| key.user == user(1)).unwrap();
        assert_eq!(kept.key.expose(), own.key.expose(), "it is not replaced");
        let added = read.keys.iter().find(|key| key.user == user(2)).unwrap();
        assert!(!added.is_active, "no active key changes");
    });
}

#[test]
fn keys_of_deleted_accounts_are_neither_exported_nor_imported() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let nats = storage.nats();
        set_deleted(&storage, user(1), false).await;
        let sealed = seal(&storage, user(1), "one").await;
        let read = export(nats, SECRET).await;
        set_deleted(&storage, user(1), true).await;
        assert!(export(nats, SECRET).await.keys.is_empty(), "deleted, its key not yet erased");
        storage.user_keys().shred(&user(1)).await.unwrap();
        let counts = import(nats, &read.keys, SECRET).await;
        assert_eq!(counts, KeysImported { refused: 1, ..KeysImported::default() });
        assert_eq!(unseal(&storage, user(1), &sealed).await, None);
        assert!(export(nats, SECRET).await.keys.is_empty());
    });
}

#[test]
fn an_account_that_is_deleted_at_any_await_of_an_import_gets_no_key_back() {
    /// More awaits than an import has.
    const ALL: u32 = 1000;
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let (nats, clock) = (storage.nats(), Clock::system());
        let (store, kek) = (KeyStore { nats, clock: &clock }, kek(SECRET));
        let mut number = 0;
        // The import goes on afterwards, or is killed soon and repeated.
        for more in [ALL, 1, 2, 3] {
            for awaits in 1..ALL {
                number += 1;
                let id = user(number);
                set_deleted(&storage, id, false).await;
                let sealed = seal(&storage, id, "text").await;
                let mut keys = export(nats, SECRET).await.keys;
                keys.retain(|key| key.user == id);
                assert_eq!(keys.len(), 1);
                // As after a restore: the account is there, and its key is not.
                storage.user_keys().shred(&id).await.unwrap();

                let mut importing = Box::pin(store.import(&keys, &kek));
                let ended = pause_at(&mut importing, awaits).await.is_some();
                set_deleted(&storage, id, true).await;
                storage.user_keys().shred(&id).await.unwrap();
                if !ended && pause_at(&mut importing, more).await.is_none() {
                    drop(importing);
                    let again = import(nats, &keys, SECRET).await;
                    assert_eq!((again.imported, again.refused), (0, 1), "{awaits} {more}");
                }
                let subject = format!("$KV.ENCRYPTION_KEYS.user.{id}.{}", keys[0].key_id);
                let newest = nats.leader_newest("KV_ENCRYPTION_KEYS", &subject).await.unwrap();
                assert!(newest.unwrap().is_tombstone(), "{awaits} {more}");
                assert_eq!(unseal(&storage, id, &sealed).await, None);
                // An import reads all accounts and keys, and may wait for each: with those of every round the number of
                // awaits would grow as fast as the rounds.
                let account = format!("$KV.STATE.user.{id}");
                for (stream, subject) in [("KV_ENCRYPTION_KEYS", subject), ("KV_STATE", account)] {
                    let stored = nats.leader_newest(stream, &subject).await.unwrap().unwrap();
                    nats.erase(stream, stored.sequence).await.unwrap();
                }
                if ended {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_new_secret_adds_wrappings_and_removes_none() {
    const NEW: &str = "another secret of the tests, long enough";
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        for n in [1, 2] {
            set_deleted(&storage, user(n), false).await;
        }
        let sealed = seal(&storage, user(1), "one").await;
        let read = export(storage.nats(), SECRET).await;
        seal(&storage, user(2), "after the export").await;
        storage.close().await;

        let nats = connect(&server.url()).await;
        let with_new = || config_of(NEW);
        let refused = open(&server.url(), &runtime, with_new()).await;
        assert!(matches!(refused, Err(OpenError::SecretChanged)));
        let counts = import(&nats, &read.keys, NEW).await;
        let expected = KeysImported { imported: 1, unreadable: 1, ..KeysImported::default() };
        assert_eq!(counts, expected);
        let again = import(&nats, &read.keys, NEW).await;
        assert_eq!((again.imported, again.present), (0, 1), "it may be repeated");

        let storage = open(&server.url(), &runtime, with_new()).await.unwrap();
        assert_eq!(unseal(&storage, user(1), &sealed).await.as_deref(), Some("one"));
        // Who has no readable key gets another one, and both of the first user's wrappings are there.
        let mine = seal(&storage, user(2), "with a new key").await;
        assert_eq!(unseal(&storage, user(2), &mine).await.as_deref(), Some("with a new key"));
        assert_eq!(export(&nats, SECRET).await.keys.len(), 2, "the former secret still unwraps");
    });
}

fn config_of(secret: &str) -> chatto::storage::Config {
    let secret_key = Secret::new(secret.as_bytes().to_vec());
    chatto::storage::Config { secret_key, ..config(None) }
}

#[test]
fn an_import_creates_what_it_needs_and_no_whole_store() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (nats, clock) = (connect(&server.url()).await, Clock::system());
        let store = KeyStore { nats: &nats, clock: &clock };
        assert!(store.find().await.unwrap().is_none());
        for _ in 0..2 {
            store.prepare_import("S0011", 1).await.unwrap();
            let counts = import(&nats, &[key(user(1))], SECRET).await;
            assert_eq!(counts.imported + counts.present, 1);
        }
        let found = store.find().await.unwrap().unwrap();
        assert_eq!(found.server_id, "S0011");
        assert!(!found.has_accounts && !found.is_empty_besides(&[]));
        assert!(found.is_empty_besides(&[key(user(1))]), "the same import may be repeated");
        assert_eq!(found.kek_id, Some(kek(SECRET).id()));
        for (stream, exists) in
            [("KV_META", true), ("KV_ENCRYPTION_KEYS", true), ("KV_STATE", false)]
        {
            assert_eq!(nats.stream(stream).await.unwrap().is_some(), exists, "{stream}");
        }
        let refused = open(&server.url(), &runtime, config(None)).await;
        assert!(matches!(refused, Err(OpenError::Partial)));
    });
}

#[test]
fn noted_keys_count_as_exported_until_there_are_others() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let (nats, clock) = (storage.nats(), Clock::system());
        let store = KeyStore { nats, clock: &clock };
        for n in [1, 2] {
            set_deleted(&storage, user(n), false).await;
        }
        seal(&storage, user(1), "one").await;
        let first = export(nats, SECRET).await;
        store.note_export(&first.keys).await.unwrap();
        let after = storage.unexported_keys().await.unwrap();
        assert_eq!(after.people, 0);
        assert!(after.exported_ms.is_some());
        seal(&storage, user(2), "two").await;
        assert_eq!(storage.unexported_keys().await.unwrap().people, 1);
        // An earlier export goes on counting.
        let second = export(nats, SECRET).await;
        let of_second: Vec<_> = second.keys.into_iter().filter(|key| key.user == user(2)).collect();
        store.note_export(&of_second).await.unwrap();
        assert_eq!(storage.unexported_keys().await.unwrap().people, 0);
    });
}
