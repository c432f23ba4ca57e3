use mail_parser::{Message, MessageParser, MimeHeaders};

use super::report::FOLD;
use super::*;
use crate::mail::SessionId;
use crate::queue::steer::samples::message;

const NOW: Timestamp = Timestamp(1_795_214_160_000);

fn refused(reply: &str, host: Option<&str>) -> Fate {
    Fate {
        recipient: 0,
        what: What::Refused,
        host: host.map(ToOwned::to_owned),
        reply: reply.to_owned(),
        status: Enhanced(5, 1, 1),
        last_attempt: Some(NOW),
    }
}

/// A notice about the first recipients, one fate each.
fn compose(envelope: &Envelope, fates: &[Fate], head: &[u8]) -> String {
    compose_as(Kind::Failed, envelope, fates, head)
}

fn compose_as(kind: Kind, envelope: &Envelope, fates: &[Fate], head: &[u8]) -> String {
    let fates: Vec<_> = fates.iter().enumerate().map(|(recipient, fate)| Fate { recipient, ..fate.clone() }).collect();
    let notice = Notice {
        id: SessionId::from_u64(99).unwrap().message(1),
        hostname: &"mx1.isp.example".parse().unwrap(),
        now: NOW,
        kind,
        envelope,
        fates: &fates,
        head,
        language: Language::English,
    };
    String::from_utf8(notice.compose(envelope.reverse_path.address().unwrap())).unwrap()
}

/// The decoded text of each part, with its type.
fn parts(parsed: &Message<'_>) -> Vec<(String, String)> {
    let leaves = parsed.parts.iter().skip(1);
    leaves
        .map(|part| {
            let kind = part.content_type().expect("each part has a type");
            let kind = format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default());
            (kind, String::from_utf8(part.contents().to_vec()).unwrap())
        })
        .collect()
}

#[track_caller]
fn assert_sendable(notice: &str) {
    assert!(notice.is_ascii());
    let wrong = notice.split("\r\n").find(|line| line.len() > 998 || line.contains(['\r', '\n']));
    assert!(wrong.is_none(), "{wrong:?} in {notice}");
}

const HEAD: &[u8] = b"Subject: hello\r\nFrom: ann@sender.example\r\n\r\nsecret body\r\n";

#[test]
fn a_notice_is_a_report_of_three_parts() {
    let mut envelope = message("ann@sender.example", &["joe@customer.example", "sue@customer.example"]);
    envelope.recipients[0].orcpt = Some("rfc822;Joe+2BX@old.example".into());
    envelope.parameters.envid = Some("id+2B1".into());
    let failed = [
        refused("550 5.1.1 User unknown", Some("mail.customer.example [203.0.113.5]:25")),
        Fate { what: What::Expired, status: Enhanced(4, 4, 7), ..refused("connection refused", Some("203.0.113.5:25")) },
    ];
    let notice = compose(&envelope, &failed, HEAD);
    assert_sendable(&notice);
    let parsed = MessageParser::default().parse(notice.as_bytes()).unwrap();
    let kind = parsed.content_type().unwrap();
    assert_eq!(
        (kind.ctype(), kind.subtype(), kind.attribute("report-type")),
        ("multipart", Some("report"), Some("delivery-status"))
    );
    assert_eq!(parsed.from().unwrap().first().unwrap().address(), Some("MAILER-DAEMON@mx1.isp.example"));
    assert_eq!(parsed.to().unwrap().first().unwrap().address(), Some("ann@sender.example"));
    assert!(parsed.message_id().unwrap().ends_with(".1@mx1.isp.example"));
    assert_eq!(parsed.header_raw("Auto-Submitted").map(str::trim), Some("auto-replied"));
    assert_eq!(parsed.date().unwrap().to_timestamp(), 1_795_214_160);
    let parts = parts(&parsed);
    let kinds: Vec<_> = parts.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["text/plain", "message/delivery-status", "text/rfc822-headers"]);
    for expected in
        ["joe@customer.example", "550 5.1.1 User unknown", &envelope.id.to_string(), "mail.customer.example [203.0.113.5]:25"]
    {
        assert!(parts[0].1.contains(expected), "{expected} in {}", parts[0].1);
    }
    assert_eq!(
        parts[1].1.replace("\r\n", "\n").trim_end(),
        format!(
            "Reporting-MTA: dns; mx1.isp.example\n\
             Original-Envelope-Id: id+1\n\
             Arrival-Date: Thu, 1 Jan 1970 00:00:01 +0000\n\
             X-Feedgate-Queue-Id: {}\n\n\
             Original-Recipient: rfc822; Joe+X@old.example\n\
             Final-Recipient: rfc822; joe@customer.example\n\
             Action: failed\n\
             Status: 5.1.1\n\
             Remote-MTA: dns; mail.customer.example\n\
             Diagnostic-Code: smtp; 550 5.1.1 User unknown\n\
             Last-Attempt-Date: Fri, 20 Nov 2026 22:36:00 +0000\n\n\
             Final-Recipient: rfc822; sue@customer.example\n\
             Action: failed\n\
             Status: 4.4.7\n\
             Remote-MTA: dns; [203.0.113.5]\n\
             Diagnostic-Code: x-feedgate; connection refused\n\
             Last-Attempt-Date: Fri, 20 Nov 2026 22:36:00 +0000",
            envelope.id
        )
    );
    assert_eq!(parts[2].1.trim_end(), "Subject: hello\r\nFrom: ann@sender.example");
    assert!(!notice.contains("secret body"));
}

