//! A page filled with every limit at its maximum folds, and is read whole.

use std::convert::Infallible;

use chatto::domain::EventId;
use chatto::domain::timeline::{Effect, React, RowKind};
use chatto::limits::{BODY_MAX_BYTES, PAGE_ROWS, REACTIONS_PER_USER_MAX};
use chatto::storage::{Draft, RequestId};

use super::{config, open, post, room, run, text, user};
use crate::support::nats::NatsServer;

/// Twenty emoji of so many users pass the bound at which reaction lists leave their page.
const USERS: u64 = 850;

#[test]
fn a_page_of_longest_messages_with_full_reaction_lists_folds() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let body = "y".repeat(BODY_MAX_BYTES);
        for _ in 0..PAGE_ROWS {
            storage
                .timelines()
                .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
                    Ok(post(view.head(), user(1), &body))
                })
                .await
                .unwrap();
        }
        let id = EventId::new(5, 0, 7);
        for n in 0..USERS * REACTIONS_PER_USER_MAX as u64 {
            let react = React {
                id,
                emoji: format!("emoji_{:060}", n / USERS),
                user: user(n % USERS),
                remove: false,
            };
            storage
                .timelines()
                .append::<Infallible>(&room(1), &RequestId::random(), &[], |_| {
                    let effect = Effect::React(react.clone());
                    Ok(Draft { actor: Some(user(2)), at_ms: 1, effect })
                })
                .await
                .unwrap();
        }
        storage.fold_all().await.unwrap();
        assert_eq!(storage.unfolded().0, 0);
        storage.close().await;
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let rows = storage.timelines().rows(&room(1), 0, PAGE_ROWS).await.unwrap();
        assert_eq!(rows.len(), PAGE_ROWS as usize);
        for row in &rows {
            let RowKind::Message(message) = &row.kind else { panic!() };
            assert_eq!(text(message.content.as_ref()).unwrap().len(), BODY_MAX_BYTES);
            let expected = if row.number == 5 { REACTIONS_PER_USER_MAX } else { 0 };
            assert_eq!(message.reactions.len(), expected);
            assert!(message.reactions.iter().all(|r| r.users.len() as u64 == USERS));
        }
        storage.close().await;
    });
}
