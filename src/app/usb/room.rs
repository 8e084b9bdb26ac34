//! Whether a stick needs a backup, and has room for one.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;
use rustix::system::sysinfo;

use crate::backup::catalogue::{ArchiveState, Catalogue, CataloguedArchive};
use crate::backup::retention::Retention;
use crate::limits::{MACHINE_START, STICK_BACKUP_FRESH};

use super::error::StickError;

/// Makes room for another archive of a server in its folder. If there is less than its last archive took, what retention lets go
/// is removed; nothing else ever is.
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
    if free_bytes(folder)? >= needed {
        return Ok(());
    }
    if let Err(error) = Retention::RECOMMENDED.prune(folder, (Some(server_id), now_ms), false) {
        log::warn!(error:err = error; "no room could be made on the stick");
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
