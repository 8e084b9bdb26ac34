//! One start of the child: prepare its files, execute it, wait until JetStream replies.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use parking_lot::Mutex;
use rustix::process::Signal;
use serde::Deserialize;

use super::bundled::{Bundled, UnpackError};
use super::child::{self, Launch, NatsChild};
use super::connection::Connection;
use super::datadir::DataDir;
use super::disk::{Prober, space};
use super::executable::{self, Executable};
use super::output::{LastErrors, Line};
use super::process::started_ticks;
use super::settings::{
    ChildConfig, Config, file_store_limit, memory_bytes, memory_limit_bytes, render, used_bytes,
};
use super::start_error::StartError;
use crate::limits::{EMBEDDED_READY_TIMEOUT, EMBEDDED_STOP_TIMEOUT};
use crate::nats::{Nats, OLDEST_SERVER, Version};
use crate::runtime::{Clock, blocking, limited_read, write_durably};

/// How often to look for the ports file.
const PORTS_POLL: Duration = Duration::from_millis(5);
const PORTS_FILE_MAX_BYTES: u64 = 64 * 1024;

/// A child that is ready. Dropping it signals the child to stop.
pub(super) struct Running {
    pub(super) child: NatsChild,
    /// Our own connection for health checks.
    pub(super) nats: Nats,
    pub(super) connection: Connection,
    pub(super) store_limit_bytes: u64,
    pub(super) version: Version,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.signal(Signal::TERM);
    }
}

/// What stays the same over all starts of the child.
pub(super) struct Starter {
    pub(super) config: Config,
    pub(super) data_dir: DataDir,
    pub(super) clock: Clock,
    token: String,
    executable: Mutex<Arc<Executable>>,
    /// The newest child; locked while one is being executed, so that no caller misses it.
    child: Arc<Mutex<Option<NatsChild>>>,
    /// The port of the first start, reused by later ones.
    port: Mutex<u16>,
    /// Log lines of the current run about streams that were left out.
    pub(super) damage: Arc<Mutex<Vec<String>>>,
    /// Log lines about failed writes.
    pub(super) write_errors: Arc<WriteErrors>,
    pub(super) prober: Prober,
}

/// The newest log line of nats-server about a failed write, and the tasks that wait for one.
#[derive(Debug, Default)]
pub(super) struct WriteErrors {
    newest: Mutex<Option<String>>,
    arrived: Event,
}

impl WriteErrors {
    fn set(&self, line: String) {
        *self.newest.lock() = Some(line);
        self.arrived.notify(usize::MAX);
    }

    /// The newest line since the last call.
    pub(super) fn take(&self) -> Option<String> {
        self.newest.lock().take()
    }

    /// Waits until there is one to take.
    pub(super) async fn wait(&self) {
        loop {
            let listener = self.arrived.listen();
            if self.newest.lock().is_some() {
                return;
            }
            listener.await;
        }
    }
}

