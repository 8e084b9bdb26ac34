//! A process of its own that runs the embedded server and obeys lines on its standard input: the test
//! binary itself, started again with an environment variable.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chatto::runtime::{Clock, Runtime, Scope};
use chatto::supervisor::{Health, Role, Signals};

use super::{config, connect, create_stream, lock, post, stored};

const VARIABLE: &str = "CHATTO_TEST_SUPERVISE";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The process as a test sees it. Killed when dropped.
pub(super) struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: VecDeque<String>,
}

impl Helper {
    /// Starts it on a data directory.
    pub(super) fn start(data_dir: &Path) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), data_dir, "")
    }

    /// Starts it by a command to which the test binary's arguments are added; `settings` are
    /// `floor=BYTES max=BYTES`.
    pub(super) fn start_by(mut command: Command, data_dir: &Path, settings: &str) -> Self {
        let mut child = command
            .args(["--exact", "supervisor::helper::process", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, format!("{}\n{settings}", data_dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let Ok(line) = line else { break };
                if let Some(line) = line.strip_prefix('@')
                    && tx.send(line.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, seen: VecDeque::new() }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that starts with `start`; answers what follows.
    #[track_caller]
    pub(super) fn expect(&mut self, start: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(ANSWER_TIMEOUT);
            let Ok(line) = line else { panic!("no `{start}`; seen: {:#?}", self.seen) };
            self.seen.push_back(line.clone());
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
    }

    /// All lines so far.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.iter().cloned().collect()
    }

    /// Sends a command and waits for its answer.
    #[track_caller]
    pub(super) fn ask(&mut self, command: &str) -> String {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
        self.expect("answer")
    }

    /// Asks until the answer is `expected`.
    #[track_caller]
    pub(super) fn until(&mut self, command: &str, expected: &str) {
        let limit = Duration::from_secs(60);
        crate::support::wait::until(&format!("{command} = {expected}"), limit, || {
            (self.ask(command) == expected).then_some(())
        });
    }

    pub(super) fn signal(&self, name: &str) {
        crate::support::nats::signal(self.pid(), name);
    }

    /// Waits for its end; answers whether it was a success.
    pub(super) fn wait(&mut self) -> bool {
        let status = crate::support::wait::until("the helper ends", ANSWER_TIMEOUT, || {
            self.child.try_wait().unwrap()
        });
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.seen.push_back(line);
        }
        status.success()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What the helper process says: a line that the test reads.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The test runner leaves an unfinished line of its own.
    write!(out, "\n@{}\n", line.replace('\n', " ")).unwrap();
    out.flush().unwrap();
}

/// The helper process; nothing in an ordinary run.
#[test]
fn process() {
    let Some(settings) = std::env::var_os(VARIABLE) else { return };
    let settings = settings.into_string().unwrap();
    let (dir, settings) = settings.split_once('\n').unwrap();
    let mut config = config(Path::new(dir));
    for setting in settings.split_whitespace() {
        match setting.split_once('=').unwrap() {
            ("floor", bytes) => config.min_free_disk = bytes.parse().unwrap(),
            ("max", bytes) => config.max_file_store = Some(bytes.parse().unwrap()),
            ("binary", path) => config.binary = Some(path.into()),
            other => panic!("{other:?}"),
        }
    }
    log::set_logger(&Log).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    Runtime::run(2, |runtime| run(config, Scope::new(&runtime, "helper", 8)));
}

async fn run(config: chatto::supervisor::Config, scope: Scope) {
    let mut signals = Signals::new().unwrap();
    let data_dir = match lock(&config.data_dir, Role::Server).await {
        Ok(data_dir) => data_dir,
        Err(error) => return say(&format!("refused {error}")),
    };
    let started =
        chatto::supervisor::Embedded::start(config, data_dir, Clock::system(), &scope).await;
    let embedded = match started {
        Ok(embedded) => embedded,
        Err(error) => return say(&format!("refused {error}")),
    };
    let watch = embedded.watch();
    let nats = connect(&embedded).await;
    say(&format!("ready {}", watch.pid()));
    let (tx, commands) = smol::channel::bounded(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { break };
            if tx.send_blocking(line).is_err() {
                break;
            }
        }
    });
    loop {
        let command = async { commands.recv().await.ok() };
        let signal = async {
            say(&format!("signal {:?}", signals.next().await.unwrap()));
            None
        };
        let Some(command) = futures_lite::future::or(signal, command).await else { break };
        let (command, rest) = command.split_once(' ').unwrap_or((&command, ""));
        let answer = match command {
            "create" => {
                create_stream(&nats).await;
                "ok".to_owned()
            }
            "post" => match post(&nats, rest.parse().unwrap()).await {
                Ok(_) => "ok".to_owned(),
                Err(error) => format!("error {error}"),
            },
            "stored" => stored(&nats).await.to_string(),
            "health" => match watch.health() {
                Health::Restarting { .. } => "Restarting".to_owned(),
                Health::RefusingWrites(fault) => format!("Refusing {fault:?}"),
                Health::WaitingForDisk(fault) => format!("Waiting {fault:?}"),
                Health::Running => "Running".to_owned(),
            },
            "restarts" => watch.restarts().to_string(),
            "pid" => watch.pid().to_string(),
            "damage" => watch.damage().len().to_string(),
            "fill" => fill(Path::new(rest)),
            "unfill" => remove(&Path::new(rest).join("ballast")),
            "obstruct" => obstruct(Path::new(rest)),
            "clear" => remove(Path::new(rest)),
            other => panic!("{other}"),
        };
        say(&format!("answer {answer}"));
    }
    embedded.stop().await;
    say("stopped");
    scope.join().await;
}

/// Fills the disk of `dir` to the last byte with one file.
fn fill(dir: &Path) -> String {
    let mut file = std::fs::File::create(dir.join("ballast")).unwrap();
    let mut chunk = vec![1_u8; 1024 * 1024];
    while chunk.len() > 512 {
        if file.write_all(&chunk).is_err() {
            chunk.truncate(chunk.len() / 2);
        }
    }
    "ok".to_owned()
}

fn remove(file: &Path) -> String {
    std::fs::remove_file(file).unwrap();
    "ok".to_owned()
}

/// Puts a file where a folder is to be created.
fn obstruct(folder: &Path) -> String {
    std::fs::write(folder, "in the way").unwrap();
    "ok".to_owned()
}

/// Our log as the test reads it.
struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "nats" || metadata.target().starts_with("chatto")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            say(&format!("log {} {} {}", record.level(), record.target(), record.args()));
        }
    }

    fn flush(&self) {}
}
