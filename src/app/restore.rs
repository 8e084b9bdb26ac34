//! `restore`: a store from an archive, on this machine or in a cluster.
//!
//! On this machine the store is made in a folder of its own, beside the present one ([`swap`]).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::backup::archive::{ArchiveError, AssetOrigin, Header, Manifest};
use crate::backup::restore::{self, Restore, RestoreError, Restored};
use crate::blobs::s3::S3Error;
use crate::config::{self, Settings};
use crate::crypto::age::AgeError;
use crate::nats::Nats;
use crate::operator::Exit;
use crate::runtime::{Clock, Runtime};
use crate::storage::{Import, Kept, Lacking, Present, Source, live_processes};
use crate::supervisor::{DataDir, LockError};

use super::archive_file::{ArchiveFile, Verified, verify_archive};
use super::error::{AppError, age_exit, io_exit};
use super::parts;
use super::reach::{Reach, Reached, act_as_owner};
use super::swap;

/// What happens to streams that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictRule {
    /// Nothing is restored.
    Error,
    /// They stay as they are.
    Skip,
    /// They are replaced.
    Overwrite,
}

/// What is to be restored.
pub struct RestoreRequest<'a> {
    pub archive: &'a ArchiveFile,
    /// What reading all of it has shown; `None`: it is read before anything is written.
    pub verified: Option<&'a Verified>,
    pub conflict: ConflictRule,
    /// Everything is checked and nothing is written.
    pub is_dry_run: bool,
    /// The bytes of files too.
    pub files: bool,
}

/// A stage of a restore, for its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Verifying,
    /// For processes that may still write to the store; with it come 0 and the seconds that this takes.
    Waiting,
    Restoring,
}

/// What was restored.
#[derive(Debug)]
pub struct RestoreReport {
    pub header: Header,
    pub manifest: Manifest,
    pub restored: Restored,
    pub lacking: Lacking,
    /// Bare names of streams that were not touched.
    pub skipped: Vec<String>,
    /// Accounts that had been deleted after the archive was made, and stay so.
    pub deleted_users: usize,
    /// Where the replaced store is.
    pub former: Option<PathBuf>,
    /// Of a dry run: a server uses the store, which refuses a restore.
    pub is_in_use: bool,
}

/// Nothing was restored, or not everything: the store is then as it was, or is not used until a restore succeeds.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Age(#[from] AgeError),
    #[error(transparent)]
    Restore(RestoreError),
    #[error("the archive {} cannot be read", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("already there: {}. --conflict=overwrite replaces all of it; --conflict=skip restores only what is missing", streams.join(", "))]
    Conflict { streams: Vec<String> },
    #[error(
        "the archive is of the server {of_archive}, and the data that is there of {of_store}; --conflict=overwrite \
         replaces it"
    )]
    OtherServer { of_archive: String, of_store: String },
    /// The store that was there is not kept aside.
    #[error("the restore was interrupted; run it again before a server starts")]
    Interrupted(#[source] Box<Self>),
    #[error("a server uses this store ({process}); stop every server first")]
    InUse { process: String },
    #[error(
        "the files that were in S3 cannot be restored to the configured bucket; nothing was changed"
    )]
    Bucket(#[source] S3Error),
    #[error("no bucket is configured; set core.assets.s3")]
    NoBucket,
    #[error("the bucket cannot be read")]
    Objects(#[source] S3Error),
    #[error("restoring takes about {} MiB, and {} MiB are free in {}", needed >> 20, free >> 20, path.display())]
    NoSpace { path: PathBuf, needed: u64, free: u64 },
}

impl From<RestoreError> for RestoreFailure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Archive(error) => Self::Archive(error),
            RestoreError::Open(error) => Self::App(AppError::Store(error)),
            error @ (RestoreError::Store(_) | RestoreError::File { .. }) => Self::Restore(error),
        }
    }
}

impl RestoreFailure {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::App(error) => error.exit(),
            Self::Archive(error) => archive_exit(error),
            Self::Interrupted(error) => error.exit(),
            Self::Age(error) => age_exit(error),
            Self::Restore(_) | Self::Bucket(_) | Self::Objects(_) | Self::NoSpace { .. } => {
                Exit::Io
            }
            Self::File { source, .. } => io_exit(source),
            Self::NoBucket => Exit::Config,
            Self::Conflict { .. } => Exit::Exists,
            Self::InUse { .. } => Exit::TryAgain,
            Self::OtherServer { .. } => Exit::Damaged,
        }
    }
}

