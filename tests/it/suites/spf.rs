//! The SPF suite: `openspf.org`, release 2014.04.

use std::collections::BTreeMap;
use std::sync::Arc;

use feedgate::checks::Authenticator;
use feedgate::mail::{Domain, ReversePath};
use feedgate::outside::MailExchanger;
use feedgate::sim;
use serde::Deserialize;
use serde_norway::Value;

use super::{compare, scenarios};

#[derive(Deserialize)]
struct Scenario {
    description: String,
    tests: BTreeMap<String, Case>,
    zonedata: BTreeMap<String, Vec<Value>>,
}

#[derive(Deserialize)]
struct Case {
    helo: String,
    host: String,
    mailfrom: String,
    result: Value,
    #[serde(default)]
    explanation: Option<String>,
}

/// Test, what we say, and why.
const KNOWN: &[(&str, &str, &str)] = &[
    ("A mechanism syntax: a-colon-domain", "permerror", SLASH),
    ("A mechanism syntax: a-colon-domain-ip4mapped", "permerror", SLASH),
    ("MX mechanism syntax: mx-colon-domain", "permerror", SLASH),
    ("MX mechanism syntax: mx-colon-domain-ip4mapped", "permerror", SLASH),
    (
        "Macro expansion rules: macro-mania-in-domain",
        "fail",
        "the resolver seam asks for host names (letters, digits, hyphens, underscores): a name with blanks and percent signs has no address",
    ),
    (
        "Macro expansion rules: upper-macro",
        "fail http://example.com/why.html?l=~jack%26jill%3dup-a_b3.c",
        "mail-auth writes percent-encoding with small letters, which RFC 3986 §2.1 calls equivalent",
    ),
    (
        "Macro expansion rules: v-macro-ip6",
        "fail cafe:babe::1 is queried as 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.e.b.a.b.e.f.a.c.ip6.arpa",
        "mail-auth writes the nibbles with small letters; DNS names have no case",
    ),
    (
        "Initial processing: nolocalpart",
        "none",
        "\"@example.net\" is no mailbox: such a sender is refused at MAIL and never checked (RFC 5321 §4.1.2)",
    ),
];
const SLASH: &str =
    "mail-auth ends a domain at its first slash, where the length of a network could follow; no host name has one";

#[tokio::test]
async fn the_rfc_7208_suite() {
    let mut differing = BTreeMap::new();
    let mut total = 0;
    for scenario in scenarios::<Scenario>("spf/rfc7208-tests.yml") {
        let dns = Arc::new(zone(&scenario.zonedata));
        let authenticator = Authenticator::new(dns, Arc::new(sim::Clock::new()));
        for (name, case) in &scenario.tests {
            total += 1;
            let (expected, got) = outcome(&authenticator, case).await;
            if !expected.contains(&got) {
                differing.insert(format!("{}: {name}", scenario.description), (expected.join(" or "), got));
            }
        }
    }
    println!("{total} tests, {} differ", differing.len());
    compare(total, &differing, KNOWN);
    assert!(total > 200, "{total}");
}

/// What may come out, and what does.
async fn outcome(authenticator: &Authenticator, case: &Case) -> (Vec<String>, String) {
    let expected: Vec<String> = match &case.result {
        Value::Sequence(results) => results.iter().map(|result| result.as_str().unwrap().to_owned()).collect(),
        result => vec![result.as_str().unwrap().to_owned()],
    };
    let path = match case.mailfrom.as_str() {
        "" => ReversePath::Null,
        sender => {
            let (local, domain) = sender.rsplit_once('@').unwrap();
            // What the suite writes without quotes comes with them in SMTP; what is no mailbox at all never gets so far.
            let quoted = format!("\"{local}\"@{domain}");
            match sender.parse().or_else(|_| if local.is_empty() { "".parse() } else { quoted.parse() }) {
                Ok(ReversePath::Null) | Err(_) => return (expected, "none".to_owned()),
                Ok(path) => path,
            }
        }
    };
    let spf = authenticator.spf(case.host.parse().unwrap(), &case.helo, &path).await;
    let word = spf.result.as_str().to_owned();
    match &case.explanation {
        // The suite's word for the checker's own text: we have none.
        Some(wanted) if wanted != "DEFAULT" => (
            expected.iter().map(|result| format!("{result} {wanted}")).collect(),
            format!("{word} {}", spf.explanation.unwrap_or_default()),
        ),
        _ => (expected, word),
    }
}

