//! Held rooms: a room whose next event cannot be folded keeps nothing else from going on, and nothing of it is
//! lost or passed over.

use std::convert::Infallible;
use std::time::Duration;

use chatto::domain::{RoomId, timeline};
use chatto::nats::{Nats, Publish};
use chatto::runtime::Clock;
use chatto::storage::{ChangeError, Config, HoldReason, RequestId, Storage, StorageError};
use prost::Message;

use super::folds::{append, take_fold_lease, write};
use super::stamps::until;
use super::{CutAt, config, connect, open, post, room, run, user};
use crate::support::nats::{NatsServer, stream_info};
use crate::support::records::{Event, FoldCheckpoint, Head, React, event::Effect};

/// Field 1000, a text: what a newer program may add to any record.
pub(super) const UNKNOWN_FIELD: [u8; 4] = [0xc2, 0x3e, 1, b'x'];

fn shared() -> Config {
    Config { embedded: false, ..config(None) }
}

pub(super) fn stored(record: &impl Message, more: &[u8]) -> Vec<u8> {
    [vec![1], record.encode_to_vec(), more.to_vec()].concat()
}

/// Puts a message into the store as another program would.
pub(super) async fn put(nats: &Nats, subject: &str, payload: Vec<u8>) -> u64 {
    let payload = payload.into();
    nats.publish(Publish { subject, payload, ..Publish::default() }).await.unwrap().sequence
}

fn journal(room: &RoomId) -> String {
    format!("journal.{room}")
}

/// The event that follows the present head, with this effect.
pub(super) async fn next_event(storage: &Storage, room: &RoomId, effect: Option<Effect>) -> Event {
    let head = storage.timelines().head(room).await.unwrap();
    let rows_after = head.rows + u32::from(matches!(effect, Some(Effect::Post(_))));
    Event {
        number: head.event_number + 1,
        at_ms: Clock::system().unix_ms(),
        actor_id: user(1).to_string(),
        rows_after,
        effect,
        ..Event::default()
    }
}

async fn try_write(storage: &Storage, room: &RoomId) -> Result<(), StorageError> {
    let written = storage
        .timelines()
        .append::<Infallible>(room, &RequestId::random(), &[], |view| {
            Ok(post(view.head(), user(1), "more"))
        })
        .await;
    match written {
        Ok(_) => Ok(()),
        Err(ChangeError::Storage(error)) => Err(error),
    }
}

fn reasons(storage: &Storage) -> Vec<HoldReason> {
    storage.held_rooms().into_iter().map(|held| held.reason).collect()
}

pub(super) async fn checkpoint(nats: &Nats) -> FoldCheckpoint {
    let stored = nats.leader_newest("KV_STATE", "$KV.STATE.fold.checkpoint").await.unwrap();
    FoldCheckpoint::decode(&stored.unwrap().payload[1..]).unwrap()
}

#[test]
fn an_event_that_cannot_be_read_holds_its_room_and_no_other() {
    for (name, bytes) in [
        (
            "an effect of a newer program",
            stored(&Event { number: 3, ..Event::default() }, &UNKNOWN_FIELD),
        ),
        ("a newer version", vec![2, 1, 2, 3]),
        ("damaged bytes", vec![1, 0xff, 0xff]),
    ] {
        let server = NatsServer::start();
        run(async |runtime| {
            let nats = connect(&server.url()).await;
            let storage = open(&server.url(), &runtime, shared()).await.unwrap();
            for n in [1, 2] {
                write(&storage, &room(n), "one").await;
                write(&storage, &room(n), "two").await;
            }
            let foreign = put(&nats, &journal(&room(1)), bytes.clone()).await;
            write(&storage, &room(2), "three").await;
            storage.fold_all().await.unwrap();
            assert!(
                matches!(&reasons(&storage)[..], [HoldReason::Event { sequence, .. }] if *sequence == foreign),
                "{name}: {:?}",
                storage.held_rooms()
            );
            assert_eq!(storage.unfolded().0, 0, "{name}: what can be folded is");
            assert!(!storage.is_damaged());
            let point = checkpoint(&nats).await;
            assert!(point.next_sequence > foreign, "{name}: the checkpoint has passed it");
            assert_eq!(point.held[0].room_id, room(1).to_string());
            assert_eq!(point.held[0].first_sequence, foreign);
            storage.close().await;

            // A start finds it again, purging stops at it, and nobody writes behind it.
            let clock = Clock::system();
            let storage =
                Storage::open(nats.clone(), shared(), &runtime, clock.clone()).await.unwrap();
            assert_eq!(storage.held_rooms().len(), 1, "{name}");
            let refused = try_write(&storage, &room(1)).await;
            assert!(matches!(refused, Err(StorageError::Held { .. })), "{name}: {refused:?}");
            assert_eq!(storage.timelines().rows(&room(1), 0, 9).await.unwrap().len(), 2);
            write(&storage, &room(2), "four").await;
            assert_eq!(storage.timelines().rows(&room(2), 0, 9).await.unwrap().len(), 4);
            storage.fold_all().await.unwrap();
            clock.advance(Duration::from_secs(8 * 24 * 3600));
            storage.purge().await.unwrap();
            let kept = nats.leader_newest("JOURNAL", &journal(&room(1))).await.unwrap().unwrap();
            assert_eq!((kept.sequence, kept.payload.to_vec()), (foreign, bytes.clone()), "{name}");
            storage.close().await;
        });
    }
}

