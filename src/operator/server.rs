//! The socket's server side.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_net::unix::{UnixListener, UnixStream};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use serde_json::Value;
use smol::lock::Semaphore;
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::wire::{self, OperatorError};
use super::{Exit, Operations};
use crate::limits::{
    JSON_BODY_MAX_BYTES, OPERATOR_ACCEPT_PAUSE, OPERATOR_CONNECTIONS_MAX, OPERATOR_HEAD_MAX_BYTES,
    OPERATOR_REQUEST_TIMEOUT, OPERATOR_TIMEOUT,
};
use crate::runtime::{Clock, Runtime, Scope, Stop};

/// The socket cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the operator socket {}", path.display())]
pub struct BindError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// The bound socket.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Creates the socket for this account alone (0600), in a directory of its own (0700) where that
    /// is absent. A socket without a server is replaced.
    ///
    /// # Errors
    /// [`BindError`] with the system's error; `AddrInUse` when another server listens there.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let bound = (|| {
            if let Some(dir) = path.parent() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            }
            match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                }
                Err(_) => {}
            }
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
            Ok(listener)
        })();
        match bound {
            Ok(listener) => Ok(Self { listener, path: path.to_owned() }),
            Err(source) => Err(BindError { path: path.to_owned(), source }),
        }
    }

    /// Serves requests until `stop`, then lets those in flight finish and removes the socket.
    pub async fn serve(
        self,
        operations: Operations,
        runtime: &Runtime,
        clock: &Clock,
        stop: &Stop,
    ) {
        let permits = Arc::new(Semaphore::new(OPERATOR_CONNECTIONS_MAX));
        // A request frees its permit a moment before its task counts as finished.
        let requests = Scope::new(runtime, "operator", OPERATOR_CONNECTIONS_MAX * 2);
        let next = || async { (permits.acquire_arc().await, self.listener.accept().await) };
        while let Some((permit, accepted)) = stop.or(next()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    log::warn!(error:err = error; "cannot accept a connection on the operator socket");
                    clock.sleep(OPERATOR_ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !is_permitted(&stream) {
                log::warn!("rejected an operator connection from another user");
                continue;
            }
            let (operations, clock) = (operations.clone(), clock.clone());
            let served = requests.spawn("request", async move {
                serve_connection(stream, &operations, &clock).await;
                drop(permit);
            });
            if let Err(full) = served {
                log::warn!(error:err = full; "dropped an operator request");
            }
        }
        std::fs::remove_file(&self.path).ok();
        requests.join().await;
    }
}

/// Whether the peer runs under our account or as root.
fn is_permitted(stream: &UnixStream) -> bool {
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(peer) => peer.uid.is_root() || peer.uid == rustix::process::geteuid(),
        Err(_) => false,
    }
}

/// Serves one connection: one request with its response, each within its deadline.
async fn serve_connection(stream: UnixStream, operations: &Operations, clock: &Clock) {
    let deadline = clock.now() + OPERATOR_REQUEST_TIMEOUT;
    let service = service_fn(|request: Request<Incoming>| async move {
        let left = deadline.saturating_duration_since(clock.now());
        let result = match clock.timeout(left, read(request)).await {
            Ok(Ok((method, params))) => operations.call(&method, params).await,
            Ok(Err(error)) => Err(error),
            // hyper then closes the connection without a response.
            Err(elapsed) => return Err(elapsed),
        };
        Ok(wire::response(result))
    });
    let connection = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(OPERATOR_REQUEST_TIMEOUT)
        .max_buf_size(OPERATOR_HEAD_MAX_BYTES)
        .keep_alive(false)
        // On: a command that goes away does not cancel what it asked for.
        .half_close(true)
        .serve_connection(FuturesIo::new(stream), service);
    let limit = OPERATOR_REQUEST_TIMEOUT + OPERATOR_TIMEOUT;
    match clock.timeout(limit, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::info!(error:err = error; "an operator connection ended early"),
        Err(_) => log::info!("an operator request took too long"),
    }
}

/// Reads a request: its method and parameters.
async fn read(request: Request<Incoming>) -> Result<(String, Value), OperatorError> {
    let bad = |why: &str| OperatorError::new("bad_request", Exit::Usage, why);
    let method = wire::method(&request)?;
    let body = Limited::new(request.into_body(), JSON_BODY_MAX_BYTES);
    let body = body.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("a request must have at most {JSON_BODY_MAX_BYTES} bytes");
            OperatorError::new("too_large", Exit::Usage, message)
        } else {
            bad("the request ended early")
        }
    })?;
    let params = serde_json::from_slice(&body.to_bytes());
    Ok((method, params.map_err(|_| bad("the parameters are not valid JSON"))?))
}
