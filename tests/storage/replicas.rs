//! Copies on three nodes: a changed `nats.replicas` on live data, and the loss of nodes.

use std::convert::Infallible;
use std::time::Duration;

use chatto::domain::timeline::RowKind;
use chatto::limits::WRITE_DEADLINE;
use chatto::nats::{Auth, Nats, Target};
use chatto::runtime::{Clock, Runtime};
use chatto::storage::{ChangeError, Config, DraftView, RequestId, Storage};

use super::{config, post, room, run, text, user};
use crate::support::cluster::Cluster;
use crate::support::nats::stream_info;

async fn connect(cluster: &Cluster) -> Nats {
    connect_to(cluster.urls()).await
}

/// A connection to one of these nodes.
pub(super) async fn connect_to(urls: Vec<String>) -> Nats {
    let target = Target { urls, auth: Auth::None, ca_cert: None, name: "test".to_owned() };
    let nats = Nats::connect(&target, Clock::system()).await.unwrap();
    nats.wait_connected(Duration::from_secs(20)).await.unwrap();
    nats
}

async fn open(cluster: &Cluster, runtime: &Runtime, replicas: usize) -> Storage {
    open_over(connect(cluster).await, runtime, replicas).await
}

pub(super) async fn open_over(nats: Nats, runtime: &Runtime, replicas: usize) -> Storage {
    open_at(nats, runtime, replicas, Clock::system()).await
}

/// The same by this clock.
pub(super) async fn open_at(
    nats: Nats,
    runtime: &Runtime,
    replicas: usize,
    clock: Clock,
) -> Storage {
    let config = Config { replicas, embedded: false, ..config(None) };
    for _ in 0..120 {
        match Storage::open(nats.clone(), config.clone(), runtime, clock.clone()).await {
            Err(error) if error.is_transient() => clock.sleep(Duration::from_millis(250)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the store cannot be opened on the cluster");
}

pub(super) async fn write(storage: &Storage, from: usize, to: usize) {
    for n in from..to {
        let body = format!("text {n}");
        // As a client does when an election on a busy machine outlasts the server's patience: the same
        // request again. It must neither be lost nor stored twice.
        let request = RequestId::random();
        let clock = Clock::system();
        let end = clock.now() + 4 * WRITE_DEADLINE;
        loop {
            let draft = |view: &DraftView<'_>| Ok(post(view.head(), user(1), &body));
            match storage.timelines().append::<Infallible>(&room(1), &request, &[], draft).await {
                // At once when no election has ended for long.
                Err(ChangeError::Storage(error)) if error.is_transient() && clock.now() < end => {
                    clock.sleep(Duration::from_millis(100)).await;
                }
                stored => {
                    stored.unwrap();
                    break;
                }
            }
        }
    }
}

pub(super) async fn read(storage: &Storage, count: usize) {
    storage.barrier().await.ok();
    let mut from = 0;
    while (from as usize) < count {
        let rows = match storage.timelines().rows(&room(1), from, count as u32).await {
            // A stream is without a leader for a moment when a node is lost.
            Err(error) if error.is_transient() => {
                Clock::system().sleep(Duration::from_millis(50)).await;
                continue;
            }
            rows => rows.unwrap(),
        };
        assert!(!rows.is_empty(), "rows from {from} are missing");
        for row in rows {
            let RowKind::Message(message) = row.kind else { panic!() };
            assert_eq!(text(message.content.as_ref()).unwrap(), format!("text {from}"));
            from += 1;
        }
    }
    assert_eq!(storage.timelines().head(&room(1)).await.unwrap().rows as usize, count);
}

async fn assert_replicas(cluster: &Cluster, replicas: usize) {
    let nats = connect(cluster).await;
    for name in ["JOURNAL", "PAGES", "KV_STATE", "KV_META", "KV_PRESENCE", "OBJ_ASSETS"] {
        let info = stream_info(&nats, name).await.unwrap();
        assert_eq!(info.config.num_replicas, replicas, "{name}");
    }
}

#[test]
fn replicas_change_from_one_to_three_and_back_on_live_data() {
    let cluster = Cluster::start(3);
    run(async |runtime| {
        let storage = open(&cluster, &runtime, 1).await;
        write(&storage, 0, 150).await;
        storage.close().await;
        assert_replicas(&cluster, 1).await;

        let storage = open(&cluster, &runtime, 3).await;
        assert_replicas(&cluster, 3).await;
        read(&storage, 150).await;
        write(&storage, 150, 300).await;
        storage.fold_all().await.unwrap();
        write(&storage, 300, 310).await;
        storage.close().await;

        let storage = open(&cluster, &runtime, 1).await;
        assert_replicas(&cluster, 1).await;
        read(&storage, 310).await;
        storage.close().await;
    });
}

#[test]
fn the_loss_of_one_node_of_three_loses_nothing_and_writing_goes_on() {
    let mut cluster = Cluster::start(3);
    run(async |runtime| {
        let storage = open(&cluster, &runtime, 3).await;
        write(&storage, 0, 80).await;
        for n in 0..3 {
            cluster.kill(n);
            write(&storage, 80 + n * 20, 100 + n * 20).await;
            read(&storage, 100 + n * 20).await;
            cluster.restart(n);
            // The node has its copies again before the next one goes.
            caught_up(&cluster).await;
        }
        storage.fold_all().await.unwrap();
        read(&storage, 140).await;
        storage.close().await;
        let storage = open(&cluster, &runtime, 3).await;
        read(&storage, 140).await;
        storage.close().await;
    });
}

/// Waits until every replica of the written streams is current.
async fn caught_up(cluster: &Cluster) {
    let clock = Clock::system();
    let nats = connect(cluster).await;
    for _ in 0..480 {
        let mut current = true;
        for name in ["JOURNAL", "PAGES", "KV_STATE", "KV_META"] {
            let cluster = match nats.stream(name).await {
                Ok(Some(info)) => info.cluster,
                _ => None,
            };
            current &= cluster.is_some_and(|cluster| {
                cluster.leader.is_some()
                    && cluster.replicas.len() == 2
                    && cluster.replicas.iter().all(|replica| replica.current && !replica.offline)
            });
        }
        if current {
            return;
        }
        clock.sleep(Duration::from_millis(250)).await;
    }
    panic!("the replicas do not catch up");
}
