//! Two folds of one room: whatever they do, and wherever one of them stops or dies, the pages contain every
//! event up to their stamp, no part is left that no page names, and deleted text leaves the disk.

use std::convert::Infallible;

use chatto::domain::timeline::{Delete, Effect, Post, React, RowKind};
use chatto::domain::{EventId, RoomId};
use chatto::nats::{Nats, Publish};
use chatto::runtime::{Clock, Runtime};
use chatto::storage::{Config, Draft, RequestId, Storage};

use super::erase::on_disk;
use super::{CutAt, config, connect, content, open, pause_at, post, room, run, user};
use crate::support::nats::NatsServer;
use crate::support::records::{Claim, RowPage};

/// With eleven of these a page is above 512 KiB and spills into parts.
const LARGE: usize = 50_000;
const LARGE_ROWS: usize = 12;
/// Reactions that are acknowledged before each pair of folds.
const REACTIONS: u64 = 8;
/// More awaits than a fold of these rooms has.
const AWAITS_MAX: u32 = 400;

fn shared() -> Config {
    Config { embedded: false, ..config(None) }
}

/// Somebody else has the lease of the fold for ever: only explicit calls fold.
pub(crate) async fn take_fold_lease(nats: &Nats) {
    let lease = Claim { holder_id: "the test".to_owned(), ..Claim::default() };
    let payload = [vec![1], prost::Message::encode_to_vec(&lease)].concat().into();
    let subject = "$KV.PRESENCE.lease.fold";
    nats.publish(Publish { subject, payload, ..Publish::default() }).await.unwrap();
}

pub(crate) async fn write(storage: &Storage, room: &RoomId, body: &str) -> EventId {
    let appended = storage
        .timelines()
        .append::<Infallible>(room, &RequestId::random(), &[], |view| {
            Ok(post(view.head(), user(1), body))
        })
        .await
        .unwrap();
    let Effect::Post(post) = appended.event.effect else { panic!() };
    post.id
}

pub(crate) async fn append(storage: &Storage, room: &RoomId, effect: Effect) {
    let at_ms = Clock::system().unix_ms();
    storage
        .timelines()
        .append::<Infallible>(room, &RequestId::random(), &[], |_| {
            Ok(Draft { actor: Some(user(1)), at_ms, effect: effect.clone() })
        })
        .await
        .unwrap();
}

async fn react(storage: &Storage, room: &RoomId, id: EventId, number: u64) {
    let react = React { id, emoji: "heart".to_owned(), user: user(number), remove: false };
    append(storage, room, Effect::React(react)).await;
}

/// A room whose only page spills, folded; and the id of its first message.
async fn spilled_room(storage: &Storage, room: &RoomId) -> EventId {
    let body = "x".repeat(LARGE);
    let first = write(storage, room, &body).await;
    for _ in 1..LARGE_ROWS {
        write(storage, room, &body).await;
    }
    storage.fold_all().await.unwrap();
    first
}

/// How many have reacted to the first message, as a process that has read nothing yet sees it; nothing is
/// unfolded for it.
async fn reactions_in_pages(url: &str, runtime: &Runtime, room: &RoomId) -> usize {
    let cold = open(url, runtime, shared()).await.unwrap();
    cold.fold_all().await.unwrap();
    assert_eq!(cold.unfolded().0, 0);
    assert_eq!(cold.held_rooms(), []);
    let rows = cold.timelines().rows(room, 0, 1).await.unwrap();
    let RowKind::Message(message) = &rows[0].kind else { panic!("{rows:?}") };
    let count = message.reactions.first().map_or(0, |reaction| reaction.users.len());
    cold.close().await;
    count
}

/// Subjects of parts, and how many of them the pages' bases name.
async fn parts(nats: &Nats) -> (usize, usize) {
    let subjects = nats.subjects("PAGES", "pages.*.r.*.*").await.unwrap();
    let mut bases: Vec<String> =
        subjects.iter().map(|part| part.rsplit_once('.').unwrap().0.to_owned()).collect();
    bases.dedup();
    let mut named = 0;
    for base in bases {
        let stored = nats.leader_newest("PAGES", &base).await.unwrap().unwrap();
        let page: RowPage = prost::Message::decode(&stored.payload[1..]).unwrap();
        named += page.parts.len();
    }
    (subjects.len(), named)
}

