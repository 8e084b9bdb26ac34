//! Starts nats-server as a child that cannot outlive us unnoticed, waits for its end and signals it.
//!
//! The kernel sends the death signal when the *thread* that started the child ends, so children are
//! started by one thread that lives as long as the process. The inherited lock is the guarantee for
//! the cases in which the signal fails.
//!
//! The only place with `unsafe`: code between fork and exec.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

use event_listener::Event;
use parking_lot::Mutex;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process, set_parent_process_death_signal,
    waitid,
};

use crate::limits::{
    CHILD_LINE_MAX_BYTES, CHILD_OOM_SCORE_ABOVE, OOM_SCORE_MAX, SYSTEM_FACT_MAX_BYTES,
};
use crate::runtime::limited_read;

/// What the child gets.
pub(super) struct Launch<'a> {
    pub(super) executable: &'a Path,
    /// Its configuration file, the only argument.
    pub(super) config: &'a Path,
    /// Its working directory.
    pub(super) directory: &'a Path,
    /// `GOMEMLIMIT`, in bytes.
    pub(super) memory_limit_bytes: u64,
    /// The data directory's lock, inherited.
    pub(super) lock: Arc<File>,
}

/// A nats-server that was started. Dropping it does not stop it.
#[derive(Debug, Clone)]
pub(super) struct NatsChild {
    pid: Pid,
    lifetime: Arc<Lifetime>,
}

#[derive(Debug)]
struct Lifetime {
    state: Mutex<State>,
    ended: Event,
}

#[derive(Debug)]
enum State {
    /// Not reaped: the process id is still its own, even if it has ended.
    Running(Child),
    /// Reaped: the process id may belong to another process.
    Ended(Option<ExitStatus>),
}

/// Starts the child. Blocks until it has executed or failed to. `on_line` receives every line that it
/// writes, all of them before its end is reported.
///
/// # Errors
/// The system's error of fork or exec.
pub(super) fn launch(
    launch: Launch<'_>,
    on_line: impl FnMut(&[u8]) + Send + 'static,
) -> io::Result<NatsChild> {
    let mut command = Command::new(launch.executable);
    command
// nats-server names its ports file after this.
        .arg0("nats-server")
        .arg("-c")
        .arg(launch.config)
        .env_clear()
        .env("GOMEMLIMIT", launch.memory_limit_bytes.to_string())
        .current_dir(launch.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
// Ctrl-C in a terminal reaches only us: we stop the child when its clients are done.
        .process_group(0);
    before_exec(&mut command, launch.lock);
    let mut child = start_in_long_lived_thread(command)?;
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
    raise_oom_score(pid);
    let lifetime =
        Arc::new(Lifetime { state: Mutex::new(State::Running(child)), ended: Event::new() });
    watch_in_thread(pid, Arc::clone(&lifetime), stderr, on_line)?;
    Ok(NatsChild { pid, lifetime })
}

/// When memory runs out, the kernel is to end the child, which is started again, and not us. Anybody may raise the score of
/// a process of their own (proc(5)).
fn raise_oom_score(pid: Pid) {
    let of = |process: &str| PathBuf::from(format!("/proc/{process}/oom_score_adj"));
    let own = limited_read(&of("self"), SYSTEM_FACT_MAX_BYTES).ok();
    let own = own.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<i32>().ok());
    let score = own.unwrap_or_default().saturating_add(CHILD_OOM_SCORE_ABOVE).min(OOM_SCORE_MAX);
    let child = pid.as_raw_nonzero().to_string();
    if let Err(error) = std::fs::write(of(&child), score.to_string()) {
        log::warn!(error:err = error; "cannot make nats-server the first that the kernel ends when memory runs out");
    }
}

impl NatsChild {
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends `signal` unless the child has ended.
    pub(super) fn signal(&self, signal: Signal) {
        // The lock keeps the waiting thread from reaping it meanwhile.
        let state = self.lifetime.state.lock();
        if let State::Running(_) = *state
            && let Err(error) = kill_process(self.pid, signal)
        {
            log::warn!(error:err = error; "cannot signal nats-server");
        }
    }

    /// Waits for its end; `None` when the system does not report how it ended.
    pub(super) async fn ended(&self) -> Option<ExitStatus> {
        loop {
            let listener = self.lifetime.ended.listen();
            if let State::Ended(status) = *self.lifetime.state.lock() {
                return status;
            }
            listener.await;
        }
    }
}

