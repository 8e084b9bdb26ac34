//! Which archives of a folder may go. Their order is that of their numbers; times only group them by day, week and month.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::catalogue::{ArchiveState, Catalogue, CatalogueError, CataloguedArchive};
use crate::observe::rfc3339;

/// How many archives stay: the newest, and one for each of the last days, weeks and months (UTC, weeks from Monday) that
/// have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub last: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
}

impl Retention {
    /// What `prune` keeps by default.
    pub const RECOMMENDED: Self = Self { last: 3, daily: 14, weekly: 8, monthly: 6 };
}

/// What retention did in a folder.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Archives that the catalogue lists of the servers concerned.
    pub listed: usize,
    /// Removed, or in a dry run only chosen; oldest first.
    pub superseded: Vec<CataloguedArchive>,
    /// Servers of which no archive may be removed.
    pub refused: Vec<RetentionError>,
}

/// Nothing may be removed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RetentionError {
    #[error(
        "no archive of the server {server_id} is verified, so none is removed; `chatto backup verify` checks one"
    )]
    NoneVerified { server_id: String },
    #[error(
        "the clock of this machine ({now}) is behind the time of {name} ({time}), so no archive of its server is removed; set the clock"
    )]
    ClockBehind { now: String, name: String, time: String },
}

const DAY_MS: i64 = 86_400_000;

impl Retention {
    /// Removes the superseded archives of a folder, those of each server by themselves, or only those of one.
    ///
    /// # Errors
    /// [`CatalogueError`]
    pub fn prune(
        self,
        folder: &Path,
        (server_id, now_ms): (Option<&str>, i64),
        is_dry_run: bool,
    ) -> Result<Pruned, CatalogueError> {
        let (mut listed, mut refused) = (0, Vec::new());
        let mut choose = |catalogue: &Catalogue| {
            let mut servers: BTreeMap<&str, Vec<CataloguedArchive>> = BTreeMap::new();
            let of_server =
                |one: &&CataloguedArchive| server_id.is_none_or(|id| id == one.server_id);
            listed = catalogue.archives.iter().filter(of_server).count();
            // One that is gone, or another file by now, neither takes a place nor supersedes another.
            let is_there = |one: &&CataloguedArchive| one.is_unchanged(folder);
            for archive in catalogue.archives.iter().filter(of_server).filter(is_there) {
                servers.entry(&archive.server_id).or_default().push(archive.clone());
            }
            let mut names = Vec::new();
            for archives in servers.values() {
                match self.superseded(archives, now_ms) {
                    Ok(superseded) => names.extend(superseded),
                    Err(error) => refused.push(error),
                }
            }
            names
        };
        let is_dry_run = is_dry_run || Catalogue::read(folder)?.is_none();
        let superseded = match is_dry_run {
            false => Catalogue::remove(folder, choose)?,
            true => {
                let catalogue = Catalogue::read(folder)?.unwrap_or_default();
                let names = choose(&catalogue);
                catalogue.removable(folder, &names)
            }
        };
        Ok(Pruned { listed, superseded, refused })
    }

    /// The archives of one server that are superseded, by name, oldest first. None that is newer than the newest verified
    /// one is among them, nor that one.
    ///
    /// # Errors
    /// [`RetentionError`]
    pub fn superseded(
        self,
        archives: &[CataloguedArchive],
        now_ms: i64,
    ) -> Result<Vec<String>, RetentionError> {
        let mut archives: Vec<&CataloguedArchive> =
            archives.iter().filter(|archive| archive.state != ArchiveState::Writing).collect();
        archives.sort_by_key(|archive| archive.sequence);
        let Some(newest) = archives.last() else { return Ok(Vec::new()) };
        if newest.time_ms().is_some_and(|time| time > now_ms) {
            return Err(RetentionError::ClockBehind {
                now: rfc3339(now_ms),
                name: newest.name.clone(),
                time: newest.created_at.clone(),
            });
        }
        let verified = archives.iter().rposition(|one| one.state == ArchiveState::Verified);
        let Some(verified) = verified else {
            let server_id = newest.server_id.clone();
            return Err(RetentionError::NoneVerified { server_id });
        };
        let kept = self.kept(&archives, now_ms);
        let older = archives.iter().take(verified);
        let superseded = older.filter(|archive| !kept.contains(&archive.sequence));
        Ok(superseded.map(|archive| archive.name.clone()).collect())
    }

