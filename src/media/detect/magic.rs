//! Files that begin with a magic number, and the sizes in their headers.

use super::{boxes, matroska};
use crate::media::exif::{self, Orientation};
use crate::media::fields::Fields;

/// Magic numbers, most of them at the beginning. A longer one stands before one that it begins with.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1A\n", "image/png"),
    (b"\xFF\xD8\xFF", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\0\0\x01\0", "image/x-icon"),
    (b"%PDF-", "application/pdf"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\x1F\x8B\x08", "application/gzip"),
    (b"7z\xBC\xAF\x27\x1C", "application/x-7z-compressed"),
    (b"Rar!\x1A\x07", "application/vnd.rar"),
    (b"\xFD7zXZ\0", "application/x-xz"),
    (b"\x28\xB5\x2F\xFD", "application/zstd"),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "application/x-ole-storage"),
    (b"%!PS", "application/postscript"),
    (b"{\\rtf", "application/rtf"),
];

/// The type of a file with a magic number.
pub(super) fn content_type(beginning: &[u8]) -> Option<&'static str> {
    let simple = MAGIC.iter().find(|(magic, _)| beginning.starts_with(magic));
    simple
        .map(|(_, content_type)| *content_type)
        .or_else(|| riff(beginning))
        .or_else(|| boxes::content_type(beginning))
        .or_else(|| matroska::content_type(beginning))
        .or_else(|| ogg(beginning))
        .or_else(|| zip(beginning))
        .or_else(|| bitmap(beginning))
        .or_else(|| audio_frame(beginning))
}

/// Width and height as stored, and how they must be turned to be shown.
type StoredSize = ((u32, u32), Orientation);

/// The size of an image of a format that can be stored turned.
pub(super) fn stored_size(content_type: &str, beginning: &[u8]) -> Option<StoredSize> {
    match content_type {
        "image/png" => png_size(beginning),
        "image/jpeg" => jpeg_size(beginning),
        "image/webp" => webp_size(beginning),
        _ => None,
    }
}

/// Width and height as shown.
pub(super) fn size(content_type: &str, beginning: &[u8]) -> Option<(u32, u32)> {
    match content_type {
        "image/png" | "image/jpeg" | "image/webp" => {
            stored_size(content_type, beginning).map(|(size, orientation)| orientation.turn(size))
        }
        "image/gif" => {
            let mut fields = Fields::at(beginning, 6)?;
            Some((fields.u16_le()?.into(), fields.u16_le()?.into()))
        }
        "image/avif" | "image/heic" => boxes::image_size(beginning),
        "image/bmp" => bitmap_size(beginning),
        "image/tiff" => {
            let directory = exif::directory(beginning)?;
            Some(directory.orientation.turn((directory.width, directory.height)))
        }
        "image/x-icon" => {
            let mut fields = Fields::at(beginning, 6)?;
            let mut side = || fields.u8().map(|side| if side == 0 { 256 } else { side.into() });
            Some((side()?, side()?))
        }
        "video/mp4" | "video/quicktime" | "video/3gpp" => boxes::video_size(beginning),
        "video/webm" | "video/x-matroska" => matroska::size(beginning),
        _ => None,
    }
}

fn riff(beginning: &[u8]) -> Option<&'static str> {
    let mut fields = Fields::new(beginning);
    (fields.take(4)? == b"RIFF").then_some(())?;
    fields.skip(4)?;
    match fields.take(4)? {
        b"WEBP" => Some("image/webp"),
        b"WAVE" => Some("audio/wav"),
        b"AVI " => Some("video/x-msvideo"),
        _ => None,
    }
}

/// An Ogg file with a Theora stream is a video; the first page of each stream stands at the beginning.
fn ogg(beginning: &[u8]) -> Option<&'static str> {
    beginning.starts_with(b"OggS").then(|| {
        let pages = beginning.get(..4096).unwrap_or(beginning);
        let is_video = pages.windows(7).any(|window| window == b"\x80theora");
        if is_video { "video/ogg" } else { "audio/ogg" }
    })
}

/// Office documents are ZIP files; their first entries tell which kind.
fn zip(beginning: &[u8]) -> Option<&'static str> {
    const ZIP: &str = "application/zip";
    const KINDS: [(&str, &str); 3] = [
        ("word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ];
    const OPEN: [&str; 4] = [
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.presentation",
        "application/epub+zip",
    ];
    if beginning.starts_with(b"PK\x05\x06") {
        return Some(ZIP);
    }
    let first = zip_entry(beginning)?;
    if first.0 == b"mimetype" {
        let kind = OPEN.iter().find(|kind| first.1.starts_with(kind.as_bytes()));
        return Some(kind.copied().unwrap_or(ZIP));
    }
    if first.0 != b"[Content_Types].xml" && !first.0.starts_with(b"_rels/") {
        return Some(ZIP);
    }
    // The sizes of entries may be missing, so their headers are searched for.
    let names = beginning.windows(4).zip(0_usize..).filter(|(window, _)| *window == b"PK\x03\x04");
    let mut names = names.filter_map(|(_, at)| zip_entry(beginning.get(at..)?));
    let kind = names.find_map(|(name, _)| {
        KINDS.iter().find(|(folder, _)| name.starts_with(folder.as_bytes())).map(|(_, kind)| *kind)
    });
    Some(kind.unwrap_or(ZIP))
}

/// Name and content of the entry at the beginning.
fn zip_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields::new(bytes);
    (fields.take(4)? == b"PK\x03\x04").then_some(())?;
    fields.skip(22)?;
    let (name, extra) = (fields.u16_le()?, fields.u16_le()?);
    let name = fields.take(name.into())?;
    fields.skip(extra.into())?;
    Some((name, fields.rest()))
}

