//! RAR archives, versions 4 and 5: the names in their headers, and whether a password is needed.
//!
//! Nothing is unpacked. An archive with encrypted headers shows no names at all.

use super::bytes::{Cursor, slice, u16_at, u32_at};
use super::{Reader, member_name};

/// Headers read.
const HEADERS_MAX: usize = 4096;

#[derive(Default)]
struct Found {
    names: Vec<String>,
    encrypted: bool,
}

impl Reader<'_> {
    pub(super) fn rar(&mut self, path: &str, bytes: &[u8]) {
        let found = match bytes.get(6) {
            Some(0) => version4(bytes),
            _ => version5(bytes),
        };
        self.listed(path, found.names, found.encrypted, bytes.len());
    }
}

fn version4(bytes: &[u8]) -> Found {
    const MAIN: u8 = 0x73;
    const FILE: u8 = 0x74;
    let mut found = Found::default();
    let mut at = 7;
    for _ in 0..HEADERS_MAX {
        let (Some(kind), Some(flags), Some(size)) = (bytes.get(at + 2), u16_at(bytes, at + 3), u16_at(bytes, at + 5)) else {
            break;
        };
        let data = if flags & 0x8000 != 0 || *kind == FILE { u32_at(bytes, at + 7).unwrap_or(usize::MAX) } else { 0 };
        if *kind == MAIN && flags & 0x80 != 0 {
            found.encrypted = true;
            break;
        }
        let folder = flags & 0xe0 == 0xe0;
        if *kind == FILE && !folder {
            found.encrypted |= flags & 4 != 0;
            let begin = at + if flags & 0x100 != 0 { 40 } else { 32 };
            let name = u16_at(bytes, at + 26).and_then(|length| slice(bytes, begin, length));
            // A name in Unicode follows the plain one after a NUL.
            let plain = name.map(|name| name.split(|byte| *byte == 0).next().unwrap_or_default());
            found.names.extend(plain.map(member_name));
        }
        // A header is never shorter than its fixed part: a lying one would not move on.
        let Some(next) = at.checked_add(size.max(7)).and_then(|next| next.checked_add(data)) else { break };
        at = next;
    }
    found
}

fn version5(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    let mut rest = bytes.get(8..).unwrap_or_default();
    for _ in 0..HEADERS_MAX {
        match header5(rest, &mut found) {
            Some(after) => rest = after,
            None => break,
        }
    }
    found
}

/// One header of version 5; what follows it and its data. Each has a checksum of 4 bytes at least, so that this moves on.
fn header5<'r>(rest: &'r [u8], found: &mut Found) -> Option<&'r [u8]> {
    const FILE: u64 = 2;
    const ENCRYPTION: u64 = 4;
    const END: u64 = 5;
    let mut outer = Cursor { rest };
    outer.take(4)?;
    let size = outer.vint_usize()?;
    let mut header = Cursor { rest: outer.take(size)? };
    let (kind, flags) = (header.vint()?, header.vint()?);
    let extra = if flags & 1 != 0 { header.vint_usize()? } else { 0 };
    let data = if flags & 2 != 0 { header.vint_usize()? } else { 0 };
    if kind == ENCRYPTION {
        found.encrypted = true;
        return None;
    }
    if kind == FILE {
        file5(&mut header, extra, found);
    }
    if kind == END {
        return None;
    }
    outer.rest.get(data..)
}

fn file5(header: &mut Cursor<'_>, extra: usize, found: &mut Found) -> Option<()> {
    let (flags, _size, _attributes) = (header.vint()?, header.vint()?, header.vint()?);
    header.take(if flags & 2 != 0 { 4 } else { 0 })?;
    header.take(if flags & 4 != 0 { 4 } else { 0 })?;
    let (_compression, _system, length) = (header.vint()?, header.vint()?, header.vint_usize()?);
    let name = header.take(length)?;
    if flags & 1 == 0 {
        found.names.push(member_name(name));
    }
    // Records of size and type; type 1 is encryption.
    let mut records = Cursor { rest: header.rest.get(header.rest.len().checked_sub(extra)?..)? };
    while let Some(size) = records.vint_usize() {
        let mut record = Cursor { rest: records.take(size)? };
        found.encrypted |= record.vint()? == 1;
    }
    Some(())
}
