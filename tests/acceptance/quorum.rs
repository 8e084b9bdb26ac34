//! A cluster that has lost its majority: the process says so, shows what it has, and refuses changes at once.

use std::time::Duration;

use chatto::runtime::Clock;

use super::external::reason;
use super::seeded;
use crate::support::client::CallError;
use crate::support::cluster::Cluster;
use crate::support::server::Server;
use crate::support::wait::until;

/// No call takes longer, whatever the cluster does.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// For what is promised within a second, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);
const KNOWN_WITHIN: Duration = Duration::from_secs(20);
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Runs a call, which must be answered in time.
fn timed<T>(limit: Duration, call: impl FnOnce() -> T) -> T {
    let clock = Clock::system();
    let began = clock.now();
    let answer = call();
    let took = clock.now() - began;
    assert!(took < limit, "answered only after {took:?}");
    answer
}

fn is_unavailable<T: std::fmt::Debug>(answer: &Result<T, CallError>) -> bool {
    answer.as_ref().is_err_and(|error| format!("{error:?}").contains("unavailable"))
}

#[test]
fn without_a_majority_all_is_read_and_changes_are_refused_at_once() {
    let mut cluster = Cluster::start(3);
    let mut server = Server::prepare();
    server.use_external(&cluster.urls().join(","));
    server.set("CHATTO_NATS_REPLICAS", "3");
    server.run();
    let owner = server.owner();
    let (room, mut history) = seeded(&owner);
    let never_seen = server.client().log_in("ada");
    for node in [1, 2] {
        cluster.kill(node);
    }
    let mut n = 0;
    until("no_quorum", KNOWN_WITHIN, || {
        n += 1;
        // Nobody knows yet: some of these wait for an election, and one may still have been stored.
        let posted = timed(ANSWERED_WITHIN, || owner.post(&room, "in between", &format!("b{n}")));
        assert!(posted.is_ok() || is_unavailable(&posted), "{posted:?}");
        (reason(&server)? == (503, "no_quorum".to_owned())).then_some(())
    });
    for n in 0..3 {
        let read = timed(AT_ONCE, || owner.try_history(&room));
        let read = read.unwrap_or_else(|error| panic!("{error:?}\n{}", server.log()));
        assert_eq!(read[..history.len()], history[..]);
        let refused = timed(AT_ONCE, || owner.post(&room, "refused", &format!("r{n}")));
        assert!(is_unavailable(&refused), "{refused:?}");
    }
    // A token that this process has never asked the store about counts for nothing, and is not refused for good.
    let unknown = timed(ANSWERED_WITHIN, || never_seen.try_history(&room));
    assert!(is_unavailable(&unknown), "{unknown:?}");

    for node in [1, 2] {
        cluster.restart(node);
    }
    let after =
        until("a change is accepted", BACK_WITHIN, || owner.post(&room, "after", "after").ok());
    until("ready", BACK_WITHIN, || (reason(&server)?.0 == 200).then_some(()));
    let now = never_seen.history(&room);
    assert!(!now.iter().any(|message| message.body == "refused"), "{now:?}");
    assert_eq!(now.iter().filter(|message| message.id == after).count(), 1);
    history.truncate(5);
    assert_eq!(now[..5], history[..], "what was acknowledged before");
    assert!(server.stop().success(), "{}", server.log());
}
