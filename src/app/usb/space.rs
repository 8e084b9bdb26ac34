//! Whether a stick needs a backup, and has the space for one.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;
use rustix::system::sysinfo;

use crate::backup::catalogue::{ArchiveState, Catalogue, CataloguedArchive};
use crate::backup::retention::Retention;
use crate::limits::{MACHINE_START, STICK_BACKUP_FRESH};

use super::error::StickError;

/// Prepares the folder of a server for another archive: superseded archives are removed; nothing else is. Then there must be
/// the space that the last archive took.
///
/// # Errors
/// [`StickError::Full`]; [`StickError::Fresh`]: there is nothing to do.
pub fn prepare(folder: &Path, server_id: &str, now_ms: i64) -> Result<(), StickError> {
    let uptime = u64::try_from(sysinfo().uptime).unwrap_or_default();
    // One that cannot be read is made again by the backup, which removes nothing.
    let catalogue = Catalogue::read(folder).ok().flatten().unwrap_or_default();
    let archives: Vec<&CataloguedArchive> = catalogue
        .archives
        .iter()
        .filter(|one| one.server_id == server_id && one.is_unchanged(folder))
        .collect();
    if uptime < MACHINE_START.as_secs()
        && let Some(hours) = fresh(&archives, now_ms)
    {
        return Err(StickError::Fresh { hours });
    }
    let newest = archives.iter().max_by_key(|archive| archive.sequence);
    let needed = newest.map_or(0, |archive| archive.bytes);
    // Also if the last one would fit: the next may be larger. Where none may be removed, the end of the backup says why.
    if let Err(error) = Retention::RECOMMENDED.prune(folder, (Some(server_id), now_ms), false) {
        log::warn!(error:err = error; "superseded archives on the stick could not be removed");
    }
    match free_bytes(folder)? {
        free if free < needed => Err(StickError::Full { needed, free }),
        _ => Ok(()),
    }
}

/// The age in hours of the newest verified archive, if it is young.
fn fresh(archives: &[&CataloguedArchive], now_ms: i64) -> Option<i64> {
    let verified = archives.iter().filter(|archive| archive.state == ArchiveState::Verified);
    let newest = verified.max_by_key(|archive| archive.sequence)?;
    let age_ms = now_ms.checked_sub(newest.time_ms()?)?;
    let limit = i64::try_from(STICK_BACKUP_FRESH.as_millis()).unwrap_or(i64::MAX);
    (0..limit).contains(&age_ms).then_some(age_ms / 3_600_000)
}

/// Free bytes of the file system of a folder.
///
/// # Errors
/// [`StickError::Io`]
pub(super) fn free_bytes(folder: &Path) -> Result<u64, StickError> {
    let about = statvfs(folder).map_err(|error| StickError::Io(io::Error::from(error)))?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::archive::Header;
    use crate::backup::catalogue::NewArchive;
    use crate::backup::volumes::WrittenFile;
    use crate::observe::rfc3339;

    #[test]
    fn superseded_archives_go_before_each_backup_and_nothing_else_does() {
        const SERVER: &str = "S0000000000000001";
        // 2026-11-21T06:00:00Z
        const BEGIN: i64 = 1_795_240_800_000;
        let folder = tempfile::tempdir().unwrap();
        for sequence in 1..=5 {
            let path = folder.path().join(sequence.to_string());
            Catalogue::begin(&path, SERVER, &|_| None).unwrap();
            std::fs::write(&path, "archive").unwrap();
            let created_at = rfc3339(BEGIN + sequence);
            let sequence = sequence.cast_unsigned();
            let header =
                Header { server_id: SERVER.to_owned(), sequence, created_at, ..Header::default() };
            let file = WrittenFile { bytes: 7, sha256: [1; 32] };
            Catalogue::complete(&path, &NewArchive::written(&header, &[file], true)).unwrap();
            Catalogue::set_state(&path, Some(&header), ArchiveState::Verified).unwrap();
        }
        std::fs::write(folder.path().join("mine"), "not an archive").unwrap();
        prepare(folder.path(), "another server", BEGIN + 60_000).unwrap();
        let names = || {
            let names = std::fs::read_dir(folder.path()).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["1", "2", "3", "4", "5", "mine"]);
        match prepare(folder.path(), SERVER, BEGIN + 60_000) {
            Ok(()) => assert_eq!(names(), ["3", "4", "5", "mine"]),
            // This machine has just started.
            Err(error) => assert!(matches!(error, StickError::Fresh { .. }), "{error}"),
        }
    }

    #[test]
    fn only_a_young_verified_archive_makes_another_needless() {
        let archive = |sequence, created_at: &str, state| CataloguedArchive {
            sequence,
            created_at: created_at.to_owned(),
            state,
            ..CataloguedArchive::default()
        };
        let now = crate::observe::parse_rfc3339("2026-11-21T06:00:00.000Z").unwrap();
        let of = |archives: &[CataloguedArchive]| fresh(&archives.iter().collect::<Vec<_>>(), now);
        let (young, old) = ("2026-11-21T02:30:00.000Z", "2026-11-20T06:00:00.000Z");
        assert_eq!(of(&[archive(1, young, ArchiveState::Verified)]), Some(3));
        assert_eq!(of(&[archive(1, young, ArchiveState::Complete)]), None);
        assert_eq!(of(&[archive(1, old, ArchiveState::Verified)]), None);
        // The clock is behind.
        assert_eq!(of(&[archive(1, "2026-11-22T06:00:00.000Z", ArchiveState::Verified)]), None);
        let both =
            [archive(2, old, ArchiveState::Verified), archive(1, young, ArchiveState::Verified)];
        assert_eq!(of(&both), None);
    }
}
