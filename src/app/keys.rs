//! `keys export` and `keys import`: the data keys of users between the store and a file.

use std::io;
use std::path::{Path, PathBuf};

use crate::backup::keys::{KeyFile, KeyFileError};
use crate::config::{Settings, complete_secrets_of_import};
use crate::crypto::{KeyEncryptionKey, Secret};
use crate::limits::KEY_FILE_KEYS_MAX;
use crate::operator::Exit;
use crate::runtime::{Clock, Runtime, blocking};
use crate::storage::{
    KeyStore, KeyStoreFound, KeysImported, OpenError, StorageError, Unexported, live_processes,
};

use super::error::{AppError, age_exit, unwritable_exit};
use super::reach::{Reach, Reached, ReachedServer};

/// Keys were not exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("cannot write {}. A former file of this name was not changed", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the store has {keys} keys, and a key export takes {KEY_FILE_KEYS_MAX} at most; keep a copy of the data \
         directory instead"
    )]
    TooMany { keys: usize },
    #[error(
        "the keys are of server {file}, and this store belongs to server {store}. Nothing was changed; check that the \
         file and the configuration belong together"
    )]
    ForeignServer { file: String, store: String },
    #[error(
        "core.secret_key is not the one that wraps the keys of this store; nothing was changed. Put the former value \
         back; if it is lost, `chatto keys import FILE --new-secret` makes the keys of an export readable with the \
         present one"
    )]
    SecretChanged,
    #[error(
        "the server is running, and a new core.secret_key is only taken while it is stopped. Stop it, import, and start it \
         again"
    )]
    ServerRuns,
    #[error(
        "process {process} uses the store, and a new core.secret_key is only taken while none does. Stop all processes, \
         import, and start them again"
    )]
    ProcessRuns { process: String },
}

impl KeysError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::App(error) => error.exit(),
            Self::File(error) => file_exit(error),
            Self::Write { source, .. } => unwritable_exit(source),
            Self::TooMany { .. } => Exit::Failed,
            Self::ForeignServer { .. } => Exit::Damaged,
            Self::SecretChanged => Exit::Config,
            Self::ServerRuns | Self::ProcessRuns { .. } => Exit::TryAgain,
        }
    }
}

fn file_exit(error: &KeyFileError) -> Exit {
    match error {
        KeyFileError::Age(error) => age_exit(error),
        KeyFileError::DataArchive
        | KeyFileError::Newer { .. }
        | KeyFileError::Foreign
        | KeyFileError::Damaged { .. }
        | KeyFileError::TooLarge => Exit::Damaged,
    }
}

impl From<OpenError> for KeysError {
    fn from(error: OpenError) -> Self {
        Self::App(AppError::Store(error))
    }
}

impl From<StorageError> for KeysError {
    fn from(error: StorageError) -> Self {
        OpenError::from(error).into()
    }
}

/// What an export wrote.
#[derive(Debug, Clone, Copy)]
pub struct KeysExported {
    pub keys: usize,
    /// Keys that are not in it, as no present secret unwraps them.
    pub unreadable: usize,
    /// As it was before.
    pub unexported: Unexported,
    /// The export is not noted: `status` goes on counting its keys as not exported.
    pub is_noted: bool,
}

/// Which secret an import may make the store's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyImportMode {
    /// Only the one that it has.
    SameSecret,
    /// Another one than it has, too.
    NewSecret,
}

/// What an import did.
#[derive(Debug, Clone)]
pub struct KeysAdded {
    pub keys: KeysImported,
    /// Names of the secrets that were generated.
    pub generated: Vec<&'static str>,
    /// There was no store: the data is still to be restored.
    pub is_partial: bool,
}

/// Writes all keys of the store to a file, with `save`, which takes the path and the content. Blocks.
///
/// # Errors
/// [`KeysError`]; if `save` left a former file of this name as it was, it still is.
pub fn export_keys(
    settings: &Settings,
    passphrase: Secret,
    path: &Path,
    save: impl FnOnce(&Path, &[u8]) -> io::Result<()> + Send + 'static,
) -> Result<KeysExported, KeysError> {
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let reach = Reach { settings, command: "keys export", runtime: &runtime, clock: &clock };
        let reached = reach.connect().await?;
        let store = KeyStore { nats: &reached.nats, clock: &clock };
        let done = Box::pin(export(settings, store, passphrase, (path, save))).await;
        reached.close().await;
        done
    })
}

