//! Checks and moves of all files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chatto::blobs::s3::S3;
use chatto::blobs::{ChunkStore, FileCipher};
use chatto::domain::{AssetId, FileLocation};
use chatto::limits::FILE_MOVE_LEASE;
use chatto::nats::Publish;
use chatto::runtime::Runtime;
use chatto::service::{
    Backend, FileView, FileWork, FileWorkError, Finding, FindingKind, NewMessage, Service, Session,
    WorkStep,
};
use parking_lot::Mutex;

use super::bucket::{two, with_bucket};
use super::encryption::{contains, encrypting, object, sealed_length};
use super::file_sweep::{damage, shared, slow};
use super::files::{content, read, upload};
use super::leftovers::assert_nothing_left;
use super::{CutAt, NatsServer, World, run};
use crate::support::s3::proxy::{Fate, FaultyS3, Reply, Seen};
use crate::support::s3::{Kind, S3Server, config, s3};

/// Works until everything is done.
pub(super) async fn all(service: &Service, work: FileWork) -> Result<WorkStep, FileWorkError> {
    let (position, _) = service.file_works().begin(work).await?;
    let mut whole = WorkStep { done: 0, bytes: 0, findings: Vec::new(), next: Some(position) };
    while let Some(position) = whole.next {
        let step = service.file_works().step(work, position).await?;
        whole.done += step.done;
        whole.bytes += step.bytes;
        whole.findings.extend(step.findings);
        whole.next = step.next;
    }
    Ok(whole)
}

/// Files of all these processes, each attached to a message, with their bytes.
async fn seeded(worlds: [&World; 4], session: &Session, room: &str) -> Vec<(FileView, Vec<u8>)> {
    let mut files = Vec::new();
    for length in [0, 1_000, 700_000, 6 << 20] {
        for world in worlds {
            let bytes = content(length);
            let file = upload(&[&world.service], session, room, &bytes).await;
            let ids = [file.id.to_string()];
            let new = NewMessage { room, attachments: &ids, ..NewMessage::default() };
            world.service.messages().post(session, new).await.unwrap();
            files.push((file, bytes));
        }
    }
    files
}

/// Processes that upload to S3 and to NATS, with plain files and encrypted ones of both.
struct Scene {
    bucket: S3,
    world: World,
    to_nats: World,
    ada: Session,
    files: Vec<(FileView, Vec<u8>)>,
}

impl Scene {
    async fn start(server: &NatsServer, store: &S3Server, runtime: &Runtime) -> Self {
        Self::start_at(server, s3(store.config()), runtime).await
    }

    async fn start_at(server: &NatsServer, bucket: S3, runtime: &Runtime) -> Self {
        bucket.check().await.unwrap();
        let (world, ada, _, general) = two(server, runtime, &bucket).await;
        let to_nats = World::open_with(server, runtime, with_bucket(&bucket, false)).await;
        let in_s3 = World::open_with(server, runtime, encrypting(&bucket, true)).await;
        let in_nats = World::open_with(server, runtime, encrypting(&bucket, false)).await;
        let files = seeded([&world, &to_nats, &in_s3, &in_nats], &ada, &general).await;
        Self { bucket, world, to_nats, ada, files }
    }
}

async fn assert_readable(world: &World, session: &Session, files: &[(FileView, Vec<u8>)]) {
    for (file, bytes) in files {
        let read = read(&world.service, session, &file.id, 0..file.size).await.unwrap();
        assert!(read == *bytes, "{file:?}");
    }
}

async fn in_s3(world: &World, files: &[(FileView, Vec<u8>)]) -> usize {
    let mut count = 0;
    for (file, _) in files {
        let file = world.storage.files().get(&file.id).await.unwrap().unwrap();
        count += usize::from(file.location == FileLocation::S3);
    }
    count
}

