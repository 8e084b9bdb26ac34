//! What work on all files keeps between two of its steps: the copy of a file, and when it last did something.

use std::time::Instant;

use parking_lot::Mutex;

use super::file_work::{FileCopy, FileWork};
use crate::limits::{FILE_COPY_TTL, FILE_MOVE_LEASE};
use crate::runtime::Clock;
use crate::storage::Lease;

/// What is kept between two steps.
#[derive(Default)]
pub(super) struct BetweenSteps {
    /// The file that the last step did not finish, with that step's lease.
    pub(super) unfinished: Option<(FileWork, Option<Lease>, FileCopy)>,
    /// The work of the step that runs.
    running: Option<FileWork>,
    /// When the last step ended.
    worked_at: Option<Instant>,
    /// When the last step of a move ended.
    moved_at: Option<Instant>,
}

impl BetweenSteps {
    pub(super) fn is_moving(&self, now: Instant) -> bool {
        matches!(self.running, Some(FileWork::Move(_)))
            || self.moved_at.is_some_and(|at| now - at < FILE_MOVE_LEASE)
    }

    /// Takes the copy of a command that has ended.
    pub(super) fn take_abandoned(&mut self, now: Instant) -> Option<FileCopy> {
        let is_recent = self.worked_at.is_some_and(|at| now - at < FILE_COPY_TTL);
        if self.running.is_some() || is_recent {
            return None;
        }
        self.unfinished.take().map(|(_, _, copy)| copy)
    }
}

/// Notes that a step runs, until dropped.
pub(super) struct RunningStep<'a> {
    between: &'a Mutex<BetweenSteps>,
    clock: &'a Clock,
    work: FileWork,
}

impl<'a> RunningStep<'a> {
    pub(super) fn begin(
        between: &'a Mutex<BetweenSteps>,
        clock: &'a Clock,
        work: FileWork,
    ) -> Self {
        between.lock().running = Some(work);
        Self { between, clock, work }
    }
}

impl Drop for RunningStep<'_> {
    fn drop(&mut self) {
        let now = Some(self.clock.now());
        let mut between = self.between.lock();
        between.running = None;
        between.worked_at = now;
        if let FileWork::Move(_) = self.work {
            between.moved_at = now;
        }
    }
}
