//! OLE2 compound files ([MS-CFB]): old Office documents, and new ones that need a password.
//!
//! The directory and a few short streams are read along their sector chains, each chain at most as long as it may be. Sectors
//! that the header's own table does not reach (files beyond 7 MiB) are not found, and nothing is said of them.

use super::bytes::{slice, u16_at, u32_at, utf16};
use super::{Reader, Sign};

/// Sectors of one chain that are followed.
const CHAIN_MAX: usize = 128;
/// Entries of the directory that are read.
const ENTRIES_MAX: usize = 1024;
const ENTRY: usize = 128;
/// Sector numbers in the header ([MS-CFB] §2.2).
const DIFAT_MAX: usize = 109;
/// Larger numbers mean the end of a chain, or no sector.
const REGULAR_MAX: usize = 0xffff_fffa;
/// Records of a workbook that are read before its sheets are given up.
const RECORDS_MAX: usize = 2048;

impl Reader<'_> {
    pub(super) fn ole(&mut self, path: &str, bytes: &[u8]) {
        let Some(file) = CompoundFile::read(bytes) else { return };
        let entries = file.entries();
        let has = |names: &[&str]| entries.iter().any(|entry| names.iter().any(|name| entry.name.eq_ignore_ascii_case(name)));
        // A message saved by Outlook, and a Windows installer, are compound files as well.
        if entries.iter().any(|entry| entry.name.starts_with("__substg1.0_")) {
            return;
        }
        if has(&["EncryptedPackage"]) {
            self.sign(Sign::EncryptedDocument, path);
        }
        if has(&["VBA", "_VBA_PROJECT", "_VBA_PROJECT_CUR", "Macros"]) {
            self.sign(Sign::Macros, path);
            self.sign_if(starts_by_itself(bytes), Sign::AutoMacros, path);
        }
        self.sign_if(has(&["Equation Native"]) && has(&["\u{1}Ole10Native"]), Sign::ActiveObject, path);
        if let Some(entry) = entries.iter().find(|entry| matches!(entry.name.as_str(), "Workbook" | "Book")) {
            self.workbook(path, &file.chain(entry.start));
        }
        if let Some(entry) = entries.iter().find(|entry| entry.name == "WordDocument") {
            // [MS-DOC] §2.5.2: fEncrypted.
            let flags = file.sector(entry.start).and_then(|begin| u16_at(begin, 10)).unwrap_or_default();
            self.sign_if(flags & 0x100 != 0, Sign::EncryptedDocument, path);
        }
    }

    /// The first records of a workbook ([MS-XLS] §2.4): whether it is encrypted, and which kinds of sheets it has.
    fn workbook(&mut self, path: &str, stream: &[u8]) {
        const FILE_PASS: usize = 0x2f;
        const BOUND_SHEET: usize = 0x85;
        const EOF: usize = 0x0a;
        const MACRO_SHEET: u8 = 1;
        let mut at = 0;
        for _ in 0..RECORDS_MAX {
            let (Some(kind), Some(length)) = (u16_at(stream, at), u16_at(stream, at + 2)) else { return };
            match kind {
                FILE_PASS => self.sign(Sign::EncryptedDocument, path),
                BOUND_SHEET if stream.get(at + 9) == Some(&MACRO_SHEET) => self.sign(Sign::OldMacros, path),
                EOF => return,
                _ => {}
            }
            at += 4 + length;
        }
    }
}

/// Whether macros have names that Office runs by itself. They stand as they are in the project's table of names.
pub(super) fn starts_by_itself(project: &[u8]) -> bool {
    const NAMES: [&str; 12] = [
        "autoopen",
        "auto_open",
        "autoexec",
        "autoclose",
        "auto_close",
        "autonew",
        "document_open",
        "document_close",
        "document_new",
        "workbook_open",
        "workbook_activate",
        "workbook_beforeclose",
    ];
    let project = project.to_ascii_lowercase();
    NAMES.iter().any(|name| {
        let wide: Vec<u8> = name.bytes().flat_map(|byte| [byte, 0]).collect();
        super::bytes::has(&project, name.as_bytes()) || super::bytes::has(&project, &wide)
    })
}

struct CompoundFile<'f> {
    bytes: &'f [u8],
    sector_size: usize,
}

struct Entry {
    name: String,
    start: usize,
}

impl<'f> CompoundFile<'f> {
    fn read(bytes: &'f [u8]) -> Option<CompoundFile<'f>> {
        let shift = u16_at(bytes, 30)?;
        matches!(shift, 9 | 12).then(|| CompoundFile { bytes, sector_size: 1 << shift })
    }

    fn entries(&self) -> Vec<Entry> {
        let Some(first) = u32_at(self.bytes, 48) else { return Vec::new() };
        let directory = self.chain(first);
        let entries = directory.chunks_exact(ENTRY).take(ENTRIES_MAX);
        let used = entries.filter_map(|entry| {
            let length = u16_at(entry, 64)?.min(64).checked_sub(2)?;
            Some(Entry { name: utf16(slice(entry, 0, length)?), start: u32_at(entry, 116)? })
        });
        used.collect()
    }

    /// A stream's beginning. A chain that leads in a circle ends at the bound.
    fn chain(&self, first: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        let mut sector = first;
        for _ in 0..CHAIN_MAX {
            let Some(piece) = self.sector(sector) else { break };
            stream.extend_from_slice(piece);
            let Some(next) = self.next(sector) else { break };
            sector = next;
        }
        stream
    }

    fn next(&self, sector: usize) -> Option<usize> {
        let each = self.sector_size / 4;
        let table = sector / each;
        if table >= DIFAT_MAX {
            return None;
        }
        let table = self.sector(u32_at(self.bytes, 76 + 4 * table)?)?;
        u32_at(table, 4 * (sector % each)).filter(|next| *next < REGULAR_MAX)
    }

    /// The last sector of a file may be short.
    fn sector(&self, number: usize) -> Option<&'f [u8]> {
        let begin = number.checked_add(1)?.checked_mul(self.sector_size)?;
        let rest = self.bytes.get(begin..).filter(|rest| !rest.is_empty())?;
        Some(&rest[..rest.len().min(self.sector_size)])
    }
}
