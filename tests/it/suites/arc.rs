//! The ARC suite: ValiMail's `arc_test_suite`, the validation part.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use feedgate::checks::Authenticator;
use feedgate::mail::{Client, Domain, Envelope, MailParameters, Protocol, Recipient, ReversePath, SessionId, Timestamp};
use feedgate::outside::Body;
use feedgate::sim;
use serde::Deserialize;

use super::{compare, scenarios};

#[derive(Deserialize)]
struct Scenario {
    description: String,
    tests: BTreeMap<String, Case>,
    #[serde(rename = "txt-records")]
    texts: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Case {
    message: String,
    cv: Option<String>,
}

/// Test, what we say, and why.
const KNOWN: &[(&str, &str, &str)] = &[];

#[tokio::test]
async fn the_arc_validation_suite() {
    let mut differing = BTreeMap::new();
    let mut total = 0;
    for scenario in scenarios::<Scenario>("arc/arc-draft-validation-tests.yml") {
        let dns = sim::Dns::new();
        for (name, text) in &scenario.texts {
            let Ok(name) = Domain::parse(name) else { continue };
            dns.change(|zone| zone.texts.entry(name).or_default().push(text.as_bytes().to_vec()));
        }
        let authenticator = Authenticator::new(Arc::new(dns), Arc::new(sim::Clock::new()));
        for (name, case) in &scenario.tests {
            total += 1;
            let expected = case.cv.as_deref().unwrap_or("None").to_lowercase();
            let got = chain(&authenticator, &case.message).await;
            if expected != got {
                differing.insert(format!("{}: {name}", scenario.description), (expected, got));
            }
        }
    }
    println!("{total} tests, {} differ", differing.len());
    compare(total, &differing, KNOWN);
    assert!(total > 150, "{total}");
}

/// As the results of a message show it. Whatever is neither valid nor absent has failed.
async fn chain(authenticator: &Authenticator, message: &str) -> String {
    let message = message.replace('\n', "\r\n");
    let envelope = envelope(message.len());
    let body = Body::Memory(Bytes::from(message));
    let found = authenticator.message(&envelope, &body, &[]).await;
    match found.results.split("\tarc=").nth(1) {
        None => "none".to_owned(),
        Some(result) if result.starts_with("pass ") => "pass".to_owned(),
        Some(_) => "fail".to_owned(),
    }
}

fn envelope(size: usize) -> Envelope {
    Envelope {
        id: SessionId::from_u64(1).unwrap().message(1),
        received_at: Timestamp(1_795_214_160_000),
        client: Client {
            address: "192.0.2.1".parse().unwrap(),
            reverse_name: None,
            reverse_confirmed: false,
            helo: "out.sender.example".to_owned(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: ReversePath::Null,
        parameters: MailParameters::default(),
        recipients: vec![Recipient::new("jane@customer.example".parse().unwrap())],
        size: size as u64,
    }
}
