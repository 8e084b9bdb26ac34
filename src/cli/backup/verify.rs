//! `backup verify`: checks an archive without a server.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Meter, note};
use crate::app::{
    self, ArchiveFile, ObjectsChecked, RestoreFailure, RestoreTestError, RestoreTested, TestStage,
    Verified,
};
use crate::backup::archive::{ArchiveReader, Header, Manifest};
use crate::backup::catalogue::{ArchiveState, Catalogue, CatalogueError};
use crate::backup::contents::Contents;
use crate::cli::args::{BackupVerify, VerifyLevel};
use crate::cli::output::row;
use crate::cli::passphrase::PassphraseFlags;
use crate::cli::progress::ProgressBar;
use crate::cli::restore::{open_archive, passphrase};
use crate::cli::{CliError, Context, Exit};
use crate::config::{Purpose, Settings};
use crate::domain::{BackupKind, BackupVerdict};
use crate::observe::{self, counted, rfc3339};
use crate::runtime::Clock;

pub(super) fn run(context: &Context, args: &BackupVerify) -> Result<Exit, CliError> {
    if args.level == VerifyLevel::Header && (args.restore_test || args.check_s3) {
        return Err(CliError::usage("--restore-test and --check-s3 need --level=full"));
    }
    if args.work_dir.is_some() && !args.restore_test {
        return Err(CliError::usage("--work-dir is for --restore-test"));
    }
    if args.every.is_some() && !(args.restore_test && args.newest) {
        return Err(CliError::usage("--every is for --restore-test with --newest"));
    }
    let file = match args.newest {
        false => Some(args.file.clone()),
        true => newest(context, args)?,
    };
    let Some(file) = file else { return Ok(Exit::Success) };
    let flags = PassphraseFlags::new(&args.passphrase, &args.passphrase_file);
    let passphrase = passphrase(context, &file, flags)?;
    let archive = open_archive(&file, passphrase, args.max_work_factor)?;
    let settings = match args.restore_test || args.check_s3 {
        true => Some(context.load(Purpose::Local)?.settings),
        false => None,
    };
    if settings.is_some() {
        context.log_to_terminal();
    }
    let mut found = match (args.level, &settings) {
        (VerifyLevel::Header, _) => Found::of_header(archive.open()?.header().clone()),
        (VerifyLevel::Full, Some(settings)) if args.restore_test => {
            restore_test(context, settings, (&archive, &file, args))?
        }
        (VerifyLevel::Full, _) => {
            let verified = verify(context, &archive);
            if let Ok(opened) = archive.open() {
                let result = verified.as_ref().map(drop);
                note::checked(context, &file, (opened.header(), result));
            }
            Found::of(verified?)
        }
    };
    if let Some(settings) = settings.filter(|_| args.check_s3) {
        found.objects = Some(check_objects(context, &settings, &archive)?);
    }
    context.output.result(&found.text(), found.fields());
    Ok(if found.wrong_objects() == 0 { Exit::Success } else { Exit::Failed })
}

/// The newest archive of this server in a directory, as its catalogue says; `None`: the last restore test is not old enough.
fn newest(context: &Context, args: &BackupVerify) -> Result<Option<PathBuf>, CliError> {
    let settings = context.load(Purpose::Local)?.settings;
    let known = app::operations::known(&settings)?;
    let folder = &args.file;
    let last = known.results.last(BackupKind::RestoreTest);
    let last = last.filter(|last| last.verdict == BackupVerdict::Verified);
    if let (Some(days), Some(last)) = (args.every, last) {
        let age_ms = Clock::system().unix_ms().saturating_sub(last.at_ms);
        if (0..i64::from(days).saturating_mul(DAY_MS)).contains(&age_ms) {
            let text = format!("the last restore test was successful on {}", rfc3339(last.at_ms));
            context.output.note(&text);
            context.output.result("", json!({ "last_restore_test": rfc3339(last.at_ms) }));
            return Ok(None);
        }
    }
    let catalogue = Catalogue::read(folder)?.unwrap_or_default();
    let archives = catalogue.archives.iter().filter(|archive| {
        archive.server_id == known.server_id
            && matches!(archive.state, ArchiveState::Complete | ArchiveState::Verified)
            && archive.is_unchanged(folder)
    });
    match archives.max_by_key(|archive| archive.sequence) {
        Some(archive) => Ok(Some(folder.join(&archive.name))),
        None => Err(CliError::new(
            Exit::Failed,
            format!("no archive of this server is catalogued in {}", folder.display()),
        )),
    }
}

