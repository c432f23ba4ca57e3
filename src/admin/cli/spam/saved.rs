//! A message in a file, as it would have arrived: with the line ends of the wire, and with an envelope.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use clap::Args;

use super::super::Failure;
use crate::mail::{
    Address, Client, Domain, Envelope, Finding, IdSource, MailParameters, Protocol, Recipient, ReversePath, Timestamp,
};
use crate::spam::Facts;

/// More than this of a message is not read, in bytes; the rules look at less.
const MESSAGE_MAX: u64 = 256 << 20;

/// How a message in a file is thought to have come.
#[derive(Clone, Debug, Args)]
pub struct Door {
    /// Judge it as if this address had handed it over
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub client: IpAddr,
    /// Judge it as if this were the client's name in DNS; "": it has none
    #[arg(long, value_name = "NAME", value_parser = reverse_name)]
    pub rdns: Option<ReverseName>,
    /// Judge it as if the client had said this in EHLO
    #[arg(long, value_name = "NAME")]
    pub helo: Option<String>,
    /// The envelope's sender; else that of Return-Path or From
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<Address>,
}

/// A client's name in DNS, or that it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReverseName(pub Option<Domain>);

fn reverse_name(text: &str) -> Result<ReverseName, String> {
    let name = (!text.is_empty()).then(|| Domain::parse(text).map_err(|error| error.to_string())).transpose();
    name.map(ReverseName)
}

/// Reads a message; `-` is standard input.
pub fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(MESSAGE_MAX).read_to_end(&mut content)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(MESSAGE_MAX).read_to_end(&mut content))
    };
    read.map_err(|error| Failure::CouldNot(format!("{}: {error}", file.display())))?;
    Ok(with_crlf(&content))
}

/// Saved messages usually have the line ends of the system; what arrives by SMTP has CRLF, and that is what is judged.
pub fn with_crlf(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + content.len() / 40);
    let mut before = 0;
    for &byte in content {
        if byte == b'\n' && before != b'\r' {
            wire.push(b'\r');
        }
        wire.push(byte);
        before = byte;
    }
    wire
}

/// An envelope as an unsuspicious client would have brought it, so that only the content is judged, apart from what was
/// asked for.
pub fn envelope(content: &[u8], door: Door, now: Timestamp) -> Envelope {
    let Door { client, rdns, helo, sender } = door;
    let parser = mail_parser::MessageParser::new().with_minimal_headers().header_address(mail_parser::HeaderName::ReturnPath);
    let head = &content[..content.len().min(Facts::CONTENT_MAX as usize)];
    let message = parser.parse_headers(head);
    let first = |address: Option<&mail_parser::Address<'_>>| {
        address.and_then(|address| address.first()?.address()).and_then(|text| Address::parse(text).ok())
    };
    let written = |name: mail_parser::HeaderName<'static>| {
        first(message.as_ref().and_then(|message| message.header(name)).and_then(|value| value.as_address()))
    };
    let sender =
        sender.or_else(|| written(mail_parser::HeaderName::ReturnPath)).or_else(|| written(mail_parser::HeaderName::From));
    let recipient = written(mail_parser::HeaderName::To);
    let recipient = recipient.unwrap_or_else(|| Address::parse("postmaster@customer.invalid").expect("a valid mailbox"));
    let name = sender.as_ref().and_then(|sender| sender.domain().cloned());
    let reverse_name = rdns.map_or_else(|| name.clone(), |ReverseName(rdns)| rdns);
    Envelope {
        id: IdSource::new(None).next(now).message(1),
        received_at: now,
        client: Client {
            findings: (reverse_name.is_none().then(|| Finding::new("no-reverse-name", ""))).into_iter().collect(),
            address: client,
            helo: helo.unwrap_or_else(|| name.as_ref().map(ToString::to_string).unwrap_or_else(|| "localhost".to_owned())),
            reverse_confirmed: reverse_name.is_some(),
            reverse_name,
            protocol: Protocol::Esmtps,
            tls: Some("TLSv1.3".to_owned()),
        },
        reverse_path: sender.map_or(ReversePath::Null, ReversePath::Address),
        parameters: MailParameters::default(),
        recipients: vec![Recipient::new(recipient)],
        size: content.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    #[test]
    fn saved_messages_are_judged_as_they_would_arrive() {
        assert_eq!(with_crlf(b"A: 1\n\nx\r\n\r\ny"), b"A: 1\r\n\r\nx\r\n\r\ny");
    }

    #[test]
    fn the_envelope_is_taken_from_the_message_unless_given() {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let content = b"From: Joe <joe@sender.example>\r\nTo: sales@customer.example\r\n\r\nhello\r\n";
        let envelope_of = |content: &[u8], sender: Option<&str>| {
            let sender = sender.map(|sender| sender.parse().unwrap());
            envelope(content, Door { client: local, rdns: None, helo: None, sender }, NOW)
        };
        let read = envelope_of(content, None);
        assert_eq!(read.reverse_path.to_string(), "joe@sender.example");
        assert_eq!(read.recipients[0].address.to_string(), "sales@customer.example");
        assert_eq!((read.client.helo.as_str(), read.size), ("sender.example", content.len() as u64));
        assert_eq!(envelope_of(content, Some("a@b.example")).reverse_path.to_string(), "a@b.example");
        let returned = [b"Return-Path: <bounce@list.example>\r\n".as_slice(), content].concat();
        assert_eq!(envelope_of(&returned, None).reverse_path.to_string(), "bounce@list.example");
        assert!(envelope_of(b"", None).reverse_path.is_null());
    }
}
