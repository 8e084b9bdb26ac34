//! What every handler shares.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tide::Request;

use crate::domain::{ClientNetwork, UserId};
use crate::limits;
use crate::runtime::{Clock, Runtime, Scope};
use crate::service::Service;
use crate::web::Folder;

use super::config::Config;
use super::connect::MethodTable;
use super::error::HttpError;
use super::permits::{LimitReached, Permit, Permits};
use super::{Parts, Readiness};
use crate::realtime::Realtime;

/// tide's state. Clones share everything.
pub(super) type App = Arc<AppState>;

/// See [`App`].
pub(super) struct AppState {
    pub(super) config: Config,
    pub(super) readiness: Readiness,
    pub(super) clock: Clock,
    pub(super) service: Service,
    pub(super) realtime: Realtime,
    pub(super) methods: MethodTable,
    /// The web client of `webserver.client_dir`.
    pub(super) client: Option<Folder>,
    /// Connections that left HTTP.
    pub(super) sockets: Scope,
    /// Calls that run to their end even when their client disconnects.
    pub(super) work: Scope,
    /// Bytes of bodies of up to [`limits::API_BODY_MAX_BYTES`].
    pub(super) bodies: Arc<Permits>,
    pub(super) large_bodies: Arc<Permits>,
    /// Files that are being streamed in.
    pub(super) uploads: Arc<Permits>,
    /// The same for each user: members have many addresses.
    pub(super) user_uploads: Arc<Permits<UserId>>,
    requests: Arc<Permits>,
}

/// Proof that a request is one of the [`limits::HTTP_REQUESTS_MAX`] in progress.
pub(super) type RequestPermit = Arc<PausablePermit>;

/// See [`RequestPermit`].
#[derive(Debug)]
pub(super) struct PausablePermit {
    requests: Arc<Permits>,
    pub(super) client: ClientNetwork,
    held: Mutex<Option<Permit>>,
}

impl PausablePermit {
    /// The permit of a request; health checks have none.
    pub(super) fn of(request: &Request<App>) -> Option<RequestPermit> {
        request.ext::<Option<RequestPermit>>().cloned().flatten()
    }

    /// Returns the permit while the request waits for its client.
    pub(super) fn pause(&self) {
        let held = self.held.lock().take();
        drop(held);
    }

    /// Takes the permit again.
    pub(super) fn resume(&self) -> Result<(), LimitReached> {
        let permit = self.requests.take(self.client, 1)?;
        *self.held.lock() = Some(permit);
        Ok(())
    }
}

impl AppState {
    pub(super) fn new(config: Config, parts: Parts, runtime: &Runtime) -> Self {
        let client = config.client_dir.clone();
        let max_sockets = config.max_connections.max(1);
        let max_uploads = parts.service.upload_streams_max();
        Self {
            client,
            sockets: Scope::new(runtime, "sockets", max_sockets.saturating_add(64)),
            realtime: parts.realtime,
            config,
            readiness: parts.readiness,
            clock: parts.clock,
            service: parts.service,
            methods: MethodTable::new(),
            work: Scope::new(runtime, "calls", limits::HTTP_OWNED_CALLS_MAX),
            bodies: Permits::new(limits::HTTP_BODIES_MAX_BYTES),
            large_bodies: Permits::new(limits::HTTP_LARGE_BODIES_MAX),
            uploads: Permits::new(max_uploads),
            user_uploads: Permits::new(max_uploads),
            requests: Permits::new(limits::HTTP_REQUESTS_MAX),
        }
    }

    /// Takes a permit for a request of a client; `None` when none is free.
    pub(super) fn admit(&self, client: IpAddr) -> Option<RequestPermit> {
        let client = ClientNetwork::from(client);
        let held = self.requests.take(client, 1).ok()?;
        let requests = Arc::clone(&self.requests);
        Some(Arc::new(PausablePermit { requests, client, held: Mutex::new(Some(held)) }))
    }

    /// Runs work to its end even when the caller is dropped, and waits for its result. The permit of the request is
    /// held as long.
    ///
    /// # Errors
    /// The error of the work, or `unavailable` when too much work is running.
    ///
    /// # Cancel safety
    /// Dropping it leaves the work running; the result is lost.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        name: &'static str,
        permit: Option<RequestPermit>,
        work: impl Future<Output = Result<T, HttpError>> + Send + 'static,
    ) -> Result<T, HttpError> {
        // Boxed, because each wrapper around the work holds it twice: as what it captured and as what it waits for.
        let work = Box::pin(work);
        let work = async move {
            let response = work.await;
            drop(permit);
            response
        };
        let response = self.work.finish(name, work).map_err(|_full| HttpError::busy())?;
        response.await.unwrap_or_else(|| Err(HttpError::internal()))
    }
}
