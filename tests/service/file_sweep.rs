//! The sweep of files where several processes share NATS: its lease, moves of other processes, and records that cannot
//! be read.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chatto::blobs::s3::S3;
use chatto::limits::{FILE_MOVE_LEASE, SWEEP_LEASE};
use chatto::nats::Publish;
use chatto::runtime::{Clock, Runtime, Stop};
use chatto::service::{Backend, FileWork, Session, WorkPosition};
use chatto::storage::Storage;

use super::bucket::with_bucket;
use super::files::{begin, content, state, upload};
use super::messages::{members, two};
use super::{NatsServer, World, run};
use crate::support::s3::proxy::{Fate, FaultyS3, Seen};
use crate::support::s3::{Kind, S3Server, config, s3};

const HOUR: Duration = Duration::from_secs(3600);
const LEASE_OF_MOVES: &str = "$KV.PRESENCE.lease.file-move";

/// One of several processes, with two members of `general`, whose files go to this bucket.
pub(super) async fn shared(
    server: &NatsServer,
    runtime: &Runtime,
    bucket: &S3,
) -> (World, Session, Session, String) {
    let world = World::open_with(server, runtime, with_bucket(bucket, true)).await;
    world.service.prepare().await.unwrap();
    members(world).await
}

/// A proxy that moves the monotonic clock, as soon as there is one, at each of these requests: as if the service took
/// so long to respond.
pub(super) fn slow(
    store: &S3Server,
    by: Duration,
    is_slow: impl Fn(&Seen) -> bool + Send + 'static,
) -> (FaultyS3, Arc<OnceLock<Clock>>) {
    let clock: Arc<OnceLock<Clock>> = Arc::default();
    let moved = Arc::clone(&clock);
    let proxy = FaultyS3::start(store.port(), move |seen| {
        if let Some(clock) = moved.get().filter(|_| is_slow(seen)) {
            clock.advance_monotonic(by);
        }
        Fate::Pass
    });
    (proxy, clock)
}

/// Damages the record of a file: afterwards it is the only one.
pub(super) async fn damage(storage: &Storage, subject: &str) {
    let nats = storage.nats();
    let stored = nats.leader_newest("FILES", subject).await.unwrap().unwrap();
    let damaged = Publish { subject, payload: "\u{1}damaged".into(), ..Publish::default() };
    nats.publish(damaged).await.unwrap();
    assert!(nats.erase("FILES", stored.sequence).await.unwrap());
}

async fn ids_of_multipart(bucket: &S3) -> BTreeSet<String> {
    let uploads = bucket.list_multipart("", None).await.unwrap().entries;
    uploads.into_iter().map(|upload| upload.key).collect()
}

#[test]
fn a_sweep_that_takes_longer_than_its_lease_goes_on_to_the_end() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let (proxy, clock) = slow(&store, SWEEP_LEASE / 2, |seen| seen.method == "DELETE");
        let bucket = s3(config(proxy.port()));
        bucket.check().await.unwrap();
        let (world, ada, _, general) = shared(&server, &runtime, &bucket).await;
        for _ in 0..6 {
            upload(&[&world.service], &ada, &general, b"bytes").await;
        }
        world.clock.advance(25 * HOUR);
        let kept = upload(&[&world.service], &ada, &general, b"bytes").await;
        bucket.begin(kept.id.as_str()).await.unwrap();
        clock.set(world.clock.clone()).unwrap();
        world.service.sweeper().sweep_files().await.unwrap();
        let objects = bucket.list("", None).await.unwrap().entries;
        let objects: Vec<&str> = objects.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(objects, [kept.id.as_str()]);
        assert_eq!(ids_of_multipart(&bucket).await, BTreeSet::new());
        world.close().await;
    });
}

/// The service takes longer for one request than the lease lasts, and nobody else sweeps meanwhile.
#[test]
fn a_sweep_takes_its_lease_again_after_one_slow_request() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let (proxy, clock) = slow(&store, SWEEP_LEASE * 2, |seen| seen.method == "DELETE");
        let bucket = s3(config(proxy.port()));
        bucket.check().await.unwrap();
        let (world, ada, _, general) = shared(&server, &runtime, &bucket).await;
        for _ in 0..3 {
            upload(&[&world.service], &ada, &general, b"bytes").await;
        }
        world.clock.advance(25 * HOUR);
        clock.set(world.clock.clone()).unwrap();
        world.service.sweeper().sweep_files().await.unwrap();
        assert_eq!(bucket.list("", None).await.unwrap().entries.len(), 0);
        world.close().await;
    });
}

