//! 7z archives (7zFormat.txt of the LZMA SDK): the names, and whether a password is needed.
//!
//! The directory stands at the end and is mostly packed with LZMA itself. It is unpacked only when what it says of its size
//! and its dictionary stays within a bound, and only up to that. Files are not unpacked. When the header was cut off (the
//! archive is larger than what is looked at) nothing is known of it.

use std::io::Read;

use lzma_rust2::LzmaReader;

use super::bytes::{Cursor, slice, u32_at, u64_at, utf16};
use super::{Reader, Sign, member_name};

/// Of the unpacked directory and of LZMA's dictionary, in bytes.
const DIRECTORY_MAX: usize = 1 << 20;
/// Folders and coders in one; real archives have few.
const FOLDERS_MAX: u64 = 4096;
const CODERS_MAX: u64 = 8;
/// Names kept.
const NAMES_MAX: usize = 4096;
const AES: &[u8] = &[0x06, 0xf1, 0x07, 0x01];
const LZMA: &[u8] = &[0x03, 0x01, 0x01];

const END: u8 = 0x00;
const MAIN_HEADER: u8 = 0x01;
const MAIN_STREAMS: u8 = 0x04;
const FILES: u8 = 0x05;
const PACK_INFO: u8 = 0x06;
const UNPACK_INFO: u8 = 0x07;
const SUB_STREAMS: u8 = 0x08;
const SIZE: u8 = 0x09;
const FOLDER: u8 = 0x0b;
const UNPACK_SIZES: u8 = 0x0c;
const NAMES: u8 = 0x11;
const ENCODED_HEADER: u8 = 0x17;

impl Reader<'_> {
    pub(super) fn sevenzip(&mut self, path: &str, bytes: &[u8]) {
        let Some(header) = header(bytes) else { return };
        let unpacked;
        let mut directory = Cursor { rest: header };
        if header.first() == Some(&ENCODED_HEADER) {
            directory.byte();
            let Some(streams) = streams(&mut directory) else { return };
            if streams.encrypted {
                return self.sign(Sign::Encrypted, path);
            }
            let Some(room) = streams.room(self.budget.room()) else { return self.sign(Sign::Bound, path) };
            unpacked = streams.unpack(bytes, room);
            self.unpacked(unpacked.len());
            directory = Cursor { rest: &unpacked };
        }
        let (names, encrypted) = listing(&mut directory);
        self.listed(path, names, encrypted, bytes.len());
    }
}

/// The header that the first one points to.
fn header(bytes: &[u8]) -> Option<&[u8]> {
    let at = usize::try_from(u64_at(bytes, 12)?).ok()?.checked_add(32)?;
    let length = usize::try_from(u64_at(bytes, 20)?).ok()?;
    slice(bytes, at, length)
}

/// How something is packed: the first folder only, since a directory has one.
#[derive(Default)]
struct Streams {
    pack_position: u64,
    pack_size: u64,
    encrypted: bool,
    /// Of the first coder.
    method: Vec<u8>,
    properties: Vec<u8>,
    coders: u64,
    unpacked_size: u64,
}

impl Streams {
    /// How much to unpack; `None` when that is too much, or needs too much memory.
    fn room(&self, room: usize) -> Option<usize> {
        let size = usize::try_from(self.unpacked_size).ok().filter(|size| *size <= DIRECTORY_MAX.min(room))?;
        (self.dictionary() <= DIRECTORY_MAX).then_some(size)
    }

    fn dictionary(&self) -> usize {
        u32_at(&self.properties, 1).unwrap_or_default()
    }

