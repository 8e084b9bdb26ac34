//! A room's timeline as text for people or as JSON for programs, with the replies of a thread after its root. Memory holds some
//! hundred rows, however long the room is.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::archive::printable;
use crate::domain::timeline::{Content, FactKind, Message, Row, RowKind};
use crate::domain::{AssetId, RoomId, UserId};
use crate::limits::ROWS_READ_MAX;
use crate::observe::rfc3339;
use crate::storage::{Opener, Storage, StorageError};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TranscriptFormat {
    Text,
    /// One object on each line.
    Json,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TranscriptCount {
    /// Rows of the timeline, and replies.
    pub rows: u64,
    /// Messages whose key is not there.
    pub unreadable: u64,
}

/// A transcript is not complete.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    #[error("the room {room} cannot be read")]
    Store {
        room: RoomId,
        #[source]
        source: StorageError,
    },
    #[error("the transcript cannot be written")]
    Write(#[from] io::Error),
}

/// Writes the timelines of a store.
pub struct Transcript<'a, W> {
    storage: &'a Storage,
    room: RoomId,
    format: TranscriptFormat,
    sink: W,
    count: TranscriptCount,
}

impl<'a, W: Write> Transcript<'a, W> {
    /// Of a room.
    pub fn new(storage: &'a Storage, room: RoomId, format: TranscriptFormat, sink: W) -> Self {
        Self { storage, room, format, sink, count: TranscriptCount::default() }
    }

    /// Writes all of it; returns the sink.
    ///
    /// # Errors
    /// [`TranscriptError`]
    pub async fn write(mut self) -> Result<(W, TranscriptCount), TranscriptError> {
        let (storage, room) = (self.storage, self.room);
        let failed = move |source| TranscriptError::Store { room, source };
        let timelines = storage.timelines();
        let end = timelines.head(&room).await.map_err(failed)?.rows;
        let mut from = 0;
        while from < end {
            let to = end.min(from.saturating_add(ROWS_READ_MAX));
            let rows = timelines.rows(&room, from, to).await.map_err(failed)?;
            let opener = self.opener(&rows).await.map_err(failed)?;
            for row in &rows {
                self.row(row, None, &opener)?;
                let RowKind::Message(message) = &row.kind else { continue };
                let made = message.thread.as_ref().map_or(0, |thread| thread.made);
                let mut next = 1;
                while next <= made {
                    let last = made.saturating_add(1).min(next.saturating_add(ROWS_READ_MAX));
                    let replies = timelines.replies(&room, row.number, next, last).await;
                    let replies = replies.map_err(failed)?;
                    let opener = self.opener(&replies).await.map_err(failed)?;
                    for reply in &replies {
                        self.row(reply, Some(row), &opener)?;
                    }
                    next = last;
                }
            }
            from = to;
        }
        self.sink.flush()?;
        Ok((self.sink, self.count))
    }

    async fn opener(&self, rows: &[Row]) -> Result<Opener, StorageError> {
        let bodies = rows.iter().filter_map(|row| {
            let RowKind::Message(Message { content: Some(content), .. }) = &row.kind else {
                return None;
            };
            Some((row.actor?, content.body.as_ref()?))
        });
        self.storage.texts().opener(bodies).await
    }

    fn row(&mut self, row: &Row, root: Option<&Row>, opener: &Opener) -> io::Result<()> {
        self.count.rows = self.count.rows.saturating_add(1);
        let text = match &row.kind {
            RowKind::Message(message) => self.text(row, message, opener),
            RowKind::Echo(_) | RowKind::Fact(_) | RowKind::Unknown => None,
        };
        if matches!(&text, Some(MessageText::Unreadable)) {
            self.count.unreadable = self.count.unreadable.saturating_add(1);
        }
        let line = match self.format {
            TranscriptFormat::Text => self.line(row, root.is_some(), text.as_ref()),
            TranscriptFormat::Json => self.object(row, root, text.as_ref()),
        };
        self.sink.write_all(line.as_bytes())
    }

    fn text(&self, row: &Row, message: &Message, opener: &Opener) -> Option<MessageText> {
        let Some(content) = &message.content else { return Some(MessageText::Deleted) };
        let (Some(sealed), Some(author)) = (&content.body, &row.actor) else { return None };
        let opened = opener.open(author, &self.room, &row.id, sealed);
        Some(opened.map_or(MessageText::Unreadable, MessageText::Text))
    }