#[test]
fn nothing_a_peer_or_sender_wrote_becomes_a_field_or_a_part() {
    let mut envelope = message("ann@sender.example", &["\"a b\"@customer.example"]);
    envelope.recipients[0].orcpt = Some("rfc822;x+0D+0AAction:+20delivered".into());
    envelope.parameters.envid = Some("e+0AStatus:2.0.0".into());
    let reply = format!("550 5.1.1 no\r\nAction: delivered\r\n\r\n--x\r\n{}ü\u{0}", "word ".repeat(80));
    let notice = compose(&envelope, &[refused(&reply, Some("evil\r\nX: y [192.0.2.1]:25"))], HEAD);
    assert_sendable(&notice);
    let parsed = MessageParser::default().parse(notice.as_bytes()).unwrap();
    let parts = parts(&parsed);
    assert_eq!(parts.len(), 3);
    let fields: Vec<_> = parts[1].1.lines().filter(|line| !line.starts_with(' ') && !line.is_empty()).collect();
    let names: Vec<_> = fields.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "Reporting-MTA",
            "Arrival-Date",
            "X-Feedgate-Queue-Id",
            "Final-Recipient",
            "Action",
            "Status",
            "Remote-MTA",
            "Diagnostic-Code",
            "Last-Attempt-Date"
        ]
    );
    assert!(fields.contains(&"Action: failed") && fields.contains(&"Final-Recipient: rfc822; \"a b\"@customer.example"));
    assert!(parts[1].1.lines().all(|line| line.len() <= FOLD), "folded: {}", parts[1].1);
}

#[test]
fn headers_that_are_not_seven_bit_are_encoded_and_lead_back() {
    let envelope = message("ann@sender.example", &["joe@customer.example"]);
    let long = "x".repeat(2000);
    for (head, expected) in [
        ("Subject: Grüße\r\n\r\nbody".to_owned(), "Subject: Grüße\r\n".to_owned()),
        (format!("X: {long}\r\n\r\n"), format!("X: {long}\r\n")),
        ("A: 1\nB: 2\n\nbody".to_owned(), "A: 1\r\nB: 2\r\n".to_owned()),
        ("no header at all\r\n".to_owned(), String::new()),
        (String::new(), String::new()),
    ] {
        let notice = compose(&envelope, &[refused("550 no", None)], head.as_bytes());
        assert_sendable(&notice);
        let parsed = MessageParser::default().parse(notice.as_bytes()).unwrap();
        let found = parts(&parsed);
        assert_eq!((found[2].0.as_str(), found[2].1.trim_end()), ("text/rfc822-headers", expected.trim_end()), "{head}");
    }
    let huge = format!("X: {}\r\n", "y\r\n ".repeat(100_000));
    let notice = compose(&envelope, &[refused("550 no", None)], huge.as_bytes());
    assert_sendable(&notice);
    assert!(notice.len() < HEAD_MAX * 2);
}

