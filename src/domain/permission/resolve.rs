//! The one resolution of rights (contract, behaviour 2.3 and 2.4), pure over decisions.

use super::{Permission, Tier};
use crate::domain::{GroupId, RoomId};

/// What a decision says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The permission is given.
    Allow,
    /// The permission is withheld.
    Deny,
}

/// Where a decision holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Server,
    /// In the rooms of one group.
    Group(GroupId),
    /// In one room.
    Room(RoomId),
}

/// One stored decision of a role or a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What is decided.
    pub permission: Permission,
    /// Where.
    pub scope: Scope,
    /// How.
    pub effect: Effect,
}

/// Where a right is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The server as a whole.
    Server,
    /// A group of rooms.
    Group(GroupId),
    /// A channel and the group it is in.
    Channel {
        /// The channel.
        room: RoomId,
        /// Its group; `None` only while a half-made room has none.
        group: Option<GroupId>,
    },
    /// A direct message.
    Direct {
        /// Whether the subject takes part in it.
        participant: bool,
    },
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Subject {
    /// A person.
    Human {
        /// Has the role `owner`.
        owner: bool,
        /// The decisions of the user itself and of each of its named roles, a list for each.
        named: Vec<Vec<Decision>>,
        /// The decisions of `everyone`.
        everyone: Vec<Decision>,
    },
    /// A bot: neither `everyone` nor roles, and never more than its owner has.
    Bot {
        /// The bot's own decisions.
        own: Vec<Decision>,
        /// Its owner; `None` when that account is gone.
        owner: Option<Box<Self>>,
    },
}

/// How near a decision is to the place; the order of the variants is the order of nearness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Server,
    Group,
    Room,
}

/// Whether `subject` has `permission` at `place`.
#[must_use]
pub fn resolve(subject: &Subject, permission: Permission, place: Place) -> bool {
    let Place::Direct { participant } = place else {
        return match subject {
            Subject::Bot { own, owner } => {
                matches!(nearest(own, permission, place), Some((_, Effect::Allow)))
                    && owner.as_ref().is_some_and(|owner| resolve(owner, permission, place))
            }
            Subject::Human { .. } => decide(subject, permission, place) == Some(Effect::Allow),
        };
    };
    participant && in_direct(subject, permission)
}

/// What decides for a person outside direct messages: `None` when nothing does. Bots are decided by
/// their own allows only.
#[must_use]
pub fn decide(subject: &Subject, permission: Permission, place: Place) -> Option<Effect> {
    let (named, everyone) = match subject {
        Subject::Human { owner: true, .. } => return Some(Effect::Allow),
        Subject::Human { named, everyone, .. } => (named, everyone),
        Subject::Bot { .. } => {
            let allowed = resolve(subject, permission, place);
            return allowed.then_some(Effect::Allow);
        }
    };
    let mut allow = None;
    for decisions in named {
        match nearest(decisions, permission, place) {
            Some((_, Effect::Deny)) => return Some(Effect::Deny),
            Some((nearness, Effect::Allow)) => allow = allow.max(Some(nearness)),
            None => {}
        }
    }
    match nearest(everyone, permission, place) {
        Some((denied, Effect::Deny)) if allow < Some(denied) => Some(Effect::Deny),
        Some((_, Effect::Deny | Effect::Allow)) => Some(Effect::Allow),
        None => allow.map(|_| Effect::Allow),
    }
}

/// A participant's rights in a direct message: reading, and what the server does not deny.
fn in_direct(subject: &Subject, permission: Permission) -> bool {
    match permission {
        Permission::RoomList => true,
        Permission::MessagePost | Permission::MessageAttach | Permission::MessageReact => {
            match subject {
                Subject::Human { .. } => {
                    decide(subject, permission, Place::Server) != Some(Effect::Deny)
                }
                Subject::Bot { .. } => resolve(subject, permission, Place::Server),
            }
        }
        _ => false,
    }
}

/// The nearest decision about `permission` that holds at `place`.
fn nearest(
    decisions: &[Decision],
    permission: Permission,
    place: Place,
) -> Option<(Nearness, Effect)> {
    decisions
        .iter()
        .filter(|decision| decision.permission == permission)
        .filter_map(|decision| Some((nearness(decision, place)?, decision.effect)))
        // Two decisions of one subject at one scope are not stored; were they, the deny counts.
        .max_by_key(|(nearness, effect)| (*nearness, *effect == Effect::Deny))
}

/// How near a decision is; `None` when it does not hold at the place.
fn nearness(decision: &Decision, place: Place) -> Option<Nearness> {
    let tier = decision.permission.tier();
    match (decision.scope, place) {
        (Scope::Server, _) => Some(Nearness::Server),
        (Scope::Group(group), Place::Group(here)) if tier != Tier::Server => {
            (group == here).then_some(Nearness::Group)
        }
        (Scope::Group(group), Place::Channel { group: here, .. }) if tier != Tier::Server => {
            (Some(group) == here).then_some(Nearness::Group)
        }
        (Scope::Room(room), Place::Channel { room: here, .. }) if tier == Tier::Room => {
            (room == here).then_some(Nearness::Room)
        }
        (Scope::Group(_) | Scope::Room(_), _) => None,
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
