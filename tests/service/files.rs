//! Files: uploads in chunks at any process, and who may read what became of them.

use std::time::Duration;

use chatto::crypto::{hex, sha256};
use chatto::domain::text::IdempotencyKey;
use chatto::domain::{AssetId, FileState};
use chatto::limits::UPLOAD_CHUNK_MAX_BYTES;
use chatto::service::{
    DeleteError, ErrorKind, FileError, FileReader, FileView, NewChunk, NewMessage, NewUpload,
    Service, Session, UploadError, UploadStatus, UploadView,
};
use chatto::storage::Storage;
use futures_util::future::join_all;

use super::messages::two;
use super::room_files::{request_of, set_state};
use super::{NatsServer, World, run};
use crate::storage::erase::on_disk;

/// Bytes that do not repeat within a chunk.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

pub(crate) async fn begin(
    service: &Service,
    session: &Session,
    room: &str,
    bytes: &[u8],
) -> Result<UploadView, UploadError> {
    let (size, sha256) = (bytes.len() as u64, hex(&sha256(bytes)));
    let new = NewUpload { room, name: "../a photo.bin", size, sha256: &sha256 };
    service.uploads().create(session, new).await
}

pub(crate) async fn send(
    service: &Service,
    session: &Session,
    upload: &str,
    offset: u64,
    chunk: &[u8],
) -> Result<UploadView, UploadError> {
    let (content, sha256) = (chunk.to_vec().into(), hex(&sha256(chunk)));
    let new = NewChunk { upload, offset, content, sha256: &sha256 };
    service.uploads().chunk(session, new).await
}

/// Uploads a file to a room, each chunk at the next of these processes.
pub(crate) async fn upload(
    services: &[&Service],
    session: &Session,
    room: &str,
    bytes: &[u8],
) -> FileView {
    let mut services = services.iter().cycle();
    let mut next = || services.next().unwrap();
    let upload = begin(next(), session, room, bytes).await.unwrap();
    let mut offset = 0;
    for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
        let sent = send(next(), session, upload.id.as_str(), offset, chunk).await.unwrap();
        offset += chunk.len() as u64;
        assert_eq!((sent.offset, sent.status), (offset, UploadStatus::Open));
    }
    next().uploads().complete(session, upload.id.as_str()).await.unwrap().1
}

pub(crate) async fn read(
    service: &Service,
    session: &Session,
    id: &AssetId,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, FileError> {
    let assets = service.assets();
    let open = assets.open(FileReader::Session(session), id.as_str(), None).await?;
    let mut reader = assets.read(open, range)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// How many chunks of a file the store has.
pub(super) async fn chunks(storage: &Storage, id: &AssetId) -> u64 {
    storage.nats().messages_on("OBJ_ASSETS", &format!("$O.ASSETS.C.{id}")).await.unwrap()
}

#[test]
fn a_file_arrives_in_chunks_at_three_processes_and_is_read_in_any_range() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let others = [
            World::open_shared(&server, &runtime).await,
            World::open_shared(&server, &runtime).await,
        ];
        let services = [&world.service, &others[0].service, &others[1].service];
        let bytes = content(2 * UPLOAD_CHUNK_MAX_BYTES + 12_345);
        let file = upload(&services, &ada, &general, &bytes).await;
        assert_eq!((file.name.as_str(), file.size), ("a photo.bin", bytes.len() as u64));
        let end = bytes.len() as u64;
        let edge = UPLOAD_CHUNK_MAX_BYTES as u64;
        for range in [0..end, 0..1, edge - 1..edge + 1, edge..2 * edge, end - 1..end, 5..5] {
            let part = &bytes[range.start as usize..range.end as usize];
            let read = read(&others[0].service, &ada, &file.id, range.clone()).await.unwrap();
            assert!(read == part, "{range:?}");
        }
        // No message has it yet: it is its uploader's alone.
        let error = read(&world.service, &bob, &file.id, 0..1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let ids = [file.id.to_string()];
        let assets = world.service.assets();
        assert_eq!(assets.of_room(&ada, &general, &ids).await.unwrap(), [file]);
        assert_eq!(assets.of_room(&bob, &general, &ids).await.unwrap(), []);
        world.close().await;
    });
}

