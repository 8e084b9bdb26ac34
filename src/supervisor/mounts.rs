//! The mounted file systems, as the system lists them for this process (proc(5), `/proc/pid/mountinfo`).

use std::path::{Path, PathBuf};

use crate::limits::MOUNT_LIST_MAX_BYTES;
use crate::runtime::limited_read;

/// A mounted file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Its device, as `major:minor`.
    pub device: &'a str,
    /// With escaped spaces.
    point: &'a str,
    /// Its block device by its path, or whatever the file system has instead.
    pub source: &'a str,
    /// Of the file system, not of this mount.
    options: &'a str,
}

/// The list; empty where it cannot be read or is longer than [`MOUNT_LIST_MAX_BYTES`]. Blocks.
#[must_use]
pub fn mount_list() -> String {
    let list = limited_read(Path::new("/proc/self/mountinfo"), MOUNT_LIST_MAX_BYTES);
    String::from_utf8_lossy(&list.unwrap_or_default()).into_owned()
}

/// The entries of a list, in its order.
pub fn mounts(list: &str) -> impl Iterator<Item = Mount<'_>> {
    list.lines().filter_map(Mount::parse)
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // Before the dash is a varying number of fields.
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let (device, point) = (mount.next()?, mount.nth(1)?);
        let mut file_system = file_system.split(' ').skip(1);
        let source = file_system.next().unwrap_or_default();
        let options = file_system.next().unwrap_or_default();
        Some(Self { device, point, source, options })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn point(&self) -> PathBuf {
        self.point.replace("\\040", " ").into()
    }

    /// The options of the file system.
    pub fn options(&self) -> impl Iterator<Item = &'a str> {
        self.options.split(',')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_their_device_place_source_and_options() {
        let list = "\
            21 1 0:19 / / rw - btrfs /dev/sda2 rw,subvol=/root\n\
            no entry\n\
            22 21 8:17 / /media/a\\040b rw,noatime shared:1 master:2 - ext4 /dev/sdb1 ro,emergency_ro\n";
        let found: Vec<Mount<'_>> = mounts(list).collect();
        let [root, media] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((root.device, root.source), ("0:19", "/dev/sda2"));
        assert_eq!(root.point(), Path::new("/"));
        assert_eq!((media.device, media.source), ("8:17", "/dev/sdb1"));
        assert_eq!(media.point(), Path::new("/media/a b"));
        assert_eq!(media.options().collect::<Vec<_>>(), ["ro", "emergency_ro"]);
        assert!(mounts(&mount_list()).any(|mount| mount.point() == Path::new("/")));
    }
}
