//! The server under test: the release binary as a process of its own, on a data directory that stays.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::port::free_port;
use crate::process::{self, Memory, Used};
use crate::wait::until;

/// The slowest start and stop that still count as working.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two requests to `/readyz`.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Servers that run. A panic ends this program without dropping anything.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Makes a panic stop the servers.
pub(crate) fn stop_on_panic() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        for pid in RUNNING.try_lock().iter().flat_map(|running| running.iter()) {
            terminate(*pid);
        }
    }));
}

/// Another process that a panic stops, from now until [`forget`].
pub(crate) fn stop_too(pid: u32) {
    RUNNING.lock().unwrap().push(pid);
}

/// A process that has ended.
pub(crate) fn forget(pid: u32) {
    RUNNING.lock().unwrap().retain(|running| *running != pid);
}

/// Gives a command of chatto its data directory and nothing else of this process's environment.
pub(crate) fn set_environment(command: &mut Command, data: &Path) {
    command
        .current_dir(data.parent().unwrap())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CHATTO_NATS_EMBEDDED_DATA_DIR", std::path::absolute(data).unwrap())
        .env("CHATTO_LOG_FORMAT", "text");
}

/// A running server. Dropping it stops the server.
pub(crate) struct Server {
    child: Child,
    nats: u32,
    pub(crate) port: u16,
    /// From the start of the process until `/readyz` answered 200.
    pub(crate) start: Duration,
    log: PathBuf,
}

impl Server {
    /// Starts it by a command that ends with its program, with these settings (`CHATTO_…`), and waits until it is
    /// ready.
    pub(crate) fn start(mut command: Command, data: &Path, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let log = data.with_extension("log");
        let file = std::fs::File::create(&log).unwrap();
        set_environment(&mut command, data);
        command
            .arg("start")
            .env("CHATTO_WEBSERVER_BIND_ADDRESS", "127.0.0.1")
            .env("CHATTO_WEBSERVER_PORT", port.to_string())
            .env("CHATTO_WEBSERVER_MAX_CONNECTIONS", "4000")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let began = Instant::now();
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        stop_too(child.id());
        let mut server = Self { child, nats: 0, port, start: Duration::ZERO, log };
        while !is_ready(port) {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", server.said());
            }
            assert!(began.elapsed() < PATIENCE, "not ready:\n{}", server.said());
            std::thread::sleep(POLL_INTERVAL);
        }
        server.start = began.elapsed();
        server.nats = server.find_nats();
        server
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(self) {
        drop(self);
    }

    /// The process ids: chatto's and its nats-server's.
    pub(crate) fn pids(&self) -> [u32; 2] {
        [self.child.id(), self.nats]
    }

    /// Memory of both processes.
    pub(crate) fn memory(&self) -> [Memory; 2] {
        self.pids().map(process::memory)
    }

    /// What both processes have used so far.
    pub(crate) fn used(&self) -> [Used; 2] {
        self.pids().map(process::used)
    }

    fn find_nats(&self) -> u32 {
        let own = self.child.id();
        let is_nats = |pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            name.split('\0').next().unwrap_or_default().contains("nats")
        };
        process::children(own).into_iter().find(is_nats).expect("its nats-server")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id();
        terminate(pid);
        until("the server stops", PATIENCE, || self.child.try_wait().unwrap());
        forget(pid);
    }
}

fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // One that has ended by itself needs no signal.
    pid.map(|pid| kill_process(pid, Signal::TERM).ok());
}

/// Whether `/readyz` answers 200.
fn is_ready(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = [0; 12];
    stream.write_all(request).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"HTTP/1.1 200"
}
