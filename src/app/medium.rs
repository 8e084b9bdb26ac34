//! What a backup is written to: whether it is another medium than that of the system, and one that people carry away.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{fstatfs, major, minor};

use crate::limits::SYSTEM_FACT_MAX_BYTES;
use crate::runtime::limited_read;
use crate::supervisor::{mount_list, mounts};

/// What a medium must be.
#[derive(Debug, Clone, Copy, Default)]
pub struct MediumRule {
    /// It must be mounted: neither the file system of `/` nor that of the data directory. Another partition of the same disk
    /// counts as another medium.
    pub require_mount: bool,
    /// An archive that is not encrypted may be written to a removable one.
    pub allow_plaintext: bool,
}

/// The medium is not the right one. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    #[error(
        "no other medium is mounted at {}: that is the file system of / or of the data. Mount the backup medium there", path.display()
    )]
    NotMounted { path: PathBuf },
    #[error(
        "{} is on a medium that everybody can read ({why}); add --encrypt, or --allow-plaintext if that is intended", path.display()
    )]
    Plaintext { path: PathBuf, why: &'static str },
}

impl MediumRule {
    /// Checks where this file would be.
    ///
    /// # Errors
    /// [`MediumError`]
    pub(super) fn check(
        self,
        path: &Path,
        data_dir: &Path,
        is_encrypted: bool,
    ) -> Result<(), MediumError> {
        let place = existing(path);
        let mounts = mount_list();
        let (device, source) = (device(&place), source(&mounts, &place));
        let is_own = [Path::new("/"), data_dir].into_iter().any(|own| {
            let own = existing(own);
            // Subvolumes of one disk have devices of their own, and one source.
            (device.is_some() && device == self::device(&own))
                || (source.is_some() && source == self::source(&mounts, &own))
        });
        let path = path.to_owned();
        if self.require_mount && (is_own || device.is_none()) {
            return Err(MediumError::NotMounted { path });
        }
        if is_encrypted || self.allow_plaintext || is_own {
            return Ok(());
        }
        let removable = device.and_then(|device| removable(Path::new("/sys"), device));
        match removable.or_else(|| without_modes(&place)) {
            Some(why) => Err(MediumError::Plaintext { path, why }),
            None => Ok(()),
        }
    }
}

/// Whether two places are on the same disk or partition; `None` if the system does not say.
pub(super) fn is_same(one: &Path, other: &Path) -> Option<bool> {
    let (one, other) = (existing(one), existing(other));
    let mounts = mount_list();
    let sources = (source(&mounts, &one), source(&mounts, &other));
    Some(device(&one)? == device(&other)? || (sources.0.is_some() && sources.0 == sources.1))
}

/// The path, or the nearest folder above it that exists.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut places = absolute.ancestors();
    let place = places.find(|place| place.exists()).unwrap_or(Path::new("/"));
    place.canonicalize().unwrap_or_else(|_| place.to_owned())
}

fn device(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|about| about.dev())
}

/// The block device, by its path, of the file system on which a place is.
fn source<'a>(list: &'a str, place: &Path) -> Option<&'a str> {
    let above = mounts(list).filter(|mount| place.starts_with(mount.point()));
    // Of two on one place the later one covers the other: of equal ones this takes the last.
    let mount = above.max_by_key(|mount| mount.point().components().count())?;
    Some(mount.source).filter(|source| source.starts_with('/'))
}

/// Whether the kernel knows the device as removable, or it is connected by USB
/// (Documentation/ABI/stable/sysfs-block, `removable`).
fn removable(sys: &Path, device: u64) -> Option<&'static str> {
    if is_usb(sys, device) {
        return Some("it is connected by USB");
    }
    let block = place_of(sys, device)?;
    let disk = if block.join("partition").exists() { block.parent()? } else { &block };
    let flag = limited_read(&disk.join("removable"), SYSTEM_FACT_MAX_BYTES).ok()?;
    flag.starts_with(b"1").then_some("it is removable")
}

/// Where the kernel has a block device in the tree of all devices.
fn place_of(sys: &Path, device: u64) -> Option<PathBuf> {
    sys.join(format!("dev/block/{}:{}", major(device), minor(device))).canonicalize().ok()
}

