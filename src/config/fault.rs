//! Faults and warnings of a configuration, with location, key, reason and nearest known key.
//! Values are never shown: they may be secrets under the wrong key.

use std::path::PathBuf;
use std::{fmt, io};

/// Where something was set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    Line {
        /// The file, as it was named.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    Column {
        /// The file, as it was named.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// A file as a whole.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// No location: something is missing, or several locations disagree.
    Nowhere,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}:{line}: ", file.display()),
            Self::Column { file, line, column } => {
                write!(f, "{}:{line}:{column}: ", file.display())
            }
            Self::File(file) => write!(f, "{}: ", file.display()),
            Self::Variable(name) => write!(f, "{name}: "),
            Self::Nowhere => Ok(()),
        }
    }
}

/// One thing that stops the program from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub location: Location,
    /// The key or keys it is about; empty when it is about the location itself.
    pub key: String,
    /// What is wrong and what to do.
    pub reason: String,
    /// The nearest known key or variable.
    pub nearest: Option<String>,
    /// A file is meant for another account: this one may not read it.
    pub is_denied: bool,
}

impl Fault {
    /// A fault without a suggestion.
    #[must_use]
    pub fn new(location: Location, key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { location, key: key.into(), reason: reason.into(), nearest: None, is_denied: false }
    }

    /// A file that cannot be read.
    #[must_use]
    pub fn unreadable(file: PathBuf, error: &io::Error) -> Self {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        Self {
            is_denied,
            ..Self::new(Location::File(file), "", format!("cannot be read: {error}"))
        }
    }

    /// Adds the nearest known key.
    #[must_use]
    pub fn nearest(mut self, nearest: Option<String>) -> Self {
        self.nearest = nearest;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.location)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong, found in one run; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} fault(s)", .0.len())]
pub struct Faults(pub Vec<Fault>);

/// Something that is accepted, but may have an unexpected effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub location: Location,
    /// The key, or keys, it is about.
    pub key: String,
    /// What will or will not happen.
    pub text: String,
}

impl Warning {
    /// A warning about `key`.
    #[must_use]
    pub fn new(location: Location, key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { location, key: key.into(), text: text.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.location)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}
