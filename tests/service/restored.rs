//! What was to be erased when an archive was made is erased after it was restored; and a restore into NATS that was
//! interrupted anywhere is repeated.

use std::convert::Infallible;

use chatto::backup::archive::{ArchiveError, ArchiveReader, Item, Manifest};
use chatto::backup::create::{AssetScope, Backup, BackupPlan};
use chatto::backup::restore::{Restore, RestoreError, filled};
use chatto::blobs::Blobs;
use chatto::domain::timeline::{Delete, Effect};
use chatto::domain::{EventId, FileState, User};
use chatto::nats::Nats;
use chatto::runtime::{Clock, Runtime, Scope};
use chatto::storage::{
    Config, Export, Import, Kept, OpenError, RecordChange, Source, Storage, stream_names,
};

use super::bucket::with_bucket;
use super::files::{read, upload};
use super::messages::{members, post};
use super::{CutAt, NatsServer, World, run, settings};
use crate::storage::erase::on_disk;
use crate::storage::folds::{append, take_fold_lease, write};
use crate::storage::{config, connect, open, room, user};
use crate::support::nats::stream_info;
use crate::support::s3::{self, Kind, S3Server};

const CLOCK: fn() -> Clock = Clock::system;

/// An archive of a store, in memory.
async fn archive(nats: &Nats, runtime: &Runtime, blobs: &Blobs) -> Vec<u8> {
    let export = Export::open(nats, &CLOCK(), 1).await.unwrap();
    let plan = BackupPlan {
        assets: AssetScope::Nats,
        accept_missing: false,
        configuration: Default::default(),
        program: "a test".to_owned(),
        boot_id: "a boot".to_owned(),
        created_at: "2026-11-30T12:00:00Z".to_owned(),
        sequence: 1,
    };
    let backup = Backup { export: &export, blobs, plan: &plan };
    let scope = Scope::new(runtime, "backup", 4);
    let never = std::future::pending();
    backup.create(Vec::new(), (&scope, never), &mut |_| {}).await.unwrap().0
}

/// Restores an archive over whatever is there.
async fn restore(nats: &Nats, blobs: &Blobs, archive: &[u8]) {
    let kept = Kept::read(nats).await.unwrap();
    let reader = ArchiveReader::open(archive).unwrap();
    let header = reader.header();
    let source = Source { server_id: header.server_id.clone(), sequence: header.sequence };
    let wanted = filled();
    let import = Import::begin((nats, &CLOCK()), 1, (source, kept, &wanted)).await.unwrap();
    let restore = Restore { import, blobs, manifest: None, progress: &mut |_| {} };
    Box::pin(restore.run(reader, &wanted)).await.unwrap();
}

fn blobs(nats: &Nats) -> Blobs {
    Blobs::build(settings().blobs, nats, &CLOCK())
}

#[test]
fn the_text_of_a_message_that_was_deleted_before_the_backup_leaves_the_disk_after_a_restore() {
    const TEXT: &str = "needle-deleted-before-the-backup";
    let (source, mut target) = (NatsServer::start(), NatsServer::start());
    run(async |runtime| {
        let nats = connect(&source.url()).await;
        let shared = Config { embedded: false, ..config(None) };
        let storage = open(&source.url(), &runtime, shared).await.unwrap();
        // Nobody comes to erase the text.
        take_fold_lease(&nats).await;
        let id = write(&storage, &room(1), TEXT).await;
        write(&storage, &room(1), "a text that stays").await;
        append(&storage, &room(1), Effect::Delete(Delete::new(id))).await;
        let archive = archive(&nats, &runtime, &blobs(&nats)).await;
        storage.close().await;

        let nats = connect(&target.url()).await;
        restore(&nats, &blobs(&nats), &archive).await;
        assert!(on_disk(&target.store_dir(), TEXT.as_bytes()), "the archive has it");
        let storage = open(&target.url(), &runtime, config(None)).await.unwrap();
        while storage.unfolded().0 > 0 {
            CLOCK().sleep(std::time::Duration::from_millis(5)).await;
        }
        storage.close().await;
    });
    target.stop();
    assert!(!on_disk(&target.store_dir(), TEXT.as_bytes()), "it is still on the disk");
    assert!(on_disk(&target.store_dir(), b"a text that stays"));
}