    /// The numbers of the archives that are kept for a count, a day, a week or a month.
    fn kept(self, archives: &[&CataloguedArchive], now_ms: i64) -> HashSet<u64> {
        let good = archives.iter().filter(|archive| archive.state != ArchiveState::Damaged);
        let good: Vec<&CataloguedArchive> = good.copied().collect();
        let last = good.iter().rev().take(count(self.last));
        let mut kept: HashSet<u64> = last.map(|archive| archive.sequence).collect();
        let timed = trusted(&good, now_ms);
        for (period, number) in
            [(day as fn(i64) -> i64, self.daily), (week, self.weekly), (month, self.monthly)]
        {
            // Of each period the newest that is verified, else the newest.
            let mut periods: BTreeMap<i64, &CataloguedArchive> = BTreeMap::new();
            for (archive, time_ms) in &timed {
                let one = periods.entry(period(*time_ms)).or_insert(archive);
                if archive.state == ArchiveState::Verified || one.state != ArchiveState::Verified {
                    *one = archive;
                }
            }
            kept.extend(periods.values().rev().take(count(number)).map(|one| one.sequence));
        }
        kept
    }
}

/// The archives whose times can be right: those that are not in the future, and of these the longest subsequence, by number,
/// in which times do not decrease. The others were made while the clock was wrong.
fn trusted<'a>(
    archives: &[&'a CataloguedArchive],
    now_ms: i64,
) -> Vec<(&'a CataloguedArchive, i64)> {
    let timed = archives.iter().filter_map(|archive| Some((*archive, archive.time_ms()?)));
    let timed: Vec<(&CataloguedArchive, i64)> =
        timed.filter(|(_, time_ms)| *time_ms <= now_ms).collect();
    // Patience sorting: the ends of the subsequences of each length, those with the least time, and what precedes each.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::new();
    let time = |position: &usize| timed.get(*position).map_or(i64::MAX, |(_, time)| *time);
    for (position, (_, time_ms)) in timed.iter().enumerate() {
        let length = ends.partition_point(|end| time(end) <= *time_ms);
        previous.push(length.checked_sub(1).and_then(|length| ends.get(length).copied()));
        match ends.get_mut(length) {
            Some(end) => *end = position,
            None => ends.push(position),
        }
    }
    let mut chosen = Vec::new();
    let mut next = ends.last().copied();
    while let Some(position) = next {
        chosen.extend(timed.get(position).copied());
        next = previous.get(position).copied().flatten();
    }
    chosen.reverse();
    chosen
}

fn day(time_ms: i64) -> i64 {
    time_ms.div_euclid(DAY_MS)
}

fn week(time_ms: i64) -> i64 {
    // 1970-01-01 was a Thursday.
    (day(time_ms) + 3).div_euclid(7)
}

