//! A real nats-server with JetStream in a temporary directory. It keeps its port over restarts. Dropping it kills
//! it by pid.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use chatto::nats::{Nats, StreamInfo};
use chatto::runtime::Clock;
use tempfile::TempDir;

use super::port::free_port;
use super::wait::until;

const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// The nats-server to test with: the one named by `NATS_SERVER_BIN`, else the bundled one.
pub(crate) fn server_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("NATS_SERVER_BIN") {
            return named.into();
        }
        let bundled = chatto::supervisor::Bundled::get().expect(
            "this build has no nats-server: unset CHATTO_NATS_SERVER_BIN or set NATS_SERVER_BIN",
        );
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = dir.join(format!("nats-server-{}", &bundled.sha256_hex()[..16]));
        if !path.exists() {
            let own = dir.join(format!("nats-server-unpacking-{}", std::process::id()));
            chatto::supervisor::bundled_server(&own).expect("unpack the bundled nats-server");
            fs::rename(own, &path).expect("rename the unpacked nats-server");
        }
        path
    })
}

/// A nats-server that belongs to one test.
pub(crate) struct NatsServer {
    dir: TempDir,
    binary: PathBuf,
    port: u16,
    config: String,
    /// Limit of its memory streams, in bytes.
    memory_store: usize,
    /// It counts as ready when its port is open, because a JetStream request needs a credential.
    secured: bool,
    child: Option<Child>,
}

impl NatsServer {
    /// Starts a server and waits until JetStream responds.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Like `start`, with additional top-level lines of configuration, for example `max_payload: 8MB`.
    pub(crate) fn start_with(extra: &str) -> Self {
        Self::start_binary(server_binary(), extra)
    }

    /// Like `start_with`, for a server that requires a credential or TLS.
    pub(crate) fn start_secured(extra: &str) -> Self {
        Self::start_any(server_binary(), extra, true)
    }

    /// Like `start`, with another nats-server binary.
    pub(crate) fn start_binary(binary: &Path, extra: &str) -> Self {
        Self::start_any(binary, extra, false)
    }

    /// Like `start`, with this limit for memory streams.
    pub(crate) fn start_with_memory(memory_store: usize) -> Self {
        let mut server = Self::prepare(server_binary(), "", false);
        server.memory_store = memory_store;
        server.started()
    }

    fn start_any(binary: &Path, extra: &str, secured: bool) -> Self {
        Self::prepare(binary, extra, secured).started()
    }

    /// A server with a copy of everything that this one has stored. This one must have been stopped.
    pub(crate) fn copy(&self) -> Self {
        assert!(self.child.is_none(), "it runs");
        let mut copy = Self::prepare(&self.binary, "", self.secured);
        copy.config.clone_from(&self.config);
        copy.memory_store = self.memory_store;
        let copied =
            Command::new("cp").arg("-a").args([self.store_dir(), copy.store_dir()]).status();
        assert!(copied.unwrap().success());
        copy.started()
    }

