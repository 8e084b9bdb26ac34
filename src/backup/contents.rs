//! What an archive brings back, as counts and sums. Two archives with equal ones restore the same.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;

use super::archive::{ArchiveError, ArchiveReader, Item};
use super::restore::length;
use crate::crypto::{Sha256State, sha256};
use crate::domain::AssetId;
use crate::limits::COPY_CHUNK_BYTES;
use crate::storage::{ArchivedRecord, ArchivedStream, StorageError, restored_data, subject_number};

/// Counts and sums of an archive. The order of subjects does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// By bare name: subjects with a record at the end.
    pub streams: BTreeMap<&'static str, SetDigest>,
    /// Files whose bytes it has.
    pub files: SetDigest,
}

/// A set of hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetDigest {
    pub count: u64,
    /// Of the first half of each SHA-256, modulo 2^128.
    sum: u128,
}

impl SetDigest {
    fn add(&mut self, hash: u128) {
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.wrapping_add(hash);
    }
}

impl Contents {
    /// Reads a whole archive. `progress` takes the bytes of its content so far.
    ///
    /// # Errors
    /// [`ArchiveError`]
    pub fn read<R: Read>(
        archive: &mut ArchiveReader<R>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ArchiveError> {
        let mut contents = Self::default();
        let mut open: Option<StreamHashes> = None;
        let mut done = 0_u64;
        while let Some(item) = archive.next_item()? {
            match item {
                Item::Records(stream, records) => {
                    if open.as_ref().is_none_or(|open| open.stream != stream) {
                        contents.end_stream(open.replace(StreamHashes::new(stream)));
                    }
                    let Some(open) = &mut open else { continue };
                    for record in records {
                        done = done.saturating_add(length(&record.data));
                        open.add(&record).map_err(|source| ArchiveError::Record {
                            member: stream.name().to_owned(),
                            source,
                        })?;
                    }
                }
                Item::Asset { id, size, .. } => {
                    contents.files.add(file_hash(archive, id)?);
                    done = done.saturating_add(size);
                }
                Item::Objects(_) => {}
            }
            progress(done);
        }
        contents.end_stream(open);
        Ok(contents)
    }

    fn end_stream(&mut self, ended: Option<StreamHashes>) {
        let Some(StreamHashes { stream, subjects }) = ended else { return };
        let sum = self.streams.entry(stream.name()).or_default();
        subjects.into_values().for_each(|hash| sum.add(hash));
    }

    /// The first difference of what was restored from this archive; `None`: there is none.
    #[must_use]
    pub fn difference(&self, restored: &Self) -> Option<Difference> {
        let names = self.streams.keys().chain(restored.streams.keys());
        let of =
            |contents: &Self, name: &str| contents.streams.get(name).copied().unwrap_or_default();
        let streams = names.map(|name| (*name, of(self, name), of(restored, name)));
        let files = ("ASSETS", self.files, restored.files);
        let mut pairs = streams.chain([files]);
        pairs.find_map(|(stream, expected, found)| {
            (expected != found).then_some(Difference { stream, expected, found })
        })
    }
}

/// A stream, by its bare name, that does not hold what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    stream: &'static str,
    expected: SetDigest,
    found: SetDigest,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, expected, found } = self;
        match expected.count == found.count {
            true => write!(f, "{stream} has other content"),
            false => write!(f, "{stream} has {} and not {} entries", found.count, expected.count),
        }
    }
}

impl std::error::Error for Difference {}

/// The hashes of a stream's subjects, by number of the subject.
struct StreamHashes {
    stream: ArchivedStream,
    subjects: HashMap<u64, u128>,
}

impl StreamHashes {
    fn new(stream: ArchivedStream) -> Self {
        Self { stream, subjects: HashMap::new() }
    }

