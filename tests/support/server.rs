//! The built `chatto` binary as a process of one test: a temporary directory, a free port and a clean environment.
//! Dropping it kills the process and its nats-server by pid.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::client::{Account, Client};
use super::nats::signal;
use super::port::free_port;
use super::s3;
use super::wait::until;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_chatto");
/// The binary with the feature `test-support`: see `.ci/test-build`.
pub(crate) const TEST_BUILD: &str = concat!(env!("CARGO_BIN_EXE_chatto"), "-test-support");
/// The slowest start that a test accepts: on a shared machine with two cores under full load.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The slowest shutdown: `shutdown_timeout` and the time that the child needs to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A chatto server in its own directory.
pub(crate) struct Server {
    binary: &'static str,
    dir: TempDir,
    port: u16,
    env: Vec<(String, String)>,
    /// The account it runs as, if not that of the tests.
    uid: Option<u32>,
    child: Option<Child>,
}

/// `core.secret_key` of processes that share an external NATS.
pub(crate) const SECRET_KEY: &str = "a core secret for these tests only, long";

/// The id of an account without privileges.
pub(crate) const NOBODY: u32 = 65_534;

impl Server {
    /// Prepares a directory and a port; starts nothing.
    pub(crate) fn prepare() -> Self {
        Self::prepare_binary(BINARY)
    }

    /// The same for the build with the feature `test-support`.
    pub(crate) fn prepare_test_build() -> Self {
        assert!(
            Path::new(TEST_BUILD).exists(),
            "the test build is missing; make it with: .ci/test-build dev"
        );
        Self::prepare_binary(TEST_BUILD)
    }

    fn prepare_binary(binary: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self { binary, dir, port: 0, env: Vec::new(), uid: None, child: None };
        server.take_port(free_port());
        server.set("CHATTO_WEBSERVER_BIND_ADDRESS", "127.0.0.1");
        server.set("CHATTO_NATS_EMBEDDED_DATA_DIR", &server.data_dir().to_string_lossy());
        server.set("CHATTO_LOG_FORMAT", "text");
        if let Some(binary) = std::env::var_os("NATS_SERVER_BIN") {
            server.set("CHATTO_NATS_EMBEDDED_BINARY", &binary.to_string_lossy());
        }
        server
    }

    /// From the next start on, it stores everything in the NATS at this address.
    pub(crate) fn use_external(&mut self, url: &str) {
        self.set("CHATTO_NATS_EMBEDDED_ENABLED", "false");
        self.set("CHATTO_NATS_CLIENT_URL", url);
        let cookies = "CHATTO_WEBSERVER_COOKIE_SIGNING_SECRET";
        self.set(cookies, "a cookie secret for these tests only");
        self.set("CHATTO_CORE_SECRET_KEY", SECRET_KEY);
        self.set("CHATTO_CORE_ASSETS_SIGNING_SECRET", "an asset secret for these tests only");
    }

    /// From the next start on, it has a bucket at the S3 server at this port, where new files go.
    pub(crate) fn use_s3(&mut self, port: u16) {
        self.set("CHATTO_CORE_ASSETS_STORAGE_BACKEND", "s3");
        for (name, value) in [
            ("ENDPOINT", format!("http://127.0.0.1:{port}").as_str()),
            ("BUCKET", s3::BUCKET),
            ("PATH_PREFIX", s3::PREFIX),
            ("ACCESS_KEY_ID", s3::OWNER.0),
            ("SECRET_ACCESS_KEY", s3::OWNER.1),
        ] {
            self.set(&format!("CHATTO_CORE_ASSETS_S3_{name}"), value);
        }
    }

    /// A server in a new directory, started and ready.
    pub(crate) fn start() -> Self {
        let mut server = Self::prepare();
        server.run();
        server
    }

    /// Like `start`, with another binary.
    pub(crate) fn start_binary(binary: String) -> Self {
        let mut server = Self::prepare_binary(binary.leak());
        server.run();
        server
    }

