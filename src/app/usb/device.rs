//! A block device, and what udev knows of its file system.
//!
//! udev has read the file system's superblock in a sandbox of its own (systemd-udevd, `builtin blkid`), so nothing of a stick is
//! parsed here, and none is mounted to find out what it is.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use super::error::StickError;
use crate::app::medium::is_usb;
use crate::limits::{SYSTEM_FACT_MAX_BYTES, UDEV_FACTS_MAX_BYTES};
use crate::runtime::limited_read;
use crate::supervisor::{mount_list, mounts};

/// File systems that a stick may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystemKind {
    Vfat,
    Exfat,
    Ext4,
}

impl FileSystemKind {
    /// The kernel's name, and udev's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::Ext4 => "ext4",
        }
    }

    /// Whether it has symbolic links.
    #[must_use]
    pub fn has_links(self) -> bool {
        self == Self::Ext4
    }

    /// Whether its files have owners.
    #[must_use]
    pub fn has_owners(self) -> bool {
        self == Self::Ext4
    }
}

/// What udev knows of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    pub kind: FileSystemKind,
    pub uuid: String,
    /// Empty if it has none.
    pub label: String,
    pub is_usb: bool,
}

/// A partition, or a disk without partitions.
#[derive(Debug, Clone)]
pub struct BlockDevice {
    pub path: PathBuf,
    /// Of the device itself.
    pub number: u64,
    pub bytes: u64,
    pub file_system: FileSystem,
}

/// Where the system's facts are; tests have others.
struct System<'a> {
    udev: &'a Path,
    sys: &'a Path,
}

impl System<'static> {
    /// This machine's.
    fn own() -> Self {
        System { udev: Path::new("/run/udev/data"), sys: Path::new("/sys") }
    }
}

impl BlockDevice {
    /// Finds out what is at this path, for example `/dev/sda1`.
    ///
    /// # Errors
    /// [`StickError`]
    pub fn find(path: &Path) -> Result<Self, StickError> {
        let failed = |source| StickError::Device { path: path.to_owned(), source };
        let path = path.canonicalize().map_err(failed)?;
        let about = path.metadata().map_err(failed)?;
        if !about.file_type().is_block_device() {
            return Err(StickError::NoDevice { path });
        }
        let number = about.rdev();
        let bytes = System::own().bytes(number).unwrap_or_default();
        let file_system = System::own().file_system(&path, number)?;
        Ok(Self { path, number, bytes, file_system })
    }

    /// Whether the device is still there.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.path.metadata().is_ok_and(|about| about.rdev() == self.number)
    }

    /// Where the device is mounted for all to see.
    #[must_use]
    pub fn mounted_at(&self) -> Option<PathBuf> {
        let number = numbers(self.number);
        let list = mount_list();
        let mut mounts = mounts(&list);
        mounts.find(|mount| mount.device == number).map(|mount| mount.point())
    }
}

fn numbers(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

impl System<'_> {
    /// The size, which sysfs has in sectors of 512 bytes (Documentation/ABI/stable/sysfs-block, `size`).
    fn bytes(&self, device: u64) -> Option<u64> {
        let path = self.sys.join("dev/block").join(numbers(device)).join("size");
        let text = String::from_utf8(limited_read(&path, SYSTEM_FACT_MAX_BYTES).ok()?).ok()?;
        text.trim().parse::<u64>().ok()?.checked_mul(512)
    }

    fn partitions(&self, device: u64) -> Vec<String> {
        let directory = self.sys.join("dev/block").join(numbers(device));
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let partitions = entries.filter(|entry| entry.path().join("partition").exists());
        let mut names: Vec<String> = partitions
            .map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy()))
            .collect();
        names.sort();
        names
    }

    fn file_system(&self, path: &Path, device: u64) -> Result<FileSystem, StickError> {
        let path = path.to_owned();
        let facts =
            limited_read(&self.udev.join(format!("b{}", numbers(device))), UDEV_FACTS_MAX_BYTES);
        let facts = match facts {
            Ok(facts) => String::from_utf8_lossy(&facts).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(StickError::Device { path, source }),
        };
        // The lines of properties begin with `E:` (sd-device, `device_read_db`).
        let fact = |name: &str| {
            let lines = facts.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
            lines.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
        };
        let Some(kind) = fact("ID_FS_TYPE") else {
            return match self.partitions(device) {
                partitions if !partitions.is_empty() => {
                    Err(StickError::WholeDisk { path, partitions })
                }
                _ => Err(StickError::NoFileSystem { path }),
            };
        };
        let kinds = [FileSystemKind::Vfat, FileSystemKind::Exfat, FileSystemKind::Ext4];
        let Some(kind) = kinds.into_iter().find(|one| one.name() == kind) else {
            return Err(StickError::WrongFileSystem { path, found: printable(&kind) });
        };
        let Some(uuid) = fact("ID_FS_UUID").filter(|uuid| !uuid.is_empty()) else {
            return Err(StickError::NoFileSystem { path });
        };
        let label = printable(&fact("ID_FS_LABEL").unwrap_or_default());
        // Of a disk behind a converter from USB to SATA, udev says `ata`.
        let is_usb = fact("ID_BUS").is_some_and(|bus| bus == "usb") || is_usb(self.sys, device);
        Ok(FileSystem { kind, uuid: printable(&uuid), label, is_usb })
    }
}

