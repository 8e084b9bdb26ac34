//! The records of rows and events. Inside `storage` they stay records: a page is rewritten as it was read. Only what
//! leaves `storage`, and what comes in to be appended, is converted here.

use crate::domain::timeline::{
    Content, Delete, Echo, Edit, Effect, Event, Fact, FactKind, Message, Pin, Post, React,
    Reaction, Row, RowKind, Sealed, Thread,
};
use crate::domain::{EventId, UserId};
use crate::storage::encoding::DecodeError;
use crate::storage::encoding::state::instant;
use crate::storage::records::{self, event::Effect as EffectRecord, row::Kind};

impl TryFrom<records::Row> for Row {
    type Error = DecodeError;

    fn try_from(record: records::Row) -> Result<Self, DecodeError> {
        let kind = match record.kind {
            Some(Kind::Message(message)) => RowKind::Message(message.into()),
            Some(Kind::Echo(echo)) => RowKind::Echo(Echo {
                reply: required(&echo.reply_id)?,
                hidden: echo.hidden,
                deleted_ms: instant(echo.deleted_ms),
            }),
            Some(Kind::Fact(kind)) => RowKind::Fact(Fact {
                kind: fact_kind(kind),
                call_id: record.call_id,
                member_revision: record.member_revision,
            }),
            None => RowKind::Unknown,
        };
        Ok(Self {
            number: record.number,
            id: required(&record.id)?,
            at_ms: record.at_ms,
            actor: user(&record.actor_id),
            kind,
        })
    }
}

impl From<records::Message> for Message {
    fn from(record: records::Message) -> Self {
        let reaction = |one: records::Reaction| Reaction { emoji: one.emoji, users: one.users };
        Self {
            content: record.content.map(Content::from),
            in_reply_to: optional(&record.in_reply_to),
            updated_ms: instant(record.updated_ms),
            deleted_ms: instant(record.deleted_ms),
            reactions: record.reactions.into_iter().map(reaction).collect(),
            thread: record.thread.map(|thread| Thread {
                count: thread.count,
                made: thread.made,
                last_ms: thread.last_ms,
                participants: thread.participant_ids.iter().filter_map(|id| user(id)).collect(),
            }),
            echo: optional(&record.echo_id),
            request_key: record.request_key,
        }
    }
}

impl From<records::Content> for Content {
    fn from(record: records::Content) -> Self {
        let attachments = record.attachment_ids.iter().filter_map(|id| id.parse().ok());
        Self { body: record.body.map(Sealed::from), attachments: attachments.collect() }
    }
}

impl From<records::Sealed> for Sealed {
    fn from(record: records::Sealed) -> Self {
        let records::Sealed { key_id, nonce, ciphertext, version } = record;
        Self { key_id, nonce, ciphertext, version }
    }
}

impl From<Content> for records::Content {
    fn from(content: Content) -> Self {
        Self {
            body: content.body.map(records::Sealed::from),
            attachment_ids: content.attachments.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }
}

impl From<Sealed> for records::Sealed {
    fn from(sealed: Sealed) -> Self {
        let Sealed { key_id, nonce, ciphertext, version } = sealed;
        Self { key_id, nonce, ciphertext, version }
    }
}

impl TryFrom<&records::Event> for Event {
    type Error = DecodeError;

