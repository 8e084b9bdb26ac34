//! Encrypted files: in either backend nothing of them can be read without the key of their uploader, and changed bytes
//! are never shown.

use std::ops::Range;

use bytes::Bytes;
use chatto::blobs::s3::S3;
use chatto::blobs::{self, BlobError};
use chatto::crypto::DataKey;
use chatto::domain::{AssetId, Chunk, File, FileLocation};
use chatto::limits::UPLOAD_CHUNK_MAX_BYTES;
use chatto::nats::Publish;
use chatto::runtime::Runtime;
use chatto::service::{
    Backend, Config, ErrorKind, FileError, FileReader, FileView, FileWork, FindingKind, NewMessage,
    Session, Variant,
};
use chatto::storage::RecordChange;

use super::bucket::{assert_empty, staged, stream, two, with_bucket};
use super::file_work::all;
use super::files::{begin, content, read, send, upload};
use super::{NatsServer, World, run};
use crate::storage::erase::on_disk;
use crate::support::s3::modes::r2;
use crate::support::s3::proxy::FaultyS3;
use crate::support::s3::{Kind, S3Server, config, s3};

const MIB: usize = 1 << 20;
/// Bytes of a file in a chunk of its object, and what it takes there.
const CHUNK: usize = 64 << 10;
const SEALED: usize = CHUNK + 40;
/// Of a file in a part of its object.
const PART: usize = 5 * MIB;
/// Found wherever it is stored as it is.
const MARK: &[u8] =
    b"what must not be found: \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f";

/// The settings of a process that encrypts new files.
pub(super) fn encrypting(bucket: &S3, uploads_to_s3: bool) -> Config {
    let config = with_bucket(bucket, uploads_to_s3);
    Config { blobs: blobs::Config { encrypt: true, ..config.blobs.clone() }, ..config }
}

/// A store, a bucket, and four processes: plain and encrypted, to S3 and to NATS.
struct Scene {
    server: NatsServer,
    store: S3Server,
    bucket: S3,
    plain: World,
    plain_in_nats: World,
    in_s3: World,
    in_nats: World,
    ada: Session,
    bob: Session,
    room: String,
}

impl Scene {
    async fn start(runtime: &Runtime) -> Self {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        let bucket = s3(store.config());
        bucket.check().await.unwrap();
        let (plain, ada, bob, room) = two(&server, runtime, &bucket).await;
        let plain_in_nats = World::open_with(&server, runtime, with_bucket(&bucket, false)).await;
        let in_s3 = World::open_with(&server, runtime, encrypting(&bucket, true)).await;
        let in_nats = World::open_with(&server, runtime, encrypting(&bucket, false)).await;
        Self { server, store, bucket, plain, plain_in_nats, in_s3, in_nats, ada, bob, room }
    }

    /// A further process, which has no key in memory.
    async fn fresh(&self, runtime: &Runtime) -> World {
        World::open_with(&self.server, runtime, with_bucket(&self.bucket, true)).await
    }

    /// Ada uploads a file at this process.
    async fn upload(&self, world: &World, bytes: &[u8]) -> FileView {
        upload(&[&world.service], &self.ada, &self.room, bytes).await
    }

    async fn record(&self, id: &AssetId) -> File {
        self.plain.storage.files().get(id).await.unwrap().unwrap()
    }

    /// The bytes of the object of a file, as the service has them.
    async fn object(&self, id: &AssetId) -> Vec<u8> {
        object(&self.bucket, id).await
    }

    /// Posts a message with this file.
    async fn post(&self, file: &FileView) -> String {
        let ids = [file.id.to_string()];
        let new = NewMessage { room: &self.room, attachments: &ids, ..NewMessage::default() };
        self.plain.service.messages().post(&self.ada, new).await.unwrap().id.to_string()
    }

    /// The subject of Ada's data key.
    async fn user_key(&self) -> String {
        let filter = format!("$KV.ENCRYPTION_KEYS.user.{}.*", self.ada.user);
        let nats = self.plain.storage.nats();
        nats.subjects("KV_ENCRYPTION_KEYS", &filter).await.unwrap().pop().unwrap()
    }
}

