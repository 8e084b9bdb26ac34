//! Tells the server how a backup, a check or a restore test ended.

use std::path::Path;

use crate::app::{AppError, BackupReport, BackupTarget, operations};
use crate::backup::archive::Header;
use crate::cli::local::running;
use crate::cli::{CliError, Context, Exit};
use crate::config::{Inputs, Purpose, Settings, load};
use crate::domain::{ArchiveCheck, BackupKind, BackupResult, BackupVerdict};
use crate::observe;
use crate::runtime::Clock;

/// A backup of which there is no archive.
pub(super) fn failed(
    context: &Context,
    settings: &Settings,
    (target, error): (&BackupTarget, &CliError),
) {
    let result = BackupResult {
        kind: BackupKind::Directory,
        verdict: BackupVerdict::Failed,
        at_ms: Clock::system().unix_ms(),
        place: place(target.path()),
        reason: reason(error),
        ..BackupResult::default()
    };
    if error.exit == Exit::Unreachable {
        context.output.warning(
            "the failure is not noted in the store, which cannot be reached; `chatto status` shows it when no verified \
             backup follows",
        );
        return;
    }
    warn(context, operations::report(settings, &result));
}

/// An archive that was made; `checked`: what reading it again has shown, if it was read.
pub(super) fn made(
    context: &Context,
    settings: &Settings,
    (report, checked): (&BackupReport, Option<Result<(), &CliError>>),
) {
    let now = Clock::system().unix_ms();
    let result = BackupResult {
        kind: BackupKind::Directory,
        verdict: match &checked {
            None => BackupVerdict::Complete,
            Some(Ok(())) => BackupVerdict::Verified,
            Some(Err(error)) => verdict(error),
        },
        at_ms: observe::parse_rfc3339(&report.header.created_at).unwrap_or(now),
        place: place(&report.path),
        reason: checked.and_then(Result::err).map(reason).unwrap_or_default(),
        bytes: report.bytes,
        sequence: report.manifest.sequence,
    };
    warn(context, operations::report(settings, &result));
}

/// An archive that was read, if a server runs here, which may be that of the archive. Checks work without a server and
/// without a configuration, so nothing is said if there is none.
pub(super) fn checked(
    context: &Context,
    file: &Path,
    (header, checked): (&Header, Result<(), &CliError>),
) {
    let loaded = load(&Inputs::of_process(context.config.clone()), Purpose::Local);
    let Ok(settings) = loaded.map(|loaded| loaded.settings) else { return };
    if matches!(running(&settings), Ok(Some(_))) {
        let check = check(file, (Some(header), checked));
        warn(context, operations::report_check(&settings, Some(&header.epoch), &check));
    }
}

/// A restore test of an archive of so many bytes; without a header, the archive could not be opened.
pub(super) fn restore_tested(
    context: &Context,
    settings: &Settings,
    (file, bytes, header): (&Path, u64, Option<&Header>),
    (read, tested): (Result<(), &CliError>, Result<(), &CliError>),
) {
    let result = BackupResult {
        kind: BackupKind::RestoreTest,
        verdict: tested.map_or_else(verdict, |()| BackupVerdict::Verified),
        at_ms: Clock::system().unix_ms(),
        place: place(file),
        reason: tested.err().map(reason).unwrap_or_default(),
        bytes,
        sequence: header.map_or(0, |header| header.sequence),
    };
    let check = ArchiveCheck { restore_test: Some(result), ..check(file, (header, read)) };
    let epoch = header.map(|header| header.epoch.as_str());
    warn(context, operations::report_check(settings, epoch, &check));
}

/// What reading an archive says of it: nothing, if that was not possible.
fn check(file: &Path, (header, read): (Option<&Header>, Result<(), &CliError>)) -> ArchiveCheck {
    let verdict = match read {
        Ok(()) => Some(BackupVerdict::Verified),
        Err(error) => Some(verdict(error)).filter(|found| *found == BackupVerdict::Failed),
    };
    ArchiveCheck {
        sequence: header.map_or(0, |header| header.sequence),
        place: place(file),
        verdict,
        reason: read.err().map(reason).unwrap_or_default(),
        restore_test: None,
    }
}

/// Of an archive that is there: it is damaged, or it could not be read or restored.
fn verdict(error: &CliError) -> BackupVerdict {
    match error.exit {
        Exit::Damaged | Exit::Failed => BackupVerdict::Failed,
        _ => BackupVerdict::Unverified,
    }
}

/// In one line.
fn reason(error: &CliError) -> String {
    error.message.lines().next().unwrap_or_default().to_owned()
}

/// The whole path, links followed as far as they lead anywhere.
fn place(path: &Path) -> String {
    let absolute = path.canonicalize().or_else(|_| std::path::absolute(path));
    absolute.unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn warn(context: &Context, noted: Result<(), AppError>) {
    match noted {
        // There is no server that could know of it.
        Ok(()) | Err(AppError::NoData { .. }) => {}
        Err(error) => context.output.warning(&format!(
            "the server does not know of this result: {}",
            observe::chain(&error)
        )),
    }
}
