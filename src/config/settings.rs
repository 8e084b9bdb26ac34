//! The typed settings from which the parts of the program are built.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::blobs::s3;
use crate::crypto::Secret;
use crate::http::{Network, TlsFiles};
use crate::nats::Auth;

/// The values that this version uses. Keys of later parts are checked, but come here with the part that reads them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `general.*`
    pub general: General,
    /// `webserver.*`
    pub webserver: Webserver,
    /// `core.*` without the assets.
    pub core: Core,
    /// `core.assets.*`
    pub assets: Assets,
    /// `nats.replicas`
    pub replicas: usize,
    /// `nats.embedded.*`, when enabled.
    pub embedded: Option<Embedded>,
    /// `nats.client.*`
    pub client: NatsClient,
    /// `nats.embedded.data_dir`; used for the operator socket with an external cluster too.
    pub data_dir: PathBuf,
    /// `auth.*`
    pub auth: AuthSettings,
    /// `livekit.server_id`, when calls are enabled.
    pub livekit_server_id: Option<String>,
    /// `operator_api.socket_path`, when enabled.
    pub operator_socket: Option<PathBuf>,
    /// `owners.emails`
    pub owner_emails: Vec<String>,
    /// `limits.max_users`; `None`: no limit.
    pub max_users: Option<u64>,
    /// `backup.*`
    pub backup: BackupSettings,
    /// `bootstrap.*`
    #[cfg(feature = "test-support")]
    pub bootstrap: Bootstrap,
}

/// `backup.*`
#[derive(Debug, Clone)]
pub struct BackupSettings {
    /// Where archives go by default.
    pub directory: PathBuf,
    /// The scrypt work factor of encrypted archives and key files.
    pub work_factor: u8,
}

/// `general.*`
#[derive(Debug, Clone)]
pub struct General {
    /// `general.log_level`
    pub log_level: log::LevelFilter,
    /// `general.log_format`: `auto`, `text`, `json` or `logfmt`.
    pub log_format: String,
}

/// `webserver.*`
#[derive(Debug, Clone)]
pub struct Webserver {
    /// The public origin, without a final slash.
    pub url: Option<String>,
    pub bind_address: IpAddr,
    pub port: u16,
    /// Absent until generated.
    pub cookie_signing_secret: Option<Secret>,
    /// Absent: cookies are signed only.
    pub cookie_encryption_secret: Option<Secret>,
    /// Who may set forwarded headers.
    pub trusted_proxies: Vec<Network>,
    pub max_connections: usize,
    /// One log line per request.
    pub request_logging: bool,
    /// gzip of API answers.
    pub api_compression: bool,
    /// Shorter answers are sent plain.
    pub api_compression_min_bytes: usize,
    /// Limit of a drain.
    pub shutdown_timeout: Duration,
    /// Another web client.
    pub client_dir: Option<PathBuf>,
    /// `webserver.tls.*`, when enabled.
    pub tls: Option<TlsFiles>,
}

/// `core.*` without the assets.
#[derive(Debug, Clone)]
pub struct Core {
    /// Absent until generated.
    pub secret_key: Option<Secret>,
    pub secret_key_previous: Option<Secret>,
}

/// `core.assets.*`
#[derive(Debug, Clone)]
pub struct Assets {
    /// Absent until generated.
    pub signing_secret: Option<Secret>,
    pub max_upload_bytes: u64,
    /// `core.assets.storage_backend` is `s3`.
    pub uploads_to_s3: bool,
    /// `core.assets.encrypt`
    pub encrypt: bool,
    /// `core.assets.s3.*`, when an endpoint is set.
    pub s3: Option<s3::Config>,
    /// `core.assets.s3.redirect_above`
    pub redirect_above_bytes: Option<u64>,
    /// `core.assets.max_image_pixels`; `None`: `auto`.
    pub max_image_pixels: Option<u64>,
    /// `core.assets.cache.max_size`; 0 if `core.assets.cache.enabled` is false.
    pub cache_max_bytes: u64,
    /// `core.assets.cache.ttl`
    pub cache_ttl: Duration,
}

/// `nats.embedded.*`
#[derive(Debug, Clone)]
pub struct Embedded {
    /// Listener of the private server.
    pub bind_address: IpAddr,
    /// 0: random.
    pub port: u16,
    /// 0: private.
    pub http_port: u16,
    /// `None`: random at each start.
    pub auth_token: Option<Secret>,
    /// `None`: every write is synced before it is acknowledged.
    pub sync_interval: Option<Duration>,
    /// `None`: what the floor leaves.
    pub max_file_store_bytes: Option<u64>,
    pub min_free_disk_bytes: u64,
    /// `None`: by the machine's memory.
    pub memory_limit_bytes: Option<u64>,
    /// `None`: the bundled one.
    pub binary: Option<PathBuf>,
}

/// `nats.client.*`
#[derive(Debug, Clone)]
pub struct NatsClient {
    /// Empty: the embedded server.
    pub urls: Vec<String>,
    pub auth: Auth,
    /// Private authority; turns TLS on.
    pub ca_cert: Option<PathBuf>,
}

/// `auth.*`
#[derive(Debug, Clone)]
pub struct AuthSettings {
    pub invite_only: bool,
    /// Passwords are accepted.
    pub direct_login: bool,
    /// Sliding life of a session.
    pub token_ttl: Duration,
}

/// `bootstrap.*`
#[cfg(feature = "test-support")]
#[derive(Debug, Clone, Default)]
pub struct Bootstrap {
    /// Accounts for a server without users.
    pub users: Vec<BootstrapUser>,
    /// Present: name and further channels.
    pub server: Option<(Option<String>, Vec<String>)>,
}

/// `bootstrap.users[]`
#[cfg(feature = "test-support")]
#[derive(Debug, Clone)]
pub struct BootstrapUser {
    pub login: String,
    /// Name; else the login.
    pub display_name: Option<String>,
    /// Verified address.
    pub email: Option<String>,
    pub password: Option<Secret>,
    /// `owner`, `admin` or `moderator`.
    pub server_role: Option<String>,
}
