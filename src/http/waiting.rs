//! Before the store is open: health answers, everything else is told to come back.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::answer::Answer;
use super::bridge::{self, send};
use super::io::{Guarded, Phase};
use super::stream::Stream;
use super::{Config, Listener, PublicUrl, Readiness, edge, health};
use crate::limits;
use crate::runtime::{Clock, Runtime, Scope, Stop};

/// What the waiting server needs.
pub struct Waiting<'a> {
    /// The configuration that the full server will have.
    pub config: &'a Config,
    /// The bound socket; the full server takes it over afterwards.
    pub listener: &'a Listener,
    /// Why nothing can be done yet.
    pub readiness: &'a Readiness,
    /// The time.
    pub clock: &'a Clock,
    /// Where connections run.
    pub runtime: &'a Runtime,
}

impl Waiting<'_> {
    /// Answers until `opened`. Each answer closes its connection, so that the next request meets the
    /// full server.
    pub async fn serve(&self, opened: &Stop) {
        let connections = Scope::new(self.runtime, "early connections", limits::HTTP_EARLY_MAX);
        let door = self.listener.door();
        while let Some(next) = opened.or(self.listener.accept()).await {
            let Ok((stream, _)) = next else {
                self.clock.sleep(limits::HTTP_ACCEPT_PAUSE).await;
                continue;
            };
            // Those beyond the limit are dropped at once: nothing else makes this loop yield.
            futures_lite::future::yield_now().await;
            let early = Early {
                phase: Arc::new(Phase::default()),
                url: self.config.public_url.clone(),
                readiness: Arc::clone(self.readiness),
            };
            let (door, clock, deadlines) =
                (door.clone(), self.clock.clone(), self.config.deadlines);
            let served = async move {
                if let Some(stream) = door.pass(stream, &clock).await {
                    let phase = Arc::clone(&early.phase);
                    connection(Guarded::new(stream, clock, phase, deadlines), early).await;
                }
            };
            if connections.spawn("early connection", served).is_err() {
                log::debug!("closed an early connection beyond the limit");
            }
        }
        // What is in work is answered at once; nobody may hold up the start.
        let limit = limits::HTTP_REFUSAL_TIMEOUT;
        if self.clock.timeout(limit, connections.join()).await.is_err() {
            log::debug!("early connections are cut");
        }
    }
}

/// What answers the requests of an early connection.
struct Early {
    phase: Arc<Phase>,
    url: PublicUrl,
    readiness: Readiness,
}

async fn connection(stream: Guarded<Stream>, early: Early) {
    let io = FuturesIo::new(stream);
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = early.phase.begin();
        let sent = send(early.answer(request).closing(), answering);
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
        log::debug!(error:% = error; "an early connection ended early");
    }
}

impl Early {
    fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, _body) = request.into_parts();
        let path = parts.uri.path();
        let mut answer = match bridge::host(&parts, &self.url, None) {
            Err(refusal) => *refusal,
            Ok(_) if parts.method == Method::OPTIONS => Answer::empty(StatusCode::NO_CONTENT),
            Ok(_) => match path {
                "/healthz" => health::alive(),
                "/readyz" => health::ready(&self.readiness),
                _ => Answer::connect_failure(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "the server is starting",
                )
                .retry_after(1),
            },
        };
        edge::decorate(path, &parts.headers, &mut answer.headers);
        answer
    }
}
