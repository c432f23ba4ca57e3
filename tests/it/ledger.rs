//! Every recipient is accounted for: after kill -9, without the index, on a full disk. With the gateway's own binary, real
//! servers, and a real file system that is too small.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::clamd::Clamd;
use crate::gateway::{Gateway, PATIENCE, Sink, command, domain, free_port, wait_for};

/// Sends one message; the last reply, or `None` when the connection broke.
fn send(address: SocketAddr, to: &str, text: &str) -> Option<String> {
    send_body(address, to, text, "text\r\n")
}

fn send_body(address: SocketAddr, to: &str, subject: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut replies = BufReader::new(stream.try_clone().ok()?);
    let mut ask = |bytes: &str| -> Option<String> {
        stream.write_all(bytes.as_bytes()).ok()?;
        loop {
            let mut line = String::new();
            replies.read_line(&mut line).ok().filter(|length| *length > 0)?;
            if line.as_bytes().get(3) != Some(&b'-') {
                return Some(line.trim_end().to_owned());
            }
        }
    };
    ask("")?;
    let rcpt = format!("RCPT TO:<{to}>\r\n");
    for line in ["EHLO client.test\r\n", "MAIL FROM:<joe@sender.test>\r\n", &rcpt, "DATA\r\n"] {
        let reply = ask(line)?;
        if !reply.starts_with(['2', '3']) {
            return Some(reply);
        }
    }
    ask(&format!("Subject: {subject}\r\n\r\n{body}.\r\n"))
}

#[track_caller]
fn send_ok(gateway: &Gateway, to: &str, text: &str) {
    let reply = send(gateway.smtp, to, text);
    assert!(reply.as_deref().is_some_and(|reply| reply.starts_with("250 ")), "{reply:?}");
}

/// `queue verify`: the answer, and whether all was well.
fn verify(config: &Path) -> (Value, bool) {
    let output = command(config, &["queue", "verify", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = serde_json::from_str(&text);
    let value = value.unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (value, output.status.code() == Some(0))
}

#[track_caller]
fn assert_well(config: &Path) -> Value {
    let (verification, is_well) = verify(config);
    assert!(is_well, "{verification:#}");
    verification
}

/// One number of a domain's account.
fn number(verification: &Value, domain: &str, name: &str) -> i64 {
    let lines = verification["ledger"].as_array().expect("a list");
    let line = lines.iter().find(|line| line["domain"] == domain).unwrap_or_else(|| panic!("{verification:#}"));
    line[name].as_i64().expect("a number")
}

/// A customer who is there and one who is not.
fn two_customers(sink: &Sink) -> String {
    domain("up.test", sink.port, "") + &domain("away.test", free_port(), "")
}

#[test]
fn the_ledger_balances_after_each_kill_under_load() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let mut gateway = Gateway::start(clamd.socket(), &two_customers(&sink));
    let answered = Arc::new(Mutex::new(0i64));
    for round in 0..6 {
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let (stop, answered, address) = (Arc::clone(&stop), Arc::clone(&answered), gateway.smtp);
                std::thread::spawn(move || {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        count += 1;
                        let to = if (sender + count) % 3 == 0 { "jane@away.test" } else { "jane@up.test" };
                        let reply = send(address, to, &format!("message {round}-{sender}-{count}"));
                        let is_taken = reply.is_some_and(|reply| reply.starts_with("250 "));
                        *answered.lock().unwrap() += i64::from(is_taken);
                    }
                })
            })
            .collect();
        let enough = *answered.lock().unwrap() + 10 + 7 * round;
        wait_for("mail to be taken", || (*answered.lock().unwrap() >= enough).then_some(()));
        gateway.kill();
        stop.store(true, Ordering::Relaxed);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        // What a crash left, read by nobody so far; then what the start makes of it.
        let before = assert_well(&gateway.config());
        gateway.restart();
        let after = assert_well(&gateway.config());
        assert_eq!(after["running"], true);
        for domain in ["up.test", "away.test"] {
            assert_eq!(number(&before, domain, "accepted"), number(&after, domain, "accepted"), "{before:#} {after:#}");
        }
        let accepted = number(&after, "up.test", "accepted") + number(&after, "away.test", "accepted");
        assert!(accepted >= *answered.lock().unwrap(), "{accepted} accepted");
        assert_eq!(gateway.logged("does not balance"), Vec::<String>::new());
    }
    let ledger = &gateway.ask_json(&["status"])["ledger"];
    assert!(ledger["accepted"].as_i64() >= Some(*answered.lock().unwrap()), "{ledger}");
    assert!(gateway.ask(&["status"]).contains(" recipients accepted = "));
}

