//! `backup`: makes an archive. Its commands look at archives that are there.

mod extract;
mod list;
mod note;
mod prune;
mod verify;

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::args::{AssetChoice, Backup, BackupCommand};
use super::local::running;
use super::passphrase::PassphraseFlags;
use super::progress::ProgressBar;
use super::restore::open_archive;
use super::{CliError, Context, Exit};
use crate::app::{self, BackupError, BackupReport, BackupRequest, BackupTarget, MediumRule};
use crate::backup::create::AssetScope;
use crate::backup::retention::Retention;
use crate::backup::target::directory;
use crate::config::{Loaded, Purpose};
use crate::crypto::Secret;
use crate::observe::{self, binary_size, counted};
use crate::runtime::Clock;

pub(super) fn run(context: &Context, args: &Backup) -> Result<Exit, CliError> {
    match &args.command {
        Some(BackupCommand::Verify(verify)) => return verify::run(context, verify),
        Some(BackupCommand::List(list)) => return list::run(context, list),
        Some(BackupCommand::Prune(prune)) => return prune::run(context, prune),
        Some(BackupCommand::Extract(extract)) => return extract::run(context, extract),
        None => {}
    }
    let keep = [args.keep_last, args.keep_daily, args.keep_weekly, args.keep_monthly];
    let retention = prune::retention(keep)?;
    if args.prune_dry_run && retention.is_none() {
        return Err(CliError::usage("--prune-dry-run needs a --keep option"));
    }
    let loaded = context.load(Purpose::Local)?;
    let settings = &loaded.settings;
    let flags = PassphraseFlags::new(&args.passphrase, &args.passphrase_file);
    if flags.is_given() && !args.encrypt {
        return Err(CliError::usage(
            "a passphrase is for --encrypt; add it, or leave the passphrase out",
        ));
    }
    let target = target(args.output.as_deref(), &settings.backup.directory);
    let work = Work { context, loaded: &loaded, args };
    let made = work
        .passphrase(flags)
        .and_then(|passphrase| Ok((work.archive(target.clone(), passphrase.clone())?, passphrase)));
    let (report, passphrase) = match made {
        Ok(made) => made,
        Err(unmade) => {
            if unmade.is_noted {
                note::failed(context, settings, (&target, &unmade.error));
            }
            return Err(unmade.error);
        }
    };
    let path = &report.path;
    let is_verified = args.verify || retention.is_some();
    if is_verified {
        let checked = open_archive(path, passphrase, None)
            .and_then(|archive| verify::verify(context, &archive));
        if let Err(error) = checked {
            note::made(context, settings, (&report, Some(Err(&error))));
            return Err(error);
        }
    }
    note::made(context, settings, (&report, is_verified.then_some(Ok(()))));
    summarise(context, (path, is_verified, &report));
    let superseded = match retention {
        Some(retention) => prune_beside(context, (args, retention, &report))?,
        None => Vec::new(),
    };
    let fields = json!({
        "path": path,
        "bytes": report.bytes,
        "encrypted": args.encrypt,
        "verified": is_verified,
        "sequence": report.manifest.sequence,
        "streams": report.manifest.streams,
        "assets": report.manifest.assets,
        "listed_objects": report.manifest.listed_objects,
        "missing": report.manifest.missing,
        "superseded": superseded,
        "prune_dry_run": args.prune_dry_run,
    });
    context.output.result(&format!("{}\n", path.display()), fields);
    Ok(Exit::Success)
}

/// An archive that is to be made.
struct Work<'a> {
    context: &'a Context,
    loaded: &'a Loaded,
    args: &'a Backup,
}

/// Why there is no archive.
struct Unmade {
    error: CliError,
    /// The server is to know of it.
    is_noted: bool,
}

impl From<CliError> for Unmade {
    fn from(error: CliError) -> Self {
        Self { is_noted: error.exit != Exit::Usage, error }
    }
}

impl From<BackupError> for Unmade {
    fn from(error: BackupError) -> Self {
        Self { is_noted: error.is_noted(), error: error.into() }
    }
}

impl Work<'_> {
    fn passphrase(&self, flags: PassphraseFlags<'_>) -> Result<Option<Secret>, Unmade> {
        let read = self.args.encrypt.then(|| flags.read_new(self.context)).transpose();
        self.context.log_to_terminal();
        Ok(read?)
    }

    fn archive(
        &self,
        target: BackupTarget,
        passphrase: Option<Secret>,
    ) -> Result<BackupReport, Unmade> {
        let Self { context, loaded, args } = *self;
        if let BackupTarget::File(path) = &target {
            warn_of_name(context, path, args.encrypt);
        }
        // It writes what it keeps in memory for some seconds.
        if let Some(server) = running(&loaded.settings)? {
            server.call("backup.prepare", json!({})).map_err(CliError::from)?;
        }
        let request = BackupRequest {
            target,
            passphrase,
            assets: match (args.include_s3, args.assets) {
                (true, _) | (_, AssetChoice::All) => AssetScope::All,
                (_, AssetChoice::Nats) => AssetScope::Nats,
                (_, AssetChoice::None) => AssetScope::None,
            },
            accept_missing: args.accept_missing,
            medium: MediumRule {
                require_mount: args.require_mount,
                allow_plaintext: args.allow_plaintext,
            },
            configuration: app::backup_configuration(loaded),
        };
        let mut meter = Meter::new(context, "backed up");
        let made =
            app::backup(&loaded.settings, &request, &mut |done, total| meter.show(done, total));
        meter.end();
        Ok(made?)
    }
}

