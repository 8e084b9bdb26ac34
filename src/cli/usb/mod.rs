//! `usb`: backups on paired memory sticks.

mod list;
mod pair;
mod run;

use std::os::unix::fs::MetadataExt;

use super::args::UsbCommand;
use super::{CliError, Context, Exit};
use crate::app::usb::StickError;
use crate::config::{Settings, SticksError};
use crate::observe;

pub(super) fn run(context: &Context, command: &UsbCommand) -> Result<Exit, CliError> {
    match command {
        UsbCommand::Pair(args) => pair::run(context, args),
        UsbCommand::List(_) => list::run(context),
        UsbCommand::Unpair(args) => list::unpair(context, args),
        UsbCommand::Run(args) => run::run(context, args),
    }
}

/// Mounting needs root.
fn require_root(command: &str) -> Result<(), CliError> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(CliError::new(
            Exit::Denied,
            format!("only root can mount a stick: sudo chatto usb {command} …"),
        )),
    }
}

/// User and group of the service: those of the data directory.
fn owner(settings: &Settings) -> Result<(u32, u32), CliError> {
    match settings.data_dir.metadata() {
        Ok(about) => Ok((about.uid(), about.gid())),
        Err(error) => Err(CliError::new(
            Exit::Config,
            format!(
                "the data directory {} cannot be used ({error}); start the server once",
                settings.data_dir.display()
            ),
        )),
    }
}

impl From<StickError> for CliError {
    fn from(error: StickError) -> Self {
        Self::new(error.exit(), observe::chain(&error))
    }
}

impl From<SticksError> for CliError {
    fn from(error: SticksError) -> Self {
        StickError::from(error).into()
    }
}
