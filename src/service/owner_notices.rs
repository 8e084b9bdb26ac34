//! What owners must know of the server's operation: backups that fail or are missing, and keys that are in no export.

use super::create_account::is_owner;
use super::error::{ErrorKind, ReadError};
use super::{Session, millis};
use crate::domain::{BackupKind, BackupResult, BackupVerdict};
use crate::limits::{
    BACKUP_FAILURE_SHOWN, BACKUP_LATE_AFTER, KEYS_UNEXPORTED_AFTER, OWNER_NOTICES_INTERVAL,
};
use crate::runtime::{Clock, Stop};
use crate::storage::{KnownBackups, OpenError, Storage, Unexported};

/// What owners must know.
#[derive(Clone, Copy)]
pub struct OwnerNotices<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
}

/// Something that an owner should act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerNotice {
    /// Stays the same in later versions.
    pub code: &'static str,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub action: &'static str,
    /// Tells notices of one code apart: a stick.
    subject: String,
}

impl OwnerNotice {
    fn is_same(&self, other: &Self) -> bool {
        (self.code, &self.subject) == (other.code, &other.subject)
    }
}

/// How the server is backed up.
#[derive(Debug, Clone)]
pub struct BackupOverview {
    pub backups: KnownBackups,
    pub keys: Unexported,
    pub notices: Vec<OwnerNotice>,
}

impl BackupOverview {
    /// Whether there is no verified backup that is young enough.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.notices.iter().any(|notice| [LATE, NEVER].contains(&notice.code))
    }
}

/// What is known of the operation cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OverviewError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the results of backups cannot be read")]
    Backups(#[source] OpenError),
}

impl OverviewError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Backups(error) if error.is_transient() => ErrorKind::Unavailable,
            Self::Backups(_) => ErrorKind::Internal,
        }
    }
}

impl OwnerNotices<'_> {
    /// What an owner should act on.
    ///
    /// # Errors
    /// [`ReadError::Denied`] for everybody else.
    pub async fn of_owner(self, session: &Session) -> Result<Vec<OwnerNotice>, OverviewError> {
        let tables = self.storage.state();
        if !tables.read(|tables| tables.users.get(&session.user).is_some_and(|user| is_owner(user)))
        {
            return Err(ReadError::Denied.into());
        }
        Ok(self.overview().await?.notices)
    }

    /// All that is known of backups, for the operator.
    ///
    /// # Errors
    /// [`OverviewError`]
    pub async fn overview(self) -> Result<BackupOverview, OverviewError> {
        let backups = self.storage.backup_log().read().await.map_err(OverviewError::Backups)?;
        let keys = self.storage.unexported_keys().await;
        let keys = keys.map_err(ReadError::from)?;
        let notices = notices(&backups, &keys, self.clock.unix_ms());
        Ok(BackupOverview { backups, keys, notices })
    }

    /// Logs each notice when it begins and when it is over, until stopped.
    pub async fn watch(self, stop: &Stop) {
        let mut known: Vec<OwnerNotice> = Vec::new();
        loop {
            match stop.or(self.overview()).await {
                None => return,
                Some(Ok(found)) => {
                    log_changes(&known, &found.notices);
                    known = found.notices;
                }
                // The store does not reply: other parts say so.
                Some(Err(error)) => {
                    log::debug!(error:err = error; "the results of backups were not read");
                }
            }
            if stop.or(self.clock.sleep(OWNER_NOTICES_INTERVAL)).await.is_none() {
                return;
            }
        }
    }
}

fn log_changes(known: &[OwnerNotice], found: &[OwnerNotice]) {
    let is_in = |list: &[OwnerNotice], one: &OwnerNotice| list.iter().any(|own| own.is_same(one));
    for one in found.iter().filter(|one| !is_in(known, one)) {
        log::warn!(
            code = one.code, what = one.text.as_str(), action = one.action;
            "a notice for owners"
        );
    }
    for one in known.iter().filter(|one| !is_in(found, one)) {
        log::info!(code = one.code, what = one.text.as_str(); "a notice for owners is over");
    }
}

