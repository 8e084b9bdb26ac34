//! Rules about several keys: combinations that are refused, keys that are missing, values that are
//! accepted with a warning.

use std::fs::File;
use std::net::IpAddr;

use super::Purpose;
use super::fault::{Fault, Location, Warning};
use super::resolve::Resolved;
use crate::domain::Authority;
use crate::http::TlsError;
use crate::limits::{SECRET_MIN_BYTES, SECRET_STRONG_BYTES};
use crate::web::Folder;

/// What the rules found.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Warning>,
}

impl Findings {
    fn fault(&mut self, location: Location, key: &str, reason: impl Into<String>) {
        self.faults.push(Fault::new(location, key, reason));
    }

    fn warn(&mut self, location: Location, key: &str, text: impl Into<String>) {
        self.warnings.push(Warning::new(location, key, text));
    }
}

/// The secrets that are generated with an embedded server and must be set with an external one.
pub(super) const GENERATED: [&str; 3] =
    ["webserver.cookie_signing_secret", "core.secret_key", "core.assets.signing_secret"];

/// Applies every rule.
pub(super) fn check(values: &Resolved, purpose: Purpose) -> Findings {
    let mut findings = Findings::default();
    if values.flag("nats.embedded.enabled") {
        embedded(values, &mut findings);
    } else {
        external(values, purpose, &mut findings);
    }
    nats_credentials(values, &mut findings);
    secrets(values, &mut findings);
    readable(values, &mut findings);
    s3(values, &mut findings);
    tls(values, &mut findings);
    exposure(values, &mut findings);
    others(values, &mut findings);
    findings
}

fn embedded(values: &Resolved, findings: &mut Findings) {
    let replicas: i64 = values.int("nats.replicas");
    if replicas > 1 {
        let location = values.location("nats.replicas");
        let reason = "must be 1 with the embedded nats-server (nats.embedded.enabled = true): one \
                      node holds one copy";
        findings.fault(location, "nats.replicas", reason);
    }
    let urls = values.list("nats.client.url");
    let port: u16 = values.int("nats.embedded.port");
    let address = values.ip("nats.embedded.bind_address");
    if urls.iter().any(|url| !is_listener(url, address, port)) {
        let reason = "names a server other than the embedded one (nats.embedded.enabled = true), so \
                      commands would reach a different store: set nats.embedded.enabled = false, or \
                      remove the URL";
        findings.fault(values.location("nats.client.url"), "nats.client.url", reason);
    }
}

/// Whether a URL names the embedded server's own listener.
fn is_listener(url: &str, address: IpAddr, port: u16) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let Some(authority) = Authority::parse(authority) else { return false };
    let host_is_ours = match authority.address() {
        Some(host) => host == address || (address.is_unspecified() && host.is_loopback()),
        None => {
            authority.name() == "localhost" && (address.is_loopback() || address.is_unspecified())
        }
    };
    port != 0 && host_is_ours && authority.port() == Some(port)
}

fn external(values: &Resolved, purpose: Purpose, findings: &mut Findings) {
    let missing =
        "is missing: it must be set for an external cluster (nats.embedded.enabled = false)";
    if values.list("nats.client.url").is_empty() {
        findings.fault(Location::Nowhere, "nats.client.url", missing);
    }
    for name in GENERATED {
        let used = match purpose {
            Purpose::Start | Purpose::Check | Purpose::Examine => true,
            Purpose::Local => name == "core.secret_key",
        };
        if used && values.secret(name).is_none() {
            let reason = format!("{missing}, the same in every process");
            findings.fault(Location::Nowhere, name, reason);
        }
    }
    if purpose != Purpose::Local && values.text("webserver.url").is_none() {
        let text = "is unset: links use the host name of each request";
        findings.warn(Location::Nowhere, "webserver.url", text);
    }
}

/// The login methods whose credential is given.
pub(super) fn credentials_given(values: &Resolved) -> Vec<&'static str> {
    let methods = [
        ("token", values.secret("nats.client.token").is_some()),
        (
            "userpass",
            values.text("nats.client.username").is_some()
                || values.secret("nats.client.password").is_some(),
        ),
        ("credentials", values.path("nats.client.credentials_file").is_some()),
        ("nkey", values.secret("nats.client.nkey_seed").is_some()),
    ];
    methods.into_iter().filter(|(_, given)| *given).map(|(method, _)| method).collect()
}

