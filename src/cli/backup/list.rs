//! `backup list`: the archives of a folder.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::app;
use crate::backup::catalogue::{ArchiveState, Catalogue, CatalogueError, CataloguedArchive};
use crate::backup::folder::{FoundArchive, archives_in};
use crate::cli::args::BackupList;
use crate::cli::output::row;
use crate::cli::{CliError, Context, Exit};
use crate::config::Purpose;
use crate::observe::binary_size;
use crate::runtime::Clock;

pub(super) fn run(context: &Context, args: &BackupList) -> Result<Exit, CliError> {
    let folder = folder(context, args.directory.as_deref())?;
    let files = archives_in(&folder).map_err(|error| {
        let text = format!("the directory {} cannot be read: {error}", folder.display());
        CliError::new(app::io_exit(&error), text)
    })?;
    let (catalogue, damaged) = match Catalogue::read(&folder) {
        Ok(catalogue) => (catalogue.unwrap_or_default(), None),
        Err(error @ CatalogueError::Damaged { .. }) => (Catalogue::default(), Some(error)),
        Err(error) => return Err(error.into()),
    };
    let now_ms = Clock::system().unix_ms();
    let mut archives = catalogue.archives;
    archives.sort_by_key(|archive| archive.sequence);
    let known: HashSet<&str> = archives.iter().map(|archive| archive.name.as_str()).collect();
    let unknown = files.iter().filter(|file| !known.contains(file.name.as_str()));
    let rows = archives.iter().map(|archive| Row::of(archive, &folder, now_ms));
    let rows: Vec<Row<'_>> = rows.chain(unknown.map(Row::of_file)).collect();
    let servers: HashSet<&str> = rows.iter().filter_map(Row::server).collect();
    let text: String = rows.iter().map(|row| row.line(servers.len() > 1)).collect();
    let fields: Vec<Value> = rows.iter().map(Row::fields).collect();
    context.output.result(&text, json!({ "directory": folder, "archives": fields }));
    if rows.is_empty() {
        context.output.note(&format!("there are no archives in {}", folder.display()));
    }
    damaged.map_or(Ok(Exit::Success), |error| Err(error.into()))
}

/// The given directory, or the configured one.
pub(super) fn folder(context: &Context, given: Option<&Path>) -> Result<PathBuf, CliError> {
    let folder = match given {
        Some(path) if path.starts_with("s3:") => {
            return Err(CliError::usage("archives in S3 are not part of this version"));
        }
        Some(path) => path.to_owned(),
        None => context.load(Purpose::Local)?.settings.backup.directory,
    };
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(CliError::new(
            Exit::Unreachable,
            format!("there is no directory {}", folder.display()),
        )),
    }
}

/// An archive, as it is shown.
struct Row<'a> {
    name: &'a str,
    /// What is known of it.
    state: &'static str,
    bytes: u64,
    archive: Option<&'a CataloguedArchive>,
    age: String,
}

impl<'a> Row<'a> {
    fn of(archive: &'a CataloguedArchive, folder: &Path, now_ms: i64) -> Self {
        let state = match archive.state {
            ArchiveState::Writing => ArchiveState::Writing.word(),
            _ if archive.is_gone(folder) => "missing",
            _ if !archive.is_unchanged(folder) => "changed",
            state => state.word(),
        };
        let age = archive.time_ms().map_or_else(String::new, |time| age_text(now_ms - time));
        Self { name: &archive.name, state, bytes: archive.bytes, archive: Some(archive), age }
    }

    fn of_file(file: &'a FoundArchive) -> Self {
        let age = String::new();
        Self { name: &file.name, state: "not catalogued", bytes: file.bytes, archive: None, age }
    }

    /// The server that it is of, where that is known.
    fn server(&self) -> Option<&str> {
        self.archive.map(|one| one.server_id.as_str()).filter(|id| !id.is_empty())
    }

    /// `with_server`: archives of several servers are shown, whose numbers have nothing to do with each other.
    fn line(&self, with_server: bool) -> String {
        let sequence = self.archive.map_or_else(String::new, |one| one.sequence.to_string());
        let Self { name, state, bytes, age, .. } = self;
        let bytes = binary_size(*bytes);
        match with_server {
            true => row([self.server().unwrap_or_default(), &sequence, state, &bytes, age, name]),
            false => row([&sequence, state, &bytes, age, name]),
        }
    }

    fn fields(&self) -> Value {
        let mut fields = json!({ "name": self.name, "state": self.state, "bytes": self.bytes });
        if let (Some(archive), Some(object)) = (self.archive, fields.as_object_mut()) {
            object.insert("sequence".to_owned(), json!(archive.sequence));
            object.insert("server_id".to_owned(), json!(archive.server_id));
            object.insert("created_at".to_owned(), json!(archive.created_at));
            object.insert("encrypted".to_owned(), json!(archive.encrypted));
            object.insert("sha256".to_owned(), json!(archive.sha256));
        }
        fields
    }
}

fn age_text(ms: i64) -> String {
    match ms / 60_000 {
        ..0 => "in the future".to_owned(),
        minutes @ 0..120 => format!("{minutes} min ago"),
        minutes @ 120..2880 => format!("{} h ago", minutes / 60),
        minutes => format!("{} days ago", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        const HOUR: i64 = 3_600_000;
        for (ms, text) in [
            (-HOUR, "in the future"),
            (0, "0 min ago"),
            (2 * HOUR - 1, "119 min ago"),
            (47 * HOUR, "47 h ago"),
            (48 * HOUR, "2 days ago"),
        ] {
            assert_eq!(age_text(ms), text);
        }
    }
}
