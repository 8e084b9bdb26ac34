//! One deadline for an append, whatever it waits for.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use chatto::limits::WRITE_DEADLINE;
use chatto::runtime::Clock;
use chatto::storage::{ChangeError, RequestId, Storage, StorageError};
use futures_lite::future::zip;
use futures_util::future::join_all;

use super::{config, open, post, room, run, user};
use crate::support::nats::{NatsServer, pause, signal};

/// What ends a call at its deadline comes by then on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

async fn append_post(storage: &Storage) -> (Result<(), StorageError>, Instant) {
    let (room, request) = (room(1), RequestId::random());
    let appended = storage
        .timelines()
        .append::<Infallible>(&room, &request, &[], |view| Ok(post(view.head(), user(1), "text")));
    let appended = match appended.await {
        Ok(_) => Ok(()),
        Err(ChangeError::Storage(error)) => Err(error),
        Err(ChangeError::Refused(never)) => match never {},
    };
    (appended, Clock::system().now())
}

#[test]
fn the_deadline_of_an_append_covers_the_queue() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        append_post(&storage).await.0.unwrap();
        let begin = Clock::system().now();
        pause(server.pid());
        let calls = (0..20).map(|_| append_post(&storage));
        // Somebody who comes later waits as long, and is served when the server is back.
        let late = async {
            Clock::system().sleep(WRITE_DEADLINE / 2).await;
            zip(append_post(&storage), async {
                Clock::system().sleep(WRITE_DEADLINE / 2 + SLACK / 2).await;
                signal(server.pid(), "CONT");
            })
            .await
            .0
        };
        let (calls, late) = zip(join_all(calls), late).await;
        for (result, end) in &calls {
            assert!(result.as_ref().unwrap_err().is_transient(), "{result:?}");
            let took = end.duration_since(begin);
            assert!(took >= WRITE_DEADLINE, "given up after {took:?}");
            assert!(took < WRITE_DEADLINE + SLACK, "given up only after {took:?}");
        }
        late.0.unwrap();
        let rows = storage.timelines().head(&room(1)).await.unwrap().rows;
        assert!((2..=3).contains(&rows), "{rows} rows of what was sent");
        storage.close().await;
    });
}
