//! The results of backups that a store remembers.

use super::text::one_line;
use crate::limits::{
    BACKUP_PLACE_MAX_BYTES, BACKUP_REASON_MAX_BYTES, BACKUP_RESULTS_MAX, BACKUP_RESULTS_SAME_MAX,
};

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum BackupKind {
    /// An archive in a directory.
    #[default]
    Directory,
    /// An archive on a paired USB stick.
    Stick,
    /// The test restore of an archive.
    RestoreTest,
}

/// How it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum BackupVerdict {
    /// It is complete and was read again without a fault. Of a restore test: what was restored is what the archive holds.
    Verified,
    /// It is complete; nobody asked to read it again.
    Complete,
    /// It is complete as far as is known, and could not be read again or restored.
    Unverified,
    /// There is no archive, or it is damaged. Also the state of a result that does not say how it ended.
    #[default]
    Failed,
}

/// The result of one backup or restore test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupResult {
    pub kind: BackupKind,
    pub verdict: BackupVerdict,
    /// Milliseconds since 1970: when the archive was begun, else when the work ended.
    pub at_ms: i64,
    /// The archive or its directory; of a stick its name.
    pub place: String,
    /// Why it is not verified, for people; empty if it is.
    pub reason: String,
    /// Of the archive; 0 where there is none.
    pub bytes: u64,
    /// The number of the archive; 0 where there is none.
    pub sequence: u64,
}

impl BackupResult {
    /// The same with texts that fit into one line of a known length: they may contain names of files and what a disk said.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            place: one_line(&self.place, BACKUP_PLACE_MAX_BYTES),
            reason: one_line(&self.reason, BACKUP_REASON_MAX_BYTES),
            ..self
        }
    }
}

/// What a later check of an archive has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveCheck {
    /// The number of the archive.
    pub sequence: u64,
    pub place: String,
    /// Of the archive; `None`: the check says nothing of it.
    pub verdict: Option<BackupVerdict>,
    /// Why it is not verified.
    pub reason: String,
    /// The result of a restore test, if there was one.
    pub restore_test: Option<BackupResult>,
}

/// The last results, oldest first. The order is that in which they arrived: a clock may be wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupResults(Vec<BackupResult>);

impl BackupResults {
    /// What was stored, oldest first.
    #[must_use]
    pub fn new(results: Vec<BackupResult>) -> Self {
        Self(results)
    }

    /// All, oldest first.
    #[must_use]
    pub fn all(&self) -> &[BackupResult] {
        &self.0
    }

    /// Adds a result. Of each kind and verdict the last [`BACKUP_RESULTS_SAME_MAX`] stay, so that however many backups fail,
    /// the last good one is known.
    pub fn add(&mut self, result: BackupResult) {
        let (kind, verdict) = (result.kind, result.verdict);
        self.0.push(result.bounded());
        let is_same = |one: &BackupResult| (one.kind, one.verdict) == (kind, verdict);
        if self.0.iter().filter(|one| is_same(one)).count() > BACKUP_RESULTS_SAME_MAX
            && let Some(oldest) = self.0.iter().position(is_same)
        {
            self.0.remove(oldest);
        }
        // More than every kind and verdict allow: a newer program's.
        if self.0.len() > BACKUP_RESULTS_MAX {
            self.0.remove(0);
        }
    }

    /// Enters a later check of an archive that is known by its number. A copy elsewhere can show that an archive is good,
    /// and not that the one in its place is damaged.
    pub fn enter_check(&mut self, check: ArchiveCheck) {
        let ArchiveCheck { sequence, place, verdict, reason, restore_test } = check;
        let place = one_line(&place, BACKUP_PLACE_MAX_BYTES);
        let known = self.0.iter_mut().rev().find(|one| {
            one.kind != BackupKind::RestoreTest
                && one.sequence == sequence
                && (verdict == Some(BackupVerdict::Verified) || one.place == place)
        });
        if let (Some(known), Some(verdict), 1..) = (known, verdict, sequence) {
            *known = BackupResult { verdict, reason, ..known.clone() }.bounded();
        }
        if let Some(result) = restore_test {
            self.add(result);
        }
    }

