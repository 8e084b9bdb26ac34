//! Tables for every example and rule of behaviour 2.3 and 2.4, and laws over random decisions.

use proptest::prelude::*;

use super::*;

fn group() -> GroupId {
    GroupId::from_random([1; 16])
}

fn room() -> RoomId {
    RoomId::from_random([2; 16])
}

fn here() -> PermissionScope {
    PermissionScope::Channel { room: room(), group: Some(group()) }
}

const POST: Permission = Permission::MessagePost;

fn allow(scope: DecisionScope) -> Decision {
    Decision { permission: POST, scope, ruling: Ruling::Allow }
}

fn deny(scope: DecisionScope) -> Decision {
    Decision { permission: POST, scope, ruling: Ruling::Deny }
}

fn human(named: &[&[Decision]], everyone: &[Decision]) -> Principal {
    Principal::Human {
        owner: false,
        named: named.iter().map(|one| one.to_vec()).collect(),
        everyone: everyone.to_vec(),
    }
}

fn owner() -> Principal {
    Principal::Human { owner: true, named: vec![], everyone: vec![deny(DecisionScope::Server)] }
}

#[test]
fn the_examples_of_the_contract() {
    let (server, in_room) = (DecisionScope::Server, DecisionScope::Room(room()));
    for (name, principal, expected) in [
        ("everyone deny, admin allow", human(&[&[allow(server)]], &[deny(server)]), true),
        (
            "room: everyone deny; server: admin allow",
            human(&[&[allow(server)]], &[deny(in_room)]),
            false,
        ),
        (
            "server: admin allow, suspended deny",
            human(&[&[allow(server)], &[deny(server)]], &[]),
            false,
        ),
        (
            "server: role deny; room: same role allow",
            human(&[&[deny(server), allow(in_room)]], &[]),
            true,
        ),
    ] {
        assert_eq!(resolve(&principal, POST, here()), expected, "{name}");
    }
}

#[test]
fn every_rule() {
    let (server, in_group, in_room) =
        (DecisionScope::Server, DecisionScope::Group(group()), DecisionScope::Room(room()));
    for (name, principal, expected) in [
        ("nothing decides", human(&[], &[]), false),
        ("everyone allow", human(&[], &[allow(server)]), true),
        ("everyone deny", human(&[], &[deny(server)]), false),
        ("own allow alone", human(&[&[allow(server)]], &[]), true),
        (
            "own deny against everyone's nearer allow",
            human(&[&[deny(server)]], &[allow(in_room)]),
            false,
        ),
        (
            "deny nearer than another role's allow",
            human(&[&[allow(server)], &[deny(in_room)]], &[]),
            false,
        ),
        (
            "deny farther than another role's allow",
            human(&[&[allow(in_room)], &[deny(server)]], &[]),
            false,
        ),
        ("group is nearer than server", human(&[&[deny(server), allow(in_group)]], &[]), true),
        ("room is nearer than group", human(&[&[allow(in_group), deny(in_room)]], &[]), false),
        (
            "allow of the same scope beats everyone",
            human(&[&[allow(in_room)]], &[deny(in_room)]),
            true,
        ),
        ("nearer allow beats everyone", human(&[&[allow(in_room)]], &[deny(in_group)]), true),
        (
            "nearest of two allows counts",
            human(&[&[allow(server)], &[allow(in_room)]], &[deny(in_group)]),
            true,
        ),
        ("everyone's nearest counts", human(&[], &[deny(server), allow(in_group)]), true),
        ("owner", owner(), true),
    ] {
        assert_eq!(resolve(&principal, POST, here()), expected, "{name}");
    }
}

#[test]
fn decisions_of_other_places_do_not_count() {
    let other_room = DecisionScope::Room(RoomId::from_random([9; 16]));
    let other_group = DecisionScope::Group(GroupId::from_random([9; 16]));
    for scope in [other_room, other_group] {
        assert!(!resolve(&human(&[&[allow(scope)]], &[]), POST, here()));
    }
    let in_room = human(&[&[allow(DecisionScope::Room(room()))]], &[]);
    assert!(!resolve(&in_room, POST, PermissionScope::Server));
    assert!(!resolve(&in_room, POST, PermissionScope::Group(group())));
    let in_group = human(&[&[allow(DecisionScope::Group(group()))]], &[]);
    assert!(resolve(&in_group, POST, PermissionScope::Group(group())));
    assert!(!resolve(&in_group, POST, PermissionScope::Server));
    let half_made = PermissionScope::Channel { room: room(), group: None };
    assert!(!resolve(&in_group, POST, half_made));
}

