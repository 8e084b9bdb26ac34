//! `start`: the server.

use std::io::IsTerminal;
use std::sync::Arc;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::Value;

use super::output::{print_stderr, print_stdout};
use super::{CliError, Context, Exit};
use crate::app::{self, Events};
use crate::config::{Inputs, Loaded, Purpose, load};
use crate::observe::{self, Format};

pub(super) fn run(context: &Context) -> Result<Exit, CliError> {
    let loaded = load(&Inputs::of_process(context.config.clone()), Purpose::Start)?;
    let general = &loaded.settings.general;
    let format = Format::from_name(&general.log_format);
    observe::init(format, general.log_level);
    observe::write_in_background();
    log_configuration(&loaded);
    let terminal_events =
        TerminalEvents { terminal: std::io::stdout().is_terminal(), quiet: context.output.quiet };
    match app::run(loaded, Arc::new(terminal_events)) {
        Ok(()) => Ok(Exit::Success),
        // A person gets plain text, a log collector its own format.
        Err(error) if format == Format::Text => Err(error.into()),
        Err(error) => {
            log::error!(error:err = error; "the server failed");
            Ok(error.exit())
        }
    }
}

/// Logs the configuration's file and warnings, once logging works.
fn log_configuration(loaded: &Loaded) {
    let version = env!("CARGO_PKG_VERSION");
    match &loaded.file {
        Some(file) => log::info!(version, file:% = file.display(); "starting chatto"),
        None => log::info!(version; "starting chatto without a configuration file"),
    }
    for warning in &loaded.warnings {
        let place = warning.location.to_string();
        let place = place.trim_end_matches([':', ' ']);
        log::warn!(key = warning.key.as_str(), place; "{}", warning.text);
    }
}

/// Standard output, which may be a terminal.
struct TerminalEvents {
    terminal: bool,
    quiet: bool,
}

impl Events for TerminalEvents {
    /// Anything but a terminal (a journal, a container's log, a file) keeps its input, and others may
    /// read it.
    fn shows_links(&self) -> bool {
        self.terminal
    }

    fn ready(&self, origin: &str, setup: Option<&Value>) {
        let url = setup.and_then(|link| link.get("url")).and_then(Value::as_str);
        let Some(url) = url else {
            if self.terminal && !self.quiet {
                print_stderr(&format!("Chatto is ready at {origin}"));
            }
            return;
        };
        let code = QrCode::new(url).map(|code| code.render::<Dense1x2>().build());
        print_stdout(&format!(
            "\n{}\nChatto is ready. Create the owner's account within 30 minutes at\n\n  {url}\n\n\
             `chatto setup-link` prints a new link.\n\n",
            code.unwrap_or_default()
        ));
    }
}
