//! PDF files: what happens when one is opened, and where its links lead.
//!
//! Keywords are sought in the file as it is and in its compressed object streams (ISO 32000-1 §7.5.7), as many as the budget
//! allows; the document's structure is not followed. Page contents are not read.

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::bytes::has;
use super::{Reader, Sign, extension, runs};

/// Object streams that are unpacked, and how far each.
const STREAMS_MAX: usize = 16;
const STREAM_ROOM: usize = 128 << 10;
/// An action stands so near behind its key.
const NEAR: usize = 240;
/// Links looked at, most of them the same or no addresses.
const LINKS_MAX: usize = 512;
const URLS_MAX: usize = 32;
const URL_MAX: usize = 2048;

impl Reader<'_> {
    pub(super) fn pdf(&mut self, path: &str, bytes: &[u8]) {
        self.pdf_objects(path, bytes);
        self.sign_if(has(bytes, b"/Encrypt ") || has(bytes, b"/Encrypt<"), Sign::PdfEncrypted, path);
        for at in memchr::memmem::find_iter(bytes, b"/ObjStm").take(STREAMS_MAX) {
            let Some(begin) = memchr::memmem::find(&bytes[at..bytes.len().min(at + NEAR)], b"stream") else { continue };
            let data = &bytes[at + begin + 6..];
            let data = data.strip_prefix(b"\r\n").or_else(|| data.strip_prefix(b"\n")).unwrap_or(data);
            let data = &data[..data.len().min(STREAM_ROOM)];
            let room = self.budget.room().min(STREAM_ROOM);
            let objects = decompress_to_vec_zlib_with_limit(data, room).unwrap_or_else(|failed| failed.output);
            self.unpacked(objects.len());
            self.pdf_objects(path, &objects);
        }
    }

    fn pdf_objects(&mut self, path: &str, objects: &[u8]) {
        let script = has(objects, b"/JavaScript") && has(objects, b"/JS");
        self.sign_if(script, Sign::PdfScript, path);
        self.sign_if(has_key(objects, b"/Launch"), Sign::PdfLaunch, path);
        let opens = memchr::memmem::find_iter(objects, b"/OpenAction").take(STREAMS_MAX).any(|at| {
            let near = &objects[at..objects.len().min(at + NEAR)];
            let action = near.split(|byte| *byte == b'>').next().unwrap_or_default();
            has(action, b"/URI") || has(action, b"/SubmitForm") || has(action, b"/GoToR")
        });
        self.sign_if(opens, Sign::PdfOpensSite, path);
        self.sign_if(hidden_keys(objects), Sign::PdfDisguised, path);
        for at in memchr::memmem::find_iter(objects, b"F (").chain(memchr::memmem::find_iter(objects, b"F(")).take(64) {
            let name = String::from_utf8_lossy(string(&objects[at..])).to_lowercase();
            self.sign_if(runs(extension(&name)) && has(objects, b"/EF"), Sign::PdfProgram, path);
        }
        for at in memchr::memmem::find_iter(objects, b"/URI").take(LINKS_MAX) {
            if self.attachment.urls.len() == URLS_MAX {
                break;
            }
            let value = objects[at + 4..].trim_ascii_start();
            let url = if value.starts_with(b"(") { string(value) } else { b"" };
            let url = String::from_utf8_lossy(url).into_owned();
            if url.contains(':') && !self.attachment.urls.contains(&url) {
                self.attachment.urls.push(url);
            }
        }
    }
}

/// The key itself, not the beginning of a longer one.
fn has_key(objects: &[u8], key: &[u8]) -> bool {
    memchr::memmem::find_iter(objects, key).any(|at| objects.get(at + key.len()).is_none_or(|next| !next.is_ascii_alphanumeric()))
}

/// From the next parenthesis to its end; escapes stay.
fn string(from: &[u8]) -> &[u8] {
    let from = &from[..from.len().min(URL_MAX)];
    let Some(begin) = memchr::memchr(b'(', from) else { return b"" };
    let inside = &from[begin + 1..];
    let end = memchr::memchr_iter(b')', inside).find(|end| *end == 0 || inside[end - 1] != b'\\');
    &inside[..end.unwrap_or_default()]
}

/// Letters of a keyword as `#4a` (§7.3.5), which no program writes.
fn hidden_keys(objects: &[u8]) -> bool {
    let digits = |at: usize| {
        let two = std::str::from_utf8(objects.get(at + 1..at + 3)?).ok()?;
        u8::from_str_radix(two, 16).ok()
    };
    memchr::memchr_iter(b'#', objects).any(|at| {
        let letter = digits(at).is_some_and(|byte| byte.is_ascii_alphabetic());
        let begin = at.saturating_sub(12);
        let key = objects[begin..at].rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let within = key.len() < at - begin && key.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'#');
        letter && within && spelled(&objects[at - key.len()..])
    })
}

/// Whether the keyword, with its numbers read, is one of those that do something.
fn spelled(key: &[u8]) -> bool {
    const KEYS: [&[u8]; 6] = [b"JavaScript", b"OpenAction", b"Launch", b"EmbeddedFile", b"URI", b"JS"];
    let mut word = Vec::new();
    let mut rest = &key[..key.len().min(48)];
    while let Some((byte, after)) = rest.split_first() {
        let number =
            after.get(..2).and_then(|two| std::str::from_utf8(two).ok()).and_then(|two| u8::from_str_radix(two, 16).ok());
        match (byte, number) {
            (b'#', Some(number)) => {
                word.push(number);
                rest = &after[2..];
            }
            _ if byte.is_ascii_alphanumeric() => {
                word.push(*byte);
                rest = after;
            }
            _ => break,
        }
    }
    KEYS.contains(&word.as_slice())
}