fn nats_credentials(values: &Resolved, findings: &mut Findings) {
    let given = credentials_given(values);
    let stated = values.text("nats.client.auth_method");
    let location = values.location("nats.client.auth_method");
    let key = "nats.client.auth_method";
    match stated.as_deref() {
        Some("none") | None => {}
        Some(method) if given.contains(&method) => {}
        Some(method) => {
            let reason = format!("is {method}, but {} is missing", keys_of(method));
            findings.fault(location.clone(), key, reason);
        }
    }
    let others: Vec<&str> = match stated.as_deref() {
        Some(method) => given.iter().copied().filter(|other| *other != method).collect(),
        None if given.len() > 1 => given.clone(),
        None => Vec::new(),
    };
    if !others.is_empty() {
        let keys: Vec<&str> = others.iter().map(|method| keys_of(method)).collect();
        let reason = match stated {
            Some(method) => format!("is {method}, but {} is also set", keys.join(" and ")),
            None => format!("must be set, because {} are set", keys.join(" and ")),
        };
        findings.fault(location, key, reason);
    }
    let uses_userpass = given.contains(&"userpass");
    let half = values.text("nats.client.username").is_none()
        || values.secret("nats.client.password").is_none();
    if uses_userpass && half {
        let reason = "needs both nats.client.username and nats.client.password";
        findings.fault(Location::Nowhere, "nats.client.username", reason);
    }
}

fn keys_of(method: &str) -> &'static str {
    match method {
        "token" => "nats.client.token",
        "userpass" => "nats.client.username",
        "credentials" => "nats.client.credentials_file",
        _ => "nats.client.nkey_seed",
    }
}

fn secrets(values: &Resolved, findings: &mut Findings) {
    for name in [
        "webserver.cookie_signing_secret",
        "webserver.cookie_encryption_secret",
        "core.secret_key",
        "core.secret_key_previous",
        "core.assets.signing_secret",
    ] {
        let Some(secret) = values.secret(name) else { continue };
        let location = values.location(name);
        let bytes = secret.expose();
        if bytes.len() < SECRET_MIN_BYTES {
            let reason = format!("is shorter than {SECRET_MIN_BYTES} bytes");
            findings.fault(location, name, reason);
        } else if bytes.starts_with(b"your-") {
            let text = "looks like a published example; `chatto init --with-secrets` generates good secrets";
            findings.warn(location, name, text);
        } else if bytes.len() < SECRET_STRONG_BYTES {
            let text = format!("is shorter than {SECRET_STRONG_BYTES} bytes and could be guessed");
            findings.warn(location, name, text);
        }
    }
}

/// Checks files that must be readable, so that the fault is reported with the others.
fn readable(values: &Resolved, findings: &mut Findings) {
    for name in ["nats.client.credentials_file", "nats.client.ca_cert", "core.assets.s3.ca_cert"] {
        let Some(path) = values.path(name) else { continue };
        if let Err(error) = File::open(&path) {
            let reason = format!("cannot read {}: {error}", path.display());
            findings.fault(values.location(name), name, reason);
        }
    }
    let name = "webserver.client_dir";
    if let Some(path) = values.path(name)
        && let Err(error) = Folder::at(path).check()
    {
        findings.fault(values.location(name), name, error.to_string());
    }
}

fn s3(values: &Resolved, findings: &mut Findings) {
    if values.text("core.assets.storage_backend").as_deref() == Some("s3") {
        for name in [
            "core.assets.s3.endpoint",
            "core.assets.s3.bucket",
            "core.assets.s3.access_key_id",
            "core.assets.s3.secret_access_key",
        ] {
            if !values.is_stated(name) {
                let reason = "is missing: core.assets.storage_backend is s3";
                findings.fault(Location::Nowhere, name, reason);
            }
        }
    }
    let name = "core.assets.s3.path_prefix";
    if let Some(prefix) = values.text(name) {
        let inner = prefix.trim_matches('/');
        let bad =
            inner.split('/').any(|part| part == ".." || (part.is_empty() && !inner.is_empty()));
        if bad || inner.chars().any(char::is_control) {
            let reason = "must not contain //, .. or control characters";
            findings.fault(values.location(name), name, reason);
        }
    }
    // A missing bucket is reported above, where it is needed.
    if let Some(config) = super::read::s3(values)
        && !config.bucket.is_empty()
        && let Err(error) = config.check()
    {
        let name = format!("core.assets.s3.{}", error.setting());
        findings.fault(values.location(&name), &name, error.to_string());
    }
    let name = "core.assets.s3.use_ssl";
    if let (Some(endpoint), Some(ssl)) =
        (values.text("core.assets.s3.endpoint"), values.flag_if_stated(name))
    {
        let scheme_says = match endpoint.split_once("://") {
            Some(("http", _)) => Some(false),
            Some(("https", _)) => Some(true),
            Some(_) | None => None,
        };
        if scheme_says.is_some_and(|says| says != ssl) {
            let reason = "contradicts the scheme of core.assets.s3.endpoint; remove one of them";
            findings.fault(values.location(name), name, reason);
        }
    }
}

