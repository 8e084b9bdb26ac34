//! A server inside the test, and a client that sends exactly the bytes it is told.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use chatto::http::{Config, Listener, Parts, Ready, Server};
use chatto::runtime::{Clock, Runtime, Stop};

/// How long a test waits for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A running edge; dropping it stops it.
pub(super) struct Edge {
    pub(super) address: SocketAddr,
    pub(super) stop: Stop,
    pub(super) ready: Arc<Mutex<Ready>>,
    thread: Option<JoinHandle<()>>,
}

impl Edge {
    /// Starts with `config` on a free port of 127.0.0.1.
    pub(super) fn start(config: Config) -> Self {
        let stop = Stop::new();
        let ready = Arc::new(Mutex::new(Ready::Yes));
        let (tx, rx) = mpsc::channel();
        let (serving, reads) = (stop.clone(), Arc::clone(&ready));
        let thread = std::thread::spawn(move || {
            Runtime::run(2, |runtime| async move {
                let readiness = Arc::new(move || *reads.lock().unwrap());
                let parts = Parts { readiness, clock: Clock::system() };
                let server = Server::build(config, parts, &runtime);
                let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let listener = Listener::bind(local, 0).await.unwrap();
                tx.send(listener.local_addr()).unwrap();
                server.serve(listener, &serving).await;
            });
        });
        let address = rx.recv_timeout(PATIENCE).unwrap();
        Self { address, stop, ready, thread: Some(thread) }
    }

    pub(super) fn connect(&self) -> Raw {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw { stream, buffer: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(super) fn exchange(&self, request: &str) -> Answer {
        let mut raw = self.connect();
        raw.send(request.as_bytes());
        raw.answer().unwrap()
    }

    /// Waits until the server has ended.
    pub(super) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A connection.
pub(super) struct Raw {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Raw {
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next answer with a body; `None` at the connection's end.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET")
    }

    /// The next answer to a request of `method` (HEAD has no body); `None` at the end.
    pub(super) fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "cut inside a head");
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap())
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |v| v.parse().unwrap());
        assert!(answer.header("transfer-encoding").is_none(), "no stream is expected here");
        if method != "HEAD" {
            while self.buffer.len() < length {
                assert!(self.fill(), "cut inside a body");
            }
            answer.body = self.buffer.drain(..length).collect();
        }
        Some(answer)
    }

    /// Whether the server closed the connection; waits for it.
    pub(super) fn is_closed(&mut self) -> bool {
        !self.fill()
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 8192];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("reading failed: {error}"),
        }
    }
}
