//! Backups: the archive and how it is made, checked and restored, and the export of keys.

pub mod archive;
pub mod catalogue;
pub mod contents;
pub mod create;
pub mod extract;
pub mod folder;
pub mod keys;
pub mod restore;
pub mod retention;
pub mod target;
pub mod transcript;
pub mod volumes;