impl Starter {
    pub(super) async fn prepare(
        config: Config,
        data_dir: DataDir,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let executable = match config.binary.clone() {
            Some(path) => blocking(move || check_binary(path)).await?,
            None => {
                let bundled = Bundled::get().ok_or(UnpackError::NotBundled)?;
                let bin = data_dir.bin();
                blocking(move || unpack(&bundled, &bin)).await?
            }
        };
        let token = config.auth_token.clone().map_or_else(random_token, Ok)?;
        let port = Mutex::new(config.port);
        let executable = Mutex::new(Arc::new(executable));
        let prober = Prober::new(data_dir.store(), clock.clone());
        let (child, damage, write_errors) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self {
            config,
            data_dir,
            clock,
            token,
            executable,
            child,
            port,
            damage,
            write_errors,
            prober,
        })
    }

    /// Starts the child and waits until JetStream replies. When it fails, no child is left. Nothing is
    /// started while files cannot be written to the disk.
    ///
    /// # Cancel safety
    /// Dropping the future signals the child to stop; [`Self::end`] waits for that.
    pub(super) async fn start(&self) -> Result<Running, StartError> {
        // Two on one store would destroy it.
        self.end().await;
        self.prober
            .probe()
            .await
            .map_err(|source| StartError::Disk { path: self.data_dir.store(), source })?;
        let started = self.try_start().await;
        if started.is_err() {
            self.end().await;
        }
        started
    }

    /// SIGTERM, then SIGKILL after a grace period. Afterwards no child runs.
    pub(super) async fn end(&self) {
        let newest = Arc::clone(&self.child);
        let newest = blocking(move || newest.lock().take());
        let Some(child) = newest.await else { return };
        child.signal(Signal::TERM);
        if let Ok(status) = self.clock.timeout(EMBEDDED_STOP_TIMEOUT, child.ended()).await {
            log::debug!(how = child::describe(status); "nats-server has ended");
            return;
        }
        log::warn!("nats-server did not stop in time; killing it");
        child.signal(Signal::KILL);
        child.ended().await;
    }

    async fn try_start(&self) -> Result<Running, StartError> {
        let (config_file, store_limit_bytes) = self.write_files().await?;
        let errors = Arc::new(Mutex::new(LastErrors::default()));
        self.damage.lock().clear();
        self.write_errors.take();
        let child = self.launch(&config_file, &errors).await?;
        let stop_unless_ready = StopOnDrop(Some(child.clone()));
        let pid = child.pid();
        // Boxed, because two combinators move it, which would take its size three times.
        let ready = Box::pin(async { Some(self.ready(pid).await) });
        let ended = async {
            child.ended().await;
            None
        };
        let limit = EMBEDDED_READY_TIMEOUT;
        let ready = self.clock.timeout(limit, futures_lite::future::or(ready, ended)).await;
        let ready = match ready {
            Ok(Some(ready)) => ready,
            Ok(None) => return Err(start_failure(&child, &errors).await),
            Err(_) => Err(StartError::NotReady { limit }),
        };
        let (nats, connection, version) = ready?;
        stop_unless_ready.disarm();
        Ok(Running { child, nats, connection, store_limit_bytes, version })
    }

    /// The configuration file, and how much it lets the store hold.
    async fn write_files(&self) -> Result<(PathBuf, u64), StartError> {
        let (config, data_dir) = (self.config.clone(), self.data_dir.clone());
        let (port, token) = (self.port(), self.token.clone());
        let written = blocking(move || {
            let run_dir = data_dir.run();
            let file = run_dir.join("nats.conf");
            let measured = used_bytes(&data_dir.store())
                .and_then(|used| Ok((used, space(&data_dir.store())?.free_bytes)));
            let write = measured.and_then(|(used, free)| {
                remove_ports_files(&run_dir)?;
                let max_file_store = file_store_limit(&config, used, free);
                let text = render(&ChildConfig {
                    config: &config,
                    store_parent: data_dir.store_parent(),
                    run_dir: &run_dir,
                    port,
                    token: &token,
                    max_file_store,
                });
                write_durably(&file, text.as_bytes(), 0o600).map(|()| max_file_store)
            });
            (file, write)
        });
        match written.await {
            (file, Ok(max_file_store)) => Ok((file, max_file_store)),
            (path, Err(source)) => Err(StartError::Prepare { path, source }),
        }
    }

    async fn launch(
        &self,
        config_file: &Path,
        errors: &Arc<Mutex<LastErrors>>,
    ) -> Result<NatsChild, StartError> {
        let first = self.executable();
        let error = match self.execute(&first, config_file, errors).await {
            Ok(child) => return Ok(child),
            Err(error) => error,
        };
        match &*first {
            Executable::Memory(_) => {}
            Executable::File(path) => {
                let path = path.parent().unwrap_or(path).to_owned();
                return Err(StartError::ExecutionRefused { path, source: error });
            }
            Executable::Named(path) => {
                return Err(StartError::Binary { path: path.clone(), source: error });
            }
        }
        log::info!(error:err = error; "this system does not execute programs from memory; nats-server is unpacked into the data directory");
        let bundled = Bundled::get().ok_or(UnpackError::NotBundled)?;
        let bin = self.data_dir.bin();
        let file = Arc::new(blocking(move || executable::in_directory(&bundled, &bin)).await?);
        *self.executable.lock() = Arc::clone(&file);
        let refused = |source| StartError::ExecutionRefused { path: self.data_dir.bin(), source };
        self.execute(&file, config_file, errors).await.map_err(refused)
    }

    async fn execute(
        &self,
        executable: &Arc<Executable>,
        config_file: &Path,
        errors: &Arc<Mutex<LastErrors>>,
    ) -> io::Result<NatsChild> {
        let (executable, config) = (Arc::clone(executable), config_file.to_owned());
        let (data_dir, errors) = (self.data_dir.clone(), Arc::clone(errors));
        let (damage, newest) = (Arc::clone(&self.damage), Arc::clone(&self.child));
        let write_errors = Arc::clone(&self.write_errors);
        let memory_limit_bytes = memory_limit_bytes(self.config.memory_limit, memory_bytes());
        blocking(move || {
            let launch = Launch {
                executable: &executable.path(),
                config: &config,
                directory: data_dir.path(),
                memory_limit_bytes,
                lock: Arc::clone(data_dir.lock_file()),
            };
            let mut newest = newest.lock();
            let child = child::launch(launch, move |raw| {
                let line = Line::parse(raw);
                line.log();
                errors.lock().record(&line);
                if line.write_error {
                    write_errors.set(line.text);
                } else if line.damage {
                    damage.lock().push(line.text);
                }
            })?;
            *newest = Some(child.clone());
            drop(newest);
            let pid = child.pid();
            let text = format!("{pid} {}\n", started_ticks(pid).unwrap_or_default());
            if let Err(error) = write_durably(&data_dir.pid_file(), text.as_bytes(), 0o600) {
                // Only a start after our own crash would need it, and PDEATHSIG makes that rare.
                log::warn!(error:err = error; "cannot record nats-server's process id");
            }
            Ok(child)
        })
        .await
    }

    /// Reads the ports file, connects and waits until JetStream replies.
    async fn ready(&self, pid: i32) -> Result<(Nats, Connection, Version), StartError> {
        let path = self.data_dir.run().join(format!("nats-server_{pid}.ports"));
        let port = loop {
            // Not written by rename: a half-written file does not parse.
            let read = limited_read(&path, PORTS_FILE_MAX_BYTES).ok();
            if let Some(port) = read.and_then(|text| chosen_port(&text)) {
                break port;
            }
            self.clock.sleep(PORTS_POLL).await;
        };
        *self.port.lock() = port;
        let address = self.config.bind_address;
        let connection = Connection::new(address, port, &self.token, pid);
        let nats = Nats::connect(&connection.target(), self.clock.clone())
            .await
            .map_err(StartError::Connect)?;
        let version =
            nats.wait_connected(EMBEDDED_READY_TIMEOUT).await.map_err(StartError::Connect)?;
        // It ends before we close this connection.
        nats.expect_disconnect();
        while let Err(error) = nats.account_info().await {
            log::debug!(error:err = error; "JetStream does not reply yet");
            self.clock.sleep(PORTS_POLL).await;
        }
        let file = self.data_dir.connection_file();
        let write = connection.clone();
        let written = blocking(move || write.write(&file).map_err(|source| (file, source))).await;
        written.map_err(|(path, source)| StartError::Prepare { path, source })?;
        Ok((nats, connection, version))
    }

    fn port(&self) -> u16 {
        *self.port.lock()
    }

    fn executable(&self) -> Arc<Executable> {
        Arc::clone(&self.executable.lock())
    }
}

