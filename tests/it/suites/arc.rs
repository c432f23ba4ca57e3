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
const KNOWN: &[(&str, &str, &str)] = &[
    ("Arc Message Signature Fields: ams_fields_a_na", "pass", GENEROUS),
    ("Arc Seal Fields: as_fields_a_na", "pass", GENEROUS),
    ("Arc Seal Format: as_format_inv_tag_key", "pass", GENEROUS),
    ("Arc Seal Format: as_format_tags_dup", "pass", GENEROUS),
    ("Arc Seal Format: as_format_tags_key_case", "pass", GENEROUS),
    ("Arc Seal Format: as_format_tags_sc", "pass", GENEROUS),
    (
        "Arc Message Signature Fields: ams_fields_c_na",
        "fail",
        "the suite takes \"relaxed\" for a signature without c=; RFC 6376 §3.5, which RFC 8617 §4.1.2 follows, says \"simple\"",
    ),
    (
        "Arc Message Signature Fields: ams_fields_h_empty",
        "fail",
        "a signature that covers no header field proves nothing; RFC 6376 §3.5 wants h= to have one at least",
    ),
    ("Chain Validation: cv_fail_i1_as_cv_fail", "fail", SAYS_SO),
    ("Chain Validation: cv_fail_i2_as1_fail", "fail", SAYS_SO),
    ("Chain Validation: cv_fail_i2_as2_fail", "fail", SAYS_SO),
];
/// It could only be made by the sealer, who has the key: somebody we trust or somebody whose chains mean nothing here.
const GENEROUS: &str = "mail-auth takes a default or skips what it does not know where the syntax of a tag list is broken";
const SAYS_SO: &str = "the suite has no result for a chain that says itself that it has failed; for us it has (RFC 8617 §5.2)";

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
