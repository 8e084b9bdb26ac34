//! The server process: starts, serves and stops in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::{Loaded, Settings, complete_secrets};
use crate::http;
use crate::limits::{
    KEPT_ERROR_MAX_BYTES, KEPT_ERRORS_MAX, KEPT_ERRORS_SAVE_INTERVAL, READINESS_CHECK_INTERVAL,
    START_EXTEND_INTERVAL, WATCHDOG_ANSWER_MAX_AGE, WATCHDOG_RESTART_MAX,
};
use crate::observe;
use crate::operator::{self, Operations};
use crate::realtime::{self, Realtime};
use crate::runtime::{Clock, Runtime, Scope, Stop, blocking, limited_read};
use crate::service::Service;
use crate::supervisor::{DataDir, LockWait, Notify, Role, Signal, Signals, reap_orphans};

use super::error::AppError;
use super::parts;
use super::readiness::{Readiness, Reason};
use super::register;
use super::status;
use super::store::{Create, Store, StoreOpening};

/// Tasks of the process besides those of its parts.
const TASKS_MAX: usize = 8;

/// What a person at the terminal must see; the command line prints it.
pub trait Events: Send + Sync {
    /// Whether a setup link may be shown: to a person, but not in a log, which would keep it.
    fn shows_links(&self) -> bool;
    /// The server is ready at this origin; `setup` is the setup link while there is no owner.
    fn ready(&self, origin: &str, setup: Option<&Value>);
}

/// Serves until SIGTERM or SIGINT. Blocks.
///
/// # Errors
/// [`AppError`] when it cannot start.
pub fn run(loaded: Loaded, events: Arc<dyn Events>) -> Result<(), AppError> {
    Runtime::run(Runtime::default_threads(), |runtime| async move {
        let clock = Clock::system();
        let notify = Arc::new(Notify::from_env(|name| std::env::var_os(name)));
        let signals = Signals::new().map_err(AppError::Signals)?;
        let stop = Stop::new();
        let tasks = Scope::new(&runtime, "process", TASKS_MAX);
        let tls = load_tls(&loaded.settings).await?;
        tasks.spawn("signals", watch_signals(signals, stop.clone(), tls.clone()))?;
        tasks.spawn("orphans", reap_orphans(clock.clone(), stop.clone()))?;
        let process = ServerProcess {
            settings: loaded.settings,
            tls,
            runtime,
            clock: clock.clone(),
            readiness: Readiness::new(clock),
            notify,
            stop,
            tasks,
            events,
        };
        Box::pin(process.run()).await
    })
}

struct ServerProcess {
    settings: Settings,
    tls: Option<http::Tls>,
    runtime: Runtime,
    clock: Clock,
    readiness: Readiness,
    notify: Arc<Notify>,
    stop: Stop,
    tasks: Scope,
    events: Arc<dyn Events>,
}

impl ServerProcess {
    async fn run(mut self) -> Result<(), AppError> {
        let started = self.clock.now();
        let webserver = &self.settings.webserver;
        super::open_files::raise(webserver.max_connections);
        let mut listener = http::Listener::bind(webserver.bind_address, webserver.port).await?;
        if let Some(tls) = &self.tls {
            listener = listener.over_tls(tls.clone());
        }
        let port = listener.local_addr().port();
        let Some(store) = self.open_while_serving_health(&listener).await? else {
            log::info!("stopped while starting");
            return Ok(());
        };
        register::warn_changed_secrets(&self.settings, &store.storage).await;
        let service = self.build_service(&store)?;
        if let Err(fault) = service.prepare().await {
            store.close().await;
            return Err(fault.into());
        }
        #[cfg(feature = "test-support")]
        if let Err(fault) = super::bootstrap::fill(&self.settings, &service).await {
            store.close().await;
            return Err(fault.into());
        }

        let edges = Edges { service: &service, store: &store, listener, started, port };
        self.serve(edges).await?;
        log::info!("stopping the store");
        let fatal_error = store.fatal_error();
        store.close().await;
        self.tasks.join().await;
        self.save_errors_now().await;
        log::info!("stopped");
        fatal_error.map_or(Ok(()), Err)
    }

