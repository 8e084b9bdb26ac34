//! `backup verify`: checks an archive without a server.

use std::fmt::Write as _;

use serde_json::json;

use super::Meter;
use crate::app::{self, ArchiveFile};
use crate::backup::archive::{ArchiveReader, Header, Manifest};
use crate::backup::catalogue::ArchiveState;
use crate::cli::args::{BackupVerify, VerifyLevel};
use crate::cli::passphrase::PassphraseFlags;
use crate::cli::restore::{open_archive, passphrase};
use crate::cli::{CliError, Context, Exit};
use crate::observe;

pub(super) fn run(context: &Context, args: &BackupVerify) -> Result<Exit, CliError> {
    let flags =
        PassphraseFlags { text: args.passphrase.as_deref(), file: args.passphrase_file.as_deref() };
    let passphrase = passphrase(context, &args.file, flags)?;
    let archive = open_archive(&args.file, passphrase, args.max_work_factor)?;
    let (header, manifest) = match args.level {
        VerifyLevel::Header => (archive.open()?.header().clone(), None),
        VerifyLevel::Full => {
            let (header, manifest) = verify(context, &archive)?;
            (header, Some(manifest))
        }
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    writeln!(
        text,
        "backup {} of {}, made by chatto {}",
        header.sequence, header.created_at, header.program
    )
    .ok();
    writeln!(text, "server {}", header.server_id).ok();
    for (name, totals) in manifest.iter().flat_map(|manifest| &manifest.streams) {
        writeln!(text, "{name}\t{} records\t{} subjects", totals.records, totals.subjects).ok();
    }
    for (origin, count) in manifest.iter().flat_map(|manifest| &manifest.assets) {
        writeln!(text, "files from {origin}\t{}\t{} bytes", count.files, count.bytes).ok();
    }
    let verdict = match &manifest {
        None => "the header can be read; nothing else was checked",
        Some(_) => "complete and undamaged",
    };
    writeln!(text, "{verdict}").ok();
    let fields = json!({
        "sequence": header.sequence,
        "created_at": header.created_at,
        "server_id": header.server_id,
        "complete": manifest.is_some(),
        "streams": manifest.as_ref().map(|manifest| &manifest.streams),
        "assets": manifest.as_ref().map(|manifest| &manifest.assets),
        "listed_objects": manifest.as_ref().map(|manifest| manifest.listed_objects),
        "missing": manifest.as_ref().map(|manifest| &manifest.missing),
    });
    context.output.result(&text, fields);
    Ok(Exit::Success)
}

/// Checks a whole archive, with progress, and enters the result into the catalogue beside it.
pub(super) fn verify(
    context: &Context,
    archive: &ArchiveFile,
) -> Result<(Header, Manifest), CliError> {
    let mut meter = Meter::new(context, "verified");
    let total = archive.bytes();
    let verified = app::verify_archive(archive, &mut |done| meter.show(done, total.max(done)));
    meter.end();
    let noted = match &verified {
        Ok((header, _)) => archive.note(Some(header), ArchiveState::Verified),
        Err(error) if error.exit() == Exit::Damaged => {
            let opened = archive.open().ok();
            archive.note(opened.as_ref().map(ArchiveReader::header), ArchiveState::Damaged)
        }
        Err(_) => Ok(()),
    };
    if let Err(error) = noted {
        context.output.warning(&observe::chain(&error));
    }
    Ok(verified?)
}
