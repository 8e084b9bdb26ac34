//! Flipped bytes: nats-server drops the rest of a damaged block without a word, so a reader must
//! notice what is missing; it never shows an empty chat.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chatto::domain::User;
use chatto::runtime::Clock;
use chatto::storage::{
    Claim, DraftView, OpenError, RecordChange, RequestId, Storage, StorageError,
};

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

/// What becomes of nats-server's index of a damaged block. With it, the server takes the block for whole
/// and leaves out what it cannot read; without it (after a kill) it drops everything from there on, and
/// older revisions come to light again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Index {
    Kept,
    Removed,
}

/// Flips 16 bytes of the stream's largest block at each of these places, in thousandths of its length.
fn damage(store: &Path, stream: &str, index: Index, places: &[usize]) {
    let mut all = Vec::new();
    files(store, &mut all);
    all.retain(|path| path.to_string_lossy().contains(&format!("/{stream}/msgs/")));
    let blocks = all.iter().filter(|path| path.extension().is_some_and(|end| end == "blk"));
    let block = blocks.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
    let mut bytes = std::fs::read(block).unwrap();
    for place in places {
        let at = bytes.len() * place / 1000;
        bytes[at..at + 16].iter_mut().for_each(|byte| *byte ^= 0xff);
    }
    std::fs::write(block, bytes).unwrap();
    if index == Index::Removed {
        std::fs::remove_file(all.iter().find(|path| path.ends_with("index.db")).unwrap()).unwrap();
    }
}

async fn fill(storage: &Storage) {
    for n in 0..ROWS {
        storage
            .timelines()
            .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
                Ok(post(view.head(), user(1), &format!("text {n}")))
            })
            .await
            .unwrap();
    }
}

async fn read_all(storage: &Storage) -> Result<u32, StorageError> {
    let head = storage.timelines().head(&room(1)).await?;
    let mut from = 0;
    while from < head.rows {
        from += storage.timelines().rows(&room(1), from, head.rows).await?.len() as u32;
    }
    Ok(from)
}

/// Accounts, each changed three times: only the last revision of a key is kept.
async fn fill_state(storage: &Storage) {
    for round in 1..=3 {
        for n in 1..=60 {
            storage
                .state()
                .change::<User, Infallible>(&user(n), |_| {
                    let login = format!("user{n}");
                    Ok(RecordChange::Put(User { login, created_ms: round, ..User::new(user(n)) }))
                })
                .await
                .unwrap();
        }
    }
}

/// Fills a store, damages one stream while the server is down, and opens it again.
fn opened_after_damage<T>(
    (stream, index, places): (&str, Index, &[usize]),
    check: impl AsyncFnOnce(Result<Storage, OpenError>) -> T,
) -> T {
    let mut server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        fill_state(&storage).await;
        fill(&storage).await;
        storage.close().await;
    });
    server.stop();
    damage(&server.store_dir(), stream, index, places);
    server.restart();
    run(async |runtime| check(open(&server.url(), &runtime, config(None)).await).await)
}

/// A few records at the end are as much a hole as half a block.
#[test]
fn a_stream_that_went_back_is_refused() {
    for (stream, name) in [("KV_STATE", "STATE"), ("JOURNAL", "JOURNAL"), ("PAGES", "PAGES")] {
        for at in [500, 950] {
            opened_after_damage((stream, Index::Removed, &[at]), async |opened| {
                let error = opened.err().unwrap_or_else(|| panic!("{stream} {at} opens"));
                assert!(
                    matches!(error, OpenError::Holes { stream } if stream == name),
                    "{stream} {at}: {error:?}"
                );
            });
        }
    }
}

#[test]
fn a_record_of_state_that_cannot_be_read_is_refused() {
    for at in [800, 960] {
        opened_after_damage(("KV_STATE", Index::Kept, &[at]), async |opened| {
            let error = opened.err().unwrap_or_else(|| panic!("STATE opens: {at}"));
            assert!(!error.is_transient(), "{at}: {error:?}");
            assert!(error.to_string().contains("damaged"), "{at}: {error:?}");
        });
    }
}

#[test]
fn a_page_that_cannot_be_read_is_an_error_and_never_an_empty_chat() {
    // Most of the block are erased revisions; some of these places are in a present one. Its end must
    // stay: the index knows it.
    let places: Vec<_> = (1..=30).map(|n| n * 25).collect();
    opened_after_damage(("PAGES", Index::Kept, &places), async |opened| {
        let storage = match opened {
            // How large records are differs from run to run: where the newest one is hit, the start
            // notices.
            Err(OpenError::Holes { stream: "PAGES" }) => return,
            opened => opened.unwrap(),
        };
        let read = read_all(&storage).await;
        assert!(matches!(read, Err(StorageError::Corrupt { .. })), "{read:?}");
        assert!(storage.is_damaged());
        storage.close().await;
    });
}

#[test]
fn a_damaged_journal_loses_nothing_that_is_folded() {
    opened_after_damage(("JOURNAL", Index::Kept, &[500]), async |opened| {
        let storage = opened.unwrap();
        assert_eq!(read_all(&storage).await.unwrap(), ROWS);
        assert!(!storage.is_damaged());
        storage.close().await;
    });
}

/// What a crash leaves behind is no damage, whenever the record of the store's ends was last written.
#[test]
fn a_store_whose_mark_is_older_than_its_last_changes_opens() {
    let mut server = NatsServer::start();
    for round in 0..3 {
        run(async |runtime| {
            let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
            assert!(!storage.is_damaged());
            fill_state(&storage).await;
            let gone = Claim::Login("ada");
            storage.state().claim(gone, user(1)).await.unwrap();
            storage.state().release(gone, user(1)).await.unwrap();
            if round == 1 {
                storage.close().await;
            }
        });
        server.kill();
        server.restart();
    }
}

/// The stream shrinks under a running process: its nats-server came back with less.
#[test]
fn a_stream_that_goes_back_under_a_running_process_is_damage() {
    let mut server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        fill_state(&storage).await;
        assert!(!storage.is_damaged());
        server.stop();
        damage(&server.store_dir(), "KV_STATE", Index::Removed, &[500]);
        server.restart();
        let clock = Clock::system();
        let end = clock.now() + Duration::from_secs(20);
        while !storage.is_damaged() {
            assert!(clock.now() < end, "not noticed");
            clock.sleep(Duration::from_millis(20)).await;
        }
        // nats-server would give the lost numbers to these.
        let refused = storage.state().claim(Claim::Login("late"), user(9)).await;
        assert!(matches!(refused, Err(StorageError::Damaged)), "{refused:?}");
        let (room, request) = (room(1), RequestId::random());
        let draft = |view: &DraftView<'_>| Ok(post(view.head(), user(1), "late"));
        let appended = storage.timelines().append::<Infallible>(&room, &request, &[], draft).await;
        let refused = appended.map_err(StorageError::from);
        assert!(matches!(refused, Err(StorageError::Damaged)), "{refused:?}");
        storage.close().await;
    });
}