#[test]
fn a_file_of_no_bytes_needs_no_chunk() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let file = upload(&[&world.service], &ada, &general, b"").await;
        assert_eq!(read(&world.service, &ada, &file.id, 0..0).await.unwrap(), b"");
        world.close().await;
    });
}

#[test]
fn only_the_right_chunk_of_the_right_person_counts() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let upload = begin(service, &ada, &general, b"0123456789").await.unwrap();
        let id = upload.id.as_str();
        let kind = |result: Result<UploadView, UploadError>| result.unwrap_err().kind();
        use ErrorKind::{FailedPrecondition, InvalidArgument, NotFound};
        assert_eq!(kind(send(service, &bob, id, 0, b"01234").await), NotFound);
        assert_eq!(kind(send(service, &ada, id, 1, b"1").await), FailedPrecondition);
        assert_eq!(kind(send(service, &ada, id, 0, b"").await), InvalidArgument);
        assert_eq!(kind(send(service, &ada, id, 0, b"0123456789X").await), InvalidArgument);
        let (content, sha256) = (b"01234".to_vec().into(), hex(&sha256(b"other")));
        let wrong = NewChunk { upload: id, offset: 0, content, sha256: &sha256 };
        assert_eq!(kind(service.uploads().chunk(&ada, wrong).await), InvalidArgument);
        assert_eq!(send(service, &ada, id, 0, b"01234").await.unwrap().offset, 5);
        // Again, as after a response that was lost.
        let again = send(service, &ada, id, 0, b"01234").await.unwrap_err();
        assert!(matches!(again, UploadError::Offset { committed: 5 }));
        let incomplete = service.uploads().complete(&ada, id).await.unwrap_err();
        assert_eq!(incomplete.kind(), FailedPrecondition);
        assert_eq!(service.uploads().get(&ada, id).await.unwrap().offset, 5);
        send(service, &ada, id, 5, b"5678X").await.unwrap();
        let damaged = service.uploads().complete(&ada, id).await.unwrap_err();
        assert!(matches!(damaged, UploadError::FileHash));
        world.close().await;
    });
}

#[test]
fn chunks_go_on_where_a_stream_was_cut() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let service = &world.service;
        let bytes = content(10 << 20);
        let new = begin(service, &ada, &general, &bytes).await.unwrap();
        let id = new.id.as_str();
        let mut stream = service.uploads().stream(&ada, id).await.unwrap();
        for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES).take(18) {
            stream.push(chunk).await.unwrap();
        }
        drop(stream);
        // The record is written every 8 MiB.
        let received = service.uploads().get(&ada, id).await.unwrap().offset;
        assert_eq!(received, 8 << 20);
        let mut offset = received;
        for chunk in bytes[8 << 20..].chunks(UPLOAD_CHUNK_MAX_BYTES) {
            offset = send(service, &ada, id, offset, chunk).await.unwrap().offset;
        }
        let (_, file) = service.uploads().complete(&ada, id).await.unwrap();
        assert!(read(service, &ada, &file.id, 0..offset).await.unwrap() == bytes);
        assert_eq!(chunks(&world.storage, &file.id).await, 20);
        world.close().await;
    });
}

#[test]
fn of_two_calls_with_the_same_chunk_one_counts_and_nothing_is_left_of_the_other() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let other = World::open_shared(&server, &runtime).await;
        let bytes = content(100_000);
        let upload = begin(&world.service, &ada, &general, &bytes).await.unwrap();
        let id = upload.id.as_str();
        let calls = [&world.service, &other.service, &world.service, &other.service];
        let sent = join_all(calls.map(|service| send(service, &ada, id, 0, &bytes))).await;
        assert_eq!(sent.iter().filter(|result| result.is_ok()).count(), 1);
        let (_, file) = other.service.uploads().complete(&ada, id).await.unwrap();
        let (_, again) = world.service.uploads().complete(&ada, id).await.unwrap();
        assert_eq!(file, again);
        assert_eq!(chunks(&world.storage, &upload.id).await, 1);
        assert!(read(&world.service, &ada, &file.id, 0..100_000).await.unwrap() == bytes);
        world.close().await;
    });
}

