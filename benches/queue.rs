//! The queue's speed and size, against what is wanted of it.
//!
//! `cargo bench --bench queue`; `-- --messages 100000` fills it with fewer; `-- --only commit` or `--only size` runs one half.

#[path = "queue/commit.rs"]
mod commit;
#[path = "queue/counting.rs"]
mod counting;
#[path = "queue/size.rs"]
mod size;

use feedgate::mail::{Client, Envelope, MailParameters, Protocol, Recipient, ReversePath, SessionId, Timestamp};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|word| word == name).and_then(|at| arguments.get(at + 1));
    let messages = value("--messages").map_or(1_000_000, |number| number.parse().expect("--messages wants a number"));
    if let Some(directory) = value("--fill") {
        return size::fill(directory.as_ref(), messages);
    }
    if let Some(directory) = value("--restart") {
        return size::restart(directory.as_ref());
    }
    let only = value("--only").map(String::as_str);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    println!("in {}", directory.path().display());
    if only != Some("size") {
        commit::measure(&directory.path().join("commit"));
    }
    if only != Some("commit") {
        size::measure(&directory.path().join("size"), messages);
    }
}

/// A message of this number to one recipient.
fn envelope(number: u64, domain: &str, size: usize) -> Envelope {
    Envelope {
        id: SessionId::from_u64(number).expect("less than 60 bits").message(1),
        received_at: Timestamp(1_795_214_160_000),
        client: Client {
            address: [192, 0, 2, 1].into(),
            reverse_name: Some("mail.sender.example".parse().expect("a domain")),
            reverse_confirmed: true,
            helo: "mail.sender.example".to_owned(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: ReversePath::Null,
        parameters: MailParameters::default(),
        recipients: vec![Recipient::new(format!("jane@{domain}").parse().expect("an address"))],
        size: size as u64,
    }
}
