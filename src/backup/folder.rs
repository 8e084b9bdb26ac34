//! The files of a folder that are archives, or parts of archives that were never completed, by their names.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::catalogue::{file_name, is_gone};
use super::target::{directory, remove_leftover};
use super::volumes::{split_volume, volume_path};
use crate::limits::CATALOGUE_ARCHIVES_MAX;

/// An archive with a name that chatto gives: `2026-11-21T06-00-00Z.tar.gz`, or with `-2` before the dot, or with `.age` at the
/// end; on a paired stick with the number of the backup before it, `000123-2026-11-21T06-00-00Z.tar.gz.age`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundArchive {
    pub name: String,
    pub bytes: u64,
}

/// The archives of a folder that have such names, sorted.
///
/// # Errors
/// The system's error.
pub fn archives_in(folder: &Path) -> io::Result<Vec<FoundArchive>> {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let archive = archive_of(&name);
        if is_archive_name(archive)
            && let Ok(about) = entry.metadata()
            && about.is_file()
        {
            let bytes = found.entry(archive.to_owned()).or_default();
            *bytes = bytes.saturating_add(about.len());
        }
        if found.len() >= CATALOGUE_ARCHIVES_MAX {
            break;
        }
    }
    Ok(found.into_iter().map(|(name, bytes)| FoundArchive { name, bytes }).collect())
}

/// The name of the archive of which a file may be a volume.
fn archive_of(name: &str) -> &str {
    split_volume(name).map_or(name, |(archive, _)| archive)
}

fn is_archive_name(name: &str) -> bool {
    let plain = name.strip_suffix(".age").unwrap_or(name);
    let Some(stem) = plain.strip_suffix(".tar.gz") else { return false };
    let Some((time, number)) = stem.split_once('Z') else { return false };
    let time = match time.split_once('-') {
        Some((sequence, time)) if is_sequence(sequence) => time,
        _ => time,
    };
    let pattern = "dddd-dd-ddTdd-dd-dd";
    let is_time = time.len() == pattern.len()
        && time.chars().zip(pattern.chars()).all(|(c, p)| match p {
            'd' => c.is_ascii_digit(),
            p => c == p,
        });
    let is_number = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit());
    is_time && (number.is_empty() || number.strip_prefix('-').is_some_and(is_number))
}

/// The number of a backup in the name of its archive: at least six digits, so that it is no year.
fn is_sequence(text: &str) -> bool {
    text.len() >= 6 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Removes the parts of an archive, and its volumes if the first is missing; returns false while a process is writing it.
pub(super) fn remove_leftovers(file: &Path) -> io::Result<bool> {
    if !remove_leftover(file)? {
        return Ok(false);
    }
    let name = file_name(file);
    let first_is_gone = is_gone(file) && is_gone(&volume_path(file, 1));
    for entry in std::fs::read_dir(directory(file))? {
        let entry = entry?.file_name();
        let Some(entry) = entry.to_str() else { continue };
        let part = entry.strip_prefix('.').and_then(|entry| entry.strip_suffix(".partial"));
        let volume = part.unwrap_or(entry);
        if split_volume(volume).is_none_or(|(archive, _)| archive != name) {
            continue;
        }
        let path = file.with_file_name(volume);
        if part.is_some() && !remove_leftover(&path)? {
            return Ok(false);
        }
        if part.is_none() && first_is_gone {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(true)
}

/// Removes parts of archives whose backups were killed before the catalogue listed them. Only names that `chatto backup` gives
/// are looked at, and a part that a process is writing stays.
pub(super) fn remove_unlisted_parts(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let part = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
        let Some(part) = part.filter(|part| is_archive_name(archive_of(part))) else { continue };
        if let Err(error) = remove_leftover(&folder.join(part)) {
            log::warn!(error:err = error, path:% = entry.path().display(); "what an interrupted backup has left cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_backup_gives_are_names_of_archives() {
        for name in [
            "2026-11-21T06-00-00Z.tar.gz",
            "2026-11-21T06-00-00Z.tar.gz.age",
            "2026-11-21T06-00-00Z-12.tar.gz",
        ] {
            assert!(is_archive_name(name), "{name}");
        }
        for name in [
            "yearly.tar.gz",
            "2026-11-21T06-00-00Z.age",
            "2026-11-21T06-00-00Zx.tar.gz",
            "Z.tar.gz",
        ] {
            assert!(!is_archive_name(name), "{name}");
        }
    }
}
