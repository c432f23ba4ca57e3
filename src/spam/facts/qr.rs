//! What QR codes in images say: links that no text filter reads.
//!
//! Bounded before anything is decoded: few images a message, by size and by what their header says of their width and height.
//! Images with many things that look like the corners of a code are left alone; trying all combinations would take long. An image
//! that cannot be read says nothing, and neither do codes in documents or in other formats than PNG, JPEG and GIF.

mod corners;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{GrayImage, ImageReader, Limits, imageops};
use rqrr::PreparedImage;

use crate::spam::text::prefix;

/// Images looked at in a message.
const IMAGES_MAX: usize = 2;
/// Smaller ones are dots and lines.
const BYTES_MIN: usize = 100;
const BYTES_MAX: usize = 700 << 10;
/// The smallest code has 21 squares a side.
const SIDE_MIN: u32 = 42;
const SIDE_MAX: u32 = 2_500;
const PIXELS_MAX: u32 = 1_000_000;
/// Larger images are made smaller before codes are looked for.
const LOOKED_AT_MAX: u32 = 400_000;
const ALLOCATED_MAX: u64 = 16 << 20;
/// A code has three corners.
const CORNERS_MAX: usize = 8;
/// Of what one code says, in bytes.
const TEXT_MAX: usize = 2 << 10;

/// Reads the images of one message.
#[derive(Default)]
pub(super) struct Reader {
    images: usize,
}

impl Reader {
    /// What the codes in this image say. Nothing for what is no image, or no image for us.
    pub fn texts(&mut self, bytes: &[u8]) -> Vec<String> {
        let is_image = [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff", b"GIF8"].iter().any(|start| bytes.starts_with(start));
        if !is_image || self.images >= IMAGES_MAX || !(BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) {
            return Vec::new();
        }
        let Some((width, height)) = size(bytes) else { return Vec::new() };
        let useful = width.min(height) >= SIDE_MIN && width.max(height) <= SIDE_MAX && width * height <= PIXELS_MAX;
        if !useful {
            return Vec::new();
        }
        self.images += 1;
        // Both libraries read what a stranger wrote; should one of them panic, the message is still judged.
        catch_unwind(AssertUnwindSafe(|| texts(bytes))).unwrap_or_default()
    }
}

fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?.into_dimensions().ok()
}

fn texts(bytes: &[u8]) -> Vec<String> {
    let Some(image) = decoded(bytes) else { return Vec::new() };
    if !corners::worth_a_search(&image, CORNERS_MAX) {
        return Vec::new();
    }
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixel = |x: usize, y: usize| image.get_pixel(x as u32, y as u32).0[0];
    let mut prepared = PreparedImage::prepare_from_greyscale(width, height, pixel);
    let said = prepared.detect_grids().into_iter().filter_map(|grid| grid.decode().ok());
    said.map(|(_, text)| prefix(&text, TEXT_MAX).to_owned()).collect()
}

