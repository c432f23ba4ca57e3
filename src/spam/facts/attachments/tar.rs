//! gzip (RFC 1952) and tar (POSIX ustar): the beginning of what is inside, and the names.

use super::bytes::{slice, u16_at};
use super::zip::inflated;
use super::{LEVELS_MAX, Reader, Sign, extension, member_name};

const BLOCK: usize = 512;
const FILES_MAX: usize = 4096;

impl Reader<'_> {
    pub(super) fn gzip(&mut self, path: &str, bytes: &[u8], level: usize) {
        let Some(data) = gzip_data(bytes) else { return };
        if level == LEVELS_MAX || self.budget.room() == 0 {
            return self.sign(Sign::Bound, path);
        }
        let content = inflated(data, self.budget.room());
        self.unpacked(content.len());
        // What unpacks it drops the ending.
        let stem = path.strip_suffix(".gz").unwrap_or(path);
        let name = stem.strip_suffix(".tgz").map_or_else(|| stem.to_owned(), |stem| format!("{stem}.tar"));
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let inside = format!("{path}/{name}");
        if !extension(&name).is_empty() && extension(&name) != "tar" {
            self.attachment.names.push(inside.clone());
        }
        self.file(&inside, "", &content, level + 1);
    }

    pub(super) fn tar(&mut self, path: &str, bytes: &[u8]) {
        let mut names = Vec::new();
        let mut at = 0;
        while let Some(header) = slice(bytes, at, BLOCK).filter(|header| header[0] != 0 && names.len() < FILES_MAX) {
            let kind = header[156];
            let size = octal(&header[124..136]);
            if matches!(kind, b'0' | 0) {
                let name = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
                names.push(member_name(name));
            }
            let Some(next) = at.checked_add(BLOCK).and_then(|next| next.checked_add(size.div_ceil(BLOCK).checked_mul(BLOCK)?))
            else {
                break;
            };
            at = next;
        }
        self.listed(path, names, false, bytes.len());
    }
}

/// A damaged size counts as nothing: the next header is then sought in the next block.
fn octal(digits: &[u8]) -> usize {
    let text = digits.iter().map(|byte| char::from(*byte)).collect::<String>();
    usize::from_str_radix(text.trim_matches([' ', '\0']), 8).unwrap_or_default()
}

/// Behind the header and its optional fields (§2.3).
fn gzip_data(bytes: &[u8]) -> Option<&[u8]> {
    let flags = *bytes.get(3)?;
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + u16_at(bytes, at)?;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += memchr::memchr(0, bytes.get(at..)?)? + 1;
        }
    }
    bytes.get(at + if flags & 2 != 0 { 2 } else { 0 }..)
}
