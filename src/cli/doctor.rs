//! `doctor`: prints what is wrong and how to fix it; exits with 1 if something must be done.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::args::Doctor;
use super::{CliError, Context, Exit};
use crate::app::{Check, Extent, Verdict, doctor};
use crate::config::Inputs;
use crate::observe::counted;
use crate::runtime::Clock;

pub(super) fn run(context: &Context, args: &Doctor) -> Result<Exit, CliError> {
    let inputs = Inputs::of_process(context.config.clone());
    let extent = if args.online { Extent::Online } else { Extent::Local };
    let checks = doctor(&inputs, extent, &Clock::system());
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let must = count(Verdict::Fail);
    let fields = json!({
        "ok": must == 0,
        "checks": checks.iter().map(object).collect::<Vec<Value>>(),
    });
    let summary = format!(
        "{} must be done, {} should be done, {} not made",
        counted(must, ("thing", "things")),
        counted(count(Verdict::Warn), ("thing", "things")),
        counted(count(Verdict::Skipped), ("check was", "checks were")),
    );
    let lines: String = checks.iter().map(line).collect();
    context.output.result(&format!("{lines}\n{summary}\n"), fields);
    Ok(if must == 0 { Exit::Success } else { Exit::Failed })
}

fn line(check: &Check) -> String {
    let mut text = format!("{:8}{:18}{}\n", check.verdict.word(), check.code, shown(&check.text));
    if let Some(fix) = &check.fix {
        writeln!(text, "{:26}fix: {}", "", shown(fix)).ok();
    }
    text
}

/// A text of which parts come from files: control characters are replaced.
fn shown(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn object(check: &Check) -> Value {
    json!({
        "code": check.code,
        "verdict": check.verdict.word(),
        "text": check.text,
        "fix": check.fix,
    })
}
