//! Files in S3 as operators set them up: redirected downloads, the state of the bucket, settings that are gone.

use chatto::crypto::{hex, sha256};
use serde_json::json;

use crate::support::client::Account;
use crate::support::s3::{Kind, S3Server};
use crate::support::server::Server;

/// Uploads a file and returns its id.
fn upload(owner: &Account, room: &str, name: &str, bytes: &[u8]) -> String {
    let new = json!({
        "roomId": room, "filename": name, "size": bytes.len().to_string(),
        "sha256": hex(&sha256(bytes)),
    });
    let created = owner.client.call("AssetUploadService/CreateUpload", &new).unwrap();
    let id = created["upload"]["uploadId"].as_str().unwrap().to_owned();
    owner.client.put_bytes(&format!("/assets/uploads/{id}"), bytes).unwrap();
    id
}

fn path(id: &str) -> String {
    format!("/assets/files/{id}")
}

#[test]
fn large_downloads_are_redirected_to_s3_only_where_that_is_set() {
    let store = S3Server::start(Kind::SeaweedFs);
    let mut server = Server::prepare();
    server.use_s3(store.port());
    server.run();
    let owner = server.owner();
    let room = owner.room("general");
    owner.join(&room);
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
    let page = client.headers("/").unwrap();
    let policy = page["content-security-policy"].to_str().unwrap();
    assert!(policy.contains(&format!("img-src 'self' {origin}; media-src 'self' {origin};")));
    assert!(server.stop().success(), "{}", server.log());
}
