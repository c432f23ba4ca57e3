//! An outage from its first failure to its end, told in sentences: the whole gateway with the outside simulated.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use feedgate::config::Config;
use feedgate::mail::{QueueId, Timestamp};
use feedgate::queue::{Longer, Mode, OutageState, OutageView, Selector, Steer};
use feedgate::sim::{At, Do, Server};
use feedgate::store::Entry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::{DAY, MINUTE, World, domain, only};

const MAX: &str = "max@plain.example";
const HOST: &str = "203.0.113.9";
const HOUR: Duration = Duration::from_secs(3600);

fn message(subject: &str) -> String {
    format!("From: joe@sender.example\r\nTo: {MAX}\r\nSubject: {subject}\r\n\r\nThe text of {subject}.\r\n")
}

async fn world(more: &str) -> World {
    World::new(&domain("plain.example", &[HOST], more)).await
}

/// How the domain stands; `None`: up.
async fn view(world: &World) -> Option<OutageView> {
    world.queue().outages().await.unwrap().into_iter().find(|view| view.domain == "plain.example")
}

async fn state(world: &World) -> Option<OutageState> {
    view(world).await.map(|view| view.state)
}

/// Lets time pass to the next probe and waits for its end.
async fn probe(world: &World) {
    // None while one is out, as after a start.
    let due = async || view(world).await.expect("an outage").probe_at;
    let due = world.until("a probe to be planned", due).await;
    world.pass(due.since(world.now()));
    let over = async || match view(world).await {
        None => Some(()),
        Some(view) if view.state == OutageState::Draining => Some(()),
        Some(view) => view.probe_at.filter(|next| *next > world.now()).map(|_| ()),
    };
    world.until("the end of the probe", over).await;
}

/// Probes until so much time has passed since then.
async fn probes_until(world: &World, moment: Timestamp) {
    while world.now() < moment {
        probe(world).await;
    }
}

/// A message that was tried in vain, and its host, which is down by then.
async fn down(world: &World) -> (QueueId, Server) {
    let server = world.host(HOST, Server::new());
    server.go_down();
    let id = world.take(&[MAX], &message("first")).await;
    world.attempted(id, 1).await;
    assert_eq!(state(world).await, Some(OutageState::Suspect));
    probe(world).await;
    assert_eq!(state(world).await, Some(OutageState::Suspect));
    probe(world).await;
    assert_eq!(state(world).await, Some(OutageState::Down));
    (id, server)
}

#[tokio::test]
async fn an_outage_is_probed_and_its_backlog_drains_oldest_first() {
    let world = world("").await;
    let (_, server) = down(&world).await;
    for number in 0..20 {
        world.take(&[MAX], &message(&format!("number {number:02}"))).await;
        world.pass(Duration::from_secs(1));
    }
    let shown = view(&world).await.unwrap();
    assert_eq!(shown.messages, 21);
    assert!(shown.why.contains("refused"), "{shown:?}");
    server.come_up();
    probe(&world).await;
    let received = world.received(&server, 21).await;
    let subjects = received.iter().map(|received| String::from_utf8_lossy(&received.content).into_owned());
    let numbers: Vec<_> = subjects.filter_map(|text| Some(text.split_once("Subject: number ")?.1[..2].to_owned())).collect();
    // As many as go at a time may overtake each other.
    assert_eq!(numbers[0], "00");
    assert!(numbers[..5].iter().all(|number| number.as_str() < "16"), "{numbers:?}");
    assert!(server.commands().iter().any(|command| command == "QUIT"));
    world.until("it to be up", async || state(&world).await.is_none().then_some(())).await;
}