/// `BM` alone matches many texts.
fn bitmap(beginning: &[u8]) -> Option<&'static str> {
    beginning.strip_prefix(b"BM")?;
    let mut fields = Fields::at(beginning, 6)?;
    let (reserved, _pixels, header) = (fields.u32_le()?, fields.u32_le()?, fields.u32_le()?);
    (reserved == 0 && matches!(header, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
        .then_some("image/bmp")
}

fn bitmap_size(beginning: &[u8]) -> Option<(u32, u32)> {
    let mut fields = Fields::at(beginning, 14)?;
    if fields.u32_le()? == 12 {
        return Some((fields.u16_le()?.into(), fields.u16_le()?.into()));
    }
    // A negative height means that the rows run from top to bottom.
    Some((fields.u32_le()?, fields.u32_le()?.cast_signed().unsigned_abs()))
}

/// MPEG audio and AAC without a container begin with the header of their first frame.
fn audio_frame(beginning: &[u8]) -> Option<&'static str> {
    let [first, second, third, ..] = *beginning else { return None };
    if first != 0xFF || second & 0xE0 != 0xE0 {
        return None;
    }
    let (version, layer) = (second >> 3 & 3, second >> 1 & 3);
    if second & 0xF6 == 0xF0 {
        let sample_rate = third >> 2 & 15;
        return (sample_rate < 13).then_some("audio/aac");
    }
    let (bit_rate, sample_rate) = (third >> 4, third >> 2 & 3);
    let is_valid = version != 1 && layer != 0 && !matches!(bit_rate, 0 | 15) && sample_rate != 3;
    is_valid.then_some("audio/mpeg")
}

/// The frame header (ITU-T T.81, B.2.2), after the EXIF block if there is one.
fn jpeg_size(beginning: &[u8]) -> Option<StoredSize> {
    let mut fields = Fields::at(beginning, 2)?;
    let mut orientation = Orientation::default();
    loop {
        while fields.u8()? != 0xFF {}
        let mut marker = fields.u8()?;
        while marker == 0xFF {
            marker = fields.u8()?;
        }
        // Markers without a segment: TEM, restarts, the beginning of an image.
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD8) {
            continue;
        }
        let length = usize::from(fields.u16_be()?).checked_sub(2)?;
        let mut segment = Fields::new(fields.take(length)?);
        match marker {
            // Start of frame; not DHT, JPG and DAC, which lie between.
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                segment.skip(1)?;
                let (height, width) = (segment.u16_be()?, segment.u16_be()?);
                return Some(((width.into(), height.into()), orientation));
            }
            // The first block counts.
            0xE1 if orientation == Orientation::default() => {
                orientation = exif::orientation(segment.rest());
            }
            // The end, or image data before any frame.
            0xD9 | 0xDA => return None,
            _ => {}
        }
    }
}

fn png_size(beginning: &[u8]) -> Option<StoredSize> {
    let mut fields = Fields::at(beginning, 16)?;
    let size = (fields.u32_be()?, fields.u32_be()?);
    let mut chunks = Fields::at(beginning, 8)?;
    let mut orientation = Orientation::default();
    while let (Some(length), Some(name)) = (chunks.u32_be(), chunks.take(4)) {
        let Some(content) = chunks.take(length as usize) else { break };
        if name == b"eXIf" {
            orientation = exif::orientation(content);
        }
        if name == b"IDAT" || chunks.skip(4).is_none() {
            break;
        }
    }
    Some((size, orientation))
}

fn webp_size(beginning: &[u8]) -> Option<StoredSize> {
    let mut chunks = Fields::at(beginning, 12)?;
    let mut size = None;
    let mut orientation = Orientation::default();
    while let (Some(name), Some(length)) = (chunks.take(4), chunks.u32_le()) {
        let content = chunks.rest();
        let mut fields = Fields::new(content);
        let found = match name {
            b"VP8X" => {
                fields.skip(4).and_then(|()| Some((fields.u24_le()? + 1, fields.u24_le()? + 1)))
            }
            b"VP8L" => fields
                .skip(1)
                .and_then(|()| fields.u32_le())
                .map(|bits| ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)),
            b"VP8 " => fields.skip(6).and_then(|()| {
                let (width, height) = (fields.u16_le()?, fields.u16_le()?);
                Some((u32::from(width & 0x3FFF), u32::from(height & 0x3FFF)))
            }),
            b"EXIF" => {
                let block = content.get(..length as usize).unwrap_or(content);
                orientation = exif::orientation(block);
                None
            }
            _ => None,
        };
        size = size.or(found);
        if chunks.skip(length as usize + length as usize % 2).is_none() {
            break;
        }
    }
    size.map(|size| (size, orientation))
}
