//! The disk under the data: its kind, free space against the floor and the store limit, bytes written per day.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{StatVfsMountFlags, fstatfs, major, minor, statvfs};

use crate::limits::{DISK_FREE_INODES_MIN, DOCTOR_WRITTEN_MIN_TIME};
use crate::observe::binary_size;

use super::account::Account;
use super::store::span;
use super::system::{System, field, is_absent};
use super::{Check, Facts};

const SPACE: &str = "disk.space";
const MEDIUM: &str = "disk.medium";
const WRITTEN: &str = "disk.written";

/// Bytes of a sector in `/sys/block/*/stat` (Documentation/block/stat.rst).
const SECTOR_BYTES: u64 = 512;
const DAY_SECONDS: u64 = 86_400;

/// The space of a file system, and what is kept free of it.
#[derive(Debug, Clone, Copy)]
struct Space {
    free_bytes: u64,
    /// `None` where the file system makes inodes as it needs them.
    free_inodes: Option<u64>,
    floor_bytes: u64,
    /// What the store takes, and may take at most; known while a server runs.
    store: Option<(u64, u64)>,
}

pub(super) fn check(facts: &Facts<'_>) -> Vec<Check> {
    let data_dir = &facts.settings.data_dir;
    let about = match statvfs(data_dir) {
        Ok(about) => about,
        Err(error) => {
            let error = io::Error::from(error);
            if is_absent(&error) {
                return Vec::new();
            }
            return vec![
                facts.account.may_not(SPACE, &format!("the disk of {}", data_dir.display())),
            ];
        }
    };
    let mut checks = vec![medium(data_dir, about.f_flag.contains(StatVfsMountFlags::RDONLY))];
    if let Some(embedded) = &facts.settings.embedded {
        let number = |name: &str| facts.running.status(name).as_u64();
        let store = number("/disk/store_bytes").zip(number("/disk/store_limit_bytes"));
        checks.extend(space(&Space {
            free_bytes: about.f_bavail.saturating_mul(about.f_frsize),
            free_inodes: (about.f_files != 0).then_some(about.f_favail),
            floor_bytes: embedded.min_free_disk_bytes,
            store,
        }));
    }
    checks.push(written(facts));
    checks
}

fn medium(data_dir: &Path, is_read_only: bool) -> Check {
    let file_system = File::open(data_dir).and_then(|dir| Ok(fstatfs(&dir)?.f_type));
    // tmpfs (include/uapi/linux/magic.h).
    let is_memory = matches!(file_system, Ok(0x0102_1994));
    let shown = data_dir.display();
    if is_read_only {
        let text = format!("the disk of {shown} is mounted read-only: nothing can be stored");
        return Check::fail(MEDIUM, text).fix("dmesg shows why; then fsck, or mount -o remount,rw");
    }
    if is_memory {
        let text =
            format!("{shown} is in memory (tmpfs): everything is lost when the machine restarts");
        return Check::fail(MEDIUM, text)
            .fix("set nats.embedded.data_dir to a directory on a disk");
    }
    Check::ok(MEDIUM, format!("{shown} is on a disk that can be written"))
}

