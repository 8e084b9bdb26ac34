//! Guessing at scale: what counters cost, and what the errors reveal.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use chatto::crypto::password;
use chatto::domain::User;
use chatto::limits::{
    COUNTER_MAX_BYTES, EMBEDDED_MEMORY_STORE_MAX_BYTES, LOGIN_ATTEMPTS_BURST,
    LOGIN_ATTEMPTS_PER_SECOND, LOGIN_PROCESSES_MAX, LOGIN_WAIT_MAX,
};
use chatto::runtime::Clock;
use chatto::service::{LogIn, LogInError, NewUser, PasswordHashError};
use chatto::storage::RecordChange;
use futures_util::future::join_all;
use prost::Message as _;

use super::{NatsServer, PASSWORD, World, run, settings};
use crate::support::nats::{publish_all, stream_info};
use crate::support::records::Counter;

const ADDRESS: &str = "someone@example.org";

/// Log-ins at a time: one in the slot, the others in its queue.
const AT_ONCE: u64 = 16;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect(name))
}

/// An address of a /64 of its own.
fn network(n: u64) -> IpAddr {
    Ipv6Addr::from((0x2001_0db8_0000_0000 + u128::from(n)) << 64).into()
}

/// An account with an address that has locked nobody out yet.
async fn with_address(world: &World) {
    let new = NewUser {
        login: "someone",
        display_name: None,
        email: Some(ADDRESS),
        role: None,
        password: PASSWORD,
    };
    world.service.accounts().create(new).await.unwrap();
}

/// Wrong passwords for this identifier until it has to wait.
async fn lock(world: &World, identifier: &str) {
    for n in 0..50 {
        let attempt = LogIn { identifier, password: "wrong horse", address: network(n) };
        match world.service.sessions().log_in(attempt).await {
            Err(LogInError::Throttled { .. }) => return,
            other => assert!(matches!(other, Err(LogInError::Invalid)), "{other:?}"),
        }
    }
    panic!("{identifier} never has to wait");
}

#[test]
fn a_locked_address_does_not_tell_which_login_name_it_belongs_to() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        with_address(&world).await;
        lock(&world, " SomeOne@Example.org ").await;
        for identifier in ["someone", "nobody"] {
            let error = world.log_in(identifier, "wrong horse").await.unwrap_err();
            assert!(matches!(error, LogInError::Invalid), "{identifier}: {error:?}");
        }
        // In whatever way the address is written, it is the same one.
        for identifier in [ADDRESS, "SOMEONE@EXAMPLE.ORG", "\tsomeone@example.org"] {
            let error = world.log_in(identifier, PASSWORD).await.unwrap_err();
            assert!(matches!(error, LogInError::Throttled { .. }), "{identifier}: {error:?}");
        }
        world.close().await;
    });
}

#[test]
fn a_password_that_the_operator_sets_ends_the_waits_of_login_and_address() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        with_address(&world).await;
        lock(&world, "someone").await;
        lock(&world, ADDRESS).await;
        world.service.accounts().set_password("someone", "a new horse").await.unwrap();
        world.log_in("someone", "a new horse").await.unwrap();
        world.log_in(ADDRESS, "a new horse").await.unwrap();
        world.close().await;
    });
}

#[test]
fn a_smaller_machine_does_not_weaken_stored_hashes() {
    let server = NatsServer::start();
    run(async |runtime| {
        let params = password::Params::for_memory(0);
        let strong = chatto::service::Config { password_params: params, ..settings() };
        let world = World::open(&server, &runtime, strong).await;
        world.service.prepare().await.unwrap();
        let ada = world.person("ada", None).await;
        world.close().await;
        let world = World::open(&server, &runtime, settings()).await;
        world.log_in("ada", PASSWORD).await.unwrap();
        let hash =
            world.storage.state().read(|tables| tables.users[&ada.user].password_hash.clone());
        assert!(!password::needs_rehash(&hash, &params), "{hash}");
        world.close().await;
    });
}

/// What one log-in spends on hashes.
async fn spent(world: &World, identifier: &str) -> u64 {
    // Nobody waits here, and every attempt counts anew.
    world.clock.advance(Duration::from_secs(3600));
    let before = password::spent();
    let error = world.log_in(identifier, "wrong horse").await.unwrap_err();
    assert!(matches!(error, LogInError::Invalid), "{identifier}: {error:?}");
    password::spent() - before
}

