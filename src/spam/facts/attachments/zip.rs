//! Zip archives (APPNOTE.TXT): the names, and a look into members that can hold more.
//!
//! Office documents, OpenDocument and Java archives are zips too; [`super::office`] says what is dangerous in them. Only
//! stored and deflated members are opened, each up to the budget's bound.

use miniz_oxide::inflate::decompress_to_vec_with_limit;

use super::bytes::{slice, u16_at, u32_at};
use super::{INSIDE_MAX, LEVELS_MAX, Member, Reader, Sign, extension, kinds, member_name};

/// The end record stands in the last 64 KiB plus its own 22 bytes (§4.3.16).
const TAIL: usize = (64 << 10) + 22;
/// Entries read of one directory.
const ENTRIES_MAX: usize = 4096;
const STORED: usize = 0;
const DEFLATED: usize = 8;
/// §4.4.4: bit 0, encrypted; bit 3, the sizes follow the data.
const FLAG_ENCRYPTED: usize = 1;
const FLAG_SIZES_FOLLOW: usize = 8;

pub(super) struct Entry {
    pub name: String,
    pub encrypted: bool,
    method: usize,
    packed: usize,
    unpacked: usize,
    /// Of the local header.
    at: usize,
}

impl Reader<'_> {
    pub(super) fn zip(&mut self, path: &str, bytes: &[u8], level: usize) {
        let entries = entries(bytes);
        let package = is_package(&entries);
        if package {
            self.office_package(path, bytes, &entries);
            return;
        }
        let files = entries.iter().filter(|entry| !entry.name.ends_with('/'));
        let members: Vec<Member> = files.map(|entry| Member { name: entry.name.clone(), encrypted: entry.encrypted }).collect();
        self.members(path, &members, bytes.len());
        let mut opened = 0;
        for entry in &entries {
            let worth = is_opened(extension(&entry.name)) || members.len() == 1;
            if !worth || entry.encrypted || opened == INSIDE_MAX {
                continue;
            }
            if level == LEVELS_MAX {
                self.sign_if(is_archive(extension(&entry.name)), Sign::Bound, path);
                continue;
            }
            opened += 1;
            if let Some(content) = self.member(path, bytes, entry) {
                self.file(&format!("{path}/{}", entry.name), "", &content, level + 1);
            }
        }
    }

    /// A member's content, or its beginning when it is too large.
    pub(super) fn member(&mut self, path: &str, bytes: &[u8], entry: &Entry) -> Option<Vec<u8>> {
        let room = self.budget.room();
        if room == 0 {
            self.sign(Sign::Bound, path);
            return None;
        }
        // The local header's own lengths count: they may differ from the directory's.
        let begin = entry.at.checked_add(30)?.checked_add(u16_at(bytes, entry.at + 26)?)?;
        let begin = begin.checked_add(u16_at(bytes, entry.at + 28)?)?;
        let rest = bytes.get(begin..)?;
        let packed = if entry.packed == 0 { rest } else { &rest[..rest.len().min(entry.packed)] };
        let packed = self.budget.look(packed);
        let content = match entry.method {
            STORED => packed[..packed.len().min(room)].to_vec(),
            DEFLATED => inflated(packed, room),
            _ => return None,
        };
        self.unpacked(content.len());
        // One that says it is small and is not; one that says it is large is only large.
        let lies = entry.unpacked > 0 && entry.unpacked < room / 2 && content.len() > entry.unpacked.saturating_mul(2);
        self.sign_if(lies, Sign::Bomb, path);
        Some(content)
    }
}

/// As far as it unpacks and fits.
pub(super) fn inflated(packed: &[u8], room: usize) -> Vec<u8> {
    decompress_to_vec_with_limit(packed, room).unwrap_or_else(|failed| failed.output)
}

/// OOXML, OpenDocument, Java, Android and the like: many members, of which none is opened by hand.
fn is_package(entries: &[Entry]) -> bool {
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    has("[content_types].xml") || has("mimetype") || has("meta-inf/manifest.mf") && entries.len() > 1
}

fn is_archive(extension: &str) -> bool {
    matches!(extension, "zip" | "7z" | "rar" | "gz" | "tgz" | "tar")
}

/// Members whose content is looked at.
fn is_opened(extension: &str) -> bool {
    const OFFICE: [&str; 14] =
        ["doc", "docx", "docm", "xls", "xlsx", "xlsm", "xlsb", "ppt", "pptx", "pptm", "rtf", "pdf", "one", "dat"];
    is_archive(extension) || kinds::is_page(extension) || OFFICE.contains(&extension)
}

/// The entries of the central directory, or of the local headers when it is damaged or was cut off.
pub(super) fn entries(bytes: &[u8]) -> Vec<Entry> {
    let tail = bytes.len().saturating_sub(TAIL);
    let end_record = memchr::memmem::rfind(&bytes[tail..], b"PK\x05\x06").map(|at| tail + at);
    let mut at = end_record.and_then(|end| u32_at(bytes, end + 16)).unwrap_or(usize::MAX);
    let mut entries = Vec::new();
    while entries.len() < ENTRIES_MAX {
        let Some((entry, next)) = central(bytes, at) else { break };
        entries.push(entry);
        at = next;
    }
    if entries.is_empty() { locals(bytes) } else { entries }
}

fn central(bytes: &[u8], at: usize) -> Option<(Entry, usize)> {
    if slice(bytes, at, 4)? != b"PK\x01\x02" {
        return None;
    }
    let (name, extra, comment) = (u16_at(bytes, at + 28)?, u16_at(bytes, at + 30)?, u16_at(bytes, at + 32)?);
    let entry = Entry {
        name: member_name(slice(bytes, at + 46, name)?),
        encrypted: u16_at(bytes, at + 8)? & FLAG_ENCRYPTED != 0,
        method: u16_at(bytes, at + 10)?,
        packed: u32_at(bytes, at + 20)?,
        unpacked: u32_at(bytes, at + 24)?,
        at: u32_at(bytes, at + 42)?,
    };
    Some((entry, at + 46 + name + extra + comment))
}

fn locals(bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while entries.len() < ENTRIES_MAX {
        let Some((entry, next)) = local(bytes, at) else { break };
        entries.push(entry);
        at = next;
    }
    entries
}

fn local(bytes: &[u8], at: usize) -> Option<(Entry, usize)> {
    if slice(bytes, at, 4)? != b"PK\x03\x04" {
        return None;
    }
    let (flags, name, extra) = (u16_at(bytes, at + 6)?, u16_at(bytes, at + 26)?, u16_at(bytes, at + 28)?);
    let packed = u32_at(bytes, at + 18)?;
    let data = at + 30 + name + extra;
    let entry = Entry {
        name: member_name(slice(bytes, at + 30, name)?),
        encrypted: flags & FLAG_ENCRYPTED != 0,
        method: u16_at(bytes, at + 8)?,
        packed,
        unpacked: u32_at(bytes, at + 22)?,
        at,
    };
    // Each search begins behind the last header, so that all of them together read the bytes once.
    let next = if packed == 0 && flags & FLAG_SIZES_FOLLOW != 0 {
        let found = bytes.get(data..).and_then(|rest| memchr::memmem::find(rest, b"PK\x03\x04"));
        found.map_or(bytes.len(), |found| data + found)
    } else {
        data + packed
    };
    Some((entry, next))
}
