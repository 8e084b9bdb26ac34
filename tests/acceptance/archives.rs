//! A folder of archives: what is known of each, and which ones retention removes.

use std::path::Path;

use serde_json::{Value, json};

use super::backup::{json_of, refused, text};
use super::seeded;
use crate::support::server::Server;

/// Number and state of each archive, in the order of `backup list`.
fn listed(server: &Server, folder: &Path) -> Vec<(Value, String)> {
    let listed = json_of(server, &["backup", "list", text(folder)]);
    let archives = listed["archives"].as_array().unwrap().iter();
    archives
        .map(|one| (one["sequence"].clone(), one["state"].as_str().unwrap().to_owned()))
        .collect()
}

fn states(expected: &[(u64, &str)]) -> Vec<(Value, String)> {
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
    assert_eq!(made["removed"], json!(superseded));
    assert_eq!((&made["verified"], listed(&server, &folder).len()), (&json!(true), 5));
    let done = json_of(&server, &["backup", "prune", text(&folder), "--keep-last", "2"]);
    assert_eq!(done["removed"], json!(superseded));
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
    assert_eq!(listed(&server, &folder), states(&[(0, "writing")]));
    json_of(&server, &["backup", "-o", text(&folder), "--keep-daily", "7"]);
    assert_eq!(listed(&server, &folder), states(&[(1, "verified")]));
    assert!(!folder.join(".killed.tar.gz.partial").exists());
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
        (&["backup", "--prune-dry-run"], 2, "--keep"),
        // The test's folder is on the disk of the data.
        (&["backup", "-o", folder, "--require-mount"], 75, "no other medium is mounted"),
    ] {
        let (found, stderr) = refused(&server, args);
        assert_eq!(found, exit, "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
    assert_eq!(listed(&server, Path::new(folder)), []);
    std::fs::write(Path::new(folder).join(".chatto-backups.json"), "{").unwrap();
    let (exit, stderr) = refused(&server, &["backup", "prune", folder]);
    assert!(exit == 65 && stderr.contains("is damaged"), "{exit} {stderr}");
    json_of(&server, &["backup", "-o", folder]);
    assert_eq!(listed(&server, Path::new(folder)), states(&[(1, "complete")]));
    // Nothing is verified yet.
    let (exit, stderr) = refused(&server, &["backup", "prune", folder]);
    assert!(exit == 1 && stderr.contains("none is removed"), "{exit} {stderr}");
}
