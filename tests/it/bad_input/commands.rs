//! Bad commands: noise, oversize lines, silence, floods.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;
use crate::clamd::Clamd;
use crate::gateway::{Sink, domain, free_port, program, wait_for};

/// For tests in which nothing is delivered.
fn gateway(changes: &[(&str, &str)], sections: &str) -> (Clamd, Gateway) {
    let clamd = Clamd::start();
    let gateway = Gateway::start_with(clamd.socket(), changes, &(domain("up.test", free_port(), "") + sections));
    (clamd, gateway)
}

#[test]
fn noise_gets_a_clear_answer() {
    let (_clamd, gateway) = gateway(&[], "");
    let client_hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[0xa5; 500], b"\r\n"].concat();
    let pattern: Vec<u8> = (0..20_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for noise in [&client_hello[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &[&pattern[..], b"\r\n"].concat(), b"\0\0\0\0\r\n"] {
        let mut talk = Talk::connect(gateway.smtp);
        talk.expect("220 ");
        talk.send(noise);
        let mut replies = Vec::new();
        while let Some(reply) = talk.reply() {
            replies.push(reply);
            if replies.len() == 100 {
                break;
            }
        }
        assert!(replies.len() <= 20 && replies[0].starts_with('5') || replies[0].starts_with("421 "), "{replies:?}");
    }
    let mut openssl = Command::new(program("openssl"));
    openssl.args(["s_client", "-connect", &gateway.smtp.to_string()]).stdin(Stdio::null());
    let output = openssl.output().expect("openssl runs");
    assert!(!output.status.success(), "no TLS on the plain port");
    assert_unharmed(&gateway);
}

#[test]
fn bad_lines_are_one_error_each_and_their_tails_are_no_commands() {
    let (_clamd, gateway) = gateway(&[("[limits]", "[limits]\nerrors_per_session = 30")], "");
    let mut talk = Talk::open(&gateway);
    talk.ask(format!("NOOP {}\r\n", "x".repeat(2048)), "500 5.5.2 Line too long");
    let tail = format!("{}\r\nQUIT", "MAIL FROM:<a@b.test> ".repeat(10_000));
    talk.send(format!("NOOP\r\n{tail}X\r\nNOOP\r\n{}\r\nNOOP\r\n", "R".repeat(1 << 20)));
    for start in ["250 ", "500 5.5.2 Line too long", "500 5.5.1", "250 ", "500 5.5.2 Line too long", "250 "] {
        talk.expect(start);
    }
    for line in ["NOOP\0\r\n", "MAIL FROM:<a\0@b.test>\r\n", "MAIL FROM:<a\x1b[2J@b.test>\r\n", "EHLO a\rQUIT\r\n"] {
        talk.ask(line, "501 5.5.2 Control characters");
    }
    talk.ask(b"MAIL FROM:<\xff\xfe@b.test>\r\n", "501 5.5.2 Bytes that are not UTF-8");
    for line in ["\r\n", "X\r\n", " NOOP\r\n", "DATA DATA DATA\r\n", "RCPT TO:<jane@up.test>\r\n", "BDAT 0 LAST\r\n"] {
        talk.ask(line, "50");
    }
    talk.ask("MAIL FROM:<joe@sender.test> SIZE=99999999999999999999\r\n", "552 5.3.4 Message is larger");
    talk.ask(format!("MAIL FROM:<joe@sender.test> SIZE={}\r\n", "9".repeat(300)), "501 5.5.4");
    talk.ask("MAIL FROM:<joe@sender.test> SIZE=-1\r\n", "501 5.5.4");
    talk.ask("MAIL FROM:<joe@sender.test>\r\n", "250 ");
    talk.ask("QUIT\r\n", "221 ");
    talk.expect_end();
    assert_unharmed(&gateway);
}

#[test]
fn silence_and_one_byte_at_a_time_come_to_an_end() {
    let limits = [("[smtp]", "[smtp]\nidle_timeout = \"2s\"\nsession_timeout = \"5s\"")];
    let (_clamd, gateway) = gateway(&limits, "");
    let started = Instant::now();
    let mut silent = Talk::connect(gateway.smtp);
    silent.expect("220 ");
    let mut silent_in_data = Talk::in_data(&gateway);
    silent_in_data.send("Subject: never ends\r\n");
    let mut slow = Talk::connect(gateway.smtp);
    slow.expect("220 ");
    let mut slow_in_data = Talk::in_data(&gateway);
    let mut slow_writer = slow.stream.try_clone().unwrap();
    let mut data_writer = slow_in_data.stream.try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        while slow_writer.write_all(b"N").is_ok() && data_writer.write_all(b"x").is_ok() && started.elapsed() < PATIENCE {
            std::thread::sleep(A_MOMENT);
        }
    });
    for talk in [&mut silent, &mut silent_in_data] {
        talk.expect("421 4.4.2 Nothing was said for too long");
    }
    for talk in [&mut slow, &mut slow_in_data] {
        talk.expect("421 4.4.2 The session lasted too long");
    }
    silent.expect_end();
    assert!(started.elapsed() < PATIENCE / 2);
    drip.join().unwrap();
    assert_unharmed(&gateway);
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let (_clamd, gateway) = gateway(&[], "");
    deliver_ok(&gateway, "first, so that everything is open that is opened once");
    let before = open_files(&gateway);
    let queued = gateway.logged("\"queued\"").len();
    let megabytes = "y".repeat(998) + "\r\n";
    for round in 0..15 {
        let mut talk = Talk::in_data(&gateway);
        talk.send("Subject: half\r\n\r\n");
        talk.send(megabytes.repeat(if round % 3 == 0 { 3000 } else { 3 }));
        if round % 2 == 0 {
            talk.send("\r\n.\r");
        }
        let mut chunks = Talk::open(&gateway);
        chunks.send("MAIL FROM:<joe@sender.test>\r\nRCPT TO:<jane@up.test>\r\nBDAT 2000000\r\n");
        chunks.send(megabytes.repeat(if round % 3 == 0 { 1500 } else { 2000 }));
        chunks.send("BDAT 100 LAST\r\nx");
    }
    wait_for("the bodies to go", || files_in(&gateway.data().join("spool/bodies")).is_empty().then_some(()));
    wait_for("the descriptors to go", || (open_files(&gateway) <= before).then_some(()));
    assert_eq!(gateway.logged("\"queued\"").len(), queued);
    assert_unharmed(&gateway);
}

