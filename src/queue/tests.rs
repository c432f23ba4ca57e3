//! The queue over a real spool in a scratch directory, with time passed in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mail_parser::MessageParser;
use tokio::sync::watch;
use tokio::time::timeout;

use super::steer::samples;
use super::*;
use crate::mail::{Address, Notify, Outcome, Scope, SessionId, SpamLevel, Status, Verdict};
use crate::outside::Pending;
use crate::store::{RealDisk, StoreSettings};
use crate::telemetry::Metrics;

/// Time that only moves when a test says so.
struct Manual(watch::Sender<Timestamp>);

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }
    fn sleep_until(&self, moment: Timestamp) -> Pending<'static, ()> {
        let mut time = self.0.subscribe();
        Box::pin(async move {
            // A clock that is gone never comes to the moment.
            if time.wait_for(|now| *now >= moment).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

struct House {
    queue: Queue,
    store: Store,
    clock: Arc<Manual>,
    ids: Arc<IdSource>,
    config: Current,
    _directory: tempfile::TempDir,
}

const DAY: Duration = Duration::from_secs(86_400);
/// So long a test waits, in real time, for what must happen.
const SOON: Duration = Duration::from_secs(10);

impl House {
    async fn new() -> House {
        let directory = tempfile::tempdir().unwrap();
        let settings = StoreSettings { reserve: 0, ..StoreSettings::default() };
        let (store, _) = Store::open(directory.path(), Arc::new(RealDisk), settings).unwrap();
        let clock = Arc::new(Manual(watch::channel(Timestamp(1_795_214_160_000)).0));
        let ids = Arc::new(IdSource::new(None));
        let config: Current = Arc::new(ArcSwap::from_pointee(samples::config(&[("customer.example", Vec::new())])));
        let queue = House::load(&store, &clock, &config, &ids).await;
        House { queue, store, clock, ids, config, _directory: directory }
    }

    async fn load(store: &Store, clock: &Arc<Manual>, config: &Current, ids: &Arc<IdSource>) -> Queue {
        let maillog = MailLog::new(Arc::new(Metrics::new()), None);
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        Queue::load(store.clone(), clock, Arc::clone(config), maillog, Arc::clone(ids)).await.unwrap()
    }

    /// As after a stop and a start.
    async fn restart(&mut self) {
        self.queue = House::load(&self.store, &self.clock, &self.config, &self.ids).await;
    }

    fn pass(&self, time: Duration) {
        self.clock.0.send_modify(|now| *now = *now + time);
    }

    async fn accept(&self, sender: &str, to: &[&str]) -> QueueId {
        self.accept_as(samples::message(sender, to)).await
    }

    async fn accept_as(&self, mut envelope: Envelope) -> QueueId {
        envelope.id = self.ids.next(self.clock.now()).message(1);
        envelope.received_at = self.clock.now();
        let body = ReceivedBody::from_bytes("Subject: hello\r\n\r\nsecret\r\n".into());
        self.queue.accept(envelope, body).await.unwrap().envelope.id
    }

    async fn judge(&self, id: QueueId, verdict: Verdict, decision: Decision) -> Arc<Entry> {
        let judgement = Judgement {
            at: self.clock.now(),
            verdict,
            score: 0.0,
            level: SpamLevel::None,
            hits: Vec::new(),
            authentication: Default::default(),
            domains: Vec::new(),
        };
        let recipients = self.store.entry(id).await.unwrap().envelope.recipients.len();
        self.queue.judged(id, judgement, vec![decision; recipients]).await.unwrap()
    }

    /// Accepted, clean and due.
    async fn deliverable(&self, sender: &str, to: &[&str]) -> QueueId {
        let id = self.accept(sender, to).await;
        self.judge(id, Verdict::Clean, Decision::Deliver).await;
        id
    }

    async fn delivery(&self) -> Delivery {
        match timeout(SOON, self.queue.next()).await.expect("something is due") {
            Job::Deliver(delivery) => delivery,
            other => panic!("{other:?}"),
        }
    }

    async fn scan(&self) -> QueueId {
        match timeout(SOON, self.queue.next()).await.expect("something is due") {
            Job::Scan(id) => id,
            other => panic!("{other:?}"),
        }
    }

    async fn probe(&self) -> Probe {
        match timeout(SOON, self.queue.next()).await.expect("something is due") {
            Job::Probe(probe) => probe,
            other => panic!("{other:?}"),
        }
    }

    /// The schedule names nothing for this moment: every change before was planned before its call returned.
    fn nothing_is_due(&self) {
        let picked = self.queue.shared.state().schedule.pick(self.clock.now());
        assert!(matches!(picked, schedule::Picked::Nothing(_)), "{picked:?} is due");
    }

    async fn settle(&self, delivery: Delivery, outcome: Outcome) {
        let outcomes = vec![outcome; delivery.recipients.len()];
        self.queue.settle(delivery, outcomes).await.unwrap();
    }

    async fn status(&self, id: QueueId) -> String {
        match self.store.entry(id).await {
            Ok(entry) => entry.progress.recipients[0].status.as_str().to_owned(),
            Err(StoreError::NotFound) => "gone".to_owned(),
            Err(error) => panic!("{error}"),
        }
    }

    fn of(&self, id: QueueId) -> Selector {
        Selector { id: Some(id), ..Selector::default() }
    }
}

fn at(domain: &str) -> Selector {
    Selector { domain: domain.parse().ok(), ..Selector::default() }
}

fn delivered() -> Outcome {
    Outcome::Delivered { host: "203.0.113.5:25".into(), reply: "250 ok".into() }
}

fn refused() -> Outcome {
    Outcome::Failed { host: Some("203.0.113.5:25".into()), reply: "550 5.1.1 User unknown".into() }
}

fn away() -> Outcome {
    Outcome::Retry { scope: Scope::Host, host: None, reply: "connection refused".into() }
}

fn busy() -> Outcome {
    Outcome::Retry { scope: Scope::Message, host: None, reply: "451 4.3.0 later".into() }
}

const TO: &[&str] = &["joe@customer.example"];

#[tokio::test]
async fn a_delivered_message_leaves_the_spool() {
    let house = House::new().await;
    let id = house.accept("ann@sender.example", TO).await;
    house.nothing_is_due();
    house.judge(id, Verdict::Clean, Decision::DeliverMarked).await;
    let delivery = house.delivery().await;
    assert_eq!((delivery.entry.envelope.id, delivery.recipients.as_slice()), (id, [0].as_slice()));
    assert_eq!((delivery.decision(), delivery.destination.to_string().as_str()), (&Decision::DeliverMarked, "customer.example"));
    house.nothing_is_due();
    house.settle(delivery, delivered()).await;
    assert_eq!(house.status(id).await, "gone");
    house.nothing_is_due();
}

#[tokio::test]
async fn recipients_at_two_domains_go_apart_and_end_apart() {
    let house = House::new().await;
    let id =
        house.deliverable("ann@sender.example", &["joe@customer.example", "sue@other.example", "tom@customer.example"]).await;
    let (first, second) = (house.delivery().await, house.delivery().await);
    let mut shares = [first.recipients.clone(), second.recipients.clone()];
    shares.sort();
    assert_eq!(shares, [vec![0, 2], vec![1]]);
    house.settle(first, delivered()).await;
    assert_ne!(house.status(id).await, "gone");
    house.settle(second, delivered()).await;
    assert_eq!(house.status(id).await, "gone");
}

#[tokio::test]
async fn a_refusal_is_told_to_the_sender_and_the_notice_ends_without_another() {
    let house = House::new().await;
    let id = house.deliverable("ann@sender.example", TO).await;
    house.settle(house.delivery().await, refused()).await;
    assert_eq!(house.status(id).await, "gone");
    let notice = house.delivery().await;
    let envelope = &notice.entry.envelope;
    assert_eq!((notice.destination.to_string().as_str(), notice.decision()), ("sender.example", &Decision::Deliver));
    assert!(envelope.reverse_path.is_null());
    let body = house.store.body(envelope.id).await.unwrap().head(100_000).await.unwrap();
    assert_eq!(body.len() as u64, envelope.size);
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("550 5.1.1 User unknown") && text.contains("Subject: hello") && !text.contains("secret"), "{text}");
    assert!(MessageParser::default().parse(&body).is_some());
    house.settle(notice, refused()).await;
    house.nothing_is_due();
    assert!(house.store.entries(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn nobody_is_told_who_is_nobody_or_does_not_want_to_hear() {
    let house = House::new().await;
    house.deliverable("", TO).await;
    house.settle(house.delivery().await, refused()).await;
    let mut envelope = samples::message("ann@sender.example", TO);
    envelope.recipients[0].notify = Some(Notify::Never);
    let id = house.accept_as(envelope).await;
    house.judge(id, Verdict::Clean, Decision::Deliver).await;
    house.settle(house.delivery().await, refused()).await;
    house.nothing_is_due();
    assert!(house.store.entries(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_message_is_tried_by_the_schedule_until_its_lifetime_ends_and_then_told() {
    let mut house = House::new().await;
    let id = house.deliverable("ann@sender.example", TO).await;
    let end = house.queue.lifetime_end(
        &house.store.entry(id).await.unwrap().envelope,
        &house.store.entry(id).await.unwrap().progress,
        0,
    );
    assert_eq!(end, house.clock.now() + DAY, "the domain's own lifetime");
    let mut attempts = 0;
    while house.status(id).await == "waiting" {
        house.settle(house.delivery().await, busy()).await;
        attempts += 1;
        if attempts == 3 {
            house.restart().await;
        }
        if let Ok(entry) = house.store.entry(id).await {
            let due = entry.progress.recipients[0].due;
            assert!(due > house.clock.now() && due <= end);
            house.nothing_is_due();
            house.pass(due.since(house.clock.now()));
        }
    }
    assert_eq!(house.clock.now(), end, "the last attempt is at the end");
    assert!((90..110).contains(&attempts), "{attempts}");
    let notice = house.delivery().await;
    let body = house.store.body(notice.entry.envelope.id).await.unwrap().head(100_000).await.unwrap();
    assert!(String::from_utf8(body.to_vec()).unwrap().contains("Status: 4.4.7"));
}

#[tokio::test]
async fn extending_keeps_it_beyond_its_lifetime() {
    let house = House::new().await;
    let id = house.deliverable("ann@sender.example", TO).await;
    house.settle(house.delivery().await, busy()).await;
    let steered = house.queue.extend(&at("customer.example"), 5 * DAY, "ops").await.unwrap();
    assert_eq!(steered, [Steered { id, recipients: 1, note: "until 2026-11-26T22:36:00Z".into() }]);
    house.pass(5 * DAY);
    house.settle(house.delivery().await, busy()).await;
    assert_eq!(house.status(id).await, "waiting");
    house.pass(2 * DAY);
    house.settle(house.delivery().await, busy()).await;
    assert_eq!(house.status(id).await, "gone");
}

#[tokio::test]
async fn a_delivery_that_is_dropped_is_due_again() {
    let house = House::new().await;
    let id = house.deliverable("ann@sender.example", TO).await;
    drop(house.delivery().await);
    house.nothing_is_due();
    house.pass(Duration::from_secs(10));
    let delivery = house.delivery().await;
    let attempt = tokio::spawn(async move {
        let _delivery = delivery;
        panic!("an attempt that dies");
    });
    assert!(attempt.await.unwrap_err().is_panic());
    house.pass(Duration::from_secs(10));
    assert_eq!(house.delivery().await.entry.envelope.id, id);
}

#[tokio::test]
async fn a_dead_host_is_probed_and_what_outlives_its_lifetime_behind_it_is_given_up() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(house.deliverable("ann@sender.example", TO).await);
    }
    let fine = house.deliverable("ann@sender.example", &["sue@fine.example"]).await;
    let mut out = HashMap::new();
    for _ in 0..11 {
        let delivery = house.delivery().await;
        out.insert(delivery.entry.envelope.id, delivery);
    }
    house.nothing_is_due();
    house.settle(out.remove(&fine).expect("the other destination had its turn"), delivered()).await;
    for (_, delivery) in out {
        house.settle(delivery, away()).await;
    }
    house.nothing_is_due();
    house.pass(Duration::from_secs(66));
    let probe = house.probe().await;
    house.nothing_is_due();
    house.queue.probed(probe, Err("refused".into())).await;
    assert_eq!(house.queue.sweep().await.unwrap(), 0);
    house.pass(DAY);
    assert_eq!(house.queue.sweep().await.unwrap(), 20);
    assert!(house.queue.list(&at("customer.example"), None, 100).await.unwrap().is_empty());
    let counts = house.queue.counts().await.unwrap();
    assert_eq!((counts.messages, counts.waiting), (20, 20), "twenty notices");
}

#[tokio::test]
async fn a_connection_takes_the_next_message() {
    let house = House::new().await;
    let first = house.deliverable("ann@sender.example", TO).await;
    let second = house.deliverable("ann@sender.example", TO).await;
    let delivery = house.delivery().await;
    assert_eq!(delivery.entry.envelope.id, first);
    let next = house.queue.another(&delivery).await.unwrap();
    assert_eq!(next.entry.envelope.id, second);
    assert!(house.queue.another(&delivery).await.is_none(), "its place has gone on");
    house.settle(delivery, delivered()).await;
    assert!(house.queue.another(&next).await.is_none());
    house.settle(next, delivered()).await;
    assert!(house.store.entries(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_scanned_is_asked_for_again_and_not_delivered() {
    let mut house = House::new().await;
    let id = house.accept("ann@sender.example", TO).await;
    house.queue.scan_later(id).await.unwrap();
    house.nothing_is_due();
    house.pass(Duration::from_secs(5));
    assert_eq!(house.scan().await, id);
    house.queue.scan_later(id).await.unwrap();
    house.pass(Duration::from_secs(9));
    house.nothing_is_due();
    house.restart().await;
    house.pass(Duration::from_secs(1));
    assert_eq!(house.scan().await, id);
    house.judge(id, Verdict::Clean, Decision::Deliver).await;
    house.delivery().await;
    // Accepted and then forgotten: by a crash, or by whoever was to judge it.
    let forgotten = house.accept("ann@sender.example", TO).await;
    house.restart().await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        jobs.push(timeout(SOON, house.queue.next()).await.unwrap());
    }
    assert!(jobs.iter().any(|job| matches!(job, Job::Scan(id) if *id == forgotten)), "{jobs:?}");
}

#[tokio::test]
async fn decisions_against_delivery_end_or_keep_a_message() {
    let house = House::new().await;
    for (decision, status) in [
        (Decision::Quarantine { why: "spam".into() }, "quarantined"),
        (Decision::Delete { why: "spam".into() }, "gone"),
        (Decision::Reject { reply: crate::mail::Reply::spam() }, "gone"),
    ] {
        let id = house.accept("ann@sender.example", TO).await;
        house.judge(id, Verdict::Clean, decision).await;
        assert_eq!(house.status(id).await, status);
    }
    house.nothing_is_due();
}

#[tokio::test]
async fn quarantine_is_released_deleted_and_swept_but_never_released_infected() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for verdict in [Verdict::Clean, Verdict::Infected("Eicar".into()), Verdict::Clean, Verdict::Clean] {
        let id = house.accept("ann@sender.example", TO).await;
        house.judge(id, verdict, Decision::Quarantine { why: "kept".into() }).await;
        ids.push(id);
    }
    let (released, refused) = house.queue.quarantine_release(&house.of(ids[0]), "ops").await.unwrap();
    assert_eq!((released.len(), refused.as_slice()), (1, [].as_slice()));
    let (released, refused) = house.queue.quarantine_release(&house.of(ids[1]), "ops").await.unwrap();
    assert_eq!((released.len(), refused.as_slice()), (0, [ids[1]].as_slice()));
    assert_eq!(house.queue.quarantine_delete(&house.of(ids[2]), "ops").await.unwrap().len(), 1);
    let delivery = house.delivery().await;
    assert_eq!((delivery.entry.envelope.id, delivery.decision()), (ids[0], &Decision::DeliverMarked));
    house.settle(delivery, delivered()).await;
    house.pass(29 * DAY);
    assert_eq!(house.queue.sweep().await.unwrap(), 0);
    house.pass(DAY);
    assert_eq!(house.queue.sweep().await.unwrap(), 2);
    assert!(house.store.entries(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn held_mail_waits_for_its_release() {
    let house = House::new().await;
    let id = house.deliverable("ann@sender.example", TO).await;
    let delivery = house.delivery().await;
    assert_eq!(house.queue.hold(&house.of(id), "ops").await.unwrap().len(), 1);
    house.settle(delivery, refused()).await;
    assert_eq!(house.status(id).await, "held", "held while it was out: no notice");
    house.pass(3 * DAY);
    house.nothing_is_due();
    let found = house.queue.list(&Selector { state: Some("held".into()), ..Selector::default() }, None, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    house.queue.release(&house.of(id), "ops").await.unwrap();
    assert_eq!(house.delivery().await.entry.envelope.id, id);
}

#[tokio::test]
async fn what_is_dropped_while_it_is_out_stays_dropped_and_untold() {
    let house = House::new().await;
    for outcome in [delivered(), refused(), away()] {
        let id = house.deliverable("ann@sender.example", TO).await;
        house.queue.retry(&Selector::default(), "ops").await.unwrap();
        let delivery = house.delivery().await;
        assert_eq!(house.queue.drop(&house.of(id), "ops").await.unwrap().len(), 1);
        house.settle(delivery, outcome).await;
        assert_eq!(house.status(id).await, "gone");
        house.nothing_is_due();
    }
    assert!(house.queue.drop(&Selector::default(), "ops").await.unwrap().is_empty());
}

#[tokio::test]
async fn retry_probes_at_once_where_the_host_was_away() {
    let house = House::new().await;
    let id = house.deliverable("ann@sender.example", TO).await;
    house.settle(house.delivery().await, away()).await;
    house.nothing_is_due();
    house.pass(Duration::from_secs(1));
    house.queue.retry(&house.of(id), "ops").await.unwrap();
    house.queue.probed(house.probe().await, Ok(())).await;
    assert_eq!(house.delivery().await.entry.envelope.id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_race_leave_schedule_and_store_of_one_mind() {
    let house = House::new().await;
    let id = house.deliverable("ann@sender.example", TO).await;
    for round in 0..50 {
        let (queue, of) = (house.queue.clone(), house.of(id));
        let hold = tokio::spawn(async move { queue.hold(&of, "ops").await.unwrap() });
        let (queue, of) = (house.queue.clone(), house.of(id));
        let release = tokio::spawn(async move { queue.release(&of, "ops").await.unwrap() });
        hold.await.unwrap();
        release.await.unwrap();
        if house.status(id).await == "waiting" {
            let delivery = house.delivery().await;
            house.settle(delivery, Outcome::Retry { scope: Scope::Message, host: None, reply: format!("450 {round}") }).await;
            house.pass(Duration::from_secs(1_000));
            continue;
        }
        house.nothing_is_due();
        house.queue.release(&house.of(id), "ops").await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_lose_what_became_durable() {
    let house = House::new().await;
    let id = house.accept("ann@sender.example", TO).await;
    let judgement = Judgement {
        at: house.clock.now(),
        verdict: Verdict::Clean,
        score: 0.0,
        level: SpamLevel::None,
        hits: Vec::new(),
        authentication: Default::default(),
        domains: Vec::new(),
    };
    let _ = timeout(Duration::ZERO, house.queue.judged(id, judgement, vec![Decision::Deliver])).await;
    assert_eq!(house.delivery().await.entry.envelope.id, id);
}

#[tokio::test]
async fn a_long_queue_is_listed_in_pages() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for number in 0..PAGE + 20 {
        let to: Address = format!("r{number}@customer.example").parse().unwrap();
        ids.push(house.deliverable("ann@sender.example", &[&to.to_string()]).await);
    }
    let all = Selector::default();
    let page = house.queue.list(&all, None, 7).await.unwrap();
    assert_eq!(page.iter().map(|entry| entry.envelope.id).collect::<Vec<_>>(), ids[..7]);
    let rest = house.queue.list(&all, Some(ids[6]), 10_000).await.unwrap();
    assert_eq!(rest.len(), ids.len() - 7);
    let last = Selector { recipient: format!("r{}@customer.example", PAGE + 19).parse().ok(), ..Selector::default() };
    assert_eq!(house.queue.list(&last, None, 1).await.unwrap()[0].envelope.id, *ids.last().unwrap());
    assert_eq!(house.queue.hold(&all, "ops").await.unwrap().len(), ids.len());
    assert_eq!(house.queue.counts().await.unwrap().held, ids.len() as u64);
    let unknown = SessionId::from_u64(1).unwrap().message(1);
    assert!(house.queue.drop(&house.of(unknown), "ops").await.unwrap().is_empty());
    assert!(matches!(house.store.entry(ids[0]).await.unwrap().progress.recipients[0].status, Status::Held { .. }));
}
