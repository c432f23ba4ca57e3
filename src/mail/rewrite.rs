//! What is changed in a message on its way through: a list of pieces, some kept from the original, some put in.
//! Every byte that is not named here goes out as it came in.

use std::ops::Range;

use bytes::Bytes;

use super::HeaderSection;

/// One piece of the outgoing message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These bytes of ours.
    Insert(Bytes),
    /// This part of the original, in bytes.
    Keep(Range<u64>),
}

/// The outgoing message as pieces, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub segments: Vec<Segment>,
}

impl Rewrite {
    /// The original of `size` bytes, unchanged.
    pub fn unchanged(size: u64) -> Rewrite {
        Rewrite { segments: vec![Segment::Keep(0..size)] }
    }

    /// Plans the outgoing form of a message of `size` bytes whose first bytes, at least its header section, are `head`:
    /// `ours` in front (whole header lines), fields for which `strip` says yes taken out, and `subject_tag` put in front of
    /// the text of every Subject field that does not carry it already; a message without one gets one.
    pub fn plan(head: &[u8], size: u64, ours: String, strip: impl Fn(&str, &[u8]) -> bool, subject_tag: Option<&str>) -> Rewrite {
        let section = HeaderSection::parse(head);
        let mut planner = Planner { segments: vec![Segment::Insert(ours.into())], kept: 0 };
        let mut tagged = false;
        for field in &section.fields {
            let name = std::str::from_utf8(&head[field.name.clone()]).unwrap_or_default();
            if strip(name, &head[field.value.clone()]) {
                planner.replace(field.whole(), None);
                continue;
            }
            if let Some(tag) = subject_tag.filter(|_| name.eq_ignore_ascii_case("subject")) {
                tagged = true;
                let value = &head[field.value.clone()];
                if !carries(value, tag) {
                    let text = field.value.start + value.len() - value.trim_ascii_start().len();
                    planner.insert_tag(head, field.value.clone(), text, tag);
                }
            }
        }
        if let Some(tag) = subject_tag.filter(|_| !tagged) {
            planner.replace(section.end..section.end, Some(format!("Subject: {}\r\n", encoded(tag).trim_end())));
        }
        // A message without headers has no empty line to divide our headers from its text.
        if section.fields.is_empty() && !head[section.end..].starts_with(b"\r\n") && !head[section.end..].starts_with(b"\n") {
            planner.replace(section.end..section.end, Some("\r\n".to_owned()));
        }
        planner.finish(size)
    }

    /// Of the outgoing message, in bytes: what SIZE declares.
    pub fn size(&self) -> u64 {
        let length = |segment: &Segment| match segment {
            Segment::Insert(bytes) => bytes.len() as u64,
            Segment::Keep(range) => range.end - range.start,
        };
        self.segments.iter().map(length).sum()
    }
}

/// Walks the original from front to back.
struct Planner {
    segments: Vec<Segment>,
    /// The original up to here is in `segments` or left out.
    kept: usize,
}

impl Planner {
    fn replace(&mut self, range: Range<usize>, with: Option<String>) {
        if self.kept < range.start {
            self.segments.push(Segment::Keep(self.kept as u64..range.start as u64));
        }
        self.kept = range.end;
        if let Some(text) = with {
            self.segments.push(Segment::Insert(text.into()));
        }
    }

    /// The tag goes in front of the text, after the blanks. An empty Subject has only its line end there: then the tag goes
    /// right behind the colon, with the blank it may be missing, and the line end stays.
    fn insert_tag(&mut self, head: &[u8], value: Range<usize>, text: usize, tag: &str) {
        let tag = encoded(tag);
        if text == value.end {
            return self.replace(value.start..value.start, Some(format!(" {}", tag.trim_end())));
        }
        let blank = if text == value.start { " " } else { "" };
        // An encoded word must be parted from its neighbours by a blank (RFC 2047 §5).
        let parted = tag.ends_with(' ') || !(head[text..].starts_with(b"=?") || tag.ends_with("?="));
        let gap = if parted { "" } else { " " };
        self.replace(text..text, Some(format!("{blank}{tag}{gap}")));
    }

    fn finish(mut self, size: u64) -> Rewrite {
        if (self.kept as u64) < size {
            self.segments.push(Segment::Keep(self.kept as u64..size));
        }
        Rewrite { segments: self.segments }
    }
}

/// Whether a Subject already starts with the tag, as its reader sees it.
fn carries(value: &[u8], tag: &str) -> bool {
    let mut field = b"Subject:".to_vec();
    field.extend_from_slice(value);
    field.extend_from_slice(b"\r\n");
    let parsed = mail_parser::MessageParser::default()
        .parse_headers(&field)
        .and_then(|message| message.subject().map(|subject| subject.trim_start().starts_with(tag.trim())));
    parsed.unwrap_or(false)
}

/// A tag with other letters than ASCII as an encoded word, with its final blank kept outside.
fn encoded(tag: &str) -> String {
    if tag.is_ascii() {
        return tag.to_owned();
    }
    let text = tag.trim_end();
    // 45 bytes become 60 letters of base 64: an encoded word has 75 at most (RFC 2047 §2).
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .char_indices()
            .map(|(at, letter)| at + letter.len_utf8())
            .take_while(|end| *end <= 45)
            .last()
            .unwrap_or(rest.len());
        words.push(format!("=?utf-8?B?{}?=", base64(&rest.as_bytes()[..end])));
        rest = &rest[end..];
    }
    words.join(" ") + &tag[text.len()..]
}

