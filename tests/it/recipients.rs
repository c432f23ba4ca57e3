//! Which recipients exist, through the real driver: lists, callouts to a simulated server, what deliveries teach, and what
//! happens while the server is down.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use feedgate::checks::{KnownState, Teacher};
use feedgate::config::Config;
use feedgate::mail::{Address, Domain};
use feedgate::sim::{At, Do, Server};

use crate::clamd::Clamd;
use crate::gateway::{self, Gateway, Sink, program, wait_for};
use crate::world::{DAY, MINUTE, Peer, World, domain, queued_as};

const HOST: &str = "203.0.113.5";
const HOUR: Duration = Duration::from_secs(3600);
const MESSAGE: &str = "Subject: hello\r\n\r\nhello\r\n";

/// A customer whose server knows ann and bob.
fn customer() -> Server {
    Server::exchange()
        .without("STARTTLS")
        .at(At::Rcpt, Do::say("550 5.1.1 User unknown"))
        .recipient("ann@customer.test", Do::say("250 2.1.5 Recipient OK"))
        .recipient("bob@customer.test", Do::say("250 2.1.5 Recipient OK"))
}

async fn house(more: &str) -> (World, Server) {
    let world = World::new(&domain("customer.test", &[HOST], more)).await;
    let server = world.host(HOST, customer());
    (world, server)
}

/// The reply to RCPT in a session of its own.
async fn rcpt(world: &World, to: &str) -> String {
    let mut peer = begun(world).await;
    peer.say(&format!("RCPT TO:<{to}>")).await
}

async fn begun(world: &World) -> Peer {
    let mut peer = world.client().await;
    assert!(peer.say("MAIL FROM:<joe@sender.test>").await.starts_with("250 "));
    peer
}

#[track_caller]
fn check(reply: &str, expected: &str) {
    assert!(reply.starts_with(expected), "{expected} expected: {reply}");
}

const UNKNOWN: &str = "550 5.1.1 <";
const LATER: &str = "450 4.4.3 <";

/// RCPTs that the server was asked.
fn asked(server: &Server) -> Vec<String> {
    let commands = server.commands().into_iter();
    commands.filter_map(|line| Some(line.strip_prefix("RCPT TO:<")?.split('>').next()?.to_owned())).collect()
}

/// Without those that nobody has.
fn asked_for(server: &Server) -> Vec<String> {
    asked(server).into_iter().filter(|address| !address.starts_with("feedgate-callout-")).collect()
}

#[tokio::test]
async fn a_list_in_the_settings_is_all_there_is() {
    let list = "recipients = \"list\"\nrecipient_list = [\"Ann@customer.test\", \"sales-*@customer.test\"]";
    let (world, server) = house(list).await;
    for to in ["ann@customer.test", "ANN@Customer.test", "ann+news@customer.test", "sales-de@customer.test"] {
        check(&rcpt(&world, to).await, "250 ");
    }
    for to in ["postmaster@customer.test", "Abuse@customer.test"] {
        check(&rcpt(&world, to).await, "250 ");
    }
    for to in ["bob@customer.test", "anna@customer.test", "sales@customer.test", "\"ann smith\"@customer.test"] {
        check(&rcpt(&world, to).await, UNKNOWN);
    }
    assert_eq!(rcpt(&world, "x@customer.test").await, "550 5.1.1 <x@customer.test>: No such user here");
    let reply = rcpt(&world, "\"a> b\\\"\"@customer.test").await;
    assert_eq!(reply, "550 5.1.1 <\"a> b\\\"\"@customer.test>: No such user here", "the address cannot break out");
    assert_eq!(server.sessions(), 0, "nobody is asked");
}

#[tokio::test]
async fn the_null_sender_hears_what_everybody_hears() {
    let (world, _) = house("recipients = \"list\"\nrecipient_list = [\"ann@customer.test\"]").await;
    let mut peer = world.client().await;
    check(&peer.say("MAIL FROM:<>").await, "250 ");
    check(&peer.say("RCPT TO:<ann@customer.test>").await, "250 ");
    check(&peer.say("RCPT TO:<bob@customer.test>").await, UNKNOWN);
}

