//! Mailboxes and domains, parsed once and strictly (RFC 5321 §4.1.2, RFC 6531 §3.3), written so that nothing can break out.
//!
//! A local part is kept as its meaning (quotes removed) and quoted again when it is written, so that
//! `<"a> SIZE=1 <x"@b.example>` can never become a command parameter at the next hop. A domain is kept in lower case as
//! A-labels: one spelling for one domain. Source routes (`@a,@b:user@c`) are dropped, as RFC 5321 appendix C allows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// RFC 5321 §4.5.3.1.1, in bytes.
const LOCAL_PART_MAX: usize = 64;
/// RFC 5321 §4.5.3.1.3: a path with its brackets is at most 256, so a mailbox at most 254 bytes.
const MAILBOX_MAX: usize = 254;
/// RFC 1035 §2.3.4, in bytes.
const DOMAIN_MAX: usize = 253;

/// A text that is no mailbox or domain, with the reason in words for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the address is empty")]
    Empty,
    #[error("the address has no @ and domain")]
    NoDomain,
    #[error("the part before the @ is not valid")]
    LocalPart,
    #[error("the part before the @ is longer than 64 bytes")]
    LocalPartTooLong,
    #[error("the domain is not valid")]
    Domain,
    #[error("the address literal is not valid")]
    Literal,
    #[error("the address is longer than 254 bytes")]
    TooLong,
}

/// A domain name in lower case, A-labels, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Box<str>);

impl Domain {
    /// Takes any spelling of a domain: upper case, U-labels (RFC 5890), a final dot.
    pub fn parse(text: &str) -> Result<Domain, AddressError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(text).map_err(|_| AddressError::Domain)?
        };
        let labels_fit = ascii.split('.').all(is_label);
        // "1.2.3.4" without brackets is not a domain: the top label of a real one is never all digits (RFC 3696 §2).
        let top_is_name = !ascii.rsplit('.').next().is_some_and(|top| top.bytes().all(|byte| byte.is_ascii_digit()));
        if ascii.len() > DOMAIN_MAX || !labels_fit || !top_is_name {
            return Err(AddressError::Domain);
        }
        Ok(Domain(ascii.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With U-labels, for people.
    pub fn to_unicode(&self) -> String {
        idna::domain_to_unicode(&self.0).0
    }
}

/// Letters, digits and inner hyphens; underscores too, which real host names have although RFC 1123 does not.
fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

/// What stands right of the @.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Domain(Domain),
    /// `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    Literal(IpAddr),
}

/// A mailbox: local part and host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    local: Box<str>,
    host: Host,
}

/// What RCPT names: a mailbox, or `<postmaster>` without a domain, which every server must know (RFC 5321 §4.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mailbox {
    Address(Address),
    Postmaster,
}

/// The sender in the envelope; bounces have none (RFC 5321 §4.5.5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReversePath {
    Null,
    Address(Address),
}

impl Address {
    /// Parses `local@host` without angle brackets.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > MAILBOX_MAX {
            return Err(AddressError::TooLong);
        }
        let (local, rest) = if text.starts_with('"') { quoted_local(text)? } else { dotted_local(text)? };
        if local.len() > LOCAL_PART_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
        let host = rest.strip_prefix('@').ok_or(AddressError::NoDomain)?.parse()?;
        Ok(Address { local: local.into(), host })
    }

    /// The meaning of the local part, unquoted. Never write it into a command or header: use `Display`.
    pub fn local(&self) -> &str {
        &self.local
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// `None` for an address literal.
    pub fn domain(&self) -> Option<&Domain> {
        match &self.host {
            Host::Domain(domain) => Some(domain),
            Host::Literal(_) => None,
        }
    }

    /// Only an SMTPUTF8 next hop can take it (RFC 6531).
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }

    /// `postmaster` in any case (RFC 5321 §4.5.1).
    pub fn is_postmaster(&self) -> bool {
        self.local.eq_ignore_ascii_case("postmaster")
    }
}

/// `"…"@`: quoted-string of RFC 5321, with backslash pairs resolved. Returns the meaning and the rest from the @ on.
fn quoted_local(text: &str) -> Result<(String, &str), AddressError> {
    let mut meaning = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((meaning, &text[at + 1..])),
            '\\' => match letters.next() {
                Some((_, pair)) if pair.is_ascii() && !pair.is_ascii_control() => meaning.push(pair),
                _ => return Err(AddressError::LocalPart),
            },
            letter if letter.is_control() => return Err(AddressError::LocalPart),
            letter => meaning.push(letter),
        }
    }
    Err(AddressError::LocalPart)
}

