//! The resolution of rights (contract, behaviour 2.3 and 2.4), a pure function of decisions.

use super::{Permission, Tier};
use crate::domain::{GroupId, RoomId};

/// What a decision rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    Allow,
    Deny,
}

/// Where a decision holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecisionScope {
    /// Everywhere.
    Server,
    Group(GroupId),
    Room(RoomId),
}

/// One stored decision of a role or a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub permission: Permission,
    pub scope: DecisionScope,
    pub ruling: Ruling,
}

/// Where a permission is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionScope {
    Server,
    Group(GroupId),
    Channel {
        room: RoomId,
        /// Its group; `None` only while the room is being created.
        group: Option<GroupId>,
    },
    Direct {
        /// Whether the principal takes part in it.
        participant: bool,
    },
}

/// Whose permission is checked.
#[derive(Debug, Clone)]
pub enum Principal {
    Human {
        /// Has the role `owner`.
        owner: bool,
        /// One list of decisions for the user itself and one for each of its named roles.
        named: Vec<Vec<Decision>>,
        everyone: Vec<Decision>,
    },
    /// A bot: it has neither `everyone` nor roles, and never more rights than its owner.
    Bot {
        own: Vec<Decision>,
        /// Its owner; `None` when that account was deleted.
        owner: Option<Box<Self>>,
    },
}

/// How specific a decision is to the checked scope; the variants are in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    Server,
    Group,
    Room,
}

/// Whether `principal` has `permission` at `scope`.
#[must_use]
pub fn resolve(principal: &Principal, permission: Permission, scope: PermissionScope) -> bool {
    let PermissionScope::Direct { participant } = scope else {
        return match principal {
            Principal::Bot { own, owner } => {
                matches!(nearest(own, permission, scope), Some((_, Ruling::Allow)))
                    && owner.as_ref().is_some_and(|owner| resolve(owner, permission, scope))
            }
            Principal::Human { .. } => decide(principal, permission, scope) == Some(Ruling::Allow),
        };
    };
    participant && in_direct(principal, permission)
}

/// The ruling for a person outside direct messages; `None` when no decision applies. For bots only
/// their own allows count.
#[must_use]
pub fn decide(
    principal: &Principal,
    permission: Permission,
    scope: PermissionScope,
) -> Option<Ruling> {
    let (named, everyone) = match principal {
        Principal::Human { owner: true, .. } => return Some(Ruling::Allow),
        Principal::Human { named, everyone, .. } => (named, everyone),
        Principal::Bot { .. } => {
            let allowed = resolve(principal, permission, scope);
            return allowed.then_some(Ruling::Allow);
        }
    };
    let mut allow = None;
    for decisions in named {
        match nearest(decisions, permission, scope) {
            Some((_, Ruling::Deny)) => return Some(Ruling::Deny),
            Some((specificity, Ruling::Allow)) => allow = allow.max(Some(specificity)),
            None => {}
        }
    }
    match nearest(everyone, permission, scope) {
        Some((denied, Ruling::Deny)) if allow < Some(denied) => Some(Ruling::Deny),
        Some((_, Ruling::Deny | Ruling::Allow)) => Some(Ruling::Allow),
        None => allow.map(|_| Ruling::Allow),
    }
}

/// A participant's rights in a direct message: reading, and everything the server does not deny.
fn in_direct(principal: &Principal, permission: Permission) -> bool {
    match permission {
        Permission::RoomList => true,
        Permission::MessagePost | Permission::MessageAttach | Permission::MessageReact => {
            match principal {
                Principal::Human { .. } => {
                    decide(principal, permission, PermissionScope::Server) != Some(Ruling::Deny)
                }
                Principal::Bot { .. } => resolve(principal, permission, PermissionScope::Server),
            }
        }
        _ => false,
    }
}

/// The nearest decision about `permission` that holds at `scope`.
fn nearest(
    decisions: &[Decision],
    permission: Permission,
    scope: PermissionScope,
) -> Option<(Specificity, Ruling)> {
    decisions
        .iter()
        .filter(|decision| decision.permission == permission)
        .filter_map(|decision| Some((specificity(decision, scope)?, decision.ruling)))
// Two decisions of one principal at one scope are never stored; if they were, the deny would count.
        .max_by_key(|(specificity, ruling)| (*specificity, *ruling == Ruling::Deny))
}

/// How near a decision is; `None` when it does not hold at the place.
fn specificity(decision: &Decision, scope: PermissionScope) -> Option<Specificity> {
    let tier = decision.permission.tier();
    match (decision.scope, scope) {
        (DecisionScope::Server, _) => Some(Specificity::Server),
        (DecisionScope::Group(group), PermissionScope::Group(here)) if tier != Tier::Server => {
            (group == here).then_some(Specificity::Group)
        }
        (DecisionScope::Group(group), PermissionScope::Channel { group: here, .. })
            if tier != Tier::Server =>
        {
            (Some(group) == here).then_some(Specificity::Group)
        }
        (DecisionScope::Room(room), PermissionScope::Channel { room: here, .. })
            if tier == Tier::Room =>
        {
            (room == here).then_some(Specificity::Room)
        }
        (DecisionScope::Group(_) | DecisionScope::Room(_), _) => None,
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
