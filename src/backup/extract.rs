//! Single files of an archive, without a store.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::archive::{ArchiveError, ArchiveReader, Item};
use super::restore::{fill, sealed_lengths};
use super::target::TargetFile;
use crate::blobs::{BlobError, FileCipher};
use crate::domain::text::file_name_within;
use crate::domain::{AssetId, File, FileLocation};
use crate::limits::{COPY_CHUNK_BYTES, EXTRACTED_NAME_MAX_BYTES, EXTRACTED_SAME_NAME_MAX};
use crate::storage::{
    ArchivedRecord, ArchivedStream, FilePart, StorageError, StoredKey, check_archived,
    unwrap_archived_key,
};

/// A file was not extracted. Those before it were.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("{} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} exists already; -o chooses another directory", path.display())]
    Exists { path: PathBuf },
    #[error(
        "the archive has no file {0}; `chatto backup extract` with the archive alone lists its files"
    )]
    Unknown(AssetId),
    #[error(
        "the file {0} is in S3, and the archive only lists it; `chatto backup --assets=all` includes such files"
    )]
    Listed(AssetId),
    #[error("the archive does not have the bytes of the file {0}")]
    NoBytes(AssetId),
    #[error("the file {0} is encrypted with a key of its uploader; --keys FILE takes a key export")]
    Encrypted(AssetId),
    #[error("the file {id} cannot be decrypted")]
    Key {
        id: AssetId,
        #[source]
        source: StorageError,
    },
    #[error("the file {id} cannot be decrypted")]
    Bytes {
        id: AssetId,
        #[source]
        source: BlobError,
    },
}

/// A file that was extracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    pub id: AssetId,
    pub path: PathBuf,
    pub bytes: u64,
}

/// The files that an archive knows, by name, whether it has their bytes or not.
///
/// # Errors
/// [`ArchiveError`]
pub fn files_of<R: Read>(archive: &mut ArchiveReader<R>) -> Result<Vec<File>, ArchiveError> {
    let mut files: HashMap<AssetId, File> = HashMap::new();
    while let Some(item) = archive.next_item()? {
        if let Item::Records(stream @ ArchivedStream::Files, records) = item {
            for record in records {
                let file = archived_file(stream, &record)?;
                files.extend(file.map(|file| (file.id, file)));
            }
        }
    }
    let mut files: Vec<File> = files.into_values().collect();
    files.sort_by(|one, other| (&one.name, one.id.as_str()).cmp(&(&other.name, other.id.as_str())));
    Ok(files)
}

fn archived_file(
    stream: ArchivedStream,
    record: &ArchivedRecord,
) -> Result<Option<File>, ArchiveError> {
    check_archived(stream, record)
        .map_err(|source| ArchiveError::Record { member: record.subject.clone(), source })
}

/// Writes files of an archive into a folder, by their names. Nothing is overwritten. `keys`: of a key export, which encrypted
/// files need.
///
/// # Errors
/// [`ExtractError`]
pub fn extract_files<R: Read>(
    archive: &mut ArchiveReader<R>,
    (wanted, keys): (&[AssetId], Option<&[StoredKey]>),
    folder: &Path,
) -> Result<Vec<Extracted>, ExtractError> {
    let mut known: HashMap<AssetId, File> = HashMap::new();
    let mut file_keys: HashMap<AssetId, Bytes> = HashMap::new();
    let mut extracted: Vec<Extracted> = Vec::new();
    while extracted.len() < wanted.len()
        && let Some(item) = archive.next_item()?
    {
        match item {
            Item::Records(stream @ ArchivedStream::Files, records) => {
                for record in records {
                    let file = archived_file(stream, &record)?;
                    let file = file.filter(|file| wanted.contains(&file.id));
                    known.extend(file.map(|file| (file.id, file)));
                    if let FilePart::Key(Some(id)) = FilePart::of(&record.subject)
                        && !record.deleted
                        && wanted.contains(&id)
                    {
                        file_keys.insert(id, record.data);
                    }
                }
            }
            Item::Asset { id, .. } => {
                let Some(file) = known.get(&id) else { continue };
                let cipher = match file.encrypted {
                    true => Some(cipher(file, file_keys.get(&id), keys)?),
                    false => None,
                };
                let path = free_path(folder, (&file.name, id.as_str()), "")?;
                let bytes = match cipher {
                    Some(cipher) => copy_decrypted(archive, (file, &cipher), &path)?,
                    None => copy(archive, &path)?,
                };
                extracted.push(Extracted { id, path, bytes });
            }
            Item::Records(..) | Item::Objects(_) => {}
        }
    }
    let lacking = wanted.iter().find(|id| !extracted.iter().any(|one| one.id == **id));
    let Some(id) = lacking else { return Ok(extracted) };
    Err(match known.get(id).map(|file| &file.location) {
        None => ExtractError::Unknown(*id),
        Some(FileLocation::S3) => ExtractError::Listed(*id),
        Some(FileLocation::Nats(_)) => ExtractError::NoBytes(*id),
    })
}

