//! A backup of a store that changes in every way meanwhile: what comes back refers only to what came back with it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chatto::backup::transcript::{Transcript, TranscriptFormat};
use chatto::domain::{ReadMarker, RoomId, User, UserId};
use chatto::storage::{RecordChange, Storage};
use serde_json::{Value, json};

use super::backup::{attach, json_of, text};
use super::contents::of_processes;
use super::external::running_on;
use super::{keys, path, seeded};
use crate::storage::{open, run};
use crate::support::client::Account;
use crate::support::nats::NatsServer;
use crate::support::server::Server;
use crate::support::wait::until;

const BACKUPS: usize = 4;
/// Large enough that a backup is under way when the account is deleted.
const LARGE_BYTES: usize = 24 << 20;

/// Posts, uploads and deletes until it is over.
pub(super) fn keep_posting(writer: &Account, room: &str, over: &AtomicBool) {
    writer.join(room);
    for n in 0.. {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let text = format!("{} {n}", writer.login);
        let mut ids = vec![writer.post(room, &text, &format!("{n}")).unwrap()];
        if n % 2 == 0 {
            ids.push(attach(writer, room, "beside.bin", text.as_bytes()).1);
        }
        // A deleted text is folded, and erased from the journal, at once.
        for id in ids.iter().filter(|_| n % 3 > 0) {
            let delete = json!({ "roomId": room, "eventId": id });
            writer.client.call("MessageService/DeleteMessage", &delete).unwrap();
        }
    }
}

/// What another process does with the store meanwhile.
struct Other<'a> {
    over: &'a AtomicBool,
    /// The account that is deleted once this is set.
    leaver: UserId,
    leaves: &'a AtomicBool,
    has_left: &'a AtomicBool,
    /// The newest value of the record that is rewritten in a loop, once it is acknowledged.
    written: &'a AtomicU64,
}

impl Other<'_> {
    async fn run(&self, url: &str, runtime: &chatto::runtime::Runtime, room: RoomId) {
        let storage = open(url, runtime, of_processes()).await.unwrap();
        let ada = storage.state().read(|tables| tables.user_by_login("ada").unwrap().id);
        for n in 1.. {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            let rename = |user: Option<&User>| {
                let user = user.unwrap().clone();
                let display_name = format!("Ada {n}");
                Ok::<_, Infallible>(RecordChange::Put(User { display_name, ..user }))
            };
            storage.state().change(&ada, rename).await.unwrap();
            self.written.store(n, Ordering::SeqCst);
            let row = u32::try_from(n).unwrap();
            let marker = ReadMarker { row, row_id: None, row_ms: 1 };
            storage.markers().advance(&ada, room.as_str(), marker).await.unwrap();
            if self.leaves.load(Ordering::SeqCst) && !self.has_left.load(Ordering::SeqCst) {
                self.delete_account(&storage).await;
                self.has_left.store(true, Ordering::SeqCst);
            }
        }
        storage.close().await;
    }

    /// First the tombstone, then the key.
    async fn delete_account(&self, storage: &Storage) {
        let mut key = String::new();
        let delete = |user: Option<&User>| {
            user.unwrap().active_key_id.clone_into(&mut key);
            let tombstone = User { deleted: true, ..User::new(self.leaver) };
            Ok::<_, Infallible>(RecordChange::Put(tombstone))
        };
        storage.state().change(&self.leaver, delete).await.unwrap();
        let subject = format!("$KV.ENCRYPTION_KEYS.user.{}.{key}", self.leaver);
        let stored = storage.nats().leader_newest("KV_ENCRYPTION_KEYS", &subject).await.unwrap();
        storage.nats().erase("KV_ENCRYPTION_KEYS", stored.unwrap().sequence).await.unwrap();
    }
}

/// What a restored store says of the rewritten record and the deleted account, and each file that a message refers to.
struct Restored {
    written: u64,
    has_left: bool,
    files: HashSet<String>,
    /// Texts whose key is not there although an export has it.
    unreadable: Vec<Value>,
}

/// Goes through all rooms: each author has an account or a tombstone, and each attachment a record of a file.
async fn references(url: &str, runtime: &chatto::runtime::Runtime, leaver: UserId) -> Restored {
    let storage = open(url, runtime, of_processes()).await.unwrap();
    let (rooms, users, name) = storage.state().read(|tables| {
        let rooms: Vec<RoomId> = tables.rooms.keys().copied().collect();
        let users: Vec<(String, bool)> =
            tables.users.values().map(|user| (user.id.to_string(), user.deleted)).collect();
        (rooms, users, tables.user_by_login("ada").unwrap().display_name.clone())
    });
    let deleted = |id: &str| users.iter().find(|(user, _)| user == id).map(|(_, deleted)| *deleted);
    let (mut files, mut unreadable) = (HashSet::new(), Vec::new());
    for room in rooms {
        let transcript = Transcript::new(&storage, room, TranscriptFormat::Json, Vec::new());
        let (rows, _) = Box::pin(transcript.write()).await.unwrap();
        for row in String::from_utf8(rows).unwrap().lines() {
            let row: Value = serde_json::from_str(row).unwrap();
            if let Some(author) = row["author"]["id"].as_str() {
                let is_deleted = deleted(author).unwrap_or_else(|| panic!("no account: {row}"));
                // Whoever is deleted is not in an export that was made afterwards.
                let has_key = !is_deleted && author != leaver.to_string();
                if row["unreadable"] == true && has_key {
                    unreadable.push(row.clone());
                }
            }
            for file in row["files"].as_array().into_iter().flatten() {
                let file = file.as_str().unwrap();
                let id = file.parse().unwrap();
                assert!(storage.files().get(&id).await.unwrap().is_some(), "no file: {row}");
                files.insert(file.to_owned());
            }
        }
    }
    storage.close().await;
    Restored {
        written: name.strip_prefix("Ada ").map_or(0, |n| n.parse().unwrap()),
        has_left: deleted(leaver.as_ref()).unwrap(),
        files,
        unreadable,
    }
}

