//! Finds and reads the one SPF record among a name's texts (RFC 7208 §4.5, §4.6).
//!
//! mail-auth reads terms generously: it takes "/33" for "/32" and a mistyped mechanism for nothing. The RFC wants an owner to
//! learn of such mistakes, and a record that is half understood may pass or fail the wrong hosts. So every term is held against
//! the RFC's grammar (§12) first, and only the terms that have a meaning are handed on.

use std::sync::LazyLock;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::spf::Spf as Record;
use regex::bytes::RegexSet;

use super::{Step, Stop};

/// `None`: there is none. Two are as wrong as one that cannot be read.
pub(super) fn of(texts: &[Vec<u8>]) -> Step<Option<Record>> {
    let mut records = texts.iter().filter(|text| is_spf(text));
    let Some(text) = records.next() else { return Ok(None) };
    if records.next().is_some() {
        return Err(Stop::Permanent);
    }
    read(text).map(Some).ok_or(Stop::Permanent)
}

/// The version, then a blank or the end.
fn is_spf(text: &[u8]) -> bool {
    let (version, rest) = text.split_at(text.len().min(VERSION.len()));
    version.eq_ignore_ascii_case(VERSION) && rest.first().is_none_or(|byte| *byte == b' ')
}

const VERSION: &[u8] = b"v=spf1";

fn read(text: &[u8]) -> Option<Record> {
    let mut known = VERSION.to_vec();
    for term in text[VERSION.len()..].split(|byte| *byte == b' ').filter(|term| !term.is_empty()) {
        match kind(term)? {
            Kind::Known => {
                known.push(b' ');
                known.extend(term);
            }
            // RFC 7208 §6: modifiers that nobody knows are passed over.
            Kind::UnknownModifier => {}
        }
    }
    Record::parse(&known).ok()
}

#[derive(Clone, Copy)]
enum Kind {
    Known,
    UnknownModifier,
}

/// `None`: no term at all.
fn kind(term: &[u8]) -> Option<Kind> {
    let is_known_modifier = |name: &[u8]| term.len() >= name.len() && term[..name.len()].eq_ignore_ascii_case(name);
    let matched = TERMS.matches(term);
    if matched.matched(0) {
        Some(Kind::Known)
    } else if matched.matched(1) && !is_known_modifier(b"redirect=") && !is_known_modifier(b"exp=") {
        Some(Kind::UnknownModifier)
    } else {
        None
    }
}

/// Terms with a meaning, and modifiers of any name.
static TERMS: LazyLock<RegexSet> = LazyLock::new(|| {
    const EXPAND: &str = r"%(?:\{[slodiphv][0-9]*r?[-.+,/_=]*\}|[%_-])";
    const LITERAL: &str = r"[!-$&-~]";
    const TOP: &str = r"(?:[a-z0-9]*[a-z][a-z0-9]*|[a-z0-9]+-[a-z0-9-]*[a-z0-9])";
    const OCTET: &str = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    const V4: &str = r"/(?:3[0-2]|[12][0-9]|[0-9])";
    const V6: &str = r"/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])";
    let domain = format!(r"(?:{EXPAND}|{LITERAL})*(?:\.{TOP}\.?|{EXPAND})");
    let networks = format!("(?:{V4})?(?:/{V6})?");
    let mechanism = format!(
        r"[-+?~]?(?:all|include:{domain}|(?:a|mx)(?::{domain})?{networks}|ptr(?::{domain})?|exists:{domain}|ip4:{OCTET}(?:\.{OCTET}){{3}}(?:{V4})?|ip6:[0-9a-f:.]+(?:{V6})?)"
    );
    let known = format!(r"(?i-u)^(?:{mechanism}|(?:redirect|exp)={domain})$");
    let modifier = format!(r"(?i-u)^[a-z][a-z0-9._-]*=(?:{EXPAND}|%\{{[crt][0-9]*r?[-.+,/_=]*\}}|{LITERAL})*$");
    RegexSet::new([known, modifier]).expect("the grammar compiles")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, terms: Option<usize>) {
        let record = of(&[text.as_bytes().to_vec()]);
        assert_eq!(record.ok().map(|record| record.map_or(0, |record| record.directives.len())), terms, "{text}");
    }

    #[test]
    fn only_what_the_grammar_knows_is_a_record() {
        check("v=spf1 mx a:mail.example.com/24//64 ~all", Some(3));
        check("V=SPF1 IP4:192.0.2.0/24 include:_spf.example.com a -ALL", Some(4));
        check("v=spf1  exists:%{ir}.%{v}.%{d}._spf.example.com  unknown=%{c}x redirect=a.example ", Some(1));
        check("v=spf1", Some(0));
        check("v=spf10 -all", Some(0));
        for wrong in ["v=spf1 ip4:192.0.2.0/33", "v=spf1 ipv4:192.0.2.1", "v=spf1 a:example", "v=spf1 foo -all", "v=spf1 \u{e4}"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn a_text_of_any_size_is_read_in_time() {
        let long = "v=spf1 ".to_owned() + &"ip4:192.0.2.1 ".repeat(4000) + "-all";
        check(&long, Some(4001));
        check(&("v=spf1 a:".to_owned() + &"%{i}".repeat(2500)), Some(1));
        check(&("v=spf1 ".to_owned() + &"x".repeat(60_000)), None);
    }
}
