//! Images that are made from files, and those that everybody may see.

use std::time::Duration;

use bytes::Bytes;
use chatto::blobs::KeptVariant;
use chatto::domain::{AssetId, File, FileState};
use chatto::service::{CallKind, ServerImage, ServerImageError};
use futures_util::future::join_all;

use super::files::{content, state};
use super::messages::two;
use super::{CutAt, NatsServer, World, pause_at, run, settings};

/// A small grey image.
fn image() -> Bytes {
    let mut image = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut image, 75);
    encoder.encode(&[99; 64], 8, 8, jpeg_encoder::ColorType::Luma).unwrap();
    image.into()
}

/// Every file's record.
async fn records(world: &World) -> Vec<File> {
    let mut files = Vec::new();
    world.storage.files().each_file(|file| files.push(file.unwrap())).await.unwrap();
    files
}

/// How many keys and chunks of files there are.
async fn stored(world: &World) -> [u64; 2] {
    let nats = world.storage.nats();
    [
        nats.messages_on("FILES", "files.*.*.key").await.unwrap(),
        nats.messages_on("OBJ_ASSETS", ">").await.unwrap(),
    ]
}

#[test]
fn an_image_that_the_sweep_removed_before_it_was_complete_stays_removed() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, ..) = two(&server, &runtime).await;
        let service = &world.service;
        let mut given_up = 0;
        for pauses in 0..12 {
            let mut call = Box::pin(service.server_images().set_avatar(&ada, image()));
            let mut ended = None;
            while ended.is_none() && records(&world).await.iter().all(|one| one.state.is_complete())
            {
                ended = pause_at(&mut call, 1).await;
            }
            // Its record is there, and a few awaits follow, which do not always pause.
            if ended.is_none() {
                ended = pause_at(&mut call, pauses % 4).await;
            }
            world.clock.advance(Duration::from_secs(2 * 3600));
            service.sweeper().sweep_files().await.unwrap();
            let ended = match ended {
                Some(ended) => ended,
                None => call.await,
            };
            match ended {
                Ok(()) => {
                    let user = service.users().get(&ada, ada.user.as_str()).unwrap().user;
                    let avatar = user.avatar_key.unwrap();
                    assert!(service.assets().open_public(&avatar).await.is_ok(), "{pauses}");
                }
                Err(ServerImageError::GivenUp) => given_up += 1,
                Err(error) => panic!("{pauses}: {error:?}"),
            }
        }
        assert!(given_up > 0, "the sweep never came in between");
        // What is left is what the account names.
        let user = service.users().get(&ada, ada.user.as_str()).unwrap().user;
        let named: Vec<String> = user.avatar_key.into_iter().collect();
        let ids: Vec<String> =
            records(&world).await.iter().map(|file| file.id.to_string()).collect();
        assert_eq!(ids, named);
        assert_eq!(stored(&world).await, [named.len() as u64; 2]);
        world.close().await;
    });
}

#[test]
fn the_sweep_keeps_the_avatar_and_removes_an_image_that_nobody_shows() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, ..) = two(&server, &runtime).await;
        let service = &world.service;
        let shown = async || {
            service.server_images().set_avatar(&ada, image()).await.unwrap();
            let user = service.users().get(&ada, ada.user.as_str()).unwrap().user;
            AssetId::try_from(user.avatar_key.unwrap().as_str()).unwrap()
        };
        let avatar = shown().await;
        // As a process leaves it that is killed before it changes the account.
        let lost = AssetId::new(chatto::domain::FileGroup::SERVER, 1);
        let file = world.storage.files().get(&avatar).await.unwrap().unwrap();
        world.storage.files().create(&File { id: lost, ..file }).await.unwrap();
        world.clock.advance(Duration::from_secs(25 * 3600));
        service.sweeper().sweep_files().await.unwrap();
        assert_eq!(state(&world, &avatar).await, Some(FileState::Ready));
        assert_eq!(state(&world, &lost).await, None);
        assert!(service.assets().open_public(avatar.as_str()).await.is_ok());
        world.close().await;
    });
}

/// At any await a logo is set, replaced or removed, or its call is killed there: what the settings name can be read,
/// and the sweep leaves nothing else.
#[test]
fn a_logo_that_is_killed_on_its_way_leaves_nothing_behind() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let world = World::start(&server, &runtime).await;
        let boss = world.person("boss", Some("owner")).await;
        let service = &world.service;
        let logo = || service.server().profile().logo_key;
        let (mut left, mut set) = (0, false);
        while !set {
            set = CutAt::new(service.server_images().set(&boss, ServerImage::Logo, image()), left)
                .await
                .is_some_and(|done| done.is_ok());
            if let Some(key) = logo() {
                assert!(service.assets().open_public(&key).await.is_ok(), "{left}");
            }
            left += 1;
        }
        let (mut left, mut removed) = (0, false);
        while !removed {
            let call = service.server_images().delete(&boss, ServerImage::Logo);
            removed = CutAt::new(call, left).await.is_some_and(|done| done.is_ok());
            left += 1;
        }
        assert_eq!(logo(), None);
        service.server_images().set(&boss, ServerImage::Banner, image()).await.unwrap();
        world.clock.advance(Duration::from_secs(25 * 3600));
        service.sweeper().sweep_files().await.unwrap();
        let banner = service.server().profile().banner_key.unwrap();
        let ids: Vec<String> =
            records(&world).await.iter().map(|file| file.id.to_string()).collect();
        assert_eq!(ids, [banner]);
        assert_eq!(stored(&world).await, [1, 1]);
        world.close().await;
    });
}

