//! Resized images, made from PNG, JPEG, GIF and WebP files.
//!
//! Decoders of foreign bytes run in a process of their own ([`worker`]), which the kernel stops at its limits of memory
//! and time: no image can take more of either, and one that makes a decoder panic ends only that process.

mod encode;
mod formats;
mod geometry;
mod images;
mod shrink;
#[cfg(test)]
mod tests;
mod worker;

pub use images::{Config, FileStream, ImageError, Images};
pub use worker::{WORKER_ARGUMENT, WORKER_ENVIRONMENT, run as run_worker};

use bytes::Bytes;

/// Makes what the order says of a file in this process.
///
/// # Errors
/// Why it cannot be decoded.
pub fn make_here(file: &[u8], order: &Order, limits: DecoderLimits) -> Result<Made, &'static str> {
    formats::make(file, order, limits).map_err(|undecodable| undecodable.0)
}

/// What decoding one image may take; an image that needs more is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderLimits {
    pub memory_max_bytes: usize,
    /// Width times height of the source. The memory is what really limits an image.
    pub pixels_max: u64,
}

/// The size that an image is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Pixels.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    /// Cut to fill the whole area, instead of lying inside it.
    pub cover: bool,
    /// Of an animated image, make its first frame.
    pub still: bool,
}

/// What was made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// No metadata, upright; never larger than the source.
    Image { content_type: &'static str, bytes: Bytes },
    /// It is animated; a resized image would not be.
    Animated,
}

/// Whether images of this type can be made smaller.
#[must_use]
pub fn is_resizable(content_type: &str) -> bool {
    matches!(content_type, "image/png" | "image/jpeg" | "image/gif" | "image/webp")
}
