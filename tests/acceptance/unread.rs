//! Nobody reads the server's output: a pipe without a reader, like a terminal after Ctrl-S.
#![expect(clippy::disallowed_methods, reason = "tests measure real time")]

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chatto::observe::{Format, Level};
use rustix::fs::OFlags;

use crate::support::server::Server;
use crate::support::wait::until;

const PATIENCE: Duration = Duration::from_secs(30);

/// The signal of a process that ended itself by `abort`.
const ABORTED: i32 = rustix::process::Signal::ABORT.as_raw();

/// A named pipe that is open, but neither read nor closed.
struct Pipe(File);

impl Pipe {
    fn make(path: &std::path::Path) -> Self {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let both = File::options().read(true).write(true).custom_flags(nonblocking).open(path);
        Self(both.unwrap())
    }

    /// Fills the pipe, so that it takes no more bytes.
    fn fill(&mut self) {
        for size in [4096, 1] {
            let line = vec![b'\n'; size];
            while self.0.write(&line).is_ok() {}
        }
    }

    /// What is in it.
    fn drain(&mut self) -> String {
        let mut text = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match self.0.read(&mut chunk) {
                Ok(length) => text.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_lacks_are_counted() {
    let mut server = Server::prepare();
    let mut pipe = Pipe::make(&server.dir().join("unread"));
    pipe.fill();
    server.set("CHATTO_WEBSERVER_REQUEST_LOGGING", "true");
    server.spawn_script("exec chatto start 2>unread");
    let client = server.client();
    until("it is ready", PATIENCE * 2, || {
        client.readyz().is_ok_and(|(status, _)| status == 200).then_some(())
    });
    // Each request writes a line: more than the queue holds.
    let path = format!("/{}", "x".repeat(4_000));
    let mut slowest = Duration::ZERO;
    for _ in 0..1_000 {
        client.get(&path).unwrap();
        let started = Instant::now();
        assert_eq!(client.get("/healthz").unwrap().0, 200);
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    server.chatto_ok(["status"]);

    let mut log = String::new();
    until("a line says how many were dropped", PATIENCE, || {
        log += &pipe.drain();
        log.contains("lines were dropped here").then_some(())
    });
    assert!(log.contains("starting chatto"), "what was written first comes first: {log}");
    let line = log.lines().find(|line| line.contains("were dropped")).unwrap();
    let dropped: u32 = line.split("lines=").nth(1).unwrap().trim().parse().unwrap();
    assert!(dropped > 0, "{line}");

    pipe.fill();
    assert!(server.stop().success(), "SIGTERM ends it although nobody reads");
}

#[test]
fn what_a_panic_says_stops_nothing_either() {
    const PANICS: &str = "CHATTO_TEST_PANICS";
    if std::env::var_os(PANICS).is_some() {
        chatto::observe::init(Format::Text, Level::Info);
        chatto::observe::write_in_background();
        std::thread::spawn(|| panic!("for the test")).join().ok();
        return;
    }
    let itself = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "acceptance::unread::what_a_panic_says_stops_nothing_either";
        command.args(["--exact", name, "--nocapture"]).env(PANICS, "1");
        command
    };
    let read = itself().output().unwrap();
    let printed = String::from_utf8_lossy(&read.stderr).into_owned();
    assert_eq!(read.status.signal(), Some(ABORTED), "a panic ends the process: {printed}");
    assert!(
        printed.contains("ERROR")
            && printed.contains("panicked at")
            && printed.contains("for the test"),
        "{printed}"
    );

    let dir = tempfile::tempdir().unwrap();
    let mut pipe = Pipe::make(&dir.path().join("unread"));
    pipe.fill();
    let unread = File::options().write(true).open(dir.path().join("unread")).unwrap();
    let mut child = itself().stderr(unread).stdout(Stdio::null()).spawn().unwrap();
    let status = until("it ends", PATIENCE, || child.try_wait().unwrap());
    assert_eq!(status.signal(), Some(ABORTED));
}