/// What was acknowledged when a backup began and when it had ended.
#[derive(Debug)]
struct Acknowledged {
    written: [u64; 2],
    has_left: [bool; 2],
}

#[test]
fn a_backup_while_an_account_is_deleted_and_a_record_is_rewritten_refers_to_nothing_that_it_lacks()
{
    let nats = NatsServer::start();
    let server = running_on(&nats);
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    let large: Vec<u8> = (0..LARGE_BYTES).map(|_| fastrand::u8(..)).collect();
    attach(&owner, &room, "large.bin", &large);
    let writers: Vec<Account> = (0..3).map(|n| owner.invite(&format!("writer{n}"))).collect();
    let leaver = owner.invite("leaver");
    leaver.join(&room);
    leaver.post(&room, "of somebody who leaves", "leaver").unwrap();
    attach(&leaver, &room, "left behind.bin", b"left behind");

    let (over, leaves, has_left) =
        (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let written = AtomicU64::new(0);
    let other = Other {
        over: &over,
        leaver: leaver.id.parse().unwrap(),
        leaves: &leaves,
        has_left: &has_left,
        written: &written,
    };
    let now = || (written.load(Ordering::SeqCst), has_left.load(Ordering::SeqCst));
    let made = std::thread::scope(|scope| {
        for writer in &writers {
            let (over, room) = (&over, &room);
            scope.spawn(move || keep_posting(writer, room, over));
        }
        let (url, id) = (nats.url(), room.parse().unwrap());
        let other = &other;
        scope.spawn(move || run(async |runtime| other.run(&url, &runtime, id).await));
        let made: Vec<_> = (0..BACKUPS)
            .map(|n| {
                let archive = server.dir().join(format!("{n}.tar.gz"));
                let before = now();
                let begin = (n == 1).then_some(&leaves);
                back_up(&server, &archive, begin);
                until("the account is deleted", Duration::from_secs(30), || {
                    (n == 0 || now().1).then_some(())
                });
                let after = now();
                let written = [before.0, after.0];
                (archive, Acknowledged { written, has_left: [before.1, after.1] })
            })
            .collect();
        over.store(true, Ordering::SeqCst);
        made
    });
    assert!(has_left.load(Ordering::SeqCst));
    let export = server.dir().join("keys.backup");
    let flag = ["--passphrase", keys::PASSPHRASE];
    json_of(&server, &["keys", "export", "-o", text(&export), flag[0], flag[1]]);
    for (archive, acknowledged) in made {
        check(&archive, &export, (&acknowledged, other.leaver));
    }
}

/// Makes a backup, and sets what is to be set once it writes.
fn back_up(server: &Server, archive: &Path, begin: Option<&AtomicBool>) {
    let mut child = server.command(["backup", "-o", text(archive), "--verify"]).spawn().unwrap();
    if let Some(begin) = begin {
        let name = archive.file_name().unwrap().to_string_lossy();
        let partial = archive.with_file_name(format!(".{name}.partial"));
        until("the backup writes", Duration::from_secs(30), || {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
            partial.metadata().is_ok_and(|about| about.len() > 0).then_some(())
        });
        begin.store(true, Ordering::SeqCst);
    }
    assert!(child.wait().unwrap().success());
}

/// Restores an archive and the keys, and goes through everything.
fn check(archive: &Path, export: &Path, (acknowledged, leaver): (&Acknowledged, UserId)) {
    let nats = NatsServer::start();
    let mut target = Server::prepare();
    target.use_external(&nats.url());
    json_of(&target, &["restore", text(archive)]);
    let flag = ["--passphrase", keys::PASSPHRASE];
    json_of(&target, &["keys", "import", text(export), flag[0], flag[1]]);
    let url = nats.url();
    let restored = run(|runtime| async move { references(&url, &runtime, leaver).await });
    let [before, after] = acknowledged.written;
    // One more may have been stored and not yet acknowledged.
    assert!(
        (before..=after + 1).contains(&restored.written),
        "{} {acknowledged:?}",
        restored.written
    );
    let [before, after] = acknowledged.has_left;
    assert!(restored.has_left || !before, "the account came back");
    assert!(!restored.has_left || after);
    assert_eq!(restored.unreadable, Vec::<Value>::new());
    target.run();
    let owner = target.client().log_in("ada");
    for file in &restored.files {
        owner.client.get_bytes(&path(file)).unwrap();
    }
    let checked = json_of(&target, &["assets", "check"]);
    assert_eq!(checked["findings"], json!([]), "{archive:?}");
    let status = json_of(&target, &["status"]);
    assert_eq!(status["held_rooms"], json!([]), "{status}");
}
