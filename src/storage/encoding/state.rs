//! The records of STATE and the domain's types that they hold.

use crate::domain::permission::{Decision, DecisionScope, Permission, Ruling};
use crate::domain::{
    CustomStatus, EmailAddress, Group, GroupItem, Membership, Role, Room, RoomKind, ServerSettings,
    SessionEnd, TimeFormat, User, UserSettings,
};
use crate::storage::encoding::{DecodeError, Losses, Recorded};
use crate::storage::records;
use crate::storage::state::{ClaimHolder, ClaimRecord};

impl Recorded for User {
    type Record = records::User;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        let settings = record.settings.unwrap_or_default();
        Ok(Self {
            id: losses.required(&record.id)?,
            login: record.login,
            display_name: record.display_name,
            created_ms: record.created_ms,
            password_hash: record.password_hash,
            roles: record.roles,
            emails: record
                .emails
                .into_iter()
                .map(|one| EmailAddress { address: one.address, verified: one.verified })
                .collect(),
            session_generation: record.session_generation,
            session_end: losses.known(match records::SessionEnd::try_from(record.session_end) {
                Ok(records::SessionEnd::EndUnknown) => Some(None),
                Ok(records::SessionEnd::PasswordChanged) => Some(Some(SessionEnd::PasswordChanged)),
                Ok(records::SessionEnd::PasswordReset) => Some(Some(SessionEnd::PasswordReset)),
                Ok(records::SessionEnd::IdentityDisconnected) => {
                    Some(Some(SessionEnd::IdentityDisconnected))
                }
                Err(_) => None,
            }),
            login_changed_ms: instant(record.login_changed_ms),
            settings: UserSettings {
                timezone: text(settings.timezone),
                time_format: losses.known(match settings.time_format {
                    0 => Some(None),
                    1 => Some(Some(TimeFormat::Auto)),
                    2 => Some(Some(TimeFormat::TwelveHour)),
                    3 => Some(Some(TimeFormat::TwentyFourHour)),
                    _ => None,
                }),
            },
            is_bot: record.is_bot,
            bot_owner: losses.optional(&record.bot_owner_id),
            deleted: record.deleted,
            active_key_id: record.active_key_id,
            decisions: decisions(&record.decisions, losses),
            avatar_key: text(record.avatar_key),
            custom_status: CustomStatus {
                emoji: record.custom_status_emoji,
                text: record.custom_status_text,
                expires_ms: instant(record.custom_status_expires_ms),
            },
            origin: record.origin,
        })
    }

    fn to_record(&self) -> Self::Record {
        let settings = records::Settings {
            timezone: self.settings.timezone.clone().unwrap_or_default(),
            time_format: match self.settings.time_format {
                None => 0,
                Some(TimeFormat::Auto) => 1,
                Some(TimeFormat::TwelveHour) => 2,
                Some(TimeFormat::TwentyFourHour) => 3,
            },
        };
        let emails = self.emails.iter();
        let email = |one: &EmailAddress| records::Email {
            address: one.address.clone(),
            verified: one.verified,
        };
        let session_end = match self.session_end {
            None => records::SessionEnd::EndUnknown,
            Some(SessionEnd::PasswordChanged) => records::SessionEnd::PasswordChanged,
            Some(SessionEnd::PasswordReset) => records::SessionEnd::PasswordReset,
            Some(SessionEnd::IdentityDisconnected) => records::SessionEnd::IdentityDisconnected,
        };
        records::User {
            id: self.id.to_string(),
            login: self.login.clone(),
            display_name: self.display_name.clone(),
            created_ms: self.created_ms,
            password_hash: self.password_hash.clone(),
            roles: self.roles.clone(),
            emails: emails.map(email).collect(),
            session_generation: self.session_generation,
            login_changed_ms: self.login_changed_ms.unwrap_or_default(),
            settings: Some(settings).filter(|set| *set != records::Settings::default()),
            is_bot: self.is_bot,
            bot_owner_id: self.bot_owner.map(|id| id.to_string()).unwrap_or_default(),
            deleted: self.deleted,
            active_key_id: self.active_key_id.clone(),
            decisions: decision_records(&self.decisions),
            avatar_key: self.avatar_key.clone().unwrap_or_default(),
            custom_status_emoji: self.custom_status.emoji.clone(),
            custom_status_text: self.custom_status.text.clone(),
            custom_status_expires_ms: self.custom_status.expires_ms.unwrap_or_default(),
            origin: self.origin.clone(),
            session_end: session_end.into(),
        }
    }
}

