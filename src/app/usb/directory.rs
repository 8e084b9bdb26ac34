//! Directories on a stick, by descriptors: what somebody puts in their place, and links on the stick, change nothing.
//!
//! Names are opened one by one and without following links. openat2(2) would do the same for whole paths, but systemd's
//! `RestrictSUIDSGID=` blocks it, because its flags cannot be checked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, fstat, mkdirat, openat,
    renameat, unlinkat,
};
use rustix::io::Errno;

use crate::limits::STICK_FILE_MAX_BYTES;

/// The group may read: the process that mounts the stick has no other rights on it.
const DIRECTORY_MODE: u32 = 0o750;

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// The one at this path, which is trusted.
    ///
    /// # Errors
    /// The system's error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        match file.metadata()?.is_dir() {
            true => Ok(Self(file.into())),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// A descriptor that this process has open.
    #[must_use]
    pub fn of(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// The descriptor.
    #[must_use]
    pub fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// A path that leads this process, and no other, to this directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// The directory of this name, which is created if there is none.
    ///
    /// # Errors
    /// The system's error; a link of this name is one.
    pub fn create(&self, name: &str) -> io::Result<Self> {
        match mkdirat(&self.0, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Err(error) if error != Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        let directory = self.directory(name)?;
        set_mode(&directory.0, DIRECTORY_MODE)?;
        Ok(directory)
    }

    /// The directory of this name.
    ///
    /// # Errors
    /// The system's error; a link of this name is one.
    pub fn directory(&self, name: &str) -> io::Result<Self> {
        Ok(Self(self.open_beneath(name, OFlags::RDONLY | OFlags::DIRECTORY, 0)?))
    }

    /// Opens what has this name in this directory; a link is an error.
    fn open_beneath(&self, name: &str, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        check_name(name)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::from_raw_mode(mode))?)
    }

    /// The content of a small file, at most [`STICK_FILE_MAX_BYTES`]; what is longer is cut.
    ///
    /// # Errors
    /// The system's error.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = File::from(self.open_beneath(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?);
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = Vec::new();
        file.take(STICK_FILE_MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a file with these permissions, in the place of a former one of the same name, unless that has the same content.
    /// Until it is complete, the name is that of the former one.
    ///
    /// # Errors
    /// The system's error.
    pub fn replace(
        &self,
        name: &str,
        content: &mut (impl Read + Seek),
        mode: u32,
    ) -> io::Result<()> {
        if let Ok(Some(present)) = self.with_content(name, content)
            && set_mode(&present, mode).is_ok()
        {
            return Ok(());
        }
        content.rewind()?;
        let temporary = temporary_name(name);
        self.unlink(&temporary)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(self.open_beneath(&temporary, flags, mode)?);
        let written = io::copy(content, &mut file)
            .and_then(|_| set_mode(&file, mode))
            .and_then(|()| file.sync_all());
        let named = written.and_then(|()| Ok(renameat(&self.0, &temporary, &self.0, name)?));
        if named.is_err() {
            // The next one removes it.
            unlinkat(&self.0, &temporary, AtFlags::empty()).ok();
        }
        named
    }

    /// Removes a file, and what a process that was killed while it replaced it has left. That there is none is fine.
    ///
    /// # Errors
    /// The system's error.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.unlink(&temporary_name(name))?;
        self.unlink(name)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The file of this name, if it has this content.
    fn with_content(&self, name: &str, content: &mut impl Read) -> io::Result<Option<File>> {
        let file = File::from(self.open_beneath(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?);
        let is_it = file.metadata()?.is_file() && has_content(&file, content)?;
        Ok(is_it.then_some(file))
    }

    /// Gives this directory, and what is directly in it and in its directories, to an account. Links are not followed.
    ///
    /// # Errors
    /// The system's error.
    pub fn give(&self, (user, group): (u32, u32), depth: usize) -> io::Result<()> {
        let (owner, owners) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        fchown(&self.0, owner, owners)?;
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            chownat(&self.0, name, owner, owners, AtFlags::SYMLINK_NOFOLLOW)?;
            if depth > 0
                && let Ok(name) = name.to_str()
                && let Ok(directory) = self.directory(name)
            {
                directory.give((user, group), depth - 1)?;
            }
        }
        Ok(())
    }

    /// The names of what is in it, at most `limit` of them, sorted.
    ///
    /// # Errors
    /// The system's error.
    pub fn names(&self, limit: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name.chars().filter(|one| !one.is_control()).collect());
            }
            if names.len() >= limit {
                break;
            }
        }
        names.sort();
        Ok(names)
    }
}

