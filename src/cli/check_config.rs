//! `check-config`: shows the effective values with their sources.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{CliError, Context, Exit};
use crate::config::{Fault, Inputs, Purpose, load};

pub(super) fn run(context: &Context) -> Result<Exit, CliError> {
    let loaded = match load(&Inputs::of_process(context.config.clone()), Purpose::Check) {
        Ok(loaded) => loaded,
        Err(faults) if context.output.json => {
            let list: Vec<Value> = faults.0.iter().map(fault_json).collect();
            context.output.result("", json!({ "faults": list }));
            return Ok(Exit::Config);
        }
        Err(faults) => return Err(faults.into()),
    };
    for warning in &loaded.warnings {
        context.output.warning(&warning.to_string());
    }
    match &loaded.file {
        Some(file) => context.output.note(&format!("configuration file: {}", file.display())),
        None => context.output.note("configuration file: none"),
    }
    let mut text = String::new();
    let mut list = Vec::new();
    for effective in &loaded.effective {
        let source = effective.source.to_string();
        match &effective.value {
            Some(value) => writeln!(text, "{} = {value}  [{source}]", effective.name),
            None => writeln!(text, "{} is unset", effective.name),
        }
        .ok();
        list.push(json!({ "key": effective.name, "value": effective.value, "source": source }));
    }
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let file = loaded.file.as_ref().map(|file| file.display().to_string());
    let fields = json!({ "file": file, "values": list, "warnings": warnings });
    context.output.result(&text, fields);
    Ok(Exit::Success)
}

fn fault_json(fault: &Fault) -> Value {
    let place = fault.location.to_string();
    json!({
        "place": place.trim_end_matches([':', ' ']),
        "key": fault.key,
        "reason": fault.reason,
        "nearest": fault.nearest,
    })
}
