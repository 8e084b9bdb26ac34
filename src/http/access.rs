//! The log line of a request (`webserver.request_logging`): written when its answer has been handed to
//! the connection, or was given up.

use std::net::IpAddr;
use std::time::Instant;

use hyper::{Method, StatusCode};

use crate::runtime::Clock;

/// What one line says. Dropping it writes the line.
#[derive(Debug)]
pub(super) struct Access {
    method: Method,
    path: String,
    /// The client, as far as it is known.
    pub(super) client: IpAddr,
    /// How it was answered; `None` while it was not.
    pub(super) status: Option<StatusCode>,
    /// Bytes of the answer's body, as they leave for the connection.
    pub(super) bytes: u64,
    clock: Clock,
    started: Instant,
}

impl Access {
    /// A request that has just begun. Its query is not taken: it may hold a ticket.
    pub(super) fn new(method: &Method, path: &str, client: IpAddr, clock: &Clock) -> Self {
        Self {
            method: method.clone(),
            path: logged_path(path).to_owned(),
            client,
            status: None,
            bytes: 0,
            clock: clock.clone(),
            started: clock.now(),
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let ms = self.clock.now().saturating_duration_since(self.started).as_millis();
        log::info!(
            method:% = self.method, path = self.path.as_str(),
            status = self.status.map_or(0, |status| status.as_u16()),
            milliseconds = u64::try_from(ms).unwrap_or(u64::MAX), bytes = self.bytes,
            client:% = self.client;
            "request"
        );
    }
}

/// An invite's path is a secret.
fn logged_path(path: &str) -> &str {
    if path.starts_with("/invite/") { "/invite/…" } else { path }
}
