//! Processes that are not our children: checks that one is still the same, and signals it.

use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::runtime::limited_read;

/// Bytes of `/proc/PID/stat` that are read.
const STAT_MAX_BYTES: u64 = 4096;
/// Field 22 of `/proc/PID/stat` (proc(5)) counted from field 3, the first after the name.
const START_TIME_FIELD: usize = 19;

/// A process, distinguished by its start time from a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProcessIdentity {
    pid: i32,
    /// Clock ticks since boot; 0: unknown.
    ticks: u64,
}

impl ProcessIdentity {
    pub(super) fn new(pid: i32, ticks: u64) -> Self {
        Self { pid, ticks }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn is_alive(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        // PERM: it is alive and belongs to another user.
        let lives = matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM));
        lives
            && match started_ticks(self.pid) {
                Some(ticks) => self.ticks == 0 || self.ticks == ticks,
                // `/proc` is hidden: the id alone must do. A zombie counts as dead.
                None => !PathBuf::from("/proc/self/stat").exists(),
            }
    }

    /// Sends `signal` if it is still the same process.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) else { return };
        if let Err(error) = kill_process(pid, signal) {
            log::warn!(pid = self.pid, error:err = error; "cannot signal a process");
        }
    }
}

/// When the process started, in clock ticks since boot; `None` when it has ended (also a zombie) or is hidden.
pub(super) fn started_ticks(pid: i32) -> Option<u64> {
    let stat = stat(pid)?;
    let mut fields = stat.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(START_TIME_FIELD - 1)?.parse().ok()
}

/// The parent of a process that has ended and whose exit status nobody has read; `None` for any other.
pub(super) fn parent_of_dead(pid: i32) -> Option<i32> {
    let stat = stat(pid)?;
    let mut fields = stat.split_whitespace();
    if fields.next()? != "Z" {
        return None;
    }
    fields.next()?.parse().ok()
}

/// All processes that `/proc` shows.
pub(super) fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields of `/proc/PID/stat` from the third one on, the state.
fn stat(pid: i32) -> Option<String> {
    let stat = limited_read(&PathBuf::from(format!("/proc/{pid}/stat")), STAT_MAX_BYTES).ok()?;
    // The name stands in parentheses and may contain anything.
    Some(String::from_utf8_lossy(&stat).rsplit_once(')')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_live_and_a_former_process_with_our_number_does_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        let ticks = started_ticks(own).unwrap();
        assert!(ticks > 0);
        assert!(ProcessIdentity::new(own, ticks).is_alive());
        assert!(ProcessIdentity::new(own, 0).is_alive());
        assert!(!ProcessIdentity::new(own, ticks + 1).is_alive());
        assert!(!ProcessIdentity::new(i32::MAX, 0).is_alive());
        assert!(!ProcessIdentity::new(0, 0).is_alive());
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // It has ended once its standard streams are gone; wait for the state without reaping it.
        while started_ticks(pid).is_some() {
            std::thread::yield_now();
        }
        assert!(!ProcessIdentity::new(pid, 0).is_alive());
        child.wait().unwrap();
    }
}
