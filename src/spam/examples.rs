//! The `hit` and `miss` examples of a rule: messages as short as they can be, written into the rule file.

use serde::Deserialize;

use crate::mail::{Address, Client, Envelope, Finding, MailParameters, Protocol, Recipient, ReversePath, SessionId, Timestamp};

/// Examples arrive on Friday, 20 November 2026, 22:36 UTC.
const ARRIVAL: Timestamp = Timestamp(1_795_214_160_000);

/// A message written into a rule file. A text that does not begin with a header field is a body.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Example {
    Message(String),
    Door(DoorExample),
}

/// A message with what the door saw; what is left out does not matter to the rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DoorExample {
    message: String,
    /// The client's address.
    client: Option<String>,
    /// Its reverse name; empty: it has none.
    name: Option<String>,
    helo: Option<String>,
    /// The envelope's sender; empty: null.
    sender: Option<String>,
    recipient: Option<String>,
    /// What the checks found out, by id.
    findings: Vec<String>,
}

impl Example {
    /// As it would have come in, with CRLF line ends, or what is wrong with how it is written.
    pub fn message(&self) -> Result<(Envelope, String), String> {
        match self {
            Example::Message(message) => DoorExample::default().message(message),
            Example::Door(door) => door.message(&door.message),
        }
    }
}

impl DoorExample {
    fn message(&self, message: &str) -> Result<(Envelope, String), String> {
        let message = message.replace("\r\n", "\n").replace('\n', "\r\n");
        let recipient: Address = read(&self.recipient, "recipient@customer.example")?;
        let name = match self.name.as_deref() {
            Some("") => None,
            _ => Some(read(&self.name, "mail.example.com")?),
        };
        let client = Client {
            address: read(&self.client, "192.0.2.1")?,
            reverse_confirmed: name.is_some(),
            reverse_name: name,
            helo: read(&self.helo, "mail.example.com")?,
            protocol: Protocol::Esmtp,
            tls: None,
            findings: self.findings.iter().map(|id| Finding::new(id, "")).collect(),
        };
        let envelope = Envelope {
            id: SessionId::from_u64(0).expect("zero has less than 60 bits").message(1),
            received_at: ARRIVAL,
            client,
            reverse_path: read::<ReversePath>(&self.sender, "sender@example.com")?,
            parameters: MailParameters::default(),
            recipients: vec![Recipient::new(recipient)],
            size: message.len() as u64,
        };
        Ok((envelope, message))
    }
}

fn read<T: std::str::FromStr>(written: &Option<String>, default: &str) -> Result<T, String> {
    let text = written.as_deref().unwrap_or(default);
    text.parse().map_err(|_| format!("`{text}` cannot be read"))
}
