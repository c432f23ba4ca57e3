//! Users' reports: who may teach the gateway by mail, what is learned, and what everybody else is told; and that the sender's
//! reputation learns from what leaves quarantine.

use feedgate::admin::operations::Selection;
use feedgate::checks::Reputed;
use feedgate::queue::{By, Mode, Steer};
use feedgate::sim::Server;
use feedgate::spam::Label;

use crate::authentication::Signer;
use crate::clamd::Clamd;
use crate::gateway::{self, Gateway, program, repository};
use crate::learn::gtube;
use crate::world::{DAY, MINUTE, World, domain, text};

const SPAM: &str = "spam@report.msp.example";
const HAM: &str = "ham@report.msp.example";
const ADDRESSES: &str = "[spam.learn]\nreport_spam = \"spam@report.msp.example\"\nreport_ham = \"ham@report.msp.example\"\n";
/// Of customer.example.
const OWN: &str = "203.0.113.5";
/// Of a customer whose servers have names, and send from elsewhere.
const NAMED: &str = "203.0.113.7";
const OUT: &str = "198.51.100.77";
const STRANGERS: &str = "550 5.7.1 Reports are taken from the mail servers of customers only";

async fn world() -> World {
    let other = "[domains.\"other.example\"]\ndeliver_to = [\"mail.other.example\"]\nrelay_from = [\"198.51.100.77\"]\n";
    // Greylisted like everybody, if reports were.
    let customer = domain("customer.example", &[OWN], "greylist = \"always\"\n");
    let world = World::new(&format!("{ADDRESSES}{customer}{other}")).await;
    world.dns.change(|zone| zone.addresses.insert("mail.other.example".parse().unwrap(), vec![NAMED.parse().unwrap()]));
    world
}

fn inner(number: u32) -> String {
    format!(
        "From: Ann <ann@sender.example>\r\nTo: joe@customer.example\r\nSubject: offer {number}\r\n\
         Message-ID: <{number}@sender.example>\r\n\r\nspins and jackpots\r\n"
    )
}

/// A message with these forwarded as attachments.
fn report(author: &str, numbers: &[u32]) -> String {
    let attached = |number: &u32| format!("--b\r\nContent-Type: message/rfc822\r\n\r\n{}", inner(*number));
    let attached: String = numbers.iter().map(attached).collect();
    format!(
        "From: Joe <{author}>\r\nSubject: Fwd\r\nDate: Fri, 20 Nov 2026 22:30:00 +0000\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nplease\r\n{attached}--b--\r\n"
    )
}

async fn say(world: &World, client: &str, from: &str, to: &str, content: &str) -> String {
    let mut peer = world.client_at(client).await;
    peer.say(&format!("MAIL FROM:<{from}>")).await;
    let reply = peer.say(&format!("RCPT TO:<{to}>")).await;
    if !reply.starts_with("250 ") {
        return format!("rcpt: {reply}");
    }
    assert!(peer.say("DATA").await.starts_with("354 "));
    peer.say(&format!("{content}.")).await
}

/// What joe@customer.example is told, through his own server.
async fn joe(world: &World, to: &str, content: &str) -> String {
    say(world, OWN, "joe@customer.example", to, content).await
}

/// By domain: spam and ham.
async fn learned(world: &World) -> Vec<(String, usize, usize)> {
    let stats = world.flow().lessons.stats().await.unwrap();
    let name = |domain: Option<feedgate::mail::Domain>| domain.map_or("all".to_owned(), |domain| domain.to_string());
    stats.lessons.scopes.into_iter().map(|scope| (name(scope.domain), scope.spam, scope.ham)).collect()
}

