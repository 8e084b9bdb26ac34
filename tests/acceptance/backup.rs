//! Backup and restore with the real program: what was acknowledged before a backup began is there afterwards.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::beside::keep_posting;
use super::{keys, path, seeded, upload, with_bucket};
use crate::support::client::{Account, Message};
use crate::support::cluster::Cluster;
use crate::support::nats::request;
use crate::support::s3::{Kind, S3Server, s3};
use crate::support::server::Server;

/// Uploads a file, and attaches it to a message of the room; returns the file's id and the message.
pub(super) fn attach(account: &Account, room: &str, name: &str, bytes: &[u8]) -> (String, String) {
    let id = upload(account, room, name, bytes);
    let post = json!({ "roomId": room, "body": name, "attachmentAssetIds": [id] });
    let posted = account.client.call("MessageService/CreateMessage", &post).unwrap();
    (id, posted["message"]["id"].as_str().unwrap().to_owned())
}

/// Runs a command that must succeed and returns its JSON.
#[track_caller]
pub(super) fn json_of(server: &Server, args: &[&str]) -> Value {
    let output = server.chatto(["--json"].iter().chain(args));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {:?}\n{stderr}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The exit code and what was printed to standard error.
pub(super) fn refused(server: &Server, args: &[&str]) -> (i32, String) {
    let output = server.chatto(args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), stderr)
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server with messages and files, and a backup of it.
pub(super) struct BackedUp {
    pub(super) server: Server,
    pub(super) room: String,
    pub(super) history: Vec<Message>,
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) archive: PathBuf,
}

pub(super) fn backed_up() -> BackedUp {
    let server = Server::start();
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    let files: Vec<(String, Vec<u8>)> = [0, 1, 3_000, 1_300_000]
        .into_iter()
        .map(|size| {
            let bytes: Vec<u8> = (0..size).map(|_| fastrand::u8(..)).collect();
            (attach(&owner, &room, &format!("{size}.bin"), &bytes).0, bytes)
        })
        .collect();
    let history = owner.history(&room);
    let archive = server.dir().join("first.tar.gz");
    let made = json_of(&server, &["backup", "-o", text(&archive), "--verify"]);
    assert_eq!(made["assets"]["nats"]["files"], 4);
    BackedUp { server, room, history, files, archive }
}

#[track_caller]
fn check_everything(account: &Account, of: &BackedUp) {
    assert_eq!(account.history(&of.room), of.history);
    for (id, bytes) in &of.files {
        assert!(account.client.get_bytes(&path(id)).unwrap() == *bytes, "{id}");
    }
}

#[test]
fn a_restore_over_a_store_brings_back_what_was_there_and_keeps_its_keys() {
    let mut of = backed_up();
    let owner = of.server.client().log_in("ada");
    owner.post(&of.room, "after the backup", "late").unwrap();
    let (late, _) = attach(&owner, &of.room, "late.bin", b"late");
    assert!(of.server.stop().success());

    let (exit, stderr) = refused(&of.server, &["restore", text(&of.archive)]);
    assert_eq!(exit, 73, "{stderr}");
    assert!(stderr.contains("already there: JOURNAL, PAGES, STATE"), "{stderr}");
    let dry =
        json_of(&of.server, &["restore", text(&of.archive), "--conflict=overwrite", "--dry-run"]);
    assert_eq!(dry["records"], 0);
    let done = json_of(&of.server, &["restore", text(&of.archive), "--conflict=overwrite"]);
    assert_eq!((&done["files"], &done["missing_keys"]), (&json!(4), &json!(0)));
    let former = PathBuf::from(done["former"].as_str().unwrap());
    assert!(former.join("$G").exists(), "{former:?}");

    of.server.run();
    assert!(
        owner.client.call("RoomDirectoryService/ListRooms", &json!({})).is_err(),
        "sessions end"
    );
    let owner = of.server.client().log_in("ada");
    check_everything(&owner, &of);
    assert!(owner.client.get_bytes(&path(&late)).is_err());
    owner.post(&of.room, "and on it goes", "next").unwrap();
    assert_eq!(owner.history(&of.room).len(), of.history.len() + 1);
    // And again from a backup of what was restored.
    let again = of.server.dir().join("second.tar.gz");
    let made = json_of(&of.server, &["backup", "-o", text(&again), "--verify"]);
    assert_eq!(made["sequence"], 2);
}

