//! Small images of every kind, made here and decoded with the memory of a small board.

use super::geometry::Geometry;
use super::shrink::{Pixel, Shrinker};
use super::{DecoderLimits, Made, Order, make_here};
use crate::limits::{IMAGE_MEMORY_SMALL_MAX_BYTES, IMAGE_PIXELS_MAX};
use crate::media::exif::Orientation;

const RED: Pixel = [255, 0, 0, 255];
const GREEN: Pixel = [0, 255, 0, 255];
const BLUE: Pixel = [0, 0, 255, 255];
const WHITE: Pixel = [255, 255, 255, 255];

const SMALL_BOARD: DecoderLimits =
    DecoderLimits { memory_max_bytes: IMAGE_MEMORY_SMALL_MAX_BYTES, pixels_max: IMAGE_PIXELS_MAX };

fn order(width: u32, height: u32, cover: bool) -> Order {
    Order { width, height, cover, still: false }
}

fn make(file: &[u8], order: &Order) -> Result<Made, &'static str> {
    make_here(file, order, SMALL_BOARD)
}

/// Size and pixels of what was made, and whether it is a JPEG.
fn open(made: Made) -> ((u32, u32), Vec<Pixel>, bool) {
    let Made::Image { content_type, bytes } = made else { panic!("no image was made") };
    if content_type == "image/webp" {
        let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(bytes)).unwrap();
        let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
        decoder.read_image(&mut pixels).unwrap();
        return (decoder.dimensions(), pixels.as_chunks().0.to_vec(), false);
    }
    let mut decoder = jpeg_decoder::Decoder::new(bytes.as_ref());
    let pixels = decoder.decode().unwrap();
    let pixels = pixels.as_chunks().0.iter().map(|[r, g, b]| [*r, *g, *b, 255]).collect();
    let info = decoder.info().unwrap();
    ((info.width.into(), info.height.into()), pixels, true)
}

/// JPEG changes colours a little.
fn is_near(pixel: Pixel, other: Pixel) -> bool {
    pixel.iter().zip(other).all(|(one, other)| one.abs_diff(other) < 24)
}

/// Red, green, blue and white quarters.
fn quarters(width: u32, height: u32) -> Vec<Pixel> {
    let colour = |x, y| match (x < width / 2, y < height / 2) {
        (true, true) => RED,
        (false, true) => GREEN,
        (true, false) => BLUE,
        (false, false) => WHITE,
    };
    (0..height).flat_map(|y| (0..width).map(move |x| colour(x, y))).collect()
}

fn jpeg(
    pixels: &[u8],
    (width, height): (u16, u16),
    colour: jpeg_encoder::ColorType,
    prepare: impl FnOnce(&mut jpeg_encoder::Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 90);
    prepare(&mut encoder);
    encoder.encode(pixels, width, height, colour).unwrap();
    file
}

fn png(info: png::Info<'_>, pixels: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = png::Encoder::with_info(&mut file, info).unwrap().write_header().unwrap();
    writer.write_image_data(pixels).unwrap();
    writer.finish().unwrap();
    file
}

fn info(size: (u32, u32), colour: png::ColorType, depth: png::BitDepth) -> png::Info<'static> {
    let mut info = png::Info::with_size(size.0, size.1);
    (info.color_type, info.bit_depth) = (colour, depth);
    info
}

fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    block
}

/// Where EXIF says that the stored top left corner and its neighbour to the right are shown: (right, bottom).
const CORNERS: [((bool, bool), (bool, bool)); 8] = [
    ((false, false), (true, false)),
    ((true, false), (false, false)),
    ((true, true), (false, true)),
    ((false, true), (true, true)),
    ((false, false), (false, true)),
    ((true, false), (true, true)),
    ((true, true), (true, false)),
    ((false, true), (false, false)),
];

