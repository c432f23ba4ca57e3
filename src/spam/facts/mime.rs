//! The parts of a message: a walk through its MIME structure that ends whatever the structure is.
//!
//! Why not `mail_parser::Message`: it seeks every boundary to the end of the content (20,000 parts with boundaries that never
//! come take seconds) and drops attached messages recursively (36,000 of them fit into 1 MiB and overflow the stack, which
//! ends the process). Here each level reads its own bytes once, at most [`DEPTH_MAX`] levels and [`PARTS_MAX`] parts. The
//! reading of single fields, transfer encodings and charsets is mail-parser's.
//!
//! A structure that makes no sense is walked as far as it does, and what was wrong with it is a fact ([`Flaw`]).

use std::borrow::Cow;

use mail_parser::parsers::MessageStream;
use mail_parser::{ContentType, HeaderValue};

use super::Facts;
use super::attachments::{Attachment, Budget};
use super::decode::{self, Decoded};
use super::qr;
use crate::mail::HeaderSection;
use crate::spam::text::{TEXT_MAX, prefix};

/// Deeper parts are not looked into. Forwarded newsletters reach 6.
const DEPTH_MAX: usize = 12;
/// Later parts are not looked at.
const PARTS_MAX: usize = 500;
/// HTML is mostly markup: so many bytes of it give about [`TEXT_MAX`] of text.
const HTML_MAX: usize = 2 * TEXT_MAX;
/// RFC 2046 §5.1.1.
const BOUNDARY_MAX: usize = 70;
/// Twice what RFC 5322 §2.1.1 allows: many programs miscount a little.
const LINE_MAX: usize = 2_000;
/// Of one MIME field, in bytes; RFC 2045 fields are much shorter.
const FIELD_MAX: usize = 4 << 10;

/// What is wrong with a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spam) enum Flaw {
    TooDeep,
    TooManyParts,
    /// A multipart that names no boundary, or one that never comes.
    NoBoundary,
    Base64Damaged,
    /// Two Content-Type or Content-Transfer-Encoding fields in one part: each client believes another one.
    DuplicateFields,
    /// multipart/* in base64 or quoted-printable, which RFC 2045 §6.4 forbids and scanners read differently.
    EncodedMultipart,
    /// A multipart that begins and never ends.
    NeverClosed,
    /// A boundary with characters, or of a length, that RFC 2046 §5.1.1 does not allow.
    OddBoundary,
    /// A multipart with the boundary of the one it is in.
    SameBoundary,
    /// Sentences before the first or after the last part, which one reader shows and another does not.
    TextBetweenParts,
    /// multipart/alternative with nothing to choose from.
    OneAlternative,
    /// multipart/alternative that offers a file instead of a text.
    FileAsAlternative,
    /// message/partial or message/external-body (RFC 2046 §5.2): the content is elsewhere.
    ContentElsewhere,
    /// A text that does not keep to its charset, or to none that exists.
    WrongCharset,
    /// Bytes beyond ASCII in a text of no charset that are not UTF-8 either.
    NoCharset,
    /// A Content-Transfer-Encoding that does not exist.
    UnknownEncoding,
    /// A text in base64 although all of it is ASCII.
    EncodedAscii,
    /// Letters written as numbers in quoted-printable.
    QuotedLetters,
    /// A carriage return within a line of a text.
    BareCr,
    /// NUL in a text.
    Nul,
    /// A line longer than RFC 5322 §2.1.1 allows, by far.
    LongLine,
    /// More of a text than is looked at.
    LongText,
}

/// A text that the reader sees.
pub(in crate::spam) struct TextPart {
    pub html: bool,
    /// One of several ways to say the same.
    pub alternative: bool,
    pub text: String,
}

/// The whole structure, flattened.
#[derive(Default)]
pub(in crate::spam) struct Mime {
    /// In the order of the message, without those of attached messages.
    pub texts: Vec<TextPart>,
    pub attachments: Vec<Attachment>,
    /// Images shown within the text.
    pub inline_images: usize,
    pub parts: usize,
    pub depth: usize,
    pub flaws: Vec<Flaw>,
}

