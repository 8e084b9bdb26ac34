//! Kills at random moments of uploads, posts and deletions, in NATS and in S3: what was acknowledged can be read, and
//! the sweep leaves nothing that no record names. `CHATTO_TORTURE_ROUNDS` sets the rounds, `CHATTO_TORTURE_SEED` repeats
//! a run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chatto::blobs::{ChunkStore, FileCipher};
use chatto::crypto::{Secret, hex, sha256};
use chatto::domain::{AssetId, EventId, File, FileLocation, FileState};
use chatto::limits::{SWEEP_LEASE, UPLOAD_CHUNK_MAX_BYTES};
use chatto::service::{
    Backend, ErrorKind, FileWork, NewMessage, Session, UploadError, UploadStatus,
};
use chatto::storage::Storage;
use fastrand::Rng;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::json;

use super::bucket::{two, with_bucket};
use super::encryption::encrypting;
use super::file_work::all;
use super::files::{begin, chunks, read, send, upload};
use super::messages;
use super::{CutAt, NatsServer, World, run};
use crate::storage::{config, connect};
use crate::support::client::Account;
use crate::support::s3::proxy::{Fate, FaultyS3};
use crate::support::s3::{Kind, S3Server, config as config_of_bucket, s3};
use crate::support::server::{SECRET_KEY, Server};
use crate::support::wait::until;
use crate::torture::number;

/// More awaits than most of these calls have.
const AWAITS_MAX: u32 = 250;
const HOUR: Duration = Duration::from_secs(3600);
/// Small, around a part of an upload to S3, and of several parts.
const LENGTHS: [usize; 5] = [0, 1_000, 700_000, 5 << 20, 11 << 20];

fn rounds() -> (u64, Rng) {
    let rounds = number("CHATTO_TORTURE_ROUNDS").unwrap_or(10);
    let seed = number("CHATTO_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("kills of uploads: {rounds} rounds, CHATTO_TORTURE_SEED={seed}");
    (rounds, Rng::with_seed(seed))
}

/// The bytes of a file.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// What a client knows of a file.
#[derive(Debug, Clone, Default)]
struct Known {
    id: Option<AssetId>,
    seed: u64,
    length: usize,
    /// Its upload was acknowledged.
    complete: bool,
    /// The message that was acknowledged with it.
    message: Option<EventId>,
    /// A deletion was begun, perhaps without a response.
    removed: bool,
    /// A deletion was acknowledged.
    gone: bool,
}

/// A person with several processes to send requests to.
struct Person<'a> {
    worlds: [&'a World; 4],
    session: &'a Session,
    room: &'a str,
}

impl Person<'_> {
    /// Any process.
    fn world(&self, random: &mut Rng) -> &World {
        self.worlds[random.usize(..4)]
    }

    /// Uploads a file or goes on with it, and perhaps posts and deletes it. An error ends it as a kill does: what is
    /// not acknowledged may be repeated.
    async fn life(&self, known: &Mutex<Known>, mut random: Rng) -> Option<()> {
        let id = self.begun(known, &mut random).await.ok()?;
        if !known.lock().complete {
            if random.u8(..8) == 0 {
                known.lock().removed = true;
                let uploads = self.world(&mut random).service.uploads();
                uploads.cancel(self.session, id.as_str()).await.ok()?;
                known.lock().gone = true;
                return Some(());
            }
            self.upload(known, &mut random).await.ok()?;
        }
        let message = self.post(&id, &mut random).await?;
        known.lock().message = Some(message);
        if random.u8(..3) == 0 {
            known.lock().removed = true;
            let deletions = self.world(&mut random).service.deletions();
            let (message, file) = (message.as_str(), id.as_str());
            if random.bool() {
                deletions.message(self.session, self.room, message).await.ok()?;
            } else {
                deletions.attachment(self.session, self.room, message, file).await.ok()?;
            }
            known.lock().gone = true;
        }
        Some(())
    }

    /// The upload of a file, begun unless it was.
    async fn begun(&self, known: &Mutex<Known>, random: &mut Rng) -> Result<AssetId, UploadError> {
        let Known { id, seed, length, .. } = known.lock().clone();
        if let Some(id) = id {
            return Ok(id);
        }
        let service = &self.world(random).service;
        let id = begin(service, self.session, self.room, &content(seed, length)).await?.id;
        known.lock().id = Some(id);
        Ok(id)
    }

    /// Uploads a file from where it is.
    async fn upload(&self, known: &Mutex<Known>, random: &mut Rng) -> Result<(), UploadError> {
        let id = self.begun(known, random).await?;
        let Known { seed, length, .. } = known.lock().clone();
        let bytes = content(seed, length);
        if random.bool() {
            self.stream(&id, &bytes, random).await?;
        } else {
            self.send_chunks(&id, &bytes, random).await?;
        }
        known.lock().complete = true;
        Ok(())
    }

    async fn send_chunks(
        &self,
        id: &AssetId,
        bytes: &[u8],
        random: &mut Rng,
    ) -> Result<(), UploadError> {
        let uploads = self.world(random).service.uploads();
        let upload = uploads.get(self.session, id.as_str()).await?;
        let mut offset = usize::try_from(upload.offset).unwrap();
        while upload.status == UploadStatus::Open && offset < bytes.len() {
            let length = random.usize(200_000..=UPLOAD_CHUNK_MAX_BYTES).min(bytes.len() - offset);
            let service = &self.world(random).service;
            let chunk = &bytes[offset..offset + length];
            send(service, self.session, id.as_str(), offset as u64, chunk).await?;
            offset += length;
        }
        let uploads = self.world(random).service.uploads();
        uploads.complete(self.session, id.as_str()).await?;
        Ok(())
    }

    async fn stream(
        &self,
        id: &AssetId,
        bytes: &[u8],
        random: &mut Rng,
    ) -> Result<(), UploadError> {
        let uploads = self.world(random).service.uploads();
        let mut stream = uploads.stream(self.session, id.as_str()).await?;
        for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
            stream.push(chunk).await?;
        }
        stream.complete(self.session).await?;
        Ok(())
    }

    async fn post(&self, id: &AssetId, random: &mut Rng) -> Option<EventId> {
        let ids = [id.to_string()];
        let new = NewMessage { room: self.room, attachments: &ids, ..NewMessage::default() };
        let posted = self.world(random).service.messages().post(self.session, new).await;
        Some(posted.ok()?.id)
    }
}

