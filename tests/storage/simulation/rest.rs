//! What must hold when everything has come to rest; and newer programs, which are met at rest only.
#![expect(clippy::disallowed_methods, reason = "a simulation measures real time")]

use std::time::{Duration, Instant};

use super::check;
use super::foreign::{self, Foreign, Novelty};
use super::model::{View, difference};
use super::ops::{ROOMS, WORKERS};
use super::protocol::{Act, Command, Line, Request, Response};
use super::run::{Fault, PATIENCE, Room, Run, Wanted, What, kind};

impl Run<'_> {
    /// Waits until nothing is in work.
    fn come_to_rest(&mut self) -> Result<(), Fault> {
        for worker in 0..WORKERS {
            if self.workers[worker].stopped {
                self.go_on(worker);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.sent.is_empty() {
            if Instant::now() > deadline {
                return Err(format!("never responded: {}", self.pending()));
            }
            self.pump(Instant::now() + Duration::from_millis(1))?;
        }
        self.settle()
    }

    /// Compares everything with the model, once nothing is in work.
    pub(super) fn quiesce(&mut self) -> Result<(), Fault> {
        self.come_to_rest()?;
        for worker in 0..WORKERS {
            self.compare(worker, "as a worker reads it")?;
        }
        for room in &mut self.rooms {
            let ids: Vec<&str> = room.model.view.rows.iter().map(|row| row.id.as_str()).collect();
            for seen in std::mem::take(&mut room.seen) {
                if seen.len() > ids.len() || seen.iter().zip(&ids).any(|(one, other)| one != other)
                {
                    return Err(format!("rows were read that are not there: {seen:?}, {ids:?}"));
                }
            }
        }
        self.fold_everything()?;
        // The oldest worker makes place for one that has nothing in memory.
        let fresh = self.process();
        let mut oldest = std::mem::replace(&mut self.workers[0], fresh);
        self.workers.rotate_left(1);
        self.goes_on.rotate_left(1);
        oldest.kill();
        self.pump(Instant::now())?;
        self.compare(WORKERS - 1, "after a start")?;
        check::pages(self)?;
        self.counts.add("rest: compared with the model");
        Ok(())
    }

    /// Takes what the journal holds of events whose repetition was refused, and finds every event that
    /// nobody knows of.
    fn settle(&mut self) -> Result<(), Fault> {
        let journal = check::journal(&self.nats);
        for (room, events) in journal.into_iter().enumerate() {
            for event in events {
                let known = &self.rooms[room];
                if known.events.contains_key(&event.number) || known.foreign.contains(&event.number)
                {
                    continue;
                }
                let ours = |wanted: &Wanted| wanted.room == room && wanted.is_stored_as(&event);
                let Some(at) = self.unsettled.iter().position(ours) else {
                    return Err(format!("stored, but nobody knows of it: {event:?}"));
                };
                self.unsettled.swap_remove(at);
                self.counts.add("stored, and refused when it was repeated");
                self.counts.add(kind(&event));
                self.learn(room, event)?;
            }
        }
        self.unsettled.clear();
        for (n, room) in self.rooms.iter().enumerate() {
            if room.model.view.events != room.highest {
                let (known, highest) = (room.model.view.events, room.highest);
                return Err(format!("room {n}: no event {} of {highest}", known + 1));
            }
        }
        check::acknowledged_is_stored(self)
    }

    /// Does one command to its end.
    pub(super) fn finish(&mut self, worker: usize, command: Command) -> Result<Response, Fault> {
        self.next += 1;
        let id = self.next;
        let deadline = Instant::now() + PATIENCE;
        let what = format!("{command:?}");
        self.note(|| format!("{id} to worker {worker}: {what}"));
        self.workers[worker].send(&Request { id, command });
        loop {
            match self.received.1.recv_timeout(Duration::from_millis(5)) {
                Ok((_, Some(Line::Response { id: of, response }))) if of == id => {
                    self.note(|| format!("{id} {}", response.short()));
                    return Ok(response);
                }
                Ok((process, line)) => self.receive(process, line)?,
                Err(_) if Instant::now() > deadline => {
                    return Err(format!("no response to {what}"));
                }
                Err(_) => {}
            }
        }
    }

    fn compare(&mut self, worker: usize, how: &str) -> Result<(), Fault> {
        for room in 0..ROOMS {
            let view = self.read(worker, room)?;
            // Behind an event that cannot be read nothing is shown.
            let Room { model, before, .. } = &self.rooms[room];
            let expected = before.as_ref().filter(|_| self.is_unreadable(room));
            if let Some(difference) = difference(&view, expected.unwrap_or(&model.view)) {
                return Err(format!("room {room} {how}: {difference}"));
            }
        }
        Ok(())
    }

    fn read(&mut self, worker: usize, room: usize) -> Result<View, Fault> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.finish(worker, Command::Read { room: room as u8, barrier: true })? {
                Response::Room(view) => return Ok(*view),
                Response::Failed { transient: true, .. } if Instant::now() < deadline => {}
                response => return Err(format!("reading room {room}: {response:?}")),
            }
        }
    }

    /// Folds until nothing is left but what is held, and purges.
    fn fold_everything(&mut self) -> Result<(), Fault> {
        let deadline = Instant::now() + PATIENCE;
        for worker in 0..WORKERS {
            loop {
                let folded = self.finish(worker, Command::Fold { cut: None })?;
                let left = self.finish(worker, Command::Unfolded)?;
                let nothing_left = left == Response::Unfolded(0) || !self.foreign.is_empty();
                match folded {
                    Response::Done if nothing_left && self.unfolded_room().is_none() => break,
                    Response::Done | Response::Failed { transient: true, .. } => {}
                    response => return Err(format!("folding everything: {response:?}")),
                }
                if Instant::now() > deadline {
                    let room = self.unfolded_room();
                    return Err(format!("worker {worker} cannot fold all: {left:?}, {room:?}"));
                }
            }
        }
        for foreign in &self.foreign {
            foreign::untouched(&self.nats, foreign)?;
        }
        loop {
            match self.finish(0, Command::Purge)? {
                Response::Done => return Ok(()),
                Response::Failed { transient: true, .. } if Instant::now() < deadline => {}
                response => return Err(format!("purging: {response:?}")),
            }
        }
    }

    /// A room whose head page lacks an event that may be folded, and the last one it has.
    fn unfolded_room(&self) -> Option<(usize, u64)> {
        let folded = foreign::all_folded(&self.nats, ROOMS);
        folded.into_iter().enumerate().find(|(room, folded)| {
            let foreign = self.foreign.iter().find(|foreign| foreign.room() == *room);
            let wanted = match foreign {
                None => self.rooms[*room].highest,
                Some(Foreign::Event { number, .. }) => number - 1,
                Some(Foreign::Page { .. }) => return false,
            };
            *folded != wanted
        })
    }

    // --- newer programs ---------------------------------------------------------------------------

    /// Whether a room has an event of which our workers cannot even read the number.
    pub(super) fn is_unreadable(&self, room: usize) -> bool {
        let unreadable = |foreign: &Foreign| matches!(foreign, Foreign::Event { room: at, readable: false, .. } if *at == room);
        self.foreign.iter().any(unreadable)
    }

    /// A newer program writes into a room.
    pub(super) fn meet(&mut self, room: usize, novelty: Novelty) -> Result<(), Fault> {
        if self.foreign.iter().any(|foreign| foreign.room() == room) {
            return Ok(());
        }
        self.come_to_rest()?;
        if novelty.is_page() {
            self.finish(0, Command::Fold { cut: None })?;
        }
        let view = &self.rooms[room].model.view;
        let end = (view.events, view.last_ms, view.rows.len() as u32);
        let Some(foreign) = foreign::write(&self.nats, novelty, room, end) else { return Ok(()) };
        self.counts.add(novelty.name());
        if let Foreign::Event { number, .. } = &foreign {
            self.rooms[room].skip(*number);
            let text = self.text(90);
            let wanted = self.wanted(room, Act::Post { text });
            self.send_now(number_of(*number), wanted.command(None), What::Behind(wanted));
        }
        self.foreign.push(foreign);
        Ok(())
    }

    /// The newer program comes, first beside ours and then in its place: everything that waited goes on.
    pub(super) fn upgrade(&mut self) -> Result<(), Fault> {
        if self.foreign.is_empty() {
            return Ok(());
        }
        self.quiesce()?;
        for foreign in &self.foreign {
            foreign::resolve(&self.nats, foreign)?;
        }
        for worker in 0..WORKERS {
            self.kill(worker)?;
        }
        self.foreign.clear();
        self.counts.add("foreign: the newer program came");
        self.quiesce()
    }
}

/// A worker for the n-th thing.
fn number_of(n: u64) -> usize {
    n as usize % WORKERS
}
