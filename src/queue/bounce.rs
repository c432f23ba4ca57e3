//! The notice to a sender whose mail could not be delivered: a multipart/report (RFC 3464, RFC 6522). Pure.
//!
//! Three parts: what people read, what programs read, and the header section of the message. The message itself is not
//! returned, even when RET=FULL asks for it: RFC 3461 §4.3 leaves that to the server, and a notice that carries content would
//! carry spam to forged senders.
//!
//! The notice is 7-bit ASCII whatever the message was, so that any server takes it; only a sender whose own address is not
//! ASCII needs SMTPUTF8. Everything a peer or a sender wrote is cleaned and bounded on its way into a field.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mail_builder::MessageBuilder;
use mail_builder::encoders::QuotedPrintableEncoder;
use mail_builder::headers::address::Address as Mailbox;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};

use super::settle::GiveUp;
use crate::mail::{
    Address, BodyKind, Client, Domain, Envelope, HeaderSection, MailParameters, Notify, Protocol, QueueId, Recipient,
    ReversePath, Timestamp,
};

/// Of the message's header section, in bytes.
pub(super) const HEADERS_MAX: usize = 64 * 1024;
/// Recipients described in the part for people; the part for programs names all.
const DESCRIBED_MAX: usize = 50;
/// Where fields are folded, in characters.
const FOLD: usize = 76;

/// What a notice is made of.
pub(super) struct Notice<'a> {
    /// The notice's own.
    pub id: QueueId,
    pub hostname: &'a Domain,
    pub now: Timestamp,
    /// Of the message that failed.
    pub envelope: &'a Envelope,
    /// Its recipients that are given up.
    pub failed: &'a [(usize, &'a GiveUp)],
    /// The beginning of the message; what follows its header section is left out.
    pub head: &'a [u8],
}

/// Whether the sender wants to hear that this recipient failed (RFC 3461 §4.1).
pub(super) fn wants_notice(recipient: &Recipient) -> bool {
    match recipient.notify {
        None => true,
        Some(Notify::Never) => false,
        Some(Notify::On { failure, .. }) => failure,
    }
}