pub(super) async fn object(bucket: &S3, id: &AssetId) -> Vec<u8> {
    let mut download = bucket.get(id.as_str(), None).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = download.next().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

/// Bytes of the encrypted object of a file of so many bytes.
pub(super) fn sealed_length(length: usize) -> usize {
    length + length.div_ceil(CHUNK) * 40
}

pub(super) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

fn marked(length: usize) -> Vec<u8> {
    MARK.iter().copied().cycle().take(length).collect()
}

fn slice(bytes: &[u8], range: &Range<u64>) -> Vec<u8> {
    bytes[range.start as usize..range.end as usize].to_vec()
}

#[test]
fn nothing_of_an_encrypted_file_is_found_in_the_bucket_or_in_the_store() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { plain, plain_in_nats, in_s3, in_nats, ada, room, .. } = &scene;
        let bytes = marked(5 * MIB + 12_345);
        let mut files = Vec::new();
        for world in [in_s3, in_nats] {
            files.push(scene.upload(world, &bytes).await);
            let new = begin(&world.service, ada, room, &bytes).await.unwrap();
            files.push(stream(&world.service, ada, &new.id, &bytes).await.unwrap());
        }
        // Less than a block of the hash, and not complete.
        let unfinished = begin(&in_s3.service, ada, room, &bytes).await.unwrap();
        send(&in_s3.service, ada, unfinished.id.as_str(), 0, MARK).await.unwrap();
        let folder = scene.server.store_dir();
        let mut keys: Vec<DataKey> = Vec::new();
        for file in &files {
            let record = scene.record(&file.id).await;
            assert!(record.encrypted);
            if record.location == FileLocation::S3 {
                let object = scene.object(&file.id).await;
                assert_eq!(object.len(), sealed_length(bytes.len()));
                assert!(!contains(&object, MARK), "{file:?}");
            }
            for world in [plain, in_s3, in_nats] {
                let read = read(&world.service, ada, &file.id, 0..file.size).await.unwrap();
                assert!(read == bytes, "{file:?}");
            }
            keys.push(plain.file_key(&file.id).await.unwrap());
        }
        for needle in keys.iter().map(DataKey::expose).chain([MARK]) {
            assert!(!on_disk(&folder, needle), "{needle:?}");
        }
        assert!(!on_disk(scene.store.dir(), MARK));
        // What is not encrypted is found by these means: the object, the key of a file in NATS, the block of a hash.
        let in_bucket = scene.upload(plain, &bytes).await;
        assert!(contains(&scene.object(&in_bucket.id).await, MARK));
        let in_store = scene.upload(plain_in_nats, &bytes).await;
        assert!(on_disk(&folder, plain.file_key(&in_store.id).await.unwrap().expose()));
        let unfinished = begin(&plain_in_nats.service, ada, room, &bytes).await.unwrap();
        send(&plain_in_nats.service, ada, unfinished.id.as_str(), 0, MARK).await.unwrap();
        assert!(on_disk(&folder, MARK));
        scene.plain.close().await;
    });
}

#[test]
fn encrypted_files_of_every_length_are_read_in_every_range() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { in_s3, in_nats, ada, room, .. } = &scene;
        let service = &in_s3.service;
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, PART - 1, PART, PART + 1] {
            let bytes = content(length);
            let chunked = scene.upload(in_s3, &bytes).await;
            let new = begin(service, ada, room, &bytes).await.unwrap();
            let streamed = stream(service, ada, &new.id, &bytes).await.unwrap();
            for file in [chunked, streamed] {
                let size = scene.bucket.head(file.id.as_str()).await.unwrap().size;
                assert_eq!(size, sealed_length(length) as u64, "{length}");
                let read = read(service, ada, &file.id, 0..length as u64).await.unwrap();
                assert!(read == bytes, "{length}");
            }
        }
        assert_eq!(scene.bucket.list_multipart("", None).await.unwrap().entries, []);
        let bytes = content(2 * PART + 12_345);
        let (chunk, part, end) = (CHUNK as u64, PART as u64, bytes.len() as u64);
        for world in [in_s3, in_nats] {
            let file = scene.upload(world, &bytes).await;
            for range in [
                0..1,
                7..7,
                chunk - 1..chunk,
                chunk..chunk + 1,
                chunk - 1..chunk + 1,
                3 * chunk + 5..9 * chunk - 7,
                part - 1..part,
                part - 1..part + 1,
                part..part + chunk,
                part - chunk..part + chunk,
                end - 1..end,
                end - 12_345..end,
                end - 12_346..end - 1,
                0..end,
            ] {
                let read = read(service, ada, &file.id, range.clone()).await.unwrap();
                assert!(read == slice(&bytes, &range), "{range:?}");
            }
        }
        scene.plain.close().await;
    });
}

