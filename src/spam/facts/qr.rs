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
