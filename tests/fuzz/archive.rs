//! Target: the reader of archives.
//!
//! The first byte of an input chooses what the others are: the file as it is; a tar, which is compressed, also with
//! the checksums of its headers put right; or a member of records among others that are as they should be. Whatever is
//! read must be the same when the file arrives in small pieces, and again after it was written to another archive.

use std::io::{Cursor, Read, Write};

use chatto::backup::archive::{
    ArchiveError, ArchiveReader, ArchiveWriter, AssetOrigin, Header, Item, ListedObject, Manifest,
};
use chatto::crypto::sha256;
use chatto::domain::{AssetId, UserId};
use chatto::storage::{ArchivedRecord, ArchivedStream, StoreVersions};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// tar's unit.
const BLOCK: usize = 512;
const FILE: &str = "A00000000000001";
const FILE_BYTES: &[u8] = b"the bytes of a file";

/// What is read of an archive.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Records(ArchivedStream, Vec<ArchivedRecord>),
    Asset(AssetOrigin, AssetId, Vec<u8>),
    Objects(Vec<ListedObject>),
}

struct Archive {
    header: Header,
    content: Vec<Content>,
    manifest: Manifest,
}

/// Hands out at most seven bytes at a time.
struct Slow<R>(R);

impl<R: Read> Read for Slow<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(7);
        self.0.read(&mut buffer[..length])
    }
}

fn read(source: impl Read) -> Result<Archive, ArchiveError> {
    let mut reader = ArchiveReader::open(source)?;
    let mut content = Vec::new();
    while let Some(item) = reader.next_item()? {
        content.push(match item {
            Item::Records(stream, records) => Content::Records(stream, records),
            Item::Objects(objects) => Content::Objects(objects),
            Item::Asset { origin, id, .. } => {
                let (mut bytes, mut chunk) = (Vec::new(), [0; 100]);
                loop {
                    match reader.read(&mut chunk)? {
                        0 => break Content::Asset(origin, id, bytes),
                        read => bytes.extend_from_slice(&chunk[..read]),
                    }
                }
            }
        });
    }
    let manifest = reader.manifest().cloned().unwrap_or_default();
    Ok(Archive { header: reader.header().clone(), content, manifest })
}

fn written(archive: &Archive) -> Vec<u8> {
    let mut writer = ArchiveWriter::begin(Vec::new(), archive.header.clone()).unwrap();
    let mut origins = Vec::new();
    for content in &archive.content {
        match content {
            Content::Records(stream, records) => {
                for record in records {
                    writer.record(*stream, record).unwrap();
                }
            }
            Content::Objects(objects) => {
                objects.iter().for_each(|object| writer.object(object.clone()));
            }
            Content::Asset(origin, id, bytes) => {
                if !origins.contains(origin) {
                    origins.push(*origin);
                    writer.begin_assets().unwrap();
                }
                let mut asset = writer.asset(*origin, *id, bytes.len() as u64).unwrap();
                asset.write(bytes).unwrap();
                asset.finish().unwrap();
            }
        }
    }
    writer.finish(archive.manifest.clone()).unwrap().0
}

/// Coarse: what of it was read, or why it was refused.
fn outcome(read: &Result<Archive, ArchiveError>) -> String {
    match read {
        Ok(archive) => format!("{} members", archive.content.len()),
        Err(error) => error.to_string().chars().filter(|c| !c.is_ascii_digit()).take(90).collect(),
    }
}

fn target(input: &[u8]) -> Result<(u8, String), String> {
    let [form, bytes @ ..] = input else { return Ok((0, String::new())) };
    let form = form % 4;
    let file = match form {
        0 => bytes.to_vec(),
        1 => packed(bytes),
        2 => packed(&corrected(bytes)),
        _ => packed(&with_records(bytes)),
    };
    let first = read(Cursor::new(&file));
    let slow = read(Slow(Cursor::new(&file)));
    let outcome = outcome(&first);
    if outcome != self::outcome(&slow) {
        return Err(format!("{outcome}, but in small pieces: {}", self::outcome(&slow)));
    }
    if let Ok(archive) = &first
        && archive.manifest.listed_objects.files == 0
    {
        let again = read(Cursor::new(written(archive))).map_err(|error| error.to_string())?;
        let records = |archive: &Archive| archive.content.iter().map(flat).collect::<Vec<_>>();
        if again.header != archive.header || records(&again) != records(archive) {
            return Err(format!("it is another archive when it is written again: {outcome}"));
        }
    }
    Ok((form, outcome))
}

fn flat(content: &Content) -> String {
    format!("{content:?}")
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

/// The same tar with right checksums, as far as its headers follow each other.
fn corrected(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    let mut at = 0_usize;
    while let Some(block) = tar.get_mut(at..at.saturating_add(BLOCK)) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let Ok(size) = header.size() else { break };
        let blocks = usize::try_from(size.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX);
        at = at.saturating_add(BLOCK).saturating_add(blocks.saturating_mul(BLOCK));
    }
    tar
}

