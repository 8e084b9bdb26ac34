//! `backup`: an archive of the store, with the server running or stopped.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::backup::archive::{Header, Manifest};
use crate::backup::catalogue::{Catalogue, CatalogueError, NewArchive, check_name};
use crate::backup::create::{AssetScope, Backup, BackupPlan, CreateError};
use crate::backup::target::{SpaceFloor, TargetFile, create_private, directory};
use crate::backup::volumes::TargetArchive;
use crate::config::{BOOT_ID_VARIABLE, Loaded, Settings};
use crate::crypto::Secret;
use crate::crypto::age::{AgeWriter, Encryption, FORM_BYTES, Form};
use crate::limits::{ARCHIVES_PER_SECOND_MAX, BACKUP_TASKS_MAX, SYSTEM_FACT_MAX_BYTES};
use crate::observe::{file_time, rfc3339};
use crate::operator::{Exit, VERSION};
use crate::runtime::{Clock, Runtime, Scope, limited_read};
use crate::storage::Export;
use crate::supervisor::Signals;

use super::archive_file::ArchiveFile;
use super::error::{AppError, catalogue_exit, io_exit, unwritable_exit};
use super::medium::{MediumError, MediumRule};
use super::parts;
use super::reach::Reach;
use super::swap;
use super::usb::{self, Directory, StickError};

/// What is to be archived, and where.
pub struct BackupRequest {
    pub target: BackupTarget,
    /// Encrypts it.
    pub passphrase: Option<Secret>,
    pub assets: AssetScope,
    pub accept_missing: bool,
    pub medium: MediumRule,
    /// Settings that are no secret, for the header.
    pub configuration: BTreeMap<String, String>,
}

/// Where the archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupTarget {
    /// A file of this name, in the place of a former one.
    File(PathBuf),
    /// A new file in this folder, named by the time.
    Folder(PathBuf),
    /// A new file in the folder of this server on a paired stick, whose folder `CHATTO` this is. It is named by the number of the
    /// backup and the time: `000123-2026-11-21T06-00-00Z.tar.gz.age`.
    Stick(PathBuf),
}

impl BackupTarget {
    /// The file or the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        let (Self::File(path) | Self::Folder(path) | Self::Stick(path)) = self;
        path
    }
}

/// A complete archive.
#[derive(Debug)]
pub struct BackupReport {
    /// Links followed.
    pub path: PathBuf,
    /// Of the file.
    pub bytes: u64,
    pub header: Header,
    pub manifest: Manifest,
    /// It is on the disk of the store.
    pub is_beside_store: bool,
}

