//! From the settings to each part's own configuration.

use super::AppError;
use crate::blobs::{self, Blobs, s3::S3};
use crate::config::{Embedded, Settings};
use crate::crypto::Secret;
use crate::crypto::password::Params;
use crate::http::PublicUrl;
use crate::limits::{
    IMAGE_MEMORY_MAX_BYTES, IMAGE_MEMORY_SMALL_MAX_BYTES, IMAGE_PIXELS_MAX, UPLOAD_STREAMS_MAX,
    UPLOAD_STREAMS_SMALL_MAX,
};
use crate::media::image::{self, DecoderLimits};
use crate::nats::{Nats, Target};
use crate::runtime::Clock;
use crate::supervisor::{SyncInterval, memory_bytes};
use crate::web::Folder;
use crate::{http, service, storage, supervisor};

/// Above this a machine computes two password hashes at a time (product 9).
const TWO_SLOTS_ABOVE_BYTES: u64 = 2 << 30;
/// Below it fewer parts of uploads are in memory.
const SMALL_MEMORY_BYTES: u64 = 1 << 30;

/// The embedded server's part.
pub(super) fn supervisor(settings: &Settings, embedded: &Embedded) -> supervisor::Config {
    supervisor::Config {
        data_dir: settings.data_dir.clone(),
        binary: embedded.binary.clone(),
        bind_address: embedded.bind_address,
        port: embedded.port,
        http_port: embedded.http_port,
        auth_token: embedded.auth_token.as_ref().map(Secret::to_text),
        sync: embedded.sync_interval.map_or(SyncInterval::Always, SyncInterval::Every),
        max_file_store: embedded.max_file_store_bytes,
        min_free_disk: embedded.min_free_disk_bytes,
        memory_limit: embedded.memory_limit_bytes,
    }
}

/// The external cluster.
pub(super) fn cluster(settings: &Settings) -> Target {
    Target {
        urls: settings.client.urls.clone(),
        auth: settings.client.auth.clone(),
        ca_cert: settings.client.ca_cert.clone(),
        name: "chatto".to_owned(),
    }
}

/// The store's part, `secret_key` given.
pub(super) fn storage(settings: &Settings, secret_key: Secret, create: bool) -> storage::Config {
    let embedded = settings.embedded.is_some();
    storage::Config {
        replicas: settings.replicas,
        embedded,
        secret_key,
        secret_key_previous: settings.core.secret_key_previous.clone(),
        initialised_marker: embedded.then(|| settings.data_dir.join("initialised")),
        create,
    }
}

/// The bucket of files. While new files go to NATS, settings that cannot be used only make older files unreadable.
pub(super) fn bucket(settings: &Settings, clock: &Clock) -> Result<Option<S3>, AppError> {
    let Some(config) = settings.assets.s3.clone() else { return Ok(None) };
    match S3::build(config, clock.clone()) {
        Ok(bucket) => Ok(Some(bucket)),
        Err(error) if settings.assets.uploads_to_s3 => Err(error.into()),
        Err(error) => {
            log::warn!(error:err = error; "files in S3 cannot be read; check core.assets.s3");
            Ok(None)
        }
    }
}

/// The bytes of files, for commands that copy them as they are.
pub(super) fn blobs(settings: &Settings, nats: &Nats, clock: &Clock) -> Result<Blobs, AppError> {
    let config = blobs::Config { s3: bucket(settings, clock)?, ..blobs::Config::default() };
    Ok(Blobs::build(config, nats, clock))
}