/// Its room has no head page, and no event that can be shown.
#[test]
fn an_unreadable_first_event_is_no_damage() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        let nats = connect(&server.url()).await;
        put(&nats, &journal(&room(1)), vec![2, 1, 1]).await;
        storage.barrier().await.unwrap();
        assert_eq!(storage.timelines().head(&room(1)).await.unwrap().rows, 0);
        assert!(!storage.is_damaged());
        storage.close().await;
    });
}

#[test]
fn a_field_of_a_newer_program_is_shown_but_never_folded_away() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        let id = write(&storage, &room(1), "one").await;
        let id = id.to_string();
        let effect = React { id, emoji: "heart".to_owned(), user_number: 7, ..React::default() };
        let event = next_event(&storage, &room(1), Some(Effect::React(effect))).await;
        let foreign = put(&nats, &journal(&room(1)), stored(&event, &UNKNOWN_FIELD)).await;
        storage.barrier().await.unwrap();
        assert_eq!(
            storage.timelines().head(&room(1)).await.unwrap().event_number,
            2,
            "readers see it"
        );
        storage.fold_all().await.unwrap();
        assert_eq!(storage.unfolded().0, 1);
        assert!(matches!(reasons(&storage)[..], [HoldReason::Event { .. }]));
        // The newer program, which knows the field, folds it: here it is written without.
        assert!(nats.erase("JOURNAL", foreign).await.unwrap());
        put(&nats, &journal(&room(1)), stored(&event, &[])).await;
        storage.close().await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        storage.fold_all().await.unwrap();
        assert_eq!(storage.held_rooms(), []);
        assert_eq!(storage.unfolded().0, 0);
        assert_eq!(checkpoint(&nats).await.held, []);
        storage.close().await;
    });
}

#[test]
fn a_page_that_cannot_be_read_or_replaced_holds_its_room_and_no_other() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        take_fold_lease(&nats_after_open(&server, &runtime).await).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        for n in [1, 2, 3] {
            write(&storage, &room(n), "one").await;
        }
        storage.fold_all().await.unwrap();
        let subject = |n: u8| format!("pages.{}.r.0", room(n));
        let page =
            nats.leader_newest("PAGES", &subject(1)).await.unwrap().unwrap().payload.to_vec();
        let newer_page = nats.leader_newest("PAGES", &subject(2)).await.unwrap().unwrap();
        let newer_page = [newer_page.payload.to_vec(), UNKNOWN_FIELD.to_vec()].concat();
        put(&nats, &subject(1), vec![1, 0xff, 0xff]).await;
        let newer = put(&nats, &subject(2), newer_page.clone()).await;
        for n in [1, 2, 3] {
            write(&storage, &room(n), "two").await;
        }
        storage.fold_all().await.unwrap();
        assert!(matches!(
            reasons(&storage)[..],
            [HoldReason::Page { .. }, HoldReason::Page { .. }]
        ));
        assert_eq!(storage.unfolded().0, 2, "the third room is folded");
        let held = checkpoint(&nats).await.held;
        assert_eq!(held.len(), 2);
        let kept = nats.leader_newest("PAGES", &subject(2)).await.unwrap().unwrap();
        assert_eq!((kept.sequence, kept.payload.to_vec()), (newer, newer_page), "it was rewritten");
        assert_eq!(
            storage.timelines().rows(&room(2), 0, 9).await.unwrap().len(),
            2,
            "it is shown all the same"
        );

        // Unfolded events of a held room have a bound, and the others go on beyond it.
        let mut taken = 0;
        let refused = loop {
            match try_write(&storage, &room(1)).await {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, StorageError::Held { .. }), "{refused:?}");
        assert!((500..=1_000).contains(&taken), "{taken} events of a held room were taken");
        write(&storage, &room(3), "three").await;
        storage.close().await;

        // A restart loses nothing, and the end of the fault needs none.
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        assert!(storage.unfolded().0 > taken);
        put(&nats, &subject(1), page).await;
        storage.fold_all().await.unwrap();
        assert_eq!(storage.held_rooms().len(), 1);
        let head = storage.timelines().head(&room(1)).await.unwrap();
        assert_eq!(head.rows as usize, taken + 2);
        assert_eq!(storage.timelines().rows(&room(1), 0, 200).await.unwrap().len(), 200);
        write(&storage, &room(1), "and on").await;
        storage.close().await;
    });
}

