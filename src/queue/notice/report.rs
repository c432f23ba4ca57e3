//! The part of a notice that programs read: groups of fields (RFC 3464 §2), in English whatever the language.

use std::net::SocketAddr;

use super::{Fate, Notice, What};
use crate::mail::{Address, Host, Recipient};

/// Where fields are folded, in characters.
pub(super) const FOLD: usize = 76;

/// A group for the message, then one for each recipient.
pub(super) fn fields(notice: &Notice<'_>) -> String {
    let envelope = notice.envelope;
    let mut fields = format!("Reporting-MTA: dns; {}\r\n", notice.hostname);
    if let Some(envid) = envelope.parameters.envid.as_deref().and_then(from_xtext) {
        fields.push_str(&field("Original-Envelope-Id", &envid));
    }
    fields.push_str(&format!("Arrival-Date: {}\r\n", envelope.received_at.rfc5322()));
    fields.push_str(&format!("X-Feedgate-Queue-Id: {}\r\n", envelope.id));
    for fate in notice.fates {
        recipient_fields(&mut fields, &envelope.recipients[fate.recipient], fate);
    }
    fields
}

fn recipient_fields(fields: &mut String, recipient: &Recipient, fate: &Fate) {
    fields.push_str("\r\n");
    if let Some(original) = recipient.orcpt.as_deref().and_then(original_recipient) {
        fields.push_str(&format!("Original-Recipient: {original}\r\n"));
    }
    fields.push_str(&format!("Final-Recipient: {}\r\n", typed(&recipient.address)));
    let action = match fate.what {
        What::Refused | What::Expired => "failed",
        What::Late { .. } => "delayed",
    };
    fields.push_str(&format!("Action: {action}\r\nStatus: {}\r\n", fate.status));
    if let Some(name) = fate.host.as_deref().and_then(mta_name) {
        fields.push_str(&format!("Remote-MTA: dns; {name}\r\n"));
    }
    // RFC 3464 §2.3.6: "smtp" stands before a real reply only.
    let is_reply = fate.reply.len() > 3 && fate.reply.bytes().take(3).all(|byte| byte.is_ascii_digit());
    let kind = if is_reply { "smtp" } else { "x-feedgate" };
    fields.push_str(&field("Diagnostic-Code", &format!("{kind}; {}", ascii(&fate.reply))));
    if let Some(last_attempt) = fate.last_attempt {
        fields.push_str(&format!("Last-Attempt-Date: {}\r\n", last_attempt.rfc5322()));
    }
    if let What::Late { until } = fate.what {
        fields.push_str(&format!("Will-Retry-Until: {}\r\n", until.rfc5322()));
    }
}

/// A field, folded between words. The value is printable ASCII and short enough that even one word fits on a line.
fn field(name: &str, value: &str) -> String {
    let mut text = format!("{name}:");
    let mut column = text.len();
    for word in value.split_ascii_whitespace() {
        if column + 1 + word.len() > FOLD && column > name.len() + 1 {
            text.push_str("\r\n");
            column = 0;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + word.len();
    }
    text.push_str("\r\n");
    text
}

/// Printable ASCII, one line: what is not becomes a question mark.
fn ascii(text: &str) -> String {
    text.chars().map(|letter| if letter == ' ' || letter.is_ascii_graphic() { letter } else { '?' }).collect()
}

/// An address with its type. One that is not ASCII is written in ASCII all the same (RFC 6533 §3, utf-8-addr-xtext).
fn typed(address: &Address) -> String {
    let text = address.to_string();
    if !address.needs_smtputf8() {
        return format!("rfc822; {text}");
    }
    let mut xtext = String::new();
    for letter in text.chars() {
        if letter.is_ascii_graphic() && !matches!(letter, '\\' | '+' | '=') {
            xtext.push(letter);
        } else {
            xtext.push_str(&format!("\\x{{{:X}}}", u32::from(letter)));
        }
    }
    format!("utf-8; {xtext}")
}

/// ORCPT as the sender gave it: type, then the address out of its xtext.
fn original_recipient(orcpt: &str) -> Option<String> {
    let (kind, xtext) = orcpt.split_once(';')?;
    let is_type = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_type.then(|| from_xtext(xtext)).flatten().map(|address| format!("{kind}; {address}"))
}

/// RFC 3461 §4: `+2B` is a plus. `None` when it is no xtext, or holds anything but printable ASCII: a coded line end must not
/// become one here.
fn from_xtext(xtext: &str) -> Option<String> {
    let mut bytes = xtext.bytes();
    let mut text = String::new();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'+' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        };
        if !matches!(byte, b' '..=b'~') {
            return None;
        }
        text.push(char::from(byte));
    }
    Some(text)
}

/// The name, or the address in brackets, out of `name [address]:port` or `address:port`.
fn mta_name(host: &str) -> Option<String> {
    if let Ok(socket) = host.parse::<SocketAddr>() {
        return Some(Host::Literal(socket.ip()).to_string());
    }
    let name = ascii(host.split_ascii_whitespace().next()?);
    Some(name)
}
