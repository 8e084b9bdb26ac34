//! A backup to a paired stick, from the process of root: it mounts, lets the other process work, and unmounts.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Stick, Sticks};
use crate::crypto::Secret;
use crate::limits::{STICK_BUSY_INTERVAL, STICK_BUSY_WAIT};
use crate::observe::chain;
use crate::operator::Exit;
use crate::runtime::Clock;
use crate::supervisor::{Signals, Worker, WorkerEnd};

use super::device::BlockDevice;
use super::error::StickError;
use super::message::{Finished, Job, Line, Outcome, Phase, Written};
use super::mount::{Access, Mounted};
use super::pair::{is_read_only, read_id};
use super::worker::WORKER_ARGUMENT;

/// What is to be backed up, and where.
pub struct StickBackup<'a> {
    /// The device of the stick.
    pub device: &'a Path,
    pub config: Option<PathBuf>,
    pub sticks: Sticks,
    /// User and group of the service.
    pub owner: (u32, u32),
    /// Asked for when the stick is known to be a paired one.
    pub passphrase: &'a dyn Fn() -> Result<Secret, (Exit, String)>,
}

/// A verified backup on a stick.
#[derive(Debug)]
pub struct StickRun {
    /// What people call the stick.
    pub name: String,
    pub sequence: u64,
    pub archive: String,
    pub bytes: u64,
    pub elapsed: Duration,
    /// Backups of this server on the stick.
    pub backups: usize,
    pub free_bytes: u64,
    pub is_clock_set: bool,
    /// Keys of people on the stick; `None`: it gets none.
    pub keys: Option<usize>,
    /// Archives that were removed.
    pub removed: usize,
    /// Why none was removed.
    pub refused: Vec<String>,
}