/// Signals a child that did not become ready to stop.
struct StopOnDrop(Option<NatsChild>);

impl StopOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            child.signal(Signal::TERM);
        }
    }
}

async fn start_failure(child: &NatsChild, errors: &Mutex<LastErrors>) -> StartError {
    let status = child.ended().await;
    let errors = errors.lock();
    let message = errors.last();
    if errors.any("address already in use") {
        return StartError::PortBusy { message };
    }
    StartError::Ended { how: child::describe(status), message }
}

/// Unpacks into memory, or into a file where no memfd can be created.
fn unpack(bundled: &Bundled, bin: &Path) -> Result<Executable, UnpackError> {
    match executable::in_memory(bundled) {
        Err(UnpackError::Write { source }) => {
            log::info!(error:err = source; "this system has no executable memory; nats-server is unpacked into the data directory");
            executable::in_directory(bundled, bin)
        }
        other => other,
    }
}

/// Checks the operator's server before it touches the store.
fn check_binary(path: PathBuf) -> Result<Executable, StartError> {
    let message = Command::new(&path).arg("--version").env_clear().output();
    let message = message.map_err(|source| StartError::Binary { path: path.clone(), source })?;
    let message = String::from_utf8_lossy(&message.stdout).trim().to_owned();
    let found = message.strip_prefix("nats-server: v").map(|version| {
        let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        Version(next(), next(), next())
    });
    match found {
        Some(version) if version >= OLDEST_SERVER => Ok(Executable::Named(path)),
        Some(version) => {
            Err(StartError::BinaryTooOld { path, found: format!("nats-server {version}") })
        }
        None => Err(StartError::BinaryTooOld { path, found: "not a nats-server".to_owned() }),
    }
}

/// 256 random bits; the leading letter keeps parsers from reading it as a number.
fn random_token() -> Result<String, StartError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Prepare {
        path: "/dev/urandom".into(),
        source: error
            .raw_os_error()
            .map_or(io::ErrorKind::Other.into(), io::Error::from_raw_os_error),
    })?;
    Ok(format!("t{}", super::bundled::hex(&bytes)))
}

/// If a process id is reused, the file of an earlier run would be read instead of the new one.
fn remove_ports_files(run_dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(run_dir)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "ports") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The port that the child has chosen for its clients.
fn chosen_port(text: &[u8]) -> Option<u16> {
    #[derive(Deserialize)]
    struct Ports {
        nats: Vec<String>,
    }
    let ports: Ports = serde_json::from_slice(text).ok()?;
    ports.nats.first()?.rsplit_once(':')?.1.parse().ok()
}