/// In grey, on white where it is transparent, and small enough.
fn decoded(bytes: &[u8]) -> Option<GrayImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(ALLOCATED_MAX);
    reader.limits(limits);
    let image = reader.decode().ok()?;
    let mut grey = if image.color().has_alpha() {
        let mut seen = image.into_luma_alpha8();
        for pixel in seen.pixels_mut() {
            let [light, alpha] = pixel.0.map(u32::from);
            pixel.0[0] = ((light * alpha + 255 * (255 - alpha)) / 255) as u8;
        }
        image::DynamicImage::ImageLumaA8(seen).into_luma8()
    } else {
        image.into_luma8()
    };
    while grey.width() * grey.height() > LOOKED_AT_MAX {
        let (width, height) = (grey.width() / 2, grey.height() / 2);
        grey = imageops::thumbnail(&grey, width.max(1), height.max(1));
    }
    Some(grey)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use image::{DynamicImage, ImageFormat, Luma, Rgba, RgbaImage};
    use proptest::prelude::*;

    use super::*;

    const SAYS: &str = "https://evil.example/q";
    /// Its squares, a row each.
    const CODE: [u32; 25] = [
        0x1fdb87f, 0x1051d41, 0x1759a5d, 0x1748b5d, 0x1754d5d, 0x104b441, 0x1fd557f, 0x0001c00, 0x13f0797, 0x1aa76be, 0x0ed8279,
        0x17275af, 0x19f9461, 0x163c712, 0x1c6b61f, 0x17a20ed, 0x1244bf6, 0x0017516, 0x1fd6d51, 0x1059b10, 0x175dbf3, 0x17584c3,
        0x174559f, 0x104c037, 0x1fd5fc9,
    ];

    fn is_black(x: u32, y: u32) -> bool {
        x < 25 && CODE.get(y as usize).is_some_and(|row| row >> (24 - x) & 1 == 1)
    }

    /// With four squares of white around it.
    fn code(scale: u32) -> GrayImage {
        let black = |x: u32, y: u32| is_black((x / scale).wrapping_sub(4), (y / scale).wrapping_sub(4));
        GrayImage::from_fn(33 * scale, 33 * scale, |x, y| Luma([if black(x, y) { 0 } else { 255 }]))
    }

    fn written(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let (mut bytes, image) = (Cursor::new(Vec::new()), image.into());
        let image = if format == ImageFormat::Gif { image.into_rgba8().into() } else { image };
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn read(bytes: &[u8]) -> Vec<String> {
        Reader::default().texts(bytes)
    }

    #[test]
    fn codes_are_read_in_each_format_and_size() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif] {
            for scale in [3, 5, 12, 30] {
                assert_eq!(read(&written(code(scale), format)), [SAYS], "{format:?} {scale}");
            }
        }
        let behind_glass = RgbaImage::from_fn(132, 132, |x, y| {
            let black = is_black((x / 4).wrapping_sub(4), (y / 4).wrapping_sub(4));
            Rgba([0, 0, 0, if black { 255 } else { 0 }])
        });
        assert_eq!(read(&written(behind_glass, ImageFormat::Png)), [SAYS], "black on nothing");
    }

    #[test]
    fn what_is_too_large_or_too_much_is_left_alone() {
        let one = written(code(4), ImageFormat::Png);
        let mut reader = Reader::default();
        assert_eq!(reader.texts(&one).len() + reader.texts(&one).len() + reader.texts(&one).len(), IMAGES_MAX);
        assert!(read(&written(code(31), ImageFormat::Png)).is_empty(), "more than a million pixels");
        assert!(read(&[one.clone(), vec![0; BYTES_MAX]].concat()).is_empty());
        // What its header says of its size is a lie: nothing is allocated for it.
        let mut lie = one;
        lie[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        assert!(read(&lie).is_empty());
    }

    #[test]
    fn images_made_of_corners_keep_nobody_busy() {
        let corner = |x: u32, y: u32| {
            let (x, y) = (x % 9, y % 9);
            let ring = x.abs_diff(3).max(y.abs_diff(3));
            x < 7 && y < 7 && ring != 2
        };
        let nested = |x: u32, y: u32| x.abs_diff(499).max(y.abs_diff(499)).is_multiple_of(2);
        for black in [&corner as &dyn Fn(u32, u32) -> bool, &nested] {
            let image = GrayImage::from_fn(999, 999, |x, y| Luma([if black(x, y) { 0 } else { 255 }]));
            let bytes = written(image, ImageFormat::Png);
            let start = Instant::now();
            assert!(read(&bytes).is_empty());
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_images_say_something_or_nothing(
            kind in 0..3_usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let format = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif][kind];
            let mut bytes = written(code(3), format);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            read(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            read(&bytes);
        }

        #[test]
        fn images_that_are_none_say_nothing(start in 0..3_usize, noise in prop::collection::vec(any::<u8>(), 100..2_000)) {
            let start = [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff\xe0", b"GIF89a"][start];
            read(&[start, &noise].concat());
        }
    }
}
