//! Reads images of each format and makes them smaller on the way.

use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};

use super::geometry::{Geometry, Size, scaled};
use super::shrink::{Image, Pixel, Shrinker};
use super::{DecoderLimits, Made, Order, encode};
use crate::limits::{IMAGE_FILE_MAX_BYTES, IMAGE_PIXELS_MAX};
use crate::media::detect;
use crate::media::exif::Orientation;

/// An image that cannot be read; for the log of developers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Undecodable(pub(super) &'static str);

/// What a decoder reports is for nobody: the file is then shown as it is.
macro_rules! undecodable {
    ($($error:ty => $text:literal),* $(,)?) => {$(
        impl From<$error> for Undecodable {
            fn from(_: $error) -> Self {
                Self($text)
            }
        }
    )*};
}
undecodable! {
    io::Error => "cannot be read",
    jpeg_decoder::Error => "damaged JPEG",
    jpeg_encoder::EncodingError => "cannot be written as JPEG",
    png::DecodingError => "damaged PNG",
    gif::DecodingError => "damaged GIF",
    image_webp::DecodingError => "damaged WebP",
    image_webp::EncodingError => "cannot be written as WebP",
}

/// Makes what the order says of the file with about as much memory as it may take: a third at most for the result,
/// which is smaller than ordered if need be, and the rest for decoding.
pub(super) fn make(
    mut file: impl Read,
    order: &Order,
    limits: DecoderLimits,
) -> Result<Made, Undecodable> {
    let memory_max_bytes = limits.memory_max_bytes;
    let side_max = u32::try_from((memory_max_bytes / 3 / size_of::<Pixel>()).isqrt());
    let side = |side: u32| side.min(side_max.unwrap_or(u32::MAX)).max(1);
    let order = &Order { width: side(order.width), height: side(order.height), ..*order };
    let limits = DecoderLimits { memory_max_bytes: memory_max_bytes / 3 * 2, ..limits };
    let mut beginning = Vec::new();
    file.by_ref().take(detect::BEGINNING_MAX_BYTES as u64).read_to_end(&mut beginning)?;
    let content_type = detect(&beginning).content_type;
    let orientation = detect::orientation(content_type, &beginning);
    let source = Source { order, orientation, limits };
    let file = Cursor::new(beginning).chain(file);
    let image = match content_type {
        "image/jpeg" => source.jpeg(file)?,
        "image/png" => source.png(file)?,
        "image/gif" => source.gif(file)?,
        "image/webp" => source.webp(file)?,
        _ => return Err(Undecodable("another format")),
    };
    let Some(image) = image else { return Ok(Made::Animated) };
    let (content_type, bytes) = encode::encode(&image)?;
    Ok(Made::Image { content_type, bytes })
}

struct Source<'a> {
    order: &'a Order,
    orientation: Orientation,
    /// The memory without that of the result.
    limits: DecoderLimits,
}