/// What decrypts an encrypted file.
fn cipher(
    file: &File,
    wrapped: Option<&Bytes>,
    keys: Option<&[StoredKey]>,
) -> Result<FileCipher, ExtractError> {
    let id = file.id;
    let Some(keys) = keys else { return Err(ExtractError::Encrypted(id)) };
    let wrapped = wrapped.ok_or(ExtractError::NoBytes(id))?;
    let key = unwrap_archived_key(file, wrapped, keys);
    Ok(FileCipher::of(file, key.map_err(|source| ExtractError::Key { id, source })?))
}

fn copy_decrypted<R: Read>(
    archive: &mut ArchiveReader<R>,
    (file, cipher): (&File, &FileCipher),
    path: &Path,
) -> Result<u64, ExtractError> {
    let failed = |source| ExtractError::Write { path: path.to_owned(), source };
    let mut target = TargetFile::create(path, None).map_err(failed)?;
    let mut lengths = sealed_lengths(&file.location);
    while let Some(sealed) = lengths.next()
        && let Some(bytes) = fill(archive, sealed)?
    {
        let plain = cipher.open(target.written(), &bytes);
        let plain = plain.map_err(|source| ExtractError::Bytes { id: file.id, source })?;
        target.write_all(&plain).map_err(failed)?;
    }
    let written = target.written();
    target.commit().map_err(failed)?;
    Ok(written)
}

fn copy<R: Read>(archive: &mut ArchiveReader<R>, path: &Path) -> Result<u64, ExtractError> {
    let failed = |source| ExtractError::Write { path: path.to_owned(), source };
    let mut target = TargetFile::create(path, None).map_err(failed)?;
    let mut buffer = vec![0; COPY_CHUNK_BYTES];
    loop {
        // At its end its hash was found to be right.
        let read = archive.read(&mut buffer)?;
        if read == 0 {
            let written = target.written();
            target.commit().map_err(failed)?;
            return Ok(written);
        }
        target.write_all(buffer.split_at(read).0).map_err(failed)?;
    }
}

/// A path for a file or room of an archive that no file has: by its name, or else by its id and name, or else with a number
/// after them, too. Names in an archive are hostile: an ordinary file in the folder itself comes of them, and none that is
/// hidden.
///
/// # Errors
/// [`ExtractError::Exists`]
pub fn free_path(
    folder: &Path,
    (name, id): (&str, &str),
    end: &str,
) -> Result<PathBuf, ExtractError> {
    let name = file_name_within(name, EXTRACTED_NAME_MAX_BYTES);
    let name = name.trim_start_matches('.');
    // The number comes before what says the kind of the file.
    let (stem, kind) = match name.rfind('.') {
        Some(dot) if end.is_empty() && dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    let numbered = (2..EXTRACTED_SAME_NAME_MAX).map(|n| format!("{id}-{stem}-{n}{kind}{end}"));
    let names = [format!("{name}{end}"), format!("{id}-{name}{end}")].into_iter().chain(numbered);
    let mut paths = names.map(|name| folder.join(name));
    let exists = || ExtractError::Exists { path: folder.join(format!("{id}-{name}{end}")) };
    paths.find(|path| path.symlink_metadata().is_err()).ok_or_else(exists)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let long = "ä".repeat(300);
        for (name, safe) in [
            ("photo.jpg", "photo.jpg"),
            ("../../etc/passwd", "passwd"),
            (".bashrc", "bashrc"),
            ("a\u{1b}[2J\n", "a[2J"),
            ("...", "file"),
            ("", "file"),
            (&format!("{long}.jpeg"), &format!("{}.jpeg", long.get(..194).unwrap())),
        ] {
            let path = free_path(folder.path(), (name, "A1"), "").unwrap();
            assert_eq!(path, folder.path().join(safe), "{name:?}");
        }
        for (name, end, expected) in [
            ("x", ".txt", ["x.txt", "A1-x.txt", "A1-x-2.txt", "A1-x-3.txt"]),
            ("a.b.jpg", "", ["a.b.jpg", "A1-a.b.jpg", "A1-a.b-2.jpg", "A1-a.b-3.jpg"]),
            ("none", "", ["none", "A1-none", "A1-none-2", "A1-none-3"]),
        ] {
            for expected in expected {
                let path = free_path(folder.path(), (name, "A1"), end).unwrap();
                assert_eq!(path, folder.path().join(expected));
                std::fs::write(path, "").unwrap();
            }
        }
    }
}
