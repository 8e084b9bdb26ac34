//! Processes that share a store must agree: secrets, the public origin, the prefix of call rooms. Each
//! writes fingerprints of them to the register and compares itself with the processes that registered earlier.
//! A process that registered later and differs is not ready, and ends with an error after half a minute.
//!
//! A fingerprint is a keyed hash: it shows that two values differ, but not what they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Settings;
use crate::crypto::{MacKey, Secret, token_text};
use crate::limits::{REGISTER_INTERVAL, REGISTER_RETRY_INTERVAL, SECRETS_MISMATCH_TIMEOUT};
use crate::nats::Nats;
use crate::runtime::{Clock, Stop};
use crate::storage::{Fingerprint, OpenError, Process, Storage, StorageError, live_processes};
use parking_lot::Mutex;

use super::error::AppError;

/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 8;

/// Settings that may differ for a while, for example while processes are restarted one after the other.
const MAY_DIFFER: [&str; 4] = [
    "nats.replicas",
    "core.assets.s3.endpoint",
    "core.assets.s3.bucket",
    "core.assets.s3.path_prefix",
];

/// A difference from another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    key: String,
    process: String,
}

impl From<Mismatch> for AppError {
    fn from(Mismatch { key, process }: Mismatch) -> Self {
        Self::Mismatch { key, process }
    }
}

/// The register entry of this process.
pub(super) fn own(settings: &Settings, clock: &Clock) -> Process {
    let about = rustix::system::uname();
    Process {
        id: token_text(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: about.nodename().to_string_lossy().into_owned(),
        pid: std::process::id(),
        started_ms: clock.unix_ms(),
        fingerprints: fingerprints(settings),
    }
}

fn fingerprints(settings: &Settings) -> Vec<Fingerprint> {
    let webserver = &settings.webserver;
    let secrets = [
        ("webserver.cookie_signing_secret", &webserver.cookie_signing_secret),
        ("webserver.cookie_encryption_secret", &webserver.cookie_encryption_secret),
        ("core.secret_key", &settings.core.secret_key),
        ("core.assets.signing_secret", &settings.assets.signing_secret),
    ];
    let s3 = settings.assets.s3.as_ref();
    let texts = [
        ("webserver.url", webserver.url.clone()),
        ("livekit.server_id", settings.livekit_server_id.clone()),
        ("nats.replicas", Some(settings.replicas.to_string())),
        ("core.assets.s3.endpoint", s3.map(|s3| s3.endpoint.clone())),
        ("core.assets.s3.bucket", s3.map(|s3| s3.bucket.clone())),
        ("core.assets.s3.path_prefix", s3.map(|s3| s3.path_prefix.clone())),
    ];
    let secrets = secrets.map(|(key, secret)| fingerprint(key, secret.clone()));
    let texts = texts.map(|(key, text)| {
        fingerprint(key, text.filter(|text| !text.is_empty()).map(Secret::from))
    });
    secrets.into_iter().chain(texts).collect()
}

/// An unset value has an empty fingerprint: it equals another unset one.
fn fingerprint(key: &str, value: Option<Secret>) -> Fingerprint {
    let value = value.map(|value| {
        let mac = MacKey::derive(&value, "chatto register of processes").mac(key.as_bytes());
        mac.get(..FINGERPRINT_BYTES).unwrap_or(&mac).to_vec()
    });
    Fingerprint { key: key.to_owned(), value: value.unwrap_or_default().into() }
}

/// The keys that differ between two processes. A key that only one of them has belongs to another version.
fn differences<'a>(own: &'a Process, other: &'a Process) -> impl Iterator<Item = &'a str> {
    own.fingerprints.iter().filter_map(|ours| {
        let theirs = other.fingerprints.iter().find(|theirs| theirs.key == ours.key)?;
        (theirs.value != ours.value).then_some(ours.key.as_str())
    })
}

/// The first difference that is not allowed.
fn mismatch<'a>(own: &Process, others: impl Iterator<Item = &'a Process>) -> Option<Mismatch> {
    others.filter(|other| other.id != own.id).find_map(|other| {
        let key = differences(own, other).find(|key| !MAY_DIFFER.contains(key))?;
        Some(Mismatch { key: key.to_owned(), process: name(other) })
    })
}

/// A process as its operator knows it.
fn name(process: &Process) -> String {
    format!("{} (pid {}, version {})", process.host, process.pid, process.version)
}

