//! How lessons look on disk, and reading a whole file of them. A record is, all numbers little-endian,
//!
//! ```text
//!  0  magic "FGl1"        4  kind: 1 ham, 2 spam, 3 forget     5  length of the scope     6  count of hashes (2 bytes)
//!  8  day (4)            12  digest (16)                       28  own place (8)           36  durable (8)
//! 44  crc of the rest (4) 48  crc of these 48 bytes (4)        52  scope · hashes (4 bytes each)
//! ```
//!
//! A header counts only with its checksum and at its own place, so that hashes chosen by a sender are never taken for one.

use std::io;

use crate::mail::Domain;
use crate::outside::{DiskFile, read_exact_at};
use crate::spam::{Digest, Example, Label, Tokens};

use super::shelf::{Key, Spot};

const HEADER: usize = 52;
const MAGIC: &[u8; 4] = b"FGl1";
/// Read at a time when the next record is looked for.
const WINDOW: usize = 64 * 1024;

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Learn(Example),
    Forget(Key),
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub entry: Entry,
    pub durable: u64,
    pub length: u64,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Found {
    pub entries: Vec<(Spot, Entry)>,
    /// Behind the last whole record.
    pub end: u64,
    /// Up to here a record vouches for what stands before it.
    pub durable: u64,
    pub torn: u64,
    pub has_holes: bool,
    pub damaged: Vec<String>,
}

/// Appends a record that will stand at `at`; up to `durable` the file is synced.
pub fn write(into: &mut Vec<u8>, entry: &Entry, at: u64, durable: u64) {
    put(into, entry, at, |_| durable);
}

/// The same for a file that is given its name only when all of it is synced: the record vouches for itself.
pub fn write_settled(into: &mut Vec<u8>, entry: &Entry, at: u64) {
    put(into, entry, at, |length| at + length);
}

fn put(into: &mut Vec<u8>, entry: &Entry, at: u64, durable: impl FnOnce(u64) -> u64) {
    let (kind, scope, digest, day, hashes): (u8, _, _, _, &[u32]) = match entry {
        Entry::Learn(example) => {
            let kind = if example.label == Label::Ham { 1 } else { 2 };
            (kind, &example.scope, example.digest, example.day, example.tokens.hashes())
        }
        Entry::Forget((scope, digest)) => (3, scope, *digest, 0, &[]),
    };
    let mut body = scope.as_ref().map_or(Vec::new(), |scope| scope.as_str().as_bytes().to_vec());
    let scope_length = u8::try_from(body.len()).expect("a domain has at most 253 letters");
    hashes.iter().for_each(|hash| body.extend_from_slice(&hash.to_le_bytes()));
    let count = u16::try_from(hashes.len()).expect("the tokens of a message are bounded");
    let from = into.len();
    into.extend_from_slice(MAGIC);
    into.extend_from_slice(&[kind, scope_length]);
    into.extend_from_slice(&count.to_le_bytes());
    into.extend_from_slice(&day.to_le_bytes());
    into.extend_from_slice(&digest.0);
    into.extend_from_slice(&at.to_le_bytes());
    into.extend_from_slice(&durable((HEADER + body.len()) as u64).to_le_bytes());
    into.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    let crc = crc32fast::hash(&into[from..]);
    into.extend_from_slice(&crc.to_le_bytes());
    into.extend_from_slice(&body);
}

/// The first bytes of a record, read.
struct Header {
    kind: u8,
    scope_length: usize,
    count: usize,
    day: u32,
    digest: Digest,
    durable: u64,
    body_crc: u32,
}

