//! The server and its store: whether it runs and is ready, the lock, the version of NATS, what a power cut can cost.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Embedded, Settings};
use crate::observe::{chain, counted};
use crate::operator::{CallError, Client};
use crate::supervisor::{Bundled, LockState, lock_state};

use super::account::Account;
use super::files::quoted;
use super::system::{about, is_absent};
use super::{Check, Facts};

const SERVER: &str = "server";
const READY: &str = "server.ready";
const LOCK: &str = "store.lock";
const NATS: &str = "nats.version";
const DURABILITY: &str = "store.durability";

/// The server on this machine, as its operator socket shows it.
#[derive(Debug)]
pub(super) enum Running {
    /// It replied with its status.
    Yes(Value),
    /// Nothing listens.
    No,
    /// `operator_api.enabled` is false.
    NoSocket,
    /// The socket, or a directory above it, is closed to this account.
    NotPermitted(PathBuf),
    /// It listens and does not reply as it should.
    Broken(String),
}

impl Running {
    /// A value of the status; null if it is missing, or no server replied.
    pub(super) fn status(&self, pointer: &str) -> &Value {
        match self {
            Self::Yes(status) => status.pointer(pointer).unwrap_or(&Value::Null),
            _ => &Value::Null,
        }
    }

    /// The server's process, if it replied.
    pub(super) fn pid(&self) -> Option<i64> {
        self.status("/pid").as_i64()
    }
}

/// Asks the server. Blocks.
pub(super) fn running(settings: &Settings) -> Running {
    let Some(path) = &settings.operator_socket else { return Running::NoSocket };
    match Client::new(path).call("status", json!({})) {
        Ok(status) => Running::Yes(status),
        Err(CallError::NotRunning) => Running::No,
        Err(CallError::NotPermitted { path }) => Running::NotPermitted(path),
        Err(error) => Running::Broken(chain(&error)),
    }
}

pub(super) fn check(facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = server(facts.running, facts.account);
    if facts.settings.embedded.is_some() {
        checks.extend(lock(facts));
    }
    checks.push(nats_version(facts.settings, facts.running));
    checks.push(durability(facts.settings.embedded.as_ref()));
    checks
}

fn server(running: &Running, account: Account) -> Vec<Check> {
    let status = match running {
        Running::Yes(status) => status,
        Running::No => {
            let text = "the server does not run; what only a running server knows was not checked";
            return vec![Check::note(SERVER, text).fix("systemctl start chatto, or chatto start")];
        }
        Running::NoSocket => {
            let text = "operator_api.enabled is false, so a running server cannot be asked";
            return vec![Check::skipped(SERVER, text).fix("set operator_api.enabled = true")];
        }
        Running::NotPermitted(path) => {
            return vec![
                account.may_not(SERVER, &format!("asking the server at {}", path.display())),
            ];
        }
        Running::Broken(why) => {
            let fix = "journalctl -u chatto shows its log; systemctl restart chatto";
            return vec![
                Check::fail(SERVER, format!("the server does not reply as it should: {why}"))
                    .fix(fix),
            ];
        }
    };
    let text = |pointer: &str| match status.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "unknown".to_owned(),
    };
    let uptime = status.pointer("/uptime_seconds").and_then(Value::as_u64).unwrap_or_default();
    let about = format!(
        "version {} has been running for {} (pid {})",
        text("/version"),
        span(uptime),
        text("/pid")
    );
    let mut checks = vec![Check::ok(SERVER, about)];
    if status.pointer("/ready") == Some(&json!(true)) {
        checks.push(Check::ok(READY, "it is ready for requests"));
    } else {
        let check = Check::fail(READY, format!("it is not ready: {}", text("/reason")));
        checks.push(check.fix("chatto status; docs/operations.md says what to do for each reason"));
    }
    let held = status.pointer("/held_rooms").and_then(Value::as_array).map_or(0, Vec::len);
    if held > 0 {
        let text = format!("{} cannot be folded", counted(held, ("room", "rooms")));
        checks.push(
            Check::fail(READY, text).fix(
                "chatto status names them with the reason; restore a backup if one is damaged",
            ),
        );
    }
    let restarts = status.pointer("/nats/restarts").and_then(Value::as_u64).unwrap_or_default();
    if restarts > 0 {
        let text = format!(
            "nats-server was restarted {} since the server started",
            counted(restarts, ("time", "times"))
        );
        checks.push(Check::warn(READY, text).fix("journalctl -u chatto shows why"));
    }
    checks
}