#[test]
fn a_fold_that_another_one_overtakes_destroys_nothing() {
    let server = NatsServer::start_with("max_payload: 8MB");
    run(async |runtime| {
        let url = server.url();
        let nats = connect(&url).await;
        let one = open(&url, &runtime, shared()).await.unwrap();
        let two = open(&url, &runtime, shared()).await.unwrap();
        take_fold_lease(&nats).await;
        let first = spilled_room(&one, &room(1)).await;
        let mut acknowledged = 0;
        for awaits in 1..AWAITS_MAX {
            for _ in 0..REACTIONS / 2 {
                react(&one, &room(1), first, acknowledged).await;
                acknowledged += 1;
            }
            let mut paused = Box::pin(one.fold_all());
            let ended = pause_at(&mut paused, awaits).await;
            // The other one knows more when it folds.
            for _ in 0..REACTIONS / 2 {
                react(&two, &room(1), first, acknowledged).await;
                acknowledged += 1;
            }
            two.fold_all().await.unwrap();
            // It goes on to its end, or dies after a few steps more.
            if ended.is_none() && awaits % 3 == 0 {
                paused.await.unwrap();
            } else if ended.is_none() {
                CutAt::new(paused, awaits % 3).await;
            }
            let found = reactions_in_pages(&url, &runtime, &room(1)).await;
            assert_eq!(found as u64, acknowledged, "paused after {awaits} awaits");
            if ended.is_some() {
                assert!(awaits > 5, "a fold has more than {awaits} awaits");
                break;
            }
        }
        one.purge().await.unwrap();
        let (all, named) = parts(&nats).await;
        assert!(named > 0, "the page has no parts");
        assert_eq!(all, named, "parts are left that no page names");
        one.close().await;
        two.close().await;
    });
}

#[test]
fn a_fold_that_dies_beside_another_one_destroys_nothing() {
    let server = NatsServer::start_with("max_payload: 8MB");
    run(async |runtime| {
        let url = server.url();
        let nats = connect(&url).await;
        let one = open(&url, &runtime, shared()).await.unwrap();
        let two = open(&url, &runtime, shared()).await.unwrap();
        take_fold_lease(&nats).await;
        let first = spilled_room(&one, &room(1)).await;
        let mut acknowledged = 0;
        for awaits in 1..AWAITS_MAX {
            for _ in 0..REACTIONS {
                react(&one, &room(1), first, acknowledged).await;
                acknowledged += 1;
            }
            two.barrier().await.unwrap();
            // Of the same process and of another one; the last dies as well.
            let ended = CutAt::new(one.fold_all(), awaits).await;
            CutAt::new(one.fold_all(), awaits / 2).await;
            CutAt::new(two.fold_all(), awaits).await;
            let found = reactions_in_pages(&url, &runtime, &room(1)).await;
            assert_eq!(found as u64, acknowledged, "cut after {awaits} awaits");
            if ended.is_some() {
                break;
            }
        }
        // What the dead have left where nobody folds again.
        one.purge().await.unwrap();
        let (all, named) = parts(&nats).await;
        assert!(named > 0 && all == named, "{all} parts, of which pages name {named}");
        one.close().await;
        two.close().await;
    });
}

/// A reply as the next one of the thread at row 0.
async fn reply(storage: &Storage, room: &RoomId, root: EventId, body: &str) {
    storage
        .timelines()
        .append::<Infallible>(room, &RequestId::random(), &[root], |view| {
            let Some(RowKind::Message(message)) = view.row(&root).map(|row| &row.kind) else {
                panic!("the root is there")
            };
            let reply = message.thread.as_ref().map_or(0, |thread| thread.made) + 1;
            let post = Post::new(EventId::new(0, reply, 5), content(body));
            let at_ms = Clock::system().unix_ms();
            Ok(Draft { actor: Some(user(1)), at_ms, effect: Effect::Post(post) })
        })
        .await
        .unwrap();
}