/// The rules.
fn notices(known: &KnownBackups, keys: &Unexported, now_ms: i64) -> Vec<OwnerNotice> {
    let results = &known.results;
    let mut notices = Vec::new();
    let last = |kind| results.last(kind);
    for result in [last(BackupKind::Directory), last(BackupKind::Stick)].into_iter().flatten() {
        // Where nobody repeats it, its age is what counts: see the next one.
        if now_ms.saturating_sub(result.at_ms) < millis(BACKUP_FAILURE_SHOWN) {
            notices.extend(of_backup(result));
        }
    }
    notices.extend(of_age(known, now_ms));
    notices.extend(last(BackupKind::RestoreTest).and_then(of_restore_test));
    let is_old = |ms: i64| now_ms.saturating_sub(ms) >= millis(KEYS_UNEXPORTED_AFTER);
    if keys.oldest_ms.is_some_and(is_old) {
        let text = match keys.people {
            1 => "One person has message keys that no key export holds.".to_owned(),
            people => format!("{people} people have message keys that no key export holds."),
        };
        let action = "Without an export and without core.secret_key their messages would be lost with this machine. Run \
                      `chatto keys export -o FILE` on the server and keep the file apart from the backups.";
        notices.push(notice(("keys_not_exported", ""), text, action));
    }
    notices
}