/// A tar with one member of records, of a stream that the first byte chooses; it has no manifest.
fn with_records(bytes: &[u8]) -> Vec<u8> {
    let [stream, bytes @ ..] = bytes else { return Vec::new() };
    let stream = ArchivedStream::ALL[usize::from(*stream) % ArchivedStream::ALL.len()];
    let name = format!("backup/streams/{}/000001.jsonl", stream.name());
    let header = serde_json::to_vec(&header()).unwrap();
    let mut tar = Vec::new();
    for (name, bytes) in [("backup/header.json", &header[..]), (name.as_str(), bytes)] {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar
}

fn header() -> Header {
    Header {
        format: 1,
        program: "0.1.0".to_owned(),
        versions: StoreVersions::OWN.into(),
        server_id: "S0123456789abcdef".to_owned(),
        sequence: 7,
        streams: ArchivedStream::ALL.iter().map(|stream| stream.name().to_owned()).collect(),
        assets: "all".to_owned(),
        ..Header::default()
    }
}

/// A record of FILES: its version and a message `File` of `stored.v1.proto`.
fn file_record() -> Vec<u8> {
    let uploader = UserId::from_number(1).to_string();
    let mut data = vec![1];
    for (field, value) in
        [(1_u8, FILE.as_bytes()), (3, uploader.as_bytes()), (4, b"x"), (7, &sha256(FILE_BYTES))]
    {
        data.extend([(field << 3) | 2, u8::try_from(value.len()).unwrap()]);
        data.extend_from_slice(value);
    }
    // `size`, and `state`: complete.
    data.extend([6 << 3, u8::try_from(FILE_BYTES.len()).unwrap(), 11 << 3, 1]);
    data
}

/// An archive of a few records and a file.
fn archive() -> Archive {
    let record = |subject: String, data: &[u8], deleted| ArchivedRecord {
        sequence: 3,
        stored_at: "2026-11-21T05:59:59.123456789Z".to_owned(),
        subject,
        ttl: None,
        deleted,
        data: data.to_vec().into(),
    };
    let id: AssetId = FILE.parse().unwrap();
    let files = format!("files.{}.{id}", id.group());
    let room = "R00000000000001";
    let mark = format!("$KV.READ_MARKERS.{}.{room}", UserId::from_number(1));
    let content = vec![
        Content::Records(
            ArchivedStream::ReadMarkers,
            vec![record(mark.clone(), b"mark", false), record(mark, b"", true)],
        ),
        Content::Records(
            ArchivedStream::Pages,
            vec![record(format!("pages.{room}.h"), b"head", false)],
        ),
        Content::Records(
            ArchivedStream::Journal,
            vec![record(format!("journal.{room}"), b"event", false)],
        ),
        Content::Records(ArchivedStream::Files, vec![record(files, &file_record(), false)]),
        Content::Asset(AssetOrigin::Nats, id, FILE_BYTES.to_vec()),
    ];
    let mut manifest = Manifest::default();
    for stream in ArchivedStream::ALL {
        let totals = manifest.streams.entry(stream.name().to_owned()).or_default();
        (totals.records, totals.subjects) = match stream {
            ArchivedStream::ReadMarkers => (2, 0),
            ArchivedStream::Pages | ArchivedStream::Journal | ArchivedStream::Files => (1, 1),
            ArchivedStream::Notifications | ArchivedStream::State => (0, 0),
        };
    }
    let assets = manifest.assets.entry(AssetOrigin::Nats.word().to_owned()).or_default();
    (assets.files, assets.bytes) = (1, FILE_BYTES.len() as u64);
    Archive { header: header(), content, manifest }
}

fn seeds() -> Vec<Vec<u8>> {
    let file = written(&archive());
    assert_eq!(read(Cursor::new(&file)).unwrap().content, archive().content);
    let mut tar = Vec::new();
    MultiGzDecoder::new(Cursor::new(&file)).read_to_end(&mut tar).unwrap();
    let mut seeds =
        vec![[&[0], &file[..]].concat(), [&[1], &tar[..]].concat(), [&[2], &tar[..]].concat()];
    for (number, subject) in
        [(1_u8, "$KV.READ_MARKERS.a.b"), (5, "$KV.STATE.user.x"), (4, "files.1.A00000000000001")]
    {
        let line = format!(
            "{{\"seq\":1,\"time\":\"x\",\"subject\":\"{subject}\",\"ttl\":60,\"data\":\"AQoB\"}}\n"
        );
        seeds.push([&[3, number], line.as_bytes()].concat());
    }
    seeds
}

const DICTIONARY: &[&[u8]] = &[
    b"backup/header.json",
    b"backup/streams/PAGES/000002.jsonl",
    b"backup/streams/STATE/000001.jsonl",
    b"backup/assets/s3/00000001-A00000000000001",
    b"backup/manifest/000002.jsonl",
    b"backup/manifest.json",
    b"../",
    b"\0",
    b"ustar\x0000",
    b"00000001000\0",
    b"77777777777\0",
    b"\x80\0\0\0\0\0\0\x01\0\0\0\0",
    b"{\"seq\":1,\"time\":\"\",\"subject\":\"journal.R00000000000001\",\"data\":\"\"}\n",
    b"{\"object\":\"a\",\"size\":1,\"sha256\":\"\"}\n",
    b"\"deleted\":true",
    b"\"ttl\":0",
    b"18446744073709551615",
    b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
    b"\x1f\x8b\x08\x1c\0\0\0\0\0\xff",
    b"[[[[[[[[",
    b"\"\\ud800\"",
    b"\"\\u0000\"",
];

#[test]
fn archives_take_any_bytes() {
    super::run("archive", seeds(), DICTIONARY, 5_000, target);
}
