//! The server before the store is open: health checks are answered, everything else gets 503 with `Retry-After`.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::bridge::{self, to_hyper};
use super::connections::Connections;
use super::io::{DeadlineStream, Phase};
use super::response::Response;
use super::stream::Stream;
use super::{Config, Listener, PublicUrl, Readiness, edge, health};
use crate::limits;
use crate::runtime::{Clock, Runtime, Scope, Stop};

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
        // An evicted connection returns its permit a moment before its task counts as finished.
        let tasks = limits::HTTP_STARTUP_CONNECTIONS_MAX * 2;
        let connections = Scope::new(self.runtime, "startup connections", tasks);
        let open = Connections::new(
            limits::HTTP_STARTUP_CONNECTIONS_MAX,
            self.config.trusted_proxies.clone(),
        );
        let handshake = self.listener.handshake();
        while let Some(next) = opened.or(self.listener.accept()).await {
            let Ok((stream, peer)) = next else {
                self.clock.sleep(limits::HTTP_ACCEPT_PAUSE).await;
                continue;
            };
            // Connections beyond the limit are dropped at once, so nothing else makes this loop yield.
            futures_lite::future::yield_now().await;
            let Some(permit) = open.admit(peer.ip()).map(Arc::new) else {
                log::debug!("closed a connection beyond the limit during the start");
                continue;
            };
            let health_only = HealthOnly {
                phase: Phase::new(Arc::clone(&permit)),
                url: self.config.public_url.clone(),
                readiness: Arc::clone(self.readiness),
                fallback: starting,
            };
            let (handshake, clock, deadlines) =
                (handshake.clone(), self.clock.clone(), self.config.deadlines);
            let served = async move {
                let serving = async {
                    if let Some(stream) = handshake.run(stream, &clock).await {
                        let phase = Arc::clone(&health_only.phase);
                        health_only
                            .serve(DeadlineStream::new(stream, clock, phase, deadlines))
                            .await;
                    }
                };
                Box::pin(permit.run_until_evicted(serving)).await;
            };
            if connections.spawn("startup connection", served).is_err() {
                log::debug!("closed a connection beyond the limit during the start");
            }
        }
        // Requests in progress are answered at once; no client may delay the start.
        let limit = limits::HTTP_REJECTION_TIMEOUT;
        if self.clock.timeout(limit, connections.join()).await.is_err() {
            log::debug!("closing connections that did not finish before the start");
        }
    }
}

/// Serves one request of a connection that gets health responses only: before the store is open, and beyond the
/// limit of connections.
pub(super) struct HealthOnly {
    pub(super) phase: Arc<Phase>,
    pub(super) url: PublicUrl,
    pub(super) readiness: Readiness,
    /// The response to everything else.
    pub(super) fallback: fn() -> Response,
}

fn starting() -> Response {
    let (status, text) = (StatusCode::SERVICE_UNAVAILABLE, "the server is starting");
    Response::connect_error(status, "unavailable", text).retry_after(1)
}

impl HealthOnly {
    /// Responds and closes.
    pub(super) async fn serve(self, stream: DeadlineStream<Stream>) {
        let io = FuturesIo::new(stream);
        let service = service_fn(move |request: Request<Incoming>| {
            let guard = self.phase.begin_request();
            let sent = to_hyper(self.response(request).closing(), guard);
            async move { Ok::<_, Infallible>(sent) }
        });
        let served = http1::Builder::new()
            .timer(SmolTimer::new())
            .header_read_timeout(limits::HTTP_HEAD_TIMEOUT)
            .max_header_size(limits::HTTP_HEAD_MAX_BYTES)
            .max_buf_size(limits::HTTP_BUFFER_MAX_BYTES)
            .half_close(false)
            .keep_alive(false)
            .serve_connection(io, service);
        if let Err(error) = pin!(served).await {
            log::debug!(error:err = error; "a connection for health checks only ended early");
        }
    }

    fn response(&self, request: Request<Incoming>) -> Response {
        let (parts, body) = request.into_parts();
        if !body.is_end_stream() {
            self.phase.mark_body_unread();
        }
        let path = parts.uri.path();
        let mut response = match bridge::host(&parts, &self.url, None) {
            Err(response) => *response,
            Ok(_) if parts.method == Method::OPTIONS => Response::empty(StatusCode::NO_CONTENT),
            Ok(_) => match path {
                "/healthz" => health::alive(),
                "/readyz" => health::ready(&self.readiness),
                _ => (self.fallback)(),
            },
        };
        edge::decorate(path, &parts.headers, &mut response.headers);
        response
    }
}