#[test]
fn every_orientation_is_shown_upright() {
    for (number, (first, second)) in (1_u8..).zip(CORNERS) {
        let pixels = quarters(64, 32);
        let colour = jpeg_encoder::ColorType::Rgba;
        let file = jpeg(pixels.as_flattened(), (64, 32), colour, |encoder| {
            encoder.add_exif_metadata(&exif(number)).unwrap();
        });
        let made = make(&file, &order(32, 32, false)).unwrap();
        if let Made::Image { bytes, .. } = &made {
            assert!(!bytes.windows(4).any(|window| window == b"Exif"));
        }
        let (size, pixels, _) = open(made);
        assert_eq!(size, if number < 5 { (32, 16) } else { (16, 32) }, "{number}");
        let at = |(right, bottom): (bool, bool)| {
            let part = |side: u32, end: bool| if end { side * 3 / 4 } else { side / 4 };
            pixels[(part(size.1, bottom) * size.0 + part(size.0, right)) as usize]
        };
        assert!(is_near(at(first), RED), "{number}: {:?}", at(first));
        assert!(is_near(at(second), GREEN), "{number}: {:?}", at(second));
    }
}

#[test]
fn an_image_lies_inside_or_covers_the_area_and_never_grows() {
    let of = |source, order| {
        let Geometry { part, result } = Geometry::of(source, &order);
        (part, result)
    };
    assert_eq!(of((4000, 3000), order(960, 400, false)), ((4000, 3000), (533, 400)));
    assert_eq!(of((4000, 1000), order(960, 400, false)), ((4000, 1000), (960, 240)));
    assert_eq!(of((300, 200), order(960, 400, false)), ((300, 200), (300, 200)));
    assert_eq!(of((5000, 1), order(100, 100, false)), ((5000, 1), (100, 1)));
    assert_eq!(of((4000, 3000), order(120, 120, true)), ((3000, 3000), (120, 120)));
    assert_eq!(of((100, 300), order(120, 120, true)), ((100, 100), (100, 100)));
    assert_eq!(of((100, 50), order(200, 20, true)), ((100, 10), (100, 10)));
    assert_eq!(of((65_535, 1), order(1, 4096, true)), ((1, 1), (1, 1)));
    for side in [1, 2, 3, 100, 4095, 4096] {
        for source in [(1, 1), (7, 5), (4096, 1), (1, 65_535), (12_000, 9_000)] {
            for cover in [false, true] {
                let (part, result) = of(source, order(side, 37, cover));
                assert!(result.0 <= part.0 && result.1 <= part.1, "{source:?} {side} {cover}");
                assert!(part.0 <= source.0 && part.1 <= source.1 && result.0 * result.1 > 0);
                assert!(result.0 <= side && result.1 <= 37);
            }
        }
    }
}

#[test]
fn a_resized_image_is_the_average_and_transparent_pixels_have_no_colour() {
    let shrink = |rows: &[&[Pixel]], result| {
        let size = (rows[0].len().try_into().unwrap(), rows.len().try_into().unwrap());
        let mut shrinker = Shrinker::new(size, Geometry { part: size, result });
        for row in rows {
            shrinker.push(row.iter().copied());
        }
        shrinker.finish(Orientation::Upright).pixels
    };
    let (black, clear) = ([0, 0, 0, 255], [0, 255, 0, 0]);
    assert_eq!(shrink(&[&[black, WHITE], &[WHITE, black]], (1, 1)), [[128, 128, 128, 255]]);
    assert_eq!(shrink(&[&[RED, clear]], (1, 1)), [[255, 0, 0, 128]]);
    // Two thirds of one and a third of the next.
    let row = [black, WHITE, black];
    assert_eq!(shrink(&[&row], (2, 1)), [[85, 85, 85, 255]; 2]);
    assert_eq!(shrink(&[&[black], &[WHITE], &[black]], (1, 2)), [[85, 85, 85, 255]; 2]);
    assert_eq!(shrink(&[&row], (3, 1)), row);
}

#[test]
fn grey_and_printed_and_progressive_jpegs_are_decoded() {
    let grey = jpeg(&[100; 64 * 64], (64, 64), jpeg_encoder::ColorType::Luma, |_| {});
    let (size, pixels, is_jpeg) = open(make(&grey, &order(8, 8, false)).unwrap());
    assert_eq!((size, is_jpeg), ((8, 8), true));
    assert!(is_near(pixels[0], [100, 100, 100, 255]), "{:?}", pixels[0]);
    // Cyan, magenta, yellow, black.
    let ink = [[0, 255, 255, 0]; 64 * 64];
    for colour in [jpeg_encoder::ColorType::Cmyk, jpeg_encoder::ColorType::CmykAsYcck] {
        let printed = jpeg(ink.as_flattened(), (64, 64), colour, |_| {});
        let (_, pixels, _) = open(make(&printed, &order(8, 8, false)).unwrap());
        assert!(is_near(pixels[0], RED), "{:?}", pixels[0]);
    }
    let pixels = quarters(64, 64);
    let colour = jpeg_encoder::ColorType::Rgba;
    let progressive = jpeg(pixels.as_flattened(), (64, 64), colour, |encoder| {
        encoder.set_progressive(true);
    });
    let (_, pixels, _) = open(make(&progressive, &order(16, 16, false)).unwrap());
    assert!(is_near(pixels[0], RED));
}

