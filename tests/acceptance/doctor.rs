//! `chatto doctor` beside real servers: running, stopped, damaged, with an external NATS, and as another account.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use super::seeded;
use crate::support::golden;
use crate::support::nats::NatsServer;
use crate::support::server::{NOBODY, Server};

/// A server that keeps little space free, so that the machine's disk does not decide.
fn prepare() -> Server {
    let mut server = Server::prepare();
    server.set("CHATTO_NATS_EMBEDDED_MIN_FREE_DISK", "1MiB");
    server
}

/// What `doctor --json` reports.
struct Report {
    checks: Vec<Value>,
}

impl Report {
    fn of(server: &Server, args: &[&str]) -> Self {
        let output = server.chatto(["doctor", "--json"].iter().chain(args));
        Self::parse(&output.stdout, output.status.code())
    }

    fn parse(stdout: &[u8], code: Option<i32>) -> Self {
        let report: Value = serde_json::from_slice(stdout).unwrap();
        assert_eq!(report["schema"], 1);
        let checks = report["checks"].as_array().unwrap().clone();
        let fails = checks.iter().any(|check| check["verdict"] == "fail");
        assert_eq!(report["ok"], !fails);
        assert_eq!(code, Some(i32::from(fails)), "{report}");
        Self { checks }
    }

    fn with(&self, code: &str) -> Vec<&Value> {
        self.checks.iter().filter(|check| check["code"] == code).collect()
    }

    /// The one check of this code, with this verdict; its text and fix.
    fn one(&self, code: &str, verdict: &str) -> String {
        let found = self.with(code);
        let [check] = found.as_slice() else { panic!("{code}: {found:?}") };
        assert_eq!(check["verdict"], verdict, "{check}");
        format!("{} {}", check["text"].as_str().unwrap(), check["fix"].as_str().unwrap_or_default())
    }

    /// A check of this code and verdict whose text and fix contain all of these.
    fn assert_has(&self, code: &str, verdict: &str, words: &[&str]) {
        let found = self.with(code);
        let matches = found.iter().any(|check| {
            let text = check.to_string();
            check["verdict"] == verdict && words.iter().all(|word| text.contains(word))
        });
        assert!(matches, "{code} {verdict} {words:?}: {found:?}");
    }

    /// What must be done, apart from what the machine of the tests is like: its temporary directory may be in memory.
    fn must(&self) -> Vec<&Value> {
        let machine = ["disk.medium", "disk.space", "clock.sync", "board.voltage"];
        let is_machine = |check: &Value| machine.iter().any(|code| check["code"] == *code);
        let fails = self.checks.iter().filter(|check| check["verdict"] == "fail");
        fails.filter(|check| !is_machine(check)).collect()
    }
}

/// An older nats-server, which tests may be run with, is worth a note.
fn nats_verdict() -> &'static str {
    if std::env::var_os("NATS_SERVER_BIN").is_some() { "note" } else { "ok" }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_healthy_server_needs_nothing_whether_it_runs_or_not() {
    let mut server = prepare();
    server.run();
    let report = Report::of(&server, &[]);
    assert!(report.must().is_empty(), "{:?}", report.must());
    assert!(report.one("port", "ok").contains("the server listens"));
    assert!(report.one("store.durability", "ok").contains("acknowledged means on disk"));
    assert!(report.one("store.lock", "ok").contains(&server.pid().to_string()));
    // A busy machine may be slow.
    let latency = report.with("disk.latency")[0];
    assert!(latency["text"].as_str().unwrap().contains("messages per second"), "{latency}");
    assert!(report.one("disk.written", "ok").contains("the server wrote"));
    assert!(report.one("memory.server", "ok").contains("MiB"));
    report.one("server.ready", "ok");
    report.assert_has("nats.version", nats_verdict(), &[]);
    report.one("files", "ok");
    report.one("keys.export", "ok");

    let owner = server.owner();
    seeded(&owner);
    let report = Report::of(&server, &[]);
    assert!(report.one("keys.export", "warn").contains("chatto keys export"));
    assert!(report.one("backup.verified", "warn").contains("chatto backup"));

    assert!(server.stop().success());
    let before = names(&server.data_dir());
    let report = Report::of(&server, &[]);
    assert!(report.must().is_empty(), "{:?}", report.must());
    report.one("server", "note");
    report.one("store.lock", "ok");
    report.one("keys.export", "skipped");
    assert!(report.one("port", "ok").contains("is free"));
    assert_eq!(names(&server.data_dir()), before, "nothing is left");
}

