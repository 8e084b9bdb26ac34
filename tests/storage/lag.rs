//! A replica that lags: it serves reads with what is long outdated, as any replica may.

use std::time::Duration;

use chatto::domain::EventId;
use chatto::limits::PAGE_ROWS;
use chatto::nats::{Nats, Publish};
use chatto::runtime::Clock;

use super::drafts::{append_post, numbers, reply};
use super::held::{UNKNOWN_FIELD, checkpoint, next_event, put, stored};
use super::replicas::{connect_to, open_at, open_over, read, write};
use super::{config, connect, open, room, run};
use crate::support::cluster::Cluster;
use crate::support::nats::NatsServer;
use crate::support::records::{React, event::Effect};

pub(super) const NODES: usize = 3;
/// More than a page.
const ROWS: usize = 70;
/// How long after its streams were made a node serves direct gets at the latest.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// How long a process knows of a page that it has seen folded, and reads from the leader only.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The subject of the journal that is written.
fn subject() -> String {
    format!("journal.{}", room(1))
}

/// Whether direct gets are served by a replica that does not have this sequence of the journal.
async fn lags(nats: &Nats, newest: u64) -> bool {
    lags_in(nats, ("JOURNAL", &subject()), newest).await
}

/// Whether direct gets are served by a replica that does not have this sequence of a subject.
pub(super) async fn lags_in(nats: &Nats, (stream, subject): (&str, &str), newest: u64) -> bool {
    let found = nats.newest(stream, subject).await.unwrap();
    found.is_none_or(|found| found.sequence < newest)
}

/// A connection to the last node, whose replicas serve direct gets by now.
pub(super) async fn slow(cluster: &Cluster) -> Nats {
    let nats = connect_to(vec![cluster.urls()[NODES - 1].clone()]).await;
    let clock = Clock::system();
    let end = clock.now() + ANSWERS_WITHIN;
    for stream in ["JOURNAL", "PAGES", "KV_STATE", "KV_META", "KV_ENCRYPTION_KEYS"] {
        while nats.newest(stream, "none").await.is_err() {
            assert!(clock.now() < end, "{stream}: no direct get is served");
            clock.sleep(Duration::from_millis(50)).await;
        }
    }
    nats
}

#[test]
fn a_replica_that_lags_hides_nothing_that_is_acknowledged() {
    let cluster = Cluster::start_with_delay(NODES);
    let urls = cluster.urls();
    let quick = || connect_to(vec![urls[0].clone()]);
    run(async |runtime| {
        let writer = open_over(quick().await, &runtime, NODES).await;
        write(&writer, 0, 1).await;
        cluster.lead_elsewhere(&chatto::storage::stream_names());
        let reader = open_over(slow(&cluster).await, &runtime, NODES).await;
        read(&reader, 1).await;
        let (probe, newcomer) = (slow(&cluster).await, slow(&cluster).await);

        let held = cluster.delay_last();
        write(&writer, 1, ROWS).await;
        writer.fold_all().await.unwrap();
        write(&writer, ROWS, ROWS + 10).await;
        let newest = probe.leader_newest("JOURNAL", &subject()).await.unwrap().unwrap().sequence;
        assert!(lags(&probe, newest).await, "no replica lags");
        read(&reader, ROWS + 10).await;
        let newcomer = open_over(newcomer, &runtime, NODES).await;
        read(&newcomer, ROWS + 10).await;
        assert!(lags(&probe, newest).await, "it did not lag all the while");
        drop(held);

        for storage in [newcomer, reader, writer] {
            assert!(!storage.is_damaged());
            storage.close().await;
        }
    });
}

#[test]
fn a_replica_that_lags_shortens_no_thread() {
    // More than a page, so that they lie in pages of their own.
    const REPLIES: u32 = 66;
    let cluster = Cluster::start_with_delay(NODES);
    let urls = cluster.urls();
    run(async |runtime| {
        let writer = open_over(connect_to(vec![urls[0].clone()]).await, &runtime, NODES).await;
        let (short, long) = (append_post(&writer).await, append_post(&writer).await);
        for root in [short, long] {
            reply(&writer, root, 1, false).await;
        }
        writer.fold_all().await.unwrap();
        cluster.lead_elsewhere(&chatto::storage::stream_names());
        let (reader, probe) = (slow(&cluster).await, slow(&cluster).await);

        let held = cluster.delay_last();
        for number in 2..=REPLIES {
            assert_eq!(reply(&writer, long, 1, false).await, number);
        }
        reply(&writer, short, 1, false).await;
        writer.fold_all().await.unwrap();
        let newest = probe.leader_newest("JOURNAL", &subject()).await.unwrap().unwrap().sequence;
        assert!(lags(&probe, newest).await, "no replica lags");
        let reader = open_over(reader, &runtime, NODES).await;
        reader.barrier().await.unwrap();
        assert!(numbers(&reader, short, 2).await.into_iter().eq(1..=2));
        assert!(numbers(&reader, long, REPLIES).await.into_iter().eq(1..=REPLIES));
        assert!(lags(&probe, newest).await, "it did not lag all the while");
        drop(held);
        assert!(!reader.is_damaged());
        for storage in [reader, writer] {
            storage.close().await;
        }
    });
}

