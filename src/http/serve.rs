//! Sockets: binding, accepting, the connection limit, and the graceful shutdown.
//!
//! Where this server speaks TLS itself, the handshake wraps a socket before [`serve_http`] and changes nothing
//! else. A handshake has a deadline and holds its connection permit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_net::{TcpListener, TcpStream};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_hyper::rt::{FuturesIo, SmolTimer};

use crate::limits;
use crate::runtime::{Clock, Runtime, Scope, Stop};

use super::bridge::Connection;
use super::connections::{ConnectionPermit, Connections};
use super::health_only::{HealthOnlyParts, HealthOnlyReason, HealthOnlyServer};
use super::io::{DeadlineStream, Phase};
use super::state::App;
use super::stream::Stream;
use super::tls::Tls;

/// Bound sockets: one for both families where the system allows it, else one for each.
pub struct Listener {
    sockets: Vec<TcpListener>,
    address: SocketAddr,
    tls: Option<Tls>,
}

/// Cannot listen on the address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("port {port} is in use")]
    PortInUse {
        port: u16,
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Refused {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

impl Listener {
    /// Binds `address:port`. The unspecified IPv6 address means both families, or IPv4 alone where the system has no
    /// IPv6. Port 0 takes a free port.
    ///
    /// # Errors
    /// [`BindError::PortInUse`], or [`BindError::Refused`] with the system's reason.
    pub async fn bind(address: IpAddr, port: u16) -> Result<Self, BindError> {
        let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let both = address == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let first = match Self::bind_one(address, port).await {
            Err(BindError::Refused { source, .. }) if both => {
                log::info!(error:err = source; "IPv6 is not available; listening on IPv4 only");
                Self::bind_one(v4, port).await?
            }
            first => first?,
        };
        let bound = first.local_addr().unwrap_or(SocketAddr::new(address, port));
        let mut sockets = vec![first];
        // Where IPv6 sockets do not take IPv4 as well, the second bind succeeds.
        if both
            && bound.is_ipv6()
            && let Ok(second) = TcpListener::bind((v4, bound.port())).await
        {
            sockets.push(second);
        }
        Ok(Self { sockets, address: bound, tls: None })
    }

    /// The same sockets, which then speak TLS only.
    #[must_use]
    pub fn over_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    async fn bind_one(address: IpAddr, port: u16) -> Result<TcpListener, BindError> {
        TcpListener::bind((address, port)).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::PortInUse { port, source },
            _ => BindError::Refused { address: SocketAddr::new(address, port), source },
        })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. After an error of the system, which is logged, it pauses and tries again.
    pub(super) async fn accept(&self, clock: &Clock) -> (TcpStream, SocketAddr) {
        loop {
            match self.try_accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    log::warn!(error:err = error; "cannot accept a connection");
                    clock.sleep(limits::HTTP_ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut sockets = self.sockets.iter();
        let Some(first) = sockets.next() else { return std::future::pending().await };
        match sockets.next() {
            None => first.accept().await,
            Some(second) => futures_lite::future::race(first.accept(), second.accept()).await,
        }
    }

    /// What turns an accepted socket into a stream of HTTP bytes.
    pub(super) fn handshake(&self) -> Handshake {
        Handshake { tls: self.tls.clone() }
    }
}

/// See [`Listener::handshake`].
#[derive(Clone)]
pub(super) struct Handshake {
    tls: Option<Tls>,
}

impl Handshake {
    /// Runs the TLS handshake if this listener speaks TLS. `None` when it failed or took too long.
    pub(super) async fn run(&self, stream: TcpStream, clock: &Clock) -> Option<Stream> {
        let Some(tls) = &self.tls else { return Some(Stream::plain(stream)) };
        let limit = limits::TLS_HANDSHAKE_TIMEOUT;
        // Boxed, so that the memory of a handshake is not held for the life of the connection.
        match Box::pin(clock.timeout(limit, tls.accept(stream))).await {
            Ok(stream) => stream,
            Err(elapsed) => {
                log::debug!(error:err = elapsed; "a TLS handshake timed out");
                None
            }
        }
    }

    /// Reloads the certificate when its files change; never returns.
    async fn watch_certificate(&self, clock: &Clock) {
        match &self.tls {
            Some(tls) => tls.watch(clock).await,
            None => std::future::pending().await,
        }
    }
}

/// Serves connections until `stop`, then lets requests finish within the configured time.
///
/// Returns when every connection has ended or the time is over; connections that remain are closed.
pub(super) async fn serve(
    app: tide::Server<App>,
    listener: Listener,
    runtime: &Runtime,
    stop: &Stop,
) {
    let state = Arc::clone(app.state());
    let max = state.config.max_connections.max(1);
    let open = Connections::new(max, state.config.trusted_proxies.clone());
    // A connection returns its permit a moment before its task counts as finished.
    let connections = Scope::new(runtime, "connections", max.saturating_add(64));
    let handshake = listener.handshake();
    let rejected = HealthOnlyServer::new(
        HealthOnlyReason::TooManyConnections,
        HealthOnlyParts {
            config: &state.config,
            handshake: handshake.clone(),
            readiness: &state.readiness,
            clock: &state.clock,
            runtime,
        },
    );
    let watching = Scope::new(runtime, "certificate", 1);
    let (watcher, clock) = (handshake.clone(), state.clock.clone());
    if let Err(full) =
        watching.spawn("certificate", async move { watcher.watch_certificate(&clock).await })
    {
        log::error!(error:err = full; "changes of the certificate will not be noticed");
    }
    let mut accepted: usize = 0;
    while let Some((stream, peer)) = stop.or(listener.accept(&state.clock)).await {
        if accepted.is_multiple_of(limits::POLL_ACCEPTS_MAX) {
            futures_lite::future::yield_now().await;
        }
        accepted = accepted.wrapping_add(1);
        if accepted.is_multiple_of(64) {
            // Counting frees the memory of finished tasks.
            log::debug!(open = connections.running(), accepted = accepted; "connections");
        }
        let Some(permit) = open.admit(peer.ip()) else {
            rejected.accept(stream, peer.ip());
            continue;
        };
        // Without it, small responses wait for the client's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!(error:err = error; "the connection ended before it was served");
            continue;
        }
        let socket = AcceptedSocket { stream, peer: peer.ip(), permit: Arc::new(permit) };
        let work = connection(app.clone(), handshake.clone(), socket, stop.clone());
        if let Err(full) = connections.spawn("connection", work) {
            log::warn!(error:err = full; "dropped a connection");
        }
    }
    drop(listener);
    let open = connections.running();
    log::info!(open = open; "stopped accepting connections; waiting for requests in flight");
    let drained = async {
        connections.join().await;
        state.sockets.join().await;
        state.work.join().await;
    };
    if let Err(elapsed) = state.clock.timeout(state.config.shutdown_timeout, drained).await {
        log::warn!(
            error:err = elapsed, connections = connections.running();
            "closing connections that did not finish in time"
        );
    }
}

/// A socket that has just been accepted.
struct AcceptedSocket {
    stream: TcpStream,
    peer: IpAddr,
    permit: Arc<ConnectionPermit>,
}

/// One connection from its first byte to its last.
async fn connection(
    app: tide::Server<App>,
    handshake: Handshake,
    socket: AcceptedSocket,
    stop: Stop,
) {
    let AcceptedSocket { stream, peer, permit } = socket;
    let serving = async {
        let stream = stop.or(handshake.run(stream, &app.state().clock)).await;
        let Some(stream) = stream.flatten() else { return };
        let over_tls = stream.is_secure();
        let phase = Phase::new(Arc::clone(&permit));
        let (stop, permit) = (stop.clone(), Arc::clone(&permit));
        let connection = Connection { app, peer, over_tls, phase, permit, stop };
        serve_http(stream, Arc::new(connection)).await;
    };
    if permit.run_until_evicted(serving).await.is_none() {
        log::debug!("closed an idle connection for a new one");
    }
}

/// Serves HTTP on a stream until one side ends it.
async fn serve_http(stream: Stream, shared: Arc<Connection>) {
    let state = shared.app.state();
    let (clock, deadlines) = (state.clock.clone(), state.config.deadlines);
    let stop = shared.stop.clone();
    let io =
        FuturesIo::new(DeadlineStream::new(stream, clock, Arc::clone(&shared.phase), deadlines));
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.respond(request).await }
    });
    // hyper counts idle time and head together; `DeadlineStream` watches the head alone.
    let served = http1(deadlines.idle).serve_connection(io, service).with_upgrades();
    let mut served = pin!(served);
    let ended = match stop.or(served.as_mut()).await {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        log::debug!(error:err = error; "a connection ended early");
    }
}

/// hyper's settings for every connection. `head_timeout` includes the idle time before a head.
pub(super) fn http1(head_timeout: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(SmolTimer::new())
        .header_read_timeout(head_timeout)
        .max_header_size(limits::HTTP_HEAD_MAX_BYTES)
        .max_buf_size(limits::HTTP_BUFFER_MAX_BYTES)
        // Off, so that a handler is dropped when its client disconnects. Work that must finish has another owner.
        .half_close(false);
    // `pipeline_flush` must stay off: it disables back-pressure (a response of 1 GiB took 1 GB of memory).
    builder
}