#[test]
fn an_encrypted_upload_goes_on_at_any_process_in_parts_of_one_length() {
    run(|runtime| async move {
        let (server, store) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
        s3(store.config()).check().await.unwrap();
        // Refuses parts of different lengths.
        let proxy = FaultyS3::start(store.port(), r2());
        let bucket = s3(config(proxy.port()));
        let (world, ada, _, general) = two(&server, &runtime, &bucket).await;
        let encrypted = World::open_with(&server, &runtime, encrypting(&bucket, true)).await;
        let services = [&world.service, &encrypted.service];
        let bytes = content(12 * MIB + 12_345);
        let new = begin(&encrypted.service, &ada, &general, &bytes).await.unwrap();
        let (mut offset, mut most) = (0, 0);
        // Chunks of a length that fits neither parts nor chunks of the object.
        for (number, chunk) in bytes.chunks(400_001).enumerate() {
            send(services[number % 2], &ada, new.id.as_str(), offset, chunk).await.unwrap();
            offset += chunk.len() as u64;
            most = most.max(staged(&world, &new.id).await);
        }
        assert!(most <= (PART as u64).div_ceil(400_001) + 1, "{most} chunks in UPLOADS");
        // The process that completes it does not encrypt new files itself.
        let (_, file) = world.service.uploads().complete(&ada, new.id.as_str()).await.unwrap();
        assert_eq!(staged(&world, &new.id).await, 0);
        let parts = proxy.seen().into_iter().filter(|seen| seen.is_part());
        let lengths: Vec<usize> =
            parts.map(|part| part.header("content-length").unwrap().parse().unwrap()).collect();
        let part = sealed_length(PART);
        assert_eq!(lengths, [part, part, sealed_length(bytes.len()) - 2 * part]);
        assert!(read(&world.service, &ada, &file.id, 0..offset).await.unwrap() == bytes);
        // A stream in the place of the chunks, which is cut, and then the whole file.
        let new = begin(&encrypted.service, &ada, &general, &bytes).await.unwrap();
        let mut cut = world.service.uploads().stream(&ada, new.id.as_str()).await.unwrap();
        for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES).take(18) {
            cut.push(chunk).await.unwrap();
        }
        drop(cut);
        let file = stream(&encrypted.service, &ada, &new.id, &bytes).await.unwrap();
        assert!(read(&world.service, &ada, &file.id, 0..offset).await.unwrap() == bytes);
        assert_eq!(bucket.list_multipart("", None).await.unwrap().entries, []);
        world.close().await;
    });
}

#[test]
fn of_a_cancelled_encrypted_upload_nothing_is_left() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { in_s3, ada, room, .. } = &scene;
        let bytes = content(11 * MIB);
        let new = begin(&in_s3.service, ada, room, &bytes).await.unwrap();
        for (number, chunk) in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES).take(15).enumerate() {
            let offset = (number * UPLOAD_CHUNK_MAX_BYTES) as u64;
            send(&in_s3.service, ada, new.id.as_str(), offset, chunk).await.unwrap();
        }
        assert_eq!(scene.bucket.list_multipart("", None).await.unwrap().entries.len(), 1);
        in_s3.service.uploads().cancel(ada, new.id.as_str()).await.unwrap();
        assert_eq!(staged(in_s3, &new.id).await, 0);
        assert_empty(&scene.bucket).await;
        scene.plain.close().await;
    });
}