#[test]
fn replies_that_a_replica_lacks_are_read_from_the_leader() {
    let cluster = Cluster::start_with_delay(NODES);
    let urls = cluster.urls();
    run(async |runtime| {
        let writer = open_over(connect_to(vec![urls[0].clone()]).await, &runtime, NODES).await;
        // Beside others on their page; with pages of its own; given such while the replica lags.
        let mut threads = Vec::new();
        for before in [1, PAGE_ROWS + 1, PAGE_ROWS] {
            let root = append_post(&writer).await;
            for _ in 0..before {
                reply(&writer, root, 1, false).await;
            }
            threads.push((root, before + 1));
        }
        writer.fold_all().await.unwrap();
        cluster.lead_elsewhere(&chatto::storage::stream_names());
        let clock = Clock::system();
        let reader = open_at(slow(&cluster).await, &runtime, NODES, clock.clone()).await;
        let probe = slow(&cluster).await;

        let held = cluster.delay_last();
        for (root, made) in &threads {
            assert_eq!(reply(&writer, *root, 1, false).await, *made);
        }
        reader.barrier().await.unwrap();
        // It keeps the roots, which count the new replies.
        assert_eq!(reader.timelines().rows(&room(1), 0, 9).await.unwrap().len(), threads.len());
        writer.fold_all().await.unwrap();
        reader.fold_all().await.unwrap();
        // Which pages it has seen folded it remembers for a while only, until it sees the next fold.
        clock.advance_monotonic(REMEMBERED);
        super::folds::write(&reader, &room(2), "text").await;
        reader.fold_all().await.unwrap();
        assert_eq!(reader.unfolded().0, 0);

        let page = format!("pages.{}.s.0", room(1));
        let newest = probe.leader_newest("PAGES", &page).await.unwrap().unwrap().sequence;
        assert!(lags_in(&probe, ("PAGES", &page), newest).await, "no replica lags");
        for (root, made) in threads {
            assert!(numbers(&reader, root, made).await.into_iter().eq(1..=made));
        }
        assert!(lags_in(&probe, ("PAGES", &page), newest).await, "it did not lag all the while");
        drop(held);
        assert!(!reader.is_damaged());
        for storage in [reader, writer] {
            storage.close().await;
        }
    });
}

#[test]
fn a_start_over_a_replica_that_lags_misses_nothing_of_a_held_room() {
    const BEHIND: usize = 5;
    let cluster = Cluster::start_with_delay(NODES);
    let urls = cluster.urls();
    run(async |runtime| {
        let nats = connect_to(vec![urls[0].clone()]).await;
        let writer = open_over(nats.clone(), &runtime, NODES).await;
        write(&writer, 0, 1).await;
        let id = EventId::new(0, 0, 7).to_string();
        let react = React { id, emoji: "heart".to_owned(), user_number: 1, ..React::default() };
        let event = next_event(&writer, &room(1), Some(Effect::React(react))).await;
        put(&nats, &subject(), stored(&event, &UNKNOWN_FIELD)).await;
        writer.barrier().await.unwrap();
        writer.fold_all().await.unwrap();
        assert_eq!(writer.held_rooms().len(), 1);
        cluster.lead_elsewhere(&chatto::storage::stream_names());
        let (probe, newcomer) = (slow(&cluster).await, slow(&cluster).await);

        let held = cluster.delay_last();
        write(&writer, 1, 1 + BEHIND).await;
        let newest = probe.leader_newest("JOURNAL", &subject()).await.unwrap().unwrap().sequence;
        super::folds::write(&writer, &room(2), "text").await;
        writer.fold_all().await.unwrap();
        let point = checkpoint(&nats).await;
        assert!(point.next_sequence > newest, "the feed of a start does not bring it");
        assert!(lags(&probe, newest).await, "no replica lags");
        let newcomer = open_over(newcomer, &runtime, NODES).await;
        assert!(lags(&probe, newest).await, "it did not lag all the while");
        drop(held);
        assert_eq!(newcomer.unfolded().0, 1 + BEHIND);
        read(&newcomer, 1 + BEHIND).await;
        assert!(!newcomer.is_damaged());
        for storage in [newcomer, writer] {
            storage.close().await;
        }
    });
}

#[test]
fn an_outdated_thread_page_is_an_error_and_no_shorter_thread() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nats = connect(&server.url()).await;
        let subject = format!("pages.{}.s.0", room(1));
        let page = async || nats.newest("PAGES", &subject).await.unwrap().unwrap().payload;
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let root = append_post(&storage).await;
        reply(&storage, root, 1, false).await;
        storage.fold_all().await.unwrap();
        let outdated = page().await;
        reply(&storage, root, 1, false).await;
        storage.fold_all().await.unwrap();
        storage.close().await;
        assert_ne!(page().await, outdated);
        let message = Publish { subject: &subject, payload: outdated, ..Publish::default() };
        nats.publish(message).await.unwrap();

        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        assert!(
            storage.timelines().replies(&room(1), root.row(), 1, 2).await.is_ok(),
            "what is there"
        );
        let replies = storage.timelines().replies(&room(1), root.row(), 1, 3).await;
        assert!(!replies.unwrap_err().is_transient());
        assert!(storage.is_damaged());
        storage.close().await;
    });
}
