//! Writing an archive, member after member.

use std::io::{self, Write};

use tar::{EntryType, Header as TarHeader};

use super::format::{
    FORMAT, Header, ListedObject, Manifest, ManifestLine, Part, RecordLine, is_printable_setting,
};
use super::gzip::GzipWriter;
use super::name::{AssetOrigin, MemberName};
use crate::crypto::{Sha256State, hex};
use crate::domain::AssetId;
use crate::limits::{
    ARCHIVE_FILES_MAX, ARCHIVE_MANIFEST_MAX_BYTES, ARCHIVE_MAX_BYTES, ARCHIVE_MEMBER_BYTES,
    ARCHIVE_MEMBERS_MAX, ARCHIVE_PART_LINES, ARCHIVE_PARTS_MAX, ARCHIVE_SUBJECTS_MAX,
};
use crate::storage::{ArchivedRecord, ArchivedStream};

/// tar's unit.
pub(super) const BLOCK: usize = 512;

const README: &str = "\
This is a backup of a Chatto server. `chatto restore FILE` restores it; the documentation has the details.

By hand: streams/NAME/*.jsonl has one JSON object per line, with the stored record in `data` (base64). Of one
`subject` the last line counts. assets/ has every file under its id; FILES names it. The texts of messages are encrypted;
their keys are in the file that `chatto keys export` writes.

manifest.json is written last and holds the counts; manifest/*.jsonl holds the size and SHA-256 of every file here.
";

/// Writes an archive. It is complete only after [`Self::finish`].
pub struct ArchiveWriter<W> {
    sink: GzipWriter<W>,
    header: Header,
    /// Lines of the stream's member that is being filled, and its number.
    records: Vec<u8>,
    open: Option<(ArchivedStream, u32)>,
    assets: u32,
    /// What the manifest will say of each member.
    members: Vec<Member>,
    objects: Vec<ListedObject>,
    bytes: u64,
}

/// 60 bytes or so of each member stay in memory until the manifest is written.
struct Member {
    name: MemberName,
    size: u64,
    sha256: [u8; 32],
}

impl<W: Write> ArchiveWriter<W> {
    /// Writes the header and what a person needs to know. Settings that a reader would refuse are left out.
    pub fn begin(sink: W, mut header: Header) -> io::Result<Self> {
        header.configuration.retain(|name, value| is_printable_setting(name, value));
        let mut writer = Self {
            sink: GzipWriter::new(sink),
            header,
            records: Vec::new(),
            open: None,
            assets: 0,
            members: Vec::new(),
            objects: Vec::new(),
            bytes: 0,
        };
        let header = serde_json::to_vec_pretty(&writer.header)?;
        writer.member(MemberName::Header, &header)?;
        writer.member(MemberName::Readme, README.as_bytes())?;
        Ok(writer)
    }

    /// Bytes so far, before compression.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a record. Streams come in the order of [`ArchivedStream::ALL`].
    pub fn record(&mut self, stream: ArchivedStream, record: &ArchivedRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(&RecordLine::from(record))?;
        line.push(b'\n');
        match self.open {
            Some((open, number)) if open == stream => {
                if self.records.len().saturating_add(line.len()) > ARCHIVE_MEMBER_BYTES {
                    self.end_records()?;
                    self.open = Some((stream, number.saturating_add(1)));
                }
            }
            _ => {
                self.end_records()?;
                self.open = Some((stream, 1));
            }
        }
        self.records.append(&mut line);
        Ok(())
    }

    /// Writes the lines that wait.
    fn end_records(&mut self) -> io::Result<()> {
        let Some((stream, number)) = self.open.take() else { return Ok(()) };
        let mut lines = std::mem::take(&mut self.records);
        self.member(MemberName::Records(stream, number), &lines)?;
        lines.clear();
        self.records = lines;
        Ok(())
    }

    /// Begins the files of an origin.
    pub fn begin_assets(&mut self) -> io::Result<()> {
        self.assets = 0;
        self.end_records()
    }

    /// Begins a file of this many bytes.
    pub fn asset(
        &mut self,
        origin: AssetOrigin,
        id: AssetId,
        size: u64,
    ) -> io::Result<AssetWriter<'_, W>> {
        self.assets = self.assets.saturating_add(1);
        let name = MemberName::Asset(origin, self.assets, id);
        self.tar_header(name, size)?;
        Ok(AssetWriter { archive: self, name, size, written: 0, hash: Sha256State::default() })
    }

    /// Lists a file in S3 whose bytes are not in the archive.
    pub fn object(&mut self, object: ListedObject) {
        self.objects.push(object);
    }

    /// Writes the manifest and the end; returns the sink and the manifest. `manifest` comes without what is known here.
    pub fn finish(mut self, manifest: Manifest) -> io::Result<(W, Manifest)> {
        self.end_records()?;
        let files = self.members.len() + self.objects.len() + manifest.missing.len();
        check_count(files, ARCHIVE_FILES_MAX, "files")?;
        let members = std::mem::take(&mut self.members).into_iter().map(|member| {
            ManifestLine::Member(Part {
                member: member.name.to_string(),
                size: member.size,
                sha256: hex(&member.sha256),
            })
        });
        let objects = std::mem::take(&mut self.objects).into_iter().map(ManifestLine::Object);
        let mut lines = members.chain(objects).peekable();
        let mut parts = Vec::new();
        while lines.peek().is_some() {
            let mut text = Vec::new();
            for line in lines.by_ref().take(ARCHIVE_PART_LINES) {
                serde_json::to_writer(&mut text, &line)?;
                text.push(b'\n');
            }
            let number = u32::try_from(parts.len()).unwrap_or(u32::MAX).saturating_add(1);
            let name = MemberName::ManifestPart(number);
            let sha256 = self.write_member(name, &text)?;
            let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
            parts.push(Part { member: name.to_string(), size, sha256: hex(&sha256) });
        }
        let subjects = manifest.streams.values().map(|totals| totals.subjects).max();
        check_count(subjects.unwrap_or(0), ARCHIVE_SUBJECTS_MAX, "records of one stream")?;
        check_count(parts.len(), ARCHIVE_PARTS_MAX, "parts of its list of files")?;
        let manifest = Manifest {
            format: FORMAT,
            server_id: self.header.server_id.clone(),
            sequence: self.header.sequence,
            parts,
            ..manifest
        };
        let text = serde_json::to_vec_pretty(&manifest)?;
        check_count(text.len(), ARCHIVE_MANIFEST_MAX_BYTES, "bytes in its list of missing files")?;
        self.write_member(MemberName::Manifest, &text)?;
        // The end of a tar: two empty blocks.
        self.sink.write_all(&[0; 2 * BLOCK])?;
        Ok((self.sink.finish()?, manifest))
    }

    fn member(&mut self, name: MemberName, bytes: &[u8]) -> io::Result<()> {
        let sha256 = self.write_member(name, bytes)?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.members.push(Member { name, size, sha256 });
        Ok(())
    }

    fn write_member(&mut self, name: MemberName, bytes: &[u8]) -> io::Result<[u8; 32]> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.tar_header(name, size)?;
        self.sink.write_all(bytes)?;
        self.pad(size)?;
        self.bytes = self.bytes.saturating_add(size);
        Ok(crate::crypto::sha256(bytes))
    }

    fn tar_header(&mut self, name: MemberName, size: u64) -> io::Result<()> {
        check_count(self.members.len(), ARCHIVE_MEMBERS_MAX, "members")?;
        check_count(self.bytes.saturating_add(size), ARCHIVE_MAX_BYTES, "bytes")?;
        let mut header = TarHeader::new_ustar();
        header.set_path(name.to_string())?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        header.set_mode(0o600);
        header.set_cksum();
        self.sink.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let (zeros, _) = [0; BLOCK].split_at(padding(size));
        self.sink.write_all(zeros)
    }
}

/// Refuses to write what a reader refuses to read.
fn check_count<N: TryInto<u64>, M: TryInto<u64>>(count: N, max: M, of: &str) -> io::Result<()> {
    let max = max.try_into().unwrap_or(u64::MAX);
    if count.try_into().is_ok_and(|count| count <= max) {
        return Ok(());
    }
    Err(io::Error::other(format!("an archive has at most {max} {of}, and this one has more")))
}

/// Bytes between the end of a member of this size and the next header.
pub(super) fn padding(size: u64) -> usize {
    usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0)
}

/// Takes the bytes of a file.
pub struct AssetWriter<'a, W> {
    archive: &'a mut ArchiveWriter<W>,
    name: MemberName,
    size: u64,
    written: u64,
    hash: Sha256State,
}

impl<W: Write> AssetWriter<'_, W> {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written = self.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.hash.update(bytes);
        self.archive.bytes =
            self.archive.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.archive.sink.write_all(bytes)
    }

    /// Ends the file; returns the SHA-256 of its bytes.
    ///
    /// # Errors
    /// `UnexpectedEof` when it was shorter or longer than announced: the archive cannot be completed then.
    pub fn finish(self) -> io::Result<[u8; 32]> {
        if self.written != self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let sha256 = self.hash.finish();
        self.archive.pad(self.size)?;
        let member = Member { name: self.name, size: self.size, sha256 };
        self.archive.members.push(member);
        Ok(sha256)
    }
}
