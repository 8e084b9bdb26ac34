//! The typed settings read from the effective values.

use super::resolve::Resolved;
use super::settings::{
    Assets, AuthSettings, BackupSettings, Core, Embedded, General, NatsClient, Settings, Webserver,
};
#[cfg(feature = "test-support")]
use super::settings::{Bootstrap, BootstrapUser};
use crate::blobs::s3;
use crate::crypto::Secret;
use crate::http::{Network, TlsFiles};
use crate::nats::Auth;

impl Settings {
    /// Reads the settings from effective values that the rules have accepted.
    pub(super) fn from_resolved(from: &Resolved) -> Self {
        let data_dir = from.path("nats.embedded.data_dir").unwrap_or_default();
        let socket = || {
            let stated = from.path("operator_api.socket_path");
            stated.unwrap_or_else(|| data_dir.join("run/operator.sock"))
        };
        Self {
            general: General {
                log_level: log_level(from),
                log_format: from.text("general.log_format").unwrap_or_default(),
            },
            webserver: webserver(from),
            core: Core {
                secret_key: from.secret("core.secret_key"),
                secret_key_previous: from.secret("core.secret_key_previous"),
            },
            assets: assets(from),
            replicas: from.int("nats.replicas"),
            embedded: from.flag("nats.embedded.enabled").then(|| embedded(from)),
            client: NatsClient {
                urls: from.list("nats.client.url"),
                auth: nats_auth(from),
                ca_cert: from.path("nats.client.ca_cert"),
            },
            auth: auth(from),
            livekit_server_id: from
                .flag("livekit.enabled")
                .then(|| from.text("livekit.server_id").unwrap_or_default()),
            operator_socket: from.flag("operator_api.enabled").then(socket),
            owner_emails: from.list("owners.emails"),
            backup: BackupSettings {
                directory: from.path("backup.directory").unwrap_or_default(),
                work_factor: from.int("backup.scrypt_work_factor"),
            },
            max_users: u64::try_from(from.int::<i64>("limits.max_users")).ok(),
            #[cfg(feature = "test-support")]
            bootstrap: bootstrap(from),
            data_dir,
        }
    }
}

fn log_level(from: &Resolved) -> log::LevelFilter {
    let level = from.text("general.log_level").unwrap_or_default();
    level.parse().unwrap_or(log::LevelFilter::Info)
}

fn webserver(from: &Resolved) -> Webserver {
    Webserver {
        url: from.text("webserver.url"),
        bind_address: from.ip("webserver.bind_address"),
        port: from.int("webserver.port"),
        cookie_signing_secret: from.secret("webserver.cookie_signing_secret"),
        cookie_encryption_secret: from.secret("webserver.cookie_encryption_secret"),
        trusted_proxies: trusted_proxies(from),
        max_connections: from.int("webserver.max_connections"),
        request_logging: from.flag("webserver.request_logging"),
        api_compression: from.flag("webserver.api_compression"),
        api_compression_min_bytes: from.int("webserver.api_compression_min_bytes"),
        shutdown_timeout: from.duration("webserver.shutdown_timeout"),
        client_dir: from.path("webserver.client_dir"),
        tls: tls_files(from),
    }
}

/// Clients that reach us through `ssh -R`, stunnel or Tor come from loopback, and so does every account of
/// this machine: none of them may choose its address and scheme, unless a proxy is expected there.
fn trusted_proxies(from: &Resolved) -> Vec<Network> {
    if !from.is_stated("webserver.trusted_proxies") {
        let expects_proxy = from.is_stated("webserver.url");
        return if expects_proxy { Network::loopback() } else { Vec::new() };
    }
    let stated = from.list("webserver.trusted_proxies");
    stated.iter().filter_map(|text| Network::parse(text).ok()).flatten().collect()
}

/// The files of `webserver.tls`, if it is enabled and both are set.
pub(super) fn tls_files(from: &Resolved) -> Option<TlsFiles> {
    if !from.flag("webserver.tls.enabled") {
        return None;
    }
    let files = from.path("webserver.tls.cert_file").zip(from.path("webserver.tls.key_file"));
    let (cert_file, key_file) = files?;
    Some(TlsFiles { cert_file, key_file })
}