/// A number of seconds for people, in its largest unit.
pub(super) fn span(seconds: u64) -> String {
    for (unit, name) in [(86_400, "day"), (3600, "hour"), (60, "minute")] {
        if seconds >= unit {
            let count = seconds / unit;
            return format!("{count} {name}{}", if count == 1 { "" } else { "s" });
        }
    }
    format!("{seconds} s")
}

fn lock(facts: &Facts<'_>) -> Vec<Check> {
    let data_dir = &facts.settings.data_dir;
    let mut checks = Vec::new();
    match lock_state(data_dir) {
        Ok(state) => checks.extend(lock_check(&state, facts.running)),
        Err(error) if is_absent(&error) => {}
        Err(_) => checks.push(facts.account.may_not(LOCK, "who holds the data directory")),
    }
    if let Ok(Some(_)) = about(&data_dir.join("restoring")) {
        let text = "a restore was interrupted or is under way";
        checks.push(
            Check::warn(LOCK, text)
                .fix("wait until it ends; otherwise the next start or command cleans up"),
        );
    }
    checks
}

fn lock_check(state: &LockState, running: &Running) -> Option<Check> {
    Some(match state {
        LockState::Free => Check::ok(LOCK, "nobody holds the data directory"),
        LockState::Command { command, pid } => {
            Check::note(LOCK, format!("chatto {command} (pid {pid}) is using the data directory"))
        }
        LockState::Server { pid } if matches!(running, Running::No | Running::Broken(_)) => {
            let text = format!(
                "a server (pid {pid}) holds the data directory and does not listen: it starts or stops"
            );
            Check::note(LOCK, text).fix("wait; if it stays so: systemctl restart chatto")
        }
        LockState::Server { pid } => {
            Check::ok(LOCK, format!("the server (pid {pid}) holds the data directory"))
        }
        LockState::Orphan { pid } => {
            let who = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
            let text = format!(
                "the lock is stale: a nats-server{who} that was left over from a killed server still uses the data directory"
            );
            Check::warn(LOCK, text)
                .fix("systemctl start chatto, or chatto start, stops it by itself")
        }
    })
}

fn nats_version(settings: &Settings, running: &Running) -> Check {
    let bundled = Bundled::get().map(|bundled| bundled.version());
    if let Some(version) = running.status("/nats/version").as_str() {
        return assess_version(NATS, version, bundled);
    }
    match &settings.embedded {
        Some(Embedded { binary: Some(path), .. }) => match about(path) {
            Ok(Some(_)) => {
                let text = format!(
                    "nats.embedded.binary is {}; its version is known while the server runs",
                    path.display()
                );
                Check::skipped(NATS, text)
                    .fix(format!("{} --version must print 2.11 or newer", quoted(path)))
            }
            _ => {
                let text =
                    format!("nats.embedded.binary names {}, which cannot be found", path.display());
                Check::fail(NATS, text).fix("unset nats.embedded.binary to use the bundled one")
            }
        },
        Some(_) => match bundled {
            Some(version) => {
                Check::ok(NATS, format!("the bundled nats-server has version {version}"))
            }
            None => {
                let text = "this chatto was built without nats-server";
                Check::fail(NATS, text).fix("install a complete build, or set nats.embedded.binary")
            }
        },
        None => {
            Check::skipped(NATS, "the version of the external NATS is known while the server runs")
                .fix("chatto doctor --online asks it")
        }
    }
}

/// The oldest version that works: older ones lack what docs/operations.md lists.
const NATS_LEAST: (u64, u64) = (2, 11);

pub(super) fn assess_version(code: &'static str, version: &str, bundled: Option<&str>) -> Check {
    let (found, own) = (numbers(version), bundled.and_then(numbers));
    let Some(found) = found else {
        return Check::skipped(
            code,
            format!("nats-server reports the version {version:?}, which is none"),
        );
    };
    if (found.0, found.1) < NATS_LEAST {
        let text = format!("nats-server {version} is too old: 2.11 or newer is needed");
        return Check::fail(code, text).fix("upgrade nats-server, or unset nats.embedded.binary");
    }
    match (own, bundled) {
        (Some(own), Some(bundled)) if found < own => {
            let text = format!(
                "nats-server {version} works; it is older than the bundled {bundled}, with which chatto is tested"
            );
            Check::note(code, text).fix("upgrade nats-server, or unset nats.embedded.binary")
        }
        _ => Check::ok(code, format!("nats-server has version {version}")),
    }
}

