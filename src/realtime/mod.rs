//! Who hears it now: feed, hub, per-connection queues, presence, typing.
//!
//! One [`Realtime`] per process. Its hub hears every change of the store in order and puts it into
//! the bounded queues of the connections it may concern; each connection turns a change into frames
//! for its viewer at the moment of sending, with the rights of that moment. Nothing is skipped: a
//! connection that cannot keep up ends and resumes from its cursor.

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

/// How the protocol runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Time for `hello` and for `subscribe_events`.
    pub hello_timeout: Duration,
    /// Changes that wait for a connection.
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

/// What the edge knows of a socket before its first frame.
#[derive(Debug, Clone, Default)]
pub struct HandshakeInfo {
    /// The session cookie, if it counts for this request. A bearer in the first frame wins.
    pub cookie: Option<String>,
    /// Where the client is; `None` where that is not known.
    pub address: Option<IpAddr>,
    /// What addresses in frames start with.
    pub origin: String,
}

/// What comes from a client.
#[derive(Debug)]
pub enum Incoming {
    /// A binary frame.
    Frame(Bytes),
    /// A text frame: the protocol has none.
    Text,
    /// A frame above [`limits::FRAME_MAX_BYTES`], or one that breaks the WebSocket protocol.
    Broken,
    /// The client is gone.
    Disconnected,
}

/// The client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnected;

/// A socket that carries frames, as the edge makes it.
pub trait Socket: Send {
    /// The next frame.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    fn receive(&mut self) -> impl Future<Output = Incoming> + Send;

    /// Sends one binary frame; returns when it has left.
    fn send(&mut self, frame: Vec<u8>) -> impl Future<Output = Result<(), Disconnected>> + Send;

    /// Closes with a WebSocket close code.
    fn close(&mut self, code: u16) -> impl Future<Output = ()> + Send;
}

impl Realtime {
    /// The hub over an open store; it listens from now on.
    #[must_use]
    pub fn build(config: Config, service: Service, storage: Storage, clock: Clock) -> Self {
        let hub = Hub::new(service.clone(), storage, config.queue_max);
        let loads = LoadSlots::new(limits::SNAPSHOTS_MAX, limits::SNAPSHOTS_QUEUE);
        Self { inner: Arc::new(Inner { config, service, clock, hub, loads }) }
    }

    /// Ends presences in time and reads them anew after a lost connection, and tells what waits for its
    /// second, until `stop`.
    pub async fn run(&self, stop: &Stop) {
        let presences = self.inner.hub.track_presences(&self.inner.clock, stop);
        let signs = self.inner.service.pending_updates().publish(stop);
        futures_lite::future::zip(presences, Box::pin(signs)).await;
    }

    /// Serves one socket until it ends.
    pub async fn serve<S: Socket>(&self, socket: S, handshake: HandshakeInfo, stop: &Stop) {
        Connection::serve(&self.inner, socket, handshake, stop).await;
    }
}