#[tokio::test]
async fn back_pressure_makes_a_host_suspect_and_the_waits_grow_until_a_message_is_taken() {
    let world = world("").await;
    let server = world.host(HOST, Server::new().at(At::Mail, Do::say("452 4.3.1 Insufficient system resources")));
    let id = world.take(&[MAX], &message("pressure")).await;
    world.attempted(id, 1).await;
    assert_eq!(state(&world).await, Some(OutageState::Suspect));
    for attempts in 2..=3 {
        // The probe is answered, one message goes, and is not taken.
        probe(&world).await;
        let due = async || world.entry(id).await.map(|entry| entry.progress.recipients[0].clone());
        let tried = async || due().await.filter(|recipient| recipient.attempts == attempts);
        world.while_time_passes(Duration::from_secs(10), "another try", tried).await;
    }
    let shown = view(&world).await.unwrap();
    assert_eq!(shown.state, OutageState::Down);
    assert!(shown.probe_at.unwrap().since(world.now()) >= 4 * MINUTE, "{shown:?}");
    assert!(shown.why.starts_with("452 4.3.1"), "{shown:?}");
    server.behave();
    probe(&world).await;
    world.while_time_passes(MINUTE, "the message", async || (server.received().len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_recipient_who_is_asked_to_come_back_is_no_outage() {
    let world = world("").await;
    world.host(HOST, Server::new().recipient(MAX, Do::say("450 4.2.2 mailbox full")));
    let id = world.take(&[MAX], &message("full")).await;
    for attempts in 1..=3 {
        world.attempted(id, attempts).await;
        assert_eq!(state(&world).await, None);
        world.next_attempt(id).await;
    }
    world.take(&["sue@plain.example"], &message("not full")).await;
    world.until("the other one", async || world.queued().await.iter().all(|entry| entry.envelope.id == id).then_some(())).await;
}

#[tokio::test]
async fn an_outage_survives_a_restart_and_so_do_its_clocks() {
    let mut world = world("").await;
    let (_, server) = down(&world).await;
    let before = view(&world).await.unwrap();
    probes_until(&world, before.since + 3 * HOUR).await;
    world.crash().await;
    let after = view(&world).await.expect("known at once");
    assert_eq!((after.state, after.since, after.first_bounce), (OutageState::Down, before.since, before.first_bounce));
    probe(&world).await;
    assert_eq!(view(&world).await.unwrap().since, before.since);
    server.come_up();
    probe(&world).await;
    world.received(&server, 1).await;
}

#[tokio::test]
async fn an_operators_retry_probes_at_once() {
    let world = world("").await;
    let (id, server) = down(&world).await;
    server.come_up();
    world.pass(Duration::from_secs(1));
    world.queue().retry(&only(id), "ops").await.unwrap();
    world.received(&server, 1).await;
}

#[tokio::test]
async fn new_servers_are_tried_at_once() {
    let world = world("").await;
    let (_, _) = down(&world).await;
    let other = world.host("203.0.113.77", Server::new());
    let old = world.flow().config();
    let hop = feedgate::config::NextHop { host: feedgate::config::HopHost::Address("203.0.113.77".parse().unwrap()), port: 25 };
    let mut new: Config = (*old).clone();
    new.domains.get_mut(&"plain.example".parse().unwrap()).unwrap().deliver_to = vec![hop];
    world.flow().config.store(Arc::new(new.clone()));
    world.queue().reloaded(&old, &new);
    // The message keeps its own wait from its one attempt.
    world.while_time_passes(MINUTE, "the message", async || (other.received().len() == 1).then_some(())).await;
    assert!(world.now().since(world.lines()[0].at) < 10 * MINUTE);
}

#[tokio::test]
async fn without_more_two_days_are_two_days_and_with_more_the_clock_stands_still() {
    for (more, kept) in [("", 2), ("outage_lifetime_max = \"5d\"", 5)] {
        let world = world(more).await;
        let sender = world.stranger("sender.example", "198.51.100.1");
        let began = world.now();
        let (id, _server) = down(&world).await;
        assert_eq!(view(&world).await.unwrap().first_bounce, Some(began + kept * DAY));
        let entry = world.entry(id).await.unwrap();
        assert_eq!(world.queue().lifetime_end(&entry.envelope, &entry.progress, 0), began + kept * DAY);
        while world.entry(id).await.is_some() {
            probe(&world).await;
        }
        assert_eq!(world.now(), began + kept * DAY);
        world.received(&sender, 1).await;
    }
}

#[tokio::test]
async fn what_waited_out_an_outage_has_its_time_left_afterwards() {
    let world = world("outage_lifetime_max = \"14d\"").await;
    let (id, server) = down(&world).await;
    let began = view(&world).await.unwrap().since;
    probes_until(&world, began + 6 * DAY).await;
    server.come_up();
    let busy = server.clone().recipient(MAX, Do::say("450 4.2.2 mailbox full"));
    probe(&world).await;
    world
        .while_time_passes(MINUTE, "the attempt", async || {
            world.entry(id).await.filter(|entry| entry.progress.recipients[0].attempts > 1)
        })
        .await;
    let entry = world.entry(id).await.unwrap();
    let left = world.queue().lifetime_end(&entry.envelope, &entry.progress, 0).since(world.now());
    assert!(left > 2 * DAY - 3 * HOUR && left <= 2 * DAY, "{left:?}");
    busy.behave();
    world.next_attempt(id).await;
    world.received(&server, 1).await;
}

#[tokio::test]
async fn a_domain_has_waits_of_its_own() {
    let world = world("retry = [\"3h\"]").await;
    world.host(HOST, Server::new()).go_down();
    let id = world.take(&[MAX], &message("slowly")).await;
    let recipient = world.attempted(id, 1).await;
    let wait = recipient.due.since(world.now());
    assert!((3 * HOUR * 9 / 10..=3 * HOUR * 11 / 10).contains(&wait), "{wait:?}");
    probe(&world).await;
    let wait = view(&world).await.unwrap().probe_at.unwrap().since(world.now());
    assert!((3 * HOUR * 9 / 10..=3 * HOUR * 11 / 10).contains(&wait), "{wait:?}");
}

/// A webhook that keeps what it got.
async fn webhook() -> (String, Arc<Mutex<Vec<serde_json::Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let got = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&got);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = String::new();
            while !request.ends_with('}') {
                let mut piece = [0; 4096];
                let length = stream.read(&mut piece).await.unwrap();
                request.push_str(std::str::from_utf8(&piece[..length]).unwrap());
            }
            let body = request.split_once("\r\n\r\n").unwrap().1;
            keep.lock().unwrap().push(serde_json::from_str(body).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    (url, got)
}

#[tokio::test]
async fn operators_are_told_at_the_start_at_half_at_nine_tenths_and_of_the_end_by_command_and_webhook() {
    let scratch = tempfile::tempdir().unwrap();
    let (script, log) = (scratch.path().join("hook"), scratch.path().join("log"));
    fs::write(
        &script,
        "#!/bin/sh\nprintf '%s|%s|%s\\n' \"$FEEDGATE_EVENT\" \"$FEEDGATE_EXTEND\" \"$FEEDGATE_MESSAGES\" >> \"$1\"\n",
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (url, got) = webhook().await;
    let alerts = format!("[alerts]\ncommand = [{script:?}, {log:?}]\nwebhook = \"{url}\"\n");
    let mut world = World::new(&(alerts + &domain("plain.example", &[HOST], ""))).await;
    let began = world.now();
    let (_, server) = down(&world).await;
    let told = async |count: usize| {
        let both = async || {
            let lines = fs::read_to_string(&log).unwrap_or_default();
            (lines.lines().count() >= count && got.lock().unwrap().len() >= count).then_some(())
        };
        world.until(&format!("{count} alerts"), both).await;
    };
    told(1).await;
    probes_until(&world, began + DAY - MINUTE * 20).await;
    assert_eq!(got.lock().unwrap().len(), 1, "not before half of the time is over");
    probes_until(&world, began + DAY).await;
    told(2).await;
    assert!(world.flow().maillog.metrics().render().contains("feedgate_outage_messages{domain=\"plain.example\"} 1"));
    world.restart().await;
    probes_until(&world, began + 2 * DAY * 9 / 10).await;
    let told = async |count: usize| {
        let both = async || {
            let lines = fs::read_to_string(&log).unwrap_or_default();
            (lines.lines().count() >= count && got.lock().unwrap().len() >= count).then_some(())
        };
        world.until(&format!("{count} alerts"), both).await;
    };
    told(3).await;
    server.come_up();
    probe(&world).await;
    world.while_time_passes(MINUTE, "the message", async || (server.received().len() == 1).then_some(())).await;
    told(4).await;
    assert!(!world.flow().maillog.metrics().render().contains("plain.example"));
    let got = got.lock().unwrap();
    let events: Vec<_> = got.iter().map(|json| json["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events, ["began", "half", "nearly", "over"], "each once, over a restart too");
    assert_eq!(got[0]["domain"], "plain.example");
    assert_eq!(got[0]["extend"], "feedgate queue extend plain.example 5d");
    assert_eq!(got[0]["first_bounce"], (began + 2 * DAY).to_string());
    let lines = fs::read_to_string(&log).unwrap();
    assert!(lines.starts_with("began|feedgate queue extend plain.example 5d|1\nhalf|"), "{lines}");
}

#[tokio::test]
async fn a_command_that_hangs_and_a_webhook_that_is_not_there_delay_no_mail() {
    let scratch = tempfile::tempdir().unwrap();
    let (script, marker) = (scratch.path().join("hook"), scratch.path().join("began"));
    fs::write(&script, "#!/bin/sh\ntouch \"$1\"\nexec sleep 600\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let alerts = format!("[alerts]\ncommand = [{script:?}, {marker:?}]\nwebhook = \"http://127.0.0.1:1/\"\n");
    let fine = domain("fine.example", &["203.0.113.10"], "");
    let world = World::new(&(alerts + &domain("plain.example", &[HOST], "") + &fine)).await;
    let (_, server) = down(&world).await;
    world.until("the command to begin", async || marker.exists().then_some(())).await;
    let other = world.host("203.0.113.10", Server::new());
    world.take(&["sue@fine.example"], &message("fine")).await;
    world.received(&other, 1).await;
    server.come_up();
    probe(&world).await;
    world.received(&server, 1).await;
}

#[tokio::test]
async fn a_host_that_accepts_and_hangs_is_asked_by_one_probe_and_comes_back() {
    let world = world("").await;
    let server = world.host(HOST, Server::new());
    server.go_down();
    let id = world.take(&[MAX], &message("hangs")).await;
    world.attempted(id, 1).await;
    let hanging = server.clone().at(At::Greeting, Do::Hang);
    server.come_up();
    let due = view(&world).await.unwrap().probe_at.unwrap();
    world.pass(due.since(world.now()));
    world.until("the probe to hang", async || (server.sessions() == 1).then_some(())).await;
    // It gives up after two minutes, not when the peer would end it.
    world.pass(2 * MINUTE);
    let failed = async || view(&world).await.and_then(|view| view.probe_at).filter(|next| *next > world.now());
    world.until("the end of the probe", failed).await;
    assert!(view(&world).await.unwrap().why.ends_with("no answer to a probe"));
    assert_eq!(server.sessions(), 1);
    hanging.behave();
    probe(&world).await;
    world.while_time_passes(MINUTE, "the message", async || (server.received().len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_host_with_too_many_connections_gets_fewer_and_all_its_mail() {
    let world = world("").await;
    let full = Do::say("450 4.2.2 mailbox full");
    let server = world.host(HOST, Server::new().sessions_max(4).recipient(MAX, full));
    for number in 0..40 {
        let id = world.take(&[MAX], &message(&format!("number {number}"))).await;
        world.attempted(id, 1).await;
    }
    server.behave();
    world.queue().retry(&Selector::default(), "ops").await.unwrap();
    let shown = async || view(&world).await.filter(|view| view.state == OutageState::Busy);
    let shown = world.until("it to be busy", shown).await;
    assert!(shown.why.starts_with("421 4.3.2 The maximum number of concurrent connections"), "{shown:?}");
    let away = |entry: &Arc<Entry>| entry.progress.recipients[0].failing_since.is_some();
    assert!(!world.queued().await.iter().any(away), "none waits for an outage");
    world.while_time_passes(MINUTE, "all of it", async || (server.received().len() == 40).then_some(())).await;
    assert!(server.turned_away() < 40, "{} were turned away", server.turned_away());
    world.until("it to be up", async || state(&world).await.is_none().then_some(())).await;
}

#[tokio::test]
async fn extending_while_the_clock_stands_still_counts_from_what_is_shown() {
    let world = world("outage_lifetime_max = \"14d\"").await;
    let began = world.now();
    let (id, server) = down(&world).await;
    let shown = async || {
        let entry = world.entry(id).await.unwrap();
        world.queue().lifetime_end(&entry.envelope, &entry.progress, 0)
    };
    assert_eq!(shown().await, began + 14 * DAY);
    let plain = "plain.example".parse().unwrap();
    let would = world.queue().extension_to_be(&plain, Longer::By(5 * DAY), "ops", "");
    assert_eq!(would.until, world.now() + 19 * DAY, "as for a message that arrives now");
    let by = |longer| Steer::Extend(longer);
    // A date that is earlier than that changes nothing, and pins nothing.
    let until = by(Longer::Until(began + 5 * DAY));
    let said = world.queue().steer(until, &only(id), "ops", Mode::ForReal).await.unwrap();
    assert_eq!(said[0].note, format!("until {}", began + 14 * DAY));
    for days in [19, 24] {
        let would = world.queue().steer(by(Longer::By(5 * DAY)), &only(id), "ops", Mode::DryRun).await.unwrap();
        let said = world.queue().steer(by(Longer::By(5 * DAY)), &only(id), "ops", Mode::ForReal).await.unwrap();
        assert_eq!(
            (said[0].note.clone(), said[0].note.clone()),
            (would[0].note.clone(), format!("until {}", began + days * DAY))
        );
        assert_eq!(shown().await, began + days * DAY);
    }
    // Also when the outage is over, and the clock goes on.
    let busy = server.clone().recipient(MAX, Do::say("450 4.2.2 mailbox full"));
    server.come_up();
    probe(&world).await;
    let over = async || view(&world).await.is_none_or(|view| view.state == OutageState::Draining).then_some(());
    world.until("the end of the outage", over).await;
    assert_eq!(shown().await, began + 24 * DAY);
    busy.behave();
    world.while_time_passes(MINUTE, "the message", async || (server.received().len() == 1).then_some(())).await;
}
