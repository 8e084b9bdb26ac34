//! Making an archive: everything of the store in one pass, with a few megabytes of memory.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::archive::{
    ArchiveWriter, AssetOrigin, Excluded, Header, ListedObject, Manifest, StreamTotals,
};
use crate::blobs::s3::S3Error;
use crate::blobs::{BlobError, Blobs, FileCipher, SEAL_BYTES, sealed_bytes};
use crate::crypto::hex;
use crate::domain::{AssetId, File, FileLocation};
use crate::runtime::Scope;
use crate::storage::{
    ArchivedStream, Export, ExportError, ExportedFile, FileBytes, OpenError, StorageError,
    StoreVersions, StreamCount, excluded_streams,
};

/// Whose bytes go into the archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AssetScope {
    /// Files in NATS; those in S3 are listed.
    #[default]
    Nats,
    /// Those in S3 too.
    All,
    /// None; those in S3 are listed.
    None,
}

impl AssetScope {
    /// As the header has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

/// What is to be archived, and what the header says about it.
#[derive(Debug, Clone, Default)]
pub struct BackupPlan {
    pub assets: AssetScope,
    /// Files whose bytes are missing are recorded, instead of ending the backup.
    pub accept_missing: bool,
    /// Settings that are no secret.
    pub configuration: BTreeMap<String, String>,
    pub program: String,
    /// The start of the machine.
    pub boot_id: String,
    /// RFC 3339.
    pub created_at: String,
    /// [`Export::next_sequence`]
    pub sequence: u64,
}

/// No archive was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("the store cannot be read completely")]
    Store(#[source] StorageError),
    #[error("the store cannot be backed up")]
    Open(#[source] OpenError),
    #[error("another backup of this store is running; try again when it has finished")]
    Running,
    /// Something in the store does not fit together.
    #[error("the store is damaged")]
    Damaged(#[source] ExportError<io::Error>),
    #[error("the bytes of the file {id} ({name}) cannot be read{}", advice(.source))]
    File {
        id: String,
        name: String,
        #[source]
        source: BlobError,
    },
    #[error("the file {id} was moved to the other backend during the backup; run it again")]
    Moved { id: String },
    #[error(
        "the bytes of the file {id} ({name}) are not those that were uploaded; `chatto assets check` lists such files"
    )]
    Changed { id: String, name: String },
    #[error("the backup cannot be written")]
    Write(#[source] io::Error),
    #[error("interrupted; nothing was written")]
    Interrupted,
}

fn advice(error: &BlobError) -> &'static str {
    match error {
        BlobError::Missing => "; --accept-missing makes the backup without it",
        BlobError::NoBucket => "; configure core.assets.s3",
        _ => "",
    }
}

impl From<ExportError<io::Error>> for CreateError {
    fn from(error: ExportError<io::Error>) -> Self {
        match error {
            ExportError::Sink(error) => Self::Write(error),
            ExportError::Running => Self::Running,
            ExportError::Storage(error) => Self::Store(error),
            error @ (ExportError::File { .. }
            | ExportError::Hole { .. }
            | ExportError::TooManyEvents) => Self::Damaged(error),
        }
    }
}

impl From<io::Error> for CreateError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// Makes archives of a store.
pub struct Backup<'a> {
    pub export: &'a Export,
    /// Where the bytes of files are.
    pub blobs: &'a Blobs,
    pub plan: &'a BackupPlan,
}

/// What is being written.
struct Making<'a, W> {
    archive: ArchiveWriter<W>,
    manifest: Manifest,
    /// Takes the bytes so far.
    progress: &'a mut dyn FnMut(u64),
}

