//! Bad surroundings: a spool, an index or a directory that is not as it was left.

use std::path::PathBuf;

use super::*;
use crate::clamd::Clamd;
use crate::gateway::{Sink, command, domain, free_port, wait_for};

/// Three messages for a customer who is away, and then the gateway is gone.
struct Waiting {
    _clamd: Clamd,
    gateway: Gateway,
    port: u16,
    ids: Vec<String>,
}

impl Waiting {
    fn killed() -> Waiting {
        let mut waiting = Waiting::begin();
        waiting.gateway.kill();
        waiting
    }

    fn stopped() -> Waiting {
        let mut waiting = Waiting::begin();
        assert!(waiting.gateway.stop());
        waiting
    }

    fn begin() -> Waiting {
        let clamd = Clamd::start();
        let port = free_port();
        let retry = "[queue]\nretry = [\"1s\"]\n";
        let gateway = Gateway::start(clamd.socket(), &(domain("up.test", port, "") + retry));
        let ids = ["one", "two", "three"].map(|text| deliver_ok(&gateway, &format!("message {text}"))).to_vec();
        // The others wait behind the outage and are not tried on their own.
        let is_tried = || gateway.logged(&ids[0]).iter().any(|line| line.contains("deferred"));
        wait_for("a first attempt", || is_tried().then_some(()));
        let waiting = Waiting { _clamd: clamd, gateway, port, ids };
        waiting.wait_for_index();
        waiting
    }

    /// How far the journal was durable is in the index then: what is damaged before that is no interrupted write.
    fn wait_for_index(&self) {
        let behind = || self.gateway.ask_json(&["status"])["spool"]["index_behind"].as_u64().expect("a number");
        wait_for("the index", || (behind() == 0).then_some(()));
    }

    /// A message that keeps the segment of the others from being given up, held.
    fn fill_segment(&self) -> String {
        let text = "a line that fills the segment\r\n".repeat(1000);
        let id = queue_id(&deliver(&self.gateway, "jane@up.test", format!("Subject: filler\r\n\r\n{text}")));
        self.gateway.ask(&["queue", "hold", &id]);
        self.wait_for_index();
        id
    }

    fn flip_a_bit_of_message_two(&self) {
        let segment = self.segment();
        let mut bytes = std::fs::read(&segment).unwrap();
        let at = find(&bytes, "Subject: message two").unwrap() + 10;
        bytes[at] ^= 0x20;
        std::fs::write(&segment, &bytes).unwrap();
    }

    fn data(&self, path: &str) -> PathBuf {
        self.gateway.data().join(path)
    }

    /// The file of the journal that holds the messages.
    fn segment(&self) -> PathBuf {
        let spool = self.data("spool");
        let mut files: Vec<_> =
            std::fs::read_dir(&spool).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.retain(|path| std::fs::read(path).is_ok_and(|bytes| find(&bytes, "message two").is_some()));
        files.sort();
        files.pop().unwrap_or_else(|| panic!("a segment in {spool:?}"))
    }

    /// The customer is back: these arrive, and nothing else.
    #[track_caller]
    fn assert_arrive(&self, texts: &[&str]) {
        let sink = Sink::start_on(self.port, &[]);
        for text in texts {
            sink.wait_for_message(&format!("Subject: message {text}\n"));
        }
        deliver_ok(&self.gateway, "message last");
        sink.wait_for_message("Subject: message last\n");
        assert_eq!(sink.messages().len(), texts.len() + 1);
    }

    fn logged_error(&self) -> Vec<String> {
        self.gateway.logged("\"ERROR\"")
    }
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text.as_bytes())
}

