//! A relay before a port that can be cut as a network is: what is sent through it neither arrives nor fails, and
//! goes on its way when the relay is mended, as TCP sends it again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// The relay; it ends when it is dropped, lines through it with their ends.
pub(crate) struct Relay {
    port: u16,
    ends: Arc<AtomicBool>,
    cut: Arc<Cut>,
    lines: Arc<Mutex<Vec<TcpStream>>>,
}

#[derive(Default)]
struct Cut {
    is_cut: Mutex<bool>,
    changed: Condvar,
}

impl Relay {
    /// A relay to this port.
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ends, cut, lines) = (Arc::default(), Arc::default(), Arc::default());
        let relay = Self { port, ends, cut, lines };
        let (ends, cut) = (Arc::clone(&relay.ends), Arc::clone(&relay.cut));
        let lines = Arc::clone(&relay.lines);
        std::thread::spawn(move || {
            for from in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                // While nobody listens there the other side tries again.
                let (Ok(from), Ok(to)) = (from, TcpStream::connect(("127.0.0.1", to))) else {
                    continue;
                };
                lines.lock().unwrap().push(from.try_clone().unwrap());
                for (from, to) in [(&from, &to), (&to, &from)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let cut = Arc::clone(&cut);
                    std::thread::spawn(move || {
                        pass(&from, &to, &cut);
                        to.shutdown(Shutdown::Both).ok();
                        from.shutdown(Shutdown::Both).ok();
                    });
                }
            }
        });
        relay
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends every line, as a network does that was away for too long; what was on its way is lost.
    pub(crate) fn hang_up(&self) {
        for line in self.lines.lock().unwrap().drain(..) {
            line.shutdown(Shutdown::Both).ok();
        }
    }

    /// Cuts or mends it.
    pub(crate) fn cut(&self, is_cut: bool) {
        *self.cut.is_cut.lock().unwrap() = is_cut;
        self.cut.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        self.cut(false);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, cut: &Cut) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let is_cut = cut.is_cut.lock().unwrap();
        drop(cut.changed.wait_while(is_cut, |is_cut| *is_cut).unwrap());
        if to.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}
