//! Backups to a paired memory stick.
//!
//! A process of root finds out whether the stick is a paired one, and mounts it where no other process sees it ([`run`]). A
//! second process, which has the rights of the service only, reads and writes on the stick ([`worker`]): what is on a stick may
//! be hostile. The two talk in lines of JSON ([`message`]). `chatto usb pair` makes a stick a paired one ([`pair`]).

mod clock;
mod device;
mod direct;
mod directory;
mod error;
mod message;
mod mount;
mod pair;
mod run;
mod space;
mod text;
mod worker;

pub use device::{BlockDevice, FileSystem, FileSystemKind};
pub use directory::Directory;
pub use error::StickError;
pub use pair::{Candidate, Pairing, Programs, label, pair};
pub use run::{StickBackup, StickEvent, StickRun, run};
pub use space::prepare;
pub use worker::{WORKER_ARGUMENT, run as run_worker};

/// The directory of everything that is ours on a stick.
const CHATTO: &str = "CHATTO";
/// The label by which udev recognises sticks that may be paired. A label can be forged, so it decides nothing else.
pub const LABEL: &str = "CHATTO-BKP";

/// The name of the program for an architecture, in the directory `bin` of a stick.
fn program_name(architecture: &str) -> String {
    format!("chatto-{architecture}")
}
