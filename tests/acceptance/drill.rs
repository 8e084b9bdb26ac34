//! The disaster drill: a server with every kind of data that a store can hold is backed up and lost, and comes back on another
//! machine. What no method makes yet is written through the store's own records.

use std::path::Path;

use chatto::domain::timeline::{Content, Delete, Edit, Effect, Pin, Post, React};
use chatto::domain::{EventId, ReadMarker, Role, Room, RoomId, RoomKind, User, UserId};
use chatto::nats::Publish;
use chatto::storage::{Draft, RecordChange, RequestId, Storage};
use serde_json::json;

use super::backup::{attach, json_of, text};
use super::contents::{everything, of_processes};
use super::{keys, path, seeded};
use crate::storage::{connect, open, run as run_store, user};
use crate::support::nats::NatsServer;
use crate::support::s3::{Kind, S3Server};
use crate::support::server::{NOBODY, Server};

const AT: i64 = 1_795_240_800_000;

async fn append(storage: &Storage, room: RoomId, author: UserId, effect: Effect) {
    let mut effect = Some(effect);
    let request = RequestId::random();
    let appended = storage.timelines().append(&room, &request, &[], |_| {
        let effect = effect.take().unwrap();
        Ok::<_, std::convert::Infallible>(Draft { actor: Some(author), at_ms: AT, effect })
    });
    Box::pin(appended).await.unwrap();
}

async fn sealed(storage: &Storage, room: RoomId, author: UserId, id: EventId) -> Content {
    let text = format!("the text of {id}");
    let body = storage.texts().seal(&author, &room, &id, &text).await.unwrap();
    Content { body: Some(body), ..Content::default() }
}

async fn post(
    storage: &Storage,
    room: RoomId,
    author: UserId,
    (row, reply): (u32, u32),
) -> EventId {
    let id = EventId::new(row, reply, 9);
    let content = sealed(storage, room, author, id).await;
    append(storage, room, author, Effect::Post(Post::new(id, content))).await;
    id
}

/// A second person, a role, a direct message with a thread, reactions, an edit, a deletion, a pin, read markers and a
/// notification. Returns the direct message.
async fn fill(url: &str, runtime: &chatto::runtime::Runtime, room: RoomId) -> RoomId {
    let storage = open(url, runtime, of_processes()).await.unwrap();
    let (ben, dm) = (user(77), RoomId::direct([7; 16]));
    let ada = storage.state().read(|tables| tables.user_by_login("ada").unwrap().id);
    let state = storage.state();
    let person = User { login: "ben".to_owned(), roles: vec!["crew".to_owned()], ..User::new(ben) };
    state.put_if_absent(&ben, &person).await.unwrap();
    let role = |present: Option<&Role>| -> Result<_, std::convert::Infallible> {
        assert!(present.is_none());
        Ok(RecordChange::Put(Role {
            name: "crew".to_owned(),
            display_name: "Crew".to_owned(),
            description: "whoever can row".to_owned(),
            position: 7,
            pingable: true,
            system: false,
            decisions: Vec::new(),
        }))
    };
    state.change::<Role, _>("crew", role).await.unwrap();
    let participants = vec![ada, ben];
    let direct = Room { kind: RoomKind::Direct, participants, ..Room::new(dm) };
    state.put_if_absent(&dm, &direct).await.unwrap();

    let root = post(&storage, dm, ada, (0, 0)).await;
    let edited = post(&storage, dm, ben, (1, 0)).await;
    let deleted = post(&storage, dm, ben, (2, 0)).await;
    let reply = post(&storage, dm, ben, (0, 1)).await;
    post(&storage, dm, ada, (0, 2)).await;
    for (id, emoji) in [(root, "👍"), (root, "🚣"), (reply, "👍")] {
        let react = React { id, emoji: emoji.to_owned(), user: ben, remove: false };
        append(&storage, dm, ben, Effect::React(react)).await;
    }
    let content = Some(sealed(&storage, dm, ben, edited).await);
    append(&storage, dm, ben, Effect::Edit(Edit { content, ..Edit::new(edited) })).await;
    append(&storage, dm, ben, Effect::Delete(Delete::new(deleted))).await;
    let pin = Pin { id: root, marker: "1".to_owned(), remove: false };
    append(&storage, dm, ada, Effect::Pin(pin)).await;
    for (reader, row) in [(ada, 1), (ben, 2)] {
        let marker = ReadMarker { row, row_id: None, row_ms: AT };
        storage.markers().advance(&reader, dm.as_str(), marker).await.unwrap();
        storage.markers().advance(&reader, room.as_str(), marker).await.unwrap();
    }
    let subject = format!("$KV.NOTIFICATIONS.{ben}.0000000001");
    let payload = b"a notification of a later version".to_vec().into();
    let notification = Publish { subject: &subject, payload, ..Publish::default() };
    connect(url).await.publish(notification).await.unwrap();
    storage.close().await;
    dm
}

