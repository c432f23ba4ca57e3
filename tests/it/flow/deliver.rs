//! DELIVER: due → routed → offered → settled.

use std::net::SocketAddr;
use std::time::Duration;

use feedgate::mail::Status;
use feedgate::sim::{At, Do, Server, Way};

use super::{MAX, message};
use crate::world::{DAY, MINUTE, World, domain, text};

/// One customer with two servers, and the sender's own.
async fn world() -> World {
    World::new(&domain("plain.example", &["203.0.113.9", "203.0.113.10"], "")).await
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[tokio::test]
async fn when_the_first_host_is_down_the_second_gets_it() {
    let world = world().await;
    let second = world.host("203.0.113.10", Server::new());
    let id = world.take(&[MAX], &message("second")).await;
    world.received(&second, 1).await;
    assert_eq!(world.network.tried(), [at("203.0.113.9:25"), at("203.0.113.10:25")]);
    world.until_gone(id).await;
}

#[tokio::test]
async fn a_host_that_breaks_off_or_is_too_busy_leaves_it_to_the_second() {
    for wish in [(At::Greeting, Do::say("421 4.3.2 not now")), (At::Ehlo, Do::Drop), (At::Mail, Do::say("421 4.3.2 not now"))] {
        let world = world().await;
        let first = world.host("203.0.113.9", Server::new().at(wish.0, wish.1.clone()));
        let second = world.host("203.0.113.10", Server::new());
        world.take(&[MAX], &message("busy")).await;
        world.received(&second, 1).await;
        assert!(first.received().is_empty(), "{wish:?}");
    }
}

#[tokio::test]
async fn what_becomes_due_together_goes_out_together() {
    // Few at a time, and read from disk: while one is looked up, others come to their end. No more hosts than are probed at a time.
    let names: Vec<String> = (0..90).map(|number| format!("d{number}.example")).collect();
    let domains: String = names.iter().map(|name| domain(name, &["203.0.113.9"], "")).collect();
    let mut world = World::new(&("[queue]\ndeliveries = 8\n".to_owned() + &domains)).await;
    for name in &names {
        let id = world.take(&[&format!("max@{name}")], &message("waits")).await;
        world.attempted(id, 1).await;
    }
    let server = world.host("203.0.113.9", Server::new());
    world.restart().await;
    world.pass(2 * MINUTE);
    // Time stands still again: what was put off, for however short, would not arrive.
    world.received(&server, names.len()).await;
}

#[tokio::test]
async fn while_all_are_down_it_is_tried_by_the_schedule_until_its_lifetime_ends_and_the_sender_is_told() {
    let world = world().await;
    let sender = world.stranger("sender.example", "198.51.100.1");
    let began = world.now();
    let id = world.take(&[MAX], &message("never")).await;
    let recipient = world.attempted(id, 1).await;
    assert!(recipient.status == Status::Waiting && recipient.last_reply.contains("refused"), "{recipient:?}");
    // From then on one probe stands for all attempts. Each asks both hosts.
    let mut probes = Vec::new();
    while world.entry(id).await.is_some() {
        let view = world.queue().outages().await.unwrap().remove(0);
        let due = view.probe_at.expect("closed until the end, and no probe is out");
        assert!(due > world.now() && due <= began + 2 * DAY, "{view:?}");
        probes.push(due.since(world.now()));
        world.pass(due.since(world.now()));
        let over = async || match world.queue().outages().await.unwrap().first() {
            None => Some(()),
            Some(view) => view.probe_at.filter(|next| *next > world.now()).map(|_| ()),
        };
        world.until("the end of the probe", over).await;
    }
    for (wait, step) in probes.iter().zip([1, 2, 5, 10, 15, 15, 15]) {
        let step = step * MINUTE;
        assert!((step * 9 / 10..=step * 11 / 10).contains(wait), "{wait:?} and not about {step:?}");
    }
    assert_eq!(world.now(), began + 2 * DAY, "the last probe is made at the end");
    assert!((185..210).contains(&probes.len()), "{}", probes.len());
    // The sender's server is asked for once.
    world.received(&sender, 1).await;
    assert_eq!(world.network.tried().len(), 2 * (1 + probes.len()) + 1, "both hosts each time");

    let notice = world.received(&sender, 1).await.remove(0);
    assert_eq!((notice.reverse_path.as_str(), notice.recipients.as_slice()), ("", ["joe@sender.example".to_owned()].as_slice()));
    let notice = text(&notice);
    for words in ["multipart/report", "Status: 4.4.7", "Action: failed", "Subject: never", MAX] {
        assert!(notice.contains(words), "{words} in {notice}");
    }
    assert!(!notice.contains("The text of never"), "headers only: {notice}");
    world.until("the notice to be settled", async || world.queued().await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn nobody_is_told_about_mail_from_nobody() {
    let world = world().await;
    let sender = world.stranger("sender.example", "198.51.100.1");
    world.host("203.0.113.9", Server::new().recipient(MAX, Do::say("550 5.1.1 no such user")));
    let mut peer = world.client().await;
    let id = super::queued_as(&peer.send("", &[MAX], &message("from nobody")).await);
    world.until_gone(id).await;
    assert!(world.queued().await.is_empty() && sender.sessions() == 0);
    world.told(id, "bounced: no notice: 550 5.1.1 no such user").await;
}

#[tokio::test]
async fn one_recipient_is_refused_the_other_delivered_and_one_notice_names_the_one() {
    let world = world().await;
    let sender = world.stranger("sender.example", "198.51.100.1");
    let server = world.host("203.0.113.9", Server::new().recipient(MAX, Do::say("550 5.1.1 no such user")));
    let id = world.take(&["sue@plain.example", MAX], &message("half")).await;
    assert_eq!(world.received(&server, 1).await[0].recipients, ["sue@plain.example"]);
    let notice = text(&world.received(&sender, 1).await[0]);
    assert!(notice.contains("Status: 5.1.1") && notice.contains(MAX), "{notice}");
    assert!(!notice.contains("sue@plain.example"), "{notice}");
    world.until_gone(id).await;
}

#[tokio::test]
async fn a_recipient_who_is_asked_to_come_back_later_comes_alone() {
    let world = world().await;
    let server = world.host("203.0.113.9", Server::new().recipient(MAX, Do::say("450 4.2.2 mailbox full")));
    let id = world.take(&["sue@plain.example", MAX], &message("later")).await;
    world.received(&server, 1).await;
    let deferred = async || world.entry(id).await.filter(|entry| entry.progress.recipients[1].attempts == 1);
    let entry = world.until("the end of the attempt", deferred).await;
    assert!(matches!(entry.progress.recipients[0].status, Status::Delivered { .. }));
    assert_eq!(entry.progress.recipients[1].last_reply, "450 4.2.2 mailbox full");
    server.behave();
    world.pass(entry.progress.recipients[1].due.since(world.now()));
    assert_eq!(world.received(&server, 2).await[1].recipients, [MAX]);
    world.until_gone(id).await;
}

#[tokio::test]
async fn a_notice_waits_for_the_senders_server_and_dies_with_it() {
    let world = world().await;
    world.host("203.0.113.9", Server::new().recipient(MAX, Do::say("550 5.1.1 no such user")));
    let sender = world.stranger("sender.example", "198.51.100.1");
    sender.go_down();
    world.take(&[MAX], &message("told later")).await;
    let notice = async || world.queued().await.first().filter(|entry| entry.envelope.reverse_path.is_null()).cloned();
    let id = world.until("the notice", notice).await.envelope.id;
    world.attempted(id, 1).await;
    sender.come_up();
    world.next_attempt(id).await;
    world.received(&sender, 1).await;

    // A sender that takes no mail (RFC 7505) is not told, and nothing is left of it.
    world.dns.change(|zone| zone.mail_exchangers.insert("sender.example".parse().unwrap(), vec![null_mx()]));
    world.take(&[MAX], &message("told never")).await;
    world.until("both to be gone", async || world.queued().await.is_empty().then_some(())).await;
    assert_eq!(sender.received().len(), 1);
}

fn null_mx() -> feedgate::outside::MailExchanger {
    feedgate::outside::MailExchanger { preference: 0, host: None }
}

#[tokio::test]
async fn a_host_whose_tls_fails_gets_clear_text_and_is_remembered() {
    let world = world().await;
    let server = world.host("203.0.113.9", Server::exchange().at(At::Handshake, Do::say("no common cipher")));
    for count in 1..=2 {
        let id = world.take(&[MAX], &message("clear text")).await;
        let received = world.received(&server, count).await;
        assert!(!received[count - 1].encrypted);
        // Out of the queue: the connection is not used again.
        world.until_gone(id).await;
        world.until("QUIT", async || (quits(&server) == count).then_some(())).await;
    }
    assert_eq!(server.commands().iter().filter(|command| *command == "STARTTLS").count(), 1);
    world.pass(8 * DAY);
    world.take(&[MAX], &message("a week later")).await;
    world.received(&server, 3).await;
    assert_eq!(server.commands().iter().filter(|command| *command == "STARTTLS").count(), 2, "it may have been repaired");
}

fn quits(server: &Server) -> usize {
    server.commands().iter().filter(|command| *command == "QUIT").count()
}

#[tokio::test]
async fn tls_is_used_where_it_works() {
    let world = world().await;
    let server = world.host("203.0.113.9", Server::exchange());
    world.take(&[MAX], &message("encrypted")).await;
    let received = world.received(&server, 1).await.remove(0);
    assert!(received.encrypted && received.way == Way::Bdat);
}

#[tokio::test]
async fn a_host_that_offers_chunking_and_does_not_know_it_gets_data_next_time() {
    let world = world().await;
    let server = world.host("203.0.113.9", Server::exchange().once(At::End, Do::say("500 5.5.1 Unrecognized command")));
    let id = world.take(&[MAX], &message("chunks")).await;
    let recipient = world.attempted(id, 1).await;
    assert!(recipient.status == Status::Waiting, "{recipient:?}");
    world.next_attempt(id).await;
    let received = world.received(&server, 1).await.remove(0);
    assert_eq!(received.way, Way::Data);
    world.until_gone(id).await;
}

#[tokio::test]
async fn a_destination_that_hangs_delays_no_other() {
    let settings = "[queue]\ndeliveries_per_domain = 2\ndeliveries = 4\n".to_owned()
        + &domain("plain.example", &["203.0.113.9"], "")
        + &domain("hangs.example", &["203.0.113.66"], "");
    let world = World::new(&settings).await;
    let hangs = world.host("203.0.113.66", Server::new().at(At::Greeting, Do::Hang));
    let fine = world.host("203.0.113.9", Server::new());
    for number in 0..10 {
        world.take(&["max@hangs.example"], &message(&format!("stuck {number}"))).await;
    }
    world.until("the first to hang", async || (hangs.sessions() == 2).then_some(())).await;
    for number in 0..10 {
        world.take(&[MAX], &message(&format!("fine {number}"))).await;
    }
    world.received(&fine, 10).await;
    assert_eq!((hangs.sessions(), hangs.received().len()), (2, 0), "two at a time, and no more");
}

#[tokio::test]
async fn one_dead_host_is_probed_by_one_message_and_all_go_when_it_is_back() {
    let world = World::new(&domain("plain.example", &["203.0.113.9"], "")).await;
    let server = world.host("203.0.113.9", Server::new());
    server.go_down();
    let first = world.take(&[MAX], &message("probe")).await;
    world.attempted(first, 1).await;
    for number in 0..20 {
        world.take(&[MAX], &message(&format!("behind {number}"))).await;
    }
    let down_since = world.now();
    for probes in 2..=6 {
        let tried = async || (world.network.tried().len() == probes).then_some(());
        world.while_time_passes(MINUTE / 6, "another probe", tried).await;
        let attempts: u32 = world.queued().await.iter().map(|entry| entry.progress.recipients[0].attempts).sum();
        assert_eq!(attempts, 1, "no message is tried meanwhile");
    }
    server.come_up();
    let all_arrived = async || (server.received().len() == 21).then_some(());
    world.while_time_passes(MINUTE / 6, "all to arrive", all_arrived).await;
    assert!(world.now().since(down_since) < 60 * MINUTE);
}

#[tokio::test]
async fn a_server_that_took_it_and_said_nothing_may_get_it_twice_but_it_is_never_lost() {
    let world = World::new(&domain("plain.example", &["203.0.113.9"], "")).await;
    let server = world.host("203.0.113.9", Server::new().once(At::End, Do::Drop));
    let id = world.take(&[MAX], &message("twice")).await;
    world.attempted(id, 1).await;
    world.next_attempt(id).await;
    assert_eq!(world.received(&server, 2).await[0].content, server.received()[1].content);
    world.until_gone(id).await;
}

#[tokio::test]
async fn a_temporary_dns_failure_is_no_reason_to_give_up() {
    let world = World::new(&domain("plain.example", &["mail.plain.example"], "")).await;
    let id = world.take(&[MAX], &message("no name")).await;
    assert!(world.attempted(id, 1).await.last_reply.starts_with("451 4.4.4"));
    world.dns.change(|zone| zone.addresses.insert("mail.plain.example".parse().unwrap(), vec!["203.0.113.9".parse().unwrap()]));
    let server = world.host("203.0.113.9", Server::new());
    world.pass(Duration::from_secs(70));
    world.received(&server, 1).await;
}
