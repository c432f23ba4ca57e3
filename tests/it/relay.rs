//! Nothing is relayed for strangers, whatever an address looks like (tests/relay/forms.txt), and a customer's own servers send
//! out with their own addresses only.

use std::process::Command;

use feedgate::mail::Verdict;
use feedgate::sim;

use crate::clamd::Clamd;
use crate::dialogs::{matches, unescape};
use crate::gateway::{self, Gateway, Sink, program};
use crate::world::{World, domain, ip, queued_as, text};

const MESSAGE: &str = "From: joe@served.test\r\nSubject: hello\r\n\r\nhello\r\n";
/// The customer's own server.
const OWN: &str = "203.0.113.5";

/// One form, as the file has it.
#[derive(Default)]
struct Form {
    line: usize,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    utf8: bool,
    answer: String,
    goes: Option<String>,
}

fn forms() -> Vec<Form> {
    let text = std::fs::read_to_string(gateway::repository("tests/relay/forms.txt")).unwrap();
    let mut forms = Vec::new();
    let mut form = Form::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        match line.split_once(": ").unwrap_or((line, "")) {
            ("", _) if form.answer.is_empty() => {}
            ("", _) => forms.push(std::mem::take(&mut form)),
            ("UTF8", _) => form.utf8 = true,
            ("FROM", path) => form.from = Some(unescape(path)),
            ("TO", path) => form.to = Some(unescape(path)),
            ("S", pattern) => (form.line, form.answer) = (number + 1, pattern.to_owned()),
            ("goes", address) => form.goes = Some(address.to_owned()),
            _ => panic!("not a line of the file: {line}"),
        }
    }
    forms.push(form);
    forms
}

