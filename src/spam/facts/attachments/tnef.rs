//! winmail.dat ([MS-OXTNEF]): the files that Outlook wraps, judged like others. The message is delivered as it came.

use super::bytes::{slice, u16_at, u32_at, utf16};
use super::{INSIDE_MAX, LEVELS_MAX, Reader, Sign, member_name};

/// Attributes read of one file.
const ATTRIBUTES_MAX: usize = 4096;
/// Of an attribute: level, id, length; and a checksum behind the data (§2.1.3).
const HEADER: usize = 9;
const CHECKSUM: usize = 2;

const RENDER_DATA: usize = 0x0006_9002;
const TITLE: usize = 0x0001_8010;
const DATA: usize = 0x0006_800f;
const PROPERTIES: usize = 0x0006_9005;

/// A file of the message.
#[derive(Default)]
struct Wrapped<'t> {
    title: String,
    long_name: Option<String>,
    data: &'t [u8],
}

impl Reader<'_> {
    pub(super) fn tnef(&mut self, path: &str, bytes: &[u8], level: usize) {
        let files = files(bytes);
        self.sign_if(files.len() > INSIDE_MAX, Sign::Bound, path);
        for file in files.into_iter().take(INSIDE_MAX) {
            let name = file.long_name.unwrap_or(file.title);
            if name.is_empty() {
                continue;
            }
            // Outlook shows it as an attachment, not as a file in one.
            self.attachment.names.push(name.clone());
            if level == LEVELS_MAX {
                self.sign(Sign::Bound, path);
                continue;
            }
            self.file(&name, "", file.data, level + 1);
        }
    }
}

fn files(bytes: &[u8]) -> Vec<Wrapped<'_>> {
    let mut files: Vec<Wrapped<'_>> = Vec::new();
    // Signature and key.
    let mut at = 6;
    for _ in 0..ATTRIBUTES_MAX {
        let (Some(id), Some(length)) = (u32_at(bytes, at + 1), u32_at(bytes, at + 5)) else { break };
        // Of an attribute that was cut off there is the beginning.
        let rest = bytes.get(at + HEADER..).unwrap_or_default();
        let data = &rest[..rest.len().min(length)];
        if id == RENDER_DATA {
            files.push(Wrapped::default());
        }
        if matches!(id, TITLE | DATA | PROPERTIES) && files.is_empty() {
            files.push(Wrapped::default());
        }
        if let Some(file) = files.last_mut() {
            match id {
                TITLE => file.title = member_name(data.split(|byte| *byte == 0).next().unwrap_or_default()),
                DATA => file.data = data,
                PROPERTIES => file.long_name = long_name(data),
                _ => {}
            }
        }
        let Some(next) = (at + HEADER + CHECKSUM).checked_add(length) else { break };
        at = next;
    }
    files
}

/// PR_ATTACH_LONG_FILENAME (0x3707) as text in UTF-16 (type 0x1f) or in the sender's charset (0x1e): one value, its length,
/// its bytes. Sought by these numbers rather than by walking all properties, of which many kinds exist.
fn long_name(properties: &[u8]) -> Option<String> {
    let wide = b"\x1f\x00\x07\x37\x01\0\0\0";
    let narrow = b"\x1e\x00\x07\x37\x01\0\0\0";
    let value = |tag: &[u8]| {
        let at = memchr::memmem::find(properties, tag)? + tag.len();
        u16_at(properties, at + 2).filter(|high| *high == 0)?;
        slice(properties, at + 4, u16_at(properties, at)?)
    };
    let name = value(wide).map(utf16).or_else(|| value(narrow).map(|name| String::from_utf8_lossy(name).into_owned()))?;
    let name = member_name(name.trim_end_matches('\0').as_bytes());
    (!name.is_empty()).then_some(name)
}