#[test]
fn pngs_of_every_kind_are_decoded_and_keep_their_transparency() {
    use png::{BitDepth, ColorType};
    let half = [0x80_u8, 0x00, 0xFF, 0xFF, 0, 0, 0x80, 0x00];
    let deep = png(info((2, 1), ColorType::Rgba, BitDepth::Sixteen), &[half, half].concat());
    let (size, pixels, is_jpeg) = open(make(&deep, &order(1, 1, false)).unwrap());
    assert_eq!((size, is_jpeg, pixels[0]), ((1, 1), false, [128, 255, 0, 128]));

    let mut palette = info((4, 1), ColorType::Indexed, BitDepth::Two);
    palette.palette = Some([RED, GREEN, BLUE].map(|[r, g, b, _]| [r, g, b]).concat().into());
    palette.trns = Some(vec![255, 0].into());
    // Red, clear green, blue, red.
    let (_, pixels, is_jpeg) =
        open(make(&png(palette, &[0b0001_1000]), &order(4, 1, false)).unwrap());
    assert!(!is_jpeg);
    assert_eq!((pixels[0], pixels[1][3], pixels[2], pixels[3]), (RED, 0, BLUE, RED));

    let grey = png(info((8, 1), ColorType::Grayscale, BitDepth::One), &[0xFF]);
    let (_, pixels, is_jpeg) = open(make(&grey, &order(1, 1, false)).unwrap());
    assert!(is_jpeg && is_near(pixels[0], WHITE));

    let mut turned = info((2, 1), ColorType::Rgba, BitDepth::Eight);
    turned.exif_metadata = Some(exif(6).into());
    let file = png(turned, [RED, [0; 4]].as_flattened());
    let (size, pixels, _) = open(make(&file, &order(9, 9, false)).unwrap());
    assert_eq!((size, pixels[0]), ((1, 2), RED));
}

/// Adam7: the first pass has the first pixel, the sixth its neighbour, the seventh the second row.
#[test]
fn an_interlaced_png_is_decoded() {
    let mut info = info((2, 2), png::ColorType::Rgba, png::BitDepth::Eight);
    info.interlaced = true;
    let mut file = Vec::new();
    let mut writer = png::Encoder::with_info(&mut file, info).unwrap().write_header().unwrap();
    let passes = [&[RED][..], &[GREEN], &[BLUE, [0; 4]]];
    let rows: Vec<u8> =
        passes.iter().flat_map(|pass| [&[0], pass.as_flattened()].concat()).collect();
    // One stored block of zlib (RFC 1950, RFC 1951): its length, the complement, and Adler-32 at the end.
    let length = u8::try_from(rows.len()).unwrap();
    let (low, high) = rows.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = low + u32::from(*byte);
        (low % 65_521, (high + low) % 65_521)
    });
    let sum = (high << 16 | low).to_be_bytes();
    let data = [&[0x78, 0x01, 1, length, 0, !length, 0xFF], rows.as_slice(), &sum].concat();
    writer.write_chunk(png::chunk::IDAT, &data).unwrap();
    writer.finish().unwrap();
    let (_, pixels, _) = open(make(&file, &order(2, 2, false)).unwrap());
    assert_eq!(pixels, [RED, GREEN, BLUE, [0; 4]]);
}

fn gif(frames: usize) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = gif::Encoder::new(&mut file, 8, 4, &[255, 0, 0, 0, 255, 0]).unwrap();
    for _ in 0..frames {
        let frame = gif::Frame {
            left: 4,
            width: 4,
            height: 4,
            buffer: vec![0; 16].into(),
            ..gif::Frame::default()
        };
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    file
}

