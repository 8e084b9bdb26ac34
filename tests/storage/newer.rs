//! An old program beside a newer one: it never rewrites what it would lose something of.

use std::convert::Infallible;
use std::time::Duration;

use chatto::domain::{
    Presence, ReadMarker, ServerSettings, SessionPresence, Token, TokenKind, User, UserPresence,
};
use chatto::limits::PRESENCE_TTL;
use chatto::nats::{Nats, Publish};
use chatto::storage::{ChangeError, Config, OpenError, RecordChange, Storage, StorageError};
use prost::Message;

use super::folds::write;
use super::{config, connect, open, room, run, user};
use crate::support::nats::{NatsServer, stream_info};
use crate::support::records::Meta;

const UNKNOWN_FIELD: [u8; 4] = [0xc2, 0x3e, 1, b'x'];

fn shared() -> Config {
    Config { embedded: false, ..config(None) }
}

async fn put(nats: &Nats, subject: &str, payload: Vec<u8>) -> u64 {
    let payload = payload.into();
    nats.publish(Publish { subject, payload, ..Publish::default() }).await.unwrap().sequence
}

async fn stored(nats: &Nats, stream: &str, subject: &str) -> Vec<u8> {
    nats.leader_newest(stream, subject).await.unwrap().unwrap().payload.to_vec()
}

async fn rename(storage: &Storage, login: &str) -> Result<(), StorageError> {
    let changed = storage
        .state()
        .change::<User, Infallible>(&user(1), |present| {
            let present = present.cloned().unwrap_or_else(|| User::new(user(1)));
            Ok(RecordChange::Put(User { login: login.to_owned(), ..present }))
        })
        .await;
    match changed {
        Ok(_) => Ok(()),
        Err(ChangeError::Storage(error)) => Err(error),
    }
}

#[test]
fn records_of_state_with_unknown_fields_are_read_and_never_written() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        rename(&storage, "anna").await.unwrap();
        let subject = format!("$KV.STATE.user.{}", user(1));
        let newer = [stored(&nats, "KV_STATE", &subject).await, UNKNOWN_FIELD.to_vec()].concat();
        put(&nats, &subject, newer.clone()).await;
        storage.barrier().await.unwrap();
        assert!(
            storage.state().read(|tables| tables.user_by_login("anna").is_some()),
            "it is read"
        );
        let refused = rename(&storage, "hanna").await;
        assert!(matches!(refused, Err(StorageError::Newer { .. })), "{refused:?}");
        let deleted = storage
            .state()
            .change::<User, Infallible>(&user(1), |_| Ok(RecordChange::Delete))
            .await;
        assert!(matches!(deleted, Err(ChangeError::Storage(StorageError::Newer { .. }))));
        assert_eq!(stored(&nats, "KV_STATE", &subject).await, newer);
        storage.close().await;
    });
}

/// Adds a field of a newer program to a stored record; returns its bytes.
async fn add_unknown_field(nats: &Nats, stream: &str, subject: &str) -> Vec<u8> {
    let newer = [stored(nats, stream, subject).await, UNKNOWN_FIELD.to_vec()].concat();
    put(nats, subject, newer.clone()).await;
    newer
}

#[test]
fn tokens_with_unknown_fields_count_and_are_never_written() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        let (hash, hour) = ([7; 32], Duration::from_secs(3600));
        let token = Token { user: Some(user(1)), ..Token::new(TokenKind::Bearer) };
        assert!(storage.tokens().create(&hash, &token, hour).await.unwrap());
        let found = storage.tokens().get(&hash).await.unwrap().unwrap();
        assert!(found.is_known());
        let used = Token { used_ms: 9, ..token.clone() };
        assert!(storage.tokens().replace(&hash, &found, &used, hour).await.unwrap());

        let subject = format!("$KV.AUTH_TOKENS.{}", "07".repeat(32));
        let newer = add_unknown_field(&nats, "KV_AUTH_TOKENS", &subject).await;
        let found = storage.tokens().get(&hash).await.unwrap().unwrap();
        assert_eq!((&found.token, found.is_known()), (&used, false));
        let replaced = storage.tokens().replace(&hash, &found, &token, hour).await;
        assert!(matches!(replaced, Err(StorageError::Newer { .. })), "{replaced:?}");
        assert_eq!(stored(&nats, "KV_AUTH_TOKENS", &subject).await, newer);
        storage.tokens().delete(&hash).await.unwrap();
        assert_eq!(storage.tokens().get(&hash).await.unwrap(), None, "a log-out ends it");
        storage.close().await;
    });
}