#[test]
fn nothing_is_left_of_a_cancelled_upload() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let service = &world.service;
        let upload = begin(service, &ada, &general, b"0123456789").await.unwrap();
        let id = upload.id.as_str();
        send(service, &ada, id, 0, b"01234").await.unwrap();
        let cancelled = service.uploads().cancel(&ada, id).await.unwrap();
        assert_eq!(cancelled.status, UploadStatus::Cancelled);
        assert_eq!(service.uploads().cancel(&ada, id).await.unwrap(), cancelled);
        let closed = send(service, &ada, id, 5, b"56789").await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::FailedPrecondition);
        assert_eq!(chunks(&world.storage, &upload.id).await, 0);
        assert!(world.file_key(&upload.id).await.is_none());
        // A record without the name is left, for what may still arrive.
        let left = world.storage.files().get(&upload.id).await.unwrap().unwrap();
        assert_eq!((left.state, left.name.as_str()), (FileState::Erasing, ""));
        super::leftovers::end_uploads(&world).await;
        service.sweeper().sweep_files().await.unwrap();
        assert_eq!(world.storage.files().get(&upload.id).await.unwrap(), None);
        world.close().await;
    });
}

#[test]
fn of_two_streams_of_one_file_the_first_to_complete_is_the_file() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let service = &world.service;
        let bytes = content(1 << 20);
        let new = begin(service, &ada, &general, &bytes).await.unwrap();
        // As when a client repeats a request whose response takes too long.
        let mut slow = service.uploads().stream(&ada, new.id.as_str()).await.unwrap();
        let mut fast = service.uploads().stream(&ada, new.id.as_str()).await.unwrap();
        for chunk in bytes.chunks(400_000) {
            slow.push(chunk).await.unwrap();
        }
        for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
            fast.push(chunk).await.unwrap();
        }
        let (_, file) = fast.complete(&ada).await.unwrap();
        let (_, again) = slow.complete(&ada).await.unwrap();
        assert_eq!(file, again);
        assert!(read(service, &ada, &file.id, 0..1 << 20).await.unwrap() == bytes);
        assert_eq!(chunks(&world.storage, &file.id).await, 2);
        world.close().await;
    });
}

#[test]
fn chunks_go_on_while_the_stream_that_its_client_gave_up_still_runs() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let service = &world.service;
        // The stream notices when it writes the record for the second time, or when it completes.
        for length in [20 << 20, 10 << 20] {
            let bytes = content(length);
            let new = begin(service, &ada, &general, &bytes).await.unwrap();
            let id = new.id.as_str();
            let mut stream = service.uploads().stream(&ada, id).await.unwrap();
            let mut parts = bytes.chunks(UPLOAD_CHUNK_MAX_BYTES);
            for chunk in parts.by_ref().take(17) {
                stream.push(chunk).await.unwrap();
            }
            let mut rest = bytes[8 << 20..].chunks(UPLOAD_CHUNK_MAX_BYTES);
            let first = rest.next().unwrap();
            let mut offset = send(service, &ada, id, 8 << 20, first).await.unwrap().offset;
            let mut refused = None;
            for chunk in parts {
                refused = stream.push(chunk).await.err();
                if refused.is_some() {
                    break;
                }
            }
            assert_eq!(refused.is_some(), length > 16 << 20, "{refused:?}");
            for chunk in rest {
                offset = send(service, &ada, id, offset, chunk).await.unwrap().offset;
            }
            let (_, file) = service.uploads().complete(&ada, id).await.unwrap();
            if refused.is_none() {
                assert_eq!(stream.complete(&ada).await.unwrap().1, file);
            }
            assert!(read(service, &ada, &file.id, 0..offset).await.unwrap() == bytes, "{length}");
            let expected = length.div_ceil(UPLOAD_CHUNK_MAX_BYTES) as u64;
            assert_eq!(chunks(&world.storage, &file.id).await, expected, "{length}");
        }
        world.close().await;
    });
}

