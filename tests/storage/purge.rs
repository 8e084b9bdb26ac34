//! What is old and folded goes; what is not folded stays, however old.

use std::convert::Infallible;
use std::time::Duration;

use chatto::runtime::Clock;
use chatto::storage::{Claim, Claimed, RequestId, Storage};

use super::{config, connect, post, room, run, user};
use crate::support::nats::{NatsServer, stream_info};

const LONG: Duration = Duration::from_secs(8 * 24 * 3600);

#[test]
fn folded_events_and_delete_markers_are_purged_after_the_resume_window() {
    let server = NatsServer::start();
    run(async |runtime| {
        let clock = Clock::system();
        let nats = connect(&server.url()).await;
        let storage =
            Storage::open(nats.clone(), config(None), &runtime, clock.clone()).await.unwrap();
        let write = async |body: &str| {
            storage
                .timelines()
                .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
                    Ok(post(view.head(), user(1), body))
                })
                .await
                .unwrap();
        };
        for n in 0..10 {
            write(&n.to_string()).await;
        }
        let claim = Claim::Login("gone");
        assert_eq!(storage.state().claim(claim, user(1)).await.unwrap(), Claimed::Yes);
        storage.state().release(claim, user(1)).await.unwrap();
        let journal = async || stream_info(&nats, "JOURNAL").await.unwrap().state.messages;

        storage.purge().await.unwrap();
        assert_eq!(journal().await, 10, "nothing is old yet");
        clock.advance(LONG);
        storage.purge().await.unwrap();
        assert_eq!(journal().await, 10, "nothing is folded yet");
        storage.fold_all().await.unwrap();
        write("not folded").await;
        storage.purge().await.unwrap();
        assert_eq!(journal().await, 1);
        let purged_upto = storage.state().read(|tables| tables.server.purged_upto);
        assert!(purged_upto > 0);

        // A swept name can be claimed again, and a room without journal can be written.
        assert_eq!(storage.state().claim(claim, user(2)).await.unwrap(), Claimed::Yes);
        storage.fold_all().await.unwrap();
        storage.purge().await.unwrap();
        assert_eq!(journal().await, 0);
        write("after the purge").await;
        assert_eq!(storage.timelines().rows(&room(1), 0, 100).await.unwrap().len(), 12);
        storage.close().await;
        let storage = Storage::open(nats, config(None), &runtime, clock).await.unwrap();
        assert_eq!(storage.timelines().rows(&room(1), 0, 100).await.unwrap().len(), 12);
        storage.close().await;
    });
}