#[test]
fn every_end_is_counted_in_its_own_column() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let refusing = Sink::start_on(free_port(), &["-r", "rcpt"]);
    let sections = two_customers(&sink) + &domain("refusing.test", refusing.port, "");
    let mut gateway = Gateway::start(clamd.socket(), &sections);
    send_ok(&gateway, "jane@up.test", "delivered");
    for text in ["held", "dropped", "waiting"] {
        send_ok(&gateway, "jane@away.test", text);
    }
    let list = gateway.ask_json(&["queue", "list", "away.test"]);
    let id = |place: usize| list["messages"][place]["id"].as_str().expect("an id").to_owned();
    gateway.ask(&["queue", "hold", &id(0)]);
    gateway.ask(&["queue", "drop", &id(1), "--yes"]);
    wait_for("a delivery", || (number(&verify(&gateway.config()).0, "up.test", "delivered") == 1).then_some(()));
    let check = |verification: &Value| {
        let away = ["accepted", "held", "deleted", "waiting", "delivered"].map(|name| number(verification, "away.test", name));
        assert_eq!(away, [3, 1, 1, 1, 0], "{verification:#}");
        assert_eq!(number(verification, "up.test", "accepted"), 1);
    };
    check(&assert_well(&gateway.config()));
    assert!(gateway.stop());
    let stopped = assert_well(&gateway.config());
    assert_eq!((&stopped["running"], &stopped["index"]), (&false.into(), &"agrees with the journal".into()));
    check(&stopped);
    gateway.restart();
    check(&assert_well(&gateway.config()));
}

#[test]
fn verify_names_what_is_damaged_and_does_not_touch_it() {
    let clamd = Clamd::start();
    let mut gateway = Gateway::start(clamd.socket(), &domain("up.test", free_port(), ""));
    for text in ["one", "two", "three"] {
        send_ok(&gateway, "jane@up.test", &format!("message {text}"));
    }
    let segment = gateway.data().join("spool/0000000001.seg");
    let bytes = std::fs::read(&segment).unwrap();
    let mut bad = bytes.clone();
    let at = bytes.windows(20).position(|window| window == b"Subject: message two").unwrap();
    bad[at + 3] ^= 1;
    std::fs::write(&segment, &bad).unwrap();
    let names_it = |(verification, is_well): (Value, bool)| {
        assert!(!is_well);
        let wrong = verification["wrong"].to_string();
        assert!(wrong.contains("segment 1") && wrong.contains("checksum of the content"), "{wrong}");
    };
    names_it(verify(&gateway.config()));
    assert!(gateway.stop());
    names_it(verify(&gateway.config()));
    std::fs::write(&segment, &bytes).unwrap();
    let verification = assert_well(&gateway.config());
    assert_eq!(verification["messages"], 3, "nothing was repaired or removed: {verification:#}");
}

#[test]
fn an_index_lost_while_running_costs_nothing() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 3] = [
        ("deleted", |index| std::fs::remove_dir_all(index).unwrap()),
        ("truncated", |index| {
            each_file(index, |file| std::fs::File::options().write(true).open(file).unwrap().set_len(100).unwrap())
        }),
        ("garbage", |index| each_file(index, |file| std::fs::write(file, b"garbage!".repeat(4096)).unwrap())),
    ];
    let clamd = Clamd::start();
    for (what, harm) in harms {
        for is_killed in [false, true] {
            let port = free_port();
            let mut gateway = Gateway::start(clamd.socket(), &(domain("up.test", port, "") + "[queue]\nretry = [\"1s\"]\n"));
            send_ok(&gateway, "jane@up.test", "message before");
            harm(&gateway.data().join("index"));
            send_ok(&gateway, "jane@up.test", "message after");
            assert_eq!(gateway.ask_json(&["queue", "list"])["messages"].as_array().unwrap().len(), 2, "{what}");
            if is_killed {
                gateway.kill();
            } else {
                gateway.stop();
            }
            gateway.restart();
            assert!(!gateway.logged("built anew from the journal").is_empty(), "{what}, killed: {is_killed}");
            let sink = Sink::start_on(port, &[]);
            for text in ["before", "after"] {
                sink.wait_for_message(&format!("Subject: message {text}\n"));
            }
            assert_well(&gateway.config());
        }
    }
}