#[test]
fn a_wrong_log_in_costs_the_same_whomever_it_names() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        with_address(&world).await;
        let gone = world.person("gone", None).await;
        let delete = |user: Option<&User>| -> Result<_, std::convert::Infallible> {
            Ok(RecordChange::Put(User { deleted: true, ..user.unwrap().clone() }))
        };
        world.storage.state().change::<User, _>(&gone.user, delete).await.unwrap();
        let keyless = world.person("keyless", None).await;
        let empty = |user: Option<&User>| -> Result<_, std::convert::Infallible> {
            Ok(RecordChange::Put(User { password_hash: String::new(), ..user.unwrap().clone() }))
        };
        world.storage.state().change::<User, _>(&keyless.user, empty).await.unwrap();
        let cheap = spent(&world, "nobody").await;
        assert_eq!(cheap, 8, "one hash of 8 KiB in one pass");
        world.close().await;

        // A better machine: the accounts above keep their hashes until they log in.
        let params = password::Params::for_memory(0);
        let better = chatto::service::Config { password_params: params, ..settings() };
        let world = World::open(&server, &runtime, better).await;
        world.person("newer", None).await;
        let all = cheap + 2 * params.memory_bytes() / 1024;
        for name in ["nobody", "someone", ADDRESS, "gone", "keyless", "newer", "a@example.org"] {
            assert_eq!(spent(&world, name).await, all, "{name}");
        }
        world.close().await;
        // And back on a smaller one.
        let world = World::open(&server, &runtime, settings()).await;
        for name in ["nobody", "someone", "newer"] {
            assert_eq!(spent(&world, name).await, all, "{name}");
        }
        world.close().await;
    });
}

async fn messages(server: &NatsServer, stream: &str) -> (u64, u64, u64) {
    let nats = crate::storage::connect(&server.url()).await;
    let state = stream_info(&nats, stream).await.unwrap().state;
    (state.messages, state.last_sequence, state.bytes)
}

/// Puts counters of other names into a stream, as many attempts would.
fn flood(server: &NatsServer, kind: &str, count: u64) {
    let now = Clock::system().unix_ms();
    let counter = Counter { count: 1, window_ms: now, blocked_until_ms: now };
    let payload = counter.encode_to_vec();
    // nats-server queues a bounded number of messages for a stream.
    for first in (0..count).step_by(1_000) {
        let names = first..count.min(first + 1_000);
        let counters = names.map(|n| (format!("counter.{kind}.{n:032x}"), payload.clone()));
        publish_all(server.port(), counters);
    }
}

/// Waits until the stream has seen so many messages more.
async fn flooded(server: &NatsServer, stream: &str, upto: u64) {
    let clock = Clock::system();
    let wait = async {
        while messages(server, stream).await.1 < upto {
            clock.sleep(Duration::from_millis(50)).await;
        }
    };
    clock.timeout(Duration::from_secs(60), wait).await.expect("the flood has come in");
}

#[test]
fn a_counter_outlives_its_longest_wait_under_the_largest_flood() {
    let server = NatsServer::start_with_memory(EMBEDDED_MEMORY_STORE_MAX_BYTES);
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        world.person("ada", None).await;
        // As long as a wait gets.
        let mut wait = Duration::ZERO;
        for n in 0..200 {
            let attempt = LogIn { identifier: "ada", password: "wrong", address: network(n) };
            match world.service.sessions().log_in(attempt).await {
                Err(LogInError::Throttled { retry_after }) => {
                    wait = retry_after;
                    if wait > LOGIN_WAIT_MAX - Duration::from_secs(10) {
                        break;
                    }
                    world.clock.advance(retry_after);
                }
                other => assert!(matches!(other, Err(LogInError::Invalid)), "{other:?}"),
            }
        }
        assert!(wait > LOGIN_WAIT_MAX - Duration::from_secs(10), "{wait:?}");
        // What all processes can count meanwhile, with a name and an address of their own each.
        let steady = u64::from(LOGIN_ATTEMPTS_PER_SECOND) * LOGIN_WAIT_MAX.as_secs();
        let most = (steady + u64::from(LOGIN_ATTEMPTS_BURST)) * LOGIN_PROCESSES_MAX;
        let before = messages(&server, "LOGIN_COUNTERS").await.1;
        flood(&server, "login", most);
        flooded(&server, "LOGIN_COUNTERS", before + most).await;
        let before = messages(&server, "ADDRESS_COUNTERS").await.1;
        flood(&server, "address", 40_000);
        flooded(&server, "ADDRESS_COUNTERS", before + 40_000).await;
        assert_eq!(messages(&server, "ADDRESS_COUNTERS").await.0, 16_384);
        let error = world.log_in("ada", PASSWORD).await.unwrap_err();
        let LogInError::Throttled { retry_after } = error else { panic!("{error:?}") };
        assert!(retry_after > LOGIN_WAIT_MAX - Duration::from_secs(120), "{retry_after:?}");
        world.close().await;
    });
}

