//! What the simulation and its workers send each other: one JSON value per line.

use chatto::domain::timeline::{
    Delete, Edit, Effect, Fact, FactKind, Message, Pin, Post, React, Row, RowKind,
};
use chatto::domain::{EventId, UserId};
use chatto::runtime::Clock;
use chatto::storage::{Draft, RoomHead};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::super::{content, user};
use super::model::View;
use crate::support::records::Event;

/// What a worker is to do. Several commands may be in progress at a time.
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

/// What a worker prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Line {
    /// The store is open.
    Ready,
    Response {
        id: u64,
        response: Response,
    },
    /// It has logged an error: something that somebody must investigate.
    Error(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Response {
    /// The event as it is stored (protobuf), and whether an earlier call had stored it.
    Appended {
        event: Vec<u8>,
        duplicate: bool,
    },
    /// The draft saw that there is nothing to do.
    Refused,
    /// Dropped at the await that the command names.
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

impl Response {
    /// Without what fills pages.
    pub(super) fn short(&self) -> String {
        match self {
            Self::Appended { event, duplicate } => match Event::decode(&event[..]) {
                Ok(event) => format!("appended as {}, duplicate: {duplicate}", event.number),
                Err(error) => format!("appended {error}"),
            },
            Self::Room(view) => format!("{} rows, {} events", view.rows.len(), view.events),
            response => format!("{response:?}"),
        }
    }
}

/// One event to append, as a caller would request it: numbers come from what the draft sees.
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

/// A text that differs from every other one on the disk.
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
            Self::Post { text } => {
                let id = EventId::new(head.rows, 0, random);
                Effect::Post(Post::new(id, content(&text.whole())))
            }
            Self::Member { user, left } => {
                let kind = if *left { FactKind::Left } else { FactKind::Joined };
                let fact = Fact { member_revision: *user, ..Fact::new(kind) };
                Effect::Fact { id: EventId::new(head.rows, 0, random), fact }
            }
            _ => self.effect_on(head, row?, random)?,
        };
        Some(Draft { actor: Some(actor(self, random)), at_ms: Clock::system().unix_ms(), effect })
    }

    fn effect_on(&self, head: &RoomHead, row: &Row, random: u32) -> Option<Effect> {
        let RowKind::Message(message) = &row.kind else { return None };
        if message.deleted_ms.is_some() {
            return None;
        }
        let new_echo = || EventId::new(head.rows, 0, random);
        let (id, shown) = (row.id, message.echo);
        Some(match self {
            Self::Reply { text, echo, .. } => {
                let reply = message.thread.as_ref().map_or(0, |thread| thread.made) + 1;
                let id = EventId::new(row.number, reply, random);
                let echo = echo.then(new_echo);
                Effect::Post(Post { echo, ..Post::new(id, content(&text.whole())) })
            }
            Self::Edit { text, .. } => {
                Effect::Edit(Edit { content: Some(content(&text.whole())), ..Edit::new(id) })
            }
            Self::ShowEcho { .. } if shown.is_none() => {
                Effect::Edit(Edit { show_echo: Some(new_echo()), ..Edit::new(id) })
            }
            Self::HideEcho { .. } => {
                Effect::Edit(Edit { hide_echo: Some(shown?), ..Edit::new(id) })
            }
            Self::Delete { echo_only: true, .. } => {
                Effect::Delete(Delete { id, echo_only: true, echo: Some(shown?) })
            }
            Self::Delete { echo_only: false, .. } => {
                Effect::Delete(Delete { id, echo_only: false, echo: shown })
            }
            Self::React { emoji, user: number, remove, .. } => {
                has_reacted(message, &emoji.whole(), *number, *remove)?;
                let (emoji, user, remove) = (emoji.whole(), user(*number), *remove);
                Effect::React(React { id, emoji, user, remove })
            }
            Self::Pin { remove, .. } => {
                let is_pinned = head.pins().any(|pin| pin.id == id);
                if is_pinned != *remove {
                    return None;
                }
                Effect::Pin(Pin { id, marker: format!("m{random}"), remove: *remove })
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
