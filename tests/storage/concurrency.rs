//! Many writers, and several processes on one store.

use std::collections::BTreeSet;
use std::convert::Infallible;

use chatto::domain::timeline::Effect;
use chatto::domain::{Membership, User};
use chatto::storage::{Claim, Claimed, Config, RecordChange, RequestId, Storage};
use futures_util::future::join_all;

use super::{config, open, post, room, run, user};
use crate::support::nats::NatsServer;

async fn post_many(storage: Storage, author: u64, count: usize) -> Vec<u32> {
    let mut rows = Vec::new();
    for n in 0..count {
        let body = format!("{author} {n}");
        let appended = storage
            .timelines()
            .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
                Ok(post(view.head(), user(author), &body))
            })
            .await
            .unwrap();
        let Effect::Post(post) = appended.event.effect else { panic!() };
        rows.push(post.id.row());
    }
    rows
}

async fn all_in_order(storages: &[Storage], writers: u64, each: usize) {
    let posting = (0..writers).map(|n| {
        let storage = storages[n as usize % storages.len()].clone();
        post_many(storage, n, each)
    });
    let mut all = BTreeSet::new();
    for rows in join_all(posting).await {
        assert!(rows.is_sorted(), "a writer's rows are in its order");
        for row in rows {
            assert!(all.insert(row), "row {row} was given twice");
        }
    }
    assert_eq!(all.len(), writers as usize * each);
    assert_eq!(all.last(), Some(&(all.len() as u32 - 1)));
    for storage in storages {
        storage.barrier().await.unwrap();
        assert_eq!(storage.timelines().head(&room(1)).await.unwrap().rows as usize, all.len());
    }
}

#[test]
fn sixteen_writers_of_one_process_in_one_room() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        all_in_order(std::slice::from_ref(&storage), 16, 40).await;
        storage.close().await;
    });
}

#[test]
fn three_processes_write_one_room_and_each_sees_all() {
    let server = NatsServer::start();
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let mut storages = Vec::new();
        for _ in 0..3 {
            storages.push(open(&server.url(), &runtime, shared()).await.unwrap());
        }
        all_in_order(&storages, 9, 30).await;
        // What one process knows is stored, another one reads behind a barrier.
        let [one, two, _] = &storages[..] else { panic!() };
        for n in 0..20 {
            let login = format!("user{n}");
            one.state()
                .change::<User, Infallible>(&user(n), |_| {
                    Ok(RecordChange::Put(User { login: login.clone(), ..User::new(user(n)) }))
                })
                .await
                .unwrap();
            two.barrier().await.unwrap();
            assert!(two.state().read(|tables| tables.user_by_login(&login).is_some()), "{login}");
        }
        for storage in &storages {
            storage.close().await;
        }
    });
}

#[test]
fn the_same_request_through_another_process_returns_the_first_message() {
    let server = NatsServer::start();
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let one = open(&server.url(), &runtime, shared()).await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        let key = || RequestId::keyed(&user(1), "CreateMessage", &room(1), "key 1");
        let write = async |storage: &Storage, key: RequestId, body: &str| {
            storage
                .timelines()
                .append::<Infallible>(&room(1), &key, &[], |view| {
                    Ok(post(view.head(), user(1), body))
                })
                .await
                .unwrap()
        };
        let first = write(&one, key(), "first").await;
        let other = write(&one, RequestId::random(), "between").await;
        let again = write(&two, key(), "first").await;
        assert_eq!(again.event, first.event);
        assert!(again.duplicate);
        assert!(!other.duplicate);
        assert_eq!(two.timelines().head(&room(1)).await.unwrap().rows, 2);
        one.close().await;
        two.close().await;
    });
}

#[test]
fn a_name_has_one_holder() {
    let server = NatsServer::start();
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let one = open(&server.url(), &runtime, shared()).await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        let claim = Claim::Login("anna");
        assert_eq!(one.state().claim(claim, user(1)).await.unwrap(), Claimed::Yes);
        assert_eq!(one.state().claim(claim, user(1)).await.unwrap(), Claimed::Yes);
        let taken = Claimed::Taken { holder: user(1).into() };
        assert_eq!(two.state().claim(claim, user(2)).await.unwrap(), taken.clone());
        two.state().release(claim, user(2)).await.unwrap();
        assert_eq!(two.state().claim(claim, user(2)).await.unwrap(), taken);
        one.state().release(claim, user(1)).await.unwrap();
        // Every call of a client begins behind a barrier.
        two.barrier().await.unwrap();
        assert_eq!(two.state().claim(claim, user(2)).await.unwrap(), Claimed::Yes);
        one.close().await;
        two.close().await;
    });
}

/// Stores a membership unless there is one, as a join does, and appends an event that depends on it.
async fn join_and_announce(storage: &Storage, user_number: u64) -> (u64, u64) {
    let member = Membership::new(room(1), user(user_number));
    storage
        .state()
        .change::<Membership, Infallible>(&(room(1), user(user_number)), |present| {
            Ok(if present.is_some() {
                RecordChange::Keep
            } else {
                RecordChange::Put(member.clone())
            })
        })
        .await
        .unwrap();
    let revision = storage.state().member_revision(&room(1), &user(user_number));
    let appended = storage
        .timelines()
        .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
            Ok(post(view.head(), user(user_number), "joined"))
        })
        .await
        .unwrap();
    (appended.event.state_revision, revision)
}

#[test]
fn an_event_is_stamped_with_everything_its_writer_had_seen() {
    let server = NatsServer::start();
    run(async |runtime| {
        let shared = || Config { embedded: false, ..config(None) };
        let one = open(&server.url(), &runtime, shared()).await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        for n in 0..200 {
            // Its own write, and one of another process that a conflict has shown to it.
            for storage in [&one, &two] {
                let (stamp, revision) = join_and_announce(storage, n).await;
                assert!(revision > 0);
                assert!(stamp >= revision, "event {n}: stamp {stamp}, membership {revision}");
            }
        }
        one.close().await;
        two.close().await;
    });
}
