//! Reading an archive. Everything in it is hostile until it is checked: order, names, kinds and sizes of members, records,
//! hashes, counts, and that nothing follows. Memory is bounded by a member of records and some bytes for each file,
//! member and subject.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufRead as _, BufReader, Read};

use flate2::read::MultiGzDecoder;
use tar::{EntryType, Header as TarHeader};

use super::format::{
    AssetCount, FORMAT, Header, ListedObject, Manifest, ManifestLine, Part, RecordLine,
    StreamTotals, printable,
};
use super::name::{AssetOrigin, MemberName};
use super::writer::{BLOCK, padding};
use crate::backup::keys::is_key_export;
use crate::crypto::age::AgeError;
use crate::crypto::{Sha256State, hex};
use crate::domain::{AssetId, File, FileLocation};
use crate::limits::{
    ARCHIVE_FILES_MAX, ARCHIVE_MANIFEST_MAX_BYTES, ARCHIVE_MAX_BYTES, ARCHIVE_MEMBER_MAX_BYTES,
    ARCHIVE_MEMBERS_MAX, ARCHIVE_PART_MAX_BYTES, ARCHIVE_PARTS_MAX, ARCHIVE_SUBJECTS_MAX,
    ARCHIVE_TEXT_MAX_BYTES, COPY_CHUNK_BYTES,
};
use crate::observe::chain;
use crate::storage::{ArchivedRecord, ArchivedStream, StorageError, check_archived};

