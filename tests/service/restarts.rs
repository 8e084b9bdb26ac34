//! Uploads that begin anew: a stream after chunks or another stream, chunks while a stream still runs.

use std::sync::atomic::Ordering;

use chatto::blobs::s3::S3;
use chatto::domain::FileLocation;
use chatto::limits::UPLOAD_CHUNK_MAX_BYTES;
use chatto::service::{
    ErrorKind, NewMessage, Service, Session, UploadError, UploadStatus, UploadView,
};

use super::bucket::{assert_empty, failing, staged, stream, two, with_bucket};
use super::encryption::encrypting;
use super::files::{begin, chunks, content, read, send};
use super::leftovers::assert_nothing_left;
use super::{CutAt, NatsServer, World, run};
use crate::support::s3::{Kind, S3Server, config, s3};

const MIB: usize = 1 << 20;

/// Two processes on one store, whose new files go to this bucket and to NATS, with a member of a room.
async fn both_backends(
    server: &NatsServer,
    runtime: &chatto::runtime::Runtime,
    bucket: &S3,
) -> (World, World, Session, String) {
    let (to_s3, ada, _, general) = two(server, runtime, bucket).await;
    bucket.check().await.unwrap();
    let to_nats = World::open_with(server, runtime, with_bucket(bucket, false)).await;
    (to_s3, to_nats, ada, general)
}

/// Sends the first chunks of a file.
async fn send_first(
    service: &Service,
    session: &Session,
    upload: &UploadView,
    bytes: &[u8],
    count: usize,
) {
    let mut offset = 0;
    for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES).take(count) {
        let sent = send(service, session, upload.id.as_str(), offset, chunk).await.unwrap();
        offset = sent.offset;
    }
}

/// Its client repeats what a receipt says is missing.
#[test]
fn an_upload_is_complete_only_when_its_object_is_there() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        s3(store.config()).check().await.unwrap();
        let (proxy, fails) = failing(&store, "SlowDown", "busy", |seen| seen.method == "PUT");
        let bucket = s3(config(proxy.port()));
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        let uploads = world.service.uploads();
        let new = begin(&world.service, &ada, &general, b"text").await.unwrap();
        let id = new.id.as_str();
        send(&world.service, &ada, id, 0, b"text").await.unwrap();
        let error = uploads.complete(&ada, id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        let receipt = uploads.get(&ada, id).await.unwrap();
        assert_eq!((receipt.status, receipt.offset), (UploadStatus::Open, 4));
        fails.store(false, Ordering::SeqCst);
        let (completed, file) = uploads.complete(&ada, id).await.unwrap();
        assert_eq!(completed.status, UploadStatus::Completed);
        assert_eq!(uploads.get(&ada, id).await.unwrap(), completed);
        assert_eq!(read(&world.service, &ada, &file.id, 0..4).await.unwrap(), b"text");
        world.close().await;
    });
}

/// In NATS and in S3, staged and with a part that S3 has.
#[test]
fn chunks_go_on_after_a_stream_that_was_killed_anywhere() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (to_s3, to_nats, ada, general) = both_backends(&server, &runtime, &bucket).await;
        for (world, total, sent) in [(&to_nats, 4, 2), (&to_s3, 4, 2), (&to_s3, 13, 12)] {
            let service = &world.service;
            let bytes = content(total * UPLOAD_CHUNK_MAX_BYTES);
            // Ever later, so that each stream gets further.
            for left in 0.. {
                let new = begin(service, &ada, &general, &bytes).await.unwrap();
                let id = new.id.as_str();
                send_first(service, &ada, &new, &bytes, sent).await;
                let begun = async {
                    let mut stream = service.uploads().stream(&ada, id).await.unwrap();
                    stream.push(&bytes[..UPLOAD_CHUNK_MAX_BYTES]).await.unwrap();
                };
                let done = CutAt::new(begun, left).await;
                let offset = service.uploads().get(&ada, id).await.unwrap().offset;
                let mut offset = usize::try_from(offset).unwrap();
                if done.is_some() {
                    assert_eq!(offset, 0, "what came before the stream counts no more");
                    assert_eq!(staged(world, &new.id).await, 0);
                }
                for chunk in bytes[offset..].chunks(UPLOAD_CHUNK_MAX_BYTES) {
                    send(service, &ada, id, offset as u64, chunk).await.unwrap();
                    offset += chunk.len();
                }
                let (_, file) = service.uploads().complete(&ada, id).await.unwrap();
                assert_eq!(staged(world, &new.id).await, 0);
                let read = read(service, &ada, &file.id, 0..offset as u64).await.unwrap();
                assert!(read == bytes, "cut after {left} awaits");
                if done.is_some() {
                    break;
                }
            }
        }
        assert_nothing_left(&to_s3, &bucket).await;
        to_s3.close().await;
    });
}