impl Source<'_> {
    fn jpeg(&self, file: impl Read) -> Result<Option<Image>, Undecodable> {
        let mut decoder = jpeg_decoder::Decoder::new(BufReader::new(file));
        decoder.read_info()?;
        let whole = decoder.info().ok_or(Undecodable("no frame"))?;
        if whole.coding_process == jpeg_decoder::CodingProcess::Lossless {
            return Err(Undecodable("lossless JPEG"));
        }
        let whole = (u32::from(whole.width), u32::from(whole.height));
        self.check_pixels(whole)?;
        // An eighth, a quarter, half or all of the size: as much as the result needs and the memory allows.
        let geometry = self.geometry(whole);
        let wanted = |side: u32, axis: fn(Size) -> u32| {
            let wanted = scaled(side, axis(geometry.result), axis(geometry.part)).min(side);
            u16::try_from(wanted).unwrap_or(u16::MAX)
        };
        let mut wanted = (wanted(whole.0, |size| size.0), wanted(whole.1, |size| size.1));
        let mut size = decoder.scale(wanted.0, wanted.1)?;
        while jpeg_bytes(size) > self.limits.memory_max_bytes && wanted.0 > 1 && wanted.1 > 1 {
            wanted = (wanted.0 / 2, wanted.1 / 2);
            size = decoder.scale(wanted.0, wanted.1)?;
        }
        let pixels = decoder.decode()?;
        let format = decoder.info().ok_or(Undecodable("no frame"))?.pixel_format;
        let size = (u32::from(size.0), u32::from(size.1));
        let opaque = |red, green, blue| [red, green, blue, u8::MAX];
        let mut shrinker = self.shrinker(size);
        for row in pixels.chunks(size.0 as usize * format.pixel_bytes()) {
            match format {
                jpeg_decoder::PixelFormat::L8 => {
                    shrinker.push(row.iter().map(|grey| opaque(*grey, *grey, *grey)));
                }
                jpeg_decoder::PixelFormat::RGB24 => {
                    shrinker.push(row.as_chunks().0.iter().map(|[r, g, b]| opaque(*r, *g, *b)));
                }
                jpeg_decoder::PixelFormat::CMYK32 => {
                    shrinker.push(row.as_chunks().0.iter().map(|[c, m, y, k]| {
                        opaque(without(*c, *k), without(*m, *k), without(*y, *k))
                    }));
                }
                jpeg_decoder::PixelFormat::L16 => return Err(Undecodable("lossless JPEG")),
            }
        }
        Ok(Some(shrinker.finish(self.orientation)))
    }

    fn png(&self, file: impl Read) -> Result<Option<Image>, Undecodable> {
        let limits = png::Limits { bytes: self.limits.memory_max_bytes };
        let mut decoder = png::Decoder::new_with_limits(ForwardOnly(BufReader::new(file)), limits);
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        let mut reader = decoder.read_info()?;
        let info = reader.info();
        if !self.order.still && info.animation_control().is_some_and(|frames| frames.num_frames > 1)
        {
            return Ok(None);
        }
        let (size, is_interlaced) = ((info.width, info.height), info.interlaced);
        self.check_pixels(size)?;
        let channels = reader.output_color_type().0;
        let mut shrinker = self.shrinker(size);
        if is_interlaced {
            let bytes = reader.output_buffer_size().unwrap_or(usize::MAX);
            self.check_memory(bytes)?;
            let mut pixels = vec![0; bytes];
            let line = reader.next_frame(&mut pixels)?.line_size;
            for row in pixels.chunks(line.max(1)) {
                push_png_row(&mut shrinker, row, channels);
            }
        } else {
            while !shrinker.is_complete() {
                let Some(row) = reader.next_row()? else { break };
                push_png_row(&mut shrinker, row.data(), channels);
            }
        }
        Ok(Some(shrinker.finish(self.orientation)))
    }

    /// The first frame, on a transparent ground where it does not reach.
    fn gif(&self, file: impl Read) -> Result<Option<Image>, Undecodable> {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let limit = u64::try_from(self.limits.memory_max_bytes).unwrap_or(u64::MAX);
        let limit = std::num::NonZeroU64::new(limit).ok_or(Undecodable("no memory"))?;
        options.set_memory_limit(gif::MemoryLimit::Bytes(limit));
        let mut decoder = options.read_info(BufReader::new(file))?;
        let size = (u32::from(decoder.width()), u32::from(decoder.height()));
        self.check_pixels(size)?;
        let frame = decoder.next_frame_info()?.ok_or(Undecodable("no frame"))?;
        let (left, top) = (usize::from(frame.left), u32::from(frame.top));
        let (width, height) = (usize::from(frame.width), u32::from(frame.height));
        let bytes = decoder.buffer_size();
        self.check_memory(bytes)?;
        let mut pixels = vec![0; bytes];
        decoder.read_into_buffer(&mut pixels)?;
        if !self.order.still && decoder.next_frame_info().is_ok_and(|next| next.is_some()) {
            return Ok(None);
        }
        let mut rows = pixels.as_chunks::<4>().0.chunks(width.max(1));
        let mut shrinker = self.shrinker(size);
        for y in 0..size.1 {
            let is_inside = y >= top && y - top < height;
            let row = if is_inside { rows.next().unwrap_or_default() } else { &[] };
            let before = std::iter::repeat_n(Pixel::default(), left);
            let after = std::iter::repeat_n(Pixel::default(), size.0 as usize);
            shrinker.push(before.chain(row.iter().copied()).chain(after).take(size.0 as usize));
        }
        Ok(Some(shrinker.finish(self.orientation)))
    }

    fn webp(&self, file: impl Read) -> Result<Option<Image>, Undecodable> {
        let mut bytes = Vec::new();
        file.take(IMAGE_FILE_MAX_BYTES).read_to_end(&mut bytes)?;
        // Its EXIF block may stand at the end.
        let orientation = detect::orientation("image/webp", &bytes);
        let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes))?;
        decoder.set_memory_limit(self.limits.memory_max_bytes);
        if decoder.is_animated() && !self.order.still {
            return Ok(None);
        }
        let size = decoder.dimensions();
        self.check_pixels(size)?;
        let pixel_bytes = if decoder.has_alpha() { 4 } else { 3 };
        let bytes = decoder.output_buffer_size().unwrap_or(usize::MAX);
        self.check_memory(bytes)?;
        let mut pixels = vec![0; bytes];
        decoder.read_image(&mut pixels)?;
        let mut shrinker = Self { orientation, ..*self }.shrinker(size);
        for row in pixels.chunks(size.0 as usize * pixel_bytes) {
            if pixel_bytes == 4 {
                shrinker.push(row.as_chunks().0.iter().copied());
            } else {
                shrinker.push(row.as_chunks().0.iter().map(|[r, g, b]| [*r, *g, *b, u8::MAX]));
            }
        }
        Ok(Some(shrinker.finish(orientation)))
    }

    /// What becomes of an image that is stored with this size.
    fn geometry(&self, stored: Size) -> Geometry {
        let shown = Geometry::of(self.orientation.turn(stored), self.order);
        Geometry {
            part: self.orientation.turn(shown.part),
            result: self.orientation.turn(shown.result),
        }
    }

    fn shrinker(&self, stored: Size) -> Shrinker {
        Shrinker::new(stored, self.geometry(stored))
    }

    fn check_pixels(&self, (width, height): Size) -> Result<(), Undecodable> {
        let pixels = u64::from(width).saturating_mul(height.into());
        let max = self.limits.pixels_max.min(IMAGE_PIXELS_MAX);
        if (1..=max).contains(&pixels) { Ok(()) } else { Err(Undecodable("too large")) }
    }

    fn check_memory(&self, bytes: usize) -> Result<(), Undecodable> {
        if bytes <= self.limits.memory_max_bytes { Ok(()) } else { Err(Undecodable("too large")) }
    }
}