impl Backup<'_> {
    /// Writes an archive; returns the sink, the header and the manifest. Until then nothing of it is complete. `progress` takes the
    /// bytes so far. Other archives of this store, and erasures of files, wait meanwhile. It ends when `interrupted` does.
    ///
    /// # Errors
    /// [`CreateError`]
    pub async fn create<W: Write>(
        &self,
        sink: W,
        (scope, interrupted): (&Scope, impl Future<Output = ()>),
        progress: &mut dyn FnMut(u64),
    ) -> Result<(W, Header, Manifest), CreateError> {
        let lease = self.export.lease::<io::Error>(scope).await?;
        let interrupted = async {
            interrupted.await;
            Err(CreateError::Interrupted)
        };
        let made = futures_lite::future::or(self.write(sink, progress), interrupted).await;
        lease.end().await;
        made
    }

    async fn write<W: Write>(
        &self,
        sink: W,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(W, Header, Manifest), CreateError> {
        let header = self.header();
        let archive = ArchiveWriter::begin(sink, header.clone())?;
        let excluded = excluded_streams().into_iter().map(|(stream, reason)| Excluded {
            stream: stream.to_owned(),
            reason: reason.to_owned(),
        });
        let manifest = Manifest { excluded: excluded.collect(), ..Manifest::default() };
        let mut making = Making { archive, manifest, progress };
        making.bucket(self.export, ArchivedStream::Notifications).await?;
        making.bucket(self.export, ArchivedStream::ReadMarkers).await?;
        making.pages_and_journal(self.export).await?;
        let files = making.files(self.export).await?;
        making.bucket(self.export, ArchivedStream::State).await?;
        let in_s3 = self.nats_assets(&mut making, &files).await?;
        self.s3_assets(&mut making, &in_s3).await?;
        let (sink, manifest) = making.archive.finish(making.manifest)?;
        Ok((sink, header, manifest))
    }

    fn header(&self) -> Header {
        let plan = self.plan;
        Header {
            format: super::archive::FORMAT,
            program: plan.program.clone(),
            versions: StoreVersions::OWN.into(),
            server_id: self.export.server_id().to_owned(),
            epoch: hex(self.export.epoch()),
            sequence: plan.sequence,
            boot_id: plan.boot_id.clone(),
            created_at: plan.created_at.clone(),
            streams: ArchivedStream::ALL.iter().map(|stream| stream.name().to_owned()).collect(),
            assets: plan.assets.word().to_owned(),
            configuration: plan.configuration.clone(),
        }
    }

    /// Copies files that are in NATS; returns those that are not.
    async fn nats_assets<W: Write>(
        &self,
        making: &mut Making<'_, W>,
        files: &[AssetId],
    ) -> Result<Vec<AssetId>, CreateError> {
        making.archive.begin_assets()?;
        let mut in_s3 = Vec::new();
        for id in files {
            let Some(found) = self.export.file::<io::Error>(id).await? else {
                return Err(CreateError::File {
                    id: id.to_string(),
                    name: String::new(),
                    source: BlobError::Missing,
                });
            };
            match (&found.file.location, self.plan.assets) {
                (FileLocation::S3, _) => in_s3.push(*id),
                (FileLocation::Nats(_), AssetScope::None) => {}
                (FileLocation::Nats(_), AssetScope::Nats | AssetScope::All) => {
                    self.copy(making, AssetOrigin::Nats, found).await?;
                }
            }
        }
        Ok(in_s3)
    }

    /// Copies or lists files that are in S3.
    async fn s3_assets<W: Write>(
        &self,
        making: &mut Making<'_, W>,
        files: &[AssetId],
    ) -> Result<(), CreateError> {
        making.archive.begin_assets()?;
        for id in files {
            let Some(found) = self.export.file::<io::Error>(id).await? else { continue };
            if found.file.location != FileLocation::S3 {
                return Err(CreateError::Moved { id: id.to_string() });
            }
            if self.plan.assets == AssetScope::All {
                self.copy(making, AssetOrigin::S3, found).await?;
            } else {
                making.manifest.listed_objects.add(found.file.size);
                making.archive.object(ListedObject {
                    object: id.to_string(),
                    size: found.file.size,
                    sha256: hex(&found.file.sha256),
                });
            }
        }
        Ok(())
    }

    async fn copy<W: Write>(
        &self,
        making: &mut Making<'_, W>,
        origin: AssetOrigin,
        found: ExportedFile,
    ) -> Result<(), CreateError> {
        let file = &found.file;
        let failed =
            |source| CreateError::File { id: file.id.to_string(), name: file.name.clone(), source };
        let mut reader = FileReader::new(self.blobs, &found);
        // The first bytes before the member begins: a file that is missing leaves no trace in the archive.
        let first = match reader.next().await {
            Err(BlobError::Missing) if self.plan.accept_missing => {
                making.manifest.missing.push(file.id.to_string());
                return Ok(());
            }
            read => read.map_err(failed)?,
        };
        let size = reader.size();
        let mut asset = making.archive.asset(origin, file.id, size)?;
        let mut next = first;
        while let Some(bytes) = next {
            asset.write(&bytes)?;
            next = reader.next().await.map_err(failed)?;
        }
        let sha256 = asset.finish().map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => failed(BlobError::Damaged),
            _ => CreateError::Write(error),
        })?;
        if !file.encrypted && sha256 != file.sha256 {
            return Err(CreateError::Changed { id: file.id.to_string(), name: file.name.clone() });
        }
        making.manifest.assets.entry(origin.word().to_owned()).or_default().add(size);
        (making.progress)(making.archive.bytes());
        Ok(())
    }
}