#[test]
fn nothing_is_left_of_a_stream_whose_upload_was_cancelled() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let service = &world.service;
        // Cancelled before the end, and before the record is written the next time.
        for length in [1 << 20, 9 << 20] {
            let bytes = content(length);
            let new = begin(service, &ada, &general, &bytes).await.unwrap();
            let mut stream = service.uploads().stream(&ada, new.id.as_str()).await.unwrap();
            service.uploads().cancel(&ada, new.id.as_str()).await.unwrap();
            let mut refused = None;
            for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
                if let Err(error) = stream.push(chunk).await {
                    refused = Some(error);
                    break;
                }
            }
            let refused = match refused {
                Some(refused) => refused,
                None => stream.complete(&ada).await.unwrap_err(),
            };
            assert_eq!(refused.kind(), ErrorKind::FailedPrecondition, "{refused}");
            assert_eq!(chunks(&world.storage, &new.id).await, 0, "{length}");
        }
        world.close().await;
    });
}

#[test]
fn uploads_need_membership_and_a_size_within_the_limit() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let eve = world.person("eve", None).await;
        let denied = begin(&world.service, &eve, &general, b"x").await.unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        let unknown = begin(&world.service, &ada, "R00000000000000", b"x").await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
        let sha256 = hex(&sha256(b""));
        let new = NewUpload { room: &general, name: "x", size: (25 << 20) + 1, sha256: &sha256 };
        let large = world.service.uploads().create(&ada, new).await.unwrap_err();
        assert_eq!(large.kind(), ErrorKind::InvalidArgument);
        world.close().await;
    });
}

#[test]
fn a_ticket_is_for_one_file_and_one_viewer_and_ends() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let file = upload(&[service], &ada, &general, b"text").await;
        let other = upload(&[service], &ada, &general, b"another").await;
        let assets = service.assets();
        let url = assets.tickets(ada.user).url(file.id);
        // The same address within an hour, so that images are not loaded again.
        assert_eq!(assets.tickets(ada.user).url(file.id), url);
        let ticket = url.path.split_once("?access=").unwrap().1.to_owned();
        let open = async |ticket: &str, id: AssetId| {
            assets
                .open(FileReader::Ticket(ticket), id.as_str(), None)
                .await
                .map(|open| open.file.id)
        };
        assert_eq!(open(&ticket, file.id).await.unwrap(), file.id);
        let kind = |result: Result<AssetId, FileError>| result.unwrap_err().kind();
        assert_eq!(kind(open(&ticket, other.id).await), ErrorKind::Unauthenticated);
        let foreign = ticket.replace(ada.user.as_str(), bob.user.as_str());
        assert_eq!(kind(open(&foreign, file.id).await), ErrorKind::Unauthenticated);
        for broken in ["", ".", "..", "x.y.z", &ticket[1..]] {
            assert_eq!(kind(open(broken, file.id).await), ErrorKind::Unauthenticated, "{broken}");
        }
        // Membership is checked again for each download.
        service.rooms().leave(&ada, &general).await.unwrap();
        assert_eq!(kind(open(&ticket, file.id).await), ErrorKind::PermissionDenied);
        service.rooms().join(&ada, &general).await.unwrap();
        world.clock.advance(Duration::from_secs(25 * 3600));
        assert_eq!(kind(open(&ticket, file.id).await), ErrorKind::Unauthenticated);
        world.close().await;
    });
}

fn with_files<'a>(room: &'a str, body: &'a str, attachments: &'a [String]) -> NewMessage<'a> {
    NewMessage { room, body, attachments, ..NewMessage::default() }
}

pub(super) async fn state(world: &World, id: &AssetId) -> Option<FileState> {
    world.storage.files().get(id).await.unwrap().map(|file| file.state)
}

