//! A store that is made of an archive in a folder of its own, read, and removed with the folder.

use std::fs::{DirBuilder, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::config::{Assets, Core, Embedded, NatsClient, Settings};
use crate::crypto::{Secret, hex, random, token_text};
use crate::nats::Auth;

/// How the folders' names begin.
const PREFIX: &str = "chatto-throwaway-";
/// The disk of the folder keeps so much free.
const SPARE_BYTES: u64 = 64 << 20;

/// A folder for a store, removed when this is dropped.
pub(super) struct Throwaway {
    folder: PathBuf,
    settings: Settings,
    /// Its lock says that a process uses the folder.
    _lock: File,
}

/// The folder cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("no directory for a throwaway store can be made in {}; --work-dir chooses another place", path.display())]
pub struct ThrowawayError {
    path: PathBuf,
    #[source]
    pub(super) source: io::Error,
}

impl Throwaway {
    /// Makes a folder in `place`, by default where the system keeps temporary files on its disk, and removes what killed
    /// processes have left there. The store's nats-server is that of the settings; everything else is its own.
    pub(super) fn create(
        settings: &Settings,
        place: Option<&Path>,
    ) -> Result<Self, ThrowawayError> {
        let place = place.map_or_else(default_place, Path::to_owned);
        let failed = |source| ThrowawayError { path: place.clone(), source };
        if let Err(error) = remove_leftovers(&place) {
            log::warn!(error:err = error, folder:% = place.display(); "what a killed process has left cannot be removed");
        }
        loop {
            let folder = place.join(format!("{PREFIX}{}", hex(&random::<8>())));
            DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
            let settings = own_settings(settings, folder.clone());
            let lock = File::open(&folder).map_err(failed)?;
            // From here on it is removed at the end, whatever happens.
            let throwaway = Self { folder, settings, _lock: lock };
            // Another process that removes leftovers may have been faster.
            if flock(&throwaway._lock, FlockOperation::NonBlockingLockExclusive).is_ok()
                && throwaway.folder.exists()
            {
                return Ok(throwaway);
            }
        }
    }

    /// The directory that its folder is in.
    pub(super) fn place(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// For commands on this store alone.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!(error:err = error, folder:% = self.folder.display(); "a throwaway store cannot be removed; the next one in this place tries again");
        }
    }
}

/// Not `/tmp`, which is memory on many systems (file-hierarchy(7)).
fn default_place() -> PathBuf {
    let given = std::env::var_os("TMPDIR").filter(|path| !path.is_empty());
    given.map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// Removes folders of processes that ended without doing so.
fn remove_leftovers(place: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    let entries = match std::fs::read_dir(place) {
        // Nothing is left there; that the folder cannot be made is said by whoever makes it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    for entry in entries {
        let entry = entry?;
        let is_ours = is_name(&entry.file_name().to_string_lossy())
            && entry.metadata().is_ok_and(|about| about.is_dir() && about.uid() == own);
        if is_ours
            && let Ok(folder) = File::open(entry.path())
            && flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a throwaway store has such a name: [`PREFIX`] and eight random bytes in hexadecimal.
fn is_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == 16 && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn own_settings(settings: &Settings, folder: PathBuf) -> Settings {
    let former = settings.embedded.as_ref();
    Settings {
        data_dir: folder,
        embedded: Some(Embedded {
            bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            http_port: 0,
            auth_token: None,
            // It is lost with a crash anyway.
            sync_interval: Some(Duration::from_secs(120)),
            max_file_store_bytes: None,
            min_free_disk_bytes: SPARE_BYTES,
            memory_limit_bytes: former.and_then(|former| former.memory_limit_bytes),
            binary: former.and_then(|former| former.binary.clone()),
        }),
        client: NatsClient { urls: Vec::new(), auth: Auth::None, ca_cert: None },
        replicas: 1,
        operator_socket: None,
        assets: Assets { s3: None, uploads_to_s3: false, ..settings.assets.clone() },
        core: Core { secret_key: Some(Secret::from(token_text())), secret_key_previous: None },
        ..settings.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn only_what_a_throwaway_store_is_called_is_removed() {
        assert!(is_name("chatto-throwaway-0123456789abcdef"));
        for other in ["chatto-throwaway-mine", "chatto-throwaway-0123456789abcdeF", "x"] {
            assert!(!is_name(other), "{other}");
        }
    }
}