    /// Nothing when it is packed in another way than 7-Zip packs directories.
    fn unpack(&self, bytes: &[u8], size: usize) -> Vec<u8> {
        let place = usize::try_from(self.pack_position).ok().and_then(|at| at.checked_add(32));
        let packed = place.zip(usize::try_from(self.pack_size).ok()).and_then(|(at, length)| slice(bytes, at, length));
        let (Some(packed), Some(&properties)) = (packed, self.properties.first()) else { return Vec::new() };
        if self.method != LZMA || self.coders != 1 {
            return Vec::new();
        }
        let Ok(dictionary) = u32::try_from(self.dictionary()) else { return Vec::new() };
        let reader = LzmaReader::new_with_props(packed, size as u64, properties, dictionary, None);
        let mut directory = Vec::new();
        if let Ok(reader) = reader {
            // What was unpacked before an error may still tell names.
            let _ = reader.take(size as u64).read_to_end(&mut directory);
        }
        directory
    }
}

/// The names in a directory, and whether any folder is encrypted.
fn listing(directory: &mut Cursor<'_>) -> (Vec<String>, bool) {
    let mut names = Vec::new();
    let mut encrypted = false;
    let mut read = || {
        (directory.byte()? == MAIN_HEADER).then_some(())?;
        let mut next = directory.byte()?;
        if next == MAIN_STREAMS {
            let streams = streams(directory)?;
            encrypted = streams.encrypted;
            next = directory.byte()?;
        }
        (next == FILES).then(|| names = file_names(directory).unwrap_or_default())
    };
    read();
    (names, encrypted)
}

/// Properties of all files, each with its length; of them only the names.
fn file_names(directory: &mut Cursor<'_>) -> Option<Vec<String>> {
    number(directory)?;
    loop {
        let kind = directory.byte()?;
        if kind == END {
            return None;
        }
        let length = usize::try_from(number(directory)?).ok()?;
        let content = directory.take(length)?;
        if kind == NAMES {
            let (external, names) = content.split_first()?;
            return (*external == 0).then(|| split_names(names));
        }
    }
}

/// Each ends with a NUL. Folders are not told from files here.
fn split_names(names: &[u8]) -> Vec<String> {
    let names = utf16(names);
    names.split_terminator('\0').take(NAMES_MAX).map(|name| member_name(name.as_bytes())).collect()
}

/// PackInfo, UnpackInfo and SubStreamsInfo up to their end.
fn streams(cursor: &mut Cursor<'_>) -> Option<Streams> {
    let mut streams = Streams::default();
    let mut folders = Folders::default();
    loop {
        match cursor.byte()? {
            END => return Some(streams),
            PACK_INFO => pack_info(cursor, &mut streams)?,
            UNPACK_INFO => folders = unpack_info(cursor, &mut streams)?,
            SUB_STREAMS => sub_streams(cursor, &folders)?,
            _ => return None,
        }
    }
}

fn pack_info(cursor: &mut Cursor<'_>, streams: &mut Streams) -> Option<()> {
    streams.pack_position = number(cursor)?;
    let count = number(cursor)?;
    loop {
        match cursor.byte()? {
            END => return Some(()),
            SIZE => {
                for place in 0..count {
                    let size = number(cursor)?;
                    streams.pack_size = if place == 0 { size } else { streams.pack_size };
                }
            }
            _ => digests(cursor, count)?,
        }
    }
}

/// Of each folder: its outputs, and whether it has a checksum.
#[derive(Default)]
struct Folders {
    count: u64,
    checked: Vec<bool>,
}

fn unpack_info(cursor: &mut Cursor<'_>, streams: &mut Streams) -> Option<Folders> {
    (cursor.byte()? == FOLDER).then_some(())?;
    let count = number(cursor).filter(|count| *count <= FOLDERS_MAX)?;
    (cursor.byte()? == 0).then_some(())?;
    let mut outputs = 0;
    for place in 0..count {
        outputs += folder(cursor, streams, place == 0)?;
    }
    (cursor.byte()? == UNPACK_SIZES).then_some(())?;
    for place in 0..outputs {
        let size = number(cursor)?;
        streams.unpacked_size = if place == 0 { size } else { streams.unpacked_size };
    }
    let mut folders = Folders { count, checked: Vec::new() };
    loop {
        match cursor.byte()? {
            END => return Some(folders),
            _ => folders.checked = digests_of(cursor, count)?,
        }
    }
}

