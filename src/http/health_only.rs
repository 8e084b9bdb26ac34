//! Connections that get health responses only: before the store is open, and beyond the limit of connections.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_net::TcpStream;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use smol_hyper::rt::FuturesIo;

use super::bridge::{self, to_hyper};
use super::config::{Config, Deadlines, PublicUrl};
use super::connections::Connections;
use super::error::HttpError;
use super::io::{DeadlineStream, Phase};
use super::response::Response;
use super::serve::{Handshake, http1};
use super::stream::Stream;
use super::{Readiness, edge, health};
use crate::contract::Code;
use crate::limits;
use crate::runtime::{Clock, Runtime, Scope};

/// Why connections get health responses only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthOnlyReason {
    /// The store is not open yet.
    Starting,
    TooManyConnections,
}

impl HealthOnlyReason {
    fn connections_max(self) -> usize {
        match self {
            Self::Starting => limits::HTTP_STARTUP_CONNECTIONS_MAX,
            Self::TooManyConnections => limits::HTTP_REJECTIONS_MAX,
        }
    }

    /// How long a connection may last, handshake included.
    fn timeout(self) -> Option<Duration> {
        match self {
            Self::Starting => None,
            Self::TooManyConnections => Some(limits::HTTP_REJECTION_TIMEOUT),
        }
    }

    /// The response to everything but health checks.
    fn response(self) -> Response {
        match self {
            Self::Starting => {
                let mut error = HttpError::new(Code::Unavailable, "the server is starting");
                error.retry_after = Some(Duration::from_secs(1));
                error.connect_response()
            }
            Self::TooManyConnections => {
                let text = "too many connections";
                Response::error(StatusCode::SERVICE_UNAVAILABLE, text).retry_after(5)
            }
        }
    }
}

/// What such connections share with those that are served in full.
pub(super) struct HealthOnlyParts<'a> {
    pub(super) config: &'a Config,
    pub(super) handshake: Handshake,
    pub(super) readiness: &'a Readiness,
    pub(super) clock: &'a Clock,
    pub(super) runtime: &'a Runtime,
}

/// Serves one request of each connection and closes it.
pub(super) struct HealthOnlyServer {
    open: Arc<Connections>,
    tasks: Scope,
    handshake: Handshake,
    clock: Clock,
    deadlines: Deadlines,
    reason: HealthOnlyReason,
    responder: Arc<Responder>,
}

impl HealthOnlyServer {
    pub(super) fn new(reason: HealthOnlyReason, parts: HealthOnlyParts<'_>) -> Self {
        let HealthOnlyParts { config, handshake, readiness, clock, runtime } = parts;
        let max = reason.connections_max();
        let head = reason.timeout().unwrap_or(config.deadlines.head);
        let responder =
            Responder { reason, url: config.public_url.clone(), readiness: Arc::clone(readiness) };
        Self {
            open: Connections::new(max, config.trusted_proxies.clone()),
            // An evicted connection returns its permit a moment before its task counts as finished.
            tasks: Scope::new(runtime, "health-only connections", max * 2),
            handshake,
            clock: clock.clone(),
            deadlines: Deadlines { head, ..config.deadlines },
            reason,
            responder: Arc::new(responder),
        }
    }

    /// Serves a connection in a task of its own. One beyond the limit is closed without a response.
    pub(super) fn accept(&self, stream: TcpStream, peer: IpAddr) {
        let Some(permit) = self.open.admit(peer).map(Arc::new) else {
            log::debug!("closed a connection beyond the limit without a response");
            return;
        };
        let (handshake, clock) = (self.handshake.clone(), self.clock.clone());
        let (deadlines, timeout) = (self.deadlines, self.reason.timeout());
        let responder = Arc::clone(&self.responder);
        let spawned = self.tasks.spawn("health-only connection", async move {
            let phase = Phase::new(Arc::clone(&permit));
            let serving = async {
                if let Some(stream) = handshake.run(stream, &clock).await {
                    let (clock, of_stream) = (clock.clone(), Arc::clone(&phase));
                    let stream = DeadlineStream::new(stream, clock, of_stream, deadlines);
                    responder.serve(stream, &phase).await;
                }
            };
            let timed_out = async {
                match timeout {
                    Some(timeout) => clock.sleep(timeout).await,
                    None => std::future::pending().await,
                }
            };
            let served = futures_lite::future::or(serving, timed_out);
            if permit.run_until_evicted(served).await.is_none() {
                log::debug!("closed a connection for health checks for a new one");
            }
        });
        if spawned.is_err() {
            log::debug!("closed a connection beyond the limit without a response");
        }
    }

    /// Waits until every connection has ended.
    pub(super) async fn join(&self) {
        self.tasks.join().await;
    }
}

/// What all connections of a server share.
struct Responder {
    reason: HealthOnlyReason,
    url: PublicUrl,
    readiness: Readiness,
}

impl Responder {
    async fn serve(&self, stream: DeadlineStream<Stream>, phase: &Arc<Phase>) {
        let service = service_fn(|request: Request<Incoming>| {
            let guard = phase.begin_request();
            let sent = to_hyper(self.response(request, phase).closing(), guard);
            async move { Ok::<_, Infallible>(sent) }
        });
        let served = http1(limits::HTTP_HEAD_TIMEOUT)
            .keep_alive(false)
            .serve_connection(FuturesIo::new(stream), service);
        if let Err(error) = pin!(served).await {
            log::debug!(error:err = error; "a connection for health checks ended early");
        }
    }

    fn response(&self, request: Request<Incoming>, phase: &Phase) -> Response {
        let (parts, body) = request.into_parts();
        if !body.is_end_stream() {
            phase.mark_body_unread();
        }
        let path = parts.uri.path();
        let mut response = match bridge::host(&parts, &self.url, None) {
            Err(response) => *response,
            Ok(_) if parts.method == Method::OPTIONS => Response::empty(StatusCode::NO_CONTENT),
            Ok(_) => match path {
                "/healthz" => health::alive(),
                "/readyz" => health::ready(&self.readiness),
                _ => self.reason.response(),
            },
        };
        edge::decorate(path, &parts.headers, &mut response.headers);
        response
    }
}
