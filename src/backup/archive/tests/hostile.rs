//! Archives that were made by hand: to deceive a reader, or to take all its memory or time.

use std::io::{self, BufWriter, Seek};

use flate2::read::GzEncoder as GzSource;

use super::*;
use crate::crypto::{hex, sha256};
use crate::domain::{AssetId, File, FileLocation, FileState, UserId};
use crate::limits::{
    ARCHIVE_MEMBER_MAX_BYTES, ARCHIVE_PART_LINES, ARCHIVE_PART_MAX_BYTES, ARCHIVE_PARTS_MAX,
};
use crate::storage::record_of;
use format::{ManifestLine, RecordLine};

const MIB: u64 = 1 << 20;

/// Name and content of a member.
type Member = (String, Vec<u8>);

/// Writes these members, and a manifest that lists `listed`; `change` has the last word on it.
fn forged<W: Write>(
    sink: W,
    members: impl Iterator<Item = Member>,
    listed: impl Iterator<Item = Member>,
    change: impl FnOnce(&mut Manifest),
) -> W {
    let mut gzip = GzEncoder::new(sink, Compression::fast());
    let mut put = |name: &str, bytes: &[u8]| {
        let whole = member(name, EntryType::Regular, bytes.len() as u64, bytes).1;
        gzip.write_all(&whole).unwrap();
    };
    members.for_each(|(name, bytes)| put(&name, &bytes));
    let mut manifest = Manifest {
        format: FORMAT,
        server_id: header().server_id,
        sequence: header().sequence,
        streams: header().streams.into_iter().map(|name| (name, StreamTotals::default())).collect(),
        ..Manifest::default()
    };
    let mut lines = listed.map(|(name, bytes)| {
        let part = part(name, &bytes);
        let mut line = serde_json::to_vec(&ManifestLine::Member(part)).unwrap();
        line.push(b'\n');
        line
    });
    loop {
        let text: Vec<u8> = lines.by_ref().take(ARCHIVE_PART_LINES).flatten().collect();
        if text.is_empty() {
            break;
        }
        let name = format!("backup/manifest/{:06}.jsonl", manifest.parts.len() + 1);
        put(&name, &text);
        manifest.parts.push(part(name, &text));
    }
    change(&mut manifest);
    put("backup/manifest.json", &serde_json::to_vec(&manifest).unwrap());
    gzip.write_all(&[0; 2 * BLOCK]).unwrap();
    gzip.finish().unwrap()
}

fn part(member: String, bytes: &[u8]) -> Part {
    Part { member, size: bytes.len() as u64, sha256: hex(&sha256(bytes)) }
}

fn beginning() -> [Member; 2] {
    [
        ("backup/header.json".to_owned(), serde_json::to_vec(&header()).unwrap()),
        ("backup/README.txt".to_owned(), b"a text".to_vec()),
    ]
}

fn lines(records: &[ArchivedRecord]) -> Vec<u8> {
    let line = |record| serde_json::to_string(&RecordLine::from(record)).unwrap() + "\n";
    records.iter().map(line).collect::<String>().into_bytes()
}

fn page(number: u32) -> Member {
    let one = record(&format!("pages.{ROOM}.r.{number}"), b"a page");
    (format!("backup/streams/PAGES/{number:06}.jsonl"), lines(&[one]))
}

fn id(number: u64) -> AssetId {
    format!("A{number:014}").parse().unwrap()
}

/// What FILES says of a file with these bytes.
fn file(number: u64, bytes: &[u8]) -> File {
    File {
        id: id(number),
        room: None,
        uploader: UserId::from_number(1),
        name: "file".to_owned(),
        content_type: "application/octet-stream".to_owned(),
        size: bytes.len() as u64,
        sha256: sha256(bytes),
        width: 0,
        height: 0,
        created_ms: 0,
        state: FileState::Ready,
        location: FileLocation::Nats(Vec::new()),
        encrypted: false,
    }
}

fn asset(number: u64, of: u64, bytes: &[u8]) -> Member {
    (format!("backup/assets/nats/{number:08}-{}", id(of)), bytes.to_vec())
}

/// Two pages in a member each, an event and two files of the same length.
fn honest() -> Vec<Member> {
    let event = lines(&[record(&format!("journal.{ROOM}"), b"an event")]);
    let files = lines(&[record_of(file(1, b"first")), record_of(file(2, b"other"))]);
    let mut members = Vec::from(beginning());
    members.extend([
        page(1),
        page(2),
        ("backup/streams/JOURNAL/000001.jsonl".to_owned(), event),
        ("backup/streams/FILES/000001.jsonl".to_owned(), files),
        asset(1, 1, b"first"),
        asset(2, 2, b"other"),
    ]);
    members
}

