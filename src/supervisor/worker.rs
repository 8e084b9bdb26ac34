//! A process of this program with the rights of another account, which works for this one.

use std::ffi::OsStr;
use std::io::{self, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, dup, fcntl_setfd};

use super::child::{describe, read_lines};
use crate::limits::WORKER_LINE_MAX_BYTES;

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
        input: impl FnOnce(Option<PathBuf>) -> Vec<u8>,
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
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(&input(path))?;
        Ok(Self { child })
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

/// Runs a program of the system to its end; returns what it wrote to standard error if it failed. Only `/usr/sbin`, `/sbin`,
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
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(Some(Ok(())));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    Ok(Some(Err(format!("{} ({line})", describe(Some(output.status))))))
}