fn assets(from: &Resolved) -> Assets {
    Assets {
        signing_secret: from.secret("core.assets.signing_secret"),
        max_upload_bytes: from.size("core.assets.max_upload_size").unwrap_or_default(),
        uploads_to_s3: from.text("core.assets.storage_backend").as_deref() == Some("s3"),
        encrypt: from.flag("core.assets.encrypt"),
        s3: s3(from),
        redirect_above_bytes: from.size("core.assets.s3.redirect_above"),
        max_image_pixels: from.auto_int("core.assets.max_image_pixels"),
        cache_max_bytes: match from.flag("core.assets.cache.enabled") {
            true => from.size("core.assets.cache.max_size").unwrap_or_default(),
            false => 0,
        },
        cache_ttl: from.duration("core.assets.cache.ttl"),
    }
}

/// `core.assets.s3.*` if there is an endpoint. What else is missing is a fault only if S3 is where uploads go.
pub(super) fn s3(from: &Resolved) -> Option<s3::Config> {
    let text = |name| from.text(name).unwrap_or_default();
    let secret = |name| from.secret(name).unwrap_or_else(|| Secret::new(Vec::new()));
    Some(s3::Config {
        endpoint: from.text("core.assets.s3.endpoint")?,
        bucket: text("core.assets.s3.bucket"),
        path_prefix: text("core.assets.s3.path_prefix").trim_matches('/').to_owned(),
        region: from.text("core.assets.s3.region"),
        access_key_id: secret("core.assets.s3.access_key_id"),
        secret_access_key: secret("core.assets.s3.secret_access_key"),
        session_token: from.secret("core.assets.s3.session_token"),
        use_ssl: from.flag_if_stated("core.assets.s3.use_ssl"),
        path_style: from.flag_if_stated("core.assets.s3.path_style"),
        ca_cert: from.path("core.assets.s3.ca_cert"),
        timeout: from.duration("core.assets.s3.timeout"),
    })
}

fn embedded(from: &Resolved) -> Embedded {
    Embedded {
        bind_address: from.ip("nats.embedded.bind_address"),
        port: from.int("nats.embedded.port"),
        http_port: from.int("nats.embedded.http_port"),
        auth_token: from.secret("nats.embedded.auth_token"),
        sync_interval: from.interval("nats.embedded.sync_interval"),
        max_file_store_bytes: from.size("nats.embedded.max_file_store"),
        min_free_disk_bytes: from.size("nats.embedded.min_free_disk").unwrap_or_default(),
        memory_limit_bytes: from.size("nats.embedded.memory_limit"),
        binary: from.path("nats.embedded.binary"),
    }
}

/// How to authenticate at an external cluster: as configured, else by the one credential that is given.
fn nats_auth(from: &Resolved) -> Auth {
    let stated = from.text("nats.client.auth_method");
    let given = super::rules::credentials_given(from);
    let method = stated.as_deref().or(given.first().copied()).unwrap_or("none");
    let plain = |name| from.secret(name).map(|secret| secret.to_text()).unwrap_or_default();
    match method {
        "token" => Auth::Token(plain("nats.client.token")),
        "userpass" => Auth::UserPassword {
            user: from.text("nats.client.username").unwrap_or_default(),
            password: plain("nats.client.password"),
        },
        "credentials" => {
            Auth::CredentialsFile(from.path("nats.client.credentials_file").unwrap_or_default())
        }
        "nkey" => Auth::Nkey(plain("nats.client.nkey_seed")),
        _ => Auth::None,
    }
}

fn auth(from: &Resolved) -> AuthSettings {
    AuthSettings {
        invite_only: from.text("auth.account_creation_policy").as_deref() == Some("invite_only"),
        direct_login: from.flag("auth.direct_login"),
        token_ttl: from.duration("auth.token_ttl"),
    }
}

#[cfg(feature = "test-support")]
fn bootstrap(from: &Resolved) -> Bootstrap {
    let member = |n: usize, word: &str| format!("bootstrap.users[{n}].{word}");
    let users = (0..from.members("bootstrap.users"))
        .map(|n| BootstrapUser {
            login: from.text(&member(n, "login")).unwrap_or_default(),
            display_name: from.text(&member(n, "display_name")),
            email: from.text(&member(n, "email")),
            password: from.secret(&member(n, "password")),
            server_role: from.text(&member(n, "server_role")),
        })
        .collect();
    let present = ["name", "rooms", "description"]
        .map(|word| from.is_stated(&format!("bootstrap.server.{word}")));
    let present = present.contains(&true);
    let server =
        present.then(|| (from.text("bootstrap.server.name"), from.list("bootstrap.server.rooms")));
    Bootstrap { users, server }
}
