//! Reads a new password from a flag, a file, the terminal (twice), or standard input.

use std::io::{IsTerminal, Read};
use std::path::Path;

use super::{CliError, Exit};
use crate::limits::PASSWORD_INPUT_MAX_BYTES;
use crate::runtime::limited_read;

/// How many attempts the terminal allows when the two entries differ.
const ATTEMPTS: usize = 3;

/// Asks for the password, or reads it.
pub(super) fn read(flag: Option<&str>, file: Option<&Path>) -> Result<String, CliError> {
    let password = match (flag, file) {
        (Some(_), Some(_)) => {
            return Err(CliError::usage("--password and --password-file cannot be combined"));
        }
        (Some(password), None) => password.to_owned(),
        (None, Some(path)) => {
            let limit = u64::try_from(PASSWORD_INPUT_MAX_BYTES).unwrap_or(u64::MAX);
            let bytes = limited_read(path, limit).map_err(|error| {
                CliError::new(Exit::Io, format!("cannot read {}: {error}", path.display()))
            })?;
            one_line(bytes)?
        }
        (None, None) if std::io::stdin().is_terminal() => return ask(),
        (None, None) => {
            let mut bytes = Vec::new();
            let limit = u64::try_from(PASSWORD_INPUT_MAX_BYTES + 1).unwrap_or(u64::MAX);
            std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(|error| {
                CliError::new(Exit::Io, format!("cannot read standard input: {error}"))
            })?;
            if bytes.is_empty() {
                return Err(CliError::usage(
                    "no password given; pass it on standard input, with --password-file, or type it on a \
                     terminal",
                ));
            }
            one_line(bytes)?
        }
    };
    if password.is_empty() {
        return Err(CliError::usage("the password is empty"));
    }
    Ok(password)
}

/// The text without its final line end.
fn one_line(bytes: Vec<u8>) -> Result<String, CliError> {
    if bytes.len() > PASSWORD_INPUT_MAX_BYTES {
        return Err(CliError::usage("the password is too long"));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| CliError::usage("the password is not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

fn ask() -> Result<String, CliError> {
    let prompt = |text: &str| {
        rpassword::prompt_password(text).map_err(|error| {
            CliError::new(Exit::Io, format!("cannot read from the terminal: {error}"))
        })
    };
    for _ in 0..ATTEMPTS {
        let first = prompt("Password: ")?;
        if first.is_empty() {
            return Err(CliError::usage("the password is empty"));
        }
        if prompt("Again: ")? == first {
            return Ok(first);
        }
        super::output::print_stderr("The passwords differ.");
    }
    Err(CliError::new(Exit::Denied, "the two passwords differed three times"))
}
