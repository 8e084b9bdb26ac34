//! The sweep of files where several processes share NATS: its lease, moves of other processes, and records that cannot
//! be read.

use std::time::Duration;

use chatto::nats::Publish;
use chatto::storage::Storage;

use super::files::{state, upload};
use super::messages::two;
use super::{NatsServer, run};

const HOUR: Duration = Duration::from_secs(3600);

/// Damages the record of a file: afterwards it is the only one.
pub(super) async fn damage(storage: &Storage, subject: &str) {
    let nats = storage.nats();
    let stored = nats.leader_newest("FILES", subject).await.unwrap().unwrap();
    let damaged = Publish { subject, payload: "\u{1}damaged".into(), ..Publish::default() };
    nats.publish(damaged).await.unwrap();
    assert!(nats.erase("FILES", stored.sequence).await.unwrap());
}

#[test]
fn a_record_that_cannot_be_read_does_not_end_the_sweep_of_the_others() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, _, general) = two(&server, &runtime).await;
        let mut files = Vec::new();
        for _ in 0..3 {
            files.push(upload(&[&world.service], &ada, &general, b"bytes").await.id);
        }
        let subject = format!("files.{}.{}", files[1].group(), files[1]);
        damage(&world.storage, &subject).await;
        world.clock.advance(25 * HOUR);
        world.service.sweeper().sweep_files().await.unwrap();
        assert_eq!(state(&world, &files[0]).await, None);
        assert_eq!(state(&world, &files[2]).await, None);
        let nats = world.storage.nats();
        assert!(nats.leader_newest("FILES", &subject).await.unwrap().is_some(), "it is kept");
        world.close().await;
    });
}