#[test]
fn a_file_stays_as_it_was_begun_whatever_the_setting_is_later() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { plain, plain_in_nats, in_s3, in_nats, ada, bob, room, .. } = &scene;
        let bytes = content(700_000);
        for (first, second, is_encrypted) in [
            (in_s3, plain, true),
            (in_nats, plain_in_nats, true),
            (plain, in_s3, false),
            (plain_in_nats, in_nats, false),
        ] {
            let new = begin(&first.service, ada, room, &bytes).await.unwrap();
            let mut offset = 0;
            for chunk in bytes.chunks(UPLOAD_CHUNK_MAX_BYTES) {
                let sent = send(&second.service, ada, new.id.as_str(), offset, chunk).await;
                offset = sent.unwrap().offset;
            }
            let (_, file) = second.service.uploads().complete(ada, new.id.as_str()).await.unwrap();
            assert_eq!(scene.record(&file.id).await.encrypted, is_encrypted);
            scene.post(&file).await;
            for world in [plain, plain_in_nats, in_s3, in_nats] {
                let read = read(&world.service, bob, &file.id, 0..offset).await.unwrap();
                assert!(read == bytes, "{file:?}");
            }
        }
        scene.plain.close().await;
    });
}

fn is_damaged(result: Result<Vec<u8>, FileError>) -> bool {
    matches!(result, Err(FileError::Blob(BlobError::Damaged)))
}

#[test]
fn changed_swapped_and_cut_objects_are_damaged() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { in_s3, ada, bucket, .. } = &scene;
        let bytes = content(4 * CHUNK + 100);
        let (file, other) = (scene.upload(in_s3, &bytes).await, scene.upload(in_s3, &bytes).await);
        let (whole, other) = (scene.object(&file.id).await, scene.object(&other.id).await);
        let part = async |chunk: usize| {
            let begin = (chunk * CHUNK) as u64;
            let end = (begin + CHUNK as u64).min(file.size);
            let read = read(&in_s3.service, ada, &file.id, begin..end).await;
            let expected = slice(&bytes, &(begin..end));
            read.inspect(|read| assert!(*read == expected, "chunk {chunk}"))
        };
        let put = async |object: &[u8]| {
            bucket.put(file.id.as_str(), Bytes::copy_from_slice(object)).await.unwrap();
        };
        let second = SEALED..2 * SEALED;
        let mut changed = Vec::new();
        // In the nonce, in the bytes, and in the tag.
        for at in [second.start, second.start + 1_000, second.end - 1] {
            let mut object = whole.clone();
            object[at] ^= 1;
            changed.push(("changed", object, vec![1]));
        }
        let mut swapped = whole.clone();
        swapped[second.clone()].copy_from_slice(&whole[2 * SEALED..3 * SEALED]);
        swapped[2 * SEALED..3 * SEALED].copy_from_slice(&whole[second.clone()]);
        changed.push(("swapped", swapped, vec![1, 2]));
        let mut foreign = whole.clone();
        foreign[second.clone()].copy_from_slice(&other[second]);
        changed.push(("of another file", foreign, vec![1]));
        changed.push(("cut by a byte", whole[..whole.len() - 1].to_vec(), vec![4]));
        changed.push(("cut by a chunk", whole[..4 * SEALED].to_vec(), vec![4]));
        changed.push(("cut inside", whole[..3 * SEALED - 5].to_vec(), vec![2, 3, 4]));
        for (what, object, damaged) in &changed {
            put(object).await;
            for chunk in 0..5 {
                let read = part(chunk).await;
                assert_eq!(read.is_err(), damaged.contains(&chunk), "{what}: chunk {chunk}");
                assert!(read.is_ok() || is_damaged(read), "{what}: chunk {chunk}");
            }
            let whole = read(&in_s3.service, ada, &file.id, 0..file.size).await;
            assert!(is_damaged(whole), "{what}");
            let check = all(&in_s3.service, FileWork::Check).await.unwrap();
            let found = check.findings.iter().map(|one| (one.subject.as_str(), one.kind));
            let found: Vec<_> = found.collect();
            assert_eq!(found, [(file.id.as_str(), FindingKind::Damaged)], "{what}");
        }
        put(&whole).await;
        assert_eq!(all(&in_s3.service, FileWork::Check).await.unwrap().findings, []);
        scene.plain.close().await;
    });
}

