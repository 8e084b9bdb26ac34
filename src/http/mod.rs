//! The edge: sockets, TLS, routes, limits, auth, errors, Connect calls, assets, realtime socket.
//!
//! hyper reads and writes HTTP/1 on our sockets, and tide routes. Nothing here decides what may happen in the
//! chat: `service` does. A request passes [`Listener`] → `serve` (limits, stop) → `bridge` (checks of the
//! head) → tide: `edge` (what every response carries) → a route.

mod access_log;
mod assets;
mod auth;
mod body;
mod bridge;
mod client_dir;
mod client_file;
mod config;
mod connect;
mod connections;
mod edge;
mod error;
mod fetch;
mod file_body;
mod forwarded;
mod head;
mod health;
mod health_only;
mod io;
mod operations;
mod pages;
mod permits;
mod realtime;
mod response;
mod serve;
mod startup;
mod state;
mod stream;
#[cfg(debug_assertions)]
mod test_routes;
mod tls;
mod validity;

pub use config::{Config, Deadlines, Network, NetworkError, PublicUrl};
pub use fetch::{FetchError, Fetched, Origin, probe};
pub use health::{DOCTOR_HEADER, Readiness, Ready};
pub use serve::{BindError, Listener};
pub use startup::StartupServer;
pub use tls::{Tls, TlsError, TlsFileError, TlsFiles};

use std::sync::Arc;

use crate::contract::Method;
use crate::realtime::Realtime;
use crate::runtime::{Clock, Runtime, Stop};
use crate::service::Service;

/// Whether this server implements a method of the contract; all others return `unimplemented`.
#[must_use]
pub fn is_served(method: Method) -> bool {
    connect::MethodTable::new().is_served(method)
}

/// What the edge needs from the other parts.
pub struct Parts {
    pub service: Service,
    pub realtime: Realtime,
    /// Whether the server takes requests, for `/readyz`.
    pub readiness: Readiness,
    pub clock: Clock,
}

/// The HTTP server, built but not started.
pub struct Server {
    app: tide::Server<state::App>,
    runtime: Runtime,
}

impl Server {
    /// Builds the routes; starts nothing.
    #[must_use]
    pub fn build(config: Config, parts: Parts, runtime: &Runtime) -> Self {
        let state = Arc::new(state::AppState::new(config, parts, runtime));
        let mut app = tide::with_state(state);
        app.with(edge::Edge);
        app.at("/healthz").get(health::healthz);
        app.at("/readyz").get(health::readyz);
        app.at("/api/connect/:service/:method").all(connect::route);
        app.at("/api/realtime").get(realtime::route);
        assets::routes(&mut app);
        auth::routes(&mut app);
        operations::routes(&mut app);
        pages::routes(&mut app);
        Self { app, runtime: runtime.clone() }
    }

    /// Adds the routes below `/probe` that the tests of the edge use.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn with_test_routes(mut self) -> Self {
        test_routes::routes(&mut self.app);
        self
    }

    /// Serves until `stop`, then lets requests in flight finish within
    /// [`Config::shutdown_timeout`].
    pub async fn serve(&self, listener: Listener, stop: &Stop) {
        serve::serve(self.app.clone(), listener, &self.runtime, stop).await;
    }
}
