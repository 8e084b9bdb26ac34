//! Writes pictures: JPEG if they are opaque, else lossless WebP, which has transparency and is smaller than PNG.

use bytes::Bytes;
use image_webp::WebPEncoder;

use super::formats::Undecodable;
use super::shrink::Picture;

/// Contract 10.3.
const JPEG_QUALITY: u8 = 75;

/// The picture as a file, and its type.
pub(super) fn encode(picture: &Picture) -> Result<(&'static str, Bytes), Undecodable> {
    let mut file = Vec::new();
    let (width, height) = picture.size;
    if !picture.is_opaque() {
        let encoder = WebPEncoder::new(&mut file);
        let colour = image_webp::ColorType::Rgba8;
        encoder.encode(picture.pixels.as_flattened(), width, height, colour)?;
        return Ok(("image/webp", file.into()));
    }
    let side = |side: u32| u16::try_from(side).map_err(|_| Undecodable("too large"));
    let encoder = jpeg_encoder::Encoder::new(&mut file, JPEG_QUALITY);
    let colour = jpeg_encoder::ColorType::Rgba;
    encoder.encode(picture.pixels.as_flattened(), side(width)?, side(height)?, colour)?;
    Ok(("image/jpeg", file.into()))
}
