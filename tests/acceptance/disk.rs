//! A disk whose free space has fallen to the required minimum. The disk is a tmpfs in the server's own mount
//! namespace; a ballast file fills it and frees the space again. `faulty_disk` tests real faults.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use chatto::crypto::{hex, sha256};
use serde_json::{Value, json};

use super::seeded;
use crate::support::client::{Account, CallError};
use crate::support::mounts::{inside, owner, prepare, start};
use crate::support::server::Server;
use crate::support::wait::until;

const MIB: u64 = 1024 * 1024;
/// Longer than the ten seconds for which a ready server tolerates a failure, and than a restart of its child.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// A server whose data directory is a file system of 640 MiB.
fn on_small_disk(min_free: &str) -> Server {
    let mut server = prepare(min_free);
    start(&mut server, "mount -t tmpfs -o size=640m,mode=700 tmpfs data");
    server
}

/// Fills the disk until this much is free.
fn fill(server: &Server, free: u64) {
    let disk = inside(server);
    let mut ballast = File::create(disk.join("ballast")).unwrap();
    let zeros = vec![0; 64 * 1024];
    loop {
        let left = rustix::fs::statvfs(&disk).unwrap();
        let left = left.f_bavail * left.f_frsize;
        let wanted = left.saturating_sub(free).min(zeros.len() as u64);
        // A write error means that the disk is full to the last block, as requested.
        if wanted == 0 || ballast.write_all(&zeros[..wanted as usize]).is_err() {
            return;
        }
    }
}

fn give_back(server: &Server) {
    std::fs::remove_file(inside(server).join("ballast")).unwrap();
}

fn is_full(server: &Server) -> bool {
    server.client().readyz().is_ok_and(|(status, body)| status == 503 && body.contains("disk_full"))
}

/// Posts until a post is refused; returns the acknowledged texts.
fn post_until_refused(owner: &Account, room: &str) -> (Vec<String>, CallError) {
    let mut acknowledged = Vec::new();
    loop {
        let body = format!("{} {}", acknowledged.len(), "x".repeat(8_000));
        match owner.post(room, &body, &format!("fill-{}", acknowledged.len())) {
            Ok(_) => acknowledged.push(body),
            Err(error) => return (acknowledged, error),
        }
    }
}

/// Begins an upload of a byte.
fn begin_upload(owner: &Account, room: &str) -> Result<Value, CallError> {
    let sha256 = hex(&sha256(b"x"));
    let new = json!({"roomId": room, "filename": "x", "size": "1", "sha256": sha256});
    owner.client.call("AssetUploadService/CreateUpload", &new)
}

/// Files stop before messages do: neither a new upload nor a chunk of an earlier one is taken.
#[test]
fn below_twice_the_floor_files_are_refused_and_messages_are_not() {
    let mut server = on_small_disk("128MiB");
    let owner = owner(&server);
    let (room, _) = seeded(&owner);
    let upload = begin_upload(&owner, &room).unwrap()["upload"]["uploadId"].clone();
    let chunk = json!({"uploadId": upload, "content": "eA==", "chunkSha256": hex(&sha256(b"x"))});
    let send = || owner.client.call("AssetUploadService/UploadChunk", &chunk);
    fill(&server, 200 * MIB);
    let error = until("uploads are refused", NOTICED_WITHIN, || begin_upload(&owner, &room).err());
    let CallError::Refused { status: 503, body } = error else { panic!("{error:?}") };
    assert_eq!(body["message"], "the server's disk is almost full, so it takes no files");
    assert!(matches!(send(), Err(CallError::Refused { status: 503, .. })));
    owner.post(&room, "text goes on", "low").unwrap();
    assert_eq!(server.client().readyz().unwrap().0, 200);
    give_back(&server);
    until("uploads are taken again", NOTICED_WITHIN, || send().ok());
    assert!(server.stop().success(), "{}", server.log());
}

/// Fill the disk, be refused, read nevertheless, free the space, go on: nothing acknowledged is missing.
#[test]
fn the_floor_of_free_space_stops_writes_and_nothing_else() {
    let mut server = on_small_disk("64MiB");
    let owner = owner(&server);
    let (room, history) = seeded(&owner);
    fill(&server, 60 * MIB);
    let (acknowledged, error) = post_until_refused(&owner, &room);
    assert!(matches!(error, CallError::Refused { status: 503, .. }), "{error:?}");
    until("/readyz says disk_full", NOTICED_WITHIN, || is_full(&server).then_some(()));
    let seen = owner.history(&room);
    assert_eq!(seen[..history.len()], history, "reading goes on");

    give_back(&server);
    until("ready again without a restart", NOTICED_WITHIN, || {
        (server.client().readyz().ok()?.0 == 200).then_some(())
    });
    owner.post(&room, "there is room again", "after").unwrap();
    let bodies: Vec<String> =
        owner.history(&room).into_iter().skip(history.len()).map(|m| m.body).collect();
    let mut wanted = acknowledged;
    wanted.push("there is room again".to_owned());
    // The refused post may have been stored after all: a 503 does not rule that out.
    let without_refused: Vec<&String> =
        bodies.iter().filter(|body| wanted.contains(body)).collect();
    assert_eq!(without_refused, wanted.iter().collect::<Vec<_>>());
    assert!(bodies.len() <= wanted.len() + 1);
    assert!(server.stop().success(), "{}", server.log());
}
