use super::order::Done;
use super::samples::{config, judged, message};
use super::*;
use crate::mail::{Decision, Origin, Reroute, Verdict};

const NOW: Timestamp = Timestamp(7_000);
const DAY: Duration = Duration::from_secs(86_400);

fn order(steer: Steer) -> Order {
    let config = Arc::new(config(&[("served.example", Vec::new())]));
    Order { steer, selector: Selector::default(), by: By { name: "ops".into(), reason: "a ticket".into() }, now: NOW, config }
}

fn held() -> Status {
    Status::Held { since: Timestamp(1) }
}

fn quarantined() -> Status {
    Status::Quarantined { since: Timestamp(1), why: "spam".into() }
}

fn delivered() -> Status {
    Status::Delivered { at: Timestamp(1), host: String::new() }
}

#[test]
fn each_command_changes_the_states_it_is_for() {
    let dropped = Status::Deleted { at: NOW, why: "dropped by ops".into() };
    let deleted = Status::Deleted { at: NOW, why: "deleted from quarantine by ops".into() };
    let now_held = Status::Held { since: NOW };
    let elsewhere = Reroute { host: "[192.0.2.9]".parse().unwrap(), port: 2525 };
    // waiting, held, quarantined, delivered become
    for (steer, expected, changed) in [
        (Steer::Retry, [Status::Waiting, held(), quarantined(), delivered()], 1),
        (Steer::Hold, [now_held, held(), quarantined(), delivered()], 1),
        (Steer::Release, [Status::Waiting, Status::Waiting, quarantined(), delivered()], 1),
        (Steer::Extend(Longer::By(DAY)), [Status::Waiting, held(), quarantined(), delivered()], 2),
        (Steer::Reroute(Some(elsewhere)), [Status::Waiting, held(), quarantined(), delivered()], 2),
        (Steer::Bounce("moved".into()), [Status::Waiting, held(), quarantined(), delivered()], 2),
        (Steer::Drop, [dropped.clone(), dropped, quarantined(), delivered()], 2),
        (Steer::ReleaseQuarantined, [Status::Waiting, held(), Status::Waiting, delivered()], 1),
        (Steer::DeleteQuarantined, [Status::Waiting, held(), deleted, delivered()], 1),
    ] {
        let envelope = message("ann@sender.example", &["a@x.example", "b@x.example", "c@x.example", "d@x.example"]);
        let mut progress = judged(4, Decision::Deliver);
        for (recipient, status) in progress.recipients.iter_mut().zip([Status::Waiting, held(), quarantined(), delivered()]) {
            recipient.status = status;
        }
        let order = order(steer.clone());
        assert!(order.changes_something(&envelope, &progress));
        assert_eq!(order.carry_out(&envelope, &mut progress, &[]).recipients.len(), changed, "{steer:?}");
        let states: Vec<_> = progress.recipients.iter().map(|recipient| recipient.status.clone()).collect();
        assert_eq!(states, expected, "{steer:?}");
        let noted = &progress.steerings[0];
        assert_eq!((&*noted.by, &*noted.what, &*noted.reason), ("ops", &*steer.command(), "a ticket"));
    }
}

#[test]
fn what_finds_nothing_to_do_leaves_no_trace() {
    let envelope = message("ann@sender.example", &["a@x.example"]);
    let mut progress = judged(1, Decision::Deliver);
    let before = progress.clone();
    for steer in [Steer::Release, Steer::Reroute(None), Steer::ReleaseQuarantined, Steer::DeleteQuarantined] {
        assert!(!order(steer.clone()).changes_something(&envelope, &progress));
        assert_eq!(order(steer).carry_out(&envelope, &mut progress, &[]), Done::default());
    }
    assert_eq!(progress, before);
}

#[test]
fn extending_moves_the_end_each_time_for_waiting_and_held() {
    let envelope = message("ann@sender.example", &["a@served.example", "b@other.example"]);
    let mut progress = judged(2, Decision::Deliver);
    progress.recipients[1].status = held();
    let ends = |progress: &Progress| {
        let config = order(Steer::Drop).config;
        [0, 1].map(|index| retry::lifetime_end(&config, &envelope, progress, index).since(envelope.received_at))
    };
    assert_eq!(ends(&progress), [DAY, 2 * DAY], "the domain's own, and the queue's");
    let done = order(Steer::Extend(Longer::By(5 * DAY))).carry_out(&envelope, &mut progress, &[]);
    assert_eq!(ends(&progress), [6 * DAY, 7 * DAY]);
    assert_eq!(done.note, "until 1970-01-08T00:00:01Z");
    order(Steer::Extend(Longer::By(DAY))).carry_out(&envelope, &mut progress, &[]);
    assert_eq!(ends(&progress), [7 * DAY, 8 * DAY]);
    assert_eq!(progress.steerings[1].what, "extend 1d");
}

