//! Files in S3 as operators set them up: redirected downloads, the state of the bucket, settings that are gone.

use std::time::Duration;

use super::{path, upload, with_bucket};
use crate::support::client::Account;
use crate::support::s3::s3;
use crate::support::server::Server;
use crate::support::wait::until;

/// The owner, and a room that it is in.
fn in_general(server: &Server) -> (Account, String) {
    let owner = server.owner();
    let room = owner.room("general");
    owner.join(&room);
    (owner, room)
}

#[test]
fn large_downloads_are_redirected_to_s3_only_where_that_is_set() {
    let (store, mut server) = with_bucket();
    server.run();
    let (owner, room) = in_general(&server);
    let large = vec![0xfe; 3_000];
    let file = upload(&owner, &room, "r\u{e9}sum\u{e9}.bin", &large);
    let text = upload(&owner, &room, "a.txt", "text ".repeat(600).as_bytes());
    let small = upload(&owner, &room, "b.bin", &[0xfe; 2_048]);
    assert_eq!(owner.client.redirect(&path(&file)), None, "the backend is not visible");

    assert!(server.stop().success());
    server.set("CHATTO_CORE_ASSETS_S3_REDIRECT_ABOVE", "2KiB");
    server.run();
    let client = server.client().with_token(owner.client.token().unwrap());
    let location = client.redirect(&path(&file)).unwrap();
    let origin = format!("http://127.0.0.1:{}", store.port());
    assert!(
        location.starts_with(&format!("{origin}/files/production/chatto/{file}?")),
        "{location}"
    );
    let mut fetched = ureq::get(&location).call().unwrap();
    let header = |name: &str| fetched.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    let disposition = "attachment; filename=\"r_sum_.bin\"; filename*=UTF-8''r%C3%A9sum%C3%A9.bin";
    assert_eq!(header("content-disposition"), disposition);
    assert!(fetched.body_mut().read_to_vec().unwrap() == large);
    assert!(client.get_bytes(&path(&file)).unwrap() == large);
    // Text that is shown in place, and what is not larger, come from here.
    assert_eq!(client.redirect(&path(&text)), None);
    assert_eq!(client.redirect(&path(&small)), None);
    // Nor is anybody sent to ciphertext.
    assert!(server.stop().success());
    server.set("CHATTO_CORE_ASSETS_ENCRYPT", "true");
    server.run();
    let client = server.client().with_token(owner.client.token().unwrap());
    let owner = Account { client, ..owner };
    let client = &owner.client;
    let encrypted = upload(&owner, &room, "c.bin", &large);
    assert_eq!(client.redirect(&path(&encrypted)), None);
    assert!(client.get_bytes(&path(&encrypted)).unwrap() == large);
    let object = smol::block_on(s3(store.config()).head(&encrypted)).unwrap();
    assert_eq!(object.size, 3_040);
    assert!(client.redirect(&path(&file)).is_some(), "an older file stays plain");
    let page = client.headers("/").unwrap();
    let policy = page["content-security-policy"].to_str().unwrap();
    assert!(policy.contains(&format!("img-src 'self' {origin}; media-src 'self' {origin};")));
    assert!(server.stop().success(), "{}", server.log());
}

#[test]
fn files_are_checked_and_moved_with_the_server_running_and_stopped() {
    let (store, mut server) = with_bucket();
    server.set("CHATTO_CORE_ASSETS_STORAGE_BACKEND", "nats");
    server.run();
    let (owner, room) = in_general(&server);
    let bytes = vec![0xfe; 700_000];
    let file = upload(&owner, &room, "a.bin", &bytes);
    let moved = |to: &str| {
        let output = server.command(["--json", "assets", "move", "--to", to]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["files"].clone()
    };
    assert_eq!(server.chatto_ok(["assets", "check"]), "");
    assert_eq!(moved("s3"), 1);
    let bucket = s3(store.config());
    let objects = smol::block_on(bucket.list(&file, None)).unwrap().entries;
    assert_eq!(objects.len(), 1);
    assert!(owner.client.get_bytes(&path(&file)).unwrap() == bytes);
    let progress = server.command(["--progress=json", "assets", "check"]).output().unwrap();
    let shown = String::from_utf8_lossy(&progress.stderr).into_owned();
    assert!(shown.contains("{\"progress\":{\"percent\":100,"), "{shown}");
    assert!(shown.contains("checked 1 files, 683 KiB"), "{shown}");
    smol::block_on(bucket.delete(&file)).unwrap();
    let output = server.command(["assets", "check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("missing\t{file}\n"));
    smol::block_on(bucket.put(&file, bytes.clone().into())).unwrap();

    assert!(server.stop().success(), "{}", server.log());
    let output = server.command(["assets", "move", "--to", "nats"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(smol::block_on(bucket.list(&file, None)).unwrap().entries.len(), 0);
    server.run();
    let client = server.client().with_token(owner.client.token().unwrap());
    assert!(client.get_bytes(&path(&file)).unwrap() == bytes);
    assert!(server.stop().success(), "{}", server.log());
}

#[test]
fn the_state_of_the_bucket_is_shown_and_logged_once_and_files_without_one_are_counted() {
    let (mut store, mut server) = with_bucket();
    server.run();
    let (owner, room) = in_general(&server);
    let file = upload(&owner, &room, "a.bin", b"\xfe");
    let status = || server.chatto_ok(["status"]);
    let at = format!("s3:         files at http://127.0.0.1:{}, ", store.port());
    assert!(status().contains(&format!("{at}usable since ")), "{}", status());
    store.kill();
    for _ in 0..2 {
        owner.client.get_bytes(&path(&file)).unwrap_err();
    }
    assert!(status().contains(&format!("{at}not usable since ")), "{}", status());
    assert!(status().contains(" errors, the last one: http://127.0.0.1:"), "{}", status());
    assert_eq!(server.client().readyz().unwrap().0, 200);
    assert_eq!(server.log().matches("S3 cannot be used").count(), 1, "{}", server.log());

    assert!(server.stop().success());
    for name in ["ENDPOINT", "BUCKET", "PATH_PREFIX", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"] {
        server.unset(&format!("CHATTO_CORE_ASSETS_S3_{name}"));
    }
    server.unset("CHATTO_CORE_ASSETS_STORAGE_BACKEND");
    server.run();
    until("files without a bucket are counted", Duration::from_secs(30), || {
        let is_count =
            |line: &str| line.contains("files are in S3, but") && line.contains("files=1");
        server.log().lines().any(is_count).then_some(())
    });
    assert!(server.stop().success(), "{}", server.log());
}