fn space(space: &Space) -> Vec<Check> {
    let Space { free_bytes, free_inodes, floor_bytes, store } = *space;
    let (free, floor) = (binary_size(free_bytes), binary_size(floor_bytes));
    let numbers = format!("{free} are free, nats.embedded.min_free_disk keeps {floor}");
    let fix = "remove what is not needed (old archives: chatto backup prune), or move the data to a larger disk";
    let mut checks = vec![if free_bytes < floor_bytes {
        Check::fail(SPACE, format!("{numbers}: nothing can be stored")).fix(fix)
    } else if free_bytes < floor_bytes.saturating_mul(2) {
        Check::fail(SPACE, format!("{numbers}: files are refused, messages are still stored"))
            .fix(fix)
    } else if free_bytes < floor_bytes.saturating_mul(3) {
        Check::warn(SPACE, format!("{numbers}: below twice that, files are refused")).fix(fix)
    } else {
        Check::ok(SPACE, numbers)
    }];
    if floor_bytes == 0 {
        let text =
            "nats.embedded.min_free_disk is 0: a full disk stops the store instead of pausing it";
        checks.push(Check::warn(SPACE, text).fix("set nats.embedded.min_free_disk = \"512MiB\""));
    }
    if free_inodes.is_some_and(|free| free < DISK_FREE_INODES_MIN) {
        let text =
            format!("only {} more files can be created (df -i)", free_inodes.unwrap_or_default());
        checks.push(Check::fail(SPACE, text).fix("remove files that are not needed"));
    }
    // Right after a start the server has not measured it yet.
    if let Some((used, limit)) = store.filter(|(_, limit)| *limit > 0) {
        let numbers =
            format!("the store takes {} of at most {}", binary_size(used), binary_size(limit));
        checks.push(if used >= limit / 10 * 9 {
            let fix = "raise nats.embedded.max_file_store, or free space";
            Check::fail(SPACE, format!("{numbers}: soon nothing can be stored")).fix(fix)
        } else {
            Check::ok(SPACE, numbers)
        });
    }
    checks
}

/// Bytes that were written in some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    bytes: u64,
    seconds: u64,
}

fn written(facts: &Facts<'_>) -> Check {
    let device = facts.settings.data_dir.metadata().map(|about| about.dev());
    let by_device = device.ok().and_then(|device| by_device(facts.system, device));
    let by_server = facts.running.pid().and_then(|pid| by_server(facts.system, pid));
    match (by_server, by_device) {
        (Some(written), _) => per_day("the server", "its start", written),
        (None, Some(written)) => per_day("all programs together", "the machine started", written),
        (None, None) if facts.account == Account::Root => Check::skipped(
            WRITTEN,
            "this system does not count what is written to the disk of the data",
        ),
        (None, None) => facts.account.may_not(WRITTEN, "bytes written per day"),
    }
}

/// What the server and its nats-server wrote (`/proc/PID/io`). Each has its own start: the shorter time of a restarted
/// nats-server counts for what it wrote.
fn by_server(system: &System, pid: i64) -> Option<Written> {
    let own = by_process(system, pid)?;
    let rate = |written: Written| written.bytes / written.seconds.max(1);
    let children = children(system, pid).into_iter().filter_map(|pid| by_process(system, pid));
    let others: u64 = children.map(rate).sum();
    let bytes = own.bytes.saturating_add(others.saturating_mul(own.seconds));
    Some(Written { bytes, seconds: own.seconds })
}

fn by_process(system: &System, pid: i64) -> Option<Written> {
    let text = system.text(&format!("/proc/{pid}/io"))?;
    let bytes = field(&text, "write_bytes")?.parse().ok()?;
    Some(Written { bytes, seconds: system.age_seconds(pid)? })
}

/// The child processes of a process.
pub(super) fn children(system: &System, parent: i64) -> Vec<i64> {
    let pids = system.names("/proc").into_iter().filter_map(|name| name.parse::<i64>().ok());
    pids.filter(|pid| {
        let status = system.text(&format!("/proc/{pid}/status")).unwrap_or_default();
        field(&status, "PPid").and_then(|pid| pid.parse().ok()) == Some(parent)
    })
    .collect()
}

/// What was written to a block device since the machine started.
fn by_device(system: &System, device: u64) -> Option<Written> {
    let stat = system.text(&format!("/sys/dev/block/{}:{}/stat", major(device), minor(device)))?;
    let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
    Some(Written { bytes: sectors.checked_mul(SECTOR_BYTES)?, seconds: system.uptime_seconds()? })
}

