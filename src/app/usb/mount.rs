//! Mounting a stick for this process and its children only.
//!
//! The mount is attached nowhere (fsopen(2), fsmount(2)): no path leads to it, no other process sees it, and it ends with the last
//! descriptor.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstat, openat, syncfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::device::{BlockDevice, FileSystemKind};
use super::directory::Directory;
use super::error::StickError;

/// Whether the stick may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

/// A mounted stick. [`Self::unmount`] ends it; dropping it does, too, without saying whether all is written.
pub(super) struct Mounted {
    root: Directory,
    /// Closing it ends the mount. It can do nothing else (fsmount(2): as if opened with `O_PATH`).
    _mount: OwnedFd,
}

impl Mounted {
    /// Mounts a device. Where files have no owners, all belong to `owner`, a user and a group.
    ///
    /// # Errors
    /// [`StickError::Mount`], [`StickError::Mounted`], [`StickError::Busy`], [`StickError::LinksFollowed`].
    pub(super) fn new(
        device: &BlockDevice,
        owner: (u32, u32),
        access: Access,
    ) -> Result<Self, StickError> {
        let path = device.path.clone();
        if let Some(mounted) = device.mounted_at() {
            return Err(StickError::Mounted { path, mounted });
        }
        let mounted = mount(&device.path, (device.file_system.kind, owner), access);
        let mounted = mounted.and_then(|mount| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok((Directory::of(openat(&mount, ".", flags, Mode::empty())?), mount))
        });
        let (root, mount) = mounted.map_err(|error| match error {
            Errno::BUSY => StickError::Busy { path: path.clone() },
            Errno::OPNOTSUPP if device.file_system.kind.has_links() => {
                StickError::LinksFollowed { path: path.clone() }
            }
            error => StickError::Mount { path: path.clone(), source: error.into() },
        })?;
        // What was mounted is this device: another may have got its name meanwhile.
        let is_it = fstat(root.descriptor()).is_ok_and(|about| about.st_dev == device.number);
        match is_it {
            true => Ok(Self { root, _mount: mount }),
            false => Err(StickError::Mount { path, source: io::ErrorKind::NotFound.into() }),
        }
    }

    pub(super) fn root(&self) -> &Directory {
        &self.root
    }

    /// Writes everything to the stick and ends the mount. All other descriptors on it must be closed.
    ///
    /// # Errors
    /// What was written last may be lost.
    pub(super) fn unmount(self) -> Result<(), StickError> {
        syncfs(self.root.descriptor()).map_err(|error| StickError::Io(error.into()))
    }
}

/// Mounts a device that is nowhere mounted. No link on it is followed, whoever opens it.
fn mount(
    device: &Path,
    (kind, (user, group)): (FileSystemKind, (u32, u32)),
    access: Access,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind.name(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", device)?;
    if !kind.has_owners() {
        fsconfig_set_string(&context, "uid", user.to_string())?;
        fsconfig_set_string(&context, "gid", group.to_string())?;
        // The group may read: in the sandbox of the unit, root has no more rights than that.
        fsconfig_set_string(&context, "umask", "0027")?;
    }
    if kind == FileSystemKind::Ext4 {
        // The stick's own superblock may say that an error of it is one of the kernel (ext4(5), errors=panic).
        fsconfig_set_string(&context, "errors", "remount-ro")?;
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    if access == Access::ReadOnly {
        fsconfig_set_flag(&context, "ro")?;
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        if kind == FileSystemKind::Ext4 {
            // Without it, mounting would write the journal's changes.
            fsconfig_set_flag(&context, "noload")?;
        }
    }
    fsconfig_create(&context)?;
    let mount = |attributes| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
    match mount(attributes | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW) {
        // Linux before 5.14 does not know the flag. FAT and exFAT have no links.
        Err(Errno::INVAL) if kind.has_links() => Err(Errno::OPNOTSUPP),
        Err(Errno::INVAL) => mount(attributes),
        mounted => mounted,
    }
}