/// What a manifest of [`honest`] says.
fn counts(manifest: &mut Manifest) {
    for (name, count) in [("PAGES", 2), ("JOURNAL", 1), ("FILES", 2)] {
        let totals = StreamTotals { records: count, subjects: count };
        manifest.streams.insert(name.to_owned(), totals);
    }
    manifest.assets.insert("nats".to_owned(), AssetCount { files: 2, bytes: 10 });
}

fn archive_of(
    members: &[Member],
    listed: &[Member],
    change: impl FnOnce(&mut Manifest),
) -> Vec<u8> {
    forged(Vec::new(), members.iter().cloned(), listed.iter().cloned(), |manifest| {
        counts(manifest);
        change(manifest);
    })
}

/// Why it is refused, although its header can be read.
#[track_caller]
fn refused(archive: &[u8]) -> String {
    let opened = ArchiveReader::open(archive).unwrap();
    assert_eq!(opened.header(), &header());
    let error = read(archive).unwrap_err();
    let is_named = matches!(error, ArchiveError::Damaged { .. } | ArchiveError::Record { .. });
    assert!(is_named, "{error:?}");
    error.to_string()
}

/// How much more memory this process held at its worst during `work`, in bytes. Each test is a process of its own.
fn grown(work: impl FnOnce()) -> u64 {
    // Resets the peak (proc(5), clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    let before = peak();
    work();
    peak().saturating_sub(before)
}

#[test]
fn a_hundred_thousand_members_are_read_in_little_memory() {
    const MEMBERS: u32 = 100_000;
    let sink = BufWriter::new(tempfile::tempfile().unwrap());
    let members = || beginning().into_iter().chain((1..=MEMBERS).map(page));
    let sink = forged(sink, members(), members(), |manifest| {
        let totals = StreamTotals { records: MEMBERS.into(), subjects: MEMBERS.into() };
        manifest.streams.insert("PAGES".to_owned(), totals);
    });
    let mut file = sink.into_inner().unwrap();
    file.rewind().unwrap();
    let mut read = 0;
    let grown = grown(|| {
        let mut reader = ArchiveReader::open(file).unwrap();
        while let Some(item) = reader.next_item().unwrap() {
            read += u32::from(matches!(item, Item::Records(..)));
        }
    });
    assert_eq!(read, MEMBERS);
    // A part of the list is half of it. The tar has 150 MiB.
    assert!(grown < 24 * MIB, "{grown}");
}

#[test]
fn bodies_in_the_place_of_others_are_refused_whatever_the_manifest_says() {
    let honest = honest();
    assert_eq!(read(&archive_of(&honest, &honest, |_| {})).unwrap().len(), 5);
    let swapped = |one: usize, other: usize| {
        let mut members = honest.clone();
        (members[one].1, members[other].1) = (honest[other].1.clone(), honest[one].1.clone());
        members
    };
    // Two of one stream, of two streams, and two files.
    let pairs = [(2, 3), (3, 4), (4, 5), (6, 7)];
    for (one, other) in pairs {
        let members = swapped(one, other);
        let why = refused(&archive_of(&members, &honest, |_| {}));
        let is_hash = why.contains("is not what its manifest says");
        assert!(is_hash || one > 2, "{one}: {why}");
    }
    for (one, other) in &pairs[1..] {
        let members = swapped(*one, *other);
        let why = refused(&archive_of(&members, &members, |_| {}));
        let expected = ["cannot be read", "has no records", "has other bytes than its file"];
        assert!(expected.iter().any(|expected| why.contains(expected)), "{one}: {why}");
    }
    // Pages may come in any order: with a manifest to match, it is another archive of the same.
    let pages = swapped(2, 3);
    assert!(read(&archive_of(&pages, &pages, |_| {})).is_ok());
}

#[test]
fn every_wrong_number_of_a_manifest_is_refused() {
    type Change = fn(&mut Manifest);
    fn of<'a>(manifest: &'a mut Manifest, name: &str) -> &'a mut StreamTotals {
        manifest.streams.get_mut(name).unwrap()
    }
    let changes: [(&str, Change); 15] = [
        ("one record more", |m| of(m, "PAGES").records += 1),
        ("one record less", |m| of(m, "PAGES").records -= 1),
        ("one subject more", |m| of(m, "FILES").subjects += 1),
        ("records of an empty stream", |m| of(m, "STATE").records += 1),
        ("a stream less", |m| m.streams.retain(|name, _| name != "NOTIFICATIONS")),
        ("one file more", |m| m.assets.get_mut("nats").unwrap().files += 1),
        ("one byte less", |m| m.assets.get_mut("nats").unwrap().bytes -= 1),
        ("no files", |m| m.assets.clear()),
        ("a file in S3", |m| m.assets.entry("s3".to_owned()).or_default().files = 1),
        ("an object in S3", |m| m.listed_objects.add(1)),
        ("another server", |m| m.server_id = "Sfedcba9876543210".to_owned()),
        ("another backup", |m| m.sequence += 1),
        ("another size of its list", |m| m.parts[0].size += 1),
        ("a part of its list more", |m| {
            m.parts.push(part("backup/manifest/000002.jsonl".to_owned(), b""))
        }),
        ("no list", |m| m.parts.clear()),
    ];
    let honest = honest();
    for (what, change) in changes {
        let why = refused(&archive_of(&honest, &honest, change));
        assert!(why.contains("manifest"), "{what}: {why}");
    }
}

