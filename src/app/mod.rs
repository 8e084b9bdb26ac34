//! Builds the parts of the program from the settings, runs them and stops them in order.
//!
//! Start order: data-directory lock, secrets, nats-server, store, service, then the edges. Stop
//! order: refuse new work, finish requests, close the edges, store pending writes, stop nats-server. It
//! prints nothing: what a person must see goes through [`Events`].

mod archive_file;
mod backup;
#[cfg(feature = "test-support")]
mod bootstrap;
mod check_objects;
mod doctor;
mod error;
mod keys;
mod medium;
mod offline;
mod open_files;
pub mod operations;
mod parts;
mod port_holder;
mod reach;
mod readiness;
mod register;
mod restore;
mod restore_test;
mod server;
mod status;
mod store;
mod swap;
mod throwaway;
pub mod usb;

pub use archive_file::{ArchiveFile, Verified, verify_archive, verify_contents};
pub use backup::{
    BackupError, BackupReport, BackupRequest, BackupTarget, backup, backup_configuration,
};
pub use check_objects::{ObjectsChecked, WrongObject, check_objects};
pub use doctor::{Check, Extent, Verdict, doctor};
pub use error::{AppError, catalogue_exit, io_exit, unwritable_exit};
pub use keys::{KeyImportMode, KeysAdded, KeysError, KeysExported, export_keys, import_keys};
pub use medium::{MediumError, MediumRule};
pub use offline::with_operations;
pub use readiness::{Readiness, Reason};
pub use restore::{ConflictRule, RestoreFailure, RestoreReport, RestoreRequest, Stage, restore};
pub use restore_test::{
    ArchivedRoom, ExtractedRoom, RestoreTestError, RestoreTested, RoomsRequest, TestStage,
    extract_rooms, restore_test,
};
pub use server::{Events, run};
