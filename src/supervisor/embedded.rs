//! The embedded server as the rest of the program sees it: started, monitored, restarted, stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_listener::Event;
use parking_lot::Mutex;

use super::child;
use super::datadir::DataDir;
use super::disk::{DiskFault, space};
use super::health::{
    Disk, Health, HealthAction, HealthPolicy, JetStreamStatus, Observation, check_jetstream,
    store_usage,
};
use super::settings::Config;
use super::start::{Running, Starter};
use super::start_error::StartError;
use crate::limits::{
    DISK_PROBE_DELAY_FIRST, DISK_PROBE_DELAY_MAX, EMBEDDED_CHECK_INTERVAL,
    EMBEDDED_RESTART_DELAY_FIRST, EMBEDDED_RESTART_DELAY_MAX, EMBEDDED_STEADY_AFTER,
};
use crate::nats::{Target, Version};
use crate::runtime::{Backoff, Clock, Scope, Stop, blocking};

/// Every second check asks JetStream for its streams, every fifth for the size of the store.
const HEALTH_EVERY: u32 = 2;
/// See [`HEALTH_EVERY`].
const STORE_EVERY: u32 = 5;

/// The running embedded server. It keeps one port and one token for the lifetime of this value, so clients
/// simply reconnect after a restart.
pub struct Embedded {
    shared: Arc<Shared>,
    target: Target,
    version: Version,
    stop: Stop,
}

struct Shared {
    clock: Clock,
    state: Mutex<State>,
    changed: Event,
    damage: Arc<Mutex<Vec<String>>>,
}

struct State {
    health: Health,
    disk: Disk,
    pid: i32,
    restarts: u64,
    last_answer: Instant,
    finished: bool,
    version: u64,
}

/// A view of the embedded server for readiness, metrics and the code that refuses writes.
#[derive(Clone)]
pub struct HealthWatch {
    shared: Arc<Shared>,
}

impl Embedded {
    /// Starts nats-server on the locked directory and waits until JetStream replies; then monitors it
    /// from `scope` until [`Self::stop`].
    ///
    /// This takes long while JetStream recovers a large store: ask the service manager for more time meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future signals the child to stop; the directory stays locked until the child has ended.
    pub async fn start(
        config: Config,
        data_dir: DataDir,
        clock: Clock,
        scope: &Scope,
    ) -> Result<Self, StartError> {
        let starter = Starter::prepare(config, data_dir, clock.clone()).await?;
        if starter.config.min_free_disk == 0 {
            log::warn!(
                "nats.embedded.min_free_disk is 0, so a full disk will stop the store instead of pausing it; set it to keep some space free"
            );
        }
        let running = starter.start().await?;
        let target = running.connection.target();
        let version = running.version;
        let state = State {
            health: Health::Running,
            disk: Disk::default(),
            pid: running.child.pid(),
            restarts: 0,
            last_answer: clock.now(),
            finished: false,
            version: 1,
        };
        let shared = Arc::new(Shared {
            clock,
            state: Mutex::new(state),
            changed: Event::new(),
            damage: Arc::clone(&starter.damage),
        });
        log::info!(pid = running.child.pid(), version:% = version; "nats-server is ready");
        let stop = Stop::new();
        let child_supervisor =
            ChildSupervisor { starter, shared: Arc::clone(&shared), stop: stop.clone() };
        scope.spawn("nats-server", child_supervisor.run(running))?;
        Ok(Self { shared, target, version, stop })
    }

    /// How to reach the server; the same across restarts.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target.clone()
    }

    /// The version of the server.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// A view to share.
    #[must_use]
    pub fn watch(&self) -> HealthWatch {
        HealthWatch { shared: Arc::clone(&self.shared) }
    }

    /// Its state now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.lock().health
    }

    /// Signals the server to store everything and exit, and waits for it; after
    /// [`crate::limits::EMBEDDED_STOP_TIMEOUT`] it is killed. Close its clients first.
    ///
    /// # Cancel safety
    /// Once it has been polled, the server stops even if the future is dropped.
    pub async fn stop(self) {
        self.stop.stop();
        self.shared.wait(|state| state.finished).await;
    }
}

