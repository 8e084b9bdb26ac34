//! The clock: whether it is synchronised, and whether it is behind what is stored.

use std::time::UNIX_EPOCH;

use crate::config::Examined;
use crate::observe::rfc3339;

use super::Check;
use super::system::System;

const SYNC: &str = "clock.sync";
const TIME: &str = "clock.time";

/// A file is newer than the clock by more than this only if the clock was ahead when it was written, or is behind now.
const TOLERANCE_MS: i64 = 60_000;

pub(super) fn check(system: &System, examined: &Examined, now_ms: i64) -> Vec<Check> {
    let mut checks = vec![synchronised(system)];
    if let Some(settings) = &examined.settings {
        let newest =
            ["lock", "run", "secrets.toml", "initialised"].into_iter().filter_map(|name| {
                let changed = settings.data_dir.join(name).metadata().ok()?.modified().ok()?;
                i64::try_from(changed.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
            });
        checks.extend(newest.max().map(|newest_ms| compared(now_ms, newest_ms)));
    }
    checks
}

fn compared(now_ms: i64, newest_ms: i64) -> Check {
    let (now, newest) = (rfc3339(now_ms), rfc3339(newest_ms));
    if newest_ms > now_ms.saturating_add(TOLERANCE_MS) {
        let text = format!(
            "the clock says {now}, but the data directory was changed at {newest}: new messages would be sorted by \
             a wrong time, and sessions would end at a wrong one"
        );
        return Check::fail(TIME, text)
            .fix("timedatectl set-ntp true; or set it: date -s 'YYYY-MM-DD hh:mm'");
    }
    Check::ok(TIME, format!("the clock says {now} and is not behind the data"))
}

fn synchronised(system: &System) -> Check {
    if system.exists("/run/systemd/timesync/synchronized") {
        return Check::ok(SYNC, "systemd-timesyncd has synchronised the clock");
    }
    let services = [
        ("/run/chrony/chronyd.pid", "chrony", "chronyc tracking"),
        ("/run/chronyd.pid", "chrony", "chronyc tracking"),
        ("/run/ntpd.pid", "ntpd", "ntpq -p"),
        ("/run/openntpd.pid", "openntpd", "ntpctl -s status"),
    ];
    let running = services.into_iter().find(|(file, ..)| system.exists(file));
    if let Some((_, service, command)) = running {
        let text = format!(
            "{service} runs and keeps the clock; `{command}` shows whether it is synchronised"
        );
        return Check::ok(SYNC, text);
    }
    if !system.exists("/run/systemd/system") {
        let text = "this is a container or a system without systemd: whoever runs the machine keeps its clock";
        return Check::note(SYNC, text);
    }
    let clock_chip = if system.exists("/sys/class/rtc/rtc0") {
        ""
    } else {
        " This board has no clock that runs without power, so after a power cut the time is wrong until then."
    };
    let text =
        format!("the clock has not been synchronised since the machine started.{clock_chip}");
    Check::warn(SYNC, text)
        .fix("timedatectl set-ntp true; timedatectl timesync-status shows the state")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn who_keeps_the_clock_is_read_from_run() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        assert_eq!(synchronised(&system).verdict, Verdict::Note);
        std::fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        let alone = synchronised(&system);
        assert_eq!(alone.verdict, Verdict::Warn);
        assert!(alone.text.contains("no clock that runs without power"), "{alone:?}");
        std::fs::create_dir_all(root.path().join("run/chrony")).unwrap();
        std::fs::write(root.path().join("run/chrony/chronyd.pid"), "1").unwrap();
        assert!(synchronised(&system).text.contains("chronyc tracking"));
        std::fs::create_dir_all(root.path().join("run/systemd/timesync")).unwrap();
        std::fs::write(root.path().join("run/systemd/timesync/synchronized"), "").unwrap();
        assert_eq!(synchronised(&system).verdict, Verdict::Ok);
    }

    #[test]
    fn a_clock_behind_the_data_must_be_set() {
        assert_eq!(compared(1_000_000, 1_030_000).verdict, Verdict::Ok);
        let behind = compared(1_000_000, 1_100_000);
        assert_eq!(behind.verdict, Verdict::Fail);
        assert!(behind.fix.unwrap().contains("timedatectl"));
    }
}
