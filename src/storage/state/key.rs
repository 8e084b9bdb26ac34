//! Keys of STATE: one value for each record, and the text under which it is stored.

use std::fmt;
use std::str::FromStr;

use crate::crypto::{from_hex, hex};
use crate::domain::{GroupId, IdError, RoomId, UserId};

/// Which record of STATE. `Display` and [`FromStr`] are the stored form, without the bucket's prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKey {
    /// `user.<id>`.
    User(UserId),
    /// `room.<id>`.
    Room(RoomId),
    /// `member.<room>.<user>`.
    Member(RoomId, UserId),
    /// `role.<name>`.
    Role(Box<str>),
    /// `group.<id>`.
    Group(GroupId),
    /// `claim.<kind>.<hash>`.
    Claim(ClaimKey),
    /// `config.server`.
    ServerSettings,
    /// `fold.checkpoint`.
    FoldCheckpoint,
    /// `lease.<name>`: the fencing token of the last holder.
    Lease(Box<str>),
    /// A kind, or a key of a kind, that a later version adds.
    Other(Box<str>),
}

/// The key of a claim: what kind of name is claimed, and 16 bytes of the hash of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimKey {
    kind: ClaimKind,
    hash: [u8; 16],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum ClaimKind {
    Login,
    Email,
    RoomName,
}

/// Something that only one record may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'a> {
    /// A login, folded to lower case.
    Login(&'a str),
    /// A verified address, folded to lower case.
    Email(&'a str),
    /// A room name's unique key.
    RoomName(&'a str),
}

impl Claim<'_> {
    /// The key under which it is stored, as sweeps find it in [`Tables::claims`](super::mirror::Tables::claims).
    #[must_use]
    pub fn key(self) -> ClaimKey {
        let (kind, name) = match self {
            Self::Login(name) => (ClaimKind::Login, name),
            Self::Email(name) => (ClaimKind::Email, name),
            Self::RoomName(name) => (ClaimKind::RoomName, name),
        };
        let digest = crate::crypto::sha256(name.as_bytes());
        let mut hash = [0; 16];
        hash.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        ClaimKey { kind, hash }
    }
}

impl StateKey {
    /// Whether it belongs to the fold or to a lease: they change all the time and may be lost.
    pub(crate) fn is_volatile(&self) -> bool {
        match self {
            Self::FoldCheckpoint | Self::Lease(_) => true,
            Self::Other(key) => key.starts_with("fold."),
            Self::User(_)
            | Self::Room(_)
            | Self::Member(..)
            | Self::Role(_)
            | Self::Group(_)
            | Self::Claim(_)
            | Self::ServerSettings => false,
        }
    }
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user.{id}"),
            Self::Room(id) => write!(f, "room.{id}"),
            Self::Member(room, user) => write!(f, "member.{room}.{user}"),
            Self::Role(name) => write!(f, "role.{name}"),
            Self::Group(id) => write!(f, "group.{id}"),
            Self::Claim(ClaimKey { kind, hash }) => {
                let kind = match kind {
                    ClaimKind::Login => "login",
                    ClaimKind::Email => "email",
                    ClaimKind::RoomName => "room",
                };
                write!(f, "claim.{kind}.{}", hex(hash))
            }
            Self::ServerSettings => f.write_str("config.server"),
            Self::FoldCheckpoint => f.write_str("fold.checkpoint"),
            Self::Lease(name) => write!(f, "lease.{name}"),
            Self::Other(key) => f.write_str(key),
        }
    }
}

impl FromStr for StateKey {
    /// The key is of a known kind and its id is none.
    type Err = IdError;

    fn from_str(key: &str) -> Result<Self, IdError> {
        let mut parts = key.split('.');
        let parts = [parts.next(), parts.next(), parts.next(), parts.next()];
        Ok(match parts {
            [Some("user"), Some(id), None, None] => Self::User(id.parse()?),
            [Some("room"), Some(id), None, None] => Self::Room(id.parse()?),
            [Some("member"), Some(room), Some(user), None] => {
                Self::Member(room.parse()?, user.parse()?)
            }
            [Some("role"), Some(name), None, None] => Self::Role(name.into()),
            [Some("group"), Some(id), None, None] => Self::Group(id.parse()?),
            [Some("claim"), Some(kind), Some(hash), None] => match claim_key(kind, hash) {
                Some(key) => Self::Claim(key),
                None => Self::Other(key.into()),
            },
            [Some("config"), Some("server"), None, None] => Self::ServerSettings,
            [Some("fold"), Some("checkpoint"), None, None] => Self::FoldCheckpoint,
            [Some("lease"), Some(name), None, None] => Self::Lease(name.into()),
            _ => Self::Other(key.into()),
        })
    }
}

/// `None`: a kind of claim that a later version adds.
fn claim_key(kind: &str, hash: &str) -> Option<ClaimKey> {
    let kind = match kind {
        "login" => ClaimKind::Login,
        "email" => ClaimKind::Email,
        "room" => ClaimKind::RoomName,
        _ => return None,
    };
    Some(ClaimKey { kind, hash: from_hex(hash)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stored_as_they_always_were() {
        let (user, room) = (UserId::from_number(42), RoomId::from_random([1; 16]));
        let group = GroupId::from_random([2; 16]);
        let keys = [
            (StateKey::User(user), format!("user.{user}")),
            (StateKey::Room(room), format!("room.{room}")),
            (StateKey::Member(room, user), format!("member.{room}.{user}")),
            (StateKey::Role("owner".into()), "role.owner".to_owned()),
            (StateKey::Group(group), format!("group.{group}")),
            (
                StateKey::Claim(Claim::Login("ada").key()),
                "claim.login.fdee430d40bd57deeac186cd9790033d".to_owned(),
            ),
            (StateKey::ServerSettings, "config.server".to_owned()),
            (StateKey::FoldCheckpoint, "fold.checkpoint".to_owned()),
            (StateKey::Lease("fold".into()), "lease.fold".to_owned()),
            (StateKey::Other("config.future".into()), "config.future".to_owned()),
            (StateKey::Other("claim.badge.00".into()), "claim.badge.00".to_owned()),
            (StateKey::Other("future".into()), "future".to_owned()),
            (StateKey::Other("user.x.future".into()), "user.x.future".to_owned()),
        ];
        for (key, text) in keys {
            assert_eq!(key.to_string(), text);
            assert_eq!(text.parse(), Ok(key));
        }
    }

    #[test]
    fn a_known_kind_with_an_id_that_is_none_is_an_error() {
        for key in ["user.x", "room.", "member.x.y", "group.R00000000000001"] {
            assert_eq!(key.parse::<StateKey>(), Err(IdError), "{key}");
        }
    }
}