/// Whether it was there before this one.
fn is_older(other: &Process, own: &Process) -> bool {
    (other.started_ms, &other.id) < (own.started_ms, &own.id)
}

/// Warns about the consequence of a changed secret that is not refused.
pub(super) async fn warn_changed_secrets(settings: &Settings, storage: &Storage) {
    let changed = match storage.register().changed_since_last_start(&fingerprints(settings)).await {
        Ok(changed) => changed,
        Err(error) => {
            log::debug!(error:err = error; "cannot find out whether secrets have changed");
            return;
        }
    };
    for key in changed {
        let consequence = match key.as_str() {
            "webserver.cookie_signing_secret" | "webserver.cookie_encryption_secret" => {
                "everybody who uses a browser must log in again"
            }
            "core.assets.signing_secret" => "file URLs that were handed out are no longer valid",
            _ => continue,
        };
        log::warn!(key = key.as_str(); "the secret has changed since the last start: {consequence}");
    }
}

/// Waits, before the store is opened, until no other process differs; calls `on_wait` while it does.
///
/// # Errors
/// [`AppError::Mismatch`] after [`SECRETS_MISMATCH_TIMEOUT`].
pub(super) async fn wait_for_agreement(
    nats: &Nats,
    clock: &Clock,
    own: &Process,
    on_wait: impl Fn(),
) -> Result<(), AppError> {
    let deadline = clock.now() + SECRETS_MISMATCH_TIMEOUT;
    let mut logged = false;
    loop {
        let others = match live_processes(nats).await {
            Ok(others) => others,
            Err(error) => {
                // Opening the store waits for it; the comparison is repeated afterwards.
                log::debug!(error:err = error; "cannot read the register of processes");
                return Ok(());
            }
        };
        let Some(mismatch) = mismatch(own, others.iter()) else { return Ok(()) };
        on_wait();
        if !logged {
            log_mismatch(&mismatch);
            logged = true;
        }
        if clock.now() >= deadline {
            return Err(mismatch.into());
        }
        clock.sleep(REGISTER_RETRY_INTERVAL).await;
    }
}

fn log_mismatch(mismatch: &Mismatch) {
    log::error!(
        key = mismatch.key.as_str(), process = mismatch.process.as_str();
        "a setting differs from that of a running process; give all processes of a cluster the same value"
    );
}

/// The entry of a running process. Clones share it.
#[derive(Clone)]
pub(super) struct Register {
    shared: Arc<Shared>,
}

struct Shared {
    own: Process,
    nats: Nats,
    storage: Storage,
    clock: Clock,
    mismatch: Mutex<Option<Mismatch>>,
    /// Differences that are only reported, one line each.
    differing: Mutex<Vec<String>>,
    given_up: AtomicBool,
}

