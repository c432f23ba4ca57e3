//! The header fields that the gateway puts in front of a message, and those of others that it takes out.
//!
//! Everything that comes from a peer (EHLO name, reverse name, evidence) is reduced to harmless letters here: a header of ours
//! can neither be broken nor extended by what somebody called itself.

use std::fmt::Write;

use mail_auth::{AuthenticationResults, IprevOutput, IprevResult};

use super::{Client, Decision, Domain, Envelope, Judgement, Protocol, Rewrite, SpamLevel, Verdict};

/// Plans the outgoing form of a message for recipients with this decision. `head`: its beginning, at least the whole header
/// section. `for_recipient`: named in `Received` when it is the only one (naming several would tell each about the others).
pub fn mark(head: &[u8], envelope: &Envelope, judgement: Option<&Judgement>, decision: &Decision, hostname: &Domain) -> Rewrite {
    let mut ours = received(envelope, hostname);
    if envelope.client.protocol != Protocol::Local {
        let found = judgement.map_or("", |judgement| &judgement.authentication.results);
        ours.push_str(&authentication_results(&envelope.client, found, hostname));
    }
    let marked = matches!(decision, Decision::DeliverMarked | Decision::DeliverTagged { .. });
    if let Some(judgement) = judgement.filter(|_| marked) {
        ours.push_str(&judgement_fields(judgement));
    }
    let tag = match decision {
        Decision::DeliverTagged { text } => Some(text.as_str()),
        _ => None,
    };
    Rewrite::plan(head, envelope.size, ours, |name, value| is_forged(name, value, hostname), tag)
}

/// Fields that only we, or the customer's own Exchange, may set: trusted further inside, so never passed on from outside.
pub fn is_forged(name: &str, value: &[u8], hostname: &Domain) -> bool {
    const PREFIXES: [&str; 4] = ["x-feedgate-", "x-spam-", "x-ms-exchange-organization-", "x-ms-exchange-forest-"];
    let name = name.to_ascii_lowercase();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || (name == "authentication-results" && speaks_as(value, hostname))
}

/// RFC 8601 §5: an Authentication-Results field that claims to be ours is removed. Its first word is the authserv-id; comments
/// may stand before it, so any field that holds our name before the first semicolon goes.
fn speaks_as(value: &[u8], hostname: &Domain) -> bool {
    let id = value.split(|byte| *byte == b';').next().unwrap_or_default().to_ascii_lowercase();
    memchr::memmem::find(&id, hostname.as_str().as_bytes()).is_some()
}

/// RFC 5321 §4.4, in the form that Exchange reads the client's address from: `from EHLO (PTR [IP]) by …`.
fn received(envelope: &Envelope, hostname: &Domain) -> String {
    let client = &envelope.client;
    let mut field = String::from("Received: ");
    if client.protocol != Protocol::Local {
        let helo = if client.helo.is_empty() { "unknown".into() } else { harmless(&client.helo) };
        let name = client.reverse_name.as_ref().filter(|_| client.reverse_confirmed).map_or("unknown", Domain::as_str);
        let _ = write!(field, "from {helo} ({name} [{}])\r\n\t", client.address);
    }
    let _ = write!(field, "by {hostname} (Feedgate) with {} id {}", protocol(envelope), envelope.id);
    if let Some(tls) = &client.tls {
        let _ = write!(field, "\r\n\t(using {})", harmless(tls));
    }
    if let [recipient] = envelope.recipients.as_slice() {
        let _ = write!(field, "\r\n\tfor <{}>", recipient.address);
    }
    let _ = write!(field, "; {}\r\n", envelope.received_at.rfc5322());
    field
}

/// The words of RFC 3848 and RFC 6531 §4.3.
fn protocol(envelope: &Envelope) -> &'static str {
    match (envelope.client.protocol, envelope.parameters.smtputf8) {
        (Protocol::Esmtp, true) => "UTF8SMTP",
        (Protocol::Esmtps, true) => "UTF8SMTPS",
        (protocol, _) => protocol.as_str(),
    }
}

