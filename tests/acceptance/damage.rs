//! A damaged store: missing streams are refused or made again, a damaged description is noticed.

use std::path::Path;

use super::seeded;
use crate::support::server::Server;

/// Streams whose loss is damage (the bare names operators see, and JetStream's).
const KEPT: [(&str, &str); 9] = [
    ("JOURNAL", "JOURNAL"),
    ("PAGES", "PAGES"),
    ("STATE", "KV_STATE"),
    ("READ_MARKERS", "KV_READ_MARKERS"),
    ("NOTIFICATIONS", "KV_NOTIFICATIONS"),
    ("FILES", "FILES"),
    ("ASSETS", "OBJ_ASSETS"),
    ("ENCRYPTION_KEYS", "KV_ENCRYPTION_KEYS"),
    ("META", "KV_META"),
];

/// File streams that hold nothing that must be kept. (PRESENCE and CALLS live in memory.)
const MADE_AGAIN: [&str; 4] =
    ["KV_AUTH_TOKENS", "OBJ_UPLOADS", "KV_LINK_PREVIEWS", "OBJ_ASSET_CACHE"];

#[test]
fn a_store_that_lost_a_stream_is_refused_and_named() {
    let mut server = Server::start();
    let (room, history) = seeded(&server.owner());
    assert!(server.stop().success());
    for (name, stream) in KEPT {
        let dir = server.stream_dir(stream);
        let aside = server.dir().join("aside");
        std::fs::rename(&dir, &aside).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let (code, said) = server.run_refused();
        assert_eq!(code, 74, "without {name}: {said}");
        assert!(said.contains(name), "does not name {name}: {said}");
        let way_out = if name == "ENCRYPTION_KEYS" { "keys import" } else { "restore" };
        assert!(said.contains(way_out), "without {name}, does not name `{way_out}`: {said}");
        assert!(!dir.exists(), "{name} was created again, empty");
        std::fs::rename(&aside, &dir).unwrap();
    }
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

#[test]
fn what_may_be_lost_is_made_again() {
    let mut server = Server::start();
    let (room, history) = seeded(&server.owner());
    for stream in MADE_AGAIN {
        assert!(server.stop().success());
        let dir = server.stream_dir(stream);
        std::fs::remove_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        server.run();
        assert!(dir.exists(), "{stream} is not there again");
        // Sessions end with AUTH_TOKENS: who lost one logs in again.
        assert_eq!(server.client().log_in("ada").history(&room), history, "without {stream}");
    }
}

/// nats-server skips a stream with a damaged description and says it is ready; we must not.
#[test]
fn a_damaged_stream_description_is_noticed() {
    let mut server = Server::start();
    let (room, history) = seeded(&server.owner());
    assert!(server.stop().success());
    let file = server.stream_dir("JOURNAL").join("meta.inf");
    let good = flip(&file, 10);
    let (code, said) = server.run_refused();
    assert_eq!(code, 74, "{said}");
    assert!(said.contains("JOURNAL"), "{said}");
    std::fs::write(&file, good).unwrap();
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

/// Inverts sixteen bytes in the middle of a file; answers what was there.
fn flip(file: &Path, at: usize) -> Vec<u8> {
    let good = read(file);
    let mut bad = good.clone();
    let end = (at + 16).min(bad.len());
    for byte in &mut bad[at..end] {
        *byte = !*byte;
    }
    std::fs::write(file, bad).unwrap();
    good
}

#[expect(clippy::disallowed_methods, reason = "a block of a test's store is small")]
fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