/// Readable form of a status, for example `exit code 1` or `signal 9`.
pub(super) fn describe(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "unknown".to_owned() };
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}

#[expect(unsafe_code, reason = "pre_exec: only system calls run between fork and exec")]
fn before_exec(command: &mut Command, lock: Arc<File>) {
    let parent = std::process::id();
    // SAFETY: the closure runs in the forked child before exec, where other threads' locks may be
    // held forever. It only makes system calls (prctl, getppid, fcntl) through rustix, which neither
    // allocate nor lock; errors are built from raw numbers without allocating.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            // A parent that died before the call above no longer sends a signal.
            let present = getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
            if present != Some(parent) {
                return Err(io::Error::from_raw_os_error(Errno::CHILD.raw_os_error()));
            }
            fcntl_setfd(&*lock, FdFlags::empty())?;
            Ok(())
        });
    }
}

/// A command, and the channel for its child or the error.
type SpawnRequest = (Command, Sender<io::Result<Child>>);

/// Starts the command in the one thread to whose lifetime the children are bound.
fn start_in_long_lived_thread(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<Option<Sender<SpawnRequest>>>> = OnceLock::new();
    let starter = STARTER.get_or_init(Mutex::default);
    let ended_error = || io::Error::from(io::ErrorKind::BrokenPipe);
    let (reply, started) = channel();
    {
        let mut starter = starter.lock();
        if starter.is_none() {
            let (tx, rx) = channel::<SpawnRequest>();
            std::thread::Builder::new().name("nats-starter".to_owned()).spawn(move || {
                // Ends with the process only: the sender is a static.
                for (mut command, reply) in rx {
                    // The caller waits for the answer.
                    reply.send(command.spawn()).ok();
                }
            })?;
            *starter = Some(tx);
        }
        let starter = starter.as_ref().ok_or_else(ended_error)?;
        starter.send((command, reply)).map_err(|_| ended_error())?;
    }
    started.recv().map_err(|_| ended_error())?
}

/// Reads the child's lines and waits for its end in a thread of its own. It is reaped under the lock,
/// so that no signal can be sent to a process that reuses its id.
fn watch_in_thread(
    pid: Pid,
    lifetime: Arc<Lifetime>,
    stderr: ChildStderr,
    mut on_line: impl FnMut(&[u8]) + Send + 'static,
) -> io::Result<()> {
    std::thread::Builder::new().name("nats-child".to_owned()).spawn(move || {
        read_lines(BufReader::new(stderr), CHILD_LINE_MAX_BYTES, &mut on_line);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), options).is_err_and(|error| error == Errno::INTR) {}
        let mut state = lifetime.state.lock();
        if let State::Running(child) = &mut *state {
            *state = State::Ended(child.wait().ok());
        }
        drop(state);
        lifetime.ended.notify(usize::MAX);
    })?;
    Ok(())
}

/// Lines without their end, cut at `max_bytes`, until the writer closes.
pub(super) fn read_lines(
    mut from: impl BufRead,
    max_bytes: usize,
    on_line: &mut impl FnMut(&[u8]),
) {
    let mut line = Vec::new();
    loop {
        let (used, ended) = match from.fill_buf() {
            Ok([]) => break,
            Ok(bytes) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
                let room = max_bytes.saturating_sub(line.len());
                line.extend_from_slice(text.get(..room).unwrap_or(text));
                (text.len() + usize::from(end.is_some()), end.is_some())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (0, false),
            Err(_) => break,
        };
        from.consume(used);
        if ended {
            on_line(&line);
            line.clear();
        }
    }
    if !line.is_empty() {
        on_line(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_the_last_needs_no_end() {
        let long = "x".repeat(CHILD_LINE_MAX_BYTES * 3);
        let text = format!("one\n\n{long}\ntwo");
        let mut lines = Vec::new();
        let from = BufReader::with_capacity(7, text.as_bytes());
        read_lines(from, CHILD_LINE_MAX_BYTES, &mut |line: &[u8]| {
            lines.push(line.to_vec());
        });
        let lengths: Vec<_> = lines.iter().map(Vec::len).collect();
        assert_eq!(lengths, [3, 0, CHILD_LINE_MAX_BYTES, 3]);
        assert_eq!(lines[3], b"two");
    }
}
