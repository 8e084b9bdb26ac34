//! Realtime sockets: hub, connection queues, viewer projections.
//!
//! There is one [`Realtime`] per process. Its hub receives every change of the store in order and puts it into the
//! bounded queues of the connections it may concern. Each connection turns a change into frames for its viewer at
//! the time of sending, with the permissions of that time. Nothing is skipped: a connection that cannot keep up is
//! closed, and its client resumes from its cursor.

mod change;
mod client_state;
mod connection;
mod frames;
mod hub;
mod live;
mod loads;
mod projection;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::limits;
use crate::runtime::{Clock, Stop};
use crate::service::Service;
use crate::storage::Storage;

use connection::Connection;
use hub::Hub;
use loads::LoadSlots;

/// Settings of the protocol.
#[derive(Debug, Clone)]
pub struct Config {
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// How long a client may take for `hello`, and then for `subscribe_events`.
    pub hello_timeout: Duration,
    /// How many changes a connection queue holds.
    pub queue_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: limits::HEARTBEAT_INTERVAL,
            hello_timeout: limits::HELLO_TIMEOUT,
            queue_max: limits::CONNECTION_QUEUE_MAX,
        }
    }
}

/// The realtime side of a process. Clones share it.
#[derive(Clone)]
pub struct Realtime {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    service: Service,
    clock: Clock,
    hub: Arc<Hub>,
    loads: LoadSlots,
}

/// What is known of a socket before its first frame.
#[derive(Debug, Clone, Default)]
pub struct HandshakeInfo {
    /// The session cookie, if it is valid for this request. A bearer token in the first frame takes precedence.
    pub cookie: Option<String>,
    /// The client's address; `None` if unknown.
    pub address: Option<IpAddr>,
    /// The origin of URLs in frames.
    pub origin: String,
}

/// What a socket receives.
#[derive(Debug)]
pub enum Incoming {
    /// A binary frame.
    Frame(Bytes),
    /// A text frame, which the protocol does not have.
    Text,
    /// A frame above [`limits::FRAME_MAX_BYTES`], or one that violates the WebSocket protocol.
    Broken,
    Disconnected,
}

/// The client has disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnected;

/// A socket that carries frames. The HTTP server implements it.
pub trait Socket: Send {
    /// Waits for the next frame.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    fn receive(&mut self) -> impl Future<Output = Incoming> + Send;

    /// Sends one binary frame. Returns when it was written to the connection.
    fn send(&mut self, frame: Vec<u8>) -> impl Future<Output = Result<(), Disconnected>> + Send;

    /// Closes the socket with a WebSocket close code.
    fn close(&mut self, code: u16) -> impl Future<Output = ()> + Send;
}

impl Realtime {
    /// Builds the hub over an open store and subscribes it to the feed.
    #[must_use]
    pub fn build(config: Config, service: Service, storage: Storage, clock: Clock) -> Self {
        let hub = Hub::new(service.clone(), storage, config.queue_max);
        let loads = LoadSlots::new(limits::SNAPSHOTS_MAX, limits::SNAPSHOTS_QUEUE);
        Self { inner: Arc::new(Inner { config, service, clock, hub, loads }) }
    }

    /// Until `stop`: expires presences, reads them again after a lost connection, and publishes ephemeral events
    /// that were held back for their second.
    pub async fn run(&self, stop: &Stop) {
        let presences = self.inner.hub.track_presences(&self.inner.clock, stop);
        let signs = self.inner.service.pending_updates().publish(stop);
        futures_lite::future::zip(presences, signs).await;
    }

    /// The number of subscribed sockets.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.inner.hub.clients()
    }

    /// Serves one socket until it ends.
    pub async fn serve<S: Socket>(&self, socket: S, handshake: HandshakeInfo, stop: &Stop) {
        Connection::serve(&self.inner, socket, handshake, stop).await;
    }
}