#[test]
fn addresses_beyond_ascii_are_written_in_ascii() {
    let mut envelope = message("ann@sender.example", &["müller@customer.example"]);
    envelope.parameters.smtputf8 = true;
    let notice = compose(&envelope, &[refused("550 no", None)], "Subject: ü\r\n\r\n".as_bytes());
    assert_sendable(&notice);
    assert!(notice.contains("Final-Recipient: utf-8; m\\x{FC}ller@customer.example\r\n"));
    assert!(notice.contains("Content-Type: message/global-headers"));
}

#[test]
fn only_a_sender_beyond_ascii_makes_the_notice_so() {
    let envelope = message("ännä@sender.example", &["joe@customer.example"]);
    let notice = compose(&envelope, &[refused("550 no", None)], HEAD);
    assert!(notice.contains("ännä@sender.example"));
    let notice = Notice {
        id: envelope.id,
        hostname: &"mx1.isp.example".parse().unwrap(),
        now: Timestamp(5),
        kind: Kind::Failed,
        envelope: &envelope,
        fates: &[],
        head: b"",
        language: Language::English,
    };
    let sender = envelope.reverse_path.address().unwrap();
    let bounce = notice.envelope(sender, 10);
    assert!(bounce.parameters.smtputf8 && bounce.reverse_path.is_null());
    assert_eq!(bounce.recipients, [Recipient::new(sender.clone())]);
    assert_eq!(bounce.client.protocol, Protocol::Local);
}

#[test]
fn a_thousand_recipients_are_all_reported_and_some_described() {
    let to: Vec<_> = (0..1000).map(|number| format!("r{number}@customer.example")).collect();
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    let envelope = message("ann@sender.example", &to);
    let failed: Vec<_> = to.iter().map(|_| refused("550 5.1.1 User unknown", None)).collect();
    let notice = compose(&envelope, &failed, HEAD);
    assert_eq!(notice.matches("Final-Recipient:").count(), 1000);
    assert!(notice.contains("and 950 more"));
}

const GERMAN_HEAD: &str = "Subject: =?utf-8?Q?R=C3=BCckfrage_zur_Bestellung?=\r\nFrom: ann@sender.example\r\n\
                           Content-Type: text/plain; charset=utf-8\r\n\r\nSehr geehrte Damen und Herren, geheimer Text\r\n";

/// What mail programs show: the subject, the text and the fields, decoded.
fn read(notice: &str) -> (String, String, String) {
    assert_sendable(notice);
    let parsed = MessageParser::default().parse(notice.as_bytes()).unwrap();
    let found = parts(&parsed);
    let kinds: Vec<_> = found.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["text/plain", "message/delivery-status", "text/rfc822-headers"]);
    (parsed.subject().unwrap().to_owned(), found[0].1.clone(), found[1].1.replace("\r\n", "\n"))
}

