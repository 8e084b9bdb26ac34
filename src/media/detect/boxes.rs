//! Files of boxes (ISO/IEC 14496-12): MP4, QuickTime, AVIF and HEIC.

use crate::media::fields::Fields;

/// The type that the file's brands name.
pub(super) fn content_type(beginning: &[u8]) -> Option<&'static str> {
    let (kind, content) = Boxes::new(beginning).next()?;
    match &kind {
        b"ftyp" => {}
        b"moov" | b"wide" => return Some("video/quicktime"),
        _ => return None,
    }
    let mut brands = content.as_chunks::<4>().0.iter();
    let main = brands.next()?;
    // The second number is a version.
    let compatible = || brands.clone().skip(1);
    Some(match main {
        b"avif" | b"avis" => "image/avif",
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => "image/heic",
        b"mif1" | b"msf1" | b"miaf" if compatible().any(|brand| brand == b"avif") => "image/avif",
        b"mif1" | b"msf1" | b"miaf" => "image/heic",
        b"qt  " => "video/quicktime",
        b"M4A " | b"M4B " | b"M4P " | b"F4A " | b"F4B " => "audio/mp4",
        [b'3', b'g', ..] => "video/3gpp",
        [b'i', b's', b'o', _] | [b'm', b'p', b'4', _] | [b'a', b'v', b'c', _] => "video/mp4",
        b"M4V " | b"M4VH" | b"M4VP" | b"F4V " | b"f4v " | b"dash" | b"MSNV" | b"mmp4" => {
            "video/mp4"
        }
        _ if compatible().any(|brand| matches!(brand, b"isom" | b"mp41" | b"mp42")) => "video/mp4",
        _ => return None,
    })
}

/// The size of the main image of an AVIF or HEIC file.
pub(super) fn image_size(beginning: &[u8]) -> Option<(u32, u32)> {
    let meta = find(beginning, b"meta")?.get(4..)?;
    let main = primary_item(find(meta, b"pitm")?)?;
    let properties = find(meta, b"iprp")?;
    let numbers = properties_of(find(properties, b"ipma")?, main)?;
    let all: Vec<_> = Boxes::new(find(properties, b"ipco")?).collect();
    let (mut size, mut is_turned) = (None, false);
    for number in numbers {
        let Some((kind, content)) = number.checked_sub(1).and_then(|index| all.get(index)) else {
            continue;
        };
        let mut fields = Fields::new(content);
        match kind {
            b"ispe" => {
                fields.skip(4)?;
                size = Some((fields.u32_be()?, fields.u32_be()?));
            }
            b"irot" => is_turned = fields.u8()? & 1 == 1,
            _ => {}
        }
    }
    size.map(|(width, height)| if is_turned { (height, width) } else { (width, height) })
}

fn primary_item(content: &[u8]) -> Option<u32> {
    let mut fields = Fields::new(content);
    match fields.u32_be()? >> 24 {
        0 => fields.u16_be().map(u32::from),
        _ => fields.u32_be(),
    }
}

/// The numbers, from 1, of the properties of an item.
fn properties_of(content: &[u8], item: u32) -> Option<Vec<usize>> {
    let mut fields = Fields::new(content);
    let header = fields.u32_be()?;
    let (version, is_long) = (header >> 24, header & 1 == 1);
    for _ in 0..fields.u32_be()? {
        let id = if version == 0 { fields.u16_be()?.into() } else { fields.u32_be()? };
        let mut numbers = Vec::new();
        for _ in 0..fields.u8()? {
            numbers.push(match is_long {
                true => usize::from(fields.u16_be()? & 0x7FFF),
                false => usize::from(fields.u8()? & 0x7F),
            });
        }
        if id == item {
            return Some(numbers);
        }
    }
    None
}

/// The size of the first video track, if the index of the file is at its beginning.
pub(super) fn video_size(beginning: &[u8]) -> Option<(u32, u32)> {
    let tracks = Boxes::new(find(beginning, b"moov")?).filter(|(kind, _)| kind == b"trak");
    let mut sizes = tracks.filter_map(|(_, track)| track_size(find(track, b"tkhd")?));
    sizes.find(|(width, height)| *width > 0 && *height > 0)
}

/// A track header: times, layer, volume, matrix, and width and height as numbers of 16.16 bits.
fn track_size(content: &[u8]) -> Option<(u32, u32)> {
    let mut fields = Fields::new(content);
    let version = fields.u32_be()? >> 24;
    fields.skip(if version == 1 { 32 } else { 20 } + 16)?;
    let mut matrix = Fields::new(fields.take(36)?);
    let (across, turned) = (matrix.u32_be()?, matrix.u32_be()?);
    let (width, height) = (fields.u32_be()? >> 16, fields.u32_be()? >> 16);
    Some(if across == 0 && turned != 0 { (height, width) } else { (width, height) })
}

fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    Boxes::new(bytes).find(|(other, _)| other == kind).map(|(_, content)| content)
}

/// Boxes one after the other: kind and content, the last as far as it is there.
struct Boxes<'a> {
    fields: Fields<'a>,
}

impl<'a> Boxes<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { fields: Fields::new(bytes) }
    }
}

impl<'a> Iterator for Boxes<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let short = self.fields.u32_be()?;
        let kind = self.fields.array()?;
        let length = match short {
            0 => usize::MAX,
            1 => {
                let high = self.fields.u32_be()?;
                let low = usize::try_from(self.fields.u32_be()?).ok()?;
                if high > 0 { usize::MAX } else { low.checked_sub(16)? }
            }
            short => usize::try_from(short).ok()?.checked_sub(8)?,
        };
        let content = self.fields.take(length.min(self.fields.rest().len()))?;
        Some((kind, content))
    }
}