#[track_caller]
fn assert_same(before: &str, after: &str) {
    for (one, other) in before.lines().zip(after.lines()) {
        assert_eq!(one, other);
    }
    assert_eq!(before, after);
}

/// Who restores on a new machine, where the server runs as an account of its own.
#[derive(Debug, Clone, Copy)]
enum Restorer {
    Root,
    Service,
}

impl Restorer {
    fn runs(self, target: &Server, args: &[&str]) {
        let args = [args, &["--passphrase", keys::PASSPHRASE]].concat();
        let mut command = match self {
            Self::Root => target.command(args),
            Self::Service => target.command_as(NOBODY, args),
        };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Restores the archive and the keys, starts the server, and returns everything that it has.
    fn restores(self, archive: &Path, export: &Path) -> String {
        let flag = ["--passphrase", keys::PASSPHRASE];
        let mut target = Server::prepare();
        for (file, name) in [(archive, "drill.tar.gz.age"), (export, "keys.backup")] {
            std::fs::copy(file, target.dir().join(name)).unwrap();
        }
        // As the package makes it.
        std::fs::create_dir(target.data_dir()).unwrap();
        target.become_nobody();
        self.runs(&target, &["restore", "drill.tar.gz.age"]);
        self.runs(&target, &["keys", "import", "keys.backup"]);
        target.run();
        // What an embedded store has is read where it was moved to by its own backup.
        self.runs(&target, &["backup", "--encrypt", "-o", "again.tar.gz.age"]);
        self.runs(&target, &["keys", "export", "-o", "again.backup"]);
        assert!(target.stop().success());
        let nats = NatsServer::start();
        let mut reader = Server::prepare();
        reader.use_external(&nats.url());
        let at = |name: &str| target.dir().join(name);
        json_of(&reader, &[&["restore", text(&at("again.tar.gz.age"))][..], &flag].concat());
        json_of(&reader, &["keys", "import", text(&at("again.backup")), flag[0], flag[1]]);
        let url = nats.url();
        run_store(|runtime| async move { everything(&url, &runtime).await })
    }
}

#[test]
fn every_kind_of_data_comes_back() {
    let (nats, bucket) = (NatsServer::start(), S3Server::start(Kind::SeaweedFs));
    let mut server = Server::prepare();
    server.use_external(&nats.url());
    server.run();
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    let (in_nats, _) = attach(&owner, &room, "in nats.bin", b"in nats");
    assert!(server.stop().success());
    server.use_s3(bucket.port());
    server.run();
    let owner = server.client().log_in("ada");
    let (in_s3, _) = attach(&owner, &room, "in s3.bin", b"in s3");
    let url = nats.url();
    let id: RoomId = room.parse().unwrap();
    let before = run_store(|runtime| async move {
        fill(&url, &runtime, id).await;
        everything(&url, &runtime).await
    });
    for kind in ["👍", "\"deleted\":true", "\"thread\":\"", "\"edited_at\":\"", "Crew"] {
        assert!(before.contains(kind), "{kind}: {before}");
    }

    let at = |name: &str| server.dir().join(name);
    let (archive, export) = (at("drill.tar.gz.age"), at("keys.backup"));
    let flag = ["--passphrase", keys::PASSPHRASE];
    let make = ["backup", "--encrypt", "--include-s3", "-o", text(&archive)];
    let made = json_of(&server, &[&make[..], &flag].concat());
    assert_eq!(made["streams"]["NOTIFICATIONS"]["subjects"], 1);
    json_of(&server, &["keys", "export", "-o", text(&export), flag[0], flag[1]]);
    let test = ["backup", "verify", text(&archive), "--restore-test"];
    let tested = json_of(&server, &[&test[..], &flag].concat());
    assert_eq!(tested["restored"]["users"], 2);
    let owner = server.client().log_in("ada");
    owner.post(&room, "after the backup", "late").unwrap();
    // Everything is lost: the store, the bucket, the secrets.
    assert!(server.stop().success());
    drop((nats, bucket));

    let nats = NatsServer::start();
    let mut target = Server::prepare();
    target.use_external(&nats.url());
    json_of(&target, &[&["restore", text(&archive)][..], &flag].concat());
    let imported = json_of(&target, &["keys", "import", text(&export), flag[0], flag[1]]);
    assert_eq!(imported["imported"], 2);
    let url = nats.url();
    let after = run_store(|runtime| async move { everything(&url, &runtime).await });
    assert_same(&before, &after);
    target.run();
    assert!(owner.client.call("RoomDirectoryService/ListRooms", &json!({})).is_err());
    let owner = target.client().log_in("ada");
    for (file, bytes) in [(in_nats, b"in nats".as_slice()), (in_s3, b"in s3")] {
        assert!(owner.client.get_bytes(&path(&file)).unwrap() == bytes, "{file}");
    }
    for restorer in [Restorer::Root, Restorer::Service] {
        eprintln!("restored by {restorer:?}");
        assert_same(&before, &restorer.restores(&archive, &export));
    }
}
