//! The connection file of a running embedded server, read by commands of the same machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::datadir::connection_file;
use crate::nats::{Auth, Target};
use crate::runtime::{limited_read, write_durably};

const FILE_MAX_BYTES: u64 = 4096;

/// How to reach the embedded server that runs on a data directory.
#[derive(Clone, Serialize, Deserialize)]
pub struct Connection {
    schema: u32,
    url: String,
    port: u16,
    uid: u32,
    token: String,
    /// The nats-server's process.
    pub pid: i32,
}

impl Connection {
    pub(super) fn new(address: IpAddr, port: u16, token: &str, pid: i32) -> Self {
        // A server that listens everywhere is reached over loopback.
        let host = match address {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) if address.is_unspecified() => format!("[{}]", Ipv6Addr::LOCALHOST),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let uid = rustix::process::geteuid().as_raw();
        let (url, token) = (format!("nats://{host}:{port}"), token.to_owned());
        Self { schema: 2, url, port, uid, token, pid }
    }

    /// Reads the file of the server that runs on `data_dir`; `None` when none runs, or when it is still starting.
    ///
    /// # Errors
    /// The system's error, for example when the file belongs to another user.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        match limited_read(&connection_file(data_dir), FILE_MAX_BYTES) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        write_durably(path, &serde_json::to_vec(self)?, 0o600)
    }

    /// The address and token to connect with.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            urls: vec![self.url.clone()],
            auth: Auth::OwnServer { token: self.token.clone(), port: self.port, uid: self.uid },
            ca_cert: None,
            name: "chatto".to_owned(),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("url", &self.url).field("pid", &self.pid).finish()
    }
}