#[test]
fn files_move_to_either_place_and_stay_readable() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let Scene { bucket, world, to_nats, ada, files } =
            Scene::start(&server, &store, &runtime).await;
        for (to, wanted, moved) in
            [(Backend::S3, 16, 8), (Backend::Nats, 0, 16), (Backend::S3, 16, 16)]
        {
            let step = all(&world.service, FileWork::Move(to)).await.unwrap();
            assert_eq!((step.done, step.findings), (moved, vec![]));
            assert_eq!(in_s3(&world, &files).await, wanted);
            assert_readable(&to_nats, &ada, &files).await;
            assert_eq!(all(&world.service, FileWork::Move(to)).await.unwrap().done, 0, "again");
            let check = all(&world.service, FileWork::Check).await.unwrap();
            assert_eq!((check.done, check.findings), (16, vec![]));
        }
        for (number, (file, bytes)) in files.iter().enumerate() {
            // Two of each length are encrypted.
            let record = world.storage.files().get(&file.id).await.unwrap().unwrap();
            assert_eq!(record.encrypted, number % 4 >= 2);
            let object = object(&bucket, &file.id).await;
            if record.encrypted {
                assert_eq!(object.len(), sealed_length(bytes.len()));
                assert!(bytes.len() < 32 || !contains(&object, &bytes[..32]));
            } else {
                assert!(object == *bytes);
            }
        }
        assert_nothing_left(&world, &bucket).await;
        world.close().await;
    });
}

#[test]
fn a_move_may_be_killed_anywhere_and_goes_on() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let Scene { bucket, world, to_nats, ada, files } =
            Scene::start(&server, &store, &runtime).await;
        for to in [Backend::S3, Backend::Nats] {
            // Ever later, so that each run gets further.
            for left in (0..).step_by(7) {
                let work = all(&world.service, FileWork::Move(to));
                let done = CutAt::new(work, left).await;
                assert_readable(&to_nats, &ada, &files).await;
                if let Some(done) = done {
                    done.unwrap();
                    break;
                }
            }
            assert_eq!(in_s3(&world, &files).await, if to == Backend::S3 { 16 } else { 0 });
            assert_eq!(all(&world.service, FileWork::Check).await.unwrap().findings, []);
        }
        world.clock.advance_monotonic(Duration::from_secs(600));
        assert_nothing_left(&world, &bucket).await;
        world.close().await;
    });
}

/// Moves in both directions; before each, `arm` says at which request to the bucket something fails, ever later, until a
/// move needs fewer. Whatever failed, all files stay readable, and the next moves finish the work.
async fn move_with_failures(scene: &Scene, requests: &AtomicUsize, arm: impl Fn(usize)) {
    let Scene { world, to_nats, ada, files, .. } = scene;
    for to in [Backend::S3, Backend::Nats] {
        for fails_at in (0..).step_by(3) {
            requests.store(0, Ordering::SeqCst);
            arm(fails_at);
            let moved = all(&world.service, FileWork::Move(to)).await;
            let needed = requests.load(Ordering::SeqCst);
            arm(usize::MAX);
            settled(world).await;
            assert_readable(to_nats, ada, files).await;
            if needed <= fails_at {
                moved.unwrap();
                break;
            }
        }
        assert_eq!(in_s3(world, files).await, if to == Backend::S3 { files.len() } else { 0 });
        assert_eq!(all(&world.service, FileWork::Check).await.unwrap().findings, []);
    }
}

/// Waits until the store responds again.
async fn settled(world: &World) {
    let responds = async {
        while world.storage.lease("test", Duration::from_secs(1)).await.is_err() {
            world.clock.sleep(Duration::from_millis(50)).await;
        }
    };
    world.clock.timeout(Duration::from_secs(60), responds).await.expect("the store responds");
}

#[test]
fn a_move_goes_on_after_the_bucket_failed_at_any_request() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let requests = Arc::new(AtomicUsize::new(0));
        let fails_at = Arc::new(AtomicUsize::new(usize::MAX));
        let (count, from) = (Arc::clone(&requests), Arc::clone(&fails_at));
        let proxy = FaultyS3::start(store.port(), move |_| {
            match count.fetch_add(1, Ordering::SeqCst) >= from.load(Ordering::SeqCst) {
                true => Fate::Refuse(Reply::error(403, "AccessDenied", "Access Denied", "")),
                false => Fate::Pass,
            }
        });
        let scene = Scene::start_at(&server, s3(config(proxy.port())), &runtime).await;
        move_with_failures(&scene, &requests, |number| fails_at.store(number, Ordering::SeqCst))
            .await;
        scene.world.clock.advance_monotonic(Duration::from_secs(600));
        assert_nothing_left(&scene.world, &scene.bucket).await;
        scene.world.close().await;
    });
}

