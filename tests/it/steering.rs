//! Steering by the commands of the binary: what they print, what they answer, and what a restart keeps of it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::clamd::Clamd;
use crate::gateway::{Gateway, Sink, domain, free_port, wait_for};

/// Hands a message in and returns its queue id.
fn deliver(gateway: &Gateway, from: &str, to: &str) -> String {
    let mut stream = BufReader::new(TcpStream::connect(gateway.smtp).expect("it listens"));
    let mut reply = String::new();
    let content = "From: joe@sender.test\r\nSubject: waits\r\n\r\nThe text.\r\n.";
    let (mail, rcpt) = (format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"));
    for line in ["", "HELO client.test", &mail, &rcpt, "DATA", content] {
        if !line.is_empty() {
            stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("it reads");
        }
        reply.clear();
        stream.read_line(&mut reply).expect("it answers");
    }
    let id = reply.trim_end().strip_prefix("250 2.0.0 Ok: queued as ");
    id.unwrap_or_else(|| panic!("not taken: {reply}")).to_owned()
}

/// Fails with exit code 1 and these words on standard error.
#[track_caller]
fn refused(gateway: &Gateway, arguments: &[&str], words: &str) {
    let output = gateway.command(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
}

fn last_steering(gateway: &Gateway, id: &str) -> Value {
    let message = gateway.ask_json(&["queue", "show", id]);
    message["steerings"].as_array().and_then(|all| all.last().cloned()).expect("it was steered")
}

/// A message that was judged and now waits for a server that is down.
fn waits(gateway: &Gateway, to: &str) -> String {
    let id = deliver(gateway, "joe@sender.test", to);
    wait_for("its verdict", || {
        let shown = gateway.ask_json(&["queue", "show", &id]);
        (!shown["judgement"].is_null()).then_some(())
    });
    id
}

#[test]
fn a_domain_is_extended_for_mail_to_come_shown_and_kept_by_a_restart() {
    let clamd = Clamd::start();
    let mut gateway =
        Gateway::start(clamd.socket(), &(domain("up.test", free_port(), "") + &domain("idle.test", free_port(), "")));
    let id = waits(&gateway, "anna@up.test");
    let dry = gateway.ask(&["queue", "extend", "up.test", "5d", "--dry-run"]);
    assert!(dry.contains("dry run: nothing was changed") && dry.contains("would be kept until"), "{dry}");
    assert!(gateway.ask_json(&["domain", "show", "up.test"])["extension"].is_null());
    let said = gateway.ask(&["queue", "extend", "up.test", "--until", "2027-09-01", "--reason", "new server on Monday"]);
    assert!(said.contains("mail still to come for up.test during this outage is kept until 2027-09-01T23:59:59Z"), "{said}");
    assert!(gateway.stop());
    gateway.restart();
    let later = waits(&gateway, "berta@up.test");
    let shown = gateway.ask(&["queue", "show", &later]);
    assert!(shown.contains("tried until  2027-09-01 23:59:59Z") && shown.contains("its domain was extended by "), "{shown}");
    let shown = gateway.ask(&["queue", "show", &id]);
    assert!(shown.contains("extend until 2027-09-01T23:59:59Z") && shown.contains("new server on Monday"), "{shown}");
    let shown = gateway.ask(&["domain", "show", "up.test"]);
    assert!(shown.contains("extended     until 2027-09-01 23:59:59Z") && shown.contains("new server on Monday"), "{shown}");
    let status = gateway.ask(&["status"]);
    assert!(status.contains("extended   up.test until 2027-09-01 23:59:59Z, by "), "{status}");
    let ended = gateway.ask(&["queue", "extend", "up.test", "--clear"]);
    assert!(ended.contains("ended: the extension of up.test until 2027-09-01T23:59:59Z"), "{ended}");
    refused(&gateway, &["queue", "extend", "up.test", "--clear"], "nothing is granted to up.test");
    // Nothing waits for it: it counts for mail to come, and that is said.
    let idle = gateway.ask(&["queue", "extend", "idle.test", "5d"]);
    assert!(idle.contains("nothing waits for idle.test; mail still to come for idle.test"), "{idle}");
    refused(&gateway, &["queue", "extend", "up.test", "--until", "2020-01-01"], "at most 365 days");
}

#[test]
fn a_domain_that_is_not_known_is_taken_for_a_typo() {
    let clamd = Clamd::start();
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", free_port(), ""));
    let commands: [&[&str]; 7] = [
        &["queue", "retry", "upp.test"],
        &["queue", "hold", "anna@upp.test"],
        &["queue", "release", "--domain", "upp.test"],
        &["queue", "extend", "upp.test", "5d"],
        &["queue", "reroute", "upp.test", "127.0.0.1"],
        &["queue", "bounce", "upp.test", "--text", "gone"],
        &["queue", "drop", "upp.test", "--yes"],
    ];
    for command in commands {
        refused(&gateway, command, "upp.test is not served here, and no mail for it is in the queue");
        let served: Vec<_> = command.iter().map(|word| word.replace("upp.test", "up.test")).collect();
        let said = gateway.ask(&served.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.contains("No message was changed: nothing waits for up.test"), "{said}");
    }
}

#[test]
fn mail_is_rerouted_bounced_held_and_dropped_with_a_reason() {
    let clamd = Clamd::start();
    let sink = Sink::start();
    let mut gateway =
        Gateway::start(clamd.socket(), &(domain("up.test", free_port(), "") + &domain("sender.test", sink.port, "")));
    let (moved, wrong) = (waits(&gateway, "anna@up.test"), waits(&gateway, "berta@up.test"));

    let dry = gateway.ask(&["queue", "hold", "up.test", "--dry-run", "--older-than", "0s"]);
    assert!(dry.ends_with("2 messages, 2 recipients: held (dry run: nothing was changed)\n"), "{dry}");
    assert_eq!(gateway.ask_json(&["queue", "list", "--state", "held"])["messages"].as_array().map(Vec::len), Some(0));
    let none = gateway.ask(&["queue", "hold", "up.test", "--older-than", "1d"]);
    assert!(none.contains("No message was changed"), "{none}");

    gateway.ask(&["queue", "hold", &moved, "--reason", "ticket 12"]);
    assert_eq!(
        (&last_steering(&gateway, &moved)["what"], &last_steering(&gateway, &moved)["reason"]),
        (&"hold".into(), &"ticket 12".into())
    );
    let there = format!("127.0.0.1:{}", sink.port);
    gateway.ask(&["queue", "reroute", &moved, &there, "--reason", "ihr Umzug, für immer"]);
    gateway.kill();
    gateway.restart();
    let shown = gateway.ask(&["queue", "show", &moved]);
    assert!(shown.contains(&format!("rerouted to  {there}")) && shown.contains("ihr Umzug, für immer"), "{shown}");
    gateway.ask(&["queue", "release", &moved]);
    sink.wait_for_message("anna@up.test");

    let said = gateway.ask(&["queue", "bounce", &wrong, "--text", "They have moved to example.net", "--reason", "ticket 13"]);
    assert!(said.ends_with("1 message, 1 recipient: given up, their senders are told\n"), "{said}");
    let notice = sink.wait_for_message("They have moved to example.net");
    assert!(notice.contains("MAILER-DAEMON"), "{notice}");
    let trace = gateway.ask(&["trace", &wrong]);
    assert!(trace.contains("given-up") && trace.contains("ticket 13"), "{trace}");
    refused(&gateway, &["queue", "reroute", &wrong, "--clear"], "not in the queue");
    for nonsense in [&["queue", "reroute", "up.test", "0.0.0.0"][..], &["queue", "bounce", "up.test", "--text", " "]] {
        assert_eq!(gateway.command(nonsense).status.code(), Some(2), "{nonsense:?}");
    }
}
