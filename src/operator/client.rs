//! The socket's client side, for commands: one request, blocking.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::wire;
use super::{OperatorError, SCHEMA, VERSION};
use crate::limits::{OPERATOR_HEAD_MAX_BYTES, OPERATOR_RESPONSE_MAX_BYTES, OPERATOR_TIMEOUT};

/// A request had no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No server listens there.
    #[error("no server is running here")]
    NotRunning,
    /// The socket belongs to another account.
    #[error("{} belongs to another account; use the server's account, or root", path.display())]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// The server did not answer as it should.
    #[error("the running server does not answer at {}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// It refused.
    #[error(transparent)]
    Refused(#[from] OperatorError),
}

/// A way to the running server of a data directory.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// By its socket.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Asks for a method; `params` is an object. It blocks for at most
    /// [`crate::limits::OPERATOR_TIMEOUT`] per step.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let mut params = params;
        if let Value::Object(fields) = &mut params {
            fields.insert("schema".to_owned(), SCHEMA.into());
            fields.insert("version".to_owned(), VERSION.into());
        }
        let stream = UnixStream::connect(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => CallError::NotPermitted { path: self.path.clone() },
            _ => CallError::NotRunning,
        })?;
        let response = exchange(stream, &wire::request(method, &params))
            .map_err(|source| CallError::Broken { path: self.path.clone(), source })?;
        match serde_json::from_value::<OperatorError>(response.clone()) {
            Ok(error) => Err(error.into()),
            Err(_) => Ok(response),
        }
    }
}

fn exchange(mut stream: UnixStream, request: &[u8]) -> io::Result<Value> {
    stream.set_read_timeout(Some(OPERATOR_TIMEOUT))?;
    stream.set_write_timeout(Some(OPERATOR_TIMEOUT))?;
    stream.write_all(request)?;
    let limit = OPERATOR_RESPONSE_MAX_BYTES + OPERATOR_HEAD_MAX_BYTES;
    let mut bytes = Vec::new();
    stream.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let end = wire::head_end(&bytes).ok().flatten().ok_or_else(invalid)?;
    let length = bytes.get(..end).and_then(wire::parse_response).ok_or_else(invalid)?;
    let body = bytes.get(end..).filter(|body| body.len() == length).ok_or_else(invalid)?;
    Ok(serde_json::from_slice(body)?)
}