/// `a.b@`: dot-string. Returns it and the rest from the @ on.
fn dotted_local(text: &str) -> Result<(String, &str), AddressError> {
    let end = text.find('@').ok_or(AddressError::NoDomain)?;
    let local = &text[..end];
    if !is_dot_string(local) {
        return Err(AddressError::LocalPart);
    }
    Ok((local.to_owned(), &text[end..]))
}

fn is_dot_string(local: &str) -> bool {
    let is_atext =
        |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(letter) || is_utf8_non_ascii(letter);
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// RFC 6531 adds UTF8-non-ascii to atext; C1 controls are let out, since no mailbox needs them and terminals obey them.
fn is_utf8_non_ascii(letter: char) -> bool {
    !letter.is_ascii() && !letter.is_control()
}

impl FromStr for Host {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Host, AddressError> {
        let Some(inner) = text.strip_prefix('[') else {
            return Domain::parse(text).map(Host::Domain);
        };
        let inner = inner.strip_suffix(']').ok_or(AddressError::Literal)?;
        let address = match inner.get(..5) {
            Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
            _ => inner.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
        };
        address.map(Host::Literal).ok_or(AddressError::Literal)
    }
}

impl FromStr for Domain {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Domain, AddressError> {
        Domain::parse(text)
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Address, AddressError> {
        Address::parse(text)
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;
    /// The empty text is the null sender.
    fn from_str(text: &str) -> Result<ReversePath, AddressError> {
        if text.is_empty() { Ok(ReversePath::Null) } else { Address::parse(text).map(ReversePath::Address) }
    }
}

impl ReversePath {
    pub fn is_null(&self) -> bool {
        matches!(self, ReversePath::Null)
    }

    pub fn address(&self) -> Option<&Address> {
        match self {
            ReversePath::Null => None,
            ReversePath::Address(address) => Some(address),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Domain(domain) => domain.fmt(f),
            Host::Literal(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Host::Literal(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
        }
    }
}

/// As it goes into a command or a header: quoted where it must be.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.host);
        }
        let escaped = self.local.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"@{}", self.host)
    }
}

/// Without brackets; empty for the null sender.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().map_or(Ok(()), |address| address.fmt(f))
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(Host, Domain, Address, ReversePath);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, written: &str) {
        let address = Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(address.to_string(), written);
        assert_eq!(Address::parse(written).as_ref(), Ok(&address), "{written} leads back");
    }

    #[test]
    fn mailboxes_are_read_and_written() {
        reads("Joe.Doe+tag@Customer.EXAMPLE", "Joe.Doe+tag@customer.example");
        reads("\"joe\"@customer.example.", "joe@customer.example");
        reads("\"a b\"@customer.example", "\"a b\"@customer.example");
        reads("\"a@b\\\"c\\\\\"@customer.example", "\"a@b\\\"c\\\\\"@customer.example");
        reads("\"\"@customer.example", "\"\"@customer.example");
        reads("\"a> SIZE=1 <x\"@customer.example", "\"a> SIZE=1 <x\"@customer.example");
        reads("joe@[192.0.2.1]", "joe@[192.0.2.1]");
        reads("joe@[IPv6:2001:db8::1]", "joe@[IPv6:2001:db8::1]");
        reads("müller@bücher.example", "müller@xn--bcher-kva.example");
        reads("joe@_srv.customer.example", "joe@_srv.customer.example");
    }

    #[test]
    fn broken_mailboxes_are_refused() {
        for text in [
            "",
            "joe",
            "@customer.example",
            "joe@",
            "joe@-b.c",
            "a.@b.example",
            ".a@b.example",
            "a..b@b.example",
            "a b@c.example",
            "joe@a..b",
            "joe@192.0.2.1",
            "joe@[192.0.2]",
            "joe@[IPv6:zz]",
            "joe@[192.0.2.1",
            "\"a\r\nb\"@c.example",
            "\"a@c.example",
            "\"a\"b@c.example",
            "a@b@c.example",
            "joe@a_b.-c.example",
            "a\u{0}b@c.example",
            "joe@c.example>",
            "a\u{9b}b@c.example",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?} must be refused");
        }
        assert_eq!(Address::parse(&format!("{}@b.example", "a".repeat(65))), Err(AddressError::LocalPartTooLong));
        assert_eq!(Address::parse(&format!("a@{}", "b".repeat(300))), Err(AddressError::TooLong));
    }

    #[test]
    fn one_spelling_for_one_domain() {
        assert_eq!(Domain::parse("BÜCHER.example."), Domain::parse("xn--bcher-kva.EXAMPLE"));
        assert_eq!(Domain::parse("xn--bcher-kva.example").unwrap().to_unicode(), "bücher.example");
    }
}
