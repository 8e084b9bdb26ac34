//! What the operator does with accounts, and the owner rule of addresses.

use chatto::service::{AccountError, Config, ManageAccountError, NewUser, PageRequest};

use super::{NatsServer, PASSWORD, World, run, settings};

fn new(login: &str) -> NewUser<'_> {
    NewUser { login, display_name: None, email: None, role: None, password: PASSWORD }
}

#[test]
fn accounts_are_made_listed_and_given_roles() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let made = NewUser {
            display_name: Some(" Ada L. "),
            email: Some("ada@example.com"),
            role: Some("admin"),
            ..new("Ada")
        };
        let made = service.accounts().create(made).await.unwrap();
        assert_eq!(made.user.display_name, "Ada L.");
        assert_eq!(made.roles, ["admin"]);
        service.accounts().create(new("bob")).await.unwrap();

        let same_address = NewUser { email: Some("ADA@example.com"), ..new("carol") };
        let error = service.accounts().create(same_address).await.unwrap_err();
        assert!(
            matches!(error, ManageAccountError::Account(AccountError::EmailTaken)),
            "{error:?}"
        );
        service.accounts().create(new("carol")).await.unwrap();
        let error = service.accounts().create(new("ADA")).await.unwrap_err();
        assert!(matches!(error, ManageAccountError::Account(AccountError::LoginTaken)));

        let listed = service.accounts().list("", PageRequest { limit: 2, offset: 1 }).await;
        let logins: Vec<&str> = listed.items.iter().map(|one| one.user.login.as_str()).collect();
        assert_eq!((logins, listed.total, listed.has_more), (vec!["bob", "carol"], 3, false));
        assert_eq!(service.accounts().list("example.com", PageRequest::default()).await.total, 1);

        let bob = service.accounts().add_role("BOB", "moderator").await.unwrap();
        assert_eq!(bob.roles, ["moderator"]);
        assert_eq!(
            service.accounts().add_role("bob", "moderator").await.unwrap().roles,
            ["moderator"]
        );
        assert!(service.accounts().remove_role("bob", "moderator").await.unwrap().roles.is_empty());
        for role in ["everyone", "nothing"] {
            let error = service.accounts().add_role("bob", role).await.unwrap_err();
            assert!(matches!(error, ManageAccountError::Account(AccountError::UnknownRole)));
        }
        let error = service.accounts().add_role("nobody", "admin").await.unwrap_err();
        assert!(matches!(error, ManageAccountError::UnknownUser));
        world.close().await;
    });
}

#[test]
fn a_verified_address_of_the_list_makes_an_owner() {
    let server = NatsServer::start();
    run(async |runtime| {
        let nobody = Config { owner_emails: Vec::new(), ..settings() };
        let world = World::open(&server, &runtime, nobody).await;
        world.service.prepare().await.unwrap();
        let boss = NewUser { email: Some("boss@EXAMPLE.com"), ..new("boss") };
        assert!(world.service.accounts().create(boss).await.unwrap().roles.is_empty());
        world.close().await;

        let world = World::start(&server, &runtime).await;
        let roles =
            || async { world.service.accounts().list("boss", PageRequest::default()).await };
        assert_eq!(roles().await.items[0].roles, ["owner"], "at start");
        let error = world.service.accounts().remove_role("boss", "owner").await.unwrap_err();
        assert!(matches!(error, ManageAccountError::ListedOwner));
        world.service.accounts().add_role("boss", "admin").await.unwrap();
        world.service.accounts().remove_role("boss", "admin").await.unwrap();
        world.close().await;
    });
}

#[test]
fn a_full_server_takes_its_first_owner_only() {
    let server = NatsServer::start();
    run(async |runtime| {
        let closed = Config { max_users: Some(0), ..settings() };
        let world = World::open(&server, &runtime, closed).await;
        world.service.prepare().await.unwrap();
        let error = world.service.accounts().create(new("ada")).await.unwrap_err();
        assert!(matches!(error, ManageAccountError::Account(AccountError::UsersFull)));
        let link = world.service.links().setup_link().await.unwrap();
        world.service.sign_up().redeem(super::redeem(&link.path, "boss")).await.unwrap();
        world.close().await;
    });
}
