//! A process that was paused while its store was restored changes nothing when it goes on, whatever it was doing.

use std::convert::Infallible;
use std::pin::Pin;

use chatto::backup::restore::filled;
use chatto::blobs::{ChunkStore, FileCipher};
use chatto::crypto::DataKey;
use chatto::domain::timeline::{Delete, Effect};
use chatto::domain::{AssetId, FileGroup, Token, TokenKind, User};
use chatto::limits::EPOCH_CHECK_TTL;
use chatto::nats::Nats;
use chatto::runtime::Clock;
use chatto::storage::{
    Config, Import, Kept, OpenError, RecordChange, Source, Storage, StorageError,
};

use super::folds::{append, take_fold_lease, write};
use super::lag::{NODES, lags_in, slow};
use super::replicas::{connect_to, open_over};
use super::{CutAt, config, connect, open, pause_at, room, run, user};
use crate::support::cluster::Cluster;
use crate::support::nats::{NatsServer, stream_info};

/// More awaits than any of the operations has.
const AWAITS_MAX: u32 = 200;

/// What is written, erased or stored in a test.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Post,
    Record,
    Key,
    Token,
    Chunk,
    /// Writes pages and the checkpoint, and erases texts.
    Fold,
    Lease,
}

impl Operation {
    const ALL: [Self; 7] =
        [Self::Post, Self::Record, Self::Key, Self::Token, Self::Chunk, Self::Fold, Self::Lease];

    /// Does it; whether it may be done at all is up to the store.
    async fn run(self, storage: &Storage, clock: &Clock) {
        match self {
            Self::Post => {
                let request = chatto::storage::RequestId::random();
                let draft = |view: &chatto::storage::DraftView<'_>| {
                    Ok::<_, Infallible>(super::post(view.head(), user(1), "text"))
                };
                storage.timelines().append(&room(9), &request, &[], draft).await.ok();
            }
            Self::Record => {
                let put =
                    |_: Option<&User>| Ok::<_, Infallible>(RecordChange::Put(User::new(user(7))));
                storage.state().change(&user(7), put).await.ok();
            }
            Self::Key => {
                let row = chatto::domain::EventId::new(0, 0, 7);
                storage.texts().seal(&user(1), &room(1), &row, "text").await.ok();
            }
            Self::Token => {
                let hour = std::time::Duration::from_secs(3600);
                storage.tokens().create(&[7; 32], &Token::new(TokenKind::Bearer), hour).await.ok();
            }
            Self::Chunk => {
                let id = AssetId::new(FileGroup::SERVER, 7);
                let cipher = FileCipher { id, key: DataKey::generate(), encrypted: false };
                let chunks = ChunkStore::assets(storage.nats().clone(), clock.clone());
                chunks.put(&cipher, 0, b"bytes").await.ok();
            }
            Self::Fold => {
                storage.fold_all().await.ok();
            }
            Self::Lease => {
                storage.lease("work", EPOCH_CHECK_TTL).await.ok();
            }
        }
    }
}

/// A process whose clock the test moves.
async fn process(server: &NatsServer, runtime: &chatto::runtime::Runtime) -> (Storage, Clock) {
    let clock = Clock::default();
    let target = chatto::nats::Target {
        urls: vec![server.url()],
        auth: chatto::nats::Auth::None,
        ca_cert: None,
        name: "test".to_owned(),
    };
    let nats = Nats::connect(&target, clock.clone()).await.unwrap();
    nats.wait_connected(std::time::Duration::from_secs(10)).await.unwrap();
    let shared = Config { embedded: false, ..config(None) };
    let storage = Storage::open(nats, shared, runtime, clock.clone()).await.unwrap();
    (storage, clock)
}

/// Begins to restore an archive of this server over a store.
async fn begin(nats: &Nats, server_id: &str) -> Result<Import, OpenError> {
    let kept = Kept::read(nats).await.unwrap();
    let source = Source { server_id: server_id.to_owned(), sequence: 1 };
    Import::begin((nats, &Clock::system()), 1, (source, kept, &filled())).await
}

/// Ends a restore as that of an empty archive.
async fn finish(import: Import) {
    for name in filled() {
        import.create(name).await.unwrap();
    }
    import.finish().await.unwrap();
}

/// Restores an empty archive over the store. Instead of waiting for other processes it moves the clock of the paused one.
async fn restore(nats: &Nats, server_id: &str, paused: &Clock) {
    let import = begin(nats, server_id).await.unwrap();
    paused.advance_monotonic(EPOCH_CHECK_TTL);
    finish(import).await;
}

/// Deletes the account of a user.
async fn delete_account(storage: &Storage, n: u64) {
    let deleted = User { deleted: true, ..User::new(user(n)) };
    let put = |_: Option<&User>| Ok::<_, Infallible>(RecordChange::Put(deleted.clone()));
    storage.state().change(&user(n), put).await.unwrap();
}

