//! OneNote notebooks ([MS-ONESTORE]): the files that are embedded in them, which open at a double click.
//!
//! Only the objects that hold files are sought, by their GUID. Images of a notebook's pages are such objects as well.

use super::bytes::{slice, u64_at};
use super::kinds::Kind;
use super::{LEVELS_MAX, Reader, Sign};

/// FileDataStoreObject, §2.6.13: its GUID, and where the data begin.
const FILE_DATA: &[u8] = b"\xe7\x16\xe3\xbd\x65\x26\x11\x45\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac";
const HEADER: usize = 36;
const FILES_MAX: usize = 16;

impl Reader<'_> {
    pub(super) fn onenote(&mut self, path: &str, bytes: &[u8], level: usize) {
        for at in memchr::memmem::find_iter(bytes, FILE_DATA).take(FILES_MAX) {
            let length = u64_at(bytes, at + 16).and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
            let Some(rest) = bytes.get(at + HEADER..) else { continue };
            let content = slice(rest, 0, length).unwrap_or(rest);
            let image = infer::get(&content[..content.len().min(64)])
                .is_some_and(|kind| kind.matcher_type() == infer::MatcherType::Image);
            if content.is_empty() || image {
                continue;
            }
            match Kind::of(content) {
                // A printout: the document beside its picture.
                Kind::Pdf => {}
                Kind::Zip | Kind::Ole if level < LEVELS_MAX => self.file(path, "", content, level + 1),
                _ => self.sign(Sign::NotebookFile, path),
            }
        }
    }
}