    /// The last result of a kind.
    #[must_use]
    pub fn last(&self, kind: BackupKind) -> Option<&BackupResult> {
        self.0.iter().rev().find(|one| one.kind == kind)
    }

    /// The last verified backup, wherever it is.
    #[must_use]
    pub fn last_verified(&self) -> Option<&BackupResult> {
        self.backups().find(|one| one.verdict == BackupVerdict::Verified)
    }

    /// The last backup that failed or could not be verified.
    #[must_use]
    pub fn last_failed(&self) -> Option<&BackupResult> {
        self.backups()
            .find(|one| matches!(one.verdict, BackupVerdict::Failed | BackupVerdict::Unverified))
    }

    /// Everything but restore tests, newest first.
    pub fn backups(&self) -> impl Iterator<Item = &BackupResult> {
        self.0.iter().rev().filter(|one| one.kind != BackupKind::RestoreTest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(kind: BackupKind, verdict: BackupVerdict, sequence: u64) -> BackupResult {
        BackupResult { kind, verdict, sequence, place: "a".into(), ..BackupResult::default() }
    }

    #[test]
    fn the_last_verified_backup_is_known_however_many_fail() {
        let mut results = BackupResults::default();
        results.add(result(BackupKind::Directory, BackupVerdict::Verified, 1));
        for _ in 0..100 {
            results.add(result(BackupKind::Directory, BackupVerdict::Failed, 0));
            results.add(result(BackupKind::RestoreTest, BackupVerdict::Verified, 9));
        }
        assert_eq!(results.last_verified().unwrap().sequence, 1);
        assert_eq!(results.all().len(), 1 + 2 * BACKUP_RESULTS_SAME_MAX);
        assert_eq!(results.last(BackupKind::Directory).unwrap().verdict, BackupVerdict::Failed);
        assert!(results.last(BackupKind::Stick).is_none());
    }

    #[test]
    fn a_later_check_changes_the_verdict_of_its_archive() {
        let mut results = BackupResults::default();
        results.add(result(BackupKind::Directory, BackupVerdict::Complete, 7));
        results.add(result(BackupKind::RestoreTest, BackupVerdict::Verified, 7));
        let check = |sequence, place: &str, fault: Option<&str>| ArchiveCheck {
            sequence,
            place: place.into(),
            verdict: Some(fault.map_or(BackupVerdict::Verified, |_| BackupVerdict::Failed)),
            reason: fault.unwrap_or_default().into(),
            restore_test: None,
        };
        results.enter_check(check(8, "a", None));
        results.enter_check(check(0, "a", None));
        assert!(results.last_verified().is_none());
        results.enter_check(check(7, "copy", Some("damaged")));
        assert!(results.last_failed().is_none(), "a copy says nothing of the archive");
        results.enter_check(check(7, "copy", None));
        assert_eq!(results.last_verified().unwrap().sequence, 7);
        results.enter_check(check(7, "a", Some("damaged")));
        assert_eq!(results.last_failed().unwrap().reason, "damaged");
        assert_eq!(results.last(BackupKind::RestoreTest).unwrap().reason, "");
    }

    #[test]
    fn foreign_texts_are_bounded_and_printable() {
        let mut results = BackupResults::default();
        results.add(BackupResult {
            place: "stick\u{1b}[2J\nBlue\u{202e}".into(),
            reason: "é".repeat(4_000),
            ..BackupResult::default()
        });
        let stored = results.all().first().unwrap();
        assert_eq!(stored.place, "stick [2J Blue");
        assert!(stored.reason.len() <= BACKUP_REASON_MAX_BYTES);
        assert!(stored.reason.ends_with("é…"), "{}", stored.reason);
    }
}