impl Mime {
    /// Walks a message. `cut`: the content is only the beginning, so that missing ends are no flaw.
    pub fn walk(content: &[u8], cut: bool) -> Mime {
        let mut walk = Walk { cut, ..Walk::default() };
        walk.entity(content, 0, PLAIN);
        walk.mime
    }

    /// The messages attached to this one, decoded, at most `max`: forwarded as attachments (message/rfc822), or saved and attached
    /// as files (`.eml`); of each what is looked at of a message ([`Facts::CONTENT_MAX`]). What is attached to these is not looked for.
    pub fn attached(content: &[u8], max: usize) -> Vec<Vec<u8>> {
        let mut walk = Walk { wanted: max, ..Walk::default() };
        walk.entity(content, 0, PLAIN);
        walk.messages
    }

    pub fn has(&self, flaw: Flaw) -> bool {
        self.flaws.contains(&flaw)
    }
}

const PLAIN: (&str, &str) = ("text", "plain");

#[derive(Default)]
struct Walk {
    mime: Mime,
    /// Attached messages are taken out, so many, and not looked into.
    wanted: usize,
    messages: Vec<Vec<u8>>,
    cut: bool,
    /// Inside an attached message: its text is not what the sender says here.
    attached: bool,
    /// Inside a multipart/alternative.
    alternative: bool,
    /// Of the multiparts around.
    boundaries: Vec<String>,
    /// Of all attachments.
    budget: Budget,
    codes: qr::Reader,
}

/// The MIME fields of one entity (RFC 2045 §3), read.
struct Fields<'m> {
    content_type: Option<ContentType<'m>>,
    disposition: Option<ContentType<'m>>,
    encoding: String,
}

impl Walk {
    /// A message or part: fields, empty line, body. `default`: the type without a Content-Type (RFC 2046 §5.1.5).
    fn entity(&mut self, entity: &[u8], depth: usize, default: (&'static str, &'static str)) {
        if self.mime.parts >= PARTS_MAX {
            return self.flaw(Flaw::TooManyParts);
        }
        self.mime.parts += 1;
        self.mime.depth = self.mime.depth.max(depth);
        let section = HeaderSection::parse(entity);
        let body = after_empty_line(&entity[section.end..]);
        let fields = self.fields(entity, &section);
        let (kind, subtype) = fields.content_type.as_ref().map_or(default, |ct| (ct.ctype(), ct.subtype().unwrap_or_default()));
        match (kind, subtype) {
            ("multipart", _) => self.multipart(body, &fields, subtype, depth),
            ("message", "rfc822" | "global") => self.message(body, &fields, depth),
            _ => {
                self.flaw_if(kind == "message" && matches!(subtype, "partial" | "external-body"), Flaw::ContentElsewhere);
                self.leaf(body, &fields, kind, subtype);
            }
        }
    }

