//! What an event does to a page: pure, so that the fold, the reader's overlay and the tests' model
//! share one meaning of every event.
//!
//! An event is applied to a page at most once; the page's event number decides that, not this file.

use crate::domain::EventId;
use crate::limits::PAGE_ROWS;
use crate::storage::layout::PageKey;
use crate::storage::records::{
    Content, Echo, EchoRow, Event, Message, Post, Reaction, Row, Thread, ThreadInfo, event::Effect,
    row::Kind,
};

/// The pages that an event changes. For a reply in a long thread the page of replies comes from the
/// thread page, which says where its replies lie.
pub(crate) fn touched(event: &Event) -> Vec<PageKey> {
    let mut keys = Vec::with_capacity(3);
    let mut touch = |key| {
        if !keys.contains(&key) {
            keys.push(key);
        }
    };
    let echo_row = |echo: &Option<Echo>| echo.as_ref().map(|echo| PageKey::Rows(page(echo.row)));
    match &event.effect {
        None | Some(Effect::Pin(_)) => {}
        Some(Effect::Post(post)) => {
            touch(PageKey::Rows(page(post.row)));
            if post.reply > 0 {
                touch(PageKey::Threads(page(post.row)));
                echo_row(&post.echo).map(&mut touch);
            }
        }
        Some(Effect::Edit(edit)) => {
            home(&edit.id).map(&mut touch);
            echo_row(&edit.show_echo).map(&mut touch);
            echo_row(&edit.hide_echo).map(&mut touch);
        }
        Some(Effect::Delete(delete)) => {
            home(&delete.id).map(&mut touch);
            // A deleted reply lowers the count at its root.
            EventId::try_from(delete.id.as_str())
                .ok()
                .map(|id| PageKey::Rows(page(id.row())))
                .map(&mut touch);
            echo_row(&delete.echo).map(&mut touch);
        }
        Some(Effect::React(react)) => {
            home(&react.id).map(&mut touch);
        }
        Some(Effect::Fact(fact)) => touch(PageKey::Rows(page(fact.row))),
    }
    keys
}

/// The number of the page that holds a row.
pub(crate) fn page(row: u32) -> u32 {
    row / PAGE_ROWS
}

/// The number of the page that holds a reply of a long thread; replies count from 1.
pub(crate) fn reply_page(reply: u32) -> u32 {
    reply.saturating_sub(1) / PAGE_ROWS
}

/// The page where a message itself lies (for replies: the thread page).
fn home(id: &str) -> Option<PageKey> {
    let id = EventId::try_from(id).ok()?;
    let k = page(id.row());
    Some(if id.reply() == 0 { PageKey::Rows(k) } else { PageKey::Threads(k) })
}

/// Whether a message id names a reply, and of which root row.
fn reply_of(id: &str) -> Option<(u32, u32)> {
    let id = EventId::try_from(id).ok()?;
    (id.reply() > 0).then(|| (id.row(), id.reply()))
}