#[tokio::test]
async fn no_form_of_an_address_opens_the_door_for_a_stranger() {
    let settings = "postmaster = \"postmaster@served.test\"\n".to_owned() + &domain("served.test", &[OWN], "");
    let world = World::new(&settings).await;
    let customer = world.host(OWN, sim::Server::new().with("SMTPUTF8"));
    let victims: Vec<_> =
        [("elsewhere.test", "198.51.100.1"), ("other.test", "198.51.100.2"), ("sub.served.test", "198.51.100.3")]
            .map(|(domain, address)| world.stranger(domain, address))
            .into();
    let forms = forms();
    assert!(forms.len() >= 90, "only {} forms", forms.len());
    let (mut wrong, mut expected) = (Vec::new(), Vec::new());
    for form in &forms {
        let mut peer = world.client().await;
        let utf8 = if form.utf8 { " SMTPUTF8" } else { "" };
        let from = form.from.clone().unwrap_or_else(|| b"<joe@sender.test>".to_vec());
        let mut reply = peer.say_bytes(&[b"MAIL FROM:", &from[..], utf8.as_bytes()].concat()).await;
        if let Some(to) = &form.to {
            assert!(reply.starts_with("250 "), "line {}: {reply}", form.line);
            reply = peer.say_bytes(&[b"RCPT TO:", &to[..]].concat()).await;
        }
        if !matches(&form.answer, reply.as_bytes()) {
            wrong.push(format!("forms.txt:{}: {} but it said {reply}", form.line, form.answer));
        }
        if reply.starts_with("250 ") {
            assert!(peer.say("DATA").await.starts_with("354 "));
            queued_as(&peer.say(&format!("{MESSAGE}.")).await);
            expected.push(form.goes.clone().unwrap_or_else(|| format!("nowhere (line {})", form.line)));
        } else if form.goes.is_some() {
            wrong.push(format!("forms.txt:{}: it was not taken", form.line));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let mut arrived: Vec<_> =
        world.received(&customer, expected.len()).await.into_iter().flat_map(|received| received.recipients).collect();
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
    assert!(victims.iter().all(|victim| victim.sessions() == 0));
    assert!(world.network.tried().iter().all(|tried| tried.ip() == ip(OWN)), "{:?}", world.network.tried());
}

#[test]
fn swaks_finds_no_open_door_in_the_binary() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start(clamd.socket(), &gateway::domain("served.test", sink.port, ""));
    // What a command line can hold, and swaks does not take for a list. The postmaster of the common settings is another's.
    let can_say = |form: &&Form| {
        let to = form.to.as_deref().unwrap_or_default();
        let is_plain =
            to.starts_with(b"<") && to.ends_with(b">") && to.iter().all(|byte| (b' '..=b'~').contains(byte) && *byte != b',');
        let is_plain = is_plain && memchr::memmem::find(to, b"> ").is_none();
        is_plain
            && !form.utf8
            && form.from.is_none()
            && !to.to_ascii_lowercase().starts_with(b"<postmaster")
            && !to.ends_with(b"mx1.feedgate.test>")
    };
    let forms = forms();
    let said: Vec<_> = forms.iter().filter(can_say).collect();
    assert!(said.len() >= 40, "only {} forms", said.len());
    let mut taken = 0;
    for form in said {
        let to = String::from_utf8_lossy(form.to.as_deref().unwrap_or_default()).into_owned();
        let to = to.trim_start_matches('<').strip_suffix('>').unwrap_or(&to).to_owned();
        let mut command = Command::new(program("swaks"));
        command.args(["--server", &gateway.smtp.to_string(), "--helo", "client.sender.test", "--from", "joe@sender.test"]);
        let output = command.args(["--to", &to, "--hide-informational"]).output().expect("swaks runs");
        let talk = String::from_utf8_lossy(&output.stdout).into_owned();
        let after = talk.split("-> RCPT TO:").nth(1).unwrap_or_default();
        let reply = after.lines().nth(1).unwrap_or_default().trim_start_matches(['<', '-', '*', '~', ' ']).to_owned();
        assert!(matches(&form.answer, reply.as_bytes()), "forms.txt:{}: {talk}", form.line);
        taken += usize::from(form.goes.is_some());
    }
    gateway::wait_for("what was taken", || (sink.messages().len() == taken).then_some(()));
    for message in sink.messages() {
        let recipients: Vec<_> = message.lines().filter_map(|line| line.strip_prefix("X-Rcpt-Args: ")).collect();
        assert!(recipients.len() == 1 && recipients[0].ends_with("@served.test>"), "{message}");
    }
}

/// A customer whose own server may send out, and a stranger's server.
async fn house(more: &str) -> (World, sim::Server, sim::Server) {
    let settings =
        domain("served.test", &[OWN], &format!("greylist = true\nrelay_from = [\"{OWN}\", \"2001:db8:5::/64\"]\n{more}"))
            + &domain("second.test", &["203.0.113.6"], "greylist = true");
    let world = World::new(&settings).await;
    let customer = world.host(OWN, sim::Server::new());
    let stranger = world.stranger("elsewhere.test", "198.51.100.1");
    (world, customer, stranger)
}

#[tokio::test]
async fn a_customers_own_server_sends_out_to_anybody() {
    let (world, _, stranger) = house("").await;
    for (client, from) in [(OWN, "ann@served.test"), ("::ffff:203.0.113.5", "ANN@SERVED.test"), ("2001:db8:5::7", "")] {
        queued_as(&world.client_at(client).await.send(from, &["max@elsewhere.test"], MESSAGE).await);
    }
    let received = world.received(&stranger, 3).await;
    assert!(received.iter().all(|received| received.recipients == ["max@elsewhere.test"]));
    let first = text(&received[0]);
    assert!(first.contains("Received: from ") && first.contains("[203.0.113.5]"), "{first}");
    assert!(!first.contains("X-Feedgate") && !first.contains("X-Spam"), "{first}");
}

#[tokio::test]
async fn with_other_addresses_it_learns_what_to_do() {
    let (world, customer, stranger) = house("").await;
    let mut peer = world.client_at(OWN).await;
    let refused =
        "553 5.7.1 Sender <joe@elsewhere.test> refused: your server may send out through here with addresses at served.test only";
    peer.say("MAIL FROM:<joe@elsewhere.test>").await;
    assert_eq!(peer.say("RCPT TO:<max@elsewhere.test>").await, refused);
    for from in ["joe@second.test", "joe@sub.served.test", "\"ann@served.test\"@second.test"] {
        peer.say("RSET").await;
        peer.say(&format!("MAIL FROM:<{from}>")).await;
        let reply = peer.say("RCPT TO:<max@elsewhere.test>").await;
        assert!(reply.starts_with("553 5.7.1 Sender <") && reply.ends_with(" at served.test only"), "{reply}");
    }
    peer.say("RSET").await;
    peer.say("MAIL FROM:<ann@served.test>").await;
    for to in ["max@[198.51.100.1]", "max@[127.0.0.1]", "max@mx1.feedgate.test"] {
        assert!(peer.say(&format!("RCPT TO:<{to}>")).await.starts_with("553 5.7.1 Sorry"), "{to}");
    }
    // As anybody's mail to a customer of ours: greylisted when the sender is not its own.
    peer.say("RSET").await;
    peer.say("MAIL FROM:<joe@elsewhere.test>").await;
    assert!(peer.say("RCPT TO:<jane@second.test>").await.starts_with("451 4.7.1 Greylisted"));
    // A neighbour of that server is a stranger.
    let mut neighbour = world.client_at("203.0.113.6").await;
    neighbour.say("MAIL FROM:<ann@served.test>").await;
    assert!(neighbour.say("RCPT TO:<max@elsewhere.test>").await.starts_with("553 5.7.1 Sorry"));
    assert_eq!((customer.sessions(), stranger.sessions()), (0, 0));
}

#[tokio::test]
async fn what_it_sends_is_scanned_and_not_judged_as_spam() {
    let (world, _, stranger) = house("[domains.\"served.test\".spam]\nenabled = true\nlow = \"reject\"\nmed = \"reject\"").await;
    let mut peer = world.client_at(OWN).await;
    world.scanner.say_next(Verdict::Infected("Evil.Test".to_owned()));
    let reply = peer.send("ann@served.test", &["max@elsewhere.test"], MESSAGE).await;
    assert!(reply.starts_with("554 5.7.1 Virus found"), "{reply}");
    let spam =
        std::fs::read_to_string(gateway::repository("tests/mail/gtube.eml")).unwrap().replace("\r\n", "\n").replace('\n', "\r\n");
    queued_as(&peer.send("ann@served.test", &["max@elsewhere.test"], &spam).await);
    assert_eq!(world.received(&stranger, 1).await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_sent_out_comes_back_to_its_writer() {
    let (world, customer, stranger) = house("").await;
    let _ = stranger.clone().recipient("nobody@elsewhere.test", sim::Do::say("550 5.1.1 User unknown"));
    queued_as(&world.client_at(OWN).await.send("ann@served.test", &["nobody@elsewhere.test"], MESSAGE).await);
    let notice = world.received(&customer, 1).await;
    assert_eq!((notice[0].reverse_path.as_str(), &notice[0].recipients[..]), ("", &["ann@served.test".to_owned()][..]));
    assert!(text(&notice[0]).contains("550 5.1.1 User unknown"));
}
