//! Keys of encrypted files: stored only wrapped, bound to their file, and lost with the keys of their uploader.

use std::convert::Infallible;

use bytes::Bytes;
use chatto::domain::{AssetId, File, FileGroup, FileLocation, FileState, User, UserId};
use chatto::nats::{Publish, WritesRefused};
use chatto::storage::{FileKeyError, RecordChange, Storage, StorageError};
use futures_lite::future::zip;

use super::erase::on_disk;
use super::{config, open, room, run, user};
use crate::support::filter::Filter;
use crate::support::nats::NatsServer;

fn file(number: u64, uploader: UserId) -> File {
    File {
        id: AssetId::new(FileGroup::of(&room(1)), number),
        room: Some(room(1)),
        uploader,
        name: "a file".into(),
        content_type: String::new(),
        size: 0,
        sha256: [0; 32],
        width: 0,
        height: 0,
        created_ms: 1,
        state: FileState::Ready,
        location: FileLocation::S3,
        encrypted: true,
    }
}

async fn set_user(storage: &Storage, id: UserId, deleted: bool) {
    let change = |user: Option<&User>| {
        let user = user.cloned().unwrap_or_else(|| User::new(id));
        Ok::<_, Infallible>(RecordChange::Put(User { deleted, ..user }))
    };
    storage.state().change::<User, _>(&id, change).await.unwrap();
}

/// A store with two users, each with an encrypted file.
async fn two(server: &NatsServer, runtime: &chatto::runtime::Runtime) -> (Storage, File, File) {
    let storage = open(&server.url(), runtime, config(None)).await.unwrap();
    let files = [file(1, user(1)), file(2, user(2))];
    for file in &files {
        set_user(&storage, file.uploader, false).await;
        storage.files().create(file).await.unwrap();
    }
    let [first, second] = files;
    (storage, first, second)
}

fn subject_of_key(file: &File) -> String {
    format!("files.{}.{}.key", file.id.group(), file.id)
}

/// The subject of the only data key of a user.
async fn subject_of_user_key(storage: &Storage, user: UserId) -> String {
    let filter = format!("$KV.ENCRYPTION_KEYS.user.{user}.*");
    let found = storage.nats().subjects("KV_ENCRYPTION_KEYS", &filter).await.unwrap();
    let [subject] = found.as_slice() else { panic!("{found:?}") };
    subject.clone()
}

async fn stored(storage: &Storage, stream: &str, subject: &str) -> Bytes {
    storage.nats().leader_newest(stream, subject).await.unwrap().unwrap().payload
}

async fn put(storage: &Storage, subject: &str, payload: Bytes) {
    let message = Publish { subject, payload, ..Publish::default() };
    storage.nats().publish(message).await.unwrap();
}

async fn reason(storage: &Storage, file: &File) -> FileKeyError {
    match storage.files().key(file).await.unwrap_err() {
        StorageError::Undecryptable { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_key_of_an_encrypted_file_is_nowhere_on_the_disk() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (storage, encrypted, _) = two(&server, &runtime).await;
        let plain = File { encrypted: false, ..file(3, user(1)) };
        storage.files().create(&plain).await.unwrap();
        for (file, found) in [(&plain, true), (&encrypted, false)] {
            let key = storage.files().key(file).await.unwrap().unwrap();
            assert_eq!(on_disk(&server.store_dir(), key.expose()), found, "{file:?}");
        }
        // A record that says the opposite of what is stored gives no key.
        for file in [
            File { encrypted: true, ..plain.clone() },
            File { encrypted: false, ..encrypted.clone() },
        ] {
            storage.files().key(&file).await.unwrap_err();
        }
        storage.close().await;
    });
}

#[test]
fn a_wrapped_key_is_of_no_use_to_another_file() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (storage, first, of_another) = two(&server, &runtime).await;
        let second = file(3, user(1));
        storage.files().create(&second).await.unwrap();
        let wrapped = stored(&storage, "FILES", &subject_of_key(&first)).await;
        for target in [&second, &of_another] {
            put(&storage, &subject_of_key(target), wrapped.clone()).await;
        }
        assert!(matches!(reason(&storage, &second).await, FileKeyError::Changed { .. }));
        assert!(matches!(reason(&storage, &of_another).await, FileKeyError::Missing));
        let mut changed = wrapped.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        put(&storage, &subject_of_key(&first), changed.into()).await;
        assert!(matches!(reason(&storage, &first).await, FileKeyError::Changed { .. }));
        put(&storage, &subject_of_key(&first), wrapped).await;
        assert!(storage.files().key(&first).await.unwrap().is_some());
        storage.close().await;
    });
}