#[test]
fn the_keys_of_an_account_that_was_deleted_before_the_backup_are_erased_by_a_restore() {
    let (source, target) = (NatsServer::start(), NatsServer::start());
    run(async |runtime| {
        let nats = connect(&source.url()).await;
        let storage = open(&source.url(), &runtime, config(None)).await.unwrap();
        let mut subjects = Vec::new();
        for n in 1..3 {
            let put = |deleted| {
                move |_: Option<&User>| {
                    Ok::<_, Infallible>(RecordChange::Put(User { deleted, ..User::new(user(n)) }))
                }
            };
            storage.state().change(&user(n), put(false)).await.unwrap();
            let row = EventId::new(0, 0, 7);
            let sealed = storage.texts().seal(&user(n), &room(1), &row, "text").await.unwrap();
            subjects.push(format!("$KV.ENCRYPTION_KEYS.user.{}.{}", user(n), sealed.key_id));
            // Whoever deleted the first one was killed before the keys were erased.
            if n == 1 {
                storage.state().change(&user(n), put(true)).await.unwrap();
            }
        }
        let archive = archive(&nats, &runtime, &blobs(&nats)).await;
        storage.close().await;
        // Over the same store, and into another one that has the same keys.
        let other = connect(&target.url()).await;
        open(&target.url(), &runtime, config(None)).await.unwrap().close().await;
        for subject in &subjects {
            let key = nats.leader_newest("KV_ENCRYPTION_KEYS", subject).await.unwrap().unwrap();
            let payload = key.payload;
            let copy = chatto::nats::Publish { subject, payload, ..Default::default() };
            other.publish(copy).await.unwrap();
        }
        for nats in [&nats, &other] {
            restore(nats, &blobs(nats), &archive).await;
            let key = async |subject: &str| {
                nats.leader_newest("KV_ENCRYPTION_KEYS", subject).await.unwrap().unwrap()
            };
            assert!(key(&subjects[0]).await.is_tombstone(), "it is still there");
            assert!(!key(&subjects[1]).await.is_tombstone(), "it is lost");
        }
    });
}

#[test]
fn a_file_that_was_being_erased_from_s3_during_the_backup_is_erased_after_a_restore() {
    run(|runtime| async move {
        let (server, target) = (NatsServer::start(), NatsServer::start());
        let store = S3Server::start(Kind::SeaweedFs);
        let bucket = s3::s3(s3::config(store.port()));
        bucket.check().await.unwrap();
        let world = World::open(&server, &runtime, with_bucket(&bucket, true)).await;
        world.service.prepare().await.unwrap();
        let (world, ada, _, general) = members(world).await;
        let services = [&world.service];
        let erased = upload(&services, &ada, &general, b"to be erased").await;
        let kept = upload(&services, &ada, &general, b"to be kept").await;
        // The process was killed, or a backup ran, after it had noted what it was about to do.
        let files = world.storage.files();
        files.change_state(&erased.id, |_| Some(FileState::Erasing)).await.unwrap();
        let blobs = Blobs::build(with_bucket(&bucket, true).blobs, world.storage.nats(), &CLOCK());
        let archive = archive(world.storage.nats(), &runtime, &blobs).await;
        world.close().await;

        let nats = connect(&target.url()).await;
        let blobs = Blobs::build(with_bucket(&bucket, true).blobs, &nats, &CLOCK());
        restore(&nats, &blobs, &archive).await;
        assert!(bucket.head(erased.id.as_str()).await.is_ok());
        let world = World::open(&target, &runtime, with_bucket(&bucket, true)).await;
        world.service.sweeper().sweep_files().await.unwrap();
        assert!(bucket.head(erased.id.as_str()).await.is_err(), "its bytes stay in the bucket");
        assert_eq!(world.storage.files().get(&erased.id).await.unwrap(), None);
        assert!(bucket.head(kept.id.as_str()).await.is_ok());
        world.close().await;
    });
}

#[test]
fn an_archive_with_another_end_than_the_one_that_was_checked_makes_no_store() {
    let (source, target) = (NatsServer::start(), NatsServer::start());
    run(async |runtime| {
        let nats = connect(&source.url()).await;
        open(&source.url(), &runtime, config(None)).await.unwrap().close().await;
        let archive = archive(&nats, &runtime, &blobs(&nats)).await;
        let nats = connect(&target.url()).await;
        let kept = Kept::read(&nats).await.unwrap();
        let reader = ArchiveReader::open(archive.as_slice()).unwrap();
        let source = Source { server_id: reader.header().server_id.clone(), sequence: 1 };
        let wanted = filled();
        let import = Import::begin((&nats, &CLOCK()), 1, (source, kept, &wanted)).await.unwrap();
        let (store, checked) = (blobs(&nats), Manifest::default());
        let restore =
            Restore { import, blobs: &store, manifest: Some(&checked), progress: &mut |_| {} };
        let error = Box::pin(restore.run(reader, &wanted)).await.unwrap_err();
        assert!(matches!(error, RestoreError::Archive(ArchiveError::Changed)), "{error:?}");
        let opened = open(&target.url(), &runtime, config(None)).await;
        assert!(matches!(opened, Err(OpenError::Partial)));
    });
}