/// Removes what the new archive supersedes.
fn prune_beside(
    context: &Context,
    (args, retention, report): (&Backup, Retention, &BackupReport),
) -> Result<Vec<String>, CliError> {
    let folder = directory(&report.path);
    let server_id = Some(report.header.server_id.as_str());
    let pruned = prune::prune((retention, folder), server_id, args.prune_dry_run)?;
    for refused in &pruned.refused {
        context.output.warning(&refused.to_string());
    }
    let verb = if args.prune_dry_run { "would be removed" } else { "removed" };
    for archive in &pruned.superseded {
        context.output.note(&format!("{verb}: {}", folder.join(&archive.name).display()));
    }
    Ok(pruned.superseded.into_iter().map(|archive| archive.name).collect())
}

/// What a person should know beside the path.
fn summarise(context: &Context, (path, verified, report): (&Path, bool, &BackupReport)) {
    let output = &context.output;
    let files: u64 = report.manifest.assets.values().map(|count| count.files).sum();
    let records: u64 = report.manifest.streams.values().map(|totals| totals.records).sum();
    let verified = if verified { ", verified" } else { "" };
    output.note(&format!(
        "{} and {}, {} in the archive{verified}",
        counted(records, ("record", "records")),
        counted(files, ("file", "files")),
        binary_size(report.bytes)
    ));
    let listed = report.manifest.listed_objects;
    if listed.files > 0 {
        output.note(&format!(
            "{} in S3 ({}), listed and not included; --assets=all includes what is there",
            counted(listed.files, ("file", "files")),
            binary_size(listed.bytes)
        ));
    }
    if !report.manifest.missing.is_empty() {
        output.warning(&format!(
            "the bytes of {} are missing: {}",
            counted(report.manifest.missing.len(), ("file", "files")),
            report.manifest.missing.join(", ")
        ));
    }
    if report.is_beside_store {
        output.warning(&format!(
            "{} is on the same disk as the data: if that disk fails, both are lost; copy it elsewhere",
            path.display()
        ));
    }
    output.note("message keys are not included; `chatto keys export` saves them");
}

fn warn_of_name(context: &Context, path: &Path, encrypt: bool) {
    let is_age = path.extension().is_some_and(|extension| extension == "age");
    if encrypt && !is_age {
        context.output.warning("the archive is encrypted although its name does not end with .age");
    }
    if !encrypt && is_age {
        context.output.warning(
            "the archive is not encrypted although its name ends with .age; --encrypt encrypts it",
        );
    }
}

/// The given file; else a new one in the given folder or in the configured one.
fn target(given: Option<&Path>, configured: &Path) -> BackupTarget {
    match given {
        Some(path) if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            BackupTarget::Folder(path.to_owned())
        }
        Some(path) => BackupTarget::File(path.to_owned()),
        None => BackupTarget::Folder(configured.to_owned()),
    }
}

/// Shows bytes, rate and remaining time.
pub(super) struct Meter {
    bar: Option<ProgressBar>,
    verb: &'static str,
    clock: Clock,
    began: std::time::Instant,
    shown: std::time::Instant,
}

/// Between two updates of a bar.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

impl Meter {
    pub(super) fn new(context: &Context, verb: &'static str) -> Self {
        let clock = Clock::system();
        let now = clock.now();
        Self { bar: Some(ProgressBar::new(context.progress)), verb, clock, began: now, shown: now }
    }

    pub(super) fn show(&mut self, done: u64, total: u64) {
        let now = self.clock.now();
        if now - self.shown < UPDATE_INTERVAL {
            return;
        }
        self.shown = now;
        let text = rate_text(self.verb, (done, total), now - self.began);
        if let Some(bar) = &mut self.bar {
            bar.show(done, total, &text);
        }
    }

    /// Shows a line at once.
    pub(super) fn say(&mut self, text: &str) {
        if let Some(bar) = &mut self.bar {
            bar.say(text);
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.end();
        }
    }
}

fn rate_text(verb: &str, (done, total): (u64, u64), passed: Duration) -> String {
    let ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_mul(1000) / ms;
    let left = total.saturating_sub(done).checked_div(rate).unwrap_or(0);
    let left = match left {
        0..120 => format!("{left} s left"),
        _ => format!("{} min left", left / 60),
    };
    format!("{} {verb}, {}/s, about {left}", binary_size(done), binary_size(rate))
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        let too_large = matches!(&error, BackupError::Create(crate::backup::create::CreateError::Write(source))
            if source.kind() == std::io::ErrorKind::FileTooLarge);
        let mut message = observe::chain(&error);
        if too_large {
            message.push_str(". The file system takes no file of this size; FAT32 ends at 4 GiB: use exFAT or ext4");
        }
        Self::new(error.exit(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_remaining_time_are_shown() {
        let text = rate_text("backed up", (30 << 20, 90 << 20), Duration::from_secs(3));
        assert_eq!(text, "30 MiB backed up, 10 MiB/s, about 6 s left");
        let text = rate_text("backed up", (1 << 20, 900 << 20), Duration::from_secs(1));
        assert_eq!(text, "1 MiB backed up, 1 MiB/s, about 14 min left");
        let text = rate_text("backed up", (0, 0), Duration::ZERO);
        assert_eq!(text, "0 B backed up, 0 B/s, about 0 s left");
    }

    #[test]
    fn a_folder_gets_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path(), Path::new("other"));
        assert_eq!(target(None, other), BackupTarget::Folder(other.to_owned()));
        assert_eq!(target(Some(path), other), BackupTarget::Folder(path.to_owned()));
        let not_yet = Path::new("not yet/");
        assert_eq!(target(Some(not_yet), other), BackupTarget::Folder(not_yet.to_owned()));
        let file = Path::new("daily.tar.gz");
        assert_eq!(target(Some(file), other), BackupTarget::File(file.to_owned()));
    }
}