#[test]
fn what_moves_is_left_as_it_is_unless_a_still_image_is_wanted() {
    let (_, pixels, _) = open(make(&gif(1), &order(2, 1, false)).unwrap());
    assert_eq!((pixels[0][3], pixels[1]), (0, RED));
    let still = Order { still: true, ..order(2, 1, false) };
    for frames in [2, 3_000] {
        assert_eq!(make(&gif(frames), &order(2, 1, false)), Ok(Made::Animated));
        assert_eq!(open(make(&gif(frames), &still).unwrap()).1[1], RED);
    }

    let mut webp = Vec::new();
    let pixels = [RED; 16].concat();
    let colour = image_webp::ColorType::Rgba8;
    image_webp::WebPEncoder::new(&mut webp).encode(&pixels, 4, 4, colour).unwrap();
    assert_eq!(open(make(&webp, &order(2, 2, false)).unwrap()).0, (2, 2));
    // RIFF, its length and WEBP stand before the chunk of the image.
    let image = &webp[12..];
    let chunk = |name: &[u8; 4], content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        [name.as_slice(), &length, content].concat()
    };
    let frame = [&[0, 0, 0, 0, 0, 0, 3, 0, 0, 3, 0, 0, 100, 0, 0, 0], image].concat();
    let chunks = [
        b"WEBP".to_vec(),
        chunk(b"VP8X", &[0x12, 0, 0, 0, 3, 0, 0, 3, 0, 0]),
        chunk(b"ANIM", &[0; 6]),
        chunk(b"ANMF", &frame),
        chunk(b"ANMF", &frame),
    ];
    let animated = chunk(b"RIFF", &chunks.concat());
    assert_eq!(make(&animated, &order(2, 2, false)), Ok(Made::Animated));
    assert!(is_near(open(make(&animated, &still).unwrap()).1[0], RED));
}

#[test]
fn an_image_of_as_many_pixels_as_there_may_be_is_decoded_and_one_of_more_is_not() {
    let pixels = quarters(64, 32);
    let colour = jpeg_encoder::ColorType::Rgba;
    let mut webp = Vec::new();
    image_webp::WebPEncoder::new(&mut webp)
        .encode(pixels.as_flattened(), 64, 32, image_webp::ColorType::Rgba8)
        .unwrap();
    let whole = info((64, 32), png::ColorType::Rgba, png::BitDepth::Eight);
    for (file, count) in [
        (jpeg(pixels.as_flattened(), (64, 32), colour, |_| {}), 64 * 32),
        (png(whole, pixels.as_flattened()), 64 * 32),
        (webp, 64 * 32),
        (gif(1), 8 * 4),
    ] {
        let make = |pixels_max| {
            make_here(&file, &order(8, 8, false), DecoderLimits { pixels_max, ..SMALL_BOARD })
        };
        assert!(make(count).is_ok());
        assert_eq!(make(count - 1), Err("too large"));
    }
}

#[test]
fn what_cannot_be_decoded_or_is_too_large_is_refused() {
    use png::{BitDepth, ColorType};
    let mut bomb = Vec::new();
    let info = info((60_000, 60_000), ColorType::Grayscale, BitDepth::Eight);
    drop(png::Encoder::with_info(&mut bomb, info).unwrap().write_header().unwrap());
    let pixels = quarters(64, 64);
    let whole = jpeg(pixels.as_flattened(), (64, 64), jpeg_encoder::ColorType::Rgba, |_| {});
    // Its frame says that it has 65,535 rows of as many pixels.
    let mut huge = whole.clone();
    let frame = huge.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    huge[frame + 5..frame + 9].fill(0xFF);
    for file in [
        bomb.as_slice(),
        &huge,
        &whole[..whole.len() / 2],
        &gif(1)[..40],
        b"",
        b"GIF89a<script>alert(1)</script>",
        b"<html></html>",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x04\0\0\0WEBP",
        b"\0\0\0\x18ftypavif\0\0\0\0avif",
    ] {
        let made = make(file, &order(960, 400, false));
        assert!(made.is_err(), "{:?}: {made:?}", file[..file.len().min(16)].escape_ascii());
    }
    // Trailing bytes of a polyglot are no part of the image that is made.
    let polyglot = [whole.as_slice(), b"<script>alert(1)</script>"].concat();
    let Made::Image { bytes, .. } = make(&polyglot, &order(9, 9, false)).unwrap() else { panic!() };
    assert!(!bytes.windows(7).any(|window| window == b"<script"));
}