/// Months since the year 0.
fn month(time_ms: i64) -> i64 {
    let (year, month, _) = crate::observe::civil(day(time_ms));
    year * 12 + month
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::NewArchive;
    use super::super::volumes::WrittenFile;
    use super::*;
    use ArchiveState::{Complete, Damaged, Verified};

    const NONE: Retention = Retention { last: 0, daily: 0, weekly: 0, monthly: 0 };
    /// 2026-11-21T06:00:00Z, a Saturday.
    const BEGIN: i64 = 1_795_240_800_000;

    fn archive(sequence: u64, time_ms: i64, state: ArchiveState) -> CataloguedArchive {
        CataloguedArchive {
            name: sequence.to_string(),
            state,
            sequence,
            created_at: rfc3339(time_ms),
            ..CataloguedArchive::default()
        }
    }

    fn daily(days: std::ops::Range<u64>) -> Vec<CataloguedArchive> {
        days.map(|day| archive(day, BEGIN + day.cast_signed() * DAY_MS, Verified)).collect()
    }

    fn kept(retention: Retention, archives: &[CataloguedArchive], now_ms: i64) -> Vec<u64> {
        let superseded = retention.superseded(archives, now_ms).unwrap();
        let kept = archives.iter().filter(|archive| !superseded.contains(&archive.name));
        let mut kept: Vec<u64> = kept.map(|archive| archive.sequence).collect();
        kept.sort_unstable();
        kept
    }

    const LATER: i64 = BEGIN + 4000 * DAY_MS;

    #[test]
    fn the_last_ones_and_one_of_each_period_stay() {
        assert_eq!(rfc3339(BEGIN), "2026-11-21T06:00:00.000Z");
        let archives = daily(0..40);
        assert_eq!(kept(Retention { last: 2, ..NONE }, &archives, LATER), [38, 39]);
        assert_eq!(kept(Retention { daily: 3, ..NONE }, &archives, LATER), [37, 38, 39]);
        // Sundays, and the last: 2026-12-13, -20, -27 are days 22, 29, 36.
        assert_eq!(kept(Retention { weekly: 4, ..NONE }, &archives, LATER), [22, 29, 36, 39]);
        // Day 9 is the last of November, 39 of December.
        assert_eq!(kept(Retention { monthly: 5, ..NONE }, &archives, LATER), [9, 39]);
        let all = Retention { last: 2, daily: 3, weekly: 2, monthly: 2 };
        assert_eq!(kept(all, &archives, LATER), [9, 36, 37, 38, 39]);
    }

    #[test]
    fn periods_count_that_have_an_archive_however_long_ago() {
        let archives = [archive(1, BEGIN, Verified), archive(2, BEGIN + 900 * DAY_MS, Verified)];
        assert_eq!(kept(Retention { daily: 2, ..NONE }, &archives, LATER), [1, 2]);
    }

    #[test]
    fn the_newest_verified_one_and_what_came_after_it_stay_always() {
        let mut archives = daily(0..3);
        archives.extend((3..6).map(|day| archive(day, BEGIN + 3 * DAY_MS, Complete)));
        archives.push(archive(6, BEGIN + 4 * DAY_MS, Damaged));
        assert_eq!(kept(Retention { last: 1, ..NONE }, &archives, LATER), [2, 3, 4, 5, 6]);
        archives.push(archive(7, BEGIN + 5 * DAY_MS, Verified));
        // A damaged one takes nobody's place.
        assert_eq!(kept(Retention { last: 2, ..NONE }, &archives, LATER), [5, 7]);
        assert_eq!(kept(NONE, &archives, LATER), [7]);
    }

    #[test]
    fn of_a_period_a_verified_one_stays_rather_than_a_newer_one() {
        let archives = [
            archive(1, BEGIN, Verified),
            archive(2, BEGIN + 1, Complete),
            archive(3, BEGIN + DAY_MS, Verified),
        ];
        assert_eq!(kept(Retention { daily: 2, ..NONE }, &archives, LATER), [1, 3]);
    }

    #[test]
    fn nothing_goes_while_nothing_is_verified() {
        let archives = [archive(1, BEGIN, Complete), archive(2, BEGIN, Damaged)];
        let refused = NONE.superseded(&archives, LATER);
        assert!(matches!(refused, Err(RetentionError::NoneVerified { .. })));
        assert_eq!(NONE.superseded(&[], LATER), Ok(Vec::new()));
    }

    #[test]
    fn a_wrong_clock_removes_no_good_archive() {
        let keep = Retention { last: 1, daily: 5, ..NONE };
        // Behind: the board has just started without a clock.
        let archives = daily(0..5);
        let refused = keep.superseded(&archives, 0);
        assert!(matches!(refused, Err(RetentionError::ClockBehind { .. })));
        // A clock that ran backwards for three backups, and is right again.
        let mut archives = daily(0..4);
        archives.extend((4..7).map(|n| archive(n, n.cast_signed() * DAY_MS, Verified)));
        archives.push(archive(7, BEGIN + 7 * DAY_MS, Verified));
        assert_eq!(kept(keep, &archives, LATER), [0, 1, 2, 3, 7]);
        // A clock that was in 2037 once: the archives after it are not those that ran backwards.
        let mut archives = daily(0..8);
        archives[2] = archive(2, BEGIN + 3900 * DAY_MS, Verified);
        let now = BEGIN + 8 * DAY_MS;
        assert_eq!(kept(keep, &archives, now), [3, 4, 5, 6, 7]);
        assert_eq!(kept(keep, &archives, LATER), [3, 4, 5, 6, 7]);
        // A clock far ahead takes one place and removes nothing by age.
        let mut archives = daily(0..5);
        archives[4] = archive(4, BEGIN + 3999 * DAY_MS, Verified);
        assert_eq!(kept(keep, &archives, LATER), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_is_gone_or_was_replaced_supersedes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let header = |sequence| crate::backup::archive::Header {
            server_id: "S0000000000000001".to_owned(),
            sequence,
            created_at: rfc3339(BEGIN),
            ..Default::default()
        };
        for (name, sequence) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            Catalogue::begin(&path(name), "S0000000000000001", &|_| None).unwrap();
            std::fs::write(path(name), "archive").unwrap();
            let header = header(sequence);
            let file = WrittenFile { bytes: 7, sha256: [1; 32] };
            let made = NewArchive::written(&header, &[file], true);
            Catalogue::complete(&path(name), &made).unwrap();
            Catalogue::set_state(&path(name), Some(&header), Verified).unwrap();
        }
        std::fs::remove_file(path("d")).unwrap();
        std::fs::write(path("c"), "something else").unwrap();
        let keep = Retention { last: 1, ..NONE };
        let pruned = keep.prune(folder.path(), (None, LATER), false).unwrap();
        let names: Vec<&str> = pruned.superseded.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a"]);
        assert!(path("b").exists() && path("c").exists());
    }

    #[test]
    fn the_order_is_that_of_the_numbers() {
        let mut archives = daily(0..6);
        archives.reverse();
        assert_eq!(kept(Retention { last: 2, ..NONE }, &archives, LATER), [4, 5]);
    }
}
