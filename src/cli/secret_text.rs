//! Reads a password or passphrase from a flag, a file, the terminal, or standard input.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::output::printable;
use super::{CliError, Exit};
use crate::app::io_exit;
use crate::limits::{PASSWORD_INPUT_MAX_BYTES, PASSWORD_INPUT_TIMEOUT};
use crate::runtime::limited_read;

/// How many attempts the terminal allows when the two entries differ.
const ATTEMPTS: usize = 3;

/// A secret text that a command needs, and where the command line says it comes from.
pub(super) struct SecretText<'a> {
    /// As in messages.
    pub(super) name: &'a str,
    /// The name of the option for the text itself; the one for a file has `-file` at its end.
    pub(super) option: &'a str,
    /// The existing file that it opens, for the prompt.
    pub(super) of: Option<&'a Path>,
    /// The value of the option for the text itself.
    pub(super) flag: Option<&'a str>,
    /// The value of the option for a file.
    pub(super) file: Option<&'a Path>,
    pub(super) entries: Entries,
}

/// How often the terminal asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    Once,
    /// For a new secret.
    Twice,
}

impl SecretText<'_> {
    /// The text without its final line end.
    pub(super) fn read(&self) -> Result<Zeroizing<String>, CliError> {
        self.read_within(PASSWORD_INPUT_TIMEOUT)
    }

    /// `limit`: for a file, for standard input, and for each entry at a terminal.
    fn read_within(&self, limit: Duration) -> Result<Zeroizing<String>, CliError> {
        let text = match (self.flag, self.file) {
            (Some(_), Some(_)) => {
                let option = self.option;
                let message = format!("--{option} and --{option}-file cannot be combined");
                return Err(CliError::usage(message));
            }
            (Some(text), None) => self.checked(Zeroizing::new(text.as_bytes().to_vec()))?,
            (None, Some(path)) => {
                let max = u64::try_from(PASSWORD_INPUT_MAX_BYTES).unwrap_or(u64::MAX);
                // It may be a pipe that nobody fills.
                let file = path.to_owned();
                let read = self.in_time(limit, move || limited_read(&file, max));
                let bytes = read?.map_err(|error| {
                    let text = format!("cannot read {}: {error}", path.display());
                    CliError::new(io_exit(&error), text)
                })?;
                self.checked(Zeroizing::new(one_line(bytes)))?
            }
            (None, None) if std::io::stdin().is_terminal() => return self.ask(limit),
            (None, None) => self.checked(self.input(std::io::stdin(), limit)?)?,
        };
        self.not_empty(text)
    }

    /// All of an input, which is standard input, without its final line end.
    fn input(
        &self,
        input: impl Read + Send + 'static,
        limit: Duration,
    ) -> Result<Zeroizing<Vec<u8>>, CliError> {
        let max = u64::try_from(PASSWORD_INPUT_MAX_BYTES + 1).unwrap_or(u64::MAX);
        let read = move || {
            let mut bytes = Vec::new();
            input.take(max).read_to_end(&mut bytes).map(|_| bytes)
        };
        let bytes = self.in_time(limit, read)?.map_err(|error| {
            CliError::new(io_exit(&error), format!("cannot read standard input: {error}"))
        })?;
        if bytes.is_empty() {
            return Err(CliError::usage(format!(
                "no {} given; pass it on standard input, with --{}-file, or type it on a terminal",
                self.name, self.option
            )));
        }
        if bytes.len() > PASSWORD_INPUT_MAX_BYTES {
            return Err(self.too_long());
        }
        Ok(Zeroizing::new(one_line(bytes)))
    }

    /// Asks at the terminal; `limit` is the time for each entry.
    fn ask(&self, limit: Duration) -> Result<Zeroizing<String>, CliError> {
        // Before the prompt is shown: what is typed right then is not shown either.
        let _hidden = HiddenInput::begin();
        let (first, rest) = self.name.split_at_checked(1).unwrap_or_default();
        let of = self.of.map(|path| format!(" of {}", printable(&path.display().to_string())));
        let prompt = format!("{}{rest}{}: ", first.to_uppercase(), of.unwrap_or_default());
        for _ in 0..ATTEMPTS {
            let entered = self.prompt(prompt.clone(), limit)?;
            let entered = self.checked(Zeroizing::new(entered.into_bytes()))?;
            let entered = self.not_empty(entered)?;
            if self.entries == Entries::Once
                || self.prompt("Again: ".to_owned(), limit)? == *entered
            {
                return Ok(entered);
            }
            super::output::print_stderr(&format!("The {}s differ.", self.name));
        }
        Err(CliError::new(Exit::Denied, format!("the two {}s differed three times", self.name)))
    }

    fn prompt(&self, text: String, limit: Duration) -> Result<String, CliError> {
        let read = self.in_time(limit, move || rpassword::prompt_password(text))?;
        read.map_err(|error| {
            CliError::new(io_exit(&error), format!("cannot read from the terminal: {error}"))
        })
    }

    /// Waits for a read that cannot be cancelled. When its time is over, it stays behind in its thread: the command
    /// ends.
    fn in_time<T: Send + 'static>(
        &self,
        limit: Duration,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CliError> {
        let (tx, rx) = mpsc::sync_channel(1);
        thread::spawn(move || tx.send(read()));
        rx.recv_timeout(limit).map_err(|_| {
            let seconds = limit.as_secs();
            CliError::usage(format!("no {} arrived within {seconds} seconds", self.name))
        })
    }

    fn checked(&self, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, CliError> {
        if bytes.len() > PASSWORD_INPUT_MAX_BYTES {
            return Err(self.too_long());
        }
        let text = std::str::from_utf8(&bytes);
        let text =
            text.map_err(|_| CliError::usage(format!("the {} is not UTF-8 text", self.name)))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn not_empty(&self, text: Zeroizing<String>) -> Result<Zeroizing<String>, CliError> {
        if text.is_empty() {
            return Err(CliError::usage(format!("the {} is empty", self.name)));
        }
        Ok(text)
    }

    fn too_long(&self) -> CliError {
        CliError::usage(format!("the {} is too long", self.name))
    }
}

/// The terminal of standard input without echo. Dropped, it has its former settings again, whatever a read that was
/// abandoned has changed.
struct HiddenInput {
    former: Option<Termios>,
}

impl HiddenInput {
    fn begin() -> Self {
        let former = tcgetattr(std::io::stdin()).ok();
        if let Some(former) = &former {
            let mut hidden = former.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            set_terminal(&hidden);
        }
        Self { former }
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        self.former.iter().for_each(set_terminal);
    }
}

fn set_terminal(settings: &Termios) {
    if let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Now, settings) {
        log::debug!(error:err = error; "the terminal's settings cannot be changed");
    }
}