/// A store that exists.
async fn nats_after_open(server: &NatsServer, runtime: &chatto::runtime::Runtime) -> Nats {
    open(&server.url(), runtime, shared()).await.unwrap().close().await;
    connect(&server.url()).await
}

#[test]
fn a_missing_event_holds_its_room() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = nats_after_open(&server, &runtime).await;
        take_fold_lease(&nats).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        write(&storage, &room(1), "one").await;
        storage.fold_all().await.unwrap();
        write(&storage, &room(1), "two").await;
        write(&storage, &room(1), "three").await;
        let two = nats.leader_from("JOURNAL", 2).await.unwrap().unwrap();
        let info = stream_info(&nats, "JOURNAL").await.unwrap();
        assert_eq!((two.sequence, info.state.last_sequence), (2, 3));
        storage.close().await;
        // The disk has lost it.
        assert!(nats.erase("JOURNAL", 2).await.unwrap());
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        storage.fold_all().await.unwrap();
        assert!(matches!(reasons(&storage)[..], [HoldReason::Missing { number: 2 }]));
        let page =
            nats.leader_newest("PAGES", &format!("pages.{}.h", room(1))).await.unwrap().unwrap();
        let head = Head::decode(&page.payload[1..]).unwrap();
        assert_eq!(head.stamp.unwrap().event_number, 1, "nothing behind the hole is folded");
        storage.close().await;
    });
}

#[test]
fn a_room_with_a_missing_event_returns_an_error_and_keeps_what_is_left() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = nats_after_open(&server, &runtime).await;
        take_fold_lease(&nats).await;
        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        write(&storage, &room(1), "folded").await;
        storage.fold_all().await.unwrap();
        let mut sequences = Vec::new();
        for body in ["missing", "behind it"] {
            write(&storage, &room(1), body).await;
            let newest = nats.leader_newest("JOURNAL", &journal(&room(1))).await.unwrap().unwrap();
            sequences.push(newest.sequence);
        }
        write(&storage, &room(2), "one").await;
        storage.close().await;
        assert!(nats.erase("JOURNAL", sequences[0]).await.unwrap());

        // Before the room is held, and when the checkpoint has passed it.
        for body in ["two", "three"] {
            let clock = Clock::system();
            let storage =
                Storage::open(nats.clone(), shared(), &runtime, clock.clone()).await.unwrap();
            assert!(!storage.is_damaged(), "nobody has read yet");
            for _ in 0..2 {
                let head = storage.timelines().head(&room(1)).await;
                assert!(matches!(head, Err(StorageError::Corrupt { .. })), "{head:?}");
                for (from, to) in [(0, 1), (0, 9), (1, 2), (2, 3)] {
                    let rows = storage.timelines().rows(&room(1), from, to).await;
                    assert!(matches!(rows, Err(StorageError::Corrupt { .. })), "{rows:?}");
                }
                let refused = try_write(&storage, &room(1)).await;
                assert!(matches!(refused, Err(StorageError::Corrupt { .. })), "{refused:?}");
                storage.fold_all().await.unwrap();
                assert!(matches!(reasons(&storage)[..], [HoldReason::Missing { number: 2 }]));
            }
            assert!(storage.is_damaged());
            write(&storage, &room(2), body).await;
            storage.fold_all().await.unwrap();
            let (point, newest) = (checkpoint(&nats).await, storage.feed().position().journal);
            assert_eq!(point.held[0].first_sequence, sequences[1]);
            assert_eq!(point.next_sequence, newest + 1, "the other rooms go on");
            clock.advance(Duration::from_secs(8 * 24 * 3600));
            storage.purge().await.unwrap();
            storage.close().await;
        }

        let storage = open(&server.url(), &runtime, shared()).await.unwrap();
        assert_eq!(storage.timelines().rows(&room(2), 0, 9).await.unwrap().len(), 3);
        storage.close().await;
        // What whoever mends the store needs.
        let kept = nats.leader_newest("JOURNAL", &journal(&room(1))).await.unwrap().unwrap();
        assert_eq!(kept.sequence, sequences[1], "the event behind the hole");
        assert!(contains(&kept.payload, "behind it"));
        let page = format!("pages.{}.r.0", room(1));
        let page = nats.leader_newest("PAGES", &page).await.unwrap().unwrap();
        assert!(contains(&page.payload, "folded"));
    });
}