#[test]
fn swapped_foreign_and_missing_chunks_in_nats_are_noticed() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { in_nats, ada, .. } = &scene;
        let bytes = content(2 * UPLOAD_CHUNK_MAX_BYTES);
        let (file, other) =
            (scene.upload(in_nats, &bytes).await, scene.upload(in_nats, &bytes).await);
        let chunks = |file: File| match file.location {
            FileLocation::Nats(chunks) => chunks,
            FileLocation::S3 => panic!(),
        };
        let listed = chunks(scene.record(&file.id).await);
        let foreign = chunks(scene.record(&other.id).await);
        let set = async |chunks: &[Chunk]| {
            let change = |file: Option<&File>| {
                let location = FileLocation::Nats(chunks.to_vec());
                let file = File { location, ..file.unwrap().clone() };
                Ok::<_, std::convert::Infallible>(RecordChange::Put(file))
            };
            in_nats.storage.files().change(&file.id, change).await.unwrap();
        };
        let whole = async || read(&in_nats.service, ada, &file.id, 0..file.size).await;
        for changed in [[listed[1], listed[0]], [foreign[0], listed[1]]] {
            set(&changed).await;
            assert!(is_damaged(whole().await));
        }
        set(&listed[..1]).await;
        assert!(matches!(whole().await, Err(FileError::Blob(BlobError::Missing))));
        set(&listed).await;
        assert!(whole().await.unwrap() == bytes);
        scene.plain.close().await;
    });
}

#[test]
fn while_the_key_of_its_uploader_is_missing_a_file_cannot_be_read_but_deleted() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { plain, in_s3, in_nats, ada, bob, room, .. } = &scene;
        let bytes = content(100_000);
        let files = [scene.upload(in_s3, &bytes).await, scene.upload(in_nats, &bytes).await];
        let deleted = scene.upload(in_nats, &bytes).await;
        let kept = scene.upload(plain, &bytes).await;
        for file in files.iter().chain([&kept]) {
            scene.post(file).await;
        }
        let message = scene.post(&deleted).await;
        let nats = plain.storage.nats();
        let subject = scene.user_key().await;
        let stored = nats.leader_newest("KV_ENCRYPTION_KEYS", &subject).await.unwrap().unwrap();
        nats.purge_subject("KV_ENCRYPTION_KEYS", &subject).await.unwrap();

        let fresh = scene.fresh(&runtime).await;
        let whole = async |file: &FileView| read(&fresh.service, bob, &file.id, 0..100_000).await;
        for file in files.iter().chain([&deleted]) {
            let error = whole(file).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Undecryptable, "{error:?}");
        }
        assert!(whole(&kept).await.unwrap() == bytes);
        let finds = async |work: FileWork| {
            let step = all(&fresh.service, work).await.unwrap();
            let is_undecryptable = |kind: FindingKind| kind == FindingKind::Undecryptable;
            assert!(step.findings.iter().all(|one| is_undecryptable(one.kind)), "{step:?}");
            (step.done, step.findings.len())
        };
        assert_eq!(finds(FileWork::Check).await, (1, 3));
        assert_eq!(finds(FileWork::Move(Backend::S3)).await, (0, 2));
        fresh.service.deletions().message(ada, room, &message).await.unwrap();
        assert!(plain.storage.files().get(&deleted.id).await.unwrap().is_none());

        let message = Publish { subject: &subject, payload: stored.payload, ..Publish::default() };
        nats.publish(message).await.unwrap();
        for file in files.iter().chain([&kept]) {
            assert!(whole(file).await.unwrap() == bytes);
        }
        assert_eq!(finds(FileWork::Check).await, (3, 0));
        scene.plain.close().await;
    });
}