/// One folder's coders; returns how many outputs they have.
fn folder(cursor: &mut Cursor<'_>, streams: &mut Streams, first: bool) -> Option<u64> {
    let coders = number(cursor).filter(|coders| (1..=CODERS_MAX).contains(coders))?;
    let (mut inputs, mut outputs) = (0, 0);
    for place in 0..coders {
        let flags = cursor.byte()?;
        let method = cursor.take(usize::from(flags & 0x0f))?;
        let simple = flags & 0x10 == 0;
        let (ins, outs) = if simple { (1, 1) } else { (number(cursor)?, number(cursor)?) };
        (ins <= CODERS_MAX && outs <= CODERS_MAX).then_some(())?;
        let length = if flags & 0x20 != 0 { usize::try_from(number(cursor)?).ok()? } else { 0 };
        let properties = cursor.take(length)?;
        streams.encrypted |= method == AES;
        if first && place == 0 {
            streams.method = method.to_vec();
            streams.properties = properties.to_vec();
            streams.coders = coders;
        }
        (inputs, outputs) = (inputs + ins, outputs + outs);
    }
    let bound = outputs.checked_sub(1)?;
    for _ in 0..bound * 2 {
        number(cursor)?;
    }
    let packed = inputs.checked_sub(bound)?;
    for _ in 0..if packed > 1 { packed } else { 0 } {
        number(cursor)?;
    }
    Some(outputs)
}

fn sub_streams(cursor: &mut Cursor<'_>, folders: &Folders) -> Option<()> {
    const COUNTS: u8 = 0x0d;
    let mut counts = vec![1; usize::try_from(folders.count).ok()?];
    let mut kind = cursor.byte()?;
    if kind == COUNTS {
        for count in &mut counts {
            *count = number(cursor)?;
        }
        kind = cursor.byte()?;
    }
    if kind == SIZE {
        for count in &counts {
            for _ in 1..*count {
                number(cursor)?;
            }
        }
        kind = cursor.byte()?;
    }
    // Those that have a checksum as a folder of one file do not have it again.
    let again = |place: usize, count: u64| count == 1 && folders.checked.get(place) == Some(&true);
    let checked = counts.iter().enumerate().filter(|(place, count)| !again(*place, **count)).map(|(_, count)| *count);
    let checked = checked.fold(0, u64::saturating_add);
    while kind != END {
        digests(cursor, checked)?;
        kind = cursor.byte()?;
    }
    Some(())
}

fn digests(cursor: &mut Cursor<'_>, count: u64) -> Option<()> {
    digests_of(cursor, count).map(|_| ())
}

/// Which of `count` have a checksum; the checksums are passed over. Each takes a bit at least, so that a lying count ends.
fn digests_of(cursor: &mut Cursor<'_>, count: u64) -> Option<Vec<bool>> {
    let count = usize::try_from(count).ok()?;
    let defined = if cursor.byte()? != 0 {
        cursor.rest.get(..count.checked_mul(4)?)?;
        vec![true; count]
    } else {
        let bits = cursor.take(count.div_ceil(8))?;
        (0..count).map(|place| bits[place / 8] & (0x80 >> (place % 8)) != 0).collect()
    };
    cursor.take(defined.iter().filter(|has| **has).count().checked_mul(4)?)?;
    Some(defined)
}

/// A number in one to nine bytes: leading ones in the first tell how many follow.
fn number(cursor: &mut Cursor<'_>) -> Option<u64> {
    let first = cursor.byte()?;
    let mut value = 0;
    let mut mask = 0x80;
    for place in 0..8 {
        if first & mask == 0 {
            return Some(value | u64::from(first & (mask - 1)).checked_shl(8 * place)?);
        }
        value |= u64::from(cursor.byte()?) << (8 * place);
        mask >>= 1;
    }
    Some(value)
}
