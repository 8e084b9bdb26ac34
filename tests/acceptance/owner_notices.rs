//! What a server knows of its backups: with the server running or stopped, and after a restore.

use std::time::Duration;

use serde_json::Value;

use super::seeded;
use crate::support::client::Account;
use crate::support::server::Server;
use crate::support::wait::until;

fn backups(server: &Server) -> Value {
    let status: Value = serde_json::from_str(&server.chatto_ok(["status", "--json"])).unwrap();
    status["backups"].clone()
}

fn codes(owner: &Account) -> Vec<String> {
    let (status, body) = owner.client.get("/api/operations").unwrap();
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let notices = body["notices"].as_array().unwrap();
    notices.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_server_knows_how_its_backups_ended() {
    let mut server = Server::start();
    let owner = server.owner();
    seeded(&owner);
    assert!(backups(&server)["last"].is_null());
    assert!(server.chatto_ok(["status"]).contains("backup:     never verified\n"));

    // A folder cannot be made in a file.
    std::fs::write(server.dir().join("file"), "").unwrap();
    let failed = server.chatto(["backup", "-o", "file/backups/"]);
    assert!(!failed.status.success());
    let known = backups(&server);
    assert_eq!(known["last"]["verdict"], "failed");
    assert!(known["last_failed"]["place"].as_str().unwrap().contains("file/backups"), "{known}");
    assert!(known["last_failed"]["reason"].as_str().unwrap().contains("cannot be created"));
    assert_eq!(codes(&owner), ["backup_failed"]);

    // While the server is stopped. It logs what was before.
    server.stop();
    server.run();
    until("the failure is logged", Duration::from_secs(20), || {
        server.log().contains("a notice for owners").then_some(())
    });
    server.stop();
    let made = server.chatto_ok(["backup", "--verify", "-o", "archive.tar.gz"]);
    server.run();
    let known = backups(&server);
    let place = known["last_verified"]["place"].as_str().unwrap();
    assert!(place.starts_with('/') && place.ends_with(made.trim()), "{known}");
    assert_eq!((&known["last_verified"]["sequence"], &known["late"]), (&1.into(), &false.into()));
    assert_eq!(known["last_failed"]["verdict"], "failed", "it is still known");
    let shown = server.chatto_ok(["status"]);
    assert!(
        shown.contains("backup:     last verified 2") && shown.contains("last failed 2"),
        "{shown}"
    );
    let owner = server.client().log_in("ada");
    assert_eq!(codes(&owner), [""; 0]);
}

#[test]
fn checks_and_restore_tests_of_archives_are_known_and_a_restored_store_begins_anew() {
    let mut server = Server::start();
    seeded(&server.owner());
    server.chatto_ok(["backup", "-o", "archive.tar.gz"]);
    let known = backups(&server);
    assert_eq!(
        (&known["last"]["verdict"], &known["last_verified"]),
        (&"complete".into(), &Value::Null)
    );
    server.chatto_ok(["backup", "verify", "archive.tar.gz"]);
    assert_eq!(backups(&server)["last_verified"]["sequence"], 1);
    server.chatto_ok(["backup", "verify", "archive.tar.gz", "--restore-test", "--work-dir", "."]);
    let tested = &backups(&server)["last_restore_test"];
    assert_eq!((&tested["verdict"], &tested["sequence"]), (&"verified".into(), &1.into()));

    let path = server.dir().join("archive.tar.gz");
    let mut bytes = chatto::runtime::limited_read(&path, 1 << 20).unwrap();
    // Near the end, so that its header can be read.
    let last = bytes.len() - 30;
    bytes[last] ^= 1;
    std::fs::write(server.dir().join("copy.tar.gz"), &bytes).unwrap();
    server.chatto(["backup", "verify", "copy.tar.gz"]);
    assert_eq!(backups(&server)["last"]["verdict"], "verified", "a copy is not the archive");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(server.chatto(["backup", "verify", "archive.tar.gz"]).status.code(), Some(65));
    let known = backups(&server);
    assert_eq!(
        (&known["last"]["verdict"], &known["last_verified"]),
        (&"failed".into(), &Value::Null)
    );

    server.chatto_ok(["backup", "--verify", "-o", "good.tar.gz"]);
    server.stop();
    let restored = server.chatto(["restore", "good.tar.gz", "--conflict=overwrite"]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    server.run();
    // Of the former store: it says nothing of this one.
    server.chatto_ok(["backup", "verify", "good.tar.gz"]);
    let known = backups(&server);
    assert!(known["last"].is_null() && known["last_restore_test"].is_null(), "{known}");
}
