//! What would be left after a loss of the machine: verified backups and where they are, the export of keys, the
//! nightly backup, paired sticks.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::app::medium::is_same;
use crate::backup::catalogue::{ArchiveState, Catalogue};
use crate::config::{Examined, Source, Sticks, SticksError};
use crate::limits::DOCTOR_BACKUP_MAX_AGE;
use crate::observe::{chain, counted, parse_rfc3339};

use super::store::{Running, span};
use super::system::{System, about, names};
use super::{Check, Facts};

const VERIFIED: &str = "backup.verified";
const TARGET: &str = "backup.target";
const NIGHTLY: &str = "backup.nightly";
const KEYS: &str = "keys.export";
const STICKS: &str = "usb.sticks";

/// Where the service of the packages writes, in the data directory.
const SERVICE_TARGET: &str = "backups";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Check> {
    let now_ms = facts.clock.unix_ms();
    let targets = targets(facts.examined, &facts.settings.data_dir);
    let mut checks = Vec::new();
    let recorded = time_ms(facts.running.status("/last_verified_backup"));
    let catalogued = targets.iter().filter_map(|target| newest_verified(target)).max();
    checks.push(verified(recorded.max(catalogued), now_ms));
    checks.extend(targets.iter().map(|target| target_check(facts, target)));
    if targets.is_empty() {
        let text = "no directory with archives is known here, so it was not checked where they are";
        let fix = "set backup.directory to a directory on another disk, and run chatto backup --encrypt --verify";
        checks.push(Check::note(TARGET, text).fix(fix));
    }
    checks.extend(nightly(facts.system));
    checks.push(keys(facts.running, now_ms));
    checks.push(sticks(facts.examined.file.as_deref()));
    checks
}

/// A time in a status.
fn time_ms(value: &Value) -> Option<i64> {
    value.as_str().and_then(parse_rfc3339)
}

/// The directories that backups go to: the configured one, and that of the service if archives are in it.
fn targets(examined: &Examined, data_dir: &Path) -> Vec<PathBuf> {
    let stated = examined.effective.iter().any(|effective| {
        effective.name == "backup.directory" && effective.source != Source::Default
    });
    let configured = examined.settings.as_ref().map(|settings| settings.backup.directory.clone());
    let mut targets: Vec<PathBuf> =
        configured.filter(|directory| stated || !is_empty(directory)).into_iter().collect();
    let service = data_dir.join(SERVICE_TARGET);
    if !is_empty(&service) && !targets.contains(&service) {
        targets.push(service);
    }
    targets
}

/// Whether there is nothing, or nothing that this account may see.
fn is_empty(directory: &Path) -> bool {
    names(directory).unwrap_or_default().is_empty()
}

fn newest_verified(target: &Path) -> Option<i64> {
    let catalogue = Catalogue::read(target).ok()??;
    let verified =
        catalogue.archives.iter().filter(|archive| archive.state == ArchiveState::Verified);
    verified
        .filter(|archive| archive.is_unchanged(target))
        .filter_map(|archive| archive.time_ms())
        .max()
}

fn seconds_between(from_ms: i64, to_ms: i64) -> u64 {
    u64::try_from(to_ms.saturating_sub(from_ms) / 1000).unwrap_or_default()
}

fn verified(newest_ms: Option<i64>, now_ms: i64) -> Check {
    let fix =
        "chatto backup --encrypt --verify; every night: systemctl enable --now chatto-backup.timer";
    let Some(newest_ms) = newest_ms else {
        return Check::warn(VERIFIED, "no verified backup is known").fix(fix);
    };
    let seconds = seconds_between(newest_ms, now_ms);
    if seconds > DOCTOR_BACKUP_MAX_AGE.as_secs() {
        return Check::fail(VERIFIED, format!("no verified backup for {}", span(seconds))).fix(fix);
    }
    Check::ok(VERIFIED, format!("the last verified backup was made {} ago", span(seconds)))
}

fn target_check(facts: &Facts<'_>, target: &Path) -> Check {
    let shown = target.display();
    match is_same(target, &facts.settings.data_dir) {
        Some(true) => {
            let text = format!(
                "the backups in {shown} are on the same disk as the data: they are lost together with it"
            );
            let fix = "mount another disk and set backup.directory to a directory on it (or -o DIR --require-mount in \
                       chatto-backup.service); or copy the archives to another machine";
            Check::warn(TARGET, text).fix(fix)
        }
        Some(false) => {
            Check::ok(TARGET, format!("the backups in {shown} are on another disk than the data"))
        }
        None => facts.account.may_not(TARGET, &format!("the disk of {shown}")),
    }
}

/// Where the packages are installed: whether their nightly backup is on, and has its passphrase.
fn nightly(system: &System) -> Option<Check> {
    if !system.exists("/usr/lib/systemd/system/chatto-backup.timer") {
        return None;
    }
    if !system.exists("/etc/systemd/system/timers.target.wants/chatto-backup.timer") {
        let text = "the nightly backup is not enabled";
        return Some(Check::warn(NIGHTLY, text).fix("systemctl enable --now chatto-backup.timer"));
    }
    match about(&system.path("/etc/chatto/backup-passphrase")) {
        Ok(None) => {
            let text = "the nightly backup is enabled, but has no passphrase, so it fails";
            let fix = "sudo sh -c 'umask 077; head -c 18 /dev/urandom | base64 > /etc/chatto/backup-passphrase'";
            Some(Check::fail(NIGHTLY, text).fix(fix))
        }
        _ => Some(Check::ok(NIGHTLY, "the nightly backup is enabled")),
    }
}

