//! What the JSON members of an archive say. Fields are only ever added; a reader that must know one refuses the format.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::storage::{ArchivedRecord, StoreVersions};

/// The version of this format.
pub(crate) const FORMAT: u32 = 1;

/// `backup/header.json`: what the archive is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    /// Of the program that wrote it.
    pub program: String,
    pub versions: Versions,
    pub server_id: String,
    /// The epoch of the store, hexadecimal.
    pub epoch: String,
    /// Higher than that of every archive of this store before.
    pub sequence: u64,
    /// The start of the machine; times of one start compare although its clock may be wrong.
    pub boot_id: String,
    /// RFC 3339, as the machine's clock had it.
    pub created_at: String,
    /// Streams that follow, in order.
    pub streams: Vec<String>,
    /// Whose bytes follow: `nats`, `all` or `none`.
    pub assets: String,
    /// Settings of the server that are no secret.
    pub configuration: BTreeMap<String, String>,
}

impl Header {
    /// Whether its texts are such as a program writes: they are printed, and stored.
    pub(super) fn is_plausible(&self) -> bool {
        let is_hex = |digits: &str| {
            digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let is_server = self.server_id.strip_prefix('S').is_some_and(is_hex);
        let texts = [&self.program, &self.epoch, &self.boot_id, &self.created_at, &self.assets];
        is_server
            && self.sequence <= SEQUENCE_MAX
            && texts.into_iter().all(|text| is_printable(text, 128))
            && self.configuration.iter().all(|(name, value)| is_printable_setting(name, value))
    }
}

/// Whether a header may have this setting.
pub(super) fn is_printable_setting(name: &str, value: &str) -> bool {
    is_printable(name, 16 * 1024) && is_printable(value, 16 * 1024)
}

/// So that there are always higher numbers.
pub(crate) const SEQUENCE_MAX: u64 = 1 << 53;

/// Whether a terminal may print it, and it is not longer than `max` bytes.
pub(crate) fn is_printable(text: &str, max: usize) -> bool {
    text.len() <= max && !text.chars().any(char::is_control)
}

/// A text without what a terminal would obey, and without what changes the direction of a line (Unicode, UAX #9). Control
/// characters in `kept` stay.
pub(crate) fn printable(text: impl Iterator<Item = char>, kept: &str) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_bad = |c: char| turns(c) || (c.is_control() && !kept.contains(c));
    text.map(|c| if is_bad(c) { '\u{fffd}' } else { c }).collect()
}

/// The versions of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub layout: u32,
    pub writer: u32,
    pub records: u8,
}

impl From<StoreVersions> for Versions {
    fn from(StoreVersions { layout, writer, records }: StoreVersions) -> Self {
        Self { layout, writer, records }
    }
}

impl Versions {
    /// Whether this program can read such records.
    pub(super) fn are_known(self) -> bool {
        let own = StoreVersions::OWN;
        self.layout <= own.layout && self.writer <= own.writer && self.records <= own.records
    }
}

/// `backup/manifest.json`: what the archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub server_id: String,
    pub sequence: u64,
    /// By bare name, as many as the header announces.
    pub streams: BTreeMap<String, StreamTotals>,
    /// By origin: `nats`, `s3`.
    pub assets: BTreeMap<String, AssetCount>,
    /// Files in S3 whose bytes are not in the archive.
    pub listed_objects: AssetCount,
    pub excluded: Vec<Excluded>,
    /// Files whose bytes were missing at their source, accepted by `--accept-missing`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The parts of the list of members.
    pub parts: Vec<Part>,
}

impl Manifest {
    /// As with [`Header::is_plausible`].
    pub(super) fn is_plausible(&self) -> bool {
        let excluded = self.excluded.iter().flat_map(|one| [&one.stream, &one.reason]);
        let names = self.streams.keys().chain(self.assets.keys());
        excluded.chain(names).chain(&self.missing).all(|text| is_printable(text, 256))
    }
}

/// What was read of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTotals {
    pub records: u64,
    /// Subjects that have a record at the end.
    pub subjects: u64,
}

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetCount {
    pub files: u64,
    pub bytes: u64,
}

impl AssetCount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.files = self.files.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// A stream that is not in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    pub stream: String,
    pub reason: String,
}

/// A part of the list of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub member: String,
    pub size: u64,
    pub sha256: String,
}

/// A line of `backup/manifest/…`: a member, or an object in S3 that is not one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum ManifestLine {
    Member(Part),
    Object(ListedObject),
}

/// A file in S3 whose bytes are not in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedObject {
    /// The key without the prefix.
    pub object: String,
    /// Of the file.
    pub size: u64,
    pub sha256: String,
}

/// A line of `backup/streams/…`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordLine {
    seq: u64,
    time: String,
    subject: String,
    /// Seconds that the record still has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    /// Base64 (RFC 4648).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    data: String,
}

impl From<&ArchivedRecord> for RecordLine {
    fn from(record: &ArchivedRecord) -> Self {
        Self {
            seq: record.sequence,
            time: record.stored_at.clone(),
            subject: record.subject.clone(),
            ttl: record.ttl.map(|ttl| ttl.as_secs()),
            deleted: record.deleted,
            data: STANDARD.encode(&record.data),
        }
    }
}

impl RecordLine {
    /// `None`: the data is not base64.
    pub(super) fn into_record(self) -> Option<ArchivedRecord> {
        Some(ArchivedRecord {
            sequence: self.seq,
            stored_at: self.time,
            subject: self.subject,
            ttl: self.ttl.map(Duration::from_secs),
            deleted: self.deleted,
            data: STANDARD.decode(self.data).ok()?.into(),
        })
    }
}
