//! The arguments of XCLIENT, as Postfix has them (XCLIENT_README): `NAME=value` pairs whose values are xtext (RFC 3461 §4).
//!
//! Pure syntax. Whatever is not understood is refused as a whole: half of a claim is worse than none. Values are printable ASCII
//! after decoding, so that nothing in them reaches a log, a header or a reply as something else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::command::{bad_arguments, helo_name};
use crate::mail::{Enhanced, Reply};

/// As the answer to EHLO names them.
pub(super) const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

/// Of a value before decoding, in bytes.
const VALUE_MAX: usize = 765;

/// For whom a client says that it speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `None`: unavailable or not said.
    pub address: Option<IpAddr>,
    /// For the log; names are asked for in DNS all the same.
    pub name: Option<String>,
    pub helo: Option<String>,
    /// PROTO=ESMTP.
    pub extended: bool,
}

/// Reads all of them.
pub(super) fn claims(arguments: &str) -> Result<Claims, Reply> {
    let mut claims = Claims::default();
    let mut seen = Vec::new();
    for pair in arguments.split(' ').filter(|pair| !pair.is_empty()) {
        let (attribute, value) = pair.split_once('=').ok_or_else(|| bad_arguments("Syntax: XCLIENT attribute=value…"))?;
        let attribute = attribute.to_ascii_uppercase();
        if seen.contains(&attribute) {
            return Err(bad_arguments("An XCLIENT attribute was given twice"));
        }
        claims.take(&attribute, value)?;
        seen.push(attribute);
    }
    if seen.is_empty() { Err(bad_arguments("Syntax: XCLIENT attribute=value…")) } else { Ok(claims) }
}

impl Claims {
    fn take(&mut self, attribute: &str, value: &str) -> Result<(), Reply> {
        let value = decoded(value).ok_or_else(|| bad_value(attribute))?;
        let is_unavailable = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"].iter().any(|word| value.eq_ignore_ascii_case(word));
        let value = (!is_unavailable).then_some(value.as_str());
        match attribute {
            "ADDR" => self.address = read(attribute, value, address)?,
            "NAME" => self.name = read(attribute, value, name)?,
            "HELO" => self.helo = read(attribute, value, name)?,
            "PROTO" => self.extended = read(attribute, value, protocol)?.unwrap_or_default(),
            "PORT" | "DESTPORT" => drop(read(attribute, value, |value| value.parse::<u16>().ok())?),
            "DESTADDR" => drop(read(attribute, value, address)?),
            // There is no authentication here that it could stand for.
            "LOGIN" => {}
            _ => return Err(bad_arguments("An XCLIENT attribute is not known here")),
        }
        Ok(())
    }
}

fn read<T>(attribute: &str, value: Option<&str>, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Reply> {
    value.map(|value| read(value).ok_or_else(|| bad_value(attribute))).transpose()
}

fn bad_value(attribute: &str) -> Reply {
    Reply::new(501, Enhanced(5, 5, 4), format!("Bad value of an XCLIENT attribute: {attribute}"))
}

/// `192.0.2.1`, `IPV6:2001:db8::1`
fn address(value: &str) -> Option<IpAddr> {
    match value.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("IPV6:") => {
            Some(IpAddr::from(value[5..].parse::<Ipv6Addr>().ok()?).to_canonical())
        }
        _ => value.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    }
}

fn name(value: &str) -> Option<String> {
    helo_name(value).ok()
}

fn protocol(value: &str) -> Option<bool> {
    let is = |name: &str| value.eq_ignore_ascii_case(name);
    if is("ESMTP") { Some(true) } else { is("SMTP").then_some(false) }
}

/// xtext: printable ASCII but `=` stands for itself, `+XX` for a byte. `None`: it is not, or not printable when decoded.
fn decoded(xtext: &str) -> Option<String> {
    if xtext.is_empty() || xtext.len() > VALUE_MAX {
        return None;
    }
    let mut text = String::with_capacity(xtext.len());
    let mut bytes = xtext.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'+' => hexadecimal(bytes.next()?)? << 4 | hexadecimal(bytes.next()?)?,
            b'=' => return None,
            byte => byte,
        };
        if !byte.is_ascii_graphic() && byte != b' ' {
            return None;
        }
        text.push(char::from(byte));
    }
    Some(text)
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &str, address: &str, helo: Option<&str>, extended: bool) {
        let claims = claims(arguments).unwrap_or_else(|reply| panic!("{arguments}: {reply}"));
        assert_eq!(claims.address.map_or("-".to_owned(), |address| address.to_string()), address, "{arguments}");
        assert_eq!((claims.helo.as_deref(), claims.extended), (helo, extended), "{arguments}");
    }

    #[test]
    fn attributes_are_read_in_any_order_and_case() {
        check("ADDR=192.0.2.7", "192.0.2.7", None, false);
        check("name=spike.example addr=IPV6:2001:db8::7 proto=ESMTP", "2001:db8::7", None, true);
        check("ADDR=ipv6:::ffff:192.0.2.7 HELO=a+2Bb.example  PROTO=SMTP", "192.0.2.7", Some("a+b.example"), false);
        check("ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL] HELO=[UNAVAILABLE] PROTO=[UNAVAILABLE]", "-", None, false);
        check("PORT=25 LOGIN=joe+20x DESTADDR=198.51.100.1 DESTPORT=25 NAME=x", "-", None, false);
        check("HELO=[192.0.2.7]", "-", Some("[192.0.2.7]"), false);
    }

    #[test]
    fn what_is_not_understood_is_refused_as_a_whole() {
        for arguments in [
            "",
            "ADDR",
            "ADDR=",
            "ADDR=192.0.2",
            "ADDR=2001:db8::1",
            "ADDR=IPV6:192.0.2.1",
            "ADDR=192.0.2.7 ADDR=192.0.2.8",
            "ADDR=192.0.2.7 FOO=1",
            "NAME=a=b",
            "NAME=a+0D+0AQUIT",
            "NAME=a+1b[2J",
            "NAME=+C3+A4",
            "NAME=a+20b",
            "HELO=a+0",
            "HELO=a+GG",
            "PORT=65536",
            "PROTO=LMTP",
            "=x",
        ] {
            let reply = claims(arguments).expect_err(arguments);
            assert_eq!((reply.code, reply.enhanced), (501, Some(Enhanced(5, 5, 4))), "{arguments}");
        }
        assert!(claims(&format!("NAME={}", "x".repeat(256))).is_err());
        assert!(claims(&format!("LOGIN={}", "x".repeat(766))).is_err());
    }
}
