//! The catalogue of a folder of archives: which of its files a backup made, in which order, and what is known of them.
//!
//! It is the file `.chatto-backups.json` beside the archives. An archive is *writing* before its first byte, *complete* when it
//! has its name, *verified* when all of it was read again, *damaged* when a check found damage. Only what is listed here is
//! ever removed. Everything in it is checked when it is read: anybody may have written to a memory stick.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::{Header, SEQUENCE_MAX, is_printable};
use super::folder::{archives_in, remove_leftovers, remove_unlisted_parts};
use super::target::{TargetFile, directory, no_follow};
use super::volumes::{WrittenFile, archive_files, volume_path};
use crate::limits::{CATALOGUE_ARCHIVES_MAX, CATALOGUE_MAX_BYTES, VOLUMES_MAX};

/// The name of the file.
const FILE: &str = ".chatto-backups.json";
const SCHEMA: u32 = 1;

/// What is known of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveState {
    /// Its file does not have its final name yet.
    #[default]
    Writing,
    /// It has its name, and was not read again.
    Complete,
    /// All of it was read again.
    Verified,
    /// A check found damage.
    Damaged,
}

impl ArchiveState {
    /// For people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Complete => "complete",
            Self::Verified => "verified",
            Self::Damaged => "damaged",
        }
    }
}

/// An archive of the folder. Until it is complete only its name and state are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CataloguedArchive {
    /// Of the file, in the folder.
    pub name: String,
    pub state: ArchiveState,
    /// Higher than that of every archive of its server before.
    pub sequence: u64,
    pub server_id: String,
    /// The start of the machine that made it.
    pub boot_id: String,
    /// RFC 3339, as the machine's clock had it.
    pub created_at: String,
    /// Of all its files.
    pub bytes: u64,
    /// Of its only file, hexadecimal; empty if it was not read when the catalogue was made again, or if there are volumes.
    pub sha256: String,
    /// Its files, if it is in more than one: `NAME.001`, `NAME.002`, …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<CataloguedVolume>,
    pub encrypted: bool,
    /// Version of the program that made it.
    pub program: String,
}

/// A file of an archive in several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CataloguedVolume {
    pub bytes: u64,
    /// Hexadecimal; empty if it was not read when the catalogue was made again.
    pub sha256: String,
}

