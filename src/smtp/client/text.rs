//! The content on its way out: read in pieces from the body as the rewrite says, and for DATA stuffed (RFC 5321 §4.5.2).
//!
//! BDAT carries every byte as it is. So does DATA when all lines end in CRLF, which is so for everything that came by DATA.
//! What came by BDAT with a bare LF or CR and goes to a host without CHUNKING cannot keep it (RFC 5321 §2.3.8, and it is what
//! SMTP smuggling is made of). Refusing it would lose mail that its sender's system was allowed to send, so it is mended;
//! a DKIM signature may break by it:
//! - a bare LF becomes CRLF: our scanner and rules took it for a line end too;
//! - a bare CR inside a line becomes a blank, so that nothing begins a line that began none when it was judged;
//! - a bare CR at the start of a line becomes CRLF, so that the header section ends where it ended when it was judged.

use std::io;
use std::slice;

use bytes::Bytes;

use crate::mail::{Rewrite, Segment};
use crate::outside::Body;

/// Reads the outgoing form of a message from front to back.
pub(super) struct Source<'a> {
    body: &'a Body,
    segments: slice::Iter<'a, Segment>,
    current: Segment,
}

impl<'a> Source<'a> {
    pub fn new(body: &'a Body, rewrite: &'a Rewrite) -> Source<'a> {
        Source { body, segments: rewrite.segments.iter(), current: Segment::Insert(Bytes::new()) }
    }

    /// The next piece, of at least one byte and at most `most` or [`Body::CHUNK`]; `None` at the end.
    pub async fn next(&mut self, most: u64) -> io::Result<Option<Bytes>> {
        let most = most.min(Body::CHUNK);
        loop {
            match &mut self.current {
                Segment::Insert(bytes) if !bytes.is_empty() => {
                    return Ok(Some(bytes.split_to(bytes.len().min(most as usize))));
                }
                Segment::Keep(range) if range.start < range.end => {
                    let end = range.end.min(range.start + most);
                    let piece = self.body.read(range.start..end).await?;
                    range.start = end;
                    return Ok(Some(piece));
                }
                Segment::Insert(_) | Segment::Keep(_) => match self.segments.next() {
                    Some(segment) => self.current = segment.clone(),
                    None => return Ok(None),
                },
            }
        }
    }
}

/// Turns content into the text of DATA, piece by piece; where the pieces are cut makes no difference.
#[derive(Debug)]
pub(super) struct Stuffer {
    at: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    LineStart,
    InLine,
    /// A CR was read and not yet written: whether it ends the line is not known. It stood at the start of a line, or in one.
    CrAtLineStart,
    CrInLine,
}

impl Stuffer {
    pub fn new() -> Stuffer {
        // DATA's own CRLF: a message that begins with a dot is stuffed too.
        Stuffer { at: Place::LineStart }
    }

