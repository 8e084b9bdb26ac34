//! What a draft depends on, seen at the position it is appended at: two processes write at once.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use chatto::domain::EventId;
use chatto::domain::timeline::{Delete, Effect, Message, Pin, Post, React, Row, RowKind};
use chatto::limits::{REACTIONS_PER_USER_MAX, WRITE_DEADLINE};
use chatto::runtime::{Clock, Runtime};
use chatto::storage::{ChangeError, Config, Draft, DraftView, RequestId, Storage};
use futures_lite::future::zip;

use super::stamps::{membership, until};
use super::{config, content, open, post, room, run, user};
use crate::support::filter::Filter;
use crate::support::nats::NatsServer;

/// A draft's rule stands against it.
#[derive(Debug)]
pub(super) struct Refused;

async fn two(server: &NatsServer, runtime: &Runtime) -> (Storage, Storage) {
    let shared = || Config { embedded: false, ..config(None) };
    let one = open(&server.url(), runtime, shared()).await.unwrap();
    (one, open(&server.url(), runtime, shared()).await.unwrap())
}

fn drafted(author: u64, effect: Effect) -> Draft {
    Draft { actor: Some(user(author)), at_ms: Clock::system().unix_ms(), effect }
}

/// Appends what `draft` makes of the rows it needs; `false`: it was refused.
async fn append(
    storage: &Storage,
    needs: &[EventId],
    draft: impl FnMut(&DraftView<'_>) -> Result<Draft, Refused>,
) -> bool {
    match Box::pin(storage.timelines().append(&room(1), &RequestId::random(), needs, draft)).await {
        Ok(_) => true,
        Err(ChangeError::Refused(Refused)) => false,
        Err(ChangeError::Storage(error)) => panic!("{error:?}"),
    }
}

/// A root message.
pub(super) async fn append_post(storage: &Storage) -> EventId {
    let mut id = None;
    let appended = append(storage, &[], |view| {
        id = Some(EventId::new(view.head().rows, 0, 7));
        Ok(post(view.head(), user(1), "text"))
    })
    .await;
    assert!(appended);
    id.unwrap()
}

fn message(row: Option<&Row>) -> Result<&Message, Refused> {
    match row.map(|row| &row.kind) {
        Some(RowKind::Message(message)) => Ok(message),
        _ => Err(Refused),
    }
}

/// Replies to a root message, shown in the room too or not; returns the reply's number.
pub(super) async fn reply(storage: &Storage, root: EventId, author: u64, in_room: bool) -> u32 {
    let mut number = 0;
    let appended = append(storage, &[root], |view| {
        let thread = message(view.row(&root))?.thread.clone().unwrap_or_default();
        number = thread.made + 1;
        let row = view.head().rows;
        let echo = in_room.then(|| EventId::new(row, 0, 9));
        let id = EventId::new(root.row(), number, 5);
        let post = Post { echo, ..Post::new(id, content(&format!("{author}"))) };
        Ok(drafted(author, Effect::Post(post)))
    })
    .await;
    assert!(appended);
    number
}

/// All replies of a thread, by their numbers.
pub(super) async fn numbers(storage: &Storage, root: EventId, made: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    while (numbers.len() as u32) < made {
        let from = numbers.len() as u32 + 1;
        let replies =
            storage.timelines().replies(&room(1), root.row(), from, made + 1).await.unwrap();
        assert!(!replies.is_empty(), "replies from {from} are missing");
        numbers.extend(replies.iter().map(|reply| reply.number));
    }
    numbers
}

async fn root_of(storage: &Storage, root: EventId) -> Message {
    storage.barrier().await.unwrap();
    message(storage.timelines().row(&room(1), &root).await.unwrap().as_ref()).unwrap().clone()
}

#[test]
fn two_processes_that_reply_at_once_give_every_number_once() {
    const EACH: u32 = 100;
    let server = NatsServer::start();
    run(async |runtime| {
        let (one, two) = two(&server, &runtime).await;
        let root = append_post(&one).await;
        let replies = async |storage: &Storage, author: u64| {
            let mut numbers = Vec::new();
            for n in 0..EACH / 2 {
                numbers.push(reply(storage, root, author, n % 5 == 0).await);
            }
            numbers
        };
        // Two callers in each: one's draft is made before its process has seen the other's reply.
        let of_one = zip(replies(&one, 1), replies(&one, 2));
        let (of_one, of_two) = zip(of_one, zip(replies(&two, 3), replies(&two, 4))).await;
        let given = [of_one.0, of_one.1, of_two.0, of_two.1].concat();
        assert_eq!(given.len() as u32, 2 * EACH);
        let all: BTreeSet<u32> = given.into_iter().collect();
        assert!(all.iter().copied().eq(1..=2 * EACH), "numbers were given twice: {all:?}");
        for storage in [&one, &two] {
            let thread = root_of(storage, root).await.thread.unwrap();
            assert_eq!((thread.made, thread.count), (2 * EACH, 2 * EACH));
            assert!(numbers(storage, root, 2 * EACH).await.into_iter().eq(1..=2 * EACH));
            assert_eq!(storage.timelines().head(&room(1)).await.unwrap().rows, 1 + 2 * EACH / 5);
        }
        one.fold_all().await.unwrap();
        assert!(numbers(&one, root, 2 * EACH).await.into_iter().eq(1..=2 * EACH));
        one.close().await;
        two.close().await;
    });
}

#[test]
fn a_reply_that_two_processes_delete_is_deleted_once() {
    const REPLIES: u32 = 40;
    let server = NatsServer::start();
    run(async |runtime| {
        let (one, two) = two(&server, &runtime).await;
        let root = append_post(&one).await;
        for _ in 0..=REPLIES {
            reply(&one, root, 1, false).await;
        }
        let delete = async |storage: &Storage, number: u32| {
            let id = EventId::new(root.row(), number, 5);
            append(storage, &[id], |view| {
                if message(view.row(&id))?.deleted_ms.is_some() {
                    return Err(Refused);
                }
                Ok(drafted(1, Effect::Delete(Delete::new(id))))
            })
            .await
        };
        for number in 1..=REPLIES {
            let of_one = zip(delete(&one, number), delete(&one, number));
            let of_two = zip(delete(&two, number), delete(&two, number));
            let (of_one, of_two) = zip(of_one, of_two).await;
            let deleted = [of_one.0, of_one.1, of_two.0, of_two.1];
            let times = deleted.iter().filter(|deleted| **deleted).count();
            assert_eq!(times, 1, "reply {number} was deleted {times} times");
        }
        for storage in [&one, &two] {
            let thread = root_of(storage, root).await.thread.unwrap();
            assert_eq!((thread.made, thread.count), (REPLIES + 1, 1));
        }
        one.close().await;
        two.close().await;
    });
}

#[test]
fn the_limit_of_reactions_holds_under_two_processes() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (one, two) = two(&server, &runtime).await;
        let id = append_post(&one).await;
        const READER: u64 = 7;
        let made = |message: &Message| {
            message.reactions.iter().filter(|reaction| reaction.users.contains(&READER)).count()
        };
        let react = async |storage: &Storage, name: &str| {
            let mut accepted = 0;
            for n in 0..REACTIONS_PER_USER_MAX {
                let emoji = format!("{name}_{n}");
                let appended = append(storage, &[id], |view| {
                    if made(message(view.row(&id))?) >= REACTIONS_PER_USER_MAX {
                        return Err(Refused);
                    }
                    let react =
                        React { id, emoji: emoji.clone(), user: user(READER), remove: false };
                    Ok(drafted(READER, Effect::React(react)))
                })
                .await;
                accepted += usize::from(appended);
            }
            accepted
        };
        let of_one = zip(react(&one, "a"), react(&one, "b"));
        let (of_one, of_two) = zip(of_one, zip(react(&two, "c"), react(&two, "d"))).await;
        assert_eq!(of_one.0 + of_one.1 + of_two.0 + of_two.1, REACTIONS_PER_USER_MAX);
        assert_eq!(made(&root_of(&two, id).await), REACTIONS_PER_USER_MAX);
        one.close().await;
        two.close().await;
    });
}