#[test]
fn without_the_key_of_its_uploader_a_file_is_undecryptable_until_the_key_is_back() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (storage, file, other) = two(&server, &runtime).await;
        let key = storage.files().key(&file).await.unwrap().unwrap();
        let subject = subject_of_user_key(&storage, file.uploader).await;
        let user_key = stored(&storage, "KV_ENCRYPTION_KEYS", &subject).await;
        let foreign = subject_of_user_key(&storage, other.uploader).await;
        let foreign = stored(&storage, "KV_ENCRYPTION_KEYS", &foreign).await;
        storage.nats().purge_subject("KV_ENCRYPTION_KEYS", &subject).await.unwrap();
        // A process that has never had the key in memory.
        let fresh = open(&server.url(), &runtime, config(None)).await.unwrap();
        assert!(matches!(reason(&fresh, &file).await, FileKeyError::Missing));
        for unreadable in [foreign, Bytes::from_static(b"\x01\xff")] {
            put(&fresh, &subject, unreadable).await;
            assert!(matches!(reason(&fresh, &file).await, FileKeyError::Unreadable { .. }));
        }
        assert!(fresh.files().key(&other).await.unwrap().is_some());
        put(&fresh, &subject, user_key).await;
        let healed = fresh.files().key(&file).await.unwrap().unwrap();
        assert_eq!(healed.expose(), key.expose());
        fresh.close().await;
        storage.close().await;
    });
}

#[test]
fn with_the_keys_of_a_user_all_encrypted_files_of_that_user_are_lost() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (storage, hers, of_another) = two(&server, &runtime).await;
        let plain = File { encrypted: false, ..file(3, hers.uploader) };
        let second = file(4, hers.uploader);
        for file in [&plain, &second] {
            storage.files().create(file).await.unwrap();
        }
        storage.user_keys().shred(&hers.uploader).await.unwrap();
        let fresh = open(&server.url(), &runtime, config(None)).await.unwrap();
        for process in [&storage, &fresh] {
            for lost in [&hers, &second] {
                assert!(matches!(reason(process, lost).await, FileKeyError::Missing));
            }
            for kept in [&plain, &of_another] {
                assert!(process.files().key(kept).await.unwrap().is_some());
            }
        }
        // The account was deleted: also for a process that has the keys in memory.
        set_user(&storage, of_another.uploader, true).await;
        assert!(storage.files().key(&of_another).await.unwrap().is_none());
        fresh.close().await;
        storage.close().await;
    });
}

/// A record of a replica that lags may say that the bytes in S3 are left over from a move, and that is not refused there.
#[test]
fn without_quorum_a_file_is_read_from_any_node_to_show_it_and_for_nothing_else() {
    let server = NatsServer::start();
    let filter = Filter::start(server.port(), &["STREAM.MSG.GET."]);
    run(async |runtime| {
        let storage = open(&filter.url(), &runtime, config(None)).await.unwrap();
        let (files, file) = (storage.files(), File { encrypted: false, ..file(3, user(1)) });
        let key = files.create(&file).await.unwrap();
        let no_leader = filter.turn_on();
        storage.nats().refuse_writes(WritesRefused::NoQuorum, true);
        assert_eq!(files.get_to_show(&file.id).await.unwrap().as_ref(), Some(&file));
        let shown = files.key_to_show(&file).await.unwrap().unwrap();
        assert_eq!(shown.expose(), key.expose());
        let (record, key) = zip(files.get(&file.id), files.key(&file)).await;
        assert!(record.as_ref().is_err_and(StorageError::is_transient), "{record:?}");
        assert!(key.is_err_and(|error| error.is_transient()));
        drop(no_leader);
        storage.nats().refuse_writes(WritesRefused::NoQuorum, false);
        assert_eq!(files.get(&file.id).await.unwrap(), Some(file));
        storage.close().await;
    });
}
