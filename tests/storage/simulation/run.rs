//! One list: a nats-server and workers of its own, the commands they get, and their responses.
#![expect(clippy::disallowed_methods, reason = "a simulation pauses and measures real time")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::check;
use super::counts::Counts;
use super::foreign::Foreign;
use super::model::{Live, Model, View};
use super::ops::{Op, ROOMS, WORKERS, Wish};
use super::process::{Process, Received};
use super::protocol::{Act, Command, Emoji, Request, Text};
use crate::support::nats::NatsServer;
use crate::support::records::{Event, event::Effect};

/// How long everything may take to come to rest; an append alone is tried for 15 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);
/// Commands of one worker that wait for a response.
const IN_WORK_MAX: usize = 12;
/// A page of these spills.
const LARGE: (usize, usize) = (10, 60_000);
/// Reactions of these spill.
const LONG: (usize, usize) = (18, 8_000);

/// A command without a response yet.
pub(super) struct Sent {
    pub(super) worker: usize,
    process: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Append(Wanted),
    /// An append behind an event that the worker cannot read.
    Behind(Wanted),
    Fold,
    Read {
        room: usize,
    },
}

/// An event that somebody wants to have appended.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) room: usize,
    pub(super) key: String,
    pub(super) act: Act,
    /// Events of the room that were acknowledged before.
    pub(super) after: u64,
    /// Why it may be stored without a response; `Cut` when that is counted apart.
    pub(super) lost: Option<Lost>,
    tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lost {
    Cut,
    Otherwise,
}

/// A room, what is known of it and what must be.
#[derive(Default)]
pub(super) struct Room {
    pub(super) model: Model,
    /// Acknowledged events by number.
    pub(super) events: BTreeMap<u64, Event>,
    /// Highest number that was acknowledged; those before may still be on their way.
    pub(super) highest: u64,
    /// Numbers of events that a newer program wrote; they change nothing that we know of.
    pub(super) foreign: BTreeSet<u64>,
    /// The room before the last of them.
    pub(super) before: Option<View>,
    /// Ids of rows, as somebody read them while things happened.
    pub(super) seen: Vec<Vec<String>>,
}

impl Room {
    /// Takes an event of a newer program.
    pub(super) fn skip(&mut self, number: u64) {
        self.foreign.insert(number);
        self.before = Some(self.model.view.clone());
        self.highest = number;
        self.model.view.events = number;
        self.model.view.last_ms += 1;
    }
}

/// A run of one list.
pub(super) struct Run<'a> {
    pub(super) nats: NatsServer,
    name: String,
    pub(super) workers: Vec<Process>,
    /// When a stopped worker goes on.
    pub(super) goes_on: Vec<Option<Instant>>,
    pub(super) received: (Sender<Received>, Receiver<Received>),
    pub(super) sent: BTreeMap<u64, Sent>,
    /// In the middle of whatever it did.
    pub(super) nats_was_killed: bool,
    /// Refused when repeated: the first attempt may have been stored.
    pub(super) unsettled: Vec<Wanted>,
    pub(super) rooms: Vec<Room>,
    /// Records of a newer program, at most one in a room.
    pub(super) foreign: Vec<Foreign>,
    pub(super) counts: &'a mut Counts,
    pub(super) next: u64,
    texts: u64,
    started: Instant,
    /// The commands and responses, for whoever investigates a failure.
    trace: Vec<String>,
}

/// What is wrong.
pub(super) type Fault = String;

impl<'a> Run<'a> {
    /// `name` is part of every text, so that those of other runs are distinguished from ours.
    pub(super) fn new(name: &str, counts: &'a mut Counts) -> Self {
        let mut run = Self {
            nats: NatsServer::start(),
            name: name.to_owned(),
            workers: Vec::new(),
            goes_on: vec![None; WORKERS],
            received: channel(),
            sent: BTreeMap::new(),
            nats_was_killed: false,
            unsettled: Vec::new(),
            rooms: (0..ROOMS).map(|_| Room::default()).collect(),
            foreign: Vec::new(),
            counts,
            next: 0,
            texts: 0,
            started: Instant::now(),
            trace: Vec::new(),
        };
        for _ in 0..WORKERS {
            let process = run.process();
            run.workers.push(process);
        }
        run
    }

