//! A filter between a client and its nats-server. While it is on, it drops every message about one stream, as if
//! the stream had no leader; everything else passes.
//!
//! Of the client protocol it knows where a message ends, and of JetStream the names of its requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::forward::Forwarder;

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
    loop {
        let mut message = Vec::new();
        if !matches!(from.read_until(b'\n', &mut message), Ok(1..)) {
            return;
        }
        let line = String::from_utf8_lossy(&message).into_owned();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let carries = matches!(words.first(), Some(&("PUB" | "HPUB" | "MSG" | "HMSG")));
        if let Some(size) = words.last().filter(|_| carries) {
            let size = size.parse::<u64>().expect("a size");
            if from.by_ref().take(size + 2).read_to_end(&mut message).is_err() {
                return;
            }
        }
        let is_lost = carries
            && is_on.load(Ordering::SeqCst)
            && lost.iter().any(|text| words[1].contains(text));
        if !is_lost && to.write_all(&message).is_err() {
            return;
        }
    }
}
