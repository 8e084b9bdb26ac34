//! What `doctor` asks: who holds the data directory, and whether programs can be executed from memory. Nothing is
//! changed, not even the lock for a moment: a server that starts at the same time does not notice.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access, major, minor};

use super::datadir::{Holder, Role, read_pid_file};
use super::executable::create_memfd;
use super::mounts::{mount_list, mounts};
use super::process::ProcessIdentity;
use crate::limits::PROC_FILE_MAX_BYTES;
use crate::runtime::limited_read;

/// Who holds the lock of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// Nobody.
    Free,
    Server {
        pid: i32,
    },
    Command {
        /// As typed, for example `backup`.
        command: String,
        pid: i32,
    },
    /// A nats-server whose chatto has ended.
    Orphan {
        /// Its process, when known.
        pid: Option<i32>,
    },
}

/// Who holds the lock of this directory.
///
/// # Errors
/// The system's error: there is no lock file, or this account may not read it.
pub fn lock_state(data_dir: &Path) -> io::Result<LockState> {
    let mut file = File::open(data_dir.join("lock"))?;
    let about = file.metadata()?;
    let holder = Holder::read(&mut file);
    let locks = limited_read(Path::new("/proc/locks"), PROC_FILE_MAX_BYTES)?;
    let holder_pid = holder.as_ref().map(|holder| holder.process.pid());
    let devices = [Some((major(about.dev()), minor(about.dev()))), mount_device(data_dir)];
    let is_held = String::from_utf8_lossy(&locks).lines().any(|line| {
        Lock::parse(line).is_some_and(|lock| lock.is_of(&devices, about.ino(), holder_pid))
    });
    Ok(match holder {
        _ if !is_held => LockState::Free,
        Some(Holder { role, process }) if process.is_alive() => match role {
            Role::Server => LockState::Server { pid: process.pid() },
            Role::Offline { command } => LockState::Command { command, pid: process.pid() },
        },
        _ => {
            let child = read_pid_file(data_dir).filter(ProcessIdentity::is_alive);
            LockState::Orphan { pid: child.map(|child| child.pid()) }
        }
    })
}

/// The device of the file system: btrfs and overlay have another one for each file.
fn mount_device(directory: &Path) -> Option<(u32, u32)> {
    let directory = directory.canonicalize().ok()?;
    let list = mount_list();
    let above = mounts(&list).filter(|mount| directory.starts_with(mount.point()));
    let mount = above.max_by_key(|mount| mount.point().components().count())?;
    let (major, minor) = mount.device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A line of `/proc/locks` (proc_locks(5)): `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`.
struct Lock<'a> {
    pid: i32,
    /// Major and minor number of the device in hexadecimal.
    device: &'a str,
    inode: u64,
}

impl<'a> Lock<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        // `->` marks one that waits.
        if words.next()? != "FLOCK" {
            return None;
        }
        let pid = words.nth(2)?.parse().ok()?;
        let (device, inode) = words.next()?.rsplit_once(':')?;
        Some(Self { pid, device, inode: inode.parse().ok()? })
    }

    /// Where the system shows no device, the process counts that wrote the file.
    fn is_of(&self, devices: &[Option<(u32, u32)>], inode: u64, holder: Option<i32>) -> bool {
        let same_device = devices
            .iter()
            .flatten()
            .any(|(major, minor)| self.device == format!("{major:02x}:{minor:02x}"));
        self.inode == inode && (same_device || Some(self.pid) == holder)
    }
}

/// Whether this system lets programs be executed from memory, as nats-server is.
///
/// # Errors
/// The system's error: where `vm.memfd_noexec` or SELinux forbids it.
pub fn can_execute_memory() -> io::Result<()> {
    let memory = create_memfd()?;
    access(format!("/proc/self/fd/{}", memory.as_raw_fd()), Access::EXEC_OK)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::datadir::DataDir;
    use super::*;
    use crate::runtime::Clock;

    #[test]
    fn a_lock_is_seen_while_it_is_held_and_not_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        assert!(lock_state(dir.path()).is_err());
        let role = Role::Offline { command: "backup".to_owned() };
        let clock = Clock::system();
        let locked = smol::block_on(DataDir::lock(dir.path(), role, &clock, |_| {})).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let held = LockState::Command { command: "backup".to_owned(), pid };
        assert_eq!(lock_state(dir.path()).unwrap(), held);
        // Its holder has ended, and a child still has the descriptor.
        let text = format!("server\npid {}\nticks 1\nstarted 1\n", i32::MAX);
        std::fs::write(dir.path().join("lock"), text).unwrap();
        assert_eq!(lock_state(dir.path()).unwrap(), LockState::Orphan { pid: None });
        drop(locked);
        assert_eq!(lock_state(dir.path()).unwrap(), LockState::Free);
    }

    #[test]
    fn only_locks_of_whole_files_count() {
        let line = "12: FLOCK  ADVISORY  WRITE 77 b3:02:4711 0 EOF";
        let lock = Lock::parse(line).unwrap();
        let on = |major, minor| [Some((major, minor)), None];
        assert!(lock.is_of(&on(0xb3, 2), 4711, None));
        assert!(!lock.is_of(&on(0xb3, 3), 4711, None));
        assert!(lock.is_of(&on(0, 3), 4711, Some(77)), "the process that wrote the file");
        assert!(!lock.is_of(&on(0xb3, 2), 4712, Some(77)));
        for other in
            ["1: POSIX  ADVISORY  WRITE 77 b3:02:4711 0 EOF", "1: -> FLOCK  A W 1 a:b:1", ""]
        {
            assert!(Lock::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn this_system_executes_from_memory() {
        can_execute_memory().unwrap();
    }
}