impl HealthWatch {
    /// The state now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.lock().health
    }

    /// Free space at the last check.
    #[must_use]
    pub fn disk(&self) -> Disk {
        self.shared.lock().disk
    }

    /// The process id of the current child.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.shared.lock().pid
    }

    /// How often it was restarted.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.shared.lock().restarts
    }

    /// nats-server's log lines about streams that it could not read and left out; empty when there are none.
    #[must_use]
    pub fn damage(&self) -> Vec<String> {
        self.shared.damage.lock().clone()
    }

    /// Whether it replied within `limit` or has been restarting for no longer than `restarting`:
    /// what a watchdog needs to know. A server that waits for the disk counts as alive: restarting this process
    /// would not repair the disk.
    #[must_use]
    pub fn is_alive(&self, limit: Duration, restarting: Duration) -> bool {
        let now = self.shared.clock.now();
        let state = self.shared.lock();
        match state.health {
            Health::Restarting { since } => now - since <= restarting,
            Health::WaitingForDisk(_) => true,
            Health::Running | Health::RefusingWrites(_) => now - state.last_answer <= limit,
        }
    }

    /// Waits until the state differs from `seen`.
    pub async fn changed(&self, seen: Health) -> Health {
        self.until(|health, _| health != seen).await;
        self.health()
    }

    /// Waits until state and disk are as wanted, or the server has ended.
    pub async fn until(&self, is_wanted: impl Fn(Health, Disk) -> bool) {
        let is_over = |state: &State| state.finished || is_wanted(state.health, state.disk);
        self.shared.wait(is_over).await;
    }
}

impl Shared {
    fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.lock();
            change(&mut state);
            state.version += 1;
        }
        self.changed.notify(usize::MAX);
    }

    async fn wait(&self, is: impl Fn(&State) -> bool) {
        loop {
            let listener = self.changed.listen();
            if is(&self.lock()) {
                return;
            }
            listener.await;
        }
    }

    /// Sets the state to restarting, from now on unless it was restarting already.
    fn restarting(&self) {
        let since = self.clock.now();
        self.update(|state| {
            if !matches!(state.health, Health::Restarting { .. }) {
                state.health = Health::Restarting { since };
            }
        });
    }

    fn set_health(&self, health: Health, reason: &str) {
        let before = self.lock().health;
        if before == health {
            return;
        }
        let disk = self.lock().disk;
        match health {
            Health::RefusingWrites(DiskFault::Full) => {
                log::error!(reason = reason, free_bytes = disk.free_bytes, floor_bytes = disk.floor_bytes, free_inodes:? = disk.free_inodes, store_bytes = disk.store_bytes, store_limit_bytes = disk.store_limit_bytes; "the disk is full, so writes are refused while reads still work; free some space, no restart is needed");
            }
            Health::RefusingWrites(DiskFault::Error) => {
                log::error!(reason = reason; "the disk cannot be written to, so writes are refused while reads still work; check the disk and that it is mounted for writing");
            }
            Health::Running => log::info!("nats-server accepts writes again"),
            Health::Restarting { .. } | Health::WaitingForDisk(_) => {}
        }
        self.update(|state| state.health = health);
    }
}

/// The task that owns the child.
struct ChildSupervisor {
    starter: Starter,
    shared: Arc<Shared>,
    stop: Stop,
}

/// Why a run of the child ended.
enum RunEnd {
    Stopped,
    ChildEnded,
    RestartNeeded,
}

impl ChildSupervisor {
    async fn run(self, mut running: Running) {
        let clock = &self.shared.clock;
        let mut backoff = Backoff::new(EMBEDDED_RESTART_DELAY_FIRST, EMBEDDED_RESTART_DELAY_MAX);
        loop {
            let began = clock.now();
            let mut known_fault = None;
            match self.watch_run(&running).await {
                RunEnd::Stopped => break,
                RunEnd::ChildEnded => {
                    known_fault = self.shared.lock().health.disk_fault();
                    let how = child::describe(running.child.ended().await);
                    log::error!(how = how; "nats-server ended; restarting it");
                }
                RunEnd::RestartNeeded => {}
            }
            if clock.now() - began > EMBEDDED_STEADY_AFTER {
                backoff.reset();
            }
            match self.restart(&mut backoff, known_fault).await {
                Some(again) => running = again,
                None => break,
            }
        }
        self.starter.end().await;
        log::info!("nats-server has ended");
        // The lock goes with `self`; the file must not outlive the server it leads to.
        let file = self.starter.data_dir.connection_file();
        blocking(move || std::fs::remove_file(file).ok()).await;
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.update(|state| state.finished = true);
    }

    /// Monitors the child until it ends, needs a restart, or we stop.
    async fn watch_run(&self, running: &Running) -> RunEnd {
        let ended = async {
            running.child.ended().await;
            RunEnd::ChildEnded
        };
        let over = futures_lite::future::or(ended, self.monitor(running));
        self.stop.or(over).await.unwrap_or(RunEnd::Stopped)
    }

