//! The exit codes of every command.

/// A command's exit code; the numbers are documented and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Complete success; warnings are allowed.
    Success = 0,
    /// The operation failed or is incomplete.
    Failed = 1,
    Usage = 2,
    /// An archive or key file is damaged, from another server or too new.
    Damaged = 65,
    /// NATS or the store cannot be reached.
    Unreachable = 69,
    /// The target already exists or cannot be created.
    Exists = 73,
    /// A read or write error, a full disk, a damaged store.
    Io = 74,
    /// Try again later: a lock is held, a port is in use.
    TryAgain = 75,
    Denied = 77,
    /// The configuration is invalid; a service manager does not restart.
    Config = 78,
}

impl Exit {
    /// The number that the process exits with.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The code for a number that another process reports; an unknown one becomes [`Self::Failed`].
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        let all = [
            Self::Success,
            Self::Usage,
            Self::Damaged,
            Self::Unreachable,
            Self::Exists,
            Self::Io,
            Self::TryAgain,
            Self::Denied,
            Self::Config,
        ];
        all.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Failed)
    }
}