impl Recorded for Room {
    type Record = records::Room;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        let kind = match records::RoomKind::try_from(record.kind) {
            Ok(records::RoomKind::Channel) => RoomKind::Channel,
            Ok(records::RoomKind::Direct) => RoomKind::Direct,
            Err(_) => {
                losses.note();
                RoomKind::Channel
            }
        };
        Ok(Self {
            id: losses.required(&record.id)?,
            kind,
            name: record.name,
            description: record.description,
            group: losses.optional(&record.group_id),
            universal: record.universal,
            archived: record.archived,
            slow_mode_seconds: record.slow_mode_seconds,
            created_ms: record.created_ms,
            creator: losses.optional(&record.creator_id),
            participants: losses.all(&record.participant_ids),
            announced: record.announced,
            has_history: record.has_history,
        })
    }

    fn to_record(&self) -> Self::Record {
        let kind = match self.kind {
            RoomKind::Channel => records::RoomKind::Channel,
            RoomKind::Direct => records::RoomKind::Direct,
        };
        records::Room {
            id: self.id.to_string(),
            kind: kind.into(),
            name: self.name.clone(),
            description: self.description.clone(),
            group_id: self.group.map(|id| id.to_string()).unwrap_or_default(),
            universal: self.universal,
            archived: self.archived,
            slow_mode_seconds: self.slow_mode_seconds,
            created_ms: self.created_ms,
            creator_id: self.creator.map(|id| id.to_string()).unwrap_or_default(),
            participant_ids: self.participants.iter().map(ToString::to_string).collect(),
            announced: self.announced,
            has_history: self.has_history,
        }
    }
}

impl Recorded for Membership {
    type Record = records::Member;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        Ok(Self {
            room: losses.required(&record.room_id)?,
            user: losses.required(&record.user_id)?,
            since_ms: record.since_ms,
            announced: record.announced,
            left: record.left,
            joined_row: record.joined_row,
            joined_row_ms: record.joined_row_ms,
        })
    }

    fn to_record(&self) -> Self::Record {
        records::Member {
            room_id: self.room.to_string(),
            user_id: self.user.to_string(),
            since_ms: self.since_ms,
            announced: self.announced,
            left: self.left,
            joined_row: self.joined_row,
            joined_row_ms: self.joined_row_ms,
        }
    }
}

impl Recorded for Role {
    type Record = records::Role;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        Ok(Self {
            name: record.name,
            display_name: record.display_name,
            description: record.description,
            position: record.position,
            pingable: record.pingable,
            system: record.system,
            decisions: decisions(&record.decisions, losses),
        })
    }

    fn to_record(&self) -> Self::Record {
        records::Role {
            name: self.name.clone(),
            display_name: self.display_name.clone(),
            description: self.description.clone(),
            position: self.position,
            pingable: self.pingable,
            system: self.system,
            decisions: decision_records(&self.decisions),
        }
    }
}

impl Recorded for Group {
    type Record = records::Group;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        let item = |id: String| match id.parse() {
            Ok(room) => GroupItem::Room(room),
            Err(_) => GroupItem::Other(id),
        };
        Ok(Self {
            id: losses.required(&record.id)?,
            name: record.name,
            description: record.description,
            position: record.position,
            items: record.items.into_iter().map(item).collect(),
            created_ms: record.created_ms,
        })
    }

    fn to_record(&self) -> Self::Record {
        let item = |item: &GroupItem| match item {
            GroupItem::Room(room) => room.to_string(),
            GroupItem::Other(id) => id.clone(),
        };
        records::Group {
            id: self.id.to_string(),
            name: self.name.clone(),
            description: self.description.clone(),
            position: self.position,
            items: self.items.iter().map(item).collect(),
            created_ms: self.created_ms,
        }
    }
}

