//! Pairing: a stick gets an id, and this machine notes it. Only a paired stick is ever written to by itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{Stick, Sticks, is_stick_id};
use crate::crypto::{hex, random};
use crate::limits::STICK_NAMES_SHOWN;
use crate::observe::rfc3339;
use crate::runtime::Clock;
use crate::supervisor::run_system_program;

use super::device::{BlockDevice, FileSystemKind};
use super::directory::Directory;
use super::error::StickError;
use super::mount::{Access, Mounted};
use super::text::README;
use super::{CHATTO, LABEL, program_name};

/// The file that identifies a stick.
const FILE: &str = "stick.json";

/// What `stick.json` has.
#[derive(Serialize, Deserialize)]
struct Identity {
    schema: u32,
    id: String,
}

/// A stick that may be paired.
#[derive(Debug)]
pub struct Candidate {
    pub device: BlockDevice,
    /// Names of what is on it, not all if there are many.
    pub content: Vec<String>,
    /// It was paired before, with this machine or another.
    pub id: Option<String>,
}

/// What pairing is told.
pub struct Pairing {
    pub name: String,
    pub with_keys: bool,
    pub programs: Programs,
    /// User and group of the service.
    pub owner: (u32, u32),
}

/// The programs that go onto a stick, open.
pub struct Programs(Vec<(String, File)>);

impl Programs {
    /// This program, and the one at a path if it is that of another architecture.
    ///
    /// # Errors
    /// [`StickError::Device`]
    pub fn open(other: Option<&Path>) -> Result<Self, StickError> {
        let own = open("/proc/self/exe".as_ref())?;
        let mut programs = vec![(program_name(std::env::consts::ARCH), own)];
        if let Some(path) = other {
            let mut file = open(path)?;
            let failed = |source| StickError::Device { path: path.to_owned(), source };
            let architecture = architecture(&mut file).map_err(failed)?;
            if architecture != std::env::consts::ARCH {
                programs.push((program_name(architecture), file));
            }
        }
        Ok(Self(programs))
    }
}

impl Candidate {
    /// Looks at a stick. Nothing is written.
    ///
    /// # Errors
    /// [`StickError`]
    pub fn find(path: &Path) -> Result<Self, StickError> {
        let device = BlockDevice::find(path)?;
        if !device.file_system.is_usb {
            return Err(StickError::NotUsb { path: device.path });
        }
        let mounted = Mounted::new(&device, (0, 0), Access::ReadOnly)?;
        let content = mounted.root().names(STICK_NAMES_SHOWN).map_err(StickError::Io)?;
        // Pairing replaces one that cannot be read.
        let id = read_id(mounted.root()).ok().flatten();
        Ok(Self { device, content, id })
    }
}

/// The id of a mounted stick; `None`: it has none.
///
/// # Errors
/// The system's error, or `InvalidData`: there is one, and it cannot be read.
pub(super) fn read_id(root: &Directory) -> io::Result<Option<String>> {
    match root.directory(CHATTO).and_then(|chatto| chatto.read(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => match serde_json::from_slice::<Identity>(&bytes) {
            Ok(Identity { id, .. }) if is_stick_id(&id) => Ok(Some(id)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "stick.json is damaged")),
        },
    }
}

/// Prepares a stick and notes it. A stick that was paired keeps its id and what is on it.
///
/// # Errors
/// [`StickError`]
pub fn pair(
    candidate: &Candidate,
    pairing: Pairing,
    sticks: &mut Sticks,
) -> Result<Stick, StickError> {
    let device = &candidate.device;
    let id = match &candidate.id {
        Some(id) => id.clone(),
        None => hex(&random::<16>()),
    };
    let mounted =
        Mounted::new(device, pairing.owner, Access::ReadWrite).map_err(|error| match error {
            StickError::Mount { source, .. } if is_read_only(&source) => {
                StickError::ReadOnly { name: device.path.display().to_string() }
            }
            error => error,
        })?;
    prepare(mounted.root(), &id, pairing.programs).map_err(StickError::Io)?;
    if device.file_system.kind.has_owners() {
        let chatto = mounted.root().directory(CHATTO).map_err(StickError::Io)?;
        chatto.give(pairing.owner, 1).map_err(StickError::Io)?;
    }
    mounted.unmount()?;
    let stick = Stick {
        name: pairing.name,
        id,
        uuid: device.file_system.uuid.clone(),
        with_keys: pairing.with_keys,
        paired_at: rfc3339(Clock::system().unix_ms()),
    };
    sticks.add(stick.clone())?;
    Ok(stick)
}