    fn prepare(binary: &Path, extra: &str, secured: bool) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            binary: binary.to_owned(),
            port: 0,
            config: format!("max_payload: 1MB\n{extra}\n"),
            memory_store: 64 << 20,
            secured,
            child: None,
        }
    }

    fn started(self) -> Self {
        let mut server = self;
        for _ in 0..10 {
            server.port = free_port();
            if server.try_run() {
                return server;
            }
        }
        panic!("nats-server does not start:\n{}", server.log());
    }

    /// `nats://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// JetStream's store directory (`<here>/jetstream/$G/streams/...`).
    pub(crate) fn store_dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The log of all its starts so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The running server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("nats-server is running").id()
    }

    /// Sends SIGKILL and waits until the process has ended.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Sends SIGTERM and waits until it has stored everything and the process has ended.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            child.wait().unwrap();
        }
    }

    /// Restarts it in the same directory and on the same port; kills it first if it still runs.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.try_run(), "nats-server does not start again:\n{}", self.log());
    }

    /// Whether it became ready; `false` when it ended, for example because the port was taken.
    fn try_run(&mut self) -> bool {
        let at = self.dir.path();
        let file = at.join("nats.conf");
        let text = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {:?}, max_memory_store: {}, max_file_store: 8GB }}\n{}",
            self.port,
            self.store_dir(),
            self.memory_store,
            self.config
        );
        fs::write(&file, text).unwrap();
        let log = fs::File::options().create(true).append(true).open(at.join("log")).unwrap();
        let child = Command::new(&self.binary)
            .arg("-c")
            .arg(&file)
            .env("GOMEMLIMIT", "256MiB")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let (port, secured) = (self.port, self.secured);
        let ready = until("nats-server responds", READY_TIMEOUT, || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let open = || TcpStream::connect(("127.0.0.1", port)).is_ok();
            (if secured { open() } else { jetstream_responds(port) }).then_some(true)
        });
        if !ready {
            self.child = None;
        }
        ready
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the test's nats-server\n{}", self.log());
        }
    }
}

/// Sends a signal to a process that the test has started.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

/// Stops every thread of a process, and waits until all of them have stopped: one that runs on another processor may
/// still finish what it is doing.
pub(crate) fn pause(pid: u32) {
    signal(pid, "STOP");
    let state = |path: PathBuf| {
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        // After the name, which may contain anything but the last parenthesis.
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('T')
    };
    let tasks = || fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    until("all threads are stopped", Duration::from_secs(10), || {
        tasks().all(|task| state(task.unwrap().path()) == 'T').then_some(())
    });
}

/// Whether a server without authentication responds to JetStream's account request.
pub(crate) fn jetstream_responds(port: u16) -> bool {
    request(port, "$JS.API.INFO", "").is_ok_and(|response| !response.contains("\"error\""))
}

/// Sends one request over a new connection to a server without authentication and returns the first line of
/// the reply.
pub(crate) fn request(port: u16, subject: &str, payload: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let length = payload.len();
    write!(
        &stream,
        "CONNECT {{\"verbose\":false}}\r\nSUB a 1\r\nPUB {subject} a {length}\r\n{payload}\r\n"
    )?;
    // The first line of the reply names our subscription, the next one is the JSON.
    while let Some(line) = lines.next().transpose()? {
        if line.starts_with("MSG a 1 ") {
            return lines.next().unwrap_or_else(|| Ok(String::new()));
        }
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

/// Publishes many messages at once and waits until the server has read them; there are no acknowledgements.
pub(crate) fn publish_all(port: u16, messages: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(READY_TIMEOUT)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut text = b"CONNECT {\"verbose\":false}\r\n".to_vec();
    for (subject, payload) in messages {
        write!(text, "PUB {subject} {}\r\n", payload.len()).unwrap();
        text.extend(payload);
        text.extend(b"\r\n");
    }
    text.extend(b"PING\r\n");
    (&stream).write_all(&text).unwrap();
    while lines.next().expect("nats-server responds").unwrap() != "PONG" {}
}

#[test]
fn a_killed_server_comes_back_on_its_port() {
    let mut server = NatsServer::start();
    let (port, pid) = (server.port(), server.pid());
    server.kill();
    assert!(!jetstream_responds(port));
    assert!(server.url().ends_with(&port.to_string()));
    server.restart();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert!(jetstream_responds(port));
    server.stop();
    assert!(server.log().contains("Initiating Shutdown"), "{}", server.log());
}

/// The configuration and state of stream `name`. A request that a busy disk leaves without a response is made
/// again, for at most 30 s.
pub(crate) async fn stream_info(nats: &Nats, name: &str) -> Option<StreamInfo> {
    let clock = Clock::system();
    let end = clock.now() + Duration::from_secs(30);
    loop {
        match nats.stream(name).await {
            Err(error) if error.is_transient() && clock.now() < end => {
                clock.sleep(Duration::from_millis(50)).await;
            }
            response => return response.unwrap(),
        }
    }
}
