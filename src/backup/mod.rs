//! Backups: the archive and how it is made, checked and restored.

pub mod archive;
pub mod create;
pub mod restore;
pub mod target;
