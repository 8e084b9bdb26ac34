//! Target: the decoders of images.
//!
//! What they make must be an image of at most the ordered size, or nothing; they must not panic. Images of more
//! pixels than the target has patience for are left out: their time is limited by the kernel.

use chatto::media::detect;
use chatto::media::image::{DecoderLimits, Made, Order, make_here};

const PIXELS_MAX: u64 = 1 << 16;

fn target(input: &[u8]) -> Result<(&'static str, &'static str), String> {
    let found = detect(input);
    if u64::from(found.width) * u64::from(found.height) > PIXELS_MAX {
        return Ok((found.content_type, "left out"));
    }
    for still in [false, true] {
        let order = Order { width: 24, height: 16, cover: still, still };
        let limits = DecoderLimits { memory_max_bytes: 8 << 20, pixels_max: PIXELS_MAX };
        match make_here(input, &order, limits) {
            Ok(Made::Image { content_type, bytes }) => {
                let made = detect(&bytes);
                if made.content_type != content_type || !(1..=24).contains(&made.width) {
                    return Err(format!("made {made:?}"));
                }
            }
            Ok(Made::Animated) => {}
            Err(reason) => return Ok((found.content_type, reason)),
        }
    }
    Ok((found.content_type, "made"))
}

fn seeds() -> Vec<Vec<u8>> {
    let pixels: Vec<u8> = (0..32 * 32 * 4).map(|number| (number * 7 % 256) as u8).collect();
    let mut seeds = Vec::new();
    for is_progressive in [false, true] {
        let mut file = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut file, 75);
        encoder.set_progressive(is_progressive);
        encoder.encode(&pixels, 32, 32, jpeg_encoder::ColorType::Rgba).unwrap();
        seeds.push(file);
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 32, 32);
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    seeds.push(file);
    let mut file = Vec::new();
    let mut encoder = gif::Encoder::new(&mut file, 32, 32, &[0; 768]).unwrap();
    let indices = pixels[..1024].to_vec().into();
    let frame = gif::Frame { width: 32, height: 32, buffer: indices, ..gif::Frame::default() };
    encoder.write_frame(&frame).unwrap();
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    seeds.push(file);
    let mut file = Vec::new();
    let encoder = image_webp::WebPEncoder::new(&mut file);
    encoder.encode(&pixels, 32, 32, image_webp::ColorType::Rgba8).unwrap();
    seeds.push(file);
    seeds
}

const DICTIONARY: &[&[u8]] = &[
    b"\xFF\xC0",
    b"\xFF\xC2",
    b"\xFF\xC4",
    b"\xFF\xDA",
    b"\xFF\xDB",
    b"\xFF\xDD",
    b"\xFF\xD9",
    b"\xFF\xD0",
    b"IHDR",
    b"IDAT",
    b"PLTE",
    b"tRNS",
    b"acTL",
    b"fcTL",
    b"IEND",
    b"\x21\xF9\x04",
    b"\x2C",
    b"\x3B",
    b"RIFF",
    b"VP8X",
    b"VP8L",
    b"VP8 ",
    b"ALPH",
    b"ANMF",
    b"\x2F",
];

#[test]
fn image_decoders_take_any_bytes() {
    super::run("images", seeds(), DICTIONARY, 2_000, target);
}