#[test]
fn a_move_goes_on_after_nats_server_was_killed_at_any_request() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let to_kill: Arc<Mutex<Option<NatsServer>>> = Arc::default();
        let requests = Arc::new(AtomicUsize::new(0));
        let kills_at = Arc::new(AtomicUsize::new(usize::MAX));
        let (count, at, killed) =
            (Arc::clone(&requests), Arc::clone(&kills_at), Arc::clone(&to_kill));
        let proxy = FaultyS3::start(store.port(), move |_| {
            if count.fetch_add(1, Ordering::SeqCst) == at.load(Ordering::SeqCst) {
                let mut server = killed.lock();
                let server = server.as_mut().expect("it runs");
                server.kill();
                server.restart();
            }
            Fate::Pass
        });
        let scene = Scene::start_at(&server, s3(config(proxy.port())), &runtime).await;
        *to_kill.lock() = Some(server);
        move_with_failures(&scene, &requests, |number| kills_at.store(number, Ordering::SeqCst))
            .await;
        scene.world.clock.advance_monotonic(Duration::from_secs(600));
        assert_nothing_left(&scene.world, &scene.bucket).await;
        scene.world.close().await;
    });
}

#[test]
fn a_check_finds_what_is_missing_damaged_and_orphaned() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let Scene { bucket, world, files, .. } = Scene::start(&server, &store, &runtime).await;
        let id = |number: usize| files[number].0.id;
        // Of 1,000 bytes each in S3 and NATS, then of 700,000.
        bucket.delete(id(4).as_str()).await.unwrap();
        let nats = world.storage.nats();
        nats.purge_subject("OBJ_ASSETS", &format!("$O.ASSETS.C.{}", id(5))).await.unwrap();
        bucket.put(id(8).as_str(), vec![0; 700_000].into()).await.unwrap();
        // Of 6 MiB, cut.
        bucket.put(id(12).as_str(), content(5 << 20).into()).await.unwrap();
        let key = world.file_key(&id(9)).await.unwrap();
        let chunks = ChunkStore::assets(nats.clone(), world.clock.clone());
        let cipher = FileCipher { id: id(9), key, encrypted: false };
        chunks.put(&cipher, 0, b"late").await.unwrap();
        let foreign = AssetId::new(id(0).group(), 5);
        bucket.put(foreign.as_str(), "bytes".into()).await.unwrap();
        bucket.put("another program's", "bytes".into()).await.unwrap();
        let check = all(&world.service, FileWork::Check).await.unwrap();
        let finding = |id: AssetId, kind| (id.to_string(), format!("{kind:?}"));
        let found = |one: &Finding| (one.subject.clone(), format!("{:?}", one.kind));
        let wanted = BTreeSet::from([
            finding(id(4), FindingKind::Missing),
            finding(id(5), FindingKind::Missing),
            finding(id(8), FindingKind::Damaged),
            finding(id(9), FindingKind::Orphaned),
            finding(id(12), FindingKind::Damaged),
            finding(foreign, FindingKind::Orphaned),
        ]);
        assert_eq!(check.findings.iter().map(found).collect::<BTreeSet<_>>(), wanted);
        // What cannot be read is not moved, and everything else is.
        let step = all(&world.service, FileWork::Move(Backend::Nats)).await.unwrap();
        assert_eq!((step.done, step.findings.len()), (5, 3));
        world.close().await;
    });
}

#[test]
fn a_file_whose_completion_takes_longer_than_the_lease_is_moved() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let (proxy, clock) = slow(&store, FILE_MOVE_LEASE * 2, Seen::is_completion);
        let bucket = s3(config(proxy.port()));
        bucket.check().await.unwrap();
        let (world, ada, _, general) = shared(&server, &runtime, &bucket).await;
        let to_nats = World::open_with(&server, &runtime, with_bucket(&bucket, false)).await;
        let bytes = content(6 << 20);
        let file = upload(&[&to_nats.service], &ada, &general, &bytes).await;
        clock.set(world.clock.clone()).unwrap();
        let moved = all(&world.service, FileWork::Move(Backend::S3)).await.unwrap();
        assert_eq!((moved.done, moved.findings), (1, vec![]));
        let files = [(file, bytes)];
        assert_eq!(in_s3(&world, &files).await, 1);
        assert_readable(&world, &ada, &files).await;
        world.close().await;
        to_nats.close().await;
    });
}

