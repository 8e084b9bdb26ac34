//! Directories on a stick, by descriptors: what somebody puts in their place, and links on the stick, change nothing.
//!
//! Names are opened one by one and without following links. openat2(2) would do the same for whole paths, but systemd's
//! `RestrictSUIDSGID=` blocks it, because its flags cannot be checked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, Gid, Mode, OFlags, Uid, chownat, fchown, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::Errno;

use crate::limits::STICK_FILE_MAX_BYTES;

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

    /// The directory of this name, which is created if there is none. Its group may read it: the process that mounts the stick
    /// has no other rights on it.
    ///
    /// # Errors
    /// The system's error; a link of this name is one.
    pub fn create(&self, name: &str) -> io::Result<Self> {
        match mkdirat(&self.0, name, Mode::from_raw_mode(0o750)) {
            Err(error) if error != Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        self.directory(name)
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
        if name.contains('/') || matches!(name, "" | "." | "..") {
            return Err(io::ErrorKind::InvalidInput.into());
        }
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
        if self.has(name, content).unwrap_or(false) {
            return Ok(());
        }
        content.rewind()?;
        let temporary = format!(".{name}.partial");
        match unlinkat(&self.0, &temporary, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => return Err(error.into()),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(self.open_beneath(&temporary, flags, mode)?);
        let written = io::copy(content, &mut file).and_then(|_| file.sync_all());
        let named = written.and_then(|()| Ok(renameat(&self.0, &temporary, &self.0, name)?));
        if named.is_err() {
            // The next one removes it.
            unlinkat(&self.0, &temporary, AtFlags::empty()).ok();
        }
        named
    }

    /// Whether the file of this name has this content.
    fn has(&self, name: &str, content: &mut impl Read) -> io::Result<bool> {
        let file = File::from(self.open_beneath(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?);
        if !file.metadata()?.is_file() {
            return Ok(false);
        }
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
    }
}
