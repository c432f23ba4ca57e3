//! One command line, read: the verb, and the arguments of each verb.
//!
//! Read here and not by smtp-proto, although that crate is at hand: for almost every verb its result has to be checked against
//! the raw line again. Numbers wrap (`SIZE=999999999999999999999` is 9, `BDAT 184467440737095516160` is 0), the paths `<>` and
//! `<postmaster>` come out alike, quoted local parts lose their quotes, address literals are refused, `DATA foo`,
//! `MAIL FROM:<a@b>SIZE=1` and control characters pass, and parameters that we do not offer are taken. What would be left is a
//! comparison of verbs. A test holds this reading against smtp-proto's where both are right.
//!
//! Pure syntax: whether a command may come now is the session's question.

use crate::mail::{Enhanced, Reply};

/// The verbs a peer can say. Closed: what is not here was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    Quit,
    StartTls,
    Etrn,
    Xclient,
    /// Known to SMTP, not offered here.
    NotOffered,
    /// A browser, or someone who makes one talk to us: what follows may be chosen by a third party.
    Http,
    Unknown,
}

/// Why a line is no command at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCommand {
    /// NUL, escape and their like.
    Control,
    NotUtf8,
}

/// Splits a line into its verb and the rest, without the blanks around it.
pub(super) fn split(line: &[u8]) -> Result<(Verb, &str), NoCommand> {
    let line = std::str::from_utf8(line).map_err(|_| NoCommand::NotUtf8)?;
    // RFC 5321 §4.1.1: blanks before the line end are tolerated.
    let line = line.trim_end_matches([' ', '\t']);
    if line.chars().any(char::is_control) {
        return Err(NoCommand::Control);
    }
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok((Verb::named(verb), rest.trim_start_matches(' ')))
}

impl Verb {
    /// It leads to no message by itself.
    pub(super) fn is_idle(self) -> bool {
        matches!(self, Verb::Ehlo | Verb::Helo | Verb::Rset | Verb::Noop | Verb::Vrfy | Verb::Help | Verb::Etrn)
    }

    fn named(verb: &str) -> Verb {
        const NAMES: &[(&str, Verb)] = &[
            ("EHLO", Verb::Ehlo),
            ("HELO", Verb::Helo),
            ("MAIL", Verb::Mail),
            ("RCPT", Verb::Rcpt),
            ("DATA", Verb::Data),
            ("BDAT", Verb::Bdat),
            ("RSET", Verb::Rset),
            ("NOOP", Verb::Noop),
            ("VRFY", Verb::Vrfy),
            ("EXPN", Verb::Expn),
            ("HELP", Verb::Help),
            ("QUIT", Verb::Quit),
            ("STARTTLS", Verb::StartTls),
            ("ETRN", Verb::Etrn),
            ("XCLIENT", Verb::Xclient),
        ];
        const NOT_OFFERED: &[&str] = &["AUTH", "ATRN", "BURL", "LHLO", "SAML", "SEND", "SOML", "TURN", "XFORWARD"];
        const HTTP: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI"];
        let is = |name: &str| verb.eq_ignore_ascii_case(name);
        if let Some((_, known)) = NAMES.iter().find(|(name, _)| is(name)) {
            return *known;
        }
        if NOT_OFFERED.iter().any(|name| is(name)) {
            return Verb::NotOffered;
        }
        if HTTP.iter().any(|name| is(name)) { Verb::Http } else { Verb::Unknown }
    }
}

/// The longest name in EHLO, in bytes.
const HELO_MAX: usize = 255;

/// What a peer calls itself: a name or an address literal as RFC 5321 §4.1.4 wants it, or whatever else real hosts say, as
/// long as it is printable. U-labels become A-labels, so that what we keep is ASCII.
pub(super) fn helo_name(argument: &str) -> Result<String, Reply> {
    let printable = argument.bytes().all(|byte| byte.is_ascii_graphic());
    let name = if printable { Some(argument.to_owned()) } else { domain_in_ascii(argument) };
    name.filter(|name| !name.is_empty() && argument.len() <= HELO_MAX)
        .ok_or_else(|| bad_arguments("Syntax: EHLO hostname, at most 255 bytes without spaces"))
}

fn domain_in_ascii(argument: &str) -> Option<String> {
    let labels = !argument.is_ascii() && argument.len() <= HELO_MAX;
    labels.then(|| crate::mail::Domain::parse(argument).ok()).flatten().map(|domain| domain.to_string())
}

/// A chunk: its size in bytes and whether it is the last (RFC 3030 §2).
pub(super) fn bdat(arguments: &str) -> Option<(u64, bool)> {
    let mut words = arguments.split(' ').filter(|word| !word.is_empty());
    let size = number(words.next()?)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some((size, last))
}

/// Digits and nothing else, and no more of them than fit.
fn number(word: &str) -> Option<u64> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| word.parse().ok()).flatten()
}

/// The one word after ETRN, with nothing in it that a log would stumble over (RFC 1985 §5.2).
pub(super) fn etrn(arguments: &str) -> Option<&str> {
    let is_word = !arguments.is_empty() && arguments.len() <= HELO_MAX && !arguments.contains(' ');
    is_word.then_some(arguments)
}

/// `501 5.5.4`: the command is known, its arguments are wrong.
pub(super) fn bad_arguments(text: &'static str) -> Reply {
    Reply::new(501, Enhanced(5, 5, 4), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_read_in_any_case_with_blanks_around() {
        assert_eq!(split(b"eHlO  mx.example \t"), Ok((Verb::Ehlo, "mx.example")));
        assert_eq!(split(b"DATA"), Ok((Verb::Data, "")));
        assert_eq!(split(b"DATAX"), Ok((Verb::Unknown, "")));
        assert_eq!(split(b""), Ok((Verb::Unknown, "")));
        assert_eq!(split(b" NOOP"), Ok((Verb::Unknown, "NOOP")));
        assert_eq!(split(b"GET / HTTP/1.1"), Ok((Verb::Http, "/ HTTP/1.1")));
        assert_eq!(split(b"AUTH PLAIN"), Ok((Verb::NotOffered, "PLAIN")));
    }

    #[test]
    fn lines_with_control_characters_are_no_commands() {
        for line in [&b"NOOP\0"[..], b"MAIL FROM:<a\x1b@b.example>", b"EHLO\ta", b"NOOP \xc2\x85x", b"EHLO a\r"] {
            assert_eq!(split(line), Err(NoCommand::Control), "{}", line.escape_ascii());
        }
        assert_eq!(split(b"EHLO \xff"), Err(NoCommand::NotUtf8));
    }

    #[test]
    fn names_in_ehlo_are_printable_and_bounded() {
        for name in ["mx.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "WIN-PC_1", "192.0.2.1", "-"] {
            assert_eq!(helo_name(name).as_deref(), Ok(name));
        }
        assert_eq!(helo_name("bücher.example").as_deref(), Ok("xn--bcher-kva.example"));
        for name in ["", "two words", "ä b", &"x".repeat(256), &"ü".repeat(200)] {
            assert_eq!(helo_name(name).unwrap_err().code, 501, "{name}");
        }
    }

    #[test]
    fn chunk_sizes_never_wrap() {
        assert_eq!(bdat("0 LAST"), Some((0, true)));
        assert_eq!(bdat("86  last"), Some((86, true)));
        assert_eq!(bdat("18446744073709551615"), Some((u64::MAX, false)));
        for arguments in ["", "LAST", "-1", "+1", "1x", "1 LAST 2", "1 FIRST", "18446744073709551616", "184467440737095516160"] {
            assert_eq!(bdat(arguments), None, "{arguments}");
        }
    }
}
