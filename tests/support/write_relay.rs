//! A relay in front of a nats-server that knows what its client writes, and stops at one of these writes: nothing
//! passes in either direction from then on, until the test has done what it wants to do at that moment.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::forward::Forwarder;
use super::protocol::Line;

/// Requests that change nothing.
const READS: [&str; 6] =
    ["INFO", "STREAM.INFO.", "STREAM.LIST", "STREAM.NAMES", "STREAM.MSG.GET.", "DIRECT.GET."];

/// When the relay stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The server has the write; the client has no reply.
    Sent,
    /// The server's reply is on its way.
    Replied,
}

/// At which write the relay stops.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    /// How the names of these writes begin, for example `STREAM.DELETE.` or `$KV.STATE.`; empty: all.
    pub(crate) prefix: String,
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) moment: Moment,
}

/// The relay. Dropped, it accepts no more connections; the open ones last until one side closes them.
pub(crate) struct WriteRelay {
    forwarder: Forwarder,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    point: Option<Point>,
    /// Where the reply goes at which it stops.
    reply: Option<String>,
    is_stopped: bool,
    writes: Vec<String>,
}

impl WriteRelay {
    /// A relay to this port that stops once.
    pub(crate) fn start(to: u16, point: Option<Point>) -> Self {
        let state = Mutex::new(State { point, ..State::default() });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let (writes, replies) = (Arc::clone(&shared), Arc::clone(&shared));
        let forwarder = Forwarder::start(
            to,
            move |from, to| writes.pass_writes(from, to),
            move |from, to| replies.pass_replies(from, to),
        );
        Self { forwarder, shared }
    }

    /// The address of the server through the relay.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.forwarder.port())
    }

    /// Whether it stands at its point.
    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.state().is_stopped
    }

    /// Ends the connections that were open at its point; new ones are served.
    pub(crate) fn release(&self) {
        self.forwarder.disconnect_all();
        self.shared.state().is_stopped = false;
        self.shared.changed.notify_all();
    }

    /// What was written so far: requests that change a stream (`STREAM.CREATE.KV_META`), and subjects of messages.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.shared.state().writes.clone()
    }
}

impl Drop for WriteRelay {
    fn drop(&mut self) {
        self.release();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Stops until it is released.
    fn stop(&self, mut state: MutexGuard<'_, State>) {
        state.is_stopped = true;
        drop(self.changed.wait_while(state, |state| state.is_stopped).unwrap());
    }

    fn pass_writes(&self, from: &TcpStream, mut to: &TcpStream) {
        let mut from = BufReader::new(from);
        while let Some(line) = Line::read(&mut from) {
            let state = self.state();
            let mut state = self.changed.wait_while(state, |state| state.is_stopped).unwrap();
            let moment = line.subject().and_then(write_of).and_then(|write| state.take(write));
            if moment == Some(Moment::Replied) {
                state.reply = line.reply().map(str::to_owned);
                assert!(state.reply.is_some(), "a write without a reply");
            }
            if moment == Some(Moment::Sent) {
                if to.write_all(&line.bytes).is_ok() {
                    self.stop(state);
                }
                return;
            }
            drop(state);
            if to.write_all(&line.bytes).is_err() {
                return;
            }
        }
    }

    fn pass_replies(&self, from: &TcpStream, mut to: &TcpStream) {
        let mut from = BufReader::new(from);
        while let Some(line) = Line::read(&mut from) {
            let state = self.state();
            let mut state = self.changed.wait_while(state, |state| state.is_stopped).unwrap();
            if state.reply.as_deref().is_some_and(|reply| line.subject() == Some(reply)) {
                state.reply = None;
                return self.stop(state);
            }
            drop(state);
            if to.write_all(&line.bytes).is_err() {
                return;
            }
        }
    }
}

impl State {
    /// Notes a write; says when to stop if this is the one.
    fn take(&mut self, write: &str) -> Option<Moment> {
        self.writes.push(write.to_owned());
        let point = self.point.as_mut().filter(|point| write.starts_with(&point.prefix))?;
        point.number -= 1;
        let moment = (point.number == 0).then_some(point.moment);
        if moment.is_some() {
            self.point = None;
        }
        moment
    }
}

/// The name of a write; `None`: a message with this subject changes nothing.
fn write_of(subject: &str) -> Option<&str> {
    if subject.starts_with("_INBOX.") {
        return None;
    }
    let Some(request) = subject.strip_prefix("$JS.API.") else { return Some(subject) };
    (!READS.iter().any(|read| request.starts_with(read))).then_some(request)
}
