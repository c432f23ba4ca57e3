//! The whole feed over real sockets: the gateway's own binary, a real clamd, and senders and servers nobody here wrote.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::clamd::Clamd;
use crate::gateway::{Gateway, Process, Sink, domain, free_port, program, repository, wait_for};

const SPAM_ON: &str = "[domains.\"up.test\".spam]\nenabled = true\nlow = \"subject\"\nmed = \"subject\"\nhigh = \"reject\"\n";

/// Sends a file with Python's smtplib; the answer of tests/tools/send.py.
#[track_caller]
fn send(gateway: &Gateway, to: &str, file: &Path, options: &[&str]) -> Value {
    let mut command = Command::new(program("python3"));
    command
        .arg(repository("tests/tools/send.py"))
        .arg(gateway.smtp.to_string())
        .args(["joe@sender.test", to])
        .arg(file)
        .args(options);
    let output = command.output().expect("python3 runs");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("send.py: {error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn mail(name: &str) -> std::path::PathBuf {
    repository("tests/mail").join(name)
}

/// The queue id in `2.0.0 Ok: queued as ID`.
#[track_caller]
fn queue_id(answer: &Value) -> String {
    let reply = answer["reply"].as_str().unwrap_or_default();
    assert_eq!(answer["code"], 250, "{answer}");
    reply.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// A message of its own in a file, with a text to find it by.
fn message(directory: &Path, text: &str) -> std::path::PathBuf {
    let path = directory.join(format!("{}.eml", text.replace(' ', "-")));
    let content = format!(
        "From: Joe <joe@sender.test>\r\nTo: <jane@up.test>\r\nSubject: about {text}\r\nDate: Fri, 20 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <{}@sender.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n.dot first\r\n..\r\n.\r\nthe text of {text}\r\n",
        text.replace(' ', ".")
    );
    std::fs::write(&path, content).expect("a scratch file");
    path
}

#[test]
fn clean_mail_arrives_byte_for_byte() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    let file = message(gateway.directory.path(), "byte for byte");
    let id = queue_id(&send(&gateway, "jane@up.test", &file, &[]));
    let arrived = sink.wait_for_message("the text of byte for byte");
    let original = std::fs::read_to_string(&file).unwrap().replace("\r\n", "\n");
    let arrived = arrived.replace("\r\n", "\n");
    assert!(arrived.contains(&original), "{arrived}");
    assert!(arrived.contains(&format!("with ESMTP id {id}")), "{arrived}");
    let trace = gateway.ask(&["trace", &id]);
    for word in ["queued", "scanned", "decided", "delivered"] {
        assert!(trace.contains(word), "{word} in {trace}");
    }
    assert_eq!(gateway.ask_json(&["queue", "list"])["messages"].as_array().map(Vec::len), Some(0));
}

#[test]
fn each_level_gets_what_its_domain_asked_for() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &(domain("up.test", sink.port, "") + SPAM_ON));
    assert_eq!(send(&gateway, "jane@up.test", &mail("high.eml"), &[])["reply"], "5.7.1 Message refused as spam");
    for (file, tag) in [("low.eml", "Subject: [SPAM: low] "), ("med.eml", "Subject: [SPAM: med] ")] {
        let id = queue_id(&send(&gateway, "jane@up.test", &mail(file), &[]));
        let arrived = sink.wait_for_message(&id);
        assert!(arrived.contains(tag), "{arrived}");
        assert!(arrived.contains("X-Spam-Flag: YES"), "{arrived}");
    }
    let id = queue_id(&send(&gateway, "jane@up.test", &mail("newsletter.eml"), &[]));
    let arrived = sink.wait_for_message(&id);
    assert!(arrived.contains("X-Feedgate-Level: none") && !arrived.contains("[SPAM"), "{arrived}");
}

#[test]
fn one_message_for_two_policies_gets_a_right_answer_for_each() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let sections = domain("up.test", sink.port, "") + SPAM_ON + &domain("plain.test", sink.port, "");
    let gateway = Gateway::start(clamd.socket(), &sections);
    let id = queue_id(&send(&gateway, "jane@up.test,max@plain.test", &mail("gtube.eml"), &[]));
    let arrived = sink.wait_for_message(&id);
    assert!(arrived.contains("max@plain.test") && !arrived.contains("X-Spam"), "{arrived}");
    let trace = gateway.ask(&["trace", &id]);
    assert!(trace.contains("delete") && trace.contains("delivered"), "{trace}");
    assert_eq!(sink.messages().len(), 1);
}

