//! The header section as rules see it: every field with its decoded value, and the few fields whose meaning is read.
//!
//! The section is read leniently by `mail::HeaderSection`; values are decoded by mail-parser, each field alone, so that one
//! broken field hides no other. Everything is bounded: a header of 1 MB is judged by its beginning.

use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

use super::received::{DateFlaw, HOPS_MAX, Hop, moment};
use crate::mail::HeaderSection;
use crate::spam::text::prefix;

/// Fields that are looked at; all are counted.
const FIELDS_MAX: usize = 500;
/// Of one value, in bytes.
const VALUE_MAX: usize = 8 << 10;
/// Of the raw section, in bytes.
const SECTION_MAX: usize = 64 << 10;
/// Of one address list.
const MAILBOXES_MAX: usize = 100;

/// One field.
pub(in crate::spam) struct HeaderField {
    /// As written, trimmed of blanks.
    pub name: String,
    /// On one line, encoded words decoded.
    pub value: String,
    /// On one line, as it came.
    pub raw: String,
    /// No blank stands between the colon and the value.
    pub tight: bool,
}

/// A mailbox of an address field.
#[derive(Debug, Default, PartialEq)]
pub(in crate::spam) struct Named {
    /// The display name, decoded; may be empty.
    pub name: String,
    /// In lower case; not checked.
    pub address: String,
}

impl Named {
    pub fn domain(&self) -> &str {
        self.address.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    pub fn local(&self) -> &str {
        self.address.rsplit_once('@').map_or("", |(local, _)| local)
    }
}

/// The Date field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::spam) enum DateField {
    Missing,
    Unreadable,
    /// Seconds since 1970.
    At(i64),
}

pub(in crate::spam) struct Headers {
    pub fields: Vec<HeaderField>,
    /// Of each name in `fields` a bit, since most of what rules ask for is not there.
    names: u128,
    /// Also those that are not in `fields`.
    pub count: usize,
    /// The raw section with LF line ends, or its first 64 KiB.
    pub section: String,
    /// The section is longer than what is looked at.
    pub cut: bool,
    /// Bytes above 127 stood in the section.
    pub eight_bit: bool,
    /// The first one: what clients show.
    pub subject: String,
    pub from: Vec<Named>,
    pub reply_to: Vec<Named>,
    /// To and Cc.
    pub to: Vec<Named>,
    pub sender: Vec<Named>,
    pub date: DateField,
    pub date_flaw: Option<DateFlaw>,
    pub received: usize,
    /// The way it came, the newest step first.
    pub hops: Vec<Hop>,
}

