//! What a message carries: names, kinds, and the names inside zip archives.
//!
//! Nothing is unpacked: the names of a zip stand uncompressed in its directory. What is inside is the virus scanner's
//! business; what a name tries to look like is ours.

use mail_parser::parsers::MessageStream;

use crate::spam::text::prefix;

/// Names taken from one archive.
const INSIDE_MAX: usize = 64;
/// Of one name, in bytes.
const NAME_MAX: usize = 256;
/// A zip's end record stands in the last 64 KiB plus its own 22 bytes (APPNOTE.TXT §4.3.16).
const ZIP_TAIL: usize = (64 << 10) + 22;
/// HTML is looked into so far.
const HTML_MAX: usize = 64 << 10;

/// One attached file.
#[derive(Debug, Default, PartialEq)]
pub(in crate::spam) struct Attachment {
    /// Its own name, empty when it has none, then those inside as `archive.zip/name`; in lower case.
    pub names: Vec<String>,
    /// `type/subtype` as declared.
    pub declared: String,
    /// A zip whose files need a password.
    pub encrypted: bool,
    /// Begins as a Windows program.
    pub program: bool,
    /// An HTML page that asks for input or runs a script.
    pub active_page: bool,
    /// What QR codes in an image say.
    pub qr_texts: Vec<String>,
}

impl Attachment {
    pub fn read(name: &str, kind: &str, subtype: &str, bytes: &[u8]) -> Attachment {
        let mut attachment = Attachment {
            names: vec![decoded_name(name)],
            declared: format!("{kind}/{subtype}"),
            program: bytes.starts_with(b"MZ"),
            ..Attachment::default()
        };
        if bytes.starts_with(b"PK\x03\x04") {
            attachment.read_zip(bytes);
        }
        if subtype == "html" || attachment.has_extension(&["html", "htm", "shtml", "xhtml"]) {
            attachment.active_page = is_active_page(bytes);
        }
        attachment
    }

    pub fn has_extension(&self, extensions: &[&str]) -> bool {
        self.names[0].rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
    }

    fn read_zip(&mut self, bytes: &[u8]) {
        let own = self.names[0].clone();
        for entry in zip_entries(bytes) {
            self.encrypted |= entry.encrypted;
            self.names.push(format!("{own}/{}", cleaned(&String::from_utf8_lossy(entry.name))));
        }
    }
}

/// Senders encode names as words although RFC 2047 §5 forbids it in parameters, and clients decode them.
fn decoded_name(name: &str) -> String {
    if !name.contains("=?") {
        return cleaned(name);
    }
    let line = format!("{}\n", prefix(name, NAME_MAX * 4).replace(['\r', '\n'], " "));
    let value = MessageStream::new(line.as_bytes()).parse_unstructured();
    cleaned(value.as_text().unwrap_or(name))
}

/// Lower case, bounded, on one line; blanks and dots at the end go, as Windows drops them.
fn cleaned(name: &str) -> String {
    let name = prefix(name, NAME_MAX).to_lowercase().replace(|letter: char| letter.is_control(), " ");
    name.trim_end_matches([' ', '.']).trim_start().to_owned()
}

fn is_active_page(bytes: &[u8]) -> bool {
    let page = bytes[..bytes.len().min(HTML_MAX)].to_ascii_lowercase();
    [&b"<script"[..], b"<form", b"http-equiv=\"refresh", b"onload="]
        .iter()
        .any(|sign| memchr::memmem::find(&page, sign).is_some())
}

struct ZipEntry<'z> {
    name: &'z [u8],
    encrypted: bool,
}