fn keys(running: &Running, now_ms: i64) -> Check {
    let keys = running.status("/keys");
    if keys.is_null() {
        let text =
            "which keys of messages are exported is known while the server runs and may be asked";
        return Check::skipped(KEYS, text);
    }
    let fix = "chatto keys export -o FILE, and keep FILE on another machine than the archives";
    let people = keys.get("people_without_export").and_then(Value::as_u64).unwrap_or_default();
    let exported = keys.get("exported").and_then(time_ms);
    let age = exported.map(|at_ms| span(seconds_between(at_ms, now_ms)));
    match (people, age) {
        (0, None) => Check::ok(KEYS, "nobody has written yet, so there are no keys to export"),
        (0, Some(age)) => {
            Check::ok(KEYS, format!("all keys are in exports; the last one was made {age} ago"))
        }
        (people, age) => {
            let who = if people == 1 { "1 person".to_owned() } else { format!("{people} people") };
            let since = age.map_or("there was none yet".to_owned(), |age| {
                format!("the last one was made {age} ago")
            });
            let text = format!(
                "the keys of {who} are in no export ({since}): if the store is lost, their messages cannot be read from an archive"
            );
            Check::warn(KEYS, text).fix(fix)
        }
    }
}

fn sticks(configuration: Option<&Path>) -> Check {
    match Sticks::read(configuration) {
        Ok(sticks) => match sticks.list().len() {
            0 => Check::ok(STICKS, "no USB stick is paired"),
            count => {
                let text = format!(
                    "{} paired for backups",
                    counted(count, ("USB stick is", "USB sticks are"))
                );
                Check::ok(STICKS, text)
            }
        },
        Err(error @ SticksError::Read { .. }) => {
            Check::skipped(STICKS, chain(&error)).fix("sudo chatto doctor")
        }
        Err(error) => Check::fail(STICKS, chain(&error))
            .fix("correct the file, or remove it and pair the sticks again with chatto usb pair"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn a_backup_older_than_eight_days_must_be_renewed() {
        let now = 100 * DAY_MS;
        assert_eq!(verified(None, now).verdict, Verdict::Warn);
        assert_eq!(verified(Some(now - DAY_MS), now).verdict, Verdict::Ok);
        assert_eq!(verified(Some(now - 8 * DAY_MS), now).verdict, Verdict::Ok);
        let old = verified(Some(now - 9 * DAY_MS), now);
        assert_eq!(
            (old.verdict, old.text.as_str()),
            (Verdict::Fail, "no verified backup for 9 days")
        );
        assert_eq!(
            verified(Some(now + DAY_MS), now).verdict,
            Verdict::Ok,
            "a clock that was ahead"
        );
    }

    #[test]
    fn the_time_of_the_last_backup_is_a_text() {
        assert_eq!(time_ms(&json!("1970-01-02T00:00:00.000Z")), Some(DAY_MS));
        for other in [json!(null), json!(7), json!("yesterday")] {
            assert_eq!(time_ms(&other), None, "{other}");
        }
    }

    #[test]
    fn keys_without_export_are_counted() {
        let of = |keys: Value| keys_of(json!({ "keys": keys }));
        let keys_of_none = keys(&Running::No, 0);
        assert_eq!(keys_of_none.verdict, Verdict::Skipped);
        assert_eq!(of(json!(null)).verdict, Verdict::Skipped);
        assert_eq!(
            of(json!({ "people_without_export": 0, "exported": null })).verdict,
            Verdict::Ok
        );
        let one = of(json!({ "people_without_export": 1, "exported": "1970-01-01T00:00:00Z" }));
        assert_eq!(one.verdict, Verdict::Warn);
        assert!(one.text.contains("1 person") && one.text.contains("2 days ago"), "{one:?}");
    }

    fn keys_of(status: Value) -> Check {
        keys(&Running::Yes(status), 2 * DAY_MS)
    }

    #[test]
    fn the_nightly_backup_needs_its_timer_and_its_passphrase() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        assert_eq!(nightly(&system), None, "no package");
        let file = |path: &str| {
            let path = root.path().join(path);
            create_dir_all(path.parent().unwrap()).unwrap();
            write(path, "").unwrap();
        };
        file("usr/lib/systemd/system/chatto-backup.timer");
        assert_eq!(nightly(&system).unwrap().verdict, Verdict::Warn);
        file("etc/systemd/system/timers.target.wants/chatto-backup.timer");
        assert_eq!(nightly(&system).unwrap().verdict, Verdict::Fail);
        file("etc/chatto/backup-passphrase");
        assert_eq!(nightly(&system).unwrap().verdict, Verdict::Ok);
    }

    #[test]
    fn paired_sticks_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let configuration = dir.path().join("chatto.toml");
        assert!(sticks(Some(&configuration)).text.contains("no USB stick"));
        let one = |name: &str| {
            let id = "0".repeat(32);
            format!(
                "[[stick]]\nname = '{name}'\nid = '{id}'\nuuid = '{name}'\nwith_keys = false\npaired_at = '2026-11-30T00:00:00Z'\n"
            )
        };
        let list = dir.path().join("usb-sticks.toml");
        write(&list, one("Blue") + &one("Red")).unwrap();
        let check = sticks(Some(&configuration));
        assert_eq!(
            (check.verdict, check.text.as_str()),
            (Verdict::Ok, "2 USB sticks are paired for backups")
        );
        write(&list, "[[stick]]\nname = 'Blue'\n").unwrap();
        assert_eq!(
            sticks(Some(&configuration)).verdict,
            Verdict::Fail,
            "a list that cannot be used"
        );
    }
}
