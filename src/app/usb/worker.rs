//! The process that reads and writes on the stick. It has the rights of the service only.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, Cursor, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
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
use crate::limits::WORKER_LINE_MAX_BYTES;
use crate::observe;
use crate::operator::{Client, Exit};
use crate::runtime::Clock;
use crate::supervisor::memory_bytes;

use super::clock::wait_until_set;
use super::direct;
use super::directory::Directory;
use super::error::StickError;
use super::message::{Finished, Job, Line, Phase, Written};
use super::room::free_bytes;
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
    let mut text = String::new();
    let limit = u64::try_from(WORKER_LINE_MAX_BYTES).unwrap_or(u64::MAX);
    io::Read::take(io::stdin().lock(), limit).read_line(&mut text)?;
    let job: Job = serde_json::from_str(&text)?;
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
                        "the stick is full ({text}). Older backups were kept. Use a larger stick or keep fewer"
                    ),
                ),
                false => Line::Failed(exit.code(), text),
            }
        };
        match self {
            Self::Backup(BackupError::Stick(error)) | Self::Stick(error) => match error {
                StickError::Fresh { hours } => Line::Fresh(hours),
                StickError::Differs { name } => Line::Differs(name),
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
    match job.phase {
        Phase::Write => write(job).map(Line::Written),
        Phase::Verify => verify(job).map(|()| Line::Done),
        Phase::Finish => finish(job).map(Line::Finished),
        Phase::Report => report(job).map(|()| Line::Done),
    }
}

/// The directory of ours on the stick.
fn chatto(job: &Job) -> Result<Directory, JobError> {
    let root = job.root.as_deref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok(Directory::open(root)?.directory(CHATTO)?)
}

/// The directory of the backup's server, and the path of its archive.
fn place(job: &Job) -> Result<(Directory, PathBuf, &Written), JobError> {
    let written = job.written.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let folder = chatto(job)?.directory(&written.server_id)?;
    let path = folder.path().join(&written.archive);
    Ok((folder, path, written))
}

fn write(job: &Job) -> Result<Written, JobError> {
    let loaded = load(&Inputs::of_process(job.config.clone()), Purpose::Local)?;
    let is_clock_set = wait_until_set();
    let chatto = chatto(job)?;
    copy_program(&chatto)?;
    prepare_server(&loaded);
    let passphrase = || Secret::new(job.passphrase.as_bytes().to_vec());
    let request = BackupRequest {
        target: BackupTarget::Stick(chatto.path()),
        passphrase: Some(passphrase()),
        assets: AssetScope::Nats,
        accept_missing: false,
        medium: MediumRule::default(),
        configuration: backup_configuration(&loaded),
    };
    let mut progress = Progress::default();
    let report = backup(&loaded.settings, &request, &mut |done, total| progress.show(done, total))?;
    let server_id = report.header.server_id;
    let keys = match job.with_keys {
        false => None,
        true => {
            let folder = chatto.directory(&server_id)?;
            let path = Path::new(CHATTO).join(&server_id).join(KEYS);
            let save =
                move |_: &Path, bytes: &[u8]| folder.replace(KEYS, &mut Cursor::new(bytes), 0o600);
            let exported = export_keys(&loaded.settings, passphrase(), &path, save)?;
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

fn verify(job: &Job) -> Result<(), JobError> {
    let (folder, _, written) = place(job)?;
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
        let passphrase = Secret::new(job.passphrase.as_bytes().to_vec());
        KeyFile::read(io::BufReader::new(file), &passphrase, factor_max)
            .map_err(KeysError::from)?;
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

fn finish(job: &Job) -> Result<Finished, JobError> {
    let (folder, path, written) = place(job)?;
    let failed = |error| JobError::Stick(StickError::Io(io::Error::other(error)));
    let state = if job.is_same { ArchiveState::Verified } else { ArchiveState::Damaged };
    Catalogue::set_state(&path, None, state).map_err(failed)?;
    let (mut removed, mut refused) = (0, Vec::new());
    if job.is_same {
        let now_ms = Clock::system().unix_ms();
        let server = Some(written.server_id.as_str());
        let pruned = Retention::RECOMMENDED.prune(&folder.path(), (server, now_ms), false);
        let pruned = pruned.map_err(failed)?;
        removed = pruned.superseded.len();
        refused.extend(pruned.refused.iter().map(ToString::to_string));
    }
    let catalogue = Catalogue::read(&folder.path()).map_err(failed)?.unwrap_or_default();
    let own = catalogue.archives.iter().filter(|archive| archive.server_id == written.server_id);
    let backups = own.filter(|archive| archive.is_unchanged(&folder.path())).count();
    Ok(Finished { backups, free_bytes: free_bytes(&folder.path())?, removed, refused })
}

/// Notes the result in the store.
fn report(job: &Job) -> Result<(), JobError> {
    let loaded = load(&Inputs::of_process(job.config.clone()), Purpose::Local)?;
    let written = job.written.as_ref();
    let result = BackupResult {
        kind: BackupKind::Stick,
        verdict: match (&job.failure, job.is_same) {
            (None, _) => BackupVerdict::Verified,
            (Some(_), true) => BackupVerdict::Unverified,
            (Some(_), false) => BackupVerdict::Failed,
        },
        at_ms: Clock::system().unix_ms(),
        place: job.name.clone(),
        reason: job.failure.clone().unwrap_or_default(),
        bytes: written.map_or(0, |written| written.bytes),
        sequence: written.map_or(0, |written| written.sequence),
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