/// The exit code of an archive that cannot be read.
pub(super) fn archive_exit(error: &ArchiveError) -> Exit {
    match error {
        ArchiveError::Io(error) => io_exit(error),
        ArchiveError::Foreign
        | ArchiveError::KeyExport
        | ArchiveError::Truncated
        | ArchiveError::Newer { .. }
        | ArchiveError::Damaged { .. }
        | ArchiveError::Sealed(_)
        | ArchiveError::Changed
        | ArchiveError::Record { .. } => Exit::Damaged,
    }
}

/// Takes the stage, the bytes so far and about how many there will be.
type StageProgress<'a> = &'a mut dyn FnMut(Stage, u64, u64);

/// Restores an archive. Blocks.
///
/// # Errors
/// [`RestoreFailure`]
pub fn restore(
    settings: &Settings,
    request: &RestoreRequest<'_>,
    progress: StageProgress<'_>,
) -> Result<RestoreReport, RestoreFailure> {
    if !request.is_dry_run {
        // The archive is open. What is created from here on must belong to the account of the service.
        act_as_owner(settings)?;
    }
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let reach = Reach { settings, command: "restore", runtime: &runtime, clock: &clock };
        let mut work = Work { reach, request, progress };
        match &settings.embedded {
            Some(_) if request.is_dry_run => Box::pin(work.dry_run()).await,
            Some(embedded) => Box::pin(work.embedded(embedded)).await,
            None => Box::pin(work.external()).await,
        }
    })
}

struct Work<'a> {
    reach: Reach<'a>,
    request: &'a RestoreRequest<'a>,
    progress: StageProgress<'a>,
}