    fn try_from(record: &records::Event) -> Result<Self, DecodeError> {
        Ok(Self {
            number: record.number,
            request_id: record.request_id.clone(),
            state_revision: record.state_revision,
            at_ms: record.at_ms,
            actor: user(&record.actor_id),
            rows_after: record.rows_after,
            effect: effect(record.effect.as_ref().ok_or(DecodeError::UnknownFields)?)?,
        })
    }
}

fn effect(record: &EffectRecord) -> Result<Effect, DecodeError> {
    let echo = |echo: &Option<records::Echo>| echo.as_ref().map(|echo| required(&echo.id));
    let content = |content: &Option<records::Content>| content.clone().map(Content::from);
    Ok(match record {
        EffectRecord::Post(post) => Effect::Post(Post {
            id: required(&post.id)?,
            content: content(&post.content).unwrap_or_default(),
            in_reply_to: optional(&post.in_reply_to),
            create_thread: post.create_thread,
            echo: echo(&post.echo).transpose()?,
            request_key: post.request_key.clone(),
        }),
        EffectRecord::Edit(edit) => Effect::Edit(Edit {
            id: required(&edit.id)?,
            content: content(&edit.content),
            show_echo: echo(&edit.show_echo).transpose()?,
            hide_echo: echo(&edit.hide_echo).transpose()?,
        }),
        EffectRecord::Delete(delete) => Effect::Delete(Delete {
            id: required(&delete.id)?,
            echo_only: delete.echo_only,
            echo: echo(&delete.echo).transpose()?,
        }),
        EffectRecord::React(react) => Effect::React(React {
            id: required(&react.id)?,
            emoji: react.emoji.clone(),
            user: UserId::from_number(react.user_number),
            remove: react.remove,
        }),
        EffectRecord::Pin(pin) => Effect::Pin(Pin {
            id: required(&pin.id)?,
            marker: pin.marker.clone(),
            remove: pin.remove,
        }),
        EffectRecord::Fact(fact) => Effect::Fact {
            id: required(&fact.id)?,
            fact: Fact {
                kind: fact_kind(fact.kind),
                call_id: fact.call_id.clone(),
                member_revision: fact.member_revision,
            },
        },
    })
}

impl From<Effect> for EffectRecord {
    fn from(effect: Effect) -> Self {
        let echo = |id: EventId| records::Echo { id: id.to_string(), row: id.row() };
        match effect {
            Effect::Post(post) => Self::Post(records::Post {
                id: post.id.to_string(),
                row: post.id.row(),
                reply: post.id.reply(),
                content: Some(post.content.into()),
                in_reply_to: text(post.in_reply_to),
                create_thread: post.create_thread,
                echo: post.echo.map(echo),
                request_key: post.request_key,
            }),
            Effect::Edit(edit) => Self::Edit(records::Edit {
                id: edit.id.to_string(),
                content: edit.content.map(records::Content::from),
                show_echo: edit.show_echo.map(echo),
                hide_echo: edit.hide_echo.map(echo),
            }),
            Effect::Delete(delete) => Self::Delete(records::Delete {
                id: delete.id.to_string(),
                echo_only: delete.echo_only,
                echo: delete.echo.map(echo),
            }),
            Effect::React(react) => Self::React(records::React {
                id: react.id.to_string(),
                emoji: react.emoji,
                user_number: react.user.number(),
                remove: react.remove,
            }),
            Effect::Pin(pin) => {
                let Pin { id, marker, remove } = pin;
                Self::Pin(records::Pin { id: id.to_string(), marker, remove })
            }
            Effect::Fact { id, fact } => Self::Fact(records::Fact {
                id: id.to_string(),
                row: id.row(),
                kind: fact_number(fact.kind),
                call_id: fact.call_id,
                member_revision: fact.member_revision,
            }),
        }
    }
}

fn fact_kind(number: i32) -> FactKind {
    match records::FactKind::try_from(number) {
        Ok(records::FactKind::RoomCreated) => FactKind::RoomCreated,
        Ok(records::FactKind::Joined) => FactKind::Joined,
        Ok(records::FactKind::Left) => FactKind::Left,
        Ok(records::FactKind::RoomUpdated) => FactKind::RoomUpdated,
        Ok(records::FactKind::RoomArchived) => FactKind::RoomArchived,
        Ok(records::FactKind::RoomUnarchived) => FactKind::RoomUnarchived,
        Ok(records::FactKind::CallStarted) => FactKind::CallStarted,
        Ok(records::FactKind::CallEnded) => FactKind::CallEnded,
        Err(_) => FactKind::Other(number),
    }
}

fn fact_number(kind: FactKind) -> i32 {
    let kind = match kind {
        FactKind::RoomCreated => records::FactKind::RoomCreated,
        FactKind::Joined => records::FactKind::Joined,
        FactKind::Left => records::FactKind::Left,
        FactKind::RoomUpdated => records::FactKind::RoomUpdated,
        FactKind::RoomArchived => records::FactKind::RoomArchived,
        FactKind::RoomUnarchived => records::FactKind::RoomUnarchived,
        FactKind::CallStarted => records::FactKind::CallStarted,
        FactKind::CallEnded => records::FactKind::CallEnded,
        FactKind::Other(number) => return number,
    };
    kind.into()
}

/// An id without which the record says nothing.
fn required(id: &str) -> Result<EventId, DecodeError> {
    id.parse().map_err(|_| DecodeError::Malformed)
}

/// An id that may be empty. One that cannot be read names nothing that could be shown.
pub(crate) fn optional(id: &str) -> Option<EventId> {
    id.parse().ok()
}

/// A user that may be empty, likewise.
pub(crate) fn user(id: &str) -> Option<UserId> {
    id.parse().ok()
}

fn text(id: Option<EventId>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}