/// A text of a stick, as it may be shown.
fn printable(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use super::*;

    fn found(facts: Option<&str>, partitions: &[&str]) -> Result<FileSystem, StickError> {
        let folder = tempfile::tempdir().unwrap();
        let (udev, sys) = (folder.path().join("udev"), folder.path().join("sys"));
        create_dir_all(&udev).unwrap();
        let block = sys.join("dev/block/8:16");
        create_dir_all(&block).unwrap();
        write(block.join("size"), "62333952\n").unwrap();
        for name in partitions {
            create_dir_all(block.join(name)).unwrap();
            write(block.join(name).join("partition"), "1\n").unwrap();
        }
        if let Some(facts) = facts {
            write(udev.join("b8:16"), facts).unwrap();
        }
        let system = System { udev: &udev, sys: &sys };
        let device = rustix::fs::makedev(8, 16);
        assert_eq!(system.bytes(device), Some(31_914_983_424));
        system.file_system(Path::new("/dev/sdb"), device)
    }

    #[test]
    fn the_file_system_is_what_udev_says() {
        let facts = "S:disk/by-uuid/ABCD-1234\nE:ID_BUS=usb\nE:ID_FS_TYPE=vfat\nE:ID_FS_UUID=ABCD-1234\n\
                     E:ID_FS_LABEL=CHATTO-BKP\nG:systemd\n";
        let expected = FileSystem {
            kind: FileSystemKind::Vfat,
            uuid: "ABCD-1234".to_owned(),
            label: "CHATTO-BKP".to_owned(),
            is_usb: true,
        };
        assert_eq!(found(Some(facts), &[]).unwrap(), expected);
        let internal = "E:ID_FS_TYPE=ext4\nE:ID_FS_UUID=1-2\nE:ID_FS_LABEL=a\u{1b}[2J\n";
        let internal = found(Some(internal), &[]).unwrap();
        assert_eq!((internal.is_usb, internal.label.as_str()), (false, "a[2J"));
    }

    #[test]
    fn a_disk_behind_a_converter_is_one_of_usb() {
        let folder = tempfile::tempdir().unwrap();
        let (udev, sys) = (folder.path().join("udev"), folder.path().join("sys"));
        create_dir_all(&udev).unwrap();
        create_dir_all(sys.join("dev/block")).unwrap();
        for (minor, bus) in [(16, "usb2/2-1/2-1:1.0/host0"), (32, "ata1/host1")] {
            let place = sys.join("devices/pci0000:00").join(bus).join("block/sdb");
            create_dir_all(&place).unwrap();
            std::os::unix::fs::symlink(&place, sys.join(format!("dev/block/8:{minor}"))).unwrap();
            let facts = "E:ID_BUS=ata\nE:ID_FS_TYPE=ext4\nE:ID_FS_UUID=1-2\n";
            write(udev.join(format!("b8:{minor}")), facts).unwrap();
            let system = System { udev: &udev, sys: &sys };
            let device = rustix::fs::makedev(8, minor);
            let found = system.file_system(Path::new("/dev/sdb"), device).unwrap();
            assert_eq!(found.is_usb, minor == 16);
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let message =
            |facts, partitions: &[&str]| found(facts, partitions).unwrap_err().to_string();
        let disk = message(Some("E:ID_BUS=usb\n"), &["sdb1", "sdb2"]);
        assert!(disk.contains("/dev/sdb1, /dev/sdb2"), "{disk}");
        let none = message(None, &[]);
        assert!(none.contains("mkfs"), "{none}");
        let ntfs = message(Some("E:ID_FS_TYPE=ntfs\nE:ID_FS_UUID=1\n"), &[]);
        assert!(ntfs.contains("is ntfs"), "{ntfs}");
        assert!(message(Some("E:ID_FS_TYPE=vfat\n"), &[]).contains("file system"));
    }
}
