//! A clock that was ahead: what it stamped does not give a room its times for ever.

use std::convert::Infallible;
use std::time::Duration;

use chatto::domain::EventId;
use chatto::domain::timeline::{Delete, Effect, Event, Row};
use chatto::limits::CLOCK_AHEAD_MAX;
use chatto::runtime::{Clock, Runtime};
use chatto::storage::{Draft, RequestId, Storage};

use super::drafts::{append_post, reply};
use super::{config, connect, open, post, room, run, user};
use crate::support::nats::NatsServer;

const YEARS: Duration = Duration::from_hours(10 * 365 * 24);
/// Replies on each side of a correction: together more than a page.
const REPLIES: u32 = 40;

/// Events of one millisecond get one each.
const RUSH_MS: i64 = 1_000;

fn now() -> i64 {
    Clock::system().unix_ms()
}

/// A process whose clock is ahead.
async fn ahead(server: &NatsServer, runtime: &Runtime) -> Storage {
    let clock = Clock::default();
    clock.advance(YEARS);
    let nats = connect(&server.url()).await;
    Storage::open(nats, config(None), runtime, clock).await.unwrap()
}

/// Posts with this time, and returns what was stored.
async fn say_at(storage: &Storage, at_ms: i64) -> Event {
    let (room, request) = (room(1), RequestId::random());
    let appended = storage.timelines().append::<Infallible>(&room, &request, &[], |view| {
        Ok(Draft { at_ms, ..post(view.head(), user(2), "text") })
    });
    appended.await.unwrap().event
}

fn assert_order(rows: &[Row]) {
    let times: Vec<_> = rows.iter().map(|row| row.at_ms).collect();
    assert!(times.is_sorted(), "times decrease: {times:?}");
    assert!(times.iter().all(|at| *at < now() + RUSH_MS), "times lie ahead: {times:?}");
}

/// All rows and all replies to a root, as they are shown: in order, and not ahead of the clock.
async fn shown(storage: &Storage, root: EventId) -> Vec<(u32, i64)> {
    let head = storage.timelines().head(&room(1)).await.unwrap();
    assert!(head.last_ms < now() + RUSH_MS);
    let rows = storage.timelines().rows(&room(1), 0, head.rows).await.unwrap();
    assert_eq!(rows.len(), head.rows as usize);
    assert_order(&rows);
    for row in &rows {
        assert_eq!(
            storage.timelines().row(&room(1), &row.id).await.unwrap().unwrap().at_ms,
            row.at_ms
        );
    }
    let newest = rows.iter().find(|row| Some(row.number) == head.newest().map(|row| row.row));
    assert_eq!(newest.unwrap().at_ms, head.newest().unwrap().at_ms);
    let replies = storage.timelines().replies(&room(1), root.row(), 1, u32::MAX).await.unwrap();
    assert_order(&replies);
    rows.iter().chain(&replies).map(|row| (row.number, row.at_ms)).collect()
}

#[test]
fn a_clock_that_was_ahead_does_not_give_a_room_its_times_for_ever() {
    let server = NatsServer::start();
    run(async |runtime| {
        let right = open(&server.url(), &runtime, config(None)).await.unwrap();
        let root = append_post(&right).await;
        let early = say_at(&right, now()).await.at_ms;
        right.close().await;
        let wrong = ahead(&server, &runtime).await;
        for _ in 0..3 {
            let event = say_at(&wrong, now() + YEARS.as_millis() as i64).await;
            assert!(event.at_ms > now() + CLOCK_AHEAD_MAX.as_millis() as i64);
        }
        for _ in 0..REPLIES {
            reply(&wrong, root, 2, false).await;
        }
        wrong.close().await;

        let right = open(&server.url(), &runtime, config(None)).await.unwrap();
        let before = now();
        let next = say_at(&right, now()).await;
        assert!((before..now() + RUSH_MS).contains(&next.at_ms), "{} is not now", next.at_ms);
        for _ in 0..REPLIES {
            reply(&right, root, 3, true).await;
        }
        let later = say_at(&right, now()).await;
        let unfolded = shown(&right, root).await;
        assert!(unfolded.contains(&(1, early)), "what was not ahead keeps its time");
        assert!(unfolded.contains(&(later.rows_after - 1, later.at_ms)));
        let replies = &unfolded[later.rows_after as usize..];
        assert!(replies.iter().rev().take(REPLIES as usize).is_sorted_by(|a, b| a.1 > b.1));
        right.fold_all().await.unwrap();
        assert_eq!(shown(&right, root).await, unfolded, "after a fold");
        right.close().await;
        let right = open(&server.url(), &runtime, config(None)).await.unwrap();
        assert_eq!(shown(&right, root).await, unfolded, "after a restart");

        // It happens again, and what corrects it makes no row.
        say_at(&right, now() + YEARS.as_millis() as i64).await;
        let (room, request) = (room(1), RequestId::random());
        let deleted = right.timelines().append::<Infallible>(&room, &request, &[], |_| {
            let effect = Effect::Delete(Delete::new(root));
            Ok(Draft { actor: Some(user(1)), at_ms: now(), effect })
        });
        assert!(deleted.await.unwrap().event.at_ms < now() + RUSH_MS);
        append_post(&right).await;
        assert_eq!(
            shown(&right, root).await[..unfolded.len() - 80],
            unfolded[..unfolded.len() - 80]
        );
        right.close().await;
        let right = open(&server.url(), &runtime, config(None)).await.unwrap();
        shown(&right, root).await;
        right.close().await;
    });
}

#[test]
fn clocks_that_differ_by_less_than_the_limit_never_take_a_time_back() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let little = CLOCK_AHEAD_MAX.as_millis() as i64 - 1_000;
        let first = say_at(&storage, now() + little).await;
        let second = say_at(&storage, now()).await;
        assert_eq!(second.at_ms, first.at_ms + 1);
        storage.close().await;
    });
}
