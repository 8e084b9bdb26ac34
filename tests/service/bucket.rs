//! Files in S3: uploads that leave UPLOADS as soon as they fill a part, both backends side by side, and what is left
//! behind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chatto::blobs;
use chatto::blobs::s3::S3;
use chatto::domain::{AssetId, File, FileLocation, FileState};
use chatto::limits::UPLOAD_CHUNK_MAX_BYTES;
use chatto::runtime::Stop;
use chatto::service::{Config, ErrorKind, NewMessage, Service, Session, UploadStatus};

use chatto::storage::RecordChange;

use super::files::{begin, content, read, send, upload};
use super::messages::members;
use super::{CutAt, NatsServer, World, run, settings};
use crate::support::s3::proxy::{Fate, FaultyS3, Reply, Seen};
use crate::support::s3::{Kind, S3Server, config, s3};

const MIB: usize = 1 << 20;

pub(super) fn with_bucket(bucket: &S3, uploads_to_s3: bool) -> Config {
    let s3 = Some(bucket.clone());
    let blobs = blobs::Config { uploads_to_s3, s3, redirect_above: None, ..settings().blobs };
    Config { blobs, ..settings() }
}

/// A server with two members of `general` whose files go to this bucket.
pub(super) async fn two(
    server: &NatsServer,
    runtime: &chatto::runtime::Runtime,
    bucket: &S3,
) -> (World, Session, Session, String) {
    let world = World::open(server, runtime, with_bucket(bucket, true)).await;
    world.service.prepare().await.unwrap();
    members(world).await
}

/// A proxy in front of a bucket that answers such requests with 503 and this error, while the flag is set.
pub(super) fn failing(
    store: &S3Server,
    code: &'static str,
    message: &'static str,
    is_refused: impl Fn(&Seen) -> bool + Send + 'static,
) -> (FaultyS3, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&fails);
    let proxy = FaultyS3::start(store.port(), move |seen| {
        if is_refused(seen) && flag.load(Ordering::SeqCst) {
            Fate::Refuse(Reply::error(503, code, message, ""))
        } else {
            Fate::Pass
        }
    });
    (proxy, fails)
}

pub(super) async fn staged(world: &World, id: &AssetId) -> u64 {
    let subject = format!("$O.UPLOADS.C.{id}");
    world.storage.nats().messages_on("OBJ_UPLOADS", &subject).await.unwrap()
}

/// Nothing of a file is in the bucket.
pub(super) async fn assert_empty(bucket: &S3) {
    assert_eq!(bucket.list("", None).await.unwrap().entries.len(), 0, "objects");
    assert_eq!(bucket.list_multipart("", None).await.unwrap().entries.len(), 0, "uploads");
}

pub(super) async fn stream(
    service: &Service,
    session: &Session,
    id: &AssetId,
    bytes: &[u8],
) -> Result<chatto::service::FileView, chatto::service::UploadError> {
    let mut stream = service.uploads().stream(session, id.as_str()).await?;
    for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
        stream.push(chunk).await?;
    }
    Ok(stream.complete(session).await?.1)
}

#[test]
fn chunks_leave_uploads_with_each_part_and_make_one_object() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (world, ada, bob, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let other = World::open_with(&server, &runtime, with_bucket(&bucket, true)).await;
        let services = [&world.service, &other.service];
        // Chunks of an odd length, so that parts end inside them.
        let bytes = content(12 * MIB + 12_345);
        let new = begin(&world.service, &ada, &general, &bytes).await.unwrap();
        let (mut offset, mut most) = (0, 0);
        for (number, chunk) in bytes.chunks(400_001).enumerate() {
            send(services[number % 2], &ada, new.id.as_str(), offset, chunk).await.unwrap();
            offset += chunk.len() as u64;
            most = most.max(staged(&world, &new.id).await);
        }
        // A part of 5 MiB and a chunk.
        assert!(most <= (5 * MIB as u64).div_ceil(400_001) + 1, "{most} chunks in UPLOADS");
        let complete = async |service: &Service| {
            service.uploads().complete(&ada, new.id.as_str()).await.unwrap()
        };
        let (done, file) = complete(&other.service).await;
        assert_eq!(done.status, UploadStatus::Completed);
        assert_eq!(complete(&world.service).await.1, file);
        assert_eq!(staged(&world, &new.id).await, 0);
        assert_eq!(bucket.list_multipart("", None).await.unwrap().entries.len(), 0);
        assert_eq!(bucket.head(file.id.as_str()).await.unwrap().size, bytes.len() as u64);
        let ids = [file.id.to_string()];
        let post = NewMessage { room: &general, attachments: &ids, ..NewMessage::default() };
        let message = world.service.messages().post(&ada, post).await.unwrap();
        let end = bytes.len() as u64;
        for range in [0..end, 5 << 20..(5 << 20) + 1, end - 1..end, 7..7] {
            let part = read(&other.service, &bob, &file.id, range.clone()).await.unwrap();
            assert!(part == bytes[range.start as usize..range.end as usize], "{range:?}");
        }
        world.service.deletions().message(&ada, &general, message.id.as_str()).await.unwrap();
        assert_empty(&bucket).await;
        world.close().await;
    });
}