#[test]
fn without_its_keys_a_restored_server_shows_placeholders_and_goes_on() {
    let of = backed_up();
    let mut target = Server::prepare();
    let done = json_of(&target, &["restore", text(&of.archive)]);
    assert_eq!((&done["files"], &done["missing_keys"]), (&json!(4), &json!(1)));
    target.run();
    let status = target.chatto_ok(["status"]);
    let advice = "the keys of 1 person are missing, so their messages cannot be read: `chatto keys import FILE`";
    assert!(status.contains(advice), "{status}");
    let owner = target.client().log_in("ada");
    let shown = owner.history(&of.room);
    assert_eq!(shown.len(), of.history.len());
    assert!(shown.iter().all(|message| message.body.is_empty()), "{shown:?}");
    for (id, bytes) in &of.files {
        assert!(owner.client.get_bytes(&path(id)).unwrap() == *bytes, "{id}");
    }
    let new = owner.post(&of.room, "a new text", "new").unwrap();
    let newest = owner.history(&of.room).pop().unwrap();
    assert_eq!((newest.id, newest.body.as_str()), (new, "a new text"));
}

#[test]
fn a_new_machine_has_everything_after_restore_and_import_of_keys() {
    let mut of = backed_up();
    let (dir, secret) = (of.server.dir().to_owned(), of.server.dir().join("passphrase"));
    std::fs::write(&secret, "correct horse battery staple\n").unwrap();
    let keys = dir.join("keys.backup");
    let flag = ["--passphrase-file", text(&secret)];
    json_of(&of.server, &["keys", "export", "-o", text(&keys), flag[0], flag[1]]);
    assert!(of.server.stop().success());

    // The customer's order: restore, keys import, start. The secrets of the former machine are gone.
    let mut target = Server::prepare();
    let done = json_of(&target, &["restore", text(&of.archive)]);
    assert_eq!(done["missing_keys"], 1);
    let imported = json_of(&target, &["keys", "import", text(&keys), flag[0], flag[1]]);
    assert_eq!(imported["imported"], 1, "{imported}");
    target.run();
    check_everything(&target.client().log_in("ada"), &of);

    // The other way round.
    let mut target = Server::prepare();
    json_of(&target, &["keys", "import", text(&keys), flag[0], flag[1]]);
    let done = json_of(&target, &["restore", text(&of.archive)]);
    assert_eq!(done["missing_keys"], 0);
    target.run();
    check_everything(&target.client().log_in("ada"), &of);

    // Late, and after the first new posts.
    let mut target = Server::prepare();
    json_of(&target, &["restore", text(&of.archive)]);
    target.run();
    let owner = target.client().log_in("ada");
    owner.post(&of.room, "a new text", "new").unwrap();
    assert_eq!(owner.history(&of.room).first().unwrap().body, "");
    json_of(&target, &["keys", "import", text(&keys), flag[0], flag[1]]);
    let mut history = owner.history(&of.room);
    assert_eq!(history.pop().unwrap().body, "a new text");
    assert_eq!(history, of.history);
}

#[test]
fn root_restores_as_the_account_that_the_data_directory_belongs_to() {
    let of = backed_up();
    let mut target = Server::prepare();
    std::fs::create_dir(target.dir().join("data")).unwrap();
    target.become_nobody();
    // The archive belongs to the account of the tests, and nobody else may read it.
    for conflict in ["--conflict=error", "--conflict=overwrite"] {
        json_of(&target, &["restore", text(&of.archive), conflict]);
        target.run();
        let owner = target.client().log_in("ada");
        assert_eq!(owner.history(&of.room).len(), of.history.len());
        assert!(target.stop().success());
    }
}

