//! In a container the server is PID 1. The kernel makes it the parent of every process whose own parent has ended, such as
//! the children of a command that was killed (`docker exec`). When they end, it must read their exit status, or their
//! process ids stay in use.

use std::collections::BTreeSet;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::process::{parent_of_dead, processes};
use crate::limits::ORPHANS_INTERVAL;
use crate::runtime::{Clock, Stop};

/// Reads the exit status of ended orphans until `stop`. Ends at once in a process that is not PID 1.
pub async fn reap_orphans(clock: Clock, stop: Stop) {
    if std::process::id() != 1 {
        return;
    }
    let mut reaper = Reaper::default();
    while stop.or(clock.sleep(ORPHANS_INTERVAL)).await.is_some() {
        reaper.round(dead_children(1));
    }
}

/// Our own children are dead for a moment until the part that started them reads their status, so only those are orphans
/// that are dead in two rounds.
#[derive(Default)]
struct Reaper {
    dead: BTreeSet<i32>,
}

impl Reaper {
    fn round(&mut self, mut dead: BTreeSet<i32>) {
        dead.retain(|pid| {
            let is_orphan = self.dead.contains(pid);
            if is_orphan && let Some(pid) = Pid::from_raw(*pid) {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                if let Err(error) = waitid(WaitId::Pid(pid), options) {
                    log::debug!(error:err = error; "cannot read the exit status of an orphan");
                }
            }
            !is_orphan
        });
        self.dead = dead;
    }
}

/// The children of a process that have ended and whose exit status nobody has read.
fn dead_children(parent: i32) -> BTreeSet<i32> {
    processes().filter(|pid| parent_of_dead(*pid) == Some(parent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_stays_dead_is_reaped_in_the_second_round() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while !dead_children(own).contains(&pid) {
            std::thread::yield_now();
        }
        let mut reaper = Reaper::default();
        reaper.round(BTreeSet::from([pid]));
        assert!(dead_children(own).contains(&pid));
        reaper.round(BTreeSet::from([pid]));
        assert!(!dead_children(own).contains(&pid));
        assert!(child.wait().is_err(), "its status was read");
    }

    #[test]
    fn a_child_whose_status_was_read_is_forgotten() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut reaper = Reaper::default();
        reaper.round(BTreeSet::from([pid]));
        assert!(child.wait().unwrap().success());
        reaper.round(BTreeSet::new());
        assert!(reaper.dead.is_empty());
    }
}
