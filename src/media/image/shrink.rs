//! Makes an image smaller by the average of the area that each pixel of the result covers, one row of the source at a
//! time. Colours count as much as they are opaque.

use super::geometry::{Geometry, Size};
use crate::media::exif::Orientation;

/// The four channels of a pixel: red, green, blue, alpha.
pub(super) type Pixel = [u8; 4];

/// Takes the rows of an image from top to bottom.
pub(super) struct Shrinker {
    /// Where the part that is shown begins.
    begin: Size,
    part: Size,
    result: Size,
    /// Rows that have come.
    row: u32,
    /// The row of the source: its pixels added up along the width, times `part.0`.
    across: Vec<Sums>,
    /// The row of the result that is being added up, times `part.0 × part.1`.
    sums: Vec<Sums>,
    /// How much of it is still to come; it is `part.1` high.
    missing: u32,
    pixels: Vec<Pixel>,
}

/// Sums of the channels; red, green and blue times alpha. The largest are 255 × 255 × 65,535², which fit.
#[derive(Clone, Copy, Default)]
struct Sums([u64; 4]);

impl Shrinker {
    pub(super) fn new(source: Size, geometry: Geometry) -> Self {
        let Geometry { part, result } = geometry;
        let middle = |whole: u32, part: u32| whole.saturating_sub(part) / 2;
        Self {
            begin: (middle(source.0, part.0), middle(source.1, part.1)),
            part,
            result,
            row: 0,
            across: vec![Sums::default(); result.0 as usize],
            sums: vec![Sums::default(); result.0 as usize],
            missing: part.1,
            pixels: Vec::with_capacity(result.0 as usize * result.1 as usize),
        }
    }

    /// Whether further rows change nothing.
    pub(super) fn is_complete(&self) -> bool {
        self.row >= self.begin.1.saturating_add(self.part.1)
    }

    /// Takes the next row.
    pub(super) fn push(&mut self, pixels: impl Iterator<Item = Pixel>) {
        let is_shown = self.row >= self.begin.1 && !self.is_complete();
        self.row = self.row.saturating_add(1);
        if !is_shown {
            return;
        }
        self.add_across(pixels);
        // Each row is `result.1` high.
        let mut height = self.result.1;
        while height > 0 {
            let taken = height.min(self.missing);
            for (sums, across) in self.sums.iter_mut().zip(&self.across) {
                sums.add(across, taken.into());
            }
            height = height.saturating_sub(taken);
            self.missing = self.missing.saturating_sub(taken);
            if self.missing == 0 {
                let area = u64::from(self.part.0).saturating_mul(self.part.1.into());
                self.pixels.extend(self.sums.iter().map(|sums| sums.average(area)));
                self.sums.fill(Sums::default());
                self.missing = self.part.1;
            }
        }
    }

    fn add_across(&mut self, pixels: impl Iterator<Item = Pixel>) {
        self.across.fill(Sums::default());
        let mut columns = self.across.iter_mut();
        let Some(mut column) = columns.next() else { return };
        let mut missing = self.part.0;
        for pixel in pixels.skip(self.begin.0 as usize).take(self.part.0 as usize) {
            let pixel = Sums::of(pixel);
            // At most two columns, as the result is not wider.
            let taken = self.result.0.min(missing);
            column.add(&pixel, taken.into());
            missing = missing.saturating_sub(taken);
            if missing == 0 {
                let rest = self.result.0.saturating_sub(taken);
                let Some(next) = columns.next() else { return };
                column = next;
                column.add(&pixel, rest.into());
                missing = self.part.0.saturating_sub(rest);
            }
        }
    }

    /// The result, whose missing rows are transparent, turned to be shown.
    pub(super) fn finish(mut self, orientation: Orientation) -> Image {
        let size = self.result;
        self.pixels.resize(size.0 as usize * size.1 as usize, Pixel::default());
        Image { size, pixels: self.pixels }.turned(orientation)
    }
}

impl Sums {
    fn of([red, green, blue, alpha]: Pixel) -> Self {
        let alpha = u64::from(alpha);
        let weighted = |channel: u8| u64::from(channel).wrapping_mul(alpha);
        Self([weighted(red), weighted(green), weighted(blue), alpha])
    }

    fn add(&mut self, other: &Self, times: u64) {
        for (sum, other) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(other.wrapping_mul(times));
        }
    }

    fn average(&self, area: u64) -> Pixel {
        let [red, green, blue, alpha] = self.0;
        let rounded = |sum: u64, by: u64| {
            let value = sum.saturating_add(by / 2).checked_div(by).unwrap_or_default();
            u8::try_from(value).unwrap_or(u8::MAX)
        };
        [rounded(red, alpha), rounded(green, alpha), rounded(blue, alpha), rounded(alpha, area)]
    }
}

/// Pixels, row by row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) size: Size,
    pub(super) pixels: Vec<Pixel>,
}

impl Image {
    fn turned(self, orientation: Orientation) -> Self {
        if orientation == Orientation::Upright {
            return self;
        }
        let (width, height) = self.size;
        let (right, bottom) = (width.saturating_sub(1), height.saturating_sub(1));
        let size = orientation.turn(self.size);
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for y in 0..size.1 {
            for x in 0..size.0 {
                let (from_x, from_y) = match orientation {
                    Orientation::Upright => (x, y),
                    Orientation::Mirrored => (right.saturating_sub(x), y),
                    Orientation::Rotated180 => (right.saturating_sub(x), bottom.saturating_sub(y)),
                    Orientation::MirroredRotated180 => (x, bottom.saturating_sub(y)),
                    Orientation::Transposed => (y, x),
                    Orientation::Rotated90 => (y, bottom.saturating_sub(x)),
                    Orientation::Transversed => (right.saturating_sub(y), bottom.saturating_sub(x)),
                    Orientation::Rotated270 => (right.saturating_sub(y), x),
                };
                let at = from_y as usize * width as usize + from_x as usize;
                pixels.push(self.pixels.get(at).copied().unwrap_or_default());
            }
        }
        Self { size, pixels }
    }

    pub(super) fn is_opaque(&self) -> bool {
        self.pixels.iter().all(|[.., alpha]| *alpha == u8::MAX)
    }
}
