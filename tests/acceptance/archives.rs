//! Archives that are there: what is known of each, which ones retention removes, and what they restore.

use std::path::Path;

use serde_json::{Value, json};

use super::backup::{attach, backed_up, json_of, refused, text};
use super::{keys, path, seeded, with_bucket};
use crate::support::s3::s3;
use crate::support::server::Server;

/// Number and state of each archive, in the order of `backup list`.
pub(super) fn listed(server: &Server, folder: &Path) -> Vec<(Value, String)> {
    let listed = json_of(server, &["backup", "list", text(folder)]);
    let archives = listed["archives"].as_array().unwrap().iter();
    archives
        .map(|one| (one["sequence"].clone(), one["state"].as_str().unwrap().to_owned()))
        .collect()
}

pub(super) fn states(expected: &[(u64, &str)]) -> Vec<(Value, String)> {
    expected.iter().map(|(sequence, state)| (json!(sequence), (*state).to_owned())).collect()
}

#[test]
fn retention_counts_numbers_and_removes_only_what_verified_archives_supersede() {
    let server = Server::start();
    let (room, history) = seeded(&server.owner());
    let folder = server.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let to_folder = ["backup", "-o", text(&folder)];
    let make = |flags: &[&str]| json_of(&server, &[&to_folder, flags].concat());
    let paths: Vec<String> = ["--verify", "--verify", "--encrypt"]
        .into_iter()
        .map(|flag| {
            let secret: &[&str] = match flag {
                "--encrypt" => &[flag, "--passphrase", "correct horse battery"],
                _ => &[flag],
            };
            make(secret)["path"].as_str().unwrap().to_owned()
        })
        .collect();
    let expected = [(1, "verified"), (2, "verified"), (3, "complete")];
    assert_eq!(listed(&server, &folder), states(&expected));

    // One byte of the third changes: verifying finds it, and the list says it.
    let mut bytes = std::fs::OpenOptions::new().read(true).write(true).open(&paths[2]).unwrap();
    let middle = bytes.metadata().unwrap().len() / 2;
    std::io::Seek::seek(&mut bytes, std::io::SeekFrom::Start(middle)).unwrap();
    std::io::Write::write_all(&mut bytes, b"changed").unwrap();
    let verify = ["backup", "verify", &paths[2], "--passphrase", "correct horse battery"];
    assert_eq!(refused(&server, &verify).0, 65);
    let wrong = ["backup", "verify", &paths[2], "--passphrase", "another one of this length"];
    assert_eq!(refused(&server, &wrong).0, 77);
    let expected = [(1, "verified"), (2, "verified"), (3, "damaged")];
    assert_eq!(listed(&server, &folder), states(&expected));

    // Files that no backup made stay, whatever their names are.
    let own = folder.join("2020-01-01T00-00-00Z.tar.gz");
    std::fs::write(&own, "something else").unwrap();
    let made = make(&["--keep-last", "2", "--prune-dry-run"]);
    let superseded = [&paths[0], &paths[2]].map(|path| path.rsplit_once('/').unwrap().1);
    assert_eq!(made["superseded"], json!(superseded));
    assert_eq!((&made["verified"], listed(&server, &folder).len()), (&json!(true), 5));
    let done = json_of(&server, &["backup", "prune", text(&folder), "--keep-last", "2"]);
    assert_eq!(done["superseded"], json!(superseded));
    let mut expected = states(&[(2, "verified"), (4, "verified")]);
    expected.push((Value::Null, "not catalogued".to_owned()));
    assert_eq!(listed(&server, &folder), expected);
    assert!(own.exists() && !Path::new(&paths[0]).exists());

    // A machine that begins with an older archive still makes the newest one of this folder.
    let mut other = Server::prepare();
    json_of(&other, &["restore", &paths[1]]);
    let made = json_of(&other, &[&to_folder[..], &["--keep-last", "1"]].concat());
    assert_eq!(made["sequence"], 5);
    let mut expected = states(&[(5, "verified")]);
    expected.push((Value::Null, "not catalogued".to_owned()));
    assert_eq!(listed(&other, &folder), expected);
    let last = made["path"].as_str().unwrap();
    let mut third = Server::prepare();
    json_of(&third, &["restore", last]);
    for server in [&mut other, &mut third] {
        server.run();
        assert_eq!(server.client().log_in("ada").history(&room).len(), history.len());
    }
}

