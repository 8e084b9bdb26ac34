//! `assets …`: checks all files, or moves them to the other backend.

use serde_json::{Value, json};

use super::args::{AssetsCommand, Target};
use super::local::{Call, with_operations};
use super::output::{field, row, text_field};
use super::progress::ProgressBar;
use super::{CliError, Context, Exit};
use crate::observe::binary_size;

/// What was done with all files.
#[derive(Default)]
struct Outcome {
    done: u64,
    bytes: u64,
    findings: Vec<Value>,
}

pub(super) fn run(context: &Context, command: &AssetsCommand) -> Result<Exit, CliError> {
    let (name, work, verb) = match command {
        AssetsCommand::Check(_) => ("assets check", "check", "checked"),
        AssetsCommand::Move(args) => match args.to {
            Target::S3 => ("assets move", "move-to-s3", "moved"),
            Target::Nats => ("assets move", "move-to-nats", "moved"),
        },
    };
    let outcome = with_operations(context, name, |call| all_steps(context, work, call))?;
    let Outcome { done, bytes, findings } = outcome;
    let is = |finding: &Value, what: &str| text_field(finding, "is") == what;
    let lost = findings.iter().filter(|one| !is(one, "orphaned")).count();
    let orphaned = findings.len().saturating_sub(lost);
    context.output.note(&format!("{verb} {done} files, {}", binary_size(bytes)));
    if lost > 0 {
        context.output.warning(&format!(
            "{lost} files are missing, damaged, undecryptable, unreadable or too large to be moved"
        ));
    }
    if orphaned > 0 {
        context.output.warning(&format!(
            "{orphaned} entries have bytes that no record names; they are of an interrupted move, or of another server \
             with the same bucket"
        ));
    }
    let line = |one: &Value| row([text_field(one, "is"), text_field(one, "file")]);
    let text: String = findings.iter().map(line).collect();
    let fields = json!({ "files": done, "bytes": bytes, "findings": findings });
    context.output.result(&text, fields);
    Ok(if lost > 0 { Exit::Failed } else { Exit::Success })
}

fn all_steps(context: &Context, work: &str, call: Call<'_>) -> Result<Outcome, CliError> {
    let begun = call("assets.begin", json!({ "work": work }))?;
    let total = field(&begun, "files").as_u64().unwrap_or_default();
    let mut position = field(&begun, "position").clone();
    let mut outcome = Outcome::default();
    let mut bar = ProgressBar::new(context.progress);
    let end = field(field(&position, "files"), "end").as_u64().unwrap_or_default();
    while !position.is_null() {
        let step = call("assets.step", json!({ "work": work, "position": position }))?;
        let count = |name: &str| field(&step, name).as_u64().unwrap_or_default();
        outcome.done = outcome.done.saturating_add(count("done"));
        outcome.bytes = outcome.bytes.saturating_add(count("bytes"));
        outcome.findings.extend(field(&step, "findings").as_array().into_iter().flatten().cloned());
        position = field(&step, "next").clone();
        let after = field(field(&position, "files"), "after").as_u64().unwrap_or(end);
        let text =
            format!("{} of about {total} files, {}", outcome.done, binary_size(outcome.bytes));
        bar.show(after, end, &text);
    }
    bar.end();
    Ok(outcome)
}
