//! What is executed: the bundled nats-server in a sealed memfd, where that is forbidden a file named by
//! its hash in the data directory, or the operator's own nats-server.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::bundled::{Bundled, UnpackError};
use crate::limits::COPY_CHUNK_BYTES;

/// Part of the fallback's file name.
const FILE_PREFIX: &str = "nats-server-";

/// A nats-server that can be executed.
#[derive(Debug)]
pub(super) enum Executable {
    /// In memory; the descriptor is closed by the execution itself.
    Memory(File),
    /// In the data directory; its hash was just compared.
    File(PathBuf),
    /// The operator's (`nats.embedded.binary`).
    Named(PathBuf),
}

impl Executable {
    /// The path to execute.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            // In the child the same descriptor refers to the same file.
            Self::Memory(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            Self::File(path) | Self::Named(path) => path.clone(),
        }
    }
}

/// Unpacks the bundled server into a sealed memfd. Blocks for as long as unpacking takes.
pub(super) fn in_memory(bundled: &Bundled) -> Result<Executable, UnpackError> {
    let write = |errno: Errno| UnpackError::Write { source: errno.into() };
    let file = File::from(create_memfd().map_err(write)?);
    bundled.unpack(&file)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).map_err(write)?;
    Ok(Executable::Memory(file))
}

pub(super) fn create_memfd() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create("nats-server", flags | MemfdFlags::EXEC) {
        // Kernels before 6.3 do not know the flag, and every memfd of theirs is executable.
        Err(Errno::INVAL) => memfd_create("nats-server", flags),
        other => other,
    }
}

/// The bundled server as a file in `bin`: the existing one if its hash is right, else unpacked
/// again; other versions are deleted. Blocks.
pub(super) fn in_directory(bundled: &Bundled, bin: &Path) -> Result<Executable, UnpackError> {
    let write = |source| UnpackError::Write { source };
    DirBuilder::new().recursive(true).mode(0o700).create(bin).map_err(write)?;
    let name = format!("{FILE_PREFIX}{}", bundled.sha256_hex());
    let path = bin.join(&name);
    if !has_hash(&path, bundled.sha256()).map_err(write)? {
        let temporary = bin.join(format!(".{name}.{}.tmp", std::process::id()));
        let unpacked = unpack_durably(bundled, &temporary, &path);
        if unpacked.is_err() {
            // The first error is the one to act on.
            std::fs::remove_file(&temporary).ok();
        }
        unpacked?;
    }
    for entry in std::fs::read_dir(bin).map_err(write)?.flatten() {
        let other = entry.file_name();
        if other != name.as_str() && other.to_string_lossy().contains(FILE_PREFIX) {
            // Left over from another version. If it cannot be removed it only costs space.
            std::fs::remove_file(entry.path()).ok();
        }
    }
    Ok(Executable::File(path))
}

fn unpack_durably(bundled: &Bundled, temporary: &Path, path: &Path) -> Result<(), UnpackError> {
    let write = |source| UnpackError::Write { source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o700);
    let mut file = options.open(temporary).map_err(write)?;
    bundled.unpack(&file)?;
    file.flush().and_then(|()| file.sync_all()).map_err(write)?;
    // Closed before it is executed: a file open for writing cannot be (ETXTBSY).
    drop(file);
    std::fs::rename(temporary, path).map_err(write)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(write)
}

fn has_hash(path: &Path, expected: &[u8; 32]) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut hash = Sha256::new();
    let mut chunk = vec![0; COPY_CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        match chunk.get(..read).unwrap_or_default() {
            [] => return Ok(hash.finalize().as_slice() == expected),
            bytes => hash.update(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn bundled() -> Bundled {
        Bundled::get().expect("tests need a build with nats-server")
    }

    #[test]
    fn the_memfd_is_sealed_and_runs() {
        let executable = in_memory(&bundled()).unwrap();
        let Executable::Memory(file) = &executable else { panic!("not in memory") };
        let mut writer = file.try_clone().unwrap();
        assert!(writer.write_all(b"x").is_err(), "sealed files take no writes");
        let said = std::process::Command::new(executable.path()).arg("--version").output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(said.contains(bundled().version()), "{said}");
    }

    #[test]
    fn the_fallback_file_is_compared_before_use_and_replaces_other_versions() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        let path = in_directory(&bundled(), &bin).unwrap().path();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(&path, "changed by somebody").unwrap();
        std::fs::write(bin.join("nats-server-0123"), "former version").unwrap();
        let again = in_directory(&bundled(), &bin).unwrap().path();
        assert_eq!(path, again);
        let said = std::process::Command::new(&path).arg("--version").output().unwrap();
        assert!(said.status.success());
        let names: Vec<_> = std::fs::read_dir(&bin).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
