//! What every handler shares.

use std::sync::Arc;

use smol::lock::{Semaphore, SemaphoreGuardArc};

use crate::limits;
use crate::runtime::{Clock, MemorySlots, Runtime, Scope};

use crate::service::Service;
use crate::web::Folder;

use super::config::Config;
use super::connect::Table;
use super::error::Failure;
use super::{Parts, Readiness};
use crate::realtime::Realtime;

/// tide's state. Clones share everything.
pub(super) type App = Arc<Shared>;

/// See [`App`].
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) readiness: Readiness,
    pub(super) clock: Clock,
    pub(super) service: Service,
    pub(super) realtime: Realtime,
    pub(super) methods: Table,
    /// The web client of `webserver.client_dir`.
    pub(super) client: Option<Folder>,
    /// Connections that left HTTP.
    pub(super) sockets: Scope,
    /// Calls that are finished although their client went away.
    pub(super) work: Scope,
    pub(super) large_bodies: MemorySlots,
    requests: Arc<Semaphore>,
}

/// A request's place among [`limits::HTTP_REQUESTS_MAX`].
pub(super) type RequestPermit = Arc<SemaphoreGuardArc>;

impl Shared {
    pub(super) fn new(config: Config, parts: Parts, runtime: &Runtime) -> Self {
        let client = config.client_dir.clone();
        let max_sockets = config.max_connections.max(1);
        Self {
            client,
            sockets: Scope::new(runtime, "sockets", max_sockets.saturating_add(64)),
            realtime: parts.realtime,
            config,
            readiness: parts.readiness,
            clock: parts.clock,
            service: parts.service,
            methods: Table::new(),
            work: Scope::new(runtime, "calls", limits::HTTP_OWNED_CALLS_MAX),
            large_bodies: MemorySlots::new(
                limits::HTTP_LARGE_BODIES_MAX,
                limits::HTTP_LARGE_BODIES_QUEUE,
            ),
            requests: Arc::new(Semaphore::new(limits::HTTP_REQUESTS_MAX)),
        }
    }

    /// Takes a place for a request; `None` when all are taken.
    pub(super) fn admit(&self) -> Option<RequestPermit> {
        self.requests.try_acquire_arc().map(Arc::new)
    }

    /// Runs work to its end whatever becomes of the caller, and waits for its answer. The request's
    /// place is held as long.
    ///
    /// # Errors
    /// What the work says; `unavailable` when too much of it runs.
    ///
    /// # Cancel safety
    /// Dropping it leaves the work running; its answer is lost.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        name: &'static str,
        permit: Option<RequestPermit>,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let work = async move {
            let answer = work.await;
            drop(permit);
            answer
        };
        let answer = self.work.finish(name, work).map_err(|_full| Failure::busy())?;
        answer.await.unwrap_or_else(|| Err(Failure::internal()))
    }
}