#[tokio::test]
async fn a_file_is_read_again_and_one_with_a_mistake_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("people.txt");
    std::fs::write(&file, "# people\nann\nbob@customer.test; smtp:robert@customer.test\n").unwrap();
    let (world, _) =
        house(&format!("recipients = \"list\"\nrecipient_list = {{ file = {:?} }}", file.display().to_string())).await;
    for to in ["ann@customer.test", "robert@customer.test"] {
        check(&rcpt(&world, to).await, "250 ");
    }
    check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
    let flow = world.flow();
    let reload = async || {
        let (recipients, config) = (flow.checks.recipients.clone(), flow.config());
        tokio::task::spawn_blocking(move || recipients.reload(&config)).await.unwrap();
    };
    std::fs::write(&file, "ann\nbob@@customer.test\neve\n").unwrap();
    reload().await;
    check(&rcpt(&world, "robert@customer.test").await, "250 ");
    check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
    std::fs::write(&file, "ann\neve\n").unwrap();
    reload().await;
    check(&rcpt(&world, "eve@customer.test").await, "250 ");
    check(&rcpt(&world, "bob@customer.test").await, UNKNOWN);
    std::fs::remove_file(&file).unwrap();
    reload().await;
    check(&rcpt(&world, "eve@customer.test").await, "250 ");
    check(&rcpt(&world, "bob@customer.test").await, UNKNOWN);
    // Without a reload: it is looked at while mail comes.
    std::fs::write(&file, "carol\n").unwrap();
    world.pass(MINUTE);
    let seen = async || rcpt(&world, "carol@customer.test").await.starts_with("250 ").then_some(());
    world.until("the file to be read", seen).await;
}

#[tokio::test]
async fn a_file_that_never_was_right_refuses_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("people.txt");
    let list = format!("recipients = \"list\"\nrecipient_list = {{ file = {:?} }}", file.display().to_string());
    std::fs::write(&file, "ann\n@@\n").unwrap();
    let (world, _) = house(&list).await;
    check(&rcpt(&world, "ann@customer.test").await, "250 ");
    check(&rcpt(&world, "eve@customer.test").await, "250 ");
    let (world, _) = house(&(list + "\nrecipients_unseen = \"defer\"")).await;
    check(&rcpt(&world, "ann@customer.test").await, "250 ");
    check(&rcpt(&world, "eve@customer.test").await, LATER);
}

#[tokio::test]
async fn what_operators_add_outlives_a_restart() {
    let (mut world, _) = house("recipients = \"list\"\nrecipient_list = []").await;
    let address = |text: &str| text.parse::<Address>().unwrap();
    check(&rcpt(&world, "ann@customer.test").await, UNKNOWN);
    let recipients = &world.flow().checks.recipients;
    let added = vec![address("Ann@customer.test"), address("*-team@customer.test")];
    assert_eq!(recipients.add(&world.flow().config(), added.clone()).await.unwrap(), 2);
    assert_eq!(recipients.add(&world.flow().config(), added).await.unwrap(), 0);
    world.restart().await;
    check(&rcpt(&world, "ann@customer.test").await, "250 ");
    check(&rcpt(&world, "a-team@customer.test").await, "250 ");
    let recipients = &world.flow().checks.recipients;
    assert_eq!(recipients.remove(&world.flow().config(), vec![address("ann@customer.test")]).await.unwrap(), 1);
    world.crash().await;
    check(&rcpt(&world, "ann@customer.test").await, UNKNOWN);
    check(&rcpt(&world, "a-team@customer.test").await, "250 ");
}

