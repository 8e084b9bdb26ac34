//! A restored store takes the place of the present one.
//!
//! It is made in a folder of its own. When it is complete and on the disk, that folder gets another name, which is the moment
//! from which on the restore has happened. What is left to do then is repeatable, and done by whoever locks the data directory
//! next: every lock is followed by [`finish`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::error::AppError;
use crate::backup::target::create_private;
use crate::runtime::Clock;
use crate::storage::write_initialised;
use crate::supervisor::DataDir;

/// The folder of the store that is being made.
const MAKING: &str = "restoring";
/// Its name once it is complete.
const COMPLETE: &str = "restored";

/// Whether a data directory has, or had, a store.
pub(super) fn has_store(data_dir: &Path) -> bool {
    ["initialised", "jetstream", COMPLETE].into_iter().any(|name| data_dir.join(name).exists())
}

/// Where the `jetstream` folder of the store is, or will be taken from by whoever locks the data directory next.
pub(super) fn newest_store(data_dir: &Path) -> Result<PathBuf, AppError> {
    let complete = data_dir.join(COMPLETE).join("jetstream");
    Ok(if is_there(&complete)? { complete } else { data_dir.join("jetstream") })
}

/// The same lock, for a store that is made beside the present one.
pub(super) fn begin(locked: &DataDir) -> Result<DataDir, AppError> {
    let making = locked.path().join(MAKING);
    create_private(&making).map_err(|source| AppError::Swap { path: making, source })?;
    Ok(locked.clone().with_store_in(MAKING))
}

/// Puts a complete store in the place of the present one, which stays beside it under a name with the time.
pub(super) fn complete(
    locked: &DataDir,
    marker: Option<&str>,
    clock: &Clock,
) -> Result<Option<PathBuf>, AppError> {
    let (making, complete) = (locked.path().join(MAKING), locked.path().join(COMPLETE));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AppError::Swap { path, source }
    };
    sync_disk(&making).map_err(failed(&making))?;
    if let Some(server_id) = marker {
        write_initialised(&making.join("initialised"), server_id).map_err(failed(&making))?;
    }
    std::fs::rename(&making, &complete)
        .and_then(|()| sync_folder(locked.path()))
        .map_err(failed(&complete))?;
    // From here on the restore has happened.
    let time = crate::observe::file_time(clock.unix_ms());
    let former = move_former(locked, &format!("jetstream.before-{time}"))?;
    finish(locked)?;
    Ok(former)
}

/// Gives the present store a name that is free, and returns it.
fn move_former(locked: &DataDir, name: &str) -> Result<Option<PathBuf>, AppError> {
    let store = locked.path().join("jetstream");
    if !is_there(&store)? {
        return Ok(None);
    }
    let names = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}-{n}")));
    let mut paths = names.map(|name| locked.path().join(name));
    let former = paths.find(|path| !path.exists()).unwrap_or_else(|| locked.path().join(name));
    let moved = std::fs::rename(&store, &former).and_then(|()| sync_folder(locked.path()));
    match moved {
        Ok(()) => Ok(Some(former)),
        Err(source) => Err(AppError::Swap { path: former, source }),
    }
}

/// Completes a swap that was interrupted after the restore had happened, and removes what a restore that had not come so
/// far has made. Whoever locks the directory begins with this.
///
/// # Errors
/// [`AppError::Swap`]; it may be repeated.
pub(super) fn finish(locked: &DataDir) -> Result<(), AppError> {
    remove(&locked.path().join(MAKING))?;
    let complete = locked.path().join(COMPLETE);
    if !is_there(&complete)? {
        return Ok(());
    }
    let failed = |source| AppError::Swap { path: complete.clone(), source };
    if is_there(&complete.join("jetstream"))? {
        move_former(locked, "jetstream.before-restore")?;
        std::fs::rename(complete.join("jetstream"), locked.path().join("jetstream"))
            .map_err(failed)?;
        sync_folder(locked.path()).map_err(failed)?;
    }
    if is_there(&complete.join("initialised"))? {
        std::fs::rename(complete.join("initialised"), locked.initialised_marker())
            .map_err(failed)?;
        sync_folder(locked.path()).map_err(failed)?;
    }
    remove(&complete)
}

/// Whether something has this name. A disk that does not say is an error: what was restored is removed where nothing seems to
/// be left to do.
pub(super) fn is_there(path: &Path) -> Result<bool, AppError> {
    path.try_exists().map_err(|source| AppError::Swap { path: path.to_owned(), source })
}

fn remove(folder: &Path) -> Result<(), AppError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(AppError::Swap { path: folder.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Writes everything of the folder's file system to the disk.
fn sync_disk(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(&File::open(folder)?)?)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, read_dir, read_to_string, write};

    use super::*;
    use crate::supervisor::Role;

    fn locked(folder: &Path) -> DataDir {
        let role = Role::Offline { command: "restore".to_owned() };
        let clock = Clock::system();
        smol::block_on(DataDir::lock(folder, role, &clock, |_| {})).unwrap()
    }

    fn store(folder: &Path, text: &str) {
        create_dir_all(folder.join("jetstream")).unwrap();
        write(folder.join("jetstream/store"), text).unwrap();
    }

    fn read(folder: &Path) -> String {
        read_to_string(folder.join("jetstream/store")).unwrap()
    }

    fn former(folder: &Path) -> usize {
        let names = read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("jetstream.before")).count()
    }

    #[test]
    fn a_complete_store_takes_the_place_of_the_present_one_which_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, locked) = (folder.path(), locked(folder.path()));
        store(path, "old");
        for (n, text) in ["first", "second"].into_iter().enumerate() {
            begin(&locked).unwrap();
            store(&path.join(MAKING), text);
            let clock = Clock::system();
            let kept = complete(&locked, Some("S0000000000000001"), &clock).unwrap().unwrap();
            assert_eq!(read(path), text);
            assert!(kept.join("store").exists());
            assert_eq!(former(path), n + 1, "two within a second have two names");
            assert!(path.join("initialised").exists());
            assert!(!path.join(MAKING).exists() && !path.join(COMPLETE).exists());
        }
    }

    #[test]
    fn whatever_a_kill_leaves_becomes_the_old_store_or_the_new_one() {
        // What is there, what comes of it, and how many former stores are kept.
        for (present, making, complete, expected, kept) in [
            (Some("old"), Some("half"), None, "old", 0),
            (Some("old"), None, Some("new"), "new", 1),
            (None, None, Some("new"), "new", 0),
            (Some("new"), None, None, "new", 0),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let (path, locked) = (folder.path(), locked(folder.path()));
            let places = [
                (path.to_owned(), present),
                (path.join(MAKING), making),
                (path.join(COMPLETE), complete),
            ];
            for (place, text) in places {
                if let Some(text) = text {
                    store(&place, text);
                }
            }
            assert!(present.is_none() && complete.is_none() || has_store(path));
            for _ in 0..2 {
                finish(&locked).unwrap();
                assert_eq!((read(path).as_str(), former(path)), (expected, kept));
                assert!(!path.join(MAKING).exists() && !path.join(COMPLETE).exists());
            }
        }
    }
}
