//! The orientation of an image in its EXIF block, which has the structure of a TIFF file (EXIF 2.32, 4.5 and 4.6.4).

use super::fields::Fields;

/// How stored pixels must be turned to be shown; the numbers are those of EXIF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Orientation {
    #[default]
    Upright = 1,
    Mirrored = 2,
    Rotated180 = 3,
    MirroredRotated180 = 4,
    Transposed = 5,
    Rotated90 = 6,
    Transversed = 7,
    Rotated270 = 8,
}

impl Orientation {
    fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Upright,
            2 => Self::Mirrored,
            3 => Self::Rotated180,
            4 => Self::MirroredRotated180,
            5 => Self::Transposed,
            6 => Self::Rotated90,
            7 => Self::Transversed,
            8 => Self::Rotated270,
            _ => return None,
        })
    }

    /// Whether width and height change places.
    pub(super) fn swaps_sides(self) -> bool {
        matches!(self, Self::Transposed | Self::Rotated90 | Self::Transversed | Self::Rotated270)
    }

    /// Width and height as shown of an image stored with these, and the reverse.
    pub(super) fn turn<T>(self, (width, height): (T, T)) -> (T, T) {
        if self.swaps_sides() { (height, width) } else { (width, height) }
    }
}

/// Tags of the first directory of a TIFF file that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) orientation: Orientation,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// The orientation in an EXIF block, with or without the `Exif` prefix; upright if there is none.
pub(super) fn orientation(block: &[u8]) -> Orientation {
    let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    directory(tiff).unwrap_or_default().orientation
}

/// The first directory of a TIFF file. An entry that cannot be read ends it.
pub(super) fn directory(tiff: &[u8]) -> Option<Directory> {
    let mut fields = Fields::new(tiff);
    let order = match fields.take(4)? {
        b"II*\0" => ByteOrder::Little,
        b"MM\0*" => ByteOrder::Big,
        _ => return None,
    };
    let offset = usize::try_from(order.u32(&mut fields)?).ok()?;
    let mut entries = Fields::at(tiff, offset)?;
    let mut found = Directory::default();
    for _ in 0..order.u16(&mut entries)? {
        let Some((tag, value)) = order.entry(&mut entries) else { break };
        match tag {
            0x0100 => found.width = value,
            0x0101 => found.height = value,
            0x0112 => {
                let number = u16::try_from(value).unwrap_or(0);
                found.orientation = Orientation::from_number(number).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(found)
}

#[derive(Clone, Copy)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    fn u16(self, fields: &mut Fields<'_>) -> Option<u16> {
        match self {
            Self::Little => fields.u16_le(),
            Self::Big => fields.u16_be(),
        }
    }

    fn u32(self, fields: &mut Fields<'_>) -> Option<u32> {
        match self {
            Self::Little => fields.u32_le(),
            Self::Big => fields.u32_be(),
        }
    }

    /// Tag and value of an entry of 12 bytes; 0 for a value that is not one number.
    fn entry(self, fields: &mut Fields<'_>) -> Option<(u16, u32)> {
        const SHORT: u16 = 3;
        const LONG: u16 = 4;
        let (tag, kind, _count) = (self.u16(fields)?, self.u16(fields)?, self.u32(fields)?);
        let mut value = Fields::new(fields.take(4)?);
        let value = match kind {
            SHORT => self.u16(&mut value).map_or(0, u32::from),
            LONG => self.u32(&mut value).unwrap_or(0),
            _ => 0,
        };
        Some((tag, value))
    }
}