impl Notice<'_> {
    /// The envelope of the notice: from nobody, so that it can never cause another one (RFC 5321 §6.1).
    pub(super) fn envelope(&self, sender: &Address, size: u64) -> Envelope {
        Envelope {
            id: self.id,
            received_at: self.now,
            client: Client {
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                reverse_name: None,
                reverse_confirmed: false,
                helo: self.hostname.to_string(),
                protocol: Protocol::Local,
                tls: None,
            },
            reverse_path: ReversePath::Null,
            parameters: MailParameters {
                body: BodyKind::SevenBit,
                smtputf8: sender.needs_smtputf8(),
                size: None,
                ret: None,
                envid: None,
            },
            // RFC 3461 §6.1 asks for NOTIFY=NEVER on notices; the null sender says the same to every server.
            recipients: vec![Recipient::new(sender.clone())],
            size,
        }
    }

    /// The whole notice as it goes over the wire.
    pub(super) fn compose(&self, sender: &Address) -> Vec<u8> {
        let report = ContentType::new("multipart/report").attribute("report-type", "delivery-status");
        let text = ContentType::new("text/plain").attribute("charset", "utf-8");
        let status = MimePart::new(ContentType::new("message/delivery-status"), self.delivery_status().into_bytes());
        let parts = vec![
            MimePart::new(text, BodyPart::Text(self.for_people().into())),
            status.transfer_encoding("7bit"),
            self.original_headers(),
        ];
        let mut notice = Vec::new();
        MessageBuilder::new()
            .header("Date", Raw::new(self.now.rfc5322()))
            .from(Mailbox::new_address(Some("Mail Delivery System"), format!("MAILER-DAEMON@{}", self.hostname)))
            .to(Mailbox::new_address(None::<&str>, sender.to_string()))
            .subject("Your message could not be delivered")
            .message_id(format!("{}@{}", self.id, self.hostname))
            .header("Auto-Submitted", Raw::new("auto-replied"))
            .body(MimePart::new(report, parts))
            .serialize(&mut notice);
        notice
    }

    fn for_people(&self) -> String {
        let mut text = format!("This is the mail gateway at {}.\r\n\r\n", self.hostname);
        text.push_str(match self.failed.len() {
            1 => "I am sorry: your message could not be delivered to this recipient.\r\n",
            _ => "I am sorry: your message could not be delivered to these recipients.\r\n",
        });
        for (index, give_up) in self.failed.iter().take(DESCRIBED_MAX) {
            text.push_str(&format!("\r\n  {}\r\n", self.envelope.recipients[*index].address));
            if give_up.expired {
                text.push_str("  It was tried again and again, for as long as mail is kept here. The last result:\r\n");
            } else if let Some(host) = &give_up.host {
                text.push_str(&format!("  The recipient's mail server, {}, said:\r\n", ascii(host)));
            } else {
                text.push_str("  The reason:\r\n");
            }
            text.push_str(&format!("    {}\r\n", ascii(&give_up.reply)));
        }
        if let Some(more @ 1..) = self.failed.len().checked_sub(DESCRIBED_MAX) {
            text.push_str(&format!("\r\n  and {more} more, who are named in the attached report.\r\n"));
        }
        text.push_str(&format!(
            "\r\nYour message arrived here on {}\r\nand has the id {}; please name it when you ask about it.\r\n\
             Its headers are attached. This notice was made by a program: nobody reads\r\nan answer to it.\r\n",
            self.envelope.received_at.rfc5322(),
            self.envelope.id,
        ));
        text
    }

    /// RFC 3464 §2: a group of fields for the message, then one for each recipient.
    fn delivery_status(&self) -> String {
        let mut fields = format!("Reporting-MTA: dns; {}\r\n", self.hostname);
        if let Some(envid) = self.envelope.parameters.envid.as_deref().and_then(from_xtext) {
            fields.push_str(&field("Original-Envelope-Id", &envid));
        }
        fields.push_str(&format!("Arrival-Date: {}\r\n", self.envelope.received_at.rfc5322()));
        fields.push_str(&format!("X-Feedgate-Queue-Id: {}\r\n", self.envelope.id));
        for (index, give_up) in self.failed {
            self.recipient_fields(&mut fields, &self.envelope.recipients[*index], give_up);
        }
        fields
    }

    fn recipient_fields(&self, fields: &mut String, recipient: &Recipient, give_up: &GiveUp) {
        fields.push_str("\r\n");
        if let Some(original) = recipient.orcpt.as_deref().and_then(original_recipient) {
            fields.push_str(&format!("Original-Recipient: {original}\r\n"));
        }
        fields.push_str(&format!("Final-Recipient: {}\r\n", typed(&recipient.address)));
        fields.push_str(&format!("Action: failed\r\nStatus: {}\r\n", give_up.status));
        if let Some(name) = give_up.host.as_deref().and_then(mta_name) {
            fields.push_str(&format!("Remote-MTA: dns; {name}\r\n"));
        }
        // RFC 3464 §2.3.6: "smtp" stands before a real reply only.
        let is_reply = give_up.reply.len() > 3 && give_up.reply.bytes().take(3).all(|byte| byte.is_ascii_digit());
        let kind = if is_reply { "smtp" } else { "x-feedgate" };
        fields.push_str(&field("Diagnostic-Code", &format!("{kind}; {}", ascii(&give_up.reply))));
        fields.push_str(&format!("Last-Attempt-Date: {}\r\n", self.now.rfc5322()));
    }

    fn original_headers(&self) -> MimePart<'static> {
        let end = HeaderSection::parse(self.head).end.min(HEADERS_MAX);
        let headers = with_crlf(&self.head[..end]);
        let is_plain = |line: &[u8]| line.len() <= 998 && line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        let is_seven_bit = headers.split(|byte| *byte == b'\n').all(|line| is_plain(line.strip_suffix(b"\r").unwrap_or(line)));
        // RFC 6533 §6.3: headers with UTF-8 in them have a type of their own.
        let kind = if self.envelope.parameters.smtputf8 { "message/global-headers" } else { "text/rfc822-headers" };
        if is_seven_bit {
            return MimePart::new(ContentType::new(kind), headers).transfer_encoding("7bit");
        }
        // RFC 6522 §4: headers that are not legal 7-bit content are encoded as quoted-printable.
        let encoder = QuotedPrintableEncoder::new().preserve_line_breaks();
        let encoded = encoder.encode(&headers).unwrap_or_default();
        MimePart::new(ContentType::new(kind), encoded).transfer_encoding("quoted-printable")
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
        return Some(crate::mail::Host::Literal(socket.ip()).to_string());
    }
    let name = ascii(host.split_ascii_whitespace().next()?);
    Some(name)
}

/// Every line end as CRLF: a message that came by BDAT may have others.
fn with_crlf(headers: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(headers.len() + 64);
    for line in headers.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").map(|text| text.strip_suffix(b"\r").unwrap_or(text));
        out.extend_from_slice(text.unwrap_or(line));
        if text.is_some() {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests;
