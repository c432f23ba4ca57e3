//! The header section as bytes: where each field stands, without interpreting it. What a field means is mail-parser's
//! business; this is for what must not change a byte elsewhere, and for counting while a message arrives.

use std::ops::Range;

/// One header field: where it stands in the message, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name before the colon, without trailing blanks.
    pub name: Range<usize>,
    /// After the colon, up to and including the last line end of the field.
    pub value: Range<usize>,
}

/// The header section of a message: its fields and where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSection {
    pub fields: Vec<Field>,
    /// Just before the empty line, or before the first line that is no header; the whole length when there is no body.
    pub end: usize,
}

impl HeaderSection {
    /// Reads the header section of a whole message or of its beginning. Linear; takes CRLF and LF line ends.
    /// A line that is neither a field nor a continuation ends the section, as mail clients see it.
    pub fn parse(message: &[u8]) -> HeaderSection {
        let mut fields: Vec<Field> = Vec::new();
        let mut at = 0;
        while at < message.len() {
            let next = memchr::memchr(b'\n', &message[at..]).map_or(message.len(), |lf| at + lf + 1);
            let line = &message[at..next];
            let blank = matches!(line, b"\r\n" | b"\n");
            let continued = matches!(line[0], b' ' | b'\t');
            match (fields.last_mut(), name_length(line)) {
                _ if blank => break,
                (Some(field), _) if continued => field.value.end = next,
                (_, Some((name, colon))) => fields.push(Field { name: at..at + name, value: at + colon + 1..next }),
                _ => break,
            }
            at = next;
        }
        HeaderSection { fields, end: at }
    }

    /// The fields of this name, in any case.
    pub fn named<'a>(&'a self, message: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a Field> + 'a {
        self.fields.iter().filter(move |field| message[field.name.clone()].eq_ignore_ascii_case(name.as_bytes()))
    }
}

impl Field {
    /// The whole field with its last line end.
    pub fn whole(&self) -> Range<usize> {
        self.name.start..self.value.end
    }
}

/// Length of the name and place of the colon; `None` when the line starts no field (RFC 5322 §3.6.8; blanks before the
/// colon are the obsolete form of §4.5 and still seen).
fn name_length(line: &[u8]) -> Option<(usize, usize)> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    (!name.is_empty() && name.iter().all(|byte| (33..=126).contains(byte))).then_some((name.len(), colon))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: &[(&str, &str)], rest: &str) {
        let section = HeaderSection::parse(message.as_bytes());
        let seen: Vec<_> =
            section.fields.iter().map(|field| (&message[field.name.clone()], &message[field.value.clone()])).collect();
        assert_eq!(seen, expected);
        assert_eq!(&message[section.end..], rest);
    }

    #[test]
    fn fields_and_their_continuations() {
        check("A: 1\r\nSUBJECT : x\r\n\ty\r\n\r\nbody\r\n", &[("A", " 1\r\n"), ("SUBJECT", " x\r\n\ty\r\n")], "\r\nbody\r\n");
        check("A:1\nB:\n\nbody", &[("A", "1\n"), ("B", "\n")], "\nbody");
    }

    #[test]
    fn what_is_no_header_ends_the_section() {
        check("", &[], "");
        check("\r\nbody", &[], "\r\nbody");
        check("hello there\r\n", &[], "hello there\r\n");
        check(" leading\r\nA: 1\r\n", &[], " leading\r\nA: 1\r\n");
        check("A: 1\r\nno colon\r\nB: 2\r\n", &[("A", " 1\r\n")], "no colon\r\nB: 2\r\n");
        check("A: 1", &[("A", " 1")], "");
    }
}