#[tokio::test]
async fn a_customers_server_brings_reports() {
    let mut world = world().await;
    let two = report("joe@customer.example", &[1, 2]);
    assert_eq!(joe(&world, SPAM, &two).await, "250 2.0.0 Ok: learned 2 as spam for customer.example");
    let again = "250 2.0.0 Ok: learned 0 as spam for customer.example (2 known already)";
    assert_eq!(joe(&world, "SPAM@Report.msp.example", &two).await, again);
    let ham = report("joe@customer.example", &[2, 3]);
    assert_eq!(joe(&world, HAM, &ham).await, "250 2.0.0 Ok: learned 2 as ham for customer.example");
    let saved = "From: joe@customer.example\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=\"a.EML\"\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nRnJvbTogYm9iQHNlbmRlci5leGFtcGxlDQpTdWJqZWN0OiBIaQ0KDQpIaSBhbGwNCg==\r\n";
    assert_eq!(joe(&world, SPAM, saved).await, "250 2.0.0 Ok: learned 1 as spam for customer.example");
    let expected = [("customer.example".to_owned(), 2, 2)];
    assert_eq!(learned(&world).await, expected);
    assert!(world.queued().await.is_empty(), "a report is no mail");
    let lines: Vec<_> = world.lines().into_iter().filter(|line| line.what == "report").collect();
    assert_eq!(lines[0].text, "joe@customer.example: learned 2 as spam for customer.example");
    assert_eq!((lines.len(), &lines[0].to[..]), (4, &[SPAM.to_owned()][..]));
    let metrics = world.flow().maillog.metrics().render();
    assert!(metrics.contains("feedgate_learn_reports_total{label=\"spam\",answer=\"learned\"} 3"), "{metrics}");
    world.crash().await;
    assert_eq!(learned(&world).await, expected, "what was answered is durable");
}

#[tokio::test]
async fn servers_with_names_and_those_that_send_report_for_their_own_domain() {
    let world = world().await;
    let sue = report("sue@other.example", &[1]);
    let from = "sue@other.example";
    assert_eq!(say(&world, NAMED, from, SPAM, &sue).await, "250 2.0.0 Ok: learned 1 as spam for other.example");
    let sue = report("sue@other.example", &[2]);
    assert_eq!(say(&world, OUT, "", SPAM, &sue).await, "250 2.0.0 Ok: learned 1 as spam for other.example");
    let joe = report("joe@customer.example", &[3]);
    let refused = "550 5.7.1 Reports are taken from the mail servers of customer.example only, or with its valid DKIM signature";
    assert_eq!(say(&world, OUT, from, SPAM, &joe).await, refused);
    let ann = report("ann@sender.example", &[4]);
    let refused = "550 5.7.1 Reports are taken from users of the domains served here; sender.example is none of them";
    assert_eq!(say(&world, OWN, "", SPAM, &ann).await, refused);
    assert_eq!(learned(&world).await, [("other.example".to_owned(), 2, 0)]);
}

#[tokio::test]
async fn strangers_teach_nobody() {
    let world = world().await;
    let joe = report("joe@customer.example", &[1]);
    for from in ["ann@sender.example", ""] {
        assert_eq!(say(&world, "192.0.2.1", from, SPAM, &joe).await, format!("rcpt: {STRANGERS}"));
    }
    // First, and forgotten after a while: answers are kept in memory.
    world.dns.change(|zone| zone.fail.insert("txt customer.example".to_owned()));
    let open = say(&world, "192.0.2.1", "joe@customer.example", SPAM, &joe).await;
    assert!(open.starts_with("451 4.7.1 Whether this report is from customer.example cannot be verified"), "{open}");
    world.dns.change(|zone| zone.fail.clear());
    world.pass(10 * MINUTE);
    // SPF alone proves nothing here.
    let spf = b"v=spf1 ip4:192.0.2.1 -all".to_vec();
    world.dns.change(|zone| zone.texts.insert("customer.example".parse().unwrap(), vec![spf]));
    let forged = say(&world, "192.0.2.1", "joe@customer.example", SPAM, &joe).await;
    assert!(forged.starts_with("550 5.7.1 Reports are taken from the mail servers of customer.example only"), "{forged}");
    let several = joe.replace("From: Joe <joe@customer.example>", "From: joe@customer.example, ann@sender.example");
    assert!(say(&world, OWN, "joe@customer.example", SPAM, &several).await.starts_with("550 5.6.0 A report needs one author"));
    assert!(learned(&world).await.is_empty());
}