/// The chat's part.
pub(super) fn service(
    settings: &Settings,
    secret_key: Secret,
    clock: &Clock,
) -> Result<service::Config, AppError> {
    let memory = memory_bytes();
    // Commands that open the store without a server sign no cookies.
    let unused = || Secret::from(crate::crypto::token_text());
    Ok(service::Config {
        secret_key,
        cookie_signing_secret: settings
            .webserver
            .cookie_signing_secret
            .clone()
            .unwrap_or_else(unused),
        blobs: blobs::Config {
            uploads_to_s3: settings.assets.uploads_to_s3,
            encrypt: settings.assets.encrypt,
            s3: bucket(settings, clock)?,
            redirect_above: settings.assets.redirect_above_bytes,
            cache_max_bytes: settings.assets.cache_max_bytes,
            cache_ttl: settings.assets.cache_ttl,
        },
        upload_streams: match memory < SMALL_MEMORY_BYTES {
            true => UPLOAD_STREAMS_SMALL_MAX,
            false => UPLOAD_STREAMS_MAX,
        },
        images: images(memory, settings.assets.max_image_pixels),
        asset_signing_secret: settings.assets.signing_secret.clone().unwrap_or_else(unused),
        cookie_encryption_secret: settings.webserver.cookie_encryption_secret.clone(),
        session_ttl: settings.auth.token_ttl,
        direct_login: settings.auth.direct_login,
        invite_only: settings.auth.invite_only,
        owner_emails: settings.owner_emails.clone(),
        max_users: settings.max_users.map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
        max_upload_bytes: settings.assets.max_upload_bytes,
        password_params: password_params(memory),
        password_slots: if memory > TWO_SLOTS_ABOVE_BYTES { 2 } else { 1 },
    })
}

/// One image at a time on a small board, two elsewhere.
fn images(memory: u64, pixels_max: Option<u64>) -> image::Config {
    let is_small = memory < SMALL_MEMORY_BYTES;
    image::Config {
        program: "/proc/self/exe".into(),
        slots: if is_small { 1 } else { 2 },
        limits: DecoderLimits {
            memory_max_bytes: if is_small {
                IMAGE_MEMORY_SMALL_MAX_BYTES
            } else {
                IMAGE_MEMORY_MAX_BYTES
            },
            // Within it the memory decides.
            pixels_max: pixels_max.unwrap_or(IMAGE_PIXELS_MAX),
        },
    }
}

#[cfg(not(feature = "test-support"))]
fn password_params(memory: u64) -> Params {
    Params::for_memory(memory)
}

#[cfg(feature = "test-support")]
fn password_params(_memory: u64) -> Params {
    Params::cheapest()
}

/// The edge's part.
pub(super) fn http(settings: &Settings) -> http::Config {
    let webserver = &settings.webserver;
    http::Config {
        public_url: public_url(settings),
        trusted_proxies: webserver.trusted_proxies.clone(),
        max_connections: webserver.max_connections,
        request_logging: webserver.request_logging,
        compression_min_bytes: webserver
            .api_compression
            .then_some(webserver.api_compression_min_bytes),
        shutdown_timeout: webserver.shutdown_timeout,
        client_dir: webserver.client_dir.clone().map(Folder::at),
        upload_max_bytes: usize::try_from(settings.assets.max_upload_bytes).unwrap_or(usize::MAX),
        files_origin: redirect_origin(settings),
        deadlines: http::Deadlines::default(),
    }
}

/// Where downloads are redirected to.
fn redirect_origin(settings: &Settings) -> Option<String> {
    settings.assets.redirect_above_bytes?;
    settings.assets.s3.as_ref()?.origin().ok()
}

/// The public origin, or the host names of this machine.
pub(super) fn public_url(settings: &Settings) -> PublicUrl {
    if let Some(url) = settings.webserver.url.as_deref().and_then(PublicUrl::configured) {
        return url;
    }
    let host = host_name();
    PublicUrl::Derived { names: vec![format!("{host}.local"), host] }
}

/// The origin of links that are printed on a terminal.
pub(super) fn link_base(settings: &Settings, port: u16) -> String {
    match public_url(settings) {
        PublicUrl::Configured(origin) => origin,
        PublicUrl::Derived { .. } => {
            let scheme = if settings.webserver.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}:{port}", host_name())
        }
    }
}

/// This machine's name, lower case.
fn host_name() -> String {
    let about = rustix::system::uname();
    let name = about.nodename().to_string_lossy().to_ascii_lowercase();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