#[test]
fn erasing_the_keys_of_a_user_shreds_that_users_encrypted_files() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { plain, in_s3, in_nats, ada, bob, room, .. } = &scene;
        let bytes = content(100_000);
        let lost = [scene.upload(in_s3, &bytes).await, scene.upload(in_nats, &bytes).await];
        let kept = [
            scene.upload(plain, &bytes).await,
            upload(&[&in_s3.service], bob, room, &bytes).await,
            upload(&[&in_nats.service], bob, room, &bytes).await,
        ];
        for (file, session) in lost.iter().zip([ada; 2]).chain(kept.iter().zip([ada, bob, bob])) {
            let ids = [file.id.to_string()];
            let new = NewMessage { room, attachments: &ids, ..NewMessage::default() };
            plain.service.messages().post(session, new).await.unwrap();
        }
        plain.storage.user_keys().shred(&ada.user).await.unwrap();
        let fresh = scene.fresh(&runtime).await;
        for world in [plain, &fresh] {
            for file in &lost {
                let error = read(&world.service, bob, &file.id, 0..1).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Undecryptable);
            }
            for file in &kept {
                let read = read(&world.service, bob, &file.id, 0..file.size).await.unwrap();
                assert!(read == bytes, "{file:?}");
            }
        }
        scene.plain.close().await;
    });
}

#[test]
fn an_encrypted_file_is_never_fetched_from_the_service() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { plain, in_s3, ada, bucket, .. } = &scene;
        // Text would come from here in any case.
        let bytes = [0xfe; 100];
        let (open, closed) = (scene.upload(plain, &bytes).await, scene.upload(in_s3, &bytes).await);
        let config = with_bucket(bucket, true);
        let blobs = blobs::Config { redirect_above: Some(0), ..config.blobs.clone() };
        let config = Config { blobs, ..config };
        let redirecting = World::open_with(&scene.server, &runtime, config).await;
        let assets = redirecting.service.assets();
        for (file, is_redirected) in [(&open, true), (&closed, false)] {
            let reader = FileReader::Session(ada);
            let opened = assets.open(reader, file.id.as_str(), None).await.unwrap();
            let url = assets.redirect(&opened, "attachment").await.unwrap();
            assert_eq!(url.is_some(), is_redirected, "{file:?}");
        }
        scene.plain.close().await;
    });
}

fn image(side: u16) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut file, 75);
    let pixels = content(usize::from(side) * usize::from(side));
    encoder.encode(&pixels, side, side, jpeg_encoder::ColorType::Luma).unwrap();
    file
}

#[test]
fn variants_of_an_encrypted_image_are_encrypted_and_avatars_are_not() {
    run(|runtime| async move {
        let scene = Scene::start(&runtime).await;
        let Scene { in_s3, ada, .. } = &scene;
        let original = image(128);
        let file = scene.upload(in_s3, &original).await;
        let variant = Variant { width: 64, height: 64, cover: true };
        let shown = async || {
            let (assets, reader) = (in_s3.service.assets(), FileReader::Session(ada));
            let open = assets.open(reader, file.id.as_str(), Some(variant)).await.unwrap();
            let open = in_s3.service.variants().show(open, variant).await.unwrap();
            let (size, tag) = (open.size(), open.tag());
            let mut reader = assets.read(open, 0..size).unwrap();
            let mut bytes = Vec::new();
            while let Some(chunk) = reader.next().await.unwrap() {
                bytes.extend_from_slice(&chunk);
            }
            (bytes, tag)
        };
        let made = shown().await;
        let nats = in_s3.storage.nats();
        assert_eq!(nats.messages_on("OBJ_ASSET_CACHE", ">").await.unwrap(), 1);
        assert!(made.0 != original);
        assert_eq!(shown().await, made);
        let middle = made.0.len() / 2;
        assert!(!on_disk(&scene.server.store_dir(), &made.0[middle..middle + 64]));

        let service = &in_s3.service;
        service.server_images().set_avatar(ada, original.into()).await.unwrap();
        let user = service.users().get(ada, ada.user.as_str()).unwrap().user;
        let avatar = AssetId::try_from(user.avatar_key.unwrap().as_str()).unwrap();
        assert!(!scene.record(&avatar).await.encrypted);
        assert!(scene.object(&avatar).await.starts_with(&[0xff, 0xd8]));
        scene.plain.close().await;
    });
}
