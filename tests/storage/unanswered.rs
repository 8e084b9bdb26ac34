//! An event is stored, and the response gets lost on its way: the call returns the event all the same.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chatto::domain::EventId;
use chatto::domain::timeline::{Effect, Post, React, RowKind};
use chatto::runtime::Clock;
use chatto::storage::{ChangeError, Config, Draft, DraftView, RequestId, Storage};

use super::{config, connect, open, pause_at, post, room, run, user};
use crate::support::forward::Forwarder;
use crate::support::nats::{NatsServer, stream_info};

/// Passes bytes on to nats-server, and back unless it is set to lose them.
struct Relay {
    forwarder: Forwarder,
    loses_responses: Arc<AtomicBool>,
}

impl Relay {
    fn start(to: u16) -> Self {
        let loses_responses = Arc::new(AtomicBool::new(false));
        let loses = Arc::clone(&loses_responses);
        let requests = |mut from: &TcpStream, mut to: &TcpStream| {
            std::io::copy(&mut from, &mut to).ok();
        };
        let responses = move |mut from: &TcpStream, mut to: &TcpStream| {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                if !loses.load(Ordering::SeqCst) && to.write_all(&bytes[..n]).is_err() {
                    return;
                }
            }
        };
        Self { forwarder: Forwarder::start(to, requests, responses), loses_responses }
    }

    /// What nats-server sends is lost until [`Self::heal`].
    fn lose_responses(&self) {
        self.loses_responses.store(true, Ordering::SeqCst);
    }

    /// The lines end; new ones are whole.
    fn heal(&self) {
        self.loses_responses.store(false, Ordering::SeqCst);
        self.forwarder.disconnect_all();
    }
}

#[derive(Debug)]
struct ReactedAlready;

/// Gives a reaction once: a draft made after it refuses.
async fn react(storage: &Storage, id: &EventId) -> Result<u64, ChangeError<ReactedAlready>> {
    let appended = storage
        .timelines()
        .append(&room(1), &RequestId::random(), &[*id], |view| {
            let RowKind::Message(message) = &view.row(id).unwrap().kind else { panic!() };
            if !message.reactions.is_empty() {
                return Err(ReactedAlready);
            }
            let effect = Effect::React(React {
                id: *id,
                emoji: "tada".to_owned(),
                user: user(1),
                remove: false,
            });
            Ok(Draft { actor: Some(user(1)), at_ms: Clock::system().unix_ms(), effect })
        })
        .await?;
    Ok(appended.event.number)
}

async fn write(storage: &Storage, body: &str) -> EventId {
    let appended = storage
        .timelines()
        .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
            Ok(post(view.head(), user(2), body))
        })
        .await
        .unwrap();
    let Effect::Post(Post { id, .. }) = appended.event.effect else { panic!() };
    id
}

#[test]
fn an_event_whose_response_was_lost_is_not_refused_for_itself() {
    let server = NatsServer::start();
    let relay = Relay::start(server.port());
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let url = format!("nats://127.0.0.1:{}", relay.forwarder.port());
        let one = open(&url, &runtime, shared()).await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        let id = write(&one, "a message").await;
        // From now on it needs nothing of the server but the acknowledgement.
        assert!(one.timelines().row(&room(1), &id).await.unwrap().is_some());
        relay.lose_responses();
        let meanwhile = async {
            let clock = Clock::system();
            while two.timelines().head(&room(1)).await.unwrap().event_number < 2 {
                clock.sleep(Duration::from_millis(5)).await;
            }
            write(&two, "another one").await;
            relay.heal();
        };
        let (reacted, ()) = futures_lite::future::zip(react(&one, &id), meanwhile).await;
        assert_eq!(reacted.unwrap(), 2);
        assert_eq!(two.timelines().head(&room(1)).await.unwrap().event_number, 3);
        one.close().await;
        two.close().await;
    });
}

#[test]
fn a_repetition_that_another_process_stored_meanwhile_is_not_stored_again() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let shared = || Config { embedded: false, ..config(None) };
        let still = open(&server.url(), &runtime, shared()).await.unwrap();
        // Time went on for the other one.
        let clock = Clock::default();
        clock.advance(Duration::from_secs(135));
        let other = connect(&server.url()).await;
        let other = Storage::open(other, shared(), &runtime, clock).await.unwrap();
        // nats-server forgets requests soon, as after the two minutes for which a machine was suspended.
        let mut journal = stream_info(&nats, "JOURNAL").await.unwrap().config;
        journal.duplicate_window = Duration::from_millis(100);
        nats.update_stream(&journal).await.unwrap();
        for awaits in 1..200 {
            let room = room(u8::try_from(awaits).unwrap());
            let request = RequestId::keyed(&user(1), "Test", &room, "one key");
            let draft = |text: &'static str| {
                move |view: &DraftView<'_>| -> Result<_, Infallible> {
                    Ok(post(view.head(), user(1), text))
                }
            };
            let mut call = Box::pin(still.timelines().append(&room, &request, &[], draft("mine")));
            if pause_at(&mut call, awaits).await.is_some() {
                break;
            }
            let first =
                other.timelines().append(&room, &request, &[], draft("the other's")).await.unwrap();
            other
                .timelines()
                .append(&room, &RequestId::random(), &[], draft("more"))
                .await
                .unwrap();
            Clock::system().sleep(Duration::from_millis(200)).await;
            let appended = call.await.unwrap();
            assert_eq!(appended.event.effect, first.event.effect, "at await {awaits}");
            let rows = other.timelines().head(&room).await.unwrap().rows;
            assert_eq!(rows, 2, "at await {awaits}");
        }
        still.close().await;
        other.close().await;
    });
}