    fn fields<'m>(&mut self, entity: &'m [u8], section: &HeaderSection) -> Fields<'m> {
        let mut fields = Fields { content_type: None, disposition: None, encoding: String::new() };
        for field in &section.fields {
            let value = &entity[field.value.start..field.value.end.min(field.value.start + FIELD_MAX)];
            let name = &entity[field.name.clone()];
            if name.eq_ignore_ascii_case(b"Content-Type") {
                let again = fields.content_type.replace(content_type(value).unwrap_or_else(broken_content_type)).is_some();
                self.flaw_if(again, Flaw::DuplicateFields);
            } else if name.eq_ignore_ascii_case(b"Content-Disposition") {
                fields.disposition = content_type(value);
            } else if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") {
                let word = String::from_utf8_lossy(value);
                let word = word.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
                self.flaw_if(!fields.encoding.is_empty(), Flaw::DuplicateFields);
                fields.encoding = word;
            }
        }
        fields
    }

    fn multipart(&mut self, body: &[u8], fields: &Fields<'_>, subtype: &str, depth: usize) {
        if depth >= DEPTH_MAX {
            return self.flaw(Flaw::TooDeep);
        }
        self.flaw_if(matches!(fields.encoding.as_str(), "base64" | "quoted-printable"), Flaw::EncodedMultipart);
        let boundary = fields.content_type.as_ref().and_then(|ct| ct.attribute("boundary")).unwrap_or_default().trim_end();
        let split = Split::at_boundary(body, boundary.as_bytes());
        let same = !boundary.is_empty() && self.boundaries.iter().any(|around| around == boundary);
        self.flaw_if(same, Flaw::SameBoundary);
        if split.parts.is_empty() {
            self.flaw_if(!self.cut, Flaw::NoBoundary);
            return self.text(decode::text_of(body, None), false);
        }
        self.flaw_if(!split.closed && !self.cut && !self.attached, Flaw::NeverClosed);
        self.flaw_if(boundary.len() > BOUNDARY_MAX || !boundary.bytes().all(may_be_in_boundary), Flaw::OddBoundary);
        self.flaw_if(sentences(split.preamble) || sentences(split.epilogue), Flaw::TextBetweenParts);
        let outside = self.alternative;
        self.alternative |= subtype == "alternative";
        self.flaw_if(subtype == "alternative" && split.parts.len() == 1, Flaw::OneAlternative);
        let default = if subtype == "digest" { ("message", "rfc822") } else { PLAIN };
        self.boundaries.push(boundary.to_owned());
        for part in split.parts {
            let before = (self.mime.parts, self.mime.attachments.len());
            self.entity(part, depth + 1, default);
            // Only itself: a text with files may well be an alternative.
            let alone = self.mime.parts == before.0 + 1;
            let file = self.mime.attachments.get(before.1).filter(|_| alone && subtype == "alternative");
            let is_file = |file: &Attachment| file.declared.starts_with("application/") && !file.declared.ends_with("/ics");
            self.flaw_if(file.is_some_and(is_file), Flaw::FileAsAlternative);
        }
        self.boundaries.pop();
        self.alternative = outside;
    }

    fn message(&mut self, body: &[u8], fields: &Fields<'_>, depth: usize) {
        if depth >= DEPTH_MAX {
            return self.flaw(Flaw::TooDeep);
        }
        let decoded = self.decoded(body, fields);
        if self.wanted > 0 {
            return self.take(&decoded);
        }
        let outside = std::mem::replace(&mut self.attached, true);
        self.entity(&decoded, depth + 1, PLAIN);
        self.attached = outside;
    }

    fn leaf(&mut self, body: &[u8], fields: &Fields<'_>, kind: &str, subtype: &str) {
        let name = fields.name();
        let bytes = self.decoded(body, fields);
        if self.wanted > 0 {
            let is_saved = name.is_some_and(|name| name.to_ascii_lowercase().ends_with(".eml"));
            if is_saved {
                self.take(&bytes);
            }
            return;
        }
        let text_kind = kind == "text" && matches!(subtype, "plain" | "html" | "");
        let shown = !fields.is_attachment() && (name.is_none() || kind == "text" && subtype != "html");
        if kind == "image" && !fields.is_attachment() {
            self.mime.inline_images += 1;
        }
        if text_kind && shown {
            let charset = fields.content_type.as_ref().and_then(|ct| ct.attribute("charset"));
            if !self.attached {
                self.text_flaws(body, &bytes, fields, charset);
                self.text(decode::text_of(&bytes, charset), subtype == "html");
            }
        } else {
            let attachment = Attachment::read(name.unwrap_or_default(), kind, subtype, &bytes, &mut self.budget);
            self.mime.attachments.push(Attachment { qr_texts: self.codes.texts(&bytes), ..attachment });
        }
    }

    /// What is wrong with how a text is written down: `body` as it came, `bytes` decoded.
    fn text_flaws(&mut self, body: &[u8], bytes: &[u8], fields: &Fields<'_>, charset: Option<&str>) {
        let bytes = &bytes[..bytes.len().min(HTML_MAX)];
        let body = &body[..body.len().min(HTML_MAX)];
        let encoding = fields.encoding.as_str();
        let wrong = decode::misdeclared(bytes, charset) || charset.is_some_and(decode::unknown_charset);
        self.flaw_if(wrong && !self.cut, Flaw::WrongCharset);
        self.flaw_if(charset.is_none() && !self.cut && std::str::from_utf8(bytes).is_err(), Flaw::NoCharset);
        self.flaw_if(!matches!(encoding, "" | "7bit" | "8bit" | "binary" | "base64" | "quoted-printable"), Flaw::UnknownEncoding);
        self.flaw_if(encoding == "base64" && bytes.len() > 40 && bytes.is_ascii(), Flaw::EncodedAscii);
        let quoted = if encoding == "quoted-printable" { decode::needlessly_quoted(body) } else { 0 };
        self.flaw_if(quoted >= 20 && quoted * 20 > bytes.len(), Flaw::QuotedLetters);
        self.flaw_if(memchr::memchr(0, bytes).is_some(), Flaw::Nul);
        let bare = |cr: usize| bytes.get(cr + 1).is_some_and(|next| !matches!(next, b'\r' | b'\n'));
        self.flaw_if(memchr::memchr_iter(b'\r', bytes).any(bare), Flaw::BareCr);
        let mut line = 0;
        let ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
        let longest = ends.map(|end| end - std::mem::replace(&mut line, end)).max().unwrap_or_default();
        self.flaw_if(longest > LINE_MAX, Flaw::LongLine);
    }

    fn text(&mut self, mut text: String, html: bool) {
        if !self.attached {
            let shown = prefix(&text, if html { HTML_MAX } else { TEXT_MAX }).len();
            self.flaw_if(shown < text.len(), Flaw::LongText);
            text.truncate(shown);
            self.mime.texts.push(TextPart { html, alternative: self.alternative, text });
        }
    }

    fn take(&mut self, message: &[u8]) {
        if self.messages.len() < self.wanted {
            let most = usize::try_from(Facts::CONTENT_MAX).unwrap_or(usize::MAX);
            self.messages.push(message[..message.len().min(most)].to_vec());
        }
    }

    fn decoded<'m>(&mut self, body: &'m [u8], fields: &Fields<'_>) -> Cow<'m, [u8]> {
        let Decoded { bytes, damaged } = decode::transfer_decode(&fields.encoding, body);
        self.flaw_if(damaged && fields.encoding == "base64" && !self.cut, Flaw::Base64Damaged);
        bytes
    }

    fn flaw_if(&mut self, is: bool, flaw: Flaw) {
        if is {
            self.flaw(flaw);
        }
    }

    fn flaw(&mut self, flaw: Flaw) {
        if !self.mime.has(flaw) {
            self.mime.flaws.push(flaw);
        }
    }
}