fn numbers(version: &str) -> Option<(u64, u64, u64)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
    let mut next = || parts.next()?.parse().ok();
    Some((next()?, next()?, next()?))
}

/// What a power cut can cost, in the words of the documentation.
fn durability(embedded: Option<&Embedded>) -> Check {
    match embedded.map(|embedded| embedded.sync_interval) {
        Some(None) => Check::ok(
            DURABILITY,
            "acknowledged means on disk: neither a power cut nor a crash loses what was acknowledged \
             (nats.embedded.sync_interval = \"always\")",
        ),
        Some(Some(interval)) => {
            let text = format!(
                "after a power cut, messages acknowledged during the last {} may be missing. A crash of the program \
                 loses nothing (nats.embedded.sync_interval)",
                window(interval)
            );
            Check::note(DURABILITY, text)
                .fix("to lose nothing: nats.embedded.sync_interval = \"always\"")
        }
        None => Check::note(
            DURABILITY,
            "the external NATS decides when a message is on disk: sync_interval in the jetstream block of each node",
        ),
    }
}

fn window(interval: Duration) -> String {
    match (interval.as_millis(), interval.as_secs()) {
        (1000, _) => "second".to_owned(),
        (ms, seconds) if ms == u128::from(seconds) * 1000 => format!("{seconds} seconds"),
        (ms, _) => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_stopped_and_a_forbidden_server_differ() {
        let stopped = server(&Running::No, Account::Other);
        assert_eq!(stopped[0].verdict, Verdict::Note);
        let forbidden = server(&Running::NotPermitted("/x/operator.sock".into()), Account::Other);
        assert_eq!(forbidden[0].verdict, Verdict::Skipped);
        assert_eq!(forbidden[0].fix.as_deref(), Some("sudo chatto doctor"));
    }

    #[test]
    fn a_status_without_the_newest_fields_is_enough() {
        let status = json!({ "ready": true, "version": "0.1.0", "pid": 7, "uptime_seconds": 7200 });
        let checks = server(&Running::Yes(status), Account::Server);
        let verdicts: Vec<Verdict> = checks.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Ok]);
        assert!(checks[0].text.contains("for 2 hours (pid 7)"), "{checks:?}");
        let status = json!({ "ready": false, "reason": "disk_full", "held_rooms": [1], "nats": { "restarts": 2 } });
        let checks = server(&Running::Yes(status), Account::Server);
        let verdicts: Vec<Verdict> = checks.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Fail, Verdict::Fail, Verdict::Warn]);
        assert!(checks[1].text.contains("disk_full"));
    }

    #[test]
    fn only_a_lock_without_its_holder_is_stale() {
        let verdict =
            |state: LockState, running: Running| lock_check(&state, &running).unwrap().verdict;
        assert_eq!(verdict(LockState::Free, Running::No), Verdict::Ok);
        assert_eq!(verdict(LockState::Server { pid: 1 }, Running::Yes(Value::Null)), Verdict::Ok);
        assert_eq!(verdict(LockState::Server { pid: 1 }, Running::No), Verdict::Note);
        let stale = lock_check(&LockState::Orphan { pid: Some(812) }, &Running::No).unwrap();
        assert_eq!(stale.verdict, Verdict::Warn);
        assert!(stale.text.contains("(pid 812)"), "{stale:?}");
    }

    #[test]
    fn old_versions_of_nats_are_refused() {
        for (version, verdict) in [
            ("2.10.29", Verdict::Fail),
            ("2.11.0", Verdict::Note),
            ("2.15.1", Verdict::Ok),
            ("2.15.10", Verdict::Ok),
            ("3.0.0-beta.1", Verdict::Ok),
            ("unknown", Verdict::Skipped),
        ] {
            assert_eq!(assess_version(NATS, version, Some("2.15.1")).verdict, verdict, "{version}");
        }
    }

    #[test]
    fn the_loss_window_is_said_in_words() {
        assert_eq!(window(Duration::from_secs(1)), "second");
        assert_eq!(window(Duration::from_secs(120)), "120 seconds");
        assert_eq!(window(Duration::from_millis(1500)), "1500 ms");
        assert!(durability(None).text.contains("external"));
    }
}