#[test]
fn a_thread_that_two_folds_move_keeps_its_replies() {
    let server = NatsServer::start();
    run(async |runtime| {
        let url = server.url();
        let one = open(&url, &runtime, shared()).await.unwrap();
        let two = open(&url, &runtime, shared()).await.unwrap();
        take_fold_lease(&connect(&url).await).await;
        for awaits in 1..AWAITS_MAX {
            let room = RoomId::from_random([awaits as u8; 16]);
            let root = write(&one, &room, "root").await;
            for n in 0..66 {
                reply(&one, &room, root, &format!("reply {n}")).await;
            }
            let mut paused = Box::pin(one.fold_all());
            let ended = pause_at(&mut paused, awaits).await;
            // The other one is ahead when it moves the thread.
            for n in 66..70 {
                reply(&two, &room, root, &format!("reply {n}")).await;
            }
            two.fold_all().await.unwrap();
            if ended.is_none() {
                paused.await.unwrap();
            }
            let cold = open(&url, &runtime, shared()).await.unwrap();
            cold.fold_all().await.unwrap();
            assert_eq!(cold.unfolded().0, 0);
            let replies = cold.timelines().replies(&room, 0, 1, 71).await.unwrap();
            let numbers: Vec<u32> = replies.iter().map(|reply| reply.number).collect();
            assert_eq!(numbers, (1..=70).collect::<Vec<_>>(), "paused after {awaits} awaits");
            cold.close().await;
            if ended.is_some() {
                break;
            }
        }
        one.close().await;
        two.close().await;
    });
}

#[test]
fn a_deleted_text_leaves_the_disk_wherever_its_fold_was_cut() {
    let mut server = NatsServer::start_with("max_payload: 8MB");
    run(async |runtime| {
        let url = server.url();
        let mut storage = open(&url, &runtime, shared()).await.unwrap();
        take_fold_lease(&connect(&url).await).await;
        spilled_room(&storage, &room(1)).await;
        let mut secrets = Vec::new();
        for awaits in 1..AWAITS_MAX {
            let secret = format!("secret-{awaits}-of-the-deleted");
            let id = write(&storage, &room(1), &secret).await;
            storage.fold_all().await.unwrap();
            secrets.push(secret);
            append(&storage, &room(1), Effect::Delete(Delete::new(id))).await;
            // The fold of the deletion dies, and so does the process; the next one begins anew.
            let ended = CutAt::new(storage.fold_all(), awaits).await;
            storage.close().await;
            storage = open(&url, &runtime, shared()).await.unwrap();
            storage.fold_all().await.unwrap();
            if ended.is_some() {
                break;
            }
        }
        assert!(secrets.len() > 5);
        storage.close().await;
        server.stop();
        for secret in secrets {
            assert!(!on_disk(&server.store_dir(), secret.as_bytes()), "{secret} is on the disk");
        }
    });
}

#[test]
fn a_fold_that_is_behind_erases_nothing_that_its_head_lacks() {
    let server = NatsServer::start();
    run(async |runtime| {
        let url = server.url();
        let one = open(&url, &runtime, shared()).await.unwrap();
        let two = open(&url, &runtime, shared()).await.unwrap();
        take_fold_lease(&connect(&url).await).await;
        let mut number = 0_u8;
        for paused_at in 1..4 {
            for cut_at in 1..60 {
                number += 1;
                let room = RoomId::from_random([number; 16]);
                write(&one, &room, "first").await;
                two.barrier().await.unwrap();
                // It has taken the events that it folds, and sees no later ones.
                let mut behind = Box::pin(two.fold_all());
                if pause_at(&mut behind, paused_at).await.is_some() {
                    continue;
                }
                let id = write(&one, &room, "deleted").await;
                append(&one, &room, Effect::Delete(Delete::new(id))).await;
                // The other one is ahead, and dies: perhaps with pages and without a head.
                let ended = CutAt::new(one.fold_all(), cut_at).await;
                behind.await.ok();
                let cold = open(&url, &runtime, shared()).await.unwrap();
                cold.fold_all().await.unwrap();
                let place = format!("paused at {paused_at}, cut at {cut_at}");
                assert_eq!(cold.held_rooms(), [], "{place}");
                assert_eq!(cold.unfolded().0, 0, "{place}");
                assert_eq!(cold.timelines().rows(&room, 0, 9).await.unwrap().len(), 2, "{place}");
                assert!(!cold.is_damaged(), "{place}");
                cold.close().await;
                one.fold_all().await.unwrap();
                if ended.is_some() {
                    break;
                }
            }
        }
        one.close().await;
        two.close().await;
    });
}
