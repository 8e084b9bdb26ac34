//! Writes that need an epoch check wait for it.

use std::time::Duration;

use chatto::nats::{Auth, Nats, NatsError, Publish, PublishError, StreamConfig, WritesRefused};
use chatto::runtime::{Clock, Runtime};
use futures_lite::future::{poll_once, zip};

use super::target;
use crate::support::nats::NatsServer;
use crate::support::relay::Relay;

const TTL: Duration = Duration::from_secs(60);

async fn connected(port: u16, clock: &Clock) -> Nats {
    let target = target(format!("nats://127.0.0.1:{port}"), Auth::None);
    let nats = Nats::connect(&target, clock.clone()).await.unwrap();
    nats.wait_connected(Duration::from_secs(10)).await.unwrap();
    let name = "S".to_owned();
    let stream = StreamConfig { name, subjects: vec!["s".to_owned()], ..StreamConfig::default() };
    nats.create_stream(&stream).await.unwrap();
    nats
}

fn message() -> Publish<'static> {
    Publish { subject: "s", ..Publish::default() }
}

#[test]
fn a_write_waits_for_the_epoch_check_and_so_does_an_erasure() {
    let server = NatsServer::start();
    Runtime::run(1, async |_| {
        let clock = Clock::default();
        let nats = connected(server.port(), &clock).await;
        nats.publish(message()).await.unwrap();
        nats.epoch_checked(nats.moment(), TTL);
        nats.publish(message()).await.unwrap();
        // Either clock ends it.
        for advance in [Clock::advance, Clock::advance_monotonic] {
            advance(&clock, TTL);
            let mut write = Box::pin(nats.publish(message()));
            assert!(poll_once(&mut write).await.is_none());
            nats.epoch_check_wanted().await;
            nats.epoch_checked(nats.moment(), TTL);
            write.await.unwrap();
        }
        clock.advance(TTL);
        let check = async {
            nats.epoch_check_wanted().await;
            nats.epoch_checked(nats.moment(), TTL);
        };
        assert!(zip(nats.erase("S", 1), check).await.0.unwrap());

        clock.advance(TTL);
        let unchecked = nats.publish(message()).await;
        assert!(matches!(unchecked, Err(PublishError::Unknown { .. })), "{unchecked:?}");
        let refuse = async {
            nats.epoch_check_wanted().await;
            nats.refuse_writes(WritesRefused::Restored, true);
        };
        let refused = zip(nats.publish(message()), refuse).await.0;
        assert!(matches!(refused, Err(PublishError::Restored)), "{refused:?}");
        nats.epoch_checked(nats.moment(), TTL);
        let erased = nats.erase("S", 2).await.unwrap_err();
        assert!(matches!(erased, NatsError::Restored), "{erased:?}");
        assert_eq!(
            erased.to_string(),
            "the store was restored while this process was connected to it"
        );
        assert!(nats.purge_before("S", 9).await.is_err());
        let stored = nats.stream("S").await.unwrap().unwrap().state;
        assert_eq!((stored.messages, stored.last_sequence), (3, 4));
    });
}

#[test]
fn a_write_is_not_kept_for_a_connection_that_comes_back() {
    let server = NatsServer::start();
    let relay = Relay::start(server.port());
    Runtime::run(1, async |_| {
        let clock = Clock::default();
        let nats = connected(relay.port(), &clock).await;
        nats.epoch_checked(nats.moment(), TTL);
        relay.cut(true);
        relay.hang_up();
        while nats.is_connected() {
            clock.sleep(Duration::from_millis(5)).await;
        }
        let outcome = nats.publish(message()).await;
        assert!(matches!(outcome, Err(PublishError::Unknown { .. })), "{outcome:?}");
        let before = nats.connects();
        relay.cut(false);
        nats.connected(before).await;
        nats.epoch_checked(nats.moment(), TTL);
        let ack = nats.publish(message()).await.unwrap();
        assert_eq!(ack.sequence, 1, "it was sent when the connection came back");
    });
}
