//! What operators order for longer than a moment: other servers, extensions of a whole domain, an end with a text; and ETRN, with
//! which a server asks by itself.

use std::time::Duration;

use feedgate::mail::{Reroute, Status};
use feedgate::queue::{By, Longer, Mode, Selector, Steer};
use feedgate::sim::Server;

use super::{MAX, message};
use crate::world::{DAY, MINUTE, World, domain, only, text};

fn of_plain() -> Selector {
    Selector { domain: "plain.example".parse().ok(), ..Selector::default() }
}

fn alice(reason: &str) -> By {
    By { name: "alice".to_owned(), reason: reason.to_owned() }
}

/// A customer whose server is down, and one message for it that was tried.
async fn with_a_waiting_message() -> (World, Server, feedgate::mail::QueueId) {
    let world = World::new(&domain("plain.example", &["203.0.113.9"], "")).await;
    let server = world.host("203.0.113.9", Server::new());
    server.go_down();
    let id = world.take(&[MAX], &message("waits")).await;
    world.attempted(id, 1).await;
    (world, server, id)
}

#[tokio::test]
async fn rerouted_mail_goes_elsewhere_past_the_dead_host_also_after_a_restart() {
    let (mut world, server, id) = with_a_waiting_message().await;
    let other = world.take(&[MAX], &message("stays")).await;
    let backup = world.host("203.0.113.77", Server::new());
    backup.go_down();
    let to = Reroute { host: "[203.0.113.77]".parse().unwrap(), port: 25 };
    let steered = world.queue().steer(Steer::Reroute(Some(to.clone())), &only(id), alice("moved"), Mode::ForReal).await.unwrap();
    assert_eq!((steered.len(), steered[0].note.as_str()), (1, "to 203.0.113.77:25"));
    world.attempted(id, 2).await;
    world.restart().await;
    let kept = world.entry(id).await.unwrap().progress.clone();
    assert_eq!(kept.recipients[0].reroute, Some(to));
    let noted = kept.steerings.last().unwrap();
    assert_eq!((&*noted.by, &*noted.what, &*noted.reason), ("alice", "reroute to 203.0.113.77:25", "moved"));
    backup.come_up();
    world.next_attempt(id).await;
    assert!(text(&world.received(&backup, 1).await[0]).contains("Subject: waits"));
    world.until_gone(id).await;
    assert_eq!(world.status(other).await, "waiting", "only what was asked for went elsewhere");
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_reroute_by_name_is_resolved_and_can_be_cleared() {
    let (world, server, id) = with_a_waiting_message().await;
    let to = Reroute { host: "backup.example".parse().unwrap(), port: 25 };
    world.queue().steer(Steer::Reroute(Some(to)), &of_plain(), "ops", Mode::ForReal).await.unwrap();
    let waiting = world.attempted(id, 2).await;
    assert!(waiting.status == Status::Waiting && waiting.last_reply.contains("backup.example"), "{waiting:?}");
    server.come_up();
    world.queue().steer(Steer::Reroute(None), &of_plain(), "ops", Mode::ForReal).await.unwrap();
    world.received(&server, 1).await;
    world.until_gone(id).await;
}

#[tokio::test]
async fn a_bounce_tells_the_sender_the_operators_text_and_is_final() {
    let (world, server, id) = with_a_waiting_message().await;
    let sender = world.stranger("sender.example", "198.51.100.1");
    let words = "this customer has moved; ask them for their new address";
    let bounce = Steer::Bounce(words.to_owned());
    let would = world.queue().steer(bounce.clone(), &of_plain(), "ops", Mode::DryRun).await.unwrap();
    assert_eq!((would.len(), world.status(id).await), (1, "waiting"));
    let steered = world.queue().steer(bounce, &of_plain(), alice("ticket 7"), Mode::ForReal).await.unwrap();
    assert_eq!((steered[0].id, steered[0].recipients), (id, 1));
    world.until_gone(id).await;
    world.told(id, "given-up: by alice: 1 recipient, ticket 7").await;
    world.told(id, words).await;
    let notice = text(&world.received(&sender, 1).await[0]).replace("=\r\n", "");
    assert!(notice.contains("this customer has moved"), "{notice}");
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn mail_still_to_come_is_kept_too_and_over_crashes_until_the_domain_has_its_mail() {
    let (mut world, server, first) = with_a_waiting_message().await;
    let sender = world.stranger("sender.example", "198.51.100.1");
    let plain = "plain.example".parse().unwrap();
    let began = world.now();
    world.queue().extend(&of_plain(), 5 * DAY, "alice").await.unwrap();
    let granted = world.queue().extend_domain(&plain, Longer::By(5 * DAY), "alice", "new server").await.unwrap();
    assert_eq!(granted.until, began + 7 * DAY);
    world.crash().await;
    assert_eq!(world.queue().extension(&plain), Some(granted));
    world.pass(DAY);
    let later = world.take(&[MAX], &message("later")).await;
    let entry = world.entry(later).await.unwrap();
    assert_eq!(world.queue().lifetime_end(&entry.envelope, &entry.progress, 0), began + 7 * DAY);
    // Past its own two days.
    world.restart().await;
    world.pass(3 * DAY);
    world.queue().sweep().await.unwrap();
    assert_eq!((world.status(first).await, world.status(later).await), ("waiting", "waiting"));
    server.come_up();
    world.pass(Duration::from_secs(1));
    world.queue().retry(&of_plain(), "ops").await.unwrap();
    world.received(&server, 2).await;
    world.until_gone(first).await;
    world.until_gone(later).await;
    world.pass(2 * MINUTE);
    world.queue().sweep().await.unwrap();
    assert_eq!(world.queue().extension(&plain), None, "the outage is over");
    world.crash().await;
    assert_eq!(world.queue().extension(&plain), None);
    assert_eq!(sender.sessions(), 0, "nobody was told that it failed");
}

#[tokio::test]
async fn an_extension_ends_by_its_date_and_by_an_operator() {
    let (world, _server, id) = with_a_waiting_message().await;
    let plain = "plain.example".parse().unwrap();
    let began = world.now();
    world.queue().extend_domain(&plain, Longer::Until(began + 4 * DAY), "alice", "").await.unwrap();
    assert!(world.queue().end_extension(&plain, "bob", "not so").await.unwrap().is_some());
    assert_eq!(world.queue().extension(&plain), None);
    world.queue().extend_domain(&plain, Longer::Until(began + 4 * DAY), "alice", "").await.unwrap();
    let end = |entry: &feedgate::store::Entry| world.queue().lifetime_end(&entry.envelope, &entry.progress, 0);
    assert_eq!(end(&world.entry(id).await.unwrap()), began + 4 * DAY);
    world.pass(4 * DAY);
    assert_eq!(world.queue().extension(&plain), None);
}

#[tokio::test]
async fn a_dry_run_and_an_age_say_what_would_change() {
    let (world, _server, old) = with_a_waiting_message().await;
    let before = world.entry(old).await.unwrap();
    world.pass(3 * Duration::from_secs(3600));
    let young = world.take(&[MAX], &message("young")).await;
    let hour_ago = world.now() - Duration::from_secs(3600);
    let older = Selector { before: Some(hour_ago), ..of_plain() };
    let newer = Selector { since: Some(hour_ago), ..of_plain() };
    let ids = |steered: Vec<feedgate::queue::Steered>| steered.into_iter().map(|steered| steered.id).collect::<Vec<_>>();
    for (selector, expected) in [(&older, old), (&newer, young)] {
        let would = world.queue().steer(Steer::Drop, selector, "ops", Mode::DryRun).await.unwrap();
        assert_eq!(ids(would), [expected]);
    }
    assert_eq!(world.entry(old).await.unwrap().progress.steerings, before.progress.steerings);
    assert_eq!(ids(world.queue().drop(&older, alice("too old")).await.unwrap()), [old]);
    assert_eq!((world.status(old).await, world.status(young).await), ("gone", "waiting"));
    world.told(old, "dropped: by alice: 1 recipient, too old").await;
}

#[tokio::test]
async fn a_customers_server_that_is_back_asks_for_its_mail() {
    let (world, server, id) = with_a_waiting_message().await;
    server.come_up();
    let mut stranger = world.client().await;
    assert!(!stranger.say("EHLO out.sender.example").await.contains("ETRN"));
    assert!(stranger.say("ETRN plain.example").await.starts_with("459 4.7.1 "));
    let mut peer = world.session("203.0.113.9", None);
    assert!(peer.reply().await.starts_with("220 "));
    assert!(peer.say("EHLO mail.plain.example").await.contains("ETRN"));
    assert!(peer.say("ETRN other.example").await.starts_with("459 4.7.1 "));
    assert!(peer.say("ETRN @plain.example").await.starts_with("501 5.5.4 "));
    assert_eq!(world.status(id).await, "waiting");
    assert_eq!(peer.say("ETRN plain.example").await, "250 2.0.0 Ok, queue for plain.example started");
    world.received(&server, 1).await;
    world.until_gone(id).await;
    world.told(id, "by the server 203.0.113.9").await;
    assert!(peer.say("ETRN plain.example").await.starts_with("458 4.4.5 "), "once a minute");
    world.pass(MINUTE);
    assert!(peer.say("ETRN plain.example").await.starts_with("250 2.0.0 "));
}

#[tokio::test]
async fn a_server_known_by_its_name_may_ask_too() {
    let world = World::new(&domain("plain.example", &["mail.plain.example"], "")).await;
    world.dns.change(|zone| {
        zone.addresses.insert("mail.plain.example".parse().unwrap(), vec!["203.0.113.9".parse().unwrap()]);
    });
    for (address, answer) in [("203.0.113.10", "459 "), ("203.0.113.9", "250 ")] {
        let mut peer = world.session(address, None);
        assert!(peer.reply().await.starts_with("220 "));
        peer.say("EHLO mail.plain.example").await;
        assert!(peer.say("ETRN PLAIN.example").await.starts_with(answer), "{address}");
    }
}
