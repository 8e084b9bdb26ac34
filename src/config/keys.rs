//! The rows of the reference table, in the order of the reference page.

use super::table::Default::{Derived, Unset, Value};
use super::table::Kind::{
    Any, AutoInt, AutoSize, BinarySize, Bool, Choice, Duration, Int, Interval, Ip, List, Mode0600,
    NatsUrls, Networks, OneOf, Origin, Path, Port, Size, Text, Url, WorkPath,
};
use super::table::{Default, Key, Kind, Stage};

const fn now(name: &'static str, kind: Kind, default: Default, text: &'static str) -> Key {
    Key::new(Stage::Now, name, kind, default, text)
}

const fn pending(name: &'static str, kind: Kind, default: Default, text: &'static str) -> Key {
    Key::new(Stage::Pending, name, kind, default, text)
}

const fn later(name: &'static str, text: &'static str) -> Key {
    Key::new(Stage::Later, name, Any, Unset, text)
}

const fn recognised(name: &'static str, text: &'static str) -> Key {
    Key::new(Stage::Recognised, name, Any, Unset, text)
}

const fn test(name: &'static str, kind: Kind, text: &'static str) -> Key {
    Key::new(Stage::TestSupport, name, kind, Unset, text)
}

const COUNT: Kind = Int { min: 1, max: 1_000_000 };
const SECRETS_FILE: Default = Derived("generated at the first start, in <data_dir>/secrets.toml");