async fn export(
    settings: &Settings,
    store: KeyStore<'_>,
    passphrase: Secret,
    (path, save): (&Path, impl FnOnce(&Path, &[u8]) -> io::Result<()> + Send + 'static),
) -> Result<KeysExported, KeysError> {
    let Some(found) = store.find().await? else { return Err(AppError::no_data(settings).into()) };
    let present = secret_key(settings)?;
    let former = settings.core.secret_key_previous.as_ref().map(KeyEncryptionKey::derive);
    let keks: Vec<_> = std::iter::once(present).chain(former).collect();
    if found.kek_id.is_some_and(|id| keks.iter().all(|kek| kek.id() != id)) {
        return Err(KeysError::SecretChanged);
    }
    let read = store.read(&found, &keks).await?;
    if read.keys.len() > KEY_FILE_KEYS_MAX {
        return Err(KeysError::TooMany { keys: read.keys.len() });
    }
    let file = KeyFile::new(read.server_id, store.clock.unix_ms(), read.keys);
    let work_factor = settings.backup.work_factor;
    let written = {
        let path = path.to_owned();
        blocking(move || {
            let mut bytes = Vec::new();
            file.write(&mut bytes, &passphrase, work_factor)?;
            save(&path, &bytes)?;
            Ok(file)
        })
        .await
    };
    let file = written.map_err(|source| KeysError::Write { path: path.to_owned(), source })?;
    let is_noted = match store.note_export(&file.keys).await {
        Ok(()) => true,
        Err(error) => {
            log::warn!(error:err = error; "the export is complete, but the store does not know of it");
            false
        }
    };
    Ok(KeysExported {
        keys: file.keys.len(),
        unreadable: read.unreadable,
        unexported: read.unexported,
        is_noted,
    })
}

/// Adds the keys of a file to the store, which it creates where there is none. Blocks.
///
/// # Errors
/// [`KeysError`]
pub fn import_keys(
    settings: &mut Settings,
    file: &KeyFile,
    mode: KeyImportMode,
) -> Result<KeysAdded, KeysError> {
    super::reach::act_as_owner(settings)?;
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let reached = reach_or_create(settings, &runtime, &clock).await?;
        let done = Box::pin(import(settings, (&reached, &clock), (file, mode))).await;
        reached.close().await;
        done
    })
}

/// The store's nats-server, or a private one on a data directory without a store.
async fn reach_or_create(
    settings: &Settings,
    runtime: &Runtime,
    clock: &Clock,
) -> Result<Reached, AppError> {
    let reach = Reach { settings, command: "keys import", runtime, clock };
    match (reach.connect().await, &settings.embedded) {
        (Err(AppError::NoData { .. }), Some(embedded)) => {
            let locked = reach.lock().await?;
            reach.private(embedded, locked).await
        }
        (connected, _) => connected,
    }
}

async fn import(
    settings: &mut Settings,
    (reached, clock): (&Reached, &Clock),
    (file, mode): (&KeyFile, KeyImportMode),
) -> Result<KeysAdded, KeysError> {
    let store = KeyStore { nats: &reached.nats, clock };
    let found = store.find().await?;
    check_server(found.as_ref(), file)?;
    let kek_id = found.as_ref().and_then(|found| found.kek_id);
    let present = settings.core.secret_key.as_ref().map(KeyEncryptionKey::derive);
    let is_changed = kek_id.is_some_and(|id| present.as_ref().is_none_or(|kek| kek.id() != id));
    if is_changed {
        if mode == KeyImportMode::SameSecret {
            return Err(KeysError::SecretChanged);
        }
        check_stopped(reached).await?;
    }
    let generated = match &reached.server {
        // Only here is the data directory locked.
        ReachedServer::Private(_) => {
            complete_secrets_of_import(settings).map_err(AppError::from)?
        }
        ReachedServer::Running | ReachedServer::External => Vec::new(),
    };
    let kek = secret_key(settings)?;
    let server_id = found.as_ref().map_or(&file.server_id, |found| &found.server_id);
    store.prepare_import(server_id, settings.replicas).await?;
    let keys = store.import(&file.keys, &kek).await?;
    Ok(KeysAdded { keys, generated, is_partial: found.is_none() })
}

/// Keys of another server are refused where they could be mixed with this one's.
fn check_server(found: Option<&KeyStoreFound>, file: &KeyFile) -> Result<(), KeysError> {
    match found {
        Some(found) if found.server_id != file.server_id && !found.is_empty_besides(&file.keys) => {
            let (file, store) = (file.server_id.clone(), found.server_id.clone());
            Err(KeysError::ForeignServer { file, store })
        }
        _ => Ok(()),
    }
}

/// A running process would go on with the former secret, and the next one to start would be refused.
async fn check_stopped(reached: &Reached) -> Result<(), KeysError> {
    match &reached.server {
        ReachedServer::Private(_) => Ok(()),
        ReachedServer::Running => Err(KeysError::ServerRuns),
        ReachedServer::External => match live_processes(&reached.nats).await?.into_iter().next() {
            None => Ok(()),
            Some(live) => Err(KeysError::ProcessRuns { process: live.describe() }),
        },
    }
}

fn secret_key(settings: &Settings) -> Result<KeyEncryptionKey, AppError> {
    Ok(KeyEncryptionKey::derive(&super::store::secret_key(settings)?))
}
