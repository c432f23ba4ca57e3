//! What senders are told: failures and delays, once, in their language, and to nobody who should not hear.

use std::time::Duration;

use feedgate::mail::{Enhanced, Failure, QueueId, Status};
use feedgate::sim::{Do, Received, Server};
use mail_parser::{MessageParser, MimeHeaders};

use crate::world::{MINUTE, World, domain, queued_as, text};

const JANE: &str = "jane@customer.example";
const MAX: &str = "max@plain.example";
const PLAIN: &str = "203.0.113.9";
const CUSTOMER: &str = "203.0.113.5";
const SENDER: &str = "198.51.100.1";
const HOUR: Duration = Duration::from_secs(3_600);

/// Two customers; `more` are settings of `plain.example`.
fn customers(more: &str) -> String {
    domain("customer.example", &[CUSTOMER], "") + &domain("plain.example", &[PLAIN], more)
}

fn message(fields: &str, words: &str) -> String {
    format!("From: Joe <joe@sender.example>\r\nSubject: x\r\n{fields}\r\n{words}\r\n")
}

fn nobody(address: &str) -> Server {
    Server::new().recipient(address, Do::say("550 5.1.1 no such user"))
}

fn busy() -> Server {
    Server::new().recipient(MAX, Do::say("452 4.2.2 mailbox full"))
}

/// Subject, text and fields of a notice, as mail programs read them.
fn read(notice: &Received) -> (String, String, String) {
    assert_eq!(notice.reverse_path, "", "from nobody");
    let parsed = MessageParser::default().parse(&notice.content).expect("it parses");
    let kinds: Vec<_> =
        parsed.parts.iter().map(|part| part.content_type().and_then(|kind| kind.subtype()).unwrap_or("")).collect();
    assert_eq!(kinds, ["report", "plain", "delivery-status", "rfc822-headers"]);
    let part = |number: usize| String::from_utf8_lossy(parsed.parts[number].contents()).replace("\r\n", "\n");
    (parsed.subject().expect("a subject").to_owned(), part(1), part(2))
}

/// Sends a message that must be taken, with these parameters of its recipient.
async fn take_with(world: &World, parameters: &str, content: &str) -> QueueId {
    let mut peer = world.client().await;
    assert!(peer.say("MAIL FROM:<joe@sender.example>").await.starts_with("250 "));
    assert!(peer.say(&format!("RCPT TO:<{MAX}> {parameters}")).await.starts_with("250 "));
    assert!(peer.say("DATA").await.starts_with("354 "));
    queued_as(&peer.say(&format!("{content}.")).await)
}

/// Lets it be tried again and again until so much time has gone by, with the hourly sweep in between.
async fn tries_for(world: &World, id: QueueId, time: Duration) {
    let end = world.now() + time;
    world.attempted(id, 1).await;
    while world.now() < end && world.next_try(id).await {
        world.queue().sweep().await.unwrap();
    }
}

