//! The last errors, kept in memory and, from time to time, in a file of the data directory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::limits::{KEPT_ERROR_MAX_BYTES, KEPT_ERRORS_MAX};

/// An error line that was logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptError {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The log target.
    pub target: String,
    /// Message and fields.
    pub text: String,
}

static KEPT: Mutex<VecDeque<KeptError>> = Mutex::new(VecDeque::new());
/// Errors ever kept, and the count at the last save.
static COUNT: AtomicU64 = AtomicU64::new(0);
static SAVED: AtomicU64 = AtomicU64::new(0);

/// Records an error, dropping the oldest beyond the limit.
pub(super) fn record(at_ms: i64, target: &str, text: &str) {
    let mut end = text.len().min(KEPT_ERROR_MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default().to_owned();
    let mut kept = KEPT.lock();
    if kept.len() >= KEPT_ERRORS_MAX {
        kept.pop_front();
    }
    kept.push_back(KeptError { at_ms, target: target.to_owned(), text });
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// The kept errors, oldest first.
#[must_use]
pub fn recent_errors() -> Vec<KeptError> {
    KEPT.lock().iter().cloned().collect()
}

/// Loads the errors that an earlier run saved. Unreadable lines are skipped.
pub fn load_errors(bytes: &[u8]) {
    let former: Vec<KeptError> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let mut kept = KEPT.lock();
    for error in former.into_iter().rev() {
        if kept.len() >= KEPT_ERRORS_MAX {
            break;
        }
        kept.push_front(error);
    }
}

/// Saves the errors if there are new ones: a plain write of a small file, which a power cut may
/// lose. It blocks.
///
/// # Errors
/// The system's error; the next call tries again.
pub fn save_errors(path: &Path) -> io::Result<()> {
    let count = COUNT.load(Ordering::Relaxed);
    if SAVED.load(Ordering::Relaxed) == count {
        return Ok(());
    }
    let mut text = String::new();
    for error in recent_errors() {
        if let Ok(line) = serde_json::to_string(&error) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    let temporary = path.with_extension("tmp");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&temporary, path)?;
    SAVED.store(count, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_bounded_saved_and_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("errors.jsonl");
        for n in 0..KEPT_ERRORS_MAX + 5 {
            record(1, "test", &format!("error {n}"));
        }
        assert_eq!(recent_errors().len(), KEPT_ERRORS_MAX);
        save_errors(&path).unwrap();
        let bytes = std::fs::read_to_string(&path).unwrap();
        assert_eq!(bytes.lines().count(), KEPT_ERRORS_MAX);
        record(1, "test", &"é".repeat(KEPT_ERROR_MAX_BYTES));
        load_errors(b"not json\n");
        assert_eq!(recent_errors().len(), KEPT_ERRORS_MAX);
    }
}