#[test]
fn an_archive_moves_a_server_into_a_cluster_and_back() {
    let mut of = backed_up();
    assert!(of.server.stop().success());
    let nats = Cluster::start(3);
    let mut cluster = Server::prepare();
    cluster.use_external(&nats.urls().join(","));
    cluster.set("CHATTO_NATS_REPLICAS", "3");
    // The secrets that keys are wrapped with are the operator's there.
    cluster.set("CHATTO_CORE_SECRET_KEY", &"s".repeat(40));
    cluster.set("CHATTO_WEBSERVER_COOKIE_SIGNING_SECRET", &"c".repeat(40));
    cluster.set("CHATTO_CORE_ASSETS_SIGNING_SECRET", &"a".repeat(40));
    let done = json_of(&cluster, &["restore", text(&of.archive)]);
    assert_eq!((&done["files"], &done["missing_keys"]), (&json!(4), &json!(1)));
    let list = request(nats.port(0), "$JS.API.STREAM.LIST", "").unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    for stream in list["streams"].as_array().unwrap() {
        assert_eq!(stream["config"]["num_replicas"], 3, "{}", stream["config"]["name"]);
    }
    let keys = of.server.dir().join("keys.backup");
    let flag = ["--passphrase", "correct horse battery"];
    json_of(&of.server, &["keys", "export", "-o", text(&keys), flag[0], flag[1]]);
    json_of(&cluster, &["keys", "import", text(&keys), flag[0], flag[1]]);
    cluster.run();
    let owner = cluster.client().log_in("ada");
    check_everything(&owner, &of);

    let (exit, stderr) = refused(&cluster, &["restore", text(&of.archive), "--conflict=overwrite"]);
    assert_eq!(exit, 75, "{stderr}");
    owner.post(&of.room, "written in the cluster", "there").unwrap();
    let newer = owner.history(&of.room);
    let archive = cluster.dir().join("cluster.tar.gz");
    json_of(&cluster, &["backup", "-o", text(&archive), "--verify"]);
    assert!(cluster.stop().success());

    // Over what is in the cluster, and back to the first machine.
    json_of(&cluster, &["restore", text(&of.archive), "--conflict=overwrite"]);
    cluster.run();
    check_everything(&cluster.client().log_in("ada"), &of);
    json_of(&of.server, &["restore", text(&archive), "--conflict=overwrite"]);
    of.server.run();
    let back = of.server.client().log_in("ada").history(&of.room);
    assert_eq!(back.len(), newer.len());
    // The key of the first machine is still there; the newest text was written with another secret, and the same key.
    assert_eq!(back, newer);
}

#[test]
fn files_in_s3_are_listed_or_included_and_go_to_where_there_is_room_for_them() {
    let (store, mut server) = with_bucket();
    server.run();
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    let bytes: Vec<u8> = (0..300_000).map(|_| fastrand::u8(..)).collect();
    let (file, _) = attach(&owner, &room, "in s3.bin", &bytes);
    let at = |name: &str| server.dir().join(name);
    let listed = json_of(&server, &["backup", "-o", text(&at("listed.tar.gz")), "--verify"]);
    assert_eq!((&listed["listed_objects"]["files"], &listed["assets"]), (&json!(1), &json!({})));
    let whole = at("whole.tar.gz");
    let made = json_of(&server, &["backup", "-o", text(&whole), "--include-s3", "--verify"]);
    assert_eq!(made["assets"]["s3"]["bytes"], 300_000);

    // Into NATS where there is no bucket, and into the bucket of others.
    let other = S3Server::start(Kind::SeaweedFs);
    for bucket in [None, Some(&other)] {
        let mut target = Server::prepare();
        if let Some(bucket) = bucket {
            target.use_s3(bucket.port());
        }
        json_of(&target, &["restore", text(&whole)]);
        target.run();
        let owner = target.client().log_in("ada");
        assert!(owner.client.get_bytes(&path(&file)).unwrap() == bytes);
        let object = smol::block_on(s3(other.config()).head(&file));
        assert_eq!(object.is_ok(), bucket.is_some());
    }

    smol::block_on(s3(store.config()).delete(&file)).unwrap();
    let before = chatto::runtime::limited_read(&whole, 64 << 20).unwrap();
    let (exit, stderr) = refused(&server, &["backup", "-o", text(&whole), "--include-s3"]);
    assert_eq!(exit, 74, "{stderr}");
    assert!(stderr.contains(&file) && stderr.contains("--accept-missing"), "{stderr}");
    assert!(chatto::runtime::limited_read(&whole, 64 << 20).unwrap() == before);
    let accepted = ["backup", "-o", text(&whole), "--include-s3", "--accept-missing", "--verify"];
    assert_eq!(json_of(&server, &accepted)["missing"], json!([file]));
}

