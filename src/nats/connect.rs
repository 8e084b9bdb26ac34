//! The connection: its address and credential, and the version of the server at the other end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{AuthError, Client, ConnectOptions, Event};
use parking_lot::Mutex;

use super::epoch_check::EpochCheck;
use crate::limits::{NATS_REQUEST_TIMEOUT, NATS_SUBSCRIPTION_MESSAGES_MAX};
use crate::runtime::{Clock, on_tokio, port_listeners};

/// The server or cluster to connect to, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// `nats://host:port` or `tls://host:port`; several for fail-over.
    pub urls: Vec<String>,
    pub auth: Auth,
    /// A private certificate authority; turns TLS on.
    pub ca_cert: Option<PathBuf>,
    /// The connection's name in nats-server's monitoring.
    pub name: String,
}

/// A credential for nats-server.
#[derive(Clone)]
pub enum Auth {
    None,
    Token(String),
    /// The token of our own server on this machine. It is sent to no other account: while the server is down,
    /// another process may listen on its port.
    OwnServer {
        token: String,
        port: u16,
        /// The account it runs under.
        uid: u32,
    },
    UserPassword {
        user: String,
        password: String,
    },
    /// A `.creds` file with JWT and seed.
    CredentialsFile(PathBuf),
    /// The seed of an NKey.
    Nkey(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token(***)",
            Self::OwnServer { .. } => "OwnServer(***)",
            Self::UserPassword { .. } => "UserPassword(***)",
            Self::CredentialsFile(_) => "CredentialsFile",
            Self::Nkey(_) => "Nkey(***)",
        })
    }
}

/// A version of nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The connection could not be prepared or established.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An option is unusable: address, credentials file, NKey or certificate.
    #[error("cannot set up the NATS connection: {why}")]
    Options {
        /// What the client library reports.
        why: String,
    },
    /// No server replied before the deadline.
    #[error("no NATS server replied at {urls}: {why}")]
    Unreachable {
        /// The addresses tried, without credentials.
        urls: String,
        /// The last error.
        why: String,
    },
    #[error("nats-server {found} is too old; {needed} or newer is needed")]
    TooOld { found: Version, needed: Version },
}

/// Why writes are refused; of several reasons the first one here is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WritesRefused {
    /// The store was restored: what this process knows of it is worthless.
    Restored,
    /// A newer version of chatto has taken over the store.
    Outdated,
    /// This stream has lost messages: nats-server would give their numbers to others.
    Damaged {
        stream: &'static str,
    },
    DiskFull,
    /// The disk is read-only or reports errors.
    DiskError,
    /// The streams have had no leader for longer than an election takes.
    NoQuorum,
}

/// The oldest server with batch direct reads, per-message TTL and limit markers.
pub const OLDEST_SERVER: Version = Version(2, 11, 0);

/// The connection of this process to NATS. Clones share it. It reconnects by itself without limit, within
/// one second of the server's return.
#[derive(Clone)]
pub struct Nats {
    pub(super) client: Client,
    pub(super) clock: Clock,
    state: Arc<ConnectionState>,
    urls: String,
}

#[derive(Default)]
struct ConnectionState {
    connects: AtomicU64,
    changed: event_listener::Event,
    last_error: Mutex<String>,
    writes_refused: Mutex<BTreeSet<WritesRefused>>,
    refusals: event_listener::Event,
    epoch_check: EpochCheck,
    files_refused: AtomicBool,
    closing: AtomicBool,
}

impl Nats {
    /// Prepares the connection, which then connects in the background.
    ///
    /// # Errors
    /// [`ConnectError::Options`] when an option is unusable.
    pub async fn connect(target: &Target, clock: Clock) -> Result<Self, ConnectError> {
        let state = Arc::new(ConnectionState::default());
        let options = options(target, Arc::clone(&state)).await?;
        let urls: Vec<async_nats::ServerAddr> =
            target.urls.iter().map(|url| url.parse()).collect::<Result<_, _>>().map_err(
                |error: std::io::Error| ConnectError::Options { why: error.to_string() },
            )?;
        let client = Box::pin(on_tokio(options.connect(&urls[..])))
            .await
            .map_err(|error| ConnectError::Options { why: error.to_string() })?;
        let urls = urls.iter().map(|url| format!("{}:{}", url.host(), url.port()));
        Ok(Self { client, clock, state, urls: urls.collect::<Vec<_>>().join(", ") })
    }

    /// Waits until a server replies, and checks its version.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] after `limit`, [`ConnectError::TooOld`].
    pub async fn wait_connected(&self, limit: Duration) -> Result<Version, ConnectError> {
        let connected = self.clock.timeout(limit, self.connected(0)).await;
        if connected.is_err() {
            return Err(ConnectError::Unreachable {
                urls: self.urls.clone(),
                why: self.last_error(),
            });
        }
        let found = self.server_version();
        if found < OLDEST_SERVER {
            return Err(ConnectError::TooOld { found, needed: OLDEST_SERVER });
        }
        Ok(found)
    }

    /// Waits until the connection has been established more than `seen` times; returns how often it was.
    pub async fn connected(&self, seen: u64) -> u64 {
        loop {
            let listener = self.state.changed.listen();
            let connects = self.state.connects.load(Ordering::SeqCst);
            if connects > seen {
                return connects;
            }
            listener.await;
        }
    }

