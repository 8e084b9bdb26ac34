//! A replica that lags: it answers reads with what is long outdated, as any replica may answer them.

use chatto::nats::Nats;

use super::replicas::{connect_to, open_over, read, write};
use super::{room, run};
use crate::support::cluster::Cluster;

const NODES: usize = 3;
/// More than a page.
const ROWS: usize = 70;
/// Direct gets of which the one node of three has certainly answered some.
const ASKED: usize = 60;

/// The subject of the journal that is written.
fn subject() -> String {
    format!("journal.{}", room(1))
}

/// Whether direct gets are answered by a replica that does not have this sequence of the journal.
async fn some_lag(nats: &Nats, newest: u64) -> bool {
    for _ in 0..ASKED {
        let found = nats.newest("JOURNAL", &subject()).await.unwrap();
        if found.is_none_or(|found| found.sequence < newest) {
            return true;
        }
    }
    false
}

#[test]
fn a_replica_that_lags_hides_nothing_that_is_acknowledged() {
    let cluster = Cluster::start_gated(NODES);
    let urls = cluster.urls();
    let quick = || connect_to(vec![urls[0].clone()]);
    let slow = || connect_to(vec![urls[NODES - 1].clone()]);
    run(async |runtime| {
        let writer = open_over(quick().await, &runtime, NODES).await;
        write(&writer, 0, 1).await;
        cluster.lead_elsewhere(&chatto::storage::stream_names());
        let reader = open_over(slow().await, &runtime, NODES).await;
        read(&reader, 1).await;
        let (probe, newcomer) = (slow().await, slow().await);

        let held = cluster.hold_last();
        write(&writer, 1, ROWS).await;
        writer.fold_all().await.unwrap();
        write(&writer, ROWS, ROWS + 10).await;
        let newest = probe.leader_newest("JOURNAL", &subject()).await.unwrap().unwrap().sequence;
        assert!(some_lag(&probe, newest).await, "no replica lags");
        read(&reader, ROWS + 10).await;
        let newcomer = open_over(newcomer, &runtime, NODES).await;
        read(&newcomer, ROWS + 10).await;
        assert!(some_lag(&probe, newest).await, "it did not lag all the while");
        drop(held);

        for storage in [newcomer, reader, writer] {
            assert!(!storage.is_damaged());
            storage.close().await;
        }
    });
}
