//! The disk I/O of nats-server for one message and for one page.

use chatto::runtime::Clock;

use crate::storage::{config, connect, open, post, room, run, user};
use crate::support::nats::NatsServer;
use crate::support::proc::number;
use crate::support::server::Server;
use crate::support::trace::Trace;

/// The number of messages: enough for several folds of 64.
const POSTS: usize = 400;
/// nats-server reads whole blocks, of 4 MiB in a stream with a limit of messages for each subject.
const BLOCK: u64 = 4 << 20;

#[test]
fn an_acknowledged_message_costs_the_disk_one_flush_and_little_more() {
    let server = Server::start();
    let owner = server.owner();
    let room = owner.room("general");
    owner.join(&room);
    owner.post(&room, "opens what is opened once", "first").unwrap();
    let nats = server.nats_pid().unwrap();
    let file = server.dir().join("strace");
    let trace = Trace::attach(nats, &file).expect("strace attaches: .ci/setup tests installs it");
    let before = number(nats, "io", "write_bytes:");
    for number in 0..POSTS {
        owner.post(&room, &format!("message {number}"), &format!("key-{number}")).unwrap();
    }
    let written = number(nats, "io", "write_bytes:") - before;
    let flushes = trace.finish(&file);
    eprintln!("{POSTS} messages: {flushes:?}, {written} bytes");
    let journal = flushes.get("JOURNAL").copied().unwrap_or_default();
    assert!((POSTS..=POSTS + POSTS / 50).contains(&journal), "{journal} flushes of the journal");
    // Folds, and what is written by the clock however slowly the messages come.
    let all: usize = flushes.values().sum();
    assert!(all <= POSTS * 3 / 2, "{all} flushes for {POSTS} messages");
    // A flush writes whole blocks of the file system, of 4 KiB here.
    assert!(written <= POSTS as u64 * 2 * 4096, "{written} bytes for {POSTS} messages");
}

#[test]
fn a_page_of_a_large_store_is_read_from_few_blocks() {
    const ROOMS: u8 = 8;
    const EACH: usize = 320;
    const BODY: usize = 6 << 10;
    let mut nats = NatsServer::start_with("max_payload: 8MB");
    run(async |runtime| {
        let storage = open(&nats.url(), &runtime, config(None)).await.unwrap();
        // In turn, as people write: the pages of a room lie in several blocks of the 15 MiB.
        let body = "x".repeat(BODY);
        for _ in 0..EACH {
            for number in 0..ROOMS {
                let request = chatto::storage::RequestId::random();
                storage
                    .timelines()
                    .append::<std::convert::Infallible>(&room(number), &request, &[], |view| {
                        Ok(post(view.head(), user(1), &body))
                    })
                    .await
                    .unwrap();
            }
        }
        // Else the next process folds while the page is read, which reads blocks too.
        storage.fold_all().await.unwrap();
        storage.close().await;
    });
    nats.restart();
    run(async |runtime| {
        let clock = Clock::system();
        let storage = chatto::storage::Storage::open(
            connect(&nats.url()).await,
            config(None),
            &runtime,
            clock,
        )
        .await
        .unwrap();
        let before = number(nats.pid(), "io", "rchar:");
        let rows = storage.timelines().rows(&room(3), 70, 120).await.unwrap();
        assert_eq!(rows.len(), 50);
        let read = number(nats.pid(), "io", "rchar:") - before;
        eprintln!("one page: {read} bytes read");
        // The head's block and the page's.
        assert!(read > 50 * BODY as u64, "{read} bytes: it was not read from the disk");
        assert!(read <= 2 * BLOCK + BLOCK / 4, "{read} bytes were read for one page");
        storage.close().await;
    });
}
