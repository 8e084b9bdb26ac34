//! The socket's client side, for commands: one request, blocking.

use std::io;
use std::path::{Path, PathBuf};

use async_net::unix::UnixStream;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use serde_json::Value;
use smol_hyper::rt::FuturesIo;

use super::wire;
use super::{OperatorError, SCHEMA, VERSION};
use crate::limits::{OPERATOR_HEAD_MAX_BYTES, OPERATOR_RESPONSE_MAX_BYTES, OPERATOR_TIMEOUT};
use crate::runtime::Clock;

/// Why a call returned no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("no server is running here. Start it with `chatto start`")]
    NotRunning,
    #[error("{} belongs to another account. Use the server's account, or root", path.display())]
    NotPermitted { path: PathBuf },
    /// The server sent no valid response.
    #[error("the running server does not respond at {}. See its log", path.display())]
    Broken {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The operation failed or was refused.
    #[error(transparent)]
    Refused(#[from] OperatorError),
}

/// A client of the server that is running on a data directory.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// For the server's socket.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Calls a method; `params` is an object. It blocks for at most
    /// [`crate::limits::OPERATOR_TIMEOUT`].
    pub fn call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let mut params = params;
        if let Value::Object(fields) = &mut params {
            fields.insert("schema".to_owned(), SCHEMA.into());
            fields.insert("version".to_owned(), VERSION.into());
        }
        let broken = |source| CallError::Broken { path: self.path.clone(), source };
        let request =
            wire::request(method, &params).map_err(|error| broken(io::Error::other(error)))?;
        let work = async {
            let stream =
                UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        CallError::NotPermitted { path: self.path.clone() }
                    }
                    _ => CallError::NotRunning,
                })?;
            exchange(stream, request).await.map_err(broken)
        };
        let response = match smol::block_on(Clock::system().timeout(OPERATOR_TIMEOUT, work)) {
            Ok(exchanged) => exchanged?,
            Err(_) => return Err(broken(io::ErrorKind::TimedOut.into())),
        };
        match serde_json::from_value::<OperatorError>(response.clone()) {
            Ok(error) => Err(error.into()),
            Err(_) => Ok(response),
        }
    }
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> io::Result<Value> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(OPERATOR_HEAD_MAX_BYTES)
        .handshake(FuturesIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let exchanged = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let body = Limited::new(response.into_body(), OPERATOR_RESPONSE_MAX_BYTES);
        let body = body.collect().await.map_err(io::Error::other)?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    };
    // Whatever ends the connection also ends the exchange, which has the error.
    let driven = async {
        connection.await.ok();
        std::future::pending().await
    };
    futures_lite::future::or(exchanged, driven).await
}