impl Work<'_> {
    /// Checks everything and writes nothing: it locks no directory and starts no nats-server, so that a server may run.
    async fn dry_run(&mut self) -> Result<RestoreReport, RestoreFailure> {
        let data_dir = &self.reach.settings.data_dir;
        let store = swap::newest_store(data_dir)?;
        let present = Present::on_disk(&store, &data_dir.join("initialised"));
        let present = present.map_err(|source| AppError::Swap { path: store, source })?;
        self.check_conflicts(&present)?;
        let verified = self.verify()?;
        self.check_server(&present, &verified.header)?;
        let report = verified.dry_run(&present, self.request.conflict);
        let is_in_use = self.reach.is_answered().await;
        Ok(RestoreReport { is_in_use, ..report })
    }

    async fn embedded(
        &mut self,
        embedded: &config::Embedded,
    ) -> Result<RestoreReport, RestoreFailure> {
        let locked = match self.reach.lock().await {
            Err(AppError::Lock(LockError::HeldByServer { pid, .. })) => {
                return Err(RestoreFailure::InUse { process: format!("pid {pid}") });
            }
            locked => locked?,
        };
        let (present, kept) = self.present(embedded, &locked).await?;
        self.check_conflicts(&present)?;
        let verified = self.verify()?;
        self.check_server(&present, &verified.header)?;
        if self.has_nothing_to_do(&present) {
            return Ok(verified.dry_run(&present, self.request.conflict));
        }
        if self.request.conflict == ConflictRule::Skip && !present.streams.is_empty() {
            // What is there stays, so there is nothing to swap.
            let reached = self.reach.private(embedded, locked).await?;
            return self.fill(reached, (verified, present, kept)).await;
        }
        let bytes = verified.written_bytes(self.request.files);
        check_space(&locked, bytes, embedded.min_free_disk_bytes)?;
        // Synced once at the end instead of with each record.
        let fast =
            config::Embedded { sync_interval: Some(Duration::from_secs(120)), ..embedded.clone() };
        let making = swap::begin(&locked)?;
        let reached = self.reach.private(&fast, making).await?;
        let nothing = Present::default();
        // Without it the first start makes secrets, and then the marker.
        let marker = kept.has_secret().then(|| verified.header.server_id.clone());
        let filled = self.fill(reached, (verified, nothing, kept)).await;
        let mut report = match filled {
            Ok(report) => report,
            Err(error) => {
                // Whoever locks the directory next would remove it, too.
                if let Err(left) = swap::finish(&locked) {
                    log::warn!(error:err = left; "what the restore has made cannot be removed");
                }
                return Err(error);
            }
        };
        report.former = swap::complete(&locked, marker.as_deref(), self.reach.clock)?;
        Ok(report)
    }

    async fn external(&mut self) -> Result<RestoreReport, RestoreFailure> {
        let reached = self.reach.connect().await?;
        let prepared = self.prepare_external(&reached.nats).await;
        match prepared {
            Ok((verified, present, kept))
                if !self.request.is_dry_run && !self.has_nothing_to_do(&present) =>
            {
                self.fill(reached, (verified, present, kept)).await
            }
            Ok((verified, present, _)) => {
                reached.close().await;
                Ok(verified.dry_run(&present, self.request.conflict))
            }
            Err(error) => {
                reached.close().await;
                Err(error)
            }
        }
    }

    async fn prepare_external(
        &mut self,
        nats: &Nats,
    ) -> Result<(Verified, Present, Kept), RestoreFailure> {
        let store = |error| AppError::Store(crate::storage::OpenError::Storage(error));
        if !self.request.is_dry_run
            && let Some(process) = live_processes(nats).await.map_err(store)?.first()
        {
            return Err(RestoreFailure::InUse { process: process.describe() });
        }
        let present = Import::present(nats).await.map_err(store)?;
        let kept = Kept::read(nats).await.map_err(store)?;
        self.check_conflicts(&present)?;
        let verified = self.verify()?;
        self.check_server(&present, &verified.header)?;
        Ok((verified, present, kept))
    }

    /// What the data directory has now.
    async fn present(
        &self,
        embedded: &config::Embedded,
        locked: &DataDir,
    ) -> Result<(Present, Kept), RestoreFailure> {
        if !swap::is_there(&locked.store())? {
            return Ok((Present::default(), Kept::default()));
        }
        let reached = self.reach.private(embedded, locked.clone()).await?;
        let read = async {
            let present = Import::present(&reached.nats).await?;
            Ok::<_, crate::storage::StorageError>((present, Kept::read(&reached.nats).await?))
        };
        let read = read.await;
        reached.close().await;
        Ok(read.map_err(|error| AppError::Store(crate::storage::OpenError::Storage(error)))?)
    }

    /// Everything is there and stays.
    fn has_nothing_to_do(&self, present: &Present) -> bool {
        let skipped = skipped(present, self.request.conflict);
        restore::filled().into_iter().all(|name| skipped.iter().any(|skipped| skipped == name))
    }

    fn check_conflicts(&self, present: &Present) -> Result<(), RestoreFailure> {
        if self.request.conflict == ConflictRule::Error && !present.streams.is_empty() {
            let streams = present.streams.iter().map(|name| (*name).to_owned()).collect();
            return Err(RestoreFailure::Conflict { streams });
        }
        Ok(())
    }

    /// Streams of two servers do not fit together: rooms, people and their numbers differ.
    fn check_server(&self, present: &Present, header: &Header) -> Result<(), RestoreFailure> {
        let stays = self.request.conflict == ConflictRule::Skip && !present.streams.is_empty();
        if stays && !present.server_id.is_empty() && present.server_id != header.server_id {
            let (of_archive, of_store) = (header.server_id.clone(), present.server_id.clone());
            return Err(RestoreFailure::OtherServer { of_archive, of_store });
        }
        Ok(())
    }

    /// Reads the whole archive before anything is written.
    fn verify(&mut self) -> Result<Verified, RestoreFailure> {
        if let Some(verified) = self.request.verified {
            return Ok(verified.clone());
        }
        let archive = self.request.archive;
        let total = archive.bytes();
        verify_archive(archive, &mut |done| {
            (self.progress)(Stage::Verifying, done, total.max(done));
        })
    }

    /// Writes what is wanted into the streams of a nats-server, and ends the connection.
    async fn fill(
        &mut self,
        reached: Reached,
        (verified, present, kept): (Verified, Present, Kept),
    ) -> Result<RestoreReport, RestoreFailure> {
        let done = self.write(&reached.nats, &verified, &present, kept).await;
        reached.close().await;
        let (restored, lacking, deleted_users) = done?;
        let Verified { header, manifest, .. } = verified;
        let skipped = skipped(&present, self.request.conflict);
        Ok(RestoreReport {
            header,
            manifest,
            restored,
            lacking,
            skipped,
            deleted_users,
            former: None,
            is_in_use: false,
        })
    }

    async fn write(
        &mut self,
        nats: &Nats,
        verified: &Verified,
        present: &Present,
        kept: Kept,
    ) -> Result<(Restored, Lacking, usize), RestoreFailure> {
        let Reach { settings, clock, .. } = self.reach;
        let archive = self.request.archive.open()?;
        if *archive.header() != verified.header {
            return Err(ArchiveError::Changed.into());
        }
        let skipped = skipped(present, self.request.conflict);
        let keeps_id = !skipped.is_empty() && !present.server_id.is_empty();
        let server_id = match keeps_id {
            true => present.server_id.clone(),
            false => verified.header.server_id.clone(),
        };
        let source = Source { server_id, sequence: verified.header.sequence };
        let deleted_users = kept.deleted_users();
        let mut wanted = restore::filled();
        wanted.retain(|name| !skipped.iter().any(|skipped| skipped == name));
        if !self.request.files {
            wanted.retain(|name| *name != "ASSETS");
        }
        let blobs = parts::blobs(settings, nats, clock)?;
        // Before anything is written: on a new machine the bucket may be new, too.
        if wanted.contains(&"ASSETS")
            && verified.manifest.assets.contains_key(AssetOrigin::S3.word())
            && let Ok(s3) = blobs.s3()
        {
            Box::pin(s3.check()).await.map_err(RestoreFailure::Bucket)?;
        }
        let total = verified.bytes;
        let restored = async {
            let import = (source, kept, wanted.as_slice());
            let import = Import::begin((nats, clock), settings.replicas, import).await;
            let import = import.map_err(AppError::Store)?;
            if settings.embedded.is_none() {
                let announce = |wait: Duration| (self.progress)(Stage::Waiting, 0, wait.as_secs());
                import.wait_for_writers(announce).await;
            }
            let mut progress = |done| (self.progress)(Stage::Restoring, done, total);
            let manifest = Some(&verified.manifest);
            let restore = Restore { import, blobs: &blobs, manifest, progress: &mut progress };
            Ok::<_, RestoreFailure>(restore.run(archive, &wanted).await?)
        };
        match Box::pin(restored).await {
            Ok((restored, lacking)) => Ok((restored, lacking, deleted_users)),
            // Otherwise it was made beside the former store.
            Err(error) if settings.embedded.is_none() || !present.streams.is_empty() => {
                Err(RestoreFailure::Interrupted(Box::new(error)))
            }
            Err(error) => Err(error),
        }
    }
}