fn per_day(who: &str, since: &str, written: Written) -> Check {
    let Written { bytes, seconds } = written;
    let so_far = format!("{who} wrote {} since {since}, {} ago", binary_size(bytes), span(seconds));
    if Duration::from_secs(seconds) < DOCTOR_WRITTEN_MIN_TIME {
        return Check::ok(
            WRITTEN,
            format!("{so_far}: too short a time to tell how much it is per day"),
        );
    }
    let day = u128::from(bytes) * u128::from(DAY_SECONDS) / u128::from(seconds);
    let day = binary_size(u64::try_from(day).unwrap_or(u64::MAX));
    Check::ok(WRITTEN, format!("{so_far}: {day} per day"))
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use super::super::Verdict;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn verdicts(free: u64, inodes: u64, store: Option<(u64, u64)>) -> Vec<Verdict> {
        let checks = space(&Space {
            free_bytes: free * MIB,
            free_inodes: Some(inodes),
            floor_bytes: 512 * MIB,
            store,
        });
        checks.iter().map(|check| check.verdict).collect()
    }

    #[test]
    fn space_is_compared_with_the_floor_at_each_step() {
        assert_eq!(verdicts(511, 1000, None), [Verdict::Fail]);
        assert_eq!(verdicts(512, 1000, None), [Verdict::Fail]);
        assert_eq!(verdicts(1024, 1000, None), [Verdict::Warn]);
        assert_eq!(verdicts(1536, 1000, None), [Verdict::Ok]);
        assert_eq!(verdicts(1536, DISK_FREE_INODES_MIN - 1, None), [Verdict::Ok, Verdict::Fail]);
        assert_eq!(verdicts(1536, 1000, Some((90, 100))), [Verdict::Ok, Verdict::Fail]);
        assert_eq!(verdicts(1536, 1000, Some((89, 100))), [Verdict::Ok, Verdict::Ok]);
    }

    #[test]
    fn what_both_processes_wrote_counts_each_for_its_own_time() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        let process = |pid: i64, parent: i64, start: u64, bytes: u64| {
            let folder = root.path().join(format!("proc/{pid}"));
            create_dir_all(&folder).unwrap();
            write(folder.join("status"), format!("Name:\tx\nPPid:\t{parent}\n")).unwrap();
            write(
                folder.join("io"),
                format!("rchar: 1\nwrite_bytes: {bytes}\ncancelled_write_bytes: 0\n"),
            )
            .unwrap();
            let fields = "S 1 7 7 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0";
            write(folder.join("stat"), format!("{pid} (x) {fields} {start} 1 1")).unwrap();
        };
        create_dir_all(root.path().join("proc")).unwrap();
        write(root.path().join("proc/uptime"), "2000.00 1.00").unwrap();
        process(10, 1, 0, 4_000);
        process(11, 10, 100_000, 50_000);
        process(12, 1, 0, 1_000_000);
        assert_eq!(children(&system, 10), [11]);
        // nats-server wrote 50 B/s during the last half.
        assert_eq!(by_server(&system, 10), Some(Written { bytes: 104_000, seconds: 2000 }));
        assert_eq!(by_server(&system, 99), None);
    }

    #[test]
    fn a_day_is_computed_from_what_there_is() {
        let day = per_day("the server", "its start", Written { bytes: 600 * MIB, seconds: 43_200 });
        assert!(day.text.ends_with("12 hours ago: 1200 MiB per day"), "{day:?}");
        let short = per_day("the server", "its start", Written { bytes: MIB, seconds: 599 });
        assert!(short.text.contains("too short"), "{short:?}");
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        let folder = root.path().join("sys/dev/block/179:2");
        create_dir_all(&folder).unwrap();
        create_dir_all(root.path().join("proc")).unwrap();
        write(root.path().join("proc/uptime"), "1000.5 1").unwrap();
        write(folder.join("stat"), "  1 2 3 4 5 6 2048 8 0 10 11\n").unwrap();
        let device = rustix::fs::makedev(179, 2);
        assert_eq!(by_device(&system, device), Some(Written { bytes: MIB, seconds: 1000 }));
    }
}
