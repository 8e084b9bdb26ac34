//! A damaged store: missing streams are refused or recreated, flipped bytes are noticed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::seeded;
use crate::support::client::CallError;
use crate::support::server::Server;
use crate::support::wait::until;

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

/// File streams whose content may be lost. (PRESENCE and CALLS live in memory.)
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
        let (code, printed) = server.run_refused();
        assert_eq!(code, 74, "without {name}: {printed}");
        assert!(printed.contains(name), "does not name {name}: {printed}");
        assert!(printed.contains("Restore the data directory"), "without {name}: {printed}");
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
        // Sessions end with AUTH_TOKENS: their users log in again.
        assert_eq!(server.client().log_in("ada").history(&room), history, "without {stream}");
    }
}

/// nats-server skips a stream with a damaged description and reports that it is ready; we must not.
#[test]
fn a_damaged_stream_description_is_noticed() {
    let mut server = Server::start();
    let (room, history) = seeded(&server.owner());
    assert!(server.stop().success());
    let file = server.stream_dir("JOURNAL").join("meta.inf");
    let good = flip(&file, 10);
    let (code, printed) = server.run_refused();
    assert_eq!(code, 74, "{printed}");
    assert!(printed.contains("JOURNAL"), "{printed}");
    std::fs::write(&file, good).unwrap();
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

/// Bytes flipped inside a block. nats-server skips what it cannot read. After a kill it has no index: then it
/// drops the rest of the block and shows older revisions again. It logs none of this.
/// The server must refuse to start, or return exactly what was acknowledged, or return an error that its log
/// calls damage. It must never show a shorter room as if it were complete.
#[test]
fn flipped_bytes_never_pass_for_a_shorter_room() {
    let mut server = Server::start();
    let owner = server.owner();
    let (room, _) = seeded(&owner);
    // More than a page, so that one is folded.
    for n in 0..70 {
        owner.post(&room, &format!("folded {n}"), &format!("fold-{n}")).unwrap();
    }
    until("a page is folded", Duration::from_secs(30), || {
        let status = server.chatto_ok(["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        (status["unfolded_events"].as_u64()? < 64).then_some(())
    });
    let history = owner.history(&room);
    assert!(server.stop().success());
    // A start writes too (folds, the high-water mark), so each one begins with a copy of the same store.
    let kept = server.dir().join("kept");
    copy(&server.data_dir(), &kept);
    for stream in ["JOURNAL", "PAGES", "KV_STATE"] {
        for has_index in [true, false] {
            let messages = server.stream_dir(stream).join("msgs");
            let block = largest_block(&messages);
            let index = messages.join("index.db");
            flip(&block, read(&block).len() / 2);
            if !has_index {
                std::fs::remove_file(&index).unwrap();
            }
            let logged = server.log().len();
            server.spawn();
            let ended = server.ready_or_ended();
            let log = server.log()[logged..].to_owned();
            if let Some(status) = ended {
                assert_eq!(status.code(), Some(74), "{stream}: {log}");
                let name = stream.trim_start_matches("KV_");
                assert!(log.contains(&format!("{name} has lost messages")), "{stream}: {log}");
                assert!(log.contains("Restore the data directory"), "{stream}: {log}");
            } else {
                assert!(has_index, "{stream} without its index starts: {log}");
                match server.client().log_in("ada").try_history(&room) {
                    Ok(seen) => assert_eq!(seen, history, "{stream}"),
                    Err(CallError::Refused { status: 500 | 503, .. }) => {
                        assert!(
                            server.log()[logged..].contains("the store is damaged"),
                            "{stream}"
                        );
                    }
                    Err(other) => panic!("{stream}: {other:?}"),
                }
                server.stop();
            }
            std::fs::remove_dir_all(server.data_dir()).unwrap();
            copy(&kept, &server.data_dir());
        }
    }
    server.run();
    assert_eq!(server.client().log_in("ada").history(&room), history);
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

fn largest_block(dir: &Path) -> PathBuf {
    std::fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "blk"))
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .expect("a block")
}

/// Inverts sixteen bytes in the middle of a file and returns the old ones.
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