#[test]
fn a_surplus_member_is_refused_although_it_is_listed() {
    let honest = honest();
    let with = |at: usize, one: Member| {
        let mut members = honest.clone();
        members.insert(at, one);
        members
    };
    for (members, expected) in [
        (with(4, page(3)), "PAGES has 3 records"),
        (with(8, asset(3, 3, b"third")), "is no file of it"),
        (with(8, asset(3, 2, b"other")), "comes twice"),
        (with(8, asset(1, 2, b"other")), "is not where it belongs"),
        (with(4, asset(1, 2, b"other")), "is no file of it"),
    ] {
        let why = refused(&archive_of(&members, &members, |_| {}));
        assert!(why.contains(expected), "{why}");
    }
    // Listed and not there, and the other way round.
    for at in 2..honest.len() {
        let mut fewer = honest.clone();
        fewer.remove(at);
        refused(&archive_of(&honest, &fewer, |_| {}));
        refused(&archive_of(&fewer, &honest, |_| {}));
    }
    let twice = [&honest[..], &honest[7..]].concat();
    refused(&archive_of(&honest, &twice, |_| {}));
}

#[test]
fn names_that_a_terminal_would_obey_are_refused_in_a_manifest_too() {
    let honest = honest();
    let escape = || "\u{1b}[2J".to_owned();
    for change in [
        (|m, escape| m.streams.entry(escape).or_default().records = 0) as fn(&mut Manifest, String),
        |m, escape| m.assets.entry(escape).or_default().files = 0,
        |m, escape| m.missing.push(escape),
        |m, escape| m.excluded.push(Excluded { stream: escape, reason: String::new() }),
    ] {
        let why = refused(&archive_of(&honest, &honest, |m| change(m, escape())));
        assert!(why.contains("its manifest cannot be read"), "{why}");
    }
}

/// Bytes, and then others again and again without an end.
struct Endless {
    begin: io::Cursor<Vec<u8>>,
    again: Vec<u8>,
    at: usize,
    read: u64,
}

impl Endless {
    fn new(begin: Vec<u8>, again: Vec<u8>) -> Self {
        Self { begin: io::Cursor::new(begin), again, at: 0, read: 0 }
    }
}

impl Read for &mut Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = self.begin.read(buffer)?;
        if read == 0 {
            read = (&self.again[self.at..]).read(buffer)?;
            self.at = (self.at + read) % self.again.len();
        }
        self.read += read as u64;
        Ok(read)
    }
}

/// Where each ends, gigabytes of zeros follow, compressed a thousand times.
#[test]
fn bombs_are_refused_at_the_first_byte_that_does_not_belong() {
    let tar = |members: &[Member]| {
        let whole =
            |(name, bytes): &Member| member(name, EntryType::Regular, bytes.len() as u64, bytes).1;
        members.iter().flat_map(whole).collect::<Vec<u8>>()
    };
    let begin = tar(&beginning());
    let large = ArchiveReader::open(&archive(header())[..]).unwrap().bounds.bytes;
    let claims = |name: &str, size: u64| {
        let (mut tar, mut header) = (begin.clone(), member(name, EntryType::Regular, size, b"").1);
        tar.append(&mut header);
        tar
    };
    let whole = unpacked(&archive(header()));
    let sealed = File { encrypted: true, size: large / 2, ..file(1, b"") };
    let files = ("backup/streams/FILES/000001.jsonl".to_owned(), lines(&[record_of(sealed)]));
    let name = format!("backup/assets/nats/00000001-{}", id(1));
    let mut too_large = [&begin[..], &tar(&[files])].concat();
    too_large.extend(member(&name, EntryType::Regular, large, b"").1);
    let pages = "backup/streams/PAGES/000001.jsonl";
    let zeros = packed(&vec![0; 1 << 20]);
    assert!(zeros.len() < (1 << 20) / 200);
    for (what, tar) in [
        ("instead of an archive", Vec::new()),
        ("instead of a header", member("backup/header.json", EntryType::Regular, 8 << 30, b"").1),
        ("records of 8 GiB", claims(pages, 8 << 30)),
        ("records of the largest size", claims(pages, ARCHIVE_MEMBER_MAX_BYTES as u64)),
        ("a list of 1 TiB", claims("backup/manifest/000001.jsonl", 1 << 40)),
        (
            "a list of the largest size",
            claims("backup/manifest/000001.jsonl", ARCHIVE_PART_MAX_BYTES as u64),
        ),
        ("a manifest of 1 GiB", claims("backup/manifest.json", 1 << 30)),
        ("between members", begin.clone()),
        ("after the end", whole),
        ("a file that is too large", too_large),
    ] {
        let mut source =
            Endless::new(if tar.is_empty() { tar } else { packed(&tar) }, zeros.clone());
        let mut refused = false;
        let grown = grown(|| refused = read_all(&mut source).is_err());
        assert!(refused && source.read < MIB, "{what}: {} bytes were read", source.read);
        assert!(grown < 64 * MIB, "{what}: {grown}");
    }
}