    /// Of a subject the last record counts; in the journal all do, in their order.
    fn add(&mut self, record: &ArchivedRecord) -> Result<(), StorageError> {
        let number = subject_number(&record.subject);
        let former = self.subjects.remove(&number);
        let Some(data) = restored_data(self.stream, record)? else { return Ok(()) };
        let former = former.filter(|_| self.stream == ArchivedStream::Journal).unwrap_or(0);
        let mut hash = Sha256State::default();
        hash.update(&former.to_be_bytes());
        hash.update(&sha256(record.subject.as_bytes()));
        hash.update(&data);
        self.subjects.insert(number, half(hash.finish()));
        Ok(())
    }
}

fn file_hash<R: Read>(archive: &mut ArchiveReader<R>, id: AssetId) -> Result<u128, ArchiveError> {
    let mut hash = Sha256State::default();
    hash.update(&sha256(id.as_str().as_bytes()));
    let mut buffer = vec![0; COPY_CHUNK_BYTES];
    loop {
        let read = archive.read(&mut buffer)?;
        if read == 0 {
            return Ok(half(hash.finish()));
        }
        hash.update(buffer.split_at(read).0);
    }
}

fn half(hash: [u8; 32]) -> u128 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = hash;
    u128::from_be_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backup::archive::{ArchiveWriter, Header, Manifest, StreamTotals};
    use crate::storage::StoreVersions;

    /// An archive of these records of PAGES: page, data, seconds to live.
    fn archive(records: &[(u32, &str, Option<u64>)]) -> Contents {
        let header = Header {
            format: 1,
            versions: StoreVersions::OWN.into(),
            server_id: "S0123456789abcdef".to_owned(),
            streams: ArchivedStream::ALL.iter().map(|one| one.name().to_owned()).collect(),
            assets: "nats".to_owned(),
            ..Header::default()
        };
        let mut writer = ArchiveWriter::begin(Vec::new(), header).unwrap();
        let mut pages = std::collections::HashSet::new();
        for (page, data, ttl) in records {
            let record = ArchivedRecord {
                sequence: 1,
                stored_at: String::new(),
                subject: format!("pages.R00000000000001.r.{page}"),
                ttl: ttl.map(Duration::from_secs),
                deleted: data.is_empty(),
                data: data.as_bytes().to_vec().into(),
            };
            if record.deleted {
                pages.remove(page)
            } else {
                pages.insert(page)
            };
            writer.record(ArchivedStream::Pages, &record).unwrap();
        }
        let mut manifest = Manifest::default();
        for stream in ArchivedStream::ALL {
            manifest.streams.insert(stream.name().to_owned(), StreamTotals::default());
        }
        let count = |number: usize| u64::try_from(number).unwrap();
        let totals = StreamTotals { records: count(records.len()), subjects: count(pages.len()) };
        manifest.streams.insert("PAGES".to_owned(), totals);
        let bytes = writer.finish(manifest).unwrap().0;
        Contents::read(&mut ArchiveReader::open(&bytes[..]).unwrap(), &mut |_| {}).unwrap()
    }

    #[test]
    fn what_the_same_is_restored_of_has_the_same_sums() {
        let one = archive(&[(1, "a", None), (2, "b", None)]);
        assert_eq!(one.difference(&archive(&[(2, "b", None), (1, "a", None)])), None);
        // Former records, deleted ones, and those that end by themselves do not count.
        let rewritten = [(1, "x", None), (2, "b", None), (3, "c", None), (4, "d", Some(9))];
        let rewritten = archive(&[&rewritten[..], &[(1, "a", None), (3, "", None)]].concat());
        assert_eq!(one.difference(&rewritten), None);
    }

    #[test]
    fn a_difference_is_named() {
        let one = archive(&[(1, "a", None), (2, "b", None)]);
        let fewer = archive(&[(1, "a", None)]);
        let text = |one: &Contents, other: &Contents| one.difference(other).unwrap().to_string();
        assert_eq!(text(&one, &fewer), "PAGES has 1 and not 2 entries");
        assert_eq!(text(&fewer, &one), "PAGES has 2 and not 1 entries");
        for other in [[(1, "a", None), (2, "c", None)], [(1, "b", None), (2, "a", None)]] {
            assert_eq!(text(&one, &archive(&other)), "PAGES has other content");
        }
    }
}
