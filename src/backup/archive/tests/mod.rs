//! Archives as people and accidents make them.

mod hostile;

use std::io::{Read, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use tar::{EntryType, Header as TarHeader};

use super::format::{FORMAT, Versions};
use super::writer::{BLOCK, padding};
use super::*;
use crate::storage::{ArchivedRecord, ArchivedStream, StoreVersions};

const ROOM: &str = "R00000000000001";

fn header() -> Header {
    Header {
        format: FORMAT,
        program: "0.1.0".to_owned(),
        versions: StoreVersions::OWN.into(),
        server_id: "S0123456789abcdef".to_owned(),
        sequence: 7,
        created_at: "2026-11-21T06:00:00.000Z".to_owned(),
        streams: ArchivedStream::ALL.iter().map(|stream| stream.name().to_owned()).collect(),
        assets: "nats".to_owned(),
        ..Header::default()
    }
}

fn record(subject: &str, data: &[u8]) -> ArchivedRecord {
    ArchivedRecord {
        sequence: 3,
        stored_at: "2026-11-21T05:59:59.123456789Z".to_owned(),
        subject: subject.to_owned(),
        ttl: Some(Duration::from_secs(60)),
        deleted: false,
        data: data.to_vec().into(),
    }
}

/// An archive of two pages of a room.
fn archive(header: Header) -> Vec<u8> {
    archive_that_says(header, StreamTotals { records: 2, subjects: 2 })
}

/// The same, with these counts of pages in its manifest.
fn archive_that_says(header: Header, pages: StreamTotals) -> Vec<u8> {
    let mut writer = ArchiveWriter::begin(Vec::new(), header).unwrap();
    for page in 0..2 {
        let subject = format!("pages.{ROOM}.r.{page}");
        writer.record(ArchivedStream::Pages, &record(&subject, b"a page")).unwrap();
    }
    let mut manifest = Manifest::default();
    for stream in ArchivedStream::ALL {
        manifest.streams.insert(stream.name().to_owned(), StreamTotals::default());
    }
    manifest.streams.insert("PAGES".to_owned(), pages);
    writer.finish(manifest).unwrap().0
}

fn read(archive: &[u8]) -> Result<Vec<ArchivedRecord>, ArchiveError> {
    let mut reader = ArchiveReader::open(archive)?;
    let mut records = Vec::new();
    while let Some(item) = reader.next_item()? {
        if let Item::Records(_, mut more) = item {
            records.append(&mut more);
        }
    }
    assert!(reader.manifest().is_some());
    Ok(records)
}

fn unpacked(archive: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    MultiGzDecoder::new(archive).read_to_end(&mut tar).unwrap();
    tar
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

/// Name, and the whole bytes, of each member.
fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let tar = unpacked(archive);
    let (mut members, mut rest) = (Vec::new(), &tar[..]);
    while rest[..BLOCK] != [0; BLOCK] {
        let header = TarHeader::from_byte_slice(&rest[..BLOCK]);
        let (path, size) = (header.path().unwrap().display().to_string(), header.size().unwrap());
        let end = BLOCK + usize::try_from(size).unwrap() + padding(size);
        members.push((path, rest[..end].to_vec()));
        rest = &rest[end..];
    }
    members
}

fn joined(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar: Vec<u8> = members.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    tar.extend([0; 2 * BLOCK]);
    packed(&tar)
}

/// A member with these bytes, under any name and of any kind.
fn member(name: &str, kind: EntryType, size: u64, bytes: &[u8]) -> (String, Vec<u8>) {
    let mut header = TarHeader::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o600);
    header.set_cksum();
    let mut whole = header.as_bytes().to_vec();
    whole.extend(bytes);
    whole.extend(vec![0; padding(bytes.len() as u64)]);
    (name.to_owned(), whole)
}

#[test]
fn what_is_written_is_read() {
    let records = read(&archive(header())).unwrap();
    let expected = [0, 1].map(|page| record(&format!("pages.{ROOM}.r.{page}"), b"a page"));
    assert_eq!(records, expected);
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused() {
    let whole = archive(header());
    for end in 0..whole.len() {
        let error = read(&whole[..end]).unwrap_err();
        let is_named = matches!(
            error,
            ArchiveError::Truncated | ArchiveError::Foreign | ArchiveError::Damaged { .. }
        );
        assert!(is_named, "{end}: {error:?}");
    }
    // Also between blocks of the tar, where gzip notices nothing.
    let tar = unpacked(&whole);
    for end in (0..tar.len()).step_by(BLOCK / 2) {
        assert!(read(&packed(&tar[..end])).is_err(), "{end}");
    }
}

#[test]
fn a_changed_bit_is_noticed_or_changes_nothing() {
    let whole = archive(header());
    let records = read(&whole).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        // Times and names in headers of gzip mean nothing.
        assert!(
            read(&changed).is_ok_and(|read| read == records) || read(&changed).is_err(),
            "{at}"
        );
    }
    let tar = unpacked(&whole);
    for at in (0..tar.len()).step_by(7) {
        let mut changed = tar.clone();
        changed[at] ^= 0x10;
        // Of headers only what counts is looked at: tar's checksum covers the rest.
        assert!(read(&packed(&changed)).is_err(), "byte {at} of the tar");
    }
}

