//! WebM and Matroska files (RFC 8794 for the elements, RFC 9559 for their meaning).

use crate::media::fields::Fields;

const EBML: u32 = 0x1A45_DFA3;
const DOC_TYPE: u32 = 0x4282;
const SEGMENT: u32 = 0x1853_8067;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const VIDEO: u32 = 0xE0;
const PIXEL_WIDTH: u32 = 0xB0;
const PIXEL_HEIGHT: u32 = 0xBA;

/// The type that the header names.
pub(super) fn content_type(beginning: &[u8]) -> Option<&'static str> {
    let header = find(beginning, EBML)?;
    match find(header, DOC_TYPE)? {
        b"webm" => Some("video/webm"),
        b"matroska" => Some("video/x-matroska"),
        _ => None,
    }
}

/// The size of the first video track.
pub(super) fn size(beginning: &[u8]) -> Option<(u32, u32)> {
    let tracks = find(find(beginning, SEGMENT)?, TRACKS)?;
    let entries = Elements::new(tracks).filter(|(id, _)| *id == TRACK_ENTRY);
    let video = entries.into_iter().find_map(|(_, entry)| find(entry, VIDEO))?;
    Some((number(find(video, PIXEL_WIDTH)?)?, number(find(video, PIXEL_HEIGHT)?)?))
}

fn number(content: &[u8]) -> Option<u32> {
    let value = content.iter().try_fold(0_u64, |value, byte| {
        value.checked_mul(256).map(|value| value + u64::from(*byte))
    });
    u32::try_from(value?).ok()
}

fn find(bytes: &[u8], id: u32) -> Option<&[u8]> {
    Elements::new(bytes).find(|(other, _)| *other == id).map(|(_, content)| content)
}

/// Elements one after the other: id and content, the last as far as it is there.
struct Elements<'a> {
    fields: Fields<'a>,
}

impl<'a> Elements<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { fields: Fields::new(bytes) }
    }

    /// A number whose first byte tells its length; the length and all bits.
    fn variable(&mut self) -> Option<(u32, u64)> {
        let first = self.fields.u8()?;
        let length = first.leading_zeros();
        let mut value = u64::from(first);
        for _ in 0..length.min(7) {
            value = value << 8 | u64::from(self.fields.u8()?);
        }
        (length < 8).then_some((length, value))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let id = u32::try_from(self.variable()?.1).ok()?;
        let (length, size) = self.variable()?;
        let size = size & ((1 << (7 * (length + 1))) - 1);
        // All bits mean that the size is unknown; it ends where the parent does.
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(self.fields.rest().len());
        Some((id, self.fields.take(size)?))
    }
}