fn notice(
    (code, subject): (&'static str, &str),
    text: String,
    action: &'static str,
) -> OwnerNotice {
    OwnerNotice { code, text, action, subject: subject.to_owned() }
}

/// The last backup of a kind, if it is not as it should be.
fn of_backup(result: &BackupResult) -> Option<OwnerNotice> {
    let place = &result.place;
    let (which, subject) = match result.kind {
        BackupKind::Stick => (format!("The backup to the stick {place}"), place.as_str()),
        BackupKind::Directory | BackupKind::RestoreTest => ("The last backup".to_owned(), ""),
    };
    let because = because(result);
    match result.verdict {
        BackupVerdict::Verified | BackupVerdict::Complete => None,
        BackupVerdict::Failed => Some(notice(
            ("backup_failed", subject),
            format!("{which} failed{because}"),
            "Earlier backups are as they were. Fix the cause and make a backup; `chatto status` and the journal of the \
             server have more.",
        )),
        BackupVerdict::Unverified => Some(notice(
            ("backup_not_verified", subject),
            format!("{which} could not be verified{because}"),
            "It may be damaged. Run `chatto backup verify FILE`, or make another backup, if possible on another medium.",
        )),
    }
}

fn of_restore_test(result: &BackupResult) -> Option<OwnerNotice> {
    let because = because(result);
    match result.verdict {
        BackupVerdict::Verified | BackupVerdict::Complete => None,
        BackupVerdict::Failed => Some(notice(
            ("restore_test_failed", ""),
            format!("The restore test of a backup failed{because}"),
            "A restore of that archive would not bring everything back. Make a backup and test it with `chatto backup \
             verify FILE --restore-test`.",
        )),
        BackupVerdict::Unverified => Some(notice(
            ("restore_test_not_done", ""),
            format!("The restore test of a backup could not be done{because}"),
            "Fix the cause and repeat it with `chatto backup verify FILE --restore-test`.",
        )),
    }
}

/// The end of a sentence.
fn because(result: &BackupResult) -> String {
    match result.reason.trim_end_matches('.') {
        "" => ".".to_owned(),
        reason => format!(": {reason}."),
    }
}

/// That there is no verified backup that is young enough.
fn of_age(known: &KnownBackups, now_ms: i64) -> Option<OwnerNotice> {
    const ACTION: &str = "Start the nightly backup (`systemctl enable --now chatto-backup.timer`), plug in the backup stick, \
                          or run `chatto backup --verify` on the server.";
    let days = |since_ms: i64| {
        let age = now_ms.saturating_sub(since_ms);
        (age > millis(BACKUP_LATE_AFTER)).then_some(age / millis(DAY))
    };
    match known.results.last_verified() {
        Some(last) => {
            let days = days(last.at_ms)?;
            Some(notice((LATE, ""), format!("No verified backup for {days} days."), ACTION))
        }
        None => {
            days(known.store_created_ms)?;
            let text = "This server has no verified backup.".to_owned();
            Some(notice((NEVER, ""), text, ACTION))
        }
    }
}

const LATE: &str = "backup_late";
const NEVER: &str = "backup_never";
const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::BackupResults;

    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_800_000_000_000;

    fn result(kind: BackupKind, verdict: BackupVerdict, hours: i64) -> BackupResult {
        let at_ms = NOW - hours * HOUR;
        BackupResult { kind, verdict, at_ms, place: "Blue".into(), ..BackupResult::default() }
    }

    fn codes(created_hours: i64, list: &[BackupResult]) -> Vec<&'static str> {
        let mut results = BackupResults::default();
        list.iter().for_each(|one| results.add(one.clone()));
        let store_created_ms = NOW - created_hours * HOUR;
        let known = KnownBackups { store_created_ms, results, ..KnownBackups::default() };
        notices(&known, &Unexported::default(), NOW).into_iter().map(|one| one.code).collect()
    }

    #[test]
    fn a_backup_is_late_after_two_days() {
        use BackupKind::{Directory, Stick};
        use BackupVerdict::{Complete, Verified};
        assert_eq!(codes(47, &[]), [""; 0]);
        assert_eq!(codes(49, &[]), ["backup_never"]);
        assert_eq!(codes(999, &[result(Directory, Verified, 47)]), [""; 0]);
        assert_eq!(codes(999, &[result(Directory, Verified, 49)]), ["backup_late"]);
        assert_eq!(codes(999, &[result(Stick, Verified, 1)]), [""; 0]);
        // One that nobody has read again is no proof.
        assert_eq!(codes(999, &[result(Directory, Complete, 1)]), ["backup_never"]);
        // The clock was ahead when it was made.
        assert_eq!(codes(999, &[result(Directory, Verified, -99)]), [""; 0]);
    }

    #[test]
    fn a_failure_is_shown_until_a_backup_of_its_kind_succeeds() {
        use BackupKind::{Directory, RestoreTest, Stick};
        use BackupVerdict::{Failed, Unverified, Verified};
        let good = result(Directory, Verified, 2);
        let failed = |kind| result(kind, Failed, 1);
        assert_eq!(codes(999, &[good.clone(), failed(Directory)]), ["backup_failed"]);
        assert_eq!(codes(999, &[failed(Stick), good.clone()]), ["backup_failed"]);
        assert_eq!(codes(999, &[failed(Directory), good.clone()]), [""; 0]);
        let unread = result(Stick, Unverified, 1);
        assert_eq!(codes(999, &[good.clone(), unread]), ["backup_not_verified"]);
        assert_eq!(codes(999, &[good.clone(), failed(RestoreTest)]), ["restore_test_failed"]);
        // Nobody repeats it.
        assert_eq!(codes(999, &[result(Stick, Failed, 15 * 24), good]), [""; 0]);
    }

    #[test]
    fn reasons_and_sticks_are_named() {
        let reason = "the disk is full.".to_owned();
        let stick = BackupResult { reason, ..result(BackupKind::Stick, BackupVerdict::Failed, 1) };
        let text = of_backup(&stick).unwrap().text;
        assert_eq!(text, "The backup to the stick Blue failed: the disk is full.");
    }

    #[test]
    fn keys_have_two_days_to_be_exported() {
        let known = KnownBackups { store_created_ms: NOW, ..KnownBackups::default() };
        let texts = |people, hours: i64| {
            let oldest_ms = Some(NOW - hours * HOUR);
            let keys = Unexported { people, oldest_ms, ..Unexported::default() };
            notices(&known, &keys, NOW).into_iter().map(|one| one.text).collect::<Vec<_>>()
        };
        assert!(texts(3, 47).is_empty());
        assert_eq!(texts(3, 48), ["3 people have message keys that no key export holds."]);
        assert_eq!(texts(1, 48), ["One person has message keys that no key export holds."]);
    }
}