#[test]
fn of_many_who_change_the_banner_at_once_one_remains() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let world = World::open_shared(&server, &runtime).await;
        let other = World::open_shared(&server, &runtime).await;
        let boss = world.person("boss", Some("owner")).await;
        let calls = [&world, &other, &world, &other]
            .map(|world| world.service.server_images().set(&boss, ServerImage::Banner, image()));
        for done in join_all(calls).await {
            done.unwrap();
        }
        world.service.read_barrier().pass(CallKind::Read).await.unwrap();
        let banner = world.service.server().profile().banner_key.unwrap();
        let ids: Vec<String> =
            records(&world).await.iter().map(|file| file.id.to_string()).collect();
        assert_eq!(ids, [banner]);
        world.close().await;
        other.close().await;
    });
}

#[test]
fn images_are_kept_for_as_long_as_the_settings_say() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let world = World::start(&server, &runtime).await;
        let open = |cache_ttl| {
            let config = chatto::blobs::Config { cache_ttl, ..settings().blobs };
            chatto::blobs::Blobs::build(config, world.storage.nats(), &world.clock).variants
        };
        let second = Duration::from_secs(1);
        // Longer than nats-server could count.
        let (short, long) = (open(second), open(Duration::MAX));
        let file = |number| AssetId::new(chatto::domain::FileGroup::SERVER, number);
        let cipher = chatto::blobs::FileCipher {
            id: file(1),
            key: chatto::crypto::DataKey::generate(),
            encrypted: false,
        };
        let image = content(1_200_000);
        long.put(&cipher, "9x9-cover", &image).await.unwrap();
        long.put_impossible(&file(2)).await.unwrap();
        short.put(&cipher, "8x8-cover", &image).await.unwrap();
        short.put_impossible(&file(3)).await.unwrap();
        let of = |number| chatto::blobs::FileCipher { id: file(number), ..cipher.clone() };
        let is_over = async || {
            let image = short.get(&cipher, "8x8-cover").await.unwrap();
            image.is_none() && short.get(&of(3), "8x8-cover").await.unwrap().is_none()
        };
        let deadline = world.clock.now() + 20 * second;
        while !is_over().await {
            assert!(world.clock.now() < deadline, "it is kept longer than a second");
            world.clock.sleep(second / 10).await;
        }
        let kept = short.get(&cipher, "9x9-cover").await.unwrap();
        assert!(kept == Some(KeptVariant::Image(image.into())));
        let kept = short.get(&of(2), "9x9-cover").await.unwrap();
        assert!(kept == Some(KeptVariant::Impossible));
        world.close().await;
    });
}

#[test]
fn images_are_kept_in_pieces_and_only_the_key_of_their_file_reads_them() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let world = World::start(&server, &runtime).await;
        let config = chatto::blobs::Config { cache_max_bytes: 4 << 20, ..settings().blobs };
        let blobs = chatto::blobs::Blobs::build(config, world.storage.nats(), &world.clock);
        let cache = &blobs.variants;
        let file = |number| AssetId::new(chatto::domain::FileGroup::SERVER, number);
        let cipher = |number| chatto::blobs::FileCipher {
            id: file(number),
            key: chatto::crypto::DataKey::generate(),
            encrypted: false,
        };
        let image = content(1_200_000);
        let first = cipher(1);
        cache.put(&first, "9x9-cover", &image).await.unwrap();
        let kept = cache.get(&first, "9x9-cover").await.unwrap();
        assert!(kept == Some(KeptVariant::Image(image.clone().into())));
        assert!(cache.get(&first, "9x9-contain").await.unwrap().is_none());
        // Its key was erased.
        assert!(cache.get(&cipher(1), "9x9-cover").await.unwrap().is_none());
        // Beyond the limit the oldest ones go.
        let last = cipher(6);
        for other in [cipher(2), cipher(3), cipher(4)] {
            cache.put(&other, "9x9-cover", &image).await.unwrap();
        }
        cache.put(&last, "9x9-cover", &image).await.unwrap();
        assert!(cache.get(&first, "9x9-cover").await.unwrap().is_none());
        assert!(cache.get(&last, "9x9-cover").await.unwrap().is_some());
        cache.put_impossible(&last.id).await.unwrap();
        let kept = cache.get(&last, "9x9-cover").await.unwrap();
        assert!(kept == Some(KeptVariant::Impossible));
        world.close().await;
    });
}
