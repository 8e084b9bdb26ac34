//! A backup to a paired stick, from the process of root: it mounts, lets the other process work, and unmounts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Stick, Sticks};
use crate::crypto::Secret;
use crate::operator::Exit;
use crate::runtime::Clock;
use crate::supervisor::{Signals, Worker};

use super::device::BlockDevice;
use super::error::StickError;
use super::message::{Finished, Job, Line, Phase, Written};
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
    let _signals = Signals::new().map_err(|error| (None, StickError::Io(error)))?;
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
    let done = work.run(on).map_err(|error| match device.is_present() {
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
        match read_id(mounted.root()) {
            Some(id) if id == self.stick.id => Ok(()),
            _ => Err(StickError::Forged {
                path: self.device.path.clone(),
                name: self.stick.name.clone(),
            }),
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

    fn run(&self, on: &mut dyn FnMut(StickEvent<'_>)) -> Result<(Written, Finished), StickError> {
        let passphrase = (self.request.passphrase)()
            .map_err(|(exit, message)| StickError::Worker { exit, message })?;
        let mut job = self.job(Phase::Write);
        job.passphrase = passphrase.to_text().to_string();
        let line = self.step((&mut job, Access::ReadWrite), &mut |done, total| {
            on(StickEvent::Written(done, total));
        })?;
        let Line::Written(written) = line else { return Err(unexpected(&line)) };
        job = Job { phase: Phase::Verify, written: Some(written.clone()), ..job };
        let verified = self.step((&mut job, Access::ReadOnly), &mut |done, total| {
            on(StickEvent::Verified(done, total));
        });
        job.phase = Phase::Finish;
        job.is_same = verified.is_ok();
        if let Err(error) = verified {
            if let StickError::Differs { .. } = error {
                // The result is the same if this fails, too.
                self.step((&mut job, Access::ReadWrite), &mut |_, _| {}).ok();
            }
            return Err(error);
        }
        match self.step((&mut job, Access::ReadWrite), &mut |_, _| {})? {
            Line::Finished(finished) => Ok((written, finished)),
            line => Err(unexpected(&line)),
        }
    }

    fn job(&self, phase: Phase) -> Job {
        Job {
            phase,
            parent: std::process::id(),
            config: self.request.config.clone(),
            root: None,
            passphrase: String::new(),
            name: self.stick.name.clone(),
            with_keys: self.stick.with_keys,
            written: None,
            is_same: false,
            failure: None,
        }
    }

    /// Mounts the stick, lets the other process do the job, and unmounts it.
    fn step(
        &self,
        (job, access): (&mut Job, Access),
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Line, StickError> {
        let mounted = self.mount(access)?;
        let line = self.work(job, Some(&mounted), progress);
        let unmounted = mounted.unmount();
        let line = line?;
        unmounted?;
        Ok(line)
    }

    fn work(
        &self,
        job: &mut Job,
        mounted: Option<&Mounted>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Line, StickError> {
        let descriptor = mounted.map(|mounted| mounted.root().descriptor());
        let input = |root| {
            job.root = root;
            // Maps of strings and numbers can be written.
            let mut text = serde_json::to_vec(job).unwrap_or_default();
            text.push(b'\n');
            text
        };
        let worker = Worker::start(WORKER_ARGUMENT, self.request.owner, descriptor, input);
        let mut last = None;
        let ended = worker.map_err(StickError::Start)?.finish(&mut |line| {
            match serde_json::from_slice(line) {
                Ok(Line::Progress(done, total)) => progress(done, total),
                Ok(line) => last = Some(line),
                Err(error) => log::warn!(error:err = error; "the process that works on the stick wrote a line that is not one"),
            }
        });
        let ended = ended.map_err(StickError::Start)?;
        match last {
            Some(Line::Failed(exit, message)) => {
                Err(StickError::Worker { exit: Exit::from_code(exit), message })
            }
            Some(Line::Fresh(hours)) => Err(StickError::Fresh { hours }),
            Some(Line::Differs(name)) => Err(StickError::Differs { name }),
            Some(line) if ended.is_none() => Ok(line),
            _ => Err(StickError::Ended { how: ended.unwrap_or_else(|| "exit code 0".to_owned()) }),
        }
    }

    /// Lets the server know the result.
    fn report(&self, done: &Result<(Written, Finished), StickError>) {
        let error = match done {
            // Nothing happened.
            Err(StickError::Fresh { .. }) => return,
            done => done.as_ref().err(),
        };
        let mut job = self.job(Phase::Report);
        job.written = done.as_ref().ok().map(|(written, _)| written.clone());
        job.is_same = matches!(error, Some(StickError::Unverifiable(_)));
        job.failure = error.map(|error| crate::observe::chain(error));
        if let Err(error) = self.work(&mut job, None, &mut |_, _| {}) {
            log::warn!(error:err = error; "the server does not know the result of this backup");
        }
    }
}

fn unexpected(line: &Line) -> StickError {
    StickError::Ended { how: format!("unexpected: {line:?}") }
}