/// No archive was made, unless it says otherwise; a former one of the same name is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Stick(#[from] StickError),
    #[error("{} cannot be created", path.display())]
    Target {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another backup is writing to {}; try again when it has finished", path.display())]
    Busy { path: PathBuf },
    #[error(transparent)]
    Medium(#[from] MediumError),
    #[error("{} cannot be catalogued", path.display())]
    Begin {
        path: PathBuf,
        #[source]
        source: CatalogueError,
    },
    #[error("the backup {} is complete, but the catalogue of its directory is not, so retention will never remove it", path.display())]
    Catalogue {
        path: PathBuf,
        #[source]
        source: CatalogueError,
    },
    #[error("{} cannot be completed", path.display())]
    Commit {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl BackupError {
    /// Whether the server must know of it: not of a backup that cannot be one of its store, that was asked for in a wrong
    /// way, or beside which another one is running.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        !matches!(
            self,
            Self::App(AppError::NoData { .. } | AppError::Lock(_))
                | Self::Create(CreateError::Running)
                | Self::Medium(MediumError::Plaintext { .. })
        )
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::App(error) => error.exit(),
            Self::Create(CreateError::Running) | Self::Busy { .. } => Exit::TryAgain,
            Self::Create(CreateError::Interrupted) => Exit::Failed,
            Self::Create(CreateError::Moved { .. }) => Exit::TryAgain,
            Self::Create(CreateError::Open(error)) if error.is_transient() => Exit::Unreachable,
            Self::Create(CreateError::Store(error)) if error.is_transient() => Exit::Unreachable,
            Self::Stick(error) => error.exit(),
            Self::Begin { source, .. } | Self::Catalogue { source, .. } => catalogue_exit(source),
            Self::Create(CreateError::Write(source)) | Self::Commit { source, .. } => {
                io_exit(source)
            }
            Self::Create(_) => Exit::Io,
            Self::Medium(MediumError::NotMounted { .. }) => Exit::TryAgain,
            Self::Medium(MediumError::Plaintext { .. }) => Exit::Usage,
            Self::Target { source, .. } => unwritable_exit(source),
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
    if settings.embedded.is_some() && !swap::has_store(&settings.data_dir) {
        // Before a folder is made.
        return Err(AppError::no_data(settings).into());
    }
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let mut signals = Signals::new().map_err(AppError::Signals)?;
        let scope = Scope::new(&runtime, "backup", BACKUP_TASKS_MAX);
        let work = Work { settings, request, clock: &clock, scope: &scope };
        // Before anything else takes memory: the passphrase's check takes more than everything later.
        let encryption = work.encryption()?;
        let target = work.target()?;
        let reach = Reach { settings, command: "backup", runtime: &runtime, clock: &clock };
        let reached = reach.connect().await?;
        let target = (target, encryption);
        let done = Box::pin(work.run(&reached.nats, target, (&mut signals, progress))).await;
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
        (target, encryption): (Option<TargetArchive>, Option<Encryption>),
        (signals, progress): (&mut Signals, &mut dyn FnMut(u64, u64)),
    ) -> Result<BackupReport, BackupError> {
        let Self { settings, clock, scope, .. } = *self;
        let export = Export::open(nats, clock, settings.replicas).await.map_err(AppError::Store)?;
        let total = export.stored_bytes().await.map_err(CreateError::Store)?;
        let blobs = parts::blobs(settings, nats, clock)?;
        let (file, sequence, _folder) = match target {
            Some(file) => {
                let former = self.begin(file.path(), export.server_id())?;
                (file, export.next_sequence(former).await.map_err(CreateError::Open), None)
            }
            None => {
                // Before anything is written: it is tried again and again.
                if export.is_running().await.map_err(CreateError::Store)? {
                    return Err(CreateError::Running.into());
                }
                let folder = self.stick_folder(export.server_id())?;
                let former = Catalogue::highest_sequence(&folder.path(), export.server_id());
                let sequence = export.next_sequence(former).await.map_err(CreateError::Open)?;
                let file = self.file_on_stick(&folder.path(), sequence)?;
                self.begin(file.path(), export.server_id())?;
                (file, Ok(sequence), Some(folder))
            }
        };
        let path = file.path().to_owned();
        let made = async {
            // Whatever the signal is: nothing is left behind.
            let interrupted = async { signals.next().await.map_or((), drop) };
            let mut progress = |bytes| progress(bytes, total);
            let plan = self.plan(sequence?);
            let backup = Backup { export: &export, blobs: &blobs, plan: &plan };
            let making =
                self.make(backup, (file, encryption), ((scope, interrupted), &mut progress));
            Box::pin(making).await.map_err(|error| named(error, &path))
        };
        let made = Box::pin(made).await;
        if made.is_err()
            && let Err(error) = Catalogue::abandon(&path)
        {
            // The next backup removes it.
            log::warn!(error:err = error; "the catalogue still lists a backup that was not made");
        }
        made
    }

    /// Enters the archive into the catalogue of its folder; returns the highest number there.
    fn begin(&self, path: &Path, server_id: &str) -> Result<u64, BackupError> {
        let identify = |path: &Path| {
            let encrypted = ArchiveFile::is_encrypted(path).ok()?;
            let passphrase = self.request.passphrase.clone().filter(|_| encrypted);
            let factor = self.settings.backup.work_factor;
            let archive = ArchiveFile::new(path.to_owned(), passphrase, factor).ok()?;
            Some(archive.open().ok()?.header().clone())
        };
        Catalogue::begin(path, server_id, &identify)
            .map_err(|source| BackupError::Begin { path: path.to_owned(), source })
    }

    fn plan(&self, sequence: u64) -> BackupPlan {
        BackupPlan {
            assets: self.request.assets,
            accept_missing: self.request.accept_missing,
            configuration: self.request.configuration.clone(),
            program: VERSION.to_owned(),
            boot_id: boot_id(),
            created_at: rfc3339(self.clock.unix_ms()),
            sequence,
        }
    }

    async fn make(
        &self,
        backup: Backup<'_>,
        (file, encryption): (TargetArchive, Option<Encryption>),
        (scope, progress): ((&Scope, impl Future<Output = ()>), &mut dyn FnMut(u64)),
    ) -> Result<BackupReport, BackupError> {
        let path = file.path().to_owned();
        let sink = match encryption {
            None => Sink::Plain(file),
            Some(encryption) => {
                Sink::Encrypted(encryption.begin(file).map_err(CreateError::Write)?)
            }
        };
        let (sink, header, manifest) = Box::pin(backup.create(sink, scope, progress)).await?;
        let target = sink.finish().map_err(CreateError::Write)?;
        let (files, is_beside_store) = (target.files(), target.is_beside_store());
        let encrypted = self.request.passphrase.is_some();
        if let Err(source) = target.commit() {
            return Err(BackupError::Commit { path, source });
        }
        let made = NewArchive::written(&header, &files, encrypted);
        match Catalogue::complete(&path, &made) {
            Ok(()) => {
                let bytes = files.iter().map(|file| file.bytes).sum();
                Ok(BackupReport { path, bytes, header, manifest, is_beside_store })
            }
            Err(source) => Err(BackupError::Catalogue { path, source }),
        }
    }

    fn encryption(&self) -> Result<Option<Encryption>, BackupError> {
        let factor = self.settings.backup.work_factor;
        let passphrase = self.request.passphrase.as_ref();
        let encryption = passphrase.map(|passphrase| Encryption::new(passphrase, factor));
        Ok(encryption.transpose().map_err(CreateError::Write)?)
    }

    /// The new archive; none yet on a stick, where the id of the server is in its path.
    fn target(&self) -> Result<Option<TargetArchive>, BackupError> {
        let is_encrypted = self.request.passphrase.is_some();
        let path = self.request.target.path();
        self.request.medium.check(path, &self.settings.data_dir, is_encrypted)?;
        let floor = self.settings.embedded.as_ref().map(|embedded| SpaceFloor {
            path: self.settings.data_dir.clone(),
            bytes: embedded.min_free_disk_bytes.saturating_mul(2),
        });
        let created = match &self.request.target {
            BackupTarget::File(path) => check_name(path)
                .and_then(|()| check_replaceable(path))
                .and_then(|()| create_private(directory(path)))
                .and_then(|()| TargetFile::create(path, floor)),
            BackupTarget::Folder(folder) => {
                create_private(folder).and_then(|()| self.create_in(folder, floor.as_ref()))
            }
            BackupTarget::Stick(_) => return Ok(None),
        };
        created.and_then(TargetArchive::new).map(Some).map_err(|source| match source.kind() {
            io::ErrorKind::ResourceBusy => BackupError::Busy { path: path.to_owned() },
            _ => BackupError::Target { path: path.to_owned(), source },
        })
    }

    /// The folder of this server on the stick, with space for another archive.
    fn stick_folder(&self, server_id: &str) -> Result<Directory, BackupError> {
        let path = self.request.target.path();
        let folder = Directory::open(path).and_then(|stick| stick.create(server_id));
        let folder = folder.map_err(StickError::Io)?;
        usb::prepare(&folder.path(), server_id, self.clock.unix_ms())?;
        Ok(folder)
    }

    fn file_on_stick(&self, folder: &Path, sequence: u64) -> Result<TargetArchive, BackupError> {
        let end = self.name_end();
        let name = format!("{sequence:06}-{}{end}", file_time(self.clock.unix_ms()));
        let path = folder.join(name);
        let file = TargetFile::create_new(&path, None).and_then(TargetArchive::new);
        file.map_err(|source| BackupError::Target { path, source })
    }

    fn name_end(&self) -> &'static str {
        if self.request.passphrase.is_some() { ".tar.gz.age" } else { ".tar.gz" }
    }

    /// A file whose name no other has, nor another backup at the same time.
    fn create_in(&self, folder: &Path, floor: Option<&SpaceFloor>) -> io::Result<TargetFile> {
        let time = file_time(self.clock.unix_ms());
        let end = self.name_end();
        let mut name = format!("{time}{end}");
        // Two within a second, or a clock that went back.
        for number in 2..ARCHIVES_PER_SECOND_MAX {
            match TargetFile::create_new(&folder.join(&name), floor.cloned()) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AlreadyExists | io::ErrorKind::ResourceBusy
                    ) =>
                {
                    name = format!("{time}-{number}{end}");
                }
                created => return created,
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// The archive that is being written.
enum Sink {
    Plain(TargetArchive),
    Encrypted(AgeWriter<TargetArchive>),
}

impl Sink {
    /// Writes what is left; returns the file.
    fn finish(self) -> io::Result<TargetArchive> {
        match self {
            Self::Plain(file) => Ok(file),
            Self::Encrypted(writer) => writer.finish(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Encrypted(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Encrypted(writer) => writer.flush(),
        }
    }
}

/// Settings that are set and no secret, as `check-config` shows them.
#[must_use]
pub fn backup_configuration(loaded: &Loaded) -> BTreeMap<String, String> {
    let shown = loaded.effective.iter().filter_map(|one| Some((&one.name, one.value.as_ref()?)));
    let shown = shown.filter(|(_, value)| *value != "***");
    shown.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The file that could not be written, in the chain of an error.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
struct Unwritable {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The same error, which names the file if writing it was what failed.
fn named(error: BackupError, path: &Path) -> BackupError {
    let BackupError::Create(CreateError::Write(source)) = error else { return error };
    let path = path.to_owned();
    CreateError::Write(io::Error::new(source.kind(), Unwritable { path, source })).into()
}

/// That what has the name is an archive, compressed or encrypted, or empty: a backup with a wrong name must not replace a
/// configuration or a document.
fn check_replaceable(path: &Path) -> io::Result<()> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    // What is no ordinary file is refused where it would be replaced; a pipe must not be opened.
    if !path.metadata().is_ok_and(|about| about.is_file()) {
        return Ok(());
    }
    let mut start = Vec::with_capacity(FORM_BYTES);
    let limit = u64::try_from(FORM_BYTES).unwrap_or(u64::MAX);
    std::fs::File::open(path)?.take(limit).read_to_end(&mut start)?;
    if start.is_empty() || start.starts_with(&GZIP) || Form::of(&start) == Form::Age {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "it exists and is not an archive; choose another name",
    ))
}

/// The start of this machine, from systemd (`%b` in the unit files, whose sandbox hides the file) or from the kernel; empty
/// where neither has it.
fn boot_id() -> String {
    if let Ok(id) = std::env::var(BOOT_ID_VARIABLE) {
        return id;
    }
    let read = limited_read(Path::new("/proc/sys/kernel/random/boot_id"), SYSTEM_FACT_MAX_BYTES);
    let text = read.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.unwrap_or_default().trim().to_owned()
}