#[test]
fn an_index_full_of_garbage_is_built_anew() {
    let mut waiting = Waiting::stopped();
    for directory in ["index", "memory"] {
        for name in files_in(&waiting.data(directory)) {
            let path = waiting.data(directory).join(name);
            if path.is_file() {
                let length = std::fs::metadata(&path).unwrap().len().clamp(64, 4096) as usize;
                std::fs::write(&path, b"garbage!".repeat(length / 8)).unwrap();
            }
        }
    }
    waiting.gateway.restart();
    assert!(!waiting.gateway.logged("built anew from the journal").is_empty());
    waiting.assert_arrive(&["one", "two", "three"]);
}

#[test]
fn an_index_that_is_half_there_or_no_directory_is_built_anew() {
    let mut waiting = Waiting::killed();
    std::fs::remove_dir_all(waiting.data("index")).unwrap();
    std::fs::write(waiting.data("index"), "a file where a directory should be").unwrap();
    waiting.gateway.restart();
    assert_eq!(waiting.gateway.ask_json(&["queue", "list"])["messages"].as_array().unwrap().len(), 3);
    waiting.assert_arrive(&["one", "two", "three"]);
}

#[test]
fn a_journal_cut_off_at_its_end_gives_up_what_it_has() {
    let mut waiting = Waiting::killed();
    let segment = waiting.segment();
    let bytes = std::fs::read(&segment).unwrap();
    // In the middle of the third message's content.
    let at = find(&bytes, "Subject: message three").unwrap() + 30;
    std::fs::write(&segment, &bytes[..at]).unwrap();
    waiting.gateway.restart();
    // The index knows that there was more: this is no interrupted write.
    let errors = waiting.logged_error();
    assert!(errors.iter().any(|line| line.contains("damaged")), "{:#?}", waiting.gateway.logged(""));
    waiting.assert_arrive(&["one", "two"]);
}

#[test]
fn a_flipped_bit_costs_one_message_and_is_reported() {
    for is_killed in [true, false] {
        let mut waiting = Waiting::begin();
        let filler = waiting.fill_segment();
        if is_killed {
            waiting.gateway.kill();
        } else {
            assert!(waiting.gateway.stop());
        }
        waiting.flip_a_bit_of_message_two();
        waiting.gateway.restart();
        waiting.assert_arrive(&["one", "three"]);
        let errors = waiting.logged_error();
        assert!(errors.iter().any(|line| line.contains("damaged")), "{errors:#?}");
        assert!(!files_in(&waiting.data("spool/damaged")).is_empty(), "what cannot be read is set aside; {errors:#?}");
        // It stays where it is until an operator has seen it.
        let damaged = &waiting.ids[1];
        assert!(waiting.gateway.ask(&["queue", "show", damaged]).contains("local problem"));
        waiting.gateway.ask(&["queue", "drop", damaged, "--yes"]);
        let left = waiting.gateway.ask_json(&["queue", "list"]);
        let left: Vec<_> = left["messages"].as_array().unwrap().iter().map(|message| message["id"].clone()).collect();
        assert_eq!(left, [filler]);
    }
}

#[test]
fn a_damaged_message_goes_with_its_segment_and_is_reported() {
    let mut waiting = Waiting::killed();
    waiting.flip_a_bit_of_message_two();
    waiting.gateway.restart();
    waiting.assert_arrive(&["one", "three"]);
    // Nothing else is needed in the segment: it is given up, and what cannot be copied out of it leaves the queue.
    let is_reported =
        || waiting.logged_error().iter().any(|line| line.contains("was taken out") && line.contains(&waiting.ids[1]));
    wait_for("a report", || is_reported().then_some(()));
    assert!(!files_in(&waiting.data("spool/damaged")).is_empty());
    assert!(waiting.gateway.ask_json(&["queue", "list"])["messages"].as_array().unwrap().is_empty());
}

