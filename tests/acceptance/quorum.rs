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
/// 15 s are promised; the rest is for a busy machine.
const KNOWN_WITHIN: Duration = Duration::from_secs(17);
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
    let (room, history) = seeded(&owner);
    let never_seen = server.client().log_in("ada");
    // For ten seconds, this one responds as the leader that it was.
    cluster.lead(0, &["KV_STATE".to_owned(), "JOURNAL".to_owned()]);
    // It must not respond so for tokens.
    cluster.lead(1, &["KV_AUTH_TOKENS".to_owned()]);
    owner.post(&room, "before", "before").unwrap();
    for node in [1, 2] {
        cluster.kill(node);
    }
    std::thread::scope(|scope| {
        // Nobody knows yet: it waits for an election.
        let posting =
            scope.spawn(|| timed(ANSWERED_WITHIN, || owner.post(&room, "in between", "between")));
        let asked = scope.spawn(|| timed(ANSWERED_WITHIN, || owner.try_history(&room)));
        until("no_quorum", KNOWN_WITHIN, || {
            (reason(&server)? == (503, "no_quorum".to_owned())).then_some(())
        });
        let posted = posting.join().unwrap();
        assert!(is_unavailable(&posted), "{posted:?}");
        let read = asked.join().unwrap();
        assert!(read.is_ok() || is_unavailable(&read), "{read:?}");
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
    // The stream of the tokens may still elect its leader.
    let now = until("all is read", BACK_WITHIN, || never_seen.try_history(&room).ok());
    assert!(!now.iter().any(|message| message.body == "refused"), "{now:?}");
    assert_eq!(now.iter().filter(|message| message.id == after).count(), 1);
    assert_eq!(now[..history.len()], history[..], "what was acknowledged before");
    assert!(server.stop().success(), "{}", server.log());
}