/// Whether an error says that a stick is read-only.
pub(super) fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn open(path: &Path) -> Result<File, StickError> {
    File::open(path).map_err(|source| StickError::Device { path: path.to_owned(), source })
}

fn prepare(root: &Directory, id: &str, Programs(programs): Programs) -> io::Result<()> {
    let chatto = root.create(CHATTO)?;
    let identity = serde_json::to_vec(&Identity { schema: 1, id: id.to_owned() })?;
    chatto.replace(FILE, &mut Cursor::new(identity), 0o644)?;
    chatto.replace("README.txt", &mut Cursor::new(README), 0o644)?;
    let bin = chatto.create("bin")?;
    programs.into_iter().try_for_each(|(name, mut file)| bin.replace(&name, &mut file, 0o755))
}

/// The architecture of an executable (elf(5): class 2 is 64 bits; `e_machine` 62 is x86_64, 183 AArch64).
fn architecture(file: &mut File) -> io::Result<&'static str> {
    let mut head = [0; 20];
    let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if file.metadata()?.is_dir() || file.read_exact(&mut head).is_err() {
        return refuse("it is not a program");
    }
    file.rewind()?;
    match (head.get(..5), head.get(18..20)) {
        (Some([0x7f, b'E', b'L', b'F', 2]), Some([62, 0])) => Ok("x86_64"),
        (Some([0x7f, b'E', b'L', b'F', 2]), Some([183, 0])) => Ok("aarch64"),
        _ => refuse("it is not a program for x86_64 or aarch64"),
    }
}

/// Gives a file system the label by which udev recognises sticks, with the tool of the file system.
///
/// # Errors
/// What to do by hand.
pub fn label(device: &BlockDevice) -> Result<(), String> {
    let path = device.path.as_os_str();
    let label = OsStr::new(LABEL);
    let (program, package) = match device.file_system.kind {
        FileSystemKind::Vfat => ("fatlabel", "dosfstools"),
        FileSystemKind::Exfat => ("exfatlabel", "exfatprogs"),
        FileSystemKind::Ext4 => ("e2label", "e2fsprogs"),
    };
    let command = format!("sudo {program} {} {LABEL}", device.path.display());
    match run_system_program(program, &[path, label]) {
        Ok(Some(Ok(()))) => Ok(()),
        Ok(Some(Err(why))) => Err(format!("{program} failed: {why}; try `{command}`")),
        Ok(None) => Err(format!("{program} is missing; install {package}, then run `{command}`")),
        Err(error) => Err(format!("{program} cannot be run ({error}); try `{command}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_cannot_be_read_is_not_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = Directory::open(folder.path()).unwrap();
        assert_eq!(read_id(&root).unwrap(), None);
        let chatto = root.create(CHATTO).unwrap();
        assert_eq!(read_id(&root).unwrap(), None);
        let id = "0123456789abcdef0123456789abcdef";
        prepare(&root, id, Programs(Vec::new())).unwrap();
        assert_eq!(read_id(&root).unwrap().as_deref(), Some(id));
        for damaged in ["", "{\"schema\":1,\"id\":\"x\"}"] {
            std::fs::write(chatto.path().join(FILE), damaged).unwrap();
            assert_eq!(read_id(&root).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn only_programs_for_64_bit_boards_and_pcs_go_onto_a_stick() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let of = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            architecture(&mut File::open(&path).unwrap())
        };
        let elf = |class, machine| {
            let mut head = vec![0x7f, b'E', b'L', b'F', class];
            head.resize(18, 0);
            head.extend([machine, 0]);
            head
        };
        assert_eq!(of(&elf(2, 62)).unwrap(), "x86_64");
        assert_eq!(of(&elf(2, 183)).unwrap(), "aarch64");
        assert!(of(&elf(1, 40)).unwrap_err().to_string().contains("x86_64 or aarch64"));
        assert!(of(b"#!/bin/sh\n").is_err());
        let own = architecture(&mut File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!(own, std::env::consts::ARCH);
    }
}