impl Headers {
    pub fn read(content: &[u8]) -> Headers {
        let parsed = HeaderSection::parse(content);
        let fields: Vec<HeaderField> = parsed
            .fields
            .iter()
            .take(FIELDS_MAX)
            .map(|field| {
                let value = &content[field.value.clone()];
                HeaderField::read(&content[field.name.clone()], &value[..value.len().min(VALUE_MAX)])
            })
            .collect();
        let section = &content[..parsed.end.min(SECTION_MAX)];
        let first = |name: &str| fields.iter().find(|field| field.is(name));
        let mailboxes = |name: &str| first(name).map_or_else(Vec::new, |field| mailboxes(&field.raw));
        let date =
            first("Date").map_or(DateField::Missing, |field| moment(&field.raw).map_or(DateField::Unreadable, DateField::At));
        let received = || fields.iter().filter(|field| field.is("Received"));
        Headers {
            names: fields.iter().fold(0, |names, field| names | bit_of(&field.name)),
            count: parsed.fields.len(),
            section: String::from_utf8_lossy(section).replace("\r\n", "\n"),
            cut: parsed.end > SECTION_MAX,
            eight_bit: !section.is_ascii(),
            subject: first("Subject").map_or_else(String::new, |field| field.value.clone()),
            from: mailboxes("From"),
            reply_to: mailboxes("Reply-To"),
            to: ["To", "Cc"].into_iter().flat_map(mailboxes).collect(),
            sender: mailboxes("Sender"),
            received: received().count(),
            hops: received().take(HOPS_MAX).map(|field| Hop::read(&field.raw)).collect(),
            date_flaw: first("Date").and_then(|field| DateFlaw::of(&field.raw)),
            date,
            fields,
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a HeaderField> + 'a {
        let fields = if self.names & bit_of(name) == 0 { &[] } else { &self.fields[..] };
        fields.iter().filter(move |field| field.is(name))
    }

    /// The author as rules match it: `Name <address>`, each on a line.
    pub fn author_text(&self) -> String {
        let lines: Vec<String> = self.from.iter().map(|from| format!("{} <{}>", from.name, from.address)).collect();
        lines.join("\n")
    }
}

/// The same for a name in any case.
fn bit_of(name: &str) -> u128 {
    let byte = |byte: Option<&u8>| usize::from(byte.map_or(0, u8::to_ascii_lowercase));
    let bytes = name.as_bytes();
    1 << ((bytes.len() * 37 + byte(bytes.first()) * 11 + byte(bytes.last()) * 5 + byte(bytes.get(2))) % 128)
}

impl HeaderField {
    fn read(name: &[u8], value: &[u8]) -> HeaderField {
        let tight = value.first().is_some_and(|byte| !byte.is_ascii_whitespace());
        let raw = unfolded(value);
        let value = if raw.contains("=?") { decoded(&raw) } else { raw.clone() };
        HeaderField { name: String::from_utf8_lossy(name).into_owned(), value, tight, raw }
    }

    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// On one line: a fold is a blank (RFC 5322 §2.2.3), and so is any other control character.
fn unfolded(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut line = String::with_capacity(text.len());
    for letter in text.trim().chars() {
        match letter {
            '\r' => {}
            _ if letter.is_control() || letter == ' ' => {
                if !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            _ => line.push(letter),
        }
    }
    line
}

/// Encoded words (RFC 2047) decoded; as it came where that fails.
fn decoded(line: &str) -> String {
    let line = format!("{line}\n");
    match MessageStream::new(line.as_bytes()).parse_unstructured() {
        HeaderValue::Text(text) => prefix(&text, VALUE_MAX).trim().to_owned(),
        _ => line.trim_end().to_owned(),
    }
}

fn mailboxes(line: &str) -> Vec<Named> {
    let line = format!("{line}\n");
    let HeaderValue::Address(list) = MessageStream::new(line.as_bytes()).parse_address() else { return Vec::new() };
    let named = |address: &mail_parser::Addr<'_>| Named {
        name: address.name().unwrap_or_default().to_owned(),
        address: address.address().unwrap_or_default().trim().to_lowercase(),
    };
    list.iter().take(MAILBOXES_MAX).map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(section: &str) -> Headers {
        Headers::read(section.as_bytes())
    }

    #[test]
    fn fields_are_unfolded_and_decoded() {
        let read = headers("Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?B?IGFuIGFsbGU=?=\r\nX-A:  1\r\n\t2 \r\n\r\nbody");
        assert_eq!(read.subject, "Grüße an alle");
        assert_eq!(read.fields[1].value, "1 2");
        assert_eq!(read.section, "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\n =?utf-8?B?IGFuIGFsbGU=?=\nX-A:  1\n\t2 \n");
    }

    #[test]
    fn mailboxes_have_names_and_addresses() {
        let read = headers(
            "From: \"Doe, Joe\" <Joe@Example.COM>\r\nTo: a@b.example, friends: c@d.example;\r\nCc: =?utf-8?Q?J=C3=B6?= <e@f.example>\r\n\r\n",
        );
        assert_eq!(read.from, [Named { name: "Doe, Joe".into(), address: "joe@example.com".into() }]);
        let to: Vec<_> = read.to.iter().map(|to| (to.name.as_str(), to.domain())).collect();
        assert_eq!(to, [("", "b.example"), ("", "d.example"), ("Jö", "f.example")]);
    }

    #[test]
    fn dates_are_missing_unreadable_or_moments() {
        assert_eq!(headers("A: 1\r\n\r\n").date, DateField::Missing);
        assert_eq!(headers("Date: yesterday\r\n\r\n").date, DateField::Unreadable);
        assert_eq!(headers("Date: Fri, 20 Nov 2026 23:36:00 +0100\r\n\r\n").date, DateField::At(1_795_214_160));
    }

    #[test]
    fn broken_sections_are_read_as_far_as_they_go() {
        assert!(headers("").fields.is_empty());
        assert_eq!(headers("Subject: =?utf-8?B?broken\r\nFrom: <<>>,,\r\nTo\r\n").subject, "=?utf-8?B?broken");
        let big = headers(&format!("Subject: {}\r\n\r\n", "a".repeat(1 << 20)));
        assert!(big.subject.len() <= VALUE_MAX && big.section.len() <= SECTION_MAX);
        let many = headers(&"A: 1\r\n".repeat(100_000));
        assert_eq!((many.fields.len(), many.count), (FIELDS_MAX, 100_000));
    }
}
