use super::*;
use crate::mail::SessionId;

const HOUR: u64 = 3_600_000;
const STEPS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(900)];

fn terms(end: u64) -> Terms<'static> {
    let id = SessionId::from_u64(1).unwrap().message(1);
    Terms { id, received_at: Timestamp(0), end: Timestamp(end), steps: &STEPS }
}

fn waiting(attempts: u32) -> RecipientProgress {
    RecipientProgress { attempts, ..RecipientProgress::new(Timestamp(0)) }
}

fn retry(scope: Scope) -> Outcome {
    Outcome::Retry { scope, host: Some("mail.customer.example [203.0.113.5]:25".into()), reply: "421 4.3.2 busy".into() }
}

fn failed(reply: &str) -> Outcome {
    Outcome::Failed { host: None, reply: reply.into() }
}

fn delivered() -> Outcome {
    Outcome::Delivered { host: "203.0.113.5:25".into(), reply: "250 ok".into() }
}

/// Seconds until the next attempt.
#[track_caller]
fn deferred(recipient: &RecipientProgress, outcome: &Outcome, now: u64, end: u64) -> u64 {
    match decide(recipient, outcome, Timestamp(now), terms(end)) {
        Change::Defer { due, .. } => (due.0 - now) / 1000,
        other => panic!("not deferred: {other:?}"),
    }
}

#[track_caller]
fn given_up(recipient: &RecipientProgress, outcome: &Outcome, now: u64, end: u64) -> GiveUp {
    match decide(recipient, outcome, Timestamp(now), terms(end)) {
        Change::GiveUp(give_up) => give_up,
        other => panic!("not given up: {other:?}"),
    }
}

#[test]
fn a_temporary_failure_waits_by_its_own_attempts_whatever_its_scope() {
    for scope in [Scope::Host, Scope::Message, Scope::Recipient] {
        assert!((54..=66).contains(&deferred(&waiting(0), &retry(scope), 0, 48 * HOUR)));
        assert!((810..=990).contains(&deferred(&waiting(1), &retry(scope), 0, 48 * HOUR)));
        assert!((810..=990).contains(&deferred(&waiting(9), &retry(scope), 0, 48 * HOUR)));
    }
}

#[test]
fn the_last_attempt_is_at_the_end_of_the_lifetime_and_then_it_is_given_up() {
    let nearly = 48 * HOUR - 10_000;
    assert_eq!(deferred(&waiting(5), &retry(Scope::Host), nearly, 48 * HOUR), 10);
    for scope in [Scope::Host, Scope::Message, Scope::Recipient] {
        let give_up = given_up(&waiting(6), &retry(scope), 48 * HOUR, 48 * HOUR);
        assert_eq!(give_up.why, "gave up after 2d: 421 4.3.2 busy");
        assert_eq!((give_up.status, give_up.expired), (Enhanced(4, 4, 7), true));
    }
    given_up(&waiting(0), &retry(Scope::Host), 50 * HOUR, 48 * HOUR);
}

#[test]
fn a_refusal_for_good_is_given_up_at_once_with_the_status_it_names() {
    for (reply, status) in [
        ("550 5.1.1 User unknown", Enhanced(5, 1, 1)),
        ("550-5.7.509 no", Enhanced(5, 7, 509)),
        ("550 User unknown", Enhanced(5, 0, 0)),
        ("550 4.2.2 odd", Enhanced(5, 0, 0)),
        ("554 5.1.1000 odd", Enhanced(5, 0, 0)),
        ("554 5.1", Enhanced(5, 0, 0)),
        ("nonsense 5.1.1", Enhanced(5, 0, 0)),
        ("", Enhanced(5, 0, 0)),
    ] {
        let give_up = given_up(&waiting(0), &failed(reply), 0, 48 * HOUR);
        assert_eq!((give_up.status, give_up.why.as_str(), give_up.expired), (status, reply, false), "{reply}");
    }
}

#[test]
fn what_an_operator_did_meanwhile_stands_unless_the_peer_took_it() {
    let deleted = RecipientProgress { status: Status::Deleted { at: Timestamp(1), why: "dropped".into() }, ..waiting(0) };
    for outcome in [retry(Scope::Host), retry(Scope::Recipient), failed("550 no")] {
        assert_eq!(decide(&deleted, &outcome, Timestamp(2), terms(HOUR)), Change::Leave);
    }
    let change = decide(&deleted, &delivered(), Timestamp(2), terms(HOUR));
    let mut recipient = deleted.clone();
    assert!(change.apply(&mut recipient, Timestamp(2)));
    assert_eq!(recipient.status, Status::Delivered { at: Timestamp(2), host: "203.0.113.5:25".into() });
    // Decided before the operator, written after.
    let late = decide(&waiting(0), &failed("550 no"), Timestamp(2), terms(HOUR));
    let mut recipient = deleted.clone();
    assert!(!late.apply(&mut recipient, Timestamp(2)));
    assert_eq!(recipient, deleted);
}

#[test]
fn what_is_held_while_it_is_out_stays_held() {
    let held = RecipientProgress { status: Status::Held { since: Timestamp(1) }, ..waiting(0) };
    for (outcome, now) in [(retry(Scope::Host), 5), (failed("550 no"), 5), (retry(Scope::Message), 99 * HOUR)] {
        let change = decide(&held, &outcome, Timestamp(now), terms(48 * HOUR));
        let mut recipient = held.clone();
        assert!(change.apply(&mut recipient, Timestamp(now)), "{outcome:?}");
        assert_eq!((&recipient.status, recipient.attempts), (&held.status, 1));
        assert!(recipient.due > Timestamp(now));
    }
    let mut recipient = held.clone();
    assert!(decide(&held, &delivered(), Timestamp(5), terms(HOUR)).apply(&mut recipient, Timestamp(5)));
    assert_eq!(recipient.status.as_str(), "delivered");
}

#[test]
fn since_when_the_host_is_away_is_remembered_until_it_answers() {
    let mut recipient = waiting(0);
    for (now, outcome, since) in [
        (10, retry(Scope::Host), Some(Timestamp(10))),
        (20, retry(Scope::Host), Some(Timestamp(10))),
        (30, retry(Scope::Recipient), None),
        (40, retry(Scope::Host), Some(Timestamp(40))),
    ] {
        assert!(decide(&recipient, &outcome, Timestamp(now), terms(48 * HOUR)).apply(&mut recipient, Timestamp(now)));
        assert_eq!(recipient.failing_since, since);
    }
    assert_eq!((recipient.attempts, recipient.last_reply.as_str()), (4, "421 4.3.2 busy"));
}

#[test]
fn a_peers_text_is_one_bounded_line() {
    let outcome = failed(&format!("550 5.1.1 a\r\nb\x1b[2J{}", "ä".repeat(10_000)));
    let give_up = given_up(&waiting(0), &outcome, 0, HOUR);
    assert!(give_up.why.starts_with("550 5.1.1 a  b [2Jä") && give_up.why.len() <= REPLY_MAX);
}
