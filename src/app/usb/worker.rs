//! The process that reads and writes on the stick. It has the rights of the service only.

use std::error::Error;
use std::fs::File;
use std::io::{self, Cursor, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde_json::json;

use crate::app::{BackupError, BackupRequest, BackupTarget, KeysError, MediumRule};
use crate::app::{backup, backup_configuration, export_keys, operations};
use crate::backup::catalogue::{ArchiveState, Catalogue, CataloguedArchive};
use crate::backup::create::AssetScope;
use crate::backup::keys::KeyFile;
use crate::backup::retention::Retention;
use crate::config::{Faults, Inputs, Loaded, Purpose, load};
use crate::crypto::age::work_factor_within;
use crate::crypto::{Secret, hex};
use crate::domain::{BackupKind, BackupResult, BackupVerdict};
use crate::observe;
use crate::operator::{Client, Exit};
use crate::runtime::Clock;
use crate::supervisor::memory_bytes;

use super::clock::wait_until_set;
use super::direct;
use super::directory::Directory;
use super::error::StickError;
use super::message::{Finished, Job, Line, Outcome, Phase, Written};
use super::space::free_bytes;
use super::text::README;
use super::{CHATTO, program_name};

/// The first argument of the process. It is no command for people.
pub const WORKER_ARGUMENT: &str = "--stick-worker";

/// The export of keys beside the archives.
const KEYS: &str = "keys.age";

/// Does the job on standard input.
pub fn run() -> ExitCode {
    observe::init(observe::Format::Text, observe::Level::Warn);
    let done = read_job().and_then(|job| {
        let line = work(&job).unwrap_or_else(|error| error.line());
        say(&line)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!(error:err = error; "the process that works on the stick has no job");
            ExitCode::FAILURE
        }
    }
}

/// Reads the job, and makes sure that this process ends with the one that gave it.
fn read_job() -> io::Result<Job> {
    // Not through the buffer of the standard library, which is not wiped.
    let job = Job::read(File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    match parent == Some(job.parent) {
        true => Ok(job),
        false => Err(io::Error::other("the process that gave the job has ended")),
    }
}

fn say(line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}

/// The job failed.
enum JobError {
    Config(Faults),
    Backup(BackupError),
    Keys(KeysError),
    Stick(StickError),
}

impl JobError {
    fn line(self) -> Line {
        let failed = |exit: Exit, error: &(dyn Error + 'static)| {
            let text = without_descriptors(&observe::chain(error));
            match is_full(error) {
                true => Line::Failed(
                    Exit::Io.code(),
                    format!(
                        "the stick is full ({text}). Older backups were kept. Use a larger stick, or remove other files from it"
                    ),
                ),
                false => Line::Failed(exit.code(), text),
            }
        };
        match self {
            Self::Backup(BackupError::Stick(error)) | Self::Stick(error) => match error {
                StickError::Fresh { hours } => Line::Fresh(hours),
                StickError::Differs { name } => Line::Differs(name),
                StickError::Unverifiable(why) => Line::Unverifiable(why.to_string()),
                error => failed(error.exit(), &error),
            },
            Self::Backup(error) => failed(error.exit(), &error),
            Self::Keys(error) => failed(error.exit(), &error),
            Self::Config(faults) => {
                let lines: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
                Line::Failed(Exit::Config.code(), lines.join("\n"))
            }
        }
    }
}

/// Whether a full file system is the cause of an error.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::StorageFull
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// A text in which paths that only this process understands are paths on the stick.
fn without_descriptors(text: &str) -> String {
    let mut parts = text.split("/proc/self/fd/");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(CHATTO);
        shown.push_str(part.trim_start_matches(|one: char| one.is_ascii_digit()));
    }
    shown
}

impl From<Faults> for JobError {
    fn from(faults: Faults) -> Self {
        Self::Config(faults)
    }
}

impl From<BackupError> for JobError {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}

impl From<KeysError> for JobError {
    fn from(error: KeysError) -> Self {
        Self::Keys(error)
    }
}

impl From<StickError> for JobError {
    fn from(error: StickError) -> Self {
        Self::Stick(error)
    }
}

impl From<io::Error> for JobError {
    fn from(error: io::Error) -> Self {
        StickError::Io(error).into()
    }
}

fn work(job: &Job) -> Result<Line, JobError> {
    match &job.phase {
        Phase::Write { passphrase, with_keys, is_repeated } => {
            let loaded = load(&Inputs::of_process(job.config.clone()), Purpose::Local)?;
            let is_clock_set = wait_until_set();
            let chatto = chatto(job)?;
            if !is_repeated {
                copy_program(&chatto)?;
            }
            write(&loaded, &chatto, is_clock_set, (passphrase, *with_keys)).map(Line::Written)
        }
        Phase::Verify { written, passphrase } => {
            verify(&folder(job, written)?, written, passphrase).map(|()| Line::Done)
        }
        Phase::Finish { written, is_same } => {
            finish(&folder(job, written)?, written, *is_same).map(Line::Finished)
        }
        Phase::Report { outcome } => report(job, outcome).map(|()| Line::Done),
    }
}

/// The directory of ours on the stick.
fn chatto(job: &Job) -> Result<Directory, JobError> {
    let root = job.root.as_deref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok(Directory::open(root)?.directory(CHATTO)?)
}

/// The directory of the backup's server.
fn folder(job: &Job, written: &Written) -> Result<Directory, JobError> {
    Ok(chatto(job)?.directory(&written.server_id)?)
}

fn write(
    loaded: &Loaded,
    chatto: &Directory,
    is_clock_set: bool,
    (passphrase, with_keys): (&Secret, bool),
) -> Result<Written, JobError> {
    prepare_server(loaded);
    let request = BackupRequest {
        target: BackupTarget::Stick(chatto.path()),
        passphrase: Some(passphrase.clone()),
        assets: AssetScope::Nats,
        accept_missing: false,
        medium: MediumRule::default(),
        configuration: backup_configuration(loaded),
    };
    let mut progress = Progress::default();
    let report = backup(&loaded.settings, &request, &mut |done, total| progress.show(done, total))?;
    let server_id = report.header.server_id;
    let keys = match with_keys {
        false => None,
        true => {
            let folder = chatto.directory(&server_id)?;
            let path = Path::new(CHATTO).join(&server_id).join(KEYS);
            let save =
                move |_: &Path, bytes: &[u8]| folder.replace(KEYS, &mut Cursor::new(bytes), 0o600);
            let exported = export_keys(&loaded.settings, passphrase.clone(), &path, save)?;
            Some(exported.keys)
        }
    };
    let archive = report.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (sequence, bytes) = (report.header.sequence, report.bytes);
    Ok(Written { server_id, archive, sequence, bytes, is_clock_set, keys })
}

/// Makes the running server write what it keeps in memory for some seconds. A server that does not reply is no reason to make no
/// backup.
fn prepare_server(loaded: &Loaded) {
    let Some(path) = &loaded.settings.operator_socket else { return };
    if UnixStream::connect(path).is_ok()
        && let Err(error) = Client::new(path).call("backup.prepare", json!({}))
    {
        log::warn!(error:err = error; "the server did not write what it has in memory; the backup lacks the last seconds of read markers");
    }
}

/// Brings the program and the instructions on the stick up to date.
fn copy_program(chatto: &Directory) -> Result<(), JobError> {
    chatto.replace("README.txt", &mut Cursor::new(README), 0o644)?;
    let programs = chatto.create("bin")?;
    let mut program = File::open("/proc/self/exe")?;
    Ok(programs.replace(&program_name(std::env::consts::ARCH), &mut program, 0o755)?)
}

fn verify(folder: &Directory, written: &Written, passphrase: &Secret) -> Result<(), JobError> {
    let archive = catalogued(&folder.path(), &written.archive)?;
    let mut progress = Progress::default();
    let mut done = 0;
    for (path, expected) in archive.files(&folder.path()) {
        let sum = direct::sum(&path, &mut |count| {
            done += count;
            progress.show(done, written.bytes);
        });
        let (bytes, sha256) = sum.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => StickError::Unverifiable(error),
            _ => StickError::Io(error),
        })?;
        if (bytes, hex(&sha256)) != (expected.bytes, expected.sha256) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(StickError::Differs { name }.into());
        }
    }
    if written.keys.is_some() {
        let file = File::open(folder.path().join(KEYS))?;
        let factor_max = work_factor_within(memory_bytes() / 4 * 3);
        KeyFile::read(io::BufReader::new(file), passphrase, factor_max).map_err(KeysError::from)?;
    }
    Ok(())
}

