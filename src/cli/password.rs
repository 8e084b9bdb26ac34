//! A new password of an account.

use std::path::Path;

use super::CliError;
use super::secret_text::{Entries, SecretText};

/// Asks for the password, or reads it.
pub(super) fn read(flag: Option<&str>, file: Option<&Path>) -> Result<String, CliError> {
    let password = SecretText { name: "password", flag, file, entries: Entries::Twice };
    password.read().map(|password| password.to_string())
}