#[test]
fn a_sweep_does_not_keep_another_process_from_moving_files() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        bucket.check().await.unwrap();
        let (world, ada, _, general) = shared(&server, &runtime, &bucket).await;
        let other = World::open_with(&server, &runtime, with_bucket(&bucket, true)).await;
        let file = upload(&[&world.service], &ada, &general, b"bytes").await;
        bucket.begin(file.id.as_str()).await.unwrap();
        let multipart = || ids_of_multipart(&bucket);
        let sweep = async || world.service.sweeper().sweep_files().await.unwrap();
        let position = WorkPosition::Files { after: 0, end: 0 };
        let step = other.service.file_works();
        step.step(FileWork::Move(Backend::S3), position.clone()).await.unwrap();
        // As far as the sweep knows, the upload is of this move.
        sweep().await;
        assert_eq!(multipart().await, BTreeSet::from([file.id.to_string()]));
        let nats = world.storage.nats();
        nats.purge_subject("KV_PRESENCE", LEASE_OF_MOVES).await.unwrap();
        sweep().await;
        assert_eq!(multipart().await, BTreeSet::new());
        assert!(nats.leader_newest("KV_PRESENCE", LEASE_OF_MOVES).await.unwrap().is_none());
        other.clock.advance_monotonic(FILE_MOVE_LEASE);
        step.step(FileWork::Move(Backend::S3), position).await.unwrap();
        world.close().await;
        other.close().await;
    });
}

#[test]
fn the_copy_of_a_move_that_was_interrupted_is_released_without_a_sweep_of_files() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let (proxy, clock) = slow(&store, Duration::from_secs(3), Seen::is_part);
        let bucket = s3(config(proxy.port()));
        bucket.check().await.unwrap();
        let (world, ada, _, general) = shared(&server, &runtime, &bucket).await;
        let to_nats = World::open_with(&server, &runtime, with_bucket(&bucket, false)).await;
        upload(&[&to_nats.service], &ada, &general, &content(6 << 20)).await;
        clock.set(world.clock.clone()).unwrap();
        let works = world.service.file_works();
        let (position, _) = works.begin(FileWork::Move(Backend::S3)).await.unwrap();
        let step = works.step(FileWork::Move(Backend::S3), position).await.unwrap();
        assert_eq!((step.done, step.next.is_some()), (0, true));
        // Another process sweeps the files.
        assert!(to_nats.storage.lease("file-sweep", HOUR).await.unwrap().is_some());
        world.clock.advance_monotonic(FILE_MOVE_LEASE);
        let slots = async {
            let mut streams = Vec::new();
            // This process may hold two parts in memory.
            for _ in 0..2 {
                let new = begin(&world.service, &ada, &general, b"bytes").await.unwrap();
                streams.push(world.service.uploads().stream(&ada, new.id.as_str()).await.unwrap());
            }
        };
        let stop = Stop::new();
        let running = async {
            world.service.sweeper().run(&stop).await;
            panic!("it ended");
        };
        let slots = futures_lite::future::or(slots, running);
        world.clock.timeout(Duration::from_secs(60), slots).await.expect("a slot is free");
        world.close().await;
        to_nats.close().await;
    });
}

#[test]
fn a_record_that_cannot_be_read_does_not_end_the_sweep_of_the_others() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let mut files = Vec::new();
        for _ in 0..3 {
            files.push(upload(&[&world.service], &ada, &general, b"bytes").await.id);
        }
        let subject = format!("files.{}.{}", files[1].group(), files[1]);
        damage(&world.storage, &subject).await;
        world.clock.advance(25 * HOUR);
        world.service.sweeper().sweep_files().await.unwrap();
        assert_eq!(state(&world, &files[0]).await, None);
        assert_eq!(state(&world, &files[2]).await, None);
        let nats = world.storage.nats();
        assert!(nats.leader_newest("FILES", &subject).await.unwrap().is_some(), "it is kept");
        world.close().await;
    });
}
