//! Runs the built program in a directory of its own.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::wait::until;

const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A working directory with a configuration that listens on a free port of loopback.
pub(super) struct ServerDir {
    dir: TempDir,
}

/// A running `chatto start`, killed by pid when dropped.
pub(super) struct Server {
    child: Child,
    dir: PathBuf,
}

impl ServerDir {
    pub(super) fn new() -> Self {
        Self::with("")
    }

    /// With further configuration.
    pub(super) fn with(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("[webserver]\nport = 0\nbind_address = \"127.0.0.1\"\n{extra}\n");
        std::fs::write(dir.path().join("chatto.toml"), text).unwrap();
        Self { dir }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(super) fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatto"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHATTO_") {
                command.env_remove(name);
            }
        }
        command.env_remove("JOURNAL_STREAM").env_remove("INVOCATION_ID");
        command.current_dir(self.dir.path()).args(args);
        command
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, args: &[&str], stdin: &str) -> Output {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).ok();
        child.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed; its standard output.
    pub(super) fn ok(&self, args: &[&str], stdin: &str) -> String {
        let output = self.run(args, stdin);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {:?}\n{stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must end with a code; its standard error.
    pub(super) fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args, "");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{stderr}");
        stderr
    }

    /// Starts the server and waits until it is ready. Its outputs go to the files `out` and `err`.
    pub(super) fn start(&self) -> Server {
        self.start_with(|_| {})
    }

    pub(super) fn start_with(&self, prepare: impl FnOnce(&mut Command)) -> Server {
        let file = |name: &str| std::fs::File::create(self.path(name)).unwrap();
        let mut command = self.command(&["start"]);
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        prepare(&mut command);
        let child = command.spawn().unwrap();
        let server = Server { child, dir: self.dir.path().to_owned() };
        // `chatto status` reads the secrets too: the server has to have done so first.
        until("the server has begun", READY_TIMEOUT, || {
            self.read("err").contains("nats-server is ready").then_some(())
        });
        until("the server is ready", READY_TIMEOUT, || {
            self.run(&["status", "--ready"], "").status.success().then_some(())
        });
        server
    }

    /// Starts the server in a terminal; what that shows goes to the file `screen`.
    pub(super) fn start_in_terminal(&self) -> Child {
        let start = self.command(&["start"]);
        let program = start.get_program().to_string_lossy().into_owned();
        let mut command = Command::new("script");
        for (name, _) in start.get_envs() {
            command.env_remove(name);
        }
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.args(["--quiet", "--flush", "--return", "--command"]);
        command.arg(format!("exec {program} start")).arg("screen").spawn().unwrap()
    }

    pub(super) fn url(&self) -> String {
        let status: serde_json::Value =
            serde_json::from_str(&self.ok(&["status", "--json"], "")).unwrap();
        format!("http://{}", status["listen"].as_str().unwrap())
    }
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM; the exit code.
    pub(super) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails when it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
