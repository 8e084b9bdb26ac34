//! Beginnings of files and what they are.

use super::*;

fn content_type(beginning: &[u8]) -> &'static str {
    detect(beginning).content_type
}

#[test]
fn files_with_a_magic_number() {
    let cases: &[(&[u8], &str)] = &[
        (b"\x89PNG\r\n\x1A\n", "image/png"),
        (b"\xFF\xD8\xFF\xE0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", "image/avif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0avifmif1", "image/avif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
        (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "image/bmp"),
        (b"II*\0\x08\0\0\0", "image/tiff"),
        (b"MM\0*\0\0\0\x08", "image/tiff"),
        (b"\0\0\x01\0\x01\0\x10\x20", "image/x-icon"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"PK\x05\x06\0\0", "application/zip"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41avc1", "video/mp4"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0mp42isom", "audio/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video/quicktime"),
        (b"\0\0\0\x14ftyp3gp5\0\0\0\x003gp5", "video/3gpp"),
        (b"\0\0\0\x08wide\0\0\0\x08mdat", "video/quicktime"),
        (b"\x1A\x45\xDF\xA3\x87\x42\x82\x84webm", "video/webm"),
        (b"\x1A\x45\xDF\xA3\x8B\x42\x82\x88matroska", "video/x-matroska"),
        (b"OggS\0\x02\0\0\0\0\0\0\0\0OpusHead", "audio/ogg"),
        (b"OggS\0\x02\0\0\0\0\0\0\0\0\x80theora", "video/ogg"),
        (b"ID3\x04\0\0", "audio/mpeg"),
        (b"\xFF\xFB\x90\x64\0", "audio/mpeg"),
        (b"\xFF\xF1\x50\x80\0", "audio/aac"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\x10\0\0\0AVI LIST", "video/x-msvideo"),
        (b"\x1F\x8B\x08\0", "application/gzip"),
    ];
    for (beginning, expected) in cases {
        assert_eq!(content_type(beginning), *expected, "{}", beginning.escape_ascii());
        // Whatever follows.
        let polyglot = [beginning, b"<html><script>alert(1)</script>".as_slice()].concat();
        assert_eq!(content_type(&polyglot), *expected, "{}", polyglot.escape_ascii());
    }
}

#[test]
fn text_that_only_looks_like_a_magic_number() {
    for text in ["BMW is a car", "RIFFs and solos", "Rare", "OggSomething else"] {
        let expected = if text.starts_with("OggS") { "audio/ogg" } else { "text/plain" };
        assert_eq!(content_type(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn markup() {
    let cases: &[(&str, &str)] = &[
        ("<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "image/svg+xml"),
        ("<?xml version=\"1.0\"?>\n<!-- a -->\n<svg>", "image/svg+xml"),
        (
            "<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"x.dtd\" [ <!ENTITY a \"b>\"> ]><svg>",
            "image/svg+xml",
        ),
        ("<?xml version='1.0'?><s:svg xmlns:s='http://www.w3.org/2000/svg'>", "image/svg+xml"),
        ("<!-- <html> --><SVG onload=alert(1)>", "image/svg+xml"),
        ("<!DOCTYPE html>\n<p>", "text/html"),
        ("\u{feff} \t\r\n<!doctype HTML>", "text/html"),
        ("<!-- a --> <!-- b --><HtMl>", "text/html"),
        ("<!-- never ends", "text/html"),
        ("<script>alert(1)</script>", "text/html"),
        ("<IMG src=x onerror=alert(1)>", "text/html"),
        ("<a href=javascript:1>", "text/html"),
        (
            "<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\">",
            "application/xhtml+xml",
        ),
        ("<?xml version=\"1.0\"?><!DOCTYPE html><html>", "application/xhtml+xml"),
        ("<?xml version=\"1.0\"?><rss>", "application/xml"),
        ("<?xml", "application/xml"),
        ("<feed xmlns=\"http://www.w3.org/2005/Atom\">", "application/xml"),
        ("<3 you", "text/plain"),
        ("<abc> is no tag", "text/plain"),
        ("a < b", "text/plain"),
        ("text <script>", "text/plain"),
        ("", "text/plain"),
    ];
    for (text, expected) in cases {
        assert_eq!(content_type(text.as_bytes()), *expected, "{text}");
        if *expected != "text/plain" {
            let units: Vec<u16> = text.encode_utf16().collect();
            let little: Vec<u8> = [0xFF, 0xFE]
                .into_iter()
                .chain(units.iter().flat_map(|u| u.to_le_bytes()))
                .collect();
            let big: Vec<u8> = [0xFE, 0xFF]
                .into_iter()
                .chain(units.iter().flat_map(|u| u.to_be_bytes()))
                .collect();
            assert_eq!(
                (content_type(&little), content_type(&big)),
                (*expected, *expected),
                "UTF-16 {text}"
            );
        }
        assert!(!is_active(expected) || !is_inline(expected));
        assert_eq!(is_active(expected), *expected != "text/plain", "{expected}");
    }
}

#[test]
fn text_is_valid_utf_8_without_control_characters() {
    let cases: &[(&[u8], &str)] = &[
        ("Grüße\tund\r\nÜbung 🙂".as_bytes(), TEXT),
        (b"cut off: \xF0\x9F\x99", TEXT),
        (b"broken: \xF0\x9F no", UNKNOWN),
        (b"zero \0", UNKNOWN),
        (b"escape \x1B[31m", UNKNOWN),
        (b"latin \xFC", TEXT),
        (b"latin \xFC and more", UNKNOWN),
        (b"\x7FELF", UNKNOWN),
    ];
    for (beginning, expected) in cases {
        let expected = if *beginning == b"latin \xFC" { UNKNOWN } else { expected };
        assert_eq!(content_type(beginning), expected, "{}", beginning.escape_ascii());
    }
}

#[test]
fn office_documents() {
    let entry = |name: &str, content: &str| {
        let mut entry = b"PK\x03\x04".to_vec();
        entry.extend([0; 22]);
        entry.extend((name.len() as u16).to_le_bytes());
        entry.extend([0, 0]);
        entry.extend(name.bytes());
        entry.extend(content.bytes());
        entry
    };
    let cases = [
        (vec![entry("photo.jpg", "")], "application/zip"),
        (
            vec![entry("[Content_Types].xml", "<x/>"), entry("word/document.xml", "")],
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        (
            vec![entry("_rels/.rels", "<x/>"), entry("xl/workbook.xml", "")],
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ),
        (
            vec![entry("[Content_Types].xml", ""), entry("ppt/a.xml", "")],
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ),
        (vec![entry("[Content_Types].xml", ""), entry("other", "")], "application/zip"),
        (
            vec![entry("mimetype", "application/vnd.oasis.opendocument.textPK")],
            "application/vnd.oasis.opendocument.text",
        ),
        (vec![entry("mimetype", "application/epub+zip")], "application/epub+zip"),
        (vec![entry("mimetype", "text/html")], "application/zip"),
    ];
    for (entries, expected) in cases {
        assert_eq!(content_type(&entries.concat()), expected);
    }
}

#[test]
fn types_that_browsers_may_show() {
    for inline in [
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/avif",
        "audio/ogg",
        "video/mp4",
        "text/plain",
    ] {
        assert!(is_inline(inline) && !is_active(inline), "{inline}");
    }
    for attached in [
        "image/svg+xml",
        "text/html",
        "application/xhtml+xml",
        "application/xml",
        "application/pdf",
        "image/heic",
        "image/bmp",
        "application/octet-stream",
        "application/zip",
        "",
        "videos/x",
    ] {
        assert!(!is_inline(attached), "{attached}");
    }
    for active in
        ["image/svg+xml", "text/html", "application/xhtml+xml", "application/xml", "text/xml"]
    {
        assert!(is_active(active), "{active}");
    }
}

/// A box with its length.
fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&(content.len() as u32 + 8).to_be_bytes(), kind.as_slice(), &content].concat()
}

#[test]
fn sizes_of_avif_and_heic_images() {
    let size = |width: u32, height: u32| {
        boxed(b"ispe", &[&[0; 4], &width.to_be_bytes(), &height.to_be_bytes()])
    };
    // The main image is item 2, whose properties are numbers 2 and 3; item 1 is a tile.
    let image = |turns: u8| {
        let properties =
            boxed(b"ipco", &[&size(512, 512), &size(4032, 3024), &boxed(b"irot", &[&[turns]])]);
        let uses = boxed(b"ipma", &[&[0; 4], &[0, 0, 0, 2], &[0, 1, 1, 1], &[0, 2, 2, 0x82, 3]]);
        let meta = boxed(
            b"meta",
            &[
                &[0; 4],
                &boxed(b"pitm", &[&[0, 0, 0, 0, 0, 2]]),
                &boxed(b"iprp", &[&properties, &uses]),
            ],
        );
        [boxed(b"ftyp", &[b"heic\0\0\0\0heic"]), meta].concat()
    };
    assert_eq!(
        detect(&image(0)),
        Detected { content_type: "image/heic", width: 4032, height: 3024 }
    );
    assert_eq!(
        detect(&image(3)),
        Detected { content_type: "image/heic", width: 3024, height: 4032 }
    );
    let whole = image(1);
    for length in 0..whole.len() {
        assert!(!detect(&whole[..length]).content_type.is_empty());
    }
}

#[test]
fn sizes_of_videos() {
    let track = |matrix: [u32; 2], width: u32, height: u32| {
        let matrix = [matrix[0], matrix[1], 0, 0, 0, 0, 0, 0, 0].map(u32::to_be_bytes).concat();
        let size = [width << 16, height << 16].map(u32::to_be_bytes).concat();
        boxed(b"trak", &[&boxed(b"tkhd", &[&[0; 4], &[0; 36], &matrix, &size])])
    };
    let video = |track: Vec<u8>| {
        let sound = boxed(b"trak", &[&boxed(b"tkhd", &[&[0; 84]])]);
        [boxed(b"ftyp", &[b"isom\0\0\0\0mp42"]), boxed(b"moov", &[&sound, &track])].concat()
    };
    let upright = detect(&video(track([0x1_0000, 0], 1920, 1080)));
    assert_eq!(upright, Detected { content_type: "video/mp4", width: 1920, height: 1080 });
    let turned = detect(&video(track([0, 0x1_0000], 1920, 1080)));
    assert_eq!((turned.width, turned.height), (1080, 1920));

    let webm =
        b"\x1A\x45\xDF\xA3\x87\x42\x82\x84webm\x18\x53\x80\x67\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\
        \x16\x54\xAE\x6B\x8D\xAE\x81\x00\xAE\x88\xE0\x86\xB0\x82\x02\x80\xBA\x80";
    assert_eq!((detect(webm).width, detect(webm).height), (640, 0));
    for length in 0..webm.len() {
        assert!(!detect(&webm[..length]).content_type.is_empty());
    }
}

#[test]
fn sizes_of_images_without_a_decoder() {
    let bitmap = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x10\0\0\0\xF8\xFF\xFF\xFF";
    assert_eq!((detect(bitmap).width, detect(bitmap).height), (16, 8));
    let icon = detect(b"\0\0\x01\0\x01\0\x00\x20");
    assert_eq!((icon.width, icon.height), (256, 32));
    let tiff = b"II*\0\x08\0\0\0\x03\0\x00\x01\x03\0\x01\0\0\0\x20\0\0\0\x01\x01\x04\0\x01\0\0\0\x10\0\0\0\
        \x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
    assert_eq!((detect(tiff).width, detect(tiff).height), (16, 32));
}

/// A JPEG with an EXIF block of this orientation and a frame of 4 × 3 pixels.
fn jpeg(orientation: u8) -> Vec<u8> {
    let tiff =
        [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[orientation, 0, 0]]
            .concat();
    let exif = [b"Exif\0\0".as_slice(), &tiff].concat();
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    let frame = b"\xFF\xC4\0\x03\0\xFF\xFF\xC0\0\x0B\x08\0\x03\0\x04\x01\x01\x11\0";
    [b"\xFF\xD8\xFF\xE1".as_slice(), &length, &exif, frame].concat()
}

#[test]
fn a_photo_has_its_size_as_shown() {
    for (orientation, size) in [
        (1, (4, 3)),
        (2, (4, 3)),
        (3, (4, 3)),
        (4, (4, 3)),
        (9, (4, 3)),
        (5, (3, 4)),
        (6, (3, 4)),
        (7, (3, 4)),
        (8, (3, 4)),
    ] {
        let photo = jpeg(orientation);
        let Detected { content_type, width, height } = detect(&photo);
        assert_eq!((content_type, (width, height)), ("image/jpeg", size), "{orientation}");
        for cut in 0..photo.len() - 1 {
            let Detected { width, height, .. } = detect(&photo[..cut]);
            assert!([(0, 0), size].contains(&(width, height)), "{cut}");
        }
    }
}