impl Header {
    /// `None` unless this is a header, whole, and written for this place.
    fn decode(bytes: &[u8], at: u64) -> Option<Header> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        let number = |from: usize| bytes[from..from + 4].try_into().map(u32::from_le_bytes).ok();
        let long = |from: usize| bytes[from..from + 8].try_into().map(u64::from_le_bytes).ok();
        if !bytes.starts_with(MAGIC) || crc32fast::hash(&bytes[..48]) != number(48)? || long(28)? != at {
            return None;
        }
        Some(Header {
            kind: bytes[4],
            scope_length: usize::from(bytes[5]),
            count: usize::from(u16::from_le_bytes([bytes[6], bytes[7]])),
            day: number(8)?,
            digest: Digest(bytes[12..28].try_into().ok()?),
            durable: long(36)?,
            body_crc: number(44)?,
        })
    }

    fn length(&self) -> usize {
        HEADER + self.scope_length + 4 * self.count
    }
}

impl Record {
    /// `None` unless a whole record for this place begins here.
    pub fn decode(bytes: &[u8], at: u64) -> Option<Record> {
        let header = Header::decode(bytes, at)?;
        let body = bytes.get(HEADER..header.length())?;
        if crc32fast::hash(body) != header.body_crc {
            return None;
        }
        let (scope, hashes) = body.split_at(header.scope_length);
        let scope = match scope {
            [] => None,
            scope => Some(Domain::parse(std::str::from_utf8(scope).ok()?).ok()?),
        };
        let hashes = hashes.chunks_exact(4).map(|hash| u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]));
        let learn = |label| {
            let tokens = Tokens::from_hashes(hashes.collect());
            Entry::Learn(Example { digest: header.digest, label, scope: scope.clone(), day: header.day, tokens })
        };
        let entry = match header.kind {
            1 => learn(Label::Ham),
            2 => learn(Label::Spam),
            3 => Entry::Forget((scope, header.digest)),
            _ => return None,
        };
        Some(Record { entry, durable: header.durable, length: header.length() as u64 })
    }
}

/// Reads all records, and says what is between them.
pub fn scan(file: &dyn DiskFile) -> io::Result<Found> {
    let length = file.len()?;
    let (mut found, mut bad, mut at) = (Found::default(), Vec::new(), 0);
    while at < length {
        match read(file, at, length)? {
            Some(record) => {
                found.durable = found.durable.max(record.durable.min(at + record.length));
                found.entries.push((Spot::new(&record.entry, at, record.length), record.entry));
                at += record.length;
                found.end = at;
            }
            None => {
                let next = next(file, at + 1, length)?;
                bad.push((at, next));
                at = next;
            }
        }
    }
    for (from, to) in bad {
        if from < found.durable {
            found.damaged.push(format!("lessons at {from}: {} bytes are damaged", to - from));
        } else {
            found.torn += to - from;
            found.has_holes |= from < found.end;
        }
    }
    Ok(found)
}

fn read(file: &dyn DiskFile, at: u64, length: u64) -> io::Result<Option<Record>> {
    if length - at < HEADER as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; HEADER];
    read_exact_at(file, &mut bytes, at)?;
    let Some(header) = Header::decode(&bytes, at) else { return Ok(None) };
    if length - at < header.length() as u64 {
        return Ok(None);
    }
    bytes.resize(header.length(), 0);
    read_exact_at(file, &mut bytes[HEADER..], at + HEADER as u64)?;
    Ok(Record::decode(&bytes, at))
}

/// Where the next whole record begins, from `at` on; the end when there is none.
fn next(file: &dyn DiskFile, mut at: u64, length: u64) -> io::Result<u64> {
    let mut window = vec![0; WINDOW];
    while at < length {
        let most = usize::try_from(length - at).unwrap_or(WINDOW).min(WINDOW);
        read_exact_at(file, &mut window[..most], at)?;
        for place in memchr::memmem::find_iter(&window[..most], MAGIC) {
            if read(file, at + place as u64, length)?.is_some() {
                return Ok(at + place as u64);
            }
        }
        if most < WINDOW {
            break;
        }
        // A magic may lie across the border.
        at += (WINDOW - MAGIC.len() + 1) as u64;
    }
    Ok(length)
}