/// What has this name must be directly in a directory.
fn check_name(name: &str) -> io::Result<()> {
    match name.contains('/') || matches!(name, "" | "." | "..") {
        true => Err(io::ErrorKind::InvalidInput.into()),
        false => Ok(()),
    }
}

/// Whether a file has this content.
fn has_content(file: &File, content: &mut impl Read) -> io::Result<bool> {
    let (mut present, mut wanted) = (BufReader::new(file), BufReader::new(content));
    loop {
        let (one, other) = (present.fill_buf()?, wanted.fill_buf()?);
        let length = one.len().min(other.len());
        if length == 0 || one.get(..length) != other.get(..length) {
            return Ok(one.is_empty() && other.is_empty());
        }
        present.consume(length);
        wanted.consume(length);
    }
}

/// The name of a file until it is complete.
fn temporary_name(name: &str) -> String {
    format!(".{name}.partial")
}

/// Gives exactly these permissions, whatever the umask was. FAT and exFAT ignore it.
fn set_mode(file: impl AsFd, mode: u32) -> io::Result<()> {
    match fstat(&file)?.st_mode & 0o777 {
        present if present == mode => Ok(()),
        _ => Ok(fchmod(&file, Mode::from_raw_mode(mode))?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        symlink(outside.path(), folder.path().join("CHATTO")).unwrap();
        symlink(outside.path().join("secret"), folder.path().join("stick.json")).unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        assert!(directory.create("CHATTO").is_err());
        assert!(directory.directory("CHATTO").is_err());
        assert!(directory.directory("..").is_err());
        assert!(directory.read("stick.json").is_err());
        let own = directory.create("S1").unwrap();
        std::fs::write(own.path().join("a"), "b").unwrap();
        assert_eq!(own.read("a").unwrap(), b"b");
        assert_eq!(directory.create("S1").unwrap().read("a").unwrap(), b"b");
        // A link is replaced, not written through.
        directory.replace("stick.json", &mut io::Cursor::new("new"), 0o644).unwrap();
        assert_eq!(directory.read("stick.json").unwrap(), b"new");
        assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
    }

    #[test]
    fn a_file_is_written_if_its_content_differs() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let number = || folder.path().join("file").metadata().unwrap().ino();
        let long = "x".repeat(100_000);
        directory.replace("file", &mut io::Cursor::new(&long), 0o644).unwrap();
        let first = number();
        directory.replace("file", &mut io::Cursor::new(&long), 0o644).unwrap();
        assert_eq!(number(), first);
        for other in [&"x".repeat(99_999), &format!("{long}y"), ""] {
            std::fs::write(folder.path().join(".file.partial"), "left").unwrap();
            directory.replace("file", &mut io::Cursor::new(other), 0o644).unwrap();
            assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), other);
        }
        assert_eq!(directory.names(10).unwrap(), ["file"]);
        std::fs::write(folder.path().join(".file.partial"), "left").unwrap();
        directory.remove("file").unwrap();
        directory.remove("file").unwrap();
        assert!(directory.remove("../file").is_err());
        assert_eq!(directory.names(10).unwrap(), [] as [&str; 0]);
    }

    #[test]
    fn permissions_are_set_again() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mode = |name: &str| path(name).metadata().unwrap().permissions().mode() & 0o777;
        let set = |name: &str| {
            std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o700)).unwrap();
        };
        let directory = Directory::open(folder.path()).unwrap();
        for _ in 0..2 {
            directory.create("bin").unwrap();
            directory.replace("file", &mut io::Cursor::new("same"), 0o666).unwrap();
            assert_eq!((mode("bin"), mode("file")), (0o750, 0o666));
            set("bin");
            set("file");
        }
    }
}
