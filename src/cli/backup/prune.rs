//! `backup prune`: removes archives that newer ones supersede.

use std::path::Path;

use serde_json::json;

use super::list::folder;
use crate::backup::catalogue::CatalogueError;
use crate::backup::retention::{Pruned, Retention};
use crate::cli::args::BackupPrune;
use crate::cli::{CliError, Context, Exit};
use crate::limits::RETENTION_MAX;
use crate::observe;
use crate::runtime::Clock;

/// Last and daily, weekly and monthly.
type KeepFlags = ((Option<u32>, Option<u32>), (Option<u32>, Option<u32>));

pub(super) fn run(context: &Context, args: &BackupPrune) -> Result<Exit, CliError> {
    let flags = ((args.keep_last, args.keep_daily), (args.keep_weekly, args.keep_monthly));
    let retention = retention(flags)?.unwrap_or(Retention::RECOMMENDED);
    let folder = folder(context, args.directory.as_deref())?;
    let pruned = prune((retention, &folder), None, args.dry_run)?;
    warn(context, &pruned);
    let names: Vec<&str> = pruned.removed.iter().map(|archive| archive.name.as_str()).collect();
    let bytes: u64 = pruned.removed.iter().map(|archive| archive.bytes).sum();
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    let fields = json!({ "removed": names, "bytes": bytes, "dry_run": args.dry_run });
    context.output.result(&text, fields);
    Ok(if pruned.refused.is_empty() { Exit::Success } else { Exit::Failed })
}

/// What the flags say; `None`: none of them is there.
pub(super) fn retention(
    ((last, daily), (weekly, monthly)): KeepFlags,
) -> Result<Option<Retention>, CliError> {
    let given = [last, daily, weekly, monthly];
    if given.iter().all(Option::is_none) {
        return Ok(None);
    }
    if given.iter().flatten().any(|number| *number > RETENTION_MAX) {
        return Err(CliError::usage(format!("a --keep option must be 0 to {RETENTION_MAX}")));
    }
    let [last, daily, weekly, monthly] = given.map(Option::unwrap_or_default);
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

/// Prints why archives stay.
pub(super) fn warn(context: &Context, pruned: &Pruned) {
    for refused in &pruned.refused {
        context.output.warning(&refused.to_string());
    }
}

impl From<CatalogueError> for CliError {
    fn from(error: CatalogueError) -> Self {
        Self::new(exit(&error), observe::chain(&error))
    }
}

fn exit(error: &CatalogueError) -> Exit {
    match error {
        CatalogueError::Io { .. } | CatalogueError::Remove { .. } => Exit::Io,
        CatalogueError::Damaged { .. } | CatalogueError::Newer { .. } => Exit::Damaged,
    }
}