#[tokio::test]
async fn a_signature_proves_who_reports() {
    let world = world().await;
    let signed = Signer::new(&world, "customer.example").sign(&report("joe@customer.example", &[1]));
    let reply = say(&world, "192.0.2.1", "joe@customer.example", SPAM, &signed).await;
    assert_eq!(reply, "250 2.0.0 Ok: learned 1 as spam for customer.example");
}

#[tokio::test]
async fn what_cannot_be_learned_from_is_explained() {
    let world = world().await;
    let plain = "From: joe@customer.example\r\nSubject: Fwd: offer\r\n\r\nis this spam?\r\n";
    let refused = "550 5.6.0 No message to learn from (no message is attached to it): forward it as an attachment";
    assert_eq!(joe(&world, SPAM, plain).await, refused);
    // What mail-parser would not come back from.
    let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(36_000);
    let reply =
        joe(&world, SPAM, &format!("From: joe@customer.example\r\nSubject: Fwd\r\n{deep}From: a@b.example\r\n\r\nhi\r\n")).await;
    assert!(reply.starts_with("550 5.6.0 "), "{reply}");
    assert!(learned(&world).await.is_empty());
    assert_eq!(world.lines().iter().filter(|line| line.what == "refused").count(), 2);
}

#[tokio::test]
async fn reports_have_an_end_and_wait_for_their_hour() {
    let world = world().await;
    let numbers: Vec<u32> = (0..99).collect();
    assert_eq!(
        joe(&world, SPAM, &report("joe@customer.example", &numbers)).await,
        "250 2.0.0 Ok: learned 99 as spam for customer.example"
    );
    let two = report("joe@customer.example", &[100, 101]);
    let later = "450 4.7.1 customer.example has reported 100 messages within an hour; more are not taken; try again later";
    assert_eq!(joe(&world, SPAM, &two).await, later);
    let others = report("sue@other.example", &[100]);
    assert!(say(&world, NAMED, "sue@other.example", SPAM, &others).await.starts_with("250 "), "another domain");
    world.pass(60 * MINUTE);
    assert_eq!(joe(&world, SPAM, &two).await, "250 2.0.0 Ok: learned 2 as spam for customer.example");
}

#[tokio::test]
async fn a_report_goes_alone() {
    let world = world().await;
    let mut peer = world.client_at(OWN).await;
    let alone = "452 4.5.3 Reports and other mail cannot share a transaction, send the rest in another one";
    peer.say("MAIL FROM:<joe@customer.example>").await;
    assert!(peer.say(&format!("RCPT TO:<{SPAM}>")).await.starts_with("250 "));
    assert!(peer.say(&format!("RCPT TO:<{SPAM}>")).await.starts_with("250 "), "the same again");
    assert_eq!(peer.say(&format!("RCPT TO:<{HAM}>")).await, alone);
    assert!(peer.say("DATA").await.starts_with("354 "));
    let reply = peer.say(&format!("{}.", report("joe@customer.example", &[1]))).await;
    assert_eq!(reply, "250 2.0.0 Ok: learned 1 as spam for customer.example");
    // Ordinary mail first.
    let mut peer = world.client_at(OUT).await;
    peer.say("MAIL FROM:<sue@other.example>").await;
    assert!(peer.say("RCPT TO:<ann@sender.example>").await.starts_with("250 "));
    assert_eq!(peer.say(&format!("RCPT TO:<{SPAM}>")).await, alone);
}

#[tokio::test]
async fn a_report_address_in_a_served_domain_comes_before_its_mailboxes() {
    let settings = "[spam.learn]\nreport_spam = \"spam@customer.example\"\n";
    let world = World::new(&format!("{settings}{}", domain("customer.example", &[OWN], ""))).await;
    let server = world.host(OWN, Server::new());
    let joes = report("joe@customer.example", &[1]);
    let reply = joe(&world, "spam@customer.example", &joes).await;
    assert_eq!(reply, "250 2.0.0 Ok: learned 1 as spam for customer.example");
    assert_eq!(
        say(&world, "192.0.2.1", "ann@sender.example", "spam@customer.example", &joes).await,
        format!("rcpt: {STRANGERS}")
    );
    assert!(joe(&world, "jane@customer.example", &joes).await.starts_with("250 2.0.0 Ok: queued as "));
    assert!(text(&world.received(&server, 1).await[0]).contains("spins and jackpots"));
}

