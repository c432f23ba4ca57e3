//! Watches content on its way: counts size, header section, Received fields and line lengths. Sees every byte once, keeps none.
//!
//! Which lines are header fields is decided as in `mail::HeaderSection`, so that what is counted here is what is rewritten
//! later; only that one needs the bytes and this one does not.

use super::DataError;

/// More Received fields than this, and the message goes in circles (RFC 5321 §6.3 asks for at least 100 hops in networks of
/// its time; mail of today needs about ten, and every turn of a loop costs a scan).
const HOPS_MAX: u32 = 50;

#[derive(Debug)]
pub(super) struct Watch {
    size_max: u64,
    header_max: u64,
    text_line_max: u64,
    size: u64,
    header_size: u64,
    /// Of the line that has not ended yet, in bytes.
    line: u64,
    /// The last byte was a CR.
    after_cr: bool,
    hops: u32,
    header: Header,
    /// At least one field was read: only then a blank at the start of a line continues something.
    any_field: bool,
    error: Option<DataError>,
}

/// Where in the header section the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    LineStart,
    /// In a field name. `received`: so many letters of "Received" were met; `None`: it is another name.
    Name {
        received: Option<usize>,
    },
    /// Blanks between name and colon (RFC 5322 §4.5, obsolete and still seen).
    Blanks {
        received: bool,
    },
    Value,
    /// After the header section.
    Over,
}

const RECEIVED: &[u8] = b"received";

impl Watch {
    pub(super) fn new(size_max: u64, header_max: u64, text_line_max: u64) -> Watch {
        Watch {
            size_max,
            header_max,
            text_line_max,
            size: 0,
            header_size: 0,
            line: 0,
            after_cr: false,
            hops: 0,
            header: Header::LineStart,
            any_field: false,
            error: None,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    #[cfg(test)]
    pub(super) fn hops(&self) -> u32 {
        self.hops
    }

    /// Keeps the gravest error.
    pub(super) fn note(&mut self, error: DataError) {
        if self.error.as_ref().is_none_or(|known| error.rank() < known.rank()) {
            self.error = Some(error);
        }
    }

    pub(super) fn result(&self) -> Result<(), DataError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    pub(super) fn pass(&mut self, content: &[u8]) {
        self.size = self.size.saturating_add(content.len() as u64);
        if self.size > self.size_max {
            // Nothing is graver, so there is nothing left to look for.
            self.note(DataError::TooLarge { limit: self.size_max });
            return;
        }
        let mut start = 0;
        while start < content.len() {
            let end = memchr::memchr(b'\n', &content[start..]).map_or(content.len(), |place| start + place + 1);
            self.part(&content[start..end]);
            start = end;
        }
    }

    /// A line or a part of one; only its last byte can be an LF.
    fn part(&mut self, part: &[u8]) {
        self.header_part(part);
        let (text, ended) = match part.split_last() {
            Some((b'\n', text)) => (text, true),
            _ => (part, false),
        };
        self.line += text.len() as u64;
        self.after_cr = text.last().map_or(self.after_cr, |last| *last == b'\r');
        let without_cr = self.line - u64::from(self.after_cr);
        if without_cr > self.text_line_max {
            self.note(DataError::LineTooLong { limit: self.text_line_max });
        }
        if ended {
            self.line = 0;
            self.after_cr = false;
        }
    }

    fn header_part(&mut self, part: &[u8]) {
        let mut at = 0;
        while at < part.len() && self.header != Header::Over {
            if self.header == Header::Value {
                at = part.len();
                if part.ends_with(b"\n") {
                    self.header = Header::LineStart;
                }
            } else {
                self.header = self.header_byte(part[at]);
                at += usize::from(self.header != Header::Over);
            }
        }
        self.header_size += at as u64;
        if self.header_size > self.header_max {
            self.note(DataError::HeaderTooLarge { limit: self.header_max });
        }
    }

    fn header_byte(&mut self, byte: u8) -> Header {
        let is_name = |byte: u8| (33..=126).contains(&byte) && byte != b':';
        match (self.header, byte) {
            (Header::LineStart, b' ' | b'\t') if self.any_field => Header::Value,
            (Header::LineStart, byte) if is_name(byte) => Header::Name { received: next_letter(Some(0), byte) },
            (Header::Name { received }, b':') => self.field(received == Some(RECEIVED.len())),
            (Header::Blanks { received }, b':') => self.field(received),
            (Header::Name { received }, byte) if is_name(byte) => Header::Name { received: next_letter(received, byte) },
            (Header::Name { received }, b' ' | b'\t' | b'\r' | b'\x0c') => {
                Header::Blanks { received: received == Some(RECEIVED.len()) }
            }
            (Header::Blanks { received }, b' ' | b'\t' | b'\r' | b'\x0c') => Header::Blanks { received },
            // An empty line, or one that is no field: here the header section ends.
            _ => Header::Over,
        }
    }

    fn field(&mut self, received: bool) -> Header {
        self.any_field = true;
        self.hops += u32::from(received);
        if self.hops > HOPS_MAX {
            self.note(DataError::TooManyHops);
        }
        Header::Value
    }
}

/// One more letter of "Received", in any case.
fn next_letter(met: Option<usize>, byte: u8) -> Option<usize> {
    met.filter(|met| RECEIVED.get(*met) == Some(&byte.to_ascii_lowercase())).map(|met| met + 1)
}
