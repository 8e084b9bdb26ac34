//! A process of this program with the rights of another account, which works for this one.

use std::ffi::OsStr;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use rustix::io::{FdFlags, dup, fcntl_setfd};
use zeroize::Zeroizing;

use super::child::{describe, read_lines};
use crate::limits::{SYSTEM_PROGRAM_INTERVAL, SYSTEM_PROGRAM_TIMEOUT, WORKER_LINE_MAX_BYTES};
use crate::runtime::Clock;

/// The executable of this process, also after an upgrade has replaced its file.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// The process was started.
pub struct Worker {
    child: Child,
}

/// How the process ended, for people; `None`: well.
pub type WorkerEnd = Option<String>;

impl Worker {
    /// Starts this program with one argument, as a user and a group without others. It inherits a copy of `descriptor`; `input`,
    /// made from the number of that copy, is written to its standard input. Call it from a process with one thread: another
    /// child that is started at the same time would inherit the copy, too.
    ///
    /// # Errors
    /// The system's error.
    pub fn start(
        argument: &str,
        (user, group): (u32, u32),
        descriptor: Option<&OwnedFd>,
        input: impl FnOnce(Option<PathBuf>) -> io::Result<Zeroizing<Vec<u8>>>,
    ) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let copy = descriptor.map(dup).transpose()?;
        if let Some(copy) = &copy {
            fcntl_setfd(copy, FdFlags::empty())?;
        }
        let path =
            copy.as_ref().map(|copy| PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())));
        let mut command = Command::new(OWN_EXECUTABLE);
        command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Messages to the service manager come from the main process.
        command.env_remove("NOTIFY_SOCKET");
        if rustix::process::geteuid().is_root() {
            command.gid(group).uid(user);
        }
        let input = input(path)?;
        let mut child = command.spawn()?;
        let written = match child.stdin.take() {
            Some(mut stdin) => stdin.write_all(&input),
            None => Ok(()),
        };
        match written {
            // It has ended, and its end says why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                end(&mut child);
                Err(error)
            }
            _ => Ok(Self { child }),
        }
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads what it writes, line by line, until it ends. Blocks.
    ///
    /// # Errors
    /// The system's error.
    pub fn finish(mut self, on_line: &mut dyn FnMut(&[u8])) -> io::Result<WorkerEnd> {
        if let Some(stdout) = self.child.stdout.take() {
            read_lines(BufReader::new(stdout), WORKER_LINE_MAX_BYTES, &mut |line: &[u8]| {
                on_line(line)
            });
        }
        let status = self.child.wait()?;
        Ok((!status.success()).then(|| describe(Some(status))))
    }
}

/// Ends a child. That it has ended already is fine.
fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

/// Runs a program of the system to its end, [`SYSTEM_PROGRAM_TIMEOUT`] at most; returns what it wrote to standard error if it failed. Only `/usr/sbin`, `/sbin`,
/// `/usr/bin` and `/bin` are searched. `None`: there is no such program.
///
/// # Errors
/// The system's error.
pub fn run_system_program(
    name: &str,
    arguments: &[&OsStr],
) -> io::Result<Option<Result<(), String>>> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let mut places = places.into_iter().map(|place| Path::new(place).join(name));
    let Some(program) = places.find(|path| path.is_file()) else { return Ok(None) };
    let mut command = Command::new(program);
    command.args(arguments);
    run_within(command, SYSTEM_PROGRAM_TIMEOUT).map(Some)
}

fn run_within(mut command: Command, limit: Duration) -> io::Result<Result<(), String>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (said, line) = sync_channel(1);
    if let Some(stderr) = child.stderr.take() {
        // It ends with the program, and those that the program has started.
        std::thread::spawn(move || said.send(first_line(stderr)));
    }
    let clock = Clock::system();
    let begin = clock.now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if clock.now().duration_since(begin) >= limit {
            end(&mut child);
            return Ok(Err(format!("it did not end within {} s", limit.as_secs())));
        }
        std::thread::park_timeout(SYSTEM_PROGRAM_INTERVAL);
    };
    if status.success() {
        return Ok(Ok(()));
    }
    let line = line.recv_timeout(limit).unwrap_or_default();
    Ok(Err(format!("{} ({line})", describe(Some(status)))))
}

/// The first line that is not empty; a long one is cut.
fn first_line(from: impl Read) -> String {
    let mut first = String::new();
    read_lines(BufReader::new(from), WORKER_LINE_MAX_BYTES, &mut |line: &[u8]| {
        if first.is_empty() {
            first = String::from_utf8_lossy(line).trim().to_owned();
        }
    });
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_that_ends_before_it_has_read_its_input_says_how() {
        let own = rustix::process::getuid().as_raw();
        let group = rustix::process::getgid().as_raw();
        // More than a pipe holds.
        let input = |_| Ok(Zeroizing::new(vec![0; 1 << 20]));
        let worker = Worker::start("--no-such-option", (own, group), None, input).unwrap();
        let end = worker.finish(&mut |_| {}).unwrap();
        assert!(end.as_deref().is_some_and(|how| how.starts_with("exit code ")), "{end:?}");
    }

    #[test]
    fn a_program_that_fails_says_why_and_one_that_hangs_is_ended() {
        let minute = Duration::from_secs(60);
        assert_eq!(run_within(shell("echo no >&2"), minute).unwrap(), Ok(()));
        let failed = run_within(shell("echo >&2; echo ' the reason ' >&2; exit 3"), minute);
        assert_eq!(failed.unwrap().unwrap_err(), "exit code 3 (the reason)");
        let long = run_within(shell("yes x | head -c 300000 | tr -d '\\n' >&2; exit 1"), minute);
        assert!(long.unwrap().unwrap_err().len() < WORKER_LINE_MAX_BYTES + 100);
        let hung = run_within(shell("exec sleep 600"), Duration::from_millis(100));
        assert_eq!(hung.unwrap().unwrap_err(), "it did not end within 0 s");
    }
}