/// An archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file or its disk.
    #[error("the backup cannot be read")]
    Io(#[source] io::Error),
    #[error("this is not a backup of a Chatto server")]
    Foreign,
    #[error("this is a key export, not a backup; `chatto keys import FILE` imports it")]
    KeyExport,
    /// It was cut off, or is still being written.
    #[error("the backup ends too early: it is not complete")]
    Truncated,
    #[error("the backup was made by a newer program ({program}); use that version or a newer one")]
    Newer { program: String },
    /// Damaged, or not made by this program.
    #[error("the backup is damaged: {what}")]
    Damaged { what: String },
    /// What encrypts it is damaged: whoever knows the passphrase has the right file.
    #[error("the backup is damaged")]
    Sealed(#[source] io::Error),
    /// It has other content than when it was checked.
    #[error("the backup was changed while it was read; try again when nothing writes to it")]
    Changed,
    /// A record in it cannot be read.
    #[error("the backup is damaged: a record in {member} cannot be read")]
    Record {
        member: String,
        #[source]
        source: StorageError,
    },
}

/// What comes next in an archive.
pub enum Item {
    Records(ArchivedStream, Vec<ArchivedRecord>),
    /// A file; its bytes are read with [`ArchiveReader::read`].
    Asset {
        origin: AssetOrigin,
        id: AssetId,
        size: u64,
    },
    /// Files in S3 whose bytes are not in the archive.
    Objects(Vec<ListedObject>),
}

/// Reads an archive, decrypted before.
pub struct ArchiveReader<R> {
    source: MultiGzDecoder<BufReader<R>>,
    before: Option<MemberName>,
    header: Header,
    /// The file whose bytes are being read.
    asset: Option<OpenAsset>,
    streams: BTreeMap<&'static str, StreamTotals>,
    /// Subjects of the stream that is being read.
    subjects: HashSet<u64>,
    files: HashMap<AssetId, ExpectedFile>,
    assets: BTreeMap<&'static str, AssetCount>,
    listed: AssetCount,
    /// A number for each line that the manifest must have, and how many of them it had.
    members: Vec<u64>,
    listed_members: usize,
    parts: Vec<Part>,
    manifest: Option<Manifest>,
    pub(super) bounds: Bounds,
}

/// How much there may be of what takes memory or time.
pub(super) struct Bounds {
    /// Of members that may still come.
    pub(super) bytes: u64,
    /// Of one stream.
    pub(super) subjects: usize,
    pub(super) files: usize,
}

struct OpenAsset {
    name: MemberName,
    id: AssetId,
    size: u64,
    left: u64,
    hash: Sha256State,
}

/// What FILES says of a file.
struct ExpectedFile {
    sha256: [u8; 32],
    size: u64,
    encrypted: bool,
    in_nats: bool,
    /// Its bytes came.
    is_read: bool,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ArchiveError`]
    pub fn open(source: R) -> Result<Self, ArchiveError> {
        let mut source = BufReader::with_capacity(COPY_CHUNK_BYTES, source);
        if is_key_export(source.fill_buf().map_err(fault)?) {
            return Err(ArchiveError::KeyExport);
        }
        let source = MultiGzDecoder::new(source);
        let mut reader = Self {
            source,
            before: None,
            header: Header::default(),
            asset: None,
            streams: BTreeMap::new(),
            subjects: HashSet::new(),
            files: HashMap::new(),
            assets: BTreeMap::new(),
            listed: AssetCount::default(),
            members: Vec::new(),
            listed_members: 0,
            parts: Vec::new(),
            manifest: None,
            bounds: Bounds {
                bytes: ARCHIVE_MAX_BYTES,
                subjects: ARCHIVE_SUBJECTS_MAX,
                files: ARCHIVE_FILES_MAX,
            },
        };
        let foreign = |error| match error {
            ArchiveError::Damaged { .. } => ArchiveError::Foreign,
            error => error,
        };
        let Some((MemberName::Header, size)) = reader.next_member().map_err(foreign)? else {
            return Err(ArchiveError::Foreign);
        };
        let text = reader.whole(MemberName::Header, size, ARCHIVE_TEXT_MAX_BYTES)?;
        reader.header = parse_header(&text)?;
        Ok(reader)
    }

    /// What the archive is of.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The manifest, after the last item.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The next records or file; `None` at the end, when everything was found to be as the manifest says.
    ///
    /// # Errors
    /// [`ArchiveError`]; after it nothing more can be read.
    pub fn next_item(&mut self) -> Result<Option<Item>, ArchiveError> {
        let mut rest = [0; 4096];
        while self.read(&mut rest)? > 0 {}
        loop {
            let Some((name, size)) = self.next_member()? else {
                self.check_end()?;
                return Ok(None);
            };
            match name {
                MemberName::Header => return Err(damaged("it has two headers")),
                MemberName::Readme => {
                    self.whole(name, size, ARCHIVE_TEXT_MAX_BYTES)?;
                }
                MemberName::Records(stream, number) => {
                    let text = self.whole(name, size, ARCHIVE_MEMBER_MAX_BYTES)?;
                    return self.records(stream, number, &text).map(Some);
                }
                MemberName::Asset(origin, _, id) => {
                    return self.open_asset(origin, (name, id, size)).map(Some);
                }
                MemberName::ManifestPart(_) => {
                    let objects = self.manifest_part(name, size)?;
                    if !objects.is_empty() {
                        return Ok(Some(Item::Objects(objects)));
                    }
                }
                MemberName::Manifest => {
                    let text = self.limited(name, size, ARCHIVE_MANIFEST_MAX_BYTES)?;
                    let manifest = serde_json::from_slice::<Manifest>(&text).ok();
                    let manifest = manifest.filter(Manifest::is_plausible);
                    self.manifest =
                        Some(manifest.ok_or_else(|| damaged("its manifest cannot be read"))?);
                }
            }
        }
    }

    /// Bytes of the file that [`Self::next_item`] returned; 0 at its end, when its hash was found to be right.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let Some(asset) = &mut self.asset else { return Ok(0) };
        let wanted = usize::try_from(asset.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted > 0 {
            let (buffer, _) = buffer.split_at_mut(wanted);
            let read = self.source.read(buffer).map_err(fault)?;
            if read == 0 {
                return Err(ArchiveError::Truncated);
            }
            let (bytes, _) = buffer.split_at(read);
            asset.hash.update(bytes);
            asset.left = asset.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
            return Ok(read);
        }
        if asset.left == 0
            && let Some(asset) = self.asset.take()
        {
            self.end_asset(asset)?;
        }
        Ok(0)
    }

    fn end_asset(&mut self, asset: OpenAsset) -> Result<(), ArchiveError> {
        self.skip_padding(asset.size)?;
        let sha256 = asset.hash.finish();
        self.note_member(asset.name, asset.size, &sha256);
        let expected = self.files.get_mut(&asset.id);
        let expected =
            expected.ok_or_else(|| damaged(&format!("{} is no file of it", asset.name)))?;
        expected.is_read = true;
        if !expected.encrypted && (expected.sha256 != sha256 || expected.size != asset.size) {
            return Err(damaged(&format!("{} has other bytes than its file", asset.name)));
        }
        Ok(())
    }

    fn open_asset(
        &mut self,
        origin: AssetOrigin,
        (name, id, size): (MemberName, AssetId, u64),
    ) -> Result<Item, ArchiveError> {
        let expected = self.files.get(&id).filter(|file| !file.is_read && file.may_have(size));
        if expected.is_none() {
            return Err(damaged(&format!(
                "{name} is no file of it, has another size, or comes twice"
            )));
        }
        self.assets.entry(origin.word()).or_default().add(size);
        self.asset = Some(OpenAsset { name, id, size, left: size, hash: Sha256State::default() });
        Ok(Item::Asset { origin, id, size })
    }

    fn records(
        &mut self,
        stream: ArchivedStream,
        number: u32,
        text: &[u8],
    ) -> Result<Item, ArchiveError> {
        if number == 1 {
            self.subjects.clear();
        }
        let member = || MemberName::Records(stream, number).to_string();
        let mut records = Vec::new();
        // Each line has its end.
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for line in text.split(|byte| *byte == b'\n') {
            let record = serde_json::from_slice::<RecordLine>(line).ok();
            let record = record.and_then(RecordLine::into_record);
            let record = record.ok_or_else(|| damaged(&format!("{} has no records", member())))?;
            let file = check_archived(stream, &record)
                .map_err(|source| ArchiveError::Record { member: member(), source })?;
            self.files.extend(file.map(|file| (file.id, ExpectedFile::from(&file))));
            let subject = crate::storage::subject_number(&record.subject);
            match record.deleted {
                true => self.subjects.remove(&subject),
                false => self.subjects.insert(subject),
            };
            if self.subjects.len() > self.bounds.subjects || self.files.len() > self.bounds.files {
                return Err(damaged(&format!("{} has more than any store", member())));
            }
            records.push(record);
        }
        let totals = self.streams.entry(stream.name()).or_default();
        totals.records =
            totals.records.saturating_add(records.len().try_into().unwrap_or(u64::MAX));
        totals.subjects = self.subjects.len().try_into().unwrap_or(u64::MAX);
        Ok(Item::Records(stream, records))
    }

    /// Checks the members that a part lists; returns its objects.
    fn manifest_part(
        &mut self,
        name: MemberName,
        size: u64,
    ) -> Result<Vec<ListedObject>, ArchiveError> {
        let mut objects = Vec::new();
        let text = self.limited(name, size, ARCHIVE_PART_MAX_BYTES)?;
        let sha256 = hex(&crate::crypto::sha256(&text));
        self.parts.push(Part { member: name.to_string(), size, sha256 });
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(ManifestLine::Member(part)) => {
                    let expected = self.members.get(self.listed_members);
                    if expected != Some(&member_number(&part)) {
                        return Err(damaged(&format!(
                            "{} is not what its manifest says, or is missing",
                            shortened(&part.member)
                        )));
                    }
                    self.listed_members += 1;
                }
                Ok(ManifestLine::Object(object)) => {
                    self.listed.add(object.size);
                    objects.push(object);
                }
                Err(_) => return Err(damaged(&format!("{name} is no list of members"))),
            }
        }
        Ok(objects)
    }

    /// The next member's name and size; `None` at the end of the tar.
    fn next_member(&mut self) -> Result<Option<(MemberName, u64)>, ArchiveError> {
        let mut block = [0; BLOCK];
        self.source.read_exact(&mut block).map_err(fault)?;
        if block == [0; BLOCK] {
            return Ok(None);
        }
        let header = TarHeader::from_byte_slice(&block);
        let is_intact = header.cksum().is_ok_and(|found| found == checksum(&block));
        let path = std::str::from_utf8(&header.path_bytes()).map(str::to_owned);
        let (true, Ok(path), Ok(size)) = (is_intact, path, header.size()) else {
            return Err(damaged("a member has no header"));
        };
        if header.entry_type() != EntryType::Regular {
            return Err(damaged(&format!("{} is no ordinary file", shortened(&path))));
        }
        let name: MemberName = path
            .parse()
            .map_err(|_| damaged(&format!("{} does not belong into it", shortened(&path))))?;
        if !name.may_follow(self.before) {
            return Err(damaged(&format!("{name} is not where it belongs")));
        }
        let has_many =
            self.members.len() > ARCHIVE_MEMBERS_MAX || self.parts.len() > ARCHIVE_PARTS_MAX;
        let left = self.bounds.bytes.checked_sub(size).filter(|_| !has_many);
        self.bounds.bytes =
            left.ok_or_else(|| damaged(&format!("with {name} it is larger than a backup can be")))?;
        self.before = Some(name);
        Ok(Some((name, size)))
    }

    /// A whole member that the manifest lists.
    fn whole(&mut self, name: MemberName, size: u64, max: usize) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.limited(name, size, max)?;
        let sha256 = crate::crypto::sha256(&bytes);
        self.note_member(name, size, &sha256);
        Ok(bytes)
    }

    fn limited(
        &mut self,
        name: MemberName,
        size: u64,
        max: usize,
    ) -> Result<Vec<u8>, ArchiveError> {
        let length = usize::try_from(size).ok().filter(|length| *length <= max);
        let length = length.ok_or_else(|| damaged(&format!("{name} is too large")))?;
        // Not reserved at once: the header may promise more than there is.
        let mut bytes = Vec::new();
        let read = (&mut self.source).take(size).read_to_end(&mut bytes).map_err(fault)?;
        if read < length {
            return Err(ArchiveError::Truncated);
        }
        self.skip_padding(size)?;
        Ok(bytes)
    }

    fn skip_padding(&mut self, size: u64) -> Result<(), ArchiveError> {
        let mut block = [0; BLOCK];
        let (bytes, _) = block.split_at_mut(padding(size));
        self.source.read_exact(bytes).map_err(fault)?;
        match block == [0; BLOCK] {
            true => Ok(()),
            false => Err(damaged("there is something between two members")),
        }
    }

    fn note_member(&mut self, name: MemberName, size: u64, sha256: &[u8; 32]) {
        let part = Part { member: name.to_string(), size, sha256: hex(sha256) };
        self.members.push(member_number(&part));
    }

    /// The end of the tar, then nothing; and what was read is what the manifest says.
    fn check_end(&mut self) -> Result<(), ArchiveError> {
        let mut block = [0; BLOCK];
        self.source.read_exact(&mut block).map_err(fault)?;
        let mut beyond = [0; 1];
        // To its very end: only there age knows that nothing was cut off.
        if block != [0; BLOCK] || self.source.read(&mut beyond).map_err(fault)? > 0 {
            return Err(damaged("something follows its end"));
        }
        let Some(manifest) = &self.manifest else { return Err(ArchiveError::Truncated) };
        let own = (FORMAT, &self.header.server_id, self.header.sequence);
        if (manifest.format, &manifest.server_id, manifest.sequence) != own {
            return Err(damaged("its manifest is of another backup"));
        }
        if manifest.parts != self.parts || self.listed_members != self.members.len() {
            return Err(damaged("its list of members is not what its manifest says"));
        }
        for name in &self.header.streams {
            let read = self.streams.get(name.as_str()).copied().unwrap_or_default();
            if manifest.streams.get(name) != Some(&read) {
                return Err(damaged(&format!(
                    "{} has {} records of {} subjects, not as many as its manifest says",
                    shortened(name),
                    read.records,
                    read.subjects
                )));
            }
        }
        self.check_assets(manifest)
    }

    fn check_assets(&self, manifest: &Manifest) -> Result<(), ArchiveError> {
        let listed = |origin| manifest.assets.get(origin).copied().unwrap_or_default();
        let read = |origin| self.assets.get(origin).copied().unwrap_or_default();
        if [AssetOrigin::Nats, AssetOrigin::S3]
            .into_iter()
            .any(|origin| listed(origin.word()) != read(origin.word()))
            || manifest.listed_objects != self.listed
        {
            return Err(damaged("it has not as many files as its manifest says"));
        }
        if self.header.assets == "none" {
            return Ok(());
        }
        let missing: HashSet<&str> = manifest.missing.iter().map(String::as_str).collect();
        let lost = self
            .files
            .iter()
            .find(|(id, file)| file.in_nats && !file.is_read && !missing.contains(id.as_str()));
        lost.map_or(Ok(()), |(id, _)| {
            Err(damaged(&format!("the bytes of the file {id} are missing")))
        })
    }
}

impl ExpectedFile {
    /// Whether a member of this size may hold its bytes. Ciphertext is longer by less than its chunks are.
    fn may_have(&self, size: u64) -> bool {
        match self.encrypted {
            false => size == self.size,
            true => {
                (self.size..=self.size.saturating_mul(2).saturating_add(1 << 20)).contains(&size)
            }
        }
    }
}

impl From<&File> for ExpectedFile {
    fn from(file: &File) -> Self {
        Self {
            sha256: file.sha256,
            size: file.size,
            encrypted: file.encrypted,
            in_nats: matches!(file.location, FileLocation::Nats(_)),
            is_read: false,
        }
    }
}

fn parse_header(text: &[u8]) -> Result<Header, ArchiveError> {
    #[derive(serde::Deserialize)]
    struct Known {
        format: u32,
        #[serde(default)]
        program: String,
    }
    let known: Known = serde_json::from_slice(text).map_err(|_| ArchiveError::Foreign)?;
    let newer = || ArchiveError::Newer { program: shortened(&known.program) };
    if known.format > FORMAT {
        return Err(newer());
    }
    let header = serde_json::from_slice::<Header>(text).ok().filter(Header::is_plausible);
    let header = header.ok_or_else(|| damaged("its header cannot be read"))?;
    if !header.versions.are_known() {
        return Err(newer());
    }
    let all: Vec<&str> = ArchivedStream::ALL.iter().map(|stream| stream.name()).collect();
    if header.streams != all {
        return Err(damaged("its header names other streams than a backup has"));
    }
    Ok(header)
}

/// A number for a line of the manifest.
fn member_number(part: &Part) -> u64 {
    let text = format!("{} {} {}", part.member, part.size, part.sha256);
    let [a, b, c, d, e, f, g, h, ..] = crate::crypto::sha256(text.as_bytes());
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The sum of a tar header's bytes, its own checksum taken as spaces (POSIX.1-1988).
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let is_checksum = |position| (148..156).contains(&position);
    let bytes = block.iter().enumerate();
    bytes.map(|(at, byte)| if is_checksum(at) { 32 } else { u32::from(*byte) }).sum()
}

/// A text of the archive for an error.
fn shortened(text: &str) -> String {
    printable(text.chars().take(100), "")
}

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::Damaged { what: what.to_owned() }
}

/// What a failed read means: the disk, a file that is too short, or bytes that were changed.
fn fault(error: io::Error) -> ArchiveError {
    if error.raw_os_error().is_some() {
        return ArchiveError::Io(error);
    }
    if error.get_ref().is_some_and(|inner| inner.is::<AgeError>()) {
        return ArchiveError::Sealed(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
        _ => ArchiveError::Damaged { what: chain(&error) },
    }
}