#[test]
fn after_random_kills_nothing_is_left_that_no_record_names() {
    let (rounds, mut random) = rounds();
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        bucket.check().await.unwrap();
        let (first, ada, _, general) = two(&server, &runtime, &bucket).await;
        let second = World::open_with(&server, &runtime, encrypting(&bucket, true)).await;
        let third = World::open_with(&server, &runtime, with_bucket(&bucket, false)).await;
        let fourth = World::open_with(&server, &runtime, encrypting(&bucket, false)).await;
        let worlds = [&first, &second, &third, &fourth];
        let ada = Person { worlds, session: &ada, room: &general };
        let mut files: Vec<Mutex<Known>> = Vec::new();
        for _ in 0..rounds {
            let new = files.len();
            for _ in 0..3 {
                let (seed, length) = (random.u64(..), LENGTHS[random.usize(..LENGTHS.len())]);
                files.push(Mutex::new(Known { seed, length, ..Known::default() }));
            }
            // Some of them go on where they were killed.
            for _ in 0..random.usize(1..4) {
                let lives = files[new..].iter().filter(|file| {
                    let file = file.lock();
                    !file.removed && file.message.is_none()
                });
                let killed = lives.map(|file| {
                    let left = random.u32(..AWAITS_MAX);
                    CutAt::new(ada.life(file, random.fork()), left)
                });
                join_all(killed.collect::<Vec<_>>()).await;
            }
        }
        let count = |is: fn(&Known) -> bool| files.iter().filter(|file| is(&file.lock())).count();
        let (complete, posted, gone) =
            (count(|one| one.complete), count(|one| one.message.is_some()), count(|one| one.gone));
        eprintln!(
            "kills of uploads: {} files, {complete} complete, {posted} posted, {gone} deleted",
            files.len()
        );
        assert!(complete > 0 && posted > 0 && gone > 0);
        // Whatever a kill has left of an upload, it can be finished.
        for file in &files {
            let Known { removed, complete, .. } = file.lock().clone();
            if complete {
                continue;
            }
            match ada.upload(file, &mut random).await {
                Err(UploadError::Closed | UploadError::NotFound) if removed => {}
                done => done.unwrap(),
            }
        }
        let files: Vec<Known> = files.into_iter().map(Mutex::into_inner).collect();
        sweep_after(&first, Duration::from_secs(180)).await;
        check(&first, ada.session, &files).await;
        assert_nothing_left(&first, &bucket).await;
        check(&first, ada.session, &files).await;
        sweep_after(&first, 25 * HOUR).await;
        let posted: Vec<Known> = files.into_iter().filter(|one| one.message.is_some()).collect();
        check(&first, ada.session, &posted).await;
        let attached = |file: &File| matches!(file.state, FileState::Attached(_));
        assert!(records(&first.storage).await.iter().all(attached));
        assert_nothing_left(&first, &bucket).await;
        first.close().await;
    });
}

