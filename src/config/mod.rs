//! Configuration: one reference table from which parsing, environment names, `check-config`, the
//! sample file and the reference page are derived; the file, the environment and generated secrets.
//!
//! It knows the values, but not what the parts of the program do with them, and it never prints.

mod collect;
mod environment;
mod fault;
mod file;
mod keys;
#[cfg(test)]
mod manual;
mod nearest;
mod read;
mod reference;
mod resolve;
mod rules;
mod secrets;
mod settings;
mod sticks;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

pub use environment::{BOOT_ID_VARIABLE, process_variables, working_directory};
pub use fault::{Fault, Faults, Location, Warning};
pub use keys::KEYS;
pub use nearest::nearest;
pub use reference::{reference_page, sample_file};
pub use resolve::{Effective, Source};
pub use secrets::{
    CompleteError, complete as complete_secrets, complete_of_import as complete_secrets_of_import,
};
pub use settings::{
    Assets, AuthSettings, BackupSettings, Core, Embedded, General, NatsClient, Settings, Webserver,
};
#[cfg(feature = "test-support")]
pub use settings::{Bootstrap, BootstrapUser};
pub use sticks::{Stick, Sticks, SticksError, is_stick_id, is_stick_name};
pub use table::{Default, Key, Kind, Stage};

use crate::limits::CONFIG_FILE_MAX_BYTES;
use crate::runtime::limited_read;

/// What a command needs the configuration for; it decides which missing keys are faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Start,
    /// To look at it; nothing is changed.
    Check,
    /// To look at it with whatever rights there are: nothing is changed, and `secrets.toml` need not be readable.
    Examine,
    /// To reach the store or the running server on this machine.
    Local,
}

/// Where the configuration is looked for.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// `-c FILE`.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    pub working_dir: PathBuf,
    /// The file of the system, `/etc/chatto/chatto.toml`.
    pub system_file: PathBuf,
}

impl Inputs {
    /// The process's own.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        Self {
            file,
            variables: process_variables(),
            working_dir: working_directory(),
            system_file: PathBuf::from("/etc/chatto/chatto.toml"),
        }
    }

    /// The file to read, as faults name it.
    fn chosen(&self) -> Option<PathBuf> {
        if let Some(file) = &self.file {
            return Some(file.clone());
        }
        let local = PathBuf::from("chatto.toml");
        if self.working_dir.join(&local).exists() {
            return Some(local);
        }
        self.system_file.exists().then(|| self.system_file.clone())
    }
}

/// An accepted configuration.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// What is accepted with a remark.
    pub warnings: Vec<Warning>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    pub effective: Vec<Effective>,
}

/// A configuration with everything that is wrong with it.
#[derive(Debug)]
pub struct Examined {
    /// Values with a fault are the defaults. `None`: the file could not be read, so nothing is known.
    pub settings: Option<Settings>,
    pub faults: Vec<Fault>,
    /// What is accepted with a remark.
    pub warnings: Vec<Warning>,
    /// The file that was read.
    pub file: Option<PathBuf>,
    pub effective: Vec<Effective>,
}

/// Reads and checks the whole configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(inputs: &Inputs, purpose: Purpose) -> Result<Loaded, Faults> {
    let Examined { settings, faults, warnings, file, effective } = examine(inputs, purpose);
    match settings {
        Some(settings) if faults.is_empty() => Ok(Loaded { settings, warnings, file, effective }),
        _ => Err(Faults(faults)),
    }
}

/// Reads the whole configuration, and as much of its values as possible if something is wrong with it.
#[must_use]
pub fn examine(inputs: &Inputs, purpose: Purpose) -> Examined {
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    let chosen = inputs.chosen();
    let base = base_directory(chosen.as_deref(), &inputs.working_dir);

    let mut from_file = match &chosen {
        Some(file) => read_file(file, &inputs.working_dir).unwrap_or_else(|fault| {
            faults.push(fault);
            collect::Collected::default()
        }),
        None => collect::Collected::default(),
    };
    // Only a file that is not TOML has faults with a column.
    let is_toml = |fault: &Fault| !matches!(fault.location, Location::Column { .. });
    let is_file_read = faults.is_empty() && from_file.faults.iter().all(is_toml);
    let mut from_environment = environment::collect(&inputs.variables, &base);
    for source in [&mut from_file, &mut from_environment] {
        faults.append(&mut source.faults);
        warnings.append(&mut source.warnings);
    }

    let mut values = resolve::Resolved::new(base, inputs.working_dir.clone());
    values.overlay(&from_file);
    values.overlay(&from_environment);
    // Rules over a file that could not be read would blame what is only unread.
    if faults.is_empty() || from_file.values.len() + from_environment.values.len() > 0 {
        if values.flag("nats.embedded.enabled") {
            let data_dir = values.path("nats.embedded.data_dir").unwrap_or_default();
            let mut read = secrets::read(&data_dir, purpose);
            faults.append(&mut read.faults);
            warnings.append(&mut read.warnings);
            values.underlay_secrets(read.values);
        }
        let mut findings = rules::check(&values, purpose);
        // A key whose value is wrong is not missing besides.
        findings.faults.retain(|found| faults.iter().all(|fault| fault.key != found.key));
        faults.append(&mut findings.faults);
        warnings.append(&mut findings.warnings);
    }
    let settings = Settings::from_resolved(&values);
    faults.append(&mut values.defects());
    let effective = values.effective();
    let settings = is_file_read.then_some(settings);
    Examined { settings, faults, warnings, file: chosen, effective }
}

/// Where relative paths start: the directory of the file, else the working directory.
fn base_directory(file: Option<&Path>, working_dir: &Path) -> PathBuf {
    let parent = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let base = working_dir.join(parent);
    base.components().filter(|part| *part != std::path::Component::CurDir).collect()
}

fn read_file(file: &Path, working_dir: &Path) -> Result<collect::Collected, Fault> {
    let bytes = limited_read(&working_dir.join(file), CONFIG_FILE_MAX_BYTES).map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "no such file".to_owned(),
            io::ErrorKind::FileTooLarge => {
                format!("is larger than {CONFIG_FILE_MAX_BYTES} bytes: not a configuration file")
            }
            _ => return Fault::unreadable(file.to_owned(), &error),
        };
        Fault::new(Location::File(file.to_owned()), "", reason)
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Fault::new(Location::File(file.to_owned()), "", "is not UTF-8 text"))?;
    Ok(file::collect(file, &text))
}
