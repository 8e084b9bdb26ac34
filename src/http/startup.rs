//! The server before the store is open: health checks are answered, everything else gets 503 with `Retry-After`.

use super::health_only::{HealthOnlyParts, HealthOnlyReason, HealthOnlyServer};
use super::{Config, Listener, Readiness};
use crate::limits;
use crate::runtime::{Clock, Runtime, Stop};

/// What the startup server needs.
pub struct StartupServer<'a> {
    /// The configuration that the full server will have.
    pub config: &'a Config,
    /// The bound socket; the full server takes it over afterwards.
    pub listener: &'a Listener,
    /// Why the server is not ready yet.
    pub readiness: &'a Readiness,
    pub clock: &'a Clock,
    /// Where connections run.
    pub runtime: &'a Runtime,
}

impl StartupServer<'_> {
    /// Serves until `opened`. Each response closes its connection, so that the next request reaches the
    /// full server.
    pub async fn serve(&self, opened: &Stop) {
        let parts = HealthOnlyParts {
            config: self.config,
            handshake: self.listener.handshake(),
            readiness: self.readiness,
            clock: self.clock,
            runtime: self.runtime,
        };
        let server = HealthOnlyServer::new(HealthOnlyReason::Starting, parts);
        while let Some((stream, peer)) = opened.or(self.listener.accept(self.clock)).await {
            // Connections beyond the limit are dropped at once, so nothing else makes this loop yield.
            futures_lite::future::yield_now().await;
            server.accept(stream, peer.ip());
        }
        // Requests in progress are answered at once; no client may delay the start.
        let limit = limits::HTTP_REJECTION_TIMEOUT;
        if self.clock.timeout(limit, server.join()).await.is_err() {
            log::debug!("closing connections that did not finish before the start");
        }
    }
}