#[test]
fn an_archive_is_read_with_age_tar_and_jq_and_encrypted_anew() {
    let of = backed_up();
    let dir = of.server.dir();
    let flag = ["--passphrase", keys::PASSPHRASE];
    json_of(&of.server, &["backup", "--encrypt", "-o", "backup.tar.gz.age", flag[0], flag[1]]);
    json_of(&of.server, &["keys", "export", "-o", "keys.backup", flag[0], flag[1]]);
    // Debian's, and the one that its authors' instructions build.
    for age in ["age", "age-from-source"] {
        let run = |args: &str, answers| assert!(keys::age(dir, &format!("{age} {args}"), answers));
        run("-d -o backup.tar.gz backup.tar.gz.age", 1);
        let shown = of
            .server
            .shell("tar xzf backup.tar.gz && jq .streams.STATE.subjects backup/manifest.json");
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let subjects = String::from_utf8_lossy(&shown.stdout).trim().parse::<u64>();
        assert!(subjects.is_ok_and(|count| count > 10));
        // With the work factor of the tool, which takes 256 MiB.
        run("-p -o backup-new.tar.gz.age backup.tar.gz", 2);
        let verify = ["backup", "verify", "backup-new.tar.gz.age", "--max-work-factor=18"];
        json_of(&of.server, &[&verify[..], &flag].concat());
        run("-d -o keys.json keys.backup", 1);
        run("-p -o keys-new.backup keys.json", 2);
        let imported =
            json_of(&of.server, &["keys", "import", "keys-new.backup", flag[0], flag[1]]);
        assert_eq!(imported["present"], 1);
        for file in ["backup.tar.gz", "backup-new.tar.gz.age", "keys.json", "keys-new.backup"] {
            std::fs::remove_file(dir.join(file)).unwrap();
        }
    }
}

#[test]
fn what_is_there_stays_when_existing_streams_are_skipped() {
    let mut of = backed_up();
    let owner = of.server.client().log_in("ada");
    owner.post(&of.room, "after the backup", "late").unwrap();
    of.history = owner.history(&of.room);
    assert!(of.server.stop().success());
    let done = json_of(&of.server, &["restore", text(&of.archive), "--conflict=skip"]);
    assert_eq!((&done["records"], &done["skipped"].as_array().unwrap().len()), (&json!(0), &7));
    of.server.run();
    check_everything(&of.server.client().log_in("ada"), &of);
}