    /// Opens the store and serves health checks meanwhile, since a cluster may take long. `None` when stopped.
    async fn open_while_serving_health(
        &mut self,
        listener: &http::Listener,
    ) -> Result<Option<Store>, AppError> {
        let opened = Stop::new();
        let readiness = ready_view(&self.readiness);
        let (clock, runtime) = (self.clock.clone(), self.runtime.clone());
        let early = http::StartupServer {
            config: &parts::http(&self.settings),
            listener,
            readiness: &readiness,
            clock: &clock,
            runtime: &runtime,
        };
        let stop = self.stop.clone();
        let open = async {
            let store = stop.or(self.open_store()).await.transpose();
            opened.stop();
            store
        };
        futures_lite::future::zip(open, early.serve(&opened)).await.0
    }

    /// Opens the embedded server or the cluster, and asks systemd for more time meanwhile.
    async fn open_store(&mut self) -> Result<Store, AppError> {
        let notify = Arc::clone(&self.notify);
        let clock = self.clock.clone();
        let extend = async move {
            loop {
                notify.extend_timeout(START_EXTEND_INTERVAL * 3);
                clock.sleep(START_EXTEND_INTERVAL).await;
            }
        };
        // Boxed, because each of the combinators around it would multiply its size.
        futures_lite::future::or(Box::pin(self.open_store_now()), extend).await
    }

    async fn open_store_now(&mut self) -> Result<Store, AppError> {
        let Some(embedded) = self.settings.embedded.clone() else {
            self.notify.status("waiting for the NATS cluster");
            let readiness = self.readiness.clone();
            let waiting = move |reason| readiness.set(Some(reason));
            return self.store_opening().external(waiting).await;
        };
        let notify = Arc::clone(&self.notify);
        let waiting = move |waiting: &LockWait| match waiting {
            LockWait::OfflineCommand { command, pid } => {
                notify.status(&format!("waiting for `chatto {command}` (pid {pid})"));
            }
            LockWait::Orphan { pid: Some(_) } => {
                notify.status("stopping a nats-server left over from an earlier chatto")
            }
            LockWait::Orphan { pid: None } => {
                notify.status("waiting for an unknown process that uses the data directory")
            }
        };
        let path = &self.settings.data_dir;
        let data_dir = DataDir::lock(path, Role::Server, &self.clock, waiting).await?;
        super::swap::finish(&data_dir)?;
        load_errors(data_dir.path()).await;
        for key in complete_secrets(&mut self.settings)? {
            log::info!(key = key; "generated a secret; it is stored in secrets.toml in the data directory");
        }
        self.notify.status("starting nats-server");
        self.store_opening().embedded(&embedded, data_dir).await
    }