impl CataloguedArchive {
    fn new(name: String, made: &NewArchive<'_>) -> Self {
        let NewArchive { header, files, encrypted } = made;
        let (sha256, volumes) = match files.as_slice() {
            [only] => (only.sha256.clone(), Vec::new()),
            volumes => (String::new(), volumes.to_vec()),
        };
        Self {
            name,
            state: ArchiveState::Complete,
            sequence: header.sequence,
            server_id: header.server_id.clone(),
            boot_id: header.boot_id.clone(),
            created_at: header.created_at.clone(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            sha256,
            volumes,
            encrypted: *encrypted,
            program: header.program.clone(),
        }
    }

    /// Its files in a folder, with size and SHA-256.
    #[must_use]
    pub fn files(&self, folder: &Path) -> Vec<(PathBuf, CataloguedVolume)> {
        let path = folder.join(&self.name);
        if self.volumes.is_empty() {
            return vec![(
                path,
                CataloguedVolume { bytes: self.bytes, sha256: self.sha256.clone() },
            )];
        }
        let volumes = self.volumes.iter().zip(1..);
        volumes.map(|(volume, number)| (volume_path(&path, number), volume.clone())).collect()
    }

    /// Its time in milliseconds since 1970; `None`: it has none that can be read.
    #[must_use]
    pub fn time_ms(&self) -> Option<i64> {
        crate::observe::parse_rfc3339(&self.created_at)
    }

    fn is_plausible(&self) -> bool {
        let texts = [&self.server_id, &self.boot_id, &self.created_at, &self.sha256, &self.program];
        let sums = self.volumes.iter().map(|volume| &volume.sha256);
        let bytes = self.volumes.iter().try_fold(0_u64, |sum, one| sum.checked_add(one.bytes));
        is_file_name(&self.name)
            && self.sequence <= SEQUENCE_MAX
            && self.volumes.len() <= VOLUMES_MAX
            && (self.volumes.is_empty() || bytes == Some(self.bytes))
            && texts.into_iter().chain(sums).all(|text| is_printable(text, 128))
    }

    /// Whether all its files are there and have their sizes.
    #[must_use]
    pub fn is_unchanged(&self, folder: &Path) -> bool {
        self.files(folder).iter().all(|(path, file)| {
            let about = path.symlink_metadata();
            about.is_ok_and(|about| about.is_file() && about.len() == file.bytes)
        })
    }

    /// Whether its file, or the first of its volumes, is gone. The volumes that are left are then of no use.
    #[must_use]
    pub fn is_gone(&self, folder: &Path) -> bool {
        self.files(folder).first().is_none_or(|(path, _)| is_gone(path))
    }

    /// Removes its files, the first one first.
    fn remove(&self, folder: &Path) -> Result<(), CatalogueError> {
        for (path, _) in self.files(folder) {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(CatalogueError::Remove { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A name of a file in the folder itself.
fn is_file_name(name: &str) -> bool {
    is_printable(name, 255) && !name.contains('/') && !matches!(name, "" | "." | "..")
}

/// The catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("the catalogue {} cannot be read or written", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// For longer than is waited for it.
    #[error("another process keeps the catalogue {} locked; try again when it has finished", path.display())]
    Busy { path: PathBuf },
    #[error(
        "the catalogue {} is damaged, so no archive is removed; the next backup into this directory makes a new one", path.display()
    )]
    Damaged { path: PathBuf },
    #[error("the catalogue {} was written by a newer program; use that version or a newer one", path.display())]
    Newer { path: PathBuf },
    #[error("{} cannot be removed", path.display())]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The archives of a folder, in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    schema: u32,
    pub archives: Vec<CataloguedArchive>,
}

/// Reads the header of an archive, if the file is one that can be opened.
pub type Identify<'a> = &'a dyn Fn(&Path) -> Option<Header>;

/// A complete archive that gets its place in the catalogue.
pub struct NewArchive<'a> {
    pub header: &'a Header,
    pub files: Vec<CataloguedVolume>,
    pub encrypted: bool,
}

impl<'a> NewArchive<'a> {
    /// One that was just written.
    #[must_use]
    pub fn written(header: &'a Header, files: &[WrittenFile], encrypted: bool) -> Self {
        let files = files.iter().map(|file| CataloguedVolume {
            bytes: file.bytes,
            sha256: crate::crypto::hex(&file.sha256),
        });
        Self { header, files: files.collect(), encrypted }
    }

    /// One whose files were found; they were not read.
    fn found(path: &Path, header: &'a Header) -> io::Result<Self> {
        let files = archive_files(path)?.into_iter().map(|file| {
            let bytes = file.symlink_metadata()?.len();
            Ok(CataloguedVolume { bytes, sha256: String::new() })
        });
        let encrypted = path.extension().is_some_and(|extension| extension == "age");
        Ok(Self { header, files: files.collect::<io::Result<_>>()?, encrypted })
    }
}

impl Catalogue {
    /// Reads the catalogue of a folder; `None`: it has none.
    ///
    /// # Errors
    /// [`CatalogueError`]
    pub fn read(folder: &Path) -> Result<Option<Self>, CatalogueError> {
        #[derive(Deserialize)]
        struct Known {
            schema: u32,
        }
        let path = folder.join(FILE);
        let text = match read_file(&path) {
            Ok(Some(text)) if text.len() <= CATALOGUE_MAX_BYTES => text,
            Ok(_) => return Err(CatalogueError::Damaged { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CatalogueError::Io { path, source }),
        };
        if serde_json::from_slice::<Known>(&text).is_ok_and(|known| known.schema > SCHEMA) {
            return Err(CatalogueError::Newer { path });
        }
        match serde_json::from_slice::<Self>(&text).ok().filter(Self::is_plausible) {
            Some(catalogue) => Ok(Some(catalogue)),
            None => Err(CatalogueError::Damaged { path }),
        }
    }

    fn is_plausible(&self) -> bool {
        let mut names = HashSet::new();
        let is_written = |one: &&CataloguedArchive| one.state != ArchiveState::Writing;
        self.archives.len() <= CATALOGUE_ARCHIVES_MAX
            && self.archives.iter().all(CataloguedArchive::is_plausible)
            && self.archives.iter().filter(is_written).all(|one| names.insert(&one.name))
    }

    /// Changes the catalogue; nobody else does meanwhile. It is not written if nothing changed.
    fn change<T>(
        folder: &Path,
        edit: impl FnOnce(&mut Self) -> Result<T, CatalogueError>,
    ) -> Result<T, CatalogueError> {
        let former = || Ok(Self::read(folder)?.unwrap_or_default());
        Self::change_from(folder, former, edit)
    }

    fn change_from<T>(
        folder: &Path,
        former: impl FnOnce() -> Result<Self, CatalogueError>,
        edit: impl FnOnce(&mut Self) -> Result<T, CatalogueError>,
    ) -> Result<T, CatalogueError> {
        let path = folder.join(FILE);
        let failed = |source| CatalogueError::Io { path: path.clone(), source };
        // Its lock is what keeps others waiting.
        let mut target = TargetFile::create_shared(&path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => CatalogueError::Busy { path: path.clone() },
            _ => failed(error),
        })?;
        let former = former()?;
        let mut catalogue = Self { schema: SCHEMA, ..former.clone() };
        let done = edit(&mut catalogue)?;
        if catalogue != former {
            let excess = catalogue.archives.len().saturating_sub(CATALOGUE_ARCHIVES_MAX);
            catalogue.archives.drain(..excess);
            let text = serde_json::to_vec_pretty(&catalogue).map_err(io::Error::from);
            let written = text.and_then(|text| target.write_all(&text));
            written.and_then(|()| target.commit()).map_err(failed)?;
        }
        Ok(done)
    }

    /// A backup to this file begins. What backups that were killed have left is removed, files that are gone are
    /// forgotten, and a damaged catalogue is made again of what `identify` says of the files with names of archives.
    /// Returns the highest number of the archives of this server.
    ///
    /// # Errors
    /// [`CatalogueError`]
    pub fn begin(
        path: &Path,
        server_id: &str,
        identify: Identify<'_>,
    ) -> Result<u64, CatalogueError> {
        let folder = directory(path);
        remove_unlisted_parts(folder);
        let former = || match Self::read(folder) {
            Err(CatalogueError::Damaged { path }) => Self::rebuild(&path, identify),
            read => Ok(read?.unwrap_or_default()),
        };
        Self::change_from(folder, former, |catalogue| {
            let is_written = |one: &CataloguedArchive| one.state != ArchiveState::Writing;
            let mut kept: Vec<CataloguedArchive> = Vec::new();
            for archive in &catalogue.archives {
                let file = folder.join(&archive.name);
                if is_written(archive) {
                    if archive.is_gone(folder) {
                        archive.remove(folder)?;
                    } else {
                        kept.push(archive.clone());
                    }
                    continue;
                }
                let known = catalogue.archives.iter().chain(&kept);
                let is_known =
                    known.filter(|one| is_written(one)).any(|one| one.name == archive.name);
                kept.extend(unfinished(archive, &file, (is_known, identify)));
            }
            catalogue.archives = kept;
            catalogue
                .archives
                .push(CataloguedArchive { name: file_name(path), ..CataloguedArchive::default() });
            Ok(catalogue.highest_of(server_id))
        })
    }

    /// The highest number of the archives of a server; 0: there is none, or the catalogue cannot be read.
    #[must_use]
    pub fn highest_sequence(folder: &Path, server_id: &str) -> u64 {
        let catalogue = Self::read(folder).ok().flatten().unwrap_or_default();
        catalogue.highest_of(server_id)
    }

    fn highest_of(&self, server_id: &str) -> u64 {
        let own = self.archives.iter().filter(|archive| archive.server_id == server_id);
        own.map(|archive| archive.sequence).max().unwrap_or(0)
    }

    /// The backup to this file made nothing.
    ///
    /// # Errors
    /// [`CatalogueError`]
    pub fn abandon(path: &Path) -> Result<(), CatalogueError> {
        let name = file_name(path);
        Self::change(directory(path), |catalogue| {
            let is_it =
                |one: &CataloguedArchive| one.state == ArchiveState::Writing && one.name == name;
            catalogue.archives.retain(|archive| !is_it(archive));
            Ok(())
        })
    }

    /// The file has its name. Former ones of this name are gone.
    ///
    /// # Errors
    /// [`CatalogueError`]
    pub fn complete(path: &Path, made: &NewArchive<'_>) -> Result<(), CatalogueError> {
        let name = file_name(path);
        Self::change(directory(path), |catalogue| {
            catalogue.archives.retain(|archive| archive.name != name);
            catalogue.archives.push(CataloguedArchive::new(name, made));
            Ok(())
        })
    }

    /// What reading an archive again has shown; without its header it was too damaged to show which one it is. Nothing
    /// happens if the archive is not in the catalogue of its folder.
    ///
    /// # Errors
    /// [`CatalogueError`]
    pub fn set_state(
        path: &Path,
        header: Option<&Header>,
        state: ArchiveState,
    ) -> Result<(), CatalogueError> {
        let (folder, name) = (directory(path), file_name(path));
        let is_it = |one: &CataloguedArchive| {
            let is_number = |header: &Header| {
                (&one.server_id, one.sequence) == (&header.server_id, header.sequence)
            };
            one.name == name
                && one.state != ArchiveState::Writing
                && header.map_or_else(|| one.is_unchanged(folder), is_number)
        };
        let differs = |catalogue: &Self| {
            catalogue.archives.iter().any(|one| is_it(one) && one.state != state)
        };
        if !Self::read(folder)?.is_some_and(|catalogue| differs(&catalogue)) {
            return Ok(());
        }
        Self::change(folder, |catalogue| {
            let archives = catalogue.archives.iter_mut();
            archives.filter(|one| is_it(one)).for_each(|one| one.state = state);
            Ok(())
        })
    }

    /// Those of these names whose files are still the ones that were written, oldest first.
    #[must_use]
    pub fn removable(&self, folder: &Path, names: &[String]) -> Vec<CataloguedArchive> {
        let named = self.archives.iter().filter(|archive| names.contains(&archive.name));
        let mut removable: Vec<CataloguedArchive> =
            named.filter(|archive| archive.is_unchanged(folder)).cloned().collect();
        removable.sort_by_key(|archive| archive.sequence);
        removable
    }

    /// Removes files by the names that `choose` returns, each with its entry. Files that are not those that were written
    /// stay. Returns what was removed.
    ///
    /// # Errors
    /// [`CatalogueError`]; what was removed by then is gone.
    pub fn remove(
        folder: &Path,
        choose: impl FnOnce(&Self) -> Vec<String>,
    ) -> Result<Vec<CataloguedArchive>, CatalogueError> {
        Self::change(folder, |catalogue| {
            let names = choose(catalogue);
            let removed = catalogue.removable(folder, &names);
            removed.iter().try_for_each(|archive| archive.remove(folder))?;
            catalogue.archives.retain(|archive| !removed.contains(archive));
            Ok(removed)
        })
    }

    /// Lists the archives of the folder anew. A copy of the damaged catalogue is kept.
    fn rebuild(path: &Path, identify: Identify<'_>) -> Result<Self, CatalogueError> {
        let folder = directory(path);
        log::warn!(path:% = path.display(); "the catalogue of the backups is damaged; it is made again from the archives beside it");
        let failed = |source| CatalogueError::Io { path: path.to_owned(), source };
        // A link or a pipe is only replaced.
        if let Some(text) = read_file(path).map_err(failed)? {
            keep_damaged(folder, &text).map_err(failed)?;
        }
        let mut archives = Vec::new();
        for file in archives_in(folder).map_err(failed)? {
            let path = folder.join(&file.name);
            let Some(header) = identify(&path) else { continue };
            let made = NewArchive::found(&path, &header).map_err(failed)?;
            archives.push(CataloguedArchive::new(file.name, &made));
        }
        archives.sort_by_key(|archive| archive.sequence);
        Ok(Self { schema: 0, archives })
    }
}

/// Keeps the beginning of a damaged catalogue beside the new one.
fn keep_damaged(folder: &Path, text: &[u8]) -> io::Result<()> {
    let mut copy = TargetFile::create_shared(&folder.join(format!("{FILE}.damaged")))?;
    copy.write_all(text)?;
    copy.commit()
}

/// What a backup that was killed has left: its entry goes with its part, becomes that of a complete archive if it came so far,
/// or stays while the backup is running.
fn unfinished(
    entry: &CataloguedArchive,
    file: &Path,
    (is_known, identify): (bool, Identify<'_>),
) -> Option<CataloguedArchive> {
    match remove_leftovers(file) {
        Ok(false) => Some(entry.clone()),
        Ok(true) => {
            let header = if is_known { None } else { identify(file) }?;
            let made = NewArchive::found(file, &header).ok()?;
            Some(CataloguedArchive::new(entry.name.clone(), &made))
        }
        Err(error) => {
            log::warn!(error:err = error, path:% = file.display(); "what an interrupted backup has left cannot be removed");
            None
        }
    }
}

pub(super) fn is_gone(file: &Path) -> bool {
    file.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The beginning of an ordinary file, one byte more than a catalogue may have; `None`: it is a link, a pipe or a folder.
fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let about = path.symlink_metadata()?;
    if !about.is_file() {
        return Ok(None);
    }
    let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path)?;
    let limit = u64::try_from(CATALOGUE_MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Vec::new();
    file.take(limit).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Checks that an archive of this name can be catalogued.
///
/// # Errors
/// `InvalidInput`: the name has control characters, or is that of the catalogue.
pub fn check_name(path: &Path) -> io::Result<()> {
    let name = file_name(path);
    let why = match is_file_name(&name) {
        true if name.starts_with(FILE) => "this is the name of the catalogue",
        true => return Ok(()),
        false => "a name of an archive must not have control characters",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "S0000000000000001";

    fn header(sequence: u64) -> Header {
        let created_at = format!("2026-11-21T06:00:{sequence:02}.000Z");
        Header { server_id: SERVER.to_owned(), sequence, created_at, ..Header::default() }
    }

    fn no_archives(_: &Path) -> Option<Header> {
        None
    }

    /// Writes a file and enters it.
    fn make(path: &Path, sequence: u64) -> u64 {
        let former = Catalogue::begin(path, SERVER, &no_archives).unwrap();
        std::fs::write(path, "archive").unwrap();
        let header = header(sequence);
        let file = WrittenFile { bytes: 7, sha256: [1; 32] };
        let made = NewArchive::written(&header, &[file], true);
        Catalogue::complete(path, &made).unwrap();
        former
    }

    fn names(folder: &Path) -> Vec<String> {
        let catalogue = Catalogue::read(folder).unwrap().unwrap();
        catalogue.archives.into_iter().map(|archive| archive.name).collect()
    }

    #[test]
    fn archives_are_entered_in_order_and_a_name_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(Catalogue::read(folder.path()).unwrap(), None);
        assert_eq!(make(&path("daily"), 4), 0);
        assert_eq!(make(&path("other"), 5), 4);
        // It is still there while its successor is being made, and if none is made.
        assert_eq!(Catalogue::begin(&path("daily"), SERVER, &no_archives).unwrap(), 5);
        assert_eq!(names(folder.path()), ["daily", "other", "daily"]);
        Catalogue::abandon(&path("daily")).unwrap();
        assert_eq!(names(folder.path()), ["daily", "other"]);
        assert_eq!(make(&path("daily"), 6), 5);
        assert_eq!(names(folder.path()), ["other", "daily"]);
        // Numbers count for each server by itself.
        assert_eq!(Catalogue::begin(&path("new"), "S2", &no_archives).unwrap(), 0);
    }

    #[test]
    fn leftovers_and_files_that_are_gone_are_forgotten_when_a_backup_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        make(&path("first"), 1);
        make(&path("second"), 2);
        std::fs::remove_file(path("first")).unwrap();
        Catalogue::begin(&path("killed"), SERVER, &no_archives).unwrap();
        std::fs::write(path(".killed.partial"), "half").unwrap();
        Catalogue::begin(&path("running"), SERVER, &no_archives).unwrap();
        let running = TargetFile::create(&path("running"), None).unwrap();
        make(&path("third"), 3);
        assert_eq!(names(folder.path()), ["second", "running", "third"]);
        assert!(!path(".killed.partial").exists());
        drop(running);
    }

    #[test]
    fn what_reading_again_has_shown_is_noted_for_that_archive_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daily");
        make(&path, 4);
        let state = || Catalogue::read(folder.path()).unwrap().unwrap().archives[0].state;
        Catalogue::set_state(&path, Some(&header(3)), ArchiveState::Damaged).unwrap();
        assert_eq!(state(), ArchiveState::Complete);
        Catalogue::set_state(&path, Some(&header(4)), ArchiveState::Verified).unwrap();
        assert_eq!(state(), ArchiveState::Verified);
        Catalogue::set_state(&path, None, ArchiveState::Damaged).unwrap();
        assert_eq!(state(), ArchiveState::Damaged);
        let elsewhere = tempfile::tempdir().unwrap();
        let other = elsewhere.path().join("daily");
        Catalogue::set_state(&other, Some(&header(4)), ArchiveState::Verified).unwrap();
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_files_that_were_written_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, sequence) in [("one", 1), ("two", 2), ("three", 3)] {
            make(&path(name), sequence);
        }
        std::fs::write(path("two"), "something of somebody else").unwrap();
        std::fs::write(path("mine"), "archive").unwrap();
        let all = |_: &Catalogue| ["one", "two", "mine"].map(str::to_owned).to_vec();
        let removed = Catalogue::remove(folder.path(), all).unwrap();
        assert_eq!(removed.len(), 1);
        assert!(!path("one").exists() && path("two").exists() && path("mine").exists());
        assert_eq!(names(folder.path()), ["two", "three"]);
    }

    #[test]
    fn a_damaged_catalogue_removes_nothing_and_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let known = "2026-11-21T06-00-01Z.tar.gz";
        for name in [known, "2026-11-21T06-00-02Z-2.tar.gz.age", "mine.tar.gz"] {
            std::fs::write(path(name), "archive").unwrap();
        }
        let traversal = r#"{"schema":1,"archives":[{"name":"../x"}]}"#;
        let escape = r#"{"schema":1,"archives":[{"name":"a\u001b[2J"}]}"#;
        let huge = r#"{"schema":1,"archives":[{"name":"a","sequence":9007199254740993}]}"#;
        let twice = r#"{"schema":1,"archives":[{"name":"a","state":"complete"},{"name":"a","state":"verified"}]}"#;
        for text in ["", "{", "[]", r#"{"schema":1}"#, traversal, escape, huge, twice] {
            std::fs::write(path(FILE), text).unwrap();
            let refused = Catalogue::remove(folder.path(), |_| vec!["mine.tar.gz".to_owned()]);
            assert!(matches!(refused, Err(CatalogueError::Damaged { .. })), "{text}");
            let identify = |found: &Path| (found == path(known)).then(|| header(7));
            assert_eq!(Catalogue::begin(&path("new"), SERVER, &identify).unwrap(), 7, "{text}");
            assert_eq!(names(folder.path()), [known, "new"], "{text}");
            Catalogue::abandon(&path("new")).unwrap();
        }
        std::fs::write(path(FILE), r#"{"schema":2,"volumes":[]}"#).unwrap();
        let newer = Catalogue::begin(&path("new"), SERVER, &no_archives);
        assert!(matches!(newer, Err(CatalogueError::Newer { .. })));
    }

    #[test]
    fn an_archive_that_was_complete_when_its_backup_was_killed_is_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        Catalogue::begin(&path("killed"), SERVER, &no_archives).unwrap();
        std::fs::write(path("killed"), "archive").unwrap();
        let identify = |found: &Path| (found == path("killed")).then(|| header(7));
        assert_eq!(Catalogue::begin(&path("next"), SERVER, &identify).unwrap(), 7);
        let catalogue = Catalogue::read(folder.path()).unwrap().unwrap();
        let states = catalogue.archives.iter().map(|one| (one.name.as_str(), one.state));
        let expected = [("killed", ArchiveState::Complete), ("next", ArchiveState::Writing)];
        assert_eq!(states.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn links_and_pipes_are_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("victim"), "secret").unwrap();
        std::os::unix::fs::symlink(path("victim"), path(&format!("{FILE}.damaged"))).unwrap();
        let pipe = |path: &Path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        };
        let make = |kind: &str| match kind {
            "link" => std::os::unix::fs::symlink(path("victim"), path(FILE)).unwrap(),
            "pipe" => pipe(&path(FILE)),
            _ => std::fs::write(path(FILE), "no catalogue").unwrap(),
        };
        for kind in ["link", "pipe", "text"] {
            std::fs::remove_file(path(FILE)).ok();
            make(kind);
            let refused = Catalogue::read(folder.path());
            assert!(matches!(refused, Err(CatalogueError::Damaged { .. })), "{kind}");
            Catalogue::begin(&path("new"), SERVER, &no_archives).unwrap();
            assert_eq!(names(folder.path()), ["new"], "{kind}");
            Catalogue::abandon(&path("new")).unwrap();
            assert_eq!(std::fs::read_to_string(path("victim")).unwrap(), "secret", "{kind}");
        }
        let copy = path(&format!("{FILE}.damaged"));
        assert!(!copy.is_symlink());
        assert_eq!(std::fs::read_to_string(copy).unwrap(), "no catalogue");
    }

    #[test]
    fn a_hostile_entry_of_a_backup_that_never_was_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path(".x.partial")).unwrap();
        let long = "z".repeat(250);
        let text = format!(r#"{{"schema":1,"archives":[{{"name":"x"}},{{"name":"{long}"}}]}}"#);
        std::fs::write(path(FILE), text).unwrap();
        Catalogue::begin(&path("new"), SERVER, &no_archives).unwrap();
        assert_eq!(names(folder.path()), ["new"]);
    }

    #[test]
    fn names_that_cannot_be_catalogued_are_refused() {
        for name in ["a\nb", FILE, ".chatto-backups.json.damaged"] {
            assert!(check_name(Path::new(name)).is_err(), "{name:?}");
        }
        check_name(Path::new("mnt/daily.tar.gz")).unwrap();
    }
}
