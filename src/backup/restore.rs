//! Restoring an archive into streams. It was verified before; what is written here is not complete until the end.

use std::io::Read;

use bytes::Bytes;

use super::archive::{ArchiveError, ArchiveReader, AssetOrigin, Item, Manifest};
use crate::blobs::{BlobError, Blobs, FileCipher, OBJECT_CHUNK_BYTES, SEAL_BYTES, new_multipart};
use crate::crypto::DataKey;
use crate::domain::{AssetId, Chunk, File, FileLocation};
use crate::limits::UPLOAD_CHUNK_MAX_BYTES;
use crate::storage::{ArchivedStream, Import, Lacking, OpenError, StorageError};

/// The store that was being written is not complete.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("the store cannot be written")]
    Store(#[from] StorageError),
    #[error("the store cannot be written")]
    Open(#[from] OpenError),
    #[error("the bytes of the file {id} cannot be written")]
    File {
        id: String,
        #[source]
        source: BlobError,
    },
}

/// What was restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    pub records: u64,
    pub files: u64,
    pub bytes: u64,
}

/// Bare names of everything that an archive fills.
#[must_use]
pub fn filled() -> Vec<&'static str> {
    ArchivedStream::ALL.iter().map(|stream| stream.name()).chain(["ASSETS"]).collect()
}

/// Writes the items of an archive.
pub struct Restore<'a> {
    pub import: Import,
    /// Where the bytes of files go. Files that were in S3 go to its bucket, or to NATS if there is none.
    pub blobs: &'a Blobs,
    /// What the archive had at its end when it was checked. Another one at the end of this reading is an error, before
    /// servers may use the store.
    pub manifest: Option<&'a Manifest>,
    /// Takes how many bytes of the archive's content were restored so far.
    pub progress: &'a mut dyn FnMut(u64),
}

impl Restore<'_> {
    /// Creates the wanted streams, by bare name, and writes everything into them; then servers may use the store.
    ///
    /// # Errors
    /// [`RestoreError`]; the store stays *partial*, and the restore may be repeated.
    pub async fn run<R: Read>(
        mut self,
        mut archive: ArchiveReader<R>,
        wanted: &[&str],
    ) -> Result<(Restored, Lacking), RestoreError> {
        let mut done = Restored::default();
        for name in wanted {
            self.import.create(name).await?;
        }
        let is_wanted = |name: &str| wanted.contains(&name);
        while let Some(item) = archive.next_item()? {
            match item {
                Item::Records(stream, records) if is_wanted(stream.name()) => {
                    for record in &records {
                        self.import.put(stream, record).await?;
                        done.records = done.records.saturating_add(1);
                        done.bytes = done.bytes.saturating_add(length(&record.data));
                    }
                }
                Item::Asset { origin, id, size } if is_wanted("ASSETS") => {
                    self.asset(&mut archive, origin, id).await?;
                    done.files = done.files.saturating_add(1);
                    done.bytes = done.bytes.saturating_add(size);
                }
                Item::Records(..) | Item::Asset { .. } | Item::Objects(_) => {}
            }
            (self.progress)(done.bytes);
        }
        if self.manifest.is_some_and(|expected| archive.manifest() != Some(expected)) {
            return Err(ArchiveError::Changed.into());
        }
        let lacking = self.import.finish().await?;
        Ok((done, lacking))
    }

    async fn asset<R: Read>(
        &self,
        archive: &mut ArchiveReader<R>,
        origin: AssetOrigin,
        id: AssetId,
    ) -> Result<(), RestoreError> {
        // One that FILES does not name was refused when the archive was verified.
        let Some(file) = self.import.file(&id).await? else { return Ok(()) };
        let key = (!file.encrypted).then(DataKey::generate);
        let failed = |source| RestoreError::File { id: id.to_string(), source };
        let to_s3 = origin == AssetOrigin::S3 && self.blobs.s3().is_ok();
        let location = match to_s3 {
            true => {
                self.object(archive, &file).await.map_err(|error| error.into_restore(&id))?;
                FileLocation::S3
            }
            false => {
                let chunks = self.chunks(archive, &file, key.as_ref()).await;
                FileLocation::Nats(chunks.map_err(|error| error.into_restore(&id))?)
            }
        };
        if matches!(&location, FileLocation::Nats(chunks) if chunks.len() > crate::limits::FILE_CHUNKS_MAX)
        {
            return Err(failed(BlobError::Damaged));
        }
        self.import.put_file(&File { location, ..file }, key.as_ref()).await?;
        Ok(())
    }

    /// Copies to the bucket what the archive has: plain bytes or ciphertext.
    async fn object<R: Read>(
        &self,
        archive: &mut ArchiveReader<R>,
        file: &File,
    ) -> Result<(), CopyError> {
        let as_it_is = FileCipher { id: file.id, key: DataKey::generate(), encrypted: false };
        let mut writer =
            self.blobs.write_object(as_it_is, &new_multipart(file.size, file.encrypted))?;
        while let Some(bytes) = fill(archive, UPLOAD_CHUNK_MAX_BYTES)? {
            writer.write(&bytes).await?;
        }
        Ok(writer.finish().await?)
    }

    async fn chunks<R: Read>(
        &self,
        archive: &mut ArchiveReader<R>,
        file: &File,
        key: Option<&DataKey>,
    ) -> Result<Vec<Chunk>, CopyError> {
        let store = &self.blobs.files;
        let mut chunks = Vec::new();
        if let Some(key) = key {
            let (cipher, mut begin) = (FileCipher::of(file, key.clone()), 0_u64);
            while let Some(bytes) = fill(archive, UPLOAD_CHUNK_MAX_BYTES)? {
                chunks.push(store.put(&cipher, begin, &bytes).await?);
                begin = begin.saturating_add(length(&bytes));
            }
            return Ok(chunks);
        }
        let mut lengths = sealed_lengths(&file.location);
        while let Some(sealed) = lengths.next()
            && let Some(bytes) = fill(archive, sealed)?
        {
            chunks.push(store.put_stored(&file.id, bytes).await?);
        }
        Ok(chunks)
    }
}