    /// Does all steps, and compares at the end. What happened is written to `trace` when it fails.
    pub(super) fn list(mut self, ops: &[Op], trace: &Path) -> Result<(), Fault> {
        let result = self.steps(ops);
        if result.is_err() {
            // It may be down, as a step or the end of the list left it.
            self.nats.restart();
            self.trace.extend(check::stored_pages(&self.nats));
            std::fs::write(trace, self.trace.join("\n")).unwrap();
        }
        result
    }

    fn steps(&mut self, ops: &[Op]) -> Result<(), Fault> {
        for op in ops {
            self.note(|| format!("step {op:?}"));
            self.step(op)?;
            self.pump(Instant::now())?;
        }
        self.quiesce()?;
        self.upgrade()?;
        self.nats.stop();
        check::disk(self)
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        self.trace.push(format!("{:9.4} {}", self.started.elapsed().as_secs_f64(), what()));
    }

    pub(super) fn process(&mut self) -> Process {
        self.next += 1;
        Process::start(&self.nats.url(), self.next, self.received.0.clone())
    }

    fn step(&mut self, op: &Op) -> Result<(), Fault> {
        match op {
            Op::Act { by, room, act, cut } => self.act(*by, *room, act, *cut)?,
            Op::Burst { room, act, count } => {
                for n in 0..*count {
                    self.act(n, *room, &differing(act, n), None)?;
                }
            }
            Op::Fill { by, room } => {
                for _ in 0..LARGE.0 {
                    self.act(*by, *room, &Wish::Post { bytes: LARGE.1 }, None)?;
                }
            }
            Op::Reactions { by, room, at } => self.reactions(*by, *room, *at)?,
            Op::Fold { by, cut } => {
                self.send(*by, Command::Fold { cut: *cut }, What::Fold)?;
            }
            Op::FoldBeside { first, second, after_us } => {
                self.fold_beside(*first, *second, *after_us)?;
            }
            Op::Read { by, room } => {
                let command = Command::Read { room: *room as u8, barrier: false };
                self.send(*by, command, What::Read { room: *room })?;
            }
            Op::Stop { by, for_ms } => {
                self.halt(*by);
                self.goes_on[*by] = Some(Instant::now() + Duration::from_millis(*for_ms));
            }
            Op::Kill { by, room, after_us } => {
                self.act(*by, *room, &Wish::Post { bytes: 100 }, None)?;
                self.send(*by, Command::Fold { cut: None }, What::Fold)?;
                let reply = Wish::Reply { root: 0, bytes: 50, echo: true };
                self.act(*by, *room, &reply, None)?;
                std::thread::sleep(Duration::from_micros(*after_us));
                self.kill(*by)?;
            }
            Op::Close { by } => self.close(*by)?,
            Op::KillNats { for_ms } => {
                self.nats_was_killed = true;
                self.counts.add("kill: nats-server");
                if self.in_work(|sent| matches!(sent.what, What::Append(_))) {
                    self.counts.add("kill: nats-server with appends in work");
                }
                self.nats.kill();
                std::thread::sleep(Duration::from_millis(*for_ms));
                self.nats.restart();
            }
            Op::Wait { ms } => self.pump(Instant::now() + Duration::from_millis(*ms))?,
            Op::Quiesce => self.quiesce()?,
            Op::Foreign { room, novelty } => self.meet(*room, *novelty)?,
            Op::Upgrade => self.upgrade()?,
        }
        Ok(())
    }

    // --- commands to workers --------------------------------------------------------------------