    /// How often the connection was established.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.state.connects.load(Ordering::SeqCst)
    }

    /// Whether the connection is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// The server is about to be stopped on purpose: do not warn about the lost connection.
    pub fn expect_disconnect(&self) {
        self.state.closing.store(true, Ordering::SeqCst);
    }

    /// Makes publishing fail at once, including messages that wait for their acknowledgement: a nats-server
    /// that cannot write does not reply. Each reason holds until it is taken back.
    pub fn refuse_writes(&self, reason: WritesRefused, refused: bool) {
        let mut reasons = self.state.writes_refused.lock();
        let changed = if refused { reasons.insert(reason) } else { reasons.remove(&reason) };
        drop(reasons);
        if !changed {
            return;
        }
        self.state.refusals.notify(usize::MAX);
        self.state.epoch_check.changed.notify(usize::MAX);
    }

    /// Makes [`Self::refuses_files`] true or false: what is left of the disk is kept for messages.
    pub fn refuse_files(&self, refused: bool) {
        self.state.files_refused.store(refused, Ordering::SeqCst);
    }

    /// Whether the disk is so full that bytes of files must not be published. Whoever stores them asks before.
    #[must_use]
    pub fn refuses_files(&self) -> bool {
        self.state.files_refused.load(Ordering::SeqCst)
    }

    pub(super) fn epoch_check(&self) -> &EpochCheck {
        &self.state.epoch_check
    }

    pub(super) fn writes_refused(&self) -> Option<WritesRefused> {
        self.state.writes_refused.lock().first().copied()
    }

    /// Whether writes are refused for this reason.
    #[must_use]
    pub fn is_refusing(&self, reason: WritesRefused) -> bool {
        self.state.writes_refused.lock().contains(&reason)
    }

    /// Waits until writes are refused for this reason.
    pub async fn wait_until_refusing(&self, reason: WritesRefused) {
        loop {
            let listener = self.state.refusals.listen();
            if self.is_refusing(reason) {
                return;
            }
            listener.await;
        }
    }

    /// Waits until writes are refused.
    pub(super) async fn wait_until_writes_refused(&self) -> WritesRefused {
        loop {
            let listener = self.state.refusals.listen();
            if let Some(refused) = self.writes_refused() {
                return refused;
            }
            listener.await;
        }
    }

    /// The client's last error; empty when there was none.
    #[must_use]
    pub fn last_error(&self) -> String {
        self.state.last_error.lock().clone()
    }

    /// The addresses of this connection, without credentials.
    #[must_use]
    pub fn urls(&self) -> &str {
        &self.urls
    }

    /// The version of the server at the other end; 0.0.0 before the first connection.
    #[must_use]
    pub fn server_version(&self) -> Version {
        let info = self.client.server_info();
        let mut parts = info.version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        Version(next(), next(), next())
    }
}

async fn options(
    target: &Target,
    state: Arc<ConnectionState>,
) -> Result<ConnectOptions, ConnectError> {
    let unusable = |why: String| ConnectError::Options { why };
    let mut options = ConnectOptions::new();
    options = match &target.auth {
        Auth::None => options,
        Auth::Token(token) => options.token(token.clone()),
        Auth::OwnServer { token, port, uid } => {
            let (token, port, uid) = (token.clone(), *port, *uid);
            ConnectOptions::with_auth_callback(move |_nonce| {
                let shown = check_listener(port, uid).map(|()| {
                    let mut auth = async_nats::Auth::new();
                    auth.token = Some(token.clone());
                    auth
                });
                std::future::ready(shown)
            })
        }
        Auth::UserPassword { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        Auth::CredentialsFile(path) => on_tokio(options.credentials_file(path))
            .await
            .map_err(|error| unusable(format!("{}: {error}", path.display())))?,
        Auth::Nkey(seed) => options.nkey(seed.clone()),
    };
    if let Some(ca) = &target.ca_cert {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    Ok(options
        .name(&target.name)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .ignore_discovered_servers()
        .connection_timeout(Duration::from_secs(3))
        .request_timeout(Some(NATS_REQUEST_TIMEOUT))
        .ping_interval(Duration::from_secs(10))
        .subscription_capacity(NATS_SUBSCRIPTION_MESSAGES_MAX)
        .reconnect_delay_callback(|attempts| {
            let doublings = u32::try_from(attempts.min(6)).unwrap_or(6);
            Duration::from_millis(16 << doublings).min(Duration::from_secs(1))
        })
        .event_callback(move |event| {
            state.handle_event(&event);
            std::future::ready(())
        }))
}

/// Checks that the process that listens on this port has this account. Passes where the system shows no table.
fn check_listener(port: u16, uid: u32) -> Result<(), AuthError> {
    let Ok(listeners) = port_listeners(port) else { return Ok(()) };
    if listeners.iter().all(|one| one.uid == uid) {
        return Ok(());
    }
    log::error!(port = port; "another account of this machine listens on nats-server's port; not sending it the token");
    Err(AuthError::new("the port belongs to another account of this machine"))
}

impl ConnectionState {
    fn handle_event(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.connects.fetch_add(1, Ordering::SeqCst);
                self.changed.notify(usize::MAX);
                log::info!("connected to NATS");
            }
            Event::Disconnected if self.closing.load(Ordering::SeqCst) => {
                log::debug!("disconnected from NATS");
            }
            Event::Disconnected => log::warn!("lost the connection to NATS"),
            Event::ServerError(_) | Event::ClientError(_) => {
                *self.last_error.lock() = event.to_string();
                log::debug!(event:% = event; "NATS client");
            }
            Event::SlowConsumer(_) => {
                log::warn!("messages from NATS arrive faster than they are processed");
            }
            Event::LameDuckMode | Event::Draining | Event::Closed => {
                log::info!(event:% = event; "NATS connection");
            }
        }
    }
}