/// The entries of the central directory, or of the first local header when the directory is damaged or was cut off.
fn zip_entries(bytes: &[u8]) -> Vec<ZipEntry<'_>> {
    let tail = bytes.len().saturating_sub(ZIP_TAIL);
    let end_record = memchr::memmem::rfind(&bytes[tail..], b"PK\x05\x06").map(|at| tail + at);
    let mut at = end_record.and_then(|end| u32_at(bytes, end + 16)).unwrap_or(usize::MAX);
    let mut entries = Vec::new();
    while entries.len() < INSIDE_MAX && bytes.get(at..).is_some_and(|rest| rest.starts_with(b"PK\x01\x02")) {
        let lengths = (u16_at(bytes, at + 28), u16_at(bytes, at + 30), u16_at(bytes, at + 32));
        let (Some(name), Some(extra), Some(comment)) = lengths else { break };
        let Some(bytes_of_name) = bytes.get(at + 46..at + 46 + name) else { break };
        entries.push(ZipEntry { name: bytes_of_name, encrypted: u16_at(bytes, at + 8).is_some_and(|flags| flags & 1 == 1) });
        at += 46 + name + extra + comment;
    }
    if entries.is_empty() {
        let name = u16_at(bytes, 26).and_then(|length| bytes.get(30..30 + length));
        let encrypted = u16_at(bytes, 6).is_some_and(|flags| flags & 1 == 1);
        entries.extend(name.map(|name| ZipEntry { name, encrypted }));
    }
    entries
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(usize::from(u16::from_le_bytes([two[0], two[1]])))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16_at(bytes, at)? | u16_at(bytes, at + 2)? << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stored zip with one file, as small as it gets.
    fn zip(name: &str, flags: u8) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        let mut bytes = vec![0; 30];
        bytes[..4].copy_from_slice(b"PK\x03\x04");
        bytes[6] = flags;
        bytes[26] = length;
        bytes.extend_from_slice(name.as_bytes());
        let directory = u8::try_from(bytes.len()).unwrap();
        let mut entry = vec![0; 46];
        entry[..4].copy_from_slice(b"PK\x01\x02");
        entry[8] = flags;
        entry[28] = length;
        bytes.extend(entry);
        bytes.extend_from_slice(name.as_bytes());
        let mut end = vec![0; 22];
        end[..4].copy_from_slice(b"PK\x05\x06");
        end[16] = directory;
        bytes.extend(end);
        bytes
    }

    #[test]
    fn names_inside_a_zip_are_read_without_unpacking() {
        let attachment = Attachment::read("Rechnung.ZIP", "application", "zip", &zip("Rechnung.pdf.EXE", 0));
        assert_eq!(attachment.names, ["rechnung.zip", "rechnung.zip/rechnung.pdf.exe"]);
        assert!(!attachment.encrypted);
        assert!(Attachment::read("a.zip", "application", "zip", &zip("a", 1)).encrypted);
    }

    #[test]
    fn a_cut_or_lying_zip_gives_what_it_has() {
        let whole = zip("inside.js", 0);
        for length in 0..whole.len() {
            let attachment = Attachment::read("a.zip", "application", "zip", &whole[..length]);
            assert!(attachment.names.len() <= 2);
        }
        assert_eq!(Attachment::read("a.zip", "application", "zip", &whole[..60]).names.len(), 2, "from the local header");
        let mut lying = whole.clone();
        let end = lying.len() - 22;
        lying[end + 16..end + 20].copy_from_slice(&[0xff; 4]);
        assert_eq!(Attachment::read("a.zip", "application", "zip", &lying).names.len(), 2);
    }

    #[test]
    fn names_are_what_windows_makes_of_them() {
        let name = |name: &str| Attachment::read(name, "application", "octet-stream", b"").names.remove(0);
        assert_eq!(name("Invoice.EXE. . "), "invoice.exe");
        assert_eq!(name("=?utf-8?B?UmVjaG51bmcuZXhl?="), "rechnung.exe");
        assert_eq!(name("a\r\nb.exe"), "a  b.exe");
    }

    #[test]
    fn programs_and_active_pages_are_seen_by_their_content() {
        assert!(Attachment::read("photo.jpg", "image", "jpeg", b"MZ\x90").program);
        assert!(Attachment::read("a.htm", "text", "plain", b"<FORM action=x>").active_page);
        assert!(!Attachment::read("a.html", "text", "html", b"<p>hi").active_page);
    }
}