impl Fields<'_> {
    fn is_attachment(&self) -> bool {
        self.disposition.as_ref().is_some_and(|disposition| disposition.is_attachment())
    }

    /// The name a client would save it under.
    fn name(&self) -> Option<&str> {
        let filename = self.disposition.as_ref().and_then(|disposition| disposition.attribute("filename"));
        filename.or_else(|| self.content_type.as_ref().and_then(|ct| ct.attribute("name"))).filter(|name| !name.is_empty())
    }
}

/// A field of the form `type/subtype; name=value` (RFC 2045 §5.1, RFC 2183).
fn content_type(value: &[u8]) -> Option<ContentType<'_>> {
    match MessageStream::new(value).parse_content_type() {
        HeaderValue::ContentType(content_type) => Some(content_type),
        _ => None,
    }
}

/// A Content-Type that cannot be read is shown as text by clients (RFC 2045 §5.2).
fn broken_content_type<'m>() -> ContentType<'m> {
    ContentType { c_type: "text".into(), c_subtype: Some("plain".into()), attributes: None }
}

fn after_empty_line(rest: &[u8]) -> &[u8] {
    rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).unwrap_or(rest)
}

/// A multipart's body, taken apart.
struct Split<'m> {
    preamble: &'m [u8],
    parts: Vec<&'m [u8]>,
    epilogue: &'m [u8],
    closed: bool,
}