/// The bytes without one final line end.
fn one_line(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const PASSPHRASE: SecretText<'_> = SecretText {
        name: "passphrase",
        option: "passphrase",
        of: None,
        flag: None,
        file: None,
        entries: Entries::Once,
    };

    fn of_file(bytes: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let secret = SecretText { file: Some(file.path()), ..PASSPHRASE };
        secret.read().map(|text| text.to_string()).map_err(|error| error.message)
    }

    #[test]
    fn exactly_one_line_end_is_removed() {
        for (bytes, text) in [
            (b"open sesame".as_slice(), "open sesame"),
            (b"open sesame\n", "open sesame"),
            (b"open sesame\r\n", "open sesame"),
            (b"open sesame\n\n", "open sesame\n"),
            (b"open sesame\r\r\n", "open sesame\r"),
            (b" open\nsesame \r", " open\nsesame \r"),
        ] {
            assert_eq!(of_file(bytes).unwrap(), text, "{bytes:?}");
        }
    }

    #[test]
    fn a_pipe_that_stays_open_is_waited_for_only_until_the_limit() {
        let limit = Duration::from_millis(10);
        let late = "no passphrase arrived within 0 seconds";
        // As standard input: a part of it came, and its other end stays open.
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"open ses").unwrap();
        let error = PASSPHRASE.input(reader, limit).unwrap_err();
        assert_eq!((error.exit, error.message.as_str()), (Exit::Usage, late));
        drop(writer);
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"open sesame\n").unwrap();
        drop(writer);
        assert_eq!(**PASSPHRASE.input(reader, PASSWORD_INPUT_TIMEOUT).unwrap(), *b"open sesame");

        // As the file of the option: nobody opens the other end.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        let secret = SecretText { file: Some(&path), ..PASSPHRASE };
        let error = secret.read_within(limit).unwrap_err();
        assert_eq!((error.exit, error.message.as_str()), (Exit::Usage, late));
    }

    #[test]
    fn empty_long_and_binary_texts_are_refused() {
        assert_eq!(of_file(b"").unwrap_err(), "the passphrase is empty");
        assert_eq!(of_file(b"\n").unwrap_err(), "the passphrase is empty");
        assert_eq!(of_file(b"\xff\n").unwrap_err(), "the passphrase is not UTF-8 text");
        let longest = vec![b'x'; PASSWORD_INPUT_MAX_BYTES];
        assert_eq!(of_file(&longest).unwrap().len(), PASSWORD_INPUT_MAX_BYTES);
        assert!(of_file(&[longest.as_slice(), b"x"].concat()).unwrap_err().contains("too large"));
        let text = "x".repeat(PASSWORD_INPUT_MAX_BYTES + 1);
        let secret = SecretText { flag: Some(&text), ..PASSPHRASE };
        assert_eq!(secret.read().unwrap_err().message, "the passphrase is too long");
    }
}
