//! Flipped bytes: nats-server drops the rest of a damaged block without a word, so a reader must
//! notice what is missing; it never shows an empty chat.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use chatto::storage::{RequestId, Storage, StorageError};

use super::{config, open, post, room, run, user};
use crate::support::nats::NatsServer;

const ROWS: u32 = 400;

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// Flips 16 bytes in the middle of the stream's largest block and removes its index.
fn damage(store: &Path, stream: &str) {
    let mut all = Vec::new();
    files(store, &mut all);
    let of_stream = |path: &&PathBuf| path.to_string_lossy().contains(&format!("/{stream}/msgs/"));
    let mut blocks = all.iter().filter(of_stream);
    let block = blocks
        .clone()
        .filter(|path| path.extension().is_some_and(|end| end == "blk"))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
    let mut bytes = std::fs::read(block).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 16].iter_mut().for_each(|byte| *byte ^= 0xff);
    std::fs::write(block, bytes).unwrap();
    if let Some(index) = blocks.find(|path| path.ends_with("index.db")) {
        std::fs::remove_file(index).unwrap();
    }
}

async fn fill(storage: &Storage) {
    for n in 0..ROWS {
        storage
            .append::<Infallible>(&room(1), &RequestId::random(), |head| {
                Ok(post(head, user(1), &format!("text {n}")))
            })
            .await
            .unwrap();
    }
}

async fn read_all(storage: &Storage) -> Result<u32, StorageError> {
    let head = storage.head(&room(1)).await?;
    let mut from = 0;
    while from < head.rows {
        from += storage.rows(&room(1), from, head.rows).await?.len() as u32;
    }
    Ok(from)
}

/// Fills a store, damages one stream while the server is down, and reads everything again.
fn read_after_damage(stream: &str, folded: bool) -> (Result<u32, StorageError>, bool) {
    let mut server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        fill(&storage).await;
        if folded {
            storage.close().await;
        }
    });
    server.stop();
    damage(&server.store_dir(), stream);
    server.restart();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let read = read_all(&storage).await;
        let noticed = storage.is_damaged();
        storage.close().await;
        (read, noticed)
    })
}

#[test]
fn a_damaged_page_is_an_error_and_never_an_empty_chat() {
    let (read, noticed) = read_after_damage("PAGES", true);
    assert!(matches!(read, Err(StorageError::Corrupt { .. })), "{read:?}");
    assert!(noticed);
}

#[test]
fn a_damaged_journal_loses_nothing_that_is_folded() {
    let (read, noticed) = read_after_damage("JOURNAL", true);
    assert_eq!(read.unwrap(), ROWS);
    assert!(!noticed);
}
