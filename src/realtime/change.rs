//! A change as connections queue it, and its audience: whom it may concern.

use crate::crypto::hex;
use crate::domain::timeline::{Effect, FactKind};
use crate::domain::{EventId, GroupId, Membership, Room, RoomId, ServerSettings, User, UserId};
use crate::storage::{EphemeralEvent, FeedUpdate, JournalEvent, StateChange, Tables};

/// A change. The queues of all connections share it.
#[derive(Debug)]
pub(super) struct Change {
    /// The frame's id: the same on all connections of all processes.
    pub(super) id: String,
    /// When it happened, in milliseconds since 1970. `None`: at the time of sending.
    pub(super) at_ms: Option<i64>,
    pub(super) actor: Option<UserId>,
    pub(super) kind: ChangeKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChangeKind {
    /// A root message was posted.
    Posted { room: RoomId, row: EventId },
    /// A reply was posted in a thread.
    Replied { room: RoomId, row: EventId, echo: Option<EventId> },
    /// A row changed: edit, deletion, reaction, pin.
    RowChanged { room: RoomId, row: EventId },
    /// Somebody became a member.
    Joined { room: RoomId, user: UserId, row: EventId },
    /// Somebody's membership ended.
    Left { room: RoomId, user: UserId, row: EventId },
    /// A row was added that is not a message.
    RowAdded { room: RoomId, row: EventId },
    /// A room was created or removed, or what everybody sees of it changed.
    Room { room: RoomId, rule_changed: bool },
    /// A membership changed in STATE. As long as its row is not stored (`announced` is false), the others learn
    /// of it from that row.
    Membership { room: RoomId, user: UserId, announced: bool },
    /// A group changed, or the order of groups.
    Group { group: GroupId },
    /// What the directory shows of a user changed.
    User { user: UserId, is_new: bool },
    /// What only the users themselves see of their accounts changed.
    Account,
    /// Permission decisions or role assignments changed somewhere, or keys were imported.
    Rights,
    /// The server's public profile changed, or what only members see of it.
    Server { profile: bool, state: bool },
    /// The viewer's read marker moved.
    MarkerMoved { target: String },
    /// Somebody is typing.
    Typing { room: RoomId, thread: Option<EventId> },
    /// Somebody's presence changed.
    Presence { user: UserId },
    /// The session may have ended.
    Session,
    /// Ephemeral events may have been missed: send again whatever is not in the journal.
    Refresh,
}

/// Whom a change may concern. Permissions are checked when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    Everybody,
    User(UserId),
    /// The members of a room, and also `and`, who was a member until now.
    Members {
        room: RoomId,
        and: Option<UserId>,
        except: Option<UserId>,
    },
    /// The connections that were opened with this credential.
    Credential([u8; 32]),
}

impl Change {
    /// A change that is not stored.
    pub(super) fn ephemeral(kind: ChangeKind, actor: Option<UserId>) -> Self {
        Self { id: random_id(), at_ms: None, actor, kind }
    }

    /// The change that an event of the journal makes.
    pub(super) fn of_event(epoch: &[u8], journal: &JournalEvent) -> (Self, Audience) {
        let JournalEvent { room, sequence, event } = journal;
        let (room, actor) = (*room, event.actor);
        let mut id = stable_id(epoch, b"journal", *sequence);
        let mut members = Audience::Members { room, and: None, except: None };
        let kind = match &event.effect {
            Effect::Post(post) => {
                id = post.id.to_string();
                let row = post.id;
                if row.reply() == 0 {
                    ChangeKind::Posted { room, row }
                } else {
                    ChangeKind::Replied { room, row, echo: post.echo }
                }
            }
            Effect::Edit(edit) => ChangeKind::RowChanged { room, row: edit.id },
            Effect::Delete(delete) => ChangeKind::RowChanged { room, row: delete.id },
            Effect::React(react) => ChangeKind::RowChanged { room, row: react.id },
            Effect::Pin(pin) => {
                if !pin.remove {
                    id.clone_from(&pin.marker);
                }
                ChangeKind::RowChanged { room, row: pin.id }
            }
            Effect::Fact { id: row, fact } => {
                let row = *row;
                match (fact.kind, actor) {
                    (FactKind::Joined, Some(user)) => ChangeKind::Joined { room, user, row },
                    (FactKind::Left, Some(user)) => {
                        members = Audience::Members { room, and: Some(user), except: None };
                        ChangeKind::Left { room, user, row }
                    }
                    _ => ChangeKind::RowAdded { room, row },
                }
            }
        };
        (Self { id, at_ms: Some(event.at_ms), actor, kind }, members)
    }

