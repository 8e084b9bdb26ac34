//! A worker process as the simulation sees it. Killed when dropped, also a stopped one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::protocol::{Line, Request};
use super::worker::{MARK, VARIABLE};

/// What came from a process, named by its number; `None`: it has ended.
pub(super) type Received = (u64, Option<Line>);

pub(super) struct Process {
    /// No other process of the run has this number.
    pub(super) number: u64,
    pub(super) stopped: bool,
    /// It was ordered to end.
    pub(super) closing: bool,
    child: Child,
    stdin: ChildStdin,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts one on the nats-server at `url`; it reports when its store is open.
    pub(super) fn start(url: &str, number: u64, received: Sender<Received>) -> Self {
        let mut child = Program::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::simulation::worker::worker"])
            .args(["--nocapture", "--test-threads=1"])
            .env(VARIABLE, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { break };
                if let Some(line) = line.strip_prefix(MARK)
                    // A line may be cut short by a kill.
                    && let Ok(line) = serde_json::from_str(line)
                    && received.send((number, Some(line))).is_err()
                {
                    return;
                }
            }
            received.send((number, None)).ok();
        });
        Self { number, stopped: false, closing: false, child, stdin, reader: Some(reader) }
    }

    /// Sends it a command; nothing when it has ended.
    pub(super) fn send(&mut self, request: &Request) {
        let text = serde_json::to_string(request).unwrap();
        writeln!(self.stdin, "{text}").ok();
    }

    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.signal(Signal::STOP);
    }

    pub(super) fn go_on(&mut self) {
        self.stopped = false;
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// `kill -9`, and waits until everything that it had printed has arrived.
    pub(super) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