#[test]
fn an_interrupted_backup_leaves_nothing_behind_and_keeps_no_other_waiting() {
    let of = backed_up();
    let target = of.server.dir().join("first.tar.gz");
    let before = chatto::runtime::limited_read(&target, 64 << 20).unwrap();
    // A pipe that nobody fills: the backup waits for its passphrase only. So it is interrupted while it writes.
    let large: Vec<u8> = (0..24 << 20).map(|_| fastrand::u8(..)).collect();
    let owner = of.server.client().log_in("ada");
    attach(&owner, &of.room, "large.bin", &large);
    let mut child = of.server.command(["backup", "-o", text(&target)]).spawn().unwrap();
    let partial = of.server.dir().join(".first.tar.gz.partial");
    crate::support::wait::until("the backup writes", std::time::Duration::from_secs(30), || {
        let ended = child.try_wait().unwrap().is_some();
        (ended || partial.metadata().is_ok_and(|about| about.len() > 0)).then_some(())
    });
    crate::support::nats::signal(child.id(), "INT");
    let ended = child.wait().unwrap();
    assert!(!partial.exists());
    if !ended.success() {
        assert_eq!(ended.code(), Some(1));
        assert!(chatto::runtime::limited_read(&target, 64 << 20).unwrap() == before);
    }
    json_of(&of.server, &["backup", "-o", text(&target), "--verify"]);
}

#[test]
fn a_backup_beside_people_who_write_has_everything_from_before_it_began() {
    let server = Server::start();
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    let writers: Vec<Account> = (0..3).map(|n| owner.invite(&format!("writer{n}"))).collect();
    let over = AtomicBool::new(false);
    let archives: Vec<(PathBuf, Vec<Message>)> = std::thread::scope(|scope| {
        for writer in &writers {
            let (over, room) = (&over, &room);
            scope.spawn(move || keep_posting(writer, room, over));
        }
        let made = (0..4).map(|n| {
            let before = owner.history(&room);
            let archive = server.dir().join(format!("{n}.tar.gz"));
            json_of(&server, &["backup", "-o", text(&archive), "--verify"]);
            (archive, before)
        });
        let made = made.collect();
        over.store(true, Ordering::SeqCst);
        made
    });
    for (archive, before) in archives {
        let mut target = Server::prepare();
        json_of(&target, &["restore", text(&archive)]);
        target.run();
        let owner = target.client().log_in("ada");
        let after = owner.history(&room);
        let ids: Vec<&str> = after.iter().map(|message| message.id.as_str()).collect();
        for message in &before {
            // What was deleted meanwhile may be gone.
            let is_there = ids.contains(&message.id.as_str());
            assert!(is_there || message.author != owner.id, "{message:?} of {archive:?}");
        }
        owner.post(&room, "the room goes on", "on").unwrap();
        assert_eq!(owner.history(&room).len(), after.len() + 1);
        let checked = json_of(&target, &["assets", "check"]);
        assert_eq!(checked["findings"], json!([]), "{archive:?}");
        let status = json_of(&target, &["status"]);
        assert_eq!(status["held_rooms"], json!([]), "{status}");
    }
}

#[test]
fn an_encrypted_backup_needs_its_passphrase_and_a_damaged_one_changes_nothing() {
    let of = backed_up();
    let (server, dir) = (&of.server, of.server.dir());
    let secret = dir.join("passphrase");
    std::fs::write(&secret, "correct horse battery staple\n").unwrap();
    let archive = dir.join("secret.tar.gz.age");
    let flag = ["--passphrase-file", text(&secret)];
    json_of(server, &["backup", "--encrypt", "-o", text(&archive), flag[0], flag[1], "--verify"]);
    let stored = chatto::runtime::limited_read(&archive, 64 << 20).unwrap();
    assert!(stored.starts_with(b"age-encryption.org/v1\n-> scrypt "));

    let verify = ["backup", "verify", text(&archive), flag[0], flag[1]];
    let verified = json_of(server, &verify);
    assert_eq!(
        (&verified["complete"], &verified["assets"]["nats"]["files"]),
        (&json!(true), &json!(4))
    );
    let header = json_of(server, &[&verify[..], &["--level=header"]].concat());
    assert_eq!((&header["complete"], &header["sequence"]), (&json!(false), &verified["sequence"]));

    let target = Server::prepare();
    let (exit, stderr) = refused(&target, &["restore", text(&archive), "--passphrase", "another"]);
    assert_eq!(exit, 77, "{stderr}");
    for at in [stored.len() / 3, stored.len() / 2, stored.len() - 1] {
        let mut damaged = stored.clone();
        damaged[at] ^= 1;
        let file = dir.join("damaged.age");
        std::fs::write(&file, &damaged).unwrap();
        let (exit, stderr) = refused(&target, &["restore", text(&file), flag[0], flag[1]]);
        assert_eq!(exit, 65, "byte {at}: {stderr}");
        std::fs::write(&file, &stored[..at]).unwrap();
        let (exit, stderr) = refused(&target, &["restore", text(&file), flag[0], flag[1]]);
        assert_eq!(exit, 65, "cut at {at}: {stderr}");
        let (exit, stderr) = refused(&target, &["backup", "verify", text(&file), flag[0], flag[1]]);
        assert_eq!(exit, 65, "cut at {at}: {stderr}");
    }
    assert!(!target.dir().join("data/jetstream").exists(), "nothing was written");
    json_of(&target, &["restore", text(&archive), flag[0], flag[1]]);
}

