//! What the process that mounts a stick and the one that reads and writes on it say to each other: a job on standard input, then
//! lines of JSON on standard output.

use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::Secret;
use crate::limits::WORKER_LINE_MAX_BYTES;

/// What is to be done, and with what.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// Make a backup. The stick may be written to.
    Write {
        #[serde(with = "secret_text")]
        passphrase: Secret,
        with_keys: bool,
        /// The program on the stick was brought up to date a moment ago.
        is_repeated: bool,
    },
    /// Read the backup again. The stick is mounted read-only, and was unmounted meanwhile.
    Verify {
        written: Written,
        #[serde(with = "secret_text")]
        passphrase: Secret,
    },
    /// Note on the stick whether the backup is what was written, and if so, remove superseded ones.
    Finish { written: Written, is_same: bool },
    /// Report the result to the server. It needs no stick.
    Report { outcome: Outcome },
}

/// How a backup to a stick ended.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Verified(Written),
    /// It is on the stick and could not be read again, for this reason.
    Unverified(String),
    Failed(String),
}

/// A job. It may have a passphrase, so it is never logged.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) phase: Phase,
    /// The process that gave it.
    pub(super) parent: u32,
    /// The configuration file.
    pub(super) config: Option<PathBuf>,
    /// The root of the stick, as a path of the process that does the job.
    pub(super) root: Option<PathBuf>,
    /// What people call the stick.
    pub(super) name: String,
}

impl Job {
    /// As a line.
    pub(super) fn to_line(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut line = empty_line();
        serde_json::to_writer(&mut *line, self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads the only line of an input.
    pub(super) fn read(input: impl Read) -> io::Result<Self> {
        let mut line = empty_line();
        let limit = u64::try_from(WORKER_LINE_MAX_BYTES).unwrap_or(u64::MAX);
        input.take(limit).read_to_end(&mut line)?;
        Ok(serde_json::from_slice(&line)?)
    }
}

/// With room for every line: where it grew, copies would be left in memory.
fn empty_line() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(WORKER_LINE_MAX_BYTES))
}

/// A secret that is a text.
mod secret_text {
    use serde::de::Deserialize;
    use serde::ser::Error;
    use serde::{Deserializer, Serializer};

    use crate::crypto::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(std::str::from_utf8(secret.expose()).map_err(S::Error::custom)?)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::from)
    }
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
    /// The backup could not be read again from the stick, and why.
    Unverifiable(String),
    /// The exit code, and why.
    Failed(u8, String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_line_with_all_of_the_passphrase() {
        let passphrase = Secret::from("correct \"horse\"\nbattery \u{1f40e}".to_owned());
        let phase =
            Phase::Write { passphrase: passphrase.clone(), with_keys: true, is_repeated: false };
        let name = "Blue".to_owned();
        let job =
            Job { phase, parent: 1, config: None, root: Some("/proc/self/fd/7".into()), name };
        let line = job.to_line().unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read = Job::read(line.as_slice()).unwrap();
        assert_eq!((read.root, read.parent), (job.root, 1));
        let Phase::Write { passphrase: read, with_keys: true, is_repeated: false } = read.phase
        else {
            panic!("another job");
        };
        assert_eq!(read, passphrase);
        assert!(Job::read(b"".as_slice()).is_err());
    }
}
