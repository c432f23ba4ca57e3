//! What the tests of this room share: small messages, and settling them.

use crate::mail::{
    Address, Client, Envelope, MailParameters, Origin, Progress, Protocol, QueueId, Recipient, ReversePath, SessionId, Status,
    Timestamp,
};

use super::Entry;

/// The id of test message `number`.
pub fn id(number: u32) -> QueueId {
    SessionId::from_u64(1 << 40 | u64::from(number)).unwrap().message(1)
}

/// Test message `number`, for so many recipients.
pub fn entry(number: u32, recipients: usize) -> Entry {
    let now = Timestamp(1_795_214_160_000);
    let address = |place| Address::parse(&format!("r{place}@customer.example")).unwrap();
    let envelope = Envelope {
        id: id(number),
        received_at: now,
        client: Client {
            address: "192.0.2.1".parse().unwrap(),
            reverse_name: None,
            reverse_confirmed: false,
            helo: "mail.sender.example".into(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: ReversePath::Null,
        parameters: MailParameters::default(),
        recipients: (0..recipients).map(|place| Recipient::new(address(place))).collect(),
        size: 0,
    };
    Entry { envelope, progress: Progress::accepted(Origin::Client, recipients, now) }
}

/// Every recipient final.
pub fn settle(progress: &mut Progress) {
    for recipient in &mut progress.recipients {
        recipient.status = Status::Delivered { at: Timestamp(1), host: "mx.customer.example".into() };
    }
}
