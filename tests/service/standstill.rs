//! A process that stands still in the middle of a call, as in a suspended machine, while another one goes on.

use std::time::Duration;

use chatto::domain::RoomId;
use chatto::domain::timeline::{FactKind, RowKind};
use chatto::runtime::Runtime;
use chatto::service::{JoinFields, NewRoom, NewUser, PagePosition, RoomScope};

use super::{NatsServer, PASSWORD, World, pause_at, redeem, run};

/// More awaits than any of these calls has.
const AWAITS_MAX: u32 = 400;
/// Rarely, a call is not paused between its claim and the write that the claim is for, because the response arrives
/// while the request is sent; the series is then repeated.
const TRIALS_MAX: u32 = 20;

/// How a link ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Revoked,
    MakerDemoted,
    MakersPasswordSet,
}

/// The process that stands still, and the one that goes on.
async fn two(server: &NatsServer, runtime: &Runtime) -> (World, World) {
    (World::open_shared(server, runtime).await, World::open_shared(server, runtime).await)
}

async fn accounts(world: &World, login: &str) -> usize {
    let found = world.service.accounts().list(login, Default::default()).await;
    found.items.iter().filter(|one| one.user.login.eq_ignore_ascii_case(login)).count()
}

fn no_account_is_made_after(end: End) {
    let server = NatsServer::start();
    run(async |runtime| {
        let (still, other) = two(&server, &runtime).await;
        let boss = other.person("boss", Some("owner")).await;
        for awaits in 0..AWAITS_MAX {
            let (maker_login, login) = (format!("maker{awaits}"), format!("late{awaits}"));
            let maker = other.person(&maker_login, Some("owner")).await;
            let fields = JoinFields { role: Some("owner".to_owned()), ..JoinFields::default() };
            let link = other.service.links().join_link(&maker, fields).await.unwrap();
            let mut call = Box::pin(still.service.sign_up().redeem(redeem(&link.path, &login)));
            if pause_at(&mut call, awaits).await.is_some() {
                break;
            }
            let ended = match end {
                End::Revoked => {
                    other.service.links().revoke_join_link(&boss, &link.id).await.is_ok()
                }
                End::MakerDemoted => {
                    other.service.accounts().remove_role(&maker_login, "owner").await.unwrap();
                    true
                }
                End::MakersPasswordSet => {
                    other
                        .service
                        .accounts()
                        .set_password(&maker_login, "another password")
                        .await
                        .unwrap();
                    true
                }
            };
            let before = accounts(&other, &login).await;
            let redeemed = call.await;
            let after = accounts(&other, &login).await;
            if ended {
                assert_eq!(after, before, "{end:?} at await {awaits}: {redeemed:?}");
            } else {
                assert!(before == 1 && redeemed.is_ok(), "{end:?} at await {awaits}: {redeemed:?}");
            }
        }
        assert!(accounts(&other, "late1").await == 0, "some awaits come before the account");
        still.close().await;
        other.close().await;
    });
}

#[test]
fn a_revoked_link_makes_no_account() {
    no_account_is_made_after(End::Revoked);
}

#[test]
fn a_link_of_a_demoted_owner_makes_no_account() {
    no_account_is_made_after(End::MakerDemoted);
}

#[test]
fn a_link_of_an_owner_with_a_new_password_makes_no_account() {
    no_account_is_made_after(End::MakersPasswordSet);
}

/// Lets the other process believe that claims without a holder are orphaned, although this one lives.
async fn sweep_orphans(world: &World) {
    world.storage.barrier().await.unwrap();
    world.service.sweeper().sweep().await.unwrap();
    world.clock.advance_monotonic(Duration::from_secs(601));
    world.service.sweeper().sweep().await.unwrap();
}

/// Repeats a series of calls, paused at each of their awaits, until a claim was swept in it; it returns how many were.
async fn until_swept(mut series: impl AsyncFnMut(u32) -> u32) {
    for trial in 0..TRIALS_MAX {
        if series(trial).await > 0 {
            return;
        }
    }
    panic!("the claim was never swept");
}

