//! The latency of a flush: what one acknowledged message waits for. This is the only thing that `doctor` writes.
//!
//! A file without a name (O_TMPFILE) is written in the data directory, so that nothing stays even if the process is
//! killed. Where the file system has no such files, one with a name is removed right after it was created. Bytes, flushes
//! and time are limited, and on a disk that is read-only or almost full nothing is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{OFlags, StatVfsMountFlags, statvfs};
use rustix::io::Errno;

use crate::limits::{
    DOCTOR_FLUSH_BYTES, DOCTOR_FLUSH_HANG_TIMEOUT, DOCTOR_FLUSH_SLOW, DOCTOR_FLUSH_STALL,
    DOCTOR_FLUSHES_MAX, DOCTOR_FLUSHES_TIMEOUT,
};
use crate::runtime::{Clock, blocking};

use super::system::is_absent;
use super::{Check, Facts};

const LATENCY: &str = "disk.latency";

/// Why there is no measurement.
#[derive(Debug)]
enum NotMeasured {
    /// Less space is free than the floor.
    AlmostFull,
    ReadOnly,
    /// A flush has not ended in [`DOCTOR_FLUSH_HANG_TIMEOUT`].
    Hangs,
    Failed(io::Error),
}

pub(super) fn check(facts: &Facts<'_>) -> Check {
    let data_dir = facts.settings.data_dir.clone();
    let floor = facts.settings.embedded.as_ref().map_or(0, |embedded| embedded.min_free_disk_bytes);
    if facts.settings.embedded.is_none() {
        return Check::skipped(
            LATENCY,
            "messages are stored by the external NATS, not on this machine",
        );
    }
    let clock = facts.clock.clone();
    let work = blocking(move || measure(&data_dir, floor, &clock));
    let measured = match smol::block_on(facts.clock.timeout(DOCTOR_FLUSH_HANG_TIMEOUT, work)) {
        Ok(measured) => measured,
        Err(_) => Err(NotMeasured::Hangs),
    };
    let is_always =
        facts.settings.embedded.as_ref().is_some_and(|embedded| embedded.sync_interval.is_none());
    match measured {
        Ok(times) => assess(times, is_always),
        Err(NotMeasured::Failed(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            facts.account.may_not(LATENCY, "the latency of the disk, which is measured with a small file in the data directory")
        }
        Err(why) => not_measured(&why),
    }
}

fn not_measured(why: &NotMeasured) -> Check {
    match why {
        NotMeasured::AlmostFull => {
            Check::skipped(LATENCY, "the latency was not measured, because the disk is almost full")
        }
        NotMeasured::ReadOnly => {
            Check::skipped(LATENCY, "the latency was not measured, because the disk is read-only")
        }
        NotMeasured::Hangs => {
            let seconds = DOCTOR_FLUSH_HANG_TIMEOUT.as_secs();
            let text =
                format!("a flush of the disk has not ended after {seconds} s: the disk hangs");
            Check::fail(LATENCY, text)
                .fix("dmesg shows its errors; replace the card, disk or cable")
        }
        NotMeasured::Failed(error) if is_absent(error) => Check::skipped(
            LATENCY,
            "the latency was not measured, because there is no data directory yet",
        ),
        NotMeasured::Failed(error) => {
            let text = format!("a small file in the data directory could not be written: {error}");
            Check::fail(LATENCY, text)
                .fix("dmesg shows errors of the disk; df -h and df -i show its space")
        }
    }
}

fn measure(data_dir: &Path, floor: u64, clock: &Clock) -> Result<Vec<Duration>, NotMeasured> {
    let failed = NotMeasured::Failed;
    let about = statvfs(data_dir).map_err(|error| failed(error.into()))?;
    if about.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(NotMeasured::ReadOnly);
    }
    let needed = u64::try_from(DOCTOR_FLUSHES_MAX * DOCTOR_FLUSH_BYTES).unwrap_or(u64::MAX);
    if about.f_bavail.saturating_mul(about.f_frsize) < floor.max(needed) {
        return Err(NotMeasured::AlmostFull);
    }
    let mut file = unnamed_file(data_dir).map_err(failed)?;
    let bytes = [0x5a; DOCTOR_FLUSH_BYTES];
    let began = clock.now();
    let mut times = Vec::new();
    while times.len() < DOCTOR_FLUSHES_MAX && clock.now() - began < DOCTOR_FLUSHES_TIMEOUT {
        let start = clock.now();
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
        times.push(clock.now() - start);
    }
    Ok(times)
}

