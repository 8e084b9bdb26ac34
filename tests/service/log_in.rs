//! Log-in: errors, throttling, upgrade of hashes.

use std::net::IpAddr;
use std::time::Duration;

use chatto::crypto::password;
use chatto::domain::User;
use chatto::nats::Publish;
use chatto::service::{LogIn, LogInError};
use chatto::storage::RecordChange;
use futures_util::future::join_all;

use super::{HERE, NatsServer, PASSWORD, World, connect, run, settings};

#[test]
fn unknown_wrong_and_deleted_give_one_error() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let gone = world.person("gone", None).await;
        world.person("ada", None).await;
        let deleted = |user: Option<&User>| -> Result<_, std::convert::Infallible> {
            Ok(RecordChange::Put(User { deleted: true, ..User::new(user.unwrap().id) }))
        };
        world.storage.state().change::<User, _>(&gone.user, deleted).await.unwrap();
        for (identifier, typed) in [
            ("nobody", PASSWORD),
            ("ada", "wrong horse"),
            ("gone", PASSWORD),
            ("", ""),
            ("ada", ""),
        ] {
            let error = world.log_in(identifier, typed).await.unwrap_err();
            assert!(matches!(error, LogInError::Invalid), "{identifier}: {error:?}");
            assert_eq!(error.to_string(), "Invalid credentials");
        }
        world.log_in("ADA", PASSWORD).await.unwrap();
        world.close().await;
    });
}

#[test]
fn an_account_waits_after_five_failures_and_never_for_ever() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        // Another process shares the counters.
        let other = World::open(&server, &runtime, settings()).await;
        world.person("ada", None).await;
        let from = |n: u8| IpAddr::from([192, 0, 2, n]);
        for n in 0..5 {
            let service = if n % 2 == 0 { &world.service } else { &other.service };
            let attempt = LogIn { identifier: "ada", password: "wrong", address: from(n) };
            let error = service.sessions().log_in(attempt).await.unwrap_err();
            assert!(matches!(error, LogInError::Invalid), "{n}: {error:?}");
        }
        let right = LogIn { identifier: "Ada", password: PASSWORD, address: from(99) };
        let error = other.service.sessions().log_in(right).await.unwrap_err();
        let LogInError::Throttled { retry_after } = error else { panic!("{error:?}") };
        assert!(retry_after <= Duration::from_secs(1), "{retry_after:?}");
        other.clock.advance(Duration::from_secs(1));
        other.service.sessions().log_in(right).await.unwrap();
        // A success forgets the failures.
        let wrong = LogIn { password: "wrong", ..right };
        for _ in 0..5 {
            let error = other.service.sessions().log_in(wrong).await.unwrap_err();
            assert!(matches!(error, LogInError::Invalid));
        }
        // An unknown login waits just the same.
        for n in 0..6 {
            let attempt = LogIn { identifier: "nobody", password: "wrong", address: from(n) };
            let error = world.service.sessions().log_in(attempt).await.unwrap_err();
            assert_eq!(matches!(error, LogInError::Throttled { .. }), n == 5, "{n}");
        }
        world.close().await;
        other.close().await;
    });
}

#[test]
fn an_address_waits_after_twenty_failures_in_a_minute() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        world.person("ada", None).await;
        let attempt = async |identifier: &str, address: &str| {
            let address = address.parse().unwrap();
            world.service.sessions().log_in(LogIn { identifier, password: PASSWORD, address }).await
        };
        for n in 0..20 {
            let address = format!("2001:db8::{n:x}");
            let error = attempt(&format!("guess-{n}"), &address).await.unwrap_err();
            assert!(matches!(error, LogInError::Invalid));
        }
        let error = attempt("ada", "2001:db8::ffff").await.unwrap_err();
        assert!(matches!(error, LogInError::Throttled { .. }), "the same /64");
        attempt("ada", "2001:db8:0:1::1").await.unwrap();
        world.clock.advance(Duration::from_secs(60));
        attempt("ada", "2001:db8::ffff").await.unwrap();
        // Successes do not count.
        for _ in 0..25 {
            attempt("ada", "192.0.2.1").await.unwrap();
        }
        world.close().await;
    });
}

#[test]
fn guesses_at_once_do_not_pass_the_throttle_together() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        world.person("ada", None).await;
        let wrong = LogIn { identifier: "ada", password: "wrong", address: HERE };
        let calls: Vec<_> = (0..12).map(|_| world.service.sessions().log_in(wrong)).collect();
        let results = join_all(calls).await;
        let tried =
            results.iter().filter(|result| matches!(result, Err(LogInError::Invalid))).count();
        assert_eq!(tried, 5, "{results:?}");
        world.close().await;
    });
}

#[test]
fn a_log_in_upgrades_an_old_hash() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let ada = world.person("ada", None).await;
        let params = password::Params::for_memory(0);
        let stronger = chatto::service::Config { password_params: params, ..settings() };
        let world = World::open(&server, &runtime, stronger).await;
        let hash = || world.storage.state().read(|t| t.users[&ada.user].password_hash.clone());
        assert!(password::needs_rehash(&hash(), &params));
        world.log_in("ada", PASSWORD).await.unwrap();
        assert!(!password::needs_rehash(&hash(), &params));
        world.log_in("ada", PASSWORD).await.unwrap();
        world.close().await;
    });
}

#[test]
fn a_hash_that_cannot_be_upgraded_keeps_nobody_out() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let ada = world.person("ada", None).await;
        world.close().await;
        // A field of a newer program: this one must not write the record again.
        let nats = connect(&server.url()).await;
        let subject = format!("$KV.STATE.user.{}", ada.user);
        let stored = nats.leader_newest("KV_STATE", &subject).await.unwrap().unwrap().payload;
        let payload = [&stored[..], &[0xc2, 0x3e, 1, b'x']].concat().into();
        nats.publish(Publish { subject: &subject, payload, ..Publish::default() }).await.unwrap();
        let params = password::Params::for_memory(0);
        let stronger = chatto::service::Config { password_params: params, ..settings() };
        let world = World::open(&server, &runtime, stronger).await;
        world.log_in("ada", PASSWORD).await.unwrap();
        let hash = world.storage.state().read(|t| t.users[&ada.user].password_hash.clone());
        assert!(password::needs_rehash(&hash, &params), "the record is left alone");
        world.close().await;
    });
}

#[test]
fn password_log_in_can_be_off() {
    let server = NatsServer::start();
    run(async |runtime| {
        let off = chatto::service::Config { direct_login: false, ..settings() };
        let world = World::open(&server, &runtime, off).await;
        world.service.prepare().await.unwrap();
        let error = world.log_in("ada", PASSWORD).await.unwrap_err();
        assert!(matches!(error, LogInError::Disabled));
        assert!(!world.service.server().profile().direct_login);
        world.close().await;
    });
}