#[test]
fn a_login_whose_claim_was_swept_is_had_by_one_account() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (still, other) = two(&server, &runtime).await;
        until_swept(async |trial| {
            let mut taken_back = 0;
            for awaits in 0..AWAITS_MAX {
                let login = format!("bob{trial}x{awaits}");
                let new = NewUser {
                    login: &login,
                    display_name: None,
                    email: None,
                    role: None,
                    password: PASSWORD,
                };
                let mut call = Box::pin(still.service.accounts().create(new));
                if pause_at(&mut call, awaits).await.is_some() {
                    break;
                }
                sweep_orphans(&other).await;
                let others = other.service.accounts().create(new).await;
                let own = call.await;
                assert!(others.is_ok() != own.is_ok(), "at await {awaits}: {others:?}, {own:?}");
                taken_back += u32::from(others.is_ok() && awaits > 0);
                assert_eq!(accounts(&other, &login).await, 1, "at await {awaits}");
                other.log_in(&login, PASSWORD).await.unwrap();
            }
            taken_back
        })
        .await;
        still.close().await;
        other.close().await;
    });
}

#[test]
fn a_name_whose_claim_was_swept_is_had_by_one_room() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (still, other) = two(&server, &runtime).await;
        let boss = other.person("boss", Some("owner")).await;
        until_swept(async |trial| {
            let mut taken_back = 0;
            for awaits in 0..AWAITS_MAX {
                let name = format!("plans {trial} {awaits}");
                let new = NewRoom { name: &name, description: "", group: "", universal: false };
                let mut call = Box::pin(still.service.rooms().create(&boss, new));
                if pause_at(&mut call, awaits).await.is_some() {
                    break;
                }
                sweep_orphans(&other).await;
                let others = other.service.rooms().create(&boss, new).await;
                let own = call.await;
                assert!(others.is_ok() != own.is_ok(), "at await {awaits}: {others:?}, {own:?}");
                taken_back += u32::from(others.is_ok() && awaits > 0);
                other.storage.barrier().await.unwrap();
                let rooms =
                    other.service.directory().list_rooms(&boss, RoomScope::All).await.unwrap();
                let named = rooms.iter().filter(|room| room.room.name == name).count();
                assert_eq!(named, 1, "at await {awaits}");
            }
            taken_back
        })
        .await;
        still.close().await;
        other.close().await;
    });
}

#[test]
fn rows_of_joining_and_leaving_alternate_however_many_call_at_once() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::start(&server, &runtime).await;
        let service = &world.service;
        let (ada, bob) =
            (world.person("ada", Some("owner")).await, world.person("bob", None).await);
        let general = world.room(&ada, "general").await;
        service.rooms().join(&ada, &general).await.unwrap();
        let room = RoomId::try_from(general.as_str()).unwrap();
        for _ in 0..60 {
            let calls = (
                futures_lite::future::zip(
                    service.rooms().join(&bob, &general),
                    service.rooms().leave(&bob, &general),
                ),
                futures_lite::future::zip(
                    service.rooms().join(&bob, &general),
                    service.rooms().leave(&bob, &general),
                ),
            );
            let ((a, b), (c, d)) = futures_lite::future::zip(calls.0, calls.1).await;
            a.unwrap();
            b.unwrap();
            c.unwrap();
            d.unwrap();
        }
        let head = world.storage.timelines().head(&room).await.unwrap();
        let mut is_member = false;
        for from in (0..head.rows).step_by(50) {
            let rows = world
                .storage
                .timelines()
                .rows(&room, from, (from + 50).min(head.rows))
                .await
                .unwrap();
            for row in rows.iter().filter(|row| row.actor == Some(bob.user)) {
                let joined = match &row.kind {
                    RowKind::Fact(fact) => fact.kind == FactKind::Joined,
                    other => panic!("{other:?}"),
                };
                assert_ne!(joined, is_member, "row {}", row.number);
                is_member = joined;
            }
        }
        let seen = service.timeline().page(&bob, &general, PagePosition::Newest, 1).await;
        assert_eq!(seen.is_ok(), is_member, "the last row matches the membership");
        world.close().await;
    });
}