fn tls(values: &Resolved, findings: &mut Findings) {
    let name = "webserver.tls.enabled";
    if !values.flag(name) {
        return;
    }
    for file in ["webserver.tls.cert_file", "webserver.tls.key_file"] {
        if values.path(file).is_none() {
            let reason = "is missing: webserver.tls.enabled is true, but without it only plain HTTP could be served";
            findings.fault(values.location(name), file, reason);
        }
    }
    let Some(files) = super::read::tls_files(values) else { return };
    if let Err(error) = files.check() {
        let key = match error {
            TlsError::Certificate { .. } => "webserver.tls.cert_file",
            TlsError::Key { .. } => "webserver.tls.key_file",
        };
        findings.fault(values.location(key), key, error.to_string());
    }
    if files.key_is_exposed() {
        let key = "webserver.tls.key_file";
        let text = format!(
            "every user of this machine can read {0}; run `chmod o= {0}`",
            files.key_file.display()
        );
        findings.warn(values.location(key), key, text);
    }
    if values.text("webserver.url").is_some_and(|url| url.starts_with("http://")) {
        let text =
            "starts with http, but with webserver.tls.enabled this server accepts only https";
        findings.warn(values.location("webserver.url"), "webserver.url", text);
    }
}

/// Warns about values that expose more to others than most operators want.
fn exposure(values: &Resolved, findings: &mut Findings) {
    if values.int::<u16>("nats.embedded.http_port") != 0 {
        let text =
            "the monitoring port has no authentication: every account of this machine can read it";
        findings.warn(values.location("nats.embedded.http_port"), "nats.embedded.http_port", text);
    }
    if !values.ip("nats.embedded.bind_address").is_loopback() {
        let text = "nats-server can be reached from the network: only its token protects it";
        findings.warn(
            values.location("nats.embedded.bind_address"),
            "nats.embedded.bind_address",
            text,
        );
    }
    let key = "webserver.trusted_proxies";
    if values.list(key).iter().any(|network| network.trim().ends_with("/0")) {
        let text = "every client is trusted as a proxy: anybody can forge the address and scheme of a request";
        findings.warn(values.location(key), key, text);
    }
}

fn others(values: &Resolved, findings: &mut Findings) {
    if !values.flag("auth.direct_login") {
        let text = "is false, and there is no other way to log in: nobody can log in";
        findings.warn(values.location("auth.direct_login"), "auth.direct_login", text);
    }
    for address in values.list("owners.emails") {
        let parts: Vec<&str> = address.split('@').collect();
        if parts.len() != 2 || parts.iter().any(|part| part.is_empty()) {
            let reason = "must be a list of email addresses";
            findings.fault(values.location("owners.emails"), "owners.emails", reason);
            break;
        }
    }
    if values.flag("smtp.enabled") {
        for name in ["smtp.host", "smtp.from"] {
            require(values, name, "smtp.enabled is true", findings);
        }
    }
    if values.flag("livekit.enabled") {
        for name in ["livekit.url", "livekit.api_key", "livekit.api_secret"] {
            require(values, name, "livekit.enabled is true", findings);
        }
    }
    #[cfg(feature = "test-support")]
    for n in 0..values.members("bootstrap.users") {
        for word in ["login", "password"] {
            require(
                values,
                &format!("bootstrap.users[{n}].{word}"),
                "every user needs it",
                findings,
            );
        }
    }
}

fn require(values: &Resolved, name: &str, why: &str, findings: &mut Findings) {
    if !values.is_stated(name) {
        findings.fault(Location::Nowhere, name, format!("is missing: {why}"));
    }
}