#[test]
fn a_file_belongs_to_one_message_and_its_room_reads_it() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let first = upload(&[service], &ada, &general, b"first").await;
        let second = upload(&[service], &ada, &general, b"second").await;
        let ids = [second.id.to_string(), first.id.to_string()];
        let message = service.messages().post(&ada, with_files(&general, "", &ids)).await.unwrap();
        assert_eq!(message.body.as_deref(), Some(""));
        assert_eq!(message.attachments, [second.clone(), first.clone()]);
        assert_eq!(state(&world, &first.id).await, Some(FileState::Attached(message.id)));
        let read_by_bob =
            service.timeline().message(&bob, &general, message.id.as_str()).await.unwrap();
        assert_eq!(read_by_bob, message);
        assert_eq!(read(service, &bob, &first.id, 0..5).await.unwrap(), b"first");
        assert_eq!(service.assets().of_room(&bob, &general, &ids).await.unwrap().len(), 2);
        // Once only, and only by its uploader.
        let again = service.messages().post(&ada, with_files(&general, "again", &ids[..1])).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::FailedPrecondition);
        let third = upload(&[service], &ada, &general, b"third").await;
        let foreign = [third.id.to_string()];
        let stolen = service.messages().post(&bob, with_files(&general, "mine", &foreign)).await;
        assert_eq!(stolen.unwrap_err().kind(), ErrorKind::FailedPrecondition);
        let unknown = ["A00000000000000".to_owned()];
        let unknown = service.messages().post(&ada, with_files(&general, "?", &unknown)).await;
        assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
        // None of several is reserved when one cannot be.
        let mixed = [third.id.to_string(), first.id.to_string()];
        let mixed = service.messages().post(&ada, with_files(&general, "both", &mixed)).await;
        assert_eq!(mixed.unwrap_err().kind(), ErrorKind::FailedPrecondition);
        assert_eq!(state(&world, &third.id).await, Some(FileState::Ready));
        world.close().await;
    });
}

#[test]
fn a_repeated_post_with_files_returns_the_message_of_the_first() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let service = &world.service;
        let file = upload(&[service], &ada, &general, b"text").await;
        let (ids, key) =
            ([file.id.to_string()], IdempotencyKey::parse("a-key-of-a-test-0001").unwrap());
        let new = NewMessage { idempotency_key: Some(&key), ..with_files(&general, "x", &ids) };
        let first = service.messages().post(&ada, new).await.unwrap();
        assert_eq!(service.messages().post(&ada, new).await.unwrap(), first);
        world.close().await;
    });
}

#[test]
fn of_two_posts_with_the_same_file_one_gets_it() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let other = World::open_shared(&server, &runtime).await;
        for _ in 0..10 {
            let file = upload(&[&world.service], &ada, &general, b"text").await;
            let ids = [file.id.to_string()];
            let posts = [&world.service, &other.service]
                .map(|service| service.messages().post(&ada, with_files(&general, "x", &ids)));
            let posted: Vec<_> = join_all(posts).await.into_iter().filter_map(Result::ok).collect();
            assert_eq!(posted.len(), 1);
            assert_eq!(state(&world, &file.id).await, Some(FileState::Attached(posted[0].id)));
        }
        world.close().await;
    });
}

#[test]
fn deleting_a_message_deletes_its_files_for_everybody() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let secret = b"a text that must not be found on the disk".repeat(100);
        let file = upload(&[service], &ada, &general, &secret).await;
        let ids = [file.id.to_string()];
        let message = service.messages().post(&ada, with_files(&general, "x", &ids)).await.unwrap();
        let key = world.file_key(&file.id).await.unwrap();
        let id = message.id.as_str();
        let denied = service.deletions().message(&bob, &general, id).await.unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        service.deletions().message(&ada, &general, id).await.unwrap();
        // Already deleted: a success.
        service.deletions().message(&ada, &general, id).await.unwrap();
        let gone = service.timeline().message(&bob, &general, id).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        let gone = read(service, &ada, &file.id, 0..1).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        assert_eq!(service.assets().of_room(&ada, &general, &ids).await.unwrap(), []);
        assert_eq!(chunks(&world.storage, &file.id).await, 0);
        assert_eq!(state(&world, &file.id).await, None);
        // Neither the text nor what opens it is left, nor the file's name.
        for bytes in [&secret[..41], key.expose(), b"a photo.bin".as_slice()] {
            assert!(!on_disk(&server.store_dir(), bytes), "{bytes:?}");
        }
        world.close().await;
    });
}

