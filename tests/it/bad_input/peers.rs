//! What peers call themselves and say must reach nobody as a command, a header or a terminal's control sequence.

use std::net::TcpListener;
use std::sync::Arc;

use super::*;
use crate::clamd::Clamd;
use crate::gateway::{Sink, domain, free_port, wait_for};

#[test]
fn quoted_local_parts_stay_addresses_at_the_next_hop() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    let evil = ["\"a> SIZE=1 <x\"@up.test", "\"a,b\"@up.test", "\"a\\\"b\\\\c\"@up.test", "\" \"@up.test", "\"<>\"@up.test"];
    let mut talk = Talk::open(&gateway);
    for sender in ["\"x> BODY=8BITMIME RET=FULL <y\"@sender.test", "\"@up.test:postmaster\"@sender.test"] {
        talk.ask(format!("MAIL FROM:<{sender}>\r\n"), "250 ");
        for recipient in evil {
            talk.ask(format!("RCPT TO:<{recipient}>\r\n"), "250 ");
        }
        talk.ask("DATA\r\n", "354 ");
        let id = queue_id(&talk.ask(format!("Subject: quoted\r\n\r\nfrom {sender}\r\n.\r\n"), "250 "));
        let arrived = sink.wait_for_message(&id);
        let sender_line = arrived.lines().find(|line| line.starts_with("X-Mail-Args: ")).unwrap_or_default();
        assert!(sender_line.starts_with(&format!("X-Mail-Args: <{sender}>")), "{arrived}");
        let recipients: Vec<_> = arrived.lines().filter_map(|line| line.strip_prefix("X-Rcpt-Args: ")).collect();
        assert_eq!(recipients, evil.map(|recipient| format!("<{recipient}>")), "{arrived}");
    }
    for bad in
        ["\"a\r\nRSET\"@up.test", "\"a\nRSET\"@up.test", "\"a\0\"@up.test", "a b@up.test", "a@up.test>\rRSET", "\"a@up.test"]
    {
        let mut talk = Talk::open(&gateway);
        talk.ask("MAIL FROM:<joe@sender.test>\r\n", "250 ");
        talk.ask(format!("RCPT TO:<{bad}>\r\n"), "50");
    }
    assert_unharmed(&gateway);
}

#[test]
fn a_name_in_ehlo_adds_no_header_and_no_reply_line() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    for (place, name) in ["a)(b[6.6.6.6])", "x;\"\\<>", "a\"b", "%s%n", "x\u{202e}y", "=?utf-8?q?x?="].iter().enumerate() {
        let mut talk = Talk::connect(gateway.smtp);
        talk.expect("220 ");
        talk.send(format!("EHLO {name}\r\nRSET\r\n"));
        let reply = talk.reply().unwrap();
        assert!(reply.starts_with("250 ") || reply.starts_with("501 "), "{reply}");
        talk.expect("250 ");
        if reply.starts_with("501 ") {
            continue;
        }
        talk.send("MAIL FROM:<joe@sender.test>\r\nRCPT TO:<jane@up.test>\r\nDATA\r\n");
        for start in ["250 ", "250 ", "354 "] {
            talk.expect(start);
        }
        talk.ask(format!("Subject: ehlo {place}\r\n\r\nehlo {place}\r\n.\r\n"), "250 ");
        let arrived = sink.wait_for_message(&format!("Subject: ehlo {place}\n"));
        // The first one is the sink's.
        let received = arrived.lines().filter_map(|line| line.strip_prefix("Received: from ")).nth(1).unwrap_or_default();
        let (helo, rest) = received.split_once(' ').unwrap_or_default();
        assert!(matches!(rest, "(unknown [127.0.0.1])" | "(localhost [127.0.0.1])"), "{arrived}");
        assert!(!helo.contains(['(', ')', ';', '"', '\\', '<', '>']), "{helo}");
    }
    let mut talk = Talk::connect(gateway.smtp);
    talk.expect("220 ");
    talk.ask("EHLO a\rX-Evil: 1\r\n", "421 4.7.0");
    assert!(!sink.messages().iter().any(|message| message.contains("X-Evil")));
}

/// A customer's server that answers every recipient with this.
fn fake_server(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            let mut say = |text: &[u8]| stream.write_all(text).is_ok();
            say(b"220 fake\r\n");
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                let said = match line.get(..4) {
                    Some("RCPT") => say(answer),
                    Some("QUIT") => break,
                    _ => say(b"250 Ok\r\n"),
                };
                if !said {
                    break;
                }
                line.clear();
            }
        }
    });
    port
}

/// Of a terminal or of a parser of lines.
fn has_controls(text: &str) -> bool {
    text.chars().any(|letter| letter.is_control() && letter != '\n' || letter == '\u{202e}')
}