#[test]
fn no_deleted_message_stays_pinned() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (one, two) = two(&server, &runtime).await;
        for n in 0..40 {
            let id = append_post(&one).await;
            let change = async |storage: &Storage, effect: Effect| {
                append(storage, &[id], |view| {
                    if message(view.row(&id))?.deleted_ms.is_some() {
                        return Err(Refused);
                    }
                    Ok(drafted(1, effect.clone()))
                })
                .await
            };
            let delete = Effect::Delete(Delete::new(id));
            let pin = Pin { id, marker: format!("m{n}"), remove: false };
            let (deleted, _) = zip(change(&one, delete), change(&two, Effect::Pin(pin))).await;
            assert!(deleted);
        }
        assert_eq!(root_of(&two, EventId::new(0, 0, 7)).await.content, None);
        assert!(two.timelines().head(&room(1)).await.unwrap().pins().next().is_none());
        one.close().await;
        two.close().await;
    });
}

#[test]
fn a_view_holds_the_rows_that_were_named_as_they_are_at_the_position() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (one, two) = two(&server, &runtime).await;
        let root = append_post(&one).await;
        let other = append_post(&one).await;
        reply(&one, root, 1, false).await;
        let first = EventId::new(root.row(), 1, 5);
        let elsewhere = EventId::new(0, 0, 8);
        let needs = [root, first, elsewhere];
        let appended = append(&two, &needs, |view| {
            assert_eq!(message(view.row(&root))?.thread.as_ref().unwrap().made, 1);
            assert_eq!(view.row(&first).unwrap().number, 1);
            assert_eq!(view.row(&elsewhere), None, "a wrong id");
            assert_eq!(view.row(&other), None, "not named");
            Ok(post(view.head(), user(2), "text"))
        })
        .await;
        assert!(appended);
        one.close().await;
        two.close().await;
    });
}