#[test]
fn a_decision_below_the_tier_of_its_permission_does_not_count() {
    let at = |permission, scope| {
        let decision = Decision { permission, scope, ruling: Ruling::Allow };
        resolve(&human(&[&[decision]], &[]), permission, here())
    };
    assert!(at(Permission::RoomCreate, DecisionScope::Group(group())));
    assert!(!at(Permission::RoomCreate, DecisionScope::Room(room())));
    assert!(at(Permission::ServerManage, DecisionScope::Server));
    assert!(!at(Permission::ServerManage, DecisionScope::Group(group())));
    assert!(!at(Permission::ServerManage, DecisionScope::Room(room())));
}

#[test]
fn direct_messages() {
    let scope = |participant| PermissionScope::Direct { participant };
    let plain = human(&[], &[]);
    let denied = human(&[], &[deny(DecisionScope::Server)]);
    let excepted = human(&[&[allow(DecisionScope::Server)]], &[deny(DecisionScope::Server)]);
    assert!(resolve(&plain, POST, scope(true)), "undecided counts as allowed");
    assert!(!resolve(&denied, POST, scope(true)));
    assert!(resolve(&excepted, POST, scope(true)));
    for principal in [&plain, &excepted, &owner()] {
        for permission in Permission::ALL {
            assert!(
                !resolve(principal, permission, scope(false)),
                "strangers: {}",
                permission.name()
            );
        }
    }
    for principal in [&plain, &owner()] {
        for permission in Permission::ALL {
            let expected = matches!(
                permission,
                Permission::RoomList
                    | Permission::MessagePost
                    | Permission::MessageAttach
                    | Permission::MessageReact
            );
            assert_eq!(
                resolve(principal, permission, scope(true)),
                expected,
                "{}",
                permission.name()
            );
        }
    }
}

#[test]
fn bots_need_their_own_allow_and_their_owners_right() {
    let bot = |own: &[Decision], owner: Option<Principal>| Principal::Bot {
        own: own.to_vec(),
        owner: owner.map(Box::new),
    };
    let may = human(&[], &[allow(DecisionScope::Server)]);
    let may_not = human(&[], &[]);
    let granted = [allow(DecisionScope::Server)];
    for (name, principal, expected) in [
        ("no allow", bot(&[], Some(may.clone())), false),
        ("both", bot(&granted, Some(may.clone())), true),
        ("in the room", bot(&[allow(DecisionScope::Room(room()))], Some(may.clone())), true),
        ("owner may not", bot(&granted, Some(may_not)), false),
        ("owner is the server's owner", bot(&granted, Some(owner())), true),
        ("owner gone", bot(&granted, None), false),
    ] {
        assert_eq!(resolve(&principal, POST, here()), expected, "{name}");
    }
    let direct = PermissionScope::Direct { participant: true };
    assert!(!resolve(&bot(&[], Some(may.clone())), POST, direct), "bots need a grant in DMs too");
    assert!(resolve(&bot(&granted, Some(may)), POST, direct));
}

fn decisions() -> impl Strategy<Value = Vec<Decision>> {
    let scope = prop_oneof![
        Just(DecisionScope::Server),
        Just(DecisionScope::Group(group())),
        Just(DecisionScope::Room(room()))
    ];
    prop::collection::vec(
        (scope, any::<bool>())
            .prop_map(|(scope, yes)| if yes { allow(scope) } else { deny(scope) }),
        0..4,
    )
}

proptest! {
    #[test]
    fn owners_may_everything_outside_direct_messages(
        named in prop::collection::vec(decisions(), 0..3),
        everyone in decisions(),
    ) {
        let principal = Principal::Human { owner: true, named, everyone };
        for permission in Permission::ALL {
            prop_assert!(resolve(&principal, permission, here()));
        }
    }

    #[test]
    fn one_more_role_that_denies_never_gives_a_right(
        named in prop::collection::vec(decisions(), 0..3),
        everyone in decisions(),
    ) {
        let before = Principal::Human { owner: false, named: named.clone(), everyone: everyone.clone() };
        let mut more = named;
        more.push(vec![deny(DecisionScope::Server)]);
        let after = Principal::Human { owner: false, named: more, everyone };
        prop_assert!(!resolve(&after, POST, here()));
        prop_assert!(resolve(&before, POST, here()) || !resolve(&after, POST, here()));
    }

    #[test]
    fn the_order_of_roles_and_decisions_does_not_matter(
        named in prop::collection::vec(decisions(), 0..4),
        everyone in decisions(),
    ) {
        let mut turned: Vec<Vec<Decision>> = named.clone();
        turned.reverse();
        turned.iter_mut().for_each(|list| list.reverse());
        let everyone_turned = everyone.iter().rev().copied().collect();
        let a = Principal::Human { owner: false, named, everyone };
        let b = Principal::Human { owner: false, named: turned, everyone: everyone_turned };
        prop_assert_eq!(resolve(&a, POST, here()), resolve(&b, POST, here()));
    }
}