    fn store_opening(&self) -> StoreOpening<'_> {
        let Self { settings, runtime, clock, .. } = self;
        StoreOpening { settings, create: Create::Yes, runtime, clock }
    }

    fn build_service(&self, store: &Store) -> Result<Service, AppError> {
        let secret = self.settings.core.secret_key.clone();
        let secret = secret.ok_or(AppError::SecretMissing { key: "core.secret_key" })?;
        let config = parts::service(&self.settings, secret, &self.clock)?;
        Ok(Service::build(config, store.storage.clone(), self.clock.clone()))
    }

    /// Runs the edges until the stop signal, then shuts them down.
    async fn serve(&self, edges: Edges<'_>) -> Result<(), AppError> {
        let Edges { service, store, listener, started, port } = edges;
        let origin = parts::link_base(&self.settings, port);
        let realtime = Realtime::build(
            realtime::Config::default(),
            service.clone(),
            store.storage.clone(),
            self.clock.clone(),
        );
        let status = status::source(status::Sources {
            readiness: self.readiness.clone(),
            nats: store.nats.clone(),
            storage: store.storage.clone(),
            service: service.clone(),
            realtime: realtime.clone(),
            embedded: store.embedded.as_ref().map(crate::supervisor::Embedded::watch),
            register: store.register.clone(),
            replicas: self.settings.replicas,
            listen: listener.local_addr().to_string(),
            started,
            clock: self.clock.clone(),
        });
        let operations = Operations::new(operator::OperatorParts {
            service: service.clone(),
            public_url: origin.clone(),
            status: Some(status),
        });
        self.start_operator(&operations)?;
        self.start_sweep(service)?;
        self.start_checking_bucket(service)?;
        self.start_owner_notices(service)?;
        self.start_saving_errors()?;

        self.start_realtime(&realtime)?;
        let server = http::Server::build(
            parts::http(&self.settings),
            http::Parts {
                service: service.clone(),
                realtime,
                readiness: ready_view(&self.readiness),
                clock: self.clock.clone(),
            },
            &self.runtime,
        );
        log::info!(address:% = listener.local_addr(), origin = origin.as_str(); "listening");
        let watching = self.watch(store);
        let reporting = self.report_ready(&operations, &origin);
        let serving = async {
            server.serve(listener, &self.stop).await;
        };
        // Watching ends when serving does, the report once it is made.
        let reported = async {
            reporting.await;
            watching.await
        };
        futures_lite::future::or(serving, reported).await;
        Ok(())
    }

    /// Reports that the server is ready, and shows the setup link while there is no owner.
    async fn report_ready(&self, operations: &Operations, origin: &str) {
        self.readiness.set(None);
        self.notify.ready();
        self.notify.status(&format!("serving {origin}"));
        let mut setup = None;
        if self.events.shows_links() {
            let params = json!({ "schema": operator::SCHEMA, "version": operator::VERSION });
            match operations.call("setup-link", params).await {
                Ok(link) => setup = Some(link),
                Err(error) if error.code == "already_exists" => {}
                Err(error) => {
                    log::warn!(error:err = error; "cannot create the setup link");
                }
            }
        } else if !operations.has_owner() {
            log::info!(
                "this server has no owner yet: run `chatto setup-link` and open the address it prints"
            );
        }
        self.events.ready(origin, setup.as_ref());
    }

    /// Checks the parts periodically: readiness, watchdog, the start of the shutdown.
    async fn watch(&self, store: &Store) {
        let mut fed = self.clock.now();
        let interval = self.notify.watchdog_interval();
        loop {
            if self.stop.or(self.clock.sleep(READINESS_CHECK_INTERVAL)).await.is_none() {
                break;
            }
            self.readiness.set(store.unready_reason());
            if store.fatal_error().is_some() {
                self.stop.stop();
            }
            let due = interval.is_some_and(|every| self.clock.now() - fed >= every);
            let alive = store.embedded.as_ref().is_none_or(|embedded| {
                embedded.watch().is_alive(WATCHDOG_ANSWER_MAX_AGE, WATCHDOG_RESTART_MAX)
            });
            if due && alive {
                self.notify.watchdog();
                fed = self.clock.now();
            }
        }
        self.readiness.set(Some(Reason::Draining));
        self.notify.stopping();
        self.notify.extend_timeout(self.settings.webserver.shutdown_timeout * 2);
        // The edges are still finishing requests; this future is dropped when they are done.
        std::future::pending::<()>().await;
    }

    /// Without the socket the server still serves clients; only commands on this machine cannot reach it.
    fn start_operator(&self, operations: &Operations) -> Result<(), AppError> {
        let Some(path) = &self.settings.operator_socket else { return Ok(()) };
        let server = match operator::Server::bind(path) {
            Ok(server) => server,
            Err(error) => {
                log::warn!(
                    error:err = error;
                    "commands on this machine cannot reach the server; check operator_api.socket_path"
                );
                return Ok(());
            }
        };
        let (operations, runtime) = (operations.clone(), self.runtime.clone());
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        let serving = async move { server.serve(operations, &runtime, &clock, &stop).await };
        Ok(self.tasks.spawn("operator", serving)?)
    }

    fn start_realtime(&self, realtime: &Realtime) -> Result<(), AppError> {
        let (realtime, stop) = (realtime.clone(), self.stop.clone());
        Ok(self.tasks.spawn("realtime", async move { realtime.run(&stop).await })?)
    }

    fn start_sweep(&self, service: &Service) -> Result<(), AppError> {
        let (service, stop) = (service.clone(), self.stop.clone());
        Ok(self.tasks.spawn("sweep", async move { service.sweeper().run(&stop).await })?)
    }

    fn start_checking_bucket(&self, service: &Service) -> Result<(), AppError> {
        let (service, stop) = (service.clone(), self.stop.clone());
        Ok(self.tasks.spawn("bucket", async move { service.watch_files(&stop).await })?)
    }

    fn start_owner_notices(&self, service: &Service) -> Result<(), AppError> {
        let (service, stop) = (service.clone(), self.stop.clone());
        let watching = async move { service.owner_notices().watch(&stop).await };
        Ok(self.tasks.spawn("owner-notices", watching)?)
    }

    fn start_saving_errors(&self) -> Result<(), AppError> {
        let path = errors_path(&self.settings.data_dir);
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        Ok(self.tasks.spawn("kept-errors", async move {
            while stop.or(clock.sleep(KEPT_ERRORS_SAVE_INTERVAL)).await.is_some() {
                save_errors(path.clone()).await;
            }
        })?)
    }

    async fn save_errors_now(&self) {
        save_errors(errors_path(&self.settings.data_dir)).await;
    }
}

