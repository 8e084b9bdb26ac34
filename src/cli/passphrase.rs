//! The passphrase of an encrypted file.

use std::path::{Path, PathBuf};

use super::secret_text::{Entries, SecretText};
use super::{CliError, Context, Exit};
use crate::crypto::Secret;
use crate::limits::{PASSPHRASE_STRONG_CHARACTERS, PASSPHRASE_STRONG_DIFFERENT};

/// What the units have in the place of a passphrase that does not exist (`SetCredential=` in systemd/chatto-backup.service).
const UNSET: &str = "!unset";

const NONE_YET: &str = "there is no passphrase for backups yet, so nothing was backed up";

const HOW_TO_SET: &str = "Create one:

    sudo sh -c 'umask 077; head -c 18 /dev/urandom | base64 > /etc/chatto/backup-passphrase'
    sudo cat /etc/chatto/backup-passphrase
    sudo systemctl enable --now chatto-backup.timer

Keep a copy of it away from this machine: without it no backup can be restored";

/// What the command line says about the passphrase.
#[derive(Clone, Copy)]
pub(super) struct PassphraseFlags<'a> {
    /// `--passphrase`
    pub(super) text: Option<&'a str>,
    /// `--passphrase-file`
    pub(super) file: Option<&'a Path>,
    /// What the names of both options begin with.
    pub(super) option: &'a str,
}

impl<'a> PassphraseFlags<'a> {
    /// The two options of a command.
    pub(super) fn new(text: &'a Option<String>, file: &'a Option<PathBuf>) -> Self {
        Self { text: text.as_deref(), file: file.as_deref(), option: "passphrase" }
    }

    /// Whether one of them was given.
    pub(super) fn is_given(self) -> bool {
        self.text.is_some() || self.file.is_some()
    }

    /// The passphrase of an existing file, which the prompt names.
    pub(super) fn read(self, context: &Context, of: &Path) -> Result<Secret, CliError> {
        self.ask(context, Entries::Once, Some(of))
    }

    /// The passphrase of a new file; a weak one causes a warning.
    pub(super) fn read_new(self, context: &Context) -> Result<Secret, CliError> {
        let passphrase = self.ask(context, Entries::Twice, None)?;
        if is_weak(&passphrase.to_text()) {
            context.output.warning(
                "the passphrase is weak: whoever gets the file can try many quickly; use at least 12 characters, better \
                 several words",
            );
        }
        Ok(passphrase)
    }

    fn ask(
        self,
        context: &Context,
        entries: Entries,
        of: Option<&Path>,
    ) -> Result<Secret, CliError> {
        let Self { text, file, option } = self;
        let read =
            SecretText { name: "passphrase", option, of, flag: text, file, entries }.read()?;
        if text.is_some() {
            context.output.warning(
                "--passphrase is visible in the list of processes; --passphrase-file and standard input are not",
            );
        }
        if file.is_some() && *read == UNSET {
            return Err(unset());
        }
        Ok(Secret::new(read.as_bytes().to_vec()))
    }
}

/// There is no passphrase yet.
pub(super) fn unset() -> CliError {
    CliError { hint: Some(HOW_TO_SET), ..CliError::new(Exit::Config, NONE_YET) }
}

/// Too short, or too few different characters. Words are not looked up.
fn is_weak(passphrase: &str) -> bool {
    let mut different: Vec<char> = passphrase.chars().collect();
    let length = different.len();
    different.sort_unstable();
    different.dedup();
    length < PASSPHRASE_STRONG_CHARACTERS || different.len() < PASSPHRASE_STRONG_DIFFERENT
}

#[cfg(test)]
mod tests {
    use super::is_weak;

    #[test]
    fn short_and_monotonous_passphrases_are_weak() {
        for weak in ["x", "elevenchars", "aaaaaaaaaaaaaaaaaaaa", "abababababababab", "ääääääääääää"]
        {
            assert!(is_weak(weak), "{weak}");
        }
        for strong in ["correct horse", "k3Y-b4cKup-x", "äöüßéèêëàâôû"] {
            assert!(!is_weak(strong), "{strong}");
        }
    }
}