    /// A failed write shows up in nats-server's log within milliseconds, otherwise in its replies or in the
    /// figures of the file system within two seconds. None of these costs a write; the disk is probed only
    /// when one of them indicates a fault.
    async fn monitor(&self, running: &Running) -> RunEnd {
        let (clock, config) = (&self.shared.clock, &self.starter.config);
        let mut policy = HealthPolicy::default();
        let mut schedule = ProbeSchedule::new(clock.clone());
        let mut checks = 0_u32;
        loop {
            let observation = self.observe(running, checks).await;
            checks = checks.wrapping_add(1);
            let action = policy.decide(config, observation);
            self.shared.update(|state| state.disk = policy.disk());
            match action {
                HealthAction::Set(health) => self.shared.set_health(health, policy.reason()),
                HealthAction::Restart(why) if schedule.is_due() => {
                    if self.may_restart(&policy).await {
                        log::warn!(reason = policy.reason(); "restarting nats-server: {why}");
                        return RunEnd::RestartNeeded;
                    }
                    schedule.failed();
                }
                HealthAction::Restart(_) => {}
            }
            let write_error = self.starter.write_errors.wait();
            futures_lite::future::or(write_error, clock.sleep(EMBEDDED_CHECK_INTERVAL)).await;
        }
    }

    /// Whether files can be written to the disk again; writes are refused until that is known. Ending a child that can
    /// still be read from for one that cannot start would be worse than waiting.
    async fn may_restart(&self, policy: &HealthPolicy) -> bool {
        let health = self.shared.lock().health;
        if health == Health::Running {
            self.shared.set_health(Health::RefusingWrites(DiskFault::Error), policy.reason());
        }
        match self.starter.prober.probe().await {
            Ok(()) => true,
            Err(error) => {
                let reason = format!("{} (probe: {error})", policy.reason());
                self.shared.set_health(Health::RefusingWrites(DiskFault::of(&error)), &reason);
                false
            }
        }
    }

    async fn observe(&self, running: &Running, checks: u32) -> Observation {
        let store = self.starter.data_dir.store();
        let mut observation = Observation {
            space: Some(blocking(move || space(&store)).await),
            write_error: self.starter.write_errors.take(),
            ..Observation::default()
        };
        if checks.is_multiple_of(HEALTH_EVERY) {
            observation.jetstream = self.jetstream_status(running).await;
        }
        if checks.is_multiple_of(STORE_EVERY) {
            observation.store = store_usage(&self.shared.clock, running).await;
        }
        observation
    }

    /// JetStream's reply; records when the last one came.
    async fn jetstream_status(&self, running: &Running) -> Option<JetStreamStatus> {
        let answer = check_jetstream(&self.shared.clock, &running.nats).await?;
        let now = self.shared.clock.now();
        self.shared.update(|state| state.last_answer = now);
        Some(answer)
    }

    /// Restarts the child until it is ready; `None` when we stop. The `known_fault` of the disk stays the
    /// reason until a probe has succeeded.
    async fn restart(
        &self,
        backoff: &mut Backoff,
        known_fault: Option<DiskFault>,
    ) -> Option<Running> {
        let clock = &self.shared.clock;
        let mut disk_backoff = Backoff::new(DISK_PROBE_DELAY_FIRST, DISK_PROBE_DELAY_MAX);
        let mut delay = backoff.delay();
        let mut logged = None;
        match known_fault {
            Some(fault) => self.shared.update(|state| state.health = Health::WaitingForDisk(fault)),
            None => self.shared.restarting(),
        }
        loop {
            self.stop.or(clock.sleep(delay)).await?;
            let error = match self.stop.or(self.starter.start()).await? {
                Ok(running) => {
                    let (pid, now) = (running.child.pid(), clock.now());
                    log::info!(pid = pid; "nats-server is ready again");
                    self.shared.update(|state| {
                        state.health = Health::Running;
                        state.pid = pid;
                        state.restarts += 1;
                        state.last_answer = now;
                    });
                    return Some(running);
                }
                Err(error) => error,
            };
            match error.disk_fault() {
                Some(fault) => {
                    delay = disk_backoff.delay();
                    self.shared.update(|state| state.health = Health::WaitingForDisk(fault));
                    if logged.replace(fault) != Some(fault) {
                        log::error!(error:err = error; "nats-server has ended and is not restarted until files can be written to the disk; free some space or check the disk");
                    }
                }
                None => {
                    delay = backoff.delay();
                    logged = None;
                    log::error!(error:err = error; "nats-server failed to start");
                    self.shared.restarting();
                }
            }
        }
    }
}

/// When the next probe of a failing disk is due.
struct ProbeSchedule {
    clock: Clock,
    backoff: Backoff,
    next: Instant,
}

impl ProbeSchedule {
    fn new(clock: Clock) -> Self {
        let next = clock.now();
        let backoff = Backoff::new(DISK_PROBE_DELAY_FIRST, DISK_PROBE_DELAY_MAX);
        Self { clock, backoff, next }
    }

    fn is_due(&self) -> bool {
        self.clock.now() >= self.next
    }

    fn failed(&mut self) {
        self.next = self.clock.now() + self.backoff.delay();
    }
}
