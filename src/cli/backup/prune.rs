//! `backup prune`: removes archives that newer ones supersede.

use std::path::Path;

use serde_json::json;

use super::list::folder;
use crate::app;
use crate::backup::catalogue::CatalogueError;
use crate::backup::retention::{Pruned, Retention};
use crate::cli::args::BackupPrune;
use crate::cli::{CliError, Context, Exit};
use crate::limits::RETENTION_MAX;
use crate::observe;
use crate::runtime::Clock;

pub(super) fn run(context: &Context, args: &BackupPrune) -> Result<Exit, CliError> {
    let keep = [args.keep_last, args.keep_daily, args.keep_weekly, args.keep_monthly];
    let retention = retention(keep)?.unwrap_or(Retention::RECOMMENDED);
    let folder = folder(context, args.directory.as_deref())?;
    let pruned = prune((retention, &folder), None, args.dry_run)?;
    let names: Vec<&str> = pruned.superseded.iter().map(|archive| archive.name.as_str()).collect();
    let bytes: u64 = pruned.superseded.iter().map(|archive| archive.bytes).sum();
    let text: String =
        names.iter().map(|name| format!("{}\n", folder.join(name).display())).collect();
    let fields = json!({
        "directory": folder, "superseded": names, "bytes": bytes, "dry_run": args.dry_run,
    });
    context.output.result(&text, fields);
    if pruned.listed == 0 {
        context.output.note(&format!("no backup has listed an archive in {}", folder.display()));
    } else if names.is_empty() && pruned.refused.is_empty() {
        context.output.note("nothing to remove");
    }
    match pruned.refused.as_slice() {
        [] => Ok(Exit::Success),
        refused => {
            let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
            Err(CliError::new(Exit::Failed, lines.join("\n")))
        }
    }
}

/// What the `--keep` options say: last, daily, weekly, monthly. `None`: none of them was given.
pub(super) fn retention(keep: [Option<u32>; 4]) -> Result<Option<Retention>, CliError> {
    if keep.iter().all(Option::is_none) {
        return Ok(None);
    }
    if keep.iter().flatten().any(|number| *number > RETENTION_MAX) {
        return Err(CliError::usage(format!("a --keep option must be 0 to {RETENTION_MAX}")));
    }
    if keep.iter().flatten().all(|number| *number == 0) {
        return Err(CliError::usage("0 keeps nothing; give at least one --keep option 1 or more"));
    }
    let [last, daily, weekly, monthly] = keep.map(Option::unwrap_or_default);
    Ok(Some(Retention { last, daily, weekly, monthly }))
}

/// Removes the superseded archives of one server or, each by themselves, of all.
pub(super) fn prune(
    (retention, folder): (Retention, &Path),
    server_id: Option<&str>,
    is_dry_run: bool,
) -> Result<Pruned, CliError> {
    let now_ms = Clock::system().unix_ms();
    Ok(retention.prune(folder, (server_id, now_ms), is_dry_run)?)
}

impl From<CatalogueError> for CliError {
    fn from(error: CatalogueError) -> Self {
        Self::new(app::catalogue_exit(&error), observe::chain(&error))
    }
}