/// What was acknowledged can be read, and what was deleted cannot.
async fn check(world: &World, session: &Session, files: &[Known]) {
    for known in files {
        let Some(id) = known.id else { continue };
        let file = world.storage.files().get(&id).await.unwrap();
        let state = file.as_ref().map(|file| file.state.clone());
        if known.gone {
            assert!(file.is_none_or(|file| file.state == FileState::Erasing), "{known:?}");
        } else if !known.removed && known.complete {
            let bytes = read(&world.service, session, &id, 0..known.length as u64).await;
            assert!(bytes.unwrap() == content(known.seed, known.length), "{known:?} {state:?}");
            if let Some(message) = known.message {
                assert_eq!(state, Some(FileState::Attached(message)), "{known:?}");
            }
        }
    }
}

async fn sweep_after(world: &World, time: Duration) {
    world.clock.advance(time);
    world.service.sweeper().sweep_files().await.unwrap();
}

async fn records(storage: &Storage) -> Vec<File> {
    let mut files = Vec::new();
    storage.files().each_file(|file| files.push(file.unwrap())).await.unwrap();
    files
}

/// Lets the uploads end and the sweep run; then every object, multipart upload, chunk and key belongs to a file that is
/// complete.
pub(super) async fn assert_nothing_left(world: &World, bucket: &chatto::blobs::s3::S3) {
    let nats = world.storage.nats();
    sweep_after(world, HOUR + Duration::from_secs(60)).await;
    end_uploads(world).await;
    sweep_after(world, Duration::from_secs(1)).await;
    let files = records(&world.storage).await;
    let ids: BTreeSet<AssetId> = files.iter().map(|file| file.id).collect();
    assert_eq!(ids.len(), files.len(), "one record of each file: {files:?}");
    for file in &files {
        assert!(file.state.is_complete(), "{file:?}");
        if let FileLocation::Nats(chunks) = &file.location {
            let subject = format!("$O.ASSETS.C.{}", file.id);
            let stored = nats.messages_on("OBJ_ASSETS", &subject).await.unwrap();
            assert_eq!(stored, chunks.len() as u64, "{file:?}");
        }
    }
    let in_nats = |file: &File| match &file.location {
        FileLocation::Nats(chunks) => chunks.len() as u64,
        FileLocation::S3 => 0,
    };
    let stored =
        async |stream: &str, subject: &str| nats.messages_on(stream, subject).await.unwrap();
    assert_eq!(stored("OBJ_ASSETS", ">").await, files.iter().map(in_nats).sum::<u64>(), "chunks");
    assert_eq!(stored("OBJ_UPLOADS", ">").await, 0, "staged chunks");
    assert_eq!(stored("FILES", "files.*.*.key").await, files.len() as u64, "keys");
    assert_eq!(stored("FILES", "files.*.*.move").await, 0, "moves");
    let of_files = files.iter().filter(|file| file.location == FileLocation::S3);
    let wanted: BTreeSet<String> = of_files.map(|file| file.id.to_string()).collect();
    let mut objects = BTreeSet::new();
    let mut after = None;
    loop {
        let page = bucket.list("", after.as_deref()).await.unwrap();
        objects.extend(page.entries.into_iter().map(|object| object.key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(objects, wanted, "objects");
    assert_eq!(bucket.list_multipart("", None).await.unwrap().entries, [], "multipart uploads");
}

#[test]
fn a_chunk_that_arrives_late_is_removed() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = messages::two(&server, &runtime).await;
        let service = &world.service;
        let store = ChunkStore::assets(world.storage.nats().clone(), world.clock.clone());
        let cancelled = begin(service, &ada, &general, b"01234").await.unwrap();
        let key = world.file_key(&cancelled.id).await.unwrap();
        let file = upload(&[service], &ada, &general, b"01234").await;
        service.uploads().cancel(&ada, cancelled.id.as_str()).await.unwrap();
        // As of a process that was killed while they were on their way.
        for id in [cancelled.id, file.id] {
            let cipher = FileCipher { id, key: key.clone(), encrypted: false };
            store.put(&cipher, 0, b"01234").await.unwrap();
        }
        world.clock.advance(Duration::from_secs(3660));
        service.sweeper().sweep_files().await.unwrap();
        assert_eq!(chunks(&world.storage, &cancelled.id).await, 0);
        assert_eq!(chunks(&world.storage, &file.id).await, 1);
        assert_eq!(read(service, &ada, &file.id, 0..5).await.unwrap(), b"01234");
        world.close().await;
    });
}