    /// Sends a command, when the worker has not too much to do already.
    fn send(&mut self, worker: usize, command: Command, what: What) -> Result<Option<u64>, Fault> {
        let worker = worker % WORKERS;
        let deadline = Instant::now() + PATIENCE;
        while self.in_work_of(worker) >= IN_WORK_MAX {
            if self.workers[worker].stopped {
                return Ok(None);
            }
            if Instant::now() > deadline {
                return Err(format!("worker {worker} does not respond: {}", self.pending()));
            }
            self.pump(Instant::now() + Duration::from_millis(1))?;
        }
        Ok(Some(self.send_now(worker, command, what)))
    }

    pub(super) fn send_now(&mut self, worker: usize, command: Command, what: What) -> u64 {
        self.next += 1;
        let id = self.next;
        self.note(|| format!("{id} to worker {worker}: {command:?}"));
        let process = &mut self.workers[worker];
        self.sent.insert(id, Sent { worker, process: process.number, what });
        process.send(&Request { id, command });
        id
    }

    pub(super) fn in_work(&self, which: impl Fn(&Sent) -> bool) -> bool {
        self.sent.values().any(which)
    }

    fn in_work_of(&self, worker: usize) -> usize {
        self.sent.values().filter(|sent| sent.worker == worker).count()
    }

    /// What waits for a response, for the words of a fault.
    pub(super) fn pending(&self) -> String {
        let all = self.sent.iter().map(|(id, Sent { worker, process, what })| {
            let stopped = if self.workers[*worker].stopped { ", stopped" } else { "" };
            format!("{id} by worker {worker} (process {process}{stopped}): {what:?}")
        });
        all.collect::<Vec<_>>().join("; ")
    }

    fn act(&mut self, by: usize, room: usize, wish: &Wish, cut: Option<u32>) -> Result<(), Fault> {
        if self.is_unreadable(room) {
            return Ok(());
        }
        let Some(act) = self.choose(room, wish) else { return Ok(()) };
        self.append(by, room, act, cut)
    }

    fn append(&mut self, by: usize, room: usize, act: Act, cut: Option<u32>) -> Result<(), Fault> {
        let wanted = self.wanted(room, act);
        let command = wanted.command(cut);
        self.send(by, command, What::Append(wanted))?;
        Ok(())
    }

    pub(super) fn wanted(&mut self, room: usize, act: Act) -> Wanted {
        self.next += 1;
        let key = format!("{}-{}", self.name, self.next);
        let after = self.rooms[room].highest;
        Wanted { room, key, act, after, lost: None, tries: 0 }
    }

    /// Gives an event whose fate is unknown to another worker, under the same key.
    pub(super) fn repeat(
        &mut self,
        mut wanted: Wanted,
        lost: Lost,
        by: usize,
    ) -> Result<(), Fault> {
        wanted.lost = Some(match wanted.lost {
            Some(Lost::Otherwise) => Lost::Otherwise,
            _ => lost,
        });
        wanted.tries += 1;
        if wanted.tries > 20 {
            return Err(format!("never acknowledged: {wanted:?}"));
        }
        let running = |at: &usize| !self.workers[*at].stopped && !self.workers[*at].closing;
        let at = (1..=WORKERS).map(|n| (by + n) % WORKERS).find(running).unwrap_or(by);
        self.send_now(at, wanted.command(None), What::Append(wanted));
        Ok(())
    }

    pub(super) fn text(&mut self, bytes: usize) -> Text {
        self.texts += 1;
        Text { name: format!("{}-{}", self.name, self.texts), bytes }
    }

