//! `usb pair`: makes a stick one that backups are written to.

use std::io::{BufRead, IsTerminal, Read};

use serde_json::json;

use super::{owner, require_root};
use crate::app::usb::{Candidate, LABEL, Pairing, Programs, label, pair};
use crate::cli::args::UsbPair;
use crate::cli::output::print_stderr_raw;
use crate::cli::{CliError, Context, Exit};
use crate::config::{Purpose, Sticks, is_stick_name};
use crate::limits::{ANSWER_MAX_BYTES, STICK_NAME_MAX_CHARACTERS};
use crate::observe::decimal_size;

pub(super) fn run(context: &Context, args: &UsbPair) -> Result<Exit, CliError> {
    require_root("pair")?;
    if args.with_keys && args.without_keys {
        return Err(CliError::usage("--with-keys and --without-keys cannot be combined"));
    }
    let loaded = context.load(Purpose::Local)?;
    let owner = owner(&loaded.settings)?;
    let mut sticks = Sticks::read(loaded.file.as_deref())?;
    context.log_to_terminal();
    let candidate = Candidate::find(&args.device)?;
    describe(context, &candidate);
    if !args.yes
        && !ask_yes(&format!("Pair {} with this server?", candidate.device.path.display()))?
    {
        return Err(CliError::new(Exit::Failed, "nothing was changed"));
    }
    // All questions, and all that can be wrong with the answers, come before anything is changed.
    let name = name(args, &candidate, &sticks)?;
    let with_keys = with_keys(args)?;
    let label = wanted_label(args, &candidate)?;
    let programs = Programs::open(args.binary.as_deref())?;
    // A new label is for udev as if the stick was plugged in, so it must not be a paired one yet.
    let is_labelled = relabel(context, label, &candidate);
    let pairing = Pairing { name, with_keys, programs, owner };
    let stick = pair(&candidate, pairing, &mut sticks)?;
    let device = &candidate.device.path;
    if args.binary.is_none() {
        context.output.note(&format!(
            "the stick holds chatto for {}; --binary adds the one for another kind of machine",
            std::env::consts::ARCH
        ));
    }
    let next = if is_labelled {
        "pull it out and plug it in again: that makes the first backup".to_owned()
    } else {
        format!(
            "it makes no backup by itself; `sudo chatto usb run {}` makes one",
            device.display()
        )
    };
    context.output.result(
        &format!("{} is paired; {next}\n", stick.name),
        json!({
            "name": stick.name,
            "id": stick.id,
            "uuid": stick.uuid,
            "with_keys": stick.with_keys,
            "labelled": is_labelled,
        }),
    );
    Ok(Exit::Success)
}

fn describe(context: &Context, candidate: &Candidate) {
    let device = &candidate.device;
    let label = match device.file_system.label.as_str() {
        "" => "no label".to_owned(),
        label => format!("label {label}"),
    };
    context.output.note(&format!(
        "{}: {}, {}, {label}",
        device.path.display(),
        decimal_size(device.bytes),
        device.file_system.kind.name(),
    ));
    let content = match candidate.content.as_slice() {
        [] => "it is empty".to_owned(),
        names => format!("on it: {}; all of it stays", names.join(", ")),
    };
    context.output.note(&content);
    if candidate.id.is_some() {
        context.output.note("it was paired before and keeps its id");
    }
}

fn name(args: &UsbPair, candidate: &Candidate, sticks: &Sticks) -> Result<String, CliError> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None if args.yes || !std::io::stdin().is_terminal() => {
            return Err(CliError::usage("--name is needed: what to call the stick"));
        }
        None => ask("What shall it be called?")?,
    };
    if !is_stick_name(&name) {
        return Err(CliError::usage(format!(
            "a name must have 1 to {STICK_NAME_MAX_CHARACTERS} characters, no line ends and no space around it"
        )));
    }
    let device = &candidate.device;
    match sticks.named(&name) {
        Some(other)
            if other.uuid != device.file_system.uuid
                && Some(&other.id) != candidate.id.as_ref() =>
        {
            Err(CliError::new(
                Exit::Exists,
                format!(
                    "another stick is called {name}; choose another name, or `chatto usb forget` that one"
                ),
            ))
        }
        _ => Ok(name),
    }
}

/// Asked without a default: whoever finds a stick with both needs only the passphrase.
fn with_keys(args: &UsbPair) -> Result<bool, CliError> {
    if args.with_keys || args.without_keys {
        return Ok(args.with_keys);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("--with-keys or --without-keys is needed"));
    }
    print_stderr_raw(
        "People's keys make messages readable. With them on the stick, it restores everything by itself, and whoever has \
         the stick and the passphrase can read every message. Without them, messages of a restored server stay \
         placeholders until a key export that is kept elsewhere is imported.\n",
    );
    loop {
        match ask("Shall the keys go onto the stick, too? (yes or no)")?.to_lowercase().as_str() {
            "yes" | "y" => return Ok(true),
            "no" | "n" => return Ok(false),
            _ => {}
        }
    }
}

/// What is to happen with the label of the stick.
#[derive(Clone, Copy)]
enum Label {
    /// It is the one with which plugging in starts a backup, or is to stay another one.
    Stays {
        is_ours: bool,
    },
    Changes,
}

/// Offers the label that makes plugging in start a backup.
fn wanted_label(args: &UsbPair, candidate: &Candidate) -> Result<Label, CliError> {
    if candidate.device.file_system.label == LABEL {
        return Ok(Label::Stays { is_ours: true });
    }
    let question =
        format!("Plugging it in starts a backup only if its label is {LABEL}. Change the label?");
    match args.yes || ask_yes(&question)? {
        true => Ok(Label::Changes),
        false => Ok(Label::Stays { is_ours: false }),
    }
}

/// Changes the label if that is wanted; returns whether it is ours.
fn relabel(context: &Context, wanted: Label, candidate: &Candidate) -> bool {
    let changed = match wanted {
        Label::Stays { is_ours } => return is_ours,
        Label::Changes => label(&candidate.device),
    };
    if let Err(why) = &changed {
        context.output.warning(&format!("the label was not changed: {why}"));
    }
    changed.is_ok()
}

fn ask_yes(question: &str) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("there is no terminal to ask on; add --yes"));
    }
    let answer = ask(&format!("{question} (yes or no)"))?.to_lowercase();
    Ok(matches!(answer.as_str(), "yes" | "y"))
}

/// Asks on the terminal.
fn ask(question: &str) -> Result<String, CliError> {
    print_stderr_raw(&format!("{question} "));
    let mut answer = String::new();
    let limit = u64::try_from(ANSWER_MAX_BYTES).unwrap_or(u64::MAX);
    let read = std::io::stdin().lock().take(limit).read_line(&mut answer);
    match read {
        Ok(0) => Err(CliError::new(Exit::Failed, "nothing was changed")),
        Ok(_) => Ok(answer.trim().to_owned()),
        Err(error) => Err(CliError::new(Exit::Io, format!("cannot read the answer: {error}"))),
    }
}