#[test]
fn files_of_every_length_around_a_part_arrive() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let service = &world.service;
        for length in [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB] {
            let bytes = content(length);
            let file = upload(&[service], &ada, &general, &bytes).await;
            let end = length as u64;
            assert!(read(service, &ada, &file.id, 0..end).await.unwrap() == bytes, "{length}");
            let new = begin(service, &ada, &general, &bytes).await.unwrap();
            let file = stream(service, &ada, &new.id, &bytes).await.unwrap();
            assert!(read(service, &ada, &file.id, 0..end).await.unwrap() == bytes, "{length}");
        }
        assert_eq!(bucket.list_multipart("", None).await.unwrap().entries.len(), 0);
        world.close().await;
    });
}

#[test]
fn nothing_is_left_of_a_cancelled_upload_however_it_came() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let service = &world.service;
        let bytes = content(11 * MIB);
        let cancel = async |id: &AssetId| {
            service.uploads().cancel(&ada, id.as_str()).await.unwrap();
            assert_eq!(staged(&world, id).await, 0);
            assert_empty(&bucket).await;
        };
        let chunked = begin(service, &ada, &general, &bytes).await.unwrap();
        for (number, chunk) in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES).take(15).enumerate() {
            let offset = (number * UPLOAD_CHUNK_MAX_BYTES) as u64;
            send(service, &ada, chunked.id.as_str(), offset, chunk).await.unwrap();
        }
        assert_eq!(bucket.list_multipart("", None).await.unwrap().entries.len(), 1);
        cancel(&chunked.id).await;
        let streamed = begin(service, &ada, &general, &bytes).await.unwrap();
        let mut stream = service.uploads().stream(&ada, streamed.id.as_str()).await.unwrap();
        for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES).take(15) {
            stream.push(chunk).await.unwrap();
        }
        drop(stream);
        cancel(&streamed.id).await;
        world.close().await;
    });
}

#[test]
fn late_multipart_uploads_of_our_files_are_aborted_and_others_stay() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let service = &world.service;
        let bytes = content(6 * MIB);
        // The response to the first `begin` was lost, or a stream was cut before it could note its upload.
        let complete = upload(&[service], &ada, &general, &bytes).await;
        bucket.begin(complete.id.as_str()).await.unwrap();
        let open = begin(service, &ada, &general, &content(11 * MIB)).await.unwrap();
        for (number, chunk) in content(11 * MIB).chunks(UPLOAD_CHUNK_MAX_BYTES).take(15).enumerate()
        {
            let offset = (number * UPLOAD_CHUNK_MAX_BYTES) as u64;
            send(service, &ada, open.id.as_str(), offset, chunk).await.unwrap();
        }
        // Those of another server that uses the same bucket look like ours.
        let foreign = AssetId::new(complete.id.group(), 5);
        for key in [foreign.as_str(), "another program's"] {
            bucket.begin(key).await.unwrap();
        }
        bucket.put(foreign.as_str(), "bytes".into()).await.unwrap();
        service.sweeper().sweep_files().await.unwrap();
        let left = bucket.list_multipart("", None).await.unwrap().entries;
        let keys: BTreeSet<&str> = left.iter().map(|upload| upload.key.as_str()).collect();
        assert_eq!(keys, BTreeSet::from([open.id.as_str(), foreign.as_str(), "another program's"]));
        assert_eq!(bucket.list("", None).await.unwrap().entries.len(), 2);
        let read = read(service, &ada, &complete.id, 0..6 << 20).await.unwrap();
        assert!(read == bytes);
        world.close().await;
    });
}

