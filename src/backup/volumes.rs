//! The files of an archive: one, or on file systems that limit the size of a file several volumes, `NAME.001`, `NAME.002`, …
//! Joined in this order they are the archive, so `cat NAME.* | age -d | tar xz` opens it without this program.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::fstatfs;

use super::target::{TargetFile, directory};
use crate::limits::{FAT_VOLUME_BYTES, VOLUMES_MAX};

/// The magic number of FAT (include/uapi/linux/magic.h, `MSDOS_SUPER_MAGIC`). A file there has at most 4 GiB less one byte.
const FAT: i64 = 0x4d44;

/// The path of a volume; the first has the number 1.
#[must_use]
pub fn volume_path(archive: &Path, number: usize) -> PathBuf {
    let mut name = OsString::from(archive.file_name().unwrap_or_default());
    name.push(format!(".{number:03}"));
    archive.with_file_name(name)
}

/// The path of the archive to which a file with the name of a volume belongs, and the number of the volume.
#[must_use]
pub fn volume_of(path: &Path) -> Option<(PathBuf, usize)> {
    let (name, number) = split_volume(path.file_name()?.to_str()?)?;
    Some((path.with_file_name(name), number))
}

/// The name of an archive and the number of its volume.
#[must_use]
pub fn split_volume(name: &str) -> Option<(&str, usize)> {
    let (archive, digits) = name.rsplit_once('.')?;
    let is_number = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| is_number && *number > 0)?;
    Some((archive, number))
}

/// The path of an archive that is named by itself or by its first volume.
#[must_use]
pub fn archive_path(path: &Path) -> PathBuf {
    match volume_of(path) {
        Some((archive, 1)) if !archive.exists() => archive,
        _ => path.to_owned(),
    }
}

/// The files of the archive at `path`, or whose first volume is at `path`, in their order.
///
/// # Errors
/// The system's error; `NotFound` if a volume is missing between two others, `InvalidInput` for another volume than the first.
pub fn archive_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if let Some((archive, number @ 2..)) = volume_of(path) {
        let first = volume_path(&archive, 1);
        if first.exists() {
            let why = format!(
                "it is volume {number} of an archive; name the first one, {}",
                first.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    }
    let archive = archive_path(path);
    let count = volume_count(&archive)?;
    if archive.symlink_metadata().is_ok() || count == 0 {
        return Ok(vec![archive]);
    }
    let volumes: Vec<PathBuf> = (1..=count).map(|number| volume_path(&archive, number)).collect();
    match volumes.iter().find(|volume| volume.symlink_metadata().is_err()) {
        None => Ok(volumes),
        Some(missing) => {
            let why = format!("the volume {} is missing", missing.display());
            Err(io::Error::new(io::ErrorKind::NotFound, why))
        }
    }
}

/// The highest number of a volume of this archive in its directory; 0: it has none.
fn volume_count(archive: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(directory(archive))? {
        let name = entry?.file_name();
        let Some((of, number)) = name.to_str().and_then(split_volume) else { continue };
        if Some(of) == archive.file_name().and_then(|name| name.to_str()) {
            count = count.max(number);
        }
    }
    Ok(count)
}

/// Reads files as one.
pub struct JoinedFiles(VecDeque<File>);

impl JoinedFiles {
    /// From the beginning of the first to the end of the last. The files share their positions with `files`.
    ///
    /// # Errors
    /// The system's error.
    pub fn new(files: &[File]) -> io::Result<Self> {
        let copies = files.iter().map(|file| {
            let mut file = file.try_clone()?;
            file.rewind()?;
            Ok(file)
        });
        copies.collect::<io::Result<_>>().map(Self)
    }
}

impl Read for JoinedFiles {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(file) = self.0.front_mut() {
            let count = file.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.0.pop_front();
        }
        Ok(0)
    }
}

/// Size and SHA-256 of a file that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenFile {
    pub bytes: u64,
    pub sha256: [u8; 32],
}

/// An archive that is being written. Dropped before [`Self::commit`] it leaves nothing behind.
pub struct TargetArchive {
    /// Links followed.
    path: PathBuf,
    volume_bytes: Option<u64>,
    complete: Vec<TargetFile>,
    current: TargetFile,
}

impl TargetArchive {
    /// Into this file; into volumes where the file system needs them.
    ///
    /// # Errors
    /// The system's error.
    pub fn new(file: TargetFile) -> io::Result<Self> {
        let file_system = fstatfs(File::open(directory(file.path()))?)?;
        let is_fat = file_system.f_type == FAT;
        Ok(Self::with_volumes(file, is_fat.then_some(FAT_VOLUME_BYTES)))
    }

    /// Into volumes of at most `volume_bytes`, which must be above 0; `None`: into one file of any size.
    #[must_use]
    pub fn with_volumes(file: TargetFile, volume_bytes: Option<u64>) -> Self {
        Self { path: file.path().to_owned(), volume_bytes, complete: Vec::new(), current: file }
    }

