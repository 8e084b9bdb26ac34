//! `keys …`: exports the keys of messages to a file, and imports them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{KeysCommand, KeysExport, KeysImport};
use super::passphrase::PassphraseFlags;
use super::{CliError, Context, Exit};
use crate::app::{self, KeyImportMode, KeysError, io_exit};
use crate::backup::keys::{KEY_FILE_FORM_BYTES, KeyFile, check_form};
use crate::config::Purpose;
use crate::crypto::Secret;
use crate::crypto::age::work_factor_within;
use crate::observe::{self, counted};
use crate::runtime::{Clock, replace_durably};
use crate::supervisor::memory_bytes;

pub(super) fn run(context: &Context, command: &KeysCommand) -> Result<Exit, CliError> {
    match command {
        KeysCommand::Export(args) => export(context, args),
        KeysCommand::Import(args) => import(context, args),
    }
}

fn export(context: &Context, args: &KeysExport) -> Result<Exit, CliError> {
    let path = target(&args.output)?;
    let flags = PassphraseFlags::new(&args.passphrase, &args.passphrase_file);
    let passphrase = flags.read_new(context)?;
    let settings = context.load(Purpose::Local)?.settings;
    context.log_to_terminal();
    let save = |path: &Path, bytes: &[u8]| replace_durably(path, bytes, 0o600);
    let done = app::export_keys(&settings, passphrase, &path, save)?;
    if done.keys == 0 {
        context.output.warning("there are no keys yet, so the export is empty");
    }
    if done.unreadable > 0 {
        context.output.warning(&format!(
            "{} not in the export: wrapped with a core.secret_key that is neither the present nor the previous one",
            counted(done.unreadable, ("key is", "keys are"))
        ));
    }
    if done.unexported.people > 0 {
        let people = counted(done.unexported.people, ("person has", "people have"));
        context.output.note(&format!("{people} keys that no earlier export holds"));
    }
    if is_beside_archives(&path) {
        context.output.note(
            "data archives are in the same directory; keep the two apart, since together they reveal every message",
        );
    }
    let text = format!("{} exported to {}\n", counted(done.keys, ("key", "keys")), path.display());
    let fields = json!({
        "keys": done.keys,
        "file": path,
        "unreadable": done.unreadable,
        "people_without_export_before": done.unexported.people,
        "noted": done.is_noted,
    });
    context.output.result(&text, fields);
    Ok(Exit::Success)
}

/// The file to write: the one named, or one named by the time in a folder.
fn target(output: &Path) -> Result<PathBuf, CliError> {
    let is_folder = output.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/");
    if is_folder {
        let time = observe::file_time(Clock::system().unix_ms());
        return Ok(output.join(format!("{time}-keys.age")));
    }
    match output.metadata() {
        Ok(about) if !about.is_file() => Err(CliError::usage(format!(
            "{} is not a regular file, so it cannot be replaced by an export",
            output.display()
        ))),
        _ => Ok(output.to_owned()),
    }
}

/// Whether the file's folder has archives. What cannot be read is no reason to say anything.
fn is_beside_archives(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new(".")));
    entries.into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".tar.gz") || name.ends_with(".tar.gz.age")
    })
}

fn import(context: &Context, args: &KeysImport) -> Result<Exit, CliError> {
    open(&args.file)?;
    let flags = PassphraseFlags::new(&args.passphrase, &args.passphrase_file);
    let keys = read_export(&args.file, &flags.read(context, &args.file)?)?;
    let mut settings = context.load(Purpose::Local)?.settings;
    context.log_to_terminal();
    let mode = if args.new_secret { KeyImportMode::NewSecret } else { KeyImportMode::SameSecret };
    let done = app::import_keys(&mut settings, &keys, mode)?;
    for name in &done.generated {
        context.output.note(&format!(
            "generated {name}; it is stored in {}",
            settings.data_dir.join("secrets.toml").display()
        ));
    }
    let counts = done.keys;
    if counts.refused > 0 {
        context.output.note(&format!(
            "{} refused: what was written with them stays erased",
            counted(counts.refused, ("key of a deleted account", "keys of deleted accounts"))
        ));
    }
    if counts.unreadable > 0 {
        context.output.warning(&format!(
            "{} of the store cannot be read with the present core.secret_key; importing an export that has them makes them readable",
            counted(counts.unreadable, ("key", "keys"))
        ));
    }
    if done.is_partial {
        context.output.note(
            "the store holds keys and no data yet; restore an archive with `chatto restore FILE`",
        );
    }
    let text = format!(
        "{} imported, {} present, {} refused\n",
        counts.imported, counts.present, counts.refused
    );
    let fields = json!({
        "imported": counts.imported,
        "present": counts.present,
        "refused": counts.refused,
        "unreadable": counts.unreadable,
        "exported": keys.time,
    });
    context.output.result(&text, fields);
    Ok(Exit::Success)
}

/// Reads an export.
pub(super) fn read_export(path: &Path, passphrase: &Secret) -> Result<KeyFile, CliError> {
    let file = io::BufReader::new(open(path)?);
    // The rest is for the server that may be running.
    let factor_max = work_factor_within(memory_bytes() / 4 * 3);
    Ok(KeyFile::read(file, passphrase, factor_max).map_err(KeysError::from)?)
}

/// Opens an export, and refuses other files before a passphrase is asked for.
fn open(path: &Path) -> Result<File, CliError> {
    let unreadable = |error: io::Error| {
        CliError::new(io_exit(&error), format!("cannot read {}: {error}", path.display()))
    };
    let about = path.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(CliError::usage(format!("{} is not a regular file", path.display())));
    }
    let mut start = Vec::new();
    let limit = u64::try_from(KEY_FILE_FORM_BYTES).unwrap_or(u64::MAX);
    File::open(path)
        .map_err(unreadable)?
        .take(limit)
        .read_to_end(&mut start)
        .map_err(unreadable)?;
    check_form(&start).map_err(KeysError::from)?;
    File::open(path).map_err(unreadable)
}

impl From<KeysError> for CliError {
    fn from(error: KeysError) -> Self {
        Self::new(error.exit(), observe::chain(&error))
    }
}
