//! What the process that mounts a stick and the one that reads and writes on it say to each other: a job on standard input, then
//! lines of JSON on standard output.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// Make a backup. The stick may be written to.
    Write,
    /// Read the backup again. The stick is mounted read-only, and was unmounted meanwhile.
    Verify,
    /// Note the result, and remove superseded backups.
    Finish,
    /// Report the result, with or without the stick.
    Report,
}

/// A job. It has a passphrase, so it is never logged.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) phase: Phase,
    /// The process that gave it.
    pub(super) parent: u32,
    /// The configuration file.
    pub(super) config: Option<PathBuf>,
    /// The root of the stick, as a path of the process that does the job.
    pub(super) root: Option<PathBuf>,
    pub(super) passphrase: String,
    /// What people call the stick.
    pub(super) name: String,
    pub(super) with_keys: bool,
    /// The backup that was made, after [`Phase::Write`].
    pub(super) written: Option<Written>,
    /// Whether reading it again gave what was written, after [`Phase::Verify`]; with a failure, whether it could not be read
    /// again.
    pub(super) is_same: bool,
    /// Why there is no verified backup, for [`Phase::Report`].
    pub(super) failure: Option<String>,
}

/// A backup on the stick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) server_id: String,
    /// Of its archive, without the number of a volume.
    pub(super) archive: String,
    pub(super) sequence: u64,
    pub(super) bytes: u64,
    /// Whether the machine's clock was set.
    pub(super) is_clock_set: bool,
    /// Keys that were exported; `None`: the stick gets none.
    pub(super) keys: Option<usize>,
}

/// What was found on the stick at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finished {
    /// Backups of this server.
    pub(super) backups: usize,
    pub(super) free_bytes: u64,
    /// Archives that were removed.
    pub(super) removed: usize,
    /// Why none was removed.
    pub(super) refused: Vec<String>,
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    /// Bytes so far, and about how many there will be.
    Progress(u64, u64),
    Written(Written),
    /// [`Phase::Verify`] and [`Phase::Report`] have nothing else to say.
    Done,
    Finished(Finished),
    /// Nothing to do, as there is a verified backup of so many hours ago.
    Fresh(i64),
    /// The stick returned other data than was written.
    Differs(String),
    /// The exit code, and why.
    Failed(u8, String),
}
