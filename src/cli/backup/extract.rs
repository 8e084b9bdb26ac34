//! `backup extract`: single rooms and files of an archive.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::verify::TestMeters;
use crate::app::{self, ArchiveFile, ArchivedRoom, ExtractedRoom, RoomsRequest};
use crate::backup::extract::{Extracted, extract_files, files_of};
use crate::backup::keys::KeyFile;
use crate::backup::target::create_private;
use crate::backup::transcript::TranscriptFormat;
use crate::cli::args::{BackupExtract, RoomFormat};
use crate::cli::keys::read_export;
use crate::cli::output::row;
use crate::cli::passphrase::PassphraseFlags;
use crate::cli::restore::{open_archive, passphrase};
use crate::cli::{CliError, Context, Exit};
use crate::config::Purpose;
use crate::domain::AssetId;
use crate::observe::counted;

pub(super) fn run(context: &Context, args: &BackupExtract) -> Result<Exit, CliError> {
    let folder = args.output.clone().unwrap_or_else(|| PathBuf::from("."));
    if args.keys_passphrase_file.is_some() && args.keys.is_none() {
        return Err(CliError::usage("--keys-passphrase-file is for --keys"));
    }
    let flags = PassphraseFlags::new(&args.passphrase, &args.passphrase_file);
    let secret = passphrase(context, &args.file, flags)?;
    let keys = keys(context, args, secret.clone())?;
    let archive = open_archive(&args.file, secret, args.max_work_factor)?;
    context.log_to_terminal();
    if args.wanted.is_empty() {
        return list(context, args, &archive);
    }
    if args.output.is_some() {
        create_private(&folder).map_err(|error| {
            let text = format!("the directory {} cannot be created: {error}", folder.display());
            CliError::new(app::unwritable_exit(&error), text)
        })?;
    }
    let (mut files, mut rooms) = (Vec::new(), Vec::new());
    for wanted in &args.wanted {
        match wanted.parse::<AssetId>() {
            Ok(id) => files.push(id),
            Err(_) => rooms.push(wanted.clone()),
        }
    }
    let extracted = match files.is_empty() {
        true => Vec::new(),
        false => {
            let keys = keys.as_ref().map(|export| export.keys.as_slice());
            extract_files(&mut archive.open()?, (&files, keys), &folder)
                .map_err(app::RestoreTestError::from)?
        }
    };
    let mut written = Vec::new();
    if !rooms.is_empty() {
        let of = (args, &archive, keys.as_ref());
        written = extract_rooms(context, of, (&rooms, &folder))?.1;
    }
    report(context, &extracted, &written);
    Ok(Exit::Success)
}

/// Reads the key export with its own passphrase, or that of the archive.
fn keys(
    context: &Context,
    args: &BackupExtract,
    of_archive: Option<crate::crypto::Secret>,
) -> Result<Option<KeyFile>, CliError> {
    let Some(path) = &args.keys else { return Ok(None) };
    let file = args.keys_passphrase_file.as_deref();
    let own = PassphraseFlags { text: None, file, option: "keys-passphrase" };
    let secret = match (of_archive, own.file) {
        (Some(secret), None) => secret,
        (None, _) | (Some(_), Some(_)) => own.read(context, path)?,
    };
    read_export(path, &secret).map(Some)
}

fn extract_rooms(
    context: &Context,
    (args, archive, keys): (&BackupExtract, &ArchiveFile, Option<&KeyFile>),
    (rooms, folder): (&[String], &Path),
) -> Result<(Vec<ArchivedRoom>, Vec<ExtractedRoom>), CliError> {
    let settings = context.load(Purpose::Local)?.settings;
    let request = RoomsRequest {
        archive,
        place: args.work_dir.as_deref(),
        keys,
        rooms,
        format: match args.format {
            RoomFormat::Text => TranscriptFormat::Text,
            RoomFormat::Json => TranscriptFormat::Json,
        },
        folder,
    };
    let mut meters = TestMeters::new(context);
    let written = app::extract_rooms(&settings, &request, &mut |stage, done, total| {
        meters.show(stage, done, total);
    });
    meters.end();
    Ok(written?)
}

/// Prints the rooms and files of an archive.
fn list(context: &Context, args: &BackupExtract, archive: &ArchiveFile) -> Result<Exit, CliError> {
    let (rooms, _) = extract_rooms(context, (args, archive, None), (&[], Path::new(".")))?;
    let files = files_of(&mut archive.open()?).map_err(app::RestoreFailure::from)?;
    let mut text = String::new();
    for room in &rooms {
        let name = match room.name.as_str() {
            "" => format!("direct message of {}", room.participants.join(", ")),
            name => name.to_owned(),
        };
        text.push_str(&row(["room", room.id.as_str(), &name]));
    }
    for file in &files {
        text.push_str(&row(["file", file.id.as_str(), &file.size.to_string(), &file.name]));
    }
    let rooms = rooms.iter().map(|room| {
        json!({ "id": room.id.as_str(), "name": room.name, "participants": room.participants })
    });
    let files = files
        .iter()
        .map(|file| json!({ "id": file.id.as_str(), "name": file.name, "bytes": file.size }));
    let fields =
        json!({ "rooms": rooms.collect::<Vec<_>>(), "files": files.collect::<Vec<Value>>() });
    context.output.result(&text, fields);
    Ok(Exit::Success)
}

fn report(context: &Context, files: &[Extracted], rooms: &[ExtractedRoom]) {
    let paths = files.iter().map(|file| &file.path).chain(rooms.iter().map(|room| &room.path));
    let text: String = paths.map(|path| format!("{}\n", path.display())).collect();
    let unreadable: u64 = rooms.iter().map(|room| room.count.unreadable).sum();
    let files = files
        .iter()
        .map(|file| json!({ "id": file.id.as_str(), "path": file.path, "bytes": file.bytes }));
    let rooms = rooms.iter().map(|written| {
        json!({
            "id": written.room.id.as_str(), "path": written.path, "rows": written.count.rows,
            "unreadable": written.count.unreadable,
        })
    });
    let fields =
        json!({ "files": files.collect::<Vec<_>>(), "rooms": rooms.collect::<Vec<Value>>() });
    context.output.result(&text, fields);
    if unreadable > 0 {
        context.output.warning(&format!(
            "{} cannot be read without the keys of their authors; --keys FILE takes a key export",
            counted(unreadable, ("message", "messages"))
        ));
    }
}
