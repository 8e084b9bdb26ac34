//! A room as it must be, and as it is read: the same shape, so that both can be compared.
//!
//! Independent of the store's own meaning of events, and stricter: an event that the room's state does
//! not allow is a fault, since its writer has seen that state.

use std::collections::BTreeSet;

use chatto::domain::EventId;
use chatto::domain::timeline::{Message, Row, RowKind};
use serde::{Deserialize, Serialize};

use super::super::text;
use super::protocol::NEEDLE;
use crate::support::records::{
    Content, Delete, Edit, Event, Pin, Post, React, event::Effect, fact_number,
};

/// A whole room.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct View {
    /// The number of the last event.
    pub(super) events: u64,
    pub(super) last_ms: i64,
    pub(super) pins: Vec<String>,
    pub(super) pin_marker: String,
    /// The newest root message or echo that is not deleted.
    pub(super) newest: String,
    pub(super) rows: Vec<Line>,
}

/// A row, or a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) id: String,
    at_ms: i64,
    actor: String,
    pub(super) kind: LineKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum LineKind {
    Message(Box<Shown>),
    Echo { reply_id: String, hidden: bool, deleted_ms: i64 },
    Fact { kind: i32, member_revision: u64 },
}

/// A message with its replies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shown {
    text: Option<String>,
    edited_ms: i64,
    pub(super) deleted_ms: i64,
    reactions: Vec<(String, Vec<u64>)>,
    /// The visible echo of a reply; empty: none.
    pub(super) echo_id: String,
    /// Replies that are not deleted, replies ever made, the last one's time, who replied.
    count: u32,
    made: u32,
    last_ms: i64,
    participants: Vec<String>,
    pub(super) replies: Vec<Line>,
}

/// A message that may be edited, deleted, pinned and reacted to.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) id: String,
    pub(super) is_reply: bool,
    pub(super) is_echoed: bool,
    /// Emoji by number, and users.
    pub(super) reactions: Vec<(usize, u64)>,
}

/// Long texts and names by their start, length and a sum.
fn short(text: &str) -> String {
    if text.len() <= 64 {
        return text.to_owned();
    }
    let sum =
        text.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    format!("{}~{}~{sum}", &text[..32], text.len())
}

/// The text of a stored event.
fn stored_text(content: Option<&Content>) -> Option<String> {
    let body = content?.body.as_ref()?;
    Some(String::from_utf8(body.ciphertext.to_vec()).unwrap())
}

/// The name in a text as the protocol makes them.
fn name_of(text: &str) -> Option<String> {
    Some(text.strip_prefix(NEEDLE)?.split_once('.')?.0.to_owned())
}

impl Line {
    /// A row as it was read; its replies are read apart.
    pub(super) fn read(row: &Row, replies: Vec<Self>) -> Self {
        let kind = match &row.kind {
            RowKind::Message(message) => LineKind::Message(Box::new(shown(message, replies))),
            RowKind::Echo(echo) => LineKind::Echo {
                reply_id: echo.reply.to_string(),
                hidden: echo.hidden,
                deleted_ms: echo.deleted_ms.unwrap_or(0),
            },
            RowKind::Fact(fact) => LineKind::Fact {
                kind: fact_number(fact.kind),
                member_revision: fact.member_revision,
            },
            RowKind::Unknown => LineKind::Fact { kind: -1, member_revision: 0 },
        };
        let actor = row.actor.map(|id| id.to_string()).unwrap_or_default();
        Self { id: row.id.to_string(), at_ms: row.at_ms, actor, kind }
    }

    fn new(id: &str, event: &Event, kind: LineKind) -> Self {
        Self { id: id.to_owned(), at_ms: event.at_ms, actor: event.actor_id.clone(), kind }
    }

    pub(super) fn message(&self) -> Option<&Shown> {
        match &self.kind {
            LineKind::Message(message) => Some(message),
            LineKind::Echo { .. } | LineKind::Fact { .. } => None,
        }
    }