impl Verified {
    /// Bytes that a restore writes.
    fn written_bytes(&self, files: bool) -> u64 {
        let of_files: u64 = self.manifest.assets.values().map(|count| count.bytes).sum();
        if files { self.bytes } else { self.bytes.saturating_sub(of_files) }
    }

    fn dry_run(self, present: &Present, conflict: ConflictRule) -> RestoreReport {
        RestoreReport {
            header: self.header,
            manifest: self.manifest,
            restored: Restored::default(),
            lacking: Lacking::default(),
            skipped: skipped(present, conflict),
            deleted_users: 0,
            former: None,
            is_in_use: false,
        }
    }
}

fn skipped(present: &Present, conflict: ConflictRule) -> Vec<String> {
    match conflict {
        ConflictRule::Skip => present.streams.iter().map(|name| (*name).to_owned()).collect(),
        ConflictRule::Error | ConflictRule::Overwrite => Vec::new(),
    }
}

fn check_space(
    locked: &DataDir,
    content_bytes: u64,
    kept_free_bytes: u64,
) -> Result<(), RestoreFailure> {
    let about = rustix::fs::statvfs(locked.path());
    let free = about.map_or(u64::MAX, |about| about.f_bavail.saturating_mul(about.f_frsize));
    // Blocks of nats-server, indexes and what is rewritten once; and what nats-server is told to leave free.
    let needed = content_bytes.saturating_add(content_bytes / 4).saturating_add(32 << 20);
    let needed = needed.saturating_add(kept_free_bytes);
    let path = locked.path().to_owned();
    if free < needed { Err(RestoreFailure::NoSpace { path, needed, free }) } else { Ok(()) }
}