#[test]
fn a_body_file_that_is_gone_or_garbled_costs_one_message() {
    let mut waiting = Waiting::begin();
    let large = |text: &str| format!("Subject: message {text}\r\n\r\n{}", "a line of a large body\r\n".repeat(60_000));
    let ids = ["gone", "garbled", "whole"].map(|text| queue_id(&deliver(&waiting.gateway, "jane@up.test", large(text))));
    waiting.gateway.kill();
    let body = |id: &str| waiting.data(&format!("spool/bodies/{id}.body"));
    std::fs::remove_file(body(&ids[0])).unwrap();
    std::fs::write(body(&ids[1]), "not what it was").unwrap();
    waiting.gateway.restart();
    assert!(waiting.logged_error().iter().any(|line| line.contains(&ids[0]) && line.contains("missing")));
    waiting.assert_arrive(&["one", "two", "three", "whole"]);
    wait_for("a report", || waiting.logged_error().iter().any(|line| line.contains(&ids[1])).then_some(()));
}

#[test]
fn a_data_directory_that_goes_away_loses_nothing_that_was_answered() {
    let clamd = Clamd::start();
    let sink = Sink::start();
    let mut gateway = Gateway::start(clamd.socket(), &domain("up.test", sink.port, ""));
    deliver_ok(&gateway, "before");
    sink.wait_for_message("before");
    std::fs::remove_dir_all(gateway.data()).unwrap();
    // Small ones go into a file that has no name any more, or are refused for now: both are honest only if what was answered
    // 250 arrives.
    let small = deliver(&gateway, "jane@up.test", "Subject: afterwards\r\n\r\nsmall one");
    if small.starts_with("250 ") {
        sink.wait_for_message("small one");
    } else {
        assert!(small.starts_with("45"), "{small}");
    }
    let large = deliver(&gateway, "jane@up.test", format!("Subject: large\r\n\r\n{}", "L line\r\n".repeat(300_000)));
    assert!(large.starts_with("45"), "{large}");
    // Then it notices, and takes nothing for as long as there is nowhere to keep it.
    wait_for("no mail to be taken", || {
        let mut talk = Talk::open(&gateway);
        talk.send("MAIL FROM:<joe@sender.test>\r\n");
        talk.reply()?.starts_with("452 4.3.1 ").then_some(())
    });
    assert_eq!(gateway.logged("no mail is taken").len(), 1);
    let output = gateway.command(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    gateway.stop();
    gateway.restart();
    deliver_ok(&gateway, "again");
    sink.wait_for_message("again");
}

#[test]
fn a_gateway_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("file"), "in the way").unwrap();
    let base = |data: &str| {
        format!(
            "hostname = \"mx1.isp.test\"\ndata_dir = {:?}\n[smtp]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"\"\n",
            path(data)
        )
    };
    let good = base("data");
    let cases = [
        ("a key", good.replace("listen = [", "listne = [1]\nlisten = ["), "listne"),
        ("a section", good.clone() + "[smtpd]\n", "smtpd"),
        ("a type", good.replace("[\"127.0.0.1:0\"]", "25"), "listen"),
        ("no TOML", "\0\x01{{{".to_owned(), "feedgate.toml"),
        ("empty", String::new(), "hostname"),
        ("data_dir below a file", base("file/data"), "file/data"),
        ("data_dir is a file", base("file"), "file"),
        ("data_dir in /proc", base("data").replace(&path("data").display().to_string(), "/proc/feedgate"), "/proc/feedgate"),
        ("huge", good.clone() + &"#".repeat(5 << 20) + "\n[x]", "x"),
        ("deep", format!("a = {}", "[".repeat(100_000)), "feedgate.toml"),
    ];
    for (name, text, word) in cases {
        let config = path("feedgate.toml");
        std::fs::write(&config, text).unwrap();
        let output = command(&config, &["serve"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(word) && !said.contains("panicked"), "{name}: {said}");
        assert!(said.len() < 20_000, "{name}: {} bytes of explanation", said.len());
    }
    std::fs::write(path("feedgate.toml"), [0xff, 0xfe, b'a']).unwrap();
    let output = command(&path("feedgate.toml"), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let output = command(&path("nowhere.toml"), &["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("nowhere.toml"), "{said}");
}