    fn message_mut(&mut self) -> Option<&mut Shown> {
        match &mut self.kind {
            LineKind::Message(message) => Some(message),
            LineKind::Echo { .. } | LineKind::Fact { .. } => None,
        }
    }

    fn is_shown(&self) -> bool {
        match &self.kind {
            LineKind::Message(message) => message.deleted_ms == 0,
            LineKind::Echo { hidden, deleted_ms, .. } => !hidden && *deleted_ms == 0,
            LineKind::Fact { .. } => false,
        }
    }
}

fn shown(message: &Message, replies: Vec<Line>) -> Shown {
    let thread = message.thread.clone().unwrap_or_default();
    let reactions = message.reactions.iter();
    Shown {
        text: text(message.content.as_ref()).map(|text| short(&text)),
        edited_ms: message.updated_ms.unwrap_or(0),
        deleted_ms: message.deleted_ms.unwrap_or(0),
        reactions: reactions.map(|one| (short(&one.emoji), one.users.clone())).collect(),
        echo_id: message.echo.map(|id| id.to_string()).unwrap_or_default(),
        count: thread.count,
        made: thread.made,
        last_ms: thread.last_ms,
        participants: thread.participants.iter().map(ToString::to_string).collect(),
        replies,
    }
}

/// The room by its acknowledged events.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) view: View,
    /// Names of texts that were edited away or deleted.
    pub(super) removed: BTreeSet<String>,
}

impl Model {
    /// Applies the room's next event.
    pub(super) fn apply(&mut self, event: &Event) -> Result<(), String> {
        if event.number != self.view.events + 1 || event.at_ms <= self.view.last_ms {
            return Err(format!("event {} after {}", event.number, self.view.events));
        }
        self.view.events = event.number;
        self.view.last_ms = event.at_ms;
        match event.effect.as_ref().ok_or("an event without effect")? {
            Effect::Post(post) => self.post(post, event),
            Effect::Edit(edit) => self.edit(edit, event),
            Effect::Delete(delete) => self.delete(delete, event),
            Effect::React(react) => self.react(react),
            Effect::Fact(fact) => {
                let (kind, member_revision) = (fact.kind, fact.member_revision);
                let kind = LineKind::Fact { kind, member_revision };
                self.push(fact.row, Line::new(&fact.id, event, kind))
            }
            Effect::Pin(pin) => self.pin(pin),
        }?;
        let newest = self.view.rows.iter().rev().find(|row| row.is_shown());
        self.view.newest = newest.map(|row| row.id.clone()).unwrap_or_default();
        match event.rows_after as usize == self.view.rows.len() {
            true => Ok(()),
            false => Err(format!("{} rows after event {}", event.rows_after, event.number)),
        }
    }

    fn push(&mut self, row: u32, line: Line) -> Result<(), String> {
        if row as usize != self.view.rows.len() {
            return Err(format!("row {row} was given twice or left out: {}", line.id));
        }
        self.view.rows.push(line);
        Ok(())
    }

    fn root(&mut self, row: u32) -> Result<&mut Shown, String> {
        let line = self.view.rows.get_mut(row as usize);
        line.and_then(Line::message_mut).ok_or_else(|| format!("row {row} is no message"))
    }

    /// A message that is there and not deleted.
    fn live(&mut self, id: &str) -> Result<&mut Shown, String> {
        let at = EventId::try_from(id).map_err(|_| format!("{id} is no id"))?;
        let line = match at.reply() {
            0 => self.view.rows.get_mut(at.row() as usize),
            reply => self.root(at.row())?.replies.get_mut(reply as usize - 1),
        };
        let line = line.filter(|line| line.id == id);
        let message = line.and_then(Line::message_mut).ok_or_else(|| format!("no message {id}"))?;
        if message.deleted_ms > 0 {
            return Err(format!("{id} had been deleted"));
        }
        Ok(message)
    }

