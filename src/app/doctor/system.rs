//! Files of the system, below a root that tests replace.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::limits::{DOCTOR_ENTRIES_MAX, DOCTOR_FILE_MAX_BYTES};
use crate::runtime::limited_read;

/// Microseconds and clock ticks of proc(5) are counted in this unit on every system that Linux supports (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;
/// Field 22 of `/proc/PID/stat` (proc(5)), counted from the first after the name.
const START_TIME_FIELD: usize = 19;

/// The files of this machine.
#[derive(Debug)]
pub(super) struct System {
    root: PathBuf,
}

impl System {
    pub(super) fn of_machine() -> Self {
        Self { root: PathBuf::from("/") }
    }

    #[cfg(test)]
    pub(super) fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where an absolute path is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// A text without the white space at its ends; `None`: it cannot be read, or is too long.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let bytes = limited_read(&self.path(path), DOCTOR_FILE_MAX_BYTES).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The first bytes of a file, however long it is.
    pub(super) fn head<const N: usize>(&self, path: &str) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        File::open(self.path(path)).ok()?.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The names in a directory, in order.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        names(&self.path(path)).unwrap_or_default()
    }

    /// Seconds since the machine started.
    pub(super) fn uptime_seconds(&self) -> Option<u64> {
        let text = self.text("/proc/uptime")?;
        text.split(['.', ' ']).next()?.parse().ok()
    }

    /// A value of `/proc/meminfo`, or of another file of its form, in bytes.
    pub(super) fn memory(&self, path: &str, name: &str) -> Option<u64> {
        field(&self.text(path)?, name)?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    }

    /// How long a process has been running, in seconds.
    pub(super) fn age_seconds(&self, pid: i64) -> Option<u64> {
        let stat = self.text(&format!("/proc/{pid}/stat"))?;
        // The name stands in parentheses and may contain anything.
        let rest = stat.rsplit_once(')')?.1;
        let ticks: u64 = rest.split_whitespace().nth(START_TIME_FIELD)?.parse().ok()?;
        self.uptime_seconds()?.checked_sub(ticks / TICKS_PER_SECOND)
    }
}

/// The value of a line `name: value`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The names in a directory, in order; the first ones of a very long one.
pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(path)?.flatten().take(DOCTOR_ENTRIES_MAX);
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// What there is at a path, links not followed; `Ok(None)`: nothing.
pub(super) fn about(path: &Path) -> io::Result<Option<Metadata>> {
    match path.symlink_metadata() {
        Ok(about) => Ok(Some(about)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error says that there is no such file.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_process_is_that_of_its_start() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        std::fs::create_dir_all(root.path().join("proc/7")).unwrap();
        assert_eq!(system.age_seconds(7), None);
        std::fs::write(root.path().join("proc/uptime"), "5000.25 9000.10\n").unwrap();
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 400000 1 1";
        std::fs::write(root.path().join("proc/7/stat"), stat).unwrap();
        assert_eq!(system.age_seconds(7), Some(1000));
        let own = System::of_machine().age_seconds(i64::from(std::process::id()));
        assert!(own.is_some_and(|age| age < 7 * 86_400), "{own:?}");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:   512 kB\nMemAvailable:  64 kB\n";
        assert_eq!(field(text, "MemAvailable"), Some("64 kB"));
        assert_eq!(field(text, "Mem"), None);
    }
}
