//! What the operators of a server must know: the results of backups, which commands report to the store.

use crate::config::Settings;
use crate::domain::{ArchiveCheck, BackupResult};
use crate::runtime::{Clock, Runtime};
use crate::storage::{BackupLog, KnownBackups};

use super::error::AppError;
use super::reach::{Reach, Reached};

/// Notes the result of a backup in the store, for `status`, the log and the owners. Works with the server running or stopped,
/// on this machine or in a cluster. Blocks.
///
/// # Errors
/// [`AppError`]: the store cannot be reached. The result is lost then; that no verified backup follows is still seen.
pub fn report(settings: &Settings, result: &BackupResult) -> Result<(), AppError> {
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let reached = reach(settings, &runtime, &clock).await?;
        let noted = BackupLog { nats: &reached.nats, clock: &clock }.add(result).await;
        reached.close().await;
        noted.map_err(AppError::Store)
    })
}

/// Notes what a later check of an archive has shown, if its epoch (hexadecimal) is the store's; `None`: it cannot be read, and
/// is said to be one of this store. Blocks.
///
/// # Errors
/// [`AppError`]
pub fn report_check(
    settings: &Settings,
    epoch: Option<&str>,
    check: &ArchiveCheck,
) -> Result<(), AppError> {
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let reached = reach(settings, &runtime, &clock).await?;
        let log = BackupLog { nats: &reached.nats, clock: &clock };
        let noted = log.enter_check(epoch, check).await;
        reached.close().await;
        noted.map_err(AppError::Store)
    })
}

/// What the store knows of its backups. Blocks.
///
/// # Errors
/// [`AppError`]
pub fn known(settings: &Settings) -> Result<KnownBackups, AppError> {
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let reached = reach(settings, &runtime, &clock).await?;
        let known = BackupLog { nats: &reached.nats, clock: &clock }.read().await;
        reached.close().await;
        known.map_err(AppError::Store)
    })
}

async fn reach(settings: &Settings, runtime: &Runtime, clock: &Clock) -> Result<Reached, AppError> {
    Reach { settings, command: "backup", runtime, clock }.connect().await
}
