//! `usb run`: a backup on a paired stick.

use std::cell::Cell;
use std::path::PathBuf;

use serde_json::json;

use super::{owner, require_root};
use crate::app::usb::{StickBackup, StickError, StickEvent, StickRun, run as run_backup};
use crate::cli::args::UsbRun;
use crate::cli::backup::Meter;
use crate::cli::passphrase::{PassphraseFlags, unset};
use crate::cli::{CliError, Context, Exit};
use crate::config::{Loaded, Purpose, Sticks};
use crate::crypto::Secret;
use crate::observe::{self, counted, decimal_size};
use crate::supervisor::Notify;

/// The name of the passphrase, as a credential of the unit and beside the configuration.
const PASSPHRASE: &str = "backup-passphrase";

pub(super) fn run(context: &Context, args: &UsbRun) -> Result<Exit, CliError> {
    require_root("run")?;
    let loaded = context.load(Purpose::Local)?;
    let owner = owner(&loaded.settings)?;
    let sticks = Sticks::read(loaded.file.as_deref())?;
    context.log_to_terminal();
    let hint = Cell::new(None);
    let passphrase = || {
        passphrase(context, args, &loaded).map_err(|error| {
            hint.set(error.hint);
            (error.exit, error.message)
        })
    };
    let config = context.config.clone();
    let request =
        StickBackup { device: &args.device, config, sticks, owner, passphrase: &passphrase };
    let notify = Notify::from_env(|name| std::env::var_os(name));
    let mut shown = Shown::new(context, &notify);
    let done = run_backup(&request, &mut |event| shown.show(event));
    shown.end();
    match done {
        Ok(run) => {
            let text = verified(&run);
            notify.status(&text);
            for why in &run.refused {
                context.output.warning(why);
            }
            context.output.result(&format!("{text}\n"), fields(&run));
            Ok(Exit::Success)
        }
        Err((name, StickError::Fresh { hours })) => {
            let name = name.unwrap_or_default();
            let text = format!(
                "{name} already holds a verified backup from {hours} h ago. Nothing to do. Safe to remove."
            );
            notify.status(&text);
            context.output.result(
                &format!("{text}\n"),
                json!({ "stick": name, "verified": true, "hours": hours }),
            );
            Ok(Exit::Success)
        }
        Err((name, error)) => {
            let text = observe::chain(&error);
            let text = name.map_or_else(|| text.clone(), |name| format!("{name}: {text}"));
            notify.status(&text);
            Err(CliError { hint: hint.get(), ..CliError::new(error.exit(), text) })
        }
    }
}

fn passphrase(context: &Context, args: &UsbRun, loaded: &Loaded) -> Result<Secret, CliError> {
    let file = passphrase_file(args, loaded);
    // A file that the command line names must be there.
    if args.passphrase_file.is_none() && matches!(file.try_exists(), Ok(false)) {
        return Err(unset());
    }
    PassphraseFlags::new(&None, &Some(file)).read_new(context)
}

/// Where the passphrase is: as the option says, as systemd has it for the unit, or beside the configuration.
fn passphrase_file(args: &UsbRun, loaded: &Loaded) -> PathBuf {
    if let Some(file) = &args.passphrase_file {
        return file.clone();
    }
    if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        return PathBuf::from(directory).join(PASSPHRASE);
    }
    let beside = loaded.file.as_deref().and_then(|file| file.parent());
    beside.map_or_else(|| PathBuf::from("/etc/chatto"), PathBuf::from).join(PASSPHRASE)
}

/// Progress on the terminal, or for the service manager.
struct Shown<'a> {
    notify: &'a Notify,
    context: &'a Context,
    /// What is shown while the backup is running.
    running: String,
    is_waiting: bool,
    written: Meter,
    verified: Meter,
}

impl<'a> Shown<'a> {
    fn new(context: &'a Context, notify: &'a Notify) -> Self {
        let [written, verified] = ["backed up", "verified"].map(|verb| Meter::new(context, verb));
        Self { notify, context, running: String::new(), is_waiting: false, written, verified }
    }

    fn show(&mut self, event: StickEvent<'_>) {
        match event {
            StickEvent::Began(name) => {
                self.running =
                    format!("Backup to stick {name} is running. Please leave it plugged in.");
                self.notify.status(&self.running);
                self.context.output.note(&self.running);
            }
            StickEvent::Waiting(why) => {
                let text = format!("Waiting. Please leave it plugged in: {why}");
                self.notify.status(&text);
                // Once in the journal.
                if !std::mem::replace(&mut self.is_waiting, true) {
                    self.context.output.note(&text);
                }
            }
            StickEvent::Written(done, total) => {
                if std::mem::take(&mut self.is_waiting) {
                    self.notify.status(&self.running);
                }
                self.written.show(done, total);
            }
            StickEvent::Verified(done, total) => {
                self.written.end();
                self.verified.show(done, total);
            }
        }
    }

    fn end(mut self) {
        self.written.end();
        self.verified.end();
    }
}

fn verified(run: &StickRun) -> String {
    let time = match run.elapsed.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    };
    let clock = match run.is_clock_set {
        true => String::new(),
        false => format!(" Ordered by number {}, because the clock was not set.", run.sequence),
    };
    let keys = if run.keys.is_some() { " with keys" } else { "" };
    format!(
        "Backup{keys} verified: {} in {time}. {} on {}, {} free. Safe to remove.{clock}",
        decimal_size(run.bytes),
        counted(run.backups, ("backup", "backups")),
        run.name,
        decimal_size(run.free_bytes),
    )
}

fn fields(run: &StickRun) -> serde_json::Value {
    json!({
        "stick": run.name,
        "verified": true,
        "archive": run.archive,
        "sequence": run.sequence,
        "bytes": run.bytes,
        "backups": run.backups,
        "free_bytes": run.free_bytes,
        "clock_set": run.is_clock_set,
        "keys": run.keys,
        "removed": run.removed,
        "refused": run.refused,
    })
}