impl Register {
    pub(super) fn new(own: Process, nats: Nats, storage: Storage, clock: Clock) -> Self {
        let shared = Shared {
            own,
            nats,
            storage,
            clock,
            mismatch: Mutex::default(),
            differing: Mutex::default(),
            given_up: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Whether another process differs in a setting that must be the same.
    pub(super) fn is_mismatched(&self) -> bool {
        self.lock_mismatch().is_some()
    }

    /// The error to exit with: the store is another one, or the difference has lasted too long.
    pub(super) fn fatal_error(&self) -> Option<AppError> {
        if let Some(least) = self.shared.storage.outdated() {
            return Some(AppError::Store(OpenError::Outdated { least }));
        }
        if self.shared.storage.is_restored() {
            return Some(AppError::Store(OpenError::Restored));
        }
        let given_up = self.shared.given_up.load(Ordering::SeqCst);
        self.lock_mismatch().clone().filter(|_| given_up).map(AppError::from)
    }

    /// Allowed differences from other processes.
    pub(super) fn differing(&self) -> Vec<String> {
        self.shared.differing.lock().clone()
    }

    /// Renews the entry and compares, until the store is closed.
    pub(super) async fn keep(self, closed: Stop) {
        let clock = self.shared.clock.clone();
        let mut since = None;
        loop {
            let pause = match self.compare().await {
                Ok(None) => {
                    since = None;
                    REGISTER_INTERVAL
                }
                Ok(Some(())) => {
                    let since = *since.get_or_insert_with(|| clock.now());
                    if clock.now().saturating_duration_since(since) >= SECRETS_MISMATCH_TIMEOUT {
                        self.shared.given_up.store(true, Ordering::SeqCst);
                    }
                    REGISTER_RETRY_INTERVAL
                }
                Err(error) => {
                    log::debug!(error:err = error; "cannot reach the register of processes");
                    REGISTER_RETRY_INTERVAL
                }
            };
            if closed.or(clock.sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Removes the entry, so that a successor with other secrets need not wait until it expires.
    pub(super) async fn leave(&self) {
        if let Err(error) = self.shared.storage.register().remove(&self.shared.own.id).await {
            log::debug!(error:err = error; "cannot remove the entry from the register of processes; it will expire");
        }
    }

    /// Compares with the processes that registered earlier; `Some` when there is a difference that is not allowed, and
    /// this process is not in the register.
    async fn compare(&self) -> Result<Option<()>, StorageError> {
        let Shared { own, nats, storage, .. } = &*self.shared;
        storage.check_writer().await?;
        // Registered before it compares: of two that start at the same moment, one sees the other.
        if !self.is_mismatched() {
            storage.register().put(own).await?;
        }
        let others = live_processes(nats).await?;
        self.note_differences(&others);
        let found = mismatch(own, others.iter().filter(|other| is_older(other, own)));
        let former = std::mem::replace(&mut *self.lock_mismatch(), found.clone());
        match (&former, &found) {
            (None, Some(mismatch)) => {
                log_mismatch(mismatch);
                storage.register().remove(&own.id).await?;
            }
            (Some(_), None) => {
                log::info!("no running process has different settings any more");
                storage.register().put(own).await?;
            }
            _ => {}
        }
        Ok(found.map(|_| ()))
    }

    fn note_differences(&self, others: &[Process]) {
        let own = &self.shared.own;
        let mut now = Vec::new();
        for other in others.iter().filter(|other| other.id != own.id) {
            for key in differences(own, other).filter(|key| MAY_DIFFER.contains(key)) {
                now.push(format!("{key} differs from that of {}", name(other)));
            }
        }
        let mut known = self.shared.differing.lock();
        for line in now.iter().filter(|line| !known.contains(line)) {
            log::warn!(difference = line.as_str(); "processes of this cluster have different settings");
        }
        *known = now;
    }

    fn lock_mismatch(&self) -> parking_lot::MutexGuard<'_, Option<Mismatch>> {
        self.shared.mismatch.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(id: &str, started_ms: i64, values: &[(&str, Option<&str>)]) -> Process {
        let fingerprints = values.iter().map(|(key, value)| {
            fingerprint(key, value.map(|value| Secret::from(value.to_owned())))
        });
        Process {
            id: id.into(),
            host: format!("host-{id}"),
            pid: 7,
            started_ms,
            fingerprints: fingerprints.collect(),
            ..Process::default()
        }
    }

    #[test]
    fn differences_are_named_without_their_values() {
        let secret = "core.secret_key";
        let own = process("b", 2, &[(secret, Some("one")), ("webserver.url", None)]);
        let same = process("a", 1, &[(secret, Some("one")), ("webserver.url", None)]);
        let other = process("a", 1, &[(secret, Some("two")), ("webserver.url", None)]);
        let unset = process("a", 1, &[(secret, None)]);
        let soft = process("a", 1, &[("nats.replicas", Some("3"))]);
        let own_soft = process("b", 2, &[("nats.replicas", Some("1"))]);
        assert_eq!(mismatch(&own, [&same].into_iter()), None);
        assert_eq!(mismatch(&own, [&own].into_iter()), None, "not with itself");
        for different in [&other, &unset] {
            let found = mismatch(&own, [different].into_iter()).unwrap();
            assert_eq!(found.key, secret);
            let said = AppError::from(found).to_string();
            assert!(said.contains("host-a (pid 7"), "{said}");
            assert!(!said.contains("one") && !said.contains("two"), "{said}");
        }
        assert_eq!(mismatch(&own_soft, [&soft].into_iter()), None);
        assert_eq!(differences(&own_soft, &soft).collect::<Vec<_>>(), ["nats.replicas"]);
        // A version that does not know a key does not differ in it.
        assert_eq!(mismatch(&own, [&soft].into_iter()), None);
    }

    #[test]
    fn the_later_one_gives_way() {
        let (early, late) = (process("z", 1, &[]), process("a", 2, &[]));
        assert!(is_older(&early, &late) && !is_older(&late, &early));
        let twin = process("b", 2, &[]);
        assert!(is_older(&late, &twin) && !is_older(&twin, &late));
    }
}
