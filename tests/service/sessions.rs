//! Bearer tokens, cookies, CSRF, their end and log-out.

use std::time::Duration;

use chatto::crypto::Secret;
use chatto::service::{AuthenticateError, CallKind, Config, Credential};

use super::{NatsServer, PASSWORD, World, run, settings};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_log_in_gives_a_pair_that_log_out_ends() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        world.person("ada", None).await;
        let one = world.log_in("ada", PASSWORD).await.unwrap();
        let two = world.log_in("ada", PASSWORD).await.unwrap();
        assert!(one.token.starts_with("cht_AT"));
        let bearer = world.bearer(&one).await;
        let cookie = service
            .sessions()
            .authenticate(Credential::Cookie(&one.cookie), CallKind::Read)
            .await
            .unwrap();
        assert_eq!((bearer.user, bearer.id), (cookie.user, cookie.id));
        assert!(bearer.is_fresh(world.clock.unix_ms()));
        assert!(!bearer.is_fresh(world.clock.unix_ms() + 600_001));

        service.sessions().log_out(&[Credential::Cookie(&one.cookie)]).await.unwrap();
        for credential in [Credential::Bearer(&one.token), Credential::Cookie(&one.cookie)] {
            let error =
                service.sessions().authenticate(credential, CallKind::Read).await.unwrap_err();
            assert!(matches!(error, AuthenticateError::Required));
            assert_eq!(error.to_string(), "authentication required");
        }
        // One that has ended already is passed over.
        service.sessions().log_out(&[Credential::Bearer(&one.token)]).await.unwrap();
        world.bearer(&two).await;
        let both = [Credential::Bearer(&two.token), Credential::Cookie(&two.cookie)];
        service.sessions().log_out(&both).await.unwrap();
        for credential in both {
            service.sessions().authenticate(credential, CallKind::Read).await.unwrap_err();
        }
        world.close().await;
    });
}

#[test]
fn credentials_slide_and_end() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        world.person("ada", None).await;
        let handed = world.log_in("ada", PASSWORD).await.unwrap();
        let used = async || {
            world
                .service
                .sessions()
                .authenticate(Credential::Bearer(&handed.token), CallKind::Read)
                .await
        };
        assert!(!used().await.unwrap().renewed);
        world.clock.advance(DAY - Duration::from_secs(60));
        assert!(!used().await.unwrap().renewed, "at most once a day");
        world.clock.advance(Duration::from_secs(120));
        assert!(used().await.unwrap().renewed);
        assert!(!used().await.unwrap().renewed);
        world.clock.advance(DAY * 89);
        assert!(used().await.unwrap().renewed, "90 days count from the last use");
        world.clock.advance(DAY * 90);
        assert!(used().await.is_err(), "not used for 90 days");
        world.close().await;
    });
}

#[test]
fn a_new_password_ends_every_session() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        world.person("ada", None).await;
        let handed = world.log_in("ada", PASSWORD).await.unwrap();
        world.bearer(&handed).await;
        world.service.accounts().set_password("ADA", "a new password").await.unwrap();
        for credential in [Credential::Bearer(&handed.token), Credential::Cookie(&handed.cookie)] {
            assert!(
                world.service.sessions().authenticate(credential, CallKind::Read).await.is_err()
            );
        }
        assert!(world.log_in("ada", PASSWORD).await.is_err());
        world.log_in("ada", "a new password").await.unwrap();
        world.close().await;
    });
}

#[test]
fn tampered_and_foreign_credentials_do_not_count() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        world.person("ada", None).await;
        let handed = world.log_in("ada", PASSWORD).await.unwrap();
        let mut tampered = handed.cookie.clone();
        tampered.replace_range(4..5, if &tampered[4..5] == "A" { "B" } else { "A" });
        let long = "cht_AT".repeat(100);
        for credential in [
            Credential::Cookie(&tampered),
            Credential::Cookie(&handed.token),
            Credential::Cookie(""),
            Credential::Bearer(&handed.cookie),
            Credential::Bearer("cht_AT"),
            Credential::Bearer(""),
            Credential::Bearer(&long),
            Credential::Bearer(&handed.token[..handed.token.len() - 1]),
        ] {
            let error = world
                .service
                .sessions()
                .authenticate(credential, CallKind::Read)
                .await
                .unwrap_err();
            assert!(matches!(error, AuthenticateError::Required));
        }
        // A link's token is no credential, and a credential no link.
        assert!(world.service.sign_up().link_content(&handed.token).await.is_err());

        // Another secret key: every session ends, nothing breaks.
        let other = Secret::from("quite another secret key".to_owned());
        let other = Config { secret_key: other, ..settings() };
        let other = World::open(&server, &runtime, other).await;
        assert!(
            other
                .service
                .sessions()
                .authenticate(Credential::Bearer(&handed.token), CallKind::Read)
                .await
                .is_err()
        );
        other.close().await;
        world.close().await;
    });
}

#[test]
fn encrypted_cookies_work_and_hide_the_handle() {
    let server = NatsServer::start();
    run(async |runtime| {
        let secret = Some(Secret::from("a cookie encryption secret".to_owned()));
        let encrypting = Config { cookie_encryption_secret: secret, ..settings() };
        let world = World::open(&server, &runtime, encrypting).await;
        world.service.prepare().await.unwrap();
        world.person("ada", None).await;
        let handed = world.log_in("ada", PASSWORD).await.unwrap();
        world
            .service
            .sessions()
            .authenticate(Credential::Cookie(&handed.cookie), CallKind::Read)
            .await
            .unwrap();
        let plain = World::open(&server, &runtime, settings()).await;
        assert!(
            plain
                .service
                .sessions()
                .authenticate(Credential::Cookie(&handed.cookie), CallKind::Read)
                .await
                .is_err()
        );
        plain.close().await;
        world.close().await;
    });
}

#[test]
fn csrf_tokens_belong_to_one_session() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        world.person("ada", None).await;
        let one = world.log_in("ada", PASSWORD).await.unwrap();
        let two = world.log_in("ada", PASSWORD).await.unwrap();
        let (first, second) = (world.bearer(&one).await, world.bearer(&two).await);
        assert!(service.sessions().csrf_is_valid(&first, &one.csrf));
        assert!(!service.sessions().csrf_is_valid(&second, &one.csrf));
        assert!(service.sessions().csrf_is_valid(&second, &service.sessions().csrf_token(&second)));
        assert!(!service.sessions().csrf_is_valid(&first, ""));
        world.close().await;
    });
}
