//! The kill loop: writers post without pause while chatto, its nats-server, or both are killed at random
//! moments. Whatever was acknowledged must be there once, in each writer's order, after starts that
//! needed nobody's help. `CHATTO_TORTURE_ROUNDS` sets the rounds, `CHATTO_TORTURE_SEED` repeats a run.
#![expect(
    clippy::disallowed_methods,
    reason = "a random moment is a real one: writers pause, killers wait"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;

use crate::support::client::Account;
use crate::support::server::{Server, kill_quietly};
use crate::support::wait::until;

const WRITERS: usize = 8;
/// How long writers may go without one acknowledgement, restarts included.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(90);

#[test]
fn everything_acknowledged_survives_kills() {
    let rounds = number("CHATTO_TORTURE_ROUNDS").unwrap_or(20);
    let seed = number("CHATTO_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("kill loop: {rounds} rounds, CHATTO_TORTURE_SEED={seed}");
    let mut random = Rng::with_seed(seed);

    let mut server = Server::start();
    let owner = server.owner();
    let room = owner.room("general");
    let writers: Vec<Account> = (0..WRITERS)
        .map(|n| {
            let writer = owner.invite(&format!("writer{n}"));
            writer.join(&room);
            writer
        })
        .collect();
    let reader = owner.invite("reader");
    reader.join(&room);

    let stop = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    let written: Vec<Written> = std::thread::scope(|scope| {
        let running: Vec<_> = writers
            .iter()
            .map(|writer| scope.spawn(|| write(writer, &room, &stop, &acknowledged)))
            .collect();
        // Dropped by a failing round too, so that the writers end and the failure is seen.
        let stopping = StopOnDrop(&stop);
        for round in 0..rounds {
            let goal = acknowledged.load(Ordering::Relaxed) + 1 + random.u64(..150);
            until("writers make progress", PROGRESS_TIMEOUT, || {
                (acknowledged.load(Ordering::Relaxed) >= goal).then_some(())
            });
            std::thread::sleep(Duration::from_micros(random.u64(..20_000)));
            strike(&mut server, &mut random, round);
        }
        let goal = acknowledged.load(Ordering::Relaxed) + 50;
        until("writers make progress after the last kill", PROGRESS_TIMEOUT, || {
            (acknowledged.load(Ordering::Relaxed) >= goal).then_some(())
        });
        drop(stopping);
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    // The last kill may have been nats-server's: it has lost what was in memory, but log-ins must work.
    let reader = server.client().log_in(&reader.login);
    let history = reader.history(&room);
    eprintln!("kill loop: {} acknowledged", acknowledged.load(Ordering::Relaxed));
    for (writer, written) in writers.iter().zip(&written) {
        let seen: Vec<(&str, &str)> = history
            .iter()
            .filter(|message| message.author == writer.id)
            .map(|message| (message.body.as_str(), message.id.as_str()))
            .collect();
        check(&writer.login, written, &seen);
    }
}

#[test]
fn sixteen_clients_post_into_one_room_without_an_error() {
    const CLIENTS: usize = 16;
    const POSTS: usize = 20;
    let server = Server::start();
    let owner = server.owner();
    let room = owner.room("general");
    owner.join(&room);
    let errors: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (owner, room) = (&owner, &room);
                scope.spawn(move || {
                    (0..POSTS)
                        .filter_map(|k| {
                            let text = format!("{n} {k}");
                            owner.post(room, &text, &format!("at-once-{n}-{k}")).err()
                        })
                        .map(|error| format!("client {n}: {error:?}"))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(errors.is_empty(), "{} of {}: {errors:?}", errors.len(), CLIENTS * POSTS);
    let mut bodies = BTreeMap::new();
    for message in owner.history(&room) {
        *bodies.entry(message.body).or_insert(0) += 1;
    }
    assert_eq!(bodies.len(), CLIENTS * POSTS);
    assert!(bodies.values().all(|count| *count == 1), "{bodies:?}");
}

/// What one writer knows: the ids of its acknowledged messages, in order, and the text of one whose
/// answer never came.
struct Written {
    ids: Vec<String>,
    pending: Option<String>,
}

/// Posts `writer n` one after the other, each repeated with its own key until it is acknowledged.
fn write(account: &Account, room: &str, stop: &AtomicBool, acknowledged: &AtomicU64) -> Written {
    let mut ids = Vec::new();
    loop {
        let body = format!("{} {}", account.login, ids.len());
        let key = body.replace(' ', "-");
        loop {
            match account.post(room, &body, &key) {
                Ok(id) => {
                    ids.push(id);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(error) => assert!(error.may_pass(), "{body}: {error:?}"),
            }
            if stop.load(Ordering::Relaxed) {
                return Written { ids, pending: Some(body) };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if stop.load(Ordering::Relaxed) {
            return Written { ids, pending: None };
        }
    }
}

/// Kills chatto, nats-server, or both in either order, and starts chatto again where it died.
fn strike(server: &mut Server, random: &mut Rng, round: u64) {
    let nats = server.nats_pid();
    let what = random.usize(..4);
    eprintln!("round {round}: {}", ["chatto", "nats-server", "both", "both, chatto first"][what]);
    match (what, nats) {
        (1, Some(nats)) => return kill_quietly(nats),
        (2, Some(nats)) => {
            kill_quietly(nats);
            server.kill();
        }
        (3, Some(nats)) => {
            server.kill();
            kill_quietly(nats);
        }
        // Between two lives nats-server has no pid: chatto is what can be killed.
        _ => server.kill(),
    }
    server.run();
}

/// Every acknowledged message once and in order; the unacknowledged one at most once, at the end.
fn check(login: &str, written: &Written, seen: &[(&str, &str)]) {
    let bodies: Vec<&str> = seen.iter().map(|(body, _)| *body).collect();
    let mut wanted: Vec<String> = (0..written.ids.len()).map(|n| format!("{login} {n}")).collect();
    if seen.len() > wanted.len() {
        wanted.extend(written.pending.clone());
    }
    assert_eq!(bodies, wanted, "{login}: what a second client reads is not what was acknowledged");
    let ids: Vec<&str> = seen.iter().map(|(_, id)| *id).take(written.ids.len()).collect();
    assert_eq!(ids, written.ids, "{login}: an acknowledged id belongs to another message");
}

/// Ends the writers, also when the round panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A number from the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}
