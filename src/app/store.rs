//! The store of this process: the embedded nats-server or an external cluster, opened.

use crate::config::{self, Settings};
use crate::crypto::Secret;
use crate::limits::{STORE_RETRY_DELAY_FIRST, STORE_RETRY_DELAY_MAX};
use crate::nats::{ConnectError, Nats, WritesRefused};
use crate::runtime::{Backoff, Clock, Runtime, Scope, Stop};
use crate::storage::{OpenError, Storage};
use crate::supervisor::{DataDir, DiskFault, Embedded, Health, HealthWatch};

use super::error::AppError;
use super::parts;
use super::readiness::Reason;
use super::register::{self, Register};

/// Tasks of the store's scope: the embedded server's keeper and its output.
const TASKS_MAX: usize = 8;

/// What a process needs to use the store.
pub(super) struct Store {
    pub(super) nats: Nats,
    pub(super) storage: Storage,
    pub(super) embedded: Option<Embedded>,
    /// With an external cluster: the other processes.
    pub(super) register: Option<Register>,
    closed: Stop,
    /// Holds the embedded server's tasks.
    scope: Scope,
}

/// Whether a store may be created where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Create {
    Yes,
    No,
}

/// What is needed to open a store.
pub(super) struct StoreOpening<'a> {
    pub(super) settings: &'a Settings,
    pub(super) create: Create,
    pub(super) runtime: &'a Runtime,
    pub(super) clock: &'a Clock,
}

