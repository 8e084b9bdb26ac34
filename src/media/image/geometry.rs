//! Which part of an image is shown, and how large.

use super::Order;

/// Width and height.
pub(super) type Size = (u32, u32);

/// The part of the source that is shown, which lies in its middle, and the size of the result, which is not larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) part: Size,
    pub(super) result: Size,
}

impl Geometry {
    /// What the order makes of an image of this size; sides are at least 1.
    pub(super) fn of(source: Size, order: &Order) -> Self {
        let area = (order.width, order.height);
        if order.cover {
            let part = largest_like(area, source);
            return Self { part, result: (part.0.min(area.0), part.1.min(area.1)) };
        }
        let fits = source.0 <= area.0 && source.1 <= area.1;
        Self { part: source, result: if fits { source } else { largest_like(source, area) } }
    }
}

/// The largest size with the proportions of `shape` inside `area`.
fn largest_like(shape: Size, area: Size) -> Size {
    if wide(area.0, shape.1) >= wide(area.1, shape.0) {
        (scaled(shape.0, area.1, shape.1).min(area.0), area.1)
    } else {
        (area.0, scaled(shape.1, area.0, shape.0).min(area.1))
    }
}

fn wide(a: u32, b: u32) -> u64 {
    u64::from(a).saturating_mul(b.into())
}

/// `value × by / of`, rounded, at least 1.
pub(super) fn scaled(value: u32, by: u32, of: u32) -> u32 {
    let of = u64::from(of.max(1));
    let scaled = wide(value, by).saturating_add(of / 2) / of;
    u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
}