impl<'m> Split<'m> {
    /// The bytes between the boundary lines (RFC 2046 §5.1.1). The last part may lack its end.
    fn at_boundary(body: &'m [u8], boundary: &[u8]) -> Split<'m> {
        let mut split = Split { preamble: &[], parts: Vec::new(), epilogue: &[], closed: false };
        if boundary.is_empty() {
            return split;
        }
        let delimiter = [b"--", boundary].concat();
        let mut start = None;
        for at in memchr::memmem::find_iter(body, &delimiter) {
            // Before the line's end is sought: one line can hold very many boundaries.
            if at > 0 && body[at - 1] != b'\n' {
                continue;
            }
            let line_end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |lf| at + lf + 1);
            let Some(end) = delimiter_line(&body[at + delimiter.len()..line_end]) else { continue };
            match start {
                Some(start) => split.parts.push(without_line_end(&body[start..at.max(start)])),
                None => split.preamble = &body[..at],
            }
            start = Some(line_end);
            if end || split.parts.len() > PARTS_MAX {
                (split.closed, split.epilogue) = (true, &body[line_end..]);
                return split;
            }
        }
        split.parts.extend(start.map(|start| &body[start..]));
        split
    }
}

/// RFC 2046 §5.1.1, and the characters that programs use all the same: `[`, `]`, `#`, `*`, `%`, `&`, `!`, `$`, `{`, `}`, `@`, `;`, `^`, `~`, `|`.
fn may_be_in_boundary(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'`') || byte == b' '
}

/// More than "This is a multi-part message in MIME format." or the footer of a list.
fn sentences(text: &[u8]) -> bool {
    text.iter().filter(|byte| byte.is_ascii_alphabetic()).count() > 600
}

/// What follows the boundary on its line: `None` when the boundary is only the beginning of a longer one, otherwise whether
/// it is the closing one.
fn delimiter_line(rest: &[u8]) -> Option<bool> {
    match rest {
        [b'-', b'-', ..] => Some(true),
        [] | [b' ' | b'\t' | b'\r' | b'\n', ..] => Some(false),
        _ => None,
    }
}

