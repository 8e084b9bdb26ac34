//! A filter between a client and its nats-server. While it is on, it drops every message about one stream, as if
//! the stream had no leader; everything else passes.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::forward::Forwarder;
use super::protocol::Line;

/// The filter. Dropped, it accepts no more connections; the open ones last until one side closes them.
pub(crate) struct Filter {
    forwarder: Forwarder,
    is_on: Arc<AtomicBool>,
}

/// Keeps the filter on until it is dropped.
pub(crate) struct FilterGuard(Arc<AtomicBool>);

impl Filter {
    /// A filter in front of the server at this port. It drops messages with one of these texts in the subject.
    pub(crate) fn start(to: u16, lost: &'static [&'static str]) -> Self {
        let is_on = Arc::new(AtomicBool::new(false));
        let pass = {
            let is_on = Arc::clone(&is_on);
            move |from: &TcpStream, to: &TcpStream| pass(from, to, &is_on, lost)
        };
        Self { forwarder: Forwarder::start(to, pass.clone(), pass), is_on }
    }

    /// A filter that drops everything about STATE.
    pub(crate) fn of_state(to: u16) -> Self {
        Self::start(to, &["KV_STATE", "$KV.STATE.", "live.state."])
    }

    /// The address of the server through the filter.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.forwarder.port())
    }

    /// Turns it on.
    pub(crate) fn turn_on(&self) -> FilterGuard {
        self.is_on.store(true, Ordering::SeqCst);
        FilterGuard(Arc::clone(&self.is_on))
    }
}

impl Drop for FilterGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Forwards messages until the connection ends.
fn pass(from: &TcpStream, mut to: &TcpStream, is_on: &AtomicBool, lost: &[&str]) {
    let mut from = BufReader::new(from);
    while let Some(line) = Line::read(&mut from) {
        let is_lost = is_on.load(Ordering::SeqCst)
            && line.subject().is_some_and(|subject| lost.iter().any(|text| subject.contains(text)));
        if !is_lost && to.write_all(&line.bytes).is_err() {
            return;
        }
    }
}