/// Every key, each exactly once.
pub const KEYS: &[Key] = &[
    now("general.log_level", Choice(&["debug", "info", "warn", "error"]), Value("info"), "Lowest level that is logged")
        .env_too("CHATTO_LOG_LEVEL"),
    now("general.log_format", Choice(&["auto", "text", "json", "logfmt"]), Value("auto"), "Form of the log lines on standard error; auto: text, with journal prefixes under systemd")
        .env_too("CHATTO_LOG_FORMAT"),
    //
    now("webserver.url", Origin, Derived("from the host name"), "Public origin of this server, for links"),
    now("webserver.bind_address", Ip, Value("::"), "Address to listen on; :: serves IPv6 and IPv4, and falls back to IPv4 alone"),
    now("webserver.port", Port, Value("4000"), "Port to listen on"),
    now("webserver.cookie_signing_secret", Text, SECRETS_FILE, "Signs cookies; at least 16 bytes, the same in every process").secret(),
    now("webserver.cookie_encryption_secret", Text, Unset, "Also encrypts cookies; at least 16 bytes, the same in every process").secret(),
    now("webserver.trusted_proxies", Networks, Derived("loopback once webserver.url is set, else none"), "Networks whose forwarded headers are trusted"),
    now("webserver.max_connections", COUNT, Value("1000"), "Most connections at a time; a further one replaces the longest idle one, or gets 503"),
    now("webserver.request_logging", Bool, Value("false"), "Log one line per request"),
    now("webserver.api_compression", Bool, Value("true"), "Compress API responses with gzip"),
    now("webserver.api_compression_min_bytes", Int { min: 0, max: 1_048_576 }, Value("1024"), "Shorter responses are not compressed"),
    later("webserver.websocket_compression", "Compresses realtime frames"),
    now("webserver.shutdown_timeout", Duration, Value("30s"), "How long requests in flight may take during a shutdown"),
    now("webserver.client_dir", Path, Unset, "Directory of a web client's static build (with 200.html), served instead of the built-in web client"),
    now("webserver.tls.enabled", Bool, Value("false"), "Serve HTTPS with your own certificate"),
    now("webserver.tls.cert_file", Path, Unset, "Certificate chain in PEM form; reloaded when it changes and at SIGHUP"),
    now("webserver.tls.key_file", Path, Unset, "Private key of the certificate in PEM form; keep it unreadable for other users"),
    later("webserver.tls.domain", "Obtains certificates automatically"),
    later("webserver.tls.email", "Obtains certificates automatically"),
    later("webserver.tls.cache_dir", "Obtains certificates automatically"),
    later("webserver.tls.http_port", "Obtains certificates automatically"),
    later("webserver.shields.enabled", "Serves badges"),
    //
    now("core.secret_key", Text, SECRETS_FILE, "Verifies tokens, codes and invites and wraps message keys; at least 16 bytes, the same in every process").secret(),
    now("core.secret_key_previous", Text, Unset, "The former core.secret_key; at start all keys are rewrapped").secret(),
    now("core.assets.signing_secret", Text, SECRETS_FILE, "Signs asset URLs; at least 16 bytes, the same in every process").secret(),
    now("core.assets.storage_backend", Choice(&["nats", "s3"]), Value("nats"), "Where new uploads are stored"),
    now("core.assets.max_upload_size", BinarySize, Value("25MiB"), "Largest file of any type; MB is read as MiB"),
    now("core.assets.encrypt", Bool, Value("false"), "Encrypt new attachments with a key of their uploader, in either backend"),
    now("core.assets.max_image_pixels", AutoInt, Value("auto"), "Images with more pixels (width times height) are not resized: those in messages are shown in full, as avatar, logo or banner they are refused; auto: as many as the memory for decoding allows (48 MiB below 1 GB of memory, else 192 MiB)"),
    now("core.assets.cache.enabled", Bool, Value("true"), "Keep resized images"),
    now("core.assets.cache.ttl", Duration, Value("7d"), "How long resized images are kept; a change applies to those made from then on"),
    now("core.assets.cache.max_size", Size, Value("256MiB"), "Space for resized images; beyond it the oldest are dropped"),
    now("core.assets.s3.endpoint", Text, Unset, "Host, host:port or URL of the S3 service"),
    now("core.assets.s3.bucket", Text, Unset, "Bucket; created if it does not exist"),
    now("core.assets.s3.path_prefix", Text, Unset, "Prefix of all keys; leading and trailing slashes are ignored"),
    now("core.assets.s3.region", Text, Derived("from the endpoint, else us-east-1 (R2 and Google: auto)"), "Region; optional outside AWS"),
    now("core.assets.s3.access_key_id", Text, Unset, "Access key; required with s3").secret(),
    now("core.assets.s3.secret_access_key", Text, Unset, "Secret key; required with s3").secret(),
    now("core.assets.s3.use_ssl", Bool, Derived("true, or by the scheme of the endpoint"), "Connect by TLS"),
    now("core.assets.s3.path_style", Bool, Derived("false, or true where the endpoint is an IP address"), "Put the bucket into the path instead of the host name"),
    now("core.assets.s3.session_token", Text, Unset, "Token of temporary credentials").secret(),
    now("core.assets.s3.redirect_above", Size, Unset, "Downloads of larger files in S3 are redirected to a short-lived S3 URL; unset: never"),
    now("core.assets.s3.ca_cert", Path, Unset, "Certificate of a private authority in PEM form, trusted in addition to those of the system"),
    now("core.assets.s3.timeout", Duration, Value("30s"), "Time limit of one request; uploads get a second more for each 64 KiB"),
    recognised("core.projection_snapshots", "Nothing is replayed here, so there is nothing to snapshot"),
    recognised("core.projection_snapshot_*", "Nothing is replayed here, so there is nothing to snapshot"),
    //
    now("nats.replicas", OneOf(&[1, 3, 5]), Value("1"), "Copies of all stored data: 1, 3 or 5"),
    now("nats.embedded.enabled", Bool, Value("true"), "Run a private nats-server"),
    now("nats.embedded.data_dir", Path, Value("./data"), "Directory of all local state"),
    now("nats.embedded.bind_address", Ip, Value("127.0.0.1"), "Address of the private nats-server"),
    now("nats.embedded.port", Port, Value("0"), "Its port; 0: a random one on loopback"),
    now("nats.embedded.http_port", Port, Value("0"), "Its monitoring port, which serves every account of this machine; 0: none"),
    now("nats.embedded.auth_token", Text, Derived("random at each start"), "Its access token").secret(),
    now("nats.embedded.sync_interval", Interval, Value("always"), "always: sync before each acknowledgement; a duration: a power cut may lose as much"),
    now("nats.embedded.max_file_store", AutoSize, Value("auto"), "Limit of the store; auto: what min_free_disk leaves"),
    now("nats.embedded.min_free_disk", Size, Value("512MiB"), "Disk space to keep free"),
    now("nats.embedded.memory_limit", AutoSize, Value("auto"), "Memory of the private nats-server; auto: 40, 80 or 256 MiB by the machine's memory"),
    now("nats.embedded.binary", Path, Derived("the bundled one"), "Another nats-server, 2.11 or newer"),
    now("nats.client.url", NatsUrls, Unset, "External nats-servers; several for fail-over"),
    now("nats.client.auth_method", Choice(&["none", "token", "userpass", "credentials", "nkey"]), Derived("none, or by the credential that is given"), "How to authenticate there"),
    now("nats.client.token", Text, Unset, "For auth_method token").secret(),
    now("nats.client.username", Text, Unset, "For auth_method userpass"),
    now("nats.client.password", Text, Unset, "For auth_method userpass").secret(),
    now("nats.client.credentials_file", Path, Unset, "For auth_method credentials"),
    now("nats.client.nkey_seed", Text, Unset, "For auth_method nkey").secret(),
    now("nats.client.ca_cert", Path, Unset, "Certificate of a private authority; turns TLS on"),
    //
    pending("auth.account_creation_policy", Choice(&["open", "invite_only"]), Value("open"), "Who may create an account"),
    pending("auth.direct_registration", Bool, Value("true"), "Allow new accounts with a password of this server; off: 403"),
    now("auth.direct_login", Bool, Value("true"), "Allow logging in with a password of this server; off: 403"),
    now("auth.token_ttl", Duration, Value("90d"), "Lifetime of a session after its last use"),
    pending("auth.email_otp.throttling_enabled", Bool, Value("true"), "Limit emailed codes"),
    pending("auth.email_otp.ttl", Duration, Value("15m"), "Lifetime of an emailed code"),
    pending("auth.email_otp.max_delivered_codes", COUNT, Value("10"), "Most codes that are emailed to one address"),
    pending("auth.email_otp.max_wrong_attempts", COUNT, Value("5"), "Wrong attempts allowed for one code"),
    later("auth.providers[].id", "Offers login by other services"),
    later("auth.providers[].type", "Offers login by other services"),
    later("auth.providers[].label", "Offers login by other services"),
    later("auth.providers[].client_id", "Offers login by other services"),
    later("auth.providers[].client_secret", "Offers login by other services").secret(),
    later("auth.providers[].issuer_url", "Offers login by other services"),
    later("auth.providers[].scopes", "Offers login by other services"),
    later("auth.providers[].request_email", "Offers login by other services"),
    later("auth.providers[].auto_provision", "Offers login by other services"),
    later("auth.providers[].provider_options", "Offers login by other services"),
    later("auth.oidc_enabled", "Offers login by another service"),
    later("auth.oidc_issuer_url", "Offers login by another service"),
    later("auth.oidc_client_id", "Offers login by another service"),
    later("auth.oidc_client_secret", "Offers login by another service").secret(),
    later("auth.oidc_label", "Offers login by another service"),
    recognised("auth.google.*", "Offers login by Google"),
    //
    pending("smtp.enabled", Bool, Value("false"), "Send email"),
    pending("smtp.host", Text, Unset, "Mail server"),
    pending("smtp.port", Port, Value("587"), "Its port; 465 means implicit TLS"),
    pending("smtp.from", Text, Unset, "Sender address"),
    pending("smtp.username", Text, Unset, "User name there"),
    pending("smtp.password", Text, Unset, "Password there").secret(),
    pending("smtp.tls", Choice(&["mandatory", "opportunistic", "none"]), Value("mandatory"), "Encryption of the connection"),
    pending("smtp.tls_server_name", Text, Unset, "Name in its certificate, if different from host"),
    pending("smtp.tls_skip_verify", Bool, Value("false"), "Accept any certificate"),
    later("push.enabled", "Sends web push notifications"),
    later("push.vapid_public_key", "Sends web push notifications"),
    later("push.vapid_private_key", "Sends web push notifications").secret(),
    later("push.vapid_subject", "Sends web push notifications"),
    //
    pending("livekit.enabled", Bool, Value("false"), "Offer calls"),
    pending("livekit.url", Url, Unset, "LiveKit server"),
    pending("livekit.api_key", Text, Unset, "Its API key"),
    pending("livekit.api_secret", Text, Unset, "Its API secret").secret(),
    pending("livekit.webhook_url", Url, Derived("{webserver.url}/webhooks/livekit"), "Where LiveKit reports calls"),
    pending("livekit.webhook_api_key", Text, Derived("livekit.api_key"), "Key that signs those reports"),
    pending("livekit.webhook_api_secret", Text, Derived("livekit.api_secret"), "Secret that signs those reports").secret(),
    pending("livekit.server_id", Text, Value(""), "Prefix of LiveKit room names; the same in every process")
        .formerly("livekit.instance_id"),
    //
    now("operator_api.enabled", Bool, Value("true"), "Serve a socket for commands on this machine"),
    now("operator_api.socket_path", Path, Derived("<data_dir>/run/operator.sock"), "Path of the socket"),
    now("operator_api.socket_mode", Mode0600, Value("0600"), "Its permission bits; only 0600 is allowed"),
    now("owners.emails", List, Unset, "Users with one of these verified addresses are owners"),
    now("limits.max_users", Int { min: -1, max: 1_000_000_000 }, Value("-1"), "Most accounts on this server; -1: no limit, 0: no new accounts"),
    pending("metrics.enabled", Bool, Value("false"), "Serve metrics for Prometheus on a separate listener"),
    pending("metrics.bind_address", Ip, Value("127.0.0.1"), "Address of that listener"),
    pending("metrics.port", Port, Value("9090"), "Its port"),
    pending("metrics.path", Text, Value("/metrics"), "Its path"),
    recognised("metrics.pprof", "Serves profiles"),
    now("backup.directory", WorkPath, Value("backups"), "Where backup writes without -o; the default is relative to the working directory"),
    now("backup.scrypt_work_factor", Int { min: 10, max: 20 }, Value("15"), "Cost of guessing an archive's passphrase"),
    later("backup.schedule", "Makes backups by the server itself"),
    later("backup.incremental", "Makes incremental backups"),
    later("search.enabled", "Offers message search"),
    //
    recognised("video.*", "Converts videos; they are ordinary files here"),
    recognised("asset_processing.*", "Processes files in the background"),
    recognised("exporter.*", "Exports data"),
    recognised("search_provider.*", "Uses an external search service"),
    recognised("diagnostics.*", "Collects diagnostics"),
    //
    test("bootstrap.users[].login", Text, "Account to create in a server without users"),
    test("bootstrap.users[].display_name", Text, "Its display name; by default the login"),
    test("bootstrap.users[].email", Text, "Its verified address"),
    test("bootstrap.users[].password", Text, "Its password").secret(),
    test("bootstrap.users[].server_role", Choice(&["owner", "admin", "moderator"]), "Its role"),
    test("bootstrap.server.name", Text, "Name of the server"),
    test("bootstrap.server.rooms", List, "Further channels"),
    recognised("bootstrap.server.description", "Sets the server's description"),
];
