//! The archive: a tar inside gzip, and inside age if it is encrypted.
//!
//! All members lie under `backup/`, in this order, each group once, the members of a group with ascending numbers:
//! `header.json`, `README.txt`, `streams/NAME/000001.jsonl` …, `assets/nats/00000001-ID` …, `assets/s3/00000001-ID` …,
//! `manifest/000001.jsonl` … with the size and SHA-256 of every member before, `manifest.json` with counts and the
//! hashes of those parts. Nothing else is in it, and the manifest is last: an archive without it is not complete.

mod format;
mod gzip;
mod name;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use format::printable;
pub use format::{
    AssetCount, Excluded, Header, ListedObject, Manifest, Part, StreamTotals, Versions,
};
pub(super) use format::{FORMAT, SEQUENCE_MAX, is_printable};
pub use name::{AssetOrigin, MemberName};
pub use reader::{ArchiveError, ArchiveReader, Item};
pub use writer::ArchiveWriter;