/// Whether a block device is connected by USB.
pub(super) fn is_usb(sys: &Path, device: u64) -> bool {
    let is_bus = |part: std::path::Component<'_>| {
        part.as_os_str()
            .as_encoded_bytes()
            .strip_prefix(b"usb")
            .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
    };
    place_of(sys, device).is_some_and(|place| place.components().any(is_bus))
}

/// File systems whose files have no owner and no mode (include/uapi/linux/magic.h).
fn without_modes(path: &Path) -> Option<&'static str> {
    let about = File::open(path).and_then(|file| fstatfs(&file).map_err(io::Error::from)).ok()?;
    match about.f_type {
        0x4d44 => Some("FAT has no permissions"),
        0x2011_bab0 => Some("exFAT has no permissions"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree as in `/sys`: a disk with a partition.
    fn sys(folder: &Path, (disk, numbers, flag): (&str, &str, &str)) {
        let partition = folder.join("devices").join(disk).join("sda1");
        create_dir_all(&partition).unwrap();
        create_dir_all(folder.join("dev/block")).unwrap();
        write(partition.join("partition"), "1\n").unwrap();
        write(partition.parent().unwrap().join("removable"), flag).unwrap();
        symlink(&partition, folder.join("dev/block").join(numbers)).unwrap();
    }

    #[test]
    fn sticks_and_card_readers_are_removable_and_disks_are_not() {
        let folder = tempfile::tempdir().unwrap();
        sys(folder.path(), ("pci0000:00/usb1/1-1/block/sda", "8:1", "0\n"));
        sys(folder.path(), ("pci0000:00/ata1/block/sdb", "8:17", "0\n"));
        sys(folder.path(), ("platform/mmc1/block/mmcblk1", "179:1", "1\n"));
        let device = |major, minor| rustix::fs::makedev(major, minor);
        assert!(removable(folder.path(), device(8, 1)).unwrap().contains("USB"));
        assert_eq!(removable(folder.path(), device(8, 17)), None);
        assert!(removable(folder.path(), device(179, 1)).unwrap().contains("removable"));
        assert_eq!(removable(folder.path(), device(9, 9)), None);
    }

    #[test]
    fn the_source_of_a_place_is_that_of_the_deepest_mount() {
        let mounts = "\
            21 1 0:19 / / rw - btrfs /dev/sda2 rw,subvol=/root\n\
            22 21 0:19 /srv /srv rw shared:1 - btrfs /dev/sda2 rw,subvol=/srv\n\
            23 21 0:30 / /srv/a\\040b rw - tmpfs tmpfs rw\n\
            24 21 8:17 / /media rw - ext4 /dev/sdb1 rw\n\
            25 21 8:33 / /media rw - ext4 /dev/sdc1 rw\n\
            no line\n";
        let source = |place: &str| source(mounts, Path::new(place));
        assert_eq!(source("/var"), Some("/dev/sda2"));
        assert_eq!(source("/srv/me"), Some("/dev/sda2"));
        assert_eq!(source("/srv/a b/c"), None);
        assert_eq!(source("/media/x"), Some("/dev/sdc1"));
        assert_eq!(source("/mediax"), Some("/dev/sda2"));
    }

    #[test]
    fn a_folder_of_the_system_is_not_a_mounted_medium() {
        let rule = MediumRule { require_mount: true, allow_plaintext: false };
        let data = Path::new("/");
        let absent = rule.check(Path::new("/no such folder/below/daily.tar.gz"), data, true);
        assert!(matches!(absent, Err(MediumError::NotMounted { .. })), "{absent:?}");
        // Mounted everywhere, and on no disk.
        rule.check(Path::new("/proc/daily.tar.gz"), data, false).unwrap();
        // The disk of the data is none that data is copied to.
        let own = rule.check(Path::new("/proc/daily.tar.gz"), Path::new("/proc/1"), true);
        assert!(matches!(own, Err(MediumError::NotMounted { .. })), "{own:?}");
        MediumRule::default().check(Path::new("/daily.tar.gz"), data, false).unwrap();
    }
}
