//! The path of a message, told in sentences: the whole gateway with the outside simulated.

mod deliver;
mod orders;
mod steer;

use std::time::Duration;

use feedgate::mail::Verdict;
use feedgate::sim::Server;

use crate::world::{DAY, MINUTE, Peer, World, domain, only, queued_as, text};

const JANE: &str = "jane@customer.example";
const MAX: &str = "max@plain.example";
/// The GTUBE string, in two parts: no filter shall take this file for spam.
const GTUBE: &str = concat!("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD", "-ANTI-UBE-TEST-EMAIL*C.34X");

/// The settings of most tests: two domains, one of which has spam judged.
fn customers(more: &str) -> String {
    domain("plain.example", &["203.0.113.9"], "")
        + &domain("customer.example", &["203.0.113.5"], more)
        + "[domains.\"customer.example\".spam]\nenabled = true\n"
}

fn message(subject: &str) -> String {
    format!(
        "From: Joe <joe@sender.example>\r\nTo: Jane <jane@customer.example>\r\nSubject: {subject}\r\n\
         Date: Fri, 20 Nov 2026 22:30:00 +0000\r\nMessage-ID: <{subject}@sender.example>\r\n\r\nThe text of {subject}.\r\n"
    )
}

/// A message on its way in while its verdict is held back: the sender still waits.
async fn sent_while_the_scanner_thinks(world: &World, content: &str) -> tokio::task::JoinHandle<String> {
    world.scanner.hold();
    let mut peer = world.client().await;
    let content = content.to_owned();
    let sending = tokio::spawn(async move { peer.send("joe@sender.example", &[JANE], &content).await });
    world.until("the scan", async || (world.scanner.scans() > 0 && world.queued().await.len() == 1).then_some(())).await;
    sending
}

#[tokio::test]
async fn clean_mail_is_delivered_with_our_headers_and_nothing_else_changed() {
    let world = World::new(&domain("plain.example", &["203.0.113.9"], "")).await;
    world.dns.change(|zone| {
        zone.names.insert("192.0.2.1".parse().unwrap(), vec!["out.sender.example".parse().unwrap()]);
        zone.addresses.insert("out.sender.example".parse().unwrap(), vec!["192.0.2.1".parse().unwrap()]);
    });
    let server = world.host("203.0.113.9", Server::new());
    let content = "subject:no space\r\nX-Odd : \t kept\r\nTo: a,\r\n b\r\n\r\n.one dot\r\n..two\r\n \r\ntr\u{e4}iling  \r\n\r\n";
    let id = world.take(&[MAX], content).await;
    let received = world.received(&server, 1).await.remove(0);
    assert_eq!((received.reverse_path.as_str(), received.recipients), ("joe@sender.example", vec![MAX.to_owned()]));
    let text = String::from_utf8(received.content).unwrap();
    let ours = text.strip_suffix(content).unwrap_or_else(|| panic!("changed: {text}"));
    let expected = format!(
        "Received: from out.sender.example (out.sender.example [192.0.2.1])\r\n\tby mx1.feedgate.test (Feedgate) with ESMTP id {id}\r\n\t\
         for <{MAX}>; Fri, 20 Nov 2026 22:36:00 +0000\r\nAuthentication-Results: mx1.feedgate.test;\r\n\tiprev=pass policy.iprev=192.0.2.1;\r\n\t\
         spf=none (feedgate: no SPF records found for joe@sender.example) smtp.mailfrom=joe@sender.example;\r\n\tdkim=none\r\n"
    );
    assert_eq!(ours, expected);
    for word in ["queued: ", "scanned: clean", "decided: deliver", "delivered: host=203.0.113.9:25"] {
        world.told(id, word).await;
    }
    world.until_gone(id).await;
}

#[tokio::test]
async fn large_mail_arrives_byte_for_byte_also_after_a_restart() {
    let mut world = World::new(&domain("plain.example", &["203.0.113.9"], "")).await;
    let content = message("large") + &".a line that begins with a dot\r\n".repeat(100_000);
    let id = world.take(&[MAX], &content).await;
    world.attempted(id, 1).await;
    world.restart().await;
    let server = world.host("203.0.113.9", Server::exchange());
    world.next_attempt(id).await;
    assert!(text(&world.received(&server, 1).await[0]).ends_with(&content));
}