#[test]
fn germans_are_told_in_german_and_programs_as_ever() {
    let envelope = message("ann@sender.example", &["joe@customer.example", "sue@customer.example"]);
    let fates = [
        refused("550 5.1.1 Empfänger unbekannt", Some("mail.customer.example [203.0.113.5]:25")),
        Fate { what: What::Expired, status: Enhanced(4, 4, 7), ..refused("connection refused", None) },
    ];
    let notice = compose(&envelope, &fates, GERMAN_HEAD.as_bytes());
    let (subject, text, fields) = read(&notice);
    assert_eq!(subject, "Ihre Nachricht konnte nicht zugestellt werden");
    for expected in [
        "Ihre Nachricht konnte leider nicht an diese Empfänger zugestellt werden.",
        "Der Mailserver des Empfängers, mail.customer.example [203.0.113.5]:25, hat geantwortet:\r\n    550 5.1.1 Empfänger unbekannt",
        "Das letzte Ergebnis:\r\n    connection refused",
        "Ihre Nachricht mit dem Betreff\r\n  Rückfrage zur Bestellung\r\nist am 01.01.1970 um 00:00 Uhr (UTC) hier eingetroffen",
        "bitte nennen Sie diese bei Rückfragen",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(notice.contains("\r\nContent-Language: de\r\n") && !notice.contains("geheim"), "{notice}");
    assert!(fields.contains("Action: failed\nStatus: 5.1.1\n"), "{fields}");
    assert!(fields.contains("Diagnostic-Code: smtp; 550 5.1.1 Empf?nger unbekannt\n"), "{fields}");
}

#[test]
fn a_delay_names_its_end_in_both_languages() {
    let envelope = message("ann@sender.example", &["joe@customer.example"]);
    let until = Timestamp(NOW.0 + 2 * 86_400_000);
    let late =
        Fate { what: What::Late { until }, status: Enhanced(4, 2, 2), last_attempt: None, ..refused("452 4.2.2 full", None) };
    let (subject, text, fields) = read(&compose_as(Kind::Delayed, &envelope, std::slice::from_ref(&late), HEAD));
    assert_eq!(subject, "Your message has not been delivered yet");
    assert!(
        text.contains("need not send it again") && text.contains("It is tried until Sun, 22 Nov 2026 22:36:00 +0000."),
        "{text}"
    );
    let expected = "Final-Recipient: rfc822; joe@customer.example\nAction: delayed\nStatus: 4.2.2\n\
                    Diagnostic-Code: smtp; 452 4.2.2 full\nWill-Retry-Until: Sun, 22 Nov 2026 22:36:00 +0000";
    assert!(fields.trim_end().ends_with(expected), "{fields}");
    let (subject, text, same) = read(&compose_as(Kind::Delayed, &envelope, &[late], GERMAN_HEAD.as_bytes()));
    assert_eq!(subject, "Die Zustellung Ihrer Nachricht verzögert sich");
    assert!(text.contains("Sie wird bis zum 22.11.2026 um 22:36 Uhr (UTC) versucht."), "{text}");
    assert_eq!(same, fields);
}

#[test]
fn a_forged_subject_becomes_one_harmless_line_of_the_text() {
    let envelope = message("ann@sender.example", &["joe@customer.example"]);
    let subject = "=?utf-8?Q?a=0D=0A=0D=0A--=0D=0AContent-Type:_x=E2=80=AE=00?= ".repeat(20);
    let head = format!("Subject: {subject}\r\nContent-Language: de\r\n\r\n.\r\n");
    let (_, text, fields) = read(&compose(&envelope, &[refused("550 no\r\n.\r\n", None)], head.as_bytes()));
    let line = text.split("mit dem Betreff\r\n").nth(1).unwrap().lines().next().unwrap();
    assert!(line.chars().count() <= 122 && line.starts_with("  a"), "{line}");
    assert!(!line.contains(['\u{202e}', '\0', '\r']), "{line}");
    assert!(!text.lines().any(|line| line == "." || line.starts_with("Content-Type")), "{text}");
    assert_eq!(fields.matches("Action:").count(), 1);
}

proptest::proptest! {
    #[test]
    fn whatever_the_message_and_the_reply_were_the_notice_is_whole(
        head in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600),
        field in "(?s).{0,80}",
        reply in "(?s).{0,300}",
        german in proptest::prelude::any::<bool>(),
    ) {
        let envelope = message("ann@sender.example", &["joe@customer.example"]);
        let language = if german { "Content-Language: de\r\n" } else { "" };
        let head = [format!("{language}Subject: {field}\r\n").as_bytes(), head.as_slice()].concat();
        let notice = compose(&envelope, &[refused(&reply, Some(&field))], &head);
        assert_sendable(&notice);
        let parsed = MessageParser::default().parse(notice.as_bytes()).unwrap();
        proptest::prop_assert_eq!(parsed.parts.len(), 4);
        let fields = String::from_utf8(parsed.parts[2].contents().to_vec()).unwrap();
        let started = |name: &str| fields.lines().filter(|line| line.starts_with(name)).count();
        proptest::prop_assert_eq!((started("Action:"), started("Status:"), started("Final-Recipient:")), (1, 1, 1));
    }
}