#[test]
fn extending_to_a_date_never_takes_time_back() {
    let envelope = message("ann@sender.example", &["a@served.example", "b@other.example"]);
    let mut progress = judged(2, Decision::Deliver);
    let date = envelope.received_at + DAY + DAY / 2;
    order(Steer::Extend(Longer::Until(date))).carry_out(&envelope, &mut progress, &[]);
    let ends = progress.recipients.iter().map(|recipient| recipient.extended_until.unwrap());
    assert_eq!(ends.collect::<Vec<_>>(), [date, envelope.received_at + 2 * DAY]);
    assert_eq!(progress.steerings[0].what, "extend until 1970-01-02T12:00:01Z");
}

#[test]
fn a_reroute_is_due_at_once_and_can_be_taken_back() {
    let envelope = message("ann@sender.example", &["a@served.example"]);
    let mut progress = judged(1, Decision::Deliver);
    progress.recipients[0].due = Timestamp(900_000);
    let elsewhere = Reroute { host: "backup.example".parse().unwrap(), port: 25 };
    let done = order(Steer::Reroute(Some(elsewhere.clone()))).carry_out(&envelope, &mut progress, &[]);
    assert_eq!((done.note.as_str(), progress.recipients[0].due), ("to backup.example:25", NOW));
    assert_eq!(progress.recipients[0].destination(&envelope.recipients[0]), &elsewhere.host);
    assert!(!order(Steer::Reroute(Some(elsewhere))).changes_something(&envelope, &progress), "it goes there already");
    order(Steer::Reroute(None)).carry_out(&envelope, &mut progress, &[]);
    assert_eq!(progress.recipients[0].destination(&envelope.recipients[0]), envelope.recipients[0].address.host());
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let envelope = message("ann@sender.example", &["a@served.example", "b@other.example"]);
    let entry = Entry { envelope, progress: judged(2, Decision::Deliver) };
    let before = entry.clone();
    let steered = order(Steer::Extend(Longer::By(DAY))).what_if(&entry, &[]);
    assert_eq!((steered.recipients, steered.note.as_str()), (2, "until 1970-01-04T00:00:01Z"));
    assert_eq!(entry, before);
}

#[test]
fn an_infected_or_unscanned_message_is_not_released_from_quarantine() {
    let envelope = message("ann@sender.example", &["a@x.example"]);
    for (verdict, released) in [
        (Some(Verdict::Clean), true),
        (Some(Verdict::Unscannable("encrypted".into())), true),
        (Some(Verdict::Infected("Eicar".into())), false),
        (None, false),
    ] {
        let mut progress = judged(1, Decision::Quarantine { why: "x".into() });
        progress.recipients[0].status = quarantined();
        match verdict.clone() {
            Some(verdict) => progress.judgement.as_mut().unwrap().verdict = verdict,
            None => progress.judgement = None,
        }
        let done = order(Steer::ReleaseQuarantined).carry_out(&envelope, &mut progress, &[]);
        assert_eq!(done.recipients.len() == 1, released, "{verdict:?}");
        assert_eq!(crate::queue::schedule::deliverable(&progress, 0), released, "{verdict:?}");
    }
}

#[test]
fn what_leaves_quarantine_has_a_whole_lifetime_again() {
    let envelope = message("ann@sender.example", &["a@x.example"]);
    let mut progress = judged(1, Decision::Quarantine { why: "x".into() });
    progress.recipients[0].status = quarantined();
    let late = Order { now: Timestamp(0) + 20 * DAY, ..order(Steer::ReleaseQuarantined) };
    late.carry_out(&envelope, &mut progress, &[]);
    let recipient = &progress.recipients[0];
    assert_eq!(recipient.decision, Some(Decision::DeliverMarked));
    assert_eq!((recipient.due, recipient.extended_until), (late.now, Some(late.now + 2 * DAY)));
}

#[test]
fn a_message_that_awaits_its_scan_can_be_held_dropped_and_scanned_now() {
    let envelope = message("ann@sender.example", &["a@x.example", "b@x.example"]);
    let mut progress = Progress::accepted(Origin::Client, 2, Timestamp(0));
    progress.scan_due = Timestamp(300_000);
    order(Steer::Retry).carry_out(&envelope, &mut progress, &[]);
    assert_eq!(progress.scan_due, NOW);
    let only = Selector { recipient: Some("b@x.example".parse().unwrap()), ..Selector::default() };
    Order { selector: only, ..order(Steer::Hold) }.carry_out(&envelope, &mut progress, &[]);
    assert_eq!((progress.recipients[0].status.as_str(), progress.recipients[1].status.as_str()), ("waiting", "held"));
    assert_eq!(
        order(Steer::Bounce("no".into())).carry_out(&envelope, &mut progress, &[]),
        Done::default(),
        "nobody knows what is in it"
    );
    assert_eq!(order(Steer::Drop).carry_out(&envelope, &mut progress, &[]).recipients.len(), 2);
    assert!(progress.is_settled());
}