#[tokio::test]
async fn the_server_is_asked_once_and_its_answers_are_kept() {
    let (mut world, server) = house("recipients = \"callout\"\nrecipient_list = [\"boss@customer.test\"]").await;
    check(&rcpt(&world, "ann@customer.test").await, "250 ");
    check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
    check(&rcpt(&world, "boss@customer.test").await, "250 ");
    check(&rcpt(&world, "postmaster@customer.test").await, "250 ");
    let known =
        async || (world.flow().checks.recipients.remembered(&domain_of("customer.test"), 9).await.len() == 2).then_some(());
    world.until("both answers to be remembered", known).await;
    world.restart().await;
    for _ in 0..3 {
        check(&rcpt(&world, "ANN@customer.test").await, "250 ");
        check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
    }
    assert_eq!(asked_for(&server), ["ann@customer.test", "eve@customer.test"]);
    let metrics = world.flow().maillog.metrics().render();
    for line in ["{answer=\"unknown\",ground=\"memory\"} 3", "{answer=\"exists\",ground=\"memory\"} 3"] {
        assert!(metrics.contains(&format!("feedgate_recipients_checked_total{line}")), "{metrics}");
    }
    assert_eq!(asked(&server).len(), 3, "once for nobody");
    let commands = server.commands();
    assert!(commands.iter().filter(|line| line.starts_with("MAIL ")).all(|line| line == "MAIL FROM:<>"));
    assert!(!commands.iter().any(|line| line.starts_with("DATA")));
    // Two hours later somebody may have the address.
    let _ = server.clone().recipient("eve@customer.test", Do::say("250 2.1.5 Ok"));
    world.pass(2 * HOUR);
    check(&rcpt(&world, "eve@customer.test").await, "250 ");
    check(&rcpt(&world, "ann@customer.test").await, "250 ");
    assert_eq!(asked_for(&server).len(), 3);
}

fn domain_of(text: &str) -> Domain {
    text.parse().unwrap()
}

#[tokio::test]
async fn callouts_go_to_their_own_port() {
    let (world, server) = house("recipients = \"callout\"\ncallout_port = 2525").await;
    let hub = customer().recipient("hub@customer.test", Do::say("250 Ok"));
    let _ = world.network.clone().host(&format!("{HOST}:2525"), &hub);
    check(&rcpt(&world, "hub@customer.test").await, "250 ");
    let _ = server.clone().recipient("hub@customer.test", Do::say("250 Ok"));
    queued_as(&world.send(&["hub@customer.test"], MESSAGE).await);
    world.received(&server, 1).await;
    assert!(hub.received().is_empty(), "delivery goes where it always goes");
}

