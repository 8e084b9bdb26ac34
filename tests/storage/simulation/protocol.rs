//! What the simulation and its workers tell each other: one JSON value per line.

use chatto::domain::{EventId, UserId};
use chatto::runtime::Clock;
use chatto::storage::records::{
    Delete, Echo, Edit, Event, Fact, FactKind, Message, Pin, Post, React, Row, event::Effect,
    row::Kind,
};
use chatto::storage::{Draft, RoomHead};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::super::{content, user};
use super::model::View;

/// What a worker is asked to do. Several may be in work at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) command: Command,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Command {
    /// Appends one event; `cut`: dropped at that await.
    Append { room: u8, key: String, act: Act, cut: Option<u32> },
    /// `Storage::fold_all`; `cut`: dropped at that await.
    Fold { cut: Option<u32> },
    /// Reads a whole room; `barrier`: everything that was acknowledged before.
    Read { room: u8, barrier: bool },
    /// `Storage::purge`.
    Purge,
    /// How many events are not folded as far as this process knows.
    Unfolded,
    /// Closes the store and ends.
    Close,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Line {
    /// The store is open.
    Ready,
    Answer {
        id: u64,
        answer: Answer,
    },
    /// It has logged an error: something that somebody must look at.
    Error(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The event as it is stored (protobuf), and whether an earlier call had stored it.
    Appended {
        event: Vec<u8>,
        duplicate: bool,
    },
    /// The draft saw that there is nothing to do.
    Refused,
    /// Dropped at the await that was asked for.
    Cut,
    /// The room as it is read.
    Room(Box<View>),
    Unfolded(usize),
    Done,
    Failed {
        error: String,
        transient: bool,
    },
}

impl Answer {
    /// Without what fills pages.
    pub(super) fn short(&self) -> String {
        match self {
            Self::Appended { event, duplicate } => match Event::decode(&event[..]) {
                Ok(event) => format!("appended as {}, duplicate: {duplicate}", event.number),
                Err(error) => format!("appended {error}"),
            },
            Self::Room(view) => format!("{} rows, {} events", view.rows.len(), view.events),
            answer => format!("{answer:?}"),
        }
    }
}

/// One event to append, as a caller would ask for it: numbers come from what the draft sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Act {
    Post { text: Text },
    Reply { root: String, text: Text, echo: bool },
    Edit { id: String, text: Text },
    ShowEcho { id: String },
    HideEcho { id: String },
    Delete { id: String, echo_only: bool },
    React { id: String, emoji: Emoji, user: u64, remove: bool },
    Pin { id: String, remove: bool },
    Member { user: u64, left: bool },
}

/// A text that can be told from every other one on the disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Text {
    pub(super) name: String,
    pub(super) bytes: usize,
}

/// Every text starts with this, then come its name and a full stop.
pub(super) const NEEDLE: &str = "needle-";

impl Text {
    fn whole(&self) -> String {
        let mut text = format!("{NEEDLE}{}.", self.name);
        text.extend(std::iter::repeat_n('x', self.bytes.saturating_sub(text.len())));
        text
    }
}

/// An emoji of so many bytes: long names make a row's reactions spill with a few of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Emoji {
    pub(super) number: usize,
    pub(super) bytes: usize,
}

impl Emoji {
    pub(super) fn whole(&self) -> String {
        let mut name = format!("e{}", self.number);
        name.extend(std::iter::repeat_n('_', self.bytes.saturating_sub(name.len())));
        name
    }
}

/// Who acts: whoever is named, else one of a few.
fn actor(act: &Act, random: u32) -> UserId {
    match act {
        Act::React { user: number, .. } | Act::Member { user: number, .. } => user(*number),
        _ => user(u64::from(random % 3)),
    }
}