#[tokio::test]
async fn forged_headers_are_taken_out() {
    let world = World::new(&customers("")).await;
    let server = world.host("203.0.113.9", Server::new());
    let forged = "X-Spam-Flag: NO\r\nX-Feedgate-Level: none\r\n\tfolded\r\nx-ms-exchange-organization-SCL: -1\r\n\
                  X-MS-Exchange-Forest-x: y\r\nAuthentication-Results: mx1.feedgate.test; spf=pass\r\n";
    let kept = "X-Spammer: kept\r\nAuthentication-Results: mx.other.example; spf=pass\r\n";
    world.take(&[MAX], &format!("{forged}{kept}{}", message("forged"))).await;
    let text = text(&world.received(&server, 1).await[0]);
    assert!(text.ends_with(&format!("{kept}{}", message("forged"))), "{text}");
    for word in ["X-Spam-", "X-Feedgate-", "folded", "organization-SCL", "Forest", "mx1.feedgate.test; spf"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

#[tokio::test]
async fn a_verdict_that_comes_late_delivers_late() {
    let world = World::new(&customers("")).await;
    let server = world.host("203.0.113.5", Server::new());
    let sending = sent_while_the_scanner_thinks(&world, &message("late")).await;
    assert!(!sending.is_finished(), "the sender waits for the verdict");
    world.pass(Duration::from_secs(10));
    let id = queued_as(&sending.await.unwrap());
    assert!(world.entry(id).await.unwrap().progress.awaits_scan());
    assert!(world.network.tried().is_empty(), "nothing unscanned is offered to anybody");
    world.scanner.go_on();
    assert!(text(&world.received(&server, 1).await[0]).contains("The text of late."));
    assert_eq!(world.scanner.scans(), 1);
}

#[tokio::test]
async fn an_infection_found_late_is_quarantined_and_never_released() {
    let world = World::new(&customers("")).await;
    world.scanner.say_next(Verdict::Infected("Eicar".into()));
    let sending = sent_while_the_scanner_thinks(&world, &message("sick")).await;
    world.pass(Duration::from_secs(10));
    let id = queued_as(&sending.await.unwrap());
    world.scanner.go_on();
    world.until("the quarantine", async || (world.status(id).await == "quarantined").then_some(())).await;
    let (released, refused) = world.queue().quarantine_release(&only(id), "ops").await.unwrap();
    assert_eq!((released.len(), refused), (0, vec![id]));
    assert!(world.queue().release(&only(id), "ops").await.unwrap().is_empty());
    assert!(world.queue().retry(&only(id), "ops").await.unwrap().is_empty());
    world.pass(DAY);
    assert_eq!(world.status(id).await, "quarantined");
    assert!(world.network.tried().is_empty());
}

#[tokio::test]
async fn an_infection_found_in_time_is_refused_and_leaves_nothing() {
    let world = World::new(&customers("")).await;
    let eicar = concat!("X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*\r\n");
    assert_eq!(world.send(&[JANE, MAX], &(message("sick") + eicar)).await, "554 5.7.1 Virus found: Eicar-Test-Signature");
    assert!(world.queued().await.is_empty() && world.network.tried().is_empty());
}

#[tokio::test]
async fn without_a_scanner_mail_waits_and_is_offered_to_nobody() {
    let world = World::new(&customers("")).await;
    let server = world.host("203.0.113.5", Server::new());
    world.scanner.go_away("no socket");
    let id = world.take(&[JANE], &message("waiting")).await;
    for attempts in 2..=8 {
        let due = world.entry(id).await.unwrap().progress.scan_due;
        // 5 s, doubling to 5 minutes.
        let expected = Duration::from_secs(5 * (1 << (attempts - 2))).min(5 * MINUTE);
        assert_eq!(due.since(world.now()), expected, "before scan {attempts}");
        world.pass(expected);
        let asked = async || world.entry(id).await.filter(|entry| entry.progress.scan_attempts == attempts);
        world.until("another scan in vain", asked).await;
    }
    assert!(world.network.tried().is_empty() && server.sessions() == 0);
    world.scanner.come_back();
    world.pass(5 * MINUTE);
    assert!(text(&world.received(&server, 1).await[0]).contains("The text of waiting."));
}

#[tokio::test]
async fn all_that_waited_for_the_scanner_goes_at_once_when_it_is_back() {
    let world = World::new(&customers("")).await;
    let server = world.host("203.0.113.5", Server::new());
    world.scanner.go_away("no socket");
    for number in 0..30 {
        world.take(&[JANE], &message(&format!("backlog {number}"))).await;
    }
    world.scanner.come_back();
    world.pass(5 * MINUTE);
    // The clock stands: no scan and no delivery was put off because another ended meanwhile.
    world.received(&server, 30).await;
}

#[tokio::test]
async fn a_crash_before_the_verdict_leaves_a_message_that_is_scanned_after_the_start() {
    let mut world = World::new(&customers("")).await;
    let server = world.host("203.0.113.5", Server::new());
    let sending = sent_while_the_scanner_thinks(&world, &message("crash")).await;
    world.crash().await;
    assert_eq!(sending.await.unwrap(), "", "the sender got no answer, and keeps its copy");
    assert!(world.queued().await[0].progress.awaits_scan());
    assert!(world.network.tried().is_empty());
    world.scanner.go_on();
    assert!(text(&world.received(&server, 1).await[0]).contains("The text of crash."));
}

#[tokio::test]
async fn spam_is_refused_when_all_refuse_it_and_deleted_for_one_when_others_take_it() {
    let world = World::new(&customers("")).await;
    let server = world.host("203.0.113.9", Server::new());
    let spam = message("offer") + GTUBE + "\r\n";
    assert_eq!(world.send(&[JANE, "joe@customer.example"], &spam).await, "550 5.7.1 Message refused as spam");
    assert!(world.queued().await.is_empty());
    let id = world.take(&[JANE, MAX], &spam).await;
    let received = world.received(&server, 1).await.remove(0);
    assert_eq!(received.recipients, [MAX]);
    assert!(!text(&received).contains("X-Spam"), "nothing about it where nobody asked");
    world.until_gone(id).await;
    world.told(id, "decided: delete: spam level high").await;
}

#[tokio::test]
async fn what_is_refused_late_is_deleted() {
    let world = World::new(&customers("")).await;
    let sending = sent_while_the_scanner_thinks(&world, &(message("late offer") + GTUBE + "\r\n")).await;
    world.pass(Duration::from_secs(10));
    let id = queued_as(&sending.await.unwrap());
    world.scanner.go_on();
    world.until_gone(id).await;
    assert!(world.network.tried().is_empty());
}

#[tokio::test]
async fn the_lower_levels_are_tagged_once() {
    let world = World::new(&customers("")).await;
    let server = world.host("203.0.113.5", Server::new());
    for (count, letter, tag) in [(1, "Z", "[SPAM: low] "), (2, "Y", "[SPAM: med] ")] {
        let spam = message("tag") + &GTUBE.replacen('X', letter, 1) + "\r\n";
        world.take(&[JANE], &spam).await;
        let text = text(&world.received(&server, count).await[count - 1]);
        assert!(text.ends_with(&spam.replace("Subject: ", &format!("Subject: {tag}"))), "{text}");
        assert!(text.contains("X-Spam-Flag: YES\r\n"), "{text}");
    }
}

#[tokio::test]
async fn what_cannot_be_scanned_is_quarantined_and_released_marked() {
    let world = World::new(&customers("")).await;
    let server = world.host("203.0.113.5", Server::new());
    world.scanner.say_next(Verdict::Unscannable("Heuristics.Encrypted.Zip".into()));
    let id = world.take(&[JANE], &message("locked")).await;
    assert_eq!(world.status(id).await, "quarantined");
    assert!(world.network.tried().is_empty());
    world.pass(3 * DAY);
    let (released, refused) = world.queue().quarantine_release(&only(id), "ops").await.unwrap();
    assert_eq!((released.len(), refused.len()), (1, 0));
    let text = text(&world.received(&server, 1).await[0]);
    assert!(text.contains("X-Feedgate-Unscannable: Heuristics.Encrypted.Zip\r\n"), "{text}");
    assert!(text.ends_with(&message("locked")), "no tag: {text}");
}

#[tokio::test]
async fn what_cannot_be_scanned_is_delivered_tagged_where_that_was_asked_for() {
    let world = World::new(&customers("unscannable = \"deliver-tagged\"")).await;
    let server = world.host("203.0.113.5", Server::new());
    world.scanner.say_next(Verdict::Unscannable("Heuristics.Limits.Exceeded".into()));
    world.take(&[JANE], &message("huge")).await;
    let text = text(&world.received(&server, 1).await[0]);
    assert!(text.contains("\r\nSubject: [NOT SCANNED] huge\r\n"), "{text}");
}

async fn greeted(world: &World, from: &str) -> Peer {
    let mut peer = world.client().await;
    assert!(peer.say(&format!("MAIL FROM:<{from}>")).await.starts_with("250 "));
    peer
}

#[tokio::test]
async fn greylisting_counts_the_seconds_down_and_remembers_over_a_restart() {
    let mut world = World::new(&customers("greylist = true")).await;
    let rcpt = format!("RCPT TO:<{JANE}>");
    for (passed, left) in [(0, 300), (100, 200), (199, 1)] {
        world.pass(Duration::from_secs(passed));
        let expected = format!("451 4.7.1 Greylisted, please try again in {left} seconds");
        assert_eq!(greeted(&world, "joe@sender.example").await.say(&rcpt).await, expected);
        assert!(greeted(&world, "").await.say(&rcpt).await.starts_with("250 "), "callouts and bounces pass");
        assert!(greeted(&world, "joe@sender.example").await.say(&format!("RCPT TO:<{MAX}>")).await.starts_with("250 "));
        world.restart().await;
    }
    world.pass(Duration::from_secs(1));
    assert!(greeted(&world, "joe@sender.example").await.say(&rcpt).await.starts_with("250 "));
    assert!(
        greeted(&world, "new@sender.example").await.say(&rcpt).await.starts_with("250 "),
        "the host has shown that it retries"
    );
}

#[tokio::test]
async fn our_postmaster_is_somebody_or_nobody() {
    let world = World::new(&format!("postmaster = \"{MAX}\"\n{}", customers(""))).await;
    let server = world.host("203.0.113.9", Server::new());
    for to in ["postmaster", "Postmaster@mx1.feedgate.test"] {
        world.take(&[to], &message("to the postmaster")).await;
    }
    assert!(world.received(&server, 2).await.iter().all(|received| received.recipients == [MAX]));

    let world = World::new(&customers("")).await;
    let reply = greeted(&world, "joe@sender.example").await.say("RCPT TO:<postmaster>").await;
    assert_eq!(reply, "550 5.1.1 No postmaster mailbox is configured here");
}

#[tokio::test]
async fn a_full_disk_is_said_before_anything_is_sent() {
    let world = World::new(&("[queue]\nreserve = \"1024TiB\"\n".to_owned() + &customers(""))).await;
    let reply = world.client().await.say("MAIL FROM:<joe@sender.example>").await;
    assert_eq!(reply, "452 4.3.1 Insufficient system storage");
    let refused = world.lines().into_iter().find(|line| line.what == "refused").unwrap();
    assert_eq!((refused.from.as_deref(), refused.client), (Some("joe@sender.example"), "192.0.2.1".parse().ok()));
}

#[tokio::test]
async fn two_messages_of_one_session_are_two_messages() {
    let world = World::new(&customers("")).await;
    let server = world.host("203.0.113.9", Server::new());
    let mut peer = world.client().await;
    let first = queued_as(&peer.send("joe@sender.example", &[MAX], &message("one")).await);
    let second = queued_as(&peer.send("", &[MAX], &message("two")).await);
    assert_eq!((first.session, first.number, second.number), (second.session, 1, 2));
    assert!(peer.say("QUIT").await.starts_with("221 "));
    let received = world.received(&server, 2).await;
    assert!(received.iter().any(|received| received.reverse_path.is_empty() && text(received).ends_with(&message("two"))));
}