    /// `2026-11-21 06:00:00  Ada (ada): text`; replies are indented, and further lines of a text begin with a bar, so that
    /// none looks like a message.
    fn line(&self, row: &Row, is_reply: bool, text: Option<&MessageText>) -> String {
        let indent = if is_reply { "    " } else { "" };
        let time = rfc3339(row.at_ms).replace('T', " ");
        let time = time.split('.').next().unwrap_or_default();
        let name = row.actor.map_or_else(|| "server".to_owned(), |user| self.name(&user));
        let mut line = format!("{indent}{time}  {name}");
        match &row.kind {
            RowKind::Message(message) => {
                let shown = match text {
                    None => String::new(),
                    Some(MessageText::Text(text)) => text.replace('\n', &format!("\n{indent}  | ")),
                    Some(MessageText::Deleted) => "[deleted]".to_owned(),
                    Some(MessageText::Unreadable) => "[unreadable: its key is missing]".to_owned(),
                };
                // Writing to a String cannot fail.
                write!(line, ": {shown}").ok();
                if message.updated_ms.is_some() {
                    line.push_str(" [edited]");
                }
                for id in attachments(message) {
                    write!(line, " [file {id}]").ok();
                }
                for reaction in &message.reactions {
                    write!(line, " [{} {}]", reaction.emoji, reaction.users.len()).ok();
                }
            }
            RowKind::Echo(echo) => {
                write!(line, " [shows the reply {}]", echo.reply).ok();
            }
            RowKind::Fact(fact) => {
                write!(line, " {}", fact_word(fact.kind).replace('_', " ")).ok();
            }
            RowKind::Unknown => line.push_str(" [of a kind that this version does not know]"),
        }
        line.push('\n');
        printable(line.chars(), "\n\t")
    }

    fn object(&self, row: &Row, root: Option<&Row>, text: Option<&MessageText>) -> String {
        let mut object = json!({
            "id": row.id.to_string(),
            "at": rfc3339(row.at_ms),
            "author": row.actor.map(|user| self.author(&user)),
            "thread": root.map(|root| root.id.to_string()),
        });
        let more = match &row.kind {
            RowKind::Message(message) => self.message_fields(message, text),
            RowKind::Echo(echo) => json!({ "kind": "echo", "reply": echo.reply.to_string() }),
            RowKind::Fact(fact) => json!({ "kind": fact_word(fact.kind) }),
            RowKind::Unknown => json!({ "kind": "unknown" }),
        };
        if let (Value::Object(fields), Value::Object(more)) = (&mut object, more) {
            fields.extend(more);
        }
        format!("{object}\n")
    }

    fn message_fields(&self, message: &Message, text: Option<&MessageText>) -> Value {
        let (text, is_unreadable) = match text {
            Some(MessageText::Text(text)) => (Some(text), false),
            Some(MessageText::Unreadable) => (None, true),
            Some(MessageText::Deleted) | None => (None, false),
        };
        let reactions = message.reactions.iter().map(|reaction| {
            let users =
                reaction.users.iter().map(|number| UserId::from_number(*number).to_string());
            json!({ "emoji": reaction.emoji, "users": users.collect::<Vec<_>>() })
        });
        json!({
            "kind": "message",
            "text": text,
            "unreadable": is_unreadable,
            "deleted": message.content.is_none(),
            "in_reply_to": message.in_reply_to.map(|id| id.to_string()),
            "edited_at": message.updated_ms.map(rfc3339),
            "files": attachments(message).map(ToString::to_string).collect::<Vec<_>>(),
            "reactions": reactions.collect::<Vec<_>>(),
        })
    }

    fn author(&self, user: &UserId) -> Value {
        self.storage.state().read(|tables| {
            let known = tables.users.get(user).filter(|user| !user.deleted);
            json!({
                "id": user.to_string(),
                "login": known.map(|user| user.login.as_str()),
                "name": known.map(|user| user.display_name.as_str()),
            })
        })
    }

    fn name(&self, user: &UserId) -> String {
        let name = self.storage.state().read(|tables| {
            let known = tables.users.get(user).filter(|user| !user.deleted)?;
            Some(match known.display_name.as_str() {
                "" => known.login.clone(),
                name => format!("{name} ({})", known.login),
            })
        });
        // A line end in a name would begin what looks like another message.
        let name = name.map(|name| name.replace(char::is_control, " "));
        name.unwrap_or_else(|| format!("deleted user {user}"))
    }
}

/// What is known of a message's text.
enum MessageText {
    Text(String),
    Deleted,
    Unreadable,
}

fn attachments(message: &Message) -> impl Iterator<Item = &AssetId> {
    message.content.iter().flat_map(|Content { attachments, .. }| attachments)
}

fn fact_word(kind: FactKind) -> &'static str {
    match kind {
        FactKind::RoomCreated => "room_created",
        FactKind::Joined => "joined",
        FactKind::Left => "left",
        FactKind::RoomUpdated => "room_updated",
        FactKind::RoomArchived => "room_archived",
        FactKind::RoomUnarchived => "room_unarchived",
        FactKind::CallStarted => "call_started",
        FactKind::CallEnded => "call_ended",
        FactKind::Other(_) => "unknown",
    }
}