#[test]
fn infected_mail_is_refused_plain_encoded_and_zipped() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    for file in ["infected.eml", "infected-plain.eml", "infected-zip.eml"] {
        let answer = send(&gateway, "jane@up.test", &mail(file), &[]);
        let reply = answer["reply"].as_str().unwrap_or_default();
        assert!(answer["code"] == 554 && reply.starts_with("5.7.1 Virus found: "), "{file}: {answer}");
    }
    assert!(sink.messages().is_empty());
    assert_eq!(gateway.ask_json(&["queue", "list"])["messages"].as_array().map(Vec::len), Some(0));
}

#[test]
fn without_a_scanner_mail_waits_and_arrives_when_it_is_back() {
    let mut clamd = Clamd::start();
    let sink = Sink::start();
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    clamd.stop();
    let file = message(gateway.directory.path(), "no scanner");
    let id = queue_id(&send(&gateway, "jane@up.test", &file, &[]));
    let listed = gateway.ask_json(&["queue", "list"]);
    assert_eq!(listed["messages"][0]["id"], id.as_str(), "{listed}");
    assert!(gateway.ask(&["queue", "show", &id]).contains("awaiting-scan"));
    assert!(sink.messages().is_empty(), "nothing unscanned is delivered");
    clamd.start_again();
    sink.wait_for_message("the text of no scanner");
}

#[test]
fn mail_for_others_is_refused() {
    let clamd = Clamd::start();
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", 9, ""));
    let answer = send(&gateway, "max@elsewhere.test", &mail("clean.eml"), &[]);
    let expected = "5.7.1 Sorry, that domain isn't in my list of allowed rcpthosts";
    assert_eq!(answer["refused"]["max@elsewhere.test"], serde_json::json!([553, expected]));
}

#[test]
fn a_first_try_is_greylisted_and_the_list_survives_a_restart() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let section =
        domain("up.test", sink.port, "").replace("greylist = false", "greylist = true") + "[greylist]\ndelay = \"2s\"\n";
    let mut gateway = Gateway::start(clamd.socket(), &section);
    let first = send(&gateway, "jane@up.test", &mail("clean.eml"), &[]);
    assert_eq!(first["refused"]["jane@up.test"], serde_json::json!([451, "4.7.1 Greylisted, please try again in 2 seconds"]));
    assert!(gateway.stop());
    gateway.restart();
    let listed = gateway.ask_json(&["greylist", "list"]);
    assert_eq!(listed[0]["sender"], "joe@sender.test", "{listed}");
    wait_for("the delay to be over", || (send(&gateway, "jane@up.test", &mail("clean.eml"), &[])["code"] == 250).then_some(()));
    let stats = gateway.ask_json(&["greylist", "stats"]);
    assert_eq!((&stats["total"]["delayed"], &stats["total"]["came_back"]), (&1.into(), &1.into()), "{stats}");
    assert!(gateway.ask(&["greylist", "lost"]).starts_with("Nothing was lost"));
    assert_eq!(gateway.ask(&["greylist", "allow", "mx1.Partner.test"]), "Mail from partner.test passes without waiting.\n");
    // The network has passed: another sender does not wait.
    let output = swaks(&gateway, &["--from", "new@sender.test", "--to", "max@up.test"]);
    assert!(output.contains("queued as"), "{output}");
}

#[test]
fn swaks_delivers_over_starttls() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let certificate = rcgen::generate_simple_self_signed(vec!["mx1.isp.test".to_owned()]).expect("a certificate");
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("cert.pem"), certificate.cert.pem()).unwrap();
    std::fs::write(scratch.path().join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    let tls = format!("[smtp.tls]\ncertificate = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n", scratch.path().display());
    let gateway = Gateway::start(clamd.socket(), &(tls + &domain("up.test", sink.port, "")));
    let output = swaks(&gateway, &["--to", "jane@up.test", "--tls", "--body", "over tls"]);
    assert!(output.contains("queued as"), "{output}");
    let arrived = sink.wait_for_message("over tls");
    assert!(arrived.contains("with ESMTPS id") && arrived.contains("(using TLSv1.3 "), "{arrived}");
    assert_eq!(send(&gateway, "jane@up.test", &mail("clean.eml"), &["--starttls"])["code"], 250);
}