#[test]
fn a_killed_backup_leaves_nothing_behind_the_next_one() {
    let server = Server::start();
    seeded(&server.owner());
    let folder = server.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    // As a kill leaves it: an entry without an archive, and a part of it.
    let entry =
        json!({ "schema": 1, "archives": [{ "name": "killed.tar.gz", "state": "writing" }] });
    std::fs::write(folder.join(".chatto-backups.json"), entry.to_string()).unwrap();
    std::fs::write(folder.join(".killed.tar.gz.partial"), "half").unwrap();
    // Killed before it was entered.
    let unlisted = folder.join(".2026-11-21T06-00-00Z.tar.gz.age.partial");
    std::fs::write(&unlisted, "").unwrap();
    assert_eq!(listed(&server, &folder), states(&[(0, "writing")]));
    json_of(&server, &["backup", "-o", text(&folder), "--keep-daily", "7"]);
    assert_eq!(listed(&server, &folder), states(&[(1, "verified")]));
    assert!(!folder.join(".killed.tar.gz.partial").exists() && !unlisted.exists());
}

/// A folder with archives of these times, of which all are verified.
fn folder_of(server: &Server, name: &str, times: &[&str]) -> std::path::PathBuf {
    let folder = server.dir().join(name);
    std::fs::create_dir(&folder).unwrap();
    let archives = times.iter().enumerate().map(|(n, time)| {
        let name = format!("{}.tar.gz", n + 1);
        std::fs::write(folder.join(&name), "archive").unwrap();
        json!({
            "name": name, "state": "verified", "sequence": n + 1, "bytes": 7,
            "server_id": "S0000000000000001", "created_at": time,
        })
    });
    let catalogue = json!({ "schema": 1, "archives": archives.collect::<Vec<_>>() });
    std::fs::write(folder.join(".chatto-backups.json"), catalogue.to_string()).unwrap();
    folder
}