impl Recorded for ServerSettings {
    type Record = records::ServerConfig;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        if !record.blocked_logins_set && !record.blocked_logins.is_empty() {
            losses.note();
        }
        Ok(Self {
            name: record.name,
            description: record.description,
            motd: record.motd,
            welcome_message: record.welcome_message,
            logo_key: text(record.logo_key),
            banner_key: text(record.banner_key),
            blocked_logins: record.blocked_logins_set.then_some(record.blocked_logins),
            defaults_written: record.defaults_written,
            setup_token_hash: record.setup_token_hash,
            purged_upto: record.purged_upto,
        })
    }

    fn to_record(&self) -> Self::Record {
        records::ServerConfig {
            name: self.name.clone(),
            description: self.description.clone(),
            motd: self.motd.clone(),
            welcome_message: self.welcome_message.clone(),
            logo_key: self.logo_key.clone().unwrap_or_default(),
            banner_key: self.banner_key.clone().unwrap_or_default(),
            blocked_logins_set: self.blocked_logins.is_some(),
            blocked_logins: self.blocked_logins.clone().unwrap_or_default(),
            defaults_written: self.defaults_written,
            setup_token_hash: self.setup_token_hash.clone(),
            purged_upto: self.purged_upto,
        }
    }
}

impl Recorded for ClaimRecord {
    type Record = records::Claim;

    fn from_record(record: Self::Record, _losses: &mut Losses) -> Result<Self, DecodeError> {
        let id = record.holder_id;
        let holder = match (id.parse(), id.parse()) {
            (Ok(user), _) => ClaimHolder::User(user),
            (_, Ok(room)) => ClaimHolder::Room(room),
            _ => ClaimHolder::Other(id),
        };
        Ok(Self { holder, claimed_ms: record.claimed_ms, request_id: record.request_id })
    }

    fn to_record(&self) -> Self::Record {
        let holder_id = match &self.holder {
            ClaimHolder::User(user) => user.to_string(),
            ClaimHolder::Room(room) => room.to_string(),
            ClaimHolder::Other(id) => id.clone(),
        };
        let (claimed_ms, request_id) = (self.claimed_ms, self.request_id.clone());
        records::Claim { holder_id, claimed_ms, request_id }
    }
}

/// Decisions that this program knows. An unknown permission is one of a later version and has no effect here;
/// an unreadable scope could be any room.
fn decisions(stored: &[records::Decision], losses: &mut Losses) -> Vec<Decision> {
    let decision = |stored: &records::Decision| {
        let id = stored.scope_id.as_str();
        let scope = match records::Scope::try_from(stored.scope).ok()? {
            records::Scope::Server => Some(DecisionScope::Server).filter(|_| id.is_empty())?,
            records::Scope::Group => DecisionScope::Group(id.parse().ok()?),
            records::Scope::Room => DecisionScope::Room(id.parse().ok()?),
        };
        let ruling = if stored.allow { Ruling::Allow } else { Ruling::Deny };
        let permission = Permission::from_name(&stored.permission)?;
        Some(Decision { permission, scope, ruling })
    };
    let known: Vec<_> = stored.iter().filter_map(decision).collect();
    if known.len() != stored.len() {
        losses.note();
    }
    known
}

fn decision_records(decisions: &[Decision]) -> Vec<records::Decision> {
    let record = |decision: &Decision| {
        let (scope, scope_id) = match decision.scope {
            DecisionScope::Server => (records::Scope::Server, String::new()),
            DecisionScope::Group(id) => (records::Scope::Group, id.to_string()),
            DecisionScope::Room(id) => (records::Scope::Room, id.to_string()),
        };
        records::Decision {
            permission: decision.permission.name().to_owned(),
            scope: scope.into(),
            scope_id,
            allow: decision.ruling == Ruling::Allow,
        }
    };
    decisions.iter().map(record).collect()
}

/// An empty text stands for none.
fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// 0 stands for none.
pub(super) fn instant(ms: i64) -> Option<i64> {
    Some(ms).filter(|ms| *ms != 0)
}