fn swaks(gateway: &Gateway, arguments: &[&str]) -> String {
    let server = gateway.smtp.to_string();
    let mut command = Command::new(program("swaks"));
    let output =
        command.args(["--server", &server, "--helo", "client.sender.test"]).args(arguments).output().expect("swaks runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_dead_customer_delays_nobody_and_gets_his_mail_when_he_is_back() {
    let (clamd, up) = (Clamd::start(), Sink::start());
    let down = free_port();
    let gateway = Gateway::start(clamd.socket(), &(domain("up.test", up.port, "") + &domain("down.test", down, "")));
    let waiting = queue_id(&send(&gateway, "max@down.test", &message(gateway.directory.path(), "while down"), &[]));
    queue_id(&send(&gateway, "jane@up.test", &message(gateway.directory.path(), "while up"), &[]));
    up.wait_for_message("the text of while up");
    let shown =
        wait_for("a first attempt", || Some(gateway.ask(&["queue", "show", &waiting])).filter(|text| text.contains("refused")));
    assert!(shown.contains("waiting"), "{shown}");
    let extended = gateway.ask(&["queue", "extend", "down.test", "5d"]);
    assert!(extended.contains(&waiting), "{extended}");
    let back = Sink::start_on(down, &[]);
    gateway.ask(&["queue", "retry", "down.test"]);
    back.wait_for_message("the text of while down");
}

#[test]
fn what_the_customer_refuses_bounces_to_the_sender() {
    let (clamd, origin) = (Clamd::start(), Sink::start());
    let customer = Sink::start_on(free_port(), &["-f", "RCPT"]);
    // The sender's domain is one of ours here, so that its notice finds a server without DNS.
    let sections = domain("up.test", customer.port, "") + &domain("sender.test", origin.port, "");
    let gateway = Gateway::start(clamd.socket(), &sections);
    let id = queue_id(&send(&gateway, "nobody@up.test", &message(gateway.directory.path(), "to nobody"), &[]));
    let notice = origin.wait_for_message("multipart/report");
    assert!(
        notice.contains("Final-Recipient: rfc822;nobody@up.test") || notice.contains("Final-Recipient: rfc822; nobody@up.test"),
        "{notice}"
    );
    assert!(notice.contains("Subject: about to nobody") && notice.contains(&id), "{notice}");
    assert!(!notice.contains("the text of to nobody"), "headers only: {notice}");
}

#[test]
fn a_real_postfix_takes_what_we_deliver() {
    let (clamd, postfix) = (Clamd::start(), Postfix::start());
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", postfix.port, ""));
    let file = message(gateway.directory.path(), "for postfix");
    let id = queue_id(&send(&gateway, "jane@up.test", &file, &[]));
    let arrived = wait_for("the mail in its mailbox", || postfix.mailbox().into_iter().find(|text| text.contains(&id)));
    let original = std::fs::read_to_string(&file).unwrap().replace("\r\n", "\n");
    assert!(arrived.ends_with(&original), "{arrived}");
}

/// A Postfix of our own that keeps mail for up.test in a Maildir.
struct Postfix {
    directory: tempfile::TempDir,
    port: u16,
}

impl Postfix {
    fn start() -> Postfix {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let port = free_port();
        let script = repository("tests/tools/postfix_server");
        let status = Command::new("bash").arg(script).arg("start").arg(directory.path()).arg(port.to_string()).status();
        assert!(status.expect("bash runs").success(), "Postfix does not start (it needs root and Debian's postfix package)");
        crate::gateway::wait_for_port(port);
        Postfix { directory, port }
    }

    fn mailbox(&self) -> Vec<String> {
        let new = self.directory.path().join("mail/jane/new");
        let files = std::fs::read_dir(new).map(|files| files.flatten().collect::<Vec<_>>()).unwrap_or_default();
        files.into_iter().filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let script = repository("tests/tools/postfix_server");
        let _ = Command::new("bash").arg(script).arg("stop").arg(self.directory.path()).status();
    }
}

#[test]
fn kill_9_under_load_loses_nothing_that_was_answered_250() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let mut gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    let mut acknowledged: HashSet<String> = HashSet::new();
    let mut sent = 0;
    // Killed in the middle of each of the first rounds; the last one runs to its end.
    for (round, kill_after) in [Some(150), Some(400), Some(90), None].into_iter().enumerate() {
        let server = gateway.smtp.to_string();
        let sender = format!("round{round}@sender.test");
        let mut load = Command::new(program("python3"));
        load.arg(repository("tests/tools/load.py")).args([&server, &sender, "jane@up.test", "500", "20", "3000"]);
        let mut load = Process::start(load.stdout(Stdio::piped()));
        for (count, number) in
            BufReader::new(load.0.stdout.take().expect("it is piped")).lines().map_while(Result::ok).enumerate()
        {
            acknowledged.insert(format!("<{sender}> n{number}n"));
            if kill_after == Some(count) {
                gateway.kill();
            }
        }
        sent += 500;
        if kill_after.is_some() {
            gateway.restart();
        }
    }
    assert!(sent == 2000 && acknowledged.len() > 1000, "{} of {sent} were answered 250", acknowledged.len());
    wait_for("the queue to be empty", || (gateway.ask_json(&["queue", "list"])["messages"].as_array()?.is_empty()).then_some(()));
    let arrived: HashSet<String> = sink.messages().iter().filter_map(|message| whole(message)).collect();
    let lost: Vec<_> = acknowledged.difference(&arrived).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {:?}", lost.len(), acknowledged.len(), &lost[..lost.len().min(5)]);
}

