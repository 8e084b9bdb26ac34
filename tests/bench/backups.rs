//! Backup and restore: rate and memory, with the full store and files beside it, on the memory of a board.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Bench;
use crate::board::Board;
use crate::files::upload_parts;
use crate::proc::number;
use crate::process;
use crate::report::{Report, Target};
use crate::server::{forget, set_environment, stop_too};
use crate::start::SMALL_BOARD;

/// Runs whose median counts, at most: each copies the store.
const RUNS: usize = 3;
/// Files that the large number of bytes is uploaded as.
const PARTS: usize = 8;
/// Time between two looks at the memory.
const INTERVAL: Duration = Duration::from_millis(10);
/// What nats-server may take: one and a half of the limit of [`SMALL_BOARD`].
const NATS_MIB: f64 = 60.0;
const PASSPHRASE: &str = "the passphrase of the benchmark";

/// A command that has ended.
struct Ran {
    elapsed: Duration,
    /// The largest resident memory of the command, in MiB.
    own: f64,
    /// That of a nats-server that it ran, or of the one that was given.
    nats: f64,
    printed: Value,
}

pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let board = Board::new();
    let memory = if board.is_limited() { "512 MB of memory" } else { "no limit of memory" };
    report.part(&format!("Backup and restore, {memory}"));
    let filled = bench.filled();
    let data = filled.copy(&bench.options, "backup");
    let run = bench.options.dir.join("run");
    let largest = bench.options.file_bytes.to_string();
    let settings = [SMALL_BOARD, ("CHATTO_CORE_ASSETS_MAX_UPLOAD_SIZE", largest.as_str())];
    {
        let server = bench.server(&data, &settings);
        upload_parts(filled, server.port, bench.options.file_bytes, PARTS);
    }
    let commands = Commands { bench, board: &board, data: &data };
    let mut values: Vec<(String, &str, Option<Target>, Vec<f64>)> = Vec::new();
    let mut add = |name: String, unit, value, target| match values
        .iter_mut()
        .find(|(known, ..)| *known == name)
    {
        Some((.., values)) => values.push(value),
        None => values.push((name, unit, target, vec![value])),
    };
    let runs = bench.options.runs.min(RUNS);
    for number in 0..runs {
        eprintln!("backups: run {} of {runs}", number + 1);
        for encrypt in [false, true] {
            let archive = run.join(if encrypt { "backup.tar.gz.age" } else { "backup.tar.gz" });
            let made = commands.backup(&archive, encrypt, &settings);
            let target = run.join("restored");
            let restored = commands.restore(&archive, &target, encrypt);
            let bytes = restored.printed["bytes"].as_f64().expect("the bytes of a restore");
            let rate = |elapsed: Duration| bytes / 1e6 / elapsed.as_secs_f64();
            let how = if encrypt { ", encrypted" } else { "" };
            let targets = [45.0, 25.0].map(|least| (!encrypt).then_some(Target::AtLeast(least)));
            add(
                format!("backup{how}: rate of source data"),
                "MB/s",
                rate(made.elapsed),
                targets[0],
            );
            let most = |mib| Some(Target::AtMost(mib));
            add(format!("backup{how}: peak of the command"), "MiB", made.own, most(48.0));
            add(format!("backup{how}: peak of nats-server"), "MiB", made.nats, most(NATS_MIB));
            let share = archive.metadata().unwrap().len() as f64 / bytes * 100.0;
            add(format!("backup{how}: size of the archive"), "%", share, None);
            add(
                format!("restore{how}: rate over both passes"),
                "MB/s",
                rate(restored.elapsed),
                targets[1],
            );
            add(format!("restore{how}: peak of the command"), "MiB", restored.own, most(64.0));
            add(format!("restore{how}: peak of nats-server"), "MiB", restored.nats, None);
            std::fs::remove_file(&archive).unwrap();
            std::fs::remove_dir_all(&target).unwrap();
        }
    }
    for (name, unit, target, values) in values {
        report.add(&name, unit, &values, target);
    }
    std::fs::remove_dir_all(&data).unwrap();
}

/// Commands of the server under test.
struct Commands<'a> {
    bench: &'a Bench,
    board: &'a Board,
    data: &'a Path,
}

impl Commands<'_> {
    /// Beside a running server.
    fn backup(&self, archive: &Path, encrypt: bool, settings: &[(&str, &str)]) -> Ran {
        let server = self.bench.server(self.data, settings);
        let mut command = self.command(self.data);
        command.args(["backup", "-o"]).arg(std::path::absolute(archive).unwrap());
        if encrypt {
            command.args(["--encrypt", "--passphrase", PASSPHRASE]);
        }
        rustix::fs::sync();
        let nats = server.pids()[1];
        let ran = run(command, Some(nats));
        server.stop();
        ran
    }

    /// Into a data directory that is not there.
    fn restore(&self, archive: &Path, target: &Path, encrypt: bool) -> Ran {
        std::fs::remove_dir_all(target).ok();
        let mut command = self.command(target);
        command.arg("restore").arg(std::path::absolute(archive).unwrap());
        if encrypt {
            command.args(["--passphrase", PASSPHRASE]);
        }
        rustix::fs::sync();
        run(command, None)
    }

    fn command(&self, data: &Path) -> Command {
        let mut command = self.board.command(&self.bench.options.server);
        set_environment(&mut command, data);
        let (name, value) = SMALL_BOARD;
        command.env(name, value).args(["--json", "--progress=none"]);
        command
    }
}

/// Runs a command to its end and watches its memory, and that of a nats-server.
fn run(mut command: Command, nats: Option<u32>) -> Ran {
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the command starts");
    let pid = child.id();
    stop_too(pid);
    let (mut own, mut of_nats) = (0.0_f64, 0.0_f64);
    let mib = |pid, field| number(pid, "status", field) as f64 / 1024.0;
    let (ended, has_ended) = mpsc::channel();
    let output = std::thread::scope(|threads| {
        threads.spawn(move || ended.send(child.wait_with_output()));
        loop {
            own = own.max(mib(pid, "VmHWM:"));
            let nats = nats.or_else(|| process::children(pid).first().copied());
            of_nats = of_nats.max(nats.map_or(0.0, |pid| mib(pid, "VmRSS:")));
            match has_ended.recv_timeout(INTERVAL) {
                Ok(output) => return output.expect("the command's output"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("nobody waits for the command"),
            }
        }
    });
    forget(pid);
    let elapsed = began.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    let printed = serde_json::from_slice(&output.stdout).expect("one JSON object");
    Ran { elapsed, own, nats: of_nats, printed }
}