    /// What a wish comes to in the room as it is known; `None`: there is nothing of the kind.
    fn choose(&mut self, room: usize, wish: &Wish) -> Option<Act> {
        // An edit that may be repeated must not find its text erased: a text is changed once at a time.
        let busy: BTreeSet<String> = self.sent.values().filter_map(Sent::changes_text).collect();
        let all = self.rooms[room].model.messages();
        let pick = |at: usize, which: &dyn Fn(&Live) -> bool| {
            let of_kind: Vec<&Live> = all.iter().filter(|live| which(live)).collect();
            (!of_kind.is_empty()).then(|| of_kind[at % of_kind.len()].id.clone())
        };
        let idle = |live: &Live| !busy.contains(&live.id);
        let emoji = |number: usize| Emoji { number, bytes: 0 };
        Some(match *wish {
            Wish::Post { bytes } => Act::Post { text: self.text(bytes) },
            Wish::Reply { root, bytes, echo } => {
                let root = pick(root, &|live| !live.is_reply)?;
                Act::Reply { root, text: self.text(bytes), echo }
            }
            Wish::Edit { at, bytes } => {
                let id = pick(at, &idle)?;
                Act::Edit { id, text: self.text(bytes) }
            }
            Wish::ShowEcho { at } => {
                Act::ShowEcho { id: pick(at, &|live| live.is_reply && !live.is_echoed)? }
            }
            Wish::HideEcho { at } => Act::HideEcho { id: pick(at, &|live| live.is_echoed)? },
            Wish::Delete { at } => Act::Delete { id: pick(at, &idle)?, echo_only: false },
            Wish::DeleteEcho { at } => {
                Act::Delete { id: pick(at, &|live| live.is_echoed)?, echo_only: true }
            }
            Wish::React { at, emoji: number, user } => {
                let id = pick(at, &|_| true)?;
                Act::React { id, emoji: emoji(number), user, remove: false }
            }
            Wish::Unreact { at } => {
                let id = pick(at, &|live| !live.reactions.is_empty())?;
                let of = &all.iter().find(|live| live.id == id)?.reactions;
                let (number, user) = of[at % of.len()];
                Act::React { id, emoji: emoji(number), user, remove: true }
            }
            Wish::Pin { at, remove } => {
                let pins = &self.rooms[room].model.view.pins;
                Act::Pin { id: pick(at, &|live| pins.contains(&live.id) == remove)?, remove }
            }
            Wish::Member { user, left } => Act::Member { user, left },
        })
    }

    fn reactions(&mut self, by: usize, room: usize, at: usize) -> Result<(), Fault> {
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.rooms[room].model.messages().is_empty() && Instant::now() < deadline {
            self.pump(Instant::now() + Duration::from_millis(5))?;
        }
        if self.is_unreadable(room) {
            return Ok(());
        }
        let messages = self.rooms[room].model.messages();
        let Some(message) = messages.get(at % messages.len().max(1)) else { return Ok(()) };
        let id = message.id.clone();
        for n in 0..LONG.0 {
            let emoji = Emoji { number: 10 + n, bytes: LONG.1 };
            let act = Act::React { id: id.clone(), emoji, user: n as u64 % 3, remove: false };
            self.append(by, room, act, None)?;
        }
        Ok(())
    }

