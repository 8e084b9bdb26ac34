//! The store's nats-server, for commands that read or write streams without opening the store: the external cluster, the
//! server that runs on this machine, or a private nats-server on the locked data directory.

use std::time::Duration;

use crate::config::{self, Settings};
use crate::limits::{NATS_REQUEST_TIMEOUT, STORE_COMMAND_TIMEOUT};
use crate::nats::Nats;
use crate::runtime::{Clock, Runtime, Scope};
use crate::supervisor::{Connection, DataDir, Embedded, LockError, Role, become_owner};

use super::error::AppError;
use super::parts;
use super::swap;

/// Tasks of a private nats-server: its keeper and its output.
const TASKS_MAX: usize = 8;
/// Between two looks for the connection file of a server that is starting.
const POLL: Duration = Duration::from_millis(200);

/// A connection to the store's nats-server.
pub(super) struct Reached {
    pub(super) nats: Nats,
    pub(super) server: ReachedServer,
}

/// Who runs the nats-server.
pub(super) enum ReachedServer {
    /// An operator: a cluster that processes may be using.
    External,
    /// The chatto that is running on the data directory.
    Running,
    /// This command, which holds the lock of the data directory.
    Private(Box<PrivateServer>),
}

/// A nats-server of this command.
pub(super) struct PrivateServer {
    embedded: Embedded,
    /// Holds its tasks.
    _scope: Scope,
}

/// What is needed to reach the store of these settings for a command.
pub(super) struct Reach<'a> {
    pub(super) settings: &'a Settings,
    /// As typed, for example `backup`.
    pub(super) command: &'a str,
    pub(super) runtime: &'a Runtime,
    pub(super) clock: &'a Clock,
}

/// Makes the command act as the owner of the data directory, if it runs as root and that is another account: before
/// it starts the runtime, and after it has opened files that only root may read.
pub(super) fn act_as_owner(settings: &Settings) -> Result<(), AppError> {
    let path = &settings.data_dir;
    become_owner(path).map_err(|source| AppError::Owner { path: path.clone(), source })
}

impl Reach<'_> {
    /// Connects. Creates nothing: a data directory without a store is an error.
    ///
    /// # Errors
    /// [`AppError`]: there is no store, another command uses it, or it cannot be reached within
    /// [`STORE_COMMAND_TIMEOUT`].
    pub(super) async fn connect(&self) -> Result<Reached, AppError> {
        let Some(embedded) = &self.settings.embedded else { return self.external().await };
        let data_dir = &self.settings.data_dir;
        let deadline = self.clock.now() + STORE_COMMAND_TIMEOUT;
        loop {
            if let Some(reached) = self.running().await {
                return Ok(reached);
            }
            if !swap::has_store(data_dir) {
                return Err(AppError::no_data(self.settings));
            }
            match self.lock().await {
                Ok(locked) => return self.private(embedded, locked).await,
                // It is starting, or restarting its nats-server.
                Err(AppError::Lock(LockError::HeldByServer { .. }))
                    if self.clock.now() < deadline =>
                {
                    self.clock.sleep(POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Locks the data directory for this command, and creates it where it is absent.
    pub(super) async fn lock(&self) -> Result<DataDir, AppError> {
        let role = Role::Offline { command: self.command.to_owned() };
        let locked = DataDir::lock(&self.settings.data_dir, role, self.clock, |_| {}).await?;
        swap::finish(&locked)?;
        Ok(locked)
    }

    /// Starts a nats-server on a locked data directory.
    pub(super) async fn private(
        &self,
        embedded: &config::Embedded,
        locked: DataDir,
    ) -> Result<Reached, AppError> {
        let scope = Scope::new(self.runtime, "nats-server", TASKS_MAX);
        let config = parts::supervisor(self.settings, embedded);
        let embedded = Embedded::start(config, locked, self.clock.clone(), &scope).await?;
        let connected = async {
            let nats = Nats::connect(&embedded.target(), self.clock.clone()).await?;
            nats.wait_connected(STORE_COMMAND_TIMEOUT).await?;
            Ok::<_, AppError>(nats)
        };
        match connected.await {
            Ok(nats) => {
                let server = Box::new(PrivateServer { embedded, _scope: scope });
                Ok(Reached { nats, server: ReachedServer::Private(server) })
            }
            Err(error) => {
                embedded.stop().await;
                Err(error)
            }
        }
    }

    async fn external(&self) -> Result<Reached, AppError> {
        let nats = Nats::connect(&parts::cluster(self.settings), self.clock.clone()).await?;
        nats.wait_connected(STORE_COMMAND_TIMEOUT).await?;
        Ok(Reached { nats, server: ReachedServer::External })
    }

    /// Whether a server runs on the data directory. Locks and writes nothing.
    pub(super) async fn is_answered(&self) -> bool {
        match self.running().await {
            Some(reached) => {
                reached.close().await;
                true
            }
            None => false,
        }
    }

    /// The server that runs on the data directory; `None` if none replies. A connection file may be left over.
    async fn running(&self) -> Option<Reached> {
        let connection = match Connection::read(&self.settings.data_dir) {
            Ok(connection) => connection?,
            Err(error) => {
                log::debug!(error:err = error; "the connection file cannot be read");
                return None;
            }
        };
        let nats = Nats::connect(&connection.target(), self.clock.clone()).await.ok()?;
        match nats.wait_connected(NATS_REQUEST_TIMEOUT).await {
            Ok(_) => Some(Reached { nats, server: ReachedServer::Running }),
            Err(error) => {
                log::debug!(error:err = error; "no nats-server replies at the address of the connection file");
                nats.expect_disconnect();
                None
            }
        }
    }
}

impl Reached {
    /// Ends the connection, and a private nats-server, which stores everything first.
    pub(super) async fn close(self) {
        self.nats.expect_disconnect();
        if let ReachedServer::Private(private) = self.server {
            private.embedded.stop().await;
        }
    }
}
