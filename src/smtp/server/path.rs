//! The arguments of MAIL and RCPT: a path in angle brackets and `keyword=value` parameters (RFC 5321 §4.1.2; DSN: RFC 3461;
//! SIZE: RFC 1870; SMTPUTF8: RFC 6531). Always from the raw line; what a path means is `mail`'s.

use crate::mail::{Address, AddressError, BodyKind, Enhanced, Host, MailParameters, Mailbox, Notify, Reply, Ret, ReversePath};

use super::command::bad_arguments;

/// RFC 3461 §4.4, in bytes.
const ENVID_MAX: usize = 100;
/// RFC 3461 §4.2, in bytes.
const ORCPT_MAX: usize = 500;

/// What MAIL says. `size_max`: a larger declared size is refused here, before anything is sent.
pub(super) fn mail(arguments: &str, size_max: u64) -> Result<(ReversePath, MailParameters), Reply> {
    let syntax = || bad_arguments("Syntax: MAIL FROM:<address> [parameters]");
    let (path, parameters) = split_path(arguments, "FROM:").ok_or_else(syntax)?;
    let parameters = mail_parameters(parameters, size_max)?;
    check_utf8_allowed(path, parameters.smtputf8)?;
    let bad_path = |error| bad_address(Enhanced(5, 1, 7), "sender", error);
    let reverse_path = match path {
        "" => ReversePath::Null,
        path => ReversePath::Address(Address::parse(without_route(path).map_err(bad_path)?).map_err(bad_path)?),
    };
    Ok((reverse_path, parameters))
}

/// What RCPT says: mailbox, NOTIFY, ORCPT. `smtputf8`: MAIL said so.
pub(super) fn rcpt(arguments: &str, smtputf8: bool) -> Result<(Mailbox, Option<Notify>, Option<String>), Reply> {
    let syntax = || bad_arguments("Syntax: RCPT TO:<address> [parameters]");
    let (path, parameters) = split_path(arguments, "TO:").ok_or_else(syntax)?;
    let (notify, orcpt) = rcpt_parameters(parameters)?;
    check_utf8_allowed(path, smtputf8)?;
    // RFC 5321 §4.5.1: the only recipient that needs no domain.
    if path.eq_ignore_ascii_case("postmaster") {
        return Ok((Mailbox::Postmaster, notify, orcpt));
    }
    let bad_path = |error| bad_address(Enhanced(5, 1, 3), "recipient", error);
    let address = Address::parse(without_route(path).map_err(bad_path)?).map_err(bad_path)?;
    Ok((Mailbox::Address(address), notify, orcpt))
}

/// `FROM:<path> parameters`: the path without its brackets, and the rest.
fn split_path<'a>(arguments: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, rest) = arguments.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    // RFC 5321 §4.1.1.3: no space after the colon; Outlook and many scripts send one.
    let rest = rest.trim_start_matches(' ').strip_prefix('<')?;
    let end = closing_bracket(rest)?;
    let (path, parameters) = (&rest[..end], &rest[end + 1..]);
    (parameters.is_empty() || parameters.starts_with(' ')).then_some((path, parameters))
}

/// The `>` that ends the path: the first one that is not in a quoted local part.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                bytes.next();
            }
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Drops a source route, `@a,@b:`, as RFC 5321 appendix C allows: nobody has needed one for thirty years, and following one
/// would make us a relay.
fn without_route(path: &str) -> Result<&str, AddressError> {
    if !path.starts_with('@') {
        return Ok(path);
    }
    let mut literal = false;
    let colon = path.bytes().position(|byte| {
        literal = byte == b'[' || literal && byte != b']';
        byte == b':' && !literal
    });
    let (route, mailbox) = path.split_at(colon.ok_or(AddressError::LocalPart)?);
    let is_hop = |hop: &str| hop.strip_prefix('@').is_some_and(|host| host.parse::<Host>().is_ok());
    if route.split(',').all(is_hop) { Ok(&mailbox[1..]) } else { Err(AddressError::Domain) }
}

/// RFC 6531 §3.5: addresses beyond ASCII need the sender's promise that it speaks SMTPUTF8.
fn check_utf8_allowed(path: &str, smtputf8: bool) -> Result<(), Reply> {
    if path.is_ascii() || smtputf8 {
        return Ok(());
    }
    Err(Reply::new(553, Enhanced(5, 6, 7), "Addresses with non-ASCII characters need the SMTPUTF8 parameter of MAIL"))
}

fn bad_address(enhanced: Enhanced, which: &str, error: AddressError) -> Reply {
    Reply::new(501, enhanced, format!("Bad {which} address: {error}"))
}

