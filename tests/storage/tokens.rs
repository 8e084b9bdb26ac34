//! Tokens and read markers in memory: never from before a change that this process made or received.

use std::mem::discriminant;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chatto::domain::{Presence, ReadMarker, Token, TokenKind};
use chatto::nats::WritesRefused;
use chatto::runtime::{Clock, Runtime};
use chatto::storage::{Config, EphemeralEvent, FeedSubscriber, FeedUpdate, FoundToken, Storage};
use futures_lite::future::poll_once;

use super::{config, connect, open, room, run, user};
use crate::support::nats::NatsServer;

/// Attempts at having a read under way: the response may be there at once.
const ATTEMPTS: u8 = 100;
const HOUR: Duration = Duration::from_secs(3600);

/// What a process received.
#[derive(Default)]
struct Received(Mutex<Vec<EphemeralEvent>>, AtomicUsize);

impl FeedSubscriber for Received {
    fn deliver(&self, live: FeedUpdate) {
        match live {
            FeedUpdate::EphemeralEvent(event) => self.0.lock().unwrap().push(event),
            FeedUpdate::Missed => {
                self.1.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

impl Received {
    /// Waits until this was received so often.
    async fn wait(&self, wanted: &EphemeralEvent, times: usize) {
        let count = || self.0.lock().unwrap().iter().filter(|event| *event == wanted).count();
        for _ in 0..1_000 {
            if count() >= times {
                return;
            }
            Clock::system().sleep(Duration::from_millis(10)).await;
        }
        panic!("not received: {wanted:?}");
    }
}

/// A process that shares the store with others and receives their changes.
async fn process(nats: &NatsServer, runtime: &Runtime) -> (Storage, Arc<Received>) {
    let config = Config { embedded: false, ..config(None) };
    follow(open(&nats.url(), runtime, config).await.unwrap()).await
}

/// The same for a store that is open.
async fn follow(storage: Storage) -> (Storage, Arc<Received>) {
    let received = Arc::new(Received::default());
    storage.feed().subscribe(Arc::clone(&received) as Arc<dyn FeedSubscriber>);
    // Until it has subscribed it receives nothing.
    for n in 0..u64::MAX {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        storage.tokens().create(&hash, &Token::new(TokenKind::Bearer), HOUR).await.unwrap();
        let is_received = received
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|event| matches!(event, EphemeralEvent::Token { .. }));
        if is_received && storage.is_following() {
            break;
        }
    }
    (storage, received)
}

async fn create(storage: &Storage, hash: &[u8; 32]) {
    let token = Token { user: Some(user(1)), ..Token::new(TokenKind::Bearer) };
    assert!(storage.tokens().create(hash, &token, HOUR).await.unwrap());
}

async fn cached(storage: &Storage, hash: &[u8; 32]) -> Option<FoundToken> {
    storage.tokens().get_cached(hash).await.unwrap()
}

/// A read that is sent before a removal and whose response is read after it.
async fn removed_while_read(reader: &Storage, received: &Received, remover: &Storage) {
    for hash in (1..ATTEMPTS).map(|n| [n; 32]) {
        let event = EphemeralEvent::Token { hash };
        create(remover, &hash).await;
        received.wait(&event, 1).await;
        let mut reading = pin!(cached(reader, &hash));
        let ended = poll_once(reading.as_mut()).await.is_some();
        remover.tokens().delete(&hash).await.unwrap();
        received.wait(&event, 2).await;
        let was_there = !ended && reading.await.is_some();
        assert_eq!(cached(reader, &hash).await, None);
        if was_there {
            return;
        }
    }
    panic!("no read was under way during a removal");
}

#[test]
fn a_token_removed_while_it_is_read_does_not_count_afterwards() {
    let nats = NatsServer::start();
    run(async |runtime| {
        let (storage, received) = process(&nats, &runtime).await;
        removed_while_read(&storage, &received, &storage).await;
    });
}

#[test]
fn a_token_that_another_process_removes_while_it_is_read_does_not_count_once_that_is_received() {
    let nats = NatsServer::start();
    run(async |runtime| {
        let (reader, received) = process(&nats, &runtime).await;
        let (remover, _) = process(&nats, &runtime).await;
        removed_while_read(&reader, &received, &remover).await;
    });
}

#[test]
fn a_token_in_memory_does_not_count_once_its_removal_by_another_process_is_received() {
    let nats = NatsServer::start();
    run(async |runtime| {
        let (reader, received) = process(&nats, &runtime).await;
        let (remover, _) = process(&nats, &runtime).await;
        let hash = [1; 32];
        let event = EphemeralEvent::Token { hash };
        create(&remover, &hash).await;
        received.wait(&event, 1).await;
        assert!(cached(&reader, &hash).await.is_some());
        remover.tokens().delete(&hash).await.unwrap();
        received.wait(&event, 2).await;
        assert_eq!(cached(&reader, &hash).await, None);
    });
}

#[test]
fn a_token_whose_change_failed_is_still_known_while_the_store_cannot_be_asked() {
    let mut nats = NatsServer::start();
    run(async |runtime| {
        let (connection, clock) = (connect(&nats.url()).await, Clock::system());
        let config = Config { embedded: false, ..config(None) };
        let storage = Storage::open(connection.clone(), config, &runtime, clock).await.unwrap();
        let (storage, received) = follow(storage).await;
        let hash = [1; 32];
        create(&storage, &hash).await;
        received.wait(&EphemeralEvent::Token { hash }, 1).await;
        let found = cached(&storage, &hash).await.unwrap();
        connection.refuse_writes(WritesRefused::DiskFull, true);
        let changed = storage.tokens().replace(&hash, &found, &found.token, HOUR).await;
        assert!(changed.is_err(), "{changed:?}");
        nats.kill();
        assert_eq!(cached(&storage, &hash).await, Some(found));
    });
}

#[test]
fn a_marker_moved_while_it_is_read_is_not_the_former_one_afterwards() {
    let nats = NatsServer::start();
    run(async |runtime| {
        let (storage, _) = process(&nats, &runtime).await;
        for target in (1..ATTEMPTS).map(|n| format!("room{n}")) {
            let marker = async || storage.markers().get(&user(1), &target).await.unwrap();
            let mut reading = pin!(marker());
            let ended = poll_once(reading.as_mut()).await.is_some();
            let moved = ReadMarker { row: 7, row_ms: 7, row_id: None };
            storage.markers().advance(&user(1), &target, moved).await.unwrap();
            let was_former = !ended && reading.await.is_none();
            assert_eq!(marker().await, Some(moved));
            if was_former {
                return;
            }
        }
        panic!("no read was under way during a move");
    });
}

/// Every socket is refreshed when updates may have been missed: a connection that was lost is one reason for that.
#[test]
fn a_lost_connection_is_reported_once_when_everything_is_received_again() {
    let mut server = NatsServer::start();
    run(async |runtime| {
        let (storage, received) = process(&server, &runtime).await;
        let before = received.1.load(Ordering::SeqCst);
        server.kill();
        server.restart();
        let events = [
            EphemeralEvent::Typing { room: room(1), user: user(1), thread: None },
            EphemeralEvent::Presence { user: user(1), status: Presence::Online, until_ms: 1 },
            EphemeralEvent::Marker { user: user(1), target: "again".to_owned() },
        ];
        let clock = Clock::system();
        let end = clock.now() + Duration::from_secs(30);
        let has = |event: &EphemeralEvent| {
            received.0.lock().unwrap().iter().any(|one| discriminant(one) == discriminant(event))
        };
        while !events.iter().all(has) {
            assert!(clock.now() < end, "not received again");
            for event in &events {
                storage.feed().publish(event).await.ok();
            }
            clock.sleep(Duration::from_millis(20)).await;
        }
        // The fourth kind: tokens.
        let hash = [0xee; 32];
        create(&storage, &hash).await;
        received.wait(&EphemeralEvent::Token { hash }, 1).await;
        assert_eq!(received.1.load(Ordering::SeqCst) - before, 1);
        storage.close().await;
    });
}