    /// The changes that a changed record of STATE makes: one for each audience and kind.
    pub(super) fn of_state(
        epoch: &[u8],
        revision: u64,
        changed: &StateChange,
        tables: &Tables,
    ) -> Vec<(Self, Audience)> {
        let mut changes: Vec<(ChangeKind, Option<UserId>, Audience)> = Vec::new();
        match changed {
            StateChange::User { id, former } => {
                let nobody = User { deleted: true, ..User::new(*id) };
                let user = tables.users.get(id).map_or(&nobody, |user| &**user);
                let former = former.as_deref();
                let is_known = former.is_some() || tables.users.contains_key(id);
                if is_known
                    && former
                        .is_none_or(|former| directory_fields(former) != directory_fields(user))
                {
                    let is_new = former.is_none();
                    changes.push((
                        ChangeKind::User { user: *id, is_new },
                        Some(*id),
                        Audience::Everybody,
                    ));
                } else if is_known
                    && former.is_none_or(|former| account_fields(former) != account_fields(user))
                {
                    changes.push((ChangeKind::Account, Some(*id), Audience::User(*id)));
                }
                if former.is_none_or(|former| permission_fields(former) != permission_fields(user))
                {
                    changes.push((ChangeKind::Rights, None, Audience::Everybody));
                }
                let ends = |former: &User| {
                    former.session_generation != user.session_generation || user.deleted
                };
                if former.is_none_or(ends) {
                    changes.push((ChangeKind::Session, None, Audience::User(*id)));
                }
            }
            StateChange::Room { id, former } => {
                changes.extend(of_room(
                    *id,
                    former.as_deref(),
                    tables.rooms.get(id).map(|room| &**room),
                ));
            }
            StateChange::Member { room, user, former } => {
                let member = tables.member(room, user);
                changes.push(of_member(*room, *user, former.as_deref(), member.map(|one| &**one)));
            }
            StateChange::Group(group) => {
                changes.push((ChangeKind::Group { group: *group }, None, Audience::Everybody));
            }
            StateChange::Role => changes.push((ChangeKind::Rights, None, Audience::Everybody)),
            StateChange::Server { former } => {
                let (former, server) = (former.as_deref(), &tables.server);
                let profile =
                    former.is_none_or(|former| profile_fields(former) != profile_fields(server));
                let state = former.is_none_or(|former| former.motd != server.motd);
                if profile || state {
                    changes.push((
                        ChangeKind::Server { profile, state },
                        None,
                        Audience::Everybody,
                    ));
                }
            }
            StateChange::Other => {}
        }
        let change =
            |(part, (kind, actor, audience)): (usize, (ChangeKind, Option<UserId>, Audience))| {
                let label = format!("state {part}");
                let id = stable_id(epoch, label.as_bytes(), revision);
                (Self { id, at_ms: None, actor, kind }, audience)
            };
        changes.into_iter().enumerate().map(change).collect()
    }

    /// The change that an ephemeral event makes. The hub handles presence itself.
    pub(super) fn of_ephemeral(event: EphemeralEvent) -> Option<(Self, Audience)> {
        Some(match event {
            EphemeralEvent::Typing { room, user, thread } => {
                let audience = Audience::Members { room, and: None, except: Some(user) };
                (Self::ephemeral(ChangeKind::Typing { room, thread }, Some(user)), audience)
            }
            EphemeralEvent::Marker { user, target } => (
                Self::ephemeral(ChangeKind::MarkerMoved { target }, Some(user)),
                Audience::User(user),
            ),
            EphemeralEvent::Token { hash } => {
                (Self::ephemeral(ChangeKind::Session, None), Audience::Credential(hash))
            }
            EphemeralEvent::KeysImported => {
                (Self::ephemeral(ChangeKind::Rights, None), Audience::Everybody)
            }
            EphemeralEvent::Presence { .. } => return None,
        })
    }

    /// The changes that a feed update makes.
    pub(super) fn of(epoch: &[u8], update: FeedUpdate, tables: &Tables) -> Vec<(Self, Audience)> {
        match update {
            FeedUpdate::Event(journal) => vec![Self::of_event(epoch, &journal)],
            FeedUpdate::State { revision, changed } => {
                Self::of_state(epoch, revision, &changed, tables)
            }
            FeedUpdate::EphemeralEvent(event) => Self::of_ephemeral(event).into_iter().collect(),
            FeedUpdate::Missed => {
                vec![(Self::ephemeral(ChangeKind::Refresh, None), Audience::Everybody)]
            }
            // The hub closes the connections.
            FeedUpdate::Stalled => Vec::new(),
        }
    }
}

/// The change that a changed record of a room makes.
fn of_room(
    id: RoomId,
    former: Option<&Room>,
    room: Option<&Room>,
) -> Option<(ChangeKind, Option<UserId>, Audience)> {
    let Some(room) = room else {
        return Some((
            ChangeKind::Room { room: id, rule_changed: true },
            None,
            Audience::Everybody,
        ));
    };
    if former.is_some_and(|former| room_fields(former) == room_fields(room)) {
        return None;
    }
    let ruled =
        |former: &Room| (former.archived, former.universal) != (room.archived, room.universal);
    let rule_changed = former.is_none_or(ruled);
    let actor = room.creator.filter(|_| former.is_none());
    Some((ChangeKind::Room { room: id, rule_changed }, actor, Audience::Everybody))
}

