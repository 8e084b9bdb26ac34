//! The file of an archive: how it is opened, decrypted, read to its end, and found to be complete.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, OFlags, fadvise};

use crate::backup::archive::{ArchiveError, ArchiveReader, Header, Manifest};
use crate::backup::catalogue::{ArchiveState, Catalogue, CatalogueError};
use crate::backup::contents::Contents;
use crate::backup::restore;
use crate::backup::volumes::{JoinedFiles, archive_files, archive_path};
use crate::crypto::Secret;
use crate::crypto::age::{AgeError, AgeReader, FORM_BYTES, Form};
use crate::limits::COPY_CHUNK_BYTES;

use super::restore::RestoreFailure;

/// The file of an archive, or its volumes.
pub struct ArchiveFile {
    /// Without the number of a volume.
    path: PathBuf,
    /// Opened before the command gives up rights.
    files: Vec<File>,
    /// Decrypts it; `None`: it is not encrypted.
    passphrase: Option<Secret>,
    work_factor_max: u8,
}

impl ArchiveFile {
    /// Whether the file is encrypted, by its content.
    pub fn is_encrypted(path: &Path) -> Result<bool, RestoreFailure> {
        let failed = |source| RestoreFailure::File { path: path.to_owned(), source };
        let mut start = Vec::new();
        let limit = u64::try_from(FORM_BYTES).unwrap_or(u64::MAX);
        open_files(path)
            .and_then(|files| JoinedFiles::new(&files)?.take(limit).read_to_end(&mut start))
            .map_err(failed)?;
        match Form::of(&start) {
            Form::Age => Ok(true),
            Form::Armored => Err(AgeError::Armored.into()),
            Form::Other => Ok(false),
        }
    }

    /// A file, and what decrypts it.
    ///
    /// # Errors
    /// [`RestoreFailure::File`]
    pub fn new(
        path: PathBuf,
        passphrase: Option<Secret>,
        work_factor_max: u8,
    ) -> Result<Self, RestoreFailure> {
        match open_files(&path) {
            Ok(files) => Ok(Self { path: archive_path(&path), files, passphrase, work_factor_max }),
            Err(source) => Err(RestoreFailure::File { path, source }),
        }
    }

    /// Bytes of the files, for progress; 0 where the system does not tell.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.metadata().map_or(0, |about| about.len())).sum()
    }

    /// Enters what reading all of it has shown into the catalogue beside it, if that lists it.
    ///
    /// # Errors
    /// [`CatalogueError`]
    pub fn set_state(
        &self,
        header: Option<&Header>,
        state: ArchiveState,
    ) -> Result<(), CatalogueError> {
        // Through links, as the backup wrote it. An archive in volumes has no file of its own name.
        let path = self.path.canonicalize();
        Catalogue::set_state(path.as_ref().unwrap_or(&self.path), header, state)
    }

    /// Drops what the system has in memory of the file, so that the disk is read. Whether it does is the system's choice.
    fn drop_cache(&self) {
        for file in &self.files {
            if let Err(error) = fadvise(file, 0, None, Advice::DontNeed) {
                log::debug!(error:err = error; "the archive may be read from memory");
            }
        }
    }

    /// Reads it from its beginning; one reader at a time.
    pub fn open(&self) -> Result<Reader, RestoreFailure> {
        let failed = |source| RestoreFailure::File { path: self.path.clone(), source };
        let files = JoinedFiles::new(&self.files).map_err(failed)?;
        let file = BufReader::with_capacity(COPY_CHUNK_BYTES, files);
        let plain: Box<dyn Read> = match &self.passphrase {
            None => Box::new(file),
            Some(passphrase) => Box::new(AgeReader::open(file, passphrase, self.work_factor_max)?),
        };
        Ok(ArchiveReader::open(plain)?)
    }
}

/// Opens the files of an archive.
fn open_files(path: &Path) -> io::Result<Vec<File>> {
    archive_files(path)?.iter().map(|path| open_file(path)).collect()
}

/// Opens an ordinary file, which can be read twice, without waiting for the other end of a pipe.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not an ordinary file")),
    }
}

/// An archive that was found to be complete.
#[derive(Debug, Clone)]
pub struct Verified {
    pub header: Header,
    pub manifest: Manifest,
    /// Of its records and files.
    pub(super) bytes: u64,
}

/// Reads a whole archive and checks everything in it. `progress` takes the bytes of its content so far. Blocks.
///
/// # Errors
/// [`RestoreFailure`]
pub fn verify_archive(
    archive: &ArchiveFile,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, RestoreFailure> {
    Ok(read_whole(archive, progress, restore::verify)?.0)
}

/// As [`verify_archive`]; also counts and sums what the archive brings back, for a restore test.
///
/// # Errors
/// [`RestoreFailure`]
pub fn verify_contents(
    archive: &ArchiveFile,
    progress: &mut dyn FnMut(u64),
) -> Result<(Verified, Contents), RestoreFailure> {
    read_whole(archive, progress, Contents::read)
}

/// Reads an archive, decrypted.
pub(super) type Reader = ArchiveReader<Box<dyn Read>>;

/// Reads an archive to its end, from the disk.
fn read_whole<T>(
    archive: &ArchiveFile,
    progress: &mut dyn FnMut(u64),
    read: impl FnOnce(&mut Reader, &mut dyn FnMut(u64)) -> Result<T, ArchiveError>,
) -> Result<(Verified, T), RestoreFailure> {
    archive.drop_cache();
    let mut reader = archive.open()?;
    let mut bytes = 0;
    let read = read(&mut reader, &mut |done| {
        bytes = done;
        progress(done);
    })?;
    let manifest = reader.manifest().cloned().unwrap_or_default();
    Ok((Verified { header: reader.header().clone(), manifest, bytes }, read))
}
