//! In which language a sender is told. Pure and deterministic: the same message always gets the same answer.
//!
//! Asked in this order, the first answer counts: what the message says of its sender (`Accept-Language`, RFC 3282, then
//! `Content-Language`), the words of its subject and text, the sender's country domain, the setting.

use mail_parser::Message;

use crate::config::Language;
use crate::mail::{Address, HeaderSection};

/// Languages looked at in one header field.
const TAGS_MAX: usize = 20;
/// Of the text, in bytes and in words.
const TEXT_MAX: usize = 16 * 1024;
const WORDS_MAX: usize = 2_000;

/// Words that are frequent in one of the two languages and rare in the other and in their neighbours, in lower case. (`der`
/// and `den` are Danish too.)
const GERMAN: [&str; 45] = [
    "aber",
    "anbei",
    "auch",
    "auf",
    "bei",
    "betreff",
    "bitte",
    "damen",
    "danke",
    "das",
    "dem",
    "ein",
    "eine",
    "einen",
    "freundlichen",
    "für",
    "geehrte",
    "geehrter",
    "gruß",
    "grüße",
    "grüßen",
    "haben",
    "herren",
    "ich",
    "ihre",
    "ihren",
    "ist",
    "können",
    "mit",
    "müssen",
    "nicht",
    "noch",
    "oder",
    "rechnung",
    "sehr",
    "sie",
    "sind",
    "und",
    "uns",
    "von",
    "wir",
    "wird",
    "würde",
    "zum",
    "über",
];
const ENGLISH: [&str; 40] = [
    "about",
    "and",
    "are",
    "attached",
    "been",
    "but",
    "can",
    "could",
    "dear",
    "for",
    "from",
    "has",
    "have",
    "hello",
    "invoice",
    "is",
    "it",
    "know",
    "me",
    "my",
    "not",
    "of",
    "our",
    "please",
    "regards",
    "sincerely",
    "thank",
    "thanks",
    "that",
    "the",
    "there",
    "this",
    "to",
    "we",
    "will",
    "with",
    "would",
    "you",
    "your",
    "yours",
];

/// The language for this sender. `head`: the beginning of the message, with as much of its text as there is.
pub(super) fn of(head: &[u8], parsed: Option<&Message<'_>>, sender: &Address, otherwise: Language) -> Language {
    let section = HeaderSection::parse(head);
    let stated = |name| section.named(head, name).find_map(|field| from_tags(&head[field.value.clone()]));
    stated("Accept-Language")
        .or_else(|| stated("Content-Language"))
        .or_else(|| parsed.and_then(from_text))
        .or_else(|| from_country(sender))
        .unwrap_or(otherwise)
}

/// `de-AT, en;q=0.7`: the first that is known here.
fn from_tags(value: &[u8]) -> Option<Language> {
    let value = std::str::from_utf8(value).ok()?;
    value.split(',').take(TAGS_MAX).find_map(|tag| {
        let primary = tag.split(['-', '_', ';']).next().unwrap_or_default().trim();
        match () {
            () if primary.eq_ignore_ascii_case("de") => Some(Language::German),
            () if primary.eq_ignore_ascii_case("en") => Some(Language::English),
            () => None,
        }
    })
}

fn from_text(parsed: &Message<'_>) -> Option<Language> {
    let text = parsed.body_text(0).unwrap_or_default();
    let text = &text[..text.floor_char_boundary(TEXT_MAX)];
    from_words(parsed.subject().unwrap_or_default().split_whitespace().chain(text.split_whitespace()))
}

/// At least two words must speak for a language, and more than for the other.
fn from_words<'a>(words: impl Iterator<Item = &'a str>) -> Option<Language> {
    let (mut german, mut english) = (0, 0);
    for word in words.take(WORDS_MAX) {
        let word = word.trim_matches(|letter: char| !letter.is_alphabetic()).to_lowercase();
        german += usize::from(GERMAN.contains(&word.as_str()));
        english += usize::from(ENGLISH.contains(&word.as_str()));
    }
    match () {
        () if german >= 2 && german > english => Some(Language::German),
        () if english >= 2 && english > german => Some(Language::English),
        () => None,
    }
}

fn from_country(sender: &Address) -> Option<Language> {
    let country = sender.domain()?.as_str().rsplit('.').next()?;
    matches!(country, "de" | "at" | "ch").then_some(Language::German)
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;

    use super::*;

    #[track_caller]
    fn check(head: &str, sender: &str, expected: Language) {
        let parsed = MessageParser::default().parse(head.as_bytes());
        let found = of(head.as_bytes(), parsed.as_ref(), &sender.parse().unwrap(), Language::English);
        assert_eq!(found, expected, "{sender}: {head}");
    }

    const GERMAN_TEXT: &str = "Sehr geehrte Damen und Herren,\r\nanbei die Rechnung.\r\n";

    #[test]
    fn what_the_message_says_of_its_sender_comes_first() {
        check(&format!("Accept-Language: en-GB\r\nContent-Language: de\r\n\r\n{GERMAN_TEXT}"), "a@x.de", Language::English);
        check("Content-Language: de-DE\r\n\r\nThe text is not for you.\r\n", "a@x.example", Language::German);
        check("Content-Language: fr, DE_at;q=0.5\r\n\r\nhello\r\n", "a@x.example", Language::German);
        check(&format!("Content-Language: fr\r\n\r\n{GERMAN_TEXT}"), "a@x.example", Language::German);
    }

    #[test]
    fn then_its_words_however_they_are_encoded() {
        check(&format!("Subject: x\r\n\r\n{GERMAN_TEXT}"), "a@x.example", Language::German);
        check("Subject: x\r\n\r\nDear all, please find the invoice attached.\r\n", "a@x.de", Language::English);
        check("Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe_f=C3=BCr_M=C3=BCller?=\r\n\r\n", "a@x.example", Language::German);
        let html = "Content-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                    <p>Viele Gr=FC=DFe aus <b>K=F6ln</b> und bitte melden</p>";
        check(html, "a@x.example", Language::German);
        check("Subject: x\r\n\r\nHej, jag är så glad att få träffa er på lördag.\r\n", "a@x.se", Language::English);
    }

    #[test]
    fn then_the_country_and_then_the_setting() {
        for sender in ["a@x.de", "a@firma.co.at", "a@x.ch"] {
            check("Subject: 4711\r\n\r\n1 2 3\r\n", sender, Language::German);
        }
        for head in ["Subject: 4711\r\n\r\n", "", "no header", "Content-Language: \u{1}\r\n\r\nund\r\n"] {
            check(head, "a@de.example", Language::English);
        }
        let sender = "a@x.example".parse().unwrap();
        assert_eq!(of(b"", None, &sender, Language::German), Language::German);
    }
}