impl Act {
    /// The message that the draft must see.
    pub(super) fn needs(&self) -> Option<EventId> {
        let id = match self {
            Self::Post { .. } | Self::Member { .. } => return None,
            Self::Reply { root: id, .. }
            | Self::Edit { id, .. }
            | Self::ShowEcho { id }
            | Self::HideEcho { id }
            | Self::Delete { id, .. }
            | Self::React { id, .. }
            | Self::Pin { id, .. } => id,
        };
        EventId::try_from(id.as_str()).ok()
    }

    /// The event to append; `None`: the message is not there, or there is nothing to do.
    pub(super) fn draft(&self, head: &RoomHead, row: Option<&Row>, random: u32) -> Option<Draft> {
        let effect = match self {
            Self::Post { text } => Effect::Post(Post {
                id: EventId::new(head.rows, 0, random).to_string(),
                row: head.rows,
                content: Some(content(&text.whole())),
                ..Post::default()
            }),
            Self::Member { user, left } => Effect::Fact(Fact {
                id: EventId::new(head.rows, 0, random).to_string(),
                row: head.rows,
                kind: if *left { FactKind::Left } else { FactKind::Joined }.into(),
                member_revision: *user,
                ..Fact::default()
            }),
            _ => self.effect_on(head, row?, random)?,
        };
        Some(Draft { actor: Some(actor(self, random)), at_ms: Clock::system().unix_ms(), effect })
    }

    fn effect_on(&self, head: &RoomHead, row: &Row, random: u32) -> Option<Effect> {
        let Some(Kind::Message(message)) = &row.kind else { return None };
        if message.deleted_ms > 0 {
            return None;
        }
        let new_echo =
            || Echo { id: EventId::new(head.rows, 0, random).to_string(), row: head.rows };
        let shown = (!message.echo_id.is_empty())
            .then(|| Echo { id: message.echo_id.clone(), row: message.echo_row });
        Some(match self {
            Self::Reply { text, echo, .. } => {
                let reply = message.thread.as_ref().map_or(0, |thread| thread.made) + 1;
                Effect::Post(Post {
                    id: EventId::new(row.number, reply, random).to_string(),
                    row: row.number,
                    reply,
                    content: Some(content(&text.whole())),
                    echo: echo.then(new_echo),
                    ..Post::default()
                })
            }
            Self::Edit { id, text } => Effect::Edit(Edit {
                id: id.clone(),
                content: Some(content(&text.whole())),
                ..Edit::default()
            }),
            Self::ShowEcho { id } if shown.is_none() => Effect::Edit(Edit {
                id: id.clone(),
                show_echo: Some(new_echo()),
                ..Edit::default()
            }),
            Self::HideEcho { id } => {
                Effect::Edit(Edit { id: id.clone(), hide_echo: Some(shown?), ..Edit::default() })
            }
            Self::Delete { id, echo_only: true } => {
                Effect::Delete(Delete { id: id.clone(), echo_only: true, echo: Some(shown?) })
            }
            Self::Delete { id, echo_only: false } => {
                Effect::Delete(Delete { id: id.clone(), echo_only: false, echo: shown })
            }
            Self::React { id, emoji, user, remove } => {
                has_reacted(message, &emoji.whole(), *user, *remove)?;
                Effect::React(React {
                    id: id.clone(),
                    emoji: emoji.whole(),
                    user_number: *user,
                    remove: *remove,
                })
            }
            Self::Pin { id, remove } => {
                let is_pinned = head.pins.iter().any(|pin| pin.id == *id);
                if is_pinned != *remove {
                    return None;
                }
                Effect::Pin(Pin { id: id.clone(), marker: format!("m{random}"), remove: *remove })
            }
            Self::Post { .. } | Self::Member { .. } | Self::ShowEcho { .. } => return None,
        })
    }
}

/// Whether the reaction is there exactly when it is to be removed.
fn has_reacted(message: &Message, emoji: &str, user: u64, wanted: bool) -> Option<()> {
    let mut of_emoji = message.reactions.iter().filter(|reaction| reaction.emoji == emoji);
    (of_emoji.any(|reaction| reaction.users.contains(&user)) == wanted).then_some(())
}