#[tokio::test]
async fn a_session_ends_after_four_refusals() {
    let (world, server) = house("recipients = \"callout\"").await;
    // All wait while the first is asked, so that they share its session.
    let slow = server.clone().once(At::Greeting, Do::Hang);
    let recipients = world.flow().checks.recipients.clone();
    let mut tasks = Vec::new();
    for number in 0..9 {
        let (recipients, config) = (recipients.clone(), world.flow().config());
        let to: Address = format!("guess{number}@customer.test").parse().unwrap();
        tasks.push(tokio::spawn(async move { recipients.exists(&config, &to, false).await }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut refusals = 0;
    for line in slow.commands() {
        refusals = if line.starts_with("EHLO") { 0 } else { refusals + usize::from(line.starts_with("RCPT")) };
        assert!(refusals <= 4, "{:#?}", slow.commands());
    }
    assert!(slow.sessions() >= 3);
}

#[tokio::test]
async fn one_question_answers_all_who_ask_it() {
    let (world, server) = house("recipients = \"callout\"").await;
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let (recipients, config) = (world.flow().checks.recipients.clone(), world.flow().config());
        let to: Address = "eve@customer.test".parse().unwrap();
        tasks.push(tokio::spawn(async move { recipients.exists(&config, &to, false).await.as_str() }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), "unknown");
    }
    assert_eq!(asked_for(&server).len(), 1);
}

#[tokio::test]
async fn a_server_that_takes_everything_is_not_believed_until_it_changes() {
    let world = World::new(&domain("customer.test", &[HOST], "recipients = \"callout\"")).await;
    let server = world.host(HOST, Server::new());
    check(&rcpt(&world, "ann@customer.test").await, "250 ");
    let found_out = async || world.flow().checks.recipients.takes_everything(&domain_of("customer.test")).await.then_some(());
    world.until("the test with an address that nobody has", found_out).await;
    check(&rcpt(&world, "eve@customer.test").await, "250 ");
    assert_eq!(asked_for(&server), ["ann@customer.test"], "it is not asked again");
    assert!(world.flow().checks.recipients.remembered(&domain_of("customer.test"), 9).await.is_empty(), "nor believed");
    // An administrator has switched recipient validation on.
    let _ = server.clone().at(At::Rcpt, Do::say("550 5.1.1 User unknown"));
    check(&rcpt(&world, "eve@customer.test").await, "250 ");
    world.pass(6 * HOUR);
    check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
}

#[tokio::test]
async fn refusals_for_other_reasons_are_not_unknown_users() {
    let (world, server) = house("recipients = \"callout\"").await;
    for (number, reply) in [
        "550 5.7.1 Unable to relay",
        "552 5.2.2 mailbox full",
        "550 5.4.1 Relay Access Denied",
        "550 5.7.133 senders only",
        "450 4.2.0 later",
    ]
    .into_iter()
    .enumerate()
    {
        let to = format!("user{number}@customer.test");
        let _ = server.clone().recipient(&to, Do::say(reply));
        check(&rcpt(&world, &to).await, "250 ");
    }
    let _ = server.clone().recipient("gone@customer.test", Do::say("550 5.4.1 Recipient address rejected: Access denied"));
    check(&rcpt(&world, "gone@customer.test").await, UNKNOWN);
}

#[tokio::test]
async fn a_slow_answer_is_there_at_the_retry() {
    let (world, server) = house("recipients = \"callout\"").await;
    let _ = server.clone().once(At::Greeting, Do::Hang);
    let mut peer = begun(&world).await;
    let first = tokio::spawn(async move { peer.say("RCPT TO:<eve@customer.test>").await });
    world.until("the question", async || (server.sessions() == 1).then_some(())).await;
    world.while_time_passes(Duration::from_secs(1), "the client's answer", async || first.is_finished().then_some(())).await;
    check(&first.await.unwrap(), LATER);
    // The server does not answer at all: that ends too, and it is left alone for a minute.
    let over = async || rcpt(&world, "eve@customer.test").await.starts_with("250 ").then_some(());
    world.while_time_passes(Duration::from_secs(5), "the end of the session", over).await;
    assert_eq!(server.sessions(), 1);
    world.pass(2 * MINUTE);
    check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
}

#[tokio::test]
async fn while_the_server_is_down_nothing_expires_and_the_never_seen_are_taken() {
    for (more, never_seen) in [("", "250 "), ("\nrecipients_unseen = \"defer\"", LATER)] {
        let (world, server) = house(&format!("recipients = \"callout\"\nlifetime = \"60d\"{more}")).await;
        check(&rcpt(&world, "ann@customer.test").await, "250 ");
        check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
        let known =
            async || (world.flow().checks.recipients.remembered(&domain_of("customer.test"), 9).await.len() == 2).then_some(());
        world.until("both to be remembered", known).await;
        server.go_down();
        let id = world.take(&["ann@customer.test"], MESSAGE).await;
        world.attempted(id, 1).await;
        world.until("an outage", async || world.queue().is_away(&domain_of("customer.test")).then_some(())).await;
        world.pass(20 * DAY);
        check(&rcpt(&world, "ann@customer.test").await, "250 ");
        check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
        check(&rcpt(&world, "new@customer.test").await, never_seen);
        let flow = world.flow();
        let is_away = |domain: &Domain| flow.queue.is_away(domain);
        assert_eq!(flow.checks.recipients.sweep(&flow.config(), world.now(), is_away).await, 0, "pinned");
        assert_eq!(asked_for(&server).len(), 2, "nobody asks a server that is down");
        // It expired long ago: now the server is asked, and says otherwise.
        server.come_up();
        let _ = server.clone().recipient("ann@customer.test", Do::say("550 5.1.1 User unknown"));
        let asked = async || rcpt(&world, "new@customer.test").await.starts_with(UNKNOWN).then_some(());
        world.while_time_passes(MINUTE, "the server to be asked again", asked).await;
        check(&rcpt(&world, "ann@customer.test").await, UNKNOWN);
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_left_alone_for_a_while() {
    let (world, server) = house("recipients = \"callout\"").await;
    server.go_down();
    for number in 0..20 {
        check(&rcpt(&world, &format!("user{number}@customer.test")).await, "250 ");
    }
    assert_eq!(world.network.tried().len(), 1);
    world.pass(MINUTE);
    check(&rcpt(&world, "user@customer.test").await, "250 ");
    assert_eq!(world.network.tried().len(), 2);
    server.come_up();
    world.pass(MINUTE);
    check(&rcpt(&world, "user@customer.test").await, "250 ");
    assert_eq!(world.network.tried().len(), 2, "twice as long the second time");
    world.pass(MINUTE);
    check(&rcpt(&world, "user@customer.test").await, UNKNOWN);
}

#[tokio::test]
async fn guessing_addresses_does_not_reach_the_server() {
    let (world, server) = house("recipients = \"callout\"").await;
    let mut replies = Vec::new();
    for number in 0..200 {
        let to: Address = format!("guess{number}@customer.test").parse().unwrap();
        replies.push(world.flow().checks.recipients.exists(&world.flow().config(), &to, false).await.as_str());
    }
    assert_eq!(asked_for(&server).len(), 30);
    assert_eq!(replies.iter().filter(|reply| **reply == "unknown").count(), 30);
    assert_eq!(replies.iter().filter(|reply| **reply == "later").count(), 170);
    check(&rcpt(&world, "guess7@customer.test").await, UNKNOWN);
    check(&rcpt(&world, "guess150@customer.test").await, LATER);
    // Who is known is taken all the while, and who is new when it is over.
    world.pass(MINUTE);
    check(&rcpt(&world, "ann@customer.test").await, "250 ");
}

#[tokio::test]
async fn deliveries_teach_what_callouts_cannot() {
    // As Exchange since 2013: everybody is taken at RCPT, and the message is refused after its text.
    let world = World::new(&domain("customer.test", &[HOST], "recipients = \"callout\"")).await;
    let server = world.host(HOST, Server::exchange().without("STARTTLS"));
    let _ = server.clone().once(At::End, Do::say("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found"));
    world.stranger("sender.test", "198.51.100.1");
    let mut peer = world.client().await;
    queued_as(&peer.send("joe@sender.test", &["gone@customer.test"], MESSAGE).await);
    let taught = async || {
        let known = world.flow().checks.recipients.remembered(&domain_of("customer.test"), 9).await;
        let (local, known) = known.into_iter().next()?;
        Some((local, known.state, known.by))
    };
    assert_eq!(world.until("the lesson", taught).await, ("gone".to_owned(), KnownState::Unknown, Teacher::Delivery));
    check(&rcpt(&world, "gone@customer.test").await, UNKNOWN);
    check(&rcpt(&world, "other@customer.test").await, "250 ");
    // What was delivered is known to exist, for the day when the server is down.
    queued_as(&peer.send("joe@sender.test", &["ann@customer.test"], MESSAGE).await);
    let ann = async || {
        let known = world.flow().checks.recipients.remembered(&domain_of("customer.test"), 9).await;
        known.iter().any(|(local, known)| local == "ann" && known.state == KnownState::Exists).then_some(())
    };
    world.until("ann to be known", ann).await;
}

#[tokio::test]
async fn a_forgotten_address_is_asked_for_again_and_the_old_are_swept_out() {
    let (world, server) = house("recipients = \"callout\"").await;
    let eve: Address = "eve@customer.test".parse().unwrap();
    check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
    let _ = server.clone().recipient("eve@customer.test", Do::say("250 Ok"));
    check(&rcpt(&world, "eve@customer.test").await, UNKNOWN);
    let flow = world.flow();
    assert!(flow.checks.recipients.forget(&eve).await);
    assert!(!flow.checks.recipients.forget(&eve).await);
    check(&rcpt(&world, "eve@customer.test").await, "250 ");
    check(&rcpt(&world, "guess@customer.test").await, UNKNOWN);
    let known = async || (flow.checks.recipients.remembered(&domain_of("customer.test"), 9).await.len() == 2).then_some(());
    world.until("both to be remembered", known).await;
    let sweep = async |after| flow.checks.recipients.sweep(&flow.config(), world.now() + after, |_| false).await;
    assert_eq!(sweep(HOUR).await, 0);
    assert_eq!(sweep(3 * HOUR).await, 1, "the unknown one");
    assert_eq!(sweep(20 * DAY).await, 0, "who exists is kept for an outage");
    assert_eq!(sweep(40 * DAY).await, 1);
}

/// What swaks hears for this recipient.
fn knock(gateway: &Gateway, to: &str) -> String {
    let mut command = Command::new(program("swaks"));
    let server = gateway.smtp.to_string();
    command.args(["--server", &server, "--helo", "client.sender.test", "--from", "joe@sender.test", "--quit-after", "RCPT"]);
    let output = command.args(["--to", to]).output().expect("swaks runs");
    let talk = String::from_utf8_lossy(&output.stdout).into_owned();
    let reply = talk.split("-> RCPT TO:").nth(1).and_then(|rest| rest.lines().nth(1));
    reply.unwrap_or_default().trim_start_matches(['<', '-', '*', '~', ' ']).to_owned()
}

#[test]
fn operators_list_add_and_check_recipients_of_the_running_gateway() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let people = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(people.path(), "bob\n@@\n").unwrap();
    let file = format!("recipients = \"list\"\nrecipient_list = {{ file = {:?} }}", people.path().display().to_string());
    let sections = gateway::domain("list.test", sink.port, "recipients = \"list\"\nrecipient_list = [\"boss@list.test\"]")
        + &gateway::domain("callout.test", sink.port, "recipients = \"callout\"")
        + &gateway::domain("file.test", sink.port, &file);
    let mut gateway = Gateway::start(clamd.socket(), &sections);
    assert!(!gateway.logged(&format!("{}:2: ", people.path().display())).is_empty(), "told at the start, with file and line");
    check(&knock(&gateway, "ann@list.test"), UNKNOWN);
    assert_eq!(gateway.ask(&["recipient", "add", "Ann@list.test", "*-team@list.test"]), "Added 2 addresses.\n");
    check(&knock(&gateway, "ann@list.test"), "250 ");
    gateway.kill();
    gateway.restart();
    check(&knock(&gateway, "a-team@list.test"), "250 ");
    let listed = gateway.ask_json(&["recipient", "list", "list.test"]);
    let addresses: Vec<_> =
        listed["recipients"].as_array().unwrap().iter().map(|line| line["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["ann@list.test", "*-team@list.test", "boss@list.test"]);
    let removed = gateway.ask(&["recipient", "remove", "ann@list.test", "boss@list.test"]);
    assert_eq!(removed, "Removed 1 address.\nstill listed, in the settings or by a pattern: boss@list.test.\n");
    assert_eq!(
        gateway.ask(&["recipient", "check", "ann@list.test"]),
        "ann@list.test: refused, 550 5.1.1: it stands in no list\n"
    );
    let asked = gateway.ask(&["recipient", "check", "ann@callout.test"]);
    assert!(asked.starts_with("ann@callout.test: taken: the customer's server says so now: 250"), "{asked}");
    let shown = wait_for("the test of the server", || {
        Some(gateway.ask(&["recipient", "list", "callout.test"])).filter(|text| text.contains("takes every address"))
    });
    assert!(shown.ends_with("all are taken.\n"), "{shown}");
    for (arguments, words) in [
        (["recipient", "check", "ann@elsewhere.test"], "elsewhere.test is not served here"),
        (["recipient", "add", "ann@elsewhere.test"], "elsewhere.test is not served here"),
        (["recipient", "list", "elsewhere.test"], "elsewhere.test is not served here"),
    ] {
        let output = gateway.command(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{arguments:?}");
    }
}

#[test]
fn settings_without_a_list_are_refused() {
    let text =
        "hostname = \"mx1.feedgate.test\"\n[domains.\"customer.test\"]\ndeliver_to = [\"203.0.113.5\"]\nrecipients = \"list\"\n";
    assert!(Config::parse(text, Path::new("feedgate.toml")).unwrap_err().to_string().contains("recipient_list"));
}
