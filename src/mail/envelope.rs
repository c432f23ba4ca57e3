//! The envelope: who sent it from where, for whom, with which promises (RFC 5321 §2.3.1, DSN: RFC 3461).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Address, Domain, Finding, QueueId, ReversePath, Timestamp};

/// Everything about a message except its content. Written once, in the `Accepted` record; what changes later is `Progress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub id: QueueId,
    pub received_at: Timestamp,
    pub client: Client,
    pub reverse_path: ReversePath,
    pub parameters: MailParameters,
    /// At least one; at most `limits.recipients_per_message`.
    pub recipients: Vec<Recipient>,
    /// Of the content as it came, in bytes.
    pub size: u64,
}

/// The host that handed us the message, as the session saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    pub address: IpAddr,
    /// Its name in DNS, when it has one.
    pub reverse_name: Option<Domain>,
    /// The reverse name leads back to the address (forward-confirmed).
    pub reverse_confirmed: bool,
    /// What it called itself in EHLO or HELO; printable ASCII, at most 255 bytes. Empty before that.
    pub helo: String,
    pub protocol: Protocol,
    /// TLS version and cipher suite, when the session was encrypted.
    pub tls: Option<String>,
    /// What the checks found out about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl Client {
    /// One that has said nothing yet.
    pub fn new(address: IpAddr) -> Client {
        Client {
            address,
            reverse_name: None,
            reverse_confirmed: false,
            helo: String::new(),
            protocol: Protocol::Smtp,
            tls: None,
            findings: Vec::new(),
        }
    }
}

/// The transmission type of RFC 3848 and RFC 6531, as `Received` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Smtp,
    Esmtp,
    Esmtps,
    /// Made here: a bounce.
    Local,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Smtp => "SMTP",
            Protocol::Esmtp => "ESMTP",
            Protocol::Esmtps => "ESMTPS",
            Protocol::Local => "LOCAL",
        }
    }
}

/// One recipient with its DSN wishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub address: Address,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// ORCPT as it came: `type;xtext` (RFC 3461 §4.2), printable ASCII, at most 500 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
}

impl Recipient {
    pub fn new(address: Address) -> Recipient {
        Recipient { address, notify: None, orcpt: None }
    }
}

/// The parameters of MAIL.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MailParameters {
    #[serde(default)]
    pub body: BodyKind,
    #[serde(default)]
    pub smtputf8: bool,
    /// SIZE as declared; not to be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<Ret>,
    /// ENVID as it came: xtext, at most 100 bytes (RFC 3461 §4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
}

/// BODY of RFC 6152.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BodyKind {
    #[default]
    SevenBit,
    EightBitMime,
}

/// RET of RFC 3461: how much of the message a failure notice returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ret {
    Full,
    Headers,
}

/// NOTIFY of RFC 3461.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notify {
    Never,
    On { success: bool, failure: bool, delay: bool },
}