/// To either backend, of one part and of several.
#[test]
fn nothing_is_left_of_a_file_that_is_deleted_after_its_move_was_killed() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        bucket.check().await.unwrap();
        let (in_s3, ada, _, general) = two(&server, &runtime, &bucket).await;
        let in_nats = World::open_with(&server, &runtime, with_bucket(&bucket, false)).await;
        for (from, to) in [(&in_nats, Backend::S3), (&in_s3, Backend::Nats)] {
            for length in [1_000, 6 << 20] {
                // Ever later, so that each move gets further.
                for left in (0..).step_by(5) {
                    let file = upload(&[&from.service], &ada, &general, &content(1, length)).await;
                    let ids = [file.id.to_string()];
                    let new =
                        NewMessage { room: &general, attachments: &ids, ..NewMessage::default() };
                    let message = from.service.messages().post(&ada, new).await.unwrap().id;
                    let work = all(&in_s3.service, FileWork::Move(to));
                    let done = CutAt::new(work, left).await;
                    let deletions = in_s3.service.deletions();
                    deletions.message(&ada, &general, message.as_str()).await.unwrap();
                    let gone = read(&in_s3.service, &ada, &file.id, 0..1).await.unwrap_err();
                    assert_eq!(gone.kind(), ErrorKind::NotFound);
                    if let Some(done) = done {
                        done.unwrap();
                        break;
                    }
                }
            }
        }
        in_s3.clock.advance_monotonic(Duration::from_secs(600));
        assert_nothing_left(&in_s3, &bucket).await;
        assert_eq!(records(&in_s3.storage).await, []);
        in_s3.close().await;
    });
}

#[test]
fn deleting_a_file_in_nats_needs_no_bucket() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        s3(store.config()).check().await.unwrap();
        let proxy = FaultyS3::start(store.port(), |_| Fate::Pass);
        let bucket = s3(config_of_bucket(proxy.port()));
        let (to_s3, ada, _, general) = two(&server, &runtime, &bucket).await;
        let in_nats = World::open_with(&server, &runtime, with_bucket(&bucket, false)).await;
        let service = &in_nats.service;
        // One that was never elsewhere, one that came back.
        let plain = upload(&[service], &ada, &general, b"plain").await;
        let moved = upload(&[&to_s3.service], &ada, &general, b"moved").await;
        all(service, FileWork::Move(Backend::S3)).await.unwrap();
        all(service, FileWork::Move(Backend::Nats)).await.unwrap();
        let before = proxy.seen().len();
        for file in [plain, moved] {
            let ids = [file.id.to_string()];
            let new = NewMessage { room: &general, attachments: &ids, ..NewMessage::default() };
            let message = service.messages().post(&ada, new).await.unwrap().id;
            service.deletions().message(&ada, &general, message.as_str()).await.unwrap();
            assert_eq!(in_nats.storage.files().get(&file.id).await.unwrap(), None);
        }
        assert_eq!(proxy.seen().len(), before);
        assert_nothing_left(&in_nats, &bucket).await;
        to_s3.close().await;
    });
}

