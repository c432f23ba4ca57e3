//! What operators do while mail waits, and what a restart keeps of it.

use std::time::Duration;

use feedgate::queue::Selector;
use feedgate::sim::{At, Do, Server};

use super::{MAX, message};
use crate::world::{DAY, MINUTE, World, domain, only};

/// One customer whose server is down.
async fn with_a_dead_customer() -> (World, Server) {
    let world = World::new(&domain("plain.example", &["203.0.113.9"], "")).await;
    let server = world.host("203.0.113.9", Server::new());
    server.go_down();
    (world, server)
}

/// Its server is away: what is due by now is a probe.
async fn until_probed(world: &World) {
    let next = async || world.queue().outages().await.unwrap().first().and_then(|view| view.probe_at);
    world.until("the end of a probe", async || next().await.filter(|next| *next > world.now())).await;
}

fn of_plain() -> Selector {
    Selector { domain: "plain.example".parse().ok(), ..Selector::default() }
}

#[tokio::test]
async fn extending_keeps_mail_alive_beyond_two_days_also_over_restarts() {
    let (mut world, server) = with_a_dead_customer().await;
    let sender = world.stranger("sender.example", "198.51.100.1");
    let began = world.now();
    let id = world.take(&[MAX], &message("extended")).await;
    world.attempted(id, 1).await;
    let steered = world.queue().extend(&of_plain(), 5 * DAY, "ops").await.unwrap();
    assert_eq!((steered.len(), steered[0].note.as_str()), (1, "until 2026-11-27T22:36:00Z"));
    for days in [3, 6] {
        world.restart().await;
        world.pass((began + days * DAY).since(world.now()));
        until_probed(&world).await;
        assert_eq!(world.status(id).await, "waiting", "after {days} days");
    }
    server.come_up();
    world.while_time_passes(MINUTE, "the message", async || (server.received().len() == 1).then_some(())).await;
    world.until_gone(id).await;
    assert_eq!(sender.sessions(), 0, "nobody was told that it failed");
}

#[tokio::test]
async fn an_extension_ends_too() {
    let (world, _server) = with_a_dead_customer().await;
    let sender = world.stranger("sender.example", "198.51.100.1");
    let id = world.take(&[MAX], &message("extended in vain")).await;
    world.attempted(id, 1).await;
    world.queue().extend(&only(id), DAY, "ops").await.unwrap();
    world.pass(3 * DAY - MINUTE);
    until_probed(&world).await;
    assert_eq!(world.status(id).await, "waiting");
    world.pass(MINUTE);
    world.while_time_passes(MINUTE, "the end", async || world.entry(id).await.is_none().then_some(())).await;
    world.received(&sender, 1).await;
}

#[tokio::test]
async fn held_mail_stays_until_it_is_released() {
    let (mut world, server) = with_a_dead_customer().await;
    let id = world.take(&[MAX], &message("held")).await;
    world.attempted(id, 1).await;
    assert_eq!(world.queue().hold(&of_plain(), "ops").await.unwrap().len(), 1);
    server.come_up();
    world.restart().await;
    world.pass(3 * DAY);
    // A message that is not held goes through: by then the held one would have gone, too.
    let other = world.take(&["sue@plain.example"], &message("not held")).await;
    world.received(&server, 1).await;
    world.until_gone(other).await;
    assert_eq!(world.status(id).await, "held");
    assert_eq!(world.queue().release(&only(id), "ops").await.unwrap().len(), 1);
    assert_eq!(world.received(&server, 2).await[1].recipients, [MAX]);
    world.until_gone(id).await;
}

#[tokio::test]
async fn mail_held_before_its_verdict_is_held_after_it() {
    let (world, server) = with_a_dead_customer().await;
    server.come_up();
    world.scanner.go_away("no socket");
    let id = world.take(&[MAX], &message("held early")).await;
    world.queue().hold(&only(id), "ops").await.unwrap();
    world.scanner.come_back();
    world.queue().retry(&only(id), "ops").await.unwrap();
    let judged = async || world.entry(id).await.filter(|entry| entry.progress.judgement.is_some());
    world.while_time_passes(Duration::from_secs(5), "the verdict", judged).await;
    assert_eq!(world.status(id).await, "held");
    assert!(world.network.tried().is_empty());
    world.queue().release(&only(id), "ops").await.unwrap();
    world.received(&server, 1).await;
}

#[tokio::test]
async fn dropped_mail_is_gone_and_nobody_is_told() {
    let (mut world, server) = with_a_dead_customer().await;
    let sender = world.stranger("sender.example", "198.51.100.1");
    let id = world.take(&[MAX], &message("dropped")).await;
    world.attempted(id, 1).await;
    assert_eq!(world.queue().drop(&only(id), "ops").await.unwrap().len(), 1);
    assert_eq!(world.status(id).await, "gone");
    server.come_up();
    world.restart().await;
    let other = world.take(&["sue@plain.example"], &message("not dropped")).await;
    world.while_time_passes(MINUTE, "the other", async || world.entry(other).await.is_none().then_some(())).await;
    assert_eq!(server.received().len(), 1);
    assert_eq!(sender.sessions(), 0);
}

#[tokio::test]
async fn retry_does_not_wait_for_the_schedule() {
    let (world, server) = with_a_dead_customer().await;
    let id = world.take(&[MAX], &message("now")).await;
    world.attempted(id, 1).await;
    server.come_up();
    world.queue().retry(&of_plain(), "ops").await.unwrap();
    world.received(&server, 1).await;
    world.until_gone(id).await;
}

#[tokio::test]
async fn a_restart_and_a_crash_keep_attempts_and_due_times() {
    let settings = domain("plain.example", &["203.0.113.9"], "") + &domain("other.example", &["203.0.113.10"], "");
    let mut world = World::new(&settings).await;
    let other = world.host("203.0.113.10", Server::new());
    let server = world.host("203.0.113.9", Server::new().at(At::Mail, Do::say("451 4.7.1 not this one")));
    let id = world.take(&[MAX], &message("kept")).await;
    world.attempted(id, 1).await;
    world.next_attempt(id).await;
    let before = world.next_attempt(id).await.unwrap();
    world.restart().await;
    world.crash().await;
    assert_eq!(world.entry(id).await.unwrap().progress.recipients[0], before);
    // Not before it is due: until then another destination's message comes and goes.
    world.pass(before.due.since(world.now()) - Duration::from_secs(1));
    world.take(&["sue@other.example"], &message("first after the start")).await;
    world.received(&other, 1).await;
    assert_eq!(world.entry(id).await.unwrap().progress.recipients[0].attempts, before.attempts);
    let after = world.next_attempt(id).await.unwrap();
    assert_eq!(after.attempts, before.attempts + 1);
    server.behave();
    world.next_attempt(id).await;
    world.received(&server, 1).await;
}

#[tokio::test]
async fn what_was_settled_is_not_delivered_again_after_a_crash() {
    let (mut world, server) = with_a_dead_customer().await;
    server.come_up();
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(world.take(&[MAX], &message(&format!("once {number}"))).await);
    }
    for id in &ids {
        world.until_gone(*id).await;
    }
    world.crash().await;
    world.restart().await;
    assert!(world.queued().await.is_empty());
    let last = world.take(&[MAX], &message("afterwards")).await;
    assert!(ids.iter().all(|id| *id < last), "ids go on above those of the run before");
    world.pass(DAY);
    world.until_gone(last).await;
    world.received(&server, 21).await;
}