#[test]
fn a_slow_completion_is_given_up_when_another_process_has_moved_files_meanwhile() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let worlds: Arc<Mutex<Option<[World; 2]>>> = Arc::default();
        let at_completion = Arc::clone(&worlds);
        let proxy = FaultyS3::start(store.port(), move |seen| {
            if let Some([world, other]) =
                at_completion.lock().as_ref().filter(|_| seen.is_completion())
            {
                let nats = other.storage.nats();
                smol::block_on(async {
                    // It ends after two minutes; then the other process takes it, and gives it back.
                    let subject = "$KV.PRESENCE.lease.file-move";
                    nats.purge_subject("KV_PRESENCE", subject).await.unwrap();
                    let taken = other.storage.lease("file-move", FILE_MOVE_LEASE).await.unwrap();
                    assert!(taken.is_some());
                    nats.purge_subject("KV_PRESENCE", subject).await.unwrap();
                });
                world.clock.advance_monotonic(FILE_MOVE_LEASE);
            }
            Fate::Pass
        });
        let bucket = s3(config(proxy.port()));
        bucket.check().await.unwrap();
        let (world, ada, _, general) = shared(&server, &runtime, &bucket).await;
        let to_nats = World::open_with(&server, &runtime, with_bucket(&bucket, false)).await;
        let bytes = content(6 << 20);
        let files = [(upload(&[&to_nats.service], &ada, &general, &bytes).await, bytes)];
        let mover = World::open_with(&server, &runtime, with_bucket(&bucket, true)).await;
        let service = mover.service.clone();
        *worlds.lock() = Some([mover, to_nats]);
        let refused = all(&service, FileWork::Move(Backend::S3)).await.unwrap_err();
        assert!(matches!(refused, FileWorkError::Busy), "{refused:?}");
        assert_eq!(in_s3(&world, &files).await, 0);
        assert_readable(&world, &ada, &files).await;
        let [mover, to_nats] = worlds.lock().take().unwrap();
        assert_eq!(all(&service, FileWork::Move(Backend::S3)).await.unwrap().done, 1, "again");
        assert_readable(&world, &ada, &files).await;
        for world in [world, mover, to_nats] {
            world.close().await;
        }
    });
}

#[test]
fn a_record_that_cannot_be_read_is_found_and_does_not_end_the_work() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let Scene { bucket, world, to_nats, ada, mut files } =
            Scene::start(&server, &store, &runtime).await;
        // Of 1,000 bytes each, in S3 and in NATS.
        let (in_bucket, in_nats) = (files.remove(4).0.id, files.remove(4).0.id);
        for id in [in_bucket, in_nats] {
            damage(&world.storage, &format!("files.{}.{id}", id.group())).await;
        }
        let unknown = "files.00.not-an-id".to_owned();
        let nats = world.storage.nats();
        let payload = "damaged".into();
        nats.publish(Publish { subject: &unknown, payload, ..Publish::default() }).await.unwrap();
        let mut wanted: BTreeSet<String> = [in_bucket, in_nats].map(|id| id.to_string()).into();
        wanted.insert("not-an-id".to_owned());
        let unreadable = |step: &WorkStep| -> BTreeSet<String> {
            assert!(
                step.findings.iter().all(|one| one.kind == FindingKind::Unreadable),
                "{step:?}"
            );
            assert_eq!(step.findings.len(), 3);
            step.findings.iter().map(|one| one.subject.clone()).collect()
        };
        let check = all(&world.service, FileWork::Check).await.unwrap();
        assert_eq!((check.done, unreadable(&check)), (14, wanted.clone()));
        for (to, moved) in [(Backend::S3, 7), (Backend::Nats, 14)] {
            let step = all(&world.service, FileWork::Move(to)).await.unwrap();
            assert_eq!((step.done, unreadable(&step)), (moved, wanted.clone()));
            assert_readable(&to_nats, &ada, &files).await;
        }
        assert!(bucket.head(in_bucket.as_str()).await.is_ok(), "its bytes are kept");
        world.close().await;
    });
}
