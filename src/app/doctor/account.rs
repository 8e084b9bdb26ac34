//! As which account `doctor` runs, and what to say where its rights do not suffice.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::geteuid;

use super::Check;

/// The account of this process, compared with that of the server, which owns the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    Root,
    /// The account that owns the data directory.
    Server,
    Other,
}

impl Account {
    pub(super) fn of_process(data_dir: &Path) -> Self {
        let own = geteuid();
        let owner = data_dir.metadata().map(|about| about.uid());
        match owner {
            _ if own.is_root() => Self::Root,
            Ok(owner) if owner == own.as_raw() => Self::Server,
            _ => Self::Other,
        }
    }

    /// A check that needs more rights.
    pub(super) fn may_not(self, code: &'static str, what: &str) -> Check {
        let (text, fix) = match self {
            Self::Root => (format!("{what}: not permitted, although doctor runs as root"), None),
            Self::Server => (format!("{what}: only root may"), Some("sudo chatto doctor")),
            Self::Other => (
                format!("{what}: only root and the server's account may"),
                Some("sudo chatto doctor"),
            ),
        };
        Check { fix: fix.map(str::to_owned), ..Check::skipped(code, text) }
    }
}
