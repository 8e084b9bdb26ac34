//! A relay in front of a port that can be interrupted like a network: what is sent meanwhile neither arrives nor
//! fails. It arrives when the relay is restored, because TCP sends it again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};

use super::forward::Forwarder;

/// The relay. Dropped, it accepts no more connections; the open ones last until one side closes them.
pub(crate) struct Relay {
    forwarder: Forwarder,
    cut: Arc<Cut>,
}

#[derive(Default)]
struct Cut {
    is_cut: Mutex<bool>,
    changed: Condvar,
}

impl Relay {
    /// A relay to this port.
    pub(crate) fn start(to: u16) -> Self {
        let cut: Arc<Cut> = Arc::default();
        let pass = {
            let cut = Arc::clone(&cut);
            move |from: &TcpStream, to: &TcpStream| pass(from, to, &cut)
        };
        Self { forwarder: Forwarder::start(to, pass.clone(), pass), cut }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.forwarder.port()
    }

    /// Closes every connection, like a network that was interrupted for too long; bytes in flight are lost.
    pub(crate) fn hang_up(&self) {
        self.forwarder.disconnect_all();
    }

    /// Interrupts or restores it.
    pub(crate) fn cut(&self, is_cut: bool) {
        *self.cut.is_cut.lock().unwrap() = is_cut;
        self.cut.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut(false);
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