impl StoreOpening<'_> {
    /// Starts the embedded server on the locked directory and opens the store.
    pub(super) async fn embedded(
        self,
        config: &config::Embedded,
        data_dir: DataDir,
    ) -> Result<Store, AppError> {
        let Self { settings, create, runtime, clock } = self;
        let secret = secret_key(settings)?;
        let scope = Scope::new(runtime, "nats-server", TASKS_MAX);
        let config = parts::supervisor(settings, config);
        let embedded = Embedded::start(config, data_dir, clock.clone(), &scope).await?;
        let opened = async {
            let nats = Nats::connect(&embedded.target(), clock.clone()).await?;
            nats.wait_connected(crate::limits::STORE_COMMAND_TIMEOUT).await?;
            let config = parts::storage(settings, secret, create == Create::Yes);
            let mut backoff = Backoff::new(STORE_RETRY_DELAY_FIRST, STORE_RETRY_DELAY_MAX);
            let deadline = clock.now() + crate::limits::STORE_COMMAND_TIMEOUT;
            let storage = loop {
                let opening = Storage::open(nats.clone(), config.clone(), runtime, clock.clone());
                match opening.await {
                    Ok(storage) => break storage,
                    // A busy board may reply late.
                    Err(error) if error.is_transient() && clock.now() < deadline => {
                        clock.sleep(backoff.delay()).await;
                    }
                    Err(error) => return Err(open_error(error, settings)),
                }
            };
            Ok::<_, AppError>((nats, storage))
        }
        .await;
        match opened {
            Ok((nats, storage)) => {
                let closed = Stop::new();
                let gate = write_gate(nats.clone(), embedded.watch(), closed.clone());
                scope.spawn("write-gate", gate)?;
                Ok(Store { nats, storage, embedded: Some(embedded), register: None, closed, scope })
            }
            Err(error) => {
                embedded.stop().await;
                Err(error)
            }
        }
    }

    /// Waits for the external cluster as long as it takes, passes the reason to `on_wait`, and opens the store.
    pub(super) async fn external(self, on_wait: impl Fn(Reason)) -> Result<Store, AppError> {
        let Self { settings, create, runtime, clock } = self;
        let secret = secret_key(settings)?;
        let nats = Nats::connect(&parts::cluster(settings), clock.clone()).await?;
        let mut backoff = Backoff::new(STORE_RETRY_DELAY_FIRST, STORE_RETRY_DELAY_MAX);
        let mut logged = false;
        loop {
            match nats.wait_connected(crate::limits::NATS_REQUEST_TIMEOUT).await {
                Ok(version) => {
                    log::info!(version:% = version, servers = nats.urls(); "connected to NATS");
                    break;
                }
                Err(error @ ConnectError::Unreachable { .. }) => {
                    on_wait(Reason::NatsUnreachable);
                    if !logged {
                        log::warn!(error:err = error; "waiting for the NATS cluster");
                        logged = true;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            clock.sleep(backoff.delay()).await;
        }
        let own = register::own(settings, clock);
        if create == Create::Yes {
            let on_wait = || on_wait(Reason::SecretsMismatch);
            register::wait_for_agreement(&nats, clock, &own, on_wait).await?;
        }
        logged = false;
        backoff.reset();
        loop {
            let config = parts::storage(settings, secret.clone(), create == Create::Yes);
            let opening = Storage::open(nats.clone(), config, runtime, clock.clone());
            match opening.await {
                Ok(storage) => {
                    let scope = Scope::new(runtime, "register", 1);
                    let closed = Stop::new();
                    // Commands end after their work and do not register.
                    let register = (create == Create::Yes)
                        .then(|| Register::new(own, nats.clone(), storage.clone(), clock.clone()));
                    if let Some(register) = register.clone() {
                        scope.spawn("register", register.keep(closed.clone()))?;
                    }
                    return Ok(Store { nats, storage, embedded: None, register, closed, scope });
                }
                Err(error) if error.is_transient() => {
                    on_wait(Reason::NoQuorum);
                    if !logged {
                        log::warn!(
                            error:err = error, replicas = settings.replicas;
                            "waiting until the NATS cluster has a quorum and as many nodes as nats.replicas"
                        );
                        logged = true;
                    }
                }
                Err(error) => return Err(open_error(error, settings)),
            }
            clock.sleep(backoff.delay()).await;
        }
    }
}

impl Store {
    /// Stores pending writes and stops the embedded server.
    pub(super) async fn close(self) {
        if let Some(register) = &self.register {
            self.closed.stop();
            self.scope.join().await;
            register.leave().await;
        }
        self.storage.close().await;
        self.closed.stop();
        self.nats.expect_disconnect();
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }

    /// The error that the process must exit with.
    pub(super) fn fatal_error(&self) -> Option<AppError> {
        self.register.as_ref().and_then(Register::fatal_error)
    }

    /// Why the server is not ready because of its store.
    pub(super) fn unready_reason(&self) -> Option<Reason> {
        if let Some(embedded) = &self.embedded {
            match embedded.health() {
                Health::Restarting { .. } => return Some(Reason::NatsUnreachable),
                // Also while no nats-server runs: the disk is what needs attention.
                Health::RefusingWrites(DiskFault::Full)
                | Health::WaitingForDisk(DiskFault::Full) => {
                    return Some(Reason::DiskFull);
                }
                Health::RefusingWrites(DiskFault::Error)
                | Health::WaitingForDisk(DiskFault::Error) => {
                    return Some(Reason::DiskError);
                }
                Health::Running => {}
            }
            if !embedded.watch().damage().is_empty() {
                return Some(Reason::StoreDamaged);
            }
        }
        if self.register.as_ref().is_some_and(Register::is_mismatched) {
            return Some(Reason::SecretsMismatch);
        }
        if self.storage.is_damaged()
            || self.storage.state().read(|tables| tables.unreadable().is_some())
        {
            return Some(Reason::StoreDamaged);
        }
        if !self.nats.is_connected() {
            return Some(Reason::NatsUnreachable);
        }
        if self.storage.has_lost_quorum() {
            return Some(Reason::QuorumLost);
        }
        if !self.storage.is_following() {
            return Some(Reason::NoQuorum);
        }
        self.storage.is_memory_full().then_some(Reason::MemoryFull)
    }
}

/// Refuses writes while the disk cannot be written to, instead of leaving every writer waiting for a nats-server
/// that does not reply, and files while little of it is free.
async fn write_gate(nats: Nats, watch: HealthWatch, closed: Stop) {
    let mut refused_files = false;
    loop {
        let (health, disk) = (watch.health(), watch.disk());
        let refuses_files = disk.refuses_files();
        nats.refuse_files(refuses_files);
        if refuses_files != refused_files {
            refused_files = refuses_files;
            let (free_bytes, floor_bytes) = (disk.free_bytes, disk.floor_bytes);
            if refuses_files {
                log::warn!(free_bytes = free_bytes, floor_bytes = floor_bytes; "little of the disk is free, so no files are taken, while messages still are; free some space");
            } else {
                log::info!(free_bytes = free_bytes; "the disk has room for files again");
            }
        }
        let fault = health.disk_fault();
        nats.refuse_writes(WritesRefused::DiskFull, fault == Some(DiskFault::Full));
        nats.refuse_writes(WritesRefused::DiskError, fault == Some(DiskFault::Error));
        let changed =
            watch.until(|now, disk| (now, disk.refuses_files()) != (health, refuses_files));
        if closed.or(changed).await.is_none() {
            return;
        }
    }
}

pub(super) fn secret_key(settings: &Settings) -> Result<Secret, AppError> {
    settings.core.secret_key.clone().ok_or(AppError::SecretMissing { key: "core.secret_key" })
}

fn open_error(error: OpenError, settings: &Settings) -> AppError {
    match error {
        OpenError::NoStore => AppError::no_data(settings),
        error => AppError::Store(error),
    }
}
