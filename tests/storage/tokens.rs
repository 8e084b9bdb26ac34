//! Tokens and read markers in memory: never from before a change that this process made or heard of.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chatto::runtime::{Clock, Runtime};
use chatto::storage::records::{Marker, Token};
use chatto::storage::{Config, FoundToken, Listener, Live, Storage, Whisper};
use futures_lite::future::poll_once;

use super::{config, open, run, user};
use crate::support::nats::NatsServer;

const HASH: [u8; 32] = [7; 32];
const TOLD: Whisper = Whisper::Token { hash: HASH };
const HOUR: Duration = Duration::from_secs(3600);

/// What a process was told.
#[derive(Default)]
struct Heard(Mutex<Vec<Whisper>>);

impl Listener for Heard {
    fn hear(&self, live: Live) {
        if let Live::Whisper(whisper) = live {
            self.0.lock().unwrap().push(whisper);
        }
    }
}

impl Heard {
    /// Waits until this was told so often.
    async fn wait(&self, wanted: &Whisper, times: usize) {
        let told = || self.0.lock().unwrap().iter().filter(|heard| *heard == wanted).count();
        for _ in 0..1_000 {
            if told() >= times {
                return;
            }
            Clock::system().sleep(Duration::from_millis(10)).await;
        }
        panic!("not told: {wanted:?}");
    }
}

/// A process that shares the store with others and hears of their changes.
async fn process(nats: &NatsServer, runtime: &Runtime) -> (Storage, Arc<Heard>) {
    let config = Config { embedded: false, ..config(None) };
    let storage = open(&nats.url(), runtime, config).await.unwrap();
    let heard = Arc::new(Heard::default());
    storage.listen(Arc::clone(&heard) as Arc<dyn Listener>);
    // Until it has subscribed it hears nothing.
    for n in 0..u64::MAX {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        storage.token_create(&hash, &Token::default(), HOUR).await.unwrap();
        let told = heard.0.lock().unwrap().iter().any(|told| matches!(told, Whisper::Token { .. }));
        if told && storage.is_following() {
            break;
        }
    }
    (storage, heard)
}

async fn create(storage: &Storage) {
    let token = Token { user_id: user(1).to_string(), ..Token::default() };
    assert!(storage.token_create(&HASH, &token, HOUR).await.unwrap());
}

async fn cached(storage: &Storage) -> Option<FoundToken> {
    storage.token_cached(&HASH).await.unwrap()
}

/// A read that is sent before a removal and whose answer is looked at after it.
async fn removed_while_read(reader: &Storage, heard: &Heard, remover: &Storage) {
    create(remover).await;
    heard.wait(&TOLD, 1).await;
    let mut reading = pin!(cached(reader));
    assert!(poll_once(reading.as_mut()).await.is_none(), "nothing to wait for");
    remover.token_delete(&HASH).await.unwrap();
    heard.wait(&TOLD, 2).await;
    assert!(reading.await.is_some(), "the read came after the removal: this tried nothing");
    assert_eq!(cached(reader).await, None);
}

#[test]
fn a_token_removed_while_it_is_read_does_not_count_afterwards() {
    let nats = NatsServer::start();
    run(async |runtime| {
        let (storage, heard) = process(&nats, &runtime).await;
        removed_while_read(&storage, &heard, &storage).await;
    });
}

#[test]
fn a_token_that_another_process_removes_while_it_is_read_does_not_count_once_that_is_heard() {
    let nats = NatsServer::start();
    run(async |runtime| {
        let (reader, heard) = process(&nats, &runtime).await;
        let (remover, _) = process(&nats, &runtime).await;
        removed_while_read(&reader, &heard, &remover).await;
    });
}

#[test]
fn a_token_in_memory_does_not_count_once_its_removal_by_another_process_is_heard() {
    let nats = NatsServer::start();
    run(async |runtime| {
        let (reader, heard) = process(&nats, &runtime).await;
        let (remover, _) = process(&nats, &runtime).await;
        create(&remover).await;
        heard.wait(&TOLD, 1).await;
        assert!(cached(&reader).await.is_some());
        assert!(poll_once(pin!(cached(&reader))).await.is_some(), "it is not in memory");
        remover.token_delete(&HASH).await.unwrap();
        heard.wait(&TOLD, 2).await;
        assert_eq!(cached(&reader).await, None);
    });
}

#[test]
fn a_marker_moved_while_it_is_read_is_not_the_former_one_afterwards() {
    let nats = NatsServer::start();
    run(async |runtime| {
        let (storage, _) = process(&nats, &runtime).await;
        let marker = async || storage.marker(&user(1), "room").await.unwrap();
        let mut reading = pin!(marker());
        assert!(poll_once(reading.as_mut()).await.is_none(), "nothing to wait for");
        let moved = Marker { row: 7, row_ms: 7, ..Marker::default() };
        storage.advance_marker(&user(1), "room", moved.clone()).await.unwrap();
        assert_eq!(reading.await, None, "the read came after the move: this tried nothing");
        assert_eq!(marker().await, Some(moved));
    });
}
