//! The responses of workers, and what the model learns from it.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use prost::Message as _;

use super::ops::WORKERS;
use super::protocol::{Act, Command, Line, Response};
use super::run::{Fault, Lost, Run, Sent, Wanted, What, kind};
use crate::support::records::{Event, event::Effect};

impl Run<'_> {
    /// Takes what workers print until a moment, and lets stopped workers go on in time.
    pub(super) fn pump(&mut self, until: Instant) -> Result<(), Fault> {
        loop {
            let now = Instant::now();
            for worker in 0..WORKERS {
                if self.goes_on[worker].is_some_and(|at| at <= now) {
                    self.go_on(worker);
                }
            }
            let wait = until.saturating_duration_since(now).min(Duration::from_millis(5));
            match self.received.1.recv_timeout(wait) {
                Ok((process, line)) => self.receive(process, line)?,
                Err(RecvTimeoutError::Timeout) if now >= until => return Ok(()),
                Err(_) => {}
            }
        }
    }

    pub(super) fn receive(&mut self, process: u64, line: Option<Line>) -> Result<(), Fault> {
        match line {
            Some(Line::Ready) => Ok(()),
            // It prints which rooms wait for a newer program.
            Some(Line::Error(text)) if text.contains("held") && !self.foreign.is_empty() => Ok(()),
            Some(Line::Error(text)) => Err(format!("a worker logs an error: {text}")),
            Some(Line::Response { id, response }) => match self.sent.remove(&id) {
                Some(sent) => {
                    self.note(|| format!("{id} {}", response.short()));
                    self.responded(sent, response)
                }
                None => Ok(()),
            },
            None if self.workers.iter().any(|one| one.number == process && !one.closing) => {
                Err(format!("worker process {process} has ended by itself"))
            }
            None => Ok(()),
        }
    }

    fn responded(&mut self, sent: Sent, response: Response) -> Result<(), Fault> {
        match (sent.what, response) {
            (What::Append(wanted), Response::Appended { event, duplicate }) => {
                let event = Event::decode(&event[..]).map_err(|error| error.to_string())?;
                self.acknowledged(wanted, event, duplicate)
            }
            (What::Append(wanted), Response::Cut) => {
                self.counts.add("cut: append");
                self.repeat(wanted, Lost::Cut, sent.worker)
            }
            (What::Append(wanted), Response::Failed { transient: true, .. }) => {
                self.counts.add("append failed for now");
                self.repeat(wanted, Lost::Otherwise, sent.worker)
            }
            (What::Behind(wanted), Response::Appended { event, duplicate }) => {
                self.counts.add("foreign: appended behind an event that cannot be read");
                let event = Event::decode(&event[..]).map_err(|error| error.to_string())?;
                self.acknowledged(wanted, event, duplicate)
            }
            (What::Behind(wanted), Response::Failed { .. }) => {
                self.counts.add("foreign: no append behind an event that cannot be read");
                self.unsettled.push(wanted);
                Ok(())
            }
            (What::Append(wanted), Response::Refused) => {
                self.counts.add("append refused");
                if wanted.lost.is_some() {
                    self.unsettled.push(wanted);
                }
                Ok(())
            }
            (What::Fold, Response::Cut) => {
                self.counts.add("cut: fold");
                Ok(())
            }
            (What::Read { room }, Response::Room(view)) => {
                self.counts.add("read: while things happen");
                self.rooms[room].seen.push(view.rows.into_iter().map(|row| row.id).collect());
                Ok(())
            }
            (_, Response::Failed { error, transient: false }) => Err(format!("failed: {error}")),
            (What::Fold | What::Read { .. }, _) => Ok(()),
            (What::Append(wanted) | What::Behind(wanted), response) => {
                Err(format!("{response:?} to {wanted:?}"))
            }
        }
    }

    fn acknowledged(&mut self, wanted: Wanted, event: Event, duplicate: bool) -> Result<(), Fault> {
        if !wanted.is_stored_as(&event) {
            return Err(format!("{event:?} instead of {wanted:?}"));
        }
        if event.number <= wanted.after {
            let (number, after) = (event.number, wanted.after);
            return Err(format!("event {number} came after {after}: {wanted:?}"));
        }
        if wanted.lost == Some(Lost::Cut) {
            self.counts.add(match duplicate {
                true => "cut: append, stored all the same",
                false => "cut: append, not stored",
            });
        }
        self.counts.add(kind(&event));
        self.learn(wanted.room, event)
    }

    /// Takes an event that is stored.
    pub(super) fn learn(&mut self, room: usize, event: Event) -> Result<(), Fault> {
        let room = &mut self.rooms[room];
        room.highest = room.highest.max(event.number);
        if let Some(other) = room.events.get(&event.number) {
            return Err(format!("two events have one number: {other:?} and {event:?}"));
        }
        room.events.insert(event.number, event);
        while let Some(next) = room.events.get(&(room.model.view.events + 1)) {
            room.model.apply(next)?;
        }
        Ok(())
    }
}

impl Sent {
    /// The message whose text this changes.
    pub(super) fn changes_text(&self) -> Option<String> {
        match &self.what {
            What::Append(Wanted { act: Act::Edit { id, .. } | Act::Delete { id, .. }, .. }) => {
                Some(id.clone())
            }
            _ => None,
        }
    }
}

impl Wanted {
    pub(super) fn command(&self, cut: Option<u32>) -> Command {
        let (room, key, act) = (self.room as u8, self.key.clone(), self.act.clone());
        Command::Append { room, key, act, cut }
    }

    /// Whether a stored event is what was requested, under the same key.
    pub(super) fn is_stored_as(&self, event: &Event) -> bool {
        use super::super::{room, user};
        let room = room(self.room as u8);
        let key = chatto::storage::RequestId::keyed(&user(0), "Simulate", &room, &self.key);
        let Some(effect) = &event.effect else { return false };
        event.request_id == key.as_str()
            && match (&self.act, effect) {
                (Act::Post { .. }, Effect::Post(post)) => post.reply == 0,
                (Act::Reply { .. }, Effect::Post(post)) => post.reply > 0,
                (Act::Edit { id, .. }, Effect::Edit(edit)) => edit.id == *id,
                (Act::ShowEcho { id }, Effect::Edit(edit)) => edit.id == *id,
                (Act::HideEcho { id }, Effect::Edit(edit)) => edit.id == *id,
                (Act::Delete { id, .. }, Effect::Delete(delete)) => delete.id == *id,
                (Act::React { id, .. }, Effect::React(react)) => react.id == *id,
                (Act::Pin { id, .. }, Effect::Pin(pin)) => pin.id == *id,
                (Act::Member { user, .. }, Effect::Fact(fact)) => fact.member_revision == *user,
                _ => false,
            }
    }
}
