//! `usb list` and `usb forget`.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::args::UsbUnpair;
use crate::cli::output::row;
use crate::cli::{CliError, Context, Exit};
use crate::config::{Purpose, Sticks};

/// Where udev has a link for each file system, by its UUID (60-persistent-storage.rules).
const BY_UUID: &str = "/dev/disk/by-uuid";

pub(super) fn run(context: &Context) -> Result<Exit, CliError> {
    let loaded = context.load(Purpose::Local)?;
    let sticks = Sticks::read(loaded.file.as_deref())?;
    let mut text = String::new();
    let mut fields: Vec<Value> = Vec::new();
    for stick in sticks.list() {
        let device = Path::new(BY_UUID).join(&stick.uuid).canonicalize().ok();
        let place = device.as_ref().map(|path| path.display().to_string());
        let keys = if stick.with_keys { "with keys" } else { "without keys" };
        let shown = place.clone().unwrap_or_else(|| "not plugged in".to_owned());
        text.push_str(&row([&stick.name, &stick.uuid, keys, &stick.paired_at, &shown]));
        fields.push(json!({
            "name": stick.name,
            "id": stick.id,
            "uuid": stick.uuid,
            "with_keys": stick.with_keys,
            "paired_at": stick.paired_at,
            "device": place,
        }));
    }
    context.output.result(&text, json!({ "sticks": fields }));
    if sticks.list().is_empty() {
        context.output.note("no stick is paired; sudo chatto usb pair DEVICE pairs one");
    }
    Ok(Exit::Success)
}

pub(super) fn unpair(context: &Context, args: &UsbUnpair) -> Result<Exit, CliError> {
    let loaded = context.load(Purpose::Local)?;
    let mut sticks = Sticks::read(loaded.file.as_deref())?;
    let Some(stick) = sticks.named(&args.stick).cloned() else {
        return Err(CliError::new(
            Exit::Failed,
            format!("no paired stick has the name {}; `chatto usb list` shows them", args.stick),
        ));
    };
    sticks.remove(&stick.id)?;
    context.output.result(
        &format!("{} is no longer paired; the backups on it stay\n", stick.name),
        json!({ "name": stick.name, "id": stick.id }),
    );
    Ok(Exit::Success)
}