#[test]
fn one_attachment_of_several_is_deleted_by_its_author_alone() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let first = upload(&[service], &ada, &general, b"first").await;
        let second = upload(&[service], &ada, &general, b"second").await;
        let ids = [first.id.to_string(), second.id.to_string()];
        let message = service.messages().post(&ada, with_files(&general, "", &ids)).await.unwrap();
        let delete = async |session: &Session, file: &str| {
            service.deletions().attachment(session, &general, message.id.as_str(), file).await
        };
        let kind = |result: Result<(), DeleteError>| result.unwrap_err().kind();
        assert_eq!(kind(delete(&bob, &ids[0]).await), ErrorKind::PermissionDenied);
        delete(&ada, &ids[0]).await.unwrap();
        assert_eq!(kind(delete(&ada, &ids[0]).await), ErrorKind::NotFound);
        let left = service.timeline().message(&bob, &general, message.id.as_str()).await.unwrap();
        assert_eq!(left.attachments, [second]);
        assert_eq!(state(&world, &first.id).await, None);
        // Without its last file the empty message stays, edited.
        delete(&ada, &ids[1]).await.unwrap();
        let left = service.timeline().message(&bob, &general, message.id.as_str()).await.unwrap();
        assert_eq!((left.body.as_deref(), left.attachments.len()), (Some(""), 0));
        assert!(left.updated_ms.is_some());
        world.close().await;
    });
}

#[test]
fn the_sweep_removes_what_nobody_will_use_and_ends_what_a_kill_interrupted() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let service = &world.service;
        let sweep = async || service.sweeper().sweep_files().await.unwrap();
        let given_up = begin(service, &ada, &general, b"0123456789").await.unwrap();
        send(service, &ada, given_up.id.as_str(), 0, b"01234").await.unwrap();
        let unattached = upload(&[service], &ada, &general, b"unattached").await;
        let free = upload(&[service], &ada, &general, b"free").await;
        let posted = upload(&[service], &ada, &general, b"posted").await;
        let kept = upload(&[service], &ada, &general, b"kept").await;
        let deleted = upload(&[service], &ada, &general, b"deleted").await;
        let post = async |file: &FileView| {
            let ids = [file.id.to_string()];
            service.messages().post(&ada, with_files(&general, "x", &ids)).await.unwrap()
        };
        let (with_posted, with_kept, with_deleted) =
            (post(&posted).await, post(&kept).await, post(&deleted).await);
        service.deletions().message(&ada, &general, with_deleted.id.as_str()).await.unwrap();
        // As a process leaves them that is killed between the file and the journal.
        let request = request_of(&world, &general, with_posted.id).await;
        let at_ms = world.clock.unix_ms();
        let set = async |id, state| set_state(&world, id, state).await;
        set(&posted.id, FileState::Reserved { request, at_ms }).await;
        set(&free.id, FileState::Reserved { request: "of no post".into(), at_ms }).await;
        set(&kept.id, FileState::Deleting { message: with_kept.id, at_ms }).await;
        sweep().await;
        assert!(
            matches!(state(&world, &posted.id).await, Some(FileState::Reserved { .. })),
            "not yet due"
        );
        world.clock.advance(Duration::from_secs(180));
        sweep().await;
        assert_eq!(state(&world, &posted.id).await, Some(FileState::Attached(with_posted.id)));
        assert_eq!(state(&world, &free.id).await, Some(FileState::Ready));
        assert_eq!(state(&world, &kept.id).await, Some(FileState::Attached(with_kept.id)));
        assert_eq!(state(&world, &given_up.id).await, Some(FileState::Pending));
        assert_eq!(state(&world, &unattached.id).await, Some(FileState::Ready));
        world.clock.advance(Duration::from_secs(25 * 3600));
        sweep().await;
        for (id, what) in [(&unattached.id, "unattached"), (&free.id, "free again")] {
            assert_eq!(state(&world, id).await, None, "{what}");
            assert_eq!(chunks(&world.storage, id).await, 0, "{what}");
        }
        // An upload's record ends by nats-server's clock, which the test cannot move.
        service.uploads().cancel(&ada, given_up.id.as_str()).await.unwrap();
        assert_eq!(chunks(&world.storage, &given_up.id).await, 0);
        assert_eq!(read(service, &ada, &kept.id, 0..4).await.unwrap(), b"kept");
        world.close().await;
    });
}