/// The line end before a boundary belongs to the boundary.
fn without_line_end(part: &[u8]) -> &[u8] {
    part.strip_suffix(b"\r\n").or_else(|| part.strip_suffix(b"\n")).unwrap_or(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(message: &str) -> Mime {
        Mime::walk(message.as_bytes(), false)
    }

    fn shown(mime: &Mime) -> Vec<(bool, &str)> {
        mime.texts.iter().map(|part| (part.html, part.text.as_str())).collect()
    }

    #[test]
    fn a_plain_message_is_its_body() {
        assert_eq!(shown(&walk("A: 1\r\n\r\nhello\r\n")), [(false, "hello\r\n")]);
        assert_eq!(shown(&walk("no header at all")), [(false, "no header at all")]);
        assert_eq!(shown(&walk("")), [(false, "")]);
    }

    #[test]
    fn parts_are_decoded_in_order() {
        let mime = walk(concat!(
            "Content-Type: multipart/mixed; boundary=\"b b\"\r\n\r\npreamble\r\n",
            "--b b\r\nContent-Type: multipart/alternative; boundary=bb\r\n\r\n",
            "--bb\r\n\r\nplain\r\n",
            "--bb\r\nContent-Type: TEXT/HTML; charset=iso-8859-1\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n",
            "<b>f=FCr</b>\r\n--bb--\r\nepilogue\r\n",
            "--b b\r\nContent-Type: application/pdf; name*=utf-8''rechn%20ung.pdf\r\n\r\n%PDF\r\n--b b--\r\nepilogue\r\n",
        ));
        assert_eq!(shown(&mime), [(false, "plain"), (true, "<b>für</b>")]);
        assert_eq!(mime.attachments.len(), 1);
        assert_eq!(mime.attachments[0].names, ["rechn ung.pdf"]);
        assert_eq!((mime.parts, mime.depth, mime.flaws.len()), (5, 2, 0));
    }

    #[test]
    fn attached_messages_give_attachments_but_no_text() {
        let mime = walk(concat!(
            "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nsee below\n--b\nContent-Type: message/rfc822\n\n",
            "Subject: old\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\nold text\n",
            "--c\nContent-Type: application/x-msdownload; name=a.exe\n\nMZ\n--c--\n--b--\n",
        ));
        assert_eq!(shown(&mime), [(false, "see below")]);
        assert_eq!(mime.attachments[0].names, ["a.exe"]);
    }

    #[test]
    fn flaws_are_named() {
        let flaws = |message: &str| walk(message).flaws;
        assert_eq!(flaws("Content-Type: multipart/mixed\n\nx"), [Flaw::NoBoundary]);
        assert_eq!(flaws("Content-Type: multipart/mixed; boundary=b\n\nx"), [Flaw::NoBoundary]);
        assert_eq!(flaws("Content-Transfer-Encoding: base64\n\naGVs*bG8gdGhlcmU="), [Flaw::Base64Damaged]);
        assert_eq!(flaws("Content-Type: text/plain\nContent-Type: text/html\n\nx"), [Flaw::DuplicateFields]);
        let encoded = "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n\nx\n--b--\n";
        assert_eq!(flaws(encoded), [Flaw::EncodedMultipart]);
        assert_eq!(flaws("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n"), [Flaw::NeverClosed]);
        assert_eq!(flaws("Content-Type: multipart/mixed; boundary=\"a<b\"\n\n--a<b\n\nx\n--a<b--\n"), [Flaw::OddBoundary]);
        let alone = "Content-Type: multipart/alternative; boundary=b\n\n--b\n\nx\n--b--\n";
        assert_eq!(flaws(alone), [Flaw::OneAlternative]);
        assert_eq!(flaws("Content-Type: message/external-body\n\nx"), [Flaw::ContentElsewhere]);
        assert_eq!(flaws("Content-Type: text/plain; charset=nonsense\n\nx"), [Flaw::WrongCharset]);
        assert_eq!(flaws("Content-Transfer-Encoding: hexa\n\nx"), [Flaw::UnknownEncoding]);
        assert_eq!(flaws("\n\na\rb\0"), [Flaw::Nul, Flaw::BareCr]);
        assert!(Mime::walk(b"Content-Transfer-Encoding: base64\n\nab*c", true).flaws.is_empty(), "cut off is no flaw");
    }

    #[test]
    fn text_files_beside_text_are_alternatives_only_by_themselves() {
        let file = "--c\nContent-Type: application/pdf; name=a.pdf\n\n%PDF\n--c--\n";
        let message = |kind: &str| format!("Content-Type: multipart/alternative; boundary=b\n\n--b\n\nx\n--b\n{kind}\n--b--\n");
        let within = message(&format!("Content-Type: multipart/mixed; boundary=c\n\n--c\n\ny\n{file}"));
        assert_eq!(walk(&within).flaws, []);
        let itself = message("Content-Type: application/pdf; name=a.pdf\n\n%PDF");
        assert_eq!(walk(&itself).flaws, [Flaw::FileAsAlternative]);
    }

    #[test]
    fn a_boundary_that_begins_like_another_is_not_it() {
        let mime = walk("Content-Type: multipart/mixed; boundary=b\n\n--bc\n\nno\n--b\n\nyes --b no\n--b--\n");
        assert_eq!(shown(&mime), [(false, "yes --b no")]);
    }

    #[test]
    fn endless_nesting_ends() {
        let nested: String = (0..1000).map(|n| format!("Content-Type: multipart/mixed; boundary=x{n}\n\n--x{n}\n")).collect();
        assert!(walk(&nested).has(Flaw::TooDeep));
        assert!(walk(&"Content-Type: message/rfc822\n\n".repeat(30_000)).has(Flaw::TooDeep));
        let many = format!("Content-Type: multipart/mixed; boundary=b\n\n{}", "--b\n\nx\n".repeat(2_000));
        assert!(walk(&many).has(Flaw::TooManyParts));
    }
}