#[test]
fn a_clock_that_is_or_was_wrong_removes_no_good_archive() {
    const DAYS: [&str; 5] = [
        "2020-01-01T03:17:00.000Z",
        "2020-01-02T03:17:00.000Z",
        "2020-01-03T03:17:00.000Z",
        "2020-01-04T03:17:00.000Z",
        "2020-01-05T03:17:00.000Z",
    ];
    let with = |wrong: &[(usize, &'static str)]| {
        let mut times = DAYS;
        wrong.iter().for_each(|(number, time)| times[number - 1] = time);
        times
    };
    let server = Server::prepare();
    // To a machine that has just started without a clock, the newest archive is of the future.
    let behind = folder_of(&server, "behind", &with(&[(5, "2199-01-05T03:17:00.000Z")]));
    for flag in ["--keep-last=1", "--keep-daily=1", "--keep-monthly=1"] {
        let (exit, stderr) = refused(&server, &["backup", "prune", text(&behind), flag]);
        assert_eq!(exit, 1, "{stderr}");
        assert!(stderr.contains("the clock of this machine") && stderr.contains("5.tar.gz"));
    }
    assert_eq!(listed(&server, &behind).len(), 5);
    assert!((1..=5).all(|number| behind.join(format!("{number}.tar.gz")).exists()));

    // A clock was ahead, or behind, for a few backups: their times are worth nothing, their numbers are.
    let ahead = with(&[(2, "2199-01-05T03:17:00.000Z")]);
    let was_behind = with(&[(3, "1970-01-01T00:00:07.000Z")]);
    for (name, times, flag, kept) in [
        ("last, ahead", &ahead, "--keep-last=2", &[4, 5][..]),
        ("daily, ahead", &ahead, "--keep-daily=3", &[3, 4, 5]),
        ("monthly, ahead", &ahead, "--keep-monthly=9", &[5]),
        ("last, behind", &was_behind, "--keep-last=2", &[4, 5]),
        ("daily, behind", &was_behind, "--keep-daily=4", &[1, 2, 4, 5]),
    ] {
        let folder = folder_of(&server, name, times);
        json_of(&server, &["backup", "prune", text(&folder), flag]);
        let kept: Vec<(u64, &str)> = kept.iter().map(|number| (*number, "verified")).collect();
        assert_eq!(listed(&server, &folder), states(&kept), "{name}");
        for number in 1..=5 {
            let is_kept = kept.contains(&(number, "verified"));
            assert_eq!(folder.join(format!("{number}.tar.gz")).exists(), is_kept, "{name}");
        }
    }
}

#[test]
fn commands_for_a_folder_refuse_what_makes_no_sense() {
    let server = Server::start();
    let folder = server.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let folder = text(&folder);
    for (args, exit, expected) in [
        (&["backup", "list", "s3://bucket/x"][..], 2, "not part of this version"),
        (&["backup", "list", "/no such folder"], 69, "no directory"),
        (&["backup", "prune", folder, "--keep-last", "10001"], 2, "0 to 10000"),
        (&["backup", "prune", folder, "--keep-last", "0"], 2, "0 keeps nothing"),
        (&["backup", "--keep-last=0", "--keep-daily=0"], 2, "0 keeps nothing"),
        (&["backup", "--prune-dry-run"], 2, "--keep"),
        // The test's folder is on the disk of the data.
        (&["backup", "-o", folder, "--require-mount"], 75, "no other medium is mounted"),
    ] {
        let (found, stderr) = refused(&server, args);
        assert_eq!(found, exit, "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
    assert_eq!(listed(&server, Path::new(folder)), []);
    let (exit, stderr) = refused(&server, &["backup", "prune", folder]);
    assert!(exit == 0 && stderr.contains("no backup has listed an archive in"), "{exit} {stderr}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "no catalogue is made");
    std::fs::write(Path::new(folder).join(".chatto-backups.json"), "{").unwrap();
    let (exit, stderr) = refused(&server, &["backup", "prune", folder]);
    assert!(exit == 65 && stderr.contains("is damaged"), "{exit} {stderr}");
    json_of(&server, &["backup", "-o", folder]);
    assert_eq!(listed(&server, Path::new(folder)), states(&[(1, "complete")]));
    // Nothing is verified yet.
    let (exit, stderr) = refused(&server, &["backup", "prune", folder]);
    assert!(exit == 1 && stderr.contains("none is removed"), "{exit} {stderr}");
}

#[test]
fn a_restore_test_restores_everything_and_leaves_nothing() {
    let of = backed_up();
    let at = |name: &str| of.server.dir().join(name);
    let (work, bare, sealed) = (at("work"), at("bare.tar.gz"), at("sealed.age"));
    // What a process that was killed has left, and something of others.
    std::fs::create_dir_all(work.join("chatto-throwaway-0123456789abcdef/jetstream")).unwrap();
    std::fs::create_dir(work.join("other")).unwrap();
    json_of(&of.server, &["backup", "-o", text(&bare), "--assets=none"]);
    let flag = ["--passphrase", keys::PASSPHRASE];
    json_of(&of.server, &["backup", "--encrypt", "-o", text(&sealed), flag[0], flag[1]]);
    for (archive, flags, files) in
        [(&of.archive, &[][..], 4), (&bare, &[][..], 0), (&sealed, &flag[..], 4)]
    {
        let test = ["backup", "verify", text(archive), "--restore-test", "--work-dir", text(&work)];
        let tested = json_of(&of.server, &[&test[..], flags].concat())["restored"].clone();
        assert_eq!((&tested["users"], &tested["files"]), (&json!(1), &json!(files)), "{tested}");
        // Messages, and what rooms say of themselves.
        assert!(tested["rows"].as_u64().unwrap() > 9, "{tested}");
        assert_eq!(std::fs::read_dir(&work).unwrap().count(), 1);
    }
    // A server that was restored without its files makes backups, too.
    let target = Server::prepare();
    json_of(&target, &["restore", text(&bare)]);
    let third = at("again.tar.gz");
    let again = ["backup", "-o", text(&third)];
    let (exit, stderr) = refused(&target, &again);
    assert!(exit == 74 && stderr.contains("--accept-missing"), "{exit} {stderr}");
    let made = json_of(&target, &[&again[..], &["--accept-missing"]].concat());
    assert_eq!(made["missing"].as_array().unwrap().len(), 4);
    let test = ["backup", "verify", text(&bare), "--restore-test", "--work-dir", "/no such place"];
    let (exit, stderr) = refused(&of.server, &test);
    assert!(exit == 74 && stderr.contains("/no such place"), "{exit} {stderr}");
    assert!(!stderr.contains("WARN"), "what a killed process left cannot be there: {stderr}");
    let (exit, stderr) = refused(&of.server, &[&test[..4], &["--level=header"]].concat());
    assert!(exit == 2 && stderr.contains("--level=full"), "{exit} {stderr}");
}

#[test]
fn rooms_and_files_are_extracted_from_an_archive() {
    let of = backed_up();
    let at = |name: &str| of.server.dir().join(name);
    let (archive, export, out) = (at("whole.tar.gz"), at("keys.backup"), at("out"));
    std::fs::create_dir(&out).unwrap();
    json_of(&of.server, &["backup", "-o", text(&archive)]);
    let flag = ["--passphrase", keys::PASSPHRASE];
    json_of(&of.server, &["keys", "export", "-o", text(&export), flag[0], flag[1]]);
    std::fs::write(at("secret"), keys::PASSPHRASE).unwrap();

    let listed = json_of(&of.server, &["backup", "extract", text(&archive)]);
    let named = |name: &str| {
        let mut rooms = listed["rooms"].as_array().unwrap().iter();
        rooms.find(|room| room["name"] == name).unwrap()["id"].clone()
    };
    assert_eq!(named("general"), json!(of.room));
    assert_eq!(listed["files"].as_array().unwrap().len(), 4);

    let (id, bytes) = &of.files[3];
    let extract = ["backup", "extract", text(&archive), "-o", text(&out)];
    let with_keys = ["--keys", text(&export), "--keys-passphrase-file", "secret"];
    let done = json_of(&of.server, &[&extract[..], &["general", id], &with_keys].concat());
    assert_eq!((&done["rooms"][0]["unreadable"], &done["files"][0]["id"]), (&json!(0), &json!(id)));
    let file = chatto::runtime::limited_read(&out.join("1300000.bin"), 64 << 20).unwrap();
    assert!(file == *bytes);
    let shown = std::fs::read_to_string(out.join("general.txt")).unwrap();
    let position = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text}: {shown}"));
    assert!(position("(ada): message 0\n") < position("(ada): message 4\n"), "{shown}");
    assert!(position("message 4") < position(&format!("[file {id}]")), "{shown}");

    // Again: nothing is overwritten. By id, as JSON, without keys.
    let json = [&of.room, "--format=json"];
    let done = json_of(&of.server, &[&extract[..], &json, &[id]].concat());
    assert_eq!(done["rooms"][0]["unreadable"], of.history.len());
    assert_eq!(done["files"][0]["path"], text(&out.join(format!("{id}-1300000.bin"))));
    let lines = std::fs::read_to_string(out.join("general.jsonl")).unwrap();
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let newest = rows.last().unwrap();
    assert_eq!((&newest["unreadable"], &newest["author"]["login"]), (&json!(true), &json!("ada")));
    let done = json_of(&of.server, &[&extract[..], &["general", &of.room, id]].concat());
    assert_eq!(done["files"][0]["path"], text(&out.join(format!("{id}-1300000-2.bin"))));
    assert_eq!(done["rooms"].as_array().unwrap().len(), 1, "a room that is named twice: {done}");
    for (wanted, exit, expected) in
        [("nowhere", 1, "no room nowhere"), ("A00000000000000", 1, "has no file")]
    {
        let (found, stderr) = refused(&of.server, &[&extract[..], &[wanted]].concat());
        assert!(found == exit && stderr.contains(expected), "{wanted}: {found} {stderr}");
    }
}

#[test]
fn an_encrypted_file_is_extracted_with_the_key_of_its_uploader() {
    let mut server = Server::prepare();
    server.set("CHATTO_CORE_ASSETS_ENCRYPT", "true");
    server.run();
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    let at = |name: &str| server.dir().join(name);
    let flag = ["--passphrase", keys::PASSPHRASE];
    let archive = at("sealed.tar.gz");
    // An export without the key.
    json_of(&server, &["keys", "export", "-o", text(&at("too-old")), flag[0], flag[1]]);
    let uploader = owner.invite("ben");
    uploader.join(&room);
    let files = [0, 1, 65_536, 300_000].map(|size| {
        let bytes: Vec<u8> = (0..size).map(|_| fastrand::u8(..)).collect();
        (attach(&uploader, &room, &format!("{size}.bin"), &bytes).0, bytes)
    });
    json_of(&server, &["keys", "export", "-o", text(&at("keys")), flag[0], flag[1]]);
    json_of(&server, &["backup", "-o", text(&archive)]);

    let (id, _) = &files[3];
    let out = at("out");
    let extract = ["backup", "extract", text(&archive), id, "-o", text(&out)];
    let (exit, stderr) = refused(&server, &extract);
    assert_eq!(exit, 1, "{stderr}");
    let why = format!("the file {id} is encrypted with a key of its uploader; --keys FILE");
    assert!(stderr.contains(&why), "{stderr}");
    std::fs::write(at("pass"), keys::PASSPHRASE).unwrap();
    let with = |export: &str| {
        let export = at(export);
        ["--keys", text(&export), "--keys-passphrase-file", text(&at("pass"))].map(str::to_owned)
    };
    let old: Vec<String> = extract.map(str::to_owned).into_iter().chain(with("too-old")).collect();
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    let (exit, stderr) = refused(&server, &old);
    assert_eq!(exit, 1, "{stderr}");
    assert!(stderr.contains("the key of its uploader is missing"), "{stderr}");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);

    let ids: Vec<String> = files.iter().map(|(id, _)| id.clone()).collect();
    let all: Vec<String> = ["backup", "extract", text(&archive), "-o", text(&out)]
        .map(str::to_owned)
        .into_iter()
        .chain(with("keys"))
        .chain(ids)
        .collect();
    json_of(&server, &all.iter().map(String::as_str).collect::<Vec<_>>());
    for (_, bytes) in &files {
        let path = out.join(format!("{}.bin", bytes.len()));
        assert!(chatto::runtime::limited_read(&path, 1 << 20).unwrap() == *bytes, "{path:?}");
    }
    // And they come back with a restore.
    let mut target = Server::prepare();
    json_of(&target, &["restore", text(&archive)]);
    json_of(&target, &["keys", "import", text(&at("keys")), flag[0], flag[1]]);
    target.run();
    let owner = target.client().log_in("ada");
    for (id, bytes) in &files {
        assert!(owner.client.get_bytes(&path(id)).unwrap() == *bytes, "{id}");
    }
}

#[test]
fn files_that_an_archive_only_lists_are_looked_for_in_the_bucket() {
    let (store, mut server) = with_bucket();
    server.run();
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    let [kept, lost] =
        ["kept.bin", "lost.bin"].map(|name| attach(&owner, &room, name, name.as_bytes()).0);
    let archive = server.dir().join("listed.tar.gz");
    json_of(&server, &["backup", "-o", text(&archive)]);
    let verify = ["backup", "verify", text(&archive), "--check-s3"];
    assert_eq!(json_of(&server, &verify)["objects"]["good"], 2);
    smol::block_on(s3(store.config()).delete(&lost)).unwrap();
    let output = server.chatto(verify);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout.contains(&format!("{lost}\tit is missing")), "{stdout}");
    assert!(!stdout.contains(&kept), "{stdout}");
    let (exit, stderr) =
        refused(&server, &["backup", "extract", text(&archive), &kept, "-o", text(server.dir())]);
    assert!(exit == 1 && stderr.contains("--assets=all"), "{exit} {stderr}");
    let bare = Server::prepare();
    let (exit, stderr) = refused(&bare, &verify);
    assert!(exit == 78 && stderr.contains("core.assets.s3"), "{exit} {stderr}");
}

#[test]
fn backups_of_two_servers_into_one_folder_get_two_names() {
    let servers = [Server::start(), Server::start()];
    let folder = servers[0].dir().join("backups");
    servers.iter().for_each(|server| {
        server.owner();
    });
    for _ in 0..3 {
        // Within the same second, as two nightly jobs are.
        let mut paths: Vec<String> = std::thread::scope(|threads| {
            let backups = servers.each_ref().map(|server| {
                let args = ["backup", "-o", text(&folder), "--keep-last", "1"];
                std::fs::create_dir_all(&folder).unwrap();
                threads.spawn(move || json_of(server, &args)["path"].as_str().unwrap().to_owned())
            });
            backups.map(|backup| backup.join().unwrap()).into()
        });
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 2, "{paths:?}");
        assert!(paths.iter().all(|path| Path::new(path).exists()), "{paths:?}");
    }
    let listed = json_of(&servers[0], &["backup", "list", text(&folder)]);
    let mut owners: Vec<&str> = listed["archives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["server_id"].as_str().unwrap())
        .collect();
    // Their numbers have nothing to do with each other.
    let shown = servers[0].chatto_ok(["backup", "list", text(&folder)]);
    assert!(owners.iter().all(|owner| shown.contains(&format!("{owner}\t"))), "{shown}");
    owners.sort_unstable();
    owners.dedup();
    assert_eq!((owners.len(), listed["archives"].as_array().unwrap().len()), (2, 2), "{listed}");
}