const DAY_MS: i64 = 24 * 3_600_000;

/// What was found of an archive.
struct Found {
    header: Header,
    /// `None`: only the header was read.
    manifest: Option<Manifest>,
    tested: Option<RestoreTested>,
    objects: Option<ObjectsChecked>,
}

impl Found {
    fn of_header(header: Header) -> Self {
        Self { header, manifest: None, tested: None, objects: None }
    }

    fn of(verified: Verified) -> Self {
        Self { manifest: Some(verified.manifest), ..Self::of_header(verified.header) }
    }

    fn wrong_objects(&self) -> u64 {
        self.objects.as_ref().map_or(0, |checked| checked.wrong)
    }

    fn text(&self) -> String {
        let Self { header, manifest, tested, objects } = self;
        let mut text = format!(
            "backup {} of {}, made by chatto {}\nserver {}\n",
            header.sequence, header.created_at, header.program, header.server_id
        );
        // Writing to a String cannot fail.
        for (name, totals) in manifest.iter().flat_map(|manifest| &manifest.streams) {
            let records = counted(totals.records, ("record", "records"));
            let subjects = counted(totals.subjects, ("subject", "subjects"));
            writeln!(text, "{name}\t{records}\t{subjects}").ok();
        }
        for (origin, count) in manifest.iter().flat_map(|manifest| &manifest.assets) {
            let bytes = counted(count.bytes, ("byte", "bytes"));
            writeln!(text, "files from {origin}\t{}\t{bytes}", count.files).ok();
        }
        if let Some(RestoreTested { users, rooms, rows, .. }) = tested {
            let users = counted(*users, ("user", "users"));
            let rooms = counted(*rooms, ("room", "rooms"));
            let rows = counted(*rows, ("row", "rows"));
            writeln!(text, "restored\t{users}\t{rooms}\t{rows}").ok();
        }
        for object in objects.iter().flat_map(|checked| &checked.examples) {
            text.push_str(&row([&object.id, object.why]));
        }
        if let Some(ObjectsChecked { good, wrong, .. }) = objects {
            writeln!(text, "files in S3\t{good} as listed\t{wrong} wrong").ok();
        }
        text.push_str(match (manifest, tested) {
            (None, _) => "the header can be read; nothing else was checked\n",
            (Some(_), None) => "complete and undamaged\n",
            (Some(_), Some(_)) => "complete and undamaged; a test restore gave the same data\n",
        });
        text
    }

    fn fields(&self) -> Value {
        let Self { header, manifest, tested, objects } = self;
        let manifest = manifest.as_ref();
        json!({
            "sequence": header.sequence,
            "created_at": header.created_at,
            "server_id": header.server_id,
            "complete": manifest.is_some(),
            "streams": manifest.map(|manifest| &manifest.streams),
            "assets": manifest.map(|manifest| &manifest.assets),
            "listed_objects": manifest.map(|manifest| manifest.listed_objects),
            "missing": manifest.map(|manifest| &manifest.missing),
            "restored": tested.as_ref().map(|tested| json!({
                "users": tested.users, "rooms": tested.rooms, "rows": tested.rows,
                "records": tested.report.restored.records, "files": tested.report.restored.files,
            })),
            "objects": objects.as_ref().map(|checked| json!({
                "good": checked.good, "wrong": checked.wrong,
                "examples": checked.examples.iter().map(|one| &one.id).collect::<Vec<_>>(),
            })),
        })
    }
}

