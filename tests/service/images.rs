//! Images that are made from files, and those that everybody may see.

use std::time::Duration;

use chatto::blobs::KeptVariant;
use chatto::domain::{AssetId, File, FileState};

use super::files::{content, state};
use super::messages::two;
use super::{NatsServer, World, run, settings};

#[test]
fn the_sweep_keeps_the_avatar_and_removes_an_image_that_nobody_shows() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, ..) = two(&server, &runtime).await;
        let service = &world.service;
        let mut image = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut image, 75);
        encoder.encode(&[99; 64], 8, 8, jpeg_encoder::ColorType::Luma).unwrap();
        let shown = async || {
            service.server_images().set_avatar(&ada, image.clone().into()).await.unwrap();
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
    });
}