/// As [`read`], for what need not end.
fn read_all(source: impl Read) -> Result<(), ArchiveError> {
    let mut reader = ArchiveReader::open(source)?;
    while reader.next_item()?.is_some() {}
    Ok(())
}

#[test]
fn a_gzip_header_without_end_is_refused() {
    // With a name (RFC 1952, 2.3.1).
    let begin = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
    let mut source = Endless::new(begin, vec![b'x'; 4096]);
    assert!(read_all(&mut source).is_err());
    assert!(source.read < MIB, "{}", source.read);
}

#[test]
fn a_list_of_members_without_end_is_refused() {
    struct Parts {
        number: usize,
        block: io::Cursor<Vec<u8>>,
    }
    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.block.position() == self.block.get_ref().len() as u64 {
                self.number += 1;
                let name = format!("backup/manifest/{:06}.jsonl", self.number);
                self.block = io::Cursor::new(member(&name, EntryType::Regular, 0, b"").1);
            }
            self.block.read(buffer)
        }
    }
    let begin = beginning()
        .map(|(name, bytes)| member(&name, EntryType::Regular, bytes.len() as u64, &bytes).1);
    let parts = Parts { number: 0, block: io::Cursor::new(begin.concat()) };
    let mut source = GzSource::new(parts, Compression::fast());
    let why = read_all(&mut source).unwrap_err().to_string();
    assert!(why.contains("larger than a backup can be"), "{why}");
    // Compressed, some thousands fit into what is read at once.
    assert!(source.get_ref().number < ARCHIVE_PARTS_MAX + 20_000);
}

#[test]
fn what_takes_memory_or_time_has_bounds() {
    let honest = honest();
    let archive = archive_of(&honest, &honest, |_| {});
    let verdict = |change: fn(&mut reader::Bounds)| {
        let mut reader = ArchiveReader::open(&archive[..]).unwrap();
        change(&mut reader.bounds);
        while reader.next_item()?.is_some() {}
        Ok::<_, ArchiveError>(())
    };
    assert!(verdict(|bounds| (bounds.subjects, bounds.files) = (2, 2)).is_ok());
    assert!(verdict(|bounds| bounds.subjects = 1).is_err());
    assert!(verdict(|bounds| bounds.files = 1).is_err());
    assert!(verdict(|bounds| bounds.bytes = 1_000).is_err());
}

/// What a writer completes, a reader reads; anything else the writer refuses.
#[test]
fn nothing_is_written_that_would_not_be_read() {
    let mut configuration = std::collections::BTreeMap::new();
    configuration.insert("good".to_owned(), "value".to_owned());
    let good = configuration.clone();
    configuration.insert("lines".to_owned(), "one\ntwo".to_owned());
    configuration.insert("long".to_owned(), "x".repeat(20_000));
    let archive = archive(Header { configuration, ..header() });
    assert_eq!(ArchiveReader::open(&archive[..]).unwrap().header().configuration, good);

    let streams = || header().streams.into_iter().map(|name| (name, StreamTotals::default()));
    let missing = |count| (0..count).map(|number| id(number).to_string()).collect();
    let finish = |manifest| {
        let writer = ArchiveWriter::begin(Vec::new(), header()).unwrap();
        writer.finish(Manifest { streams: streams().collect(), ..manifest })
    };
    let many = finish(Manifest { missing: missing(100_000), ..Manifest::default() }).unwrap().0;
    assert!(read(&many).is_ok());
    assert!(finish(Manifest { missing: missing(1_000_000), ..Manifest::default() }).is_err());
    let mut writer = ArchiveWriter::begin(io::sink(), header()).unwrap();
    let large = ArchiveReader::open(&many[..]).unwrap().bounds.bytes;
    assert!(writer.asset(AssetOrigin::S3, id(1), large + 1).is_err());
}