/// What an archive contains, without times and places.
fn content(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = ArchiveReader::open(archive).unwrap();
    let mut content = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Records(stream, records) => content.extend(records.into_iter().map(|record| {
                (
                    format!("{} {} {}", stream.name(), record.subject, record.deleted),
                    record.data.to_vec(),
                )
            })),
            Item::Objects(_) => {}
            Item::Asset { id, .. } => {
                let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
                loop {
                    match reader.read(&mut buffer).unwrap() {
                        0 => break,
                        length => bytes.extend_from_slice(&buffer[..length]),
                    }
                }
                content.push((id.to_string(), bytes));
            }
        }
    }
    content
}

/// At its first awaits a restore marks the store and deletes and creates the streams that it fills: it is interrupted at
/// each. At the last ones it creates the others and lets servers use the store: at every third.
const FIRST: u32 = 60;
const LAST: u32 = 100;
/// Awaits between two interruptions while records are written.
const STEP: usize = 41;

/// How often a future waits.
async fn awaits<T>(work: impl Future<Output = T>) -> u32 {
    let (mut work, mut awaits) = (std::pin::pin!(work), 0);
    std::future::poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        awaits += u32::from(polled.is_pending());
        polled
    })
    .await;
    awaits
}

#[test]
fn a_restore_that_is_interrupted_anywhere_is_repeated_to_a_complete_store() {
    run(|runtime| async move {
        let (server, target) = (NatsServer::start(), NatsServer::start());
        let world = World::start(&server, &runtime).await;
        let (world, ada, _, general) = members(world).await;
        for n in 0..5 {
            post(&world.service, &ada, &general, &format!("message {n}")).await;
        }
        let file = upload(&[&world.service], &ada, &general, &[7; 3000]).await;
        let nats = world.storage.nats().clone();
        let archived = archive(&nats, &runtime, &blobs(&nats)).await;
        assert_eq!(read(&world.service, &ada, &file.id, 0..3000).await.unwrap(), [7; 3000]);
        world.close().await;

        let nats = connect(&target.url()).await;
        let all = awaits(restore(&nats, &blobs(&nats), &archived)).await;
        // A response that is there at once is not waited for, so their number differs from run to run.
        assert!(all > 20, "{all}");
        let complete = content(&archive(&nats, &runtime, &blobs(&nats)).await);
        assert!(complete.len() > 20, "{}", complete.len());
        assert_eq!(complete.len(), content(&archived).len());
        let last = all.saturating_sub(LAST).max(FIRST);
        let between = (FIRST..last).step_by(STEP);
        for awaits in (1..FIRST).chain(between).chain((last..).step_by(3)) {
            let before = epoch(&target, &runtime).await.unwrap();
            let store = blobs(&nats);
            let ended = CutAt::new(restore(&nats, &store, &archived), awaits).await.is_some();
            match epoch(&target, &runtime).await {
                Ok(after) if ended => assert_ne!(after, before),
                // Nothing had been written yet, or everything.
                Ok(_) => {}
                Err(error) => {
                    assert!(!ended && matches!(error, OpenError::Partial), "{awaits}: {error:?}");
                }
            }
            restore(&nats, &store, &archived).await;
            let again = content(&archive(&nats, &runtime, &store).await);
            assert!(again == complete, "interrupted at {awaits}");
            if ended {
                break;
            }
        }
        for name in stream_names() {
            assert!(stream_info(&nats, &name).await.is_some(), "{name}");
        }
    });
}

/// What a server finds.
async fn epoch(target: &NatsServer, runtime: &Runtime) -> Result<Vec<u8>, OpenError> {
    let storage: Storage = open(&target.url(), runtime, config(None)).await?;
    let epoch = storage.epoch().to_vec();
    storage.close().await;
    Ok(epoch)
}