/// Applies an event to the rows of one page of the room.
pub(crate) fn to_rows(k: u32, rows: &mut Vec<Row>, event: &Event, sequence: u64) {
    match &event.effect {
        None | Some(Effect::Pin(_)) => {}
        Some(Effect::Post(post)) if post.reply == 0 => {
            insert(rows, post_row(post, event, sequence, post.row));
        }
        Some(Effect::Post(post)) => {
            if let Some(Kind::Message(root)) = kind(rows, post.row) {
                count_reply(root.thread.get_or_insert_default(), post, event);
            }
            show_echo(k, rows, post.echo.as_ref(), &post.id, event);
        }
        Some(Effect::Edit(edit)) => {
            if reply_of(&edit.id).is_none() {
                edit_row(rows, &edit.id, edit.content.as_ref(), event, sequence);
            }
            show_echo(k, rows, edit.show_echo.as_ref(), &edit.id, event);
            if let Some(Kind::Echo(echo)) =
                edit.hide_echo.as_ref().and_then(|echo| kind(rows, echo.row))
            {
                echo.hidden = true;
            }
        }
        Some(Effect::Delete(delete)) => {
            if let Some(Kind::Echo(row)) =
                delete.echo.as_ref().and_then(|echo| kind(rows, echo.row))
            {
                if delete.echo_only {
                    row.hidden = true;
                } else {
                    row.deleted_ms = event.at_ms;
                }
            }
            match reply_of(&delete.id) {
                _ if delete.echo_only => {}
                None => delete_row(rows, &delete.id, event),
                Some((root, _)) => {
                    if let Some(Kind::Message(root)) = kind(rows, root)
                        && let Some(thread) = &mut root.thread
                    {
                        thread.count = thread.count.saturating_sub(1);
                    }
                }
            }
        }
        Some(Effect::React(react)) => {
            if reply_of(&react.id).is_none() {
                react_row(rows, &react.id, &react.emoji, react.user_number, react.remove);
            }
        }
        Some(Effect::Fact(fact)) => insert(
            rows,
            Row {
                number: fact.row,
                id: fact.id.clone(),
                at_ms: event.at_ms,
                actor_id: event.actor_id.clone(),
                kind: Some(Kind::Fact(fact.kind)),
                call_id: fact.call_id.clone(),
                member_revision: fact.member_revision,
                event_number: 0,
            },
        ),
    }
}

/// Applies an event to the replies of one thread, wherever they lie.
pub(crate) fn to_replies(root: u32, replies: &mut Vec<Row>, event: &Event, sequence: u64) {
    let in_thread = |id: &str| reply_of(id).is_some_and(|(row, _)| row == root);
    match &event.effect {
        Some(Effect::Post(post)) if post.row == root && post.reply > 0 => {
            let mut row = post_row(post, event, sequence, post.reply);
            if let (Some(Kind::Message(message)), Some(echo)) = (&mut row.kind, &post.echo) {
                message.echo_id.clone_from(&echo.id);
                message.echo_row = echo.row;
            }
            insert(replies, row);
        }
        Some(Effect::Edit(edit)) if in_thread(&edit.id) => {
            edit_row(replies, &edit.id, edit.content.as_ref(), event, sequence);
            if let Some(message) = message(replies, &edit.id) {
                if let Some(echo) = &edit.show_echo {
                    message.echo_id.clone_from(&echo.id);
                    message.echo_row = echo.row;
                } else if edit.hide_echo.is_some() {
                    message.echo_id.clear();
                    message.echo_row = 0;
                }
            }
        }
        Some(Effect::Delete(delete)) if in_thread(&delete.id) => {
            if delete.echo_only {
                if let Some(message) = message(replies, &delete.id) {
                    message.echo_id.clear();
                    message.echo_row = 0;
                }
            } else {
                delete_row(replies, &delete.id, event);
            }
        }
        Some(Effect::React(react)) if in_thread(&react.id) => {
            react_row(replies, &react.id, &react.emoji, react.user_number, react.remove);
        }
        _ => {}
    }
}

/// The root row of the thread whose replies an event changes, and the reply's number.
pub(crate) fn thread_of(event: &Event) -> Option<(u32, u32)> {
    match event.effect.as_ref()? {
        Effect::Post(post) if post.reply > 0 => Some((post.row, post.reply)),
        Effect::Edit(edit) => reply_of(&edit.id),
        Effect::Delete(delete) => reply_of(&delete.id),
        Effect::React(react) => reply_of(&react.id),
        _ => None,
    }
}

/// The thread of a root row in a thread page; made when absent.
pub(crate) fn thread(threads: &mut Vec<Thread>, root: u32) -> Option<&mut Thread> {
    let at = match threads.binary_search_by_key(&root, |thread| thread.root_row) {
        Ok(at) => at,
        Err(at) => {
            threads.insert(at, Thread { root_row: root, ..Thread::default() });
            at
        }
    };
    threads.get_mut(at)
}

