//! A proxy in front of one node of a cluster. It can hold back what the others replicate to the node, so that its
//! replicas lag while all other traffic continues. The node's own replicas serve the direct gets of its clients,
//! because the proxy drops the interest of the other nodes in them.
//!
//! Of the route protocol it knows where a message ends and how interest is announced, and of JetStream how the
//! subjects of replication and of direct gets begin.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use super::forward::Forwarder;

/// The proxy. Dropped, it accepts no more connections; the open ones last until one side closes them.
pub(crate) struct ReplicationDelay {
    forwarder: Forwarder,
    held_back: HeldBack,
}

/// The messages held back, each with its connection; `None`: nothing is held back. A thread locks this while it
/// writes to a connection.
type HeldBack = Arc<Mutex<Option<Vec<(TcpStream, Vec<u8>)>>>>;

/// Replication is held back until this is dropped.
pub(crate) struct Delayed(HeldBack);

impl ReplicationDelay {
    /// A proxy in front of this port of a node.
    pub(crate) fn start(to: u16) -> Self {
        let held_back: HeldBack = Arc::default();
        let inwards = {
            let held_back = Arc::clone(&held_back);
            move |from: &TcpStream, to: &TcpStream| inwards(from, to, &held_back)
        };
        let outwards = |mut from: &TcpStream, mut to: &TcpStream| {
            std::io::copy(&mut from, &mut to).ok();
        };
        Self { forwarder: Forwarder::start(to, inwards, outwards), held_back }
    }

    /// The port under which the other nodes reach the node.
    pub(crate) fn port(&self) -> u16 {
        self.forwarder.port()
    }

    /// Holds replication back.
    pub(crate) fn begin(&self) -> Delayed {
        *self.held_back.lock().unwrap() = Some(Vec::new());
        Delayed(Arc::clone(&self.held_back))
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        let mut held_back = self.0.lock().unwrap();
        for (mut line, message) in held_back.take().into_iter().flatten() {
            line.write_all(&message).ok();
        }
    }
}

/// Forwards messages to the node until the connection ends.
fn inwards(from: &TcpStream, mut to: &TcpStream, held_back: &HeldBack) {
    let mut from = BufReader::new(from);
    loop {
        let mut message = Vec::new();
        if !matches!(from.read_until(b'\n', &mut message), Ok(1..)) {
            return;
        }
        let is_replication = {
            let line = String::from_utf8_lossy(&message).into_owned();
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let begins = |start| words.iter().any(|word: &&str| word.starts_with(start));
            if words.first() == Some(&"RS+") && begins("$JS.API.DIRECT.GET.") {
                continue;
            }
            let carries = matches!(words.first(), Some(&("RMSG" | "HMSG")));
            let size = words.last().filter(|_| carries).and_then(|size| size.parse::<u64>().ok());
            if let Some(size) = size
                && from.by_ref().take(size + 2).read_to_end(&mut message).is_err()
            {
                return;
            }
            size.is_some() && begins("$NRG.")
        };
        let mut held_back = held_back.lock().unwrap();
        match held_back.as_mut().filter(|_| is_replication) {
            Some(held_back) => held_back.push((to.try_clone().unwrap(), message)),
            None if to.write_all(&message).is_err() => return,
            None => {}
        }
    }
}
