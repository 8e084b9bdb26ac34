//! Events wait for the STATE they were written under, and what changed meanwhile is delivered.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use chatto::domain::Membership;
use chatto::nats::{Nats, Publish};
use chatto::runtime::Clock;
use chatto::storage::{
    Config, FeedPosition, FeedSubscriber, FeedUpdate, RecordChange, RequestId, Storage,
};
use futures_util::future::join_all;

use super::{config, connect, open, post, room, run, user};
use crate::support::filter::Filter;
use crate::support::nats::{NatsServer, stream_info};
use crate::support::records::{Event, Fact, event::Effect};

/// Longer than an event waits before the process counts as stalled.
const PATIENCE: Duration = Duration::from_secs(30);

/// Notes for each event whether the member is a former one at that moment, and stalls.
#[derive(Default)]
struct Received {
    storage: OnceLock<Storage>,
    events: Mutex<Vec<(u64, bool)>>,
    stalls: Mutex<usize>,
}

impl FeedSubscriber for Received {
    fn deliver(&self, live: FeedUpdate) {
        match live {
            FeedUpdate::Event(event) => {
                let storage = self.storage.get().unwrap();
                let is_former = storage.state().read(|tables| {
                    tables.member(&room(1), &user(1)).is_none_or(|member| member.left)
                });
                self.events.lock().unwrap().push((event.event.number, is_former));
            }
            FeedUpdate::Stalled => *self.stalls.lock().unwrap() += 1,
            _ => {}
        }
    }
}

pub(super) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let clock = Clock::system();
    let end = clock.now() + PATIENCE;
    while !check() {
        assert!(clock.now() < end, "{what}: not within {PATIENCE:?}");
        clock.sleep(Duration::from_millis(10)).await;
    }
}

pub(super) async fn membership(storage: &Storage, left: bool) {
    let (room, user) = (room(1), user(1));
    let member = Membership { left, announced: true, ..Membership::new(room, user) };
    let put = |_: Option<&Membership>| Ok(RecordChange::Put(member.clone()));
    storage.state().change::<Membership, Infallible>(&(room, user), put).await.unwrap();
}

async fn write(storage: &Storage, body: &str) {
    storage
        .timelines()
        .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
            Ok(post(view.head(), user(2), body))
        })
        .await
        .unwrap();
}

#[test]
fn an_event_waits_for_its_stamp_however_long_state_is_away() {
    let server = NatsServer::start();
    let filter = Filter::of_state(server.port());
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let writer = open(&server.url(), &runtime, shared()).await.unwrap();
        let reader = open(&filter.url(), &runtime, shared()).await.unwrap();
        let other = open(&filter.url(), &runtime, shared()).await.unwrap();
        let received = Arc::new(Received::default());
        received.storage.set(reader.clone()).ok().unwrap();
        reader.feed().subscribe(Arc::clone(&received) as Arc<dyn FeedSubscriber>);
        membership(&writer, false).await;
        write(&writer, "to a member").await;
        until("the first event", || received.events.lock().unwrap().len() == 1).await;
        assert_eq!(*received.events.lock().unwrap(), [(1, false)]);

        let away = filter.turn_on();
        membership(&writer, true).await;
        write(&writer, "not to a former member").await;
        until("the process reports that it is stalled", || reader.is_stalled()).await;
        assert!(!reader.is_following());
        assert_eq!(*received.stalls.lock().unwrap(), 1);
        assert_eq!(received.events.lock().unwrap().len(), 1, "it was delivered without its STATE");
        // What another process has folded meanwhile is no way round.
        writer.fold_all().await.unwrap();
        let rows = reader.timelines().rows(&room(1), 0, 2).await;
        assert!(rows.as_ref().is_ok_and(|rows| rows.len() == 1) || rows.is_err(), "{rows:?}");
        let barrier = reader.barrier().await;
        assert!(barrier.is_err_and(|error| error.is_transient()));
        // A process that waits can be stopped.
        Clock::system().timeout(PATIENCE, other.close()).await.unwrap();
        assert!(reader.is_stalled());
        drop(away);

        until("the second event", || received.events.lock().unwrap().len() == 2).await;
        assert_eq!(received.events.lock().unwrap()[1], (2, true), "with the rights of its time");
        assert!(!reader.is_stalled());
        until("it follows again", || reader.is_following()).await;
        reader.barrier().await.unwrap();
        assert_eq!(reader.timelines().rows(&room(1), 0, 2).await.unwrap().len(), 2);
        writer.close().await;
        reader.close().await;
    });
}

#[test]
fn a_failed_read_barrier_serves_all_who_wait() {
    let server = NatsServer::start();
    let filter = Filter::of_state(server.port());
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let storage = open(&filter.url(), &runtime, shared()).await.unwrap();
        let away = filter.turn_on();
        let clock = Clock::system();
        let begun = clock.now();
        let calls = (0..6).map(|_| storage.barrier());
        for outcome in join_all(calls).await {
            assert!(outcome.is_err_and(|error| error.is_transient()));
        }
        let took = clock.now() - begun;
        assert!(took < Duration::from_secs(6), "one attempt is 3 s, six took {took:?}");
        drop(away);
        let again = clock.timeout(PATIENCE, async { while storage.barrier().await.is_err() {} });
        again.await.unwrap();
        storage.close().await;
    });
}

#[test]
fn a_stamp_that_state_never_had_holds_nothing_up() {
    let server = NatsServer::start();
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let one = open(&server.url(), &runtime, shared()).await.unwrap();
        let nats = connect(&server.url()).await;
        let revision = stream_info(&nats, "KV_STATE").await.unwrap().state.last_sequence;
        let event = Event {
            number: 1,
            state_revision: revision + 1_000,
            rows_after: 1,
            effect: Some(Effect::Fact(Fact::default())),
            ..Event::default()
        };
        let sequence = publish(&nats, &stored(&event)).await;
        until("it is passed", || one.feed().position().journal >= sequence).await;
        assert!(!one.is_stalled());
        assert_eq!(one.held_rooms(), []);
        assert_eq!(one.timelines().head(&room(9)).await.unwrap().event_number, 1, "it is shown");
        one.close().await;
    });
}

#[test]
fn a_gap_with_an_event_that_cannot_be_read_is_unknown() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        write(&storage, "before").await;
        let nats = connect(&server.url()).await;
        let since = storage.feed().position();
        let gap = async |since: FeedPosition| {
            storage.feed().gap(since, storage.feed().position(), 100).await.unwrap()
        };
        let unknown_effect = Event { number: 2, ..Event::default() };
        for payload in [stored(&unknown_effect), vec![200, 1, 2, 3]] {
            let before = storage.feed().position();
            let sequence = publish(&nats, &payload).await;
            until("it is passed", || storage.feed().position().journal >= sequence).await;
            assert!(gap(before).await.is_none(), "it was left out");
            assert!(
                gap(storage.feed().position()).await.is_some(),
                "behind it everything is known"
            );
        }
        assert!(gap(since).await.is_none());
        storage.close().await;
    });
}

/// An event as it is stored: one byte with the version, then the message.
fn stored(event: &Event) -> Vec<u8> {
    let mut bytes = vec![1];
    prost::Message::encode(event, &mut bytes).unwrap();
    bytes
}

/// Publishes to a room of its own; returns the sequence.
async fn publish(nats: &Nats, payload: &[u8]) -> u64 {
    let subject = format!("journal.{}", room(9));
    let payload = payload.to_vec().into();
    let message = Publish { subject: &subject, payload, ..Publish::default() };
    nats.publish(message).await.unwrap().sequence
}