#[test]
fn only_a_draft_that_names_rows_waits_for_the_feed() {
    /// The room whose second draft names the first one's row.
    const NAMING: u8 = 1;
    /// The room whose drafts name none.
    const PLAIN: u8 = 2;
    let server = NatsServer::start();
    let filter = Filter::of_state(server.port());
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let one = open(&filter.url(), &runtime, shared()).await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        // The feed of the first stands still at an event whose STATE it cannot read.
        let away = filter.turn_on();
        membership(&two, false).await;
        let event =
            async |storage: &Storage, n: u8, needs: &[EventId], seen: &Cell<Option<bool>>| {
                let (room, request) = (room(n), RequestId::random());
                let appended =
                    storage.timelines().append::<Infallible>(&room, &request, needs, |view| {
                        seen.set(Some(needs.iter().all(|id| view.row(id).is_some())));
                        Ok(post(view.head(), user(1), "text"))
                    });
                Box::pin(appended).await.unwrap();
            };
        let ignored = Cell::new(None);
        event(&two, 3, &[], &ignored).await;

        let (began, seen, returned) = (Cell::new(false), Cell::new(None), Cell::new(0));
        let plain = async |n: u8| {
            event(&one, n, &[], &ignored).await;
            returned.set(returned.get() + 1);
        };
        let naming = async {
            are_stored(&two, NAMING, 1).await;
            began.set(true);
            event(&one, NAMING, &[EventId::new(0, 0, 7)], &seen).await;
            returned.set(returned.get() + 1);
        };
        let rest = async {
            until("the draft that names a row is wanted", || began.get()).await;
            let both = zip(plain(PLAIN), plain(PLAIN));
            let stored = async {
                // The second one builds on an event that the feed of this process has not brought.
                are_stored(&two, PLAIN, 2).await;
                until("the process reports that it waits", || one.is_stalled()).await;
                assert_eq!(seen.get(), None, "it was made from rows as they were before");
                assert_eq!(returned.get(), 0, "returned before this process shows the event");
                drop(away);
            };
            zip(both, stored).await;
        };
        zip(plain(NAMING), zip(naming, rest)).await;
        assert_eq!(seen.get(), Some(true), "the row is there when the feed has passed it");
        assert_eq!(returned.get(), 4);
        for (n, rows) in [(NAMING, 2), (PLAIN, 2)] {
            assert_eq!(one.timelines().rows(&room(n), 0, 9).await.unwrap().len(), rows);
        }
        one.close().await;
        two.close().await;
    });
}

/// Waits until so many events of a room are stored, as this process sees it.
async fn are_stored(storage: &Storage, n: u8, events: u64) {
    let clock = Clock::system();
    let end = clock.now() + WRITE_DEADLINE;
    while storage.timelines().head(&room(n)).await.unwrap().event_number < events {
        assert!(clock.now() < end, "{events} events of room {n} are not stored in time");
        clock.sleep(Duration::from_millis(10)).await;
    }
}
