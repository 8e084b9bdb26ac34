//! The command line: one file per command, exit codes, and everything that is printed.
//!
//! Results go to standard output, everything else to standard error. No other module prints.

mod args;
mod argv;
mod assets;
mod backup;
mod check_config;
mod completions;
mod doctor;
mod help;
mod init;
mod invite;
mod keys;
mod local;
#[cfg(test)]
mod manual;
mod output;
mod passphrase;
mod password;
mod progress;
mod restore;
mod secret_text;
mod setup_link;
mod start;
mod status;
mod tree;
mod usb;
mod user;
mod version;
mod wget;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use argh::FromArgs;

use args::{Chatto, Command};
use argv::{Invocation, WrongUsage};
use output::Output;
use progress::ProgressStyle;

use crate::app;
use crate::config::{Faults, Inputs, Loaded, Purpose, load};
use crate::limits::OUTPUT_FLUSH_TIMEOUT;
use crate::media::image;
use crate::observe;
pub use crate::operator::Exit;

/// Why a command failed, for the person at the terminal.
#[derive(Debug)]
struct CliError {
    exit: Exit,
    /// One or more lines.
    message: String,
    /// What to do about it at a terminal, with commands. Who reads the message elsewhere does not get it.
    hint: Option<&'static str>,
    /// Each line is an error of its own.
    is_list: bool,
}

impl CliError {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, is_list: false }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<Faults> for CliError {
    fn from(faults: Faults) -> Self {
        let lines: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        Self { is_list: true, ..Self::new(Exit::Config, lines.join("\n")) }
    }
}

/// What every command receives.
struct Context {
    config: Option<PathBuf>,
    output: Output,
    progress: ProgressStyle,
}

impl Context {
    /// Lets the program's own log go to the terminal, for commands that work on the store: what a person must know.
    fn log_to_terminal(&self) {
        let level = if self.output.quiet { observe::Level::Error } else { observe::Level::Warn };
        observe::init(observe::Format::Text, level);
    }

    /// Reads the configuration; warnings are printed.
    fn load(&self, purpose: Purpose) -> Result<Loaded, CliError> {
        let loaded = load(&Inputs::of_process(self.config.clone()), purpose)?;
        for warning in &loaded.warnings {
            self.output.warning(&warning.to_string());
        }
        Ok(loaded)
    }
}

/// Runs the command that the arguments name; the first argument is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let is_wget = args.next().is_some_and(|program| wget::is_meant(&program));
    if is_wget {
        return ExitCode::from(wget::run(args).code());
    }
    let mut args = args.peekable();
    if args.next_if(|word| word == image::WORKER_ARGUMENT).is_some() {
        return image::run_worker(args);
    }
    if args.next_if(|word| word == app::usb::WORKER_ARGUMENT).is_some() {
        return app::usb::run_worker();
    }
    let words: Vec<OsString> = args.collect();
    // The words are wrong, so the parser does not say whether this one is among them.
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let exit = match parse(words.into_iter()) {
        Ok(chatto) => execute(chatto),
        Err(ParseEnd::Printed(exit)) => exit,
        Err(ParseEnd::Usage(WrongUsage { message, command })) => {
            let error = CliError::usage(message);
            Output { json, quiet: false }.error(&error);
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            output::print_stderr(&format!(
                "Try `{} --help`.",
                [&["chatto"], &*words].concat().join(" ")
            ));
            error.exit
        }
    };
    observe::flush(OUTPUT_FLUSH_TIMEOUT);
    ExitCode::from(exit.code())
}

/// Why parsing returned no command.
enum ParseEnd {
    /// Help was printed.
    Printed(Exit),
    Usage(WrongUsage),
}

fn parse(words: impl Iterator<Item = OsString>) -> Result<Chatto, ParseEnd> {
    match argv::rewrite(words).map_err(ParseEnd::Usage)? {
        Invocation::Empty => {
            output::print_stderr(help::short().trim_end());
            Err(ParseEnd::Printed(Exit::Usage))
        }
        Invocation::Help(path) => {
            output::print_stdout(&help::of(&path));
            Err(ParseEnd::Printed(Exit::Success))
        }
        Invocation::Run { words, command } => {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            Chatto::from_args(&["chatto"], &words).map_err(|early| {
                let message = early.output.split_whitespace().collect::<Vec<_>>().join(" ");
                ParseEnd::Usage(WrongUsage { message, command })
            })
        }
    }
}

fn execute(chatto: Chatto) -> Exit {
    let output = Output { json: chatto.json, quiet: chatto.quiet };
    let is_plain = chatto.no_color || std::env::var_os("NO_COLOR").is_some();
    let progress = ProgressStyle::of(chatto.progress, chatto.quiet, is_plain);
    let context = Context { config: chatto.config, output, progress };
    let done = match chatto.command {
        Command::Init(args) => init::run(&context, &args),
        Command::CheckConfig(_) => check_config::run(&context),
        Command::Version(_) => version::run(&context),
        Command::Completions(args) => completions::run(&args),
        Command::Start(_) => start::run(&context),
        Command::Status(args) => status::run(&context, &args),
        Command::Doctor(args) => doctor::run(&context, &args),
        Command::SetupLink(_) => setup_link::run(&context),
        Command::Invite(args) => invite::run(&context, &args.command),
        Command::User(args) => user::run(&context, &args.command),
        Command::Assets(args) => assets::run(&context, &args.command),
        Command::Backup(args) => backup::run(&context, &args),
        Command::Restore(args) => restore::run(&context, &args),
        Command::Keys(args) => keys::run(&context, &args.command),
        Command::Usb(args) => usb::run(&context, &args.command),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            context.output.error(&error);
            error.exit
        }
    }
}