/// Sender and number of a message of the load that arrived whole.
fn whole(message: &str) -> Option<String> {
    let number = message.split("X-Number: ").nth(1)?.lines().next()?.trim();
    let sender = message.split("From: ").nth(1)?.lines().next()?.trim();
    message.contains(&format!("end of {number}")).then(|| format!("{sender} {number}"))
}

#[test]
fn smtp_source_sends_a_thousand_and_all_arrive() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    let mut source = Command::new(program("smtp-source"));
    source.args(["-s", "20", "-m", "1000", "-l", "4096", "-f", "joe@sender.test", "-t", "jane@up.test", "-N", "-d"]);
    let status = source.arg(gateway.smtp.to_string()).status().expect("smtp-source runs");
    assert!(status.success());
    wait_for("all to arrive", || (sink.messages().len() == 1000).then_some(()));
}

#[test]
fn sigterm_ends_what_has_begun_and_loses_nothing() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let mut gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    let mut client = std::net::TcpStream::connect(gateway.smtp).unwrap();
    let mut replies = BufReader::new(client.try_clone().unwrap());
    let mut expect = |code: &str| {
        let mut line = String::new();
        while !line.starts_with(&format!("{code} ")) {
            line.clear();
            assert!(replies.read_line(&mut line).unwrap() > 0, "closed before {code}");
        }
        line
    };
    expect("220");
    client.write_all(b"EHLO client.sender.test\r\nMAIL FROM:<joe@sender.test>\r\nRCPT TO:<jane@up.test>\r\nDATA\r\n").unwrap();
    expect("354");
    client.write_all(b"Subject: open\r\n\r\nfirst half\r\n").unwrap();
    let finish = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        client.write_all(b"second half\r\n.\r\n").unwrap();
    });
    let clean = gateway.stop();
    finish.join().unwrap();
    assert!(expect("250").contains("queued as"));
    assert!(clean, "a clean exit");
    gateway.restart();
    sink.wait_for_message("second half");
}

#[test]
fn a_broken_reload_keeps_the_old_settings_and_says_why() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    let good = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), good.clone() + "[smtpd]\nlisten = 1\n").unwrap();
    wait_for("the complaint", || (!gateway.logged("old ones stay in force").is_empty()).then_some(()));
    assert_eq!(send(&gateway, "jane@up.test", &mail("clean.eml"), &[])["code"], 250);
    std::fs::write(gateway.config(), good + &domain("new.test", sink.port, "")).unwrap();
    gateway.reload();
    wait_for("the new domain", || (send(&gateway, "max@new.test", &mail("clean.eml"), &[])["code"] == 250).then_some(()));
}

#[test]
fn a_second_instance_and_a_taken_port_are_told_apart() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    let second = gateway.command(&["serve"]);
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && text.contains("another feedgate already uses"), "{text}");
    let taken = std::fs::read_to_string(gateway.config()).unwrap().replace("127.0.0.1:0", &gateway.smtp.to_string());
    let other = gateway.directory.path().join("other.toml");
    std::fs::write(&other, taken.replace("/data\"", "/data2\"")).unwrap();
    let output = crate::gateway::command(&other, &["serve"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("cannot listen on"), "{text}");
}
