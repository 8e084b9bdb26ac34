//! Setup links and join links.

use std::time::Duration;

use chatto::service::{AccountError, JoinFields, LinkError, RedeemError, RedeemRequest};
use futures_util::future::join_all;

use super::{NatsServer, PASSWORD, World, redeem, run};

#[test]
fn the_setup_link_makes_one_owner() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let first = service.links().setup_link().await.unwrap();
        let link = service.links().setup_link().await.unwrap();

        let replaced = service.sign_up().redeem(redeem(&first.path, "ada")).await.unwrap_err();
        assert!(matches!(replaced, RedeemError::Invalid), "a newer link replaces the older");
        let token = link.path.strip_prefix("/setup#").unwrap();
        assert!(service.sign_up().link_content(token).await.unwrap().is_setup);

        let request = RedeemRequest {
            display_name: "Ada Lovelace",
            email: Some("ada@example.com"),
            ..redeem(&link.path, "Ada")
        };
        let handed = service.sign_up().redeem(request).await.unwrap();
        assert_eq!(handed.login, "Ada");
        let session = world.bearer(&handed).await;
        let viewer = service.users().viewer(&session).await.unwrap();
        assert_eq!(viewer.profile.display_name, "Ada Lovelace");
        assert!(viewer.has_verified_email && viewer.has_password);
        let me = service.users().get(&session, session.user.as_str()).unwrap();
        assert_eq!(me.roles, ["everyone", "owner"]);

        let used = service.sign_up().redeem(request).await.unwrap_err();
        assert!(matches!(used, RedeemError::Invalid), "single use");
        let used = service.sign_up().link_content(token).await.unwrap_err();
        assert_eq!(used.to_string(), "This link is invalid, used or expired");
        let error = service.links().setup_link().await.unwrap_err();
        assert!(matches!(error, LinkError::OwnerExists));
        assert_eq!(world.log_in("ADA", PASSWORD).await.unwrap().user, handed.user);
        world.log_in(" Ada@Example.com ", PASSWORD).await.unwrap();
        world.close().await;
    });
}

#[test]
fn a_setup_link_ends_when_there_is_an_owner_or_after_half_an_hour() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let late = service.links().setup_link().await.unwrap();
        world.clock.advance(Duration::from_secs(30 * 60));
        let error = service.sign_up().redeem(redeem(&late.path, "ada")).await.unwrap_err();
        assert!(matches!(error, RedeemError::Invalid));

        let link = service.links().setup_link().await.unwrap();
        world.person("boss", Some("owner")).await;
        let error = service.sign_up().redeem(redeem(&link.path, "ada")).await.unwrap_err();
        assert!(matches!(error, RedeemError::OwnerExists));
        world.close().await;
    });
}

#[test]
fn many_at_once_make_one_owner_and_one_guest() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let setup = world.service.links().setup_link().await.unwrap();
        let join = world.service.links().operator_join_link(JoinFields::default()).await.unwrap();
        for (link, name) in [(setup, "owner"), (join, "guest")] {
            let logins: Vec<String> = (0..6).map(|n| format!("{name}-{n}")).collect();
            let calls: Vec<_> = logins
                .iter()
                .map(|login| world.service.sign_up().redeem(redeem(&link.path, login)))
                .collect();
            let results = join_all(calls).await;
            let made = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(made, 1, "{results:?}");
        }
        let accounts = world.service.accounts().list("", Default::default()).await;
        assert_eq!(accounts.total, 2);
        world.close().await;
    });
}

#[test]
fn a_taken_login_leaves_the_link_usable() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        world.person("Bob", None).await;
        let link = world.service.links().operator_join_link(JoinFields::default()).await.unwrap();
        for taken in ["bob", "BOB", "admin", "Root", "owner", "everyone", "here"] {
            let error =
                world.service.sign_up().redeem(redeem(&link.path, taken)).await.unwrap_err();
            assert!(matches!(error, RedeemError::Account(AccountError::LoginTaken)), "{taken}");
            assert_eq!(error.to_string(), "Username is already taken");
        }
        for broken in ["b", "x_bot", "a b"] {
            let error =
                world.service.sign_up().redeem(redeem(&link.path, broken)).await.unwrap_err();
            assert!(matches!(error, RedeemError::Account(AccountError::Login(_))), "{broken}");
        }
        let short = RedeemRequest { password: "1234567", ..redeem(&link.path, "carol") };
        let error = world.service.sign_up().redeem(short).await.unwrap_err();
        assert!(matches!(error, RedeemError::Account(AccountError::Password(_))));
        world.service.sign_up().redeem(redeem(&link.path, "carol")).await.unwrap();
        world.close().await;
    });
}