/// What the catalogue says of an archive.
fn catalogued(folder: &Path, name: &str) -> Result<CataloguedArchive, JobError> {
    let failed = |error| JobError::Stick(StickError::Io(io::Error::other(error)));
    let catalogue = Catalogue::read(folder).map_err(failed)?.unwrap_or_default();
    let mut archives = catalogue.archives.into_iter();
    match archives.find(|archive| archive.name == name) {
        Some(archive) => Ok(archive),
        None => Err(StickError::Differs { name: name.to_owned() }.into()),
    }
}

fn finish(folder: &Directory, written: &Written, is_same: bool) -> Result<Finished, JobError> {
    let path = folder.path();
    let failed = |error| JobError::Stick(StickError::Io(io::Error::other(error)));
    let state = if is_same { ArchiveState::Verified } else { ArchiveState::Damaged };
    Catalogue::set_state(&path.join(&written.archive), None, state).map_err(failed)?;
    if written.keys.is_none() {
        // The stick may have been paired with keys before.
        folder.remove(KEYS)?;
    }
    let (mut removed, mut refused) = (0, Vec::new());
    if is_same {
        let now_ms = Clock::system().unix_ms();
        let server = Some(written.server_id.as_str());
        let pruned = Retention::RECOMMENDED.prune(&path, (server, now_ms), false);
        let pruned = pruned.map_err(failed)?;
        removed = pruned.superseded.len();
        refused.extend(pruned.refused.iter().map(ToString::to_string));
    }
    let catalogue = Catalogue::read(&path).map_err(failed)?.unwrap_or_default();
    let own = catalogue.archives.iter().filter(|archive| archive.server_id == written.server_id);
    let backups = own.filter(|archive| archive.is_unchanged(&path)).count();
    Ok(Finished { backups, free_bytes: free_bytes(&path)?, removed, refused })
}