/// The change that a changed membership makes. It concerns only the user as long as the membership's row is not
/// stored, and when the record only notes that the row is stored: the others learn of it from the row.
fn of_member(
    room: RoomId,
    user: UserId,
    former: Option<&Membership>,
    member: Option<&Membership>,
) -> (ChangeKind, Option<UserId>, Audience) {
    let announced = member.is_none_or(|member| member.announced);
    let is_note = former.filter(|former| !former.announced).is_some_and(|former| match member {
        Some(member) => *member == Membership { announced: true, ..former.clone() },
        None => former.left,
    });
    let audience = if announced && !is_note {
        Audience::Members { room, and: Some(user), except: None }
    } else {
        Audience::User(user)
    };
    (ChangeKind::Membership { room, user, announced }, Some(user), audience)
}

/// An id for a change that is not stored.
pub(super) fn random_id() -> String {
    format!("evt{}", hex(&crate::crypto::random::<8>()))
}

/// An id that is the same in every process and does not reveal the position it stands for.
fn stable_id(epoch: &[u8], label: &[u8], number: u64) -> String {
    let text = [epoch, label, number.to_be_bytes().as_slice()].concat();
    let digest = crate::crypto::sha256(&text);
    format!("evt{}", hex(digest.get(..8).unwrap_or(&digest)))
}

/// What the directory shows of a user. All fields are named, so that a new one is not forgotten.
fn directory_fields(user: &User) -> impl PartialEq + '_ {
    let User {
        id: _,
        login,
        display_name,
        created_ms: _,
        roles,
        is_bot: _,
        bot_owner: _,
        deleted,
        avatar_key,
        custom_status,
        // In `account_fields` or `permission_fields`:
        emails: _,
        settings: _,
        password_hash: _,
        login_changed_ms: _,
        decisions: _,
        // Sessions that end are a change of their own.
        session_generation: _,
        session_end: _,
        active_key_id: _,
        origin: _,
    } = user;
    (login, display_name, roles, avatar_key, custom_status, deleted)
}

/// What only the user itself sees.
fn account_fields(user: &User) -> impl PartialEq {
    let has_password = !user.password_hash.is_empty();
    (user.emails.clone(), user.settings.clone(), has_password, user.login_changed_ms)
}

/// What permissions follow from, including those of a user's bots.
fn permission_fields(user: &User) -> impl PartialEq {
    let owner = (user.is_bot, user.bot_owner);
    (user.roles.clone(), user.decisions.clone(), owner, user.deleted)
}

/// What clients see of a room. All fields are named, so that a new one is not forgotten.
fn room_fields(room: &Room) -> impl PartialEq + '_ {
    let Room {
        id: _,
        kind: _,
        name,
        description,
        group,
        universal,
        archived,
        slow_mode_seconds,
        created_ms: _,
        creator: _,
        participants: _,
        announced: _,
        has_history,
    } = room;
    (name, description, group, universal, archived, slow_mode_seconds, has_history)
}

/// What everybody sees of the server. All fields are named, so that a new one is not forgotten.
fn profile_fields(server: &ServerSettings) -> impl PartialEq + '_ {
    let ServerSettings {
        name,
        description,
        // Only members see it; compared by itself.
        motd: _,
        welcome_message,
        logo_key,
        banner_key,
        blocked_logins: _,
        defaults_written: _,
        setup_token_hash: _,
        purged_upto: _,
    } = server;
    (name, description, welcome_message, logo_key, banner_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_the_row_of_a_membership_is_stored_makes_no_other_socket_compare() {
        let (room, user) = (RoomId::from_random([1; 16]), UserId::from_number(2));
        let record = |announced, left| Membership {
            announced,
            left,
            joined_row: 7,
            ..Membership::new(room, user)
        };
        let audience = |former: Option<Membership>, member: Option<Membership>| {
            of_member(room, user, former.as_ref(), member.as_ref()).2
        };
        let alone = Audience::User(user);
        let members = Audience::Members { room, and: Some(user), except: None };
        let (joining, joined) = (record(false, false), record(true, false));
        let (leaving, left) = (record(false, true), record(true, true));
        // The row is not stored yet.
        assert_eq!(audience(None, Some(joining.clone())), alone);
        assert_eq!(audience(Some(joined.clone()), Some(leaving.clone())), alone);
        // The row is stored.
        assert_eq!(audience(Some(joining.clone()), Some(joined.clone())), alone);
        assert_eq!(audience(Some(leaving.clone()), Some(left.clone())), alone);
        assert_eq!(audience(Some(leaving.clone()), None), alone);
        // There is no row for these, or nobody knows whether there is one.
        assert_eq!(audience(None, Some(joined.clone())), members);
        assert_eq!(audience(None, None), members);
        assert_eq!(audience(Some(joining.clone()), None), members);
        assert_eq!(audience(Some(joining.clone()), Some(left.clone())), members);
        assert_eq!(audience(Some(leaving), Some(joined.clone())), members);
        assert_eq!(audience(Some(joined.clone()), Some(left)), members);
        assert_eq!(audience(Some(joined.clone()), None), members);
        let again = Membership { joined_row: 9, ..joined };
        assert_eq!(audience(Some(joining), Some(again)), members);
    }
}
