//! `restore`: a store from an archive.

use std::path::Path;

use serde_json::json;

use super::args::{Conflict, Restore};
use super::backup::Meter;
use super::passphrase::PassphraseFlags;
use super::{CliError, Context, Exit};
use crate::app::{
    self, ArchiveFile, ConflictRule, RestoreFailure, RestoreReport, RestoreRequest, Stage,
};
use crate::config::{Purpose, Settings};
use crate::crypto::Secret;
use crate::crypto::age::work_factor_within;
use crate::limits::AGE_WORK_FACTOR_MAX;
use crate::observe::{self, binary_size, counted};
use crate::supervisor::memory_bytes;

pub(super) fn run(context: &Context, args: &Restore) -> Result<Exit, CliError> {
    let settings = context.load(Purpose::Local)?.settings;
    let flags = PassphraseFlags::new(&args.passphrase, &args.passphrase_file);
    let passphrase = passphrase(context, &args.file, flags)?;
    let archive = open_archive(&args.file, passphrase, args.max_work_factor)?;
    context.log_to_terminal();
    let conflict = match args.conflict {
        Conflict::Error => ConflictRule::Error,
        Conflict::Skip => ConflictRule::Skip,
        Conflict::Overwrite => ConflictRule::Overwrite,
    };
    let request = RestoreRequest {
        archive: &archive,
        verified: None,
        conflict,
        is_dry_run: args.dry_run,
        files: true,
    };
    let mut meters = [Meter::new(context, "verified"), Meter::new(context, "restored")];
    let restored = app::restore(&settings, &request, &mut |stage, done, total| {
        let [verifying, restoring] = &mut meters;
        match stage {
            Stage::Verifying => verifying.show(done, total),
            Stage::Waiting => {
                verifying.end();
                restoring.say(&format!(
                    "waiting {total} seconds, so that no process goes on writing to the store"
                ));
            }
            Stage::Restoring => {
                verifying.end();
                restoring.show(done, total);
            }
        }
    });
    meters.iter_mut().for_each(Meter::end);
    let report = restored?;
    summarise(context, &settings, (args, &report));
    Ok(Exit::Success)
}

/// Asks for the passphrase of an encrypted archive only.
pub(super) fn passphrase(
    context: &Context,
    file: &Path,
    flags: PassphraseFlags<'_>,
) -> Result<Option<Secret>, CliError> {
    if ArchiveFile::is_encrypted(file)? {
        return flags.read(context, file).map(Some);
    }
    if flags.is_given() {
        context.output.warning("the archive is not encrypted, so the passphrase is not used");
    }
    Ok(None)
}

/// The archive with what decrypts it. Of memory a third is used for that.
pub(super) fn open_archive(
    file: &Path,
    passphrase: Option<Secret>,
    work_factor_max: Option<u8>,
) -> Result<ArchiveFile, CliError> {
    if work_factor_max.is_some_and(|factor| !(10..=AGE_WORK_FACTOR_MAX).contains(&factor)) {
        return Err(CliError::usage(format!(
            "--max-work-factor must be 10 to {AGE_WORK_FACTOR_MAX}"
        )));
    }
    let factor = work_factor_max.unwrap_or_else(|| work_factor_within(memory_bytes() / 3));
    Ok(ArchiveFile::new(file.to_owned(), passphrase, factor)?)
}

/// What was done.
fn summarise(context: &Context, settings: &Settings, (args, report): (&Restore, &RestoreReport)) {
    let output = &context.output;
    let RestoreReport { header, manifest, restored, lacking, .. } = report;
    let mut text = format!(
        "backup {} of {}, made by chatto {}\n",
        header.sequence, header.created_at, header.program
    );
    if args.dry_run {
        text.push_str("everything was checked; nothing was written\n");
        if report.is_in_use {
            output.note("a server uses this store; stop every server before the restore");
        }
    } else {
        text.push_str(&format!(
            "restored: {}, {}, {}\n",
            counted(restored.records, ("record", "records")),
            counted(restored.files, ("file", "files")),
            binary_size(restored.bytes)
        ));
    }
    if !report.skipped.is_empty() {
        text.push_str(&format!("skipped, because they exist: {}\n", report.skipped.join(", ")));
    }
    let excluded: Vec<&str> = manifest.excluded.iter().map(|one| one.stream.as_str()).collect();
    text.push_str(&format!("not in a backup: {}\n", excluded.join(", ")));
    let fields = json!({
        "sequence": header.sequence,
        "created_at": header.created_at,
        "server_id": header.server_id,
        "dry_run": args.dry_run,
        "records": restored.records,
        "files": restored.files,
        "bytes": restored.bytes,
        "skipped": report.skipped,
        "excluded": excluded,
        "missing_keys": lacking.keys,
        "deleted_users": report.deleted_users,
        "former": report.former,
    });
    output.result(&text, fields);
    if !args.dry_run {
        next_steps(context, settings, report);
    }
}

/// What a person must know and do after a restore.
fn next_steps(context: &Context, settings: &Settings, report: &RestoreReport) {
    let output = &context.output;
    let RestoreReport { header, manifest, restored, lacking, .. } = report;
    if lacking.keys > 0 {
        output.warning(&format!(
            "the message keys of {} are missing, so their messages cannot be read; run `chatto keys import FILE`",
            counted(lacking.keys, ("person", "people"))
        ));
    }
    let listed = manifest.listed_objects;
    if listed.files > 0 && settings.assets.s3.is_none() {
        let bucket = header.configuration.get("core.assets.s3.bucket").map_or("", String::as_str);
        output.warning(&format!(
            "{} in the S3 bucket {bucket}, and no bucket is configured here: set core.assets.s3",
            counted(listed.files, ("file of the backup is", "files of the backup are"))
        ));
    }
    if !manifest.missing.is_empty() {
        output.warning(&format!(
            "the backup lacks the bytes of {}",
            counted(manifest.missing.len(), ("file", "files"))
        ));
    }
    if report.deleted_users > 0 {
        let accounts = ("deleted account stays", "deleted accounts stay");
        output.note(&format!("{} deleted", counted(report.deleted_users, accounts)));
    }
    if let Some(former) = &report.former {
        output.note(&format!(
            "the former store is in {}; remove it when everything is as it should be",
            former.display()
        ));
    }
    if !report.skipped.is_empty() && restored.records == 0 {
        output.note("nothing was restored: everything is there already");
    } else {
        output
            .note("everybody signs in again. Start the server with `chatto start`, or its service");
    }
}

impl From<RestoreFailure> for CliError {
    fn from(error: RestoreFailure) -> Self {
        Self::new(error.exit(), observe::chain(&error))
    }
}