#[test]
fn a_backup_replaces_archives_and_no_other_file() {
    let server = Server::start();
    server.owner();
    std::fs::write(server.dir().join("notes.txt"), "of somebody").unwrap();
    let (exit, stderr) = refused(&server, &["backup", "-o", "notes.txt"]);
    assert_eq!(exit, 73, "{stderr}");
    assert!(stderr.contains("is not an archive; choose another name"), "{stderr}");
    assert_eq!(std::fs::read_to_string(server.dir().join("notes.txt")).unwrap(), "of somebody");
    std::fs::write(server.dir().join("daily"), "").unwrap();
    let flag = ["--passphrase", keys::PASSPHRASE];
    for more in [&["--encrypt", flag[0], flag[1]][..], &[], &["--encrypt", flag[0], flag[1]]] {
        json_of(&server, &[&["backup", "-o", "daily"][..], more].concat());
    }
}

#[test]
fn an_encrypted_archive_that_is_damaged_anywhere_is_called_damaged() {
    let server = Server::start();
    server.owner();
    let flag = ["--passphrase", keys::PASSPHRASE];
    json_of(&server, &["backup", "--encrypt", "-o", "sealed", flag[0], flag[1]]);
    let path = server.dir().join("sealed");
    let whole = chatto::runtime::limited_read(&path, 64 << 20).unwrap();
    let mut changed = whole.clone();
    changed[1_000] ^= 1;
    for bytes in [&changed[..], &whole[..1_000], &whole[..whole.len() - 1]] {
        std::fs::write(&path, bytes).unwrap();
        let (exit, stderr) = refused(&server, &["backup", "verify", "sealed", flag[0], flag[1]]);
        assert_eq!(exit, 65, "{stderr}");
        assert!(stderr.contains("the backup is damaged"), "{stderr}");
    }
}

#[test]
fn an_archive_of_another_server_is_not_mixed_with_what_is_there() {
    let of = backed_up();
    let mut other = Server::start();
    other.owner();
    assert!(other.stop().success());
    // One stream is lost, so that there would be something to restore.
    std::fs::remove_dir_all(other.stream_dir("KV_STATE")).unwrap();
    for dry in [&["--dry-run"][..], &[]] {
        let restore = [&["restore", text(&of.archive), "--conflict=skip"], dry].concat();
        let (exit, stderr) = refused(&other, &restore);
        assert_eq!(exit, 65, "{stderr}");
        assert!(stderr.contains("--conflict=overwrite replaces it"), "{stderr}");
        assert!(!other.stream_dir("KV_STATE").exists(), "something was restored");
    }
    json_of(&other, &["restore", text(&of.archive), "--conflict=overwrite"]);
    other.run();
    assert_eq!(other.client().log_in("ada").history(&of.room).len(), of.history.len());
}
