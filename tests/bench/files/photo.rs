//! A picture that is for a JPEG decoder what a photo is: gradients, shapes of all sizes, and the noise of a sensor.

use fastrand::Rng;
use jpeg_encoder::{Encoder, ImageBuffer, JpegColorType, SamplingFactor, rgb_to_ycbcr};

/// As cameras and phones have it.
const QUALITY: u8 = 85;
/// Points in a row of the lattice whose values are interpolated.
const LATTICE: usize = 256;
/// Sizes of shapes, in pixels, and how much brighter or darker they are.
const SHAPES: [(usize, i32); 5] = [(797, 60), (211, 40), (53, 24), (13, 16), (4, 12)];
/// The sensor's noise.
const NOISE: i32 = 15;

/// A baseline JPEG of so many megapixels, 4:3, with the colours at half the resolution (4:2:0).
pub(super) fn photo(megapixels: usize) -> Vec<u8> {
    let width = (megapixels * 1_000_000 * 4 / 3).isqrt();
    let (width, height) = (u16::try_from(width).unwrap(), u16::try_from(width * 3 / 4).unwrap());
    let mut lattice = vec![0; LATTICE * LATTICE];
    Rng::with_seed(1).fill(&mut lattice);
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode_image(Photo { width, height, lattice }).unwrap();
    file
}

struct Photo {
    width: u16,
    height: u16,
    lattice: Vec<u8>,
}

impl Photo {
    /// A smooth function of the place, between −128 and 127, whose hills and valleys are `size` pixels apart.
    fn relief(&self, x: usize, y: usize, size: usize) -> i32 {
        let (column, row) = (x / size, y / size);
        let (right, down) = (x % size, y % size);
        let value = |column: usize, row: usize| {
            usize::from(self.lattice[row % LATTICE * LATTICE + column % LATTICE])
        };
        let between =
            |row: usize| value(column, row) * (size - right) + value(column + 1, row) * right;
        let sum = between(row) * (size - down) + between(row + 1) * down;
        (sum / (size * size)) as i32 - 128
    }
}

impl ImageBuffer for Photo {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.width
    }

    fn height(&self) -> u16 {
        self.height
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        let mut noise = Rng::with_seed(y.into());
        let down = i32::from(y) * 255 / i32::from(self.height);
        let y = usize::from(y);
        for x in 0..usize::from(self.width) {
            let right = (x * 255 / usize::from(self.width)) as i32;
            let shapes =
                SHAPES.iter().map(|(size, weight)| self.relief(x, y, *size) * weight / 128);
            let light = shapes.sum::<i32>() + noise.i32(-NOISE..=NOISE);
            let tint = self.relief(x + 1000, y, 307) / 4;
            // A sky above a meadow.
            let [red, green, blue] = [70 + down / 3 + tint, 90 + right / 4, 190 - down / 2 - tint]
                .map(|colour| (colour + light).clamp(0, 255) as u8);
            let (luma, blueness, redness) = rgb_to_ycbcr(red, green, blue);
            buffers[0].push(luma);
            buffers[1].push(blueness);
            buffers[2].push(redness);
        }
    }
}
