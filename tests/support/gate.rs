//! A gate before one node of a cluster: what the others replicate to it can be held back, so that its replicas
//! lag, while everything else between them goes on. Direct gets of its clients are answered by its own replicas:
//! the node does not hear that the others answer them too.
//!
//! It knows of a route's protocol where a message ends and how interest begins, and of JetStream how subjects of
//! replication and of direct gets begin.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The gate; it ends when it is dropped, lines through it with their ends.
pub(crate) struct Gate {
    port: u16,
    ends: Arc<AtomicBool>,
    waiting: Waiting,
}

/// What is held back, each for its line; `None`: the gate is open. Whoever writes to a line holds this.
type Waiting = Arc<Mutex<Option<Vec<(TcpStream, Vec<u8>)>>>>;

/// The gate is closed until this is dropped.
pub(crate) struct Held(Waiting);

impl Gate {
    /// A gate to this port of a node.
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Self { port, ends: Arc::default(), waiting: Arc::default() };
        let (ends, waiting) = (Arc::clone(&gate.ends), Arc::clone(&gate.waiting));
        std::thread::spawn(move || {
            for from in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                // While the node is down the others try again.
                if let (Ok(from), Ok(to)) = (from, TcpStream::connect(("127.0.0.1", to))) {
                    let (back_from, back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
                    let waiting = Arc::clone(&waiting);
                    std::thread::spawn(move || {
                        inwards(&from, &to, &waiting);
                        to.shutdown(Shutdown::Both).ok();
                        from.shutdown(Shutdown::Both).ok();
                    });
                    std::thread::spawn(move || {
                        std::io::copy(&mut &back_from, &mut &back_to).ok();
                        back_to.shutdown(Shutdown::Both).ok();
                    });
                }
            }
        });
        gate
    }

    /// Where the other nodes find the node.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Holds replication back.
    pub(crate) fn hold(&self) -> Held {
        *self.waiting.lock().unwrap() = Some(Vec::new());
        Held(Arc::clone(&self.waiting))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut waiting = self.0.lock().unwrap();
        for (mut line, message) in waiting.take().into_iter().flatten() {
            line.write_all(&message).ok();
        }
    }
}

/// Passes on what the node is told, message by message, until the line ends.
fn inwards(from: &TcpStream, mut to: &TcpStream, waiting: &Waiting) {
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
        let mut waiting = waiting.lock().unwrap();
        match waiting.as_mut().filter(|_| is_replication) {
            Some(waiting) => waiting.push((to.try_clone().unwrap(), message)),
            None if to.write_all(&message).is_err() => return,
            None => {}
        }
    }
}