    /// Appends the text for `input` to `out`: at most twice its size and two bytes.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = input.first() {
            if matches!(self.at, Place::CrAtLineStart | Place::CrInLine) && first != b'\n' {
                self.bare_cr(out);
            }
            if self.at == Place::LineStart && first == b'.' {
                out.push(b'.');
            }
            let run = memchr::memchr2(b'\r', b'\n', input).unwrap_or(input.len());
            if run > 0 {
                out.extend_from_slice(&input[..run]);
                self.at = Place::InLine;
            }
            match input.get(run) {
                Some(b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    self.at = Place::LineStart;
                }
                Some(_) => self.at = if self.at == Place::LineStart { Place::CrAtLineStart } else { Place::CrInLine },
                None => return,
            }
            input = &input[run + 1..];
        }
    }

    /// The end: CRLF when the last line has none, then the final dot.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.bare_cr(out);
        if self.at == Place::InLine {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }

    /// The CR that was held back ends no line.
    fn bare_cr(&mut self, out: &mut Vec<u8>) {
        match self.at {
            Place::CrAtLineStart => {
                out.extend_from_slice(b"\r\n");
                self.at = Place::LineStart;
            }
            Place::CrInLine => {
                out.push(b' ');
                self.at = Place::InLine;
            }
            Place::LineStart | Place::InLine => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuffed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut stuffer = Stuffer::new();
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| stuffer.push(piece, &mut out));
        stuffer.finish(&mut out);
        out
    }

    #[track_caller]
    fn check(content: &str, text: &str) {
        assert_eq!(String::from_utf8(stuffed(&[content.as_bytes()])).unwrap(), text);
        let letters: Vec<_> = content.as_bytes().chunks(1).collect();
        assert_eq!(String::from_utf8(stuffed(&letters)).unwrap(), text, "one byte at a time");
    }

    #[test]
    fn dots_are_doubled_at_line_starts_only() {
        check("a\r\n.b\r\n..\r\nc.d\r\n", "a\r\n..b\r\n...\r\nc.d\r\n.\r\n");
        check(".\r\nMAIL FROM:<x@y.example>\r\n", "..\r\nMAIL FROM:<x@y.example>\r\n.\r\n");
        check(".", "..\r\n.\r\n");
    }

    #[test]
    fn only_a_missing_line_end_is_added() {
        check("", ".\r\n");
        check("a\r\n", "a\r\n.\r\n");
        check("a\r\n\r\n", "a\r\n\r\n.\r\n");
        check("a", "a\r\n.\r\n");
    }

    #[test]
    fn bare_line_ends_are_mended_without_new_lines_in_headers() {
        check("a\nb\n.\n", "a\r\nb\r\n..\r\n.\r\n");
        check("Subject: a\rX-Evil: b\r\n", "Subject: a X-Evil: b\r\n.\r\n");
        check("a\r\r\n", "a \r\n.\r\n");
        check("a: 1\r\n\r \r\nb: 2\r\n", "a: 1\r\n\r\n \r\nb: 2\r\n.\r\n");
        check("\r.\r", "\r\n.. \r\n.\r\n");
        check("a\r", "a \r\n.\r\n");
    }

    /// What a receiver makes of it (RFC 5321 §4.5.2).
    fn unstuffed(text: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(text).unwrap().strip_suffix(".\r\n").expect("ends in the final dot");
        text.split_inclusive("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line)).collect::<String>().into_bytes()
    }

    proptest! {
        #[test]
        fn any_content_with_whole_lines_arrives_byte_exact(lines in prop::collection::vec("[.a ]{0,3}", 0..6), cut in 0usize..20) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let (front, back) = content.as_bytes().split_at(cut.min(content.len()));
            prop_assert_eq!(unstuffed(&stuffed(&[front, back])), content.as_bytes());
        }

        #[test]
        fn no_content_ends_the_text_early_or_leaves_a_bare_line_end(content in "[.\r\na]{0,12}", cut in 0usize..12) {
            let (front, back) = content.as_bytes().split_at(cut.min(content.len()));
            let text = stuffed(&[front, back]);
            let whole = [b"\r\n".as_slice(), &text].concat();
            prop_assert_eq!(memchr::memmem::find(&whole, b"\r\n.\r\n").map(|at| at + 5), Some(whole.len()));
            let rest = String::from_utf8(text.clone()).unwrap().replace("\r\n", "");
            prop_assert!(!rest.contains(['\r', '\n']), "{:?}", text);
        }
    }

    #[tokio::test]
    async fn the_source_follows_the_rewrite() {
        let body = Body::Memory(Bytes::from_static(b"0123456789"));
        let segments = vec![
            Segment::Insert("ours".into()),
            Segment::Keep(0..3),
            Segment::Keep(3..3),
            Segment::Insert(Bytes::new()),
            Segment::Keep(5..10),
        ];
        let rewrite = Rewrite { segments };
        let mut source = Source::new(&body, &rewrite);
        let mut seen = Vec::new();
        while let Some(piece) = source.next(2).await.unwrap() {
            assert!((1..=2).contains(&piece.len()));
            seen.extend_from_slice(&piece);
        }
        assert_eq!(seen, b"ours01256789");
        let past = Rewrite { segments: vec![Segment::Keep(5..11)] };
        assert!(Source::new(&body, &past).next(100).await.is_err(), "a plan for another body is an error, not a short message");
    }
}
