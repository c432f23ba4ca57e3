use mail_parser::{Message, MessageParser, MimeHeaders};

use super::*;
use crate::mail::{Enhanced, SessionId};
use crate::queue::steer::samples::message;

fn give_up(reply: &str, host: Option<&str>) -> GiveUp {
    GiveUp {
        why: reply.to_owned(),
        host: host.map(ToOwned::to_owned),
        reply: reply.to_owned(),
        status: Enhanced(5, 1, 1),
        expired: false,
    }
}

fn compose(envelope: &Envelope, failed: &[GiveUp], head: &[u8]) -> String {
    let failed: Vec<_> = failed.iter().enumerate().collect();
    let hostname = "mx1.isp.example".parse().unwrap();
    let notice = Notice {
        id: SessionId::from_u64(99).unwrap().message(1),
        hostname: &hostname,
        now: Timestamp(1_795_214_160_000),
        envelope,
        failed: &failed,
        head,
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
    assert!(notice.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])), "{notice}");
}

const HEAD: &[u8] = b"Subject: hello\r\nFrom: ann@sender.example\r\n\r\nsecret body\r\n";

#[test]
fn a_notice_is_a_report_of_three_parts() {
    let mut envelope = message("ann@sender.example", &["joe@customer.example", "sue@customer.example"]);
    envelope.recipients[0].orcpt = Some("rfc822;Joe+2BX@old.example".into());
    envelope.parameters.envid = Some("id+2B1".into());
    let failed = [
        give_up("550 5.1.1 User unknown", Some("mail.customer.example [203.0.113.5]:25")),
        GiveUp { expired: true, status: Enhanced(4, 4, 7), ..give_up("connection refused", Some("203.0.113.5:25")) },
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
    let notice = compose(&envelope, &[give_up(&reply, Some("evil\r\nX: y [192.0.2.1]:25"))], HEAD);
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
        let notice = compose(&envelope, &[give_up("550 no", None)], head.as_bytes());
        assert_sendable(&notice);
        let parsed = MessageParser::default().parse(notice.as_bytes()).unwrap();
        let found = parts(&parsed);
        assert_eq!((found[2].0.as_str(), found[2].1.trim_end()), ("text/rfc822-headers", expected.trim_end()), "{head}");
    }
    let huge = format!("X: {}\r\n", "y\r\n ".repeat(100_000));
    let notice = compose(&envelope, &[give_up("550 no", None)], huge.as_bytes());
    assert_sendable(&notice);
    assert!(notice.len() < HEADERS_MAX * 2);
}

#[test]
fn addresses_beyond_ascii_are_written_in_ascii() {
    let mut envelope = message("ann@sender.example", &["müller@customer.example"]);
    envelope.parameters.smtputf8 = true;
    let notice = compose(&envelope, &[give_up("550 no", None)], "Subject: ü\r\n\r\n".as_bytes());
    assert_sendable(&notice);
    assert!(notice.contains("Final-Recipient: utf-8; m\\x{FC}ller@customer.example\r\n"));
    assert!(notice.contains("Content-Type: message/global-headers"));
}

#[test]
fn only_a_sender_beyond_ascii_makes_the_notice_so() {
    let envelope = message("ännä@sender.example", &["joe@customer.example"]);
    let notice = compose(&envelope, &[give_up("550 no", None)], HEAD);
    assert!(notice.contains("ännä@sender.example"));
    let hostname = "mx1.isp.example".parse().unwrap();
    let failed = [];
    let notice =
        Notice { id: envelope.id, hostname: &hostname, now: Timestamp(5), envelope: &envelope, failed: &failed, head: b"" };
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
    let failed: Vec<_> = to.iter().map(|_| give_up("550 5.1.1 User unknown", None)).collect();
    let notice = compose(&envelope, &failed, HEAD);
    assert_eq!(notice.matches("Final-Recipient:").count(), 1000);
    assert!(notice.contains("and 950 more"));
}

#[test]
fn senders_say_whether_they_want_to_hear() {
    let mut recipient = Recipient::new("joe@customer.example".parse().unwrap());
    assert!(wants_notice(&recipient));
    for (notify, wanted) in [
        (Notify::Never, false),
        (Notify::On { success: true, failure: false, delay: true }, false),
        (Notify::On { success: false, failure: true, delay: false }, true),
    ] {
        recipient.notify = Some(notify);
        assert_eq!(wants_notice(&recipient), wanted);
    }
}