impl<W: Write> Making<'_, W> {
    async fn bucket(&mut self, export: &Export, bucket: ArchivedStream) -> Result<(), CreateError> {
        let (archive, progress) = (&mut self.archive, &mut self.progress);
        let each = |record| {
            archive.record(bucket, &record)?;
            progress(archive.bytes());
            Ok(())
        };
        let count = export.bucket(bucket, each).await?;
        self.count(bucket, count);
        Ok(())
    }

    async fn pages_and_journal(&mut self, export: &Export) -> Result<(), CreateError> {
        let (archive, progress) = (&mut self.archive, &mut self.progress);
        let each = |stream, record| {
            archive.record(stream, &record)?;
            progress(archive.bytes());
            Ok(())
        };
        let count = export.pages_and_journal(each).await?;
        self.count(ArchivedStream::Pages, count.pages);
        self.count(ArchivedStream::Journal, count.journal);
        Ok(())
    }

    async fn files(&mut self, export: &Export) -> Result<Vec<AssetId>, CreateError> {
        let archive = &mut self.archive;
        let each = |record| archive.record(ArchivedStream::Files, &record);
        let (count, files) = export.files(each).await?;
        self.count(ArchivedStream::Files, count);
        Ok(files)
    }

    fn count(&mut self, stream: ArchivedStream, count: StreamCount) {
        let totals = StreamTotals { records: count.records, subjects: count.subjects };
        self.manifest.streams.insert(stream.name().to_owned(), totals);
    }
}

/// Reads what an archive contains of a file.
struct FileReader<'a> {
    blobs: &'a Blobs,
    file: &'a File,
    key: Option<FileCipher>,
    is_missing: bool,
    /// The next chunk in NATS, and where it begins.
    next: (usize, u64),
    download: Option<Box<crate::blobs::s3::Download>>,
}

impl<'a> FileReader<'a> {
    fn new(blobs: &'a Blobs, found: &'a ExportedFile) -> Self {
        let key = match &found.bytes {
            FileBytes::Plain(key) => Some(FileCipher::of(&found.file, key.clone())),
            FileBytes::Ciphertext | FileBytes::Missing => None,
        };
        let is_missing = matches!(found.bytes, FileBytes::Missing);
        Self { blobs, file: &found.file, key, is_missing, next: (0, 0), download: None }
    }

    /// Bytes that will be read.
    fn size(&self) -> u64 {
        match (&self.file.location, self.file.encrypted) {
            (_, false) => self.file.size,
            (FileLocation::S3, true) => sealed_bytes(self.file.size),
            (FileLocation::Nats(chunks), true) => {
                let added = (chunks.len() * SEAL_BYTES).try_into().unwrap_or(u64::MAX);
                self.file.size.saturating_add(added)
            }
        }
    }

    async fn next(&mut self) -> Result<Option<bytes::Bytes>, BlobError> {
        if self.is_missing {
            return Err(BlobError::Missing);
        }
        let FileLocation::Nats(chunks) = &self.file.location else {
            return self.next_of_object().await;
        };
        let (number, begin) = self.next;
        let Some(chunk) = chunks.get(number).copied() else { return Ok(None) };
        self.next = (number.saturating_add(1), begin.saturating_add(chunk.length.into()));
        Ok(Some(match &self.key {
            Some(cipher) => self.blobs.files.get(cipher, begin, chunk).await?,
            None => self.blobs.files.stored(chunk).await?,
        }))
    }

    async fn next_of_object(&mut self) -> Result<Option<bytes::Bytes>, BlobError> {
        let download = match &mut self.download {
            Some(download) => download,
            None => {
                let opened = self.blobs.s3()?.get(self.file.id.as_str(), None).await;
                let opened = opened.map_err(|error| match error {
                    S3Error::NotFound => BlobError::Missing,
                    error => error.into(),
                })?;
                self.download.insert(Box::new(opened))
            }
        };
        Ok(download.next().await?)
    }
}