    /// The path of the archive, links followed. Volumes have a number after it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is on the file system of the store.
    #[must_use]
    pub fn is_beside_store(&self) -> bool {
        self.complete.first().unwrap_or(&self.current).is_beside_store()
    }

    /// What was written so far, by files.
    #[must_use]
    pub fn files(&self) -> Vec<WrittenFile> {
        let files = self.complete.iter().chain([&self.current]);
        files.map(|file| WrittenFile { bytes: file.written(), sha256: file.sha256() }).collect()
    }

    /// Gives the complete files their names, the first one last: if it is there, all are. What an archive of the same name had
    /// in other files is removed.
    ///
    /// # Errors
    /// The system's error. A former archive in one file is unchanged; of one in volumes some may be replaced.
    pub fn commit(self) -> io::Result<()> {
        let count = if self.complete.is_empty() { 0 } else { self.complete.len() + 1 };
        let former = volume_count(&self.path)?;
        self.current.commit()?;
        for volume in self.complete.into_iter().rev() {
            volume.commit()?;
        }
        if count > 0 && self.path.symlink_metadata().is_ok() {
            std::fs::remove_file(&self.path)?;
        }
        for number in count.saturating_add(1)..=former {
            match std::fs::remove_file(volume_path(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn begin_volume(&mut self) -> io::Result<()> {
        if self.complete.is_empty() {
            self.current.rename(&volume_path(&self.path, 1))?;
        }
        let number = self.complete.len().saturating_add(2);
        if number > VOLUMES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let next = self.current.create_beside(&volume_path(&self.path, number))?;
        self.complete.push(std::mem::replace(&mut self.current, next));
        Ok(())
    }
}

impl Write for TargetArchive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(volume_bytes) = self.volume_bytes else { return self.current.write(bytes) };
        if self.current.written() >= volume_bytes && !bytes.is_empty() {
            self.begin_volume()?;
        }
        let room = volume_bytes.saturating_sub(self.current.written());
        let length = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.current.write(bytes.split_at(length).0)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.current.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(path: &Path, text: &str, volume_bytes: Option<u64>) -> Vec<u64> {
        let file = TargetFile::create(path, None).unwrap();
        let mut target = TargetArchive::with_volumes(file, volume_bytes);
        target.write_all(text.as_bytes()).unwrap();
        let sizes = target.files().iter().map(|file| file.bytes).collect();
        target.commit().unwrap();
        sizes
    }

    fn read(path: &Path) -> String {
        let files = archive_files(path).unwrap();
        let files: Vec<File> = files.iter().map(|path| File::open(path).unwrap()).collect();
        let mut text = String::new();
        JoinedFiles::new(&files).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn volumes_are_filled_and_joined() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.gz.age");
        assert_eq!(write(&path, "0123456789", Some(4)), [4, 4, 2]);
        assert_eq!(
            names(folder.path()),
            ["a.tar.gz.age.001", "a.tar.gz.age.002", "a.tar.gz.age.003"]
        );
        assert_eq!(read(&path), "0123456789");
        assert_eq!(read(&volume_path(&path, 1)), "0123456789");
        let other = archive_files(&volume_path(&path, 2)).unwrap_err();
        assert!(other.to_string().contains("a.tar.gz.age.001"), "{other}");
        std::fs::remove_file(volume_path(&path, 2)).unwrap();
        let missing = archive_files(&path).unwrap_err();
        assert!(missing.to_string().contains("a.tar.gz.age.002 is missing"), "{missing}");
        // Exactly full: no empty volume follows.
        assert_eq!(write(&folder.path().join("b"), "01234567", Some(4)), [4, 4]);
        assert_eq!(write(&folder.path().join("c"), "0123", Some(4)), [4]);
        assert!(folder.path().join("c").exists());
    }

    #[test]
    fn an_archive_replaces_one_in_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daily");
        write(&path, "in one file", None);
        write(&path, "0123456789", Some(4));
        assert_eq!(names(folder.path()), ["daily.001", "daily.002", "daily.003"]);
        write(&path, "01234", Some(4));
        assert_eq!(names(folder.path()), ["daily.001", "daily.002"]);
        write(&path, "in one file again", None);
        assert_eq!(names(folder.path()), ["daily"]);
        assert_eq!(read(&path), "in one file again");
    }

    #[test]
    fn an_archive_that_was_not_completed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = TargetFile::create(&folder.path().join("a"), None).unwrap();
        let mut target = TargetArchive::with_volumes(file, Some(4));
        assert_eq!(names(folder.path()), [".a.partial"]);
        target.write_all(b"0123456789").unwrap();
        assert_eq!(names(folder.path()), [".a.001.partial", ".a.002.partial", ".a.003.partial"]);
        drop(target);
        assert_eq!(names(folder.path()), [""; 0]);
    }
}