#[tokio::test]
async fn a_message_refused_in_two_places_is_one_notice() {
    let world = World::new(&customers("")).await;
    let sender = world.stranger("sender.example", SENDER);
    world.host(PLAIN, nobody(MAX));
    world.host(CUSTOMER, nobody(JANE));
    let id = world.take(&[MAX, JANE], &message("", "hello")).await;
    let (_, words, fields) = read(&world.received(&sender, 1).await[0]);
    assert!(words.contains(MAX) && words.contains(JANE), "{words}");
    assert_eq!(fields.matches("Action: failed\nStatus: 5.1.1").count(), 2, "{fields}");
    world.until("all to be gone", async || world.queued().await.is_empty().then_some(())).await;
    world.told(id, "told: failed: notice=").await;
    assert_eq!(sender.received().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_told_at_once_and_what_is_given_up_later_is_told_then() {
    let world = World::new(&customers("lifetime = \"20m\"")).await;
    let sender = world.stranger("sender.example", SENDER);
    world.host(CUSTOMER, nobody(JANE));
    let id = world.take(&[MAX, JANE], &message("", "hello")).await;
    let (_, _, fields) = read(&world.received(&sender, 1).await[0]);
    assert!(fields.contains(JANE) && !fields.contains(MAX), "{fields}");
    world.attempted(id, 1).await;
    while world.next_try(id).await {}
    let (_, _, fields) = read(&world.received(&sender, 2).await[1]);
    assert!(fields.contains("Status: 4.4.7") && fields.contains(MAX) && !fields.contains(JANE), "{fields}");
}

#[tokio::test]
async fn a_german_message_is_answered_in_german() {
    let world = World::new(&customers("")).await;
    let sender = world.stranger("sender.example", SENDER);
    world.host(PLAIN, nobody(MAX));
    world.take(&[MAX], &message("Content-Language: de-DE\r\n", "x")).await;
    let notice = world.received(&sender, 1).await.remove(0);
    let (subject, words, fields) = read(&notice);
    assert_eq!(subject, "Ihre Nachricht konnte nicht zugestellt werden");
    assert!(words.contains("an diesen Empfänger zugestellt werden") && words.contains("bei Rückfragen"), "{words}");
    assert!(fields.contains("Action: failed") && text(&notice).is_ascii());
}

#[tokio::test]
async fn late_mail_is_told_once_and_its_end_once() {
    let world = World::new(&customers("lifetime = \"8h\"")).await;
    let sender = world.stranger("sender.example", SENDER);
    world.host(PLAIN, busy());
    let id = world.take(&[MAX], &message("", "Die Rechnung ist nicht für Sie")).await;
    tries_for(&world, id, 4 * HOUR - 20 * MINUTE).await;
    assert_eq!(sender.sessions(), 0);
    tries_for(&world, id, 2 * HOUR).await;
    let (subject, words, fields) = read(&world.received(&sender, 1).await[0]);
    assert_eq!(subject, "Die Zustellung Ihrer Nachricht verzögert sich");
    assert!(words.contains("21.11.2026 um 06:36 Uhr"), "{words}");
    for field in ["Action: delayed\nStatus: 4.2.2\n", "Will-Retry-Until: Sat, 21 Nov 2026 06:36:00 +0000"] {
        assert!(fields.contains(field), "{field} in {fields}");
    }
    world.told(id, "told: delayed: notice=").await;
    tries_for(&world, id, 8 * HOUR).await;
    let (_, _, fields) = read(&world.received(&sender, 2).await[1]);
    assert!(fields.contains("Action: failed\nStatus: 4.4.7"), "{fields}");
}

#[tokio::test]
async fn an_outage_is_not_told_unless_switched_on_and_told_once_also_after_a_restart() {
    for (switch, notices) in [("false", 0), ("true", 1)] {
        let settings = format!("{}[notices]\ndelay_in_outage = {switch}\n", customers("lifetime = \"1d\""));
        let mut world = World::new(&settings).await;
        let sender = world.stranger("sender.example", SENDER);
        let late = world.take(&[MAX], &message("", "hello")).await;
        tries_for(&world, late, 5 * HOUR).await;
        world.received(&sender, notices).await;
        world.restart().await;
        tries_for(&world, late, HOUR).await;
        // What comes later than a second notice would have.
        world.host(CUSTOMER, nobody(JANE));
        world.take(&[JANE], &message("", "hello")).await;
        let told = world.received(&sender, notices + 1).await;
        let delayed = told.iter().filter(|notice| read(notice).2.contains("Action: delayed\nStatus: 4.")).count();
        assert_eq!(delayed, notices);
        assert_eq!(world.entry(late).await.expect("it waits").progress.delay_told.is_some(), notices == 1);
    }
}

#[tokio::test]
async fn nobody_is_told_of_a_delay_who_did_not_ask_or_is_no_person() {
    let world = World::new(&(customers("lifetime = \"6h\"") + "[notices]\ndelay_after = \"30m\"\n")).await;
    let sender = world.stranger("sender.example", SENDER);
    world.host(PLAIN, busy());
    let mut ids = Vec::new();
    for (parameters, fields) in [
        ("NOTIFY=FAILURE", ""),
        ("NOTIFY=NEVER", ""),
        ("", "List-Id: <news.sender.example>\r\n"),
        ("", "Precedence: bulk\r\n"),
        ("", "Auto-Submitted: auto-generated\r\n"),
        ("", "X-Auto-Response-Suppress: All\r\n"),
        ("NOTIFY=DELAY", ""),
    ] {
        ids.push(take_with(&world, parameters, &message(fields, "hello")).await);
    }
    for id in &ids {
        world.attempted(*id, 1).await;
    }
    tries_for(&world, ids[6], HOUR).await;
    world.queue().sweep().await.unwrap();
    let (_, _, fields) = read(&world.received(&sender, 1).await[0]);
    assert!(fields.contains(&ids[6].to_string()), "{fields}");
    world.told(ids[2], "told: delayed: no notice (mailing list)").await;
    world.told(ids[4], "told: delayed: no notice (automatic mail)").await;
}

#[tokio::test]
async fn failures_are_told_to_who_reads_them() {
    let world = World::new(&customers("")).await;
    let sender = world.stranger("sender.example", SENDER);
    world.host(PLAIN, nobody(MAX));
    let mut told = 0;
    for (parameters, fields, answer) in [
        ("NOTIFY=NEVER", "", "bounced: no notice: 550"),
        ("NOTIFY=SUCCESS,DELAY", "", "bounced: no notice: 550"),
        ("", "Auto-Submitted: auto-replied (vacation)\r\n", "bounced: no notice (automatic mail): 550"),
        ("", "List-Post: <mailto:JOE@sender.example>\r\n", "bounced: no notice (mailing list): 550"),
        ("NOTIFY=FAILURE", "Auto-Submitted: auto-generated\r\n", "bounced: notice="),
        ("", "List-Id: <news.other.example>\r\nPrecedence: bulk\r\n", "bounced: notice="),
    ] {
        let id = take_with(&world, parameters, &message(fields, "hello")).await;
        world.told(id, answer).await;
        told += usize::from(answer.ends_with('='));
        world.received(&sender, told).await;
        world.until_gone(id).await;
    }
}

#[tokio::test]
async fn one_sender_gets_so_many_and_the_rest_is_recorded() {
    let world = World::new(&(customers("") + "[notices]\nper_sender = \"2/1h\"\n")).await;
    let sender = world.stranger("sender.example", SENDER);
    world.host(PLAIN, nobody(MAX));
    for told in 1..=2 {
        world.take(&[MAX], &message("", "forged")).await;
        world.received(&sender, told).await;
    }
    let id = world.take(&[MAX], &message("", "forged")).await;
    world.told(id, "bounced: no notice (notices.per_sender reached): 550 5.1.1 no such user").await;
    world.until_gone(id).await;
    world.pass(HOUR);
    world.take(&[MAX], &message("", "later")).await;
    world.received(&sender, 3).await;
}

#[tokio::test]
async fn a_notice_is_not_judged_and_never_answered() {
    let world = World::new(
        &(customers("") + &domain("sender.example", &[SENDER], "") + "[domains.\"sender.example\".spam]\nenabled = true\n"),
    )
    .await;
    world.host(PLAIN, nobody(MAX));
    let sender = world.host(SENDER, Server::new().recipient("joe@sender.example", Do::say("550 5.1.1 no such user")));
    let id = world.take(&[MAX], &message("", "hello")).await;
    world.until_gone(id).await;
    world.until("the notice to be gone", async || (sender.sessions() > 0 && world.queued().await.is_empty()).then_some(())).await;
    assert_eq!(world.scanner.scans(), 1, "the message, not the notice");
    assert_eq!(world.lines().iter().filter(|line| line.what == "queued").count(), 2);
}

#[tokio::test]
async fn what_was_owed_when_the_gateway_stopped_is_told_by_the_next_start() {
    let mut world = World::new(&customers("")).await;
    let sender = world.stranger("sender.example", SENDER);
    let id = world.take(&[MAX], &message("", "hello")).await;
    world.attempted(id, 1).await;
    // As a crash leaves it that comes between the failure and its notice.
    let owing = |_: &_, progress: &mut feedgate::mail::Progress| {
        let at = progress.scan_due;
        progress.recipients[0].status = Status::Bounced { at, why: "550 5.1.1 no such user".into() };
        let reply = "550 5.1.1 no such user".to_owned();
        progress.untold.push(Failure { recipient: 0, at, host: None, reply, status: Enhanced(5, 1, 1), expired: false });
    };
    world.flow().store.update(id, owing).await.unwrap();
    assert_eq!(world.status(id).await, "bounced", "it stays until its sender is told");
    world.crash().await;
    let (_, _, fields) = read(&world.received(&sender, 1).await[0]);
    assert!(fields.contains("550 5.1.1 no such user"), "{fields}");
    world.until_gone(id).await;
}