fn contains(payload: &[u8], text: &str) -> bool {
    payload.windows(text.len()).any(|bytes| bytes == text.as_bytes())
}

/// Makes the first pages of these rooms unreadable; returns where they lie and what they were.
async fn damage_pages(nats: &Nats, rooms: impl Iterator<Item = u8>) -> Vec<(String, Vec<u8>)> {
    let mut pages = Vec::new();
    for n in rooms {
        let subject = format!("pages.{}.r.0", room(n));
        let page = nats.leader_newest("PAGES", &subject).await.unwrap().unwrap();
        put(nats, &subject, vec![1, 0xff, 0xff]).await;
        pages.push((subject, page.payload.to_vec()));
    }
    pages
}

/// How many rows each of these rooms shows to a process that has read nothing yet.
async fn rows_shown(
    url: &str,
    runtime: &chatto::runtime::Runtime,
    rooms: impl Iterator<Item = u8>,
) -> Vec<usize> {
    let storage = open(url, runtime, shared()).await.unwrap();
    assert_eq!(storage.unfolded().0, 0);
    let mut shown = Vec::new();
    for n in rooms {
        shown.push(storage.timelines().rows(&room(n), 0, 9).await.unwrap().len());
    }
    storage.close().await;
    shown
}

#[test]
fn one_held_room_more_than_the_checkpoint_can_name_stops_it() {
    /// As many as it names.
    const NAMED: u8 = 64;
    const LAST: u8 = NAMED + 1;
    const HEALTHY: u8 = 100;
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = nats_after_open(&server, &runtime).await;
        take_fold_lease(&nats).await;
        let clock = Clock::system();
        let one = open(&server.url(), &runtime, shared()).await.unwrap();
        for n in (1..=LAST).chain([HEALTHY]) {
            write(&one, &room(n), "one").await;
        }
        one.fold_all().await.unwrap();
        let two = open(&server.url(), &runtime, shared()).await.unwrap();
        let mut pages = damage_pages(&nats, 1..=LAST).await.into_iter();
        write(&one, &room(HEALTHY), "two").await;
        for n in 1..=LAST {
            write(&one, &room(n), "two").await;
        }
        let last = nats.leader_newest("JOURNAL", &journal(&room(LAST))).await.unwrap().unwrap();
        write(&one, &room(HEALTHY), "three").await;
        one.fold_all().await.unwrap();
        assert_eq!(one.held_rooms().len(), usize::from(LAST), "all are reported");
        assert_eq!(one.unfolded().0, usize::from(LAST), "the other rooms are folded");
        let point = checkpoint(&nats).await;
        assert_eq!(point.held.len(), usize::from(NAMED));
        assert_eq!(point.next_sequence, last.sequence, "it stands before what it cannot name");
        // A process that follows drops what the checkpoint has passed, and nothing else.
        let kept = usize::from(LAST) + 1;
        until("the other process follows", || two.unfolded().0 <= kept).await;
        write(&one, &room(HEALTHY), "four").await;
        one.fold_all().await.unwrap();
        assert_eq!(checkpoint(&nats).await.next_sequence, last.sequence, "it stands still");
        two.barrier().await.unwrap();
        assert_eq!(two.unfolded().0, kept + 1);
        two.close().await;
        one.close().await;

        // A start loses nothing, and the first place that is free is for the last room.
        let one = Storage::open(nats.clone(), shared(), &runtime, clock.clone()).await.unwrap();
        for n in 1..=LAST {
            let head = one.timelines().head(&room(n)).await.unwrap();
            assert_eq!(head.rows, 2, "room {n} has lost a row");
        }
        let (subject, page) = pages.next().unwrap();
        put(&nats, &subject, page).await;
        one.fold_all().await.unwrap();
        assert_eq!(one.held_rooms().len(), usize::from(NAMED));
        let point = checkpoint(&nats).await;
        let named: Vec<_> = point.held.iter().map(|held| held.room_id.as_str()).collect();
        assert_eq!(named.len(), usize::from(NAMED));
        assert!(named.contains(&room(LAST).as_str()) && !named.contains(&room(1).as_str()));
        assert!(point.next_sequence > last.sequence + 1, "it goes on");

        // The last room alone keeps its event from being purged.
        let (damaged, page) = pages.next_back().unwrap();
        for (subject, page) in pages {
            put(&nats, &subject, page).await;
        }
        one.fold_all().await.unwrap();
        assert_eq!(one.unfolded().0, 1);
        clock.advance(Duration::from_secs(8 * 24 * 3600));
        one.purge().await.unwrap();
        let first = nats.leader_from("JOURNAL", 1).await.unwrap().unwrap();
        assert_eq!(first.sequence, last.sequence);
        put(&nats, &damaged, page).await;
        one.fold_all().await.unwrap();
        assert_eq!(one.held_rooms(), []);
        assert_eq!(checkpoint(&nats).await.held, []);
        one.close().await;
        let shown = rows_shown(&server.url(), &runtime, (1..=LAST).chain([HEALTHY])).await;
        assert_eq!(shown, [vec![2; usize::from(LAST)], vec![4]].concat());
    });
}