/// RFC 8601. Only what this gateway has checked itself: the client's reverse name (iprev, §2.7.3), and what was found out about
/// sender and content (`found`, folded and harmless).
fn authentication_results(client: &Client, found: &str, hostname: &Domain) -> String {
    let result = match (client.reverse_confirmed, &client.reverse_name) {
        (true, _) => IprevResult::Pass,
        (false, Some(_)) => IprevResult::Fail(mail_auth::Error::NotAligned),
        (false, None) => IprevResult::None,
    };
    let iprev = IprevOutput { result, ptr: None };
    let results = AuthenticationResults::new(hostname.as_str()).with_iprev_result(&iprev, client.address);
    format!("Authentication-Results: {results}{found}\r\n")
}

/// What filters everywhere write, and our own two.
fn judgement_fields(judgement: &Judgement) -> String {
    let spam = judgement.level > SpamLevel::None;
    let (flag, word) = if spam { ("YES", "Yes") } else { ("NO", "No") };
    let stars = "*".repeat(judgement.score.clamp(0.0, 50.0) as usize);
    let hits = || judgement.hits.iter().filter(|hit| !hit.is_shadow());
    let tests: Vec<_> = hits().map(|hit| hit.rule.as_str()).collect();
    let points: Vec<_> = hits().map(|hit| format!("{}={:.1}", hit.rule, hit.points)).collect();
    let mut fields = format!("X-Spam-Flag: {flag}\r\n");
    let _ = write!(fields, "X-Spam-Status: {word}, score={:.1}{}\r\n", judgement.score, folded(" tests=", ",", &tests));
    if !stars.is_empty() {
        let _ = write!(fields, "X-Spam-Level: {stars}\r\n");
    }
    let _ = write!(fields, "X-Feedgate-Level: {}\r\n", judgement.level);
    let _ = write!(fields, "X-Feedgate-Score: {:.1}{}\r\n", judgement.score, folded("; ", ", ", &points));
    if let Verdict::Unscannable(why) = &judgement.verdict {
        let _ = write!(fields, "X-Feedgate-Unscannable: {}\r\n", harmless(why));
    }
    fields
}

/// A list on lines of at most about 75 letters, folded between its items (RFC 5322 §2.2.3). Empty for no items.
fn folded(before: &str, between: &str, items: &[impl AsRef<str>]) -> String {
    let mut text = String::new();
    let mut column = 30;
    for (place, item) in items.iter().map(AsRef::as_ref).enumerate() {
        text.push_str(if place == 0 { before } else { between.trim_end() });
        column += item.len() + 2;
        if column > 75 {
            text.push_str("\r\n\t");
            column = item.len() + 8;
        } else if place > 0 && between.ends_with(' ') {
            text.push(' ');
        }
        text.push_str(item);
    }
    text
}