#[test]
fn an_attempt_that_waits_or_finds_no_place_in_the_queue_writes_nothing() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        lock(&world, "nobody").await;
        let streams = ["LOGIN_COUNTERS", "ADDRESS_COUNTERS"];
        let before = [messages(&server, streams[0]).await, messages(&server, streams[1]).await];
        for n in 0..20 {
            let attempt = LogIn { identifier: "nobody", password: "wrong", address: network(n) };
            let error = world.service.sessions().log_in(attempt).await.unwrap_err();
            assert!(matches!(error, LogInError::Throttled { .. }), "{error:?}");
        }
        let after = [messages(&server, streams[0]).await, messages(&server, streams[1]).await];
        assert_eq!(before, after);

        // More at once than slot and queue take.
        let names: Vec<_> = (0..60).map(|n| format!("guess-{n}")).collect();
        let calls: Vec<_> = names
            .iter()
            .zip(100..)
            .map(|(identifier, n)| {
                let address = network(n);
                world.service.sessions().log_in(LogIn { identifier, password: "wrong", address })
            })
            .collect();
        let results = join_all(calls).await;
        let tried = results.iter().filter(|result| matches!(result, Err(LogInError::Invalid)));
        let busy = |result: &Result<_, LogInError>| {
            matches!(result, Err(LogInError::Password(PasswordHashError::Busy)))
        };
        let (tried, busy) = (tried.count(), results.iter().filter(|one| busy(one)).count());
        assert!(tried + busy == 60 && busy > 0, "{results:?}");
        let counted = messages(&server, streams[0]).await.0 - before[0].0;
        assert_eq!(counted, tried as u64, "attempts that were not made are not counted");
        world.close().await;
    });
}

#[test]
fn a_right_password_leaves_no_counter_and_no_marker() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        world.person("ada", None).await;
        for _ in 0..3 {
            world.log_in("ada", "wrong horse").await.unwrap_err();
        }
        assert_eq!(messages(&server, "LOGIN_COUNTERS").await.0, 1);
        world.log_in("ada", PASSWORD).await.unwrap();
        assert_eq!(messages(&server, "LOGIN_COUNTERS").await.0, 0);
        world.close().await;
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how fast is a matter of the clock on the wall")]
fn a_process_counts_no_faster_than_its_pace() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        // The whole burst, whatever was taken before.
        world.clock.advance_monotonic(Duration::from_secs(60));
        let began = std::time::Instant::now();
        for n in 0..u64::from(LOGIN_ATTEMPTS_BURST + 2 * LOGIN_ATTEMPTS_PER_SECOND) {
            let identifier = &format!("guess-{n}");
            let attempt = LogIn { identifier, password: "wrong", address: network(n) };
            world.service.sessions().log_in(attempt).await.unwrap_err();
        }
        assert!(began.elapsed() > Duration::from_millis(1_900), "{:?}", began.elapsed());
        world.close().await;
    });
}

/// `make guesses` makes all 100,000 attempts; otherwise most of them are counters that are put there.
#[test]
fn a_hundred_thousand_guesses_leave_room_for_the_right_password() {
    const ALL: u64 = 100_000;
    let attempts = number("CHATTO_GUESSES", 3_000).min(ALL);
    let server = NatsServer::start_with_memory(EMBEDDED_MEMORY_STORE_MAX_BYTES);
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        world.person("ada", None).await;
        let (_, before, _) = messages(&server, "LOGIN_COUNTERS").await;
        flood(&server, "login", ALL - attempts);
        flooded(&server, "LOGIN_COUNTERS", before + ALL - attempts).await;
        let (_, before, _) = messages(&server, "ADDRESS_COUNTERS").await;
        flood(&server, "address", ALL - attempts);
        flooded(&server, "ADDRESS_COUNTERS", before + ALL - attempts).await;
        for first in (0..attempts).step_by(AT_ONCE as usize) {
            // Attempts keep a pace by this clock, and nothing else here goes by it.
            world.clock.advance_monotonic(Duration::from_secs(1));
            let names: Vec<_> =
                (first..attempts.min(first + AT_ONCE)).map(|n| (n, format!("guess-{n}"))).collect();
            let calls: Vec<_> = names
                .iter()
                .map(|(n, identifier)| {
                    let address = network(*n);
                    world.service.sessions().log_in(LogIn {
                        identifier,
                        password: "wrong",
                        address,
                    })
                })
                .collect();
            for result in join_all(calls).await {
                assert!(matches!(result, Err(LogInError::Invalid)), "after {first}: {result:?}");
            }
        }
        world.log_in("ada", PASSWORD).await.unwrap();
        assert!(!world.storage.is_memory_full());
        for (stream, most) in [("LOGIN_COUNTERS", 65_536), ("ADDRESS_COUNTERS", 16_384)] {
            let (count, _, bytes) = messages(&server, stream).await;
            assert!(count <= most && count + 2 > most, "{stream}: {count}");
            assert!(bytes <= count * COUNTER_MAX_BYTES.unsigned_abs(), "{stream}: {bytes} bytes");
        }
        let resident = crate::support::proc::number(server.pid(), "status", "VmRSS:");
        eprintln!("nats-server takes {resident} KiB");
        world.close().await;
    });
}
