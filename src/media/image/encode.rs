//! Writes images: JPEG if they are opaque, else lossless WebP, which has transparency and is smaller than PNG.

use bytes::Bytes;
use image_webp::WebPEncoder;

use super::formats::Undecodable;
use super::shrink::Image;

/// Contract 10.3.
const JPEG_QUALITY: u8 = 75;

/// The image as a file, and its type.
pub(super) fn encode(image: &Image) -> Result<(&'static str, Bytes), Undecodable> {
    let mut file = Vec::new();
    let (width, height) = image.size;
    if !image.is_opaque() {
        let encoder = WebPEncoder::new(&mut file);
        let colour = image_webp::ColorType::Rgba8;
        encoder.encode(image.pixels.as_flattened(), width, height, colour)?;
        return Ok(("image/webp", file.into()));
    }
    let side = |side: u32| u16::try_from(side).map_err(|_| Undecodable("too large"));
    let encoder = jpeg_encoder::Encoder::new(&mut file, JPEG_QUALITY);
    let colour = jpeg_encoder::ColorType::Rgba;
    encoder.encode(image.pixels.as_flattened(), side(width)?, side(height)?, colour)?;
    Ok(("image/jpeg", file.into()))
}