/// Letters that mean nothing in a header; everything else becomes `?`.
fn harmless(text: &str) -> String {
    let keep = |letter: char| if letter.is_ascii_alphanumeric() || "-._:[]=/ ".contains(letter) { letter } else { '?' };
    text.chars().take(255).map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            id: IdSource::new(None).next(Timestamp(1_795_214_160_000)).message(1),
            received_at: Timestamp(1_795_214_160_000),
            client: Client {
                address: "192.0.2.7".parse().unwrap(),
                reverse_name: Some(Domain::parse("out.sender.example").unwrap()),
                reverse_confirmed: true,
                helo: "out.sender.example".into(),
                protocol: Protocol::Esmtps,
                tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384".into()),
                findings: Vec::new(),
            },
            reverse_path: "joe@sender.example".parse().unwrap(),
            parameters: MailParameters::default(),
            recipients: vec![Recipient::new("jane@customer.example".parse().unwrap())],
            size: 12,
        }
    }

    fn ours(envelope: &Envelope, decision: &Decision) -> String {
        let hits = (0..12)
            .map(|number| RuleHit { rule: format!("SOME_RULE_{number}"), points: 1.25, evidence: String::new() })
            .collect();
        let judgement = Judgement {
            at: Timestamp(0),
            verdict: Verdict::Clean,
            score: 7.4,
            level: SpamLevel::Med,
            hits,
            authentication: Default::default(),
            domains: Vec::new(),
        };
        let hostname = Domain::parse("mx1.isp.example").unwrap();
        let rewrite = mark(b"A: 1\r\n\r\ntext", envelope, Some(&judgement), decision, &hostname);
        let Some(Segment::Insert(bytes)) = rewrite.segments.first() else { panic!("our fields come first") };
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn received_names_the_client_as_exchange_reads_it() {
        let envelope = envelope();
        let text = ours(&envelope, &Decision::Deliver);
        let expected = format!(
            "Received: from out.sender.example (out.sender.example [192.0.2.7])\r\n\tby mx1.isp.example (Feedgate) with ESMTPS id {}\r\n\t\
             (using TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n\tfor <jane@customer.example>; Fri, 20 Nov 2026 22:36:00 +0000\r\n",
            envelope.id
        );
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains("Authentication-Results: mx1.isp.example;\r\n\tiprev=pass policy.iprev=192.0.2.7\r\n"), "{text}");
        assert!(!text.contains("X-Spam"), "{text}");
    }

    #[test]
    fn what_was_found_out_follows_the_reverse_name() {
        let found = ";\r\n\tspf=pass smtp.mailfrom=joe@sender.example;\r\n\tdkim=none";
        let judgement = Judgement {
            at: Timestamp(0),
            verdict: Verdict::Clean,
            score: 0.0,
            level: SpamLevel::None,
            hits: Vec::new(),
            authentication: Authentication { results: found.to_owned(), ..Authentication::default() },
            domains: Vec::new(),
        };
        let hostname = Domain::parse("mx1.isp.example").unwrap();
        let rewrite = mark(b"A: 1\r\n\r\n", &envelope(), Some(&judgement), &Decision::Deliver, &hostname);
        let Some(Segment::Insert(bytes)) = rewrite.segments.first() else { panic!("our fields come first") };
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let expected = format!("Authentication-Results: mx1.isp.example;\r\n\tiprev=pass policy.iprev=192.0.2.7{found}\r\n");
        assert!(text.ends_with(&expected), "{text}");
        assert_eq!(HeaderSection::parse(text.as_bytes()).fields.len(), 2, "{text}");
    }

    #[test]
    fn a_clients_name_cannot_break_the_header() {
        let mut envelope = envelope();
        envelope.client.helo = "evil)\r\nX-Spam-Flag: NO\r\n(".into();
        envelope.client.reverse_confirmed = false;
        let text = ours(&envelope, &Decision::Deliver);
        assert!(text.starts_with("Received: from evil???X-Spam-Flag: NO??? (unknown [192.0.2.7])\r\n\tby"), "{text}");
        assert!(text.contains("iprev=fail"), "{text}");
    }

    #[test]
    fn the_judgement_is_written_folded() {
        let text = ours(&envelope(), &Decision::DeliverMarked);
        assert!(text.contains("X-Spam-Flag: YES\r\nX-Spam-Status: Yes, score=7.4 tests=SOME_RULE_0,"), "{text}");
        assert!(
            text.contains("X-Spam-Level: *******\r\nX-Feedgate-Level: med\r\nX-Feedgate-Score: 7.4; SOME_RULE_0=1.2, "),
            "{text}"
        );
        assert!(text.lines().all(|line| line.len() < 100), "{text}");
        assert_eq!(HeaderSection::parse(text.as_bytes()).fields.len(), 7, "{text}");
    }

    #[test]
    fn forged_fields_are_known() {
        let hostname = Domain::parse("mx1.isp.example").unwrap();
        for name in ["X-Spam-Flag", "x-feedgate-level", "X-MS-Exchange-Organization-SCL", "X-MS-Exchange-Forest-x"] {
            assert!(is_forged(name, b" 1\r\n", &hostname), "{name}");
        }
        assert!(is_forged("Authentication-Results", b" (hi) MX1.isp.example; spf=pass\r\n", &hostname));
        assert!(!is_forged("Authentication-Results", b" mx.other.example; spf=pass\r\n", &hostname));
        assert!(!is_forged("X-Mailer", b" x\r\n", &hostname));
    }
}