    fn fold_beside(&mut self, first: usize, second: usize, after_us: u64) -> Result<(), Fault> {
        // Something acknowledged to be lost, in every page's room.
        for room in 0..ROOMS {
            self.act(second, room, &Wish::React { at: 3, emoji: 1, user: 7 + self.texts }, None)?;
            self.texts += 1;
        }
        self.pump(Instant::now() + Duration::from_millis(30))?;
        if self.send(first, Command::Fold { cut: None }, What::Fold)?.is_none() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(after_us));
        self.halt(first);
        let done = self.send(second, Command::Fold { cut: None }, What::Fold)?;
        let deadline = Instant::now() + PATIENCE;
        while let Some(id) = done
            && self.sent.contains_key(&id)
            && !self.workers[second % WORKERS].stopped
        {
            if Instant::now() > deadline {
                return Err(format!("worker {second} does not fold beside a stopped one"));
            }
            self.pump(Instant::now() + Duration::from_millis(1))?;
        }
        self.counts.add("stop: the other one folded meanwhile");
        self.go_on(first);
        Ok(())
    }

    fn halt(&mut self, worker: usize) {
        self.workers[worker].stop();
        self.counts.add("stop: worker");
        if self.in_work(|sent| sent.worker == worker && matches!(sent.what, What::Fold)) {
            self.counts.add("stop: worker with a fold in work");
        }
    }

    pub(super) fn go_on(&mut self, worker: usize) {
        self.workers[worker].go_on();
        self.goes_on[worker] = None;
    }

    pub(super) fn kill(&mut self, worker: usize) -> Result<(), Fault> {
        let fresh = self.process();
        let mut killed = std::mem::replace(&mut self.workers[worker], fresh);
        self.goes_on[worker] = None;
        killed.kill();
        // What it had printed before counts.
        self.pump(Instant::now())?;
        self.counts.add("kill: worker");
        let (appends, folds) = self.repeat_lost(killed.number, worker)?;
        if appends {
            self.counts.add("kill: worker with appends in work");
        }
        if folds {
            self.counts.add("kill: worker with a fold in work");
        }
        Ok(())
    }

    /// A process is gone: others repeat what it has not responded to. Returns whether there were appends, and
    /// folds.
    fn repeat_lost(&mut self, process: u64, worker: usize) -> Result<(bool, bool), Fault> {
        let lost = self.sent.iter().filter(|(_, sent)| sent.process == process);
        let lost: Vec<u64> = lost.map(|(id, _)| *id).collect();
        let (mut appends, mut folds) = (false, false);
        for id in lost {
            match self.sent.remove(&id).map(|sent| sent.what) {
                Some(What::Append(wanted)) => {
                    appends = true;
                    self.repeat(wanted, Lost::Otherwise, worker)?;
                }
                Some(What::Behind(wanted)) => self.unsettled.push(wanted),
                Some(What::Fold) => folds = true,
                Some(What::Read { .. }) | None => {}
            }
        }
        Ok((appends, folds))
    }

    /// A worker ends as it should; a new one takes its place.
    fn close(&mut self, worker: usize) -> Result<(), Fault> {
        if self.workers[worker].stopped {
            self.go_on(worker);
        }
        self.workers[worker].closing = true;
        self.finish(worker, Command::Close)?;
        self.counts.add("end: worker closed its store");
        let fresh = self.process();
        let closed = std::mem::replace(&mut self.workers[worker], fresh);
        self.repeat_lost(closed.number, worker)?;
        Ok(())
    }

    // --- responses of workers ---------------------------------------------------------------------
}

/// The same wish for the n-th of several that act at once.
fn differing(wish: &Wish, n: usize) -> Wish {
    let mut wish = wish.clone();
    match &mut wish {
        Wish::React { user, .. } => *user += n as u64,
        Wish::Edit { at, .. } | Wish::Delete { at } => *at += n,
        _ => {}
    }
    wish
}

pub(super) fn kind(event: &Event) -> &'static str {
    use crate::support::records::FactKind;
    match &event.effect {
        Some(Effect::Post(post)) if post.reply == 0 => "event: post",
        Some(Effect::Post(post)) if post.echo.is_none() => "event: reply",
        Some(Effect::Post(_)) => "event: reply with echo",
        Some(Effect::Edit(edit)) if edit.show_echo.is_some() => "event: echo shown",
        Some(Effect::Edit(edit)) if edit.hide_echo.is_some() => "event: echo hidden",
        Some(Effect::Edit(_)) => "event: edit",
        Some(Effect::Delete(delete)) if delete.echo_only => "event: echo deleted",
        Some(Effect::Delete(delete)) => {
            let reply = chatto::domain::EventId::try_from(delete.id.as_str());
            match reply.is_ok_and(|id| id.reply() > 0) {
                true => "event: reply deleted",
                false => "event: root message deleted",
            }
        }
        Some(Effect::React(react)) if react.remove => "event: reaction removed",
        Some(Effect::React(_)) => "event: reaction",
        Some(Effect::Pin(pin)) if pin.remove => "event: unpin",
        Some(Effect::Pin(_)) => "event: pin",
        Some(Effect::Fact(fact)) if fact.kind == i32::from(FactKind::Left) => "event: leave",
        Some(Effect::Fact(_)) => "event: join",
        None => "event without effect",
    }
}