fn post_row(post: &Post, event: &Event, sequence: u64, number: u32) -> Row {
    let message = Message {
        content: post.content.clone(),
        in_reply_to: post.in_reply_to.clone(),
        thread: post.create_thread.then(ThreadInfo::default),
        request_key: post.request_key.clone(),
        text_sequences: vec![sequence],
        ..Message::default()
    };
    Row {
        number,
        id: post.id.clone(),
        at_ms: event.at_ms,
        actor_id: event.actor_id.clone(),
        kind: Some(Kind::Message(message)),
        event_number: if post.reply > 0 { event.number } else { 0 },
        ..Row::default()
    }
}

fn insert(rows: &mut Vec<Row>, row: Row) {
    match rows.binary_search_by_key(&row.number, |row| row.number) {
        Ok(_) => log::error!(row = row.number; "a row would be written twice"),
        Err(at) => rows.insert(at, row),
    }
}

fn kind(rows: &mut [Row], number: u32) -> Option<&mut Kind> {
    let at = rows.binary_search_by_key(&number, |row| row.number).ok()?;
    rows.get_mut(at)?.kind.as_mut()
}

fn message<'a>(rows: &'a mut [Row], id: &str) -> Option<&'a mut Message> {
    match rows.iter_mut().find(|row| row.id == id)?.kind.as_mut()? {
        Kind::Message(message) => Some(message),
        Kind::Fact(_) | Kind::Echo(_) => None,
    }
}

fn count_reply(thread: &mut ThreadInfo, post: &Post, event: &Event) {
    thread.count += 1;
    thread.made = thread.made.max(post.reply);
    thread.last_ms = event.at_ms;
    if !thread.participant_ids.contains(&event.actor_id) {
        thread.participant_ids.push(event.actor_id.clone());
    }
}

fn show_echo(k: u32, rows: &mut Vec<Row>, echo: Option<&Echo>, reply_id: &str, event: &Event) {
    let Some(echo) = echo.filter(|echo| page(echo.row) == k) else { return };
    insert(
        rows,
        Row {
            number: echo.row,
            id: echo.id.clone(),
            at_ms: event.at_ms,
            actor_id: event.actor_id.clone(),
            kind: Some(Kind::Echo(EchoRow { reply_id: reply_id.to_owned(), ..EchoRow::default() })),
            ..Row::default()
        },
    );
}

fn edit_row(rows: &mut [Row], id: &str, content: Option<&Content>, event: &Event, sequence: u64) {
    let Some(content) = content else { return };
    let Some(message) = message(rows, id) else { return };
    if message.deleted_ms > 0 {
        // A text that came too late must not stay in the journal either.
        message.erase_sequences.push(sequence);
        return;
    }
    message.content = Some(content.clone());
    message.updated_ms = event.at_ms;
    message.erase_sequences.append(&mut message.text_sequences);
    message.text_sequences.push(sequence);
}

fn delete_row(rows: &mut [Row], id: &str, event: &Event) {
    if let Some(message) = message(rows, id).filter(|message| message.deleted_ms == 0) {
        message.content = None;
        message.deleted_ms = event.at_ms;
        message.erase_sequences.append(&mut message.text_sequences);
    }
}

fn react_row(rows: &mut [Row], id: &str, emoji: &str, user: u64, remove: bool) {
    let Some(message) = message(rows, id) else { return };
    let reactions = &mut message.reactions;
    let at = reactions.iter().position(|reaction| reaction.emoji == emoji);
    match (at.and_then(|at| reactions.get_mut(at)), remove) {
        (Some(reaction), false) => {
            if !reaction.users.contains(&user) {
                reaction.users.push(user);
            }
        }
        (None, false) => {
            reactions.push(Reaction { emoji: emoji.to_owned(), users: vec![user] });
        }
        (Some(reaction), true) => reaction.users.retain(|&other| other != user),
        (None, true) => {}
    }
    reactions.retain(|reaction| !reaction.users.is_empty());
}