#[test]
fn a_stream_removes_the_chunks_that_came_before_it() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (to_s3, to_nats, ada, general) = both_backends(&server, &runtime, &bucket).await;
        let bytes = content(13 * UPLOAD_CHUNK_MAX_BYTES);
        for world in [&to_nats, &to_s3] {
            let service = &world.service;
            let new = begin(service, &ada, &general, &bytes).await.unwrap();
            send_first(service, &ada, &new, &bytes, 12).await;
            let stream = service.uploads().stream(&ada, new.id.as_str()).await.unwrap();
            assert_eq!(chunks(&world.storage, &new.id).await, 0);
            assert_eq!(staged(world, &new.id).await, 0);
            assert_empty(&bucket).await;
            drop(stream);
        }
        to_s3.close().await;
    });
}

/// In NATS and in S3, of one part and of several.
#[test]
fn a_stream_that_lost_to_another_one_removes_nothing_of_it() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (to_s3, to_nats, ada, general) = both_backends(&server, &runtime, &bucket).await;
        let other = World::open_with(&server, &runtime, with_bucket(&bucket, true)).await;
        for (world, length) in [(&to_nats, MIB), (&to_s3, MIB), (&to_s3, 6 * MIB)] {
            let bytes = content(length);
            let new = begin(&world.service, &ada, &general, &bytes).await.unwrap();
            let id = new.id.as_str();
            // As when a client repeats a request whose response takes too long.
            let mut slow = world.service.uploads().stream(&ada, id).await.unwrap();
            for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
                slow.push(chunk).await.unwrap();
            }
            let mut fast = other.service.uploads().stream(&ada, id).await.unwrap();
            for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
                fast.push(chunk).await.unwrap();
            }
            let lost = slow.complete(&ada).await.unwrap_err();
            assert!(matches!(lost, UploadError::Conflict), "{lost:?}");
            if world.storage.files().get(&new.id).await.unwrap().unwrap().location
                == FileLocation::S3
            {
                // It may be what the other one has just stored.
                assert_eq!(bucket.head(id).await.unwrap().size, length as u64);
            }
            let (_, file) = fast.complete(&ada).await.unwrap();
            let read = read(&world.service, &ada, &file.id, 0..length as u64).await.unwrap();
            assert!(read == bytes, "{length}");
        }
        assert_nothing_left(&to_s3, &bucket).await;
        to_s3.close().await;
    });
}

#[test]
fn a_stream_that_ends_after_its_file_was_deleted_leaves_nothing() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (to_s3, to_nats, ada, general) = both_backends(&server, &runtime, &bucket).await;
        for world in [&to_nats, &to_s3] {
            let service = &world.service;
            let new = begin(service, &ada, &general, b"0123456789").await.unwrap();
            let mut slow = service.uploads().stream(&ada, new.id.as_str()).await.unwrap();
            slow.push(b"0123456789").await.unwrap();
            let file = stream(service, &ada, &new.id, b"0123456789").await.unwrap();
            let ids = [file.id.to_string()];
            let post = NewMessage { room: &general, attachments: &ids, ..NewMessage::default() };
            let message = service.messages().post(&ada, post).await.unwrap();
            service.deletions().message(&ada, &general, message.id.as_str()).await.unwrap();
            assert_eq!(world.storage.files().get(&new.id).await.unwrap(), None);
            let gone = slow.complete(&ada).await.unwrap_err();
            assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
            assert_eq!(chunks(&world.storage, &new.id).await, 0);
            assert_empty(&bucket).await;
        }
        to_s3.close().await;
    });
}

#[test]
fn chunks_begin_anew_while_a_stream_to_the_bucket_still_runs() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        let (plain, ada, _, general) = two(&server, &runtime, &bucket).await;
        bucket.check().await.unwrap();
        let encrypted = World::open_with(&server, &runtime, encrypting(&bucket, true)).await;
        let bytes = content(20 * MIB);
        for world in [&plain, &encrypted] {
            let service = &world.service;
            let new = begin(service, &ada, &general, &bytes).await.unwrap();
            let mut stream = service.uploads().stream(&ada, new.id.as_str()).await.unwrap();
            let mut pushed = bytes.chunks(UPLOAD_CHUNK_MAX_BYTES);
            // The record names the stream's multipart upload.
            for chunk in pushed.by_ref().take(17) {
                stream.push(chunk).await.unwrap();
            }
            send_first(service, &ada, &new, &bytes, 12).await;
            let mut refused = None;
            for chunk in pushed {
                refused = stream.push(chunk).await.err();
                if refused.is_some() {
                    break;
                }
            }
            assert!(refused.is_some());
            let mut offset = 12 * UPLOAD_CHUNK_MAX_BYTES;
            for chunk in bytes[offset..].chunks(UPLOAD_CHUNK_MAX_BYTES) {
                send(service, &ada, new.id.as_str(), offset as u64, chunk).await.unwrap();
                offset += chunk.len();
            }
            let (_, file) = service.uploads().complete(&ada, new.id.as_str()).await.unwrap();
            let read = read(service, &ada, &file.id, 0..offset as u64).await.unwrap();
            assert!(read == bytes);
        }
        assert_nothing_left(&plain, &bucket).await;
        plain.close().await;
    });
}