/// Lengths of the pieces of a file's ciphertext, each encrypted by itself: as FILES lists them, or as in an object. There are
/// more of them than the file has.
pub(super) fn sealed_lengths(location: &FileLocation) -> impl Iterator<Item = usize> {
    let listed: Vec<u32> = match location {
        FileLocation::Nats(chunks) => chunks.iter().map(|chunk| chunk.length).collect(),
        FileLocation::S3 => Vec::new(),
    };
    let plain = listed.into_iter().map(|length| usize::try_from(length).unwrap_or(0));
    plain.chain(std::iter::repeat(OBJECT_CHUNK_BYTES)).map(|length| length + SEAL_BYTES)
}

enum CopyError {
    Archive(ArchiveError),
    Blob(BlobError),
}

impl CopyError {
    fn into_restore(self, id: &AssetId) -> RestoreError {
        match self {
            Self::Archive(error) => error.into(),
            Self::Blob(source) => RestoreError::File { id: id.to_string(), source },
        }
    }
}

impl From<ArchiveError> for CopyError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<BlobError> for CopyError {
    fn from(error: BlobError) -> Self {
        Self::Blob(error)
    }
}

/// The next bytes of a file, as many as asked for except at its end; `None`: none are left.
pub(super) fn fill<R: Read>(
    archive: &mut ArchiveReader<R>,
    bytes: usize,
) -> Result<Option<Bytes>, ArchiveError> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        match archive.read(free)? {
            0 => break,
            read => filled += read,
        }
    }
    buffer.truncate(filled);
    Ok((filled > 0).then(|| buffer.into()))
}

pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Reads an archive to its end, and with that checks all of it; `progress` takes the bytes of its content so far.
///
/// # Errors
/// [`ArchiveError`]
pub fn verify<R: Read>(
    archive: &mut ArchiveReader<R>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ArchiveError> {
    let mut bytes = 0_u64;
    while let Some(item) = archive.next_item()? {
        let more = match item {
            Item::Records(_, records) => records.iter().map(|record| length(&record.data)).sum(),
            Item::Asset { size, .. } => size,
            Item::Objects(_) => 0,
        };
        bytes = bytes.saturating_add(more);
        progress(bytes);
    }
    Ok(())
}