fn each_file(directory: &Path, each: impl Fn(&Path)) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.path().is_file() {
            each(&entry.path());
        }
    }
}

/// An old but whole index beside a journal that has gone on: sled cannot know that, the ledger does.
#[test]
fn an_index_that_lacks_messages_is_built_anew() {
    let clamd = Clamd::start();
    let mut gateway = Gateway::start(clamd.socket(), &domain("up.test", free_port(), ""));
    send_ok(&gateway, "jane@up.test", "message one");
    assert!(gateway.stop());
    let index = gateway.data().join("index");
    // The mark stays, the message goes.
    let database = sled::open(&index).unwrap();
    let key = database.iter().keys().flatten().find(|key| key.len() == 12).unwrap();
    database.remove(key).unwrap();
    drop(database);
    let (verification, is_well) = verify(&gateway.config());
    assert!(!is_well && verification["wrong"].to_string().contains("not in the index"), "{verification:#}");
    gateway.restart();
    assert!(!gateway.logged("the index has 0 messages, the ledger 1").is_empty(), "{:#?}", gateway.logged(""));
    assert_well(&gateway.config());
}

/// A file system in memory, of its own size.
struct Small(PathBuf);

impl Small {
    fn mount(path: PathBuf, size: &str) -> Small {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path).status();
        assert!(mounted.is_ok_and(|status| status.success()), "a tmpfs can be mounted (this test needs root)");
        Small(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_accepting_stops_in_time_and_resumes_by_itself() {
    let clamd = Clamd::start();
    let port = free_port();
    let settings = domain("up.test", port, "") + "[queue]\nretry = [\"1s\"]\nreserve = \"12MiB\"\n";
    let mut gateway = Gateway::start(clamd.socket(), &settings);
    assert!(gateway.stop());
    let _small = Small::mount(gateway.data(), "64m");
    gateway.restart();
    // Some are records of the journal, some are files of their own.
    let line = "x".repeat(70) + "\r\n";
    let mut taken = HashSet::new();
    let refusal = (0..200).find_map(|count| {
        let size = if count % 4 == 0 { 2 << 20 } else { 700 << 10 };
        let text = format!("message {count}");
        let reply = send_body(gateway.smtp, "jane@up.test", &text, &line.repeat(size / 72)).unwrap();
        if reply.starts_with("250 ") {
            taken.insert(text);
            return None;
        }
        Some(reply)
    });
    assert_eq!(refusal.as_deref(), Some("452 4.3.1 Insufficient system storage"), "{} taken", taken.len());
    assert!(taken.len() > 20, "{} taken", taken.len());
    assert_well(&gateway.config());
    assert_eq!(gateway.ask_json(&["status"])["spool"]["accepting"], false);
    let sink = Sink::start_on(port, &[]);
    wait_for("everything to be delivered", || {
        let arrived = sink.messages();
        taken.iter().all(|text| arrived.iter().any(|message| message.contains(&format!("Subject: {text}\n")))).then_some(())
    });
    // Nobody restarts anything: room comes back, and with it new mail.
    wait_for("mail to be taken again", || {
        send(gateway.smtp, "jane@up.test", "message afterwards").filter(|reply| reply.starts_with("250 "))
    });
    sink.wait_for_message("Subject: message afterwards\n");
    let is_said = |words: &str| gateway.logged(words).len() == 1;
    assert!(is_said("has less room than queue.reserve") && is_said("has room again"), "{:#?}", gateway.logged("room"));
    assert_eq!(sink.messages().len(), taken.len() + 1, "each once");
    assert_well(&gateway.config());
    assert!(gateway.stop());
    assert_well(&gateway.config());
}