/// Ends the records of uploads, as nats-server does after an hour by its own clock.
pub(super) async fn end_uploads(world: &World) {
    let nats = world.storage.nats();
    nats.purge_subject("KV_AUTH_TOKENS", "$KV.AUTH_TOKENS.upload.*").await.unwrap();
}

/// Like the test above with `kill -9` of a real process whose clients repeat what got no response.
#[test]
fn after_kills_of_the_program_nothing_is_left_that_no_record_names() {
    let (rounds, mut random) = rounds();
    let (nats, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
    let mut server = Server::prepare();
    server.use_external(&nats.url());
    server.use_s3(store.port());
    server.run();
    let owner = server.owner();
    let room = owner.room("general");
    owner.join(&room);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut files: Vec<(String, u64, usize)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let random = random.fork();
                scope.spawn(|| upload_until(&owner, &room, random, (&stop, &acknowledged)))
            })
            .collect();
        for round in 0..rounds {
            let goal = acknowledged.load(Ordering::Relaxed) + random.u64(1..4);
            until("uploads make progress", Duration::from_secs(90), || {
                (acknowledged.load(Ordering::Relaxed) >= goal).then_some(())
            });
            // New files go to the other backend from now on, and every second time are encrypted or no longer so.
            let backend = if round % 2 == 0 { "nats" } else { "s3" };
            let encrypt = if round % 4 < 2 { "true" } else { "false" };
            server.kill();
            server.set("CHATTO_CORE_ASSETS_STORAGE_BACKEND", backend);
            server.set("CHATTO_CORE_ASSETS_ENCRYPT", encrypt);
            server.run();
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    eprintln!("kills of uploads: {} acknowledged", files.len());
    assert!(!files.is_empty());
    for (id, seed, length) in files.drain(..) {
        let bytes = owner.client.get_bytes(&format!("/assets/files/{id}")).unwrap();
        assert!(bytes == content(seed, length), "{id}");
    }
    assert!(server.stop().success(), "{}", server.log());
    run(|runtime| async move {
        let bucket = s3(store.config());
        let (clock, nats) = (chatto::runtime::Clock::default(), connect(&nats.url()).await);
        let secret_key = Secret::from(SECRET_KEY.to_owned());
        let shared = chatto::storage::Config { embedded: false, secret_key, ..config(None) };
        let storage = Storage::open(nats, shared, &runtime, clock.clone()).await.unwrap();
        let settings = with_bucket(&bucket, true);
        let service = chatto::service::Service::build(settings, storage.clone(), clock.clone());
        let world = World { service, storage, clock };
        // The program may have swept last; its lease ends by itself.
        while world.storage.lease("file-sweep", SWEEP_LEASE).await.unwrap().is_none() {
            world.clock.sleep(Duration::from_millis(100)).await;
        }
        sweep_after(&world, Duration::from_secs(180)).await;
        assert_nothing_left(&world, &bucket).await;
        world.close().await;
    });
}

/// Uploads files one after the other until it is told to stop; returns those that were acknowledged.
fn upload_until(
    account: &Account,
    room: &str,
    mut random: Rng,
    (stop, acknowledged): (&AtomicBool, &AtomicU64),
) -> Vec<(String, u64, usize)> {
    let mut files = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (seed, length) = (random.u64(..), LENGTHS[random.usize(..LENGTHS.len())]);
        let bytes = Arc::new(content(seed, length));
        let new = json!({
            "roomId": room, "filename": "a file", "size": length.to_string(),
            "sha256": hex(&sha256(&bytes)),
        });
        let Ok(upload) = account.client.call("AssetUploadService/CreateUpload", &new) else {
            continue;
        };
        let id = upload["upload"]["uploadId"].as_str().unwrap().to_owned();
        let path = format!("/assets/uploads/{id}");
        let sent = (0..3).any(|_| account.client.put_bytes(&path, &bytes).is_ok());
        if !sent {
            continue;
        }
        let post = json!({"roomId": room, "body": "", "attachmentAssetIds": [id]});
        if account.client.call("MessageService/CreateMessage", &post).is_ok() {
            files.push((id, seed, length));
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
    files
}