/// The archive is read twice: to check it, and to restore it.
fn restore_test(
    context: &Context,
    settings: &Settings,
    (archive, file, args): (&ArchiveFile, &Path, &BackupVerify),
) -> Result<Found, CliError> {
    let checked = with_meter(context, archive, app::verify_contents);
    enter_state(context, archive, checked.as_ref().map(|(verified, _)| verified));
    let checked = checked.map_err(CliError::from);
    let tested = match &checked {
        Ok(checked) => test(context, settings, (archive, args.work_dir.as_deref()), checked),
        Err(error) => Err(CliError::new(error.exit, error.message.clone())),
    };
    let opened = archive.open().ok();
    let header = opened.as_ref().map(ArchiveReader::header);
    // Of a file that cannot be opened nobody knows whether it is this server's, unless the catalogue says so.
    if header.is_some() || args.newest {
        let results = (checked.as_ref().map(drop), tested.as_ref().map(drop));
        note::restore_tested(context, settings, (file, archive.bytes(), header), results);
    }
    let (verified, _) = checked?;
    Ok(Found { tested: Some(tested?), ..Found::of(verified) })
}

fn test(
    context: &Context,
    settings: &Settings,
    (archive, place): (&ArchiveFile, Option<&Path>),
    (verified, contents): &(Verified, Contents),
) -> Result<RestoreTested, CliError> {
    let mut meters = TestMeters::new(context);
    let of = (archive, verified, contents);
    let tested = app::restore_test(settings, of, place, &mut |stage, done, total| {
        meters.show(stage, done, total);
    });
    meters.end();
    if tested.as_ref().is_err_and(RestoreTestError::shows_damage) {
        enter(context, archive.set_state(Some(&verified.header), ArchiveState::Damaged));
    }
    Ok(tested?)
}

fn check_objects(
    context: &Context,
    settings: &Settings,
    archive: &ArchiveFile,
) -> Result<ObjectsChecked, CliError> {
    let mut bar = ProgressBar::new(context.progress);
    let checked = app::check_objects(settings, archive, &mut |done| {
        bar.show(done, 0, &format!("{done} files in S3 checked"));
    });
    bar.end();
    Ok(checked?)
}

/// Progress of work on a throwaway store.
pub(super) struct TestMeters([Meter; 3]);

impl TestMeters {
    pub(super) fn new(context: &Context) -> Self {
        Self(["verified", "restored", "compared"].map(|verb| Meter::new(context, verb)))
    }

    pub(super) fn show(&mut self, stage: TestStage, done: u64, total: u64) {
        let [verifying, restoring, comparing] = &mut self.0;
        match stage {
            TestStage::Verifying => verifying.show(done, total),
            TestStage::Restoring => {
                verifying.end();
                restoring.show(done, total);
            }
            TestStage::Comparing => {
                restoring.end();
                comparing.show(done, total);
            }
        }
    }

    pub(super) fn end(&mut self) {
        self.0.iter_mut().for_each(Meter::end);
    }
}

impl From<RestoreTestError> for CliError {
    fn from(error: RestoreTestError) -> Self {
        Self::new(error.exit(), observe::chain(&error))
    }
}

/// Checks a whole archive, with progress, and enters the result into the catalogue beside it.
pub(super) fn verify(context: &Context, archive: &ArchiveFile) -> Result<Verified, CliError> {
    let verified = with_meter(context, archive, app::verify_archive);
    enter_state(context, archive, verified.as_ref());
    Ok(verified?)
}

/// Reads an archive with progress.
fn with_meter<T>(
    context: &Context,
    archive: &ArchiveFile,
    read: impl FnOnce(&ArchiveFile, &mut dyn FnMut(u64)) -> Result<T, RestoreFailure>,
) -> Result<T, RestoreFailure> {
    let mut meter = Meter::new(context, "verified");
    let total = archive.bytes();
    let read = read(archive, &mut |done| meter.show(done, total.max(done)));
    meter.end();
    read
}

/// Enters what reading all of an archive has shown into the catalogue beside it.
fn enter_state(
    context: &Context,
    archive: &ArchiveFile,
    verified: Result<&Verified, &RestoreFailure>,
) {
    let noted = match verified {
        Ok(verified) => archive.set_state(Some(&verified.header), ArchiveState::Verified),
        Err(error) if error.exit() == Exit::Damaged => {
            let opened = archive.open().ok();
            archive.set_state(opened.as_ref().map(ArchiveReader::header), ArchiveState::Damaged)
        }
        Err(_) => Ok(()),
    };
    enter(context, noted);
}

/// What is not entered is missing in the list of archives only.
fn enter(context: &Context, entered: Result<(), CatalogueError>) {
    if let Err(error) = entered {
        context.output.warning(&observe::chain(&error));
    }
}