    /// Sets an environment variable for later starts and commands.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Removes an environment variable.
    pub(crate) fn unset(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// Starts it and waits until it is ready. On the first start, it takes another port if somebody has taken its
    /// own in the meantime.
    pub(crate) fn run(&mut self) {
        for _ in 0..5 {
            self.spawn();
            match self.ready_or_ended() {
                None => return,
                Some(status) if status.code() == Some(75) && self.log().contains("port") => {
                    self.take_port(free_port());
                }
                Some(status) => panic!("chatto ended with {status}:\n{}", self.log()),
            }
        }
        panic!("no free port in five attempts");
    }

    /// From now on it runs without root privileges, and its directory belongs to that account. Nothing changes
    /// where the tests themselves do not run as root.
    pub(crate) fn become_nobody(&mut self) {
        if rustix::process::geteuid().is_root() {
            for path in std::fs::read_dir(self.dir.path()).unwrap() {
                std::os::unix::fs::chown(path.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
            }
            std::os::unix::fs::chown(self.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            self.uid = Some(NOBODY);
        }
    }

    /// Starts it and returns at once.
    pub(crate) fn spawn(&mut self) {
        let command = match self.uid {
            Some(uid) => self.command_as(uid, ["start"]),
            None => self.command(["start"]),
        };
        self.spawn_command(command);
    }

    /// Like `spawn`, through a script that ends in `exec chatto …`.
    pub(crate) fn spawn_script(&mut self, script: &str) {
        self.spawn_command(self.bash(script));
    }

    fn spawn_command(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "it runs already");
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until `/readyz` responds with 200; returns the exit status if the process has ended instead.
    pub(crate) fn ready_or_ended(&mut self) -> Option<ExitStatus> {
        let client = self.client();
        let child = self.child.as_mut().expect("it was started");
        let log = self.dir.path().join("log");
        let ended = until("chatto is ready or ends", READY_TIMEOUT, || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(Some(status));
            }
            (client.readyz().is_ok_and(|(status, _)| status == 200)).then_some(None)
        });
        if ended.is_some() {
            self.child = None;
            // Its last output must be in the log before the next start appends to it.
            let mut file = std::fs::File::options().append(true).open(log).unwrap();
            writeln!(file, "-- ended").unwrap();
        }
        ended
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("it was started");
        let status = until("chatto ends by itself", limit, || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// Starts it where it must refuse to start: its exit code and its output.
    pub(crate) fn run_refused(&mut self) -> (i32, String) {
        let before = self.log().len();
        self.spawn();
        match self.ready_or_ended() {
            Some(status) => (status.code().unwrap_or(-1), self.log()[before..].to_owned()),
            None => panic!("it started although it should not:\n{}", self.log()),
        }
    }

    /// Runs `chatto ARGS` in the server's directory and environment.
    pub(crate) fn chatto<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Like `chatto`, for a command that must succeed; returns its output.
    pub(crate) fn chatto_ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.chatto(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}\n{}", output.status, self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a bash script in this directory and environment, with `chatto` in its path.
    pub(crate) fn shell(&self, script: &str) -> Output {
        self.bash(script).stdin(Stdio::null()).output().unwrap()
    }

    /// A command of this binary in this directory and environment, not yet run.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.clean(self.binary);
        command.args(args);
        command
    }

    /// Like `command`, run by another account (needs root). That account needs no access to the binary's folder:
    /// the file is opened before.
    pub(crate) fn command_as<S: AsRef<OsStr>>(
        &self,
        uid: u32,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let become_it = format!("exec setpriv --reuid={uid} --regid={uid} --clear-groups");
        let mut command = self.bash(&format!("exec 9<\"$0\"; {become_it} /proc/self/fd/9 \"$@\""));
        command.arg(BINARY).args(args);
        command
    }

    /// A shell command in this directory and environment, at a terminal of its own, not yet run: what is written to its
    /// standard input is typed, and its standard output is what the terminal shows.
    pub(crate) fn at_terminal(&self, command: &str) -> Command {
        let mut script = self.clean("script");
        let args = ["--quiet", "--return", "--echo", "always", "--command", command, "/dev/null"];
        script.args(args);
        script
    }

    fn bash(&self, script: &str) -> Command {
        let mut command = self.clean("bash");
        command.args(["-euo", "pipefail", "-c", script]);
        command
    }

    fn clean(&self, program: &str) -> Command {
        let folder = Path::new(BINARY).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", format!("{}:{path}", folder.display()))
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Creates the owner through a setup link.
    pub(crate) fn owner(&self) -> Account {
        let link = self.chatto_ok(["setup-link"]);
        let token = link.split('#').nth(1).expect("a link with a token").trim();
        self.client().set_up(token, "ada")
    }

    /// `kill -9` of chatto alone; its nats-server may live on for a moment as an orphan.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGTERM and the exit status.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.ended()
    }

    /// The exit status after it was asked to stop.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        until("chatto stops", STOP_TIMEOUT, || child.try_wait().unwrap())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The process id of its nats-server, if one runs.
    pub(crate) fn nats_pid(&self) -> Option<u32> {
        children_of(self.pid()).into_iter().find(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            name.split('\0').next().unwrap_or_default().contains("nats")
        })
    }

    /// A client of this server without a token.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where JetStream keeps one stream's files.
    pub(crate) fn stream_dir(&self, stream: &str) -> PathBuf {
        let streams = self.data_dir().join("jetstream/jetstream/$G/streams");
        let other = self.data_dir().join("jetstream/$G/streams");
        if other.exists() { other.join(stream) } else { streams.join(stream) }
    }

    /// The log of all its starts so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn take_port(&mut self, port: u16) {
        self.port = port;
        self.set("CHATTO_WEBSERVER_PORT", &port.to_string());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            let nats = self.nats_pid();
            self.kill();
            if let Some(nats) = nats {
                kill_quietly(nats);
            }
        }
        if std::thread::panicking() {
            eprintln!("--- log of the test's chatto\n{}", self.log());
        }
    }
}

/// Kills a process that the test has started; it may have ended already.
pub(crate) fn kill_quietly(pid: u32) {
    let pid = pid.to_string();
    Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status().ok();
}

/// The child processes of this process.
fn children_of(parent: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .flat_map(|task| {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}