fn mail_parameters(parameters: &str, size_max: u64) -> Result<MailParameters, Reply> {
    let mut read = MailParameters::default();
    let mut body = None;
    for (keyword, value) in keywords(parameters)? {
        match (keyword.to_ascii_uppercase().as_str(), value) {
            ("SIZE", Some(value)) if read.size.is_none() => read.size = Some(declared_size(value, size_max)?),
            ("BODY", Some(value)) if body.is_none() => body = Some(body_kind(value)?),
            ("SMTPUTF8", None) if !read.smtputf8 => read.smtputf8 = true,
            ("RET", Some(value)) if read.ret.is_none() => read.ret = Some(ret(value)?),
            ("ENVID", Some(value)) if read.envid.is_none() && value.len() <= ENVID_MAX && is_xtext(value) => {
                read.envid = Some(value.to_owned());
            }
            ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID", _) => return Err(bad_parameter(keyword)),
            _ => return Err(unknown_parameter(keyword)),
        }
    }
    read.body = body.unwrap_or_default();
    Ok(read)
}

fn rcpt_parameters(parameters: &str) -> Result<(Option<Notify>, Option<String>), Reply> {
    let (mut notify, mut orcpt) = (None, None);
    for (keyword, value) in keywords(parameters)? {
        match (keyword.to_ascii_uppercase().as_str(), value) {
            ("NOTIFY", Some(value)) if notify.is_none() => notify = Some(notify_when(value)?),
            ("ORCPT", Some(value)) if orcpt.is_none() && is_orcpt(value) => orcpt = Some(value.to_owned()),
            ("NOTIFY" | "ORCPT", _) => return Err(bad_parameter(keyword)),
            _ => return Err(unknown_parameter(keyword)),
        }
    }
    Ok((notify, orcpt))
}

/// `esmtp-keyword ["=" esmtp-value]`, separated by spaces (RFC 5321 §4.1.2).
fn keywords(parameters: &str) -> Result<Vec<(&str, Option<&str>)>, Reply> {
    let is_keyword = |word: &str| {
        let mut bytes = word.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_value = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=');
    let words = parameters.split(' ').filter(|word| !word.is_empty());
    words
        .map(|word| {
            let (keyword, value) = word.split_once('=').map_or((word, None), |(keyword, value)| (keyword, Some(value)));
            if is_keyword(keyword) && value.is_none_or(is_value) {
                Ok((keyword, value))
            } else {
                Err(bad_arguments("Syntax: parameters are KEYWORD or KEYWORD=VALUE"))
            }
        })
        .collect()
}

/// RFC 1870 §3: 1 to 20 digits. The largest such number does not fit into 64 bits; it is as much over the limit as any other.
fn declared_size(value: &str, size_max: u64) -> Result<u64, Reply> {
    if value.len() > 20 || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad_parameter("SIZE"));
    }
    let size = value.parse().unwrap_or(u64::MAX);
    if size > size_max { Err(Reply::too_large(size_max)) } else { Ok(size) }
}

/// BINARYMIME (RFC 3030) is not offered: it cannot be handed on to a host without CHUNKING.
fn body_kind(value: &str) -> Result<BodyKind, Reply> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Ok(BodyKind::SevenBit),
        "8BITMIME" => Ok(BodyKind::EightBitMime),
        _ => Err(bad_parameter("BODY")),
    }
}

fn ret(value: &str) -> Result<Ret, Reply> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Ok(Ret::Full),
        "HDRS" => Ok(Ret::Headers),
        _ => Err(bad_parameter("RET")),
    }
}

/// RFC 3461 §4.1: NEVER alone, or a list of the others.
fn notify_when(value: &str) -> Result<Notify, Reply> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => success = true,
            "FAILURE" => failure = true,
            "DELAY" => delay = true,
            _ => return Err(bad_parameter("NOTIFY")),
        }
    }
    Ok(Notify::On { success, failure, delay })
}

/// RFC 3461 §4.2: `addr-type;xtext`, of any type.
fn is_orcpt(value: &str) -> bool {
    let is_type = |kind: &str| !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    value.len() <= ORCPT_MAX && value.split_once(';').is_some_and(|(kind, text)| is_type(kind) && is_xtext(text))
}

/// RFC 3461 §4: printable, and `+` only before two hexadecimal digits (in capitals there, in any case here).
fn is_xtext(text: &str) -> bool {
    let mut pieces = text.split('+');
    let plain = |piece: &str| piece.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=');
    let is_hex = |byte: &u8| byte.is_ascii_hexdigit();
    !text.is_empty()
        && pieces.next().is_some_and(plain)
        && pieces.all(|piece| plain(piece) && piece.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(is_hex)))
}

fn bad_parameter(keyword: &str) -> Reply {
    Reply::new(501, Enhanced(5, 5, 4), format!("Bad value or use of the parameter {}", keyword.to_ascii_uppercase()))
}

fn unknown_parameter(keyword: &str) -> Reply {
    Reply::new(555, Enhanced(5, 5, 4), format!("Parameter {} is not offered here", keyword.to_ascii_uppercase()))
}

#[cfg(test)]
mod tests;