#[test]
fn errors_of_the_bucket_are_counted_and_its_state_is_known() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        s3(store.config()).check().await.unwrap();
        let (proxy, fails) = failing(&store, "ServiceUnavailable", "no tomes available", |_| true);
        let bucket = s3(config(proxy.port()));
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        let health = || world.service.bucket().unwrap().health;
        assert_eq!((health().usable, health().errors), (None, 0));
        let new = begin(&world.service, &ada, &general, b"bytes").await.unwrap();
        let down = stream(&world.service, &ada, &new.id, b"bytes").await.unwrap_err();
        assert_eq!(down.kind(), ErrorKind::Unavailable);
        assert_eq!((health().usable, health().errors), (Some(false), 1));
        assert!(health().last_error.unwrap().contains("status 503"));
        fails.store(false, Ordering::SeqCst);
        stream(&world.service, &ada, &new.id, b"bytes").await.unwrap();
        assert_eq!((health().usable, health().errors), (Some(true), 1));
        world.close().await;
    });
}

#[test]
fn completing_again_after_a_kill_keeps_what_was_streamed() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let service = &world.service;
        for length in [1000, 6 * MIB] {
            let bytes = content(length);
            let new = begin(service, &ada, &general, &bytes).await.unwrap();
            let file = stream(service, &ada, &new.id, &bytes).await.unwrap();
            // As a process leaves it that is killed after the object is there and before the file is shown.
            let pending = |file: Option<&File>| {
                let file = File { state: FileState::Pending, ..file.unwrap().clone() };
                Ok::<_, std::convert::Infallible>(RecordChange::Put(file))
            };
            world.storage.files().change(&new.id, pending).await.unwrap();
            let (_, again) = service.uploads().complete(&ada, new.id.as_str()).await.unwrap();
            assert_eq!(again, file);
            let read = read(service, &ada, &file.id, 0..length as u64).await.unwrap();
            assert!(read == bytes, "{length}");
        }
        world.close().await;
    });
}

#[test]
fn completing_may_be_killed_anywhere_while_more_than_a_part_is_staged() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let service = &world.service;
        // A part is sent on the way; the last chunk makes the rest more than another one.
        let bytes = content(10 * MIB + MIB / 2);
        let new = begin(service, &ada, &general, &bytes).await.unwrap();
        let mut offset = 0;
        for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
            offset = send(service, &ada, new.id.as_str(), offset, chunk).await.unwrap().offset;
        }
        assert_eq!(staged(&world, &new.id).await, 11);
        // Ever later, so that each call gets further.
        for left in 0.. {
            let complete = service.uploads().complete(&ada, new.id.as_str());
            if let Some(done) = CutAt::new(complete, left).await {
                done.unwrap();
                break;
            }
        }
        assert!(read(service, &ada, &new.id, 0..offset).await.unwrap() == bytes);
        world.close().await;
    });
}

#[test]
fn a_bucket_is_created_only_if_files_go_there_and_checked_whenever_it_does_not_work() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let (proxy, fails) = failing(&store, "ServiceUnavailable", "no tomes available", |_| true);
        let direct = s3(store.config());
        let missing = async || direct.list("", None).await.is_err();
        let stop = Stop::new();
        let to_nats = World::open_with(&server, &runtime, with_bucket(&direct, false)).await;
        to_nats.service.watch_files(&stop).await;
        assert!(missing().await, "nothing is created while files go to NATS");
        let bucket = s3(config(proxy.port()));
        let to_s3 = World::open_with(&server, &runtime, with_bucket(&bucket, true)).await;
        let watching = to_s3.service.watch_files(&stop);
        let becomes = async |usable: bool| {
            while bucket.health().usable != Some(usable) {
                to_s3.clock.sleep(Duration::from_millis(10)).await;
            }
        };
        let within = Duration::from_secs(30);
        let mending = async {
            to_s3.clock.timeout(within, becomes(false)).await.expect("a check arrives");
            assert!(missing().await);
            fails.store(false, Ordering::SeqCst);
            to_s3.clock.timeout(within, becomes(true)).await.expect("it is checked again");
            assert!(!missing().await, "it was created once the service responded");
            // Nobody else sends a request when it is back.
            fails.store(true, Ordering::SeqCst);
            bucket.list("", None).await.unwrap_err();
            assert_eq!(bucket.health().usable, Some(false));
            fails.store(false, Ordering::SeqCst);
            to_s3.clock.timeout(within, becomes(true)).await.expect("it is seen to be back");
            stop.stop();
        };
        futures_lite::future::zip(watching, mending).await;
        to_nats.close().await;
    });
}