/// Over a real socket, by a client that nobody here wrote.
#[test]
fn a_real_client_reports() {
    let clamd = Clamd::start();
    let gateway = Gateway::start(clamd.socket(), &(gateway::domain("up.test", 1, "") + ADDRESSES));
    let file = gateway.directory.path().join("report.eml");
    std::fs::write(&file, report("joe@up.test", &[1, 2])).unwrap();
    let mut command = std::process::Command::new(program("python3"));
    command.arg(repository("tests/tools/send.py")).arg(gateway.smtp.to_string()).args(["joe@up.test", SPAM]).arg(&file);
    let output = command.output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(answer["reply"], "2.0.0 Ok: learned 2 as spam for up.test", "{answer}");
    let stats = gateway.ask_json(&["spam", "stats"]);
    assert_eq!((&stats["scopes"][0]["domain"], &stats["scopes"][0]["spam"]), (&"up.test".into(), &2.into()), "{stats}");
}

#[tokio::test]
async fn what_leaves_quarantine_teaches_the_senders_reputation() {
    let settings = "[domains.\"customer.example\".spam]\nenabled = true\nmed = \"quarantine\"\n";
    let world = World::new(&domain("customer.example", &[OWN], settings)).await;
    let spf = b"v=spf1 ip4:192.0.2.1 -all".to_vec();
    world.dns.change(|zone| zone.texts.insert("sender.example".parse().unwrap(), vec![spf]));
    let operations = world.operations();
    let content = |number: usize| format!("From: joe@sender.example\r\nSubject: minutes {number}\r\n\r\n{}\r\n", gtube());
    let mut ids = Vec::new();
    for number in 0..6 {
        let id = world.take(&["jane@customer.example"], &content(number)).await;
        world.until("the quarantine", async || (world.status(id).await == "quarantined").then_some(())).await;
        ids.push(id);
    }
    let entry = world.entry(ids[0]).await.unwrap();
    let findings = &entry.progress.judgement.as_ref().unwrap().authentication.findings;
    let sender = Reputed::of(&entry.envelope, &["joe@sender.example".parse().unwrap()], findings).expect("SPF proves it");
    let reputation = &world.flow().checks.acquaintance.reputation;
    let customer = "customer.example".parse().unwrap();
    let past = async || reputation.points(&customer, &sender, world.now()).await.map(|hit| hit.evidence).unwrap_or_default();
    let only = |id| Selection { id: Some(id), ..Selection::default() };
    let leave = async |steer, id, mode, label| {
        operations.leave_quarantine(steer, &only(id), By::from("alice"), mode, label).await.unwrap();
    };
    assert_eq!(past().await, "sender.example: 6 messages in 1 day, 0 of them none");
    leave(Steer::ReleaseQuarantined, ids[0], Mode::DryRun, Some(Label::Ham)).await;
    leave(Steer::DeleteQuarantined, ids[4], Mode::ForReal, None).await;
    assert_eq!(past().await, "sender.example: 6 messages in 1 day, 0 of them none");
    for id in &ids[..3] {
        leave(Steer::ReleaseQuarantined, *id, Mode::ForReal, Some(Label::Ham)).await;
    }
    leave(Steer::DeleteQuarantined, ids[3], Mode::ForReal, Some(Label::Spam)).await;
    assert_eq!(past().await, "sender.example: 6 messages in 1 day, 0 of them none, 1 reported as spam, 3 released");
    // By its id, for the domain.
    let take = feedgate::admin::lessons::Take::Itself;
    for _ in 0..2 {
        operations.lessons_queued(ids[5], take, Some(Label::Ham), Some(customer.clone()), "alice", Mode::ForReal).await.unwrap();
    }
    world.pass(DAY);
    assert_eq!(past().await.rsplit_once("none, ").unwrap().1, "1 reported as spam, 4 released");
}