#[test]
fn texts_that_a_fold_has_erased_are_no_hole_when_it_is_repeated() {
    let server = NatsServer::start();
    run(async |runtime| {
        take_fold_lease(&nats_after_open(&server, &runtime).await).await;
        for awaits in 1..200 {
            let room = RoomId::from_random([awaits as u8; 16]);
            let storage = open(&server.url(), &runtime, shared()).await.unwrap();
            let id = write(&storage, &room, "soon deleted").await;
            append(&storage, &room, timeline::Effect::Delete(timeline::Delete::new(id))).await;
            // Pages and erasures may be done, the checkpoint is not.
            let ended = CutAt::new(storage.fold_all(), awaits).await;
            storage.close().await;
            let storage = open(&server.url(), &runtime, shared()).await.unwrap();
            write(&storage, &room, "later").await;
            storage.fold_all().await.unwrap();
            assert_eq!(storage.held_rooms(), [], "cut after {awaits} awaits");
            assert_eq!(storage.unfolded().0, 0);
            assert_eq!(storage.timelines().rows(&room, 0, 9).await.unwrap().len(), 2);
            storage.close().await;
            if ended.is_some() {
                return;
            }
        }
        panic!("a fold of two events has not so many awaits");
    });
}

/// Waits until the store has seen everything that lies in the journal.
async fn follow_to_end(nats: &Nats, storage: &Storage) {
    let end = stream_info(nats, "JOURNAL").await.unwrap().state.last_sequence;
    let clock = Clock::system();
    let deadline = clock.now() + Duration::from_secs(60);
    while storage.feed().position().journal < end {
        assert!(clock.now() < deadline, "the feed does not come to {end}");
        clock.sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn one_held_room_does_not_make_a_start_read_what_came_after_it() {
    const EVENTS: usize = 100_000;
    const BATCH: usize = 1_500;
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        write(&storage, &room(1), "one").await;
        let id = write(&storage, &room(2), "one").await.to_string();
        let foreign = stored(&Event { number: 2, ..Event::default() }, &UNKNOWN_FIELD);
        put(&nats, &journal(&room(1)), foreign).await;
        let mut event = next_event(&storage, &room(2), None).await;
        for from in (0..EVENTS).step_by(BATCH) {
            for n in from..from + BATCH {
                let (id, emoji) = (id.clone(), "heart".to_owned());
                let react = React { id, emoji, user_number: 1, remove: n % 2 == 1 };
                event.effect = Some(Effect::React(react));
                nats.send(&journal(&room(2)), stored(&event, &[]).into()).await.unwrap();
                event.number += 1;
            }
            follow_to_end(&nats, &storage).await;
            storage.fold_all().await.unwrap();
        }
        storage.close().await;
        let clock = Clock::system();
        let began = clock.now();
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        eprintln!("a start beside {EVENTS} later events: {:?}", clock.now() - began);
        assert_eq!(storage.held_rooms().len(), 1);
        assert!(storage.unfolded().0 < BATCH, "{} events were read", storage.unfolded().0);
        storage.close().await;
    });
}