    fn post(&mut self, post: &Post, event: &Event) -> Result<(), String> {
        let text = stored_text(post.content.as_ref()).map(|text| short(&text));
        let mut message = Shown { text, ..Shown::default() };
        message.echo_id = post.echo.as_ref().map(|echo| echo.id.clone()).unwrap_or_default();
        let line = Line::new(&post.id, event, LineKind::Message(Box::new(message)));
        if post.reply == 0 {
            return self.push(post.row, line);
        }
        let root = self.root(post.row)?;
        if root.deleted_ms > 0 {
            return Err(format!("{} replies to a deleted message", post.id));
        }
        if post.reply as usize != root.replies.len() + 1 {
            return Err(format!("a number of a reply was given twice: {}", post.id));
        }
        root.replies.push(line);
        root.count += 1;
        root.made += 1;
        root.last_ms = event.at_ms;
        if !root.participants.contains(&event.actor_id) {
            root.participants.push(event.actor_id.clone());
        }
        match &post.echo {
            Some(echo) => self.push(echo.row, echo_line(&echo.id, &post.id, event)),
            None => Ok(()),
        }
    }

    fn edit(&mut self, edit: &Edit, event: &Event) -> Result<(), String> {
        let message = self.live(&edit.id)?;
        let mut former = None;
        if let Some(content) = &edit.content {
            former = message.text.replace(short(&stored_text(Some(content)).unwrap_or_default()));
            message.edited_ms = event.at_ms;
        }
        if let Some(echo) = &edit.show_echo {
            if !std::mem::replace(&mut message.echo_id, echo.id.clone()).is_empty() {
                return Err(format!("{} has two echoes", edit.id));
            }
            self.push(echo.row, echo_line(&echo.id, &edit.id, event))?;
        }
        if let Some(echo) = &edit.hide_echo {
            if std::mem::take(&mut self.live(&edit.id)?.echo_id) != echo.id {
                return Err(format!("the echo of {} was hidden twice", edit.id));
            }
            *self.echo(echo.row)?.0 = true;
        }
        self.removed.extend(former.and_then(|text| name_of(&text)));
        Ok(())
    }

    /// `hidden` and `deleted_ms` of an echo row.
    fn echo(&mut self, row: u32) -> Result<(&mut bool, &mut i64), String> {
        match self.view.rows.get_mut(row as usize).map(|line| &mut line.kind) {
            Some(LineKind::Echo { hidden, deleted_ms, .. }) => Ok((hidden, deleted_ms)),
            _ => Err(format!("row {row} is no echo")),
        }
    }

    fn delete(&mut self, delete: &Delete, event: &Event) -> Result<(), String> {
        let message = self.live(&delete.id)?;
        if message.echo_id != delete.echo.as_ref().map_or("", |echo| &echo.id) {
            return Err(format!("{} was deleted with another echo than its own", delete.id));
        }
        if delete.echo_only {
            message.echo_id.clear();
            let echo = delete.echo.as_ref().ok_or("no echo")?;
            *self.echo(echo.row)?.0 = true;
            return Ok(());
        }
        message.deleted_ms = event.at_ms;
        let former = message.text.take();
        self.removed.extend(former.and_then(|text| name_of(&text)));
        self.view.pins.retain(|id| *id != delete.id);
        let at = EventId::try_from(delete.id.as_str()).map_err(|_| "no id")?;
        if at.reply() > 0 {
            self.root(at.row())?.count -= 1;
        }
        if let Some(echo) = &delete.echo {
            *self.echo(echo.row)?.1 = event.at_ms;
        }
        Ok(())
    }