/// Notes the result in the store.
fn report(job: &Job, outcome: &Outcome) -> Result<(), JobError> {
    let loaded = load(&Inputs::of_process(job.config.clone()), Purpose::Local)?;
    let result = BackupResult {
        kind: BackupKind::Stick,
        at_ms: Clock::system().unix_ms(),
        place: job.name.clone(),
        ..match outcome {
            Outcome::Verified(written) => BackupResult {
                verdict: BackupVerdict::Verified,
                bytes: written.bytes,
                sequence: written.sequence,
                ..BackupResult::default()
            },
            Outcome::Unverified(why) => BackupResult {
                verdict: BackupVerdict::Unverified,
                reason: why.clone(),
                ..BackupResult::default()
            },
            Outcome::Failed(why) => BackupResult {
                verdict: BackupVerdict::Failed,
                reason: why.clone(),
                ..BackupResult::default()
            },
        }
    };
    Ok(operations::report(&loaded.settings, &result).map_err(BackupError::App)?)
}

/// Progress as lines, not more than one for each megabyte.
#[derive(Default)]
struct Progress {
    said: u64,
}

impl Progress {
    fn show(&mut self, done: u64, total: u64) {
        if done.saturating_sub(self.said) < 1 << 20 {
            return;
        }
        self.said = done;
        // Whoever does not read any more does not need it.
        say(&Line::Progress(done, total)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_again_is_not_called_a_failure() {
        let error = io::Error::from(io::ErrorKind::InvalidInput);
        let line = JobError::from(StickError::Unverifiable(error)).line();
        assert!(matches!(line, Line::Unverifiable(_)), "{line:?}");
    }

    #[test]
    fn a_full_stick_is_named_wherever_it_is_the_cause() {
        let error = io::Error::from(io::ErrorKind::StorageFull);
        let Line::Failed(code, text) = JobError::from(error).line() else { panic!("not failed") };
        assert_eq!(code, Exit::Io.code());
        assert!(text.contains("remove other files from it"), "{text}");
    }
}