#[test]
fn given_values_are_fixed_and_the_rest_is_entered() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let owner = world.person("boss", Some("owner")).await;
        let fields = JoinFields {
            login: Some("dora".to_owned()),
            display_name: Some("Dora".to_owned()),
            email: Some("dora@example.com".to_owned()),
            role: Some("moderator".to_owned()),
        };
        let link = service.links().join_link(&owner, fields.clone()).await.unwrap();
        let token = link.path.strip_prefix("/setup#").unwrap();
        let content = service.sign_up().link_content(token).await.unwrap();
        assert_eq!(content.login.as_deref(), Some("dora"));
        assert_eq!(content.role.as_deref(), Some("moderator"));
        let request = RedeemRequest {
            display_name: "Someone Else",
            email: Some("other@example.com"),
            ..redeem(&link.path, "other")
        };
        let handed = service.sign_up().redeem(request).await.unwrap();
        assert_eq!(handed.login, "dora");
        let account = &service.accounts().list("dora", Default::default()).await.items[0];
        assert_eq!(account.user.display_name, "Dora");
        assert_eq!(account.roles, ["moderator"]);
        assert_eq!(account.emails, [("dora@example.com".to_owned(), true)], "verified by an owner");

        // Typed by a guest: kept, but it proves nothing.
        let link = service.links().join_link(&owner, JoinFields::default()).await.unwrap();
        let typed = RedeemRequest { email: Some("Boss@example.com"), ..redeem(&link.path, "eve") };
        service.sign_up().redeem(typed).await.unwrap();
        let account = &service.accounts().list("eve", Default::default()).await.items[0];
        assert_eq!(account.emails, [("Boss@example.com".to_owned(), false)]);
        assert!(account.roles.is_empty(), "no owner by an address that is not verified");
        assert!(world.log_in("boss@example.com", PASSWORD).await.is_err());

        let taken = service.links().join_link(&owner, fields).await.unwrap_err();
        assert!(matches!(taken, LinkError::Account(AccountError::LoginTaken)));
        for role in ["everyone", "nobody"] {
            let fields = JoinFields { role: Some(role.to_owned()), ..JoinFields::default() };
            let error = service.links().join_link(&owner, fields).await.unwrap_err();
            assert!(matches!(error, LinkError::Account(AccountError::UnknownRole)), "{role}");
        }
        let admin = world.person("adm", Some("admin")).await;
        let error = service.links().join_link(&admin, JoinFields::default()).await.unwrap_err();
        assert!(matches!(error, LinkError::Denied), "owners only");
        world.close().await;
    });
}

#[test]
fn join_links_last_seven_days() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let before = world.clock.unix_ms();
        let link = world.service.links().operator_join_link(JoinFields::default()).await.unwrap();
        let (week, made) = (7 * 24 * 3600 * 1000, before..=world.clock.unix_ms());
        assert!(made.contains(&(link.expires_ms - week)));
        world.clock.advance(Duration::from_secs(7 * 24 * 3600));
        let error = world.service.sign_up().redeem(redeem(&link.path, "late")).await.unwrap_err();
        assert!(matches!(error, RedeemError::Invalid));
        for token in ["", "x", &"x".repeat(500)] {
            let request = RedeemRequest { token, ..redeem(&link.path, "late") };
            let error = world.service.sign_up().redeem(request).await.unwrap_err();
            assert!(matches!(error, RedeemError::Invalid));
        }
        world.close().await;
    });
}

#[test]
fn a_login_claimed_by_an_attempt_that_failed_comes_back() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let fields =
            JoinFields { email: Some("one@example.com".to_owned()), ..JoinFields::default() };
        let first = service.links().operator_join_link(fields.clone()).await.unwrap();
        let second = service.links().operator_join_link(fields).await.unwrap();
        service.sign_up().redeem(redeem(&first.path, "ada")).await.unwrap();
        let error = service.sign_up().redeem(redeem(&second.path, "bob")).await.unwrap_err();
        assert!(matches!(error, RedeemError::Account(AccountError::EmailTaken)), "{error:?}");
        service.sweeper().sweep().await.unwrap();
        world.clock.advance_monotonic(Duration::from_secs(601));
        service.sweeper().sweep().await.unwrap();
        let third = service.links().operator_join_link(JoinFields::default()).await.unwrap();
        service.sign_up().redeem(redeem(&third.path, "bob")).await.unwrap();
        // What is used stays claimed.
        world.clock.advance(Duration::from_secs(601));
        service.sweeper().sweep().await.unwrap();
        let claims = world.storage.state().read(|tables| tables.claims().count());
        assert_eq!(claims, 5, "two rooms, two logins, one address");
        world.close().await;
    });
}

