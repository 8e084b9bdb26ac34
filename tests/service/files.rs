//! Files: uploads in chunks at any process, and who may read what became of them.

use chatto::crypto::{hex, sha256};
use chatto::domain::AssetId;
use chatto::limits::UPLOAD_CHUNK_MAX_BYTES;
use chatto::service::{
    ErrorKind, FileError, FileReader, FileView, NewChunk, NewUpload, Service, Session, UploadError,
    UploadStatus, UploadView,
};
use chatto::storage::Storage;
use futures_util::future::join_all;

use super::messages::two;
use super::{NatsServer, World, run};

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

async fn send(
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
async fn chunks(storage: &Storage, id: &AssetId) -> u64 {
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
            let part = bytes.get(range.start as usize..range.end as usize).unwrap();
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
        assert_eq!(world.storage.files().get(&upload.id).await.unwrap(), None);
        assert!(world.storage.files().key(&upload.id).await.unwrap().is_none());
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
        // The same address within an hour, so that pictures are not loaded again.
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
        // Membership is looked at again with each download.
        service.rooms().leave(&ada, &general).await.unwrap();
        assert_eq!(kind(open(&ticket, file.id).await), ErrorKind::PermissionDenied);
        service.rooms().join(&ada, &general).await.unwrap();
        world.clock.advance(std::time::Duration::from_secs(25 * 3600));
        assert_eq!(kind(open(&ticket, file.id).await), ErrorKind::Unauthenticated);
        world.close().await;
    });
}
