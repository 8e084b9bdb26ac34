//! `backup`: an archive of the store, with the server running or stopped.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::backup::archive::Manifest;
use crate::backup::create::{AssetScope, Backup, BackupPlan, CreateError};
use crate::backup::target::{SpaceFloor, TargetFile};
use crate::config::Settings;
use crate::crypto::Secret;
use crate::crypto::age::AgeWriter;
use crate::limits::{BACKUP_TASKS_MAX, BOOT_ID_MAX_BYTES};
use crate::observe::rfc3339;
use crate::operator::{Exit, VERSION};
use crate::runtime::{Clock, Runtime, Scope, limited_read};
use crate::storage::Export;
use crate::supervisor::Signals;

use super::error::{AppError, unwritable_exit};
use super::parts;
use super::reach::Reach;

/// What is to be archived, and where.
pub struct BackupRequest {
    /// The file of the archive.
    pub path: PathBuf,
    /// Encrypts it.
    pub passphrase: Option<Secret>,
    pub assets: AssetScope,
    pub accept_missing: bool,
    /// Settings that are no secret, for the header.
    pub configuration: BTreeMap<String, String>,
}

/// A complete archive.
#[derive(Debug)]
pub struct BackupReport {
    /// Of the file.
    pub bytes: u64,
    pub manifest: Manifest,
    /// It is on the disk of the store.
    pub is_beside_store: bool,
}

/// No archive was made; a former one of the same name is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error("{} cannot be created", path.display())]
    Target {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be completed", path.display())]
    Commit {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl BackupError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::App(error) => error.exit(),
            Self::Create(CreateError::Running) => Exit::TryAgain,
            Self::Create(CreateError::Interrupted) => Exit::Failed,
            Self::Create(CreateError::Moved { .. }) => Exit::TryAgain,
            Self::Create(CreateError::Open(error)) if error.is_transient() => Exit::Unreachable,
            Self::Create(CreateError::Store(error)) if error.is_transient() => Exit::Unreachable,
            Self::Create(_) | Self::Commit { .. } => Exit::Io,
            Self::Target { source, .. } => match source.kind() {
                io::ErrorKind::ResourceBusy => Exit::TryAgain,
                _ => unwritable_exit(source),
            },
        }
    }
}

/// Makes an archive. `progress` takes the bytes so far and about how many there will be. Blocks.
///
/// # Errors
/// [`BackupError`]
pub fn backup(
    settings: &Settings,
    request: &BackupRequest,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BackupReport, BackupError> {
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let mut signals = Signals::new().map_err(AppError::Signals)?;
        let reach = Reach { settings, command: "backup", runtime: &runtime, clock: &clock };
        let reached = reach.connect().await?;
        let scope = Scope::new(&runtime, "backup", BACKUP_TASKS_MAX);
        let work = Work { settings, request, clock: &clock, scope: &scope };
        let done = Box::pin(work.run(&reached.nats, &mut signals, progress)).await;
        reached.close().await;
        done
    })
}

struct Work<'a> {
    settings: &'a Settings,
    request: &'a BackupRequest,
    clock: &'a Clock,
    scope: &'a Scope,
}

impl Work<'_> {
    async fn run(
        &self,
        nats: &crate::nats::Nats,
        signals: &mut Signals,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<BackupReport, BackupError> {
        let Self { settings, request, clock, scope } = *self;
        let export = Export::open(nats, clock, settings.replicas).await.map_err(AppError::Store)?;
        let total = export.stored_bytes().await.map_err(CreateError::Store)?;
        let target = self.target()?;
        let blobs = parts::blobs(settings, nats, clock)?;
        let plan = BackupPlan {
            assets: request.assets,
            accept_missing: request.accept_missing,
            configuration: request.configuration.clone(),
            program: VERSION.to_owned(),
            boot_id: boot_id(),
            created_at: rfc3339(clock.unix_ms()),
        };
        let backup = Backup { export: &export, blobs: &blobs, plan: &plan };
        let mut progress = |bytes| progress(bytes, total);
        // Whatever the signal is: nothing is left behind.
        let interrupted = async { signals.next().await.map_or((), drop) };
        let scope = (scope, interrupted);
        let (target, manifest) = match &request.passphrase {
            None => Box::pin(backup.create(target, scope, &mut progress)).await?,
            Some(passphrase) => {
                let factor = settings.backup.work_factor;
                let sealed =
                    AgeWriter::new(target, passphrase, factor).map_err(CreateError::Write)?;
                let made = Box::pin(backup.create(sealed, scope, &mut progress)).await?;
                (made.0.finish().map_err(CreateError::Write)?, made.1)
            }
        };
        let (bytes, is_beside_store) = (target.written(), target.is_beside_store());
        let path = request.path.clone();
        target.commit().map_err(|source| BackupError::Commit { path, source })?;
        Ok(BackupReport { bytes, manifest, is_beside_store })
    }

    fn target(&self) -> Result<TargetFile, BackupError> {
        let path = &self.request.path;
        let floor = self.settings.embedded.as_ref().map(|embedded| SpaceFloor {
            path: self.settings.data_dir.clone(),
            bytes: embedded.min_free_disk_bytes.saturating_mul(2),
        });
        let created = create_folder(path).and_then(|()| TargetFile::create(path, floor));
        created.map_err(|source| BackupError::Target { path: path.clone(), source })
    }
}

/// The folder of the archive, readable by this account only.
fn create_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(folder) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The start of this machine; empty where the system does not tell.
fn boot_id() -> String {
    let read = limited_read(Path::new("/proc/sys/kernel/random/boot_id"), BOOT_ID_MAX_BYTES);
    let text = read.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.unwrap_or_default().trim().to_owned()
}
