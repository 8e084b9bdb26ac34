//! A TCP proxy on loopback whose two directions are functions of the test: what they do with the bytes is theirs.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Accepts connections until it is dropped. Those that it has accepted last as long as their ends want.
pub(crate) struct Forwarder {
    port: u16,
    stops: Arc<AtomicBool>,
    accepted: Arc<Mutex<Vec<TcpStream>>>,
}

impl Forwarder {
    /// Connects every client to this port of 127.0.0.1. `to_server` and `to_client` get where bytes come from and
    /// where they go; when one of them returns, the connection ends.
    pub(crate) fn start(
        server: u16,
        to_server: impl Fn(&TcpStream, &TcpStream) + Send + Sync + 'static,
        to_client: impl Fn(&TcpStream, &TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let forwarder = Self { port, stops: Arc::default(), accepted: Arc::default() };
        let (stops, accepted) = (Arc::clone(&forwarder.stops), Arc::clone(&forwarder.accepted));
        let (to_server, to_client) = (Arc::new(to_server), Arc::new(to_client));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if stops.load(Ordering::SeqCst) {
                    return;
                }
                // While the server is down, clients lose their connection and try again.
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server)))
                else {
                    continue;
                };
                accepted.lock().unwrap().push(client.try_clone().unwrap());
                copy(&client, &server, Arc::clone(&to_server));
                copy(&server, &client, Arc::clone(&to_client));
            }
        });
        forwarder
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection.
    pub(crate) fn disconnect_all(&self) {
        for client in self.accepted.lock().unwrap().drain(..) {
            client.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

/// Runs one direction of a connection in a thread of its own, and ends both with it.
fn copy(
    from: &TcpStream,
    to: &TcpStream,
    direction: Arc<impl Fn(&TcpStream, &TcpStream) + Send + Sync + 'static>,
) {
    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        direction(&from, &to);
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    });
}