fn unnamed_file(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let flags = OFlags::TMPFILE.bits().cast_signed();
    match options.clone().custom_flags(flags).open(directory) {
        Err(error)
            if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::ISDIR)) => {}
        opened => return opened,
    }
    let path = directory.join(format!(".chatto-doctor-{}", std::process::id()));
    // A new file: whoever may write to the directory cannot choose what is written over.
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// The value below which this many per cent of the sorted times are.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

fn assess(mut times: Vec<Duration>, is_always: bool) -> Check {
    times.sort();
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    let per_second = 1_000_000 / p50.as_micros().max(1);
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let allows = if is_always {
        format!("which allows about {per_second} messages per second")
    } else {
        "for which no message waits, because nats.embedded.sync_interval is not \"always\""
            .to_owned()
    };
    let text = format!(
        "a flush of the disk takes {} (median) and {} (99th percentile) in {} attempts, {allows}",
        ms(p50),
        ms(p99),
        times.len()
    );
    let fix = "use a USB SSD, or an SD card of application class A2";
    if is_always && p50 > DOCTOR_FLUSH_SLOW {
        Check::warn(LATENCY, format!("{text}: that is slow")).fix(fix)
    } else if is_always && p99 > DOCTOR_FLUSH_STALL {
        Check::warn(LATENCY, format!("{text}: some messages wait noticeably")).fix(fix)
    } else {
        Check::ok(LATENCY, text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn times(ms: &[u64]) -> Vec<Duration> {
        ms.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn median_and_99th_percentile_are_those_of_the_sorted_times() {
        let hundred: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&hundred, 50), Duration::from_millis(50));
        assert_eq!(percentile(&hundred, 99), Duration::from_millis(99));
        assert_eq!(percentile(&times(&[7]), 99), Duration::from_millis(7));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn the_messages_per_second_follow_from_the_median() {
        let good = assess(times(&[5, 4, 5, 6]), true);
        assert_eq!(good.verdict, Verdict::Ok);
        assert!(good.text.contains("5.0 ms (median)"), "{good:?}");
        assert!(good.text.contains("about 200 messages per second"), "{good:?}");
        assert_eq!(assess(times(&[51]), true).verdict, Verdict::Warn);
        assert_eq!(assess(times(&[5, 5, 501]), true).verdict, Verdict::Warn);
        let relaxed = assess(times(&[200]), false);
        assert_eq!(relaxed.verdict, Verdict::Ok);
        assert!(relaxed.text.contains("no message waits"), "{relaxed:?}");
    }

    #[test]
    fn a_measurement_leaves_nothing_and_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let times = measure(dir.path(), 0, &Clock::system()).unwrap();
        assert!((1..=DOCTOR_FLUSHES_MAX).contains(&times.len()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_almost_full_or_absent_disk_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let full = measure(dir.path(), u64::MAX, &Clock::system());
        assert!(matches!(full, Err(NotMeasured::AlmostFull)), "{full:?}");
        let absent = measure(&dir.path().join("none"), 0, &Clock::system()).unwrap_err();
        assert_eq!(not_measured(&absent).verdict, Verdict::Skipped);
        let read_only = measure(Path::new("/proc"), 0, &Clock::system()).unwrap_err();
        assert_ne!(not_measured(&read_only).verdict, Verdict::Ok);
        assert_eq!(not_measured(&NotMeasured::Hangs).verdict, Verdict::Fail);
    }
}
