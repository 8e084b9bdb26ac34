//! What operators see: starts, refused starts and repairs of the built binary, each with the documented exit code and
//! text, and without losing anything acknowledged.

mod archives;
mod attack;
mod backup;
mod beside;
mod bucket;
mod contents;
mod damage;
mod deleted;
mod differs;
mod disk;
mod doctor;
mod drill;
mod external;
mod failing_calls;
mod faulty_disk;
mod fence;
mod keys;
mod killed;
mod killed_restores;
mod owner_notices;
mod quorum;
mod refusals;
mod restore_errors;
mod secret;
mod start;
mod strangers;
mod transcripts;
mod unread;
mod usb;

use chatto::crypto::{hex, sha256};
use serde_json::json;

use crate::support::client::{Account, Message};
use crate::support::s3::{Kind, S3Server};
use crate::support::server::Server;

/// Posts a few messages into `general` and returns the room and the messages that must be there from then on.
fn seeded(owner: &Account) -> (String, Vec<Message>) {
    let room = owner.room("general");
    owner.join(&room);
    for n in 0..5 {
        owner.post(&room, &format!("message {n}"), &format!("seed-{n}")).unwrap();
    }
    let history = owner.history(&room);
    assert_eq!(history.len(), 5);
    (room, history)
}

/// A bucket, and a server whose files go there, which does not run yet.
fn with_bucket() -> (S3Server, Server) {
    let bucket = S3Server::start(Kind::SeaweedFs);
    let mut server = Server::prepare();
    server.use_s3(bucket.port());
    (bucket, server)
}

/// Uploads a file and returns its id.
pub(crate) fn upload(owner: &Account, room: &str, name: &str, bytes: &[u8]) -> String {
    let new = json!({
        "roomId": room, "filename": name, "size": bytes.len().to_string(),
        "sha256": hex(&sha256(bytes)),
    });
    let created = owner.client.call("AssetUploadService/CreateUpload", &new).unwrap();
    let id = created["upload"]["uploadId"].as_str().unwrap().to_owned();
    owner.client.put_bytes(&format!("/assets/uploads/{id}"), bytes).unwrap();
    id
}

/// Where a file is downloaded.
pub(crate) fn path(id: &str) -> String {
    format!("/assets/files/{id}")
}
