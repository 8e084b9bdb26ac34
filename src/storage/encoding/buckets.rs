//! The records of tokens, presence, read markers, counters and processes.

use bytes::Bytes;

use crate::domain::{
    JoinLink, Presence, ReadMarker, SessionPresence, Token, TokenKind, UserPresence,
};
use crate::storage::encoding::{DecodeError, Losses, Recorded};
use crate::storage::kv::counters::Counter;
use crate::storage::kv::register::{Fingerprint, Process};
use crate::storage::records;

impl Recorded for Token {
    type Record = records::Token;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        let kind = match records::TokenKind::try_from(record.kind) {
            Ok(records::TokenKind::Bearer) => TokenKind::Bearer,
            Ok(records::TokenKind::Cookie) => TokenKind::Cookie,
            Ok(records::TokenKind::Setup) => TokenKind::Setup,
            Ok(records::TokenKind::Join) => TokenKind::Join,
            // What it opens is not known here.
            Err(_) => return Err(DecodeError::UnknownFields),
        };
        Ok(Self {
            kind,
            user: losses.optional(&record.user_id),
            session_generation: record.session_generation,
            created_ms: record.created_ms,
            used_ms: record.used_ms,
            expires_ms: record.expires_ms,
            fresh_until_ms: record.fresh_until_ms,
            pair: losses.bytes(&record.pair_hash),
            join: record.join.map(join_link).transpose()?,
            used: record.used,
            client_id: record.client_id,
            session: losses.bytes(&record.session_id),
        })
    }

    fn to_record(&self) -> Self::Record {
        let kind = match self.kind {
            TokenKind::Bearer => records::TokenKind::Bearer,
            TokenKind::Cookie => records::TokenKind::Cookie,
            TokenKind::Setup => records::TokenKind::Setup,
            TokenKind::Join => records::TokenKind::Join,
        };
        let join = self.join.as_ref().map(|join| records::JoinLink {
            login: join.login.clone(),
            display_name: join.display_name.clone(),
            email: join.email.clone(),
            role: join.role.clone(),
            email_verified: join.email_verified,
            created_by: join.created_by.map(|id| id.to_string()).unwrap_or_default(),
        });
        records::Token {
            kind: kind.into(),
            user_id: self.user.map(|id| id.to_string()).unwrap_or_default(),
            session_generation: self.session_generation,
            created_ms: self.created_ms,
            used_ms: self.used_ms,
            expires_ms: self.expires_ms,
            fresh_until_ms: self.fresh_until_ms,
            pair_hash: self.pair.map(|pair| Bytes::copy_from_slice(&pair)).unwrap_or_default(),
            join,
            used: self.used,
            client_id: self.client_id.clone(),
            session_id: self.session.map(|id| Bytes::copy_from_slice(&id)).unwrap_or_default(),
        }
    }
}

fn join_link(record: records::JoinLink) -> Result<JoinLink, DecodeError> {
    // A maker that cannot be read is not the operator.
    let created_by = match record.created_by.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|_| DecodeError::Malformed)?),
    };
    Ok(JoinLink {
        login: record.login,
        display_name: record.display_name,
        email: record.email,
        role: record.role,
        email_verified: record.email_verified,
        created_by,
    })
}

/// The stored number of a status.
pub(crate) fn presence_number(status: Presence) -> i32 {
    match status {
        Presence::Online => 1,
        Presence::Away => 2,
        Presence::DoNotDisturb => 3,
        Presence::Offline => 4,
    }
}

/// The status of a stored number; one that is not known counts as offline.
pub(crate) fn presence(number: i32) -> Presence {
    match number {
        1 => Presence::Online,
        2 => Presence::Away,
        3 => Presence::DoNotDisturb,
        _ => Presence::Offline,
    }
}

/// As [`presence`], noting a loss for a number that is not known.
fn noted_presence(number: i32, losses: &mut Losses) -> Presence {
    let status = presence(number);
    if presence_number(status) != number {
        losses.note();
    }
    status
}

impl Recorded for UserPresence {
    type Record = records::Presence;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        let mut sessions = Vec::with_capacity(record.sessions.len());
        for one in record.sessions {
            let status = noted_presence(one.status, losses);
            match losses.bytes(&one.session_id) {
                Some(session) => {
                    sessions.push(SessionPresence { session, status, until_ms: one.until_ms });
                }
                None => losses.note(),
            }
        }
        // A choice that is not known may be one to hide: it counts as offline.
        let manual = Some(record.manual).filter(|manual| *manual != 0);
        let manual = manual.map(|manual| noted_presence(manual, losses));
        Ok(Self { sessions, manual, manual_until_ms: record.manual_until_ms })
    }

    fn to_record(&self) -> Self::Record {
        let session = |one: &SessionPresence| records::SessionPresence {
            session_id: Bytes::copy_from_slice(&one.session),
            status: presence_number(one.status),
            until_ms: one.until_ms,
        };
        records::Presence {
            manual: self.manual.map_or(0, presence_number),
            sessions: self.sessions.iter().map(session).collect(),
            manual_until_ms: self.manual_until_ms,
        }
    }
}

impl Recorded for ReadMarker {
    type Record = records::Marker;

    fn from_record(record: Self::Record, losses: &mut Losses) -> Result<Self, DecodeError> {
        let row_id = losses.optional(&record.row_id);
        Ok(Self { row: record.row, row_id, row_ms: record.row_ms })
    }

    fn to_record(&self) -> Self::Record {
        let row_id = self.row_id.map(|id| id.to_string()).unwrap_or_default();
        records::Marker { row: self.row, row_id, row_ms: self.row_ms }
    }
}

impl Recorded for Counter {
    type Record = records::Counter;

    fn from_record(record: Self::Record, _losses: &mut Losses) -> Result<Self, DecodeError> {
        let records::Counter { count, window_ms, blocked_until_ms } = record;
        Ok(Self { count, window_ms, blocked_until_ms })
    }

    fn to_record(&self) -> Self::Record {
        let Self { count, window_ms, blocked_until_ms } = *self;
        records::Counter { count, window_ms, blocked_until_ms }
    }
}

impl Recorded for Process {
    type Record = records::Process;

    fn from_record(record: Self::Record, _losses: &mut Losses) -> Result<Self, DecodeError> {
        Ok(Self {
            id: record.id,
            version: record.version,
            host: record.host,
            pid: record.pid,
            started_ms: record.started_ms,
            fingerprints: record.fingerprints.into_iter().map(Fingerprint::from).collect(),
        })
    }

    fn to_record(&self) -> Self::Record {
        records::Process {
            id: self.id.clone(),
            version: self.version.clone(),
            host: self.host.clone(),
            pid: self.pid,
            started_ms: self.started_ms,
            fingerprints: self.fingerprints.iter().map(records::Fingerprint::from).collect(),
        }
    }
}

impl From<records::Fingerprint> for Fingerprint {
    fn from(record: records::Fingerprint) -> Self {
        Self { key: record.key, value: record.value }
    }
}

impl From<&Fingerprint> for records::Fingerprint {
    fn from(one: &Fingerprint) -> Self {
        Self { key: one.key.clone(), value: one.value.clone() }
    }
}