#[test]
fn both_backends_are_read_whichever_new_files_go_to() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (to_s3, ada, _, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let to_nats = World::open_with(&server, &runtime, with_bucket(&bucket, false)).await;
        let in_s3 = upload(&[&to_s3.service], &ada, &general, b"in the bucket").await;
        let in_nats = upload(&[&to_nats.service], &ada, &general, b"in NATS").await;
        let location =
            async |id: &AssetId| to_s3.storage.files().get(id).await.unwrap().unwrap().location;
        assert_eq!(location(&in_s3.id).await, FileLocation::S3);
        assert!(matches!(location(&in_nats.id).await, FileLocation::Nats(_)));
        for service in [&to_s3.service, &to_nats.service] {
            assert_eq!(read(service, &ada, &in_s3.id, 0..13).await.unwrap(), b"in the bucket");
            assert_eq!(read(service, &ada, &in_nats.id, 0..7).await.unwrap(), b"in NATS");
        }
        // The settings of the bucket are gone: its files are not, and everything else works.
        let without = World::open_with(&server, &runtime, settings()).await;
        let error = read(&without.service, &ada, &in_s3.id, 0..1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(read(&without.service, &ada, &in_nats.id, 0..7).await.unwrap(), b"in NATS");
        to_s3.close().await;
    });
}

#[test]
fn on_a_low_disk_no_chunk_is_staged_and_streams_go_on() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let service = &world.service;
        world.storage.nats().refuse_files(true);
        let new = begin(service, &ada, &general, b"bytes").await.unwrap();
        let refused = send(service, &ada, new.id.as_str(), 0, b"bytes").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::DiskLow);
        assert_eq!(staged(&world, &new.id).await, 0);
        let file = stream(service, &ada, &new.id, b"bytes").await.unwrap();
        assert_eq!(read(service, &ada, &file.id, 0..5).await.unwrap(), b"bytes");
        world.close().await;
    });
}

#[test]
fn while_the_bucket_fails_an_upload_waits_and_then_goes_on() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        s3(store.config()).check().await.unwrap();
        let (proxy, fails) =
            failing(&store, "SlowDown", "Please reduce your request rate.", Seen::is_part);
        let bucket = s3(config(proxy.port()));
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        let service = &world.service;
        let bytes = content(8 * MIB);
        let new = begin(service, &ada, &general, &bytes).await.unwrap();
        let (mut offset, mut failed) = (0, 0);
        for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
            let sent = send(service, &ada, new.id.as_str(), offset, chunk).await;
            if let Err(error) = sent {
                failed += 1;
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                // Nothing more is staged than a part and a chunk.
                assert_eq!(staged(&world, &new.id).await, 11);
                assert_eq!(
                    service.uploads().get(&ada, new.id.as_str()).await.unwrap().offset,
                    offset
                );
                fails.store(false, Ordering::SeqCst);
                send(service, &ada, new.id.as_str(), offset, chunk).await.unwrap();
            }
            offset += chunk.len() as u64;
        }
        assert_eq!(failed, 1);
        let (_, file) = service.uploads().complete(&ada, new.id.as_str()).await.unwrap();
        assert!(read(service, &ada, &file.id, 0..offset).await.unwrap() == bytes);
        world.close().await;
    });
}

#[test]
fn a_complete_upload_whose_object_is_missing_is_no_reason_to_try_again() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let service = &world.service;
        let new = begin(service, &ada, &general, b"0123456789").await.unwrap();
        stream(service, &ada, &new.id, b"0123456789").await.unwrap();
        let pending = |file: Option<&File>| {
            let file = File { state: FileState::Pending, ..file.unwrap().clone() };
            Ok::<_, std::convert::Infallible>(RecordChange::Put(file))
        };
        world.storage.files().change(&new.id, pending).await.unwrap();
        bucket.delete(new.id.as_str()).await.unwrap();
        let missing = service.uploads().complete(&ada, new.id.as_str()).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Internal, "{missing:?}");
        world.close().await;
    });
}