#[test]
fn members_that_do_not_belong_are_refused() {
    let whole = members(&archive(header()));
    let file = EntryType::Regular;
    let foreign = [
        member("backup/../../etc/cron.d/x", file, 1, b"x"),
        member("/etc/passwd", file, 1, b"x"),
        member("backup/streams/META/000001.jsonl", file, 1, b"x"),
        member("backup/streams/STATE/000002.jsonl", file, 1, b"x"),
        member("backup/streams/PAGES/000002.jsonl", EntryType::Symlink, 0, b""),
        member("backup/streams/PAGES/000002.jsonl", EntryType::Link, 0, b""),
        member("backup/streams/PAGES/000002.jsonl", EntryType::Char, 0, b""),
        member("backup/streams/PAGES/000002.jsonl", EntryType::Directory, 0, b""),
        member("././@LongLink", EntryType::GNULongName, 1 << 40, b""),
        member("backup/x", EntryType::XHeader, 1 << 40, b""),
        member("backup/streams/PAGES/000002.jsonl", file, 1 << 40, b""),
        member("backup/streams/PAGES/000002.jsonl", file, 5, b"\n\n\n\n\n"),
        member("backup/streams/PAGES/000002.jsonl", file, 2, b"{}"),
        member("backup/assets/nats/00000001-A00000000000001", file, 1, b"x"),
    ];
    let after = whole.iter().position(|(name, _)| name.contains("PAGES")).unwrap() + 1;
    for one in foreign {
        let mut changed = whole.clone();
        changed.insert(after, one.clone());
        let error = read(&joined(&changed)).unwrap_err();
        let is_named = matches!(error, ArchiveError::Damaged { .. } | ArchiveError::Truncated);
        assert!(is_named, "{}: {error:?}", one.0);
        changed.remove(after);
        changed.push(one);
        assert!(read(&joined(&changed)).is_err(), "after the manifest");
    }
}

#[test]
fn members_that_are_missing_doubled_or_in_another_order_are_refused() {
    let whole = members(&archive(header()));
    assert!(read(&joined(&whole)).is_ok());
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        let one = changed.remove(at);
        assert!(read(&joined(&changed)).is_err(), "without {}", one.0);
        changed.insert(at, one.clone());
        changed.insert(at, one.clone());
        assert!(read(&joined(&changed)).is_err(), "{} twice", one.0);
        changed = whole.clone();
        changed.swap(at, (at + 1) % whole.len());
        assert!(read(&joined(&changed)).is_err(), "{} elsewhere", one.0);
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    let tar = unpacked(&archive(header()));
    for surplus in [&b"x"[..], &[0; BLOCK], &[0; 20 * BLOCK]] {
        assert!(read(&packed(&[&tar[..], surplus].concat())).is_err());
    }
    let whole = archive(header());
    assert!(read(&[&whole[..], &whole[..]].concat()).is_err());
    assert!(read(&[&whole[..], b"surplus"].concat()).is_err());
}

#[test]
fn other_files_and_newer_archives_are_named() {
    for other in [&b""[..], b"x", &vec![0; 100_000], &packed(b"text"), &packed(&[0; 4 * BLOCK])] {
        let error = read(other).unwrap_err();
        assert!(matches!(error, ArchiveError::Foreign | ArchiveError::Truncated), "{error:?}");
    }
    let own = StoreVersions::OWN;
    let newer = [
        Versions { layout: own.layout + 1, ..own.into() },
        Versions { writer: own.writer + 1, ..own.into() },
        Versions { records: own.records + 1, ..own.into() },
    ];
    for versions in newer {
        let error = read(&archive(Header { versions, ..header() })).unwrap_err();
        assert!(
            matches!(&error, ArchiveError::Newer { program } if program == "0.1.0"),
            "{error:?}"
        );
    }
    let error = read(&archive(Header { format: FORMAT + 1, ..header() })).unwrap_err();
    assert!(matches!(error, ArchiveError::Newer { .. }), "{error:?}");
}

#[test]
fn texts_that_a_terminal_would_obey_are_refused() {
    for changed in [
        Header { program: "\u{1b}[2J".to_owned(), ..header() },
        Header { created_at: "x\ny".to_owned(), ..header() },
        Header { program: "x".repeat(129), ..header() },
        Header { server_id: "../../x".to_owned(), ..header() },
        Header { server_id: String::new(), ..header() },
        Header { sequence: u64::MAX, ..header() },
        Header { streams: vec!["STATE".to_owned()], ..header() },
    ] {
        let error = read(&archive(changed.clone())).unwrap_err();
        assert!(matches!(error, ArchiveError::Damaged { .. }), "{changed:?}: {error:?}");
    }
}

#[test]
fn wrong_counts_are_refused() {
    for (records, subjects) in [(1, 2), (3, 2), (2, 1), (0, 0)] {
        let error =
            read(&archive_that_says(header(), StreamTotals { records, subjects })).unwrap_err();
        assert!(matches!(error, ArchiveError::Damaged { .. }), "{error:?}");
    }
}

#[test]
fn a_stream_of_many_records_has_many_members_and_little_is_kept_in_memory() {
    let mut writer = ArchiveWriter::begin(std::io::sink(), header()).unwrap();
    let data = vec![b'x'; 100_000];
    for page in 0..400 {
        let subject = format!("pages.{ROOM}.r.{page}");
        writer.record(ArchivedStream::Pages, &record(&subject, &data)).unwrap();
    }
    let (_, manifest) = writer.finish(Manifest::default()).unwrap();
    assert_eq!(manifest.parts.len(), 1);
    // Some 60 of up to 1 MiB, header and text; a line for each.
    assert!(manifest.parts[0].size < 10_000, "{}", manifest.parts[0].size);
}