fn zone(data: &BTreeMap<String, Vec<Value>>) -> sim::Dns {
    let dns = sim::Dns::new();
    for (name, records) in data {
        add(&dns, name, records);
        // The resolver follows aliases: their records are those of what they stand for.
        let alias = records.iter().find_map(|record| record.get("CNAME")?.as_str());
        if let Some(target) = alias.map(|target| target.trim_end_matches('.').to_lowercase()) {
            let found = data.iter().find(|(known, _)| known.to_lowercase() == target);
            found.iter().for_each(|(_, records)| add(&dns, name, records));
        }
    }
    dns
}

/// `SPF` records are copied to TXT where there is no TXT, as the suite's head says.
fn add(dns: &sim::Dns, name: &str, records: &[Value]) {
    let has_text = records.iter().any(|record| record.get("TXT").is_some());
    for record in records {
        let Value::Mapping(record) = record else {
            silent(dns, name, records);
            continue;
        };
        for (kind, value) in record {
            match kind.as_str().unwrap() {
                "SPF" if !has_text => text(dns, name, value),
                "TXT" if value.as_str() != Some("NONE") => text(dns, name, value),
                "A" | "AAAA" => address(dns, name, value.as_str().unwrap()),
                "MX" => exchanger(dns, name, value),
                "PTR" => pointer(dns, name, value.as_str().unwrap()),
                _ => {}
            }
        }
    }
}

/// `TIMEOUT`: for every kind of record that is not there.
fn silent(dns: &sim::Dns, name: &str, records: &[Value]) {
    let has = |kind: &str| records.iter().any(|record| record.get(kind).is_some());
    let is_text = has("TXT") && !records.iter().any(|record| record.get("TXT").and_then(Value::as_str) == Some("NONE"))
        || (has("SPF") && !has("TXT"));
    dns.change(|zone| {
        for (kind, there) in [("txt", is_text), ("a", has("A") || has("AAAA")), ("mx", has("MX"))] {
            if !there {
                zone.fail.insert(format!("{kind} {}", name.to_lowercase()));
            }
        }
    });
}

fn text(dns: &sim::Dns, name: &str, value: &Value) {
    let joined: String = match value {
        Value::Sequence(pieces) => pieces.iter().map(|piece| piece.as_str().unwrap()).collect(),
        piece => piece.as_str().unwrap().to_owned(),
    };
    // YAML's "\x96" is a character; in DNS it is a byte.
    let bytes = joined.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect();
    if let Ok(name) = Domain::parse(name) {
        dns.change(|zone| zone.texts.entry(name).or_default().push(bytes));
    }
}

fn address(dns: &sim::Dns, name: &str, value: &str) {
    if let Ok(name) = Domain::parse(name) {
        dns.change(|zone| zone.addresses.entry(name).or_default().push(value.parse().unwrap()));
    }
}

fn exchanger(dns: &sim::Dns, name: &str, value: &Value) {
    let host = value[1].as_str().unwrap();
    let record = MailExchanger { preference: value[0].as_u64().unwrap() as u16, host: Domain::parse(host).ok() };
    if let Ok(name) = Domain::parse(name) {
        dns.change(|zone| zone.mail_exchangers.entry(name).or_default().push(record));
    }
}

/// `4.3.2.1.in-addr.arpa` and the nibbles of `ip6.arpa`.
fn pointer(dns: &sim::Dns, name: &str, value: &str) {
    let labels: Vec<&str> = name.split('.').collect();
    let reversed: Vec<&str> = labels[..labels.len() - 2].iter().rev().copied().collect();
    let address = if name.ends_with("in-addr.arpa") {
        reversed.join(".")
    } else {
        reversed.chunks(4).map(<[&str]>::concat).collect::<Vec<_>>().join(":")
    };
    if let Ok(host) = Domain::parse(value) {
        dns.change(|zone| zone.names.entry(address.parse().unwrap()).or_default().push(host));
    }
}
