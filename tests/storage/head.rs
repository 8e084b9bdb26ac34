//! A room's head: the newest message, however many were deleted in a row.

use std::convert::Infallible;

use chatto::domain::EventId;
use chatto::domain::timeline::{Delete, Effect, Fact, FactKind};
use chatto::runtime::Clock;
use chatto::storage::{Draft, RequestId, Storage};

use super::{config, open, post, room, run, user};
use crate::support::nats::NatsServer;

/// More than a head remembers, and more than a search reads at a time.
const MESSAGES: u32 = 300;

async fn append(storage: &Storage, draft: impl Fn(u32) -> Draft) {
    storage
        .timelines()
        .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
            Ok(draft(view.head().rows))
        })
        .await
        .unwrap();
}

async fn append_post(storage: &Storage) {
    storage
        .timelines()
        .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
            Ok(post(view.head(), user(1), "text"))
        })
        .await
        .unwrap();
}

async fn delete(storage: &Storage, row: u32) {
    let id = EventId::new(row, 0, 7);
    append(storage, |_| Draft {
        actor: Some(user(1)),
        at_ms: Clock::system().unix_ms(),
        effect: Effect::Delete(Delete::new(id)),
    })
    .await;
}

async fn newest(storage: &Storage) -> Option<u32> {
    storage.timelines().head(&room(1)).await.unwrap().newest().map(|newest| newest.row)
}

#[test]
fn many_deletions_in_a_row_show_the_message_before_them() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        append_post(&storage).await;
        // What is no message is passed over.
        for _ in 1..MESSAGES / 2 {
            append(&storage, |row| Draft {
                actor: Some(user(1)),
                at_ms: Clock::system().unix_ms(),
                effect: Effect::Fact {
                    id: EventId::new(row, 0, 7),
                    fact: Fact::new(FactKind::RoomCreated),
                },
            })
            .await;
        }
        append_post(&storage).await;
        let kept = MESSAGES / 2;
        for _ in kept + 1..MESSAGES {
            append_post(&storage).await;
        }
        for row in (kept + 1..MESSAGES).rev() {
            delete(&storage, row).await;
            assert!(newest(&storage).await.is_some(), "after row {row} the room counts as read");
        }
        assert_eq!(newest(&storage).await, Some(kept));
        storage.close().await;

        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        assert_eq!(newest(&storage).await, Some(kept), "the stored head");
        delete(&storage, kept).await;
        assert_eq!(newest(&storage).await, Some(0));
        delete(&storage, 0).await;
        assert_eq!(newest(&storage).await, None);
        append_post(&storage).await;
        assert_eq!(newest(&storage).await, Some(MESSAGES));
        delete(&storage, MESSAGES).await;
        storage.close().await;

        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        assert_eq!(newest(&storage).await, None, "nothing is left");
        storage.close().await;
    });
}