/// What serving needs.
struct Edges<'a> {
    service: &'a Service,
    store: &'a Store,
    listener: http::Listener,
    started: std::time::Instant,
    port: u16,
}

/// The certificate, if this server terminates TLS itself.
async fn load_tls(settings: &Settings) -> Result<Option<http::Tls>, AppError> {
    let Some(files) = settings.webserver.tls.clone() else { return Ok(None) };
    blocking(move || http::Tls::load(files)).await.map(Some).map_err(AppError::Tls)
}

/// Shuts the process down in order at the first SIGTERM or SIGINT; SIGHUP reloads the certificate.
async fn watch_signals(mut signals: Signals, stop: Stop, tls: Option<http::Tls>) {
    loop {
        match stop.or(signals.next()).await {
            None => return,
            Some(Ok(Signal::Hangup)) => match &tls {
                Some(tls) => tls.reload().await,
                None => log::info!("SIGHUP: nothing to reload"),
            },
            Some(Ok(signal @ (Signal::Terminate | Signal::Interrupt))) => {
                log::info!(signal:? = signal; "stopping");
                stop.stop();
                return;
            }
            Some(Err(error)) => {
                log::error!(error:err = error; "cannot receive signals any more");
                return;
            }
        }
    }
}

/// Readiness for the HTTP edge.
fn ready_view(readiness: &Readiness) -> http::Readiness {
    let readiness = readiness.clone();
    Arc::new(move || match readiness.get() {
        None => http::Ready::Yes,
        Some(reason) => http::Ready::No { reason: reason.word() },
    })
}

fn errors_path(data_dir: &Path) -> PathBuf {
    data_dir.join("errors.jsonl")
}

async fn load_errors(data_dir: &Path) {
    let path = errors_path(data_dir);
    let limit = u64::try_from(KEPT_ERRORS_MAX * KEPT_ERROR_MAX_BYTES * 2).unwrap_or(u64::MAX);
    if let Ok(bytes) = blocking(move || limited_read(&path, limit)).await {
        observe::load_errors(&bytes);
    }
}

/// Saves recent errors; those that cannot be saved stay in memory and in the log.
async fn save_errors(path: PathBuf) {
    if let Err(error) = blocking(move || observe::save_errors(&path)).await {
        log::debug!(error:err = error; "cannot save recent errors");
    }
}
