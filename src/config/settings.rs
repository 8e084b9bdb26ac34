//! The typed settings from which the parts of the program are built.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::crypto::Secret;
use crate::http::{Network, TlsFiles};
use crate::nats::Auth;

/// Every key this version acts on.
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
    /// `smtp.*`, when enabled.
    pub smtp: Option<Smtp>,
    /// `livekit.*`, when enabled.
    pub livekit: Option<Livekit>,
    /// `operator_api.socket_path`, when enabled.
    pub operator_socket: Option<PathBuf>,
    /// `owners.emails`
    pub owner_emails: Vec<String>,
    /// `limits.max_users`; `None`: no limit.
    pub max_users: Option<u64>,
    /// `metrics.*`, when enabled.
    pub metrics: Option<Metrics>,
    /// `backup.*`
    pub backup: Backup,
    /// `bootstrap.*`
    #[cfg(feature = "test-support")]
    pub bootstrap: Bootstrap,
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
    /// Address of the listener.
    pub bind_address: IpAddr,
    /// Whether `::` was set explicitly; else a machine without IPv6 falls back to IPv4.
    pub bind_address_is_stated: bool,
    /// Port of the listener.
    pub port: u16,
    /// Absent until generated.
    pub cookie_signing_secret: Option<Secret>,
    /// Absent: cookies are signed only.
    pub cookie_encryption_secret: Option<Secret>,
    /// Who may set forwarded headers.
    pub trusted_proxies: Vec<Network>,
    /// Connections at a time.
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
    /// The former key.
    pub secret_key_previous: Option<Secret>,
}

/// `core.assets.*`
#[derive(Debug, Clone)]
pub struct Assets {
    /// Absent until generated.
    pub signing_secret: Option<Secret>,
    /// Whether new uploads go to S3.
    pub new_uploads_to_s3: bool,
    /// Largest file, bytes.
    pub max_upload_bytes: u64,
    /// New attachments are encrypted.
    pub encrypt: bool,
    /// `None`: by memory.
    pub max_image_pixels: Option<u64>,
    /// Resized images: life and bytes; `None`: not kept.
    pub cache: Option<(Duration, u64)>,
    /// `core.assets.s3.*`, when an endpoint is set.
    pub s3: Option<S3>,
}

/// `core.assets.s3.*`
#[derive(Debug, Clone)]
pub struct S3 {
    /// Host, host:port or URL.
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
    /// Without outer slashes; may be empty.
    pub path_prefix: String,
    /// As stated.
    pub region: Option<String>,
    /// Access key.
    pub access_key_id: Option<Secret>,
    /// Secret key.
    pub secret_access_key: Option<Secret>,
    /// Temporary credentials.
    pub session_token: Option<Secret>,
    /// As stated.
    pub use_ssl: Option<bool>,
    /// Bucket in the path; `None`: not stated.
    pub path_style: Option<bool>,
    /// Larger plain files are redirected.
    pub redirect_above_bytes: Option<u64>,
    /// Private authority.
    pub ca_cert: Option<PathBuf>,
    /// Of one request.
    pub timeout: Duration,
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
    /// Floor of free space.
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
    /// The credential.
    pub auth: Auth,
    /// Private authority; turns TLS on.
    pub ca_cert: Option<PathBuf>,
}

/// `auth.*`
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// Accounts need an invitation.
    pub invite_only: bool,
    /// Accounts with passwords can be created.
    pub direct_registration: bool,
    /// Passwords are accepted.
    pub direct_login: bool,
    /// Sliding life of a session.
    pub token_ttl: Duration,
    /// Limits on mailed codes apply.
    pub otp_throttling: bool,
    /// Life of a mailed code.
    pub otp_ttl: Duration,
    /// Codes to one address.
    pub otp_max_delivered: u32,
    /// Wrong attempts on one code.
    pub otp_max_wrong: u32,
}

/// `smtp.*`
#[derive(Debug, Clone)]
pub struct Smtp {
    /// Server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Sender.
    pub from: String,
    /// Login.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// `mandatory`, `opportunistic` or `none`.
    pub tls: String,
    /// Name in the certificate.
    pub tls_server_name: Option<String>,
    /// Any certificate is accepted.
    pub tls_skip_verify: bool,
}

/// `livekit.*`
#[derive(Debug, Clone)]
pub struct Livekit {
    /// Server.
    pub url: String,
    /// API key.
    pub api_key: String,
    /// API secret.
    pub api_secret: Option<Secret>,
    /// Where it reports; `None`: below our URL.
    pub webhook_url: Option<String>,
    /// Key of its reports.
    pub webhook_api_key: String,
    /// Secret of its reports.
    pub webhook_api_secret: Option<Secret>,
    /// Prefix of room names.
    pub server_id: String,
}

/// `metrics.*`
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Listener.
    pub bind_address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its path.
    pub path: String,
}

/// `backup.*`
#[derive(Debug, Clone)]
pub struct Backup {
    /// Where archives go without `-o`.
    pub directory: PathBuf,
    /// age's scrypt factor.
    pub scrypt_work_factor: u8,
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
    /// Login.
    pub login: String,
    /// Name; else the login.
    pub display_name: Option<String>,
    /// Verified address.
    pub email: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// `owner`, `admin` or `moderator`.
    pub server_role: Option<String>,
}