#[test]
fn a_link_counts_no_longer_than_its_makers_power() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let fields = || JoinFields { role: Some("owner".to_owned()), ..JoinFields::default() };
        world.person("boss", Some("owner")).await;
        let by_command = service.links().operator_join_link(fields()).await.unwrap();

        let maker = world.person("mallory", Some("owner")).await;
        let demoted = service.links().join_link(&maker, fields()).await.unwrap();
        service.accounts().remove_role("mallory", "owner").await.unwrap();
        let token = demoted.path.strip_prefix("/setup#").unwrap();
        assert!(matches!(service.sign_up().link_content(token).await, Err(RedeemError::Invalid)));
        let error = service.sign_up().redeem(redeem(&demoted.path, "a1")).await.unwrap_err();
        assert!(matches!(error, RedeemError::Invalid), "{error:?}");
        assert!(service.accounts().list("a1", Default::default()).await.items.is_empty());

        // Whoever knew the password that was changed may have made it.
        let maker = world.person("trudy", Some("owner")).await;
        let stolen = service.links().join_link(&maker, fields()).await.unwrap();
        service.accounts().set_password("trudy", "another password").await.unwrap();
        let error = service.sign_up().redeem(redeem(&stolen.path, "a2")).await.unwrap_err();
        assert!(matches!(error, RedeemError::Invalid), "{error:?}");
        let again = world.bearer(&world.log_in("trudy", "another password").await.unwrap()).await;
        let fresh = service.links().join_link(&again, fields()).await.unwrap();
        service.sign_up().redeem(redeem(&fresh.path, "a3")).await.unwrap();

        // Nobody's session or role stands behind the operator's command.
        service.sign_up().redeem(redeem(&by_command.path, "a4")).await.unwrap();
        world.close().await;
    });
}

#[test]
fn owners_list_and_revoke_links_by_an_id_that_opens_nothing() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let owner = world.person("boss", Some("owner")).await;
        let fields = JoinFields { display_name: Some("Dora".to_owned()), ..JoinFields::default() };
        let first = service.links().join_link(&owner, fields).await.unwrap();
        world.clock.advance(Duration::from_secs(1));
        let second = service.links().operator_join_link(JoinFields::default()).await.unwrap();
        world.clock.advance(Duration::from_secs(1));
        let used = service.links().join_link(&owner, JoinFields::default()).await.unwrap();
        service.sign_up().redeem(redeem(&used.path, "guest")).await.unwrap();

        let links = service.links().join_links(&owner).await.unwrap();
        let ids: Vec<&str> = links.iter().map(|link| link.id.as_str()).collect();
        assert_eq!(
            ids,
            [second.id.as_str(), first.id.as_str()],
            "newest first, none that was used"
        );
        assert_eq!(links[0].maker, None);
        assert_eq!(links[1].maker, Some((owner.user, "boss".to_owned())));
        assert_eq!(links[1].content.display_name.as_deref(), Some("Dora"));
        assert_eq!(links[1].expires_ms, first.expires_ms);
        assert!(!first.path.contains(&first.id));
        assert!(service.sign_up().link_content(&first.id).await.is_err(), "an id is no token");

        let guest = world.bearer(&world.log_in("guest", PASSWORD).await.unwrap()).await;
        assert!(matches!(service.links().join_links(&guest).await, Err(LinkError::Denied)));
        let denied = service.links().revoke_join_link(&guest, &first.id).await;
        assert!(matches!(denied, Err(LinkError::Denied)));

        service.links().revoke_join_link(&owner, &first.id).await.unwrap();
        let error = service.sign_up().redeem(redeem(&first.path, "late")).await.unwrap_err();
        assert!(matches!(error, RedeemError::Invalid), "{error:?}");
        for id in [first.id.as_str(), used.id.as_str(), "", "0123"] {
            let unknown = service.links().revoke_join_link(&owner, id).await;
            assert!(matches!(unknown, Err(LinkError::Unknown)), "{id}");
        }
        service.links().operator_revoke_join_link(&second.id).await.unwrap();
        assert!(service.links().operator_join_links().await.unwrap().is_empty());
        world.close().await;
    });
}