/// What is going on, for people.
#[derive(Debug, Clone, Copy)]
pub enum StickEvent<'a> {
    /// The stick is a paired one, of this name.
    Began(&'a str),
    /// The backup is tried again in a moment, as another one is running or the store is in use: this is why.
    Waiting(&'a str),
    /// Bytes written so far, and about how many there will be.
    Written(u64, u64),
    /// Bytes read again so far, of so many.
    Verified(u64, u64),
}

/// Makes a backup on a stick, reads it again and removes superseded ones. Blocks; signals that end a process let it finish in
/// order.
///
/// # Errors
/// [`StickError`]; with it the name of the stick if it is a paired one.
pub fn run(
    request: &StickBackup<'_>,
    on: &mut dyn FnMut(StickEvent<'_>),
) -> Result<StickRun, (Option<String>, StickError)> {
    // The other process receives them, too, and says what they led to.
    let mut signals = Signals::new().map_err(|error| (None, StickError::Io(error)))?;
    let clock = Clock::system();
    let begin = clock.now();
    let device = BlockDevice::find(request.device).map_err(|error| (None, error))?;
    let stick = match request.sticks.by_uuid(&device.file_system.uuid) {
        Some(stick) => stick.clone(),
        None => return Err((None, StickError::NotPaired { path: device.path })),
    };
    let name = stick.name.clone();
    let work = Work { request, device: &device, stick };
    work.check_id().map_err(|error| (None, error))?;
    on(StickEvent::Began(&name));
    let done = work.run(&mut signals, on).map_err(|error| match device.is_present() {
        false => StickError::Removed,
        true => error,
    });
    work.report(&done);
    match done {
        Ok((written, finished)) => Ok(StickRun {
            name,
            sequence: written.sequence,
            archive: written.archive,
            bytes: written.bytes,
            elapsed: clock.now().duration_since(begin),
            backups: finished.backups,
            free_bytes: finished.free_bytes,
            is_clock_set: written.is_clock_set,
            keys: written.keys,
            removed: finished.removed,
            refused: finished.refused,
        }),
        Err(error) => Err((Some(name), error)),
    }
}

struct Work<'a> {
    request: &'a StickBackup<'a>,
    device: &'a BlockDevice,
    stick: Stick,
}

impl Work<'_> {
    /// Checks the id of the stick before anything is written to it.
    fn check_id(&self) -> Result<(), StickError> {
        let mounted = self.mount(Access::ReadOnly)?;
        let (path, name) = (self.device.path.clone(), self.stick.name.clone());
        match read_id(mounted.root()) {
            Ok(Some(id)) if id == self.stick.id => Ok(()),
            Ok(_) => Err(StickError::Forged { path, name }),
            Err(source) => Err(StickError::Identity { path, name, source }),
        }
    }

    fn mount(&self, access: Access) -> Result<Mounted, StickError> {
        let mounted = Mounted::new(self.device, self.request.owner, access);
        mounted.map_err(|error| match error {
            StickError::Mount { source, .. }
                if access == Access::ReadWrite && is_read_only(&source) =>
            {
                StickError::ReadOnly { name: self.stick.name.clone() }
            }
            error => error,
        })
    }

    fn run(
        &self,
        signals: &mut Signals,
        on: &mut dyn FnMut(StickEvent<'_>),
    ) -> Result<(Written, Finished), StickError> {
        let passphrase = (self.request.passphrase)()
            .map_err(|(exit, message)| StickError::Worker { exit, message })?;
        let written = self.write(&passphrase, signals, on)?;
        let verify = Phase::Verify { written: written.clone(), passphrase };
        let verified = self.step((verify, Access::ReadOnly), &mut |done, total| {
            on(StickEvent::Verified(done, total));
        });
        let finish = Phase::Finish { written: written.clone(), is_same: verified.is_ok() };
        if let Err(error) = verified {
            if let StickError::Differs { .. } = error {
                // The result is the same if this fails, too.
                self.step((finish, Access::ReadWrite), &mut |_, _| {}).ok();
            }
            return Err(error);
        }
        match self.step((finish, Access::ReadWrite), &mut |_, _| {})? {
            Line::Finished(finished) => Ok((written, finished)),
            line => Err(unexpected(&line)),
        }
    }

    /// Makes the backup. Whoever plugs a stick in is not there to try again while another backup is running.
    fn write(
        &self,
        passphrase: &Secret,
        signals: &mut Signals,
        on: &mut dyn FnMut(StickEvent<'_>),
    ) -> Result<Written, StickError> {
        let clock = Clock::system();
        let begin = clock.now();
        let mut is_repeated = false;
        loop {
            let with_keys = self.stick.with_keys;
            let phase = Phase::Write { passphrase: passphrase.clone(), with_keys, is_repeated };
            let line = self.step((phase, Access::ReadWrite), &mut |done, total| {
                on(StickEvent::Written(done, total));
            });
            let error = match line {
                Ok(Line::Written(written)) => return Ok(written),
                Ok(line) => return Err(unexpected(&line)),
                Err(error) => error,
            };
            let StickError::Worker { exit: Exit::TryAgain, message } = &error else {
                return Err(error);
            };
            let is_over = clock.now().duration_since(begin) >= STICK_BUSY_WAIT;
            if is_over || !self.device.is_present() {
                return Err(error);
            }
            on(StickEvent::Waiting(message));
            if signals.wait(STICK_BUSY_INTERVAL) {
                return Err(error);
            }
            is_repeated = true;
        }
    }

    /// Mounts the stick, lets the other process do its part, and unmounts it.
    fn step(
        &self,
        (phase, access): (Phase, Access),
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Line, StickError> {
        let mounted = self.mount(access)?;
        let line = self.work(phase, Some(&mounted), progress);
        let unmounted = mounted.unmount();
        let line = line?;
        unmounted?;
        Ok(line)
    }

    fn work(
        &self,
        phase: Phase,
        mounted: Option<&Mounted>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Line, StickError> {
        let descriptor = mounted.map(|mounted| mounted.root().descriptor());
        let job = |root| Job {
            phase,
            parent: std::process::id(),
            config: self.request.config.clone(),
            root,
            name: self.stick.name.clone(),
        };
        let input = |root| job(root).to_line();
        let worker = Worker::start(WORKER_ARGUMENT, self.request.owner, descriptor, input);
        let mut last = None;
        let ended = worker.map_err(StickError::Start)?.finish(&mut |line| {
            match serde_json::from_slice(line) {
                Ok(Line::Progress(done, total)) => progress(done, total),
                Ok(line) => last = Some(line),
                Err(error) => log::warn!(error:err = error; "the process that works on the stick wrote a line that is not one"),
            }
        });
        result(last, ended.map_err(StickError::Start)?)
    }

    /// Lets the server know the result.
    fn report(&self, done: &Result<(Written, Finished), StickError>) {
        let Some(outcome) = outcome(done) else { return };
        if let Err(error) = self.work(Phase::Report { outcome }, None, &mut |_, _| {}) {
            log::warn!(error:err = error; "the server does not know the result of this backup");
        }
    }
}

/// What the last line of the other process and its end say.
fn result(last: Option<Line>, ended: WorkerEnd) -> Result<Line, StickError> {
    match last {
        Some(Line::Failed(exit, message)) => {
            Err(StickError::Worker { exit: Exit::from_code(exit), message })
        }
        Some(Line::Fresh(hours)) => Err(StickError::Fresh { hours }),
        Some(Line::Differs(name)) => Err(StickError::Differs { name }),
        Some(Line::Unverifiable(why)) => Err(StickError::Unverifiable(io::Error::other(why))),
        Some(line) if ended.is_none() => Ok(line),
        _ => Err(StickError::Ended { how: ended.unwrap_or_else(|| "exit code 0".to_owned()) }),
    }
}

/// What the server has to know of a result; `None`: nothing. Where another program was in the way, nothing is wrong with the
/// backups; that there has been none for long is told by itself.
fn outcome(done: &Result<(Written, Finished), StickError>) -> Option<Outcome> {
    match done {
        Ok((written, _)) => Some(Outcome::Verified(written.clone())),
        Err(StickError::Fresh { .. }) => None,
        Err(error) if error.exit() == Exit::TryAgain => None,
        Err(error @ StickError::Unverifiable(_)) => Some(Outcome::Unverified(chain(error))),
        Err(error) => Some(Outcome::Failed(chain(error))),
    }
}

fn unexpected(line: &Line) -> StickError {
    StickError::Ended { how: format!("unexpected: {line:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_process_found_is_reported_as_it_is() {
        let outcome_of = |line: Line| {
            let text = serde_json::to_vec(&line).unwrap();
            let error = result(Some(serde_json::from_slice(&text).unwrap()), None).unwrap_err();
            outcome(&Err(error))
        };
        let unverified = outcome_of(Line::Unverifiable("Invalid argument".to_owned()));
        let Some(Outcome::Unverified(why)) = unverified else { panic!("not unverified") };
        assert!(why.contains("is not verified: Invalid argument"), "{why}");
        let differs = outcome_of(Line::Differs("000001-x".to_owned()));
        assert!(matches!(differs, Some(Outcome::Failed(why)) if why.contains("000001-x")));
        let failed = outcome_of(Line::Failed(Exit::Io.code(), "no space".to_owned()));
        assert!(matches!(failed, Some(Outcome::Failed(why)) if why == "no space"));
        assert!(outcome_of(Line::Failed(Exit::TryAgain.code(), "busy".to_owned())).is_none());
        assert!(outcome_of(Line::Fresh(3)).is_none());
        let path = PathBuf::from("/dev/sda1");
        assert!(outcome(&Err(StickError::Busy { path })).is_none());
        let ended = result(None, Some("signal 9".to_owned())).unwrap_err();
        assert!(ended.to_string().contains("signal 9"), "{ended}");
    }
}