fn base64(bytes: &[u8]) -> String {
    let encoder = mail_builder::encoders::base64::Base64Encoder::new();
    String::from_utf8(encoder.encode(bytes).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(message: &str, rewrite: &Rewrite) -> String {
        let mut out = Vec::new();
        for segment in &rewrite.segments {
            match segment {
                Segment::Insert(bytes) => out.extend_from_slice(bytes),
                Segment::Keep(range) => out.extend_from_slice(&message.as_bytes()[range.start as usize..range.end as usize]),
            }
        }
        assert_eq!(out.len() as u64, rewrite.size());
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn tags(message: &str, tag: &str, expected: &str) {
        let plan = |message: &str| {
            Rewrite::plan(
                message.as_bytes(),
                message.len() as u64,
                "R: us\r\n".into(),
                |name, _| name.eq_ignore_ascii_case("X-Spam-Flag"),
                Some(tag),
            )
        };
        assert_eq!(applied(message, &plan(message)), format!("R: us\r\n{expected}"));
        // Never twice: what went out once comes back unchanged but for our header line.
        assert_eq!(applied(expected, &plan(expected)), format!("R: us\r\n{expected}"), "second pass");
    }

    #[test]
    fn subjects_of_every_kind_are_tagged_once() {
        let tag = "[SPAM: low] ";
        tags("Subject: hi\r\nA: 1\r\n\r\nSubject: body\r\n", tag, "Subject: [SPAM: low] hi\r\nA: 1\r\n\r\nSubject: body\r\n");
        tags("SUBJECT :hi\r\n\r\n", tag, "SUBJECT : [SPAM: low] hi\r\n\r\n");
        tags("Subject:\r\n folded\r\n\ttwice\r\n\r\n", tag, "Subject:\r\n [SPAM: low] folded\r\n\ttwice\r\n\r\n");
        tags("Subject: =?utf-8?B?aGk=?=\r\n\r\n", tag, "Subject: [SPAM: low] =?utf-8?B?aGk=?=\r\n\r\n");
        tags("Subject: =?utf-8?B?aGk=?=\r\n\r\n", "[S]", "Subject: [S] =?utf-8?B?aGk=?=\r\n\r\n");
        tags("Subject:\r\n\r\nx", tag, "Subject: [SPAM: low]\r\n\r\nx");
        tags("Subject: \r\nA: 1\r\n\r\nx", tag, "Subject: [SPAM: low] \r\nA: 1\r\n\r\nx");
        tags("A: 1\r\n\r\nx", tag, "A: 1\r\nSubject: [SPAM: low]\r\n\r\nx");
        tags("Subject: a\r\nSubject: b\r\n\r\n", tag, "Subject: [SPAM: low] a\r\nSubject: [SPAM: low] b\r\n\r\n");
        tags("Subject: =?utf-8?Q?=5BSPAM:_low=5D_hi?=\r\n\r\n", tag, "Subject: =?utf-8?Q?=5BSPAM:_low=5D_hi?=\r\n\r\n");
        tags("Subject: hi\r\n\r\n", "[Müll] ", "Subject: =?utf-8?B?W03DvGxsXQ==?= hi\r\n\r\n");
        tags("Subject: hi\n\nunix\n", tag, "Subject: [SPAM: low] hi\n\nunix\n");
    }

    #[test]
    fn named_fields_are_taken_out_and_nothing_else() {
        let message = "X-Spam-Flag: YES\r\n yes\r\nA: 1\r\nx-spam-flag: NO\r\n\r\nX-Spam-Flag: body\r\n";
        let strip = |name: &str, _: &[u8]| name.eq_ignore_ascii_case("X-Spam-Flag");
        let rewrite = Rewrite::plan(message.as_bytes(), message.len() as u64, String::new(), strip, None);
        assert_eq!(applied(message, &rewrite), "A: 1\r\n\r\nX-Spam-Flag: body\r\n");
    }

    #[test]
    fn a_message_without_headers_keeps_its_text_out_of_ours() {
        let plain = |message: &str, tag| {
            applied(message, &Rewrite::plan(message.as_bytes(), message.len() as u64, "R: us\r\n".into(), |_, _| false, tag))
        };
        assert_eq!(plain("hello there\r\n", None), "R: us\r\n\r\nhello there\r\n");
        assert_eq!(plain("hello there\r\n", Some("[S] ")), "R: us\r\nSubject: [S]\r\n\r\nhello there\r\n");
        assert_eq!(plain("\r\nhello\r\n", None), "R: us\r\n\r\nhello\r\n");
        assert_eq!(plain("", None), "R: us\r\n\r\n");
    }

    #[test]
    fn only_the_head_is_needed() {
        let head = b"A: 1\r\n\r\nbeginning";
        let rewrite = Rewrite::plan(head, 1 << 40, "R: us\r\n".into(), |_, _| false, None);
        assert_eq!(rewrite.segments, [Segment::Insert("R: us\r\n".into()), Segment::Keep(0..1 << 40)]);
    }
}