#[test]
fn what_a_server_replies_steers_no_terminal_and_no_log() {
    const EVIL: &[u8] =
        b"451-4.7.1 \x1b[2J\x1b]0;owned\x07 wait\r\n451 4.7.1 a\x00b\x7f\xc2\x9b31m \xe2\x80\xae \"},{\" \xff end\r\n";
    let clamd = Clamd::start();
    for format in ["json", "text"] {
        let changes = [("format = \"json\"", &*format!("format = \"{format}\"\nfilter = \"debug\""))];
        let gateway = Gateway::start_with(clamd.socket(), &changes, &domain("up.test", fake_server(EVIL), ""));
        let mut talk = Talk::open(&gateway);
        talk.ask(b"NOOP \x1b[2J\x07\r\n", "501 ");
        talk.ask(b"MAIL FROM:<a\x1b[2Jb@sender.test>\r\n", "50");
        talk.ask("MAIL FROM:<joe@sender.test>\r\n", "250 ");
        talk.ask("RCPT TO:<\"\u{1b}[2J\"@up.test>\r\n", "50");
        let id = deliver_ok(&gateway, "evil \u{1b}[2J");
        wait_for("the first attempt", || (!gateway.logged("deferred").is_empty()).then_some(()));
        for line in gateway.logged("") {
            assert!(!has_controls(&line), "{}", line.escape_debug());
            if format == "json" {
                serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            }
        }
        wait_for("history", || gateway.ask(&["trace", &id]).contains("deferred").then_some(()));
        for arguments in [&["queue", "list"][..], &["queue", "show", &id], &["trace", &id], &["trace", "jane@up.test"]] {
            let text = gateway.ask(arguments);
            assert!(!has_controls(&text), "{arguments:?}: {}", text.escape_debug());
            gateway.ask_json(arguments);
            assert!(!has_controls(&gateway.ask(&[arguments, &["--json"]].concat())));
        }
        assert!(gateway.ask(&["trace", &id]).contains("end"), "all of the reply is there");
    }
}

#[test]
fn a_server_that_talks_nonsense_costs_a_retry_and_no_more() {
    let clamd = Clamd::start();
    let answers: [&[u8]; 6] = [
        b"hello\r\n",
        b"250\r\n250 Ok\r\n250 Ok\r\n354 go\r\n250 Ok\r\n",
        b"999 what\r\n",
        b"\0\0\0\0\0\0\0\0\r\n",
        b"250-",
        &[b'2'; 100_000],
    ];
    let sections: String = answers
        .into_iter()
        .enumerate()
        .map(|(place, answer)| domain(&format!("d{place}.test"), fake_server(answer), ""))
        .collect();
    let sink = Sink::start();
    let gateway = Gateway::start(clamd.socket(), &(sections + &domain("up.test", sink.port, "")));
    for place in 0..answers.len() {
        let id = queue_id(&deliver(&gateway, &format!("jane@d{place}.test"), "Subject: x\r\n\r\nx"));
        if place != 4 {
            wait_for(&format!("an attempt at {place}"), || {
                let lines = gateway.logged(&id);
                lines.iter().any(|line| line.contains("\"deferred\"")).then_some(())
            });
            assert!(!gateway.logged(&id).iter().any(|line| line.contains("\"delivered\"")), "{place}");
        }
    }
    assert_unharmed(&gateway);
    sink.wait_for_message("still here");
}

/// CVE-2011-0411: what was said in clear text must not be taken as said under TLS.
#[test]
fn commands_pipelined_behind_starttls_are_dropped() {
    let clamd = Clamd::start();
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(["mx1.isp.test".to_owned()]).unwrap();
    let (certificate_file, key_file) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    std::fs::write(&certificate_file, key.cert.pem()).unwrap();
    std::fs::write(&key_file, key.signing_key.serialize_pem()).unwrap();
    let tls = format!("[smtp]\ntls = {{ certificate = {certificate_file:?}, key = {key_file:?} }}");
    let gateway = Gateway::start_with(clamd.socket(), &[("[smtp]", &tls)], &domain("up.test", free_port(), ""));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());

    let mut talk = Talk::open(&gateway);
    talk.ask("STARTTLS\r\nEHLO injected\r\nMAIL FROM:<injected@sender.test>\r\nRCPT TO:<jane@up.test>\r\n", "220 ");
    assert!(talk.replies.buffer().is_empty(), "no more than the 220 in clear text");
    let session = rustls::ClientConnection::new(config, "mx1.isp.test".try_into().unwrap()).unwrap();
    let mut encrypted = BufReader::new(rustls::StreamOwned::new(session, talk.stream));
    let mut ask = |command: &str| {
        encrypted.get_mut().write_all(command.as_bytes()).unwrap();
        let mut line = String::new();
        while line.as_bytes().get(3) != Some(&b' ') {
            line.clear();
            encrypted.read_line(&mut line).unwrap();
        }
        line
    };
    // The first answer under TLS is to the first question under TLS, and the session has begun anew.
    assert!(ask("RCPT TO:<jane@up.test>\r\n").starts_with("503 "));
    assert!(ask("MAIL FROM:<joe@sender.test>\r\n").starts_with("503 "));
    assert!(ask("EHLO client.sender.test\r\n").starts_with("250 "));
    assert!(ask("STARTTLS\r\n").starts_with("50"));
    assert!(ask("QUIT\r\n").starts_with("221 "));
    // Not a handshake at all.
    let mut talk = Talk::open(&gateway);
    talk.ask("STARTTLS\r\n", "220 ");
    talk.send("EHLO still.in.clear.text\r\n");
    let mut rest = Vec::new();
    let _ = talk.replies.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"250"), "{}", rest.escape_ascii());
    assert_unharmed(&gateway);
}