#[test]
fn presence_with_unknown_fields_is_changed_for_its_client_and_never_written() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        let report = async |session| {
            let one =
                SessionPresence { session: [session; 16], status: Presence::Online, until_ms: 9 };
            let add = |record: &mut UserPresence| {
                record.sessions.push(one);
                record.sessions.len()
            };
            storage.presences().change(&user(1), PRESENCE_TTL, add).await.unwrap()
        };
        assert_eq!(report(1).await, 1);
        assert_eq!(report(2).await, 2);
        let subject = format!("$KV.PRESENCE.status.{}", user(1));
        let newer = add_unknown_field(&nats, "KV_PRESENCE", &subject).await;
        assert_eq!(report(3).await, 3, "its client sees it");
        assert_eq!(stored(&nats, "KV_PRESENCE", &subject).await, newer);
        storage.close().await;
    });
}

#[test]
fn read_markers_with_unknown_fields_are_read_and_never_written() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        let marker = |row| ReadMarker { row, row_id: None, row_ms: 1 };
        storage.markers().advance(&user(1), "target", marker(3)).await.unwrap();
        let subject = format!("$KV.READ_MARKERS.{}.target", user(1));
        let newer = add_unknown_field(&nats, "KV_READ_MARKERS", &subject).await;
        let moved = storage.markers().advance(&user(1), "target", marker(4)).await;
        assert!(matches!(moved, Err(StorageError::Newer { .. })), "{moved:?}");
        assert_eq!(stored(&nats, "KV_READ_MARKERS", &subject).await, newer);
        let read = storage.markers().get(&user(1), "target").await.unwrap();
        assert_eq!(read, Some(marker(3)));
        storage.close().await;
    });
}

#[test]
fn unknown_keys_are_no_configuration_and_no_checkpoint() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        storage
            .state()
            .change::<ServerSettings, Infallible>(&(), |_| {
                Ok(RecordChange::Put(ServerSettings {
                    name: "ours".to_owned(),
                    ..ServerSettings::default()
                }))
            })
            .await
            .unwrap();
        write(&storage, &room(1), "text").await;
        storage.fold_all().await.unwrap();
        for key in ["config.future", "fold.future", "future.thing"] {
            put(&nats, &format!("$KV.STATE.{key}"), vec![1, 10, 3, b'x', b'y', b'z']).await;
        }
        storage.barrier().await.unwrap();
        assert_eq!(storage.state().read(|tables| tables.server.name.clone()), "ours");
        assert_eq!(storage.state().read(|tables| tables.unreadable().map(str::to_owned)), None);
        storage.close().await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        assert_eq!(storage.unfolded().0, 0, "the checkpoint counts");
        storage.close().await;
    });
}

#[test]
fn a_newer_programs_streams_and_their_settings_stay() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        open(&server.url(), &runtime, shared()).await.unwrap().close().await;
        let subject = "$KV.META.store";
        let mut meta = Meta::decode(&stored(&nats, "KV_META", subject).await[1..]).unwrap();
        meta.streams.push("FUTURE".to_owned());
        put(&nats, subject, [vec![1], meta.encode_to_vec(), UNKNOWN_FIELD.to_vec()].concat()).await;
        let meta = stored(&nats, "KV_META", subject).await;
        let mut markers = stream_info(&nats, "KV_READ_MARKERS").await.unwrap().config;
        markers.metadata.insert("chatto.settings".to_owned(), "1000".to_owned());
        markers.max_messages_per_subject = 5;
        nats.update_stream(&markers).await.unwrap();

        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        write(&storage, &room(1), "text").await;
        storage.close().await;
        assert_eq!(stored(&nats, "KV_META", subject).await, meta, "META was rewritten");
        let kept = stream_info(&nats, "KV_READ_MARKERS").await.unwrap().config;
        assert_eq!(kept.max_messages_per_subject, 5, "the newer settings were reset");
    });
}

#[test]
fn a_program_below_the_least_writer_stops_writing_and_does_not_start() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        write(&storage, &room(1), "text").await;
        assert!(storage.lease("work", Duration::from_secs(15)).await.unwrap().is_some());
        storage.check_writer().await.unwrap();
        assert_eq!(storage.outdated(), None);

        let subject = "$KV.META.store";
        let mut meta = Meta::decode(&stored(&nats, "KV_META", subject).await[1..]).unwrap();
        meta.least_writer = 1_000;
        put(&nats, subject, [vec![1], meta.encode_to_vec()].concat()).await;
        assert!(storage.lease("work", Duration::from_secs(15)).await.unwrap().is_none());
        assert_eq!(storage.outdated(), Some(1_000));
        assert!(rename(&storage, "anna").await.is_err(), "it writes on");
        assert_eq!(storage.timelines().rows(&room(1), 0, 9).await.unwrap().len(), 1, "it reads on");
        storage.close().await;
        let opened =
            Storage::open(nats, shared(), &runtime, chatto::runtime::Clock::system()).await;
        assert!(matches!(opened, Err(OpenError::Outdated { least: 1_000 })));
    });
}