/// The ends of the streams, and how many messages they have.
async fn ends(nats: &Nats) -> Vec<(u64, u64)> {
    let mut ends = Vec::new();
    for name in chatto::storage::stream_names() {
        let state = stream_info(nats, &name).await.unwrap().state;
        ends.push((state.last_sequence, state.messages));
    }
    ends
}

#[test]
fn a_process_that_was_paused_at_any_await_changes_nothing_after_a_restore() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let mut pauses = 0;
        for operation in Operation::ALL {
            for awaits in 1..AWAITS_MAX {
                let (storage, clock) = process(&server, &runtime).await;
                // Only the operation folds.
                take_fold_lease(&nats).await;
                let put =
                    |_: Option<&User>| Ok::<_, Infallible>(RecordChange::Put(User::new(user(1))));
                storage.state().change(&user(1), put).await.unwrap();
                let id = write(&storage, &room(1), "a text").await;
                append(&storage, &room(1), Effect::Delete(Delete::new(id))).await;

                let mut paused: Pin<Box<_>> = Box::pin(operation.run(&storage, &clock));
                let ended = pause_at(&mut paused, awaits).await;
                if ended.is_none() {
                    pauses += 1;
                    let server_id = storage.server_id().to_owned();
                    restore(&nats, &server_id, &clock).await;
                    let restored = ends(&nats).await;
                    paused.await;
                    assert_eq!(ends(&nats).await, restored, "{operation:?} at {awaits}");
                    let barrier = storage.barrier().await;
                    assert!(matches!(barrier, Err(StorageError::Restored)), "{barrier:?}");
                    assert!(storage.is_restored());
                }
                storage.close().await;
                if ended.is_some() {
                    break;
                }
                assert!(awaits + 1 < AWAITS_MAX, "{operation:?} does not end");
            }
        }
        // A response that is there at once is not waited for.
        assert!(pauses >= Operation::ALL.len(), "{pauses}");
    });
}

#[test]
fn an_account_that_was_deleted_after_the_backup_stays_deleted_when_a_restore_is_repeated() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        delete_account(&storage, 1).await;
        let server_id = storage.server_id().to_owned();
        storage.close().await;
        let nats = connect(&server.url()).await;
        // Two of them are interrupted after they have emptied STATE.
        for _ in 0..2 {
            begin(&nats, &server_id).await.unwrap().create("STATE").await.unwrap();
        }
        finish(begin(&nats, &server_id).await.unwrap()).await;
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let deleted = storage.state().read(|tables| tables.users[&user(1)].deleted);
        assert!(deleted);
        storage.close().await;
        assert_eq!(nats.subjects("KV_META", "$KV.META.deleted_user.>").await.unwrap(), [""; 0]);
    });
}

/// Whose store it was decides nothing: META says it in its record and in the metadata of its stream.
#[test]
fn a_restore_of_another_servers_archive_that_is_interrupted_at_once_leaves_the_former_store() {
    run(async |runtime| {
        for is_empty in [true, false] {
            let mut partial = 0;
            for awaits in 1..AWAITS_MAX {
                let server = NatsServer::start();
                let mut former = None;
                if !is_empty {
                    let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
                    former = Some(storage.epoch().to_vec());
                    storage.close().await;
                }
                let nats = connect(&server.url()).await;
                let ended = CutAt::new(begin(&nats, "Sanother"), awaits).await.is_some();
                match open(&server.url(), &runtime, config(None)).await {
                    Ok(storage) => {
                        // A response that is there at once is not waited for, so a later cut may come before META.
                        let is_former = former.is_none_or(|former| storage.epoch() == former);
                        assert!(is_former && !ended, "{awaits}");
                        storage.close().await;
                    }
                    Err(OpenError::Partial) => partial += 1,
                    Err(error) => panic!("{awaits}: {error:?}"),
                }
                if ended {
                    break;
                }
            }
            assert!(partial > 0);
        }
    });
}

#[test]
fn a_restore_keeps_what_a_replica_that_lags_does_not_have_yet() {
    let cluster = Cluster::start_with_delay(NODES);
    run(async |runtime| {
        let quick = connect_to(vec![cluster.urls()[0].clone()]).await;
        let storage = open_over(quick, &runtime, NODES).await;
        cluster.lead_elsewhere(&chatto::storage::stream_names());
        let (probe, restoring) = (slow(&cluster).await, slow(&cluster).await);
        let held = cluster.delay_last();
        delete_account(&storage, 1).await;
        let subject = format!("$KV.STATE.user.{}", user(1));
        let newest = probe.leader_newest("KV_STATE", &subject).await.unwrap().unwrap().sequence;
        assert!(lags_in(&probe, ("KV_STATE", &subject), newest).await, "no replica lags");
        assert_eq!(Kept::read(&restoring).await.unwrap().deleted_users(), 1);
        assert!(lags_in(&probe, ("KV_STATE", &subject), newest).await, "it has caught up");
        drop(held);
        storage.close().await;
    });
}
