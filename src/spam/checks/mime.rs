//! Checks of how a message is put together: one for each flaw of its structure that rules ask for.

use crate::spam::facts::{Facts, Flaw};

pub(super) fn mime_never_closed(facts: &Facts) -> Option<String> {
    has(facts, Flaw::NeverClosed)
}

pub(super) fn mime_odd_boundary(facts: &Facts) -> Option<String> {
    // Scanners of Ricoh put angle brackets into theirs: `DC_BOUND_PRE_<1760000000.0123>`.
    let scanner = facts.headers.named("Content-Type").next().is_some_and(|field| field.raw.contains("DC_BOUND_PRE_<"));
    has(facts, Flaw::OddBoundary).filter(|_| !scanner)
}

pub(super) fn mime_same_boundary(facts: &Facts) -> Option<String> {
    has(facts, Flaw::SameBoundary)
}

pub(super) fn mime_text_between_parts(facts: &Facts) -> Option<String> {
    has(facts, Flaw::TextBetweenParts)
}

pub(super) fn mime_one_alternative(facts: &Facts) -> Option<String> {
    has(facts, Flaw::OneAlternative)
}

pub(super) fn mime_file_as_alternative(facts: &Facts) -> Option<String> {
    has(facts, Flaw::FileAsAlternative)
}

pub(super) fn mime_content_elsewhere(facts: &Facts) -> Option<String> {
    has(facts, Flaw::ContentElsewhere)
}

pub(super) fn mime_wrong_charset(facts: &Facts) -> Option<String> {
    has(facts, Flaw::WrongCharset)
}

pub(super) fn mime_no_charset(facts: &Facts) -> Option<String> {
    has(facts, Flaw::NoCharset)
}

pub(super) fn mime_unknown_encoding(facts: &Facts) -> Option<String> {
    has(facts, Flaw::UnknownEncoding)
}

pub(super) fn mime_encoded_ascii(facts: &Facts) -> Option<String> {
    has(facts, Flaw::EncodedAscii)
}

pub(super) fn mime_quoted_letters(facts: &Facts) -> Option<String> {
    has(facts, Flaw::QuotedLetters)
}

pub(super) fn mime_bare_cr(facts: &Facts) -> Option<String> {
    has(facts, Flaw::BareCr)
}

pub(super) fn mime_nul(facts: &Facts) -> Option<String> {
    has(facts, Flaw::Nul)
}

pub(super) fn mime_long_line(facts: &Facts) -> Option<String> {
    has(facts, Flaw::LongLine)
}

fn has(facts: &Facts, flaw: Flaw) -> Option<String> {
    facts.mime.has(flaw).then(String::new)
}