    fn react(&mut self, react: &React) -> Result<(), String> {
        let reactions = &mut self.live(&react.id)?.reactions;
        let (emoji, user) = (short(&react.emoji), react.user_number);
        let at = reactions.iter().position(|(one, _)| *one == emoji);
        let has = at.is_some_and(|at| reactions[at].1.contains(&user));
        if has != react.remove {
            return Err(format!("a reaction of {} was given or taken twice", react.id));
        }
        match at {
            Some(at) if react.remove => reactions[at].1.retain(|one| *one != user),
            Some(at) => reactions[at].1.push(user),
            None => reactions.push((emoji, vec![user])),
        }
        reactions.retain(|(_, users)| !users.is_empty());
        Ok(())
    }

    fn pin(&mut self, pin: &Pin) -> Result<(), String> {
        self.live(&pin.id)?;
        let pins = &mut self.view.pins;
        if pins.contains(&pin.id) != pin.remove {
            return Err(format!("{} was pinned or unpinned twice", pin.id));
        }
        if pin.remove {
            pins.retain(|id| *id != pin.id);
        } else {
            pins.push(pin.id.clone());
            self.view.pin_marker.clone_from(&pin.marker);
        }
        Ok(())
    }

    /// Messages that an act may name.
    pub(super) fn messages(&self) -> Vec<Live> {
        let mut all = Vec::new();
        for row in &self.view.rows {
            let Some(root) = row.message() else { continue };
            let replies = root.replies.iter().map(|reply| (reply, true));
            for (line, is_reply) in std::iter::once((row, false)).chain(replies) {
                if let Some(message) = line.message().filter(|message| message.deleted_ms == 0) {
                    let is_echoed = !message.echo_id.is_empty();
                    let reactions = message.reactions.iter().flat_map(|(emoji, users)| {
                        let number = emoji.strip_prefix('e').and_then(|n| n.parse().ok());
                        users.iter().filter_map(move |user| Some((number?, *user)))
                    });
                    let (id, reactions) = (line.id.clone(), reactions.collect());
                    all.push(Live { id, is_reply, is_echoed, reactions });
                }
            }
        }
        all
    }

    /// Whether the text that an event brought may be gone from the journal.
    pub(super) fn has_removed(&self, event: &Event) -> bool {
        let content: Option<&Content> = match &event.effect {
            Some(Effect::Post(post)) => post.content.as_ref(),
            Some(Effect::Edit(edit)) => edit.content.as_ref(),
            _ => None,
        };
        let name = stored_text(content).and_then(|text| name_of(&text));
        name.is_some_and(|name| self.removed.contains(&name))
    }
}

fn echo_line(id: &str, reply_id: &str, event: &Event) -> Line {
    let reply_id = reply_id.to_owned();
    Line::new(id, event, LineKind::Echo { reply_id, hidden: false, deleted_ms: 0 })
}

/// The first thing in which a room as it was read differs from what it must be.
pub(super) fn difference(read: &View, expected: &View) -> Option<String> {
    let head = |view: &View| View { rows: Vec::new(), ..view.clone() };
    if head(read) != head(expected) {
        return Some(format!("head {:?} instead of {:?}", head(read), head(expected)));
    }
    lines("row", &read.rows, &expected.rows)
}

fn lines(what: &str, read: &[Line], expected: &[Line]) -> Option<String> {
    for (at, (read, expected)) in read.iter().zip(expected).enumerate() {
        let whole = |line: &Line| {
            let mut line = line.clone();
            if let Some(message) = line.message_mut() {
                message.replies.clear();
            }
            line
        };
        if whole(read) != whole(expected) {
            return Some(format!(
                "{what} {at}: {:?} instead of {:?}",
                whole(read),
                whole(expected)
            ));
        }
        let replies = |line: &Line| line.message().map(|one| one.replies.clone());
        let (of_read, of_expected) = (replies(read), replies(expected));
        let inner = lines("reply", &of_read.unwrap_or_default(), &of_expected.unwrap_or_default());
        if let Some(inner) = inner {
            return Some(format!("{what} {at}: {inner}"));
        }
    }
    (read.len() != expected.len())
        .then(|| format!("{} {what}s instead of {}", read.len(), expected.len()))
}
