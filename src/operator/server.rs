//! The socket's server side.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_net::unix::{UnixListener, UnixStream};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use serde_json::Value;
use smol::lock::Semaphore;

use super::wire::{self, OperatorError};
use super::{Exit, Operations};
use crate::limits::{
    JSON_BODY_MAX_BYTES, OPERATOR_ACCEPT_PAUSE, OPERATOR_CONNECTIONS_MAX, OPERATOR_REQUEST_TIMEOUT,
    OPERATOR_TIMEOUT,
};
use crate::runtime::{Clock, Runtime, Scope, Stop};

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the operator socket {} cannot be created", path.display())]
pub struct BindError {
    /// Its path.
    pub path: PathBuf,
    /// The system's error.
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
    /// is absent. A socket that nobody answers is replaced.
    ///
    /// # Errors
    /// [`BindError`] with the system's reason; `AddrInUse` when another server answers there.
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

    /// Answers requests until `stop`, then lets those in flight finish and removes the socket.
    pub async fn serve(
        self,
        operations: Operations,
        runtime: &Runtime,
        clock: &Clock,
        stop: &Stop,
    ) {
        let permits = Arc::new(Semaphore::new(OPERATOR_CONNECTIONS_MAX));
        // A request frees its slot a moment before its task counts as finished.
        let requests = Scope::new(runtime, "operator", OPERATOR_CONNECTIONS_MAX * 2);
        let next = || async { (permits.acquire_arc().await, self.listener.accept().await) };
        while let Some((permit, accepted)) = stop.or(next()).await {
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    log::warn!(error:err = error; "the operator socket cannot accept");
                    clock.sleep(OPERATOR_ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !is_permitted(&stream) {
                log::warn!("a stranger at the operator socket was refused");
                continue;
            }
            let (operations, clock) = (operations.clone(), clock.clone());
            let served = requests.spawn("request", async move {
                Box::pin(exchange(stream, &operations, &clock)).await;
                drop(permit);
            });
            if let Err(full) = served {
                log::warn!(error:err = full; "an operator request was dropped");
            }
        }
        std::fs::remove_file(&self.path).ok();
        requests.join().await;
    }
}

/// Whether the peer's account is ours or root's.
fn is_permitted(stream: &UnixStream) -> bool {
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(peer) => peer.uid.is_root() || peer.uid == rustix::process::geteuid(),
        Err(_) => false,
    }
}

/// Reads one request, does it, answers; each within its deadline.
async fn exchange(mut stream: UnixStream, operations: &Operations, clock: &Clock) {
    let Ok(request) = clock.timeout(OPERATOR_REQUEST_TIMEOUT, read(&mut stream)).await else {
        log::info!("a silent peer of the operator socket was cut");
        return;
    };
    let work = async {
        let result = match request {
            Ok(Some((method, params))) => Box::pin(operations.call(&method, params)).await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        // The command may have gone away; what it asked for is done.
        stream.write_all(&wire::response(result)).await.ok();
        stream.close().await.ok();
    };
    if clock.timeout(OPERATOR_TIMEOUT, work).await.is_err() {
        log::info!("an operator request took too long");
    }
}

/// A request's method and parameters; `None` when the peer went away.
async fn read(stream: &mut UnixStream) -> Result<Option<(String, Value)>, OperatorError> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    let mut want = None;
    loop {
        if want.is_none()
            && let Some(end) = wire::head_end(&bytes)?
        {
            let head = wire::parse_request(bytes.get(..end).unwrap_or_default())?;
            if head.body_bytes > JSON_BODY_MAX_BYTES {
                let message = format!("a request has at most {JSON_BODY_MAX_BYTES} bytes");
                return Err(OperatorError::new("too_large", Exit::Usage, message));
            }
            want = Some((end, head));
        }
        if let Some((end, head)) = &want
            && let Some(body) = bytes.get(*end..end.saturating_add(head.body_bytes))
        {
            let params = serde_json::from_slice(body).map_err(|_| {
                OperatorError::new("bad_request", Exit::Usage, "the parameters are not valid JSON")
            })?;
            return Ok(Some((head.method.clone(), params)));
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(n) => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
    }
}
