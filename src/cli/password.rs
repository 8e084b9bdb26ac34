//! A new password of an account.

use std::path::Path;

use super::CliError;
use super::secret_text::{Entries, SecretText};

/// Asks for the password, or reads it.
pub(super) fn read(flag: Option<&str>, file: Option<&Path>) -> Result<String, CliError> {
    let (name, entries) = ("password", Entries::Twice);
    let password = SecretText { name, option: name, of: None, flag, file, entries };
    password.read().map(|password| password.to_string())
}
