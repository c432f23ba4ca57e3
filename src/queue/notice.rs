//! The notice to a sender whose mail could not be delivered, or is late: a multipart/report (RFC 3464, RFC 6522). Pure.
//!
//! Three parts: what people read, in their language, what programs read, and the header section of the message. The message
//! itself is not returned, even when RET=FULL asks for it: RFC 3461 §4.3 leaves that to the server, and a notice that carries
//! content would carry spam to forged senders.
//!
//! The notice is 7-bit ASCII whatever the message was (text beyond it is encoded), so that any server takes it; only a sender
//! whose own address is not ASCII needs SMTPUTF8. Everything a peer or a sender wrote is cleaned and bounded on its way in.
//!
//! | file | what |
//! |---|---|
//! | `policy.rs` | who is told of what |
//! | `limit.rs` | how many one sender gets |
//! | `language.rs`, `words.rs` | which language, and the text for people |
//! | `report.rs` | the fields for programs |

mod language;
mod limit;
mod policy;
mod report;
mod words;

use std::net::{IpAddr, Ipv4Addr};

use mail_builder::MessageBuilder;
use mail_builder::encoders::QuotedPrintableEncoder;
use mail_builder::headers::address::Address as Mailbox;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};
use mail_parser::MessageParser;

use crate::config::Language;
use crate::mail::{
    Address, BodyKind, Client, Domain, Enhanced, Envelope, HeaderSection, MailParameters, Protocol, QueueId, Recipient,
    ReversePath, Timestamp,
};

pub(super) use limit::SenderLimit;
pub(super) use policy::{Kind, Nature, Silence, is_wanted};

/// Of the message, in bytes: its header section and some text, from which its language shows.
pub(super) const HEAD_MAX: usize = 64 * 1024;

/// What a notice is made of.
pub(super) struct Notice<'a> {
    /// The notice's own.
    pub id: QueueId,
    pub hostname: &'a Domain,
    pub now: Timestamp,
    pub kind: Kind,
    /// Of the message it is about.
    pub envelope: &'a Envelope,
    /// Those of its recipients that it is about.
    pub fates: &'a [Fate],
    /// The beginning of the message.
    pub head: &'a [u8],
    /// When the message does not tell it.
    pub language: Language,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// Its place in the envelope.
    pub recipient: usize,
    pub what: What,
    pub host: Option<String>,
    /// What the next hop said, or our words.
    pub reply: String,
    pub status: Enhanced,
    pub last_attempt: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// For good.
    Refused,
    /// The lifetime is over.
    Expired,
    /// It is tried until then.
    Late { until: Timestamp },
}

/// What the message says of its author.
pub(super) fn nature(head: &[u8], sender: &Address) -> Nature {
    Nature::of(head, MessageParser::default().parse(head).as_ref(), sender)
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
                findings: Vec::new(),
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
        let parsed = MessageParser::default().parse(self.head);
        let language = language::of(self.head, parsed.as_ref(), sender, self.language);
        let text = words::for_people(self, language, parsed.as_ref().and_then(|parsed| parsed.subject()));
        let kind = ContentType::new("multipart/report").attribute("report-type", "delivery-status");
        let tag = words::tag(language);
        let readable = ContentType::new("text/plain").attribute("charset", "utf-8");
        let status = MimePart::new(ContentType::new("message/delivery-status"), report::fields(self).into_bytes());
        let parts =
            vec![MimePart::new(readable, BodyPart::Text(text.into())), status.transfer_encoding("7bit"), self.original_headers()];
        let mut notice = Vec::new();
        MessageBuilder::new()
            .header("Date", Raw::new(self.now.rfc5322()))
            .from(Mailbox::new_address(Some("Mail Delivery System"), format!("MAILER-DAEMON@{}", self.hostname)))
            .to(Mailbox::new_address(None::<&str>, sender.to_string()))
            .subject(words::subject(self.kind, language))
            .message_id(format!("{}@{}", self.id, self.hostname))
            // RFC 3834 §5: no program answers it.
            .header("Auto-Submitted", Raw::new("auto-replied"))
            .header("Content-Language", Raw::new(tag))
            .body(MimePart::new(kind, parts))
            .serialize(&mut notice);
        notice
    }

    fn original_headers(&self) -> MimePart<'static> {
        let end = HeaderSection::parse(self.head).end.min(HEAD_MAX);
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

/// Every line end as CRLF: a message that came by BDAT may have others. A carriage return elsewhere becomes a blank, since even
/// encoded lines would end there.
fn with_crlf(headers: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(headers.len() + 64);
    for line in headers.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").map(|text| text.strip_suffix(b"\r").unwrap_or(text));
        out.extend(text.unwrap_or(line).iter().map(|byte| if *byte == b'\r' { b' ' } else { *byte }));
        if text.is_some() {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests;
