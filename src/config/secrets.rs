//! `<data_dir>/secrets.toml`: secrets generated for an embedded server. Written once, never replaced
//! by other values, readable by this account only.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::collect::Stated;
use super::fault::{Fault, Location, Warning};
use super::rules::GENERATED;
use super::settings::Settings;
use super::value::Value;
use super::{Purpose, file};
use crate::crypto::{Secret, token_text};
use crate::limits::{CONFIG_FILE_MAX_BYTES, SECRET_MIN_BYTES};
use crate::runtime::{limited_read, write_durably};

const NAME: &str = "secrets.toml";
/// Read and write for the owner only.
const MODE: u32 = 0o600;

/// The result of reading the file.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) values: BTreeMap<String, Stated>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Warning>,
}

/// Reads the file, if there is one. A command that only talks to a running server need not have the
/// right to read it.
pub(super) fn read(data_dir: &Path, purpose: Purpose) -> Read {
    let path = data_dir.join(NAME);
    let mut read = Read::default();
    let bytes = match limited_read(&path, CONFIG_FILE_MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return read,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return read,
        Err(error) => {
            let unimportant = matches!(purpose, Purpose::Local | Purpose::Examine)
                && error.kind() == io::ErrorKind::PermissionDenied;
            if !unimportant {
                read.faults.push(Fault::unreadable(path, &error));
            }
            return read;
        }
    };
    tighten(&path, purpose, &mut read);
    match parse(&path, &bytes) {
        Ok(values) => read.values = values,
        Err(detail) => {
            let reason = format!(
                "is damaged ({detail}) and will not be replaced: restore it from your copy, or set its \
                 values in the configuration"
            );
            read.faults.push(Fault::new(Location::File(path), "", reason));
        }
    }
    read
}

/// The values, which may only be of the three known keys.
fn parse(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Stated>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
    let collected = file::collect(path, text);
    if let Some(fault) = collected.faults.first() {
        let reason = Fault { location: Location::Nowhere, ..fault.clone() };
        return Err(reason.to_string());
    }
    if collected.values.is_empty() {
        return Err("empty".to_owned());
    }
    for (name, stated) in &collected.values {
        match &stated.value {
            Value::Secret(secret) if GENERATED.contains(&name.as_str()) => {
                if secret.expose().len() < SECRET_MIN_BYTES {
                    return Err(format!("{name} is too short"));
                }
            }
            _ => return Err(format!("{name} does not belong here")),
        }
    }
    Ok(collected.values)
}

/// Removes the permissions of others, unless the command must not change anything.
fn tighten(path: &Path, purpose: Purpose, read: &mut Read) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if metadata.permissions().mode() & 0o077 == 0 {
        return;
    }
    let location = Location::File(path.to_owned());
    if matches!(purpose, Purpose::Check | Purpose::Examine) {
        let text = "can be read by other accounts; `chatto start` will tighten it to 0600";
        read.warnings.push(Warning::new(location, "", text));
        return;
    }
    match std::fs::set_permissions(path, Permissions::from_mode(MODE)) {
        Ok(()) => {
            let text = "could be read by other accounts and was tightened to 0600; if somebody else uses \
                        this machine, consider the secrets compromised";
            read.warnings.push(Warning::new(location, "", text));
        }
        Err(error) => {
            let reason = format!("can be read by other accounts and cannot be tightened: {error}");
            read.faults.push(Fault::new(location, "", reason));
        }
    }
}

/// Why missing secrets could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    #[error(
        "core.secret_key is missing, but the store in {} was created with one. Restore the former \
         secrets.toml or value; a new key could not decrypt the messages. If it is lost, `chatto keys import FILE \
         --new-secret` makes the keys of an export readable with a new one",
        .data_dir.display()
    )]
    KeyOfStoreMissing { data_dir: PathBuf },
    #[error("cannot write {}. Check the permissions and the free space of its directory", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Creates the secrets that no source sets, and stores them durably in `secrets.toml`. Call it with the
/// data directory locked. Returns the names of the keys that were created.
///
/// # Errors
/// [`CompleteError`]; nothing was created then.
pub fn complete(settings: &mut Settings) -> Result<Vec<&'static str>, CompleteError> {
    complete_for(settings, StoreKey::OfTheStore)
}

/// As [`complete`], for a command that has found out that a store of the data directory may have a new
/// `core.secret_key`.
///
/// # Errors
/// [`CompleteError`]; nothing was created then.
pub fn complete_of_import(settings: &mut Settings) -> Result<Vec<&'static str>, CompleteError> {
    complete_for(settings, StoreKey::MayBeNew)
}

/// What an existing store needs as `core.secret_key`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreKey {
    OfTheStore,
    MayBeNew,
}

fn complete_for(
    settings: &mut Settings,
    store_key: StoreKey,
) -> Result<Vec<&'static str>, CompleteError> {
    let path = settings.data_dir.join(NAME);
    let mut created = Vec::new();
    let initialised =
        store_key == StoreKey::OfTheStore && settings.data_dir.join("initialised").exists();
    for name in GENERATED {
        let slot = slot(settings, name);
        if slot.is_none() {
            *slot = Some(Secret::from(token_text()));
            created.push(name);
        }
    }
    if created.is_empty() {
        return Ok(created);
    }
    if initialised && created.contains(&"core.secret_key") {
        for name in created {
            *slot(settings, name) = None;
        }
        return Err(CompleteError::KeyOfStoreMissing { data_dir: settings.data_dir.clone() });
    }
    // Keys that the file already contains stay in it, even if another source overrides them.
    let mut kept = match limited_read(&path, CONFIG_FILE_MAX_BYTES) {
        Ok(bytes) => parse(&path, &bytes).unwrap_or_default(),
        Err(_) => BTreeMap::new(),
    };
    let mut lines = vec![
        "# Created by chatto at its first start. Keep a copy in a safe place: without".to_owned(),
        "# core.secret_key and without an export of the keys, messages cannot be read.".to_owned(),
    ];
    for name in GENERATED {
        let former = kept.remove(name).map(|stated| stated.value);
        let secret = match former {
            Some(Value::Secret(secret)) => Some(secret),
            _ if created.contains(&name) => slot(settings, name).clone(),
            _ => None,
        };
        if let Some(secret) = secret {
            let text = String::from_utf8_lossy(secret.expose()).into_owned();
            // A JSON string is a TOML basic string.
            lines.push(format!("{name} = {}", serde_json::Value::String(text)));
        }
    }
    let text = format!("{}\n", lines.join("\n"));
    match write_durably(&path, text.as_bytes(), MODE) {
        Ok(()) => Ok(created),
        Err(source) => {
            for name in created {
                *slot(settings, name) = None;
            }
            Err(CompleteError::Write { path, source })
        }
    }
}

fn slot<'a>(settings: &'a mut Settings, name: &str) -> &'a mut Option<Secret> {
    match name {
        "webserver.cookie_signing_secret" => &mut settings.webserver.cookie_signing_secret,
        "core.assets.signing_secret" => &mut settings.assets.signing_secret,
        _ => &mut settings.core.secret_key,
    }
}