/// What decoding a JPEG at this size takes, without what a progressive one needs for the whole: three full planes at
/// most, and the pixels.
fn jpeg_bytes((width, height): (u16, u16)) -> usize {
    6 * usize::from(width) * usize::from(height)
}

/// A printed colour without black, on white.
fn without(ink: u8, black: u8) -> u8 {
    let light = |ink: u8| u16::from(u8::MAX - ink);
    u8::try_from(light(ink) * light(black) / 255).unwrap_or(u8::MAX)
}

fn push_png_row(shrinker: &mut Shrinker, row: &[u8], channels: png::ColorType) {
    let opaque = u8::MAX;
    match channels {
        png::ColorType::Grayscale | png::ColorType::Indexed => {
            shrinker.push(row.iter().map(|grey| [*grey, *grey, *grey, opaque]));
        }
        png::ColorType::GrayscaleAlpha => {
            shrinker.push(row.as_chunks().0.iter().map(|[grey, a]| [*grey, *grey, *grey, *a]));
        }
        png::ColorType::Rgb => {
            shrinker.push(row.as_chunks().0.iter().map(|[r, g, b]| [*r, *g, *b, opaque]));
        }
        png::ColorType::Rgba => shrinker.push(row.as_chunks().0.iter().copied()),
    }
}

/// The decoder of PNG asks for a reader that can go back, and never does.
struct ForwardOnly<R>(R);

impl<R: Read> Read for ForwardOnly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: BufRead> BufRead for ForwardOnly<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

impl<R> Seek for ForwardOnly<R> {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