/// Everything that is wrong is found in one run, with its fix, and stays as it is.
#[test]
fn damage_is_named_with_its_fix_and_the_text_is_golden() {
    let mut server = prepare();
    server.run();
    assert!(server.stop().success());
    let data_dir = server.data_dir();
    let secrets = data_dir.join("secrets.toml");
    set_mode(&secrets, 0o644);
    set_mode(&data_dir.join("run"), 0o755);
    std::fs::write(server.dir().join("chatto.toml"), "[webserver]\nprot = 4001\n").unwrap();
    std::fs::create_dir(data_dir.join("backups")).unwrap();
    std::fs::write(data_dir.join("backups/monday.tar.gz"), "an archive").unwrap();
    server.set("CHATTO_NATS_EMBEDDED_SYNC_INTERVAL", "2s");
    let taken = TcpListener::bind(("127.0.0.1", server.port())).unwrap();

    let report = Report::of(&server, &[]);
    report.assert_has("config", "fail", &["did you mean", "write port in line 2"]);
    let chmod = format!("chmod 600 {}", secrets.display());
    report.assert_has("files", "fail", &["0644", &chmod]);
    report.assert_has("files", "fail", &["0755", "chmod 700"]);
    let pid = format!("(pid {})", std::process::id());
    report.assert_has("port", "fail", &[&pid, "set webserver.port"]);
    report.assert_has("backup.target", "warn", &["on the same disk", "set backup.directory"]);
    assert!(report.one("store.durability", "note").contains("during the last 2 seconds"));
    let mode = secrets.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644, "doctor changes nothing");

    let text = server.chatto(["doctor"]);
    assert_eq!(text.status.code(), Some(1));
    golden::compare("tests/golden/doctor.txt", &typical(&server, &text.stdout));
    drop(taken);
}

/// The lines that do not depend on the machine, with the server's directory and numbers taken out.
fn typical(server: &Server, stdout: &[u8]) -> String {
    const CODES: [&str; 9] = [
        "config",
        "files",
        "server",
        "store.lock",
        "store.durability",
        "port",
        "backup.verified",
        "backup.target",
        "keys.export",
    ];
    let text = String::from_utf8(stdout.to_vec()).unwrap();
    let dir = server.dir().to_string_lossy().into_owned();
    let mut shown = String::from("$ chatto doctor\n");
    let mut is_shown = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with(' ') {
            let code = line.split_whitespace().nth(1).unwrap_or_default();
            is_shown = CODES.contains(&code);
        }
        if is_shown {
            let line = line.replace(&dir, "$DIR");
            let holder = std::fs::read_to_string("/proc/self/comm").unwrap();
            let line = line.replace(&format!("{} (pid", holder.trim()), "it (pid");
            let line = line.replace(&std::process::id().to_string(), "N");
            let line = line.replace(&server.port().to_string(), "PORT");
            shown.push_str(&line.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
            shown.push('\n');
        }
    }
    shown
}

#[test]
fn another_account_is_told_which_checks_it_cannot_make() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root can be two accounts at a time (run it with sudo)");
        return;
    }
    let mut server = prepare();
    server.run();
    set_mode(server.dir(), 0o755);
    set_mode(&server.data_dir(), 0o750);
    let output = server.command_as(NOBODY, ["doctor", "--json"]).output().unwrap();
    let report = Report::parse(&output.stdout, output.status.code());
    assert!(report.must().is_empty(), "{:?}", report.must());
    report.assert_has("server", "skipped", &["sudo chatto doctor"]);
    report.assert_has("files", "skipped", &["sudo chatto doctor"]);
    report.assert_has("disk.latency", "skipped", &["sudo chatto doctor"]);
    report.assert_has("port", "ok", &[]);
}

#[test]
fn an_external_nats_is_asked_and_its_disk_is_not() {
    let nats = NatsServer::start();
    let mut server = prepare();
    server.use_external(&nats.url());
    let report = Report::of(&server, &["--online"]);
    assert!(report.one("online.nats", "ok").contains("version"));
    report.one("nats.version", "skipped");
    report.one("store.durability", "note");
    server.run();
    let report = Report::of(&server, &[]);
    report.assert_has("nats.version", nats_verdict(), &[]);
    assert!(report.with("online.nats").is_empty());
    report.one("disk.latency", "skipped");
    assert!(report.must().is_empty(), "{:?}", report.must());
}

#[test]
fn the_public_url_is_requested_as_clients_do() {
    let mut server = prepare();
    let url = format!("http://127.0.0.1:{}", server.port());
    server.set("CHATTO_WEBSERVER_URL", &url);
    let report = Report::of(&server, &["--online"]);
    report.assert_has("online.url", "fail", &["cannot be reached", &url]);
    server.run();
    let report = Report::of(&server, &["--online"]);
    report.one("online.url", "ok");
    report.one("online.websocket", "ok");
    report.one("online.proxy", "skipped");
    report.one("online.dns", "ok");
    assert!(report.must().is_empty(), "{:?}", report.must());
}