#[test]
fn ten_thousand_recipients_are_answered_one_by_one() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    let mut talk = Talk::open(&gateway);
    talk.ask("MAIL FROM:<joe@sender.test>\r\n", "250 ");
    let mut writer = talk.stream.try_clone().unwrap();
    let pipeline = std::thread::spawn(move || {
        let all: String = (0..10_000).map(|number| format!("RCPT TO:<r{number}@up.test>\r\n")).collect();
        writer.write_all(all.as_bytes()).unwrap();
    });
    let replies: Vec<_> = (0..10_000).map(|_| talk.reply().expect("a reply for each")).collect();
    pipeline.join().unwrap();
    assert!(replies[..1000].iter().all(|reply| reply.starts_with("250 2.1.5")));
    assert!(replies[1000..].iter().all(|reply| reply.starts_with("452 4.5.3")));
    talk.ask("DATA\r\n", "354 ");
    let id = queue_id(&talk.ask("Subject: many\r\n\r\nto many\r\n.\r\n", "250 "));
    wait_for("all to be delivered", || gateway.ask_json(&["queue", "list"])["messages"].as_array()?.is_empty().then_some(()));
    let arrived: usize = sink.messages().iter().map(|message| message.matches("X-Rcpt-Args: <r").count()).sum();
    assert_eq!(arrived, 1000, "{id}");
    assert_unharmed(&gateway);
}

#[test]
fn more_connections_than_allowed_are_told_so() {
    let (_clamd, gateway) = gateway(&[("connections_per_client = 500", "connections_per_client = 3")], "");
    let mut talks: Vec<_> = (0..3).map(|_| Talk::open(&gateway)).collect();
    for _ in 0..20 {
        let mut refused = Talk::connect(gateway.smtp);
        // As clients do that do not wait for the greeting.
        refused.send("EHLO client.sender.test\r\n");
        refused.expect("421 4.7.0 Too many connections");
        refused.expect_end();
    }
    talks.pop().unwrap().ask("QUIT\r\n", "221 ");
    wait_for("a place to be free", || {
        let mut talk = Talk::connect(gateway.smtp);
        talk.reply()?.starts_with("220 ").then_some(())
    });
    drop(talks);
    wait_for("the others to end", || (gateway.ask_json(&["status"]).is_object()).then_some(()));
}

#[test]
fn errors_without_end_end_the_session() {
    let (_clamd, gateway) = gateway(&[], "");
    let mut talk = Talk::open(&gateway);
    talk.send("FOO\r\n".repeat(100_000));
    let replies: Vec<_> = std::iter::from_fn(|| talk.reply()).collect();
    assert_eq!(replies.len(), 20);
    assert!(replies[19].starts_with("421 4.7.0 Too many errors"), "{}", replies[19]);
    assert_unharmed(&gateway);
}
